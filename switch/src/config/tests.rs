//! Every key by example, and every error as it is read.

use super::*;

fn parse(text: &str) -> Result<Config, Error> {
    Settings::parse(Path::new("node.toml"), text).and_then(Config::try_from)
}

fn error(text: &str) -> (String, Option<String>) {
    let error = parse(text).unwrap_err();
    (error.to_string(), error.hint())
}

const RANGE: &str = "pod_ranges = [\"10.244.0.0/24\"]\n";

#[test]
fn a_range_is_enough() {
    let config = parse("pod_ranges = [\"10.244.0.0/24\", \"fd00:10:244::/64\", \"10.9.0.0/31\"]").unwrap();
    let routers: Vec<String> = config.node.router_addresses.iter().map(ToString::to_string).collect();
    assert_eq!(routers, ["10.244.0.1", "fd00:10:244::1", "10.9.0.0"]);
    assert_eq!((config.node.mtu, config.node.host_port.as_str()), (Mtu::ETHERNET, "podswitch0"));
    assert_eq!(config.socket, Path::new("/run/podswitch/control.sock"));
    assert_eq!((config.poll, config.spin), (Poll::Adaptive, Duration::from_micros(50)));
    assert!(
        !config.strict_mac && !config.pipeline && config.worker_cpus.is_empty() && config.metrics_address.is_none()
    );
}

#[test]
fn every_key_is_taken() {
    let text = r#"
        pod_ranges = ["10.244.0.0/24"]
        reserved = ["10.244.0.9", "10.244.0.16/28"]
        masquerade = true
        cluster_networks = ["10.244.0.0/16"]
        router_address = ["10.244.0.254"]
        mtu = 9000
        host_port = "pods"
        underlay_address = ["192.168.9.1", "fd00:9::1"]
        tunnels = ["vxlan", "udp"]
        vxlan_vni = 4096
        vxlan_port = 4789
        vtep_mac = "66:f9:37:c3:7e:94"
        udp_port = 8286
        cut_super_frames = true
        state_dir = "/run/other"
        socket = "/run/other.sock"
        poll = "spin"
        spin_us = 7
        worker_cpus = [1, 1]
        pipeline = true
        strict_mac = true
        sweep_seconds = 3
        metrics_address = "[::1]:9470"
    "#;
    let config = parse(text).unwrap();
    assert_eq!(config.node.router_addresses, ["10.244.0.254".parse::<IpAddr>().unwrap()]);
    assert_eq!((config.node.mtu.get(), config.node.host_port.as_str()), (9000, "pods"));
    let underlay = Underlay {
        addresses: vec!["192.168.9.1".parse().unwrap(), "fd00:9::1".parse().unwrap()],
        tunnels: vec![Backend::Vxlan, Backend::Udp],
        vni: Vni::CALICO,
        vxlan_port: 4789,
        vtep_mac: Some(Mac([0x66, 0xf9, 0x37, 0xc3, 0x7e, 0x94])),
        udp_port: 8286,
        cut_super_frames: true,
    };
    assert_eq!((config.node.underlay, config.mtu_by_underlay), (underlay, false));
    assert_eq!((config.state_dir, config.socket), ("/run/other".into(), "/run/other.sock".into()));
    assert_eq!((config.poll, config.spin), (Poll::Spin, Duration::from_micros(7)));
    assert_eq!((config.worker_cpus, config.pipeline, config.strict_mac), (vec![1, 1], true, true));
    assert_eq!((config.reserved.len(), config.masquerade), (2, true));
    assert_eq!(config.cluster_networks, ["10.244.0.0/24", "10.244.0.0/16"].map(|text| text.parse().unwrap()));
    assert_eq!(config.sweep_every, Duration::from_secs(3));
    assert_eq!(config.metrics_address, Some("[::1]:9470".parse().unwrap()));
    let named = text.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key.trim().to_owned());
    let (mut named, mut keys): (Vec<_>, _) = (named.collect(), keys());
    named.sort();
    keys.sort();
    assert_eq!(named, keys);
}

#[test]
fn an_underlay_address_opens_vxlan_as_flannel_has_it() {
    let config = parse(RANGE).unwrap();
    assert_eq!((config.node.underlay, config.mtu_by_underlay), (Underlay::default(), true));
    let underlay = |more: &str| parse(&format!("{RANGE}{more}")).unwrap().node.underlay;
    let one = underlay("underlay_address = [\"192.168.9.1\"]");
    assert_eq!((one.tunnels, one.vni, one.vxlan_port, one.udp_port), (vec![Backend::Vxlan], Vni::FLANNEL, 8472, 8285));
    assert_eq!(underlay("underlay_address = [\"192.168.9.1\"]\ntunnels = []").tunnels, []);
}

/// Other nodes are told of it: it must be the same after every restart, and after every update too.
#[test]
fn a_vtep_has_the_same_mac_always_and_no_other_node_has_it() {
    let mac = |address: &str| {
        let text = format!("{RANGE}underlay_address = [\"{address}\"]");
        parse(&text).unwrap().node.underlay.vtep_mac.unwrap()
    };
    assert_eq!(
        [mac("192.168.9.1"), mac("fd00:9::1")].map(|mac| mac.to_string()),
        ["02:76:26:a7:b6:1d", "02:76:96:f8:6d:9f"]
    );
    let all: std::collections::BTreeSet<Mac> = (1..=255).map(|node| mac(&format!("192.168.9.{node}"))).collect();
    assert!(all.len() == 255 && all.iter().all(|mac| !mac.is_group()));
}

#[test]
fn pods_get_what_tunnels_leave_unless_they_are_told() {
    let mtu = |more: &str, links: [u32; 2]| {
        let config = parse(&format!("{RANGE}{more}"))?;
        config.over_links(|address| links[usize::from(address.is_ipv6())]).map(|config| config.node.mtu.get())
    };
    let v4 = "underlay_address = [\"192.168.9.1\"]\n";
    let both = "underlay_address = [\"192.168.9.1\", \"fd00:9::1\"]\n";
    for (text, links, expected) in [
        (String::new(), [9000; 2], 1500),
        (v4.to_owned(), [1500; 2], 1450),
        (v4.to_owned(), [65_536; 2], 65_486),
        (format!("{v4}tunnels = [\"udp\"]"), [1500; 2], 1472),
        (format!("{v4}tunnels = [\"vxlan\", \"udp\"]"), [1500; 2], 1450),
        (format!("{v4}tunnels = []"), [9000; 2], 1500),
        (format!("{v4}mtu = 1400"), [9000; 2], 1400),
        (format!("{v4}mtu = 9000"), [1500; 2], 9000),
        (both.to_owned(), [1500; 2], 1430),
        (both.to_owned(), [1500, 9000], 1450),
        (both.to_owned(), [u32::MAX; 2], 65_521),
    ] {
        assert_eq!(mtu(&text, links).unwrap(), expected, "{text} over {links:?}");
    }
    assert_eq!(
        mtu(v4, [600; 2]).unwrap_err().to_string(),
        "mtu: tunnels leave 550 bytes of the underlay's MTU, and pods need 576"
    );
    let v6 = format!("pod_ranges = [\"fd00:10:244::/64\"]\n{v4}");
    let error = parse(&v6).unwrap().over_links(|_| 1300).unwrap_err();
    assert!(error.to_string().starts_with("mtu: 1250 is too small for the IPv6 range"), "{error}");
}

#[test]
fn an_underlay_that_cannot_be_is_refused() {
    let v4 = "underlay_address = [\"192.168.9.1\"]\n";
    for (text, expected, way_out) in [
        (
            "underlay_address = [\"192.168.9.1\", \"192.168.9.2\"]",
            "underlay_address: 192.168.9.1 and 192.168.9.2 are of one family",
            "one IPv4 and one IPv6",
        ),
        ("underlay_address = [\"127.0.0.1\"]", "underlay_address: 127.0.0.1 is loopback: ", ""),
        ("underlay_address = [\"fe80::1\"]", "underlay_address: fe80::1 is link-local: ", ""),
        ("underlay_address = [\"224.0.0.1\"]", "underlay_address: 224.0.0.1 is multicast: ", ""),
        ("underlay_address = [\"10.244.0.9\"]", "underlay_address: 10.244.0.9 lies in the pod range 10.244.0.0/24", ""),
        ("tunnels = [\"udp\"]", "tunnels: udp needs this node's own address towards others", "underlay_address"),
        (
            "underlay_address = [\"fd00:9::1\"]\ntunnels = [\"vxlan\", \"udp\"]",
            "tunnels: udp goes over IPv4 alone, and there is no such underlay_address",
            "underlay_address",
        ),
        (&format!("{v4}tunnels = [\"host-gw\"]"), "tunnels: host-gw is no tunnel", "always allowed"),
        (&format!("{v4}tunnels = [\"vxlan\", \"vxlan\"]"), "tunnels: vxlan is given twice", ""),
        (&format!("{v4}tunnels = [\"gre\"]"), "node.toml:3: tunnels: 'gre' is no backend: write vxlan, udp, ipip", ""),
        (&format!("{v4}tunnels = [\"vxlan\", \"udp\"]\nudp_port = 8472"), "vxlan_port and udp_port: both are 8472", ""),
        ("vxlan_port = 0", "node.toml:2: vxlan_port: invalid value: integer `0`, expected a nonzero u16", ""),
        ("vxlan_vni = 16777216", "node.toml:2: vxlan_vni: '16777216' is not a VXLAN network identifier", ""),
        ("vtep_mac = \"01:00:5e:00:00:01\"", "vtep_mac: 01:00:5e:00:00:01 cannot be", "leave it out"),
        ("vtep_mac = \"ee:ee:ee:ee:ee:ee\"", "vtep_mac: ee:ee:ee:ee:ee:ee cannot be", "leave it out"),
    ] {
        let (message, hint) = error(&format!("{RANGE}{text}"));
        assert!(message.starts_with(expected), "{text}\n  gives:    {message}\n  expected: {expected}");
        assert!(hint.unwrap_or_default().contains(way_out), "{text}");
    }
}

#[test]
fn a_flag_overrides_the_key_of_its_name_alone() {
    let file =
        Settings::parse(Path::new("f"), "pod_ranges = [\"10.244.0.0/24\"]\nmtu = 9000\npoll = \"sleep\"").unwrap();
    let flags = Settings { mtu: Some(Mtu::ETHERNET), strict_mac: Some(false), ..Settings::default() };
    let config = Config::try_from(flags.over(file)).unwrap();
    assert_eq!((config.node.mtu, config.poll, config.node.pod_ranges.len()), (Mtu::ETHERNET, Poll::Sleep, 1));
}

#[test]
fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
    let (message, hint) = error("# a comment\npod_range = [\"10.244.0.0/24\"]\n");
    assert_eq!(message, "node.toml:2: 'pod_range' is no key of the configuration");
    assert_eq!(hint.as_deref(), Some("did you mean 'pod_ranges'?"));
    let (message, hint) = error("[attach]\nname = \"a\"\n");
    assert_eq!(message, "node.toml:1: 'attach' is no key of the configuration");
    assert!(hint.unwrap().starts_with("there are pod_ranges, reserved, masquerade, "));
}

#[test]
fn errors_name_file_line_key_and_what_is_allowed() {
    for (text, expected) in [
        ("\nmtu =", "node.toml:2: "),
        ("\nmtu = 80", "node.toml:2: mtu: '80' is no MTU: write a number from 576 to 65521"),
        ("mtu = \"big\"", "node.toml:1: mtu: invalid type: string \"big\", expected u16"),
        ("poll = \"fast\"", "node.toml:1: poll: 'fast' is no poll mode: write adaptive, spin, sleep"),
        ("host_port = \"a/b\"", "node.toml:1: host_port: 'a/b' is no interface name: "),
        ("worker_cpus = [-1]", "node.toml:1: worker_cpus: "),
        ("pipeline = 3", "node.toml:1: pipeline: invalid type: integer `3`, expected a boolean"),
        ("pipeline = \"yes\"", "node.toml:1: pipeline: invalid type: string \"yes\", expected a boolean"),
        (
            "pod_ranges = [\n  \"10.244.0.0/24\",\n  \"10.9.0.1/24\",\n]",
            "node.toml:1: pod_ranges: 10.9.0.1/24 has host bits",
        ),
        ("mtu = 1500", "pod_ranges is missing"),
        ("pod_ranges = [\"fe80::/64\"]", "pod_ranges: fe80::/64 holds no pod addresses: it is link-local"),
        ("pod_ranges = [\"0.0.0.0/0\"]", "pod_ranges: 0.0.0.0/0 holds no pod addresses: it is unspecified"),
        ("pod_ranges = [\"10.0.0.0/8\", \"10.1.0.0/16\"]", "pod_ranges: 10.0.0.0/8 and 10.1.0.0/16 overlap"),
        (
            "pod_ranges = [\"fd00::/64\"]\nmtu = 1279",
            "mtu: 1279 is too small for the IPv6 range fd00::/64: allowed are 1280 to 65521",
        ),
        (
            "pod_ranges = [\"fd00::/64\", \"10.9.0.0/24\"]\nrouter_address = [\"10.9.0.1\"]",
            "router_address: none lies in fd00::/64",
        ),
    ] {
        let (message, _) = error(text);
        assert!(message.starts_with(expected), "{text}\n  gives:    {message}\n  expected: {expected}");
    }
    for (text, expected) in [
        ("router_address = [\"10.9.0.1\"]", "router_address: 10.9.0.1 lies in none of pod_ranges (10.244.0.0/24)"),
        ("router_address = [\"10.244.0.1\", \"10.244.0.1\"]", "router_address: 10.244.0.1 is given twice"),
        ("spin_us = 1000001", "spin_us: 1000001 is too long: allowed are 0 to 1000000"),
        (
            "metrics_address = \"0.0.0.0:9470\"",
            "metrics_address: 0.0.0.0:9470 is not a loopback address, and metrics are for this node alone",
        ),
        (
            "metrics_address = \"[2001:db8::1]:9470\"",
            "metrics_address: [2001:db8::1]:9470 is not a loopback address, and metrics are for this node alone",
        ),
        ("state_dir = \"run\"", "state_dir: 'run' is not an absolute path"),
        ("socket = \"x.sock\"", "socket: 'x.sock' is not an absolute path"),
    ] {
        assert_eq!(error(&format!("{RANGE}{text}")).0, expected);
    }
    let long = format!("{RANGE}socket = \"/{}\"", "s".repeat(107));
    assert!(error(&long).0.contains("longer than the 107 bytes"));
}

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
        router_address = ["10.244.0.254"]
        mtu = 9000
        host_port = "pods"
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
    assert_eq!((config.state_dir, config.socket), ("/run/other".into(), "/run/other.sock".into()));
    assert_eq!((config.poll, config.spin), (Poll::Spin, Duration::from_micros(7)));
    assert_eq!((config.worker_cpus, config.pipeline, config.strict_mac), (vec![1, 1], true, true));
    assert_eq!(config.sweep_every, Duration::from_secs(3));
    assert_eq!(config.metrics_address, Some("[::1]:9470".parse().unwrap()));
    let named = text.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key.trim().to_owned());
    let (mut named, mut keys): (Vec<_>, _) = (named.collect(), keys());
    named.sort();
    keys.sort();
    assert_eq!(named, keys);
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
    assert!(hint.unwrap().starts_with("there are pod_ranges, router_address, mtu, "));
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

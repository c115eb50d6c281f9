//! What a configuration says, and what is told of one that is wrong.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse(value: &Value) -> Result<Config, Error> {
    Config::parse(value.to_string().as_bytes())
}

#[test]
fn the_least_configuration_leaves_all_to_the_switch() {
    let config = parse(&json!({"cniVersion": "1.0.0", "name": "pods", "type": "podswitch-cni"})).unwrap();
    assert_eq!(config.ipam, Ipam::Switch { pools: Vec::new(), sticky: false });
    assert_eq!((config.socket, config.mtu, config.addresses.len()), (PathBuf::from(SOCKET), None, 0));
}

#[test]
fn what_the_runtime_adds_overrules_what_stands_there() {
    let config = parse(&json!({
        "cniVersion": "1.0.0", "name": "pods", "mtu": 1400, "socket": "/run/s",
        "ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}]], "sticky": true},
        "dns": {"nameservers": ["192.0.2.1"]},
        "args": {"cni": {"ips": ["10.0.0.9"], "mac": "02:00:00:00:00:09"}, "other": 1},
        "runtimeConfig": {
            "ips": ["10.0.0.5/24", "fd00::5"], "mac": "02:00:00:00:00:05",
            "ipRanges": [[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.20", "gateway": "10.1.0.1"}]],
            "dns": {"servers": ["192.0.2.2"], "searches": ["a"], "options": ["ndots:5"]},
            "portMappings": []
        },
        "cni.dev/anything": {"whoever": 1}
    }))
    .unwrap();
    let pools = vec![vec!["10.1.0.10-10.1.0.20".parse().unwrap()]];
    assert_eq!(config.ipam, Ipam::Switch { pools, sticky: true });
    assert_eq!(config.addresses, ["10.0.0.5", "fd00::5", "10.0.0.9"].map(|text| text.parse::<IpAddr>().unwrap()));
    assert_eq!(config.mac, Some(Mac([2, 0, 0, 0, 0, 5])));
    assert_eq!(config.dns.nameservers, ["192.0.2.2"]);
}

#[test]
fn containerd_writes_dns_in_its_own_way() {
    let dns = json!({"Servers": ["192.0.2.2"], "Searches": null, "Options": []});
    let config = parse(&json!({"cniVersion": "1.0.0", "name": "pods", "runtimeConfig": {"dns": dns}})).unwrap();
    assert_eq!(config.dns, Dns { nameservers: vec!["192.0.2.2".to_owned()], ..Dns::default() });
}

#[test]
fn a_subnet_gives_neither_its_own_address_nor_broadcast() {
    for (subnet, pool) in
        [("10.0.0.0/24", "10.0.0.1-10.0.0.254"), ("10.0.0.0/31", "10.0.0.0/31"), ("fd00::/126", "fd00::1-fd00::3")]
    {
        let config = parse(&json!({"name": "a", "ipam": {"ranges": [[{"subnet": subnet}]]}})).unwrap();
        let pools = vec![vec![pool.parse().unwrap()]];
        assert_eq!(config.ipam, Ipam::Switch { pools, sticky: false });
    }
}

#[test]
fn what_is_wrong_is_named_with_its_code() {
    let with = |key: &str, value: Value| {
        let mut whole = json!({"cniVersion": "1.0.0", "name": "pods"});
        whole[key] = value;
        whole.to_string()
    };
    let runtime = |key: &str, value: Value| with("runtimeConfig", json!({ key: value }));
    let ranges = |range: Value| with("ipam", json!({"ranges": [[range]]}));
    for (input, code, named) in [
        (String::new(), 6, "standard input"),
        ("[]".to_owned(), 6, "standard input"),
        ("{\"name\": \"a\"".to_owned(), 6, "standard input"),
        ("{\"cniVersion\": \"9.9.9\", \"name\": \"a\"}".to_owned(), 1, "9.9.9"),
        ("{\"cniVersion\": 1, \"name\": \"a\"}".to_owned(), 6, "cniVersion"),
        ("{\"cniVersion\": \"1.0.0\"}".to_owned(), 7, "name"),
        (with("name", json!("-a")), 7, "name"),
        (with("mtuu", json!(1)), 2, "mtuu"),
        (with("mtu", json!("big")), 6, "mtu"),
        (with("mtu", json!(70000)), 7, "mtu"),
        (with("socket", json!(7)), 6, "socket"),
        (with("ipam", json!({"type": "dhcp"})), 7, "ipam.type"),
        (with("ipam", json!({"type": "../sh"})), 7, "ipam.type"),
        (with("ipam", json!({"subnet": "10.0.0.0/8"})), 2, "ipam.subnet"),
        (with("ipam", json!({"sticky": 1})), 6, "ipam.sticky"),
        (with("ipam", json!({"ranges": [[]]})), 7, "ipam.ranges[0]"),
        (ranges(json!({"subnet": "10.0.0.0"})), 6, "ipam.ranges[0][0].subnet"),
        (ranges(json!({"subnet": "10.0.0.0/24", "start": "10.0.0.9"})), 6, "ipam.ranges[0][0]"),
        (ranges(json!({"subnet": "10.0.0.0/24", "rangeStart": "10.0.1.9"})), 7, "ipam.ranges[0][0].rangeStart"),
        (ranges(json!({"subnet": "10.0.0.0/24", "rangeEnd": "fd00::1"})), 7, "ipam.ranges[0][0].rangeEnd"),
        (runtime("ips", json!(["10.0.0"])), 7, "runtimeConfig.ips[0]"),
        (runtime("ips", json!("10.0.0.1")), 6, "runtimeConfig.ips"),
        (runtime("mac", json!("02")), 6, "runtimeConfig.mac"),
        (runtime("ipRanges", json!([[{}]])), 6, "runtimeConfig.ipRanges[0][0]"),
        (runtime("portMappings", json!([{"hostPort": 1}])), 2, "runtimeConfig.portMappings"),
        (runtime("bandwidth", json!({"ingressRate": -1})), 6, "runtimeConfig.bandwidth.ingressRate"),
        (runtime("bandwidth", json!({"ingressRate": 999})), 7, "runtimeConfig.bandwidth.ingressRate"),
        (runtime("bandwidth", json!({"egressBurst": 9})), 7, "runtimeConfig.bandwidth.egressRate"),
        (runtime("bandwidth", json!({"egress": 9})), 6, "runtimeConfig.bandwidth.egress"),
        (runtime("wings", json!(2)), 2, "runtimeConfig.wings"),
        (with("args", json!({"cni": {"ips": [1]}})), 6, "args.cni.ips[0]"),
        (with("prevResult", json!({"cniVersion": "1.0.0", "ips": [{"address": "x"}]})), 6, "prevResult.ips[0].address"),
        (with("prevResult", json!({"cniVersion": "7"})), 1, "'7'"),
        (with("cni.dev/valid-attachments", json!([{"containerID": "a"}])), 6, "cni.dev/valid-attachments[0]"),
    ] {
        let error = Config::parse(input.as_bytes()).unwrap_err();
        let refusal = error.refusal(Version::NEWEST);
        assert_eq!(refusal.code, code, "{input}: {error}");
        assert!(refusal.msg.contains(named), "{input}: {error}");
    }
}

/// The body of a fuzz target: whatever the bytes, there is a configuration or a refusal with a code of the specification.
fn any_bytes(input: &[u8]) {
    let version = Config::version_of(input);
    if let Err(error) = Config::parse(input) {
        let refusal = error.refusal(version);
        assert!([1, 2, 6, 7].contains(&refusal.code) && !refusal.msg.is_empty(), "{refusal:?}");
    }
}

#[test]
fn inputs_that_once_broke_something_no_longer_do() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions/cni_config");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.for_each(|file| any_bytes(&std::fs::read(file.path()).unwrap()));
}

/// JSON that looks like a configuration: known keys, values of any kind.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(vec![
            "1.0.0",
            "0.1.0",
            "10.0.0.1",
            "10.0.0.0/8",
            "fd00::/64",
            "::",
            "a",
            "",
            "02:00:00:00:00:01"
        ])
        .prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let words = [
        KEYS,
        IPAM_KEYS,
        RUNTIME_KEYS,
        &["cni", "subnet", "rangeStart", "rangeEnd", "address", "interface", "interfaces", "cni.dev/valid-attachments"],
    ];
    let key = prop::sample::select(words.concat()).prop_map(str::to_owned);
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(input in prop::collection::vec(any::<u8>(), 0..256)) {
        any_bytes(&input);
    }

    #[test]
    fn anything_like_a_configuration_is_read_or_refused(value in any_value()) {
        any_bytes(value.to_string().as_bytes());
    }
}

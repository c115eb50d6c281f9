//! What can be wrong with etcd, and with what others do there: each is told, and survived.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use agent::claim::{Standing, acquire, keep};
use agent::lease::Attributes;
use agent::network::Network;
use agent::store::{Etcd, EtcdSettings, Store};

use crate::cluster::{Cluster, Node, SUBNETS, must, ping};
use crate::leases::{PREFIX, Watched};
use crate::proxy::Proxy;
use crate::rig::{Server, until, until_is};

const NETWORK: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const VXLAN: &str = "{ Network = \"10.244.0.0/16\", Backend = { Type = \"vxlan\" } }";

fn network() -> Network {
    NETWORK.parse().unwrap()
}

fn said(last: u8) -> Attributes {
    Attributes::of(network().backend, [192, 168, 9, last].into(), None)
}

fn key(name: &str) -> String {
    format!("{PREFIX}/subnets/{name}")
}

fn through(proxy: &Proxy, server: &Server) -> Etcd {
    Etcd::new(EtcdSettings { endpoints: vec![proxy.url()], ..server.settings(PREFIX) }).unwrap()
}

#[test]
fn every_test_that_the_documents_name_is_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(folder.join("../docs/testing.md")).unwrap();
    let table = text.split("## What can be wrong with a store").nth(1).unwrap().split("## ").next().unwrap();
    let sources: String = ["tests/real/faults.rs", "tests/real/leases.rs", "tests/real/nodes.rs", "src/desired.rs"]
        .map(|name| fs::read_to_string(folder.join(name)).unwrap())
        .concat();
    let named = table.split('`').filter(|word| word.contains('_') && !word.contains(' '));
    let missing: Vec<_> = named.clone().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty() && named.count() > 15, "{missing:?}");
}

#[test]
fn a_slow_etcd_is_waited_for_and_one_that_stands_still_is_told_of() {
    let server = Server::new();
    let proxy = Proxy::to("127.0.0.1", server.port());
    let mut store = through(&proxy, &server);
    proxy.delay(Duration::from_millis(150));
    let held = acquire(&mut store, &network(), &said(1), None).unwrap();
    let mut watched = Watched::new(&store);
    server.etcdctl(&["put", &key("a"), "1"]);
    watched.until(&[(held.subnets.to_string(), held.text.clone()), ("a".to_owned(), "1".to_owned())].into());
    proxy.delay(Duration::from_secs(3600));
    let error = keep(&mut store, &held, &said(1)).unwrap_err().report();
    // By the patience of the call, or by that of a connection that had long been idle.
    assert!(error.contains(&format!("etcd at {}", proxy.url())), "{error}");
    proxy.delay(Duration::ZERO);
    assert_eq!(keep(&mut store, &held, &said(1)).unwrap(), Standing::Kept);
}

#[test]
fn a_watch_that_was_cut_off_while_all_was_compacted_loses_nothing() {
    let server = Server::new();
    let proxy = Proxy::to("127.0.0.1", server.port());
    let mut watched = Watched::new(&through(&proxy, &server));
    server.etcdctl(&["put", &key("a"), "1"]);
    watched.until(&[("a".to_owned(), "1".to_owned())].into());
    for round in 0..5 {
        // What happens behind a way that stands still is history when the way is cut.
        proxy.delay(Duration::from_secs(3600));
        let value = round.to_string();
        server.etcdctl(&["put", &key("a"), &value]);
        server.etcdctl(&["put", &key("gone"), "x"]);
        server.etcdctl(&["del", &key("gone")]);
        let shown: serde_json::Value = serde_json::from_str(&server.etcdctl(&["get", "x", "-w", "json"])).unwrap();
        server.etcdctl(&["compact", &shown["header"]["revision"].to_string()]);
        proxy.cut();
        proxy.delay(Duration::ZERO);
        watched.until(&[("a".to_owned(), value)].into());
    }
}

#[test]
fn a_full_etcd_is_told_of_and_leases_are_kept_again_when_there_is_room() {
    let server = Server::with(&["--quota-backend-bytes", "65536"]);
    let mut store = server.store(PREFIX);
    let held = acquire(&mut store, &network(), &said(1), None).unwrap();
    let mut watched = Watched::new(&store);
    let ballast = "x".repeat(16_000);
    let fill = |number: usize| server.try_etcdctl(&["put", &format!("/ballast/{number}"), &ballast]).err();
    let full = (0..100).find_map(fill).expect("the quota has an end");
    assert!(full.contains("space exceeded"), "{full}");
    let error = keep(&mut store, &held, &said(1)).unwrap_err().report();
    assert!(error.contains("space exceeded") && error.contains(&server.url()), "{error}");
    // What it says last still holds, and can be read.
    assert_eq!(store.lease(&held.subnets.to_string()).unwrap(), Some(held.text.clone()));
    watched.until(&[(held.subnets.to_string(), held.text.clone())].into());
    server.etcdctl(&["del", "--prefix", "/ballast/"]);
    let shown: serde_json::Value = serde_json::from_str(&server.etcdctl(&["get", "x", "-w", "json"])).unwrap();
    server.etcdctl(&["compact", &shown["header"]["revision"].to_string()]);
    server.etcdctl(&["defrag"]);
    server.etcdctl(&["alarm", "disarm"]);
    assert_eq!(keep(&mut store, &held, &said(1)).unwrap(), Standing::Kept);
}

#[test]
fn an_etcd_that_loses_its_leader_goes_on_with_another() {
    let mut members = Server::three();
    let endpoints: Vec<String> = members.iter().map(Server::url).collect();
    let mut store = Etcd::new(EtcdSettings { endpoints, ..members[0].settings(PREFIX) }).unwrap();
    let held = acquire(&mut store, &network(), &said(1), None).unwrap();
    let mut watched = Watched::new(&store);
    let mut expected = [(held.subnets.to_string(), held.text.clone())].into();
    watched.until(&expected);
    let leads = |member: &Server| {
        let said: serde_json::Value =
            serde_json::from_str(&member.etcdctl(&["endpoint", "status", "-w", "json"])).unwrap();
        said[0]["Status"]["leader"] == said[0]["Status"]["header"]["member_id"]
    };
    let leader = members.iter().position(leads).expect("one leads");
    members[leader].kill();
    let standing = until("a lease kept by the other two", || keep(&mut store, &held, &said(1)).ok());
    assert_eq!(standing, Standing::Kept);
    members[(leader + 1) % 3].etcdctl(&["put", &key("a"), "1"]);
    expected.insert("a".to_owned(), "1".to_owned());
    watched.until(&expected);
}

#[test]
fn a_node_that_starts_before_its_etcd_says_so_and_waits() {
    let mut cluster = Cluster::new();
    cluster.server.kill();
    let mut node = cluster.idle_node(1, VXLAN, "");
    node.start_agent();
    let trouble = until("the agent's notice", || node.status()?["store_trouble"].as_str().map(str::to_owned));
    assert!(trouble.contains("etcd at http://192.168.9.254:2379"), "{trouble}");
    assert_eq!(node.page("/healthz"), "ok\n200", "it is well, and waits");
    assert_eq!(node.page("/readyz"), "the node has no subnet yet\n503");
    cluster.server.start(Some(&cluster.hub));
    until("the switch's configuration", || node.path("switch.toml").exists().then_some(()));
    node.start_switch();
    node.until_ready(0);
}

/// A node that comes and goes does not harm what others have of each other.
#[test]
fn a_node_that_flaps_is_followed() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node(1, VXLAN), cluster.node(2, VXLAN));
    [&one, &two].into_iter().for_each(|node| node.until_ready(1));
    let (a, b) = (one.pod(), two.pod());
    let flapping = format!("{SUBNETS}10.244.250.0-24");
    for round in 0..20 {
        let mut other = said(77);
        other.public_ip = [192, 168, 9, 77 + round % 2].into();
        cluster.etcdctl(&["put", &flapping, &other.text()]);
        if round % 4 == 0 {
            until_is(&2, || one.client().neighbors().unwrap().len());
            ping(&a.namespace, b.address);
        }
        cluster.etcdctl(&["del", &flapping]);
    }
    [&one, &two].into_iter().for_each(|node| node.until_ready(1));
    ping(&b.namespace, a.address);
}

#[test]
fn an_agent_may_be_killed_at_any_instant() {
    let cluster = Cluster::new();
    let mut node = cluster.idle_node(1, VXLAN, "");
    // From the first moments, where it takes a lease and writes files, to where it renews.
    for milliseconds in (0..60).step_by(3) {
        node.start_agent();
        thread::sleep(Duration::from_millis(milliseconds));
        node.kill_agent();
        assert!(cluster.leases().len() <= 1, "{:?}", cluster.leases());
    }
    node.start_agent();
    until("the subnet", || node.status()?["subnets"].as_str().map(str::to_owned));
    until("the switch's configuration", || node.path("switch.toml").exists().then_some(()));
    node.start_switch();
    node.until_ready(0);
    let leases = cluster.leases();
    let [(key, _)] = &leases[..] else { panic!("one lease, not {leases:?}") };
    assert_eq!(node.status().unwrap()["subnets"], **key);
}

/// Where a node's switch sends what is for another node's pods, by subnet.
fn ways(node: &Node) -> BTreeMap<String, String> {
    let all = node.client().neighbors().unwrap().into_iter();
    all.map(|neighbor| (neighbor.subnet.to_string(), neighbor.via.to_string())).collect()
}

/// Leases are put and taken away while the agent starts, reads and tells, until it is killed.
#[test]
fn an_agent_killed_amid_changes_leaves_nothing_wrong_behind() {
    let cluster = Cluster::new();
    let mut node = cluster.node(1, VXLAN);
    let lease = |third: usize| format!("{SUBNETS}10.244.{third}.0-24");
    cluster.etcdctl(&["put", &lease(200), &said(99).text()]);
    node.until_ready(1);
    node.kill_agent();
    let stays = |ways: BTreeMap<String, String>| ways["10.244.200.0/24"] == "192.168.9.99";
    for round in 0..15_u8 {
        node.start_agent();
        cluster.etcdctl(&["put", &lease(201 + usize::from(round)), &said(50).text()]);
        cluster.etcdctl(&["put", &lease(240), &said(100 + round).text()]);
        thread::sleep(Duration::from_millis(u64::from(round) * 2));
        node.kill_agent();
        cluster.etcdctl(&["del", &lease(201 + usize::from(round))]);
        assert!(stays(ways(&node)), "{:?}", ways(&node));
    }
    node.start_agent();
    node.until_ready(2);
    let expected = [("10.244.200.0/24", "192.168.9.99"), ("10.244.240.0/24", "192.168.9.114")];
    assert_eq!(ways(&node), expected.map(|(subnet, via)| (subnet.to_owned(), via.to_owned())).into());
    assert_eq!(cluster.leases().len(), 3);
}

#[test]
fn changes_told_late_and_again_end_in_what_is_true() {
    let cluster = Cluster::new();
    let proxy = cluster.hub.run(|| Proxy::to("192.168.9.254", cluster.server.port())).unwrap();
    let mut node = cluster.idle_node(1, VXLAN, "");
    let config = node.path("agent.toml");
    let text = fs::read_to_string(&config).unwrap().replace(&cluster.server.url(), &proxy.url());
    fs::write(&config, text).unwrap();
    node.start_agent();
    until("the switch's configuration", || node.path("switch.toml").exists().then_some(()));
    node.start_switch();
    node.until_ready(0);
    let (own, text) = cluster.leases().remove(0);
    let (own, other) = (format!("{SUBNETS}{own}"), format!("{SUBNETS}10.244.250.0-24"));
    for round in 0..6 {
        proxy.delay(Duration::from_secs(3600));
        for last in [50, 51] {
            cluster.etcdctl(&["put", &other, &said(last).text()]);
        }
        cluster.etcdctl(&["del", &own]);
        cluster.etcdctl(&["del", &other]);
        cluster.etcdctl(&["put", &other, &said(60 + round).text()]);
        cluster.etcdctl(&["put", &own, &text]);
        if round % 2 == 1 {
            // Then all is told again, from the start.
            proxy.cut();
        }
        proxy.delay(Duration::ZERO);
        let expected = [("10.244.250.0/24".to_owned(), format!("192.168.9.{}", 60 + round))].into();
        until_is(&expected, || ways(&node));
    }
    node.until_ready(1);
    assert!(node.page("/metrics").contains("podswitch_agent_lease_conflicts_total 0\n"));
    assert!(cluster.leases().contains(&(own[SUBNETS.len()..].to_owned(), text)));
}

#[test]
fn what_others_write_wrongly_is_skipped_counted_and_shown() {
    let cluster = Cluster::new();
    let node = cluster.node(1, VXLAN);
    let good = said(50).text();
    let (long, deep) = ("x".repeat(100_000), "[".repeat(50_000));
    let wrong: [(&str, &[u8], &str); 15] = [
        ("nonsense", good.as_bytes(), "names no subnet"),
        ("10.244.300.0-24", good.as_bytes(), "names no subnet"),
        ("10.244.9.0-33", good.as_bytes(), "names no subnet"),
        ("10.244.9.5-24", good.as_bytes(), "names no subnet"),
        ("10.244.201.0-24", b"{", "EOF"),
        ("10.244.202.0-24", b"\xff\xfe{}", "expected value"),
        ("10.244.203.0-24", b"[1]", "invalid"),
        ("10.244.204.0-24", br#"{"PublicIP":"192.168.9"}"#, "invalid IPv4 address"),
        ("10.244.205.0-24", long.as_bytes(), "expected value"),
        ("10.244.206.0-24", deep.as_bytes(), ""),
        ("10.9.0.0-24", good.as_bytes(), "outside of the cluster's network"),
        ("10.244.207.0-24", &good.replace(":1,", ":2,").into_bytes(), "its VNI is 2"),
        ("10.244.208.0-24", &good.replace("vxlan", "wireguard").into_bytes(), "'wireguard'"),
        ("10.244.209.0-24", &said(1).text().into_bytes(), "this node's own address 192.168.9.1"),
        ("10.244.210.0-25", &said(51).text().into_bytes(), "overlaps the lease of 10.244.210.0/24"),
    ];
    cluster
        .hub
        .run(|| wrong.iter().for_each(|(key, value, _)| cluster.server.put_bytes(&format!("{SUBNETS}{key}"), value)))
        .unwrap();
    cluster.etcdctl(&["put", &format!("{SUBNETS}10.244.210.0-24"), &good]);
    node.until_ready(1);
    until_is(&wrong.len(), || node.status().unwrap()["passed_over"].as_array().unwrap().len());
    let status = node.status().unwrap();
    for (key, _, why) in wrong {
        let entry = status["passed_over"].as_array().unwrap().iter().find(|entry| entry["key"] == key);
        let told = entry.unwrap_or_else(|| panic!("{key} is not shown: {status}"))["why"].as_str().unwrap();
        assert!(told.contains(why) && told.len() < 300, "{key}: {told}");
    }
    assert_eq!(ways(&node), [("10.244.210.0/24".to_owned(), "192.168.9.50".to_owned())].into());
    assert!(node.page("/metrics").contains(&format!("podswitch_agent_passed_over {}\n", wrong.len())));
    let said = must(&node.namespace, &format!("{} status", env!("CARGO_BIN_EXE_podswitch-agent")));
    assert!(said.contains("passed over     10.244.201.0-24: "), "{said}");
    assert_eq!(node.page("/readyz"), "ready\n200", "it is not this node's trouble");
}

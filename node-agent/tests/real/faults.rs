//! What can be wrong with etcd, and with what others do there: each is told, and survived.

use std::thread;
use std::time::Duration;

use agent::claim::{Standing, acquire, keep};
use agent::lease::Attributes;
use agent::network::Network;
use agent::store::{Etcd, EtcdSettings, Store};

use crate::cluster::{Cluster, SUBNETS, ping};
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
fn a_slow_etcd_is_waited_for_and_one_that_stands_still_is_told_of() {
    let server = Server::new();
    let proxy = Proxy::to(server.port());
    let mut store = through(&proxy, &server);
    proxy.delay(Duration::from_millis(150));
    let held = acquire(&mut store, &network(), &said(1), None).unwrap();
    let mut watched = Watched::new(&store);
    server.etcdctl(&["put", &key("a"), "1"]);
    watched.until(&[(held.subnets.to_string(), held.text.clone()), ("a".to_owned(), "1".to_owned())].into());
    proxy.delay(Duration::from_secs(3600));
    let error = keep(&mut store, &held, &said(1)).unwrap_err().report();
    assert!(error.contains(&proxy.url()) && error.contains("within 5 s"), "{error}");
    proxy.delay(Duration::ZERO);
    assert_eq!(keep(&mut store, &held, &said(1)).unwrap(), Standing::Kept);
}

#[test]
fn a_watch_that_was_cut_off_while_all_was_compacted_loses_nothing() {
    let server = Server::new();
    let proxy = Proxy::to(server.port());
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

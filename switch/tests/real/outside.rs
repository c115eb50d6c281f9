//! Pods, their node, and what lies behind it.

use std::path::{Path, PathBuf};

use host::{Namespace, TemporaryNamespace};

use crate::rig::{Rig, address_v4, address_v6, call, link, must, namespace, picture, ping, settings};
use crate::traffic::{MIB, connect, exchange, listen};

#[test]
fn the_node_and_pods_reach_each_other() {
    let rig = Rig::new();
    let a = rig.pod(2);
    for (pod, node) in a.addresses().into_iter().zip([address_v4(1), address_v6(1)]) {
        ping(&rig.node, pod);
        let (at_pod, at_node) = (listen(&a, pod, 7000), listen(&rig.node, node, 7000));
        exchange(&connect(&rig.node, (pod, 7000).into(), &at_pod), 8 * MIB);
        exchange(&connect(&a, (node, 7000).into(), &at_node), 8 * MIB);
    }
    rig.settled();
}

#[test]
fn pods_and_the_outside_reach_each_other_by_way_of_the_node() {
    let rig = Rig::new();
    let a = rig.pod(2);
    let outside = outside(&rig.node);
    let far = ["192.0.2.2", "2001:db8::2"].map(|address| address.parse().unwrap());
    for (pod, far) in a.addresses().into_iter().zip(far) {
        ping(&a, far);
        ping(&outside, pod);
        let (at_pod, at_far) = (listen(&a, pod, 7000), listen(&outside, far, 7000));
        exchange(&connect(&outside, (pod, 7000).into(), &at_pod), 8 * MIB);
        exchange(&connect(&a, (far, 7000).into(), &at_far), 8 * MIB);
    }
    for (nobody, router) in [("10.244.0.77", "10.244.0.1"), ("fd00:10:244::77", "fd00:10:244::1")] {
        let said = call(&outside, &format!("ping -n -c 1 -W 3 {nobody}"));
        said.has(&format!("From {router}")).has("nreachable");
    }
    must(&a, "traceroute -n -q 1 -w 3 -m 4 192.0.2.2").has(" 1  169.254.1.1 ").has(" 2  10.244.0.1 ");
    rig.settled();
}

#[test]
fn no_setting_is_changed_but_those_of_the_host_port() {
    let mut rig = Rig::stopped("");
    let before = settings(&rig.node);
    assert!(before.iter().any(|(path, value)| path.ends_with("ipv4/ip_forward") && value == "0\n"));
    rig.start();
    let (a, b) = (rig.pod(2), rig.pod(3));
    let after: Vec<(PathBuf, String)> = settings(&rig.node).into_iter().filter(|(path, _)| !is_ours(path)).collect();
    assert_eq!(after, before);
    for address in b.addresses() {
        must(&a, &format!("ping -n -c 1 -w 10 {address}"));
    }
    rig.client().purge().unwrap();
    assert!(rig.has_ended());
    assert_eq!(settings(&rig.node), before);
}

#[test]
fn the_nodes_own_links_addresses_and_routes_stay_as_they_are() {
    let mut rig = Rig::stopped("");
    let _outside = outside(&rig.node);
    let before = picture(&rig.node);
    rig.start();
    let _a = rig.pod(2);
    let now = picture(&rig.node);
    let kept = |line: &&str| now.lines().any(|now| now == *line);
    assert_eq!(before.lines().filter(|line| !kept(line)).collect::<Vec<_>>(), Vec::<&str>::new());
}

/// A machine behind the node, joined to it by a link over which the node forwards.
pub(crate) fn outside(node: &Namespace) -> TemporaryNamespace {
    let outside = namespace("psw-outside");
    link([(node, "up0", ["192.0.2.1/24", "2001:db8::1/64"]), (&outside, "eth0", ["192.0.2.2/24", "2001:db8::2/64"])]);
    must(node, "sysctl -q -w net.ipv4.conf.up0.forwarding=1 net.ipv6.conf.up0.force_forwarding=1");
    must(&outside, "ip route add 10.244.0.0/24 via 192.0.2.1");
    must(&outside, "ip route add fd00:10:244::/64 via 2001:db8::1");
    outside
}

fn is_ours(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "podswitch0")
}

//! Pods that speak to the outside by their node's address.

use crate::outside::outside;
use crate::rig::{Rig, call, must, ping};
use crate::traffic::{MIB, connect, exchange, listen};

#[test]
fn the_outside_sees_the_node_and_pods_see_each_other() {
    let rig = Rig::with("masquerade = true");
    let (a, b) = (rig.pod(2), rig.pod(3));
    let outside = outside(&rig.node);
    for ((far, near), pod) in
        [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")].into_iter().zip(b.addresses())
    {
        let listener = listen(&outside, far.parse().unwrap(), 7000);
        let ends = connect(&a, (far.parse::<std::net::IpAddr>().unwrap(), 7000).into(), &listener);
        assert_eq!(ends.1.peer_addr().unwrap().ip().to_string(), near);
        exchange(&ends, 4 * MIB);
        let listener = listen(&b, pod, 7000);
        let ends = connect(&a, (pod, 7000).into(), &listener);
        assert!(a.addresses().contains(&ends.1.peer_addr().unwrap().ip()));
        ping(&outside, pod);
    }
    rig.settled();
}

#[test]
fn the_table_comes_and_goes_with_the_setting_and_with_a_purge() {
    let mut rig = Rig::with("masquerade = true\ncluster_networks = [\"10.244.0.0/16\", \"192.168.0.0/16\"]");
    let table = |rig: &Rig| call(&rig.node, "nft list table inet podswitch0");
    table(&rig).has("10.244.0.0/16").has("192.168.0.0/16").has("ff00::/8").has("0x00004000");
    rig.kill();
    table(&rig).has("masquerade");
    rig.configure("masquerade = false");
    rig.start();
    assert!(!table(&rig).success, "it was switched off");
    rig.kill();
    rig.configure("masquerade = true");
    rig.start();
    table(&rig).has("masquerade");
    rig.client().purge().unwrap();
    assert!(rig.has_ended());
    assert!(!table(&rig).success, "a running switch was purged");
    rig.start();
    rig.kill();
    let state = rig.state_dir();
    must(&rig.node, &format!("{} purge --yes --state-dir {}", crate::rig::PODSWITCH, state.display()));
    assert!(!table(&rig).success, "a dead switch was purged");
}

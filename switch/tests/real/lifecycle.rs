//! Coming and going: of pods, of the switch by its own will or not, and of all it ever made.

use std::fs;
use std::io::{Read, Write};
use std::ops::Deref;

use control::Error;
use host::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rig::{Pod, Rig, must, picture, ping, settings, until};
use crate::traffic::{connection, udp};

#[test]
fn a_detached_pod_has_its_namespace_as_before_and_may_come_again() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), Pod::new(3));
    let before = picture(&b);
    for _ in 0..2 {
        rig.join(&b);
        ping(&a, b.v6());
        rig.detach(&b);
        // The kernel takes its own multicast addresses and routes back a moment later.
        until("the namespace to be as before", || (picture(&b) == before).then_some(()));
    }
    assert!(
        matches!(rig.client().detach(b.detach()), Err(Error::Refused(refusal)) if refusal.message.contains("pod-3"))
    );
    rig.settled();
}

#[test]
fn connections_outlive_a_switch_that_was_killed() {
    let mut rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    let connections = b.addresses().map(|address| connection(&a, &b, address));
    let pictures = [&a, &b].map(links);
    talk(&connections);
    for _ in 0..2 {
        rig.kill();
        rig.start();
        talk(&connections);
    }
    assert_eq!([&a, &b].map(links), pictures);
    ping(&rig.node, a.v4());
    rig.detach(&a);
    until("the interface to be gone", || (!picture(&a).contains("eth0")).then_some(()));
    rig.settled();
}

#[test]
fn connections_outlive_a_stop_by_signal_and_by_call() {
    let mut rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    let connections = b.addresses().map(|address| connection(&a, &b, address));
    for signal in [Some(Signal::SIGTERM), Some(Signal::SIGINT), None] {
        match signal {
            Some(signal) => kill(Pid::from_raw(rig.pid() as i32), signal).unwrap(),
            None => drop(rig.client().stop().unwrap()),
        }
        assert!(rig.has_ended(), "{signal:?}");
        assert!(matches!(rig.client().status(), Err(Error::Absent { .. })), "{signal:?}");
        rig.start();
        talk(&connections);
    }
}

#[test]
fn a_pod_whose_namespace_is_gone_harms_nobody_and_can_be_detached() {
    let mut rig = Rig::new();
    let (a, b, c, d) = (rig.pod(2), rig.pod(3), rig.pod(4), rig.pod(5));
    let (sender, gone) = (udp(&a, a.v4(), 7000), c.v4());
    let detach = c.detach();
    drop(c);
    for _ in 0..100 {
        sender.send_to(b"anybody there?", (gone, 7000)).unwrap();
    }
    ping(&a, b.v4());
    rig.settled();
    rig.client().detach(detach).unwrap();

    // Those whose namespace went while nobody looked are not taken up again; the others are.
    rig.kill();
    drop(d);
    rig.start();
    let ports = rig.client().ports().unwrap();
    assert_eq!(ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["podswitch0", "pod-2", "pod-3"]);
    ping(&a, b.v4());
    rig.pod(5);
    ping(&a, "10.244.0.1");
}

#[test]
fn a_purge_of_a_running_switch_leaves_nothing() {
    let mut rig = Rig::stopped("");
    let pods = [Pod::new(2), Pod::new(3)];
    let before = everything(&rig, &pods);
    for by_command in [false, true] {
        rig.start();
        pods.iter().for_each(|pod| drop(rig.join(pod)));
        assert_ne!(everything(&rig, &pods), before);
        if by_command {
            let said = rig.podswitch(&format!("purge --yes --config {}", rig.configuration().display()));
            said.has("removed ");
            assert!(said.success, "{}", said.text);
        } else {
            rig.client().purge().unwrap();
        }
        assert!(rig.has_ended());
        until("everything to be as before", || (everything(&rig, &pods) == before).then_some(()));
    }
}

#[test]
fn a_purge_of_a_dead_switch_leaves_nothing() {
    let mut rig = Rig::stopped("");
    let pods = [Pod::new(2), Pod::new(3)];
    let before = everything(&rig, &pods);
    rig.start();
    pods.iter().for_each(|pod| drop(rig.join(pod)));
    rig.kill();
    let purge = format!("purge --yes --config {}", rig.configuration().display());
    let said = rig.podswitch(&purge);
    assert!(said.success, "{}", said.text);
    said.has("eth0").has("podswitch0").has("10.244.0.0/24").has("fd00:10:244::/64");
    until("everything to be as before", || (everything(&rig, &pods) == before).then_some(()));
    rig.podswitch(&purge).has("nothing to remove");
}

/// What it left in pods it no longer knows; that goes with them.
#[test]
fn a_switch_that_keeps_nothing_in_mind_starts_over_what_it_left() {
    let mut rig = Rig::new();
    let a = rig.pod(2);
    rig.kill();
    fs::remove_dir_all(rig.state_dir()).unwrap();
    let said = rig.podswitch(&format!("run --config {}", rig.configuration().display()));
    assert!(!said.success, "{}", said.text);
    said.has("podswitch0").has("the name is taken");
    assert!(rig.podswitch(&format!("purge --yes --config {}", rig.configuration().display())).success);
    rig.start();
    assert_eq!(rig.client().status().unwrap().endpoints, 0);
    assert!(
        matches!(rig.client().attach(a.attach()), Err(Error::Refused(refusal)) if refusal.message.contains("eth0"))
    );
    drop(a);
    let again = rig.pod(2);
    ping(&again, "10.244.0.1");
}

/// One byte there and another back over each connection.
fn talk(connections: &[(std::net::TcpStream, std::net::TcpStream)]) {
    for (mut one, mut other) in connections.iter().map(|(one, other)| (one, other)) {
        let mut byte = [0];
        one.write_all(b"?").unwrap();
        other.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"?");
        other.write_all(b"!").unwrap();
        one.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"!");
    }
}

/// Links, addresses, routes, neighbours, rules and settings of the node and the pods, and whether there is a state.
fn everything(rig: &Rig, pods: &[Pod]) -> (Vec<String>, bool) {
    let namespaces = pods.iter().map(Deref::deref).chain([rig.node.deref()]);
    let look = |namespace: &Namespace| {
        let rules = ["ip -4 rule", "ip -6 rule", "nft list ruleset"].map(|look| must(namespace, look).result).concat();
        format!("{}{rules}{:?}", picture(namespace), settings(namespace))
    };
    (namespaces.map(look).collect(), rig.state_dir().exists())
}

/// Interfaces with their numbers and Ethernet addresses.
fn links(pod: &Pod) -> Vec<(u32, String, String)> {
    let links = host::Netlink::open_in(pod).unwrap().links().unwrap();
    links.into_iter().map(|link| (link.index, link.name, link.mac.to_string())).collect()
}

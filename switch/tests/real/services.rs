//! Services as a node's proxy makes them: a virtual address that the node's connection tracking translates.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};

use control::Backend;

use crate::nodes::{Underlay, nodes, tell};
use crate::rig::{Pod, Rig, feed, must};
use crate::traffic::{MIB, connect, exchange, listen, receive, udp};

#[test]
fn a_pod_reaches_a_service_on_another_pod_of_its_node() {
    let (rig, backend) = rig_with_service();
    let client = rig.pod(2);
    for (address, service) in backend.addresses().into_iter().zip(services()) {
        let listener = listen(&backend, address, 8080);
        let ends = connect(&client, (service, 80).into(), &listener);
        assert_eq!(ends.1.peer_addr().unwrap().ip().is_ipv4(), address.is_ipv4());
        assert!(client.addresses().contains(&ends.1.peer_addr().unwrap().ip()), "the client's address was translated");
        exchange(&ends, 16 * MIB);
    }
    rig.settled();
}

#[test]
fn a_pod_reaches_a_datagram_service_on_another_pod_of_its_node() {
    let (rig, backend) = rig_with_service();
    let client = rig.pod(2);
    let own = client.addresses().into_iter().zip(backend.addresses());
    for ((own, address), service) in own.zip(services()) {
        ask_and_answer((&client, own), (&backend, address), (service, 53).into());
    }
    rig.settled();
}

#[test]
fn a_pod_reaches_the_service_it_serves_itself() {
    let (rig, backend) = rig_with_service();
    for (address, service) in backend.addresses().into_iter().zip(services()) {
        let listener = listen(&backend, address, 8080);
        let ends = connect(&backend, (service, 80).into(), &listener);
        assert_ne!(ends.1.peer_addr().unwrap().ip(), address, "a pod cannot hear from its own address");
        exchange(&ends, 4 * MIB);
        ask_and_answer((&backend, address), (&backend, address), (service, 53).into());
    }
    rig.settled();
}

#[test]
fn the_node_reaches_a_service_on_its_pod() {
    let (rig, backend) = rig_with_service();
    must(&rig.node, "ip -4 route add 10.96.0.0/16 dev podswitch0 via 169.254.1.1 onlink");
    must(&rig.node, "ip -6 route add fd00:10:96::/64 dev podswitch0 via fe80::ecee:eeff:feee:eeee onlink");
    for (address, service) in backend.addresses().into_iter().zip(services()) {
        let listener = listen(&backend, address, 8080);
        exchange(&connect(&rig.node, (service, 80).into(), &listener), 4 * MIB);
    }
    rig.settled();
}

/// Only a packet of the client tells a new switch that the replies pass the host.
#[test]
fn a_service_connection_outlives_a_switch_that_died_when_the_client_speaks_first() {
    let (mut rig, backend) = rig_with_service();
    let client = rig.pod(2);
    let listener = listen(&backend, backend.v4(), 8080);
    let ends = connect(&client, (services()[0], 80).into(), &listener);
    rig.kill();
    rig.start();
    (&ends.0).write_all(b"?").unwrap();
    (&ends.1).read_exact(&mut [0]).unwrap();
    exchange(&ends, 4 * MIB);
}

/// The node of the client translates; replies come back through it whatever lies between the nodes.
#[test]
fn a_pod_reaches_a_service_on_a_pod_of_another_node() {
    for (tunnels, how) in [
        ("underlay_address = [\"ADDRESS\"]", (Backend::Vxlan, Underlay::V4)),
        ("underlay_address = [\"ADDRESS\"]\ntunnels = [\"udp\"]", (Backend::Udp, Underlay::V4)),
        ("", (Backend::HostGw, Underlay::Same)),
    ] {
        let [one, two] = nodes(tunnels);
        tell(&one, &two, how);
        tell(&two, &one, how);
        let (client, backend) = (one.pod(2), two.pod(3));
        let rules = RULES.replace("10.244.0.3", "10.244.2.3").replace("fd00:10:244::3", "fd00:10:244:2::3");
        let said = feed(&one.node, "nft -f -", &rules);
        assert!(said.success, "{}", said.text);
        must(&one.node, "ip -4 route add 10.96.0.0/16 dev podswitch0 via 169.254.1.1 onlink");
        must(&one.node, "ip -6 route add fd00:10:96::/64 dev podswitch0 via fe80::ecee:eeff:feee:eeee onlink");
        let families = client.addresses().into_iter().zip(backend.addresses()).zip(services());
        let carried = |address: &IpAddr| how.0 != Backend::Udp || address.is_ipv4();
        for ((own, address), service) in families.filter(|((own, _), _)| carried(own)) {
            let listener = listen(&backend, address, 8080);
            let ends = connect(&client, (service, 80).into(), &listener);
            assert_eq!(ends.1.peer_addr().unwrap().ip(), own, "the client's address was translated");
            exchange(&ends, 8 * MIB);
            ask_and_answer((&client, own), (&backend, address), (service, 53).into());
            exchange(&connect(&one.node, (service, 80).into(), &listener), 4 * MIB);
        }
        one.settled();
        two.settled();
    }
}

/// Several datagrams to a service and back, which must seem to come from it.
fn ask_and_answer((client, own): (&Pod, IpAddr), (backend, address): (&Pod, IpAddr), service: SocketAddr) {
    let (asker, answerer) = (udp(client, own, 7000), udp(backend, address, 5353));
    for question in 0..5 {
        asker.send_to(&[question], service).unwrap();
        let (heard, from) = receive(&answerer);
        assert_eq!(heard, [question]);
        answerer.send_to(&[question, question], from).unwrap();
        assert_eq!(receive(&asker), (vec![question, question], service));
    }
}

/// A node whose proxy sends both services to one pod. A pod that calls itself is masqueraded, nobody else.
fn rig_with_service() -> (Rig, Pod) {
    let rig = Rig::new();
    let backend = rig.pod(3);
    let said = feed(&rig.node, "nft -f -", RULES);
    assert!(said.success, "{}", said.text);
    (rig, backend)
}

fn services() -> [IpAddr; 2] {
    ["10.96.0.10", "fd00:10:96::10"].map(|address| address.parse().unwrap())
}

const RULES: &str = "
table inet proxy {
  chain services {
    ip saddr 10.244.0.3 ip daddr 10.96.0.10 meta mark set meta mark or 0x4000
    ip daddr 10.96.0.10 tcp dport 80 dnat ip to 10.244.0.3:8080
    ip daddr 10.96.0.10 udp dport 53 dnat ip to 10.244.0.3:5353
    ip6 saddr fd00:10:244::3 ip6 daddr fd00:10:96::10 meta mark set meta mark or 0x4000
    ip6 daddr fd00:10:96::10 tcp dport 80 dnat ip6 to [fd00:10:244::3]:8080
    ip6 daddr fd00:10:96::10 udp dport 53 dnat ip6 to [fd00:10:244::3]:5353
  }
  chain prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain output { type nat hook output priority -100; jump services; }
  chain postrouting { type nat hook postrouting priority srcnat; meta mark & 0x4000 == 0x4000 masquerade; }
}
";

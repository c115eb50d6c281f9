//! Pods talk to each other and to their gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

use crate::rig::{GATEWAY_V4, GATEWAY_V6, Pod, Rig, address_v4, address_v6, call, must, ping, until};
use crate::traffic::{MIB, connection, exchange, receive, udp, waiting};

#[test]
fn pods_ping_each_other_the_gateway_and_the_router() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    for (pod, other) in [(&a, &b), (&b, &a)] {
        let gateway_v6 = format!("{GATEWAY_V6}%eth0");
        let routers = [address_v4(1), address_v6(1)].map(|router| router.to_string());
        let others = other.addresses().map(|address| address.to_string());
        for address in [&[GATEWAY_V4.to_owned(), gateway_v6], &routers, &others].into_iter().flatten() {
            ping(pod, address);
        }
    }
    assert!(rig.settled().dropped.keys().all(|reason| QUIET.contains(&reason.as_str())));
}

#[test]
fn tcp_over_ipv4_carries_64_mib_both_ways_unharmed() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    exchange(&connection(&a, &b, b.v4()), 64 * MIB);
    rig.settled();
}

#[test]
fn tcp_over_ipv6_carries_64_mib_both_ways_unharmed() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    exchange(&connection(&a, &b, b.v6()), 64 * MIB);
    rig.settled();
}

#[test]
fn a_pod_without_offloads_and_one_with_them_understand_each_other() {
    let rig = Rig::new();
    let (plain, able) = (rig.pod(2), rig.pod(3));
    must(&plain, "ethtool -K eth0 tso off gso off gro off tx off");
    must(&plain, "ethtool -k eth0").has("tcp-segmentation-offload: off").has("tx-checksumming: off");
    must(&able, "ethtool -k eth0").has("tcp-segmentation-offload: on").has("tx-checksumming: on");
    for (from, to) in [(&plain, &able), (&able, &plain)] {
        for address in to.addresses() {
            exchange(&connection(from, to, address), 4 * MIB);
        }
    }
    rig.settled();
}

#[test]
fn a_datagram_that_its_sender_fragments_arrives_whole() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    for (from, to) in a.addresses().into_iter().zip(b.addresses()) {
        let (sender, receiver) = (udp(&a, from, 7001), udp(&b, to, 7002));
        for length in [9000, 65_000] {
            let sent: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
            sender.send_to(&sent, (to, 7002)).unwrap();
            let (heard, peer) = receive(&receiver);
            assert!(heard == sent && peer.ip() == from, "{} bytes of {peer}", heard.len());
        }
    }
    rig.settled();
}

#[test]
fn a_super_datagram_arrives_as_the_datagrams_it_stands_for() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    for (from, to) in a.addresses().into_iter().zip(b.addresses()) {
        let (sender, receiver) = (udp(&a, from, 7001), udp(&b, to, 7002));
        setsockopt(&sender, UdpGsoSegment, &1000).unwrap();
        let sent: Vec<u8> = (0..20_500).map(|at: u32| (at % 251) as u8).collect();
        sender.send_to(&sent, (to, 7002)).unwrap();
        for segment in sent.chunks(1000) {
            assert!(receive(&receiver).0 == segment);
        }
    }
    rig.settled();
}

#[test]
fn the_first_packet_after_attach_passes() {
    let rig = Rig::new();
    let b = rig.pod(3);
    let at_b = [udp(&b, b.v4(), 7000), udp(&b, b.v6(), 7001)];
    for round in 0..10 {
        let a = Pod::new(2);
        let at_a = [udp(&a, Ipv4Addr::UNSPECIFIED.into(), 7000), udp(&a, Ipv6Addr::UNSPECIFIED.into(), 7001)];
        rig.join(&a);
        for (from, to, address, port) in [
            (&at_a[0], &at_b[0], b.v4(), 7000),
            (&at_a[1], &at_b[1], b.v6(), 7001),
            (&at_b[0], &at_a[0], a.v4(), 7000),
            (&at_b[1], &at_a[1], a.v6(), 7001),
        ] {
            from.send_to(&[round], (address, port)).unwrap();
            assert_eq!(receive(to).0, [round]);
        }
        rig.detach(&a);
    }
    rig.settled();
}

#[test]
fn a_pod_cannot_speak_with_anothers_address() {
    let rig = Rig::new();
    let (a, b, c) = (rig.pod(2), rig.pod(3), rig.pod(4));
    let forged = b.addresses().into_iter().zip(["32", "128 nodad"]).zip(c.addresses());
    for ((address, length), target) in forged {
        let receiver = udp(&c, target, 7000);
        must(&a, &format!("ip address add {address}/{length} dev eth0"));
        let forger = udp(&a, address, 7000);
        let before = spoofed(&rig);
        for _ in 0..5 {
            forger.send_to(b"I am b", (target, 7000)).unwrap();
        }
        until("the forgeries to be counted", || (spoofed(&rig) == before + 5).then_some(()));
        assert_eq!(waiting(&receiver), 0);
        send_once(&udp(&b, address, 7000), &receiver, target);
    }
    rig.settled();
}

#[test]
fn arp_and_neighbour_discovery_answer_for_any_address() {
    let rig = Rig::new();
    let a = rig.pod(2);
    for (prefix, address) in [("192.0.2.0/24", "192.0.2.7"), ("2001:db8::/64", "2001:db8::7")] {
        must(&a, &format!("ip route add {prefix} dev eth0"));
        // There is nobody to answer the ping itself.
        call(&a, &format!("ping -n -c 1 -W 1 {address}"));
        must(&a, &format!("ip neighbor show {address}")).has("lladdr ee:ee:ee:ee:ee:ee");
    }
    rig.settled();
}

#[test]
fn duplicate_address_detection_is_not_disturbed() {
    let rig = Rig::new();
    let a = rig.pod(2);
    must(&a, "sysctl -q -w net.ipv6.conf.eth0.accept_dad=1");
    must(&a, "ip address add fd00:10:244::2:2/128 dev eth0");
    until("the end of duplicate address detection", || {
        let addresses = must(&a, "ip -6 -o address show dev eth0");
        assert!(!addresses.text.contains("dadfailed"), "{}", addresses.text);
        addresses.has("fe80::").has("fd00:10:244::2/128").has("fd00:10:244::2:2/128");
        (!addresses.text.contains("tentative")).then_some(())
    });
    assert!(rig.settled().slow.contains_key("address_check"));
}

fn spoofed(rig: &Rig) -> u64 {
    rig.client().drops().unwrap().dropped.get("spoofed_source").copied().unwrap_or_default()
}

#[track_caller]
fn send_once(from: &UdpSocket, to: &UdpSocket, address: IpAddr) {
    from.send_to(b"I am b indeed", (address, 7000)).unwrap();
    assert_eq!(receive(to).0, b"I am b indeed");
}

/// What a pod says by itself when its interface comes up.
const QUIET: [&str; 3] = ["mld", "router_solicitation", "multicast"];

/// As a plugin chained behind the CNI plugin does.
#[test]
fn a_pod_whose_ethernet_address_is_changed_stays_reachable() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    must(&b, "ip link set eth0 address 02:00:00:00:00:99");
    until("the switch to notice", || {
        let ports = rig.client().ports().unwrap();
        ports.iter().any(|port| port.mac.to_string() == "02:00:00:00:00:99").then_some(())
    });
    for address in b.addresses() {
        ping(&a, address);
    }
    ping(&b, a.v4());
}

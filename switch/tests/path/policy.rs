//! Rules on the path: what they let through, whose replies pass, and what a change of rules cuts.

use std::net::IpAddr;
use std::slice;

use packet::view::Family;
use packet::{Mac, Reason};

use crate::frames::{ACK, FIN, Packet, Tcp, Transport};
use crate::rig::{HOST, PLAIN, ROUTER_V4, Rig, mac, reply, tcp, udp, v4};
use crate::rules::Rules;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const SYN: u8 = 2;

/// Pod 1 takes nothing; pod 2 takes from pod 1 by UDP 53 and TCP 80; pod 3 may send to pod 2 alone; pod 4 is open.
const RULES: &str = "
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: closed, namespace: shop},
 spec: {podSelector: {matchLabels: {pod: p1}}, policyTypes: [Ingress]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web, namespace: shop},
 spec: {podSelector: {matchLabels: {pod: p2}}, ingress: [{from: [{podSelector: {matchLabels: {pod: p1}}}],
   ports: [{port: 53, protocol: UDP}, {port: 80}]}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: out, namespace: shop},
 spec: {podSelector: {matchLabels: {pod: p3}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {pod: p2}}}]}]}}
";

/// A switch with four pods, and the rules for them.
struct Ruled {
    rig: Rig,
    rules: Rules,
}

impl Ruled {
    fn new() -> Ruled {
        let mut ruled = Ruled { rig: Rig::new(&[PLAIN; 4]), rules: Rules::new(4) };
        ruled.apply(RULES);
        ruled
    }

    /// Takes documents in, and has them in force.
    fn apply(&mut self, text: &str) {
        self.rules.apply(text);
        self.rules.enforce(&mut self.rig);
    }

    fn remove(&mut self, name: &str) {
        self.rules.library.remove(&[name.into()]).unwrap().forget();
        self.rules.enforce(&mut self.rig);
    }

    /// Sends a packet by a port: where it left, or why it did not.
    fn send(&mut self, from: u16, packet: &Packet) -> Result<u16, Reason> {
        let _ = self.rig.dropped_now(from);
        self.rig.pass(from, slice::from_ref(packet));
        let ways: Vec<u16> = (0..=4).filter(|&port| !self.rig.take(port).is_empty()).collect();
        match (&ways[..], &self.rig.dropped_now(from)[..]) {
            (&[way], []) => Ok(way),
            ([], &[(reason, 1)]) => Err(reason),
            other => panic!("{other:?} of {packet:?}"),
        }
    }
}

/// The same with other flags.
fn flagged(packet: &Packet, flags: u8) -> Packet {
    let Transport::Tcp(tcp) = packet.transport else { panic!("{packet:?} is not of TCP") };
    Packet { transport: Transport::Tcp(Tcp { flags, ..tcp }), ..packet.clone() }
}

#[test]
fn what_rules_allow_passes_and_its_replies_and_nothing_else() {
    for family in FAMILIES {
        let mut ruled = Ruled::new();
        let ask = udp(family, 1, 2, 30);
        let answer = reply(&ask, 2);
        assert_eq!(ruled.send(2, &answer), Err(Reason::PolicyIngress), "nobody asked");
        assert_eq!(ruled.send(1, &ask), Ok(2));
        assert_eq!(ruled.send(2, &answer), Ok(1));
        assert_eq!([&ask, &ask].map(|packet| ruled.send(1, packet)), [Ok(2); 2]);
        let stranger = Packet { transport: Transport::Udp(53, 4001), ..answer.clone() };
        assert_eq!(ruled.send(2, &stranger), Err(Reason::PolicyIngress), "another port was not asked from");
        let elsewhere = Packet { transport: Transport::Udp(4000, 54), ..ask.clone() };
        assert_eq!(ruled.send(1, &elsewhere), Err(Reason::PolicyIngress));
        assert_eq!(ruled.send(4, &udp(family, 4, 2, 30)), Err(Reason::PolicyIngress), "not of those it takes from");
        assert_eq!(ruled.send(1, &udp(family, 1, 4, 30)), Ok(4), "nothing selects it");
        assert_eq!(ruled.send(3, &udp(family, 3, 4, 30)), Err(Reason::PolicyEgress));
        assert_eq!(ruled.send(4, &udp(family, 4, 3, 30)), Ok(3));
        assert_eq!(ruled.send(3, &reply(&udp(family, 4, 3, 30), 3)), Ok(4), "a reply leaves where no flow may begin");
    }
}

#[test]
fn a_connection_is_known_from_its_first_packet_to_some_time_after_its_last() {
    for family in FAMILIES {
        let mut ruled = Ruled::new();
        let data = tcp(family, 1, 2, 20);
        let (begin, back) = (flagged(&data, SYN), reply(&data, 2));
        assert_eq!(ruled.send(2, &back), Err(Reason::PolicyIngress));
        assert_eq!(ruled.send(1, &begin), Ok(2));
        assert_eq!(ruled.send(2, &flagged(&back, SYN | ACK)), Ok(1));
        assert_eq!((ruled.send(1, &data), ruled.send(2, &back)), (Ok(2), Ok(1)));
        assert_eq!(ruled.send(2, &flagged(&back, SYN)), Err(Reason::PolicyIngress), "its other end begins nothing");
        ruled.rig.lane.now_seconds += 3_000;
        assert_eq!(ruled.send(2, &back), Ok(1), "established");
        assert_eq!(ruled.send(1, &flagged(&data, FIN | ACK)), Ok(2));
        assert_eq!(ruled.send(2, &back), Ok(1));
        ruled.rig.lane.now_seconds += 50;
        assert_eq!(ruled.send(2, &back), Err(Reason::PolicyIngress), "over");
    }
}

#[test]
fn a_handshake_that_nobody_answers_is_forgotten_soon() {
    let mut ruled = Ruled::new();
    let data = tcp(Family::V4, 1, 2, 0);
    assert_eq!(ruled.send(1, &flagged(&data, SYN)), Ok(2));
    ruled.rig.lane.now_seconds += 21;
    assert_eq!(ruled.send(2, &flagged(&reply(&data, 2), SYN | ACK)), Err(Reason::PolicyIngress));
}

#[test]
fn a_change_of_rules_cuts_flows_in_use_and_lets_others_go_on() {
    for family in FAMILIES {
        let mut ruled = Ruled::new();
        let (ask, kept) = (udp(family, 1, 2, 30), udp(family, 3, 2, 30));
        ruled.apply(&RULES.replace("podSelector: {matchLabels: {pod: p1}}}],", "podSelector: {}}],"));
        for packet in [&ask, &kept] {
            let from = if packet == &ask { 1 } else { 3 };
            assert_eq!((ruled.send(from, packet), ruled.send(2, &reply(packet, 2))), (Ok(2), Ok(from)));
        }
        let only_p3 =
            RULES.replace("podSelector: {matchLabels: {pod: p1}}}],", "podSelector: {matchLabels: {pod: p3}}}],");
        ruled.apply(&only_p3);
        assert_eq!(ruled.send(2, &reply(&ask, 2)), Err(Reason::PolicyIngress));
        assert_eq!(ruled.send(1, &ask), Err(Reason::PolicyIngress));
        assert_eq!((ruled.send(2, &reply(&kept, 2)), ruled.send(3, &kept)), (Ok(3), Ok(2)));
        ruled.remove("networkpolicy/shop/web");
        assert_eq!(ruled.send(1, &ask), Ok(2));
    }
}

#[test]
fn another_worker_knows_the_flow() {
    let mut ruled = Ruled::new();
    let ask = udp(Family::V4, 1, 2, 30);
    assert_eq!(ruled.send(1, &ask), Ok(2));
    ruled.rig.change_worker();
    assert_eq!(ruled.send(2, &reply(&ask, 2)), Ok(1));
}

#[test]
fn the_node_may_talk_to_its_pods_and_others_may_not() {
    let mut ruled = Ruled::new();
    let from_host = |source: IpAddr| Packet {
        macs: (mac(HOST), Mac::GATEWAY),
        addresses: (source, v4(1).into()),
        ..tcp(Family::V4, 2, 1, 0)
    };
    let probe = flagged(&from_host(ROUTER_V4.into()), SYN);
    assert_eq!(ruled.send(HOST, &probe), Ok(1));
    assert_eq!(
        ruled.send(1, &flagged(&reply(&probe, 1), SYN | ACK)),
        Err(Reason::Unroutable).or(Ok::<u16, Reason>(HOST))
    );
    let outside = flagged(&from_host("192.0.2.7".parse().unwrap()), SYN);
    assert_eq!(ruled.send(HOST, &outside), Err(Reason::PolicyIngress));
}

#[test]
fn pings_and_their_answers_are_a_flow() {
    for family in FAMILIES {
        let mut ruled = Ruled::new();
        let echo = if family == Family::V4 { 8 } else { 128 };
        let ping = |from, to| Packet { transport: Transport::Icmp(echo, 0, 9 << 16 | 1), ..udp(family, from, to, 56) };
        assert_eq!(ruled.send(2, &reply(&ping(1, 4), 2)), Err(Reason::SpoofedSource));
        assert_eq!(ruled.send(4, &reply(&ping(1, 4), 4)), Err(Reason::PolicyIngress), "nobody asked");
        assert_eq!(ruled.send(1, &ping(1, 4)), Ok(4));
        assert_eq!(ruled.send(4, &reply(&ping(1, 4), 4)), Ok(1));
        assert_eq!(ruled.send(4, &ping(4, 1)), Err(Reason::PolicyIngress));
    }
}

#[test]
fn an_error_goes_to_whom_its_flow_came_from() {
    let mut ruled = Ruled::new();
    let ask = udp(Family::V4, 1, 2, 30);
    let quoted = ask.frame()[14..].to_vec();
    let error = |payload: Vec<u8>| Packet { transport: Transport::Icmp(3, 3, 0), payload, ..reply(&ask, 2) };
    assert_eq!(ruled.send(2, &error(quoted.clone())), Err(Reason::PolicyIngress), "of no flow");
    assert_eq!(ruled.send(1, &ask), Ok(2));
    assert_eq!(ruled.send(2, &error(quoted.clone())), Ok(1));
    let of_another = udp(Family::V4, 4, 2, 30).frame()[14..].to_vec();
    assert_eq!(ruled.send(2, &error(of_another)), Err(Reason::PolicyIngress));
    for length in 0..quoted.len() {
        let sent = ruled.send(2, &error(quoted[..length].to_vec()));
        assert_eq!(sent, if length < 28 { Err(Reason::PolicyIngress) } else { Ok(1) }, "{length} bytes quoted");
    }
}

#[test]
fn later_fragments_go_with_the_first() {
    let mut ruled = Ruled::new();
    let fragments = |from: u16, id: u16| {
        let header: [u16; 4] = [4000, 53, 8 + 64, 0];
        let first: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).chain([7; 24]).collect();
        let one = |offset: u16, more, payload| Packet {
            id,
            transport: Transport::Fragment(17, offset, more),
            payload,
            ..udp(Family::V4, from, 2, 0)
        };
        (one(0, true, first), one(32, false, vec![7; 40]))
    };
    let (first, later) = fragments(1, 77);
    assert_eq!(ruled.send(1, &later), Err(Reason::PolicyIngress), "rules that speak of ports do not match it");
    assert_eq!((ruled.send(1, &first), ruled.send(1, &later)), (Ok(2), Ok(2)));
    let (_, of_another_packet) = fragments(1, 78);
    assert_eq!(ruled.send(1, &of_another_packet), Err(Reason::PolicyIngress));
    let (first, later) = fragments(4, 77);
    assert_eq!(
        (ruled.send(4, &first), ruled.send(4, &later)),
        (Err(Reason::PolicyIngress), Err(Reason::PolicyIngress))
    );
}

#[test]
fn a_world_without_rules_lets_everything_through() {
    let mut ruled = Ruled::new();
    ruled.rig.world.enforcement = None;
    for family in FAMILIES {
        assert_eq!(ruled.send(4, &udp(family, 4, 2, 30)), Ok(2));
    }
}

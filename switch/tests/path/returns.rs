//! Flows that the host translated go back by the host.

use std::net::IpAddr;

use packet::view::Family;
use packet::{Mac, Offload};
use podswitch::returns::{OTHER_IDLE_SECONDS, TCP_IDLE_SECONDS};

use crate::frames::{Packet, Transport};
use crate::rig::{HOST, PLAIN, Rig, mac, reply, tcp, udp};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The packet as the host sends it on: from its own station.
fn by_the_host(packet: &Packet) -> Packet {
    Packet { macs: (mac(HOST), Mac::GATEWAY), ttl: packet.ttl - 1, ..packet.clone() }
}

/// The ports by which `packets`, sent by port `from`, leave.
fn ways(rig: &mut Rig, from: u16, packets: &[Packet]) -> Vec<u16> {
    packets
        .iter()
        .map(|packet| {
            rig.pass(from, std::slice::from_ref(packet));
            let ways: Vec<u16> = (0..4).filter(|&port| !rig.take(port).is_empty()).collect();
            assert_eq!(ways.len(), 1, "{packet:?}");
            ways[0]
        })
        .collect()
}

#[test]
fn a_reply_to_a_translated_packet_goes_back_by_the_host() {
    for family in FAMILIES {
        let echo = if family == Family::V4 { 8 } else { 128 };
        let ping = Packet { transport: Transport::Icmp(echo, 0, 9 << 16 | 1), ..udp(family, 1, 2, 56) };
        for request in [udp(family, 1, 2, 30), tcp(family, 1, 2, 30), ping] {
            let mut rig = Rig::new(&[PLAIN; 3]);
            // The reply goes straight while the host has not translated anything.
            assert_eq!(ways(&mut rig, 2, &[reply(&request, 2)]), [1]);
            assert_eq!(ways(&mut rig, HOST, &[by_the_host(&request)]), [2]);
            assert_eq!(ways(&mut rig, 2, &[reply(&request, 2), reply(&request, 2)]), [HOST, HOST]);
            // Other flows of the same pods, and the translated one in its own direction, go straight.
            let other = Packet { transport: Transport::Udp(53, 4001), ..udp(family, 2, 1, 30) };
            let stranger = Packet { transport: Transport::Udp(53, 4000), ..udp(family, 2, 3, 30) };
            assert_eq!(ways(&mut rig, 2, &[other, stranger]), [1, 3]);
            assert_eq!(ways(&mut rig, 1, &[request]), [2]);
        }
    }
}

#[test]
fn an_entry_that_one_worker_left_is_followed_and_kept_by_all() {
    for family in FAMILIES {
        let mut rig = Rig::new(&[PLAIN; 3]);
        let request = udp(family, 1, 2, 30);
        assert_eq!(ways(&mut rig, HOST, &[by_the_host(&request)]), [2]);
        for _ in 0..3 {
            rig.change_worker();
            assert_eq!(ways(&mut rig, 2, &[reply(&request, 2)]), [HOST]);
            rig.lane.now_seconds += OTHER_IDLE_SECONDS;
        }
        let (returns, now_seconds) = (&rig.lane.returns, rig.lane.now_seconds);
        assert_eq!((returns.in_use(now_seconds), returns.evicted()), (1, 0), "all of them use the same one");
    }
}

#[test]
fn a_packet_from_outside_leaves_no_entry() {
    let mut rig = Rig::new(&[PLAIN; 3]);
    let outside: IpAddr = "192.0.2.1".parse().unwrap();
    let request = udp(Family::V4, 1, 2, 30);
    let request = Packet { addresses: (outside, request.addresses.1), ..request };
    assert_eq!(ways(&mut rig, HOST, &[by_the_host(&request)]), [2]);
    assert!(!rig.lane.returns.is_used());
}

#[test]
fn fragments_of_a_translated_flow_go_back_by_the_host() {
    let mut rig = Rig::new(&[PLAIN; 3]);
    let piece = |from, to, offset| Packet {
        transport: Transport::Fragment(17, offset, offset == 0),
        ..udp(Family::V4, from, to, 64)
    };
    assert_eq!(ways(&mut rig, HOST, &[by_the_host(&piece(1, 2, 0))]), [2]);
    assert_eq!(ways(&mut rig, 2, &[piece(2, 1, 0), piece(2, 1, 64)]), [HOST, HOST]);
}

#[test]
fn a_super_frame_of_a_translated_flow_goes_back_by_the_host() {
    let mut rig = Rig::new(&[PLAIN; 3]);
    let request = tcp(Family::V6, 1, 2, 0);
    assert_eq!(ways(&mut rig, HOST, &[by_the_host(&request)]), [2]);
    let big = Packet { payload: vec![1; 10_000], ..reply(&request, 2) };
    let (offload, frame) = big.super_frame(1400);
    rig.send(2, &offload, &frame);
    rig.settle();
    assert_eq!(rig.take(HOST), [big.hop(Mac::GATEWAY, mac(HOST))]);
}

#[test]
fn an_entry_ends_when_it_was_idle_too_long_and_not_before() {
    for (request, idle) in
        [(udp(Family::V4, 1, 2, 1), OTHER_IDLE_SECONDS), (tcp(Family::V4, 1, 2, 1), TCP_IDLE_SECONDS)]
    {
        let mut rig = Rig::new(&[PLAIN; 3]);
        assert_eq!(ways(&mut rig, HOST, &[by_the_host(&request)]), [2]);
        for _ in 0..3 {
            rig.lane.now_seconds += idle;
            assert_eq!(ways(&mut rig, 2, &[reply(&request, 2)]), [HOST], "every use makes it young again");
        }
        rig.lane.now_seconds += idle + 1;
        assert_eq!(ways(&mut rig, 2, &[reply(&request, 2), reply(&request, 2)]), [1, 1]);
    }
}

#[test]
fn a_spoofed_packet_makes_no_use_of_an_entry() {
    let mut rig = Rig::new(&[PLAIN; 3]);
    let request = udp(Family::V4, 1, 2, 30);
    assert_eq!(ways(&mut rig, HOST, &[by_the_host(&request)]), [2]);
    rig.send(3, &Offload::default(), &reply(&request, 3).frame());
    rig.settle();
    assert!(rig.is_silent());
}

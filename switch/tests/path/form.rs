//! The form in which frames depart: whole, cut, joined, their checksums finished.

use packet::view::Family;
use packet::{Gso, Mac, Offload};
use podswitch::port::{Abilities, Count};

use crate::frames::{ACK, FIN, PSH, Packet, Tcp, Transport};
use crate::rig::{ABLE, PLAIN, Rig, Station, mac, tcp, udp};

const CHECKSUM_ONLY: Station = Station { abilities: Abilities { checksum: true, ..PLAIN.abilities }, ..PLAIN };
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Super-frames of every kind, the longest of them with a tail in a big slot.
fn super_packets(from: u16, to: u16) -> Vec<Packet> {
    let both = |family| [tcp(family, from, to, 60_000), tcp(family, from, to, 1449), udp(family, from, to, 9_000)];
    FAMILIES.into_iter().flat_map(both).collect()
}

fn hops(packets: &[Packet], to: u16) -> Vec<Packet> {
    packets.iter().map(|packet| packet.hop(Mac::GATEWAY, mac(to))).collect()
}

fn ended(packet: &Packet, flags: u8) -> Packet {
    let Transport::Tcp(tcp) = packet.transport else { panic!("{packet:?}") };
    Packet { transport: Transport::Tcp(Tcp { flags, ..tcp }), ..packet.clone() }
}

#[test]
fn a_super_frame_passes_uncut_and_unsummed_between_able_ports() {
    let mut rig = Rig::new(&[ABLE, ABLE]);
    for sent in super_packets(1, 2) {
        let (offload, frame) = sent.super_frame(1400);
        rig.send(1, &offload, &frame);
        rig.settle();
        let [(seen_offload, seen)] = &rig.take_frames(2)[..] else { panic!("one frame") };
        assert_eq!(*seen_offload, offload);
        assert_eq!(Packet::read(seen_offload, seen), sent.hop(Mac::GATEWAY, mac(2)));
    }
    assert_eq!((rig.count(2, Count::Cut), rig.count(2, Count::Joined)), (0, 0));
}

#[test]
fn a_super_frame_is_cut_for_a_port_that_takes_none() {
    for (station, needs_csum) in [(PLAIN, false), (CHECKSUM_ONLY, true)] {
        let mut rig = Rig::new(&[ABLE, station]);
        for (cut, sent) in (1..).zip(super_packets(1, 2)) {
            let sent = match sent.transport {
                Transport::Tcp(_) => ended(&sent, ACK | PSH | FIN),
                _ => sent,
            };
            let (offload, frame) = sent.super_frame(1400);
            rig.send(1, &offload, &frame);
            rig.settle();
            let frames = rig.take_frames(2);
            assert!(frames.iter().all(|(offload, _)| offload.needs_csum == needs_csum && offload.gso == Gso::None));
            let seen: Vec<Packet> = frames.iter().map(|(offload, frame)| Packet::read(offload, frame)).collect();
            assert_eq!(seen, hops(&sent.segments(1400), 2));
            assert_eq!((rig.count(2, Count::Cut), rig.count(2, Count::Sent)), (cut, cut));
        }
    }
}

#[test]
fn segments_of_one_flow_are_joined_for_an_able_port() {
    for family in FAMILIES {
        for whole in [ended(&tcp(family, 1, 2, 10 * 1400 + 7), ACK | PSH), udp(family, 1, 2, 10 * 1400 + 7)] {
            let mut rig = Rig::new(&[PLAIN, ABLE]);
            rig.pass(1, &whole.segments(1400));
            let [(offload, frame)] = &rig.take_frames(2)[..] else { panic!("one frame") };
            let expected = whole.super_frame(1400).0;
            assert_eq!((offload.gso, offload.gso_size), (expected.gso, 1400));
            assert_eq!(Packet::read(offload, frame), whole.hop(Mac::GATEWAY, mac(2)));
            assert_eq!((rig.count(2, Count::Joined), rig.count(2, Count::Sent)), (1, 11));
        }
    }
}

#[test]
fn nothing_is_joined_for_a_port_that_takes_no_super_frames() {
    let mut rig = Rig::new(&[PLAIN, PLAIN]);
    let segments = tcp(Family::V4, 1, 2, 5000).segments(1000);
    rig.pass(1, &segments);
    assert_eq!(rig.take(2), hops(&segments, 2));
    assert_eq!(rig.count(2, Count::Joined), 0);
}

#[test]
fn cutting_and_joining_give_the_same_packets_on_a_chain_of_ports() {
    for sent in super_packets(1, 2) {
        let mut rig = Rig::new(&[ABLE, PLAIN, ABLE]);
        let (offload, frame) = sent.super_frame(1400);
        rig.send(1, &offload, &frame);
        rig.settle();
        let cut = rig.take(2);
        // The plain pod sends on what it got, from its own address: the joined frames read like its segments.
        let (from, to) = (udp(Family::V4, 2, 3, 0).addresses, udp(Family::V6, 2, 3, 0).addresses);
        let addresses = if sent.addresses.0.is_ipv4() { from } else { to };
        let onward: Vec<Packet> =
            cut.iter().map(|packet| Packet { macs: (mac(2), Mac::GATEWAY), addresses, ..packet.clone() }).collect();
        rig.pass(2, &onward);
        let frames = rig.take_frames(3);
        let back: Vec<Packet> = frames
            .iter()
            .flat_map(|(offload, frame)| {
                let size = if offload.gso == Gso::None { u16::MAX } else { offload.gso_size };
                Packet::read(offload, frame).segments(size)
            })
            .collect();
        assert_eq!(back, hops(&onward, 3));
    }
}

#[test]
fn sixty_four_interleaved_flows_of_small_datagrams_are_joined_each() {
    for family in FAMILIES {
        let mut rig = Rig::new(&[PLAIN, ABLE, PLAIN, PLAIN, PLAIN]);
        let datagram = |from: u16, flow: u16, place: u16| Packet {
            transport: Transport::Udp(5000 + flow, 53),
            id: if family == Family::V4 { place } else { 0 },
            payload: vec![place as u8; 64],
            ..udp(family, from, 2, 0)
        };
        for place in 0..4 {
            for flow in 0..64 {
                let from = [1, 3, 4, 5][usize::from(flow % 4)];
                rig.send(from, &Offload::default(), &datagram(from, flow, place).frame());
            }
        }
        rig.settle();
        let frames = rig.take_frames(2);
        assert_eq!((frames.len(), rig.count(2, Count::Joined)), (64, 64));
        for (offload, frame) in &frames {
            assert_eq!((offload.gso, offload.gso_size), (Gso::Udp, 64));
            let joined = Packet::read(offload, frame);
            let Transport::Udp(port, 53) = joined.transport else { panic!("{joined:?}") };
            let from = [1, 3, 4, 5][usize::from((port - 5000) % 4)];
            let expected: Vec<Packet> = (0..4).map(|place| datagram(from, port - 5000, place)).collect();
            assert_eq!(joined.segments(64), hops(&expected, 2));
        }
    }
}

#[test]
fn order_per_flow_is_kept_around_frames_that_cannot_be_joined() {
    let mut rig = Rig::new(&[PLAIN, ABLE]);
    let sizes = [100, 100, 60, 100, 100, 200, 200, 1, 0, 50, 50];
    let sent: Vec<Packet> = (0..).zip(sizes).map(|(id, size)| Packet { id, ..udp(Family::V4, 1, 2, size) }).collect();
    rig.pass(1, &sent);
    let mut seen = Vec::new();
    for (offload, frame) in rig.take_frames(2) {
        let packet = Packet::read(&offload, &frame);
        match offload.gso {
            Gso::None => seen.push(packet),
            _ => seen.extend(packet.segments(offload.gso_size)),
        }
    }
    assert_eq!(seen, hops(&sent, 2));
    assert_eq!(rig.count(2, Count::Joined), 4);
}

#[test]
fn an_unfinished_checksum_is_completed_only_where_it_must_be() {
    for family in FAMILIES {
        for sent in [udp(family, 1, 2, 101), tcp(family, 1, 2, 1400), udp(family, 1, 2, 0)] {
            let (offload, frame) = sent.unfinished();
            for (station, needs_csum) in [(PLAIN, false), (CHECKSUM_ONLY, true), (ABLE, true)] {
                let mut rig = Rig::new(&[ABLE, station]);
                rig.send(1, &offload, &frame);
                rig.settle();
                let [(seen_offload, seen)] = &rig.take_frames(2)[..] else { panic!("one frame") };
                assert_eq!(seen_offload.needs_csum, needs_csum);
                assert_eq!(Packet::read(seen_offload, seen), sent.hop(Mac::GATEWAY, mac(2)));
            }
        }
    }
}

#[test]
fn a_jumbo_frame_keeps_its_tail() {
    let jumbo = Station { mtu: 9000, ..PLAIN };
    let mut rig = Rig::new(&[jumbo, jumbo]);
    for sent in [udp(Family::V4, 1, 2, 8972), udp(Family::V6, 1, 2, 2048 - 62), udp(Family::V6, 1, 2, 2049 - 62)] {
        for unfinished in [false, true] {
            let (offload, frame) = if unfinished { sent.unfinished() } else { (Offload::default(), sent.frame()) };
            rig.send(1, &offload, &frame);
            rig.settle();
            assert_eq!(rig.take(2), [sent.hop(Mac::GATEWAY, mac(2))]);
        }
    }
}

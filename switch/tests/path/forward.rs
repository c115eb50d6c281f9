//! Forwarding: from pod to pod, to the host and back.

use std::net::IpAddr;

use packet::view::Family;
use packet::{FRAME_LEN_MAX, Mac, Offload, Punt};
use podswitch::port::Count;
use podswitch::world::{BLACKHOLE, hop_of};

use crate::frames::{Packet, Transport};
use crate::rig::{ABLE, HOST, PLAIN, Rig, mac, tcp, udp, v4};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

#[test]
fn a_packet_goes_one_hop_to_the_next_station() {
    for family in FAMILIES {
        for station in [ABLE, PLAIN] {
            let mut rig = Rig::new(&[station, station]);
            for sent in [udp(family, 1, 2, 100), tcp(family, 1, 2, 1), Packet { ttl: 2, ..udp(family, 1, 2, 0) }] {
                rig.pass(1, std::slice::from_ref(&sent));
                assert_eq!(rig.take(2), [sent.hop(Mac::GATEWAY, mac(2))]);
            }
            assert!(rig.is_silent());
            let bytes = rig.count(1, Count::ReceivedBytes);
            assert_eq!((rig.count(1, Count::Received), rig.count(2, Count::Sent)), (3, 3));
            assert_eq!(rig.count(2, Count::SentBytes), bytes);
        }
    }
}

#[test]
fn every_ttl_keeps_the_header_checksum_right() {
    let mut rig = Rig::new(&[ABLE, ABLE]);
    for ttl in 2..=255 {
        for id in [0, 0x00ff, 0x7fff, 0xff00, 0xffff] {
            let sent = Packet { ttl, id, ..udp(Family::V4, 1, 2, 3) };
            rig.pass(1, std::slice::from_ref(&sent));
            assert_eq!(rig.take(2), [sent.hop(Mac::GATEWAY, mac(2))]);
        }
    }
}

#[test]
fn what_is_no_pods_goes_to_the_host_and_the_host_reaches_pods() {
    let outside: [IpAddr; 2] = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
    for (family, outside) in FAMILIES.into_iter().zip(outside) {
        let mut rig = Rig::new(&[PLAIN]);
        let out = udp(family, 1, 2, 10);
        let out = Packet { addresses: (out.addresses.0, outside), ..out };
        rig.pass(1, std::slice::from_ref(&out));
        assert_eq!(rig.take(HOST), [out.hop(Mac::GATEWAY, mac(HOST))]);
        let back = Packet { macs: (mac(HOST), Mac::GATEWAY), addresses: (outside, out.addresses.0), ..out };
        rig.pass(HOST, std::slice::from_ref(&back));
        assert_eq!(rig.take(1), [back.hop(Mac::GATEWAY, mac(1))]);
    }
}

#[test]
fn padding_of_the_link_is_cut_off() {
    let mut rig = Rig::new(&[PLAIN, ABLE]);
    for family in FAMILIES {
        let sent = udp(family, 1, 2, 1);
        for length in [80, 2048, 2049, 9000, FRAME_LEN_MAX] {
            let mut padded = sent.frame();
            padded.resize(length, 0xaa);
            rig.send(1, &Offload::default(), &padded);
            rig.settle();
            assert_eq!(rig.take(2), [sent.hop(Mac::GATEWAY, mac(2))]);
        }
    }
}

#[test]
fn the_longest_prefix_decides_and_a_changed_route_counts_at_once() {
    let mut rig = Rig::new(&[ABLE, ABLE, ABLE]);
    let to = |address: &str| Packet { addresses: (v4(1).into(), address.parse().unwrap()), ..udp(Family::V4, 1, 2, 5) };
    rig.route("198.51.100.0/24", hop_of(2));
    rig.route("198.51.100.128/25", hop_of(3));
    rig.route("198.51.100.200/32", BLACKHOLE);
    rig.pass(1, &[to("198.51.100.1"), to("198.51.100.129"), to("198.51.100.200"), to("198.51.101.1")]);
    let destinations =
        |packets: Vec<Packet>| packets.iter().map(|packet| packet.addresses.1.to_string()).collect::<Vec<_>>();
    assert_eq!(destinations(rig.take(2)), ["198.51.100.1"]);
    assert_eq!(destinations(rig.take(3)), ["198.51.100.129"]);
    assert_eq!(destinations(rig.take(HOST)), ["198.51.101.1"]);
    rig.route("198.51.100.128/25", hop_of(2));
    rig.pass(1, &[to("198.51.100.129")]);
    assert_eq!(destinations(rig.take(2)), ["198.51.100.129"]);
}

#[test]
fn fragments_and_unknown_transports_pass_as_they_are() {
    let mut rig = Rig::new(&[PLAIN, PLAIN]);
    let transports = [
        Transport::Fragment(17, 0, true),
        Transport::Fragment(17, 64, true),
        Transport::Fragment(6, 128, false),
        Transport::Raw(132),
        Transport::Raw(50),
        Transport::Icmp(8, 0, 7 << 16 | 1),
        Transport::Icmp(3, 4, 1400),
    ];
    let sent = transports.map(|transport| Packet { transport, ..udp(Family::V4, 1, 2, 64) });
    rig.pass(1, &sent);
    assert_eq!(rig.take(2), sent.map(|packet| packet.hop(Mac::GATEWAY, mac(2))));
}

#[test]
fn ipv6_extension_headers_pass_and_the_transport_behind_them_is_known() {
    let mut rig = Rig::new(&[PLAIN, PLAIN]);
    let inner = udp(Family::V6, 1, 2, 20).frame();
    // Hop-by-hop options of 8 bytes, then destination options of 16, both of padding alone.
    let extensions = [&[60, 0, 1, 4, 0, 0, 0, 0, 17, 1, 1, 12][..], &[0; 12]].concat();
    let mut frame = [&inner[..54], &extensions, &inner[54..]].concat();
    frame[18..20].copy_from_slice(&((inner.len() - 54 + extensions.len()) as u16).to_be_bytes());
    frame[20] = 0;
    rig.send(1, &Offload::default(), &frame);
    rig.settle();
    let (_, seen) = rig.take_frames(2).remove(0);
    let mut expected = frame.clone();
    expected[..6].copy_from_slice(&mac(2).0);
    expected[6..12].copy_from_slice(&Mac::GATEWAY.0);
    expected[21] = 63;
    assert_eq!(seen, expected);
    // A hop limit used up is still told apart from ICMPv6 that the switch consumes.
    frame[21] = 1;
    rig.send(1, &Offload::default(), &frame);
    rig.settle();
    assert_eq!(rig.punted(1), [(Punt::TtlExceeded, 1)]);
}

#[test]
fn a_pod_talks_to_itself_through_the_switch() {
    let mut rig = Rig::new(&[PLAIN]);
    let sent = udp(Family::V4, 1, 1, 9);
    rig.pass(1, std::slice::from_ref(&sent));
    assert_eq!(rig.take(1), [sent.hop(Mac::GATEWAY, mac(1))]);
}

#[test]
fn all_ports_of_a_turn_are_served_and_order_per_flow_is_kept() {
    let mut rig = Rig::new(&[PLAIN; 8]);
    for place in 0..60 {
        for from in 1..=8 {
            let sent = Packet { id: place, ..udp(Family::V4, from, from % 8 + 1, 4) };
            rig.send(from, &Offload::default(), &sent.frame());
        }
    }
    rig.settle();
    for to in 1..=8 {
        let ids: Vec<u16> = rig.take(to).iter().map(|packet| packet.id).collect();
        assert_eq!(ids, (0..60).collect::<Vec<u16>>());
    }
}

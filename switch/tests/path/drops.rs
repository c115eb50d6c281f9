//! Every reason to drop a frame that the path can produce, and that it is counted as that and as nothing else.

use std::net::{IpAddr, Ipv4Addr};

use packet::view::Family;
use packet::{Gso, Mac, Offload, Reason};
use podswitch::world::{Adjacency, BLACKHOLE, Hop, hop_of};

use crate::frames::{Packet, Transport};
use crate::rig::{ABLE, HOST, PLAIN, Rig, Station, WIRE_FRAMES, mac, tcp, udp, v4};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Sends one frame and says why it was dropped; it must have been, and nothing may have been said about it.
fn reason(rig: &mut Rig, port: u16, offload: &Offload, frame: &[u8]) -> Reason {
    let before = rig.dropped(port);
    rig.send(port, offload, frame);
    rig.settle();
    assert!(rig.is_silent(), "a dropped frame is not answered");
    let risen: Vec<(Reason, u64)> = rig.dropped(port).into_iter().filter(|now| !before.contains(now)).collect();
    let [(reason, _)] = risen[..] else { panic!("{} drops", risen.len()) };
    reason
}

fn reason_of(port: u16, packet: &Packet) -> Reason {
    reason(&mut Rig::new(&[ABLE, PLAIN]), port, &Offload::default(), &packet.frame())
}

fn icmp(packet: Packet, kind: u8) -> Packet {
    Packet { transport: Transport::Icmp(kind, 0, 0), ..packet }
}

#[test]
fn a_source_that_is_not_the_pods_own_is_spoofed() {
    let foreign: [[IpAddr; 4]; 2] = [
        ["10.244.1.2", "10.244.0.1", "0.0.0.0", "127.0.0.1"].map(|text| text.parse().unwrap()),
        ["fd00:10:244::1:2", "fd00:10:244::1", "::", "fe80::1"].map(|text| text.parse().unwrap()),
    ];
    for (family, foreign) in FAMILIES.into_iter().zip(foreign) {
        for source in foreign {
            let packet = udp(family, 1, 2, 10);
            let packet = Packet { addresses: (source, packet.addresses.1), ..packet };
            assert_eq!(reason_of(1, &packet), Reason::SpoofedSource, "{source}");
        }
    }
}

#[test]
fn a_foreign_ethernet_source_is_dropped_in_strict_mode_only() {
    let packet = Packet { macs: (mac(9), Mac::GATEWAY), ..udp(Family::V4, 1, 2, 10) };
    let mut strict = Rig::new(&[Station { strict_mac: true, ..ABLE }, PLAIN]);
    assert_eq!(reason(&mut strict, 1, &Offload::default(), &packet.frame()), Reason::SpoofedMac);
    strict.pass(1, &[udp(Family::V4, 1, 2, 10)]);
    assert_eq!(strict.take(2).len(), 1);
    let mut lenient = Rig::new(&[ABLE, PLAIN]);
    lenient.pass(1, &[packet]);
    assert_eq!(lenient.take(2).len(), 1);
}

#[test]
fn frames_to_another_station_or_of_an_unknown_kind_are_dropped() {
    let packet = udp(Family::V6, 1, 2, 10);
    assert_eq!(reason_of(1, &Packet { macs: (mac(1), mac(2)), ..packet.clone() }), Reason::OtherStation);
    let mut frame = packet.frame();
    for ethertype in [0x8100_u16, 0x88cc, 0x0000, 0x05dc, 0xffff] {
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        assert_eq!(reason(&mut Rig::new(&[ABLE]), 1, &Offload::default(), &frame), Reason::UnknownEthertype);
    }
}

#[test]
fn a_frame_cut_off_anywhere_is_dropped() {
    for family in FAMILIES {
        let frame = tcp(family, 1, 2, 30).frame();
        let mut rig = Rig::new(&[ABLE, PLAIN]);
        for length in 0..frame.len() {
            let header_end = if family == Family::V4 { 34 } else { 54 };
            let expected = if length < header_end { Reason::Truncated } else { Reason::BadIpLength };
            assert_eq!(reason(&mut rig, 1, &Offload::default(), &frame[..length]), expected, "{length} bytes");
        }
    }
    let (offload, frame) = tcp(Family::V4, 1, 2, 3000).super_frame(1000);
    let mut rig = Rig::new(&[ABLE, ABLE]);
    for length in [0, 13, 14, 33, 34, 54, 2047, 2048, 2049, frame.len() - 1] {
        let expected = if length < 34 { Reason::Truncated } else { Reason::BadIpLength };
        assert_eq!(reason(&mut rig, 1, &offload, &frame[..length]), expected, "{length} bytes");
    }
}

#[test]
fn a_cut_off_arp_packet_is_neither_answered_nor_dropped_as_another() {
    let frame = crate::frames::arp_request((mac(1), v4(1)), v4(2));
    let mut rig = Rig::new(&[ABLE]);
    for length in 14..frame.len() {
        rig.send(1, &Offload::default(), &frame[..length]);
    }
    rig.settle();
    assert!(rig.is_silent() && rig.dropped(1).is_empty());
}

#[test]
fn every_bit_of_an_ipv4_header_is_covered_by_its_checksum() {
    let frame = udp(Family::V4, 1, 2, 10).frame();
    let mut rig = Rig::new(&[ABLE, PLAIN]);
    for bit in 14 * 8..34 * 8 {
        let mut damaged = frame.clone();
        damaged[bit / 8] ^= 0x80 >> (bit % 8);
        let seen = reason(&mut rig, 1, &Offload::default(), &damaged);
        assert!(matches!(seen, Reason::BadIpChecksum | Reason::BadIpHeader | Reason::BadIpLength), "{seen:?}");
    }
}

#[test]
fn ip_versions_header_lengths_and_lengths_that_cannot_be_are_dropped() {
    let (frame_v4, frame_v6) = (udp(Family::V4, 1, 2, 10).frame(), udp(Family::V6, 1, 2, 10).frame());
    let cases = [
        (&frame_v4, 14, 0x65, Reason::BadIpHeader),
        (&frame_v4, 14, 0x44, Reason::BadIpHeader),
        (&frame_v4, 17, 19, Reason::BadIpLength),
        (&frame_v4, 17, 39, Reason::BadIpLength),
        (&frame_v4, 16, 0xff, Reason::BadIpLength),
        (&frame_v6, 14, 0x40, Reason::BadIpHeader),
        (&frame_v6, 19, 19, Reason::BadIpLength),
        (&frame_v6, 18, 0xff, Reason::BadIpLength),
    ];
    for (frame, at, byte, expected) in cases {
        let mut damaged = frame.clone();
        damaged[at] = byte;
        assert_eq!(reason(&mut Rig::new(&[ABLE, PLAIN]), 1, &Offload::default(), &damaged), expected, "{at}: {byte}");
    }
}

#[test]
fn extension_headers_that_reach_beyond_the_packet_are_dropped() {
    let chain = [60, 0, 1, 4, 0, 0, 0, 0].repeat(150);
    for extensions in [&[][..], &[17, 0, 1, 4], &[17, 1, 1, 4, 0, 0, 0, 0], &[43, 0, 1, 4, 0, 0, 0, 0], &chain] {
        let bare = Packet { transport: Transport::Raw(59), ..udp(Family::V6, 1, 2, 0) };
        let mut frame = Packet { payload: extensions.to_vec(), ..bare }.frame();
        frame[20] = 0;
        let seen = reason(&mut Rig::new(&[ABLE, PLAIN]), 1, &Offload::default(), &frame);
        assert_eq!(seen, Reason::BadExtensionHeader, "{} bytes", extensions.len());
    }
}

#[test]
fn group_traffic_is_dropped_by_what_it_is() {
    let group = |packet: Packet, mac: [u8; 6], address: &str| Packet {
        macs: (packet.macs.0, Mac(mac)),
        addresses: (packet.addresses.0, address.parse().unwrap()),
        ..packet
    };
    let mdns_v4 = group(udp(Family::V4, 1, 2, 9), [1, 0, 0x5e, 0, 0, 0xfb], "224.0.0.251");
    let mdns_v6 = group(udp(Family::V6, 1, 2, 9), [0x33, 0x33, 0, 0, 0, 0xfb], "ff02::fb");
    assert_eq!(reason_of(1, &mdns_v4), Reason::Multicast);
    assert_eq!(reason_of(1, &mdns_v6), Reason::Multicast);
    assert_eq!(reason_of(1, &group(mdns_v4.clone(), Mac::GATEWAY.0, "224.0.0.251")), Reason::Multicast);
    assert_eq!(reason_of(1, &group(mdns_v6.clone(), Mac::GATEWAY.0, "ff02::fb")), Reason::Multicast);
    assert_eq!(reason_of(1, &group(mdns_v4.clone(), Mac::GATEWAY.0, "255.255.255.255")), Reason::Multicast);
    let dhcp = Packet { addresses: (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into()), ..mdns_v4.clone() };
    assert_eq!(reason_of(1, &Packet { macs: (mac(1), Mac::BROADCAST), ..dhcp }), Reason::Multicast);
    assert_eq!(reason_of(1, &Packet { transport: Transport::Raw(2), ..mdns_v4 }), Reason::Igmp);
    for kind in [130, 131, 132, 143] {
        assert_eq!(reason_of(1, &icmp(mdns_v6.clone(), kind)), Reason::Mld);
    }
    assert_eq!(reason_of(1, &icmp(mdns_v6.clone(), 133)), Reason::RouterSolicitation);
    let report = icmp(Packet { addresses: ("::".parse().unwrap(), mdns_v6.addresses.1), ..mdns_v6 }, 143);
    assert_eq!(reason_of(1, &report), Reason::Mld, "from the unspecified address, as while addresses are checked");
}

#[test]
fn redirects_and_router_advertisements_of_the_host_are_dropped() {
    let from_host = |family| Packet { macs: (mac(HOST), Mac::GATEWAY), ..udp(family, 2, 1, 20) };
    assert_eq!(reason_of(HOST, &icmp(from_host(Family::V4), 5)), Reason::Redirect);
    assert_eq!(reason_of(HOST, &icmp(from_host(Family::V6), 137)), Reason::Redirect);
    assert_eq!(reason_of(HOST, &icmp(from_host(Family::V6), 134)), Reason::Redirect);
}

#[test]
fn a_blackhole_and_what_is_routed_nowhere_swallow_silently() {
    let to = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        let packet = udp(if address.is_ipv4() { Family::V4 } else { Family::V6 }, 1, 2, 10);
        Packet { addresses: (packet.addresses.0, address), ..packet }
    };
    for address in ["0.0.0.0", "127.0.0.1", "169.254.7.7", "::1", "::", "fe80::7"] {
        assert_eq!(reason_of(1, &to(address)), Reason::Unroutable, "{address}");
    }
    let mut rig = Rig::new(&[ABLE]);
    rig.route("203.0.113.0/24", BLACKHOLE);
    assert_eq!(reason(&mut rig, 1, &Offload::default(), &to("203.0.113.9").frame()), Reason::Blackhole);
    let link_local = Packet { addresses: ("fe80::5".parse().unwrap(), "fe80::7".parse().unwrap()), ..to("fe80::7") };
    assert_eq!(reason_of(1, &link_local), Reason::Unroutable, "a link-local source passes to link-local ones alone");
}

#[test]
fn what_the_host_sent_does_not_go_back_to_the_host() {
    for (family, outside) in [(Family::V4, "192.0.2.1"), (Family::V6, "2001:db8::1")] {
        let packet = udp(family, 1, 2, 10);
        let packet = Packet { addresses: (packet.addresses.0, outside.parse().unwrap()), ..packet };
        assert_eq!(reason_of(HOST, &Packet { macs: (mac(HOST), Mac::GATEWAY), ..packet }), Reason::HostToHost);
    }
}

#[test]
fn a_virtio_header_that_contradicts_its_frame_is_dropped() {
    let tcp4 = tcp(Family::V4, 1, 2, 3000).super_frame(1000);
    let (good, ref frame) = tcp4;
    let damaged = [
        Offload { gso: Gso::Tcp6, ..good },
        Offload { gso: Gso::Udp, ..good },
        Offload { gso_size: 0, ..good },
        Offload { needs_csum: false, ..good },
        Offload { csum_start: good.csum_start + 2, ..good },
        Offload { csum_start: 0, ..good },
        Offload { csum_start: u16::MAX, csum_offset: u16::MAX, ..good },
        Offload { csum_offset: 3000, ..good },
    ];
    let mut rig = Rig::new(&[ABLE, PLAIN]);
    for offload in damaged {
        assert_eq!(reason(&mut rig, 1, &offload, frame), Reason::BadOffload, "{offload:?}");
    }
    let (good, frame) = udp(Family::V6, 1, 2, 100).super_frame(50);
    assert_eq!(reason(&mut rig, 1, &Offload { gso: Gso::Tcp6, ..good }, &frame), Reason::BadOffload);
    // No payload beyond the headers, and a fragment, cannot be super-frames.
    let (good, frame) = udp(Family::V4, 1, 2, 0).super_frame(50);
    assert_eq!(reason(&mut rig, 1, &good, &frame), Reason::BadOffload);
    let fragment = Packet { transport: Transport::Fragment(17, 0, true), ..udp(Family::V4, 1, 2, 100) };
    assert_eq!(reason(&mut rig, 1, &good, &fragment.frame()), Reason::BadOffload);
}

#[test]
fn a_checksum_to_be_completed_cannot_lie_in_the_headers_that_were_checked() {
    // Completing it would write into the source address, after it was found to be the pod's own.
    for (family, source) in [(Family::V4, 26), (Family::V6, 22)] {
        let frame = udp(family, 1, 2, 100).frame();
        let offload = Offload { needs_csum: true, csum_start: 14, csum_offset: source - 14, ..Offload::default() };
        for receiver in [PLAIN, ABLE] {
            let seen = reason(&mut Rig::new(&[ABLE, receiver]), 1, &offload, &frame);
            assert_eq!(seen, Reason::BadOffload);
        }
    }
}

#[test]
fn a_super_frame_that_cannot_be_cut_is_dropped_where_it_must_be() {
    let (offload, mut frame) = tcp(Family::V4, 1, 2, 3000).super_frame(1000);
    // A TCP header said to be shorter than one is.
    frame[34 + 12] = 0x40;
    let mut rig = Rig::new(&[ABLE, PLAIN]);
    assert_eq!(reason(&mut rig, 1, &offload, &frame), Reason::Uncuttable);
    let (offload, frame) = tcp(Family::V6, 1, 2, 60_000).super_frame(1);
    assert_eq!(reason(&mut rig, 1, &offload, &frame), Reason::Uncuttable, "sixty thousand segments");
}

#[test]
fn a_wire_that_takes_no_more_costs_the_frames_and_says_so() {
    let mut rig = Rig::new(&[ABLE, PLAIN, ABLE]);
    let packet = udp(Family::V4, 1, 2, 10);
    for _ in 0..WIRE_FRAMES / 50 + 1 {
        rig.pass(1, &vec![packet.clone(); 50]);
    }
    let refused = rig.dropped(1);
    let [(Reason::WriteFailed, count)] = refused[..] else { panic!("{refused:?}") };
    assert_eq!(rig.take(2).len() + count as usize, (WIRE_FRAMES / 50 + 1) * 50);
    rig.pass(1, &[packet]);
    assert_eq!((rig.take(2).len(), rig.dropped(1)), (1, refused));
}

#[test]
fn a_port_that_left_after_the_lookup_costs_the_frame() {
    let mut rig = Rig::new(&[ABLE, PLAIN]);
    rig.world.ports[2] = None;
    let frame = udp(Family::V4, 1, 2, 10).frame();
    assert_eq!(reason(&mut rig, 1, &Offload::default(), &frame), Reason::PortGone);
    // Once its adjacency is gone too, there is no route.
    rig.world.set_adjacencies([(hop_of(2), Adjacency::of(Hop::Drop(Reason::Blackhole)))]);
    assert_eq!(reason(&mut rig, 1, &Offload::default(), &frame), Reason::Blackhole);
}

//! Stamp, then strip: the same frame; and what lies between is what etherparse would have written.

use encap::{Inner, ROOM, SOURCE_PORTS, Stamp, ecn, vxlan_header};
use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use packet::checksum::{pseudo_v4, pseudo_v6};
use packet::view::ETHERNET_LEN;
use packet::{FrameRef, Mac, Offload, Vni, complete_checksum};
use proptest::prelude::*;

use crate::tunnels::{END_MAC_BYTES, Kind, SENDER_V4, SENDER_V6, STATIONS, finished, frames, inner, ordinary, stamped};

proptest! {
    #[test]
    fn stripping_undoes_stamping((kind, inner, stamp) in frames(), at in 70usize..400, (checksum, padding) in any::<(bool, u8)>()) {
        let template = kind.template();
        let template = if checksum { template.with_udp_checksum() } else { template };
        let mut frame = stamped(&template, &inner, &stamp);
        if checksum || kind == Kind::VxlanV6 {
            frame = finished(frame, kind);
        }
        frame.extend(vec![0xee; usize::from(padding % 20)]);
        let outer = kind.outer(&frame, at, false).unwrap();
        prop_assert!(outer.source == SENDER_V4 || outer.source == SENDER_V6);
        prop_assert_eq!(outer.tos, ecn::outer(stamp.tos));
        let found = kind.tunnel().strip(outer.payload).unwrap();
        let start = ETHERNET_LEN + outer.start;
        prop_assert_eq!(&frame[start + found.at.start..start + found.at.end], &inner[..]);
        prop_assert!(!found.group);
    }

    #[test]
    fn etherparse_reads_what_was_meant((kind, inner, stamp) in frames(), dont_fragment: bool) {
        let template = kind.template();
        let template = if dont_fragment { template.with_dont_fragment() } else { template };
        let frame = stamped(&template, &inner, &stamp);
        let packet = PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let link = packet.link.unwrap().ethernet2().unwrap();
        prop_assert_eq!((Mac(link.source), Mac(link.destination)), STATIONS);
        match packet.net.as_ref().unwrap() {
            NetHeaders::Ipv4(ip, _) => {
                prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                prop_assert_eq!(usize::from(ip.total_len), frame.len() - ETHERNET_LEN);
                prop_assert_eq!((ip.source, ip.time_to_live, ip.identification), (SENDER_V4.octets(), 64, stamp.id));
                prop_assert_eq!((ip.dont_fragment, ip.dscp.value(), ip.ecn.value()), (dont_fragment, 0, stamp.tos & 3));
            }
            NetHeaders::Ipv6(ip, _) => {
                prop_assert_eq!(usize::from(ip.payload_length), frame.len() - ETHERNET_LEN - 40);
                prop_assert_eq!((ip.source, ip.hop_limit), (SENDER_V6.octets(), 64));
                prop_assert_eq!((ip.traffic_class, ip.flow_label.value()), (stamp.tos & 3, 0));
            }
            other => panic!("{other:?}"),
        }
        if let Some(TransportHeader::Udp(udp)) = packet.transport.filter(|_| kind.is_udp()) {
            prop_assert!(SOURCE_PORTS.contains(&udp.source_port));
            prop_assert_eq!(usize::from(udp.length), frame.len() - kind.network_end());
            prop_assert_eq!(udp.checksum == 0, kind != Kind::VxlanV6);
        }
        let own = if kind.is_vxlan() { vxlan_header(Vni::FLANNEL).to_vec() } else { vec![] };
        prop_assert!(frame.ends_with(&[own, inner].concat()));
        prop_assert_eq!(frame.len() - ETHERNET_LEN, frame_len_inside(kind, &frame) + usize::from(template.overhead()));
    }

    /// Whoever finishes the checksum gets what etherparse computes from scratch.
    #[test]
    fn an_unfinished_udp_checksum_is_the_bare_pseudo_header_s((kind, inner, stamp) in frames()) {
        prop_assume!(kind.is_udp());
        let mut frame = stamped(&kind.template().with_udp_checksum(), &inner, &stamp);
        let at = kind.network_end();
        let length = frame.len() - at;
        let ip = &frame[ETHERNET_LEN..];
        let bare = match kind {
            Kind::VxlanV6 => pseudo_v6(SENDER_V6, ip[24..40].first_chunk().copied().map(Into::into).unwrap(), 17, length as u32),
            _ => pseudo_v4(SENDER_V4, ip[16..20].first_chunk().copied().map(Into::into).unwrap(), 17, length as u16),
        };
        prop_assert_eq!(frame[at + 6..at + 8].to_vec(), bare.fold().to_be_bytes().to_vec());
        let expected = finished(frame.clone(), kind);
        let mut offload = Offload { needs_csum: true, csum_start: at as u16, csum_offset: 6, ..Offload::default() };
        complete_checksum(&mut frame, &[], &mut offload).unwrap();
        prop_assert_eq!(frame, expected);
    }
}

/// Bytes of the inner IP packet.
fn frame_len_inside(kind: Kind, frame: &[u8]) -> usize {
    let Inner { at, .. } = kind.strip(&finished(frame.to_vec(), kind)).unwrap();
    at.len() - if kind.is_vxlan() { ETHERNET_LEN } else { 0 }
}

#[test]
fn an_outer_packet_longer_than_its_length_field_is_not_stamped() {
    for (kind, longest) in [
        (Kind::VxlanV4, 65_535 - 36),
        (Kind::VxlanV6, 65_535 - 16),
        (Kind::FlannelUdp, 65_535 - 28),
        (Kind::Ipip, 65_535 - 20),
    ] {
        let stamp = |length: usize| {
            let mut room = [0xaa; ROOM];
            let count = kind.template().stamp(&mut room, &Stamp { length, flow_hash: 0, tos: 0, id: 0 });
            (count, room == [0xaa; ROOM])
        };
        assert_eq!(stamp(longest), (Some(kind.template().header_len()), false));
        assert_eq!(stamp(longest + 1), (None, true), "{kind:?}");
        assert_eq!(stamp(usize::from(u16::MAX) + 50), (None, true));
    }
}

#[test]
fn a_flow_keeps_its_source_port_and_others_have_theirs() {
    let port = |flow_hash: u32| {
        let stamp = Stamp { length: 0, flow_hash, tos: 0, id: 0 };
        let frame = stamped(&Kind::VxlanV4.template(), &inner(Kind::VxlanV4, false, b""), &stamp);
        u16::from_be_bytes([frame[34], frame[35]])
    };
    assert_eq!(port(7 << 20), port(7 << 20));
    assert_ne!(port(7 << 20), port(8 << 20));
}

#[test]
fn a_super_frame_is_accepted() {
    for kind in [Kind::VxlanV4, Kind::Ipip] {
        let frame = stamped(
            &kind.template(),
            &inner(kind, false, &vec![7; 60_000]),
            &Stamp { length: 0, flow_hash: 0, tos: 0, id: 0 },
        );
        assert!(kind.strip(&frame).is_ok());
        let (head, tail) = frame.split_at(2048);
        let outer = kind.outer(&frame, 2048 - ETHERNET_LEN, false).unwrap();
        assert_eq!(outer.payload.tail, tail);
        assert!(head.ends_with(outer.payload.head));
    }
}

#[test]
fn a_broadcast_inside_is_said_to_be_one() {
    for group in [Mac::BROADCAST, Mac([0x33, 0x33, 0xff, 0, 0, 1])] {
        let mut frame = ordinary(Kind::VxlanV4);
        let at = 50;
        assert_eq!(frame[at..at + 6], END_MAC_BYTES);
        frame[at..at + 6].copy_from_slice(&group.0);
        let inner = Kind::VxlanV4.strip(&finished(frame.clone(), Kind::VxlanV4)).unwrap();
        assert_eq!((inner.at, inner.group), (at..frame.len(), true));
    }
    let payload = &ordinary(Kind::VxlanV4)[42..];
    let socket = Kind::VxlanV4.tunnel().strip(FrameRef { head: payload, tail: &[] }).unwrap();
    assert_eq!((socket.at, socket.group), (8..payload.len(), false));
}

//! Fragmentation: what comes out is put together again and compared.

use etherparse::{IpFragOffset, Ipv4Header, Ipv4Options, TcpHeader};
use packet::Gso;

use super::*;

/// An IPv4 packet of `protocol`, the header as `change` leaves it.
fn packet(protocol: IpNumber, payload: &[u8], change: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
    let length = payload.len() as u16;
    let mut header = Ipv4Header::new(length, 33, protocol, POD_V4.octets(), NEXT_V4.octets()).unwrap();
    header.identification = 0xfffe;
    header.dont_fragment = false;
    change(&mut header);
    header.total_len = header.header_len() as u16 + length;
    header.header_checksum = header.calc_header_checksum();
    [&Mac::GATEWAY.0[..], &POD_MAC.0, &[8, 0], &header.to_bytes(), payload].concat()
}

fn fragments(punted: &Punted<'_>) -> Vec<(Ipv4Header, Vec<u8>)> {
    let mut out = Vec::new();
    assert_eq!(slow_path().answer(punted, Duration::ZERO, &mut out), Outcome::Answered);
    out.iter().map(|answer| split(answer, punted.to.unwrap())).collect()
}

/// Header and payload of a frame to `to`, the header verified.
fn split(answer: &Answer, to: Side<'_>) -> (Ipv4Header, Vec<u8>) {
    assert_eq!(answer.port, to.port);
    assert_eq!(answer.frame[..14], [&to.mac.0[..], &to.gateway.0, &[8, 0]].concat());
    assert!(answer.frame.len() <= 14 + usize::from(to.mtu));
    let (header, payload) = Ipv4Header::from_slice(&answer.frame[14..]).unwrap();
    assert_eq!(header.calc_header_checksum(), header.header_checksum);
    assert_eq!(usize::from(header.payload_len().unwrap()), payload.len());
    assert_eq!((header.source, header.destination, header.time_to_live), (POD_V4.octets(), NEXT_V4.octets(), 32));
    (header, payload.to_vec())
}

/// Puts fragments together, which follow each other without a gap from `start` on.
fn joined(fragments: &[(Ipv4Header, Vec<u8>)], start: u16) -> Vec<u8> {
    let mut whole = Vec::new();
    for (header, payload) in fragments {
        assert_eq!(usize::from(header.fragment_offset.byte_offset()), usize::from(start) + whole.len());
        whole.extend(payload);
    }
    whole
}

fn counting(length: usize) -> Vec<u8> {
    (0..length).map(|byte| (byte % 251) as u8).collect()
}

#[test]
fn the_pieces_give_the_packet() {
    for mtu in [68, 576, 1280, 1400, 1403] {
        for length in [1390, 1448, 1480, 8972, 60_000] {
            let payload = counting(length);
            let frame = packet(IpNumber::UDP, &payload, |_| {});
            let punt = Punted { to: Some(Side { mtu, ..NEXT }), ..punted(Punt::Fragment, &frame, POD) };
            let pieces = fragments(&punt);
            assert_eq!(joined(&pieces, 0), payload);
            let room = usize::from(mtu - 20) / 8 * 8;
            let (last, others) = pieces.split_last().unwrap();
            assert!(others.iter().all(|(header, payload)| header.more_fragments && payload.len() == room));
            assert!(!last.0.more_fragments && pieces.iter().all(|(header, _)| header.identification == 0xfffe));
        }
    }
}

#[test]
fn a_fragment_is_cut_again() {
    for more_fragments in [false, true] {
        let payload = counting(1480);
        let frame = packet(IpNumber::UDP, &payload, |header| {
            header.fragment_offset = IpFragOffset::try_new(370).unwrap();
            header.more_fragments = more_fragments;
        });
        let pieces = fragments(&punted(Punt::Fragment, &frame, POD));
        assert_eq!(joined(&pieces, 2960), payload);
        let more: Vec<_> = pieces.iter().map(|(header, _)| header.more_fragments).collect();
        assert_eq!(more, [true, more_fragments]);
    }
}

#[test]
fn only_copied_options_go_with_later_pieces() {
    let router_alert = [0x94, 4, 0, 0];
    let record_route = [7, 7, 4, 0, 0, 0, 0];
    let options = [&[1][..], &record_route, &router_alert].concat();
    let frame = packet(IpNumber::UDP, &counting(4000), |header| {
        header.options = Ipv4Options::try_from(&options[..]).unwrap();
    });
    let pieces = fragments(&punted(Punt::Fragment, &frame, POD));
    assert_eq!(joined(&pieces, 0), counting(4000));
    assert_eq!(pieces[0].0.options[..], options[..]);
    assert!(pieces.len() == 3 && pieces[1..].iter().all(|(header, _)| header.options[..] == router_alert));
}

#[test]
fn an_unfinished_checksum_is_finished_before() {
    let mut frame = udp(&POD, POD_V4.into(), NEXT_V4.into(), 3000);
    let finished = frame.clone();
    frame[20] = 0;
    let pseudo = packet::checksum::pseudo_v4(POD_V4, NEXT_V4, 17, 3008).fold();
    frame[40..42].copy_from_slice(&pseudo.to_be_bytes());
    frame.extend([0xaa; 3]);
    let offload = Offload { needs_csum: true, csum_start: 34, csum_offset: 6, ..Offload::default() };
    let punt = Punted { offload, ..punted(Punt::Fragment, &frame, POD) };
    assert_eq!(joined(&fragments(&punt), 0), &finished[34..]);
    for (csum_start, csum_offset) in [(0, 6), (34, 3007), (60_000, 60_000), (3041, 0)] {
        let offload = Offload { csum_start, csum_offset, ..offload };
        assert_eq!(outcome(&Punted { offload, ..punt }), Outcome::Malformed);
    }
}

/// A TCP super-frame of `length` payload bytes in segments of 1 448, its checksum unfinished.
pub(super) fn super_frame(length: usize, dont_fragment: bool) -> (Vec<u8>, Offload) {
    let mut tcp = TcpHeader::new(4000, 80, 0xffff_fff0, 512);
    (tcp.ack, tcp.psh) = (true, true);
    tcp.checksum = packet::checksum::pseudo_v4(POD_V4, NEXT_V4, 6, 20 + length as u16).fold();
    let payload = [&tcp.to_bytes()[..], &counting(length)].concat();
    let frame = packet(IpNumber::TCP, &payload, |header| header.dont_fragment = dont_fragment);
    let (gso, gso_size) = (Gso::Tcp4, 1448);
    let offload = Offload { needs_csum: true, gso, gso_size, csum_start: 34, csum_offset: 16, ..Offload::default() };
    (frame, offload)
}

#[test]
fn a_super_frame_is_cut_and_each_segment_fragmented() {
    let (frame, offload) = super_frame(10_000, false);
    let pieces = fragments(&Punted { offload, ..punted(Punt::Fragment, &frame, POD) });
    let segments: Vec<_> = pieces.chunk_by(|(a, _), (b, _)| a.identification == b.identification).collect();
    assert_eq!(segments.len(), 7);
    let mut payload: Vec<u8> = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        assert_eq!(segment[0].0.identification, 0xfffe_u16.wrapping_add(number as u16));
        let bytes = joined(segment, 0);
        let (tcp, part) = TcpHeader::from_slice(&bytes).unwrap();
        assert_eq!(tcp.sequence_number, 0xffff_fff0_u32.wrapping_add(payload.len() as u32));
        assert_eq!(tcp.calc_checksum_ipv4_raw(POD_V4.octets(), NEXT_V4.octets(), part), Ok(tcp.checksum));
        assert_eq!(segment.len(), if number < 6 { 2 } else { 1 }, "the last fits whole");
        payload.extend(part);
    }
    assert_eq!(payload, counting(10_000));
}

#[test]
fn an_error_about_a_super_frame_quotes_its_first_segment() {
    let (frame, offload) = super_frame(10_000, true);
    let error = read(&answer(&Punted { offload, ..punted(Punt::TooBig, &frame, POD) }));
    assert_eq!((error.kind, error.code, error.word), (3, 4, 1400));
    let (header, quoted) = Ipv4Header::from_slice(&error.payload).unwrap();
    assert_eq!((header.total_len, header.time_to_live, header.identification), (1488, 33, 0xfffe));
    assert_eq!(header.calc_header_checksum(), header.header_checksum);
    let (tcp, _) = TcpHeader::from_slice(quoted).unwrap();
    assert_eq!(tcp.sequence_number, 0xffff_fff0);
    let part = &counting(1448);
    assert_eq!(tcp.calc_checksum_ipv4_raw(POD_V4.octets(), NEXT_V4.octets(), part), Ok(tcp.checksum));
}

#[test]
fn what_cannot_be_fragmented_is_named() {
    let frame = packet(IpNumber::UDP, &counting(1480), |_| {});
    let punt = punted(Punt::Fragment, &frame, POD);
    assert_eq!(outcome(&Punted { to: None, ..punt }), Outcome::NoNextHop);
    assert_eq!(outcome(&Punted { to: Some(Side { mtu: 27, ..NEXT }), ..punt }), Outcome::Unfragmentable);
    assert_eq!(outcome(&Punted { to: Some(Side { mtu: 0, ..NEXT }), ..punt }), Outcome::Unfragmentable);
    assert_eq!(outcome(&Punted { frame: &frame[..1000], ..punt }), Outcome::Malformed);

    let whole = packet(IpNumber::UDP, &counting(1480), |header| header.dont_fragment = true);
    assert_eq!(outcome(&punted(Punt::Fragment, &whole, POD)), Outcome::Unfragmentable);
    let spent = packet(IpNumber::UDP, &counting(1480), |header| header.time_to_live = 1);
    assert_eq!(outcome(&punted(Punt::Fragment, &spent, POD)), Outcome::Malformed);
    let beyond = packet(IpNumber::UDP, &counting(1480), |header| {
        header.fragment_offset = IpFragOffset::try_new(8100).unwrap();
    });
    assert_eq!(outcome(&punted(Punt::Fragment, &beyond, POD)), Outcome::Malformed);
    let v6 = udp(&POD, POD_V6.into(), NEXT_V6.into(), 1480);
    assert_eq!(outcome(&punted(Punt::Fragment, &v6, POD)), Outcome::Malformed);
}

#[test]
fn too_many_pieces_are_none() {
    let (frame, offload) = super_frame(60_000, false);
    let offload = Offload { gso_size: 100, ..offload };
    let to = Some(Side { mtu: 42, ..NEXT });
    let mut out = vec![Answer { port: 0, frame: Vec::new() }];
    let punt = Punted { offload, to, ..punted(Punt::Fragment, &frame, POD) };
    assert_eq!(slow_path().answer(&punt, Duration::ZERO, &mut out), Outcome::Unfragmentable);
    assert_eq!(out.len(), 1, "what was there before stays");
}

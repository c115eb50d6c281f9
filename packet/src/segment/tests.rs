use proptest::prelude::*;

use super::*;
use crate::sample::{Sample, check, samples, segments};
use crate::view::{IPV6_LEN, TCP_LEN};

proptest! {
    #[test]
    fn every_segment_is_right_by_etherparse(sample in samples(), at in 0usize..2000) {
        let (frame, offload) = sample.build();
        let (head, tail) = frame.split_at((usize::from(offload.header_len) + at).min(frame.len()));
        let (frames, _) = segments(FrameRef { head, tail }, &offload, ChecksumForm::Complete);
        prop_assert_eq!(frames.len(), sample.payload.len().div_ceil(sample.size.into()));
        let payload: Vec<u8> = frames.iter().flat_map(|frame| check(frame)).collect();
        prop_assert_eq!(&payload, &sample.payload);
        for (place, frame) in frames.iter().enumerate() {
            let last = place + 1 == frames.len();
            prop_assert!(last || frame.len() == usize::from(offload.header_len + sample.size));
            if sample.family == Family::V4 {
                prop_assert_eq!(Ipv4::parse(&frame[14..]).unwrap().id(), sample.id.wrapping_add(place as u16));
            }
            if let Some((flags, options)) = &sample.tcp {
                let header = &frame[usize::from(offload.csum_start)..];
                let tcp = Tcp::parse(header).unwrap();
                prop_assert_eq!(tcp.sequence(), sample.sequence.wrapping_add(place as u32 * u32::from(sample.size)));
                prop_assert_eq!(tcp.flags(), if last { *flags } else { tcp_flag::ACK });
                prop_assert_eq!(&header[20..tcp.header_len()], &options[..]);
            }
        }
    }

    #[test]
    fn completing_a_partial_segment_gives_the_complete_one(sample in samples(), at in 0usize..300) {
        let (complete, none) = sample.segments(ChecksumForm::Complete);
        let (mut partial, offload) = sample.segments(ChecksumForm::Partial);
        prop_assert_eq!(none, Offload::default());
        for (complete, partial) in complete.iter().zip(&mut partial) {
            let mut offload = offload;
            let at = (usize::from(offload.header_len) + at).min(partial.len());
            let (head, tail) = partial.split_at_mut(at);
            complete_checksum(head, tail, &mut offload).unwrap();
            prop_assert!(!offload.needs_csum);
            prop_assert_eq!(complete, partial);
        }
    }
}

#[test]
fn only_the_first_segment_tells_of_a_reduced_window_and_only_the_last_ends() {
    let mut sample = Sample::tcp(Family::V4);
    sample.tcp.as_mut().unwrap().0 = tcp_flag::ACK | tcp_flag::ECE | tcp_flag::CWR | tcp_flag::PSH | tcp_flag::FIN;
    let (frames, _) = sample.segments(ChecksumForm::Complete);
    let flags: Vec<u16> = frames.iter().map(|frame| Tcp::parse(&frame[34..]).unwrap().flags()).collect();
    let every = tcp_flag::ACK | tcp_flag::ECE;
    assert_eq!(flags, [every | tcp_flag::CWR, every, every | tcp_flag::PSH | tcp_flag::FIN]);
    frames.iter().for_each(|frame| drop(check(frame)));
}

#[test]
fn a_super_frame_of_one_segment_or_of_none_is_one_frame() {
    for length in [0, 1, 100] {
        let mut sample = Sample::udp(Family::V6);
        sample.payload.truncate(length);
        let (frames, _) = sample.segments(ChecksumForm::Complete);
        assert_eq!(frames.len(), 1);
        assert_eq!(check(&frames[0]).len(), length);
    }
}

#[test]
fn ip_options_and_extension_headers_are_kept() {
    let (mut frame, offload) = Sample::udp(Family::V4).build();
    frame.splice(34..34, [1, 1, 1, 0]);
    frame[14] = 0x46;
    let mut ip = etherparse::Ipv4Header::from_slice(&frame[14..]).unwrap().0;
    ip.total_len += 4;
    ip.header_checksum = ip.calc_header_checksum();
    frame[14..38].copy_from_slice(&ip.to_bytes());
    for frame in segments(FrameRef { head: &frame, tail: &[] }, &offload, ChecksumForm::Complete).0 {
        check(&frame);
    }

    let (mut frame, offload) = Sample::tcp(Family::V6).build();
    frame.splice(54..54, [protocol::TCP, 0, 1, 4, 0, 0, 0, 0]);
    frame[20] = protocol::DESTINATION_OPTIONS;
    let length = (frame.len() - ETHERNET_LEN - IPV6_LEN) as u16;
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    let (frames, _) = segments(FrameRef { head: &frame, tail: &[] }, &offload, ChecksumForm::Complete);
    assert_eq!(frames.len(), 3);
    for frame in frames {
        assert_eq!(frame[54..62], [protocol::TCP, 0, 1, 4, 0, 0, 0, 0]);
        let ip = Ipv6::parse(&frame[14..]).unwrap();
        assert_eq!(usize::from(ip.payload_len()), frame.len() - 54);
        assert!(ip.pseudo(protocol::TCP, frame.len() as u32 - 62).add_bytes(&frame[62..]).is_right());
    }
}

#[test]
fn bytes_behind_the_packet_are_left_out() {
    let sample = Sample::tcp(Family::V4);
    let (frame, offload) = sample.build();
    let expected = sample.segments(ChecksumForm::Complete).0;
    let padded = [&frame[..], &[0xee; 9]].concat();
    for at in [70, frame.len() - 1, frame.len() + 3, padded.len()] {
        let (head, tail) = padded.split_at(at);
        assert_eq!(segments(FrameRef { head, tail }, &offload, ChecksumForm::Complete).0, expected);
    }
}

#[test]
fn a_udp_checksum_of_zero_is_written_as_all_ones() {
    let mut sample = Sample::udp(Family::V4);
    sample.payload = vec![0; 100];
    let checksum = Udp::parse(&sample.segments(ChecksumForm::Complete).0[0][34..]).unwrap().checksum();
    sample.payload[..2].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(sample.segments(ChecksumForm::Complete).0[0][40..42], [0xff, 0xff]);
    let (frames, mut offload) = sample.segments(ChecksumForm::Partial);
    let mut frame = frames[0].clone();
    complete_checksum(&mut frame, &[], &mut offload).unwrap();
    assert_eq!(frame[40..42], [0xff, 0xff]);
    check(&frame);
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let mut sample = Sample::tcp(Family::V4);
    sample.payload.resize(256 + 50 - 52, 0);
    let (frame, offload) = sample.build();
    let cut = |head: &[u8], offload: Offload| {
        Cut::new(FrameRef { head, tail: &[] }, &offload, ChecksumForm::Complete).map(|cut| cut.segments())
    };
    assert_eq!(cut(&frame, offload), Ok(3));
    assert_eq!(cut(&frame, Offload { gso: Gso::None, ..offload }), Err(CutError::Kind(Gso::None)));
    assert_eq!(cut(&frame, Offload { gso: Gso::Tcp6, ..offload }), Err(CutError::Headers));
    assert_eq!(cut(&frame, Offload { gso: Gso::Udp, ..offload }), Err(CutError::Headers));
    assert_eq!(cut(&frame, Offload { gso_size: 0, ..offload }), Err(CutError::Size(0)));
    let short = CutError::Length { promised: frame.len(), there: frame.len() - 1 };
    assert_eq!(cut(&frame[..frame.len() - 1], offload), Err(short));
    assert_eq!(cut(&frame[..60], offload), Err(CutError::Headers), "options are not all in the head");
    let with = |at: usize, value: u8| {
        let mut frame = frame.clone();
        frame[at] = value;
        cut(&frame, offload)
    };
    assert_eq!(with(20, 0x20), Err(CutError::Headers), "a fragment");
    assert_eq!(with(34 + 12, 0x40), Err(CutError::Headers), "a TCP header of 16 bytes");
    assert_eq!(with(16, 0).unwrap_err(), CutError::Length { promised: 14 + 50, there: frame.len() });
    let mut many = Sample::tcp(Family::V4);
    (many.payload, many.size) = (vec![0; 60_000], 29);
    let (frame, offload) = many.build();
    assert_eq!(cut(&frame, offload), Err(CutError::Size(29)));
}

#[test]
fn headers_too_long_for_a_block_and_source_routes_are_refused() {
    let (frame, offload) = Sample::tcp(Family::V6).build();
    let cut = |extension: &[u8], next_header: u8| {
        let mut frame = frame.clone();
        frame.splice(54..54, extension.iter().copied());
        frame[20] = next_header;
        let length = (frame.len() - ETHERNET_LEN - IPV6_LEN) as u16;
        frame[18..20].copy_from_slice(&length.to_be_bytes());
        Cut::new(FrameRef { head: &frame, tail: &[] }, &offload, ChecksumForm::Partial).map(|cut| cut.header_len())
    };
    let options = |words: u8| [&[protocol::TCP, words][..], &vec![0; 6 + usize::from(words) * 8]].concat();
    assert_eq!(cut(&options(12), protocol::HOP_BY_HOP), Ok(54 + 104 + TCP_LEN + 12));
    assert_eq!(cut(&options(13), protocol::HOP_BY_HOP), Err(CutError::Headers));
    let route = |left: u8| [&[protocol::TCP, 2, 4, left][..], &[0; 20]].concat();
    assert!(cut(&route(0), protocol::ROUTING).is_ok());
    assert_eq!(cut(&route(1), protocol::ROUTING), Err(CutError::Headers));
}

#[test]
fn a_checksum_outside_the_head_is_not_completed() {
    let (frames, offload) = Sample::udp(Family::V4).segments(ChecksumForm::Partial);
    let complete = |length: usize, offload: Offload| {
        let (mut head, mut offload) = (frames[0][..length].to_vec(), offload);
        complete_checksum(&mut head, &frames[0][length..], &mut offload).map(|()| head != frames[0][..length])
    };
    assert_eq!(complete(42, offload), Ok(true));
    assert_eq!(complete(42, Offload { needs_csum: false, ..offload }), Ok(false));
    assert_eq!(complete(42, Offload { gso: Gso::Udp, ..offload }), Err(CutError::Kind(Gso::Udp)));
    for (start, offset) in [(0, 6), (13, 6), (34, 7), (43, 0), (u16::MAX, u16::MAX)] {
        let offload = Offload { csum_start: start, csum_offset: offset, ..offload };
        assert_eq!(complete(42, offload), Err(CutError::Checksum { start, offset }));
    }
}

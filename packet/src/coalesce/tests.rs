use proptest::prelude::*;

use super::*;
use crate::sample::{Sample, check, samples};
use crate::{ChecksumForm, HEADERS_MAX, complete_checksum};

const ALL: JoinKinds = JoinKinds { tso4: true, tso6: true, uso: true };

/// A group as it would be written: its members, its bytes, its metadata.
#[derive(Debug, PartialEq)]
struct Written {
    members: Vec<u32>,
    frame: Vec<u8>,
    offload: Offload,
}

/// Pushes all frames, their heads ending at `at`, and gathers the groups.
fn joined_at(at: usize, frames: &[(Vec<u8>, Offload)], kinds: JoinKinds) -> Vec<Written> {
    let parts = |frame: usize| frames[frame].0.split_at(at.min(frames[frame].0.len()));
    let mut join = Join::new();
    join.clear(kinds);
    for (index, (_, offload)) in frames.iter().enumerate() {
        let (head, tail) = parts(index);
        assert!(join.push(index as u32, FrameRef { head, tail }, offload));
    }
    assert_eq!(join.len(), frames.len());
    let write = |group: Group<'_>| {
        let (head, tail) = parts(group.first() as usize);
        let mut frame = head.to_vec();
        let offload = group.apply(&mut frame);
        frame.extend_from_slice(tail);
        for member in group.members().skip(1) {
            frame.extend_from_slice(&frames[member as usize].0[group.header_len()..]);
        }
        assert_eq!(group.members().count(), group.len());
        Written { members: group.members().collect(), frame, offload }
    };
    join.groups().map(write).collect()
}

fn joined(frames: &[(Vec<u8>, Offload)]) -> Vec<Written> {
    joined_at(usize::MAX, frames, ALL)
}

fn members(frames: &[(Vec<u8>, Offload)]) -> Vec<Vec<u32>> {
    joined(frames).into_iter().map(|group| group.members).collect()
}

/// The three segments of a sample, with complete checksums.
fn three(sample: &Sample) -> Vec<(Vec<u8>, Offload)> {
    let (frames, offload) = sample.segments(ChecksumForm::Complete);
    assert_eq!(frames.len(), 3);
    frames.into_iter().map(|frame| (frame, offload)).collect()
}

/// Makes all checksums right again after a header was changed.
fn mend(frame: &mut [u8]) {
    let layout = Layout::parse(frame).unwrap();
    let length = layout.end - layout.transport;
    let pseudo = match layout.family {
        Family::V4 => {
            let mut ip = Ipv4::parse_mut(&mut frame[14..]).unwrap();
            ip.fill_checksum();
            ip.pseudo(layout.protocol, length as u16)
        }
        Family::V6 => Ipv6::parse(&frame[14..]).unwrap().pseudo(layout.protocol, length as u32),
    };
    let csum_offset = if layout.protocol == protocol::TCP { TCP_CSUM_OFFSET } else { UDP_CSUM_OFFSET };
    let field = layout.transport + usize::from(csum_offset);
    frame[field..field + 2].copy_from_slice(&pseudo.fold().to_be_bytes());
    let mut offload =
        Offload { needs_csum: true, csum_start: layout.transport as u16, csum_offset, ..Offload::default() };
    complete_checksum(frame, &[], &mut offload).unwrap();
    check(frame);
}

/// What becomes of three segments when bytes of the second are changed, checksums mended.
fn with_second(sample: &Sample, changes: &[(usize, u8)]) -> Vec<Vec<u32>> {
    let mut frames = three(sample);
    for (at, value) in changes {
        assert_ne!(frames[1].0[*at], *value, "no change at {at}");
        frames[1].0[*at] = *value;
    }
    mend(&mut frames[1].0);
    members(&frames)
}

const APART: [&[u32]; 3] = [&[0], &[1], &[2]];

proptest! {
    #[test]
    fn cut_then_join_is_identity(sample in samples(), form in prop::bool::ANY, at in 0usize..200) {
        prop_assume!(sample.payload.len() > usize::from(sample.size));
        let (frame, offload) = sample.build();
        let form = if form { ChecksumForm::Complete } else { ChecksumForm::Partial };
        let (frames, metadata) = sample.segments(form);
        let members = (0..frames.len() as u32).collect();
        let frames: Vec<_> = frames.into_iter().map(|frame| (frame, metadata)).collect();
        let at = at + usize::from(offload.header_len);
        prop_assert_eq!(joined_at(at, &frames, ALL), [Written { members, frame, offload }]);
    }

    #[test]
    fn groups_taken_apart_by_flow_give_the_pushed_order(steps in prop::collection::vec((0usize..5, 0u8..12), 1..JOIN_MAX)) {
        let mut flows: Vec<Sample> = vec![
            Sample::tcp(Family::V4), Sample::udp(Family::V4), Sample::tcp(Family::V6), Sample::udp(Family::V6),
            Sample { source_port: 9, ..Sample::udp(Family::V4) },
        ];
        let mut frames = Vec::new();
        for (flow, step) in &steps {
            let sample = &mut flows[*flow];
            sample.payload = vec![*step; if *step == 1 { 40 } else { 100 }];
            let mut frame = sample.segments(ChecksumForm::Complete).0.remove(0);
            sample.sequence = sample.sequence.wrapping_add(sample.payload.len() as u32);
            sample.id = sample.id.wrapping_add(1);
            match step {
                2 => frame.push(0),
                3 => *frame.last_mut().unwrap() ^= 1,
                4 if sample.family == Family::V4 => frame[20] = 0x20,
                5 => sample.sequence = 0,
                _ => {}
            }
            frames.push((frame, Offload::default()));
        }
        let groups = members(&frames);
        prop_assert!(groups.is_sorted_by_key(|group| group[0]));
        for flow in 0..flows.len() {
            let of_flow = |index: &u32| steps[*index as usize].0 == flow;
            let order: Vec<u32> = groups.iter().flatten().copied().filter(of_flow).collect();
            prop_assert_eq!(order.len(), steps.iter().filter(|step| step.0 == flow).count());
            prop_assert!(order.is_sorted(), "flow {}: {:?}", flow, order);
        }
    }
}

#[test]
fn flows_mixed_in_a_burst_are_each_joined() {
    let tcp = three(&Sample::tcp(Family::V4));
    let udp = three(&Sample::udp(Family::V6));
    let frames = [&tcp[0], &udp[0], &udp[1], &tcp[1], &tcp[2], &udp[2]].map(Clone::clone);
    assert_eq!(members(&frames), [vec![0, 3, 4], vec![1, 2, 5]]);
}

#[test]
fn any_other_difference_in_ipv4_or_tcp_headers_keeps_frames_apart() {
    let sample = Sample::tcp(Family::V4);
    assert_eq!(members(&three(&sample)), [[0, 1, 2]]);
    let fields = [
        ("destination MAC", 5, 9),
        ("source MAC", 11, 9),
        ("TOS", 15, 1),
        ("identification", 19, 1),
        ("DF", 20, 0x40),
        ("TTL", 22, 62),
        ("source address", 29, 9),
        ("destination address", 33, 9),
        ("source port", 35, 9),
        ("destination port", 37, 9),
        ("sequence", 41, 0),
        ("acknowledgment", 45, 9),
        ("AE", 46, 0x81),
        ("SYN", 47, 0x12),
        ("RST", 47, 0x14),
        ("URG", 47, 0x30),
        ("ECE", 47, 0x50),
        ("CWR", 47, 0x90),
        ("no ACK", 47, 0),
        ("window", 49, 9),
        ("urgent pointer", 53, 9),
        ("timestamp", 61, 9),
    ];
    for (name, at, value) in fields {
        assert_eq!(with_second(&sample, &[(at, value)]), APART, "{name}");
    }
}

#[test]
fn any_other_difference_in_an_ipv6_header_keeps_frames_apart() {
    let sample = Sample::tcp(Family::V6);
    assert_eq!(members(&three(&sample)), [[0, 1, 2]]);
    for (name, at, value) in [
        ("traffic class", 15, 0x10),
        ("flow label", 17, 1),
        ("hop limit", 21, 62),
        ("source address", 37, 1),
        ("destination address", 53, 1),
    ] {
        assert_eq!(with_second(&sample, &[(at, value)]), APART, "{name}");
    }
}

#[test]
fn with_dont_fragment_set_identifications_mean_nothing() {
    let sample = Sample { dont_fragment: true, ..Sample::tcp(Family::V4) };
    assert_eq!(with_second(&sample, &[(18, 3), (19, 3)]), [[0, 1, 2]]);
}

#[test]
fn push_and_fin_end_a_group() {
    for flag in [tcp_flag::PSH, tcp_flag::FIN] {
        let flags = (tcp_flag::ACK | flag) as u8;
        assert_eq!(with_second(&Sample::tcp(Family::V4), &[(47, flags)]), [vec![0, 1], vec![2]]);
        let mut frames = three(&Sample::tcp(Family::V4));
        frames[0].0[47] = flags;
        mend(&mut frames[0].0);
        assert_eq!(members(&frames), [vec![0], vec![1, 2]]);
    }
}

#[test]
fn a_shorter_payload_ends_a_group_and_a_longer_one_starts_anew() {
    let datagrams = |lengths: &[usize]| {
        let make = |(place, length): (usize, &usize)| {
            let payload = vec![7; *length];
            let sample = Sample { payload, size: 9000, id: place as u16, ..Sample::udp(Family::V4) };
            (sample.segments(ChecksumForm::Complete).0.remove(0), Offload::default())
        };
        members(&lengths.iter().enumerate().map(make).collect::<Vec<_>>())
    };
    assert_eq!(datagrams(&[10, 10, 9, 10, 10]), [vec![0, 1, 2], vec![3, 4]]);
    assert_eq!(datagrams(&[10, 10, 11, 11, 10]), [vec![0, 1], vec![2, 3, 4]]);
    assert_eq!(datagrams(&[10, 0, 10, 10]), [vec![0], vec![1], vec![2, 3]]);
    assert_eq!(datagrams(&[1; MEMBERS_MAX + 2])[1], [MEMBERS_MAX as u32, MEMBERS_MAX as u32 + 1]);
}

#[test]
fn the_longest_packet_is_65_535_bytes() {
    for (family, headers) in [(Family::V4, 28), (Family::V6, 48)] {
        let groups = |last: usize| {
            let lengths = [[9000; 7].as_slice(), &[last]].concat();
            let make = |(length, id): (usize, u16)| {
                let sample = Sample { payload: vec![1; length], size: 9000, id, ..Sample::udp(family) };
                (sample.segments(ChecksumForm::Complete).0.remove(0), Offload::default())
            };
            members(&lengths.into_iter().zip(0..).map(make).collect::<Vec<_>>()).len()
        };
        let room = 65_535 - headers - 7 * 9000;
        assert_eq!((groups(room), groups(room + 1)), (1, 2));
    }
}

#[test]
fn udp_without_checksum_is_never_joined() {
    let mut frames = three(&Sample::udp(Family::V4));
    for (frame, _) in &mut frames {
        frame[40..42].fill(0);
    }
    assert_eq!(members(&frames), APART);
    frames.iter_mut().for_each(|(_, offload)| offload.data_valid = true);
    assert_eq!(members(&frames), APART);
}

#[test]
fn a_udp_length_that_is_not_the_packets_is_never_joined() {
    let mut frames = three(&Sample::udp(Family::V4));
    frames[1].0[39] -= 1;
    frames[1].1.data_valid = true;
    assert_eq!(members(&frames), APART);
}

#[test]
fn a_wrong_checksum_passes_alone_and_untouched() {
    for sample in [Sample::tcp(Family::V4), Sample::udp(Family::V6)] {
        let mut frames = three(&sample);
        *frames[1].0.last_mut().unwrap() ^= 0x10;
        let groups = joined(&frames);
        assert_eq!(groups.len(), 3);
        assert_eq!((&groups[1].frame, groups[1].offload), (&frames[1].0, frames[1].1));
        frames[1].1.data_valid = true;
        assert_eq!(members(&frames), [[0, 1, 2]], "vouched for");
    }
    let mut frames = three(&Sample::udp(Family::V4));
    frames[1].0[24] ^= 1;
    assert_eq!(members(&frames), APART, "the IPv4 header's");
}

#[test]
fn an_unfinished_checksum_is_known_by_word_or_by_the_bare_pseudo_header() {
    for sample in [Sample::tcp(Family::V6), Sample::udp(Family::V4)] {
        let (frames, offload) = sample.segments(ChecksumForm::Partial);
        let with = |offload: Offload| frames.iter().map(|frame| (frame.clone(), offload)).collect::<Vec<_>>();
        assert_eq!(members(&with(offload)), [[0, 1, 2]]);
        assert_eq!(members(&with(Offload::default())), [[0, 1, 2]]);
        let elsewhere = Offload { csum_start: offload.csum_start + 2, ..offload };
        assert_eq!(members(&with(elsewhere)), APART);
        assert_eq!(members(&with(Offload { csum_offset: 4, ..offload })), APART);
    }
}

#[test]
fn a_port_gets_only_the_kinds_it_takes() {
    let kinds = |tso4, tso6, uso| JoinKinds { tso4, tso6, uso };
    for (sample, own) in [
        (Sample::tcp(Family::V4), kinds(true, false, false)),
        (Sample::tcp(Family::V6), kinds(false, true, false)),
        (Sample::udp(Family::V4), kinds(false, false, true)),
        (Sample::udp(Family::V6), kinds(false, false, true)),
    ] {
        let others = kinds(!own.tso4, !own.tso6, !own.uso);
        assert_eq!(joined_at(HEADERS_MAX, &three(&sample), own).len(), 1);
        assert_eq!(joined_at(HEADERS_MAX, &three(&sample), others).len(), 3);
    }
}

#[test]
fn a_frame_that_cannot_be_joined_closes_its_flow_and_no_other() {
    let (tcp, udp) = (three(&Sample::tcp(Family::V4)), three(&Sample::udp(Family::V4)));
    let mut ack = Sample::tcp(Family::V4);
    ack.payload.clear();
    let ack = (ack.segments(ChecksumForm::Complete).0.remove(0), Offload::default());
    let frames = [&tcp[0], &udp[0], &ack, &tcp[1], &udp[1]].map(Clone::clone);
    assert_eq!(members(&frames), [vec![0], vec![1, 4], vec![2], vec![3]]);
}

#[test]
fn a_super_frame_stays_as_it_is_and_closes_its_flow() {
    let sample = Sample::udp(Family::V6);
    let whole = sample.build();
    let parts = three(&sample);
    let frames = [&parts[0], &whole, &parts[1], &parts[2]].map(Clone::clone);
    let groups = joined(&frames);
    assert_eq!((&groups[1].frame, groups[1].offload), (&whole.0, whole.1));
    assert_eq!(members(&frames), [vec![0], vec![1], vec![2, 3]]);
}

#[test]
fn frames_of_unknown_flow_close_every_group_and_frames_of_no_flow_close_none() {
    let parts = three(&Sample::tcp(Family::V4));
    let between = |frame: Vec<u8>| {
        let frames = [parts[0].clone(), (frame, Offload::default()), parts[1].clone()];
        members(&frames).len()
    };
    let changed = |sample: Sample, at: usize, value: u8| {
        let mut frame = three(&sample).remove(0).0;
        frame[at] = value;
        frame
    };
    let other = || Sample { source_port: 9, ..Sample::udp(Family::V4) };
    assert_eq!(between(changed(other(), 20, 0x20)), 3, "a first fragment");
    assert_eq!(between(changed(other(), 21, 1)), 3, "a later fragment");
    assert_eq!(between(changed(other(), 14, 0x44)), 3, "an unreadable IPv4 header");
    assert_eq!(between(changed(Sample::udp(Family::V6), 20, protocol::FRAGMENT)), 3, "an IPv6 fragment");
    assert_eq!(between(three(&other()).remove(0).0[..36].to_vec()), 3, "half of the ports");
    assert_eq!(between(changed(other(), 23, protocol::ICMP)), 2, "ICMP");
    assert_eq!(between(changed(other(), 13, 0x06)), 2, "ARP");
    assert_eq!(between(vec![0; 9]), 2, "no Ethernet header");
}

#[test]
fn padded_frames_and_ip_options_are_never_joined() {
    let sample = Sample::udp(Family::V4);
    let mut frames = three(&sample);
    frames[1].0.push(0);
    assert_eq!(members(&frames), APART);

    let mut frames = three(&sample);
    for (frame, offload) in &mut frames {
        frame.splice(34..34, [1, 1, 1, 0]);
        frame[14] = 0x46;
        let length = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        offload.data_valid = true;
    }
    assert_eq!(members(&frames), APART);

    let mut frames = three(&Sample::udp(Family::V6));
    for (frame, _) in &mut frames {
        frame.splice(54..54, [protocol::UDP, 0, 1, 4, 0, 0, 0, 0]);
        frame[20] = protocol::DESTINATION_OPTIONS;
        let length = (frame.len() - 54) as u16;
        frame[18..20].copy_from_slice(&length.to_be_bytes());
    }
    assert_eq!(members(&frames), APART);
}

#[test]
fn a_full_join_refuses_and_a_cleared_one_starts_anew() {
    let frames = three(&Sample::udp(Family::V4));
    let mut join = Join::new();
    join.clear(ALL);
    let frame = |place: usize| FrameRef { head: &frames[place].0, tail: &[] };
    for index in 0..JOIN_MAX as u32 {
        assert!(join.push(index, frame(0), &frames[0].1));
    }
    assert!(!join.push(0, frame(0), &frames[0].1));
    join.clear(ALL);
    assert!(join.is_empty() && join.groups().count() == 0);
    assert!(join.push(7, frame(1), &frames[1].1), "does not follow what was there before");
    assert_eq!(join.groups().map(|group| (group.first(), group.len())).collect::<Vec<_>>(), [(7, 1)]);
}

//! What fuzzers run: every parser of this crate over arbitrary bytes, with what must hold whatever they are.

use crate::view::{Arp, Icmp, Layout, Tcp, Udp};
use crate::{
    ChecksumForm, Cut, FrameRef, HEADERS_MAX, Join, JoinKinds, MEMBERS_MAX, Offload, VNET_HEADER_LEN, complete_checksum,
};

/// Parses `bytes` as every header there is.
pub fn views(bytes: &[u8]) {
    if let Some(layout) = Layout::parse(bytes) {
        assert!(layout.transport <= layout.end && layout.transport <= bytes.len());
    }
    let _ = Arp::parse(bytes).map(|arp| arp.sender());
    let _ = Icmp::parse(bytes).map(|icmp| icmp.rest());
    let _ = Udp::parse(bytes).map(|udp| udp.checksum());
    if let Some(tcp) = Tcp::parse(bytes) {
        assert!(tcp.header_len() <= bytes.len());
    }
}

/// Cuts a super-frame: a virtio header, two bytes that say where head and tail part, the frame. The segments' payloads
/// must follow one another without gap and be as long as said.
pub fn cut(bytes: &[u8]) {
    let Some((offload, head, tail)) = split(bytes) else { return };
    let mut offload = offload;
    let frame = FrameRef { head, tail };
    for form in [ChecksumForm::Complete, ChecksumForm::Partial] {
        let Ok(mut cut) = Cut::new(frame, &offload, form) else { continue };
        let (count, mut block, mut end) = (cut.segments(), [0; HEADERS_MAX], 0);
        for _ in 0..count {
            let part = cut.next(&mut block).expect("a segment for each one announced");
            assert_eq!(part.start, end);
            assert!(part.len() <= usize::from(offload.gso_size));
            assert_eq!(cut.payload(&part).map(<[u8]>::len).iter().sum::<usize>(), part.len());
            end = part.end;
        }
        assert!(cut.next(&mut block).is_none());
        assert!(cut.header_len() + end <= frame.len());
    }
    if complete_checksum(&mut head.to_vec(), tail, &mut offload).is_ok() {
        assert!(!offload.needs_csum);
    }
}

/// Joins frames: each a length of two bytes, then what [`cut`] takes. Every frame must be in exactly one group, in order
/// within the group, and the groups in order of their first frames.
pub fn join(bytes: &[u8]) {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (frame, after) = after.split_at(usize::from(u16::from_le_bytes(*length)).min(after.len()));
        frames.extend(split(frame));
        rest = after;
    }
    let mut join = Join::new();
    join.clear(JoinKinds { tso4: true, tso6: true, uso: true });
    let mut pushed = 0;
    for (offload, head, tail) in &frames {
        pushed += u32::from(join.push(pushed, FrameRef { head, tail }, offload));
    }
    let mut seen = vec![false; pushed as usize];
    let mut before = None;
    for group in join.groups() {
        let members: Vec<u32> = group.members().collect();
        assert!(members.len() == group.len() && group.len() <= MEMBERS_MAX);
        assert!(members.is_sorted() && members[0] == group.first() && before < Some(members[0]));
        before = Some(members[0]);
        for member in members {
            assert!(!std::mem::replace(&mut seen[member as usize], true));
        }
        let (_, head, _) = frames[group.first() as usize];
        group.apply(&mut head.to_vec());
    }
    assert!(seen.iter().all(|seen| *seen));
}

/// Reads a virtio header, two bytes that say where head and tail part, and a frame.
fn split(bytes: &[u8]) -> Option<(Offload, &[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<VNET_HEADER_LEN>()?;
    let (at, frame) = rest.split_first_chunk::<2>()?;
    let (head, tail) = frame.split_at(usize::from(u16::from_le_bytes(*at)).min(frame.len()));
    Some((Offload::parse(header).ok()?, head, tail))
}

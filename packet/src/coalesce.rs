//! Joining frames of one flow into the super-frame they could have been cut from, without copying payload.
//!
//! The frames that depart by one port in one turn are pushed in their order. Each lands in a **group**: joined with
//! others, or alone. A group of several is written as one super-frame: the first member whole, with its headers changed
//! by [`Group::apply`], then of every other member what follows the headers. Joining undoes cutting: the segments of a
//! super-frame give its bytes back ([`Cut`](crate::Cut)).
//!
//! ```text
//!  pushed   A0 B0 A1 ack B1 A2          groups   A0 A1 A2 | B0 B1 | ack        in order of their first frames
//! ```
//!
//! A frame joins its flow's open group when a receiver could not tell the difference: all headers are equal byte by
//! byte (addresses of both layers, TOS or traffic class, flow label, TTL, DF, ports, acknowledgment, window, TCP
//! options) except where segments of one super-frame differ, and there it follows on: sequence numbers, and IPv4
//! identifications unless DF is set. Payloads are as long as the first; a shorter one, PSH or FIN ends the group. Never
//! joined: frames with other TCP flags, IP options or extension headers, fragments, empty payloads, UDP without
//! checksum, frames longer than their packet, super-frames. A transport checksum must be unfinished (said so, or equal
//! to the bare pseudo-header's sum), vouched for, or right: it is summed here, and a frame with a wrong one passes
//! alone, untouched, as does one with a wrong IPv4 header checksum.
//!
//! Order within a flow is kept: a frame that cannot be joined closes its flow's group, and a fragment or a packet that
//! cannot be read closes all. A flow is known by a hash of its addresses, protocol and ports; two flows that collide
//! close each other's groups, no more. Limits: [`JOIN_MAX`] frames, [`MEMBERS_MAX`] in a group, 65 535 bytes of packet.

use crate::checksum;
use crate::segment::{TCP_CSUM_OFFSET, UDP_CSUM_OFFSET};
use crate::view::{
    ETHERNET_LEN, Ethernet, Family, Fragment, Ipv4, Ipv6, Layout, Tcp, UDP_LEN, Udp, ethertype, protocol, tcp_flag,
};
use crate::{ChecksumFound, FrameRef, Gso, Offload};

mod flows;

use flows::{Flows, NO_GROUP};

/// Most frames pushed between two [`Join::clear`].
pub const JOIN_MAX: usize = 256;
/// Most frames of one group: what a UDP super-frame may stand for in any kernel that takes one (`UDP_MAX_SEGMENTS`).
pub const MEMBERS_MAX: usize = 64;

/// The kinds of super-frame a port takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct JoinKinds {
    /// TCP over IPv4.
    pub tso4: bool,
    /// TCP over IPv6.
    pub tso6: bool,
    /// UDP over either.
    pub uso: bool,
}

/// Frames on their way to one port, in groups. About 60 KiB, used again for every port and turn.
pub struct Join {
    kinds: JoinKinds,
    members: Vec<Member>,
    groups: Vec<Record>,
    flows: Flows,
}

impl Join {
    /// All the memory it will ever have.
    pub fn new() -> Self {
        Join {
            kinds: JoinKinds::default(),
            members: Vec::with_capacity(JOIN_MAX),
            groups: Vec::with_capacity(JOIN_MAX),
            flows: Flows::new(),
        }
    }

    /// Forgets all frames; what is pushed from now on goes to a port that takes `kinds`.
    #[inline]
    pub fn clear(&mut self, kinds: JoinKinds) {
        self.kinds = kinds;
        self.members.clear();
        self.groups.clear();
        self.flows.forget_all();
    }

    /// True when two of the flows with these hashes are one, so that there may be something to join; what was pushed is
    /// forgotten. Rarely it is true of two flows, and false only when a great many flows share the low bits of their
    /// hashes.
    #[inline]
    pub fn is_any_repeated(&mut self, hashes: impl IntoIterator<Item = u64>) -> bool {
        self.flows.forget_all();
        hashes.into_iter().any(|hash| std::mem::replace(self.flows.open_group(hash), 0) != NO_GROUP)
    }

    /// Adds the next frame, known to the caller as `index`; false, and nothing done, when [`JOIN_MAX`] are in.
    #[inline]
    pub fn push(&mut self, index: u32, frame: FrameRef<'_>, offload: &Offload) -> bool {
        if self.members.len() == JOIN_MAX {
            return false;
        }
        self.members.push(Member { index, next: LAST });
        match flow_of(frame.head) {
            Flow::None => self.start_alone(offload),
            Flow::Unknown => {
                self.flows.forget_all();
                self.start_alone(offload);
            }
            Flow::Known(hash, layout) => match Segment::parse(frame, offload, &layout, self.kinds) {
                Some(segment) => self.add(hash, frame.head, &segment, offload),
                None => {
                    *self.flows.open_group(hash) = NO_GROUP;
                    self.start_alone(offload);
                }
            },
        }
        true
    }

    /// Frames pushed since [`Join::clear`].
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True when nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The groups in order of their first frames.
    #[inline]
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.groups.iter().map(|record| Group { record, members: &self.members })
    }

    /// Joins a segment to its flow's open group, or opens one with it.
    #[inline]
    fn add(&mut self, hash: u64, head: &[u8], segment: &Segment, offload: &Offload) {
        let member = (self.members.len() - 1) as u16;
        let open = self.flows.open_group(hash);
        let ends = match self.groups.get_mut(usize::from(*open)).filter(|group| group.takes(head, segment)) {
            Some(group) => {
                self.members[usize::from(group.last)].next = member;
                group.append(member, segment);
                segment.flags & ENDING != 0 || segment.payload_len < group.size
            }
            None => {
                *open = self.groups.len() as u16;
                self.groups.push(Record::new(member, head, segment, *offload));
                segment.flags & ENDING != 0
            }
        };
        if ends {
            *open = NO_GROUP;
        }
    }

    #[inline]
    fn start_alone(&mut self, offload: &Offload) {
        let member = (self.members.len() - 1) as u16;
        self.groups.push(Record::new(member, &[], &Segment::NONE, *offload));
    }
}

impl Default for Join {
    fn default() -> Self {
        Join::new()
    }
}

/// Frames that are to be written as one.
pub struct Group<'a> {
    record: &'a Record,
    members: &'a [Member],
}

impl Group<'_> {
    /// Frames in the group.
    #[allow(clippy::len_without_is_empty, reason = "a group has at least its first frame")]
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.record.len)
    }

    /// What the caller knows the first member by.
    #[inline]
    pub fn first(&self) -> u32 {
        self.members[usize::from(self.record.first)].index
    }

    /// What the caller knows the members by, in order.
    #[inline]
    pub fn members(&self) -> impl Iterator<Item = u32> {
        let mut next = self.record.first;
        std::iter::from_fn(move || {
            let member = self.members.get(usize::from(next))?;
            next = member.next;
            Some(member.index)
        })
    }

    /// Bytes of headers, left out of every member but the first. 0 for a frame alone.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.record.segment.header_len)
    }

    /// Changes the headers of the first member, `head`, to those of the whole group and returns what is to be said
    /// beside it. A frame alone stays as it is, and so does its metadata.
    #[inline]
    pub fn apply(&self, head: &mut [u8]) -> Offload {
        if self.record.len == 1 {
            return self.record.offload;
        }
        self.record.apply(head).expect("the first member's headers were parsed when it was pushed")
    }
}

/// A pushed frame and the next of its group.
#[derive(Clone, Copy)]
struct Member {
    index: u32,
    next: u16,
}

/// What a joinable frame adds to a group.
#[derive(Clone, Copy)]
struct Segment {
    kind: Gso,
    transport: u16,
    header_len: u16,
    payload_len: u16,
    flags: u16,
    id: u16,
    sequence: u32,
}

impl Segment {
    /// Stands for a frame that is never joined.
    const NONE: Segment =
        Segment { kind: Gso::None, transport: 0, header_len: 0, payload_len: 0, flags: 0, id: 0, sequence: 0 };

    /// Reads a frame of a known flow; `None` if it must stay alone.
    #[inline]
    fn parse(frame: FrameRef<'_>, offload: &Offload, layout: &Layout, kinds: JoinKinds) -> Option<Segment> {
        if offload.gso != Gso::None || !layout.is_plain() || layout.end != frame.len() {
            return None;
        }
        let tcp = layout.protocol == protocol::TCP;
        let (kind, taken) = match layout.family {
            _ if !tcp => (Gso::Udp, kinds.uso),
            Family::V4 => (Gso::Tcp4, kinds.tso4),
            Family::V6 => (Gso::Tcp6, kinds.tso6),
        };
        if !taken {
            return None;
        }
        let (packet, transport) = (frame.head.get(ETHERNET_LEN..)?, frame.head.get(layout.transport..)?);
        let length = layout.end - layout.transport;
        let (transport_len, sequence, flags, checksum) = if tcp {
            let tcp = Tcp::parse(transport).filter(|tcp| tcp.flags() & !ENDING == tcp_flag::ACK)?;
            (tcp.header_len(), tcp.sequence(), tcp.flags(), tcp.checksum())
        } else {
            let udp = Udp::parse(transport).filter(|udp| usize::from(udp.datagram_len()) == length)?;
            (UDP_LEN, 0, 0, Some(udp.checksum()).filter(|checksum| *checksum != 0)?)
        };
        let payload_len = length.checked_sub(transport_len).filter(|length| *length > 0)?;
        let (id, pseudo) = match layout.family {
            Family::V4 => {
                let ip = Ipv4::parse(packet).filter(|ip| checksum::ipv4_header_is_right(ip.bytes()))?;
                (ip.id(), ip.pseudo(layout.protocol, length as u16))
            }
            Family::V6 => (0, Ipv6::parse(packet)?.pseudo(layout.protocol, length as u32)),
        };
        let segment = Segment {
            kind,
            transport: layout.transport as u16,
            header_len: (layout.transport + transport_len) as u16,
            payload_len: payload_len as u16,
            flags,
            id,
            sequence,
        };
        let sound = if offload.needs_csum {
            (offload.csum_start, offload.csum_offset) == (segment.transport, segment.csum_offset())
        } else {
            offload.data_valid
                || ChecksumFound::judge(checksum, pseudo, [transport, frame.tail]) != ChecksumFound::Wrong
        };
        sound.then_some(segment)
    }

    fn csum_offset(&self) -> u16 {
        if self.kind == Gso::Udp { UDP_CSUM_OFFSET } else { TCP_CSUM_OFFSET }
    }
}

/// A group: its first frame's headers and what the next member must continue.
struct Record {
    /// Of the first member, with the flags of the last.
    segment: Segment,
    /// Payload bytes of every member but the last.
    size: u16,
    first: u16,
    last: u16,
    len: u16,
    next_id: u16,
    next_sequence: u32,
    payload_len: u32,
    offload: Offload,
    headers: [u8; HEADERS_LEN],
}

impl Record {
    #[inline]
    fn new(member: u16, head: &[u8], segment: &Segment, offload: Offload) -> Self {
        let mut headers = [0; HEADERS_LEN];
        let header_len = usize::from(segment.header_len);
        headers[..header_len].copy_from_slice(&head[..header_len]);
        Record {
            segment: *segment,
            size: segment.payload_len,
            first: member,
            last: member,
            len: 1,
            next_id: segment.id.wrapping_add(1),
            next_sequence: segment.sequence.wrapping_add(u32::from(segment.payload_len)),
            payload_len: u32::from(segment.payload_len),
            offload,
            headers,
        }
    }

    /// True when `segment`, whose headers are in `head`, may follow the last member.
    #[inline]
    fn takes(&self, head: &[u8], segment: &Segment) -> bool {
        let own = &self.segment;
        let (header_len, transport) = (usize::from(own.header_len), usize::from(own.transport));
        let packet_len = header_len - ETHERNET_LEN + self.payload_len as usize + usize::from(segment.payload_len);
        (own.kind, own.transport, own.header_len) == (segment.kind, segment.transport, segment.header_len)
            && usize::from(self.len) < MEMBERS_MAX
            && segment.payload_len <= self.size
            && packet_len <= usize::from(u16::MAX)
            && (own.kind == Gso::Udp || segment.sequence == self.next_sequence)
            && same_network(&self.headers, head, segment.id == self.next_id)
            && same_transport(&self.headers[transport..header_len], &head[transport..header_len])
    }

    #[inline]
    fn append(&mut self, member: u16, segment: &Segment) {
        self.last = member;
        self.len += 1;
        self.next_id = segment.id.wrapping_add(1);
        self.next_sequence = self.next_sequence.wrapping_add(u32::from(segment.payload_len));
        self.payload_len += u32::from(segment.payload_len);
        self.segment.flags = segment.flags;
    }

    fn apply(&self, head: &mut [u8]) -> Option<Offload> {
        let transport = usize::from(self.segment.transport);
        let length = usize::from(self.segment.header_len) - transport + self.payload_len as usize;
        let protocol = if self.segment.kind == Gso::Udp { protocol::UDP } else { protocol::TCP };
        let (network, rest) = head.split_at_mut_checked(transport)?;
        let packet = &mut network[ETHERNET_LEN..];
        let pseudo = if let Some(mut ip) = Ipv4::parse_mut(packet) {
            ip.set_total_len((transport - ETHERNET_LEN + length) as u16);
            ip.pseudo(protocol, length as u16)
        } else {
            let mut ip = Ipv6::parse_mut(packet)?;
            ip.set_payload_len(length as u16);
            ip.pseudo(protocol, length as u32)
        };
        if self.segment.kind == Gso::Udp {
            let mut udp = Udp::parse_mut(rest)?;
            udp.set_datagram_len(length as u16);
            udp.set_checksum(pseudo.fold());
        } else {
            let mut tcp = Tcp::parse_mut(rest)?;
            tcp.set_flags(self.segment.flags);
            tcp.set_checksum(pseudo.fold());
        }
        Some(Offload {
            needs_csum: true,
            data_valid: false,
            gso: self.segment.kind,
            ecn: false,
            header_len: self.segment.header_len,
            gso_size: self.size,
            csum_start: self.segment.transport,
            csum_offset: self.segment.csum_offset(),
        })
    }
}

/// What is known about the flow of a frame.
enum Flow {
    /// Neither TCP nor UDP: nothing that is ever joined.
    None,
    /// It may be of any flow.
    Unknown,
    /// The hash of addresses, protocol and ports.
    Known(u64, Layout),
}

#[inline]
fn flow_of(head: &[u8]) -> Flow {
    let Some(layout) = Layout::parse(head) else {
        let ethertype = Ethernet::parse(head).map(|ethernet| ethernet.ethertype());
        let is_ip = matches!(ethertype, Some(ethertype::IPV4 | ethertype::IPV6));
        return if is_ip { Flow::Unknown } else { Flow::None };
    };
    if layout.fragment != Fragment::Whole || layout.routed {
        return Flow::Unknown;
    }
    if !matches!(layout.protocol, protocol::TCP | protocol::UDP) {
        return Flow::None;
    }
    match flows::hash(head, &layout) {
        Some(hash) => Flow::Known(hash, layout),
        None => Flow::Unknown,
    }
}

/// True when Ethernet and IP headers and ports agree, but for the length, the IPv4 header checksum, and the IPv4
/// identification: that one `follows`, or means nothing because DF is set (RFC 6864).
#[inline]
fn same_network(first: &[u8; HEADERS_LEN], other: &[u8], follows: bool) -> bool {
    if first[ETHERTYPE] == ethertype::IPV4.to_be_bytes() {
        let (Some(first), Some(other)) = (first.first_chunk::<38>(), other.first_chunk::<38>()) else { return false };
        let dont_fragment = first[20] & 0x40 != 0;
        first[..16] == other[..16]
            && first[20..24] == other[20..24]
            && first[26..] == other[26..]
            && (dont_fragment || follows)
    } else {
        let (Some(first), Some(other)) = (first.first_chunk::<58>(), other.first_chunk::<58>()) else { return false };
        first[..18] == other[..18] && first[20..] == other[20..]
    }
}

/// True when TCP headers agree but for ports (seen before), sequence number, flags and checksum. UDP headers always do.
#[inline]
fn same_transport(first: &[u8], other: &[u8]) -> bool {
    let (Some(a), Some(b)) = (Tcp::parse(first), Tcp::parse(other)) else { return first.len() == UDP_LEN };
    (a.acknowledgment(), a.window()) == (b.acknowledgment(), b.window()) && first[18..] == other[18..]
}

/// Flags that end a group; the only ones a segment may have beside ACK.
const ENDING: u16 = tcp_flag::PSH | tcp_flag::FIN;
/// The next member of the last one.
const LAST: u16 = u16::MAX;
/// Ethernet, IPv6 and 60 bytes of TCP, rounded up.
const HEADERS_LEN: usize = 128;
const ETHERTYPE: std::ops::Range<usize> = 12..14;

#[cfg(test)]
mod tests;

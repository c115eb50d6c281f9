//! Cutting a super-frame into the segments it stands for, without copying payload.
//!
//! [`Cut`] writes a fresh block of headers for each segment and says which part of the payload belongs to it; the caller
//! gathers both into one send. A checksum that is asked for in full reads each payload byte once.
//!
//! ```text
//!  super-frame   | headers | payload ............................. |
//!                     |      0 .. n      n .. 2n     2n .. end       n = gso_size
//!  segments      | block 0 | 0 .. n |  | block 1 | n .. 2n |  | block 2 | 2n .. end |
//! ```
//!
//! What differs from block to block: the IP length; the IPv4 identification, one more each; the IPv4 header checksum,
//! patched, so a wrong one stays wrong; the TCP sequence number; FIN and PSH, which only the last has, and CWR, which only
//! the first has (RFC 3168, section 6.1.2); the UDP length; the transport checksum. Everything else is copied.
//!
//! What the frame says is not trusted: the kind of super-frame must agree with its headers, and all lengths with the
//! bytes there are. Bytes behind the IP packet's end are left out. Not cut: IP fragments, packets with segments left in a
//! routing header (their pseudo-header is another), and what would give more than [`SEGMENTS_MAX`].

use std::ops::Range;

use crate::checksum::Sum;
use crate::view::{ETHERNET_LEN, Family, Fragment, Ipv4, Ipv6, Layout, Tcp, UDP_LEN, Udp, protocol, tcp_flag};
use crate::{FrameRef, Gso, Offload};

/// Longest block of headers of a segment, in bytes: Ethernet, IPv6, 60 bytes of TCP, and room for extension headers.
pub const HEADERS_MAX: usize = 192;
/// Most segments a super-frame may stand for: 64 KiB in the smallest segments a sane sender makes, 32 bytes.
pub const SEGMENTS_MAX: usize = 2048;
/// Where a TCP header has its checksum.
pub const TCP_CSUM_OFFSET: u16 = 16;
/// Where a UDP header has its checksum.
pub const UDP_CSUM_OFFSET: u16 = 6;

/// How the transport checksum of a segment is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChecksumForm {
    /// Right as it stands.
    Complete,
    /// Only the pseudo-header is summed; whoever sends the segment on completes it.
    Partial,
}

/// Why a frame cannot be cut or its checksum not completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CutError {
    /// The metadata says it is an ordinary frame; or that it is a super-frame, where one cannot be.
    #[error("super-frame type {0:?} has no place here")]
    Kind(Gso),
    /// The segment size is zero or gives more than [`SEGMENTS_MAX`].
    #[error("a segment size of {0} bytes")]
    Size(u16),
    /// The headers contradict themselves or the type, are too long, or are not all in the head.
    #[error("the headers do not fit the super-frame type")]
    Headers,
    /// The IP header promises more bytes than there are.
    #[error("the IP header promises {promised} bytes of frame, there are {there}")]
    Length {
        /// Bytes of frame by the IP header.
        promised: usize,
        /// Bytes of frame received.
        there: usize,
    },
    /// The checksum to complete does not lie inside the head.
    #[error("no checksum at {start} + {offset}")]
    Checksum {
        /// Where its coverage would start.
        start: u16,
        /// Where it would lie from there.
        offset: u16,
    },
}

/// A super-frame being cut.
pub struct Cut<'a> {
    headers: &'a [u8],
    payload: FrameRef<'a>,
    transport: usize,
    family: Family,
    tcp: bool,
    size: usize,
    form: ChecksumForm,
    /// The pseudo-header without its length.
    pseudo: Sum,
    /// The transport header without what differs from segment to segment.
    constant: Sum,
    index: usize,
    segments: usize,
}

impl<'a> Cut<'a> {
    /// Checks the super-frame `frame` and gets ready to cut it as `offload` says.
    pub fn new(frame: FrameRef<'a>, offload: &Offload, form: ChecksumForm) -> Result<Self, CutError> {
        let layout = Layout::parse(frame.head).ok_or(CutError::Headers)?;
        let tcp = match (offload.gso, layout.family, layout.protocol) {
            (Gso::None, ..) => return Err(CutError::Kind(Gso::None)),
            (Gso::Tcp4, Family::V4, protocol::TCP) | (Gso::Tcp6, Family::V6, protocol::TCP) => true,
            (Gso::Udp, _, protocol::UDP) => false,
            _ => return Err(CutError::Headers),
        };
        let transport = frame.head.get(layout.transport..).ok_or(CutError::Headers)?;
        let transport_len = if tcp { Tcp::parse(transport).map(|tcp| tcp.header_len()) } else { Some(UDP_LEN) };
        let header_len = layout.transport + transport_len.ok_or(CutError::Headers)?;
        if layout.fragment != Fragment::Whole || layout.routed || header_len > HEADERS_MAX.min(frame.head.len()) {
            return Err(CutError::Headers);
        }
        if layout.end > frame.len() || layout.end < header_len {
            return Err(CutError::Length { promised: layout.end, there: frame.len() });
        }
        let size = usize::from(offload.gso_size);
        let segments = if size == 0 { usize::MAX } else { (layout.end - header_len).div_ceil(size).max(1) };
        if segments > SEGMENTS_MAX {
            return Err(CutError::Size(offload.gso_size));
        }
        let (headers, head) = frame.head[..layout.end.min(frame.head.len())].split_at(header_len);
        let tail = &frame.tail[..layout.end.saturating_sub(frame.head.len())];
        let (pseudo, constant) = constant_sums(headers, &layout).ok_or(CutError::Headers)?;
        let payload = FrameRef { head, tail };
        let (transport, family) = (layout.transport, layout.family);
        Ok(Cut { headers, payload, transport, family, tcp, size, form, pseudo, constant, index: 0, segments })
    }

    /// Segments still to come.
    pub fn segments(&self) -> usize {
        self.segments - self.index
    }

    /// Bytes of every segment's header block, at most [`HEADERS_MAX`].
    pub fn header_len(&self) -> usize {
        self.headers.len()
    }

    /// What is to be said beside every segment.
    pub fn offload(&self) -> Offload {
        match self.form {
            ChecksumForm::Complete => Offload::default(),
            ChecksumForm::Partial => Offload {
                needs_csum: true,
                header_len: self.headers.len() as u16,
                csum_start: self.transport as u16,
                csum_offset: if self.tcp { TCP_CSUM_OFFSET } else { UDP_CSUM_OFFSET },
                ..Offload::default()
            },
        }
    }

    /// Writes the next segment's headers to the first [`Cut::header_len`] bytes of `block`, which must be that long, and
    /// returns the place of its payload in the super-frame's payload.
    #[inline]
    pub fn next(&mut self, block: &mut [u8]) -> Option<Range<usize>> {
        if self.index == self.segments {
            return None;
        }
        let start = self.index * self.size;
        let payload = start..(start + self.size).min(self.payload.len());
        let block = &mut block[..self.headers.len()];
        block.copy_from_slice(self.headers);
        let after_ip = block.len() - self.transport + payload.len();
        self.write_network(&mut block[ETHERNET_LEN..], self.transport - ETHERNET_LEN + after_ip)?;
        if self.tcp {
            self.write_tcp(&mut block[self.transport..], &payload, after_ip as u16)?;
        } else {
            self.write_udp(&mut block[self.transport..], &payload, after_ip as u16)?;
        }
        self.index += 1;
        Some(payload)
    }

    /// The bytes of a part of the payload, the second slice often empty.
    #[inline]
    pub fn payload(&self, part: &Range<usize>) -> [&'a [u8]; 2] {
        let FrameRef { head, tail } = self.payload;
        let bound = head.len();
        [
            &head[part.start.min(bound)..part.end.min(bound)],
            &tail[part.start.saturating_sub(bound)..part.end.saturating_sub(bound)],
        ]
    }

    #[inline]
    fn write_network(&self, packet: &mut [u8], packet_len: usize) -> Option<()> {
        match self.family {
            Family::V4 => {
                let mut ip = Ipv4::parse_mut(packet)?;
                ip.set_total_len(packet_len as u16);
                ip.set_id(ip.id().wrapping_add(self.index as u16));
            }
            Family::V6 => Ipv6::parse_mut(packet)?.set_payload_len((packet_len - crate::view::IPV6_LEN) as u16),
        }
        Some(())
    }

    #[inline]
    fn write_tcp(&self, header: &mut [u8], payload: &Range<usize>, length: u16) -> Option<()> {
        let mut tcp = Tcp::parse_mut(header)?;
        let mut flags = tcp.flags();
        if self.index > 0 {
            flags &= !tcp_flag::CWR;
        }
        if self.index + 1 < self.segments {
            flags &= !(tcp_flag::FIN | tcp_flag::PSH);
        }
        let sequence = tcp.sequence().wrapping_add(payload.start as u32);
        tcp.set_flags(flags);
        tcp.set_sequence(sequence);
        tcp.set_checksum(match self.form {
            ChecksumForm::Partial => self.pseudo.add_u16(length).fold(),
            ChecksumForm::Complete => {
                self.with_payload(self.constant.add_u16(length).add_u16(flags).add_u32(sequence), payload).finish()
            }
        });
        Some(())
    }

    #[inline]
    fn write_udp(&self, header: &mut [u8], payload: &Range<usize>, length: u16) -> Option<()> {
        let mut udp = Udp::parse_mut(header)?;
        udp.set_datagram_len(length);
        udp.set_checksum(match self.form {
            ChecksumForm::Partial => self.pseudo.add_u16(length).fold(),
            ChecksumForm::Complete => {
                self.with_payload(self.constant.add_u16(length).add_u16(length), payload).finish_udp()
            }
        });
        Some(())
    }

    #[inline]
    fn with_payload(&self, sum: Sum, part: &Range<usize>) -> Sum {
        let [head, tail] = self.payload(part);
        sum.add_bytes(head).add_bytes(tail)
    }
}

/// Completes the unfinished checksum of an ordinary frame in place and says so in `offload`. Nothing is done to a frame
/// that needs none. The field is taken to hold the pseudo-header's sum; whether it lies in a transport header at all is
/// not looked at, only that it lies in `head`.
pub fn complete_checksum(head: &mut [u8], tail: &[u8], offload: &mut Offload) -> Result<(), CutError> {
    if offload.gso != Gso::None {
        return Err(CutError::Kind(offload.gso));
    }
    if offload.needs_csum {
        complete_checksum_at(head, tail, (offload.csum_start, offload.csum_offset))?;
        offload.needs_csum = false;
    }
    Ok(())
}

/// The same of the checksum at `offset` in what begins at `start`, which is unfinished.
pub fn complete_checksum_at(head: &mut [u8], tail: &[u8], (start, offset): (u16, u16)) -> Result<(), CutError> {
    let (wrong, is_udp) = (CutError::Checksum { start, offset }, offset == UDP_CSUM_OFFSET);
    let (start, offset) = (usize::from(start), usize::from(offset));
    let covered = head.get_mut(start..).filter(|_| start >= ETHERNET_LEN).ok_or(wrong)?;
    let sum = Sum::of(covered).add_bytes(tail);
    let field = covered.get_mut(offset..).and_then(|rest| rest.first_chunk_mut::<2>()).ok_or(wrong)?;
    let checksum = if is_udp { sum.finish_udp() } else { sum.finish() };
    *field = checksum.to_be_bytes();
    Ok(())
}

/// The pseudo-header's sum without the length, and with the transport header's words that all segments share. A word is
/// taken out of a sum by adding its complement.
fn constant_sums(headers: &[u8], layout: &Layout) -> Option<(Sum, Sum)> {
    let (packet, transport) = (&headers[ETHERNET_LEN..], &headers[layout.transport..]);
    let pseudo = match layout.family {
        Family::V4 => Ipv4::parse(packet)?.pseudo(layout.protocol, 0),
        Family::V6 => Ipv6::parse(packet)?.pseudo(layout.protocol, 0),
    };
    let all = pseudo.add_bytes(transport);
    let constant = if layout.protocol == protocol::TCP {
        let tcp = Tcp::parse(transport)?;
        all.add_u32(!tcp.sequence()).add_u16(!tcp.flags()).add_u16(!tcp.checksum())
    } else {
        let udp = Udp::parse(transport)?;
        all.add_u16(!udp.datagram_len()).add_u16(!udp.checksum())
    };
    Some((pseudo, constant))
}

#[cfg(test)]
mod tests;

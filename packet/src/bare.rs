//! Frames that came with nothing said beside them, as out of a tunnel: what their headers tell instead.
//!
//! A port with virtio headers says of each frame whether its transport checksum is unfinished and what it stands for.
//! What comes through a socket has lost that, yet a kernel whose tunnel ends on the same machine hands over both kinds:
//! small frames whose checksum field holds only the pseudo-header's sum, and super-frames nobody has cut.
//!
//! A field that equals the bare pseudo-header's sum is taken as **unfinished**. Should it be a finished one by chance
//! (one in 65 536), nothing is lost: finishing it gives the same value again.
//!
//! The segment size of an uncut TCP super-frame is what fits the MTU of its sender's network. A UDP super-frame has a
//! size of its sender's choice, which only the socket can tell: Linux says it of such a frame as it does of datagrams
//! it has joined.

use crate::checksum::Sum;
use crate::segment::{TCP_CSUM_OFFSET, UDP_CSUM_OFFSET};
use crate::view::{
    ETHERNET_LEN, Family, Fragment, IPV4_LEN, Ipv4, Ipv6, Layout, TCP_LEN, Tcp, UDP_LEN, Udp, ethertype, protocol,
};
use crate::{FrameRef, Gso, Offload, Reason};

/// What a transport checksum turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChecksumFound {
    /// Right as it stands.
    Finished,
    /// Equal to the bare pseudo-header's sum: whoever sends the frame on finishes it.
    Unfinished,
    /// UDP without checksum.
    Absent,
    /// None of these.
    Wrong,
}

impl ChecksumFound {
    /// Looks at the TCP or UDP checksum of `frame`, summing the payload where needed. `None` where there is none to be
    /// looked at: another protocol, a fragment, headers or lengths that contradict each other.
    pub fn of(frame: FrameRef<'_>) -> Option<ChecksumFound> {
        let transport = Transport::parse(frame)?;
        let bound = frame.head.len();
        let head = &frame.head[usize::from(transport.start)..transport.end.min(bound)];
        let tail = &frame.tail[..transport.end.saturating_sub(bound)];
        if transport.is_absent() {
            return Some(ChecksumFound::Absent);
        }
        Some(Self::judge(transport.checksum, transport.pseudo, [head, tail]))
    }

    /// Judges a checksum that is there by its pseudo-header and the two parts of what else it covers, itself included.
    #[inline]
    pub(crate) fn judge(checksum: u16, pseudo: Sum, [head, tail]: [&[u8]; 2]) -> ChecksumFound {
        if checksum == pseudo.fold() {
            ChecksumFound::Unfinished
        } else if pseudo.add_bytes(head).add_bytes(tail).is_right() {
            ChecksumFound::Finished
        } else {
            ChecksumFound::Wrong
        }
    }
}

impl Offload {
    /// What is to be said beside `frame`, which came from a network of `mtu` bytes; `segment` are the payload bytes of
    /// each datagram of a UDP super-frame, where that is told. Sums no payload: a wrong checksum is left to the
    /// receiver.
    ///
    /// # Errors
    /// [`Reason::Uncuttable`] for a frame over the MTU that is neither an unfinished TCP super-frame nor an unfinished
    /// UDP one of told size.
    #[inline]
    pub fn of_bare(frame: FrameRef<'_>, mtu: u16, segment: Option<u16>) -> Result<Offload, Reason> {
        let long = frame.len() > ETHERNET_LEN + usize::from(mtu);
        if !long && segment.is_none() && is_finished_plain(frame.head) {
            return Ok(Offload::default());
        }
        let transport = Transport::parse(frame).filter(Transport::is_unfinished);
        let Some(transport) = transport else {
            return if long { Err(Reason::Uncuttable) } else { Ok(Offload::default()) };
        };
        let offload = Offload {
            needs_csum: true,
            header_len: transport.header_len,
            csum_start: transport.start,
            csum_offset: if transport.tcp { TCP_CSUM_OFFSET } else { UDP_CSUM_OFFSET },
            ..Offload::default()
        };
        let long = transport.end > ETHERNET_LEN + usize::from(mtu);
        let gso = match (transport.tcp, segment) {
            (false, Some(size)) if transport.end > usize::from(transport.header_len) + usize::from(size) => {
                return Ok(Offload { gso: Gso::Udp, gso_size: size, ..offload });
            }
            _ if !long => return Ok(offload),
            (false, _) => return Err(Reason::Uncuttable),
            (true, _) => transport.gso(),
        };
        let room = (ETHERNET_LEN as u16 + mtu).checked_sub(transport.header_len).filter(|room| *room > 0);
        Ok(Offload { gso, gso_size: room.ok_or(Reason::Uncuttable)?, ..offload })
    }
}

/// True for an IPv4 packet without options whose checksum field, were it TCP's or UDP's, is not the pseudo-header's sum: nothing
/// is to be said beside it, whatever it is. Nearly all that comes out of a tunnel.
#[inline]
fn is_finished_plain(head: &[u8]) -> bool {
    let Some(start) = head.first_chunk::<{ ETHERNET_LEN + IPV4_LEN + TCP_LEN }>() else { return false };
    let word = |at: usize| u16::from_be_bytes([start[at], start[at + 1]]);
    let long = |at: usize| u32::from_be_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]);
    let (carried, length) = (start[ETHERNET_LEN + 9], word(ETHERNET_LEN + 2).wrapping_sub(IPV4_LEN as u16));
    let field = match carried {
        protocol::TCP => TCP_CSUM_OFFSET,
        protocol::UDP => UDP_CSUM_OFFSET,
        _ => return false,
    };
    let pseudo = Sum::new().add_u32(long(ETHERNET_LEN + 12)).add_u32(long(ETHERNET_LEN + 16));
    let is_plain = word(ETHERNET_LEN - 2) == ethertype::IPV4 && start[ETHERNET_LEN] == 0x45;
    let checksum = word(ETHERNET_LEN + IPV4_LEN + usize::from(field));
    is_plain && checksum != pseudo.add_u16(carried.into()).add_u16(length).fold()
}

/// The transport header of a whole TCP or UDP packet.
struct Transport {
    tcp: bool,
    family: Family,
    /// Where it starts in the frame.
    start: u16,
    /// Where the payload starts in the frame.
    header_len: u16,
    /// Where the packet ends in the frame.
    end: usize,
    checksum: u16,
    pseudo: Sum,
}

impl Transport {
    #[inline]
    fn parse(frame: FrameRef<'_>) -> Option<Transport> {
        let layout = Layout::parse(frame.head)?;
        if layout.fragment != Fragment::Whole || layout.routed || layout.end > frame.len() {
            return None;
        }
        let length = layout.end.checked_sub(layout.transport)?;
        let header = frame.head.get(layout.transport..)?;
        let (tcp, header_len, checksum) = match layout.protocol {
            protocol::TCP => Tcp::parse(header).map(|tcp| (true, tcp.header_len(), tcp.checksum()))?,
            protocol::UDP => {
                let udp = Udp::parse(header).filter(|udp| usize::from(udp.datagram_len()) == length)?;
                (false, UDP_LEN, udp.checksum())
            }
            _ => return None,
        };
        if header_len > length {
            return None;
        }
        let packet = &frame.head[ETHERNET_LEN..];
        let pseudo = match layout.family {
            Family::V4 => Ipv4::parse(packet)?.pseudo(layout.protocol, length as u16),
            Family::V6 => Ipv6::parse(packet)?.pseudo(layout.protocol, length as u32),
        };
        Some(Transport {
            tcp,
            family: layout.family,
            start: layout.transport as u16,
            header_len: (layout.transport + header_len) as u16,
            end: layout.end,
            checksum,
            pseudo,
        })
    }

    /// What a TCP super-frame is.
    #[inline]
    fn gso(&self) -> Gso {
        match self.family {
            Family::V4 => Gso::Tcp4,
            Family::V6 => Gso::Tcp6,
        }
    }

    #[inline]
    fn is_absent(&self) -> bool {
        !self.tcp && self.checksum == 0
    }

    #[inline]
    fn is_unfinished(&self) -> bool {
        !self.is_absent() && self.checksum == self.pseudo.fold()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ChecksumForm;
    use crate::sample::{Sample, check, samples};

    fn found(frame: &[u8]) -> Option<ChecksumFound> {
        let whole = ChecksumFound::of(FrameRef { head: frame, tail: &[] });
        for at in [120, 200] {
            let (head, tail) = frame.split_at(at.min(frame.len()));
            assert_eq!(ChecksumFound::of(FrameRef { head, tail }), whole, "split at {at}");
        }
        whole
    }

    fn said(frame: &[u8], mtu: u16) -> Result<Offload, Reason> {
        Offload::of_bare(FrameRef { head: frame, tail: &[] }, mtu, None)
    }

    proptest! {
        /// Etherparse writes and checks; a finished checksum that equals the bare sum by chance is rare enough to be
        /// left out.
        #[test]
        fn checksums_are_judged_as_etherparse_does(sample in samples(), at in any::<prop::sample::Index>(), padding in 0usize..20) {
            let (mut partial, unfinished) = sample.segments(ChecksumForm::Partial);
            let (complete, _) = sample.segments(ChecksumForm::Complete);
            let field = usize::from(unfinished.csum_start + unfinished.csum_offset);
            prop_assume!(complete[0][field..field + 2] != partial[0][field..field + 2]);
            check(&complete[0]);
            prop_assert_eq!(found(&complete[0]), Some(ChecksumFound::Finished));
            prop_assert_eq!(found(&partial[0]), Some(ChecksumFound::Unfinished));
            partial[0].extend(vec![0xee; padding]);
            prop_assert_eq!(said(&partial[0], 1500), Ok(unfinished));
            prop_assert_eq!(said(&complete[0], 1500), Ok(Offload::default()));

            // Any payload byte changed: wrong, but nothing to be said beside it.
            let mut wrong = complete[0].clone();
            let start = usize::from(unfinished.header_len);
            prop_assume!(wrong.len() > start);
            let at = start + at.index(wrong.len() - start);
            wrong[at] ^= 0x10;
            prop_assert_eq!(found(&wrong), Some(ChecksumFound::Wrong));
            prop_assert_eq!(said(&wrong, 1500), Ok(Offload::default()));
        }

        #[test]
        fn an_uncut_tcp_super_frame_gets_its_sender_s_segments(sample in samples()) {
            let (frame, offload) = sample.build();
            prop_assume!(frame.len() > usize::from(offload.header_len + offload.gso_size));
            let mtu = offload.header_len + offload.gso_size - ETHERNET_LEN as u16;
            let expected = if sample.tcp.is_some() { Ok(offload) } else { Err(Reason::Uncuttable) };
            prop_assert_eq!(said(&frame, mtu), expected);
            prop_assert_eq!(said(&frame, mtu.saturating_sub(offload.gso_size)), Err(Reason::Uncuttable));
        }
    }

    proptest! {
        #[test]
        fn an_uncut_udp_super_frame_needs_to_be_told_its_segments(sample in samples(), mtu in 200u16..) {
            let (frame, offload) = sample.build();
            let told = |size| Offload::of_bare(FrameRef { head: &frame, tail: &[] }, mtu, Some(size));
            if sample.tcp.is_some() {
                prop_assert_eq!(told(offload.gso_size), said(&frame, mtu));
            } else if frame.len() > usize::from(offload.header_len + offload.gso_size) {
                prop_assert_eq!(told(offload.gso_size), Ok(offload));
                prop_assert_eq!(told((frame.len() - usize::from(offload.header_len)) as u16), said(&frame, mtu));
            }
        }
    }

    #[test]
    fn a_long_frame_that_is_finished_or_no_tcp_is_refused() {
        let mut sample = Sample::tcp(Family::V4);
        sample.size = 1000;
        let frame = sample.segments(ChecksumForm::Complete).0.remove(0);
        assert_eq!(said(&frame, 1500), Ok(Offload::default()));
        assert_eq!(said(&frame, 100), Err(Reason::Uncuttable));
        let mut other = frame;
        other[ETHERNET_LEN + 9] = 1;
        assert_eq!((found(&other), said(&other, 100)), (None, Err(Reason::Uncuttable)));
    }

    #[test]
    fn what_has_no_checksum_to_look_at_says_nothing() {
        let mut sample = Sample::udp(Family::V6);
        sample.size = 1000;
        let udp = sample.segments(ChecksumForm::Partial).0.remove(0);
        let with = |at: usize, bytes: &[u8]| {
            let mut frame = udp.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            frame
        };
        let zero = with(54 + 6, &[0, 0]);
        assert_eq!((found(&zero), said(&zero, 1500)), (Some(ChecksumFound::Absent), Ok(Offload::default())));
        let odd_length = with(54 + 4, &[0, 9]);
        let other_protocol = with(20, &[protocol::ICMP_V6]);
        let mut fragment = Sample::tcp(Family::V4).build().0;
        fragment[ETHERNET_LEN + 6] = 0x20;
        let longer = with(18, &[2, 0]);
        for frame in [odd_length, other_protocol, fragment, longer, udp[..40].to_vec(), vec![]] {
            assert_eq!((found(&frame), said(&frame, 1500)), (None, Ok(Offload::default())));
        }
        let mut short = Sample::tcp(Family::V4).build().0;
        short[16..18].copy_from_slice(&(IPV4_LEN as u16 + 20).to_be_bytes());
        assert_eq!(found(&short), None, "TCP options behind the packet's end");
    }
}

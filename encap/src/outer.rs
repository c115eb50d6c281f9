//! The outer headers of a received packet, where the kernel has not read them for us.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use packet::checksum::{Sum, ipv4_header_is_right};
use packet::view::{IPV4_LEN, IPV6_LEN, Ipv4, Ipv6, UDP_LEN, Udp, protocol};
use packet::{FrameRef, Reason};

/// What the outer headers say, and what they carry.
#[derive(Clone, Copy, Debug)]
pub struct Outer<'a> {
    /// Who sent it, by its own account.
    pub source: IpAddr,
    /// TOS or traffic class, for [`ecn::propagate`](crate::ecn::propagate).
    pub tos: u8,
    /// Where the payload starts in the packet.
    pub start: usize,
    /// What [`Tunnel::strip`](crate::Tunnel::strip) takes, without link-layer padding.
    pub payload: FrameRef<'a>,
}

impl<'a> Outer<'a> {
    /// Reads an IP packet (a frame without its Ethernet header) that should be a UDP datagram to `end`, our end of the
    /// tunnel. A UDP checksum is summed unless the port `vouched` for it or said that it is unfinished. Without one a
    /// datagram is accepted over IPv4 (RFC 7348, section 5) and refused over IPv6 (RFC 8200, section 8.1), as Linux
    /// does.
    ///
    /// # Errors
    /// The reason to drop it: [`Reason::NotTunnel`], [`Reason::Truncated`], [`Reason::BadIpHeader`],
    /// [`Reason::BadIpLength`], [`Reason::BadIpChecksum`], [`Reason::OuterFragment`], [`Reason::NoOuterChecksum`],
    /// [`Reason::BadOuterChecksum`].
    #[inline]
    pub fn udp(packet: FrameRef<'a>, end: SocketAddr, vouched: bool) -> Result<Self, Reason> {
        let outer = match end {
            SocketAddr::V4(end) => Self::v4(packet, *end.ip(), protocol::UDP)?,
            SocketAddr::V6(end) => Self::v6(packet, end.ip())?,
        };
        let udp = Udp::parse(outer.payload.head).ok_or(Reason::Truncated)?;
        let length = usize::from(udp.datagram_len());
        if length > outer.payload.len() {
            return Err(Reason::Truncated);
        }
        if udp.destination_port() != end.port() {
            return Err(Reason::NotTunnel);
        }
        let datagram = part(outer.payload, 0, length);
        match udp.checksum() {
            0 if end.is_ipv6() => return Err(Reason::NoOuterChecksum),
            0 => {}
            _ if vouched || sum_is_right(packet.head, datagram) => {}
            _ => return Err(Reason::BadOuterChecksum),
        }
        Ok(Outer { start: outer.start + UDP_LEN, payload: part(datagram, UDP_LEN, length), ..outer })
    }

    /// Reads an IPv4 packet, as a raw socket gives it, that should be IP-in-IP to `end`.
    ///
    /// # Errors
    /// As [`Outer::udp`], without those of UDP.
    #[inline]
    pub fn ipip(packet: FrameRef<'a>, end: Ipv4Addr) -> Result<Self, Reason> {
        Self::v4(packet, end, protocol::IPV4)
    }

    #[inline(always)]
    fn v4(packet: FrameRef<'a>, end: Ipv4Addr, protocol: u8) -> Result<Self, Reason> {
        if packet.head.len() < IPV4_LEN {
            return Err(Reason::Truncated);
        }
        let ip = Ipv4::parse(packet.head).ok_or(Reason::BadIpHeader)?;
        let (header_len, length) = (ip.header_len(), usize::from(ip.total_len()));
        if length > packet.len() {
            return Err(Reason::BadIpLength);
        }
        let plain = header_len == IPV4_LEN;
        if !(plain && ipv4_header_is_right(ip.bytes()) || !plain && Sum::of(&packet.head[..header_len]).is_right()) {
            return Err(Reason::BadIpChecksum);
        }
        if ip.protocol() != protocol || ip.destination() != end {
            return Err(Reason::NotTunnel);
        }
        if ip.is_fragment() {
            return Err(Reason::OuterFragment);
        }
        let payload = part(packet, header_len, length);
        Ok(Outer { source: ip.source().into(), tos: ip.tos(), start: header_len, payload })
    }

    /// No tunnel we know of has extension headers outside.
    #[inline(always)]
    fn v6(packet: FrameRef<'a>, end: &Ipv6Addr) -> Result<Self, Reason> {
        if packet.head.len() < IPV6_LEN {
            return Err(Reason::Truncated);
        }
        let ip = Ipv6::parse(packet.head).ok_or(Reason::BadIpHeader)?;
        let length = IPV6_LEN + usize::from(ip.payload_len());
        if length > packet.len() {
            return Err(Reason::BadIpLength);
        }
        match ip.next_header() {
            _ if ip.destination() != *end => return Err(Reason::NotTunnel),
            protocol::UDP => {}
            protocol::FRAGMENT => return Err(Reason::OuterFragment),
            _ => return Err(Reason::NotTunnel),
        }
        let payload = part(packet, IPV6_LEN, length);
        Ok(Outer { source: ip.source().into(), tos: ip.traffic_class(), start: IPV6_LEN, payload })
    }
}

/// Sums a UDP datagram and the pseudo-header of the IP packet in whose head it begins.
#[inline(never)]
fn sum_is_right(head: &[u8], datagram: FrameRef<'_>) -> bool {
    let length = datagram.len() as u16;
    let pseudo = match (Ipv4::parse(head), Ipv6::parse(head)) {
        (Some(ip), _) => ip.pseudo(protocol::UDP, length),
        (_, Some(ip)) => ip.pseudo(protocol::UDP, length.into()),
        _ => return false,
    };
    pseudo.add_bytes(datagram.head).add_bytes(datagram.tail).is_right()
}

/// The bytes from `start`, which lies in the head, to `end`.
#[inline(always)]
fn part(frame: FrameRef<'_>, start: usize, end: usize) -> FrameRef<'_> {
    let bound = frame.head.len();
    FrameRef { head: &frame.head[start..end.min(bound)], tail: &frame.tail[..end.saturating_sub(bound)] }
}

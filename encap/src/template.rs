//! The outer headers towards one neighbour, made once and stamped before every frame.
//!
//! A template holds the finished headers with zeros where frames differ, right-aligned, and beside them the sums of
//! what never changes. Stamping is one copy of a fixed size and a few patches at constant places:
//!
//! ```text
//!   room       |  .....  | Ethernet | IP           | UDP        | VXLAN | inner frame
//!                                     length         source port
//!                                     TOS: ECN       length
//!                                     IPv4: id,      checksum: 0 or the pseudo-header's sum
//!                                           checksum
//!              <-- ROOM bytes, all overwritten ------------------------>
//! ```
//!
//! By default headers are those of flannel's and Calico's devices in Linux: TTL 64, may be fragmented, no UDP checksum
//! over IPv4. Over IPv6 there always is one. A UDP checksum is stamped *unfinished*, since in full it would need every
//! payload byte: whoever writes the frame says so beside it (`csum_start` at the UDP header) and the kernel or the
//! network card finishes it, or [`packet::complete_checksum`] does. IP-in-IP has none.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use packet::checksum::{Sum, pseudo_v4, pseudo_v6};
use packet::view::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN, UDP_LEN, ethertype, protocol};
use packet::{Mac, Vni};

use crate::vxlan::{VXLAN_LEN, vxlan_header};
use crate::{ecn, overhead};

/// Bytes before the inner frame that [`Template::stamp`] overwrites: the longest outer headers, rounded up.
pub const ROOM: usize = 72;
/// Source ports of outer UDP, chosen by flow so that the underlay spreads flows and keeps each in order: those Linux
/// uses (`net.ipv4.ip_local_port_range`).
pub const SOURCE_PORTS: RangeInclusive<u16> = 32_768..=60_999;

/// Both ends of a tunnel on the underlay, by address and, on the link towards the remote one, by station.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends<A> {
    /// Our address.
    pub local: A,
    /// The neighbour's.
    pub remote: A,
    /// Our station on the link.
    pub local_mac: Mac,
    /// The neighbour's station, or the router's on the way to it.
    pub remote_mac: Mac,
}

/// What differs from frame to frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Bytes that follow: the Ethernet frame in VXLAN, else the IPv4 packet.
    pub length: usize,
    /// A hash of the inner flow, spread over all of its bits.
    pub flow_hash: u32,
    /// TOS or traffic class of the inner packet.
    pub tos: u8,
    /// IPv4 identification: another for each packet that may be fragmented, 0 where that is forbidden (RFC 6864).
    pub id: u16,
}

/// Outer headers towards one neighbour.
#[derive(Clone, Debug)]
pub struct Template {
    /// Right-aligned.
    headers: [u8; ROOM],
    /// Of the IPv4 header.
    network_sum: u16,
    /// Of the pseudo-header.
    udp_sum: u16,
    /// All ones to stamp the UDP checksum, all zeros to stamp none.
    udp_sum_mask: u16,
    kind: Kind,
}

impl Template {
    /// VXLAN over IPv4 to `port`.
    pub fn vxlan_v4(ends: &Ends<Ipv4Addr>, vni: Vni, port: u16) -> Self {
        Self::v4(Kind::VxlanV4, ends, &[&udp_to(port)[..], &vxlan_header(vni)].concat())
    }

    /// VXLAN over IPv6 to `port`.
    pub fn vxlan_v6(ends: &Ends<Ipv6Addr>, vni: Vni, port: u16) -> Self {
        let mut ip = [0; IPV6_LEN];
        (ip[0], ip[6], ip[7]) = (6 << 4, protocol::UDP, TTL);
        ip[8..24].copy_from_slice(&ends.local.octets());
        ip[24..].copy_from_slice(&ends.remote.octets());
        let parts = [&ethernet(ends, ethertype::IPV6)[..], &ip, &udp_to(port), &vxlan_header(vni)];
        let udp_sum = pseudo_v6(ends.local, ends.remote, protocol::UDP, 0).fold();
        let template = Self::of(Kind::VxlanV6, &parts.concat());
        Template { udp_sum, udp_sum_mask: u16::MAX, ..template }
    }

    /// flannel's UDP to `port`.
    pub fn flannel_udp(ends: &Ends<Ipv4Addr>, port: u16) -> Self {
        Self::v4(Kind::FlannelUdp, ends, &udp_to(port))
    }

    /// IP-in-IP.
    pub fn ipip(ends: &Ends<Ipv4Addr>) -> Self {
        Self::v4(Kind::Ipip, ends, &[])
    }

    /// The same with a UDP checksum, unfinished. Towards receivers that join datagrams only if they have one.
    pub fn with_udp_checksum(self) -> Self {
        Template { udp_sum_mask: u16::MAX, ..self }
    }

    /// The same with outer fragmentation forbidden (IPv4; over IPv6 only the sender may).
    pub fn with_dont_fragment(mut self) -> Self {
        if self.kind != Kind::VxlanV6 {
            let at = ROOM - self.header_len() + ETHERNET_LEN;
            self.headers[at + 6] = DONT_FRAGMENT;
            self.network_sum = Sum::of(&self.headers[at..at + IPV4_LEN]).fold();
        }
        self
    }

    /// Bytes stamped before the inner frame or packet.
    #[inline]
    pub fn header_len(&self) -> usize {
        match self.kind {
            Kind::VxlanV4 => ETHERNET_LEN + IPV4_LEN + UDP_LEN + VXLAN_LEN,
            Kind::VxlanV6 => ETHERNET_LEN + IPV6_LEN + UDP_LEN + VXLAN_LEN,
            Kind::FlannelUdp => ETHERNET_LEN + IPV4_LEN + UDP_LEN,
            Kind::Ipip => ETHERNET_LEN + IPV4_LEN,
        }
    }

    /// Bytes by which an inner IP packet grows until it is an outer one: one of [`crate::overhead`].
    pub fn overhead(&self) -> u16 {
        match self.kind {
            Kind::VxlanV4 => overhead::VXLAN_V4,
            Kind::VxlanV6 => overhead::VXLAN_V6,
            Kind::FlannelUdp => overhead::FLANNEL_UDP,
            Kind::Ipip => overhead::IPIP,
        }
    }

    /// Writes the outer headers to the end of `room`, the bytes right before the inner frame, and returns how many they
    /// are. What lies before them in `room` is overwritten too. `None`, and nothing done, if the outer packet would be
    /// longer than its length field can say.
    #[inline]
    pub fn stamp(&self, room: &mut [u8; ROOM], stamp: &Stamp) -> Option<usize> {
        let fits = |before: usize| u16::try_from(before + stamp.length).ok();
        match self.kind {
            Kind::VxlanV4 => {
                let length = fits(IPV4_LEN + UDP_LEN + VXLAN_LEN)?;
                *room = self.headers;
                self.patch_v4::<{ ROOM - VXLAN_LEN - UDP_LEN - IPV4_LEN }>(room, stamp, length);
                self.patch_udp::<{ ROOM - VXLAN_LEN - UDP_LEN }>(room, stamp, length - IPV4_LEN as u16);
            }
            Kind::VxlanV6 => {
                let length = fits(UDP_LEN + VXLAN_LEN)?;
                *room = self.headers;
                self.patch_v6::<{ ROOM - VXLAN_LEN - UDP_LEN - IPV6_LEN }>(room, stamp, length);
                self.patch_udp::<{ ROOM - VXLAN_LEN - UDP_LEN }>(room, stamp, length);
            }
            Kind::FlannelUdp => {
                let length = fits(IPV4_LEN + UDP_LEN)?;
                *room = self.headers;
                self.patch_v4::<{ ROOM - UDP_LEN - IPV4_LEN }>(room, stamp, length);
                self.patch_udp::<{ ROOM - UDP_LEN }>(room, stamp, length - IPV4_LEN as u16);
            }
            Kind::Ipip => {
                let length = fits(IPV4_LEN)?;
                *room = self.headers;
                self.patch_v4::<{ ROOM - IPV4_LEN }>(room, stamp, length);
            }
        }
        Some(self.header_len())
    }

    #[inline(always)]
    fn patch_v4<const AT: usize>(&self, room: &mut [u8; ROOM], stamp: &Stamp, length: u16) {
        let tos = ecn::outer(stamp.tos);
        let sum = Sum::new().add_u16(self.network_sum).add_u16(tos.into()).add_u16(length).add_u16(stamp.id);
        room[AT + 1] = tos;
        put(room, AT + 2, length);
        put(room, AT + 4, stamp.id);
        put(room, AT + 10, sum.finish());
    }

    /// The traffic class lies across the first two bytes; its mark is in the second.
    #[inline(always)]
    fn patch_v6<const AT: usize>(&self, room: &mut [u8; ROOM], stamp: &Stamp, length: u16) {
        room[AT + 1] = ecn::outer(stamp.tos) << 4;
        put(room, AT + 4, length);
    }

    #[inline(always)]
    fn patch_udp<const AT: usize>(&self, room: &mut [u8; ROOM], stamp: &Stamp, length: u16) {
        let sum = Sum::new().add_u16(self.udp_sum).add_u16(length).fold();
        put(room, AT, source_port(stamp.flow_hash));
        put(room, AT + 4, length);
        put(room, AT + 6, sum & self.udp_sum_mask);
    }

    fn v4(kind: Kind, ends: &Ends<Ipv4Addr>, after: &[u8]) -> Self {
        let carried = if kind == Kind::Ipip { protocol::IPV4 } else { protocol::UDP };
        let mut ip = [0; IPV4_LEN];
        (ip[0], ip[8], ip[9]) = (4 << 4 | 5, TTL, carried);
        ip[12..16].copy_from_slice(&ends.local.octets());
        ip[16..].copy_from_slice(&ends.remote.octets());
        let template = Self::of(kind, &[&ethernet(ends, ethertype::IPV4)[..], &ip, after].concat());
        let udp_sum = pseudo_v4(ends.local, ends.remote, protocol::UDP, 0).fold();
        Template { network_sum: Sum::of(&ip).fold(), udp_sum, ..template }
    }

    fn of(kind: Kind, stack: &[u8]) -> Self {
        let mut headers = [0; ROOM];
        headers[ROOM - stack.len()..].copy_from_slice(stack);
        Template { headers, network_sum: 0, udp_sum: 0, udp_sum_mask: 0, kind }
    }
}

/// What is stamped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    VxlanV4,
    VxlanV6,
    FlannelUdp,
    Ipip,
}

fn ethernet<A>(ends: &Ends<A>, ethertype: u16) -> [u8; ETHERNET_LEN] {
    let mut header = [0; ETHERNET_LEN];
    header[..6].copy_from_slice(&ends.remote_mac.0);
    header[6..12].copy_from_slice(&ends.local_mac.0);
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
    header
}

fn udp_to(port: u16) -> [u8; UDP_LEN] {
    let [high, low] = port.to_be_bytes();
    [0, 0, high, low, 0, 0, 0, 0]
}

/// Spreads the hash evenly over [`SOURCE_PORTS`].
#[inline(always)]
fn source_port(flow_hash: u32) -> u16 {
    let count = u64::from(*SOURCE_PORTS.end() - *SOURCE_PORTS.start()) + 1;
    SOURCE_PORTS.start() + ((u64::from(flow_hash) * count) >> 32) as u16
}

#[inline(always)]
fn put(bytes: &mut [u8; ROOM], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

const TTL: u8 = 64;
const DONT_FRAGMENT: u8 = 0x40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_ports_cover_their_range_and_no_more() {
        assert_eq!((source_port(0), source_port(u32::MAX)), (*SOURCE_PORTS.start(), *SOURCE_PORTS.end()));
        assert_eq!(source_port(1 << 31), 32_768 + 14_116);
    }
}

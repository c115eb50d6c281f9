//! Parse: what is it?
//!
//! Of the frames that a glance did not tell. Fills the columns `transport`, `protocol`, `shape` and the destination's of every
//! IP packet and trims link-layer padding off its length. Headers are checked against the bytes that are really there; a virtio header that contradicts its frame
//! drops the frame, so that later stages and the kernel's own receive path may rely on it.
//!
//! Consumed here: ARP and neighbour discovery (to the slow path; those out of a tunnel are dropped), IGMP, MLD and
//! router solicitations (under their own reasons). Limits: IPv6 extension headers must lie in the first
//! [`EXTENSIONS_LEN_MAX`] bytes.

use packet::{Burst, Exit, Gso, Mac, Offload, Punt, Reason, SMALL_LEN, Slots, VNET_HEADER_LEN, checksum, shape};

use super::leaving::{destination_v4, destination_v6};
use crate::lane::Lane;
use crate::world::World;

/// What is known of an IP packet after this stage.
#[derive(Clone, Copy)]
pub(super) struct Parsed {
    transport: u16,
    protocol: u8,
    pub(super) shape: u8,
    /// Frame bytes without padding.
    length: u32,
}

impl Parsed {
    #[inline]
    pub(super) fn write(&self, burst: &mut Burst, row: usize) {
        burst.transport[row] = self.transport;
        burst.protocol[row] = self.protocol;
        burst.shape[row] = self.shape;
        burst.length[row] = self.length;
    }

    /// Writes to the columns what the packet in `head` is and where it goes.
    #[inline]
    pub(super) fn write_with(&self, burst: &mut Burst, row: usize, head: &[u8]) {
        self.write(burst, row);
        match self.shape & shape::V6 {
            0 => burst.to_v4[row] = destination_v4(head),
            _ => burst.to_v6[row] = destination_v6(head),
        }
    }
}

pub(super) fn parse(burst: &mut Burst, world: &World, lane: &mut Lane) {
    for &row in lane.others.rows() {
        let row = usize::from(row);
        let gateway = world.port(burst.from[row]).map_or(Mac::ZERO, |port| port.gateway);
        parse_any((burst, row), &lane.slots, gateway);
    }
}

/// Says step by step of any frame what it is.
fn parse_any((burst, row): (&mut Burst, usize), slots: &Slots, gateway: Mac) {
    let (header, _) = slots.header_and_start(burst.head[row]);
    let length = burst.length[row];
    let head = slots.head(burst.head[row], length);
    let parsed = ethernet(head, length as usize, gateway);
    match parsed.and_then(|parsed| offload(header, parsed)) {
        Ok(parsed) => parsed.write_with(burst, row, head),
        Err(exit) if burst.remote[row] != 0 && is_link_scope(exit) => burst.exit[row] = Exit::drop(Reason::Multicast),
        Err(exit) => burst.exit[row] = exit,
    }
}

#[inline]
fn ethernet(head: &[u8], length: usize, gateway: Mac) -> Result<Parsed, Exit> {
    let parsed = packet(head, length)?;
    let destination = Mac(head[..6].try_into().expect("a packet has its Ethernet header before it"));
    if destination == gateway {
        Ok(parsed)
    } else if destination.is_group() {
        Err(Exit::drop(Reason::Multicast))
    } else {
        Err(Exit::drop(Reason::OtherStation))
    }
}

/// What the frame carries, whoever it is for.
#[inline]
pub(super) fn packet(head: &[u8], length: usize) -> Result<Parsed, Exit> {
    let Some(&[.., first, second]) = head.first_chunk::<ETHERNET_LEN>() else {
        return Err(Exit::drop(Reason::Truncated));
    };
    match [first, second] {
        ETHERTYPE_IPV4 => ipv4(head, length),
        ETHERTYPE_IPV6 => ipv6(head, length),
        ETHERTYPE_ARP => Err(Exit::punt(Punt::Arp)),
        _ => Err(Exit::drop(Reason::UnknownEthertype)),
    }
}

/// Questions of a link's stations to each other. Nodes know each other's stations; nobody asks through a tunnel.
fn is_link_scope(exit: Exit) -> bool {
    matches!(exit.why(), Some(Punt::Arp | Punt::NeighborDiscovery))
}

#[inline]
fn ipv4(head: &[u8], length: usize) -> Result<Parsed, Exit> {
    let Some(ip) = head.get(ETHERNET_LEN..).filter(|ip| ip.len() >= IPV4_LEN_MIN) else {
        return Err(Exit::drop(Reason::Truncated));
    };
    let header_len = usize::from(ip[0] & 0xf) * 4;
    if ip[0] >> 4 != 4 || header_len < IPV4_LEN_MIN {
        return Err(Exit::drop(Reason::BadIpHeader));
    }
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    if total < header_len || total > length - ETHERNET_LEN {
        return Err(Exit::drop(Reason::BadIpLength));
    }
    let Some(header) = ip.get(..header_len) else {
        return Err(Exit::drop(Reason::Truncated));
    };
    if !header_checksum_is_right(header) {
        return Err(Exit::drop(Reason::BadIpChecksum));
    }
    let protocol = ip[9];
    if protocol == PROTOCOL_IGMP {
        return Err(Exit::drop(Reason::Igmp));
    }
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff;
    let mut bits = 0;
    if fragment != 0 {
        bits |= shape::FRAGMENT;
        if fragment & 0x1fff != 0 {
            bits |= shape::LATER_FRAGMENT;
        }
    }
    if protocol == PROTOCOL_ICMP && bits & shape::LATER_FRAGMENT == 0 && ip.get(header_len) == Some(&ICMP_REDIRECT) {
        return Err(Exit::drop(Reason::Redirect));
    }
    Ok(Parsed {
        transport: (ETHERNET_LEN + header_len) as u16,
        protocol,
        shape: bits,
        length: (ETHERNET_LEN + total) as u32,
    })
}

#[inline]
fn header_checksum_is_right(header: &[u8]) -> bool {
    match <&[u8; 20]>::try_from(header) {
        Ok(plain) => checksum::ipv4_header_is_right(plain),
        Err(_) => checksum::Sum::of(header).is_right(),
    }
}

#[inline]
fn ipv6(head: &[u8], length: usize) -> Result<Parsed, Exit> {
    let Some(ip) = head.get(ETHERNET_LEN..).filter(|ip| ip.len() >= IPV6_LEN) else {
        return Err(Exit::drop(Reason::Truncated));
    };
    if ip[0] >> 4 != 6 {
        return Err(Exit::drop(Reason::BadIpHeader));
    }
    let end = ETHERNET_LEN + IPV6_LEN + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    if end > length {
        return Err(Exit::drop(Reason::BadIpLength));
    }
    let parsed = extensions(head, end, ip[6])?;
    if parsed.protocol == PROTOCOL_ICMPV6 && parsed.shape & shape::LATER_FRAGMENT == 0 {
        consumed_icmpv6(head, &parsed)?;
    }
    Ok(parsed)
}

/// Walks the extension headers from `next` on; `end` is where the packet ends.
#[inline]
fn extensions(head: &[u8], end: usize, mut next: u8) -> Result<Parsed, Exit> {
    let bad = Exit::drop(Reason::BadExtensionHeader);
    let mut at = ETHERNET_LEN + IPV6_LEN;
    let mut bits = shape::V6;
    while matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
        let header = head.get(at..at + 8).filter(|_| at + 8 <= end).ok_or(bad)?;
        let here = next;
        next = header[0];
        if here == FRAGMENT {
            bits |= shape::FRAGMENT;
            at += 8;
            if u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0 {
                bits |= shape::LATER_FRAGMENT;
                break;
            }
        } else {
            at += 8 + usize::from(header[1]) * 8;
        }
        if at > end || at > ETHERNET_LEN + EXTENSIONS_LEN_MAX {
            return Err(bad);
        }
    }
    Ok(Parsed { transport: at as u16, protocol: next, shape: bits, length: end as u32 })
}

/// Lets go of the ICMPv6 that the switch answers or consumes itself: link-scope talk between a station and its router.
#[inline]
fn consumed_icmpv6(head: &[u8], parsed: &Parsed) -> Result<(), Exit> {
    let kind = head.get(usize::from(parsed.transport)).filter(|_| u32::from(parsed.transport) < parsed.length);
    match kind.copied() {
        Some(ROUTER_SOLICITATION) => Err(Exit::drop(Reason::RouterSolicitation)),
        Some(NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT) => Err(Exit::punt(Punt::NeighborDiscovery)),
        Some(MLD_QUERY | MLD_REPORT | MLD_DONE | MLD2_REPORT) => Err(Exit::drop(Reason::Mld)),
        Some(ROUTER_ADVERTISEMENT | ICMPV6_REDIRECT) => Err(Exit::drop(Reason::Redirect)),
        Some(_) => Ok(()),
        None => Err(Exit::drop(Reason::Truncated)),
    }
}

/// Holds the virtio header against the frame: offsets inside it, super-frame type and protocol in agreement. A checksum
/// to be completed lies behind the IP headers: completing it must not change what was checked, the source address.
#[inline]
fn offload(header: &[u8; VNET_HEADER_LEN], mut parsed: Parsed) -> Result<Parsed, Exit> {
    if header[0] & 1 == 0 && header[1] == 0 {
        return Ok(parsed);
    }
    let bad = Exit::drop(Reason::BadOffload);
    let offload = Offload::parse(header).map_err(|_| bad)?;
    let (transport, in_head) = (usize::from(parsed.transport), parsed.length.min(SMALL_LEN as u32) as usize);
    let start = usize::from(offload.csum_start);
    let field_end = start + usize::from(offload.csum_offset) + 2;
    if offload.needs_csum && (start < transport || field_end > in_head) {
        return Err(bad);
    }
    let family = parsed.shape & shape::V6;
    let (protocol, header_len, fits) = match offload.gso {
        Gso::None => return Ok(parsed),
        Gso::Tcp4 => (PROTOCOL_TCP, TCP_LEN_MIN, family == 0),
        Gso::Tcp6 => (PROTOCOL_TCP, TCP_LEN_MIN, family == shape::V6),
        Gso::Udp => (PROTOCOL_UDP, UDP_LEN, true),
    };
    let whole = transport + header_len < in_head;
    let aligned = offload.needs_csum && start == transport;
    let unfragmented = parsed.shape & shape::FRAGMENT == 0;
    if !(fits && whole && aligned && unfragmented && protocol == parsed.protocol && offload.gso_size > 0) {
        return Err(bad);
    }
    parsed.shape |= shape::SUPER;
    Ok(parsed)
}

pub(super) const ETHERNET_LEN: usize = 14;
pub(super) const IPV4_LEN_MIN: usize = 20;
pub(super) const IPV6_LEN: usize = 40;
const TCP_LEN_MIN: usize = 20;
pub(super) const UDP_LEN: usize = 8;
const EXTENSIONS_LEN_MAX: usize = 1024;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
pub(super) const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_IGMP: u8 = 2;
pub(super) const PROTOCOL_TCP: u8 = 6;
pub(super) const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMPV6: u8 = 58;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

const ICMP_REDIRECT: u8 = 5;
const MLD_QUERY: u8 = 130;
const MLD_REPORT: u8 = 131;
const MLD_DONE: u8 = 132;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const ICMPV6_REDIRECT: u8 = 137;
const MLD2_REPORT: u8 = 143;

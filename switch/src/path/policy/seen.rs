//! What policy sees of a packet: whom it is from and for, and what it is to its flow.

use std::net::{Ipv4Addr, Ipv6Addr};

use packet::{Burst, shape};
use policy::rule::Protocol;
use policy::{Addresses, Transport, Tuple};

use super::super::parse::{ETHERNET_LEN, IPV4_LEN_MIN, IPV6_LEN, PROTOCOL_TCP, PROTOCOL_UDP};
use super::super::transport_fields;
use crate::connections::Key;

/// A packet's flow, from its own end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ends {
    pub(super) source: u128,
    pub(super) destination: u128,
    /// Of messages with an identifier, that twice.
    pub(super) ports: (u16, u16),
    pub(super) protocol: u8,
    pub(super) is_v6: bool,
}

/// What a packet is to its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// One packet of many.
    Of {
        /// It may be the first that is seen: of TCP, it neither answers nor ends anything.
        may_begin: bool,
        /// It begins a connection of TCP, or is a question by ICMP.
        begins: bool,
        /// TCP: it ends one.
        ends: bool,
    },
    /// An error about a packet of this flow, to whom that packet came from.
    About(Ends),
    /// It is of no flow.
    Alone,
}

/// A packet as policy sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) ends: Ends,
    pub(super) part: Part,
    /// Type and code of an ICMP message.
    pub(super) icmp: (u8, u8),
    has_transport: bool,
}

impl Ends {
    /// The key of the flow, and whether the source is the end that comes first in it.
    #[inline]
    pub(super) fn key(&self) -> (Key, bool) {
        let (source, destination) = ((self.source, self.ports.0), (self.destination, self.ports.1));
        let by_first = source <= destination;
        let (one, other) = if by_first { (source, destination) } else { (destination, source) };
        let halves = |address: u128| [address as u64, (address >> u64::BITS) as u64];
        let ([low, high], [other_low, other_high]) = (halves(one.0), halves(other.0));
        let kind = u64::from(self.protocol) << 8 | u64::from(self.is_v6);
        ([u64::from(one.1) << 48 | u64::from(other.1) << 32 | kind, low, other_low, high, other_high], by_first)
    }

    fn addresses(&self) -> Addresses {
        if self.is_v6 {
            let [source, destination] = [self.source, self.destination].map(Ipv6Addr::from);
            Addresses::V6 { source, destination }
        } else {
            let [source, destination] = [self.source, self.destination].map(|address| Ipv4Addr::from(address as u32));
            Addresses::V4 { source, destination }
        }
    }

    /// What rules look at, of a packet from this end that is or was such an ICMP message.
    pub(super) fn tuple(&self, (kind, code): (u8, u8), has_transport: bool) -> Tuple {
        let transport = match self.protocol {
            _ if !has_transport => Transport::Opaque,
            PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP => {
                Transport::Ports { source: self.ports.0, destination: self.ports.1 }
            }
            PROTOCOL_ICMP | PROTOCOL_ICMPV6 => Transport::Icmp { kind, code },
            _ => Transport::Opaque,
        };
        Tuple { addresses: self.addresses(), protocol: Protocol(self.protocol), transport }
    }

    /// The same flow from its other end.
    pub(super) fn reversed(&self) -> Ends {
        let ports = (self.ports.1, self.ports.0);
        Ends { source: self.destination, destination: self.source, ports, ..*self }
    }
}

impl Seen {
    /// Reads a parsed packet.
    #[inline]
    pub(super) fn read(head: &[u8], burst: &Burst, row: usize) -> Seen {
        let (bits, protocol) = (burst.shape[row], burst.protocol[row]);
        let (source, destination) = transport_fields::addresses(head, bits);
        let is_later = bits & shape::LATER_FRAGMENT != 0;
        let transport = head.get(usize::from(burst.transport[row])..).filter(|_| !is_later).unwrap_or_default();
        let payload_end = (burst.length[row] as usize).saturating_sub(burst.transport[row].into());
        let transport = &transport[..transport.len().min(payload_end)];
        let has_transport = transport.len() >= PORTS_LEN;
        let ends = Ends { source, destination, ports: (0, 0), protocol, is_v6: bits & shape::V6 != 0 };
        if is_later || !has_transport {
            return Seen { ends, part: Part::Alone, icmp: (0, 0), has_transport: false };
        }
        let ports = transport_fields::ports(protocol, transport);
        match protocol {
            PROTOCOL_ICMP | PROTOCOL_ICMPV6 => {
                let icmp = (transport[0], transport[1]);
                let part = icmp_part(&ends, icmp.0, transport);
                let ports = if matches!(part, Part::Of { .. }) { ports } else { (0, 0) };
                Seen { ends: Ends { ports, ..ends }, part, icmp, has_transport }
            }
            _ => Seen { ends: Ends { ports, ..ends }, part: part(protocol, transport), icmp: (0, 0), has_transport },
        }
    }

    /// What rules look at.
    pub(super) fn tuple(&self) -> Tuple {
        self.ends.tuple(self.icmp, self.has_transport)
    }
}

#[inline]
fn part(protocol: u8, transport: &[u8]) -> Part {
    if protocol != PROTOCOL_TCP {
        return Part::Of { may_begin: true, begins: false, ends: false };
    }
    // Without flags it is nothing that a flow can go by.
    let Some(flags) = transport.get(TCP_FLAGS) else { return Part::Alone };
    let ends = flags & (FIN | RST) != 0;
    let begins = flags & (SYN | ACK) == SYN;
    Part::Of { may_begin: !ends && (begins || flags & SYN == 0), begins, ends }
}

fn icmp_part(ends: &Ends, kind: u8, message: &[u8]) -> Part {
    let (asks, answers, errors): (&[u8], &[u8], &[u8]) = match ends.protocol {
        PROTOCOL_ICMP => (&[8, 13, 15, 17], &[0, 14, 16, 18], &[3, 4, 11, 12]),
        _ => (&[128], &[129], &[1, 2, 3, 4]),
    };
    let of = |asks| Part::Of { may_begin: asks, begins: asks, ends: false };
    match kind {
        _ if asks.contains(&kind) => of(true),
        _ if answers.contains(&kind) => of(false),
        _ if errors.contains(&kind) => message
            .get(ICMP_LEN..)
            .and_then(|quoted| quoted_ends(quoted, ends.is_v6))
            .filter(|quoted| quoted.source == ends.destination)
            .map_or(Part::Alone, Part::About),
        _ => Part::Alone,
    }
}

/// The flow of a packet that an error quotes, as far as it does.
fn quoted_ends(packet: &[u8], is_v6: bool) -> Option<Ends> {
    let header = packet.get(..if is_v6 { IPV6_LEN } else { IPV4_LEN_MIN })?;
    let (protocol, length, is_later) = match (header[0] >> 4, is_v6) {
        (4, false) => {
            (header[9], usize::from(header[0] & 0xf) * 4, u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0)
        }
        (6, true) => (header[6], IPV6_LEN, false),
        _ => return None,
    };
    let address = |at: usize| match is_v6 {
        true => u128::from_be_bytes(*header[at..].first_chunk().expect("a whole header")),
        false => u32::from_be_bytes(*header[at..].first_chunk().expect("a whole header")).into(),
    };
    let (source, destination) = if is_v6 { (address(8), address(24)) } else { (address(12), address(16)) };
    let transport = packet.get(length..).filter(|transport| transport.len() >= QUOTED_LEN && !is_later)?;
    let ports = transport_fields::ports(protocol, transport);
    Some(Ends { source, destination, ports, protocol, is_v6 })
}

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;
const PROTOCOL_SCTP: u8 = 132;
const TCP_FLAGS: usize = 13;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// Two ports, or type, code and checksum.
const PORTS_LEN: usize = 4;
/// What stands before the packet that an error quotes.
const ICMP_LEN: usize = 8;
/// So much of what follows the IP header is quoted at least (RFC 792).
const QUOTED_LEN: usize = 8;

const _: () = assert!(ETHERNET_LEN == 14);

//! What rules look at of a packet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::rule::{Direction, Family, Protocol};

/// Addresses, protocol and ports of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// From where to where.
    pub addresses: Addresses,
    /// What follows the IP header, extension headers apart.
    pub protocol: Protocol,
    /// What that protocol says first.
    pub transport: Transport,
}

/// Two addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub enum Addresses {
    /// IPv4.
    V4 { source: Ipv4Addr, destination: Ipv4Addr },
    /// IPv6.
    V6 { source: Ipv6Addr, destination: Ipv6Addr },
}

/// What a packet says after its IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub enum Transport {
    /// The ports of TCP, UDP or SCTP.
    Ports { source: u16, destination: u16 },
    /// Type and code of ICMP or ICMPv6.
    Icmp { kind: u8, code: u8 },
    /// Nothing that rules know, or nothing at all, as in a fragment that is not the first.
    Opaque,
}

impl Tuple {
    /// A packet of a protocol that has ports; none when the addresses are of two families.
    pub fn with_ports(protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Option<Self> {
        let addresses = Addresses::new(source.ip(), destination.ip())?;
        let transport = Transport::Ports { source: source.port(), destination: destination.port() };
        Some(Self { addresses, protocol, transport })
    }
}

impl Addresses {
    /// None when they are of two families.
    pub fn new(source: IpAddr, destination: IpAddr) -> Option<Self> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Self::V4 { source, destination }),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Self::V6 { source, destination }),
            _ => None,
        }
    }

    /// The family of both.
    pub fn family(&self) -> Family {
        match self {
            Self::V4 { .. } => Family::V4,
            Self::V6 { .. } => Family::V6,
        }
    }

    /// Where it comes from.
    #[inline]
    pub fn source(&self) -> IpAddr {
        match *self {
            Self::V4 { source, .. } => source.into(),
            Self::V6 { source, .. } => source.into(),
        }
    }

    /// Where it goes to.
    #[inline]
    pub fn destination(&self) -> IpAddr {
        match *self {
            Self::V4 { destination, .. } => destination.into(),
            Self::V6 { destination, .. } => destination.into(),
        }
    }

    /// The address of the other end, seen from an endpoint.
    #[inline]
    pub fn peer(&self, direction: Direction) -> IpAddr {
        match direction {
            Direction::Ingress => self.source(),
            Direction::Egress => self.destination(),
        }
    }

    /// The address of the endpoint itself.
    #[inline]
    pub fn own(&self, direction: Direction) -> IpAddr {
        match direction {
            Direction::Ingress => self.destination(),
            Direction::Egress => self.source(),
        }
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination, protocol) = (self.addresses.source(), self.addresses.destination(), self.protocol);
        match self.transport {
            Transport::Ports { source: from, destination: to } => {
                let [from, to] = [SocketAddr::new(source, from), SocketAddr::new(destination, to)];
                write!(out, "{protocol} {from} > {to}")
            }
            Transport::Icmp { kind, code } => {
                write!(out, "{protocol} {source} > {destination} type {kind} code {code}")
            }
            Transport::Opaque => write!(out, "{protocol} {source} > {destination}"),
        }
    }
}

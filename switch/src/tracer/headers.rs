//! The headers of any bytes at all, as far as they make sense: for filters and for showing.

use std::net::IpAddr;

use packet::view::{
    ARP_LEN, Arp, ETHERNET_LEN, Ethernet, Fragment, IPV4_LEN, IPV6_LEN, Ipv4, Ipv6, Layout, ethertype, protocol,
};

/// What stands at the start of a frame.
pub struct Headers<'a> {
    /// None for a frame too short.
    pub ethernet: Option<Ethernet<&'a [u8; ETHERNET_LEN]>>,
    /// What follows.
    pub network: Network<'a>,
    /// Where the rest lies, for an IP packet in order.
    pub layout: Option<Layout>,
    /// The transport header and on, up to the packet's end; empty where there is none, as in a later fragment.
    pub transport: &'a [u8],
}

/// The header behind Ethernet.
pub enum Network<'a> {
    /// ARP for IPv4.
    Arp(Arp<&'a [u8; ARP_LEN]>),
    /// IPv4.
    V4(Ipv4<&'a [u8; IPV4_LEN]>),
    /// IPv6.
    V6(Ipv6<&'a [u8; IPV6_LEN]>),
    /// Anything else, or one of these and not in order.
    Other,
}

impl<'a> Headers<'a> {
    /// Reads `head`, the first bytes of a frame.
    pub fn of(head: &'a [u8]) -> Headers<'a> {
        let ethernet = Ethernet::parse(head);
        let behind = head.get(ETHERNET_LEN..).unwrap_or_default();
        let network = match ethernet.map(|ethernet| ethernet.ethertype()) {
            Some(ethertype::ARP) => Arp::parse(behind).map(Network::Arp),
            Some(ethertype::IPV4) => Ipv4::parse(behind).map(Network::V4),
            Some(ethertype::IPV6) => Ipv6::parse(behind).map(Network::V6),
            _ => None,
        };
        let layout = Layout::parse(head);
        let whole = layout.filter(|layout| layout.fragment != Fragment::Later);
        let transport = whole.and_then(|layout| head.get(layout.transport..layout.end.min(head.len())));
        Headers {
            ethernet,
            network: network.unwrap_or(Network::Other),
            layout,
            transport: transport.unwrap_or_default(),
        }
    }

    /// The EtherType.
    pub fn ethertype(&self) -> Option<u16> {
        self.ethernet.map(|ethernet| ethernet.ethertype())
    }

    /// Source and destination; of an ARP packet the sender and the target.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        match &self.network {
            Network::Arp(arp) => Some((arp.sender().into(), arp.target().into())),
            Network::V4(ip) => Some((ip.source().into(), ip.destination().into())),
            Network::V6(ip) => Some((ip.source().into(), ip.destination().into())),
            Network::Other => None,
        }
    }

    /// The transport protocol, of fragments too.
    pub fn protocol(&self) -> Option<u8> {
        self.layout.map(|layout| layout.protocol)
    }

    /// Source and destination port.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let (protocol::TCP | protocol::UDP | protocol::SCTP) = self.protocol()? else { return None };
        let &[a, b, c, d] = self.transport.first_chunk::<4>()?;
        Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }
}

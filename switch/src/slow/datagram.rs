//! The IP packet in a frame, both families seen alike.

use std::net::IpAddr;

use packet::view::{ETHERNET_LEN, Family, Fragment, Ipv4, Ipv6, Layout};

/// What the slow path asks of a packet.
#[derive(Debug)]
pub(super) struct Datagram<'a> {
    /// From the IP header to the end its length names, without Ethernet padding.
    pub(super) bytes: &'a [u8],
    /// What follows the IP header and IPv6 extension headers.
    pub(super) transport: &'a [u8],
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) hop_limit: u8,
    /// Of `transport`: one of [`packet::view::protocol`].
    pub(super) protocol: u8,
    pub(super) fragment: Fragment,
}

impl<'a> Datagram<'a> {
    /// Reads `frame`; `None` if it is not IP or shorter than its headers say. No checksum is looked at.
    pub(super) fn parse(frame: &'a [u8]) -> Option<Self> {
        let Layout { family, protocol, fragment, transport, end, .. } = Layout::parse(frame)?;
        let bytes = frame.get(ETHERNET_LEN..end)?;
        let (source, destination, hop_limit) = match family {
            Family::V4 => {
                let ip = Ipv4::parse(bytes)?;
                (ip.source().into(), ip.destination().into(), ip.ttl())
            }
            Family::V6 => {
                let ip = Ipv6::parse(bytes)?;
                (ip.source().into(), ip.destination().into(), ip.hop_limit())
            }
        };
        let transport = frame.get(transport..end)?;
        Some(Datagram { bytes, transport, source, destination, hop_limit, protocol, fragment })
    }

    /// True if it goes from one host's address to one host's: what may be answered at all.
    pub(super) fn is_between_hosts(&self) -> bool {
        is_host(self.source) && is_host(self.destination)
    }
}

fn is_host(address: IpAddr) -> bool {
    let no_unicast = match address {
        IpAddr::V4(address) => address.octets()[0] == 0 || address.octets()[0] >= 224,
        IpAddr::V6(address) => address.is_unspecified() || address.is_multicast(),
    };
    !no_unicast && !address.is_loopback()
}

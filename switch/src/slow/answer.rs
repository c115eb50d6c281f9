//! A frame the slow path made, and how it is put together.

use std::net::IpAddr;

use packet::view::{ETHERNET_LEN, ethertype};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IPV4_HEADER_LEN, IPV6_HEADER_LEN, Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet,
    Ipv6Repr,
};

use super::Side;

/// A frame to be sent as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The port it leaves by.
    pub port: u16,
    /// The complete Ethernet frame, every checksum finished.
    pub frame: Vec<u8>,
}

/// An ICMP or ICMPv6 message and the header before it; both addresses are of one family.
pub(super) struct Icmp {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) hop_limit: u8,
    /// At least four bytes, from the type on; what the checksum field holds does not matter.
    pub(super) message: Vec<u8>,
}

impl Answer {
    /// The frame with `parts` end to end, from our address on `to` to the station there.
    pub(super) fn ethernet(to: &Side<'_>, ethertype: u16, parts: &[&[u8]]) -> Self {
        let mut frame = Vec::with_capacity(ETHERNET_LEN + parts.iter().map(|part| part.len()).sum::<usize>());
        frame.extend(to.mac.0);
        frame.extend(to.gateway.0);
        frame.extend(ethertype.to_be_bytes());
        parts.iter().for_each(|part| frame.extend_from_slice(part));
        Answer { port: to.port, frame }
    }

    /// An ICMP message to the station of `to`.
    pub(super) fn icmp(to: &Side<'_>, mut icmp: Icmp) -> Self {
        let (hop_limit, payload_len) = (icmp.hop_limit, icmp.message.len());
        match (icmp.source, icmp.destination) {
            (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
                Icmpv4Packet::new_unchecked(&mut icmp.message[..]).fill_checksum();
                let mut header = [0; IPV4_HEADER_LEN];
                Ipv4Repr { src_addr, dst_addr, next_header: IpProtocol::Icmp, payload_len, hop_limit }
                    .emit(&mut Ipv4Packet::new_unchecked(&mut header[..]), &ChecksumCapabilities::default());
                Answer::ethernet(to, ethertype::IPV4, &[&header, &icmp.message])
            }
            (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
                Icmpv6Packet::new_unchecked(&mut icmp.message[..]).fill_checksum(&src_addr, &dst_addr);
                let mut header = [0; IPV6_HEADER_LEN];
                Ipv6Repr { src_addr, dst_addr, next_header: IpProtocol::Icmpv6, payload_len, hop_limit }
                    .emit(&mut Ipv6Packet::new_unchecked(&mut header[..]));
                Answer::ethernet(to, ethertype::IPV6, &[&header, &icmp.message])
            }
            _ => unreachable!("an answer goes to a packet's source from an address of the same family"),
        }
    }
}

/// Of all but neighbour discovery (RFC 1700's recommended default).
pub(super) const HOP_LIMIT: u8 = 64;

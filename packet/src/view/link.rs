//! Ethernet and ARP.

use std::borrow::{Borrow, BorrowMut};
use std::net::Ipv4Addr;

use super::{array, ethertype, put, view, word};
use crate::Mac;

/// Bytes of an untagged Ethernet header.
pub const ETHERNET_LEN: usize = 14;
/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const ARP_LEN: usize = 28;

/// Operations of ARP.
pub mod arp_operation {
    /// Who has the target address?
    pub const REQUEST: u16 = 1;
    /// The sender has the sender address.
    pub const REPLY: u16 = 2;
}

view!(
    /// An untagged Ethernet header (IEEE 802.3): destination 0, source 6, EtherType 12.
    Ethernet,
    ETHERNET_LEN,
    |_, _| true
);

impl<B: Borrow<[u8; ETHERNET_LEN]>> Ethernet<B> {
    /// Whom the frame is for.
    #[inline]
    pub fn destination(&self) -> Mac {
        Mac(array(&self.0, DESTINATION))
    }

    /// Who sent it on this link.
    #[inline]
    pub fn source(&self) -> Mac {
        Mac(array(&self.0, SOURCE))
    }

    /// What follows; below 1536 it is a length (802.2).
    #[inline]
    pub fn ethertype(&self) -> u16 {
        word(&self.0, ETHERTYPE)
    }
}

impl<B: BorrowMut<[u8; ETHERNET_LEN]>> Ethernet<B> {
    /// Sets the destination.
    #[inline]
    pub fn set_destination(&mut self, mac: Mac) {
        put(&mut self.0, DESTINATION, mac.0);
    }

    /// Sets the source.
    #[inline]
    pub fn set_source(&mut self, mac: Mac) {
        put(&mut self.0, SOURCE, mac.0);
    }

    /// Sets what follows.
    #[inline]
    pub fn set_ethertype(&mut self, ethertype: u16) {
        put(&mut self.0, ETHERTYPE, ethertype.to_be_bytes());
    }
}

view!(
    /// An ARP packet for IPv4 over Ethernet (RFC 826); any other hardware or protocol does not parse.
    Arp,
    ARP_LEN,
    |header, _| header[..6] == ARP_KIND
);

impl<B: Borrow<[u8; ARP_LEN]>> Arp<B> {
    /// One of [`arp_operation`], or something unknown.
    #[inline]
    pub fn operation(&self) -> u16 {
        word(&self.0, OPERATION)
    }

    /// The sender's Ethernet address.
    #[inline]
    pub fn sender_mac(&self) -> Mac {
        Mac(array(&self.0, SENDER_MAC))
    }

    /// The sender's IPv4 address; 0.0.0.0 in a probe (RFC 5227).
    #[inline]
    pub fn sender(&self) -> Ipv4Addr {
        array(&self.0, SENDER).into()
    }

    /// The target's Ethernet address; means nothing in a request.
    #[inline]
    pub fn target_mac(&self) -> Mac {
        Mac(array(&self.0, TARGET_MAC))
    }

    /// The IPv4 address asked for, or told.
    #[inline]
    pub fn target(&self) -> Ipv4Addr {
        array(&self.0, TARGET).into()
    }
}

impl<B: BorrowMut<[u8; ARP_LEN]>> Arp<B> {
    /// Makes the packet what `sender` at `sender_mac` says to `target` at `target_mac`.
    pub fn set(&mut self, operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) {
        put(&mut self.0, OPERATION, operation.to_be_bytes());
        put(&mut self.0, SENDER_MAC, sender.0.0);
        put(&mut self.0, SENDER, sender.1.octets());
        put(&mut self.0, TARGET_MAC, target.0.0);
        put(&mut self.0, TARGET, target.1.octets());
    }
}

impl<'a> Arp<&'a mut [u8; ARP_LEN]> {
    /// Writes the fixed part of an ARP packet over any bytes, the rest zero; then [`Arp::set`] says what it is.
    pub fn write(header: &'a mut [u8; ARP_LEN]) -> Self {
        header.fill(0);
        header[..6].copy_from_slice(&ARP_KIND);
        Arp(header)
    }
}

const DESTINATION: usize = 0;
const SOURCE: usize = 6;
const ETHERTYPE: usize = 12;

const OPERATION: usize = 6;
const SENDER_MAC: usize = 8;
const SENDER: usize = 14;
const TARGET_MAC: usize = 18;
const TARGET: usize = 24;

/// Hardware Ethernet, protocol IPv4, address lengths 6 and 4.
const ARP_KIND: [u8; 6] = [0, 1, (ethertype::IPV4 >> 8) as u8, ethertype::IPV4 as u8, 6, 4];

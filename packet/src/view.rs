//! Header views: named fields over bytes where they lie, read or changed in place.
//!
//! A view borrows exactly its fixed header as an array, so the length is checked once, in `parse`, and every field access
//! after that is a plain load or store at a constant offset. The same type serves both uses:
//!
//! ```text
//!  Ipv4::parse(&bytes)         -> Ipv4<&[u8; 20]>        fields
//!  Ipv4::parse_mut(&mut bytes) -> Ipv4<&mut [u8; 20]>    fields and setters
//! ```
//!
//! `parse` answers `None` when the bytes are too short or the header contradicts itself (wrong version, a header length
//! below the minimum or beyond the bytes). It does not compare the packet's length with what was received, as the rest
//! may lie elsewhere, and it sums nothing. Options and extension headers are not part of a view; [`Layout`] walks past
//! them. Numbers are in the machine's order, addresses in their own types.

use std::borrow::{Borrow, BorrowMut};

mod layout;
mod link;
mod network;
mod transport;

pub use layout::{EXTENSIONS_MAX, Family, Fragment, Layout};
pub use link::{ARP_LEN, Arp, ETHERNET_LEN, Ethernet, arp_operation};
pub use network::{FRAGMENT_OFFSET, IPV4_LEN, IPV6_LEN, Ipv4, Ipv6, MORE_FRAGMENTS};
pub use transport::{ICMP_LEN, Icmp, TCP_LEN, Tcp, UDP_LEN, Udp, tcp_flag};

/// EtherTypes (IEEE 802 numbers).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// An 802.1Q tag follows.
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// Protocol numbers, also the next-header values of IPv6 (IANA).
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IPv4 inside IP.
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 inside IP.
    pub const IPV6: u8 = 41;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// ICMP for IPv6.
    pub const ICMP_V6: u8 = 58;
    /// Nothing follows.
    pub const NO_NEXT_HEADER: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// Declares a view type of a fixed header length with both ways to parse; `$holds` looks for contradictions.
macro_rules! view {
    ($(#[$doc:meta])* $name:ident, $length:ident, $holds:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name<B>(B);

        impl<'a> $name<&'a [u8; $length]> {
            /// Reads the header at the start of `bytes`.
            #[inline]
            pub fn parse(bytes: &'a [u8]) -> Option<Self> {
                let header = bytes.first_chunk::<$length>()?;
                let holds: fn(&[u8; $length], usize) -> bool = $holds;
                holds(header, bytes.len()).then_some($name(header))
            }
        }

        impl<'a> $name<&'a mut [u8; $length]> {
            /// Borrows the header at the start of `bytes` to change it.
            #[inline]
            pub fn parse_mut(bytes: &'a mut [u8]) -> Option<Self> {
                let length = bytes.len();
                let header = bytes.first_chunk_mut::<$length>()?;
                let holds: fn(&[u8; $length], usize) -> bool = $holds;
                holds(header, length).then_some($name(header))
            }
        }

        impl<B: ::std::borrow::Borrow<[u8; $length]>> $name<B> {
            /// The header's bytes.
            #[inline]
            pub fn bytes(&self) -> &[u8; $length] {
                self.0.borrow()
            }
        }
    };
}
use view;

/// The 16-bit field at `at`.
#[inline(always)]
fn word<const N: usize>(header: &impl Borrow<[u8; N]>, at: usize) -> u16 {
    let header: &[u8; N] = header.borrow();
    u16::from_be_bytes([header[at], header[at + 1]])
}

/// The 32-bit field at `at`.
#[inline(always)]
fn long<const N: usize>(header: &impl Borrow<[u8; N]>, at: usize) -> u32 {
    u32::from_be_bytes(array(header, at))
}

/// The `L` bytes at `at`.
#[inline(always)]
fn array<const L: usize, const N: usize>(header: &impl Borrow<[u8; N]>, at: usize) -> [u8; L] {
    let mut field = [0; L];
    field.copy_from_slice(&header.borrow()[at..at + L]);
    field
}

/// Writes `field` at `at`.
#[inline(always)]
fn put<const L: usize, const N: usize>(header: &mut impl BorrowMut<[u8; N]>, at: usize, field: [u8; L]) {
    header.borrow_mut()[at..at + L].copy_from_slice(&field);
}

#[cfg(test)]
mod tests;

//! IPv4 and IPv6, without options and extension headers.

use std::borrow::{Borrow, BorrowMut};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{array, long, put, view, word};
use crate::checksum::{self, Sum, pseudo_v4, pseudo_v6};

/// Bytes of an IPv4 header without options.
pub const IPV4_LEN: usize = 20;
/// Bytes of an IPv6 header without extension headers.
pub const IPV6_LEN: usize = 40;
/// "More fragments" in [`Ipv4::fragment`].
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// The offset, in units of 8 bytes, in [`Ipv4::fragment`].
pub const FRAGMENT_OFFSET: u16 = 0x1fff;

view!(
    /// The first 20 bytes of an IPv4 header (RFC 791, section 3.1). Options follow up to [`Ipv4::header_len`].
    Ipv4,
    IPV4_LEN,
    |header, available| {
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let total_len = usize::from(word(header, TOTAL_LEN));
        header[0] >> 4 == 4 && header_len >= IPV4_LEN && header_len <= available && total_len >= header_len
    }
);

impl<B: Borrow<[u8; IPV4_LEN]>> Ipv4<B> {
    /// Bytes of header and options, 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes()[0] & 0x0f) * 4
    }

    /// DSCP and ECN.
    #[inline]
    pub fn tos(&self) -> u8 {
        self.bytes()[1]
    }

    /// Bytes of the whole packet.
    #[inline]
    pub fn total_len(&self) -> u16 {
        word(&self.0, TOTAL_LEN)
    }

    /// Identification.
    #[inline]
    pub fn id(&self) -> u16 {
        word(&self.0, ID)
    }

    /// Flags and fragment offset as they stand.
    #[inline]
    pub fn fragment(&self) -> u16 {
        word(&self.0, FRAGMENT)
    }

    /// True when routers must not cut it.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.fragment() & DONT_FRAGMENT != 0
    }

    /// True for every fragment, also the first.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment() & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.bytes()[TTL]
    }

    /// What the packet carries: one of [`super::protocol`].
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.bytes()[PROTOCOL]
    }

    /// The header checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        word(&self.0, CHECKSUM)
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        array(&self.0, SOURCE_V4).into()
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        array(&self.0, DESTINATION_V4).into()
    }

    /// The sum of the pseudo-header for `length` bytes of transport header and payload.
    #[inline]
    pub fn pseudo(&self, protocol: u8, length: u16) -> Sum {
        pseudo_v4(self.source(), self.destination(), protocol, length)
    }
}

impl<B: BorrowMut<[u8; IPV4_LEN]>> Ipv4<B> {
    /// Sets DSCP and ECN and patches the checksum.
    #[inline]
    pub fn set_tos(&mut self, tos: u8) {
        let word: u16 = word(&self.0, 0);
        self.patch(0, word & 0xff00 | u16::from(tos));
    }

    /// Sets the packet's length and patches the checksum.
    #[inline]
    pub fn set_total_len(&mut self, total_len: u16) {
        self.patch(TOTAL_LEN, total_len);
    }

    /// Sets the identification and patches the checksum.
    #[inline]
    pub fn set_id(&mut self, id: u16) {
        self.patch(ID, id);
    }

    /// Takes one from a TTL above 0 and patches the checksum.
    #[inline]
    pub fn decrement_ttl(&mut self) {
        let word: u16 = word(&self.0, TTL);
        self.patch(TTL, word.wrapping_sub(0x100));
    }

    /// Sets the source without touching any checksum.
    #[inline]
    pub fn set_source(&mut self, address: Ipv4Addr) {
        put(&mut self.0, SOURCE_V4, address.octets());
    }

    /// Sets the destination without touching any checksum.
    #[inline]
    pub fn set_destination(&mut self, address: Ipv4Addr) {
        put(&mut self.0, DESTINATION_V4, address.octets());
    }

    /// Sums the header anew; only for a header without options.
    #[inline]
    pub fn fill_checksum(&mut self) {
        let checksum = checksum::ipv4_header(self.bytes());
        put(&mut self.0, CHECKSUM, checksum.to_be_bytes());
    }

    #[inline(always)]
    fn patch(&mut self, at: usize, new: u16) {
        let checksum = checksum::patch_u16(self.checksum(), word(&self.0, at), new);
        put(&mut self.0, at, new.to_be_bytes());
        put(&mut self.0, CHECKSUM, checksum.to_be_bytes());
    }
}

view!(
    /// The fixed IPv6 header (RFC 8200, section 3).
    Ipv6,
    IPV6_LEN,
    |header, _| header[0] >> 4 == 6
);

impl<B: Borrow<[u8; IPV6_LEN]>> Ipv6<B> {
    /// DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        let first: u16 = word(&self.0, 0);
        (first >> 4) as u8
    }

    /// The flow label, 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        long(&self.0, 0) & 0xf_ffff
    }

    /// Bytes after the fixed header.
    #[inline]
    pub fn payload_len(&self) -> u16 {
        word(&self.0, PAYLOAD_LEN)
    }

    /// What follows the fixed header: one of [`super::protocol`], also of an extension header.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.bytes()[NEXT_HEADER]
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.bytes()[HOP_LIMIT]
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from(array::<16, IPV6_LEN>(&self.0, SOURCE_V6))
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from(array::<16, IPV6_LEN>(&self.0, DESTINATION_V6))
    }

    /// The sum of the pseudo-header for `length` bytes of transport header and payload. A packet with segments left in a
    /// routing header has another final destination, and so another sum.
    #[inline]
    pub fn pseudo(&self, protocol: u8, length: u32) -> Sum {
        pseudo_v6(self.source(), self.destination(), protocol, length)
    }
}

impl<B: BorrowMut<[u8; IPV6_LEN]>> Ipv6<B> {
    /// Sets DSCP and ECN.
    #[inline]
    pub fn set_traffic_class(&mut self, traffic_class: u8) {
        let word: u16 = word(&self.0, 0);
        put(&mut self.0, 0, (word & 0xf00f | u16::from(traffic_class) << 4).to_be_bytes());
    }

    /// Sets the bytes after the fixed header.
    #[inline]
    pub fn set_payload_len(&mut self, payload_len: u16) {
        put(&mut self.0, PAYLOAD_LEN, payload_len.to_be_bytes());
    }

    /// Sets the hop limit.
    #[inline]
    pub fn set_hop_limit(&mut self, hop_limit: u8) {
        put(&mut self.0, HOP_LIMIT, [hop_limit]);
    }

    /// Sets the source without touching any checksum.
    #[inline]
    pub fn set_source(&mut self, address: Ipv6Addr) {
        put(&mut self.0, SOURCE_V6, address.octets());
    }

    /// Sets the destination without touching any checksum.
    #[inline]
    pub fn set_destination(&mut self, address: Ipv6Addr) {
        put(&mut self.0, DESTINATION_V6, address.octets());
    }
}

const TOTAL_LEN: usize = 2;
const ID: usize = 4;
const FRAGMENT: usize = 6;
const TTL: usize = 8;
const PROTOCOL: usize = 9;
const CHECKSUM: usize = 10;
const SOURCE_V4: usize = 12;
const DESTINATION_V4: usize = 16;
const DONT_FRAGMENT: u16 = 0x4000;

const PAYLOAD_LEN: usize = 4;
const NEXT_HEADER: usize = 6;
const HOP_LIMIT: usize = 7;
const SOURCE_V6: usize = 8;
const DESTINATION_V6: usize = 24;

//! Reading addresses and ports off a parsed frame.

use packet::shape;

use super::leaving::{destination_v4, destination_v6, source_v4, source_v6};

/// Source and destination address; IPv4 ones in the low 32 bits.
#[inline]
pub(crate) fn addresses(head: &[u8], bits: u8) -> (u128, u128) {
    if bits & shape::V6 == 0 {
        (source_v4(head).into(), destination_v4(head).into())
    } else {
        (source_v6(head), destination_v6(head))
    }
}

/// Source and destination port; the identifier twice for ICMP echoes; zeros where there are none.
#[inline]
pub(crate) fn ports(protocol: u8, transport: &[u8]) -> (u16, u16) {
    let word = |at: usize| transport.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    match protocol {
        TCP | UDP | SCTP => (word(0), word(2)),
        ICMP | ICMPV6 => (word(4), word(4)),
        _ => (0, 0),
    }
}

/// Protocol numbers (IANA).
pub(crate) const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

//! Reading addresses and ports off a parsed frame.

use packet::{Burst, START_LEN, shape};

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

/// A hash of a parsed packet's flow: of its addresses and ports, without these for a fragment. Spread evenly over 64
/// bits; of a packet that was not parsed it is any number.
#[inline]
pub(crate) fn flow_hash(start: &[u8; START_LEN], burst: &Burst, row: usize) -> u64 {
    let word = |at: usize| u64::from_ne_bytes(*start[at..].first_chunk().expect("a start holds all addresses"));
    let bits = burst.shape[row];
    let ports = match burst.protocol[row] {
        TCP | UDP | SCTP if bits & shape::FRAGMENT == 0 => start.get(usize::from(burst.transport[row])..),
        _ => None,
    };
    let ports = ports.and_then(|ports| ports.first_chunk()).map_or(0, |ports| u32::from_ne_bytes(*ports));
    let seed = u64::from(ports) << 8 | u64::from(burst.protocol[row]);
    match bits & shape::V6 {
        0 => mix(seed, word(26)),
        _ => mix(mix(seed, word(22) ^ word(30).rotate_left(32)), word(38) ^ word(46).rotate_left(32)),
    }
}

/// Multiplies to 128 bits and folds, so that every bit of both words reaches all of the result.
#[inline]
fn mix(one: u64, other: u64) -> u64 {
    let product = u128::from(one ^ KEYS[0]) * u128::from(other ^ KEYS[1]);
    product as u64 ^ (product >> 64) as u64
}

/// The fractions of the golden ratio and of the square root of 2: odd, and without pattern.
const KEYS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0x6a09_e667_f3bc_c909];
/// Protocol numbers (IANA).
pub(crate) const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_flows_that_differ_in_one_port_are_spread_and_fragments_have_their_pairs() {
        let mut burst = Burst::new();
        (burst.protocol[0], burst.transport[0], burst.shape[0]) = (UDP, 34, 0);
        let hash = |burst: &Burst, at: usize, port: u16| {
            let mut start = [7; START_LEN];
            start[at..at + 2].copy_from_slice(&port.to_be_bytes());
            flow_hash(&start, burst, 0)
        };
        for at in [34, 36] {
            let mut hits = [[0; 8]; 2];
            for hash in (0..800).map(|port| hash(&burst, at, port)) {
                hits[0][(hash >> 61) as usize] += 1;
                hits[1][(hash & 7) as usize] += 1;
            }
            assert!(hits.iter().flatten().all(|hits| (60..140).contains(hits)), "{hits:?}");
        }
        burst.shape[0] = shape::FRAGMENT;
        assert_eq!(hash(&burst, 34, 1), hash(&burst, 34, 2));
        burst.shape[0] = shape::V6;
        (22..53).for_each(|at| assert_ne!(hash(&burst, at, 1), hash(&burst, at, 2)));
    }
}

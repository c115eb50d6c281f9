//! The internet checksum: sums over slices, pseudo-headers, and patches without summing again.
//!
//! A checksum is the inverted one's complement sum of 16-bit words (RFC 1071). Two properties of that sum carry this
//! module: it does not care in which byte order the words are read, so memory is read in the machine's own order, eight
//! bytes at a time, and only the 16-bit result is turned; and swapping the bytes of every word swaps the bytes of the
//! sum, so a slice that starts at an odd place is summed as if it started at an even one and its sum is turned.
//!
//! ```text
//!  bytes   | 8 | 8 | 8 | 8 | ... | 4 | 2 | 1 |      four u128 accumulators of 8-byte words
//!  u128    ->  u64  ->  u32  ->  u16                each step adds the upper half to the lower, carry included
//! ```
//!
//! A sum of anything but zeros is never folded to 0, it comes out as 0xffff; so a computed checksum is never 0xffff.
//! A finished UDP checksum of 0 is sent as 0xffff, because 0 there means "none" (RFC 768): [`Sum::finish_udp`].

use std::net::{Ipv4Addr, Ipv6Addr};

/// A running one's complement sum over slices laid end to end, each of any length.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sum {
    /// Words in memory order, not folded.
    total: u64,
    /// The next byte is the second of its word.
    odd: bool,
}

impl Sum {
    /// The sum of nothing.
    pub const fn new() -> Self {
        Sum { total: 0, odd: false }
    }

    /// The sum of `bytes`.
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        Sum::new().add_bytes(bytes)
    }

    /// Appends `bytes`.
    #[must_use]
    #[inline]
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        let words = words(bytes);
        let part = if self.odd { u64::from(fold(words).swap_bytes()) } else { u64::from(half(words)) };
        Sum { total: self.total + part, odd: self.odd ^ (bytes.len() % 2 == 1) }
    }

    /// Adds a 16-bit header field given as a number. It counts as a whole word wherever the running position is.
    #[must_use]
    #[inline]
    pub fn add_u16(self, value: u16) -> Self {
        Sum { total: self.total + u64::from(value.to_be()), ..self }
    }

    /// Adds a 32-bit header field given as a number, as two words.
    #[must_use]
    #[inline]
    pub fn add_u32(self, value: u32) -> Self {
        Sum { total: self.total + u64::from(value.to_be()), ..self }
    }

    /// The folded sum, not inverted: what an unfinished transport checksum holds after the pseudo-header.
    #[inline]
    pub fn fold(self) -> u16 {
        u16::from_be(fold(u128::from(self.total)))
    }

    /// The checksum: the folded sum, inverted.
    #[inline]
    pub fn finish(self) -> u16 {
        !self.fold()
    }

    /// The checksum as UDP writes it: 0xffff in place of 0 (RFC 768; RFC 8200, section 8.1).
    #[inline]
    pub fn finish_udp(self) -> u16 {
        match self.finish() {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    /// True when a sum that included the checksum field says that the field was right.
    #[inline]
    pub fn is_right(self) -> bool {
        self.fold() == 0xffff
    }
}

/// The IPv4 pseudo-header of RFC 9293, section 3.1; `length` counts the transport header and payload.
#[inline]
pub fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> Sum {
    Sum::new().add_u32(source.into()).add_u32(destination.into()).add_u16(u16::from(protocol)).add_u16(length)
}

/// The IPv6 pseudo-header of RFC 8200, section 8.1; `protocol` is the upper layer's, not the first next header.
#[inline]
pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: u32) -> Sum {
    Sum::of(&source.octets()).add_bytes(&destination.octets()).add_u16(u16::from(protocol)).add_u32(length)
}

/// The checksum of an IPv4 header without options, whatever its checksum field holds.
#[inline]
pub fn ipv4_header(header: &[u8; 20]) -> u16 {
    let field = u16::from_ne_bytes([header[10], header[11]]);
    u16::from_be(!fold_u64(five_words(header) - u64::from(field)))
}

/// True when the checksum of an IPv4 header without options is right.
#[inline]
pub fn ipv4_header_is_right(header: &[u8; 20]) -> bool {
    let words = header.as_chunks::<8>();
    let [one, two] = *words.0 else { unreachable!("twenty bytes are two words and a half") };
    let half: [u8; 4] = words.1.try_into().expect("four bytes are left");
    let add = |sum: u64, word: u64| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u64::from(carry)
    };
    let sum = add(u64::from_ne_bytes(one), u64::from_ne_bytes(two));
    fold_u64(add(sum, u32::from_ne_bytes(half).into())) == 0xffff
}

/// The checksum after one word it covers changed from `old` to `new` (RFC 1624, equation 3).
///
/// Equals what a fresh sum would give unless everything covered is now zero. Must not be used on a UDP checksum of 0;
/// a UDP result of 0 is to be written as 0xffff.
#[inline]
pub fn patch_u16(checksum: u16, old: u16, new: u16) -> u16 {
    !fold_u32(u32::from(!checksum) + u32::from(!old) + u32::from(new))
}

/// The eighth to the twelfth byte of an IPv4 header, which are TTL, protocol and checksum, when the TTL, not 0, is one less.
#[inline]
pub fn one_hop_less(live: [u8; 4]) -> [u8; 4] {
    // The TTL is the upper half of its word: what it loses the checksum gains, with the carry at its end (RFC 1624).
    let word = u32::from_be_bytes([live[2], live[3], live[0], live[1]]);
    let wraps = u32::from(word >= 0xfeff_0000);
    let [high, low, ttl, protocol] = word.wrapping_add((0x100 + wraps) << 16).wrapping_sub(0x100).to_be_bytes();
    [ttl, protocol, high, low]
}

/// [`patch_u16`] for two words at an even place.
#[inline]
pub fn patch_u32(checksum: u16, old: u32, new: u32) -> u16 {
    !fold_u64(u64::from(!checksum) + u64::from(!old) + u64::from(new))
}

/// Adds up all 16-bit words of `bytes` in memory order, a last odd byte filled up with zero.
#[inline]
fn words(bytes: &[u8]) -> u128 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut lanes = [0u128; 4];
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u128::from(u64::from_ne_bytes(*word));
        }
    }
    let mut total = lanes[0] + lanes[1] + lanes[2] + lanes[3];
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        total += u128::from(u64::from_ne_bytes(*word));
    }
    let mut rest = rest;
    if let Some((word, after)) = rest.split_first_chunk::<4>() {
        total += u128::from(u32::from_ne_bytes(*word));
        rest = after;
    }
    if let Some((word, after)) = rest.split_first_chunk::<2>() {
        total += u128::from(u16::from_ne_bytes(*word));
        rest = after;
    }
    if let [last] = rest {
        total += u128::from(u16::from_ne_bytes([*last, 0]));
    }
    total
}

/// The five 32-bit words of an IPv4 header in memory order: at most 35 bits.
#[inline]
fn five_words(header: &[u8; 20]) -> u64 {
    let (words, _) = header.as_chunks::<4>();
    words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum()
}

/// Folds to 32 bits: a non-zero sum stays non-zero.
#[inline]
fn half(sum: u128) -> u32 {
    let (low, carry) = (sum as u64).overflowing_add((sum >> 64) as u64);
    half_u64(low + u64::from(carry))
}

/// Folds to 16 bits: a non-zero sum stays non-zero.
#[inline]
fn fold(sum: u128) -> u16 {
    fold_u32(half(sum))
}

/// The same.
#[inline]
fn fold_u64(sum: u64) -> u16 {
    fold_u32(half_u64(sum))
}

/// Added to its halves swapped, a sum has in its upper half what both make, the carry of the lower one included.
#[inline]
fn half_u64(sum: u64) -> u32 {
    (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32
}

/// The same for 32 bits.
#[inline]
fn fold_u32(sum: u32) -> u16 {
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 as its text says it: word by word, the carry added each time.
    fn obvious(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    /// Bytes that meet the corners often: runs of 0x00 and 0xff beside random ones.
    fn bytes(length: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], length)
    }

    proptest! {
        #[test]
        fn any_cut_into_slices_gives_the_obvious_sum(all in bytes(0..300), cuts in prop::collection::vec(0usize..300, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(all.len())).chain([all.len()]).collect();
            cuts.sort_unstable();
            let mut sum = Sum::new();
            let mut from = 0;
            for cut in cuts {
                sum = sum.add_bytes(&all[from..cut]);
                from = cut;
            }
            prop_assert_eq!(sum.finish(), obvious(&all));
        }

        #[test]
        fn a_patch_equals_a_fresh_sum(mut header in bytes(20), at in 0usize..4, new in prop_oneof![Just(0), Just(u32::MAX), any::<u32>()]) {
            header[19] |= 1;
            let at = at * 4;
            let before = obvious(&header);
            let old = u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
            header[at..at + 4].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(patch_u32(before, old, new), obvious(&header));
            let halves = patch_u16(before, (old >> 16) as u16, (new >> 16) as u16);
            prop_assert_eq!(patch_u16(halves, old as u16, new as u16), obvious(&header));
        }

        #[test]
        fn an_ipv4_header_is_summed_without_its_field(header in bytes(20)) {
            let mut header: [u8; 20] = header.try_into().unwrap();
            header[0] = 0x45;
            let checksum = ipv4_header(&header);
            header[10..12].fill(0);
            prop_assert_eq!(checksum, obvious(&header));
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            prop_assert!(ipv4_header_is_right(&header));
            header[8] ^= 0x40;
            prop_assert!(!ipv4_header_is_right(&header));
        }

        #[test]
        fn one_hop_less_is_a_patch(ttl in 1u8.., protocol: u8, checksum in prop_oneof![any::<u16>(), 0xfe00u16..]) {
            let [high, low] = checksum.to_be_bytes();
            let patched = patch_u16(checksum, u16::from_be_bytes([ttl, protocol]), u16::from_be_bytes([ttl - 1, protocol]));
            let [to_high, to_low] = patched.to_be_bytes();
            prop_assert_eq!(one_hop_less([ttl, protocol, high, low]), [ttl - 1, protocol, to_high, to_low]);
        }

        #[test]
        fn transport_checksums_agree_with_etherparse(v4: [[u8; 4]; 2], v6: [[u8; 16]; 2], payload in bytes(0..200)) {
            let udp = etherparse::UdpHeader { source_port: 7, destination_port: 9, length: 8 + payload.len() as u16, checksum: 0 };
            let length = udp.length;
            let ours = |pseudo: Sum| pseudo.add_bytes(&udp.to_bytes()).add_bytes(&payload).finish_udp();
            prop_assert_eq!(
                ours(pseudo_v4(v4[0].into(), v4[1].into(), 17, length)),
                udp.calc_checksum_ipv4_raw(v4[0], v4[1], &payload).unwrap()
            );
            prop_assert_eq!(
                ours(pseudo_v6(v6[0].into(), v6[1].into(), 17, length.into())),
                udp.calc_checksum_ipv6_raw(v6[0], v6[1], &payload).unwrap()
            );
            let tcp = etherparse::TcpHeader::new(80, 1, 2, 3);
            let length = 20 + payload.len() as u16;
            let ours = |pseudo: Sum| pseudo.add_bytes(&tcp.to_bytes()).add_bytes(&payload).finish();
            prop_assert_eq!(
                ours(pseudo_v4(v4[0].into(), v4[1].into(), 6, length)),
                tcp.calc_checksum_ipv4_raw(v4[0], v4[1], &payload).unwrap()
            );
            prop_assert_eq!(
                ours(pseudo_v6(v6[0].into(), v6[1].into(), 6, length.into())),
                tcp.calc_checksum_ipv6_raw(v6[0], v6[1], &payload).unwrap()
            );
        }
    }

    #[test]
    fn a_sum_of_all_ones_does_not_become_zero() {
        for length in [2, 4, 8, 32, 1500, 65536] {
            assert_eq!(Sum::of(&vec![0xff; length]).finish(), 0);
            assert_eq!(Sum::of(&vec![0xff; length]).finish_udp(), 0xffff);
            assert!(Sum::of(&vec![0xff; length]).is_right());
        }
        assert!(!Sum::new().is_right(), "nothing is not a right header");
    }
}

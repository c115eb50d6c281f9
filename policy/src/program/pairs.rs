//! The first terms that look at peer and service, by what they ask of the peer and by the service.

use std::collections::BTreeMap;

use super::NONE;

/// Firsts by segment, for each pair of a test of peers and a service, by open addressing; at most half of the places are used.
#[derive(Debug)]
pub(super) struct Pairs {
    /// For each place a test, a service, and the firsts.
    words: Box<[u32]>,
    mask: usize,
    segments: usize,
}

impl Pairs {
    pub(super) fn new(pairs: &BTreeMap<(u32, u32), Vec<u32>>, segments: usize) -> Self {
        let places = (pairs.len() * 2).next_power_of_two();
        let (width, mask) = (2 + segments, places - 1);
        let mut words = vec![NONE; places * width];
        for (&(test, service), firsts) in pairs {
            let mut at = place_of(test, service) & mask;
            while words[at * width] != NONE {
                at = (at + 1) & mask;
            }
            let place = &mut words[at * width..][..width];
            (place[0], place[1]) = (test, service);
            place[2..].copy_from_slice(firsts);
        }
        Self { words: words.into(), mask, segments }
    }

    /// The firsts of a pair, by segment; none if no term is for it.
    #[inline]
    pub(super) fn firsts(&self, test: u32, service: u32) -> Option<&[u32]> {
        let width = 2 + self.segments;
        let mut at = place_of(test, service) & self.mask;
        loop {
            let place = &self.words[at * width..][..width];
            if place[0] == test && place[1] == service {
                return Some(&place[2..]);
            }
            if place[0] == NONE {
                return None;
            }
            at = (at + 1) & self.mask;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.words)
    }
}

#[inline]
fn place_of(test: u32, service: u32) -> usize {
    let mixed = (u64::from(test) << 32 | u64::from(service)).wrapping_mul(MIX);
    (mixed >> 32) as usize
}

/// 2^64 divided by the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

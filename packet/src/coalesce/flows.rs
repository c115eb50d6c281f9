//! Which group of a flow is open: a small hash table that is emptied by counting up.
//!
//! Open addressing over 512 entries. A flow is looked for in a few neighbouring entries; if all belong to others, the last
//! of them is taken over, and the flow that had it merely loses its open group. An entry counts only if it bears the
//! current generation, so forgetting everything is one addition.

use crate::view::{Family, Layout};

/// A flow that has no open group.
pub(super) const NO_GROUP: u16 = u16::MAX;

/// Open groups by flow.
pub(super) struct Flows {
    entries: Box<[Entry; ENTRIES]>,
    generation: u32,
}

impl Flows {
    pub(super) fn new() -> Self {
        Flows { entries: Box::new([Entry { generation: 0, tag: 0, group: NO_GROUP }; ENTRIES]), generation: 1 }
    }

    /// Closes every group.
    #[inline]
    pub(super) fn forget_all(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            *self = Flows::new();
        }
    }

    /// The open group of the flow with this hash, to be read and set; a flow not seen before has [`NO_GROUP`].
    #[inline]
    pub(super) fn open_group(&mut self, hash: u64) -> &mut u16 {
        let (home, tag) = (hash as usize, (hash >> 48) as u16);
        let mut at = home % ENTRIES;
        for probe in 0..PROBES {
            at = (home + probe) % ENTRIES;
            let entry = &self.entries[at];
            if entry.generation != self.generation || entry.tag == tag {
                break;
            }
        }
        let entry = &mut self.entries[at];
        if entry.generation != self.generation || entry.tag != tag {
            *entry = Entry { generation: self.generation, tag, group: NO_GROUP };
        }
        &mut entry.group
    }
}

/// Hashes addresses, protocol and ports; `None` if `head` does not hold them.
#[inline]
pub(super) fn hash(head: &[u8], layout: &Layout) -> Option<u64> {
    let ports = u32::from_ne_bytes(*head.get(layout.transport..)?.first_chunk()?);
    let seed = u64::from(ports) << 8 | u64::from(layout.protocol);
    let word = |at: usize| Some(u64::from_ne_bytes(*head.get(at..)?.first_chunk()?));
    Some(match layout.family {
        Family::V4 => mix(seed, word(26)?),
        Family::V6 => mix(mix(seed, word(22)? ^ word(30)?.rotate_left(32)), word(38)? ^ word(46)?.rotate_left(32)),
    })
}

/// Multiplies to 128 bits and folds, so that every bit of both words reaches the result's low bits.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ KEYS[0]) * u128::from(b ^ KEYS[1]);
    product as u64 ^ (product >> 64) as u64
}

#[derive(Clone, Copy)]
struct Entry {
    generation: u32,
    tag: u16,
    group: u16,
}

const ENTRIES: usize = 512;
const PROBES: usize = 8;
/// The fractions of the golden ratio and of the square root of 2: odd, and without pattern.
const KEYS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0x6a09_e667_f3bc_c909];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_that_wraps_around_finds_nothing_old() {
        let mut flows = Flows::new();
        *flows.open_group(7) = 3;
        assert_eq!(*flows.open_group(7), 3);
        flows.generation = u32::MAX;
        flows.forget_all();
        assert_eq!((flows.generation, *flows.open_group(7)), (1, NO_GROUP));
    }

    #[test]
    fn a_full_neighbourhood_costs_only_an_open_group() {
        let mut flows = Flows::new();
        let hash = |flow: u64| flow << 48 | 5;
        for flow in 0..20 {
            assert_eq!(*flows.open_group(hash(flow)), NO_GROUP);
            *flows.open_group(hash(flow)) = flow as u16;
            assert_eq!(*flows.open_group(hash(flow)), flow as u16);
        }
        assert_eq!((*flows.open_group(hash(6)), *flows.open_group(hash(7))), (6, NO_GROUP));
    }
}

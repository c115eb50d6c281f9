//! Sets of small numbers, of which the first common one is found without reading what is empty.
//!
//! ```text
//!  outline 0, outline 1, ...     a bit for each word that is not 0, and how many words the outlines before have
//!  word, word, ...               those words alone
//! ```
//!
//! Aggregated bit vectors (Baboescu, Varghese 2001), with the words that are 0 left out.

/// A set of numbers below a limit that all sets of a program share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Bits {
    outlines: Box<[(u64, u32)]>,
    words: Box<[u64]>,
}

impl Bits {
    /// Of numbers in rising order, all below `limit`; equal ones count once.
    pub(super) fn new(numbers: impl Iterator<Item = usize>, limit: usize) -> Self {
        let mut outlines = vec![(0_u64, 0); limit.div_ceil(OUTLINED)];
        let (mut words, mut last) = (Vec::new(), None);
        for number in numbers {
            let word = number / 64;
            if last != Some(word) {
                outlines[word / 64].0 |= 1 << (word % 64);
                words.push(0);
                last = Some(word);
            }
            *words.last_mut().expect("one was just pushed") |= 1 << (number % 64);
        }
        let mut before = 0;
        for outline in &mut outlines {
            outline.1 = before;
            before += outline.0.count_ones();
        }
        Self { outlines: outlines.into(), words: words.into() }
    }

    /// The first number from `start` to before `end` that is in all sets and accepted.
    pub(super) fn first_common(
        sets: &[&Self],
        (start, end): (usize, usize),
        mut accepts: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let first = sets[0];
        for at in start / OUTLINED..end.div_ceil(OUTLINED) {
            let mut outline = sets[1..].iter().fold(first.outlines[at].0, |outline, set| outline & set.outlines[at].0);
            if at == start / OUTLINED {
                outline &= u64::MAX << (start / 64 % 64);
            }
            while outline != 0 {
                let bit = outline.trailing_zeros();
                outline &= outline - 1;
                let base = (at * 64 + bit as usize) * 64;
                if base >= end {
                    return None;
                }
                let mut word = sets[1..].iter().fold(first.word(at, bit), |word, set| word & set.word(at, bit));
                if base < start {
                    word &= u64::MAX << (start % 64);
                }
                while word != 0 {
                    let number = base + word.trailing_zeros() as usize;
                    word &= word - 1;
                    if number >= end {
                        return None;
                    }
                    if accepts(number) {
                        return Some(number);
                    }
                }
            }
        }
        None
    }

    /// A word that the outline has.
    #[inline]
    fn word(&self, at: usize, bit: u32) -> u64 {
        let (outline, before) = self.outlines[at];
        self.words[(before + (outline & ((1 << bit) - 1)).count_ones()) as usize]
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.outlines) + size_of_val(&*self.words)
    }
}

/// So many numbers an outline is of.
const OUTLINED: usize = 64 * 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_common_number_is_that_of_plain_sets(
            sets in prop::collection::vec(prop::collection::btree_set(0..9000_usize, 0..200), 1..4),
            dense in 0..9000_usize,
            start in 0..9000_usize,
            length in 0..9000_usize,
            stride in 1..5_usize,
        ) {
            let sets: Vec<BTreeSet<usize>> =
                sets.into_iter().map(|set| set.into_iter().chain(dense..(dense + 100).min(9000)).collect()).collect();
            let bits: Vec<Bits> = sets.iter().map(|set| Bits::new(set.iter().copied(), 9000)).collect();
            let end = (start + length).min(9000);
            let expected = (start..end).find(|at| at % stride == 0 && sets.iter().all(|set| set.contains(at)));
            let found = Bits::first_common(&bits.iter().collect::<Vec<_>>(), (start, end), |at| at % stride == 0);
            prop_assert_eq!(found, expected);
        }
    }
}

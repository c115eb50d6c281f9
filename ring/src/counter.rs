//! Counters: written by one thread without a bus lock, read by any.
//!
//! The rule: one thread adds, so that adding is a plain load and a plain store. Nothing enforces it, and nothing breaks
//! when it is not kept but the count: of two threads that add at once, one may be lost. Readers see every count late
//! by no more than a store buffer, and never a torn one. No counter orders any other memory (all accesses are relaxed),
//! so two counters read together may differ by what happened in between; sums are exact once the writer has stopped.

use crate::sync::{AtomicU64, Ordering};
use crossbeam::utils::CachePadded;
use std::array;

/// A count with a single writer.
#[derive(Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `n`, wrapping at 2^64; for the one writing thread.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets the count, where it is a mark rather than a sum.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The count as last seen by this thread.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

/// `N` counters of one writer on cache lines of their own: put it into an `Arc` and let the readers have clones.
#[derive(Debug)]
pub struct Counters<const N: usize>(CachePadded<[Counter; N]>);

impl<const N: usize> Counters<N> {
    /// All counters at zero.
    pub fn new() -> Self {
        Self(CachePadded::new(array::from_fn(|_| Counter::new())))
    }

    /// Adds `n` to counter `index`; for the one writing thread.
    ///
    /// # Panics
    /// If `index` is not below `N`.
    #[inline]
    pub fn add(&self, index: usize, n: u64) {
        self.0[index].add(n);
    }

    /// Sets counter `index`, a mark rather than a count; for the one writing thread.
    ///
    /// # Panics
    /// If `index` is not below `N`.
    #[inline]
    pub fn set(&self, index: usize, value: u64) {
        self.0[index].set(value);
    }

    /// The count of counter `index` as last seen by this thread.
    ///
    /// # Panics
    /// If `index` is not below `N`.
    #[inline]
    pub fn get(&self, index: usize) -> u64 {
        self.0[index].get()
    }
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::{sync::Arc, thread};

    #[test]
    fn counts_add_up_and_wrap() {
        let counter = Counter::new();
        counter.add(3);
        counter.add(u64::MAX);
        assert_eq!(counter.get(), 2);
    }

    #[test]
    fn counters_of_a_block_do_not_touch_each_other() {
        let block = Counters::<3>::new();
        block.add(0, 1);
        block.add(2, 5);
        assert_eq!([0, 1, 2].map(|index| block.get(index)), [1, 0, 5]);
    }

    #[test]
    fn two_blocks_share_no_cache_line() {
        let blocks = [Counters::<1>::new(), Counters::<1>::new()];
        let address = |block: &Counters<1>| std::ptr::from_ref(block).addr();
        assert!(address(&blocks[1]) - address(&blocks[0]) >= 64);
        assert_eq!(address(&blocks[0]) % 64, 0);
    }

    #[test]
    fn a_reader_sees_counts_only_grow_and_the_whole_sum_at_the_end() {
        const ADDS: u64 = if cfg!(miri) { 100 } else { 100_000 };
        let block = Arc::new(Counters::<2>::new());
        let writer = thread::spawn({
            let block = Arc::clone(&block);
            move || (0..ADDS).for_each(|_| block.add(1, 2))
        });
        let mut last = 0;
        while !writer.is_finished() {
            let now = block.get(1);
            assert!(now >= last);
            last = now;
        }
        writer.join().unwrap();
        assert_eq!(block.get(1), 2 * ADDS);
    }
}

//! The routes of one family as they were given: what lookups need not know but updates do.

use std::collections::HashMap;
use std::hash::Hash;

use crate::NextHop;

/// An address as a number.
pub(crate) trait Address: Copy + Ord + Hash {
    /// The address with only its first `length` bits.
    fn first(self, length: u8) -> Self;
}

impl Address for u32 {
    fn first(self, length: u8) -> Self {
        self & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
    }
}

impl Address for u128 {
    fn first(self, length: u8) -> Self {
        self & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
    }
}

/// Next hops by first address and length.
pub(crate) struct Routes<A> {
    hops: HashMap<(A, u8), NextHop>,
    /// Of each length, how many.
    counts: [u32; 129],
}

impl<A: Address> Routes<A> {
    pub(crate) fn new() -> Self {
        Routes { hops: HashMap::new(), counts: [0; 129] }
    }

    pub(crate) fn insert(&mut self, at: A, length: u8, hop: NextHop) -> Option<NextHop> {
        let previous = self.hops.insert((at, length), hop);
        self.counts[usize::from(length)] += u32::from(previous.is_none());
        previous
    }

    pub(crate) fn remove(&mut self, at: A, length: u8) -> Option<NextHop> {
        let hop = self.hops.remove(&(at, length))?;
        self.counts[usize::from(length)] -= 1;
        if self.hops.capacity() > KEPT && self.hops.capacity() / 8 > self.hops.len() {
            self.hops.shrink_to(2 * self.hops.len());
        }
        Some(hop)
    }

    pub(crate) fn get(&self, at: A, length: u8) -> Option<NextHop> {
        self.hops.get(&(at, length)).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.hops.len()
    }

    /// The longest route around a prefix, shorter than it and longer than the default: its length and next hop.
    pub(crate) fn around(&self, at: A, length: u8) -> Option<(u8, NextHop)> {
        let shorter = (1..length).rev().filter(|&shorter| self.counts[usize::from(shorter)] > 0);
        shorter.into_iter().find_map(|shorter| Some((shorter, self.get(at.first(shorter), shorter)?)))
    }

    /// All routes by address, the shorter first.
    pub(crate) fn sorted(&self) -> Vec<(A, u8, NextHop)> {
        let mut all: Vec<_> = self.hops.iter().map(|(&(at, length), &hop)| (at, length, hop)).collect();
        all.sort_unstable();
        all
    }
}

/// Room for so many routes is not given back.
const KEPT: usize = 1024;

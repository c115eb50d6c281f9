//! The atomic words the tables are made of; no other file of this crate holds an atomic.
//!
//! ```text
//!   15 14                  0
//!  +--+--------------------+
//!  | 0|      next hop      |  IPv4, an answer; 0 leaves it to the default route
//!  +--+--------------------+
//!  | 1|   index of group   |  IPv4, 256 cells that refine this one by 8 more bits
//!  +--+--------------------+
//!
//!   31 30 29 28            16 15             0
//!  +--+-----+----------------+----------------+
//!  | 0|  0  |     length     |    next hop    |  IPv6, an answer, and how long the route is that gave it
//!  +--+-----+----------------+----------------+
//!  | 1|layer|          index of node          |  IPv6, 16 cells that divide this one
//!  +--+-----+---------------------------------+
//! ```
//!
//! The length in an IPv6 leaf lets an update tell which leaves a route may overwrite. For IPv4 the writer keeps lengths apart:
//! half the bytes mean twice the answers in a cache.
//!
//! Ordering. There is one writer, so no read-modify-write is needed.
//! - A store is `Release`: a group or node is filled before its index is stored, so a reader that sees the index sees the fill;
//!   likewise a reader that sees a leaf emptied in favour of the default route sees that default route.
//! - A load is `Acquire`, the other half of both. On x86 neither costs an instruction, and what AVX-512 loads is ordered alike.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::NextHop;

/// A cell of the IPv4 table, written by the one writer and read by anybody.
#[derive(Default)]
#[repr(transparent)]
pub(crate) struct Hop(AtomicU16);

impl Hop {
    #[inline]
    pub(crate) fn load(&self) -> u16 {
        self.0.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn store(&self, entry: u16) {
        self.0.store(entry, Ordering::Release);
    }
}

/// A cell of the IPv6 table, written by the one writer and read by anybody.
#[derive(Default)]
#[repr(transparent)]
pub(crate) struct Cell(AtomicU32);

impl Cell {
    #[inline]
    pub(crate) fn load(&self) -> Entry {
        Entry(self.0.load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn store(&self, entry: Entry) {
        self.0.store(entry.0, Ordering::Release);
    }
}

/// What divides an IPv6 node: written before the node is linked, then left alone.
#[repr(transparent)]
pub(crate) struct Key(AtomicU32);

impl Key {
    #[inline]
    pub(crate) fn load(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn store(&self, key: u32) {
        self.0.store(key, Ordering::Relaxed);
    }
}

/// How many changes a table has had: counted by the one writer when a change is done, so that whoever sees the count sees all
/// its cells.
#[derive(Default)]
pub(crate) struct Changes(AtomicU64);

impl Changes {
    #[inline]
    pub(crate) fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn add(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

/// What a [`Cell`] says: a leaf or the index of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Entry(pub(crate) u32);

impl Entry {
    /// The leaf that leaves the answer to the default route.
    pub(crate) const EMPTY: Entry = Entry(0);
    /// Set in what names a node.
    pub(crate) const NODE: u32 = 1 << 31;
    /// Where the layer of a node begins.
    pub(crate) const LAYER_SHIFT: u32 = 29;
    /// The index of a node.
    pub(crate) const INDEX: u32 = (1 << Self::LAYER_SHIFT) - 1;

    /// The answer of a route of `length` bits.
    pub(crate) fn leaf(length: u8, hop: NextHop) -> Self {
        Entry(u32::from(length) << 16 | u32::from(hop.0))
    }

    /// A node that divides by the 32 bits of that layer, 0 to 3.
    pub(crate) fn node(layer: usize, index: u32) -> Self {
        Entry(Self::NODE | (layer as u32) << Self::LAYER_SHIFT | index)
    }

    /// Layer and index of the node to go on with; `None` for a leaf.
    #[inline]
    pub(crate) fn as_node(self) -> Option<(usize, u32)> {
        let layer = (self.0 >> Self::LAYER_SHIFT & 3) as usize;
        (self.0 & Self::NODE != 0).then_some((layer, self.0 & Self::INDEX))
    }

    /// True for a leaf given by a route of at most `length` bits or by none.
    pub(crate) fn is_leaf_within(self, length: u8) -> bool {
        self.0 & Self::NODE == 0 && self.0 >> 16 <= u32::from(length)
    }

    /// Of a leaf, the length of the route that gave it.
    pub(crate) fn length(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// The next hop of a leaf.
    #[inline]
    pub(crate) fn hop(self) -> NextHop {
        NextHop(self.0 as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_and_a_node_are_told_apart_at_their_extremes() {
        let leaf = Entry::leaf(128, NextHop::MAX);
        assert_eq!((leaf.as_node(), leaf.hop(), leaf.length()), (None, NextHop::MAX, 128));
        assert!(leaf.is_leaf_within(128) && !leaf.is_leaf_within(127));
        let node = Entry::node(3, Entry::INDEX);
        assert_eq!(node.as_node(), Some((3, Entry::INDEX)));
        assert!(!node.is_leaf_within(128));
        assert!(Entry::EMPTY.is_leaf_within(0));
    }
}

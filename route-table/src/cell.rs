//! The atomic word the table is made of; no other file of this crate holds an atomic.
//!
//! ```text
//!   31 30        24 23      16 15             0
//!  +--+------------+----------+----------------+
//!  | 0|     0      |  length  |    next hop    |  leaf: the answer, and how long the route is that gave it
//!  +--+------------+----------+----------------+
//!  | 1|              node index                |  node: 256 cells that refine this one by 8 more bits
//!  +--+----------------------------------------+
//! ```
//!
//! A word of zeros is the empty leaf: no route longer than the default covers this cell. The length in a leaf is what
//! lets an update tell which leaves a route may overwrite, without any other record.
//!
//! Ordering. There is one writer, so no read-modify-write is needed.
//! - A store is `Release`: a node is filled before its index is stored, so a reader that sees the index sees the fill;
//!   likewise a reader that sees a leaf emptied in favour of the default route sees that default route.
//! - A load is `Acquire`, the other half of both. On x86 neither costs an instruction.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::NextHop;

/// One word, written by the one writer and read by anybody.
pub(crate) struct Cell(AtomicU32);

impl Cell {
    pub(crate) fn empty() -> Self {
        Cell(AtomicU32::new(Entry::EMPTY.0))
    }

    #[inline]
    pub(crate) fn load(&self) -> Entry {
        Entry(self.0.load(Ordering::Acquire))
    }

    pub(crate) fn store(&self, entry: Entry) {
        self.0.store(entry.0, Ordering::Release);
    }
}

/// What a [`Cell`] says: a leaf or the index of a node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(u32);

impl Entry {
    /// The leaf that leaves the answer to the default route.
    pub(crate) const EMPTY: Entry = Entry(0);

    /// The answer of a route of `length` bits.
    pub(crate) fn leaf(length: u8, hop: NextHop) -> Self {
        Entry(u32::from(length) << 16 | u32::from(hop.0))
    }

    /// A pointer to the node of this index, below 2^31.
    pub(crate) fn node(index: u32) -> Self {
        Entry(NODE | index)
    }

    /// The index of the node to go on with; `None` for a leaf.
    #[inline]
    pub(crate) fn as_node(self) -> Option<u32> {
        (self.0 & NODE != 0).then_some(self.0 & !NODE)
    }

    /// True for a leaf given by a route of at most `length` bits or by none.
    pub(crate) fn is_leaf_within(self, length: u8) -> bool {
        self.0 & NODE == 0 && self.0 >> 16 <= u32::from(length)
    }

    /// The next hop of a leaf; of a node, none.
    #[inline]
    pub(crate) fn hop(self) -> NextHop {
        if self.0 & NODE == 0 { NextHop(self.0 as u16) } else { NextHop::NONE }
    }
}

const NODE: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_and_a_node_are_told_apart_at_their_extremes() {
        let leaf = Entry::leaf(128, NextHop(u16::MAX));
        assert_eq!((leaf.as_node(), leaf.hop()), (None, NextHop(u16::MAX)));
        assert!(leaf.is_leaf_within(128) && !leaf.is_leaf_within(127));
        let node = Entry::node(NODE - 1);
        assert_eq!((node.as_node(), node.hop()), (Some(NODE - 1), NextHop::NONE));
        assert!(!node.is_leaf_within(128));
        assert!(Entry::EMPTY.is_leaf_within(0));
    }
}

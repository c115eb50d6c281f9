//! IPv6 as a tree over intervals: 32 bits of the address at a time, nodes of two cache lines, sixteen ways each.
//!
//! ```text
//!   2001:db8:: ...           root: a cell for each value of the first 20 bits
//!   \____/                    |
//!    cell 0x20010 -> node     +- keys   k0 < k1 < .. < k14     the 32 bits of the node's layer are compared with all of them,
//!                             +- cells  c0 | c1 | .. | c15     and how many are less says which cell goes on
//! ```
//!
//! A lookup follows nodes until it meets a leaf; the leaf is the longest match, nothing is remembered on the way. A key is the last
//! value before a *boundary*, the place where the longest route begins to be another; so a node holds what fifteen boundaries
//! divide, however far apart these are, and a table of 200 000 routes fits into a few megabytes. Where a route is longer than the 32
//! bits of a layer, the one value it goes on from has a cell for itself, whose node divides by the next 32 bits. Within a layer nodes
//! are split as in a B-tree: no order of insertion makes the tree deep.
//!
//! Keys of a linked node never change. A new boundary is a new node beside the old, linked by one store; the old one is retired. A
//! next hop changes in place. The default route is a cell of its own, asked when the leaf is empty.
//!
//! Once all routes are gone, so are all nodes: a removal takes away the boundaries that only its route needed, and the nodes
//! without any.

use crate::NextHop;
use crate::cell::{Cell, Changes, Entry, Key};
use crate::mapping::{Mapping, Use};

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "AVX-512 loads of cells that a writer may be changing have no safe form")]
mod wide;
mod writer;

pub(crate) use writer::Writer;

/// What readers see.
pub(crate) struct Table {
    /// Of any answer.
    pub(crate) changes: Changes,
    default_route: Cell,
    root: Mapping<Cell>,
    nodes: Mapping<Node>,
}

/// Keys in one cache line, cells in the next. Keys ascend, and behind the last stands [`Node::NO_KEY`].
#[repr(C, align(128))]
pub(crate) struct Node {
    /// One more than is used, for a full line.
    keys: [Key; KEYS + 1],
    cells: [Cell; KEYS + 1],
}

impl Table {
    fn new(nodes_max: u32) -> Self {
        Table {
            changes: Changes::default(),
            default_route: Cell::default(),
            root: Mapping::new(1 << ROOT_BITS, Use::Sparse),
            nodes: Mapping::new(nodes_max as usize, Use::Dense),
        }
    }

    /// The next hop of the longest prefix that holds `to`.
    #[inline]
    pub(crate) fn lookup(&self, to: u128) -> NextHop {
        let mut entry = self.root(to).load();
        while let Some((layer, index)) = entry.as_node() {
            let node = &self.nodes[index as usize];
            entry = node.cells[node.rank(word(to, layer))].load();
        }
        self.answer(entry)
    }

    /// [`Table::lookup`] for each of `to`.
    #[inline]
    pub(crate) fn lookup_burst(&self, to: &[u128], hops: &mut [NextHop]) {
        #[cfg(target_arch = "x86_64")]
        if wide::lookup(self, to, hops) {
            return;
        }
        for (hop, &to) in hops.iter_mut().zip(to) {
            *hop = self.lookup(to);
        }
    }

    #[inline]
    fn root(&self, to: u128) -> &Cell {
        &self.root[(to >> (128 - ROOT_BITS)) as usize]
    }

    #[inline]
    fn answer(&self, entry: Entry) -> NextHop {
        if entry == Entry::EMPTY { self.default_route.load().hop() } else { entry.hop() }
    }
}

impl Node {
    /// Stands where there is no key: nothing is greater.
    const NO_KEY: u32 = u32::MAX;

    /// How many keys are less than `value`, by halves.
    #[inline]
    fn rank(&self, value: u32) -> usize {
        let mut rank = 0;
        for step in [8, 4, 2, 1] {
            rank += step * usize::from(self.keys[rank + step - 1].load() < value);
        }
        rank
    }
}

/// The 32 bits of an address that nodes of a layer divide by.
#[inline]
fn word(address: u128, layer: usize) -> u32 {
    (address >> (96 - begin(layer))) as u32
}

/// Where the 32 bits of a layer begin. The last overlaps the one before, whose bits are all the same within its trees.
#[inline]
const fn begin(layer: usize) -> usize {
    let begin = ROOT_BITS + 32 * layer;
    if begin < 96 { begin } else { 96 }
}

/// Boundaries a node can hold.
const KEYS: usize = 15;
/// Bits of the address that the root resolves: few enough to be near, and more than registries' blocks have.
const ROOT_BITS: usize = 24;

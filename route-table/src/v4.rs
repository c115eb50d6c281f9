//! IPv4 in at most two loads: a cell for each /24, and groups of 256 cells for what is longer (DIR-24-8; Gupta, Lin and McKeown 1998).
//!
//! ```text
//!   10.244.1 . 70           blocks: a cell for each value of the first three bytes
//!   \______/                 |
//!    cell 0x0AF401 -> group  +- cells 64..128 = next hop (/26)
//! ```
//!
//! A prefix fills all the cells it covers, wherever no longer route has given the answer. The default route is no such expansion
//! but a cell of its own, asked where a cell is 0. Cells have 16 bits, so the 2^24 blocks are 32 MB of addresses, of which pages are
//! taken as they are written: a cluster's table has a few. How long the route is that gave an answer only the writer needs to know,
//! and keeps apart.
//!
//! Invariant: a block has a group exactly while some route longer than /24 lies within it. So memory depends on the routes alone, not
//! on their history, and a removal never needs a new group.

use std::sync::Arc;

use crate::NextHop;
use crate::cell::Hop;
use crate::mapping::{Mapping, Use};
use crate::pool::Pool;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "AVX-512 loads of cells that a writer may be changing have no safe form")]
mod wide;

/// What readers see.
pub(crate) struct Table {
    default_route: Hop,
    blocks: Mapping<Hop>,
    groups: Mapping<Hop>,
}

impl Table {
    fn new() -> Self {
        Table {
            default_route: Hop::default(),
            blocks: Mapping::new(BLOCKS, Use::Dense),
            groups: Mapping::new(GROUPS_MAX as usize * GROUP, Use::Dense),
        }
    }

    /// The next hop of the longest prefix that holds `to`.
    #[inline]
    pub(crate) fn lookup(&self, to: u32) -> NextHop {
        let mut entry = self.blocks[(to >> 8) as usize].load();
        if entry & GROUPED != 0 {
            entry = self.groups[cell_of(entry, to)].load();
        }
        if entry == 0 { NextHop(self.default_route.load()) } else { NextHop(entry) }
    }

    /// [`Table::lookup`] for each of `to`.
    #[inline]
    pub(crate) fn lookup_burst(&self, to: &[u32], hops: &mut [NextHop]) {
        #[cfg(target_arch = "x86_64")]
        let (to, hops) = wide::lookup(self, to, hops);
        for (hop, &to) in hops.iter_mut().zip(to) {
            *hop = self.lookup(to);
        }
    }
}

/// The one who changes a [`Table`].
pub(crate) struct Writer {
    table: Arc<Table>,
    pool: Pool,
    /// Of each cell that holds an answer, the length of the route that gave it.
    lengths: Lengths,
}

struct Lengths {
    blocks: Mapping<u8>,
    groups: Mapping<u8>,
}

impl Writer {
    pub(crate) fn new(groups_max: u32) -> Self {
        let lengths = Lengths {
            blocks: Mapping::new(BLOCKS, Use::Dense),
            groups: Mapping::new(GROUPS_MAX as usize * GROUP, Use::Dense),
        };
        Writer { table: Arc::new(Table::new()), pool: Pool::new(groups_max.min(GROUPS_MAX)), lengths }
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.clone()
    }

    /// Inserts or changes a route; false, and nothing is changed, when groups run out.
    #[must_use]
    pub(crate) fn insert(&mut self, at: u32, length: u8, hop: NextHop) -> bool {
        let block = (at >> 8) as usize;
        if length > 24 && self.table.blocks[block].load() & GROUPED == 0 && !self.refine(block) {
            return false;
        }
        self.paint(at, length, (length, hop));
        true
    }

    /// Removes a route that is there; `around` is the route that takes over, `None` when that is the default.
    pub(crate) fn remove(&mut self, at: u32, length: u8, around: Option<(u8, NextHop)>) {
        self.paint(at, length, around.unwrap_or((0, NextHop::NONE)));
        if length > 24 {
            self.prune((at >> 8) as usize);
        }
    }

    /// Frees the groups that removals have unlinked. No reader may still be in a lookup begun before the last removal.
    pub(crate) fn reclaim(&mut self) {
        self.pool.reclaim();
    }

    /// Groups linked or awaiting [`Writer::reclaim`].
    pub(crate) fn groups_used(&self) -> usize {
        self.pool.used()
    }

    /// Gives every cell of the prefix the new answer, except those of routes longer than `length`.
    fn paint(&mut self, at: u32, length: u8, answer: (u8, NextHop)) {
        let Writer { table, lengths, .. } = self;
        let count = |bits: u8| 1_usize << (bits - length);
        match length {
            0 => table.default_route.store(answer.1.0),
            1..=24 => {
                let block = (at >> 8) as usize;
                for block in block..block + count(24) {
                    let entry = table.blocks[block].load();
                    if entry & GROUPED != 0 {
                        let cells = cell_of(entry, 0)..cell_of(entry, u32::MAX) + 1;
                        paint(&table.groups[cells.clone()], &mut lengths.groups[cells], length, answer);
                    } else {
                        let block = block..block + 1;
                        paint(&table.blocks[block.clone()], &mut lengths.blocks[block], length, answer);
                    }
                }
            }
            _ => {
                let first = cell_of(table.blocks[(at >> 8) as usize].load(), at);
                let cells = first..first + count(32);
                paint(&table.groups[cells.clone()], &mut lengths.groups[cells], length, answer);
            }
        }
    }

    /// Gives a block a group whose cells all say what the block said; false when there is none left.
    fn refine(&mut self, block: usize) -> bool {
        let Some(group) = self.pool.take() else { return false };
        let cell = &self.table.blocks[block];
        let cells = group as usize * GROUP..(group as usize + 1) * GROUP;
        let entry = cell.load();
        self.table.groups[cells.clone()].iter().for_each(|cell| cell.store(entry));
        self.lengths.groups[cells].fill(self.lengths.blocks[block]);
        cell.store(GROUPED | group as u16);
        true
    }

    /// Takes the group of a block away if it refines nothing any more.
    fn prune(&mut self, block: usize) {
        let entry = self.table.blocks[block].load();
        let first = cell_of(entry, 0);
        let longest = self.lengths.groups[first..first + GROUP].iter().max();
        if longest.is_some_and(|&longest| longest <= 24) {
            // All cells are of one route of /24 or shorter, or of none.
            self.lengths.blocks[block] = self.lengths.groups[first];
            self.table.blocks[block].store(self.table.groups[first].load());
            self.pool.retire(u32::from(entry & !GROUPED));
        }
    }
}

/// The cells among these that no route longer than `length` has given get the answer.
fn paint(cells: &[Hop], lengths: &mut [u8], length: u8, answer: (u8, NextHop)) {
    for (cell, own) in cells.iter().zip(lengths) {
        if *own <= length {
            cell.store(answer.1.0);
            *own = answer.0;
        }
    }
}

/// The cell of an address in the group that a block's entry names.
#[inline]
fn cell_of(entry: u16, to: u32) -> usize {
    usize::from(entry & !GROUPED) << 8 | (to & 0xff) as usize
}

/// In a block's cell: it names a group.
const GROUPED: u16 = 1 << 15;
const BLOCKS: usize = 1 << 24;
const GROUPS_MAX: u32 = 1 << 15;
/// Cells of a group.
const GROUP: usize = 256;

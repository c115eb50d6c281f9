//! IPv4 in at most two loads: a cell for each /24, and groups of cells for what is longer (DIR-24-8; Gupta, Lin and McKeown 1998).
//!
//! ```text
//!   10.244.1 . 70           blocks: a cell for each value of the first three bytes
//!   \______/                 |
//!    cell 0x0AF401 -> group  +- a cell for each address, or for each 16 while no route there is longer than /28
//! ```
//!
//! A prefix fills all the cells it covers, wherever no longer route has given the answer. The default route is no such expansion
//! but a cell of its own, asked where a cell is 0. Cells have 16 bits, so the 2^24 blocks are 32 MB of addresses, of which pages are
//! taken as they are written: a cluster's table has a few. How long the route is that gave an answer only the writer needs to know,
//! and keeps apart.
//!
//! Groups are *fine*, of 256 cells, or *coarse*, of 16. Clusters have blocks of /26 side by side: in coarse groups thousands of them
//! stay in the nearest cache.
//!
//! A block has a group exactly while some route longer than /24 lies within it.

use std::ops::Range;
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
    /// Cells of the coarse groups, then those of the fine ones.
    groups: Mapping<Hop>,
}

impl Table {
    fn new() -> Self {
        Table {
            default_route: Hop::default(),
            blocks: Mapping::new(BLOCKS, Use::Dense),
            groups: Mapping::new(cells(GROUPS - 1).end, Use::Dense),
        }
    }

    /// The next hop of the longest prefix that holds `to`.
    #[inline]
    pub(crate) fn lookup(&self, to: u32) -> NextHop {
        let mut entry = self.blocks[(to >> 8) as usize].load();
        if entry & GROUPED != 0 {
            entry = self.groups[cell(entry & !GROUPED, to)].load();
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

    /// The group of a block, if it has one.
    fn group(&self, block: usize) -> Option<u16> {
        let entry = self.blocks[block].load();
        (entry & GROUPED != 0).then_some(entry & !GROUPED)
    }
}

/// The one who changes a [`Table`].
pub(crate) struct Writer {
    table: Arc<Table>,
    coarse: Pool,
    /// Its indexes begin with 0 too.
    fine: Pool,
    lengths: Lengths,
}

/// Of each cell that holds an answer, the length of the route that gave it.
struct Lengths {
    blocks: Mapping<u8>,
    groups: Mapping<u8>,
}

impl Writer {
    pub(crate) fn new(groups_max: u32) -> Self {
        let lengths = Lengths {
            blocks: Mapping::new(BLOCKS, Use::Dense),
            groups: Mapping::new(cells(GROUPS - 1).end, Use::Dense),
        };
        let [coarse, fine] = [COARSE, GROUPS - COARSE].map(|all| Pool::new(groups_max.min(all.into())));
        Writer { table: Arc::new(Table::new()), coarse, fine, lengths }
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.clone()
    }

    /// Inserts or changes a route; false, and nothing is changed, when groups run out.
    #[must_use]
    pub(crate) fn insert(&mut self, at: u32, length: u8, hop: NextHop) -> bool {
        if !self.refine((at >> 8) as usize, length) {
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

    /// Frees the groups that changes have unlinked. No reader may still be in a lookup begun before the last change.
    pub(crate) fn reclaim(&mut self) {
        self.coarse.reclaim();
        self.fine.reclaim();
    }

    /// Groups linked or awaiting [`Writer::reclaim`].
    pub(crate) fn groups_used(&self) -> usize {
        self.coarse.used() + self.fine.used()
    }

    /// Gives every cell of the prefix the new answer, except those of routes longer than `length`.
    fn paint(&mut self, at: u32, length: u8, answer: (u8, NextHop)) {
        let Writer { table, lengths, .. } = self;
        let block = (at >> 8) as usize;
        let mut paint_group = |cells: Range<usize>| {
            paint(&table.groups[cells.clone()], &mut lengths.groups[cells], length, answer);
        };
        match length {
            0 => table.default_route.store(answer.1.0),
            1..=24 => {
                for block in block..block + (1 << (24 - length)) {
                    match table.group(block) {
                        Some(group) => paint_group(cells(group)),
                        None => {
                            let one = block..block + 1;
                            paint(&table.blocks[one.clone()], &mut lengths.blocks[one], length, answer);
                        }
                    }
                }
            }
            _ => {
                let group = table.group(block).expect("a block with a route longer than /24 has a group");
                let last = at | u32::MAX >> length.min(31) >> (length / 32);
                paint_group(cell(group, at)..cell(group, last) + 1);
            }
        }
    }

    /// Makes sure that a block can hold routes of that length; false when no group is left.
    fn refine(&mut self, block: usize, length: u8) -> bool {
        let group = self.table.group(block);
        if length <= 24 || group.is_some_and(|group| length <= 28 || group >= COARSE) {
            return true;
        }
        let Some(finer) = self.take(length) else { return false };
        self.link(block, finer);
        true
    }

    /// Takes the group of a block away if it refines nothing any more. A fine one stays fine until then: pods come and go in the
    /// same few blocks.
    fn prune(&mut self, block: usize) {
        let group = self.table.group(block).expect("the route that was there had a group");
        let lengths = &self.lengths.groups[cells(group)];
        if lengths.iter().all(|&length| length <= 24) {
            // All cells are of one route of /24 or shorter, or of none.
            let any = cells(group).start;
            self.lengths.blocks[block] = self.lengths.groups[any];
            self.table.blocks[block].store(self.table.groups[any].load());
            self.retire(group);
        }
    }

    /// Puts a group, filled with the same answers, in the place of what a block has.
    fn link(&mut self, block: usize, group: u16) {
        let before = self.table.group(block);
        for to in 0..=0xff {
            let to_cell = cell(group, to);
            let (entry, length) = match before {
                Some(before) => {
                    let from = cell(before, to);
                    (self.table.groups[from].load(), self.lengths.groups[from])
                }
                None => (self.table.blocks[block].load(), self.lengths.blocks[block]),
            };
            self.table.groups[to_cell].store(entry);
            self.lengths.groups[to_cell] = length;
        }
        self.table.blocks[block].store(GROUPED | group);
        before.into_iter().for_each(|before| self.retire(before));
    }

    /// A group for routes of that length. Where coarse ones have run out a fine one serves as well.
    fn take(&mut self, length: u8) -> Option<u16> {
        let coarse = (length <= 28).then(|| self.coarse.take()).flatten();
        coarse.or_else(|| self.fine.take().map(|fine| fine + u32::from(COARSE))).map(|group| group as u16)
    }

    fn retire(&mut self, group: u16) {
        match group.checked_sub(COARSE) {
            None => self.coarse.retire(group.into()),
            Some(fine) => self.fine.retire(fine.into()),
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

/// The cell of an address in a group.
#[inline]
fn cell(group: u16, to: u32) -> usize {
    let (group, to) = (group as usize, (to & 0xff) as usize);
    if group < COARSE as usize { group << 4 | to >> 4 } else { (group << 8 | to) - FINE_FROM }
}

/// The cells of a group.
fn cells(group: u16) -> Range<usize> {
    cell(group, 0)..cell(group, 0xff) + 1
}

/// In a block's cell: it names a group.
const GROUPED: u16 = 1 << 15;
const BLOCKS: usize = 1 << 24;
const GROUPS: u16 = 1 << 15;
/// Groups below this number have 16 cells, the others 256.
const COARSE: u16 = 1 << 13;
/// Cells that coarse groups have fewer than fine ones would.
const FINE_FROM: usize = (COARSE as usize) * (256 - 16);

//! The memory of nodes: an array that grows by chunks and never moves, and the writer's record of which are free.
//!
//! A node is named by a 31-bit index. A chunk is allocated when the first of its nodes is taken and stays until the
//! table is dropped, so an index a reader has seen names valid memory for as long as that reader can ask.

use std::sync::OnceLock;

use crate::cell::Cell;

/// The cells that refine one cell by eight more bits of the address.
pub(crate) type Node = [Cell; 256];

/// All nodes of one family, shared by the writer and the readers.
pub(crate) struct Nodes {
    chunks: Box<[OnceLock<Box<Chunk>>]>,
}

impl Nodes {
    /// Room for `nodes_max` nodes, none allocated.
    pub(crate) fn new(nodes_max: u32) -> Self {
        let chunks = nodes_max.div_ceil(CHUNK as u32);
        Nodes { chunks: (0..chunks).map(|_| OnceLock::new()).collect() }
    }

    /// The node of this index; `None` for an index that was never given out.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&Node> {
        let chunk = self.chunks.get(index as usize / CHUNK)?.get()?;
        Some(&chunk[index as usize % CHUNK])
    }

    /// The node of an index the writer gave out.
    pub(crate) fn node(&self, index: u32) -> &Node {
        self.get(index).expect("an index that was given out has its chunk")
    }

    fn allocate(&self, index: u32) {
        self.chunks[index as usize / CHUNK].get_or_init(|| {
            let chunk: Box<[Node]> = (0..CHUNK).map(|_| std::array::from_fn(|_| Cell::empty())).collect();
            chunk.try_into().unwrap_or_else(|_| unreachable!("collected {CHUNK} nodes"))
        });
    }
}

/// Which nodes the writer may take.
pub(crate) struct Pool {
    nodes_max: u32,
    /// Indexes from here on were never taken.
    fresh: u32,
    free: Vec<u32>,
    /// Unlinked, but perhaps still read.
    retired: Vec<u32>,
}

impl Pool {
    pub(crate) fn new(nodes_max: u32) -> Self {
        Pool { nodes_max, fresh: 0, free: Vec::new(), retired: Vec::new() }
    }

    /// Takes one node, if `needed` are left: who needs a chain asks for its whole length first and so gets all or none.
    pub(crate) fn take(&mut self, nodes: &Nodes, needed: usize) -> Option<u32> {
        let left = self.free.len() + (self.nodes_max - self.fresh) as usize;
        if left < needed {
            return None;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.fresh += 1;
            self.fresh - 1
        });
        nodes.allocate(index);
        Some(index)
    }

    /// Puts an unlinked node aside until [`Pool::reclaim`].
    pub(crate) fn retire(&mut self, index: u32) {
        self.retired.push(index);
    }

    /// Makes the retired nodes free.
    pub(crate) fn reclaim(&mut self) {
        self.free.append(&mut self.retired);
    }

    /// Nodes linked or retired.
    pub(crate) fn used(&self) -> usize {
        self.fresh as usize - self.free.len()
    }
}

type Chunk = [Node; CHUNK];

/// Nodes per chunk: 256 KiB.
const CHUNK: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_given_whole_or_not_at_all() {
        let (nodes, mut pool) = (Nodes::new(3), Pool::new(3));
        assert_eq!(pool.take(&nodes, 4), None);
        assert_eq!(pool.used(), 0);
        let taken: Vec<u32> = (1..=3).rev().map(|needed| pool.take(&nodes, needed).unwrap()).collect();
        assert_eq!((taken, pool.take(&nodes, 1)), (vec![0, 1, 2], None));
    }

    #[test]
    fn a_retired_node_is_taken_again_only_after_reclaim() {
        let (nodes, mut pool) = (Nodes::new(1), Pool::new(1));
        let index = pool.take(&nodes, 1).unwrap();
        pool.retire(index);
        assert_eq!((pool.take(&nodes, 1), pool.used()), (None, 1));
        pool.reclaim();
        assert_eq!(pool.used(), 0);
        assert_eq!(pool.take(&nodes, 1), Some(index));
    }

    #[test]
    fn an_index_never_given_out_has_no_node() {
        let nodes = Nodes::new(300);
        assert!(nodes.get(0).is_none() && nodes.get(u32::MAX).is_none());
    }
}

//! A multibit trie over addresses of `N` bytes: 16 bits at the root, then 8 bits per node, answers pushed to the leaves.
//!
//! ```text
//!   10 . 244 . 1 . 70          root: one cell for each value of the first two bytes
//!   \______/                    |
//!    cell 0x0AF4 -> node        +- third byte:  cell 1 -> node
//!                                                          +- fourth byte: cells 64..128 = leaf (/26, next hop)
//! ```
//!
//! A lookup follows nodes until it meets a leaf; the leaf is the longest match, nothing is remembered on the way. A
//! prefix that ends inside a level fills all the cells of that level it covers, and the leaves of the nodes below
//! them, wherever no longer route has given the leaf. The default route is no such expansion but a cell of its own,
//! asked when the leaf is empty.
//!
//! Invariant: a node that refines a prefix of `d` bits exists exactly while some route longer than `d` bits lies within
//! that prefix. So memory depends on the routes alone, not on their history, and a removal never needs a new node.

use std::slice;
use std::sync::Arc;

use crate::NextHop;
use crate::cell::{Cell, Entry};
use crate::nodes::{Nodes, Pool};

/// What readers see of one family.
pub(crate) struct Trie<const N: usize> {
    default_route: Cell,
    root: Box<[Cell; ROOT]>,
    nodes: Nodes,
}

impl<const N: usize> Trie<N> {
    fn new(nodes_max: u32) -> Self {
        let root: Box<[Cell]> = (0..ROOT).map(|_| Cell::empty()).collect();
        let root = root.try_into().unwrap_or_else(|_| unreachable!("collected {ROOT} cells"));
        Trie { default_route: Cell::empty(), root, nodes: Nodes::new(nodes_max) }
    }

    /// The next hop of the longest prefix that holds `to`.
    #[inline]
    pub(crate) fn lookup(&self, to: [u8; N]) -> NextHop {
        let mut entry = self.root[root_index(&to)].load();
        for &byte in &to[ROOT_BYTES..] {
            let Some(node) = entry.as_node() else { break };
            entry = self.child(node, byte);
        }
        self.answer(entry)
    }

    #[inline]
    fn child(&self, node: u32, byte: u8) -> Entry {
        self.nodes.get(node).map_or(Entry::EMPTY, |cells| cells[usize::from(byte)].load())
    }

    #[inline]
    fn answer(&self, entry: Entry) -> NextHop {
        if entry == Entry::EMPTY { self.default_route.load().hop() } else { entry.hop() }
    }

    /// The cells that together cover exactly the prefix, in the level where it ends. Its path must exist.
    fn cells(&self, at: &[u8; N], length: u8) -> &[Cell] {
        if length == 0 {
            return slice::from_ref(&self.default_route);
        }
        let (mut level, mut first) = (&self.root[..], root_index(at));
        let path = path(at, length);
        for &byte in path {
            let node = level[first].load().as_node().expect("the path to a route exists while the route does");
            (level, first) = (&self.nodes.node(node)[..], usize::from(byte));
        }
        let depth = 8 * (ROOT_BYTES + path.len());
        &level[first..first + (1 << (depth - usize::from(length)))]
    }

    /// Gives every leaf in and below `cells` the new one, except those of routes longer than `length`.
    fn paint(&self, cells: &[Cell], length: u8, leaf: Entry) {
        for cell in cells {
            let entry = cell.load();
            if let Some(node) = entry.as_node() {
                self.paint(self.nodes.node(node), length, leaf);
            } else if entry.is_leaf_within(length) {
                cell.store(leaf);
            }
        }
    }

    /// Replaces by a leaf each node on `path`, from its far end back to `cell`, that refines nothing any more. `cell`
    /// stands for a prefix of `length` bits.
    fn prune(&self, cell: &Cell, length: u8, path: &[u8], pool: &mut Pool) {
        let Some((&byte, rest)) = path.split_first() else { return };
        let Some(node) = cell.load().as_node() else { return };
        let cells = self.nodes.node(node);
        self.prune(&cells[usize::from(byte)], length + 8, rest, pool);
        if cells.iter().all(|cell| cell.load().is_leaf_within(length)) {
            // All leaves no longer than the node's own prefix are one and the same.
            cell.store(cells[0].load());
            pool.retire(node);
        }
    }
}

/// The one who changes a [`Trie`].
pub(crate) struct Writer<const N: usize> {
    trie: Arc<Trie<N>>,
    pool: Pool,
}

impl<const N: usize> Writer<N> {
    pub(crate) fn new(nodes_max: u32) -> Self {
        Writer { trie: Arc::new(Trie::new(nodes_max)), pool: Pool::new(nodes_max) }
    }

    pub(crate) fn trie(&self) -> Arc<Trie<N>> {
        self.trie.clone()
    }

    /// Inserts or changes a route; false, and nothing is changed, when nodes run out.
    #[must_use]
    pub(crate) fn insert(&mut self, at: [u8; N], length: u8, hop: NextHop) -> bool {
        if self.grow(&at, length).is_none() {
            return false;
        }
        self.trie.paint(self.trie.cells(&at, length), length, Entry::leaf(length, hop));
        true
    }

    /// Removes a route that is there; `cover` is the leaf of the longest route around it, empty when that is the default.
    pub(crate) fn remove(&mut self, at: [u8; N], length: u8, cover: Entry) {
        let trie = &*self.trie;
        trie.paint(trie.cells(&at, length), length, cover);
        trie.prune(&trie.root[root_index(&at)], 8 * ROOT_BYTES as u8, path(&at, length), &mut self.pool);
    }

    /// Frees the nodes that removals have unlinked. No reader may still be in a lookup begun before the last removal.
    pub(crate) fn reclaim(&mut self) {
        self.pool.reclaim();
    }

    /// Nodes linked or awaiting [`Writer::reclaim`].
    pub(crate) fn nodes_used(&self) -> usize {
        self.pool.used()
    }

    /// Makes the nodes on the path of a prefix. Each new one gives, in all its cells, the answer of the leaf it replaces.
    fn grow(&mut self, at: &[u8; N], length: u8) -> Option<()> {
        let mut cell = &self.trie.root[root_index(at)];
        let path = path(at, length);
        for (level, &byte) in path.iter().enumerate() {
            let entry = cell.load();
            let node = match entry.as_node() {
                Some(node) => node,
                None => {
                    let node = self.pool.take(&self.trie.nodes, path.len() - level)?;
                    self.trie.nodes.node(node).iter().for_each(|cell| cell.store(entry));
                    cell.store(Entry::node(node));
                    node
                }
            };
            cell = &self.trie.nodes.node(node)[usize::from(byte)];
        }
        Some(())
    }
}

#[inline]
fn root_index<const N: usize>(address: &[u8; N]) -> usize {
    usize::from(u16::from_be_bytes([address[0], address[1]]))
}

/// The bytes by which a lookup goes from node to node until the level where a prefix of `length` bits ends.
fn path<const N: usize>(at: &[u8; N], length: u8) -> &[u8] {
    let end = usize::from(length).div_ceil(8).max(ROOT_BYTES);
    &at[ROOT_BYTES..end]
}

/// Bytes of the address the root resolves.
const ROOT_BYTES: usize = 2;
const ROOT: usize = 1 << (8 * ROOT_BYTES);

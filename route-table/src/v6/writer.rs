//! Changes of the IPv6 table.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{KEYS, Node, ROOT_BITS, Table, begin, word};
use crate::NextHop;
use crate::cell::{Cell, Entry};
use crate::pool::Pool;

/// The one who changes a [`Table`].
pub(crate) struct Writer {
    table: Arc<Table>,
    pool: Pool,
}

impl Writer {
    pub(crate) fn new(nodes_max: u32) -> Self {
        let mut pool = Pool::new(nodes_max);
        // Stands in for leaves where several lookups go on together.
        pool.take();
        Writer { table: Arc::new(Table::new(nodes_max)), pool }
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.clone()
    }

    /// Changes the next hop of a route that is there.
    pub(crate) fn change(&mut self, at: u128, length: u8, hop: NextHop) {
        self.paint(&Span::of(at, length), Entry::leaf(length, hop));
        self.table.changes.add();
    }

    /// Inserts a route that is not there; false, and no answer is changed, when nodes run short.
    #[must_use]
    pub(crate) fn insert(&mut self, at: u128, length: u8, hop: NextHop) -> bool {
        let prefix = Span::of(at, length);
        if !self.bound(&prefix) {
            self.tidy(&prefix);
            return false;
        }
        self.change(at, length, hop);
        true
    }

    /// Removes a route that is there; `around` is the route that takes over, `None` when that is the default.
    pub(crate) fn remove(&mut self, at: u128, length: u8, around: Option<(u8, NextHop)>) {
        let prefix = Span::of(at, length);
        self.paint(&prefix, around.map_or(Entry::EMPTY, |(length, hop)| Entry::leaf(length, hop)));
        self.tidy(&prefix);
        self.table.changes.add();
    }

    /// Frees the nodes that were unlinked. No reader may still be in a lookup begun before the last change.
    pub(crate) fn reclaim(&mut self) {
        self.pool.reclaim();
    }

    /// Nodes linked or awaiting [`Writer::reclaim`].
    pub(crate) fn nodes_used(&self) -> usize {
        self.pool.used() - 1
    }

    /// Makes the boundaries of a prefix, and on the way to it those of the one value in each layer above.
    fn bound(&mut self, prefix: &Span) -> bool {
        if prefix.length <= ROOT_BITS as u8 {
            return true;
        }
        for layer in 0..=prefix.layer {
            for key in prefix.keys(layer).into_iter().flatten() {
                if self.pool.left() < NODES_OF_A_BOUNDARY {
                    return false;
                }
                let boundary = Boundary { layer, key, address: prefix.first };
                let cell = &self.table.clone().root[root_index(prefix.first)];
                match self.divide(cell.load(), &boundary, None) {
                    Divided::Within => {}
                    Divided::As(entry) => cell.store(entry),
                    Divided::Split(left, key, right) => cell.store(self.link(0, &Content::pair(left, key, right))),
                }
            }
        }
        true
    }

    /// Makes a boundary in what `entry` stands for, which is a part of the node `around`'s layer.
    fn divide(&mut self, entry: Entry, boundary: &Boundary, around: Option<usize>) -> Divided {
        let Some((layer, index)) = entry.as_node() else {
            let pair = (entry, boundary.key, entry);
            return if around == Some(boundary.layer) {
                Divided::Split(pair.0, pair.1, pair.2)
            } else {
                Divided::As(self.link(boundary.layer, &Content::pair(pair.0, pair.1, pair.2)))
            };
        };
        let table = self.table.clone();
        let node = &table.nodes[index as usize];
        let rank = match layer == boundary.layer {
            true => node.rank(boundary.key),
            false => node.rank(word(boundary.address, layer)),
        };
        if layer == boundary.layer && node.keys[rank].load() == boundary.key {
            return Divided::Within;
        }
        let divided = match self.divide(node.cells[rank].load(), boundary, Some(layer)) {
            // A node of another layer has none beside it: its halves go below a new one.
            Divided::Split(left, key, right) if layer != boundary.layer => {
                Divided::As(self.link(boundary.layer, &Content::pair(left, key, right)))
            }
            divided => divided,
        };
        match divided {
            Divided::Within => Divided::Within,
            Divided::As(entry) => {
                node.cells[rank].store(entry);
                Divided::Within
            }
            Divided::Split(left, key, right) => {
                let mut content = Content::of(node);
                content.insert(rank, (left, key, right));
                self.pool.retire(index);
                self.link_or_split(layer, &content, rank)
            }
        }
    }

    /// A node of that content; two with the key between them if it is too much for one.
    fn link_or_split(&mut self, layer: usize, content: &Content, grown_at: usize) -> Divided {
        if content.used <= KEYS {
            return Divided::As(self.link(layer, content));
        }
        // Routes that come in order grow at the end, and should leave full nodes behind.
        let middle = if grown_at == KEYS { KEYS - 1 } else { KEYS / 2 };
        let [left, right] = content.split(middle);
        Divided::Split(self.link(layer, &left), content.keys[middle], self.link(layer, &right))
    }

    /// Fills a node that readers do not see yet.
    fn link(&mut self, layer: usize, content: &Content) -> Entry {
        let index = self.pool.take().expect("as many are left as a boundary may need");
        let node = &self.table.nodes[index as usize];
        for (to, &key) in node.keys.iter().zip(&content.keys) {
            to.store(key);
        }
        for (cell, &entry) in node.cells.iter().zip(&content.cells) {
            cell.store(entry);
        }
        Entry::node(layer, index)
    }

    /// Gives every leaf of the prefix the new one, except those of longer routes.
    fn paint(&self, prefix: &Span, leaf: Entry) {
        if prefix.length == 0 {
            self.table.default_route.store(leaf);
            return;
        }
        for cell in &self.table.root[root_index(prefix.first)..=root_index(prefix.last)] {
            self.paint_below(cell, prefix, leaf);
        }
    }

    fn paint_below(&self, cell: &Cell, prefix: &Span, leaf: Entry) {
        let entry = cell.load();
        let Some((layer, index)) = entry.as_node() else {
            if entry.is_leaf_within(prefix.length) {
                cell.store(leaf);
            }
            return;
        };
        let node = &self.table.nodes[index as usize];
        for cell in &node.cells[prefix.ranks(node, layer)] {
            self.paint_below(cell, prefix, leaf);
        }
    }

    /// Takes away the boundaries at both ends of a prefix that are none any more.
    fn tidy(&mut self, prefix: &Span) {
        if prefix.length <= ROOT_BITS as u8 {
            return;
        }
        let table = self.table.clone();
        let cell = &table.root[root_index(prefix.first)];
        for address in [prefix.first, prefix.last] {
            let (before, after) = (cell.load(), self.tidied(cell.load(), address));
            if after != before {
                cell.store(after);
            }
        }
    }

    /// What is to stand in the place of `entry`, after everything on the way to `address` has been tidied.
    fn tidied(&mut self, entry: Entry, address: u128) -> Entry {
        let Some((layer, index)) = entry.as_node() else { return entry };
        let table = self.table.clone();
        let node = &table.nodes[index as usize];
        let rank = node.rank(word(address, layer));
        let (before, after) = (node.cells[rank].load(), self.tidied(node.cells[rank].load(), address));
        let mut content = Content::of(node);
        content.cells[rank] = after;
        for at in [Some(rank), rank.checked_sub(1)].into_iter().flatten() {
            if at < content.used && content.is_idle(at, layer, address) {
                content.remove(at);
            }
        }
        if content.used == 0 {
            self.pool.retire(index);
            return content.cells[0];
        }
        if content.used == node.keys_used() || self.pool.left() == 0 {
            if after != before {
                node.cells[rank].store(after);
            }
            return entry;
        }
        self.pool.retire(index);
        self.link(layer, &content)
    }
}

impl Node {
    fn keys_used(&self) -> usize {
        self.keys.iter().take_while(|key| key.load() != Node::NO_KEY).count()
    }
}

/// A place in a layer where another longest route begins, after `key`, on the way to an address.
struct Boundary {
    layer: usize,
    key: u32,
    address: u128,
}

/// What came of making a boundary.
enum Divided {
    /// It was there, or a cell further down was changed.
    Within,
    /// This is to stand in the place of what was divided.
    As(Entry),
    /// This too, but it does not fit into one cell.
    Split(Entry, u32, Entry),
}

/// The addresses of a prefix.
struct Span {
    first: u128,
    last: u128,
    length: u8,
    /// The layer it ends in.
    layer: usize,
}

impl Span {
    fn of(first: u128, length: u8) -> Self {
        let last = first | u128::MAX.checked_shr(length.into()).unwrap_or(0);
        Span {
            first,
            last,
            length,
            layer: (0..).find(|&layer| usize::from(length) <= begin(layer) + 32).expect("the last layer ends at 128"),
        }
    }

    /// The keys before and at the end of the prefix, or of the one value on the way to it, in a layer; `None` where the tree of that
    /// layer begins or ends there by itself.
    fn keys(&self, layer: usize) -> [Option<u32>; 2] {
        let last = if layer == self.layer { self.last } else { self.first };
        let (first, last) = (word(self.first, layer), word(last, layer));
        let above = layer.checked_sub(1).map_or(ROOT_BITS, |above| begin(above) + 32);
        let within = u32::MAX >> (above - begin(layer));
        [(first & within != 0).then(|| first - 1), (last & within != within).then_some(last)]
    }

    /// The cells of a node that lie within.
    fn ranks(&self, node: &Node, layer: usize) -> RangeInclusive<usize> {
        if layer > self.layer || self.length <= ROOT_BITS as u8 {
            return 0..=node.keys_used();
        }
        node.rank(word(self.first, layer))..=node.rank(word(self.last, layer))
    }
}

/// A node on its way to become another, with room for one key too many.
#[derive(Clone, Copy)]
struct Content {
    /// How many keys there are; of cells one more.
    used: usize,
    keys: [u32; KEYS + 1],
    cells: [Entry; KEYS + 2],
}

impl Content {
    fn of(node: &Node) -> Self {
        let keys = std::array::from_fn(|at| node.keys[at].load());
        let cells = std::array::from_fn(|at| node.cells.get(at).map_or(Entry::EMPTY, Cell::load));
        Content { used: node.keys_used(), keys, cells }
    }

    fn pair(left: Entry, key: u32, right: Entry) -> Self {
        let mut content = Content { used: 0, keys: [Node::NO_KEY; KEYS + 1], cells: [Entry::EMPTY; KEYS + 2] };
        content.insert(0, (left, key, right));
        content
    }

    /// Divides the cell of that rank.
    fn insert(&mut self, rank: usize, (left, key, right): (Entry, u32, Entry)) {
        self.keys.copy_within(rank..self.used, rank + 1);
        self.cells.copy_within(rank..=self.used, rank + 1);
        self.used += 1;
        (self.keys[rank], self.cells[rank], self.cells[rank + 1]) = (key, left, right);
    }

    /// Joins the cells beside a key, which are alike.
    fn remove(&mut self, at: usize) {
        self.keys.copy_within(at + 1..self.used, at);
        self.cells.copy_within(at + 1..=self.used, at);
        self.used -= 1;
        self.keys[self.used] = Node::NO_KEY;
    }

    /// What lies before a key, and what after it.
    fn split(&self, middle: usize) -> [Self; 2] {
        let (mut left, mut right) = (*self, *self);
        left.used = middle;
        left.keys[middle..].fill(Node::NO_KEY);
        right.used = self.used - middle - 1;
        right.keys.copy_within(middle + 1.., 0);
        right.keys[right.used..].fill(Node::NO_KEY);
        right.cells.copy_within(middle + 1.., 0);
        [left, right]
    }

    /// True when the key divides nothing: on both sides is the same route, or none.
    fn is_idle(&self, at: usize, layer: usize, address: u128) -> bool {
        let (left, right) = (self.cells[at], self.cells[at + 1]);
        if left != right || left.as_node().is_some() {
            return false;
        }
        let above = address >> (128 - begin(layer));
        let boundary = ((above << 32) + u128::from(self.keys[at]) + 1) << (96 - begin(layer));
        // Two routes of one length and one next hop may lie side by side: a route has all its first bits in common.
        left == Entry::EMPTY || (boundary ^ (boundary - 1)) >> (128 - u32::from(left.length())) == 0
    }
}

fn root_index(address: u128) -> usize {
    (address >> (128 - ROOT_BITS)) as usize
}

/// What one boundary may need: two nodes where one is split, at each of the levels that a tree of 2^32 boundaries can have, and one
/// above them.
const NODES_OF_A_BOUNDARY: usize = 2 * 12 + 1;

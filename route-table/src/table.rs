//! The writer's table and the readers' handle.

use std::collections::BTreeMap;
use std::iter;
use std::net::IpAddr;
use std::sync::Arc;

use packet::Prefix;

use crate::cell::Entry;
use crate::trie::{Trie, Writer};
use crate::{Error, NextHop};

/// All routes of both families, owned by the one thread that changes them.
///
/// Beside the tries that lookups use it keeps the routes in order: to list them, and to find the route that takes over
/// when another is removed.
///
/// ```
/// use route_table::{NextHop, RouteTable};
///
/// let mut table = RouteTable::new();
/// table.insert("10.244.1.0/26".parse()?, NextHop(7))?;
/// let fib = table.reader();
/// assert_eq!(fib.lookup4(0x0af4_0105), NextHop(7));
/// assert_eq!(fib.lookup4(0x0af4_0145), NextHop::NONE);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RouteTable {
    routes: BTreeMap<Prefix, NextHop>,
    v4: Writer<4>,
    v6: Writer<16>,
    nodes_max: u32,
}

impl RouteTable {
    /// An empty table of up to 1 048 576 nodes (1 GiB when all are in use) per family, several times what the
    /// Internet's routes need.
    pub fn new() -> Self {
        Self::with_nodes_max(1 << 20)
    }

    /// An empty table of up to `nodes_max` nodes of 1 KiB per family. Panics at 2^31 and above.
    ///
    /// A route needs at most one node for each byte its length begins beyond 16 bits; neighbours share them.
    pub fn with_nodes_max(nodes_max: u32) -> Self {
        assert!(nodes_max < 1 << 31, "a node index has 31 bits");
        RouteTable { routes: BTreeMap::new(), v4: Writer::new(nodes_max), v6: Writer::new(nodes_max), nodes_max }
    }

    /// Inserts a route or changes its next hop; returns the previous one. After an error the table is as it was.
    pub fn insert(&mut self, prefix: Prefix, hop: NextHop) -> Result<Option<NextHop>, Error> {
        if hop == NextHop::NONE {
            return Err(Error::NoNextHop { prefix });
        }
        let inserted = match prefix.address() {
            IpAddr::V4(at) => self.v4.insert(at.octets(), prefix.length(), hop),
            IpAddr::V6(at) => self.v6.insert(at.octets(), prefix.length(), hop),
        };
        if inserted {
            Ok(self.routes.insert(prefix, hop))
        } else {
            Err(Error::Full { prefix, nodes_max: self.nodes_max })
        }
    }

    /// Removes a route and returns its next hop; `None` when there is no route of exactly this prefix.
    pub fn remove(&mut self, prefix: Prefix) -> Option<NextHop> {
        let hop = self.routes.remove(&prefix)?;
        let cover = self.cover(prefix);
        match prefix.address() {
            IpAddr::V4(at) => self.v4.remove(at.octets(), prefix.length(), cover),
            IpAddr::V6(at) => self.v6.remove(at.octets(), prefix.length(), cover),
        }
        Some(hop)
    }

    /// The next hop of the route of exactly this prefix.
    pub fn get(&self, prefix: Prefix) -> Option<NextHop> {
        self.routes.get(&prefix).copied()
    }

    /// All routes: IPv4 before IPv6, by address, the shorter prefix first.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix, NextHop)> {
        self.routes.iter().map(|(&prefix, &hop)| (prefix, hop))
    }

    /// Number of routes.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// True when there is no route.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// A handle for readers. It sees every later change, and may outlive the table.
    pub fn reader(&self) -> Fib {
        Fib { v4: self.v4.trie(), v6: self.v6.trie() }
    }

    /// Lets the memory of removed routes be used again.
    ///
    /// The caller promises that every reader has begun a new turn (finished the lookup it was in) since the last
    /// [`RouteTable::remove`]. Were it not so, such a lookup could give the answer of another address.
    pub fn reclaim(&mut self) {
        self.v4.reclaim();
        self.v6.reclaim();
    }

    /// Nodes of 1 KiB in use by both families, with those that await [`RouteTable::reclaim`].
    pub fn nodes_used(&self) -> usize {
        self.v4.nodes_used() + self.v6.nodes_used()
    }

    /// The leaf for what a removed route covered: of the longest route around it, empty when only the default is left.
    fn cover(&self, prefix: Prefix) -> Entry {
        iter::successors(prefix.net().supernet(), |net| net.supernet())
            .take_while(|net| net.prefix_len() > 0)
            .find_map(|net| {
                let hop = self.get(Prefix::try_from(net).ok()?)?;
                Some(Entry::leaf(net.prefix_len(), hop))
            })
            .unwrap_or(Entry::EMPTY)
    }
}

impl Default for RouteTable {
    fn default() -> Self {
        Self::new()
    }
}

/// The table as readers see it: lookups that take a bounded number of steps and wait for nobody.
///
/// Addresses are numbers in host order: `10.0.0.1` is `0x0a00_0001`. Cloning costs two reference counts.
#[derive(Clone)]
pub struct Fib {
    v4: Arc<Trie<4>>,
    v6: Arc<Trie<16>>,
}

impl Fib {
    /// The next hop of the longest IPv4 prefix that holds `to`.
    #[inline]
    pub fn lookup4(&self, to: u32) -> NextHop {
        self.v4.lookup(to.to_be_bytes())
    }

    /// The next hop of the longest IPv6 prefix that holds `to`.
    #[inline]
    pub fn lookup6(&self, to: u128) -> NextHop {
        self.v6.lookup(to.to_be_bytes())
    }

    /// [`Fib::lookup4`] for each of `to`, in order. Panics when `out` is not as long as `to`.
    #[inline]
    pub fn lookup4_burst(&self, to: &[u32], out: &mut [NextHop]) {
        burst(to, out, |to| self.lookup4(to));
    }

    /// [`Fib::lookup6`] for each of `to`, in order. Panics when `out` is not as long as `to`.
    #[inline]
    pub fn lookup6_burst(&self, to: &[u128], out: &mut [NextHop]) {
        burst(to, out, |to| self.lookup6(to));
    }
}

/// One after the other: lookups do not depend on each other, so the processor overlaps the loads of neighbours.
#[inline]
fn burst<A: Copy>(to: &[A], out: &mut [NextHop], lookup: impl Fn(A) -> NextHop) {
    assert_eq!(to.len(), out.len(), "as many answers as addresses");
    for (out, &to) in out.iter_mut().zip(to) {
        *out = lookup(to);
    }
}

#[cfg(test)]
mod tests;

//! The writer's table and the readers' handle.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use packet::Prefix;

use crate::routes::Routes;
use crate::{Error, NextHop, v4, v6};

/// All routes of both families, owned by the one thread that changes them.
///
/// Beside what lookups use it keeps the routes themselves: to list them, and to find the route that takes over when another is
/// removed.
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
    routes_v4: Routes<u32>,
    routes_v6: Routes<u128>,
    v4: v4::Writer,
    v6: v6::Writer,
}

impl RouteTable {
    /// An empty table of up to 2 097 152 nodes per family, several times what the Internet's routes need.
    pub fn new() -> Self {
        Self::with_nodes_max(1 << 21)
    }

    /// An empty table of up to `nodes_max` nodes per family: of 512 bytes for IPv4, but never more than 32 768, and of 128 for
    /// IPv6. Panics above 2^29.
    ///
    /// A /24 with longer routes in it takes a node; of IPv6 routes 7 to 15 share one where they lie close together. To insert an
    /// IPv6 route takes some for the time until [`RouteTable::reclaim`], and is refused when not two dozen are left; a new next hop
    /// takes none.
    pub fn with_nodes_max(nodes_max: u32) -> Self {
        assert!(nodes_max <= 1 << 29, "a node index has 29 bits");
        let (v4, v6) = (v4::Writer::new(nodes_max), v6::Writer::new(nodes_max));
        RouteTable { routes_v4: Routes::new(), routes_v6: Routes::new(), v4, v6 }
    }

    /// Inserts a route or changes its next hop; returns the previous one. After an error the table is as it was.
    pub fn insert(&mut self, prefix: Prefix, hop: NextHop) -> Result<Option<NextHop>, Error> {
        if hop == NextHop::NONE {
            return Err(Error::NoNextHop { prefix });
        }
        if hop > NextHop::MAX {
            return Err(Error::NextHopTooHigh { prefix, hop });
        }
        let length = prefix.length();
        match prefix.address() {
            IpAddr::V4(at) if self.v4.insert(at.to_bits(), length, hop) => {
                Ok(self.routes_v4.insert(at.to_bits(), length, hop))
            }
            IpAddr::V6(at) if self.routes_v6.get(at.to_bits(), length).is_some() => {
                self.v6.change(at.to_bits(), length, hop);
                Ok(self.routes_v6.insert(at.to_bits(), length, hop))
            }
            IpAddr::V6(at) if self.v6.insert(at.to_bits(), length, hop) => {
                Ok(self.routes_v6.insert(at.to_bits(), length, hop))
            }
            _ => Err(Error::Full { prefix }),
        }
    }

    /// Removes a route and returns its next hop; `None` when there is no route of exactly this prefix.
    pub fn remove(&mut self, prefix: Prefix) -> Option<NextHop> {
        let length = prefix.length();
        match prefix.address() {
            IpAddr::V4(at) => {
                let at = at.to_bits();
                let hop = self.routes_v4.remove(at, length)?;
                self.v4.remove(at, length, self.routes_v4.around(at, length));
                Some(hop)
            }
            IpAddr::V6(at) => {
                let at = at.to_bits();
                let hop = self.routes_v6.remove(at, length)?;
                self.v6.remove(at, length, self.routes_v6.around(at, length));
                Some(hop)
            }
        }
    }

    /// The next hop of the route of exactly this prefix.
    pub fn get(&self, prefix: Prefix) -> Option<NextHop> {
        match prefix.address() {
            IpAddr::V4(at) => self.routes_v4.get(at.to_bits(), prefix.length()),
            IpAddr::V6(at) => self.routes_v6.get(at.to_bits(), prefix.length()),
        }
    }

    /// All routes: IPv4 before IPv6, by address, the shorter prefix first. They are sorted for it.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix, NextHop)> {
        let v4 = self.routes_v4.sorted().into_iter().map(|(at, length, hop)| (Ipv4Addr::from(at).into(), length, hop));
        let v6 = self.routes_v6.sorted().into_iter().map(|(at, length, hop)| (Ipv6Addr::from(at).into(), length, hop));
        v4.chain(v6).map(|(at, length, hop)| (Prefix::new(at, length).expect("it was a prefix when it came"), hop))
    }

    /// Number of routes.
    pub fn len(&self) -> usize {
        self.routes_v4.len() + self.routes_v6.len()
    }

    /// True when there is no route.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A handle for readers. It sees every later change, and may outlive the table.
    pub fn reader(&self) -> Fib {
        Fib { v4: self.v4.table(), v6: self.v6.table() }
    }

    /// Lets the memory of removed routes be used again.
    ///
    /// The caller promises that every reader has begun a new turn (finished the lookup it was in) since the last
    /// [`RouteTable::remove`]. Were it not so, such a lookup could give the answer of another address.
    pub fn reclaim(&mut self) {
        self.v4.reclaim();
        self.v6.reclaim();
    }

    /// Nodes in use by both families, with those that await [`RouteTable::reclaim`].
    pub fn nodes_used(&self) -> usize {
        self.v4.groups_used() + self.v6.nodes_used()
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
    v4: Arc<v4::Table>,
    pub(crate) v6: Arc<v6::Table>,
}

impl Fib {
    /// The next hop of the longest IPv4 prefix that holds `to`.
    #[inline]
    pub fn lookup4(&self, to: u32) -> NextHop {
        self.v4.lookup(to)
    }

    /// The next hop of the longest IPv6 prefix that holds `to`.
    #[inline]
    pub fn lookup6(&self, to: u128) -> NextHop {
        self.v6.lookup(to)
    }

    /// [`Fib::lookup4`] for each of `to`, in order. Panics when `out` is not as long as `to`.
    #[inline]
    pub fn lookup4_burst(&self, to: &[u32], out: &mut [NextHop]) {
        assert_eq!(to.len(), out.len(), "as many answers as addresses");
        self.v4.lookup_burst(to, out);
    }

    /// [`Fib::lookup6`] for each of `to`, in order. Panics when `out` is not as long as `to`.
    #[inline]
    pub fn lookup6_burst(&self, to: &[u128], out: &mut [NextHop]) {
        assert_eq!(to.len(), out.len(), "as many answers as addresses");
        self.v6.lookup_burst(to, out);
    }
}

#[cfg(test)]
mod tests;

//! Our table and those of crates, in one shape: bursts of addresses in, next hops out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ip_network_table::IpNetworkTable;
use packet::Prefix;
use poptrie::Poptrie;
use prefix_trie::PrefixMap;
use route_table::{Fib, NextHop, RouteTable};

/// What answers for a burst of addresses. A table of another family than theirs is not asked.
pub(crate) trait Lookup {
    fn v4(&self, to: &[u32], hops: &mut [NextHop]);
    fn v6(&self, to: &[u128], hops: &mut [NextHop]);
}

/// Our table of these routes.
pub(crate) fn ours(routes: &[(Prefix, u16)]) -> RouteTable {
    let mut table = RouteTable::new();
    for &(prefix, hop) in routes {
        table.insert(prefix, NextHop(hop)).expect("the tables measured fit");
    }
    table
}

/// Ours with its writer, whose memory counts too.
pub(crate) struct Ours {
    _table: RouteTable,
    fib: Fib,
}

impl Ours {
    pub(crate) fn load(routes: &[(Prefix, u16)]) -> Self {
        let table = ours(routes);
        let fib = table.reader();
        Self { _table: table, fib }
    }
}

impl Lookup for Ours {
    fn v4(&self, to: &[u32], hops: &mut [NextHop]) {
        self.fib.v4(to, hops);
    }

    fn v6(&self, to: &[u128], hops: &mut [NextHop]) {
        self.fib.v6(to, hops);
    }
}

impl Lookup for Fib {
    fn v4(&self, to: &[u32], hops: &mut [NextHop]) {
        self.lookup4_burst(to, hops);
    }

    fn v6(&self, to: &[u128], hops: &mut [NextHop]) {
        self.lookup6_burst(to, hops);
    }
}

/// The crate `prefix-trie`; being independent, it also says which answers are right.
#[derive(Default)]
pub(crate) struct PrefixTrie {
    v4: PrefixMap<(u32, u8), u16>,
    v6: PrefixMap<(u128, u8), u16>,
}

impl PrefixTrie {
    pub(crate) fn load(routes: &[(Prefix, u16)]) -> Self {
        let mut tries = Self::default();
        for &(prefix, hop) in routes {
            match prefix.address() {
                IpAddr::V4(at) => tries.v4.insert((at.to_bits(), prefix.length()), hop),
                IpAddr::V6(at) => tries.v6.insert((at.to_bits(), prefix.length()), hop),
            };
        }
        tries
    }
}

impl Lookup for PrefixTrie {
    fn v4(&self, to: &[u32], hops: &mut [NextHop]) {
        each(to, hops, |to| self.v4.get_lpm(&(to, 32)).map(|(_, &hop)| hop));
    }

    fn v6(&self, to: &[u128], hops: &mut [NextHop]) {
        each(to, hops, |to| self.v6.get_lpm(&(to, 128)).map(|(_, &hop)| hop));
    }
}

/// The crate `poptrie`.
pub(crate) struct PoptrieCrate {
    v4: Poptrie<(u32, u8), u16>,
    v6: Poptrie<(u128, u8), u16>,
}

impl PoptrieCrate {
    pub(crate) fn load(routes: &[(Prefix, u16)]) -> Self {
        let mut tries = Self { v4: Poptrie::new(), v6: Poptrie::new() };
        for &(prefix, hop) in routes {
            match prefix.address() {
                IpAddr::V4(at) => tries.v4.insert((at.to_bits(), prefix.length()), hop),
                IpAddr::V6(at) => tries.v6.insert((at.to_bits(), prefix.length()), hop),
            };
        }
        tries
    }
}

impl Lookup for PoptrieCrate {
    fn v4(&self, to: &[u32], hops: &mut [NextHop]) {
        each(to, hops, |to| self.v4.lookup(to).copied());
    }

    fn v6(&self, to: &[u128], hops: &mut [NextHop]) {
        each(to, hops, |to| self.v6.lookup(to).copied());
    }
}

/// The crate `ip_network_table`, which is `treebitmap` within.
pub(crate) struct TreeBitmap(IpNetworkTable<u16>);

impl TreeBitmap {
    pub(crate) fn load(routes: &[(Prefix, u16)]) -> Self {
        let mut table = IpNetworkTable::new();
        for &(prefix, hop) in routes {
            let network = ip_network::IpNetwork::new(prefix.address(), prefix.length());
            table.insert(network.expect("a prefix has no host bits"), hop);
        }
        Self(table)
    }
}

impl Lookup for TreeBitmap {
    fn v4(&self, to: &[u32], hops: &mut [NextHop]) {
        each(to, hops, |to| self.0.longest_match_ipv4(Ipv4Addr::from_bits(to)).map(|(_, &hop)| hop));
    }

    fn v6(&self, to: &[u128], hops: &mut [NextHop]) {
        each(to, hops, |to| self.0.longest_match_ipv6(Ipv6Addr::from_bits(to)).map(|(_, &hop)| hop));
    }
}

#[inline(always)]
fn each<A: Copy>(to: &[A], hops: &mut [NextHop], lookup: impl Fn(A) -> Option<u16>) {
    for (hop, &to) in hops.iter_mut().zip(to) {
        *hop = lookup(to).map_or(NextHop::NONE, NextHop);
    }
}

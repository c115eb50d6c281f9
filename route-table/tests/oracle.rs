//! The table against two oracles over random histories: a list that is scanned, and the `prefix-trie` crate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use packet::Prefix;
use prefix_trie::joint::JointPrefixMap;
use proptest::collection::vec;
use proptest::prelude::*;
use route_table::{Fib, NextHop, RouteTable};

#[derive(Debug, Clone)]
enum Change {
    Insert(Prefix, NextHop),
    Remove(Prefix),
    Reclaim,
}

/// The definition itself: of the prefixes that contain an address, the longest.
#[derive(Default)]
struct Scan(Vec<(Prefix, NextHop)>);

impl Scan {
    fn insert(&mut self, prefix: Prefix, hop: NextHop) -> Option<NextHop> {
        let previous = self.remove(prefix);
        self.0.push((prefix, hop));
        previous
    }

    fn remove(&mut self, prefix: Prefix) -> Option<NextHop> {
        let at = self.0.iter().position(|&(other, _)| other == prefix)?;
        Some(self.0.swap_remove(at).1)
    }

    fn lookup(&self, to: IpAddr) -> NextHop {
        let matches = self.0.iter().filter(|(prefix, _)| prefix.contains(to));
        matches.max_by_key(|(prefix, _)| prefix.length()).map_or(NextHop::NONE, |&(_, hop)| hop)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_gives_the_answers_of_both_oracles(history in vec(change(), 1..60), strangers in vec(address(), 40)) {
        let (mut table, mut scan, mut tree) = (RouteTable::new(), Scan::default(), JointPrefixMap::<IpNet, NextHop>::new());
        let fib = table.reader();
        let mut asked = strangers;
        for change in history {
            match change {
                Change::Insert(prefix, hop) => {
                    let previous = table.insert(prefix, hop).unwrap();
                    prop_assert_eq!(previous, scan.insert(prefix, hop));
                    prop_assert_eq!(previous, tree.insert(prefix.net(), hop));
                    asked.extend(edges(prefix));
                }
                Change::Remove(prefix) => {
                    let removed = table.remove(prefix);
                    prop_assert_eq!(removed, scan.remove(prefix));
                    prop_assert_eq!(removed, tree.remove(&prefix.net()));
                }
                Change::Reclaim => table.reclaim(),
            }
            for &to in &asked {
                let answer = lookup(&fib, to);
                prop_assert_eq!(answer, scan.lookup(to), "{}", to);
                prop_assert_eq!(answer, tree.get_lpm(&IpNet::from(to)).map_or(NextHop::NONE, |(_, &hop)| hop), "{}", to);
            }
            prop_assert_eq!(table.len(), scan.0.len());
        }
        scan.0.sort();
        prop_assert!(table.iter().eq(scan.0.iter().copied()));
    }

    #[test]
    fn a_burst_answers_as_its_addresses_one_by_one(
        routes in vec((prefix(), hop()), 0..40),
        addresses in vec(address(), 0..100),
    ) {
        let mut table = RouteTable::new();
        for (prefix, hop) in routes {
            table.insert(prefix, hop).unwrap();
        }
        let fib = table.reader();
        let (v4, v6) = by_family(&addresses);
        let mut hops = vec![NextHop(u16::MAX); v4.len()];
        fib.lookup4_burst(&v4, &mut hops);
        prop_assert_eq!(hops, v4.iter().map(|&to| fib.lookup4(to)).collect::<Vec<_>>());
        let mut hops = vec![NextHop(u16::MAX); v6.len()];
        fib.lookup6_burst(&v6, &mut hops);
        prop_assert_eq!(hops, v6.iter().map(|&to| fib.lookup6(to)).collect::<Vec<_>>());
    }

    #[test]
    fn memory_returns_when_all_routes_are_gone(history in vec(change(), 1..80)) {
        let mut table = RouteTable::new();
        for change in history {
            match change {
                Change::Insert(prefix, hop) => {
                    table.insert(prefix, hop).unwrap();
                }
                Change::Remove(prefix) => {
                    table.remove(prefix);
                }
                Change::Reclaim => table.reclaim(),
            }
        }
        table.reclaim();
        let routes: Vec<(Prefix, NextHop)> = table.iter().collect();
        for (prefix, hop) in routes {
            prop_assert_eq!(table.remove(prefix), Some(hop));
        }
        table.reclaim();
        prop_assert_eq!(table.nodes_used(), 0);
    }
}

fn lookup(fib: &Fib, to: IpAddr) -> NextHop {
    match to {
        IpAddr::V4(to) => fib.lookup4(to.into()),
        IpAddr::V6(to) => fib.lookup6(to.into()),
    }
}

fn by_family(addresses: &[IpAddr]) -> (Vec<u32>, Vec<u128>) {
    let v4 = addresses.iter().filter_map(|to| if let IpAddr::V4(to) = to { Some(u32::from(*to)) } else { None });
    let v6 = addresses.iter().filter_map(|to| if let IpAddr::V6(to) = to { Some(u128::from(*to)) } else { None });
    (v4.collect(), v6.collect())
}

/// The first and last address of a prefix and their neighbours outside.
fn edges(prefix: Prefix) -> [IpAddr; 4] {
    match (prefix.address(), prefix.net().broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (first, last) = (u32::from(first), u32::from(last));
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|to| Ipv4Addr::from(to).into())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let (first, last) = (u128::from(first), u128::from(last));
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|to| Ipv6Addr::from(to).into())
        }
        _ => unreachable!("a prefix has one family"),
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (prefix(), hop()).prop_map(|(prefix, hop)| Change::Insert(prefix, hop)),
        3 => prefix().prop_map(Change::Remove),
        1 => Just(Change::Reclaim),
    ]
}

/// Few different ones, so that neighbours often share theirs.
fn hop() -> impl Strategy<Value = NextHop> {
    prop_oneof![3 => 1u16..4, 1 => 1..=NextHop::MAX.0].prop_map(NextHop)
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), 0u8..=128, any::<bool>()).prop_map(|(address, length, boundary)| {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = if boundary { (length / 8 * 8).min(bits) } else { length % (bits + 1) };
        let net = IpNet::new(address, length).expect("a length of the family");
        Prefix::try_from(net.trunc()).expect("host bits were cut")
    })
}

/// Addresses whose every byte is one of few: prefixes of them nest, touch and repeat.
fn address() -> impl Strategy<Value = IpAddr> {
    let byte = || prop_oneof![4 => Just(0u8), 2 => Just(0x80), 1 => Just(0xff), 1 => 0u8..4, 1 => any::<u8>()];
    prop_oneof![
        proptest::array::uniform4(byte()).prop_map(IpAddr::from),
        proptest::array::uniform16(byte()).prop_map(IpAddr::from),
    ]
}

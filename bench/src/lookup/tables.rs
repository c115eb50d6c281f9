//! The tables that lookups are measured on and the addresses that are looked up, the same in every run.
//!
//! | table | routes |
//! |---|---|
//! | `v4_pod`, `v6_pod` | a large cluster: 5 000 blocks of /26 (/122) side by side, 250 single pods in them, a default |
//! | `v4_full` | a million IPv4 prefixes, lengths as the Internet's table has them (six of ten a /24), anywhere in unicast space |
//! | `v6_full` | 200 000 IPv6 prefixes: allocations of /20 to /32 within the registries' blocks, and most routes inside of few of them |
//!
//! | draw | addresses |
//! |---|---|
//! | `uniform` | a route drawn from the table, then an address within it |
//! | `weighted` | routes drawn by how many addresses they have, which finds the short ones |
//! | `repeated` | of 4 096 uniform addresses, one drawn again and again |
//!
//! Lengths are those of public tables in shape, not a copy of one (CIDR report, 2024).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use packet::Prefix;

/// A table by its name in reports, with what is asked of it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) is_v6: bool,
    /// Shorter ones first, in order of addresses; no two are for the same prefix.
    pub(crate) routes: Vec<(Prefix, u16)>,
    /// How many keys a measurement goes through: of a big table more than caches hold.
    pub(crate) keys: usize,
}

/// How destinations are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Draw {
    Uniform,
    Weighted,
    Repeated,
}

impl Draw {
    pub(crate) const ALL: [Draw; 3] = [Draw::Uniform, Draw::Weighted, Draw::Repeated];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Draw::Uniform => "uniform",
            Draw::Weighted => "weighted",
            Draw::Repeated => "repeated",
        }
    }
}

impl Table {
    pub(crate) fn v4_pod() -> Self {
        let block = |at: u32| Ipv4Addr::from(PODS_V4 | at << 6);
        let pod = |at: u32| Ipv4Addr::from(PODS_V4 | (at * 20) << 6 | 5);
        Self::pods("v4_pod", (26, &|at| block(at).into()), &|at| pod(at).into())
    }

    pub(crate) fn v6_pod() -> Self {
        let block = |at: u32| Ipv6Addr::from(PODS_V6 | u128::from(at) << 6);
        let pod = |at: u32| Ipv6Addr::from(PODS_V6 | u128::from(at * 20) << 6 | 5);
        Self::pods("v6_pod", (122, &|at| block(at).into()), &|at| pod(at).into())
    }

    fn pods(name: &'static str, (length, block): (u8, &Address<'_>), pod: &Address<'_>) -> Self {
        let is_v6 = block(0).is_ipv6();
        let blocks = (0..BLOCKS).map(|at| prefix(block(at), length));
        let pods = (0..PODS).map(|at| Prefix::host(pod(at)));
        let routes = blocks.chain(pods).chain([prefix(unspecified(is_v6), 0)]);
        let routes = routes.zip(1..).collect();
        Self::new(name, routes, KEYS_OF_A_CLUSTER)
    }

    pub(crate) fn v4_full(prefixes: usize) -> Self {
        let mut random = Random(0x04);
        let mut routes = BTreeMap::from([(prefix(unspecified(false), 0), 1)]);
        while routes.len() < prefixes {
            let length = random.of(&LENGTHS_V4);
            let address = Ipv4Addr::from((random.next() as u32) >> (32 - length) << (32 - length));
            if (1..224).contains(&address.octets()[0]) && ![10, 127].contains(&address.octets()[0]) {
                routes.insert(prefix(address.into(), length), 1 + random.below(HOPS) as u16);
            }
        }
        Self::new("v4_full", routes, KEYS_OF_THE_INTERNET)
    }

    pub(crate) fn v6_full(prefixes: usize) -> Self {
        let mut random = Random(0x06);
        let mut routes = BTreeMap::from([(prefix(unspecified(true), 0), 1)]);
        let allocations: Vec<(u128, u8)> = (0..prefixes / 4).map(|_| random.allocation()).collect();
        for &(address, length) in &allocations {
            routes.insert(prefix(Ipv6Addr::from(address).into(), length), 1 + random.below(HOPS) as u16);
        }
        while routes.len() < prefixes {
            // Squaring twice makes few of them have most of what is announced inside.
            let share = (random.below(1 << 16) as f64 / 65_536.0).powi(4);
            let (inside, least) = allocations[(share * allocations.len() as f64) as usize];
            let length = random.of(&LENGTHS_V6).max(least + 1);
            let address = (inside | u128::from(random.next()) << 64 >> least) >> (128 - length) << (128 - length);
            routes.insert(prefix(Ipv6Addr::from(address).into(), length), 1 + random.below(HOPS) as u16);
        }
        Self::new("v6_full", routes, KEYS_OF_THE_INTERNET)
    }

    fn new(name: &'static str, routes: BTreeMap<Prefix, u16>, keys: usize) -> Self {
        let is_v6 = routes.keys().any(|prefix| prefix.address().is_ipv6());
        let mut routes: Vec<(Prefix, u16)> = routes.into_iter().collect();
        routes.sort_by_key(|(prefix, _)| prefix.length());
        Table { name, is_v6, routes, keys }
    }

    /// Destinations, as many as [`Table::keys`]; an IPv4 address stands in the low bits.
    pub(crate) fn destinations(&self, draw: Draw) -> Vec<u128> {
        let mut random = Random(0x5eed);
        let specific: Vec<Prefix> = self.routes.iter().map(|route| route.0).filter(|to| to.length() > 0).collect();
        let uniform = |random: &mut Random| {
            let route = random.below(specific.len() as u64) as usize;
            random.within(specific[route])
        };
        match draw {
            Draw::Uniform => (0..self.keys).map(|_| uniform(&mut random)).collect(),
            Draw::Weighted => {
                let bits = if self.is_v6 { 128 } else { 32 };
                let sizes = specific.iter().scan(0.0, |sum, to| {
                    *sum += f64::exp2(f64::from(bits - to.length()));
                    Some(*sum)
                });
                let sizes: Vec<f64> = sizes.collect();
                let all = sizes.last().copied().unwrap_or(0.0);
                let mut draw = || {
                    let at = random.next() as f64 / u64::MAX as f64 * all;
                    let at = sizes.partition_point(|&sum| sum < at).min(specific.len() - 1);
                    random.within(specific[at])
                };
                (0..self.keys).map(|_| draw()).collect()
            }
            Draw::Repeated => {
                let few: Vec<u128> = (0..FEW).map(|_| uniform(&mut random)).collect();
                (0..self.keys).map(|_| few[random.below(FEW) as usize]).collect()
            }
        }
    }
}

type Address<'a> = dyn Fn(u32) -> IpAddr + 'a;

/// The address as DPDK's program and our lookups want it.
pub(crate) fn address(key: u128, is_v6: bool) -> IpAddr {
    if is_v6 { Ipv6Addr::from(key).into() } else { Ipv4Addr::from(key as u32).into() }
}

fn prefix(address: IpAddr, length: u8) -> Prefix {
    Prefix::new(address, length).expect("no host bits")
}

fn unspecified(is_v6: bool) -> IpAddr {
    address(0, is_v6)
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of these, by their weights of a thousand.
    fn of(&mut self, weights: &[(u8, u64)]) -> u8 {
        let mut at = self.below(1000);
        for &(value, weight) in weights {
            if at < weight {
                return value;
            }
            at -= weight;
        }
        weights[0].0
    }

    fn within(&mut self, prefix: Prefix) -> u128 {
        let host = u128::from(self.next()) << 64 | u128::from(self.next());
        let length = u32::from(prefix.length());
        match prefix.address() {
            IpAddr::V4(first) => u128::from(u32::from(first) | (host as u32).checked_shr(length).unwrap_or(0)),
            IpAddr::V6(first) => u128::from(first) | host.checked_shr(length).unwrap_or(0),
        }
    }

    /// What a registry gives to one network, within one of the blocks given to registries (IANA, 2024).
    fn allocation(&mut self) -> (u128, u8) {
        let (block, bits) = BLOCKS_OF_REGISTRIES[self.below(BLOCKS_OF_REGISTRIES.len() as u64) as usize];
        let length = self.of(&LENGTHS_OF_ALLOCATIONS).max(bits + 4);
        let address = u128::from(block) << 112 | u128::from(self.next()) << 64 >> bits;
        (address >> (128 - length) << (128 - length), length)
    }
}

const BLOCKS: u32 = 5_000;
const PODS: u32 = 250;
/// 10.128.0.0 and fd00:10:244::, where the blocks lie side by side.
const PODS_V4: u32 = 0x0a80_0000;
const PODS_V6: u128 = 0xfd00_0010_0244 << 80;
const HOPS: u64 = 1_000;
const KEYS_OF_A_CLUSTER: usize = 1 << 16;
const KEYS_OF_THE_INTERNET: usize = 1 << 20;
const FEW: u64 = 4_096;

/// Lengths and how many of a thousand have them.
const LENGTHS_V4: [(u8, u64); 13] = [
    (24, 600),
    (23, 103),
    (22, 116),
    (21, 53),
    (20, 45),
    (19, 26),
    (18, 14),
    (17, 9),
    (16, 14),
    (15, 3),
    (14, 2),
    (13, 1),
    (12, 1),
];
const LENGTHS_V6: [(u8, u64); 12] = [
    (48, 600),
    (44, 95),
    (40, 105),
    (46, 40),
    (47, 35),
    (36, 45),
    (42, 20),
    (45, 15),
    (38, 10),
    (34, 10),
    (33, 15),
    (56, 10),
];
const LENGTHS_OF_ALLOCATIONS: [(u8, u64); 6] = [(32, 760), (29, 170), (28, 30), (30, 20), (24, 10), (20, 10)];
/// The first 16 bits of a block, and how many of them are the block's.
const BLOCKS_OF_REGISTRIES: [(u16, u8); 7] =
    [(0x2001, 16), (0x2400, 12), (0x2600, 12), (0x2800, 12), (0x2a00, 12), (0x2a00, 12), (0x2c00, 14)];

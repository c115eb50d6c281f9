//! Hours of a hostile neighbour in seconds: random routes of both families come and go, and what they took comes back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use packet::Prefix;
use route_table::{NextHop, RouteTable};

const CHANGES: usize = 200_000;
const ROUTES_MAX: usize = 5_000;

#[test]
fn churn_leaves_nothing_behind_and_never_runs_short() {
    let mut table = RouteTable::with_nodes_max(40_000);
    let mut random = Random(1);
    let mut there: Vec<Prefix> = Vec::new();
    let mut peaks = [0; 4];
    for change in 0..CHANGES {
        if there.len() == ROUTES_MAX || (!there.is_empty() && random.below(2) == 0) {
            let gone = there.swap_remove(random.below(there.len() as u64) as usize);
            table.remove(gone).expect("it is there");
        } else {
            let prefix = random.prefix();
            let before = table.insert(prefix, NextHop(1 + random.below(9) as u16)).expect("room");
            if before.is_none() {
                there.push(prefix);
            }
        }
        if change % 64 == 0 {
            table.reclaim();
        }
        let peak = &mut peaks[change * 4 / CHANGES];
        *peak = table.nodes_used().max(*peak);
    }
    assert_eq!(table.len(), there.len());
    assert!(peaks[3] < 2 * peaks[0].max(peaks[1]), "it grows: {peaks:?}");
    for prefix in there {
        table.remove(prefix).expect("it is there");
    }
    table.reclaim();
    assert_eq!((table.len(), table.nodes_used()), (0, 0));
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }

    fn prefix(&mut self) -> Prefix {
        // Close together, so that nodes and groups are shared, split and joined.
        let far = u128::from(self.below(1 << 20)) << 100 | u128::from(self.below(1 << 12)) << self.below(80);
        let (address, length) = match self.below(2) {
            0 => (IpAddr::from(Ipv4Addr::from(0x0a00_0000 | self.below(1 << 20) as u32)), 12 + self.below(21) as u8),
            _ => (Ipv6Addr::from(0xfd_u128 << 120 | far >> 8).into(), 9 + self.below(120) as u8),
        };
        let net = ipnet::IpNet::new(address, length).expect("a length of the family").trunc();
        Prefix::try_from(net).expect("host bits were cut")
    }
}

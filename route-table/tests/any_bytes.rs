//! Any bytes at all, read as updates: the table answers as a list that is scanned does, and comes empty again.
//!
//! A record is a byte that says what to do (0 to 2 of 4 insert, 3 removes; bit 7 for IPv6), one of length, one of next hop, and 4 or
//! 16 of address, whose host bits are cut.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use packet::Prefix;
use route_table::{Fib, NextHop, RouteTable};

#[derive(Default)]
struct Scan(Vec<(Prefix, NextHop)>);

impl Scan {
    fn set(&mut self, prefix: Prefix, hop: Option<NextHop>) -> Option<NextHop> {
        let at = self.0.iter().position(|&(other, _)| other == prefix);
        let previous = at.map(|at| self.0.swap_remove(at).1);
        self.0.extend(hop.map(|hop| (prefix, hop)));
        previous
    }

    fn lookup(&self, to: IpAddr) -> NextHop {
        let around = self.0.iter().filter(|(prefix, _)| prefix.contains(to));
        around.max_by_key(|(prefix, _)| prefix.length()).map_or(NextHop::NONE, |&(_, hop)| hop)
    }
}

/// Updates a table and a list alike, and compares them at both ends of every prefix that was named.
fn drive(bytes: &[u8]) {
    let (mut table, mut scan, mut named) = (RouteTable::new(), Scan::default(), Vec::new());
    let fib = table.reader();
    let mut rest = bytes;
    while let Some((&[what, length, hop], after)) = rest.split_first_chunk::<3>() {
        let (address, after) = match what & 0x80 {
            0 => match after.split_first_chunk::<4>() {
                Some((at, after)) => (IpAddr::from(*at), after),
                None => break,
            },
            _ => match after.split_first_chunk::<16>() {
                Some((at, after)) => (IpAddr::from(*at), after),
                None => break,
            },
        };
        rest = after;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let net = IpNet::new(address, length % (bits + 1)).expect("a length of the family").trunc();
        let prefix = Prefix::try_from(net).expect("host bits were cut");
        let hop = (what & 3 < 3).then(|| NextHop(1 + u16::from(hop) % 4));
        let previous = match hop {
            Some(hop) => table.insert(prefix, hop).expect("room"),
            None => table.remove(prefix),
        };
        assert_eq!(previous, scan.set(prefix, hop), "{prefix}");
        named.push(prefix);
    }
    let ends = named.iter().flat_map(|prefix| [prefix.address(), prefix.net().broadcast()]);
    for to in ends.flat_map(|to| [to, next(to)]) {
        assert_eq!(lookup(&fib, to), scan.lookup(to), "{to}");
    }
    assert_eq!(table.len(), scan.0.len());
    for (prefix, hop) in scan.0 {
        assert_eq!(table.remove(prefix), Some(hop));
    }
    table.reclaim();
    assert_eq!(table.nodes_used(), 0);
}

fn lookup(fib: &Fib, to: IpAddr) -> NextHop {
    match to {
        IpAddr::V4(to) => fib.lookup4(to.to_bits()),
        IpAddr::V6(to) => fib.lookup6(to.to_bits()),
    }
}

fn next(to: IpAddr) -> IpAddr {
    match to {
        IpAddr::V4(to) => IpAddr::V4(to.to_bits().wrapping_add(1).into()),
        IpAddr::V6(to) => IpAddr::V6(to.to_bits().wrapping_add(1).into()),
    }
}

#[test]
fn any_updates_leave_the_answers_of_a_list() {
    let (mut state, began) = (0x5eed_u64, Instant::now());
    let mut rounds = 0;
    while rounds < ROUNDS_MIN || began.elapsed() < LASTS {
        let mut random = || {
            // Xorshift64* (Vigna 2014). Few values, so that prefixes nest, touch and repeat.
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let drawn = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes();
            if drawn[0] < 0xd0 { [0, 0x80, 0xff, 1][usize::from(drawn[1] % 4)] } else { drawn[2] }
        };
        let bytes: Vec<u8> = (0..2000).map(|_| random()).collect();
        drive(&bytes);
        rounds += 1;
    }
}

#[test]
fn what_once_was_found_stays_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions/route_table");
    let files: Vec<_> = fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path()).collect();
    assert!(!files.is_empty());
    for file in files {
        drive(&fs::read(file).expect("a file"));
    }
}

const ROUNDS_MIN: u32 = 20;
const LASTS: Duration = Duration::from_secs(2);

//! Readers look up while the writer changes routes: every answer is the one before or the one after a change.
//!
//! The bytes of the probed addresses are high because a node is filled upwards: a node published too early shows there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use packet::Prefix;
use route_table::{Fib, NextHop, RouteTable};

const READERS: usize = 2;
const ROUNDS: usize = 40;
const CHANGES: usize = 200;
/// Of each reader per turn, between two yields.
const LOOKUPS: usize = 20;
/// The answers of the probed addresses before and after a change.
const BEFORE: NextHop = NextHop(1);
const AFTER: NextHop = NextHop(2);

#[test]
fn a_route_whose_next_hop_flips_is_never_missed() {
    let mut table = RouteTable::new();
    let wide = prefix("10.0.0.0/8");
    table.insert(prefix("0.0.0.0/0"), NextHop(9)).unwrap();
    table.insert(prefix("10.1.1.1/32"), NextHop(8)).unwrap();
    table.insert(wide, BEFORE).unwrap();
    let set = |table: &mut RouteTable, hop| {
        table.insert(wide, hop).unwrap();
    };
    let to: Vec<u32> = (0..64).map(|host| 0x0a01_0100 | host << 1).collect();
    while_changing(
        &mut table,
        |table| set(table, AFTER),
        |table| set(table, BEFORE),
        |fib| {
            let mut hops = vec![NextHop::NONE; to.len()];
            fib.lookup4_burst(&to, &mut hops);
            hops.push(fib.lookup4(0x0aff_ffff));
            hops
        },
    );
}

#[test]
fn longer_ipv4_routes_come_and_go_and_uncover_only_the_route_around_them() {
    let mut table = RouteTable::new();
    table.insert(prefix("10.0.0.0/8"), BEFORE).unwrap();
    let longer = ["10.244.250.253/32", "10.244.250.252/30", "10.244.128.0/17", "10.244.250.0/24"].map(prefix);
    while_changing(
        &mut table,
        |table| insert(table, &longer),
        |table| remove(table, &longer),
        |fib| vec![fib.lookup4(0x0af4_fafd), fib.lookup4(0x0af4_fafc), fib.lookup4(0x0af4_faf1)],
    );
}

#[test]
fn longer_ipv6_routes_come_and_go_and_uncover_only_the_route_around_them() {
    let mut table = RouteTable::new();
    table.insert(prefix("fc00::/7"), BEFORE).unwrap();
    let longer = ["fd00:fa:fb:fc:fd:fe:fe:fe/128", "fd00:fa:fb:fc::/64", "fd00:fa::/32"].map(prefix);
    let to = [0xfd00_00fa_00fb_00fc_00fd_00fe_00fe_00fe; 3];
    while_changing(
        &mut table,
        |table| insert(table, &longer),
        |table| remove(table, &longer),
        |fib| {
            let mut hops = vec![fib.lookup6(to[0]); 4];
            fib.lookup6_burst(&to, &mut hops[1..]);
            hops
        },
    );
}

/// Changes the table there and back many times while readers look up; panics at an answer that is neither of the two,
/// or when one of them never came.
fn while_changing(
    table: &mut RouteTable,
    there: impl Fn(&mut RouteTable),
    back: impl Fn(&mut RouteTable),
    lookups: impl Fn(&Fib) -> Vec<NextHop> + Sync,
) {
    let turns: [AtomicU64; READERS] = Default::default();
    let stop = AtomicBool::new(false);
    let readers: Vec<_> = turns.iter().map(|turn| (turn, table.reader())).collect();
    let all_seen = thread::scope(|scope| {
        let (stop, lookups) = (&stop, &lookups);
        let readers: Vec<_> =
            readers.into_iter().map(|(turn, fib)| scope.spawn(move || read(turn, stop, || lookups(&fib)))).collect();
        for _ in 0..ROUNDS {
            for _ in 0..CHANGES {
                there(table);
                back(table);
            }
            there(table);
            quiesce(&turns, stop);
            back(table);
            quiesce(&turns, stop);
            table.reclaim();
            // The nodes just freed now serve other addresses.
            insert_elsewhere(table);
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().all(|reader| reader.join().expect("only legal answers"))
    });
    assert!(all_seen, "readers saw the table before and after a change");
}

/// Looks up turn after turn; true when both answers came.
fn read(turn: &AtomicU64, stop: &AtomicBool, lookups: impl Fn() -> Vec<NextHop>) -> bool {
    let (mut before, mut after) = (false, false);
    while !stop.load(Ordering::Relaxed) {
        for hop in (0..LOOKUPS).flat_map(|_| lookups()) {
            before |= hop == BEFORE;
            after |= hop == AFTER;
            if ![BEFORE, AFTER].contains(&hop) {
                stop.store(true, Ordering::Relaxed);
                panic!("{hop:?} was never the answer");
            }
        }
        turn.fetch_add(1, Ordering::Release);
        thread::yield_now();
    }
    before && after
}

/// Waits until every reader has begun a new turn and finished it.
fn quiesce(turns: &[AtomicU64], stop: &AtomicBool) {
    for turn in turns {
        let now = turn.load(Ordering::Acquire);
        while turn.load(Ordering::Acquire) < now + 2 && !stop.load(Ordering::Relaxed) {
            thread::yield_now();
        }
    }
}

fn insert(table: &mut RouteTable, prefixes: &[Prefix]) {
    for &prefix in prefixes {
        table.insert(prefix, AFTER).expect("room");
    }
}

fn remove(table: &mut RouteTable, prefixes: &[Prefix]) {
    for &prefix in prefixes {
        table.remove(prefix).expect("a route that was inserted");
    }
}

fn insert_elsewhere(table: &mut RouteTable) {
    let elsewhere = ["172.16.0.1/32", "fd77::1/128"].map(prefix);
    for prefix in elsewhere {
        table.insert(prefix, NextHop(7)).expect("room");
    }
    remove(table, &elsewhere);
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

//! Updates while a reader looks up, on another CPU: how many a second, and what they cost the reader.
//!
//! Pods come and go: their host routes are removed and inserted again, 256 changes at a time, after which the writer waits until the
//! reader has begun a new turn and gives retired memory back, as the switch does. The reader's rate is compared with its rate
//! while the same changes are made to another table (`elsewhere`), so that what is seen is the cost of shared memory and not of a
//! busy neighbour, and with its rate `alone`.

use std::hint::{black_box, spin_loop};
use std::thread;
use std::time::{Duration, Instant};

use packet::Prefix;
use ring::{Flags, Publisher};
use route_table::{NextHop, RouteTable};

use super::contestants::{Lookup, ours};
use super::tables::Table;
use super::{BURST, Keys};
use crate::error::Result;
use crate::machine;
use crate::report::{Better, Comparison};

/// A table, another like it, and who reads the first.
pub(super) struct Updates<'a> {
    name: &'static str,
    keys: &'a Keys,
    /// The writer's CPU and the reader's.
    cpus: [usize; 2],
    pods: Vec<(Prefix, NextHop)>,
    read: RouteTable,
    other: RouteTable,
}

/// Which table is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    Read,
    Other,
    None,
}

impl<'a> Updates<'a> {
    pub(super) fn new(table: &Table, keys: &'a Keys, cpus: [usize; 2]) -> Self {
        let host = if table.is_v6 { 128 } else { 32 };
        let pods = table.routes.iter().filter(|(prefix, _)| prefix.length() == host);
        let pods = pods.map(|&(prefix, hop)| (prefix, NextHop(hop))).collect();
        let [read, other] = [(); 2].map(|()| ours(&table.routes));
        Updates { name: table.name, keys, cpus, pods, read, other }
    }

    /// All of it, round after round; `done` is called for each figure.
    pub(super) fn compare(
        &mut self,
        rounds: usize,
        counted: Duration,
        mut done: impl FnMut() -> Result<()>,
    ) -> Result<Vec<Comparison>> {
        let mut results = Vec::new();
        for (case, per_second) in PACES {
            let (mut updates, mut read) = (Vec::new(), [const { Vec::new() }; 3]);
            for _ in 0..rounds {
                for (changed, read) in [Changed::Read, Changed::Other, Changed::None].into_iter().zip(&mut read) {
                    let [read_mlps, updates_per_second] = self.measure(changed, per_second, counted)?;
                    read.push(read_mlps);
                    if changed == Changed::Read {
                        updates.push(updates_per_second);
                    }
                    done()?;
                }
            }
            let [beside, elsewhere, alone] = &read;
            let metric = format!("{}_updates_per_s", self.name);
            results.extend(Comparison::new((&metric, Better::Higher), case.to_owned(), &updates, &[]));
            let metric = format!("{}_reader_mlps", self.name);
            let peers: [(&str, &[f64]); 2] = [("elsewhere", elsewhere), ("alone", alone)];
            results.extend(Comparison::new((&metric, Better::Higher), case.to_owned(), beside, &peers));
        }
        Ok(results)
    }

    /// Millions of lookups, and updates, a second.
    fn measure(&mut self, changed: Changed, per_second: Option<f64>, counted: Duration) -> Result<[f64; 2]> {
        let (mut turns, ended) = (Publisher::new(()), Flags::new(1));
        let mut reader = turns.reader();
        let fib = self.read.reader();
        let (ended, keys, cpus) = (&ended, self.keys, self.cpus);
        let table = match changed {
            Changed::Read => Some(&mut self.read),
            Changed::Other => Some(&mut self.other),
            Changed::None => None,
        };
        let pods = &self.pods[..];
        thread::scope(|scope| {
            let reading = scope.spawn(move || {
                let pinned = machine::pin(Some(cpus[1]));
                let fib: &dyn Lookup = &fib;
                let (mut hops, mut bursts, began) = ([NextHop::NONE; BURST], 0, Instant::now());
                while pinned.is_ok() && began.elapsed() < counted {
                    reader.turn();
                    for burst in (0..BURSTS_OF_A_TURN).map(|at| (bursts + at) % keys.bursts()) {
                        keys.burst(fib, burst, &mut hops);
                        black_box(&mut hops);
                    }
                    bursts += BURSTS_OF_A_TURN;
                }
                reader.offline();
                ended.raise(0);
                pinned.map(|()| (bursts * BURST) as f64 / began.elapsed().as_secs_f64() / 1e6)
            });
            machine::pin(Some(cpus[0]))?;
            let (began, mut updates) = (Instant::now(), 0.0);
            if let Some(table) = table {
                for batch in pods.chunks(UPDATES_AT_ONCE / 2).cycle() {
                    while per_second.is_some_and(|most| updates > began.elapsed().as_secs_f64() * most) && !ended.any()
                    {
                        spin_loop();
                    }
                    if ended.any() {
                        break;
                    }
                    for &(prefix, hop) in batch {
                        table.remove(prefix).expect("it was inserted");
                        table.insert(prefix, hop).expect("it had room before");
                    }
                    let version = turns.barrier();
                    turns.wait_in_force(version);
                    table.reclaim();
                    updates += 2.0 * batch.len() as f64;
                }
            }
            let seconds = began.elapsed().as_secs_f64();
            let read = reading.join().expect("a reader does not panic")?;
            Ok([read, updates / seconds])
        })
    }
}

const PACES: [(&str, Option<f64>); 2] = [("as fast as it goes", None), ("500 000 a second", Some(500_000.0))];
/// How many figures a round has.
pub(super) const FIGURES: usize = PACES.len() * 3;
const UPDATES_AT_ONCE: usize = 256;
const BURSTS_OF_A_TURN: usize = 8;

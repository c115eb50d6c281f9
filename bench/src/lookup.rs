//! The route table beside those of others: millions of lookups a second, in bursts of 32, and what loading costs.
//!
//! | contestant | what it is |
//! |---|---|
//! | ours | [`route_table::Fib`], the burst lookup |
//! | `prefix-trie`, `poptrie`, `treebitmap` | crates, address by address; `treebitmap` is what `ip_network_table` is made of |
//! | `rte_lpm`, `rte_fib`, `rte_lpm6`, `rte_fib6` | DPDK's, in bulk, with AVX-512 where the processor has it |
//!
//! [`tables`] says what the tables hold and how addresses are drawn; the case is how. Every contestant's answer to every address
//! is checked before anything is measured.

use std::hint::black_box;
use std::io::Write;
use std::net::IpAddr;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::ProgressBar;
use packet::Prefix;
use route_table::NextHop;
use tempfile::NamedTempFile;

use crate::dpdk;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::machine::{self, Machine};
use crate::report::{Better, Comparison, Report};

mod contestants;
mod tables;

use contestants::{Lookup, Ours, PoptrieCrate, PrefixTrie, TreeBitmap};
use tables::{Draw, Table};

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which tables; all without a name.
    pub tables: Vec<TableName>,
    /// How often everything is measured.
    pub rounds: usize,
    /// About how long each figure is counted.
    pub counted: Duration,
}

/// A table that lookups are measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum TableName {
    /// 5 000 blocks of /26, 250 pods, a default.
    V4Pod,
    /// A million IPv4 prefixes.
    V4Full,
    /// 5 000 blocks of /122, 250 pods, a default.
    V6Pod,
    /// 200 000 IPv6 prefixes.
    V6Full,
}

/// Runs the plan; `progress` advances once per figure.
pub fn run(plan: &Plan, machine: Machine, progress: &ProgressBar) -> Result<Report> {
    let dpdk = dpdk::Program::build("lookup", include_str!("../dpdk/lookup.c"))?;
    let cpu = *machine::available_cpus()?.last().expect("this runs on some CPU");
    let names = if plan.tables.is_empty() { TableName::value_variants() } else { &plan.tables[..] };
    let per_table = (if dpdk.is_some() { 6 } else { 4 }) * Draw::ALL.len();
    progress.set_length((names.len() * per_table * plan.rounds) as u64);
    let mut results = Vec::new();
    for name in names {
        let table = name.table();
        let measured = thread::scope(|scope| {
            let on_cpu = || machine::pin(Some(cpu)).and_then(|()| compare(&table, plan, dpdk.as_ref(), cpu, progress));
            scope.spawn(on_cpu).join().expect("every answer is right")
        })?;
        results.extend(measured);
    }
    let mut report = Report::new("lookup", machine, plan.rounds, results);
    let dpdk = dpdk.map_or("left out: apt-get install libdpdk-dev pkg-config".to_owned(), |dpdk| dpdk.version);
    report.conditions = Some(format!("one thread, bursts of {BURST} addresses; DPDK {dpdk}"));
    Ok(report)
}

impl TableName {
    fn table(self) -> Table {
        match self {
            TableName::V4Pod => Table::v4_pod(),
            TableName::V4Full => Table::v4_full(1_000_000),
            TableName::V6Pod => Table::v6_pod(),
            TableName::V6Full => Table::v6_full(200_000),
        }
    }
}

/// One table, everybody in turn.
fn compare(
    table: &Table,
    plan: &Plan,
    dpdk: Option<&dpdk::Program>,
    cpu: usize,
    progress: &ProgressBar,
) -> Result<Vec<Comparison>> {
    progress.set_message(format!("loading {}", table.name));
    let draws: Vec<Keys> = Draw::ALL.iter().map(|&draw| Keys::new(table, draw)).collect();
    let mut contestants = contestants(table, &draws, dpdk, cpu)?;
    let mut results = vec![loads(table, &contestants)];
    for (which, (draw, keys)) in Draw::ALL.iter().zip(&draws).enumerate() {
        for _ in 0..plan.rounds {
            for contestant in &mut contestants {
                interrupt::check()?;
                progress.set_message(format!("{} {} {}", table.name, draw.name(), contestant.name));
                let rate = contestant.rate(keys, which, plan.counted)?;
                contestant.rates[which].push(rate);
                progress.inc(1);
            }
        }
        let (ours, peers) = contestants.split_first().expect("we are there");
        let peers: Vec<(&str, &[f64])> = peers.iter().map(|peer| (peer.name, &peer.rates[which][..])).collect();
        let metric = format!("{}_mlps", table.name);
        results.push(Comparison::new((&metric, Better::Higher), draw.name().to_owned(), &ours.rates[which], &peers));
    }
    Ok(results.into_iter().flatten().collect())
}

/// Everybody with the table loaded, we first.
fn contestants(table: &Table, draws: &[Keys], dpdk: Option<&dpdk::Program>, cpu: usize) -> Result<Vec<Contestant>> {
    let routes = &table.routes[..];
    let mut all = vec![
        Contestant::of_crate("ours", draws, || Box::new(Ours::load(routes))),
        Contestant::of_crate("prefix-trie", draws, || Box::new(PrefixTrie::load(routes))),
        Contestant::of_crate("poptrie", draws, || Box::new(PoptrieCrate::load(routes))),
        Contestant::of_crate("treebitmap", draws, || Box::new(TreeBitmap::load(routes))),
    ];
    if let Some(program) = dpdk {
        let kinds = if table.is_v6 {
            [("rte_lpm6", "lpm6"), ("rte_fib6", "fib6")]
        } else {
            [("rte_lpm", "lpm"), ("rte_fib", "fib")]
        };
        let files: Vec<NamedTempFile> = [records(routes.iter().copied())]
            .into_iter()
            .chain(draws.iter().map(Keys::records))
            .collect::<Result<_>>()?;
        for (name, kind) in kinds {
            all.push(Contestant::of_dpdk(program, (name, kind), cpu, &files).map_err(Error::of(name))?);
        }
    }
    Ok(all)
}

fn loads(table: &Table, contestants: &[Contestant]) -> Option<Comparison> {
    let (ours, peers) = contestants.split_first().expect("we are there");
    let peers: Vec<(&str, &[f64])> = peers.iter().map(|peer| (peer.name, &peer.load_ms[..])).collect();
    let metric = format!("{}_load_ms", table.name);
    Comparison::new((&metric, Better::Lower), "once".to_owned(), &ours.load_ms, &peers)
}

/// Who competes, with the table loaded.
struct Contestant {
    name: &'static str,
    place: Place,
    load_ms: [f64; 1],
    /// Of each draw, millions of lookups a second.
    rates: Vec<Vec<f64>>,
    /// Bursts that fit into the time of a figure, and where to go on.
    bursts: Vec<(u64, usize)>,
}

enum Place {
    Here(Box<dyn Lookup>),
    Elsewhere(dpdk::Running),
}

impl Contestant {
    fn of_crate(name: &'static str, draws: &[Keys], load: impl FnOnce() -> Box<dyn Lookup>) -> Self {
        let began = Instant::now();
        let lookup = load();
        let load_ms = began.elapsed().as_secs_f64() * 1e3;
        draws.iter().for_each(|keys| keys.check(&*lookup, name));
        Self::new(name, Place::Here(lookup), load_ms, draws.len())
    }

    fn of_dpdk(
        program: &dpdk::Program,
        (name, kind): (&'static str, &str),
        cpu: usize,
        files: &[NamedTempFile],
    ) -> Result<Self> {
        let cpu = cpu.to_string();
        let paths = files.iter().map(|file| file.path().to_str().expect("its name is of ASCII"));
        let arguments: Vec<&str> = [kind, &cpu].into_iter().chain(paths).collect();
        let mut running = program.start(&arguments)?;
        let load_ms = running.figure()? * 1e3;
        Ok(Self::new(name, Place::Elsewhere(running), load_ms, files.len() - 1))
    }

    fn new(name: &'static str, place: Place, load_ms: f64, draws: usize) -> Self {
        Self { name, place, load_ms: [load_ms], rates: vec![vec![]; draws], bursts: vec![(BURSTS_FIRST, 0); draws] }
    }

    /// Millions of lookups a second; the first time after a short run that tells how many bursts it takes.
    fn rate(&mut self, keys: &Keys, which: usize, counted: Duration) -> Result<f64> {
        if self.rates[which].is_empty() {
            let rate = self.look_up(keys, which)?;
            self.bursts[which].0 = ((rate * 1e6 * counted.as_secs_f64() / BURST as f64) as u64).max(BURSTS_FIRST);
        }
        self.look_up(keys, which)
    }

    fn look_up(&mut self, keys: &Keys, which: usize) -> Result<f64> {
        let (bursts, next) = &mut self.bursts[which];
        match &mut self.place {
            Place::Elsewhere(running) => running.ask(&format!("{which} {bursts}")).map_err(Error::of(self.name)),
            Place::Here(lookup) => {
                let began = Instant::now();
                for _ in 0..*bursts {
                    black_box(keys.burst(&**lookup, *next));
                    *next = if *next + 1 == keys.bursts() { 0 } else { *next + 1 };
                }
                Ok((*bursts * BURST as u64) as f64 / began.elapsed().as_secs_f64() / 1e6)
            }
        }
    }
}

/// Addresses of one draw with the answers that are right.
struct Keys {
    to: To,
    expected: Vec<u16>,
}

enum To {
    V4(Vec<u32>),
    V6(Vec<u128>),
}

impl Keys {
    fn new(table: &Table, draw: Draw) -> Self {
        let drawn = table.destinations(draw);
        let to = if table.is_v6 { To::V6(drawn) } else { To::V4(drawn.into_iter().map(|to| to as u32).collect()) };
        let mut keys = Keys { to, expected: Vec::new() };
        let oracle = PrefixTrie::load(&table.routes);
        keys.expected = (0..keys.bursts()).flat_map(|burst| keys.burst(&oracle, burst).map(|hop| hop.0)).collect();
        keys
    }

    fn bursts(&self) -> usize {
        match &self.to {
            To::V4(to) => to.len() / BURST,
            To::V6(to) => to.len() / BURST,
        }
    }

    #[inline(always)]
    fn burst(&self, lookup: &dyn Lookup, burst: usize) -> [NextHop; BURST] {
        let mut hops = [NextHop::NONE; BURST];
        match &self.to {
            To::V4(to) => lookup.v4(&to[range(burst)], &mut hops),
            To::V6(to) => lookup.v6(&to[range(burst)], &mut hops),
        }
        hops
    }

    fn check(&self, lookup: &dyn Lookup, name: &str) {
        for burst in 0..self.bursts() {
            let hops = self.burst(lookup, burst).map(|hop| hop.0);
            assert_eq!(hops, self.expected[range(burst)], "answers of {name}");
        }
    }

    fn address(&self, at: usize) -> IpAddr {
        match &self.to {
            To::V4(to) => tables::address(to[at].into(), false),
            To::V6(to) => tables::address(to[at], true),
        }
    }

    fn records(&self) -> Result<NamedTempFile> {
        records(self.expected.iter().enumerate().map(|(at, &hop)| (Prefix::host(self.address(at)), hop)))
    }
}

fn range(burst: usize) -> Range<usize> {
    burst * BURST..(burst + 1) * BURST
}

/// Prefixes and next hops as `bench/dpdk/lookup.c` reads them, in a file that goes when it is dropped.
fn records(of: impl Iterator<Item = (Prefix, u16)>) -> Result<NamedTempFile> {
    let mut bytes = Vec::new();
    for (prefix, hop) in of {
        let mut record = [0; 20];
        match prefix.address() {
            IpAddr::V4(at) => record[..4].copy_from_slice(&at.octets()),
            IpAddr::V6(at) => record[..16].copy_from_slice(&at.octets()),
        }
        record[16] = prefix.length();
        record[18..].copy_from_slice(&hop.to_le_bytes());
        bytes.extend(record);
    }
    let mut file = NamedTempFile::with_prefix("podswitch-bench-").map_err(Error::system("make a file"))?;
    file.write_all(&bytes).map_err(Error::system("write a file"))?;
    Ok(file)
}

/// Addresses looked up at once.
const BURST: usize = 32;
const BURSTS_FIRST: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contestant_gives_the_right_answers_on_every_kind_of_table() {
        let dpdk = dpdk::Program::build("lookup", include_str!("../dpdk/lookup.c")).unwrap();
        let cpu = machine::available_cpus().unwrap()[0];
        for table in [Table::v4_pod(), Table::v4_full(3_000), Table::v6_pod(), Table::v6_full(3_000)] {
            let draws: Vec<Keys> = Draw::ALL.iter().map(|&draw| Keys::new(&table, draw)).collect();
            let all = contestants(&table, &draws, dpdk.as_ref(), cpu).unwrap();
            assert_eq!(all.len(), if dpdk.is_some() { 6 } else { 4 });
        }
    }
}

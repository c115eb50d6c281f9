//! The route table beside those of others: millions of lookups a second, in bursts of 32, and what loading costs.
//!
//! | contestant | what it is |
//! |---|---|
//! | ours | [`route_table::Fib`], the burst lookup |
//! | `prefix-trie`, `poptrie`, `treebitmap` | crates, address by address; `treebitmap` is what `ip_network_table` is made of |
//! | `rte_lpm`, `rte_fib`, `rte_lpm6`, `rte_fib6` | DPDK's, in bulk, with AVX-512 where the processor has it |
//!
//! `tables.rs` says what the tables hold and how addresses are drawn; the case is how. Every contestant's answer to every address
//! is checked before anything is measured. `updates.rs` measures what changes cost on the tables of a cluster.
//!
//! Loading is measured once, before anything else: by one insertion after the other, shorter prefixes first. What it takes of
//! memory is by how much this process has grown, the writer's part included.

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
mod updates;

use contestants::{Lookup, Ours, PoptrieCrate, PrefixTrie, TreeBitmap};
use tables::{Draw, Table};
use updates::Updates;

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which tables; all without a name.
    pub tables: Vec<TableName>,
    /// Whom to compare with; all where nobody is named.
    pub peers: Vec<Peer>,
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

/// Another table of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Peer {
    /// The crate of that name.
    #[value(name = "prefix-trie")]
    PrefixTrie,
    /// The crate of that name; loading a million routes takes it many minutes.
    Poptrie,
    /// The crate `ip_network_table`.
    Treebitmap,
    /// DPDK's, `rte_lpm6` for IPv6; loading a million routes takes it a minute.
    RteLpm,
    /// DPDK's, `rte_fib6` for IPv6.
    RteFib,
}

/// Runs the plan; `progress` advances once per figure.
pub fn run(plan: &Plan, machine: Machine, progress: &ProgressBar) -> Result<Report> {
    let dpdk = dpdk::Program::build("lookup", include_str!("../dpdk/lookup.c"))?;
    let cpus = machine::available_cpus()?;
    let tables: Vec<TableName> =
        if plan.tables.is_empty() { TableName::value_variants() } else { &plan.tables }.to_vec();
    let peers: Vec<Peer> = if plan.peers.is_empty() { Peer::value_variants() } else { &plan.peers }.to_vec();
    let peers: Vec<Peer> = peers.into_iter().filter(|peer| dpdk.is_some() || !peer.is_dpdk()).collect();
    let bench = Bench { plan, peers, dpdk: dpdk.as_ref(), cpus, progress };
    progress.set_length(tables.iter().map(|&table| bench.figures(table) as u64).sum());
    let mut results = Vec::new();
    for name in tables {
        // Threads, because they are bound to CPUs.
        let measured =
            thread::scope(|scope| scope.spawn(|| bench.compare(name)).join().expect("every answer is right"))?;
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

    fn is_of_a_cluster(self) -> bool {
        matches!(self, TableName::V4Pod | TableName::V6Pod)
    }
}

impl Peer {
    fn is_dpdk(self) -> bool {
        matches!(self, Peer::RteLpm | Peer::RteFib)
    }
}

/// What holds for all tables.
struct Bench<'a> {
    plan: &'a Plan,
    peers: Vec<Peer>,
    dpdk: Option<&'a dpdk::Program>,
    cpus: Vec<usize>,
    progress: &'a ProgressBar,
}

impl Bench<'_> {
    fn figures(&self, table: TableName) -> usize {
        let lookups = (1 + self.peers.len()) * Draw::ALL.len();
        let updates = if table.is_of_a_cluster() && self.cpus.len() > 1 { updates::FIGURES } else { 0 };
        (lookups + updates) * self.plan.rounds
    }

    /// The CPU that lookups are measured on.
    fn cpu(&self) -> usize {
        *self.cpus.last().expect("this runs on some CPU")
    }

    /// One table, everybody in turn.
    fn compare(&self, name: TableName) -> Result<Vec<Comparison>> {
        let Bench { plan, progress, .. } = *self;
        machine::pin(Some(self.cpu()))?;
        progress.set_message("drawing addresses");
        let table = name.table();
        let draws: Vec<Keys> = Draw::ALL.iter().map(|&draw| Keys::new(&table, draw)).collect();
        let mut contestants = self.contestants(&table, &draws)?;
        let mut results = costs(&table, &contestants);
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
            let metric = (format!("{}_mlps", table.name), Better::Higher);
            results.extend(comparison(metric, draw.name(), &contestants, |contestant| &contestant.rates[which]));
        }
        if name.is_of_a_cluster() && self.cpus.len() > 1 {
            drop(contestants);
            progress.set_message(format!("{} updates", table.name));
            let mut updates = Updates::new(&table, &draws[0], [self.cpus[0], self.cpu()]);
            results.extend(updates.compare(plan.rounds, plan.counted, || {
                progress.inc(1);
                interrupt::check()
            })?);
        }
        Ok(results)
    }

    /// Everybody with the table loaded, we first.
    fn contestants(&self, table: &Table, draws: &[Keys]) -> Result<Vec<Contestant>> {
        let routes = &table.routes[..];
        let files = [records(routes.iter().copied())].into_iter().chain(draws.iter().map(Keys::records));
        let files: Vec<NamedTempFile> = files.collect::<Result<_>>()?;
        let loading = |name: &str| self.progress.set_message(format!("{} into {name}", table.name));
        loading("ours");
        let resident = || machine::resident_megabytes_of(std::process::id());
        let before = resident()?;
        let mut all = vec![Contestant::of_crate("ours", draws, || Box::new(Ours::load(routes)))];
        all[0].load_mb.push(resident()? - before);
        for &peer in &self.peers {
            interrupt::check()?;
            let (name, kind) = match (peer, table.is_v6) {
                (Peer::PrefixTrie, _) => ("prefix-trie", ""),
                (Peer::Poptrie, _) => ("poptrie", ""),
                (Peer::Treebitmap, _) => ("treebitmap", ""),
                (Peer::RteLpm, false) => ("rte_lpm", "lpm"),
                (Peer::RteLpm, true) => ("rte_lpm6", "lpm6"),
                (Peer::RteFib, false) => ("rte_fib", "fib"),
                (Peer::RteFib, true) => ("rte_fib6", "fib6"),
            };
            loading(name);
            all.push(match (peer, self.dpdk) {
                (Peer::PrefixTrie, _) => Contestant::of_crate(name, draws, || Box::new(PrefixTrie::load(routes))),
                (Peer::Poptrie, _) => Contestant::of_crate(name, draws, || Box::new(PoptrieCrate::load(routes))),
                (Peer::Treebitmap, _) => Contestant::of_crate(name, draws, || Box::new(TreeBitmap::load(routes))),
                (_, Some(program)) => {
                    Contestant::of_dpdk(program, (name, kind), self.cpu(), &files).map_err(Error::of(name))?
                }
                (_, None) => unreachable!("left out where DPDK is not there"),
            });
        }
        Ok(all)
    }
}

/// What loading took, of time and of memory.
fn costs(table: &Table, contestants: &[Contestant]) -> Vec<Comparison> {
    let time = (format!("{}_load_ms", table.name), Better::Lower);
    let memory = (format!("{}_load_mb", table.name), Better::Lower);
    let time = comparison(time, "once", contestants, |contestant| &contestant.load_ms);
    let memory = comparison(memory, "once", contestants, |contestant| &contestant.load_mb);
    time.into_iter().chain(memory).collect()
}

/// Ours beside those that have such figures.
fn comparison(
    (metric, better): (String, Better),
    case: &str,
    contestants: &[Contestant],
    figures: impl Fn(&Contestant) -> &[f64],
) -> Option<Comparison> {
    let (ours, peers) = contestants.split_first().expect("we are there");
    let peers = peers.iter().map(|peer| (peer.name, figures(peer)));
    let peers: Vec<(&str, &[f64])> = peers.filter(|(_, figures)| !figures.is_empty()).collect();
    Comparison::new((&metric, better), case.to_owned(), figures(ours), &peers)
}

/// Who competes, with the table loaded.
struct Contestant {
    name: &'static str,
    place: Place,
    load_ms: [f64; 1],
    /// Of ours alone: what comes later takes memory that was used before.
    load_mb: Vec<f64>,
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
        let (rates, bursts) = (vec![vec![]; draws], vec![(BURSTS_FIRST, 0); draws]);
        Self { name, place, load_ms: [load_ms], load_mb: vec![], rates, bursts }
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
                let (mut hops, began) = ([NextHop::NONE; BURST], Instant::now());
                for _ in 0..*bursts {
                    keys.burst(&**lookup, *next, &mut hops);
                    black_box(&mut hops);
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
        keys.expected = (0..keys.bursts()).flat_map(|burst| keys.answers(&oracle, burst)).collect();
        keys
    }

    fn bursts(&self) -> usize {
        match &self.to {
            To::V4(to) => to.len() / BURST,
            To::V6(to) => to.len() / BURST,
        }
    }

    #[inline(always)]
    fn burst(&self, lookup: &dyn Lookup, burst: usize, hops: &mut [NextHop; BURST]) {
        match &self.to {
            To::V4(to) => lookup.v4(&to[range(burst)], hops),
            To::V6(to) => lookup.v6(&to[range(burst)], hops),
        }
    }

    fn answers(&self, lookup: &dyn Lookup, burst: usize) -> [u16; BURST] {
        let mut hops = [NextHop::NONE; BURST];
        self.burst(lookup, burst, &mut hops);
        hops.map(|hop| hop.0)
    }

    fn check(&self, lookup: &dyn Lookup, name: &str) {
        for burst in 0..self.bursts() {
            assert_eq!(self.answers(lookup, burst), self.expected[range(burst)], "answers of {name}");
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
        let peers = Peer::value_variants().iter().filter(|peer| dpdk.is_some() || !peer.is_dpdk()).copied().collect();
        let plan = Plan { tables: vec![], peers: vec![], rounds: 1, counted: Duration::from_millis(1) };
        let (cpus, progress) = (machine::available_cpus().unwrap(), &ProgressBar::hidden());
        let bench = Bench { plan: &plan, peers, dpdk: dpdk.as_ref(), cpus, progress };
        for table in [Table::v4_pod(), Table::v4_full(3_000), Table::v6_pod(), Table::v6_full(3_000)] {
            let draws: Vec<Keys> = Draw::ALL.iter().map(|&draw| Keys::new(&table, draw)).collect();
            let all = bench.contestants(&table, &draws).unwrap();
            assert_eq!(all.len(), if dpdk.is_some() { 6 } else { 4 });
        }
    }

    #[test]
    fn a_report_has_lookups_costs_and_updates() {
        let plan = Plan {
            tables: vec![TableName::V4Pod],
            peers: vec![Peer::PrefixTrie],
            rounds: 1,
            counted: Duration::from_millis(1),
        };
        let report = run(&plan, Machine::describe(false).unwrap(), &ProgressBar::hidden()).unwrap();
        let metrics: Vec<&str> = report.results.iter().map(|result| &result.metric[..]).collect();
        let lookups = ["v4_pod_load_ms", "v4_pod_load_mb", "v4_pod_mlps", "v4_pod_mlps", "v4_pod_mlps"];
        let updates = ["v4_pod_updates_per_s", "v4_pod_reader_mlps"].repeat(2);
        let two_cpus = machine::available_cpus().unwrap().len() > 1;
        assert_eq!(metrics, [&lookups[..], if two_cpus { &updates } else { &[] }].concat());
        assert_eq!(report.results[2].peers.keys().collect::<Vec<_>>(), ["prefix-trie"]);
    }
}

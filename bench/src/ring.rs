//! Rings beside those of others: reference cycles for each number of 8 bytes that goes from thread to thread.
//!
//! | contestant | bursts | ends |
//! |---|---|---|
//! | ours, [`ring::spsc`] and [`ring::mpsc`] | yes | one or several producers, one consumer |
//! | `rtrb` | yes | one producer, one consumer |
//! | `crossbeam`, its `ArrayQueue` | no | several of both |
//! | `rte_ring` of DPDK, SP/SC or MP/SC as ours; `rte_ring_mpmc` | yes | by its flags |
//!
//! Each holds 1 024 items. A case is written as elsewhere, producers' CPUs|consumer's CPU: `0|1` is two cores, `1|1` two threads
//! that share one and yield to each other, `0,1|1` two producers. `1` alone is one thread that pushes each burst and pops it again.

use std::time::Duration;

use indicatif::ProgressBar;

use crate::dpdk;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::machine::{self, Machine};
use crate::report::{Better, Comparison, Report};

mod contestants;
mod load;

use contestants::{Crossbeam, OurMpsc, OurSpsc, Rtrb};
use load::Load;

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often everything is measured.
    pub rounds: usize,
    /// About how long each figure is counted.
    pub counted: Duration,
}

/// Runs the plan; `progress` advances once per figure.
pub fn run(plan: &Plan, machine: Machine, progress: &ProgressBar) -> Result<Report> {
    let dpdk = dpdk::Program::build("ring", include_str!("../dpdk/ring.c"))?;
    let mhz = machine::reference_mhz()?;
    let settings = settings(&machine::available_cpus()?);
    let contestants = |kind: Kind| kind.contestants().iter().filter(|who| dpdk.is_some() || who.rte().is_none());
    let figures: usize = settings.iter().map(|setting| contestants(setting.kind).count()).sum();
    progress.set_length((figures * plan.rounds) as u64);
    let mut results = Vec::new();
    for setting in settings {
        let mut contests: Vec<_> =
            contestants(setting.kind).map(|&who| Contest { who, items: ITEMS_FIRST, figures: vec![] }).collect();
        let metric = format!("{}{}_cycles", setting.kind.name(), setting.burst);
        for _ in 0..plan.rounds {
            for contest in &mut contests {
                interrupt::check()?;
                progress.set_message(format!("{metric} {} {}", setting.case(), contest.who.name()));
                let rate = contest.measure(&setting, plan.counted, dpdk.as_ref())?;
                contest.figures.push(mhz / rate);
                progress.inc(1);
            }
        }
        let (ours, peers) = contests.split_first().expect("we are there");
        let peers: Vec<_> = peers.iter().map(|peer| (peer.who.name(), &peer.figures[..])).collect();
        results.extend(Comparison::new((&metric, Better::Lower), setting.case(), &ours.figures, &peers));
    }
    let mut report = Report::new("ring", machine, plan.rounds, results);
    let dpdk = dpdk.map_or("left out: apt-get install libdpdk-dev pkg-config".to_owned(), |dpdk| dpdk.version);
    report.conditions = Some(format!("reference cycles ({mhz} MHz) per item of 8 bytes; DPDK {dpdk}"));
    Ok(report)
}

/// How many may push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Spsc,
    Mpsc,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Spsc => "spsc",
            Kind::Mpsc => "mpsc",
        }
    }

    /// Who competes, we first.
    fn contestants(self) -> &'static [Contestant] {
        match self {
            Kind::Spsc => &[Contestant::OurSpsc, Contestant::Rtrb, Contestant::Crossbeam, Contestant::RteSpsc],
            Kind::Mpsc => &[Contestant::OurMpsc, Contestant::Crossbeam, Contestant::RteMpsc, Contestant::RteMpmc],
        }
    }
}

/// Kind, threads and burst of one comparison.
struct Setting {
    kind: Kind,
    producers: Vec<usize>,
    consumer: usize,
    burst: usize,
}

impl Setting {
    fn case(&self) -> String {
        let consumer = self.consumer.to_string();
        if self.producers.is_empty() { consumer } else { self.producers() + "|" + &consumer }
    }

    fn producers(&self) -> String {
        self.producers.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }
}

/// Everything to be compared: across cores first, where there are two.
fn settings(cpus: &[usize]) -> Vec<Setting> {
    let (first, last) = (cpus[0], cpus[cpus.len() - 1]);
    let two_cores = |producers: Vec<usize>| (first != last).then_some(producers);
    let one_producer = [two_cores(vec![first]), Some(vec![]), Some(vec![last])];
    let cases = |kind| match kind {
        Kind::Spsc => one_producer.to_vec(),
        Kind::Mpsc => [&one_producer[..], &[two_cores(vec![first, last])]].concat(),
    };
    let mut settings = Vec::new();
    for kind in [Kind::Spsc, Kind::Mpsc] {
        for producers in cases(kind).into_iter().flatten() {
            let setting = |burst| Setting { kind, producers: producers.clone(), consumer: last, burst };
            settings.extend(BURSTS.map(setting));
        }
    }
    settings
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contestant {
    OurSpsc,
    OurMpsc,
    Rtrb,
    Crossbeam,
    RteSpsc,
    RteMpsc,
    RteMpmc,
}

impl Contestant {
    fn name(self) -> &'static str {
        match self {
            Contestant::OurSpsc | Contestant::OurMpsc => "ours",
            Contestant::Rtrb => "rtrb",
            Contestant::Crossbeam => "crossbeam",
            Contestant::RteSpsc | Contestant::RteMpsc => "rte_ring",
            Contestant::RteMpmc => "rte_ring_mpmc",
        }
    }

    /// Of DPDK's rings, which.
    fn rte(self) -> Option<&'static str> {
        match self {
            Contestant::RteSpsc => Some("spsc"),
            Contestant::RteMpsc => Some("mpsc"),
            Contestant::RteMpmc => Some("mpmc"),
            _ => None,
        }
    }

    fn carry(self, load: Load<'_>, setting: &Setting, dpdk: Option<&dpdk::Program>) -> Result<f64> {
        match self {
            Contestant::OurSpsc => load.carry::<OurSpsc>(),
            Contestant::OurMpsc => load.carry::<OurMpsc>(),
            Contestant::Rtrb => load.carry::<Rtrb>(),
            Contestant::Crossbeam => load.carry::<Crossbeam>(),
            Contestant::RteSpsc | Contestant::RteMpsc | Contestant::RteMpmc => {
                let (kind, dpdk) = self.rte().zip(dpdk).expect("only where DPDK is there");
                let producers = if setting.producers.is_empty() { "-".to_owned() } else { setting.producers() };
                let numbers = [load.consumer.to_string(), load.burst.to_string(), load.items.to_string()];
                dpdk.figure(&[kind, &producers, &numbers[0], &numbers[1], &numbers[2]]).map_err(Error::of(self.name()))
            }
        }
    }
}

/// A contestant's figures so far, and how many items are to be sent for the next.
struct Contest {
    who: Contestant,
    items: u64,
    figures: Vec<f64>,
}

impl Contest {
    /// Millions of items a second; the first time after a short run that tells how many items it takes.
    fn measure(&mut self, setting: &Setting, counted: Duration, dpdk: Option<&dpdk::Program>) -> Result<f64> {
        let carry = |items: u64| {
            let items = items.next_multiple_of(setting.burst as u64);
            let load = Load { producers: &setting.producers, consumer: setting.consumer, burst: setting.burst, items };
            self.who.carry(load, setting, dpdk)
        };
        if self.figures.is_empty() {
            let rate = carry(ITEMS_FIRST)? * 1e6 / setting.producers.len().max(1) as f64;
            self.items = ((rate * counted.as_secs_f64()) as u64).max(ITEMS_FIRST);
        }
        carry(self.items)
    }
}

const BURSTS: [usize; 3] = [1, 8, 32];
const ITEMS_FIRST: u64 = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ring_carries_every_number_in_every_case() {
        let cpus = machine::available_cpus().unwrap();
        let all = settings(&cpus);
        assert_eq!(all.len(), if cpus.len() > 1 { 21 } else { 12 });
        for setting in all {
            for who in setting.kind.contestants().iter().filter(|who| who.rte().is_none()) {
                let items = 9600;
                let load =
                    Load { producers: &setting.producers, consumer: setting.consumer, burst: setting.burst, items };
                assert!(who.carry(load, &setting, None).unwrap() > 0.0, "{who:?} in {}", setting.case());
            }
        }
    }

    #[test]
    fn all_of_a_kind_are_compared_and_dpdk_where_it_is() {
        let machine = Machine::describe(false).unwrap();
        let report =
            run(&Plan { rounds: 1, counted: Duration::from_millis(1) }, machine, &ProgressBar::hidden()).unwrap();
        let has_dpdk = report.conditions.unwrap().contains("DPDK 2");
        for result in &report.results {
            let peers: Vec<&str> = result.peers.keys().map(String::as_str).collect();
            let expected: &[&str] = match (result.metric.starts_with("spsc"), has_dpdk) {
                (true, true) => &["crossbeam", "rte_ring", "rtrb"],
                (true, false) => &["crossbeam", "rtrb"],
                (false, true) => &["crossbeam", "rte_ring", "rte_ring_mpmc"],
                (false, false) => &["crossbeam"],
            };
            assert_eq!(peers, expected, "{} {}", result.metric, result.case);
        }
    }
}

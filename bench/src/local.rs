//! Pod to pod on one node: ours beside the peers, interleaved.
//!
//! All topologies are set up once and stay; each round then goes through loads and cases, and for each through all
//! topologies in turn, A B C, so that both figures of a ratio are taken moments apart. Before the first round a
//! checked transfer over each topology refuses one that corrupts.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::ProgressBar;

use crate::error::{Error, Result};
use crate::load::{Case, Family, Pair, transfer};
use crate::machine::Machine;
use crate::report::{Comparison, Report};
use crate::topology::{Topology, Wiring};
use crate::{interrupt, machine};

mod metric;

use metric::Load;
pub use metric::Metric;

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whose figures stand in the numerator.
    pub subject: Wiring,
    /// Whose stand in the denominator.
    pub peers: Vec<Wiring>,
    /// The CPUs of sender and receiver.
    pub cases: Vec<Case>,
    /// What to report.
    pub metrics: Vec<Metric>,
    /// How often everything is measured.
    pub rounds: usize,
    /// How long each load is counted.
    pub counted: Duration,
    /// How many flows `udp64_flows_pps` sends in turn.
    pub flows: usize,
    /// The CPU of the switch and of the plain forwarder; `None` leaves the forwarder to the scheduler
    /// and the switch to its own choice, the last CPU.
    pub switch_cpu: Option<usize>,
}

/// Runs the plan; warnings go to standard error, `progress` advances once per load.
pub fn run(plan: &Plan, machine: Machine, progress: &ProgressBar) -> Result<Report> {
    plan.cases.iter().try_for_each(Case::check)?;
    let wirings = [plan.subject].into_iter().chain(plan.peers.iter().copied());
    let topologies = wirings.map(|wiring| set_up(wiring, plan, progress)).collect::<Result<Vec<_>>>()?;
    let mut loads: Vec<Load> = plan.metrics.iter().map(|metric| metric.load()).collect();
    loads.sort();
    loads.dedup();
    progress.set_length((plan.rounds * loads.len() * plan.cases.len() * topologies.len()) as u64);
    let mut figures = Figures::new();
    for _ in 0..plan.rounds {
        for (&load, &case) in loads.iter().flat_map(|load| plan.cases.iter().map(move |case| (load, case))) {
            for (number, topology) in topologies.iter().enumerate() {
                interrupt::check()?;
                progress.set_message(format!("{load} {case} {}", topology.wiring()));
                let [from, to] = topology.pods();
                let pair = Pair { from, to, family: Family::V4, case: Some(case), urgent: false };
                for (metric, figure) in load.measure(pair, plan, |warning| warn(progress, topology, case, warning))? {
                    figures.entry((metric, case.to_string(), number)).or_default().push(figure);
                }
                progress.inc(1);
            }
        }
    }
    Ok(Report { bench: "local", machine, rounds: plan.rounds, results: compare(plan, &figures) })
}

/// By metric, case, and position of the topology, the subject's being 0: one figure per round.
type Figures = BTreeMap<(Metric, String, usize), Vec<f64>>;

fn set_up(wiring: Wiring, plan: &Plan, progress: &ProgressBar) -> Result<Topology> {
    interrupt::check()?;
    progress.set_message(format!("setting up {wiring}"));
    let topology = Topology::new(wiring, plan.switch_cpu)?;
    let [from, to] = topology.pods();
    let pair = Pair { from, to, family: Family::V4, case: None, urgent: false };
    let intact = transfer::is_intact(pair, CHECKED_MEGABYTES, SEED)?;
    if intact { Ok(topology) } else { Err(Error::Corrupted { wiring: wiring.name() }) }
}

fn warn(progress: &ProgressBar, topology: &Topology, case: Case, warning: String) {
    progress.suspend(|| eprintln!("warning: {}, {case}: {warning}", topology.wiring()));
}

fn compare(plan: &Plan, figures: &Figures) -> Vec<Comparison> {
    let mut results = Vec::new();
    for (&metric, case) in plan.metrics.iter().flat_map(|metric| plan.cases.iter().map(move |case| (metric, case))) {
        let of = |number| figures.get(&(metric, case.to_string(), number)).map_or(&[][..], Vec::as_slice);
        let peers: Vec<_> = plan.peers.iter().zip(1..).map(|(peer, number)| (peer.name(), of(number))).collect();
        results.extend(Comparison::new((&metric.to_string(), metric.better()), case.to_string(), of(0), &peers));
    }
    results
}

/// The cases to measure when none are named: one core, and two where there are two.
pub fn default_cases() -> Result<Vec<Case>> {
    let cpus = machine::available_cpus()?;
    let receivers = cpus.iter().take(2);
    Ok(receivers.map(|&receiver| Case { sender: cpus[0], receiver }).collect())
}

const CHECKED_MEGABYTES: usize = 16;
const SEED: u64 = 0x706F_6473;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_compared_by_metric_and_case_with_each_peer() {
        let plan = Plan {
            subject: Wiring::Ours,
            peers: vec![Wiring::KernelRoute, Wiring::TunTap],
            cases: vec![Case { sender: 0, receiver: 0 }, Case { sender: 0, receiver: 1 }],
            metrics: vec![Metric::RttP50Us],
            rounds: 2,
            counted: Duration::ZERO,
            flows: 64,
            switch_cpu: None,
        };
        let figures = [("0|0", [[20.0, 20.0], [10.0, 20.0], [40.0, 40.0]]), ("0|1", [[5.0; 2], [5.0; 2], [5.0; 2]])];
        let figures = figures.into_iter().flat_map(|(case, all)| {
            let key = move |number| (Metric::RttP50Us, case.to_owned(), number);
            all.into_iter().enumerate().map(move |(number, rounds)| (key(number), rounds.to_vec()))
        });
        let results = compare(&plan, &figures.collect());
        assert_eq!(results.len(), 2);
        assert_eq!((results[0].metric.as_str(), results[0].case.as_str()), ("rtt_p50_us", "0|0"));
        assert_eq!(results[0].peers["kernel-route"].ratio.median, 1.5);
        assert_eq!(results[0].peers["tun-tap"].ratio.median, 0.5);
        assert!(results[1].peers["tun-tap"].ratio.is_tie());
    }
}

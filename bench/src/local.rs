//! Pod to pod on one node: ours beside the peers, interleaved.
//!
//! All topologies are set up once and stay; each round then goes through loads and cases, and for each through all
//! topologies in turn, A B C, so that both figures of a ratio are taken moments apart. Before the first round a
//! checked transfer over each topology refuses one that corrupts.
//!
//! Our switch may carry further pods, which say nothing. With several numbers of them it is set up once for each, and
//! each is compared with the first: whether traffic slows as a node fills.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::error::{Error, Result};
use crate::load::{Case, Family, Pair, transfer};
use crate::machine::Machine;
use crate::report::{Comparison, Report};
use crate::topology::{Program, Topology, Wiring};
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
    /// How the switch and the plain forwarder are run.
    pub program: Program,
    /// How many pods are attached to the subject, the two that speak among them: with the first number it is compared
    /// with the peers, with each further number with itself at the first.
    pub pods: Vec<u16>,
}

/// Runs the plan; warnings go to standard error, `progress` advances once per load.
pub fn run(plan: &Plan, machine: Machine, progress: &ProgressBar) -> Result<Report> {
    plan.cases.iter().try_for_each(Case::check)?;
    machine::allow_many_open_files()?;
    let subjects = plan.pods.iter().map(|&pods| (plan.subject, pods));
    let all = subjects.chain(plan.peers.iter().map(|&peer| (peer, 2)));
    let topologies = all.map(|(wiring, pods)| set_up(wiring, pods, (plan, progress))).collect::<Result<Vec<_>>>()?;
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

/// By metric, case, and position of the topology, the subject's coming first: one figure per round.
type Figures = BTreeMap<(Metric, String, usize), Vec<f64>>;

fn set_up(wiring: Wiring, pods: u16, (plan, progress): (&Plan, &ProgressBar)) -> Result<Topology> {
    interrupt::check()?;
    progress.set_message(format!("setting up {wiring}"));
    let mut topology = Topology::new(wiring, &plan.program)?;
    for number in 2..pods {
        interrupt::check()?;
        progress.set_message(format!("attaching pod {} of {pods}", number + 1));
        topology.attach_silent()?;
    }
    let [from, to] = topology.pods();
    let pair = Pair { from, to, family: Family::V4, case: None, urgent: false };
    if pods > 2 {
        // Pods that were just attached still speak of multicast for some seconds.
        interrupt::sleep_until(Instant::now() + SETTLE)?;
    }
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
        let name = metric.to_string();
        let name = (name.as_str(), metric.better());
        let peers = plan.peers.iter().zip(plan.pods.len()..);
        let peers: Vec<_> = peers.map(|(peer, number)| (peer.name(), of(number))).collect();
        results.extend(Comparison::new(name, label(case, plan.pods[0]), of(0), &peers));
        let fewest = format!("{} pods", plan.pods[0]);
        for (number, &pods) in plan.pods.iter().enumerate().skip(1) {
            results.extend(Comparison::new(name, label(case, pods), of(number), &[(&fewest, of(0))]));
        }
    }
    results
}

/// The case, and how many pods there are where it is not the two that speak.
fn label(case: &Case, pods: u16) -> String {
    if pods == 2 { case.to_string() } else { format!("{case}, {pods} pods") }
}

/// The cases to measure when none are named: one core, and two where there are two.
pub fn default_cases() -> Result<Vec<Case>> {
    let cpus = machine::available_cpus()?;
    let receivers = cpus.iter().take(2);
    Ok(receivers.map(|&receiver| Case { sender: cpus[0], receiver }).collect())
}

const CHECKED_MEGABYTES: usize = 16;
const SEED: u64 = 0x706F_6473;
const SETTLE: Duration = Duration::from_secs(5);

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
            program: Program::default(),
            pods: vec![2, 100],
        };
        let first = [[20.0, 20.0], [22.0, 22.0], [10.0, 20.0], [40.0, 40.0]];
        let figures = [("0|0", first), ("0|1", [[5.0; 2]; 4])];
        let figures = figures.into_iter().flat_map(|(case, all)| {
            let key = move |number| (Metric::RttP50Us, case.to_owned(), number);
            all.into_iter().enumerate().map(move |(number, rounds)| (key(number), rounds.to_vec()))
        });
        let results = compare(&plan, &figures.collect());
        let cases: Vec<&str> = results.iter().map(|result| result.case.as_str()).collect();
        assert_eq!(cases, ["0|0", "0|0, 100 pods", "0|1", "0|1, 100 pods"]);
        assert!(results.iter().all(|result| result.metric == "rtt_p50_us"));
        assert_eq!(results[0].peers["kernel-route"].ratio.median, 1.5);
        assert_eq!(results[0].peers["tun-tap"].ratio.median, 0.5);
        assert_eq!(results[1].peers["2 pods"].ratio.median, 1.1);
        assert!(results[2].peers["tun-tap"].ratio.is_tie());
    }
}

//! Pod to pod on one node: ours beside the peers, interleaved.
//!
//! All topologies are set up once and stay; each round then goes through loads and cases, and for each through all
//! topologies in turn, A B C, so that both figures of a ratio are taken moments apart. Before the first round a
//! checked transfer over each topology refuses one that corrupts.

use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use indicatif::ProgressBar;

use crate::error::{Error, Result};
use crate::load::{Case, Family, Pair, Window, probe, round_trip, tcp, transfer, udp};
use crate::machine::Machine;
use crate::report::{Better, Comparison, Report};
use crate::topology::{Topology, Wiring};
use crate::{interrupt, machine};

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

/// A figure of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Metric {
    /// TCP payload over one connection.
    #[value(name = "tcp1_gbps")]
    Tcp1Gbps,
    /// TCP payload over four connections.
    #[value(name = "tcp4_gbps")]
    Tcp4Gbps,
    /// Frames of 64 bytes delivered, one flow.
    #[value(name = "udp64_pps")]
    Udp64Pps,
    /// Frames of 64 bytes delivered, many flows in turn.
    Udp64FlowsPps,
    /// Median round trip.
    #[value(name = "rtt_p50_us")]
    RttP50Us,
    /// 99th percentile of the round trip.
    #[value(name = "rtt_p99_us")]
    RttP99Us,
    /// CPU time of the whole machine per GB over one TCP connection.
    CpuSPerGb,
    /// Frames of 64 bytes delivered, one flow, its sender moved between CPUs 1000 times a second.
    Udp64MovedPps,
    /// Those of them that came after a later one, of a million.
    Udp64MovedLatePpm,
    /// 99th percentile of requests at fixed times, nothing else on its way.
    Probe0P99Us,
    /// The same beside a flood at half of what the path carries.
    Probe50P99Us,
    /// The same at nine tenths.
    Probe90P99Us,
}

impl Metric {
    fn better(self) -> Better {
        match self {
            Self::Tcp1Gbps | Self::Tcp4Gbps | Self::Udp64Pps | Self::Udp64FlowsPps | Self::Udp64MovedPps => {
                Better::Higher
            }
            _ => Better::Lower,
        }
    }

    fn load(self) -> Load {
        match self {
            Self::Tcp1Gbps | Self::CpuSPerGb => Load::Tcp { connections: 1 },
            Self::Tcp4Gbps => Load::Tcp { connections: 4 },
            Self::Udp64Pps => Load::Udp { many: false },
            Self::Udp64FlowsPps => Load::Udp { many: true },
            Self::RttP50Us | Self::RttP99Us => Load::RoundTrip,
            Self::Udp64MovedPps | Self::Udp64MovedLatePpm => Load::Moved,
            Self::Probe0P99Us | Self::Probe50P99Us | Self::Probe90P99Us => Load::Probed,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.to_possible_value().expect("no metric is hidden").get_name())
    }
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

/// What is sent; some loads give two figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Load {
    Tcp { connections: usize },
    Udp { many: bool },
    RoundTrip,
    Moved,
    Probed,
}

impl Load {
    fn measure(self, pair: Pair<'_>, plan: &Plan, warn: impl Fn(String)) -> Result<Vec<(Metric, f64)>> {
        let settled = Window::of(plan.counted, Duration::from_secs(1));
        let brief = Window::of(plan.counted, Duration::from_millis(250));
        Ok(match self {
            Self::Tcp { connections } => {
                let stream = tcp::stream(pair, connections, settled)?;
                match connections {
                    1 => vec![(Metric::Tcp1Gbps, stream.gbps), (Metric::CpuSPerGb, stream.cpu_s_per_gb)],
                    _ => vec![(Metric::Tcp4Gbps, stream.gbps)],
                }
            }
            Self::Udp { many } => {
                let (flows, metric) = if many { (plan.flows, Metric::Udp64FlowsPps) } else { (1, Metric::Udp64Pps) };
                let flood = udp::flood(pair, flows, brief)?;
                if flood.late + flood.duplicates > 0 {
                    let udp::Flood { late, duplicates, delivered, .. } = flood;
                    warn(format!("{late} late and {duplicates} repeated of {delivered} frames, {flows} flows"));
                }
                vec![(metric, flood.delivered_pps)]
            }
            Self::RoundTrip => {
                let trip = round_trip::measure(pair, brief)?;
                if trip.lost > 0 {
                    warn(format!("{} requests got no answer", trip.lost));
                }
                vec![(Metric::RttP50Us, trip.p50_us), (Metric::RttP99Us, trip.p99_us)]
            }
            Self::Moved => {
                let sending = udp::Sending { moves_per_second: MOVES_PER_SECOND, ..udp::Sending::flat_out(1) };
                let flood = udp::send_as(pair, sending, brief)?;
                let late = 1e6 * flood.late as f64 / flood.delivered as f64;
                vec![(Metric::Udp64MovedPps, flood.delivered_pps), (Metric::Udp64MovedLatePpm, late)]
            }
            Self::Probed => probed(pair, brief, warn)?,
        })
    }
}

/// Capacity is what a flood delivers, taken a moment before.
fn probed(pair: Pair<'_>, window: Window, warn: impl Fn(String)) -> Result<Vec<(Metric, f64)>> {
    let capacity = udp::flood(pair, 1, window)?.delivered_pps;
    let longer = Window { counted: window.counted + window.warm_up, ..window };
    let levels = [(0.0, Metric::Probe0P99Us), (0.5, Metric::Probe50P99Us), (0.9, Metric::Probe90P99Us)];
    let mut figures = Vec::new();
    for (share, metric) in levels {
        let pps_max = Some((capacity * share) as u64).filter(|&pps| pps > 0);
        let probe = thread::scope(|scope| {
            let sending = udp::Sending { pps_max, ..udp::Sending::flat_out(1) };
            let beside = pps_max.map(|_| scope.spawn(move || udp::send_as(pair, sending, longer)));
            let probe = probe::measure(pair, PROBES_PER_SECOND, window);
            let sent = beside.map_or(Ok(()), |beside| beside.join().expect("a flood does not panic").map(drop));
            probe.and_then(|probe| sent.map(|()| probe))
        })?;
        if probe.lost > 0 {
            warn(format!("{} requests got no answer beside {:.0} % of the capacity", probe.lost, 100.0 * share));
        }
        figures.push((metric, probe.p99_us));
    }
    Ok(figures)
}

impl fmt::Display for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { connections } => write!(out, "tcp{connections}"),
            Self::Udp { many: false } => out.write_str("udp64"),
            Self::Udp { many: true } => out.write_str("udp64_flows"),
            Self::RoundTrip => out.write_str("rtt"),
            Self::Moved => out.write_str("udp64_moved"),
            Self::Probed => out.write_str("probe"),
        }
    }
}

/// The cases to measure when none are named: one core, and two where there are two.
pub fn default_cases() -> Result<Vec<Case>> {
    let cpus = machine::available_cpus()?;
    let receivers = cpus.iter().take(2);
    Ok(receivers.map(|&receiver| Case { sender: cpus[0], receiver }).collect())
}

const MOVES_PER_SECOND: u32 = 1000;
const PROBES_PER_SECOND: u32 = 1000;
const CHECKED_MEGABYTES: usize = 16;
const SEED: u64 = 0x706F_6473;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_named_as_agreed() {
        let names: Vec<String> = Metric::value_variants().iter().map(Metric::to_string).collect();
        let agreed = "tcp1_gbps tcp4_gbps udp64_pps udp64_flows_pps rtt_p50_us rtt_p99_us cpu_s_per_gb \
                      udp64_moved_pps udp64_moved_late_ppm probe0_p99_us probe50_p99_us probe90_p99_us";
        assert_eq!(names.join(" "), agreed);
    }

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

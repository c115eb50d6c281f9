//! Rounds of loads over several pairs of pods in turn: what all comparisons of switches have in common.
//!
//! Every pair is set up before the first round and stays. A round goes through loads and cases, and for each through all
//! contestants in turn, A B C, so that both figures of a ratio are taken moments apart. Before the first round a
//! checked transfer over each ([`check_transfer`]) refuses one that corrupts.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::ProgressBar;

use crate::error::{Error, Result};
use crate::load::{Case, Family, Pair, transfer};
use crate::report::Comparison;
use crate::topology::Pod;
use crate::{interrupt, machine};

mod metric;

use metric::Load;
pub use metric::Metric;

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Rounds {
    /// How often everything is measured.
    pub count: usize,
    /// How long each load is counted.
    pub counted: Duration,
    /// The CPUs of sender and receiver.
    pub cases: Vec<Case>,
    /// What to report.
    pub metrics: Vec<Metric>,
    /// How many flows `udp64_flows_pps` sends in turn.
    pub flows: usize,
    /// What the pods speak.
    pub family: Family,
}

/// Two pods, and the name of what joins them; loads go from the first to the second.
#[derive(Debug, Clone, Copy)]
pub struct Contestant<'a> {
    /// The name in warnings and errors.
    pub name: &'static str,
    /// Both ends.
    pub pods: &'a [Pod; 2],
}

/// By metric, case and position of the contestant: one figure per round.
#[derive(Debug, Clone, Default)]
pub struct Figures(BTreeMap<(Metric, String, usize), Vec<f64>>);

impl Rounds {
    /// Refuses cases this machine cannot run, and makes room for sockets.
    pub fn prepare(&self) -> Result<()> {
        self.cases.iter().try_for_each(Case::check)?;
        machine::allow_many_open_files()
    }

    /// Measures; warnings go to standard error, `progress` advances once per load.
    pub fn measure(&self, contestants: &[Contestant<'_>], progress: &ProgressBar) -> Result<Figures> {
        let mut loads: Vec<Load> = self.metrics.iter().map(|metric| metric.load()).collect();
        loads.sort();
        loads.dedup();
        progress.set_length((self.count * loads.len() * self.cases.len() * contestants.len()) as u64);
        let mut figures = Figures::default();
        for _ in 0..self.count {
            for (&load, &case) in loads.iter().flat_map(|load| self.cases.iter().map(move |case| (load, case))) {
                for (number, Contestant { name, pods: [from, to] }) in contestants.iter().enumerate() {
                    interrupt::check()?;
                    progress.set_message(format!("{load} {case} {name}"));
                    let pair = Pair { from, to, family: self.family, case: Some(case), urgent: false };
                    let warn = |text| progress.suspend(|| eprintln!("warning: {name}, {case}: {text}"));
                    for (metric, figure) in load.measure(pair, self, warn).map_err(Error::of(name))? {
                        figures.0.entry((metric, case.to_string(), number)).or_default().push(figure);
                    }
                    progress.inc(1);
                }
            }
        }
        Ok(figures)
    }

    /// Every metric in every case, in the order of the report.
    pub fn rows(&self) -> impl Iterator<Item = (Metric, Case)> {
        self.metrics.iter().flat_map(|&metric| self.cases.iter().map(move |&case| (metric, case)))
    }
}

impl Figures {
    /// One contestant beside others, each by its position and a name, in one metric and case; `None` without a round.
    pub fn compare(&self, row: (Metric, Case), subject: usize, peers: &[(&str, usize)]) -> Option<Comparison> {
        let (metric, case) = row;
        let of = |number| self.0.get(&(metric, case.to_string(), number)).map_or(&[][..], Vec::as_slice);
        let peers: Vec<_> = peers.iter().map(|&(name, number)| (name, of(number))).collect();
        Comparison::new((&metric.to_string(), metric.better()), case.to_string(), of(subject), &peers)
    }
}

/// Sends 16 MiB of random bytes from the first pod to the second and fails if others arrive.
pub fn check_transfer(name: &'static str, [from, to]: &[Pod; 2], family: Family) -> Result<()> {
    let pair = Pair { from, to, family, case: None, urgent: false };
    let intact = transfer::is_intact(pair, CHECKED_MEGABYTES, SEED).map_err(Error::of(name))?;
    if intact { Ok(()) } else { Err(Error::Corrupted { wiring: name }) }
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
    fn figures_are_compared_by_metric_case_and_contestant() {
        let cases = ["0|0", "0|1"].map(|case| case.parse().unwrap());
        let rounds = Rounds {
            count: 2,
            counted: Duration::ZERO,
            cases: cases.to_vec(),
            metrics: vec![Metric::RttP50Us],
            flows: 64,
            family: Family::V4,
        };
        let first = [[20.0, 20.0], [22.0, 22.0], [10.0, 20.0], [40.0, 40.0]];
        let all = [(cases[0], first), (cases[1], [[5.0; 2]; 4])].into_iter().flat_map(|(case, figures)| {
            let key = move |number| (Metric::RttP50Us, case.to_string(), number);
            figures.into_iter().enumerate().map(move |(number, rounds)| (key(number), rounds.to_vec()))
        });
        let figures = Figures(all.collect());
        let peers = [("kernel-route", 2), ("tun-tap", 3)];
        let results: Vec<_> = rounds.rows().filter_map(|row| figures.compare(row, 0, &peers)).collect();
        let cases: Vec<&str> = results.iter().map(|result| result.case.as_str()).collect();
        assert_eq!(cases, ["0|0", "0|1"]);
        assert!(results.iter().all(|result| result.metric == "rtt_p50_us"));
        assert_eq!(results[0].peers["kernel-route"].ratio.median, 1.5);
        assert_eq!(results[0].peers["tun-tap"].ratio.median, 0.5);
        assert!(results[1].peers["tun-tap"].ratio.is_tie());
        let other = figures.compare((Metric::RttP50Us, rounds.cases[0]), 1, &[("2 pods", 0)]).unwrap();
        assert_eq!(other.peers["2 pods"].ratio.median, 1.1);
        assert!(figures.compare((Metric::Tcp1Gbps, rounds.cases[0]), 0, &[]).is_none());
    }
}

//! Whether frames of a flow keep their order, whatever their sender does: millions of them, each checked.
//!
//! A setting is a case, a number of flows, a rate, and how often a second the sender goes over to another CPU. It is
//! run in stretches, of a second or so, each with flows of its own, until as many datagrams have been delivered as were asked
//! for, or until it has become clear that they will not be. Loss is told and allowed: a flood outruns its path.
//! A frame that comes late or twice is a failure, and so is a setting that could not be checked in full.

use std::time::Duration;

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::error::Result;
use crate::load::udp::{self, Sending};
use crate::load::{Case, Family, Pair, Window};
use crate::machine::Machine;
use crate::report::{STYLE, count};
use crate::topology::{Program, Topology, Wiring};
use crate::{interrupt, machine};

/// What to check.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What joins the pods.
    pub through: Wiring,
    /// How it is run.
    pub program: Program,
    /// The CPUs of sender and receiver.
    pub cases: Vec<Case>,
    /// How fast is sent.
    pub rates: Vec<Rate>,
    /// How many datagrams are to be delivered in each setting.
    pub wanted: u64,
    /// How long is sent at a time, with flows of its own.
    pub stretch: Duration,
}

/// How fast a setting sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Rate {
    /// Half of what the path was just seen to deliver: next to nothing is lost.
    Half,
    /// As fast as the sender can.
    FlatOut,
}

/// What came of all settings.
#[derive(Debug, Clone, Serialize)]
pub struct Order {
    /// The name of this bench.
    pub bench: &'static str,
    /// Where it ran.
    pub machine: Machine,
    /// What joined the pods.
    pub through: &'static str,
    /// How many datagrams were to be delivered in each setting.
    pub wanted: u64,
    /// One entry per setting.
    pub results: Vec<Outcome>,
}

/// What came of a setting.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// What was set.
    #[serde(flatten)]
    pub setting: Setting,
    /// Datagrams the sender's kernel accepted.
    pub sent: u64,
    /// Distinct datagrams that arrived.
    pub delivered: u64,
    /// Datagrams that never arrived.
    pub lost: u64,
    /// Datagrams that arrived after a later one of their flow.
    pub late: u64,
    /// Datagrams that arrived once more.
    pub repeated: u64,
}

/// Who sends, how, and how much at once.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    /// The CPUs of sender and receiver at the start, such as `0|1`.
    pub case: String,
    /// Flows, in turn.
    pub flows: usize,
    /// How often a second the sender goes over to another CPU.
    pub moves_per_second: u32,
    /// How fast.
    pub rate: Rate,
}

/// Runs the plan; `progress` advances with each datagram delivered.
pub fn run(plan: &Plan, machine: Machine, progress: &ProgressBar) -> Result<Order> {
    plan.cases.iter().try_for_each(Case::check)?;
    machine::allow_many_open_files()?;
    progress.set_message(format!("setting up {}", plan.through));
    let topology = Topology::new(plan.through, &plan.program)?;
    let settings: Vec<(Case, Setting)> = plan.cases.iter().flat_map(|case| settings(*case, &plan.rates)).collect();
    progress.set_length(settings.len() as u64 * plan.wanted);
    let [from, to] = topology.pods();
    let check = |(number, (case, setting)): (u64, (Case, Setting))| {
        progress.set_message(setting.describe());
        let pair = Pair { from, to, family: Family::V4, case: Some(case), urgent: false };
        let outcome = setting.check(pair, plan, progress)?;
        progress.set_position((number + 1) * plan.wanted);
        Ok(outcome)
    };
    let results = (0..).zip(settings).map(check).collect::<Result<_>>()?;
    Ok(Order { bench: "order", machine, through: plan.through.name(), wanted: plan.wanted, results })
}

impl Order {
    /// Whether every setting was checked in full and nothing came late or twice.
    pub fn passed(&self) -> bool {
        self.results.iter().all(|outcome| outcome.verdict(self.wanted) == "ok")
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
        let counts = ["sent", "delivered", "lost", "late", "repeated"];
        table.set_header(["case", "flows", "moved/s", "rate"].into_iter().chain(counts).chain([""]));
        for outcome in &self.results {
            let Outcome { setting, sent, delivered, lost, late, repeated } = outcome;
            let rate = setting.rate.to_possible_value().expect("no rate is hidden").get_name().to_owned();
            let (flows, moves) = (setting.flows.to_string(), setting.moves_per_second.to_string());
            let counts = [sent, delivered, lost, late, repeated].map(|&of| count(of));
            let verdict = outcome.verdict(self.wanted).to_owned();
            table.add_row([setting.case.clone(), flows, moves, rate].into_iter().chain(counts).chain([verdict]));
        }
        for column in [1, 2, 4, 5, 6, 7, 8] {
            table.column_mut(column).expect("has been filled").set_cell_alignment(CellAlignment::Right);
        }
        let Machine { cpu, cores, kernel, date, .. } = &self.machine;
        let wanted = count(self.wanted);
        format!(
            "order through {}, {date}\n{cpu}, {cores} CPUs, Linux {kernel}\n{table}\n\
             case: CPU of the sender|CPU of the receiver; late: after a later one of its flow; \
             short: fewer than {wanted} were delivered",
            self.through
        )
    }
}

impl Outcome {
    /// `ok`, or what is wrong.
    fn verdict(&self, wanted: u64) -> &'static str {
        match (self.late + self.repeated, self.delivered < wanted) {
            (0, false) => "ok",
            (0, true) => "FAILED: short",
            _ => "FAILED",
        }
    }
}

impl Setting {
    fn describe(&self) -> String {
        let Setting { case, flows, moves_per_second, .. } = self;
        format!("{case}, {flows} flows, moved {moves_per_second}/s")
    }

    fn check(self, pair: Pair<'_>, plan: &Plan, progress: &ProgressBar) -> Result<Outcome> {
        let window = Window::of(plan.stretch, Duration::ZERO);
        let flat_out = Sending { moves_per_second: self.moves_per_second, ..Sending::flat_out(self.flows) };
        let pps_max = match self.rate {
            Rate::FlatOut => None,
            // A path that was held up just then is not taken for one that carries next to nothing.
            Rate::Half => Some((udp::send_as(pair, flat_out, window)?.delivered_pps as u64 / 2).max(PPS_MIN)),
        };
        let sending = Sending { pps_max, ..flat_out };
        let mut outcome = Outcome { setting: self, sent: 0, delivered: 0, lost: 0, late: 0, repeated: 0 };
        for _ in 0..plan.wanted.div_ceil(DELIVERED_MIN) {
            interrupt::check()?;
            let flood = udp::send_as(pair, sending, window)?;
            outcome.sent += flood.sent;
            outcome.delivered += flood.delivered;
            outcome.lost += flood.sent - flood.delivered;
            outcome.late += flood.late;
            outcome.repeated += flood.duplicates;
            progress.inc(flood.delivered);
            if outcome.delivered >= plan.wanted {
                break;
            }
        }
        Ok(outcome)
    }
}

/// Every combination: one flow and 64, a sender that stays, moves now and then, and moves all the time.
fn settings(case: Case, rates: &[Rate]) -> Vec<(Case, Setting)> {
    let mut settings = Vec::new();
    for &rate in rates {
        for (flows, moves_per_second) in [1, 64].into_iter().flat_map(|flows| [0, 50, 1000].map(|moves| (flows, moves)))
        {
            settings.push((case, Setting { case: case.to_string(), flows, moves_per_second, rate }));
        }
    }
    settings
}

/// No setting sends fewer a second.
const PPS_MIN: u64 = 50_000;
/// A setting is given up after as many stretches as it would take at so many datagrams each.
const DELIVERED_MIN: u64 = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn order(change: impl FnOnce(&mut Outcome)) -> Order {
        let case = Case { sender: 0, receiver: 1 };
        let outcomes = settings(case, &[Rate::Half, Rate::FlatOut]).into_iter().map(|(_, setting)| Outcome {
            setting,
            sent: 12_000_000,
            delivered: 10_000_000,
            lost: 2_000_000,
            late: 0,
            repeated: 0,
        });
        let mut results: Vec<Outcome> = outcomes.collect();
        change(&mut results[3]);
        let machine = Machine::describe(true).unwrap();
        Order { bench: "order", machine, through: "ours", wanted: 10_000_000, results }
    }

    #[test]
    fn every_combination_is_a_setting() {
        let order = order(|_| ());
        assert_eq!(order.results.len(), 12);
        let third = serde_json::to_value(&order.results[4]).unwrap();
        assert_eq!((&third["case"], &third["flows"]), (&"0|1".into(), &64.into()));
        assert_eq!((&third["moves_per_second"], &third["rate"]), (&50.into(), &"half".into()));
    }

    #[test]
    fn loss_is_allowed() {
        assert!(order(|_| ()).passed());
        assert!(!order(|_| ()).table().contains("FAILED"));
    }

    #[test]
    fn one_frame_late_or_twice_or_a_short_setting_fails() {
        let spoil: [fn(&mut Outcome); 3] =
            [|one| one.late = 1, |one| one.repeated = 1, |one| one.delivered = 9_999_999];
        for spoil in spoil {
            let order = order(spoil);
            assert!(!order.passed() && order.table().contains("FAILED"), "{}", order.table());
        }
    }
}

//! Pod to pod on one node: ours beside the peers, interleaved ([`crate::rounds`]).
//!
//! Our switch may carry further pods, which say nothing. With several numbers of them it is set up once for each, and
//! each is compared with the first: whether traffic slows as a node fills.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::error::Result;
use crate::interrupt;
use crate::machine::Machine;
use crate::report::{Comparison, Report};
use crate::rounds::{self, Contestant, Figures, Rounds};
use crate::topology::{Program, Topology, Wiring};

/// Whom to measure, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whose figures stand in the numerator.
    pub subject: Wiring,
    /// Whose stand in the denominator.
    pub peers: Vec<Wiring>,
    /// What is measured of them, and how often.
    pub rounds: Rounds,
    /// How the switch and the plain forwarder are run.
    pub program: Program,
    /// How many pods are attached to the subject, the two that speak among them: with the first number it is compared
    /// with the peers, with each further number with itself at the first.
    pub pods: Vec<u16>,
}

/// Runs the plan; warnings go to standard error, `progress` advances once per load.
pub fn run(plan: &Plan, machine: Machine, progress: &ProgressBar) -> Result<Report> {
    plan.rounds.prepare()?;
    let subjects = plan.pods.iter().map(|&pods| (plan.subject, pods));
    let all = subjects.chain(plan.peers.iter().map(|&peer| (peer, 2)));
    let topologies = all.map(|(wiring, pods)| set_up(wiring, pods, (plan, progress))).collect::<Result<Vec<_>>>()?;
    let contestant = |topology| Contestant { name: Topology::wiring(topology).name(), pods: topology.pods() };
    let contestants: Vec<_> = topologies.iter().map(contestant).collect();
    let figures = plan.rounds.measure(&contestants, progress)?;
    let report = Report::new("local", machine, plan.rounds.count, compare(plan, &figures));
    Ok(Report { subject: plan.subject.name(), ..report })
}

fn set_up(wiring: Wiring, pods: u16, (plan, progress): (&Plan, &ProgressBar)) -> Result<Topology> {
    interrupt::check()?;
    progress.set_message(format!("setting up {wiring}"));
    let mut topology = Topology::new(wiring, &plan.program)?;
    for number in 2..pods {
        interrupt::check()?;
        progress.set_message(format!("attaching pod {} of {pods}", number + 1));
        topology.attach_silent()?;
    }
    if pods > 2 {
        // Pods that were just attached still speak of multicast for some seconds.
        interrupt::sleep_until(Instant::now() + SETTLE)?;
    }
    rounds::check_transfer(wiring.name(), topology.pods(), plan.rounds.family)?;
    Ok(topology)
}

fn compare(plan: &Plan, figures: &Figures) -> Vec<Comparison> {
    let peers: Vec<_> = plan.peers.iter().map(|peer| peer.name()).zip(plan.pods.len()..).collect();
    let fewest = format!("{} pods", plan.pods[0]);
    let mut results = Vec::new();
    for row in plan.rounds.rows() {
        for (number, &pods) in plan.pods.iter().enumerate() {
            let itself = [(fewest.as_str(), 0)];
            let compared = figures.compare(row, number, if number == 0 { &peers } else { &itself });
            results.extend(compared.map(|result| Comparison { case: label(result.case, pods), ..result }));
        }
    }
    results
}

/// The case, and how many pods there are where it is not the two that speak.
fn label(case: String, pods: u16) -> String {
    if pods == 2 { case } else { format!("{case}, {pods} pods") }
}

const SETTLE: Duration = Duration::from_secs(5);

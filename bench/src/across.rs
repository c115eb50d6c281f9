//! Pod to pod across two nodes: ours beside the peers, interleaved ([`crate::rounds`]).
//!
//! All pairs of nodes are set up on wires of the same kind ([`Underlay`]), so whatever is switched off there is so for all.

use indicatif::ProgressBar;

use crate::error::Result;
use crate::interrupt;
use crate::load::Family;
use crate::machine::Machine;
use crate::report::Report;
use crate::rounds::{self, Contestant, Metric, Rounds};
use crate::topology::Program;
use crate::topology::nodes::{Backend, Crossing, Nodes, Underlay};

/// Whom to measure, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How our switches reach each other.
    pub backend: Backend,
    /// What lies between the nodes.
    pub underlay: Underlay,
    /// Whose figures stand in the numerator.
    pub subject: Crossing,
    /// Whose stand in the denominator.
    pub peers: Vec<Crossing>,
    /// What is measured of them, and how often.
    pub rounds: Rounds,
    /// How the switches and the plain forwarders are run.
    pub program: Program,
}

/// Runs the plan; warnings go to standard error, `progress` advances once per load.
pub fn run(plan: &Plan, machine: Machine, progress: &ProgressBar) -> Result<Report> {
    let Plan { backend, underlay, subject, peers, rounds, .. } = plan;
    let all = [subject].into_iter().chain(peers);
    all.clone().try_for_each(|crossing| crossing.check(*backend, rounds.family, underlay.family))?;
    rounds.prepare()?;
    let pairs = all.map(|&crossing| set_up(crossing, plan, progress)).collect::<Result<Vec<_>>>()?;
    let contestants: Vec<_> =
        pairs.iter().map(|nodes| Contestant { name: nodes.crossing().name(), pods: nodes.pods() }).collect();
    let figures = rounds.measure(&contestants, progress)?;
    let peers: Vec<_> = peers.iter().map(|peer| peer.name()).zip(1..).collect();
    let results = rounds.rows().filter_map(|row| figures.compare(row, 0, &peers)).collect();
    let conditions = format!("{} over {}, {}", rounds.family, underlay.family, underlay.describe());
    let report = Report::new(backend.name(), machine, rounds.count, results);
    Ok(Report { conditions: Some(conditions), subject: subject.name(), ..report })
}

fn set_up(crossing: Crossing, plan: &Plan, progress: &ProgressBar) -> Result<Nodes> {
    interrupt::check()?;
    progress.set_message(format!("setting up {crossing}"));
    let nodes = Nodes::new(crossing, plan.backend, &plan.underlay, &plan.program)?;
    rounds::check_transfer(crossing.name(), nodes.pods(), plan.rounds.family)?;
    Ok(nodes)
}

/// Whom our switches are compared with when nobody is named: all who can carry the same.
pub fn default_peers(backend: Backend, inner: Family, underlay: Family) -> Vec<Crossing> {
    use Crossing::*;
    let peers: &[Crossing] = match backend {
        Backend::Vxlan => &[KernelVxlan, OursToKernel, KernelToOurs, UdpForwarder],
        Backend::Udp => &[UdpForwarder, OursToForwarder, ForwarderToOurs],
        Backend::HostGw => &[KernelHostGw, OursToKernel, KernelToOurs],
    };
    peers.iter().copied().filter(|peer| peer.check(backend, inner, underlay).is_ok()).collect()
}

/// What is reported when nothing is named.
pub const DEFAULT_METRICS: [Metric; 8] = [
    Metric::Tcp1Gbps,
    Metric::Tcp4Gbps,
    Metric::Udp64Pps,
    Metric::Udp64LatePpm,
    Metric::Udp64Flows64Pps,
    Metric::RttP50Us,
    Metric::RttP99Us,
    Metric::CpuSPerGb,
];

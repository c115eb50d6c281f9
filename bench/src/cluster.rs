//! What it costs a node that there are many others: one real agent and switch, a real etcd, and leases of nodes that are not there.
//!
//! The others are written into etcd as flannel's nodes write themselves, each at an address of its own. What the switch knows is
//! read from the switch itself, so a figure holds everything on the way: etcd, the agent, control, and publishing the change.
//!
//! | metric | what |
//! |---|---|
//! | `programmed_ms` | start of a fresh agent's process until its switch knows all nodes |
//! | `agent_rss_mb`, `switch_rss_mb` | memory of both then |
//! | `change_p50_ms`, `change_p99_ms` | one node comes or goes, a write into etcd until the switch has it; one at a time |
//! | `behind_ms` | a thousand changes a second for as long as they last, and how long after the last the switch has them all |

use std::fs;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use etcd_client::{Client, Txn, TxnOp};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tokio::runtime::{self, Runtime};

use crate::error::{Error, Result};
use crate::interrupt;
use crate::machine::Machine;
use crate::report::{Better, Comparison, Report};
use crate::topology::cluster::{Cluster, Member, Store, wait};
use crate::topology::nodes::Backend;

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many other nodes there are; each number is a case.
    pub nodes: Vec<u16>,
    /// Nodes that come or go one at a time.
    pub changes: u16,
    /// For how long a thousand changes a second are made.
    pub stream: Duration,
    /// How often everything is measured.
    pub rounds: usize,
}

/// Runs the plan; `progress` advances once per case and round.
pub fn run(plan: &Plan, machine: Machine, progress: &ProgressBar) -> Result<Report> {
    progress.set_length((plan.rounds * plan.nodes.len()) as u64);
    let mut results = Vec::new();
    for &nodes in &plan.nodes {
        let mut rounds: [Vec<f64>; METRICS.len()] = Default::default();
        for _ in 0..plan.rounds {
            progress.set_message(format!("{nodes} nodes"));
            let figures = measure(plan, nodes)?;
            rounds.iter_mut().zip(figures).for_each(|(all, figure)| all.push(figure));
            progress.inc(1);
        }
        let case = |(metric, rounds): (_, &Vec<f64>)| {
            Comparison::new((metric, Better::Lower), format!("{nodes} nodes"), rounds, &[])
        };
        results.extend(METRICS.into_iter().zip(&rounds).filter_map(case));
    }
    Ok(Report::new("cluster", machine, plan.rounds, results))
}

/// The figures in the order of [`METRICS`].
fn measure(plan: &Plan, nodes: u16) -> Result<[f64; METRICS.len()]> {
    let cluster = Cluster::new(Store::Etcd, Backend::Vxlan, LEASE)?;
    let mut member = cluster.join(1)?;
    member.kill_agent();
    // The thread that speaks to etcd lives in the hub; what it uses is made there.
    cluster.hub().run(|| {
        let mut writer = Writer::connect()?;
        writer.write((0..nodes).map(|node| (node, true)))?;
        let began = Instant::now();
        member.start_agent()?;
        member.wait_for_neighbors(nodes.into())?;
        let programmed = began.elapsed();
        let (agent, switch) = (member.agent(), member.switch());
        let resident = [resident_mb(agent)?, resident_mb(switch)?];
        let changes = one_by_one(plan, (&member, &mut writer), nodes)?;
        let behind = stream(plan, (&member, &mut writer), nodes)?;
        let percentile = |percent| changes.value_at_quantile(percent) as f64 / 1e3;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Ok([ms(programmed), resident[0], resident[1], percentile(0.5), percentile(0.99), ms(behind)])
    })?
}

/// One further node comes or goes, and is waited for; in microseconds.
fn one_by_one(plan: &Plan, (member, writer): (&Member, &mut Writer), nodes: u16) -> Result<Histogram<u64>> {
    let mut took = Histogram::new(3).expect("three digits are few enough");
    for change in 0..plan.changes {
        interrupt::check()?;
        let comes = change % 2 == 0;
        let count = usize::from(nodes) + usize::from(comes);
        let began = Instant::now();
        writer.write([(nodes, comes)].into_iter())?;
        while member.neighbors()? != count {
            if began.elapsed() > LATE {
                return Err(Error::NothingArrived { what: "a single change".to_owned(), waited: LATE });
            }
            thread::sleep(LOOK);
        }
        took.record(began.elapsed().as_micros() as u64).expect("the histogram grows");
        thread::sleep(PAUSE);
    }
    Ok(took)
}

/// A thousand nodes a second come or go, some at a time; how long after the last of them the switch has it all.
fn stream(plan: &Plan, (member, writer): (&Member, &mut Writer), nodes: u16) -> Result<Duration> {
    let first = Instant::now();
    let batches = (plan.stream.as_secs_f64() * 1000.0 / f64::from(BATCH)) as u32;
    for batch in 0..batches {
        let comes = batch % 2 == 0;
        writer.write((0..BATCH).map(|node| (nodes + node, comes)))?;
        interrupt::sleep_until(first + Duration::from_millis(u64::from(BATCH)) * (batch + 1))?;
    }
    // As many as there never were before, so that no earlier step passes for this one.
    writer.write((0..=BATCH).map(|node| (nodes + node, true)))?;
    let last = Instant::now();
    let all = usize::from(nodes) + usize::from(BATCH) + 1;
    wait("the end of a stream of changes", || Ok((member.neighbors()? == all).then_some(())))?;
    Ok(last.elapsed())
}

/// Who writes the leases of others.
struct Writer {
    runtime: Runtime,
    client: Client,
}

impl Writer {
    fn connect() -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::system("start the runtime of etcd's client"))?;
        let client = runtime.block_on(Client::connect([Cluster::url()], None)).map_err(Error::etcd("connect"))?;
        Ok(Self { runtime, client })
    }

    /// Has nodes come or go, as many at once as etcd takes.
    fn write(&mut self, changes: impl Iterator<Item = (u16, bool)>) -> Result<()> {
        let put = |(node, comes)| {
            let (key, value) = lease(node);
            if comes { TxnOp::put(key, value, None) } else { TxnOp::delete(key, None) }
        };
        let mut changes = changes.map(put).peekable();
        while changes.peek().is_some() {
            let some: Vec<TxnOp> = changes.by_ref().take(AT_ONCE).collect();
            let written = self.runtime.block_on(self.client.txn(Txn::new().and_then(some)));
            written.map_err(Error::etcd("write leases"))?;
        }
        Ok(())
    }
}

/// The lease of a node that is not there, as flannel writes it. The real node's own address is in none.
fn lease(node: u16) -> (String, String) {
    let [high, low] = node.to_be_bytes();
    let pods = u32::from(Ipv4Addr::new(10, 160, 0, 0)) + (u32::from(node) << 8);
    let (pods, address) = (Ipv4Addr::from(pods), Ipv4Addr::new(172, 20, high, low));
    let value = format!(
        r#"{{"PublicIP":"{address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"02:14:00:00:{high:02x}:{low:02x}"}}}}"#
    );
    (format!("/coreos.com/network/subnets/{pods}-24"), value)
}

fn resident_mb(process: Option<u32>) -> Result<f64> {
    let process = process.expect("the program runs until its node is dropped");
    let text =
        fs::read_to_string(format!("/proc/{process}/status")).map_err(Error::system("read a process's memory"))?;
    let kib =
        text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    Ok(kib.unwrap_or(f64::NAN) / 1e3 * 1.024)
}

const METRICS: [&str; 6] =
    ["programmed_ms", "agent_rss_mb", "switch_rss_mb", "change_p50_ms", "change_p99_ms", "behind_ms"];
/// etcd's own limit of a transaction.
const AT_ONCE: usize = 128;
/// Nodes that a stream's step changes.
const BATCH: u16 = 20;
const LEASE: Duration = Duration::from_secs(3600);
const LATE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);
const LOOK: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_taken_of_nodes_that_are_not_there() {
        let plan = Plan { nodes: vec![30], changes: 4, stream: Duration::from_millis(80), rounds: 1 };
        let report = run(&plan, Machine::describe(true).unwrap(), &ProgressBar::hidden()).unwrap();
        let figures: Vec<_> =
            report.results.iter().map(|figure| (figure.metric.as_str(), figure.ours.median)).collect();
        assert_eq!(figures.iter().map(|(metric, _)| *metric).collect::<Vec<_>>(), METRICS);
        assert!(figures.iter().all(|(_, figure)| figure.is_finite() && *figure > 0.0), "{figures:?}");
    }
}

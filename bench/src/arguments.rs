//! The arguments of each command, and what is to be measured by them.

use std::time::Duration;

use clap::ValueEnum;
use podswitch_bench::load::{Case, Family};
use podswitch_bench::local::Plan;
use podswitch_bench::lookup::{Peer, TableName};
use podswitch_bench::order::Rate;
use podswitch_bench::rounds::{self, Metric, Rounds};
use podswitch_bench::topology::cluster::Store;
use podswitch_bench::topology::nodes::{Backend, Crossing, Offloads, Underlay};
use podswitch_bench::topology::{PODS_MAX, Program, Wiring};
use podswitch_bench::{Error, Result, across, cluster, node, order, path};

use crate::values;

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArguments {
    /// One node with two pods, or two nodes with a pod each; three and more find each other by agents.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) nodes: u8,
    /// What three and more nodes share.
    #[arg(long, default_value = "etcd", value_name = "STORE")]
    pub(crate) store: Store,
    /// How nodes reach each other.
    #[arg(long, default_value = "vxlan", value_name = "BACKEND")]
    pub(crate) backend: Backend,
    /// Seconds each throughput is counted.
    #[arg(long, default_value = "2", value_name = "S", value_parser = values::seconds)]
    pub(crate) seconds: Duration,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LocalArguments {
    #[command(flatten)]
    pub(crate) rounds: RoundsArguments,
    /// Whom to compare with; nobody without a name.
    #[arg(long, num_args = 0.., value_delimiter = ',', value_name = "PEER", value_parser = values::peer, default_value = DEFAULT_PEERS)]
    pub(crate) peers: Vec<Wiring>,
    #[command(flatten)]
    pub(crate) program: ProgramArguments,
    /// How many pods are attached to the switch, two of which speak; further numbers are compared with the first.
    #[arg(long, value_delimiter = ',', default_value = "2", value_name = "N", value_parser = clap::value_parser!(u16).range(2..=i64::from(PODS_MAX)))]
    pub(crate) pods: Vec<u16>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is measured of several switches in turn.
#[derive(Debug, clap::Args)]
pub(crate) struct RoundsArguments {
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// Seconds each load is counted, after its warm-up.
    #[arg(long, default_value = "2", value_name = "S", value_parser = values::seconds)]
    pub(crate) seconds: Duration,
    /// CPU of the sender|CPU of the receiver; by default one core, and two where there are two.
    #[arg(long, value_delimiter = ',', value_name = "CASE")]
    pub(crate) cases: Vec<Case>,
    /// What to report; by default everything, or between nodes what is asked most.
    #[arg(long, value_delimiter = ',', value_name = "METRIC")]
    pub(crate) metrics: Vec<Metric>,
    /// How many flows udp64_flows_pps sends in turn.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=20_000))]
    pub(crate) flows: u16,
    /// What the pods speak: IPv4 or IPv6.
    #[arg(long, default_value = "4", value_name = "4|6", hide_possible_values = true)]
    pub(crate) family: Family,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AcrossArguments {
    #[command(flatten)]
    pub(crate) rounds: RoundsArguments,
    /// Whose figures are compared with those of the peers.
    #[arg(long, default_value = "ours", value_name = "NODES", hide_possible_values = true)]
    pub(crate) subject: Crossing,
    /// Whom to compare with, by default all who speak the same; nobody without a name.
    #[arg(long, num_args = 0.., value_delimiter = ',', value_name = "NODES")]
    pub(crate) peers: Option<Vec<Crossing>>,
    #[command(flatten)]
    pub(crate) program: ProgramArguments,
    /// What tunnels run over: IPv4 or IPv6; without a tunnel it is what the pods speak.
    #[arg(long, value_name = "4|6", hide_possible_values = true)]
    pub(crate) underlay: Option<Family>,
    /// MTU of the wire between the nodes; that of the pods is less by what the tunnel adds.
    #[arg(long, default_value_t = 1500, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1400..=65_535))]
    pub(crate) mtu: u32,
    /// What both ends of the wire take off the kernel's hands.
    #[arg(long, default_value = "on", value_name = "WHAT")]
    pub(crate) underlay_offloads: Offloads,
    /// Of a hundred frames on the wire, how many are lost each way; one that crosses uncut is lost whole.
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=50))]
    pub(crate) loss: u8,
    /// Of a hundred frames on the wire, how many arrive after later ones, each way; the wire is a plain forwarder then.
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=50), conflicts_with = "underlay_offloads")]
    pub(crate) reorder: u8,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OrderArguments {
    /// Millions of datagrams to be delivered in each setting.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) millions: u16,
    /// How fast to send: half of what the path delivers, so that next to nothing is lost, or as fast as it goes.
    #[arg(long, value_delimiter = ',', value_name = "RATE", default_value = "half,flat-out")]
    pub(crate) rates: Vec<Rate>,
    /// CPU of the sender|CPU of the receiver; by default one core, and two where there are two.
    #[arg(long, value_delimiter = ',', value_name = "CASE")]
    pub(crate) cases: Vec<Case>,
    /// What joins the pods.
    #[arg(long, value_name = "SWITCH", default_value = "ours")]
    pub(crate) through: Wiring,
    #[command(flatten)]
    pub(crate) program: ProgramArguments,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How what stands between the pods is run.
#[derive(Debug, clap::Args)]
pub(crate) struct ProgramArguments {
    /// The CPU of the switch and of the plain forwarder; `none` leaves the forwarder to the scheduler and the switch to its own choice.
    #[arg(long, default_value = "none", value_name = "N|none", value_parser = values::cpu_or_none)]
    pub(crate) switch_cpu: values::SwitchCpu,
    /// A line of the switch's configuration, in TOML; repeatable.
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::setting)]
    pub(crate) switch_config: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct NodeArguments {
    /// How many pods are attached.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u16).range(i64::from(node::PODS_MIN)..=i64::from(PODS_MAX)))]
    pub(crate) pods: u16,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// Seconds each load is counted.
    #[arg(long, default_value = "3", value_name = "S", value_parser = values::seconds)]
    pub(crate) seconds: Duration,
    /// What to report; everything by default.
    #[arg(long, value_delimiter = ',', value_name = "METRIC")]
    pub(crate) metrics: Vec<node::Metric>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CniArguments {
    /// How many pods come and go in each figure.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) pods: u16,
    /// How many at once; each number is a case.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) at_once: Vec<u16>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ClusterArguments {
    /// How many other nodes there are; each number is a case.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,5000", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=24_000))]
    pub(crate) nodes: Vec<u16>,
    /// Nodes that come or go one at a time.
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) changes: u16,
    /// Seconds for which a thousand changes a second are made.
    #[arg(long, default_value = "5", value_name = "S", value_parser = values::seconds)]
    pub(crate) seconds: Duration,
    /// How often everything is measured.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PathArguments {
    /// How many pods send, each to the next.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=250))]
    pub(crate) pods: u8,
    /// How often everything is measured.
    #[arg(long, default_value_t = 9, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// Seconds each figure is counted.
    #[arg(long, default_value = "0.5", value_name = "S", value_parser = values::seconds)]
    pub(crate) seconds: Duration,
    /// Compare with the path on two and on three threads, and with two switches beside each other.
    #[arg(long)]
    pub(crate) pipeline: bool,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LookupArguments {
    /// Which tables; all by default.
    #[arg(long, value_delimiter = ',', value_name = "TABLE")]
    pub(crate) tables: Vec<TableName>,
    /// Whom to compare with; all by default.
    #[arg(long, value_delimiter = ',', value_name = "PEER")]
    pub(crate) peers: Vec<Peer>,
    #[command(flatten)]
    pub(crate) memory: MemoryArguments,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MemoryArguments {
    /// How often everything is measured; many short rounds, so that the median leaves out those that others disturbed.
    #[arg(long, default_value_t = 31, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// Milliseconds each figure is counted, about.
    #[arg(long, default_value_t = 5, value_name = "MS", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) milliseconds: u16,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

impl LocalArguments {
    pub(crate) fn plan(&self) -> Result<Plan> {
        Ok(Plan {
            subject: Wiring::Ours,
            peers: self.peers.clone(),
            rounds: self.rounds.rounds(Metric::value_variants())?,
            program: self.program.program(),
            pods: self.pods.clone(),
        })
    }
}

impl AcrossArguments {
    pub(crate) fn plan(&self, backend: Backend) -> Result<across::Plan> {
        let inner = self.rounds.family;
        let underlay = self.underlay.unwrap_or(if backend == Backend::HostGw { inner } else { Family::V4 });
        if backend == Backend::HostGw && underlay != inner {
            return Err(Error::NotCarried { backend: backend.name(), inner, underlay });
        }
        Ok(across::Plan {
            backend,
            underlay: Underlay {
                family: underlay,
                mtu: self.mtu,
                offloads: self.underlay_offloads,
                loss_percent: self.loss,
                reorder_percent: self.reorder,
            },
            subject: self.subject,
            peers: self.peers.clone().unwrap_or_else(|| across::default_peers(backend, inner, underlay)),
            rounds: self.rounds.rounds(&across::DEFAULT_METRICS)?,
            program: self.program.program(),
        })
    }
}

impl RoundsArguments {
    pub(crate) fn rounds(&self, metrics: &[Metric]) -> Result<Rounds> {
        Ok(Rounds {
            count: self.rounds.into(),
            counted: self.seconds,
            cases: cases(&self.cases)?,
            metrics: if self.metrics.is_empty() { metrics } else { &self.metrics }.to_vec(),
            flows: self.flows.into(),
            family: self.family,
        })
    }
}

impl OrderArguments {
    pub(crate) fn plan(&self) -> Result<order::Plan> {
        Ok(order::Plan {
            through: self.through,
            program: self.program.program(),
            cases: cases(&self.cases)?,
            rates: self.rates.clone(),
            wanted: u64::from(self.millions) * 1_000_000,
            stretch: Duration::from_secs(1),
        })
    }
}

impl ProgramArguments {
    pub(crate) fn program(&self) -> Program {
        let configuration = self.switch_config.iter().map(|line| format!("{line}\n")).collect();
        Program { cpu: self.switch_cpu.0, configuration }
    }
}

impl NodeArguments {
    pub(crate) fn plan(&self) -> node::Plan {
        let all = || node::Metric::value_variants().to_vec();
        node::Plan {
            pods: self.pods,
            metrics: if self.metrics.is_empty() { all() } else { self.metrics.clone() },
            rounds: self.rounds.into(),
            counted: self.seconds,
        }
    }
}

impl ClusterArguments {
    pub(crate) fn plan(&self) -> cluster::Plan {
        let Self { ref nodes, changes, seconds, rounds, .. } = *self;
        cluster::Plan { nodes: nodes.clone(), changes, stream: seconds, rounds: rounds.into() }
    }
}

impl PathArguments {
    pub(crate) fn plan(&self) -> path::Plan {
        path::Plan {
            pods: self.pods.into(),
            rounds: self.rounds.into(),
            counted: self.seconds,
            pipeline: self.pipeline,
        }
    }
}

impl MemoryArguments {
    pub(crate) fn counted(&self) -> Duration {
        Duration::from_millis(self.milliseconds.into())
    }
}

fn cases(named: &[Case]) -> Result<Vec<Case>> {
    if named.is_empty() { rounds::default_cases() } else { Ok(named.to_vec()) }
}

const DEFAULT_PEERS: &str = "kernel-route,kernel-bridge,tun-tap";

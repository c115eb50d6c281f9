//! The command line of `podswitch-bench`.

mod examples;
mod values;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use podswitch_bench::across;
use podswitch_bench::cni;
use podswitch_bench::demo::Demo;
use podswitch_bench::flow_cache;
use podswitch_bench::load::{Case, Family};
use podswitch_bench::local::{self, Plan};
use podswitch_bench::lookup::{self, Peer, TableName};
use podswitch_bench::machine::{self, Machine};
use podswitch_bench::node;
use podswitch_bench::order::{self, Order, Rate};
use podswitch_bench::path;
use podswitch_bench::report::Report;
use podswitch_bench::ring;
use podswitch_bench::rounds::{self, Metric, Rounds};
use podswitch_bench::topology::nodes::{Backend, Crossing, Offloads, Underlay};
use podswitch_bench::topology::{PODS_MAX, Program, Wiring, forwarder};
use podswitch_bench::{Error, Result, interrupt};

/// Demo and side-by-side benches of podswitch.
///
/// Everything runs in network namespaces made for the run and removed after it; root is needed. The `podswitch`
/// binary is taken from the folder this program lies in.
#[derive(Debug, Parser)]
#[command(version, after_help = examples::EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a switch and two pods, or two of both, check that all arrives whole, and measure how fast.
    #[command(after_help = examples::DEMO_EXAMPLES)]
    Demo(DemoArguments),
    /// Compare pod-to-pod traffic on one node with the kernel and a plain forwarder.
    #[command(after_help = examples::LOCAL_EXAMPLES)]
    Local(LocalArguments),
    /// Compare pod-to-pod traffic between two nodes over VXLAN with the kernel and a plain forwarder.
    #[command(after_help = examples::VXLAN_EXAMPLES)]
    Vxlan(AcrossArguments),
    /// The same over flannel's UDP tunnel.
    #[command(after_help = examples::UDP_EXAMPLES)]
    Udp(AcrossArguments),
    /// The same without a tunnel, each node being the other's router.
    #[command(after_help = examples::HOST_GW_EXAMPLES)]
    HostGw(AcrossArguments),
    /// Send millions of datagrams whose order is checked, from a sender that stays and from one that moves.
    #[command(after_help = examples::ORDER_EXAMPLES)]
    Order(OrderArguments),
    /// Measure what a switch with many pods costs its node, and what it spares them.
    #[command(after_help = examples::NODE_EXAMPLES)]
    Node(NodeArguments),
    /// Measure how fast pods are attached by CNI plugins, ours beside bridge and ptp.
    #[command(after_help = examples::CNI_EXAMPLES)]
    Cni(CniArguments),
    /// Measure the path alone, between ports in memory; needs no root.
    #[command(after_help = examples::PATH_EXAMPLES)]
    Path(PathArguments),
    /// Compare the route table with those of others, in memory; needs no root.
    #[command(after_help = examples::LOOKUP_EXAMPLES)]
    Lookup(LookupArguments),
    /// Compare our rings with those of others, in memory; needs no root.
    #[command(after_help = examples::RING_EXAMPLES)]
    Ring(MemoryArguments),
    /// Compare the flow cache with hash tables of others, in memory; needs no root.
    #[command(after_help = examples::FLOW_CACHE_EXAMPLES)]
    FlowCache(MemoryArguments),
    /// Forward frames between TAPs made in two namespaces until standard input ends.
    #[command(hide = true)]
    Forwarder {
        first: PathBuf,
        second: PathBuf,
        /// Of a hundred frames, how many go after later ones.
        #[arg(long, default_value_t = 0)]
        reorder: u8,
    },
    /// Forward between a TUN made here and another node until standard input ends.
    #[command(hide = true)]
    UdpForwarder { own: Ipv4Addr, peer: Ipv4Addr },
}

#[derive(Debug, clap::Args)]
struct DemoArguments {
    /// One node with two pods, or two nodes with a pod each.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    nodes: u8,
    /// How two nodes reach each other.
    #[arg(long, default_value = "vxlan", value_name = "BACKEND")]
    backend: Backend,
    /// Seconds each throughput is counted.
    #[arg(long, default_value = "2", value_name = "S", value_parser = values::seconds)]
    seconds: Duration,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct LocalArguments {
    #[command(flatten)]
    rounds: RoundsArguments,
    /// Whom to compare with; nobody without a name.
    #[arg(long, num_args = 0.., value_delimiter = ',', value_name = "PEER", value_parser = values::peer, default_value = DEFAULT_PEERS)]
    peers: Vec<Wiring>,
    #[command(flatten)]
    program: ProgramArguments,
    /// How many pods are attached to the switch, two of which speak; further numbers are compared with the first.
    #[arg(long, value_delimiter = ',', default_value = "2", value_name = "N", value_parser = clap::value_parser!(u16).range(2..=i64::from(PODS_MAX)))]
    pods: Vec<u16>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// What is measured of several switches in turn.
#[derive(Debug, clap::Args)]
struct RoundsArguments {
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Seconds each load is counted, after its warm-up.
    #[arg(long, default_value = "2", value_name = "S", value_parser = values::seconds)]
    seconds: Duration,
    /// CPU of the sender|CPU of the receiver; by default one core, and two where there are two.
    #[arg(long, value_delimiter = ',', value_name = "CASE")]
    cases: Vec<Case>,
    /// What to report; by default everything, or between nodes what is asked most.
    #[arg(long, value_delimiter = ',', value_name = "METRIC")]
    metrics: Vec<Metric>,
    /// How many flows udp64_flows_pps sends in turn.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=20_000))]
    flows: u16,
    /// What the pods speak: IPv4 or IPv6.
    #[arg(long, default_value = "4", value_name = "4|6", hide_possible_values = true)]
    family: Family,
}

#[derive(Debug, clap::Args)]
struct AcrossArguments {
    #[command(flatten)]
    rounds: RoundsArguments,
    /// Whose figures are compared with those of the peers.
    #[arg(long, default_value = "ours", value_name = "NODES", hide_possible_values = true)]
    subject: Crossing,
    /// Whom to compare with, by default all who speak the same; nobody without a name.
    #[arg(long, num_args = 0.., value_delimiter = ',', value_name = "NODES")]
    peers: Option<Vec<Crossing>>,
    #[command(flatten)]
    program: ProgramArguments,
    /// What tunnels run over: IPv4 or IPv6; without a tunnel it is what the pods speak.
    #[arg(long, value_name = "4|6", hide_possible_values = true)]
    underlay: Option<Family>,
    /// MTU of the wire between the nodes; that of the pods is less by what the tunnel adds.
    #[arg(long, default_value_t = 1500, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1400..=65_535))]
    mtu: u32,
    /// What both ends of the wire take off the kernel's hands.
    #[arg(long, default_value = "on", value_name = "WHAT")]
    underlay_offloads: Offloads,
    /// Of a hundred frames on the wire, how many are lost each way; one that crosses uncut is lost whole.
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=50))]
    loss: u8,
    /// Of a hundred frames on the wire, how many arrive after later ones, each way; the wire is a plain forwarder then.
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=50), conflicts_with = "underlay_offloads")]
    reorder: u8,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct OrderArguments {
    /// Millions of datagrams to be delivered in each setting.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    millions: u16,
    /// How fast to send: half of what the path delivers, so that next to nothing is lost, or as fast as it goes.
    #[arg(long, value_delimiter = ',', value_name = "RATE", default_value = "half,flat-out")]
    rates: Vec<Rate>,
    /// CPU of the sender|CPU of the receiver; by default one core, and two where there are two.
    #[arg(long, value_delimiter = ',', value_name = "CASE")]
    cases: Vec<Case>,
    /// What joins the pods.
    #[arg(long, value_name = "SWITCH", default_value = "ours")]
    through: Wiring,
    #[command(flatten)]
    program: ProgramArguments,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// How what stands between the pods is run.
#[derive(Debug, clap::Args)]
struct ProgramArguments {
    /// The CPU of the switch and of the plain forwarder; `none` leaves the forwarder to the scheduler and the switch to its own choice.
    #[arg(long, default_value = "none", value_name = "N|none", value_parser = values::cpu_or_none)]
    switch_cpu: values::SwitchCpu,
    /// A line of the switch's configuration, in TOML; repeatable.
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::setting)]
    switch_config: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct NodeArguments {
    /// How many pods are attached.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u16).range(i64::from(node::PODS_MIN)..=i64::from(PODS_MAX)))]
    pods: u16,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Seconds each load is counted.
    #[arg(long, default_value = "3", value_name = "S", value_parser = values::seconds)]
    seconds: Duration,
    /// What to report; everything by default.
    #[arg(long, value_delimiter = ',', value_name = "METRIC")]
    metrics: Vec<node::Metric>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct CniArguments {
    /// How many pods come and go in each figure.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pods: u16,
    /// How many at once; each number is a case.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    at_once: Vec<u16>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct PathArguments {
    /// How many pods send, each to the next.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=250))]
    pods: u8,
    /// How often everything is measured.
    #[arg(long, default_value_t = 9, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Seconds each figure is counted.
    #[arg(long, default_value = "0.5", value_name = "S", value_parser = values::seconds)]
    seconds: Duration,
    /// Compare with the path on two and on three threads, and with two switches beside each other.
    #[arg(long)]
    pipeline: bool,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct LookupArguments {
    /// Which tables; all by default.
    #[arg(long, value_delimiter = ',', value_name = "TABLE")]
    tables: Vec<TableName>,
    /// Whom to compare with; all by default.
    #[arg(long, value_delimiter = ',', value_name = "PEER")]
    peers: Vec<Peer>,
    #[command(flatten)]
    memory: MemoryArguments,
}

#[derive(Debug, clap::Args)]
struct MemoryArguments {
    /// How often everything is measured; many short rounds, so that the median leaves out those that others disturbed.
    #[arg(long, default_value_t = 31, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Milliseconds each figure is counted, about.
    #[arg(long, default_value_t = 5, value_name = "MS", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    milliseconds: u16,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    run(Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("podswitch-bench: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Forwarder { first, second, reorder } => {
            forwarder::run(&[first.clone(), second.clone()], *reorder)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::UdpForwarder { own, peer } => {
            forwarder::udp::run(*own, *peer)?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    interrupt::install()?;
    let priority_raised = machine::raise_priority();
    if !priority_raised {
        eprintln!(
            "warning: the scheduler's autogroup could not be raised: neighbours on this machine may slow the runs"
        );
    }
    let measure = |json, run: &dyn Fn(Machine, &ProgressBar) -> Result<Report>| {
        let progress = ProgressBar::no_length().with_style(progress_style());
        let report = run(Machine::describe(priority_raised)?, &progress)?;
        progress.finish_and_clear();
        print(&report, json, Report::table)
    };
    let across = |backend, arguments: &AcrossArguments| {
        let plan = arguments.plan(backend)?;
        measure(arguments.json, &|machine, progress| across::run(&plan, machine, progress))
    };
    match arguments.command {
        Command::Demo(arguments) => return demo(&arguments),
        Command::Order(arguments) => return order(&arguments, Machine::describe(priority_raised)?),
        Command::Local(arguments) => {
            let plan = arguments.plan()?;
            measure(arguments.json, &|machine, progress| local::run(&plan, machine, progress))?;
        }
        Command::Vxlan(arguments) => across(Backend::Vxlan, &arguments)?,
        Command::Udp(arguments) => across(Backend::Udp, &arguments)?,
        Command::HostGw(arguments) => across(Backend::HostGw, &arguments)?,
        Command::Node(arguments) => {
            measure(arguments.json, &|machine, progress| node::run(&arguments.plan(), machine, progress))?;
        }
        Command::Cni(arguments) => {
            let CniArguments { pods, ref at_once, rounds, json } = arguments;
            let plan = cni::Plan { pods, at_once: at_once.clone(), rounds: rounds.into() };
            measure(json, &|machine, progress| cni::run(&plan, machine, progress))?;
        }
        Command::Path(arguments) => {
            measure(arguments.json, &|machine, progress| path::run(&arguments.plan(), machine, progress))?;
        }
        Command::Lookup(LookupArguments { ref tables, ref peers, memory }) => {
            let (tables, peers) = (tables.clone(), peers.clone());
            let plan = lookup::Plan { tables, peers, rounds: memory.rounds.into(), counted: memory.counted() };
            measure(memory.json, &|machine, progress| lookup::run(&plan, machine, progress))?;
        }
        Command::Ring(arguments) => {
            let plan = ring::Plan { rounds: arguments.rounds.into(), counted: arguments.counted() };
            measure(arguments.json, &|machine, progress| ring::run(&plan, machine, progress))?;
        }
        Command::FlowCache(arguments) => {
            let plan = flow_cache::Plan { rounds: arguments.rounds.into(), counted: arguments.counted() };
            measure(arguments.json, &|machine, progress| flow_cache::run(&plan, machine, progress))?;
        }
        Command::Forwarder { .. } | Command::UdpForwarder { .. } => unreachable!("has been run above"),
    }
    Ok(ExitCode::SUCCESS)
}

fn demo(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    let demo = match arguments.nodes {
        1 => Demo::on_one_node(arguments.seconds)?,
        _ => Demo::across(arguments.backend, arguments.seconds)?,
    };
    print(&demo, arguments.json, Demo::table)?;
    Ok(if demo.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn order(arguments: &OrderArguments, machine: Machine) -> anyhow::Result<ExitCode> {
    let progress = ProgressBar::no_length().with_style(progress_style());
    let order = order::run(&arguments.plan()?, machine, &progress)?;
    progress.finish_and_clear();
    print(&order, arguments.json, Order::table)?;
    Ok(if order.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl LocalArguments {
    fn plan(&self) -> Result<Plan> {
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
    fn plan(&self, backend: Backend) -> Result<across::Plan> {
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
    fn rounds(&self, metrics: &[Metric]) -> Result<Rounds> {
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
    fn plan(&self) -> Result<order::Plan> {
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
    fn program(&self) -> Program {
        let configuration = self.switch_config.iter().map(|line| format!("{line}\n")).collect();
        Program { cpu: self.switch_cpu.0, configuration }
    }
}

impl NodeArguments {
    fn plan(&self) -> node::Plan {
        let all = || node::Metric::value_variants().to_vec();
        node::Plan {
            pods: self.pods,
            metrics: if self.metrics.is_empty() { all() } else { self.metrics.clone() },
            rounds: self.rounds.into(),
            counted: self.seconds,
        }
    }
}

impl PathArguments {
    fn plan(&self) -> path::Plan {
        path::Plan {
            pods: self.pods.into(),
            rounds: self.rounds.into(),
            counted: self.seconds,
            pipeline: self.pipeline,
        }
    }
}

impl MemoryArguments {
    fn counted(&self) -> Duration {
        Duration::from_millis(self.milliseconds.into())
    }
}

fn cases(named: &[Case]) -> Result<Vec<Case>> {
    if named.is_empty() { rounds::default_cases() } else { Ok(named.to_vec()) }
}

fn print<T: Serialize>(result: &T, json: bool, table: impl Fn(&T) -> String) -> anyhow::Result<()> {
    let text = if json { serde_json::to_string(result)? } else { table(result) };
    println!("{text}");
    Ok(())
}

fn progress_style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} of about {duration}  {msg}").expect("a legal template")
}

const DEFAULT_PEERS: &str = "kernel-route,kernel-bridge,tun-tap";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_example_is_understood() {
        let program = Arguments::command();
        let commands = std::iter::once(&program).chain(program.get_subcommands());
        let helps: Vec<String> = commands.filter_map(|command| Some(command.get_after_help()?.to_string())).collect();
        let lines = helps.iter().flat_map(|help| help.lines());
        let examples: Vec<&str> = lines.filter(|line| line.starts_with("  podswitch-bench")).collect();
        assert_eq!(examples.len(), 37);
        for example in examples {
            let words = example.split(" >").next().unwrap().split_whitespace().map(|word| word.trim_matches('\''));
            Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for wrong in [
            "--rounds 0",
            "--seconds nan",
            "--peers ours",
            "--cases 0",
            "--metrics speed",
            "--switch-cpu x",
            "--pods 1",
            "--switch-config poll",
        ] {
            let words = ["podswitch-bench", "local"].into_iter().chain(wrong.split(' '));
            assert!(Arguments::try_parse_from(words).is_err(), "{wrong} was taken");
        }
    }
}

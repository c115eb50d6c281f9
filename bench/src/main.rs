//! The command line of `podswitch-bench`.

mod arguments;
mod examples;
mod values;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use podswitch_bench::demo::Demo;
use podswitch_bench::machine::{self, Machine};
use podswitch_bench::mesh::Mesh;
use podswitch_bench::order::{self, Order};
use podswitch_bench::report::Report;
use podswitch_bench::topology::forwarder;
use podswitch_bench::topology::nodes::Backend;
use podswitch_bench::{Result, across, cluster, cni, flow_cache, interrupt, local, lookup, node, path, ring};

use crate::arguments::{
    AcrossArguments, ClusterArguments, CniArguments, DemoArguments, LocalArguments, LookupArguments, MemoryArguments,
    NodeArguments, OrderArguments, PathArguments,
};

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
    /// Start a switch and two pods, or several of both, check that all arrives whole, and measure how fast.
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
    /// Measure what it costs a node that there are thousands of others, found by agent and etcd.
    #[command(after_help = examples::CLUSTER_EXAMPLES)]
    Cluster(ClusterArguments),
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
        Command::Cluster(arguments) => {
            measure(arguments.json, &|machine, progress| cluster::run(&arguments.plan(), machine, progress))?;
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
        2 => Demo::across(arguments.backend, arguments.seconds)?,
        nodes => {
            let mesh = Mesh::run(nodes, arguments.store, arguments.backend)?;
            print(&mesh, arguments.json, Mesh::table)?;
            return Ok(if mesh.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
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

fn print<T: Serialize>(result: &T, json: bool, table: impl Fn(&T) -> String) -> anyhow::Result<()> {
    let text = if json { serde_json::to_string(result)? } else { table(result) };
    println!("{text}");
    Ok(())
}

fn progress_style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} of about {duration}  {msg}").expect("a legal template")
}

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
        assert_eq!(examples.len(), 40);
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

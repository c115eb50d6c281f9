//! Our own switch on one node and on two, as briefly as it goes. Needs root and /dev/net/tun.

use std::time::Duration;

use indicatif::ProgressBar;
use podswitch_bench::demo::Traffic;
use podswitch_bench::load::Family;
use podswitch_bench::local::{self, Plan};
use podswitch_bench::machine::Machine;
use podswitch_bench::rounds::{self, Metric, Rounds};
use podswitch_bench::topology::nodes::{Backend, Crossing, Nodes, Underlay};
use podswitch_bench::topology::{Program, Topology, Wiring};

#[test]
fn many_pods_are_compared_with_few() {
    let plan = Plan {
        subject: Wiring::Ours,
        peers: Vec::new(),
        rounds: Rounds {
            count: 1,
            counted: Duration::from_millis(500),
            cases: rounds::default_cases().unwrap().drain(..1).collect(),
            metrics: vec![Metric::Tcp1Gbps, Metric::RttP50Us],
            flows: 1,
            family: Family::V4,
        },
        program: Program { cpu: None, configuration: "poll = \"sleep\"\n".to_owned() },
        pods: vec![2, 5],
    };
    let report = local::run(&plan, Machine::describe(false).unwrap(), &ProgressBar::hidden()).unwrap();
    let case = plan.rounds.cases[0];
    let found: Vec<_> = report.results.iter().map(|result| (result.case.clone(), result.peers.len())).collect();
    let expected = [(case.to_string(), 0), (format!("{case}, 5 pods"), 1)];
    assert_eq!(found, [&expected[..], &expected[..]].concat());
    assert!(report.results.iter().all(|result| result.ours.median > 0.0), "{report:?}");
    assert!(report.results[1].peers["2 pods"].ratio.median > 0.0, "{report:?}");
}

#[test]
fn a_wrong_line_of_configuration_is_refused_by_name() {
    let program = Program { cpu: None, configuration: "pol = \"sleep\"\n".to_owned() };
    let refused = Topology::new(Wiring::Ours, &program).unwrap_err().to_string();
    assert!(refused.contains("'pol'"), "{refused}");
}

#[test]
fn our_switches_reach_each_other_and_every_peer_both_ways() {
    use Crossing::{ForwarderToOurs, KernelToOurs, Ours, OursToForwarder, OursToKernel};
    for (backend, crossings) in [
        (Backend::Vxlan, [Ours, OursToKernel, KernelToOurs]),
        (Backend::Udp, [Ours, OursToForwarder, ForwarderToOurs]),
        (Backend::HostGw, [Ours, OursToKernel, KernelToOurs]),
    ] {
        for crossing in crossings {
            let nodes = Nodes::new(crossing, backend, &Underlay::default(), &Program::default()).unwrap();
            let v6 = backend.carries(Family::V6, Family::V4);
            let traffic = Traffic::between(nodes.pods(), v6, 2, Duration::from_millis(500)).unwrap();
            assert!(traffic.passed(), "{crossing}, {backend}: {traffic:?}");
            let accounts: Vec<_> = nodes.switches().map(|switch| switch.drops().unwrap()).collect();
            assert!(accounts.iter().all(|account| account.conserved), "{crossing}, {backend}: {accounts:?}");
        }
    }
}

#[test]
fn what_a_wire_loses_and_delays_arrives_whole_all_the_same() {
    use Crossing::{ForwarderToOurs, KernelToOurs, Ours, OursToForwarder, OursToKernel};
    let lossy = Underlay { loss_percent: 1, ..Underlay::default() };
    let late = Underlay { reorder_percent: 5, ..Underlay::default() };
    let both = Underlay { loss_percent: 1, family: Family::V6, ..late };
    for (backend, wire, crossings) in [
        (Backend::Vxlan, lossy, [Ours, OursToKernel, KernelToOurs]),
        (Backend::Vxlan, both, [Ours, OursToKernel, KernelToOurs]),
        (Backend::Udp, late, [Ours, OursToForwarder, ForwarderToOurs]),
    ] {
        for crossing in crossings {
            let nodes = Nodes::new(crossing, backend, &wire, &Program::default()).unwrap();
            rounds::check_transfer(crossing.name(), nodes.pods(), Family::V4).unwrap();
        }
    }
}

//! Two nodes of every kind that needs no switch: tunnels, worse wires, reports. Needs root.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

use std::time::Duration;

use indicatif::ProgressBar;
use podswitch_bench::across::{self, Plan};
use podswitch_bench::load::{Family, Pair, Window, udp};
use podswitch_bench::machine::Machine;
use podswitch_bench::rounds::{self, Metric, Rounds};
use podswitch_bench::topology::Program;
use podswitch_bench::topology::nodes::{Backend, Crossing, Nodes, Offloads, Underlay};

#[test]
fn both_families_cross_a_tunnel_over_each() {
    for family in [Family::V4, Family::V6] {
        for mtu in [1500, 9000] {
            let nodes = set_up(Crossing::KernelVxlan, &Underlay { family, mtu, ..Underlay::default() });
            for inner in [Family::V4, Family::V6] {
                rounds::check_transfer("kernel-vxlan", nodes.pods(), inner).unwrap();
            }
        }
    }
}

#[test]
fn a_worse_wire_is_crossed_too() {
    for offloads in [Offloads::NoSegmentation, Offloads::None] {
        for crossing in [Crossing::KernelVxlan, Crossing::UdpForwarder] {
            let nodes = set_up(crossing, &Underlay { offloads, loss_percent: 1, ..Underlay::default() });
            rounds::check_transfer(crossing.name(), nodes.pods(), Family::V4).unwrap();
        }
    }
}

#[test]
fn a_wire_that_loses_half_loses_some() {
    let nodes = set_up(Crossing::KernelHostGw, &Underlay { loss_percent: 50, ..Underlay::default() });
    let [from, to] = nodes.pods();
    let pair = Pair { from, to, family: Family::V4, case: None, urgent: false };
    let slowly = udp::Sending { pps_max: Some(2000), ..udp::Sending::flat_out(1) };
    // Long enough for the pods to look for their gateways once more: nothing was sent before.
    let flood = udp::send_as(pair, slowly, Window::of(Duration::from_secs(3), Duration::ZERO)).unwrap();
    assert!(flood.delivered > 0 && flood.lost_share() > 0.2, "{flood:?}");
}

#[test]
fn what_cannot_be_carried_is_refused_before_anything_is_made() {
    let rounds = Rounds {
        count: 1,
        counted: Duration::from_millis(100),
        cases: rounds::default_cases().unwrap(),
        metrics: vec![Metric::RttP50Us],
        flows: 1,
        family: Family::V6,
    };
    let plan = Plan {
        backend: Backend::Vxlan,
        underlay: Underlay::default(),
        subject: Crossing::KernelVxlan,
        peers: vec![Crossing::UdpForwarder],
        rounds,
        program: Program::default(),
    };
    let refused = |plan: &Plan| {
        let refused = across::run(plan, Machine::describe(false).unwrap(), &ProgressBar::hidden()).unwrap_err();
        refused.to_string()
    };
    assert!(refused(&plan).starts_with("udp does not carry IPv6 over IPv4"), "{}", refused(&plan));
    let stranger = Plan { peers: vec![Crossing::OursToForwarder], ..plan };
    assert_eq!(refused(&stranger), "ours-to-forwarder does not speak vxlan: leave it out");
    assert_eq!(across::default_peers(Backend::Vxlan, Family::V6, Family::V4).len(), 3);
}

#[test]
fn a_report_names_its_conditions_and_its_subject() {
    let rounds = Rounds {
        count: 1,
        counted: Duration::from_millis(200),
        cases: rounds::default_cases().unwrap().drain(..1).collect(),
        metrics: vec![Metric::Tcp1Gbps, Metric::Udp64LatePpm],
        flows: 1,
        family: Family::V4,
    };
    let plan = Plan {
        backend: Backend::Vxlan,
        underlay: Underlay::default(),
        subject: Crossing::KernelVxlan,
        peers: vec![Crossing::UdpForwarder],
        rounds,
        program: Program::default(),
    };
    let report = across::run(&plan, Machine::describe(false).unwrap(), &ProgressBar::hidden()).unwrap();
    assert_eq!((report.bench, report.subject, report.results.len()), ("vxlan", "kernel-vxlan", 2));
    assert_eq!(report.conditions.as_deref(), Some("IPv4 over IPv4, wire of MTU 1500, offloads on, 0 % lost"));
    let gbps = &report.results[0];
    assert!(gbps.ours.median > 0.0 && gbps.peers["udp-forwarder"].spread.median > 0.0, "{gbps:?}");
}

fn set_up(crossing: Crossing, underlay: &Underlay) -> Nodes {
    let nodes = Nodes::new(crossing, Backend::Vxlan, underlay, &Program::default());
    nodes.unwrap_or_else(|error| panic!("{crossing} needs root, nft and ethtool (`make deps`): {error}"))
}

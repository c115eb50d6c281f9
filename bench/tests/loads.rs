//! Every load over every wiring that needs no switch, for fractions of a second. Needs root and /dev/net/tun.

use std::time::Duration;

use indicatif::ProgressBar;
use podswitch_bench::demo::Traffic;
use podswitch_bench::load::{Family, Pair, Window, probe, round_trip, tcp, transfer, udp};
use podswitch_bench::local::{self, Plan};
use podswitch_bench::machine::Machine;
use podswitch_bench::order;
use podswitch_bench::rounds::{self, Metric, Rounds};
use podswitch_bench::topology::{Program, Topology, Wiring};

/// Long enough for something to arrive beside a neighbour that takes all CPUs for a quarter of a second.
const BRIEF: Window = Window { warm_up: Duration::from_millis(50), counted: Duration::from_millis(500) };

#[test]
fn loads_over_kernel_routing_measure_something_sane() {
    let topology = Topology::new(Wiring::KernelRoute, &Program::default()).unwrap();
    let [from, to] = topology.pods();
    let case = rounds::default_cases().unwrap().pop();
    for family in [Family::V4, Family::V6] {
        let pair = Pair { from, to, family, case, urgent: false };
        for connections in [1, 4] {
            let stream = tcp::stream(pair, connections, BRIEF).unwrap();
            assert!((0.01..1000.0).contains(&stream.gbps), "{stream:?}");
            assert!(stream.cpu_s_per_gb.is_finite(), "{stream:?}");
        }
        for flows in [1, 64] {
            let flood = udp::flood(pair, flows, BRIEF).unwrap();
            assert!(flood.delivered_pps > 0.0 && flood.delivered <= flood.sent, "{flood:?}");
            assert_eq!((flood.late, flood.duplicates), (0, 0), "{flood:?}");
            assert!((0.0..1.0).contains(&flood.lost_share()), "{flood:?}");
        }
        let paced = udp::Sending { pps_max: Some(2000), moves_per_second: 100, ..udp::Sending::flat_out(1) };
        let flood = udp::send_as(pair, paced, BRIEF).unwrap();
        // 550 ms of it, and what is sent at once.
        assert!((1..=1110).contains(&flood.sent) && flood.delivered <= flood.sent, "{flood:?}");
        let probe = probe::measure(pair, 500, BRIEF).unwrap();
        assert!(1.0 < probe.p50_us && probe.p50_us <= probe.p99_us && probe.p99_us <= probe.p999_us, "{probe:?}");
        let trip = round_trip::measure(pair, BRIEF).unwrap();
        assert!(1.0 < trip.p50_us && trip.p50_us <= trip.p99_us, "{trip:?}");
        assert!(transfer::is_intact(pair, 4, 1).unwrap());
    }
}

#[test]
fn the_kernel_reorders_nothing_on_one_core() {
    let topology = Topology::new(Wiring::KernelRoute, &Program::default()).unwrap();
    let [from, to] = topology.pods();
    let case = rounds::default_cases().unwrap().first().copied();
    let stream = tcp::stream(Pair { from, to, family: Family::V4, case, urgent: false }, 1, BRIEF).unwrap();
    assert_eq!(stream.reordered, 0, "{stream:?}");
}

#[test]
fn the_check_of_order_reaches_what_is_wanted() {
    let plan = order::Plan {
        through: Wiring::KernelVeth,
        program: Program::default(),
        cases: rounds::default_cases().unwrap().drain(..1).collect(),
        rates: vec![order::Rate::Half],
        wanted: 1000,
        stretch: Duration::from_millis(200),
    };
    let order = order::run(&plan, Machine::describe(false).unwrap(), &ProgressBar::hidden()).unwrap();
    let counts: Vec<_> = order.results.iter().map(|one| (one.setting.flows, one.setting.moves_per_second)).collect();
    assert_eq!(counts, [(1, 0), (1, 50), (1, 1000), (64, 0), (64, 50), (64, 1000)]);
    for one in &order.results {
        assert!(one.delivered >= plan.wanted && one.sent == one.delivered + one.lost, "{one:?}");
        assert!(one.setting.moves_per_second > 0 || one.late + one.repeated == 0, "{one:?}");
    }
}

#[test]
fn every_wiring_carries_both_families_both_ways() {
    for wiring in [Wiring::KernelRoute, Wiring::KernelBridge, Wiring::KernelVeth, Wiring::TunTap] {
        let topology = Topology::new(wiring, &Program { cpu: Some(0), ..Program::default() }).unwrap();
        let traffic = Traffic::between(topology.pods(), true, 2, BRIEF.counted).unwrap();
        assert!(traffic.passed(), "{wiring}: {traffic:?}");
        let figures = traffic.figures.unwrap();
        assert!(figures.tcp_gbps > 0.0 && figures.tcp_v6_gbps > Some(0.0), "{wiring}: {figures:?}");
    }
}

#[test]
fn a_report_has_every_metric_case_and_peer() {
    let plan = Plan {
        subject: Wiring::KernelVeth,
        peers: vec![Wiring::KernelRoute, Wiring::TunTap],
        rounds: Rounds {
            count: 2,
            counted: BRIEF.counted,
            cases: rounds::default_cases().unwrap(),
            metrics: vec![Metric::Tcp1Gbps, Metric::Udp64FlowsPps, Metric::RttP99Us],
            flows: 1000,
            family: Family::V4,
        },
        program: Program::default(),
        pods: vec![2],
    };
    let machine = Machine::describe(false).unwrap();
    let report = local::run(&plan, machine, &ProgressBar::hidden()).unwrap();
    assert_eq!(report.results.len(), plan.rounds.rows().count());
    for result in &report.results {
        assert!(result.ours.median > 0.0, "{result:?}");
        let peers: Vec<&str> = result.peers.keys().map(String::as_str).collect();
        assert_eq!(peers, ["kernel-route", "tun-tap"]);
        assert!(result.peers.values().all(|peer| peer.spread.median > 0.0 && peer.ratio.median > 0.0), "{result:?}");
    }
}

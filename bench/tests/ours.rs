//! The local bench against our own switch, as briefly as it goes. Needs root and /dev/net/tun.

use std::time::Duration;

use indicatif::ProgressBar;
use podswitch_bench::local::{self, Metric, Plan};
use podswitch_bench::machine::Machine;
use podswitch_bench::topology::{Program, Topology, Wiring};

#[test]
fn many_pods_are_compared_with_few() {
    let plan = Plan {
        subject: Wiring::Ours,
        peers: Vec::new(),
        cases: local::default_cases().unwrap().drain(..1).collect(),
        metrics: vec![Metric::Tcp1Gbps, Metric::RttP50Us],
        rounds: 1,
        counted: Duration::from_millis(500),
        flows: 1,
        program: Program { cpu: None, configuration: "poll = \"sleep\"\n".to_owned() },
        pods: vec![2, 5],
    };
    let report = local::run(&plan, Machine::describe(false).unwrap(), &ProgressBar::hidden()).unwrap();
    let case = plan.cases[0];
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

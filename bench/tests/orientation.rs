use std::time::Duration;
use clap::ValueEnum;
use indicatif::ProgressBar;
use podswitch_bench::local::{self, Metric, Plan};
use podswitch_bench::machine::{self, Machine};
use podswitch_bench::topology::Wiring;
#[test]
fn orientation() {
    let raised = machine::raise_priority();
    let plan = Plan { subject: Wiring::KernelVeth, peers: vec![Wiring::KernelRoute, Wiring::KernelBridge, Wiring::TunTap],
        cases: local::default_cases().unwrap(), metrics: Metric::value_variants().to_vec(), rounds: 3, counted: Duration::from_secs(1), flows: 1000, switch_cpu: None };
    let report = local::run(&plan, Machine::describe(raised).unwrap(), &ProgressBar::hidden()).unwrap();
    println!("{}", report.table());
}

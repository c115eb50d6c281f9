//! The bench of a node against a real switch, as briefly as it goes: every figure is there and can be one. Needs root.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

use std::time::Duration;

use indicatif::ProgressBar;
use podswitch_bench::machine::Machine;
use podswitch_bench::node::{self, Metric, PODS_MIN, Plan};

#[test]
fn a_report_has_what_was_asked_for() {
    let metrics = vec![Metric::RestartMs, Metric::RssMb, Metric::ComputeRate, Metric::FloodedRttP99Us];
    let plan = Plan { pods: PODS_MIN, metrics, rounds: 1, counted: Duration::from_millis(200) };
    let report = node::run(&plan, Machine::describe(false).unwrap(), &ProgressBar::hidden()).unwrap();
    let found: Vec<_> = report.results.iter().map(|result| (result.metric.as_str(), result.peers.len())).collect();
    let expected = [("restart_ms", 0), ("rss_mb", 0), ("rss_mb", 0), ("compute_rate", 1), ("flooded_rtt_p99_us", 2)];
    assert_eq!(found, expected);
    assert!(report.results.iter().all(|result| result.ours.median > 0.0), "{report:?}");
}

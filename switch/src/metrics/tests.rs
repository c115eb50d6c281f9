//! The text, read by a strict reader.

use std::fs;

use control::InterfaceName;
use packet::{Punt, Reason};

use super::*;
use crate::kernel_drops::KEPT_FOR;
use crate::port::PortCounters;
use crate::worker::{TIMED_EVERY, Tallies};

use openmetrics::Exposition;

#[allow(dead_code, reason = "tests of the running switch use more of it")]
#[path = "../../tests/real/openmetrics.rs"]
mod openmetrics;

fn port(number: u16, name: &str, counters: &PortCounters) -> PortMetrics {
    PortMetrics {
        number,
        name: name.to_owned(),
        kind: if number == 0 { "host" } else { "workload" },
        counted: counters.read(),
        place: Some(Place { netns: None, interface: InterfaceName::default() }),
        kernel_dropped: (number > 0).then_some(7),
    }
}

/// A switch that forwarded 10 packets from port 1, dropped 2 and punted 1, which was answered.
fn metrics(ports: u16) -> Metrics {
    let counters = PortCounters::new(1);
    counters.of(0).add(Count::Received, 12);
    counters.of(0).add(Count::ReceivedBytes, 1200);
    counters.of(0).add(Count::Sent, 10);
    counters.of(0).add(Count::Answered, 1);
    counters.of(0).drop(Reason::SpoofedSource);
    counters.of(0).drop(Reason::SpoofedSource);
    counters.of(0).punt(Punt::Arp);
    let tallies = Tallies::default();
    for received in [1, 2, 3, 64] {
        tallies.count_burst(received);
        tallies.end_turn(tallies.begin_turn());
    }
    let mark = Mark { value: 3, limit: 64 };
    let mut all = vec![port(0, "pods\"0\\", &PortCounters::new(1))];
    all.extend((1..=ports).map(|number| port(number, &format!("pod-{number}"), &counters)));
    Metrics {
        ports: all,
        total: counters.read(),
        workers: vec![WorkerMetrics {
            number: 0,
            thread: "worker-0".to_owned(),
            turns: 4,
            handovers: 1,
            sleeps: 1,
            bursts: tallies.bursts.read(),
            turn_times: tallies.turn_times.read(),
            cpu_time: Some(Duration::from_millis(1500)),
            slots: [("small", mark), ("big", mark)],
            mailboxes: [("punts", mark), ("answers", mark)],
        }],
        returns: ReturnMetrics { entries: mark, evicted: 2 },
        slow: vec![("answered", 1), ("malformed", 0)],
        worlds_published: 1,
        worlds_retiring: 0,
        endpoints: 1,
        routes: 0,
        neighbors: vec![("vxlan", 2), ("host-gw", 0)],
        swept: 0,
        started_at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_500),
    }
}

#[test]
fn a_strict_reader_finds_every_number_in_its_place() {
    let read = Exposition::parse(&metrics(1).text());
    let pod = [("port", "1"), ("name", "pod-1"), ("kind", "workload")];
    assert_eq!(read.value("podswitch_port_received_packets_total", &pod), 12.0);
    assert_eq!(read.value("podswitch_port_received_bytes_total", &pod), 1200.0);
    assert_eq!(read.value("podswitch_port_kernel_dropped_packets_total", &pod), 7.0);
    let host = [("port", "0"), ("name", "pods\"0\\"), ("kind", "host")];
    assert_eq!(read.value("podswitch_port_sent_packets_total", &host), 0.0);
    let spoofed = [&pod[..], &[("reason", "spoofed_source")]].concat();
    assert_eq!(read.value("podswitch_port_dropped_packets_total", &spoofed), 2.0);
    assert_eq!(
        read.all("podswitch_port_dropped_packets_total").count(),
        1,
        "what did not happen is not told of a port"
    );
    assert_eq!(read.all("podswitch_dropped_packets_total").count(), Reason::COUNT, "and is of the switch");
    assert_eq!(read.all("podswitch_punted_packets_total").count(), Punt::COUNT);
    assert_eq!(read.value("podswitch_in_flight_packets", &[]), 0.0);

    let worker = ("worker", "0");
    assert_eq!(read.value("podswitch_worker_burst_packets_sum", &[worker]), 70.0);
    let within = |most| read.value("podswitch_worker_burst_packets_bucket", &[worker, ("le", most)]);
    assert_eq!(["1.0", "2.0", "4.0", "32.0", "64.0", "256.0", "+Inf"].map(within), [1.0, 2.0, 3.0, 3.0, 4.0, 4.0, 4.0]);
    assert_eq!(read.value("podswitch_worker_turn_seconds_count", &[worker]), 1.0);
    assert!(read.value("podswitch_worker_turn_seconds_sum", &[worker]) > 0.0);
    read.value("podswitch_worker_turn_seconds_bucket", &[worker, ("le", "0.001024")]);
    let help = |family: &str| read.families[family].help.clone();
    assert!(help("podswitch_worker_turn_seconds").contains(&format!("in {TIMED_EVERY} is timed")));
    let seconds = format!("as of {} second ago", KEPT_FOR.as_secs());
    assert!(help("podswitch_port_kernel_dropped_packets").contains(&seconds));
    assert_eq!(read.value("podswitch_worker_cpu_seconds_total", &[worker]), 1.5);
    assert_eq!(read.value("podswitch_worker_mailbox_limit", &[worker, ("mailbox", "answers")]), 64.0);
    assert_eq!(read.value("podswitch_return_entries", &[]), 3.0);
    assert_eq!(read.value("podswitch_return_entries_limit", &[]), 64.0);
    assert_eq!(read.value("podswitch_returns_evicted_total", &[]), 2.0);
    assert_eq!(read.value("podswitch_start_time_seconds", &[]), 1_700_000_000.5);
    assert_eq!(read.value("podswitch_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
}

#[test]
fn every_family_is_explained_to_operators() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating.md")).unwrap();
    let families = Exposition::parse(&metrics(1).text()).families;
    let shown = |name: &String| page.contains(&format!("`{}", name.strip_prefix("podswitch_").unwrap()));
    let missing: Vec<_> = families.keys().filter(|name| !shown(name)).collect();
    assert!(missing.is_empty(), "docs/operating.md does not tell of {missing:?}");
}

//! Metrics and health as a monitoring system asks for them: over the control socket, and over TCP in the node.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use control::DropsView;

use crate::openmetrics::Exposition;
use crate::rig::{Rig, Said, call, must, ping, until};
use crate::traffic::udp;

/// A rig that serves metrics over TCP.
fn rig() -> Rig {
    Rig::with("metrics_address = \"127.0.0.1:9470\"")
}

fn curl(rig: &Rig, arguments: &str) -> Said {
    call(&rig.node, &format!("curl -sS --max-time 20 {arguments}"))
}

fn over_socket(rig: &Rig, path: &str) -> String {
    format!("--unix-socket {} http://switch{path}", rig.client().socket().display())
}

fn scrape(rig: &Rig) -> Exposition {
    let said = curl(rig, "http://127.0.0.1:9470/metrics");
    assert!(said.success, "{}", said.text);
    Exposition::parse(&said.result)
}

#[test]
fn the_pages_are_served_over_the_socket_and_over_loopback() {
    let rig = rig();
    let tcp = |path: &str| format!("http://127.0.0.1:9470{path}");
    for (page, expected) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        for target in [over_socket(&rig, page), tcp(page)] {
            let said = curl(&rig, &format!("-w %{{http_code}} {target}"));
            assert_eq!(said.result, format!("{expected}200"), "{}", said.text);
        }
    }
    for target in [over_socket(&rig, "/metrics"), tcp("/metrics")] {
        let said = curl(&rig, &format!("-D /dev/stderr {target}"));
        said.has("application/openmetrics-text; version=1.0.0; charset=utf-8");
        Exposition::parse(&said.result);
        let head = curl(&rig, &format!("--head {target}"));
        head.has("200 OK").has("openmetrics");
        assert!(!head.text.contains("podswitch_"), "{}", head.text);
        for method in ["POST", "DELETE"] {
            let said = curl(&rig, &format!("-o /dev/null -w %{{http_code}} -X {method} {target}"));
            assert_eq!(said.result, "405", "{}", said.text);
        }
    }
    assert_eq!(curl(&rig, &format!("-o /dev/null -w %{{http_code}} {}", tcp("/v1/status"))).result, "404");
    curl(&rig, &tcp("/")).has("/metrics");
}

#[test]
fn without_an_address_there_is_no_tcp() {
    let rig = Rig::new();
    assert_eq!(must(&rig.node, "ss -H -l -t -n").result, "");
    Exposition::parse(&curl(&rig, &over_socket(&rig, "/metrics")).result);
}

#[test]
fn metrics_tell_what_show_tells_and_every_packet() {
    let rig = rig();
    let (a, b) = (rig.pod(2), rig.pod(3));
    ping(&a, b.v4());
    ping(&a, b.v6());
    // Spoofed, and unreachable.
    must(&a, "ip address add 10.9.9.9/32 dev eth0");
    udp(&a, [10, 9, 9, 9].into(), 0).send_to(b"x", (b.v4(), 7000)).unwrap();
    udp(&a, a.v4(), 0).send_to(b"x", "10.244.0.99:7000").unwrap();
    let DropsView { dropped, punted, slow, .. } = until("both packets to have an end", || {
        let drops = rig.settled();
        let once = |counts: &BTreeMap<String, u64>, which| counts.get(which) == Some(&1);
        (once(&drops.dropped, "spoofed_source") && once(&drops.punted, "unreachable")).then_some(drops)
    });
    // Ports and workers are not read in one instant, and pods' kernels speak unasked. One turn of 16 is timed.
    let read = until("a moment without traffic", || {
        let read = scrape(&rig);
        let timed_as_often = rig.client().workers().unwrap().iter().all(|worker| {
            let number = [("worker", &*worker.worker.to_string())];
            let [turns, timed] = ["turns_total", "turn_seconds_count"]
                .map(|what| read.value(&format!("podswitch_worker_{what}"), &number));
            timed == (turns / 16.0).ceil()
        });
        let [received, bursts] =
            ["received_packets_total", "worker_burst_packets_sum"].map(|what| read.sum(&format!("podswitch_{what}")));
        (bursts == received && timed_as_often).then_some(read)
    });

    for (what, name, label) in [(&dropped, "dropped", "reason"), (&punted, "punted", "cause")] {
        for (which, &count) in what {
            let total = read.value(&format!("podswitch_{name}_packets_total"), &[(label, which)]);
            assert!(total >= count as f64, "{name} {which}");
        }
    }
    assert!(read.value("podswitch_slow_path_packets_total", &[("outcome", "answered")]) >= slow["answered"] as f64);
    let pod = [("port", "1"), ("name", "pod-2"), ("kind", "workload")];
    let spoofed = [&pod[..], &[("reason", "spoofed_source")]].concat();
    assert_eq!(read.value("podswitch_port_dropped_packets_total", &spoofed), 1.0);
    assert_eq!(read.value("podswitch_port_kernel_dropped_packets_total", &pod), 0.0);
    assert_eq!(read.all("podswitch_port_kernel_dropped_packets_total").count(), 3);
    conserved(&read);

    // Of ports that are all still there, the sums are the totals.
    for what in
        ["received_packets", "received_bytes", "sent_packets", "sent_bytes", "dropped_packets", "punted_packets"]
    {
        let [ports, total] = ["port_", ""].map(|of| read.sum(&format!("podswitch_{of}{what}_total")));
        assert_eq!(ports, total, "{what}");
    }
    let turns = read.sum("podswitch_worker_turns_total");
    assert_eq!(read.sum("podswitch_worker_burst_packets_count"), turns);
    assert!(read.sum("podswitch_worker_mailbox_highest") >= 1.0);
    assert_eq!(read.value("podswitch_endpoints", &[]), 2.0);
}

#[test]
fn totals_stay_when_a_port_leaves_and_its_series_end() {
    let rig = rig();
    let (a, b) = (rig.pod(2), rig.pod(3));
    ping(&a, b.v4());
    rig.settled();
    let before = scrape(&rig);
    rig.detach(&b);
    let after = scrape(&rig);
    let totals = before.families.keys().map(|family| format!("{family}_total"));
    for name in totals.filter(|name| !name.contains("_port_")) {
        for (labels, value) in before.all(&name) {
            let labels: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            assert!(after.value(&name, &labels) >= value, "{name} {labels:?} went back");
        }
    }
    let names = |read: &Exposition| {
        read.all("podswitch_port_sent_packets_total").map(|(labels, _)| labels["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&before), ["podswitch0", "pod-2", "pod-3"]);
    assert_eq!(names(&after), ["podswitch0", "pod-2"]);
    assert!(after.sum("podswitch_sent_packets_total") > after.sum("podswitch_port_sent_packets_total"));
    assert_eq!(after.sum("podswitch_worlds_published_total"), 3.0);
    assert_eq!(
        before.sum("podswitch_start_time_seconds"),
        after.sum("podswitch_start_time_seconds"),
        "the switch started once"
    );
    conserved(&after);
}

#[test]
fn idle_connections_do_not_keep_anybody_from_the_metrics() {
    let rig = rig();
    let socket = rig.client().socket().to_owned();
    let idle_over_tcp =
        rig.node.run(|| (0..300).map(|_| TcpStream::connect("127.0.0.1:9470").unwrap()).collect::<Vec<_>>());
    let read = scrape(&rig);
    assert!(!read.families.is_empty());
    // Those of the control socket have places of their own.
    curl(&rig, &over_socket(&rig, "/readyz")).has("ready");
    let idle_over_socket: Vec<UnixStream> = (0..300).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    curl(&rig, "http://127.0.0.1:9470/readyz").has("ready");
    curl(&rig, &over_socket(&rig, "/readyz")).has("ready");
    drop((idle_over_tcp, idle_over_socket));
}

#[test]
fn an_address_that_cannot_be_is_refused() {
    let mut rig = rig();
    let run = |address: &str| {
        let other = tempfile::tempdir().unwrap();
        let (config, state) = (rig.configuration(), other.path().join("state"));
        rig.podswitch(&format!(
            "run --config {} --state-dir {} --host-port psw-other --metrics-address {address}",
            config.display(),
            state.display()
        ))
    };
    for address in ["0.0.0.0:9470", "[::]:9470", "192.0.2.1:9470"] {
        let said = run(address);
        assert!(!said.success, "{}", said.text);
        said.has(&format!("error: metrics_address: {address} is not a loopback address"))
            .has("hint: give 127.0.0.1:9470");
    }
    let said = run("127.0.0.1:9470");
    assert!(!said.success, "{}", said.text);
    said.has("error: cannot serve metrics at 127.0.0.1:9470: Address already in use").has("--metrics-address");
    assert!(run("localhost:9470").text.contains("localhost"));
    // The refused left nothing, and the first goes on.
    assert!(!call(&rig.node, "ip link show psw-other").success);
    curl(&rig, "http://127.0.0.1:9470/readyz").has("ready");

    // The address is free again as soon as the switch is gone, whatever connections there were.
    rig.kill();
    rig.start();
    curl(&rig, "http://127.0.0.1:9470/readyz").has("ready");
}

#[test]
fn a_pod_whose_namespace_is_gone_is_scraped_without_its_kernels_drops() {
    // The sweep would detach the pod sooner or later.
    let rig = Rig::with("metrics_address = \"127.0.0.1:9470\"\nsweep_seconds = 3600");
    let (a, b) = (rig.pod(2), rig.pod(3));
    drop(b);
    ping(&rig.node, a.v4());
    let read = scrape(&rig);
    let named = |name: &str| read.all(name).map(|(labels, _)| labels["name"].clone()).collect::<Vec<_>>();
    assert_eq!(named("podswitch_port_kernel_dropped_packets_total"), ["podswitch0", "pod-2"]);
    assert_eq!(named("podswitch_port_received_packets_total"), ["podswitch0", "pod-2", "pod-3"]);
}

/// Came = left, by the metrics alone.
#[track_caller]
fn conserved(read: &Exposition) {
    let total = |what: &str| read.sum(&format!("podswitch_{what}_packets_total"));
    let came = total("received") + total("injected");
    let left = total("sent") + total("dropped") + total("punted") + read.value("podswitch_in_flight_packets", &[]);
    assert_eq!(came, left);
    assert!(came > 0.0);
}

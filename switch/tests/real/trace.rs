//! Packets shown on their way: by the command and by the client, and that no trace outlives who wanted it.

use std::fmt::Display;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use control::{Code, Decision, Error, Form, Stage, StartTrace, TraceEnd, TraceView, TracedPacket};
use host::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rig::{PATIENCE, PODSWITCH, Pod, Rig, must, ping, until, until_within};
use crate::traffic::{connection, exchange, udp};

/// `podswitch trace` with these arguments, running.
struct Tracing(Child);

impl Tracing {
    /// Returns when the trace is in force.
    fn start(rig: &Rig, arguments: &[&str]) -> Tracing {
        let tracing = Tracing::begin(rig, arguments);
        until("the trace", || is_tracing(rig).then_some(()));
        tracing
    }

    fn begin(rig: &Rig, arguments: &[&str]) -> Tracing {
        let mut command = Command::new(PODSWITCH);
        command.arg("trace").args(arguments).arg("--socket").arg(rig.client().socket());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Tracing(rig.node.run(|| command.spawn()).unwrap().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    /// Waits for its end by itself; its two outputs.
    fn ended(&mut self) -> (String, String) {
        let status = until("the end of the trace", || self.0.try_wait().unwrap());
        let (mut out, mut error) = (String::new(), String::new());
        self.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert!(status.success(), "{error}");
        (out, error)
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether somebody's trace runs: a second one is refused for that before it is for its port.
fn is_tracing(rig: &Rig) -> bool {
    let probe = StartTrace { port: Some("nobody".to_owned()), ..StartTrace::default() };
    let Err(Error::Refused(refusal)) = rig.client().start_trace(probe) else { panic!("there is no such port") };
    assert!(matches!(refusal.code, Code::Conflict | Code::NotFound), "{refusal}");
    refusal.message.contains(" has been running for ")
}

/// Asks until `enough` packets were seen.
fn follow(rig: &Rig, id: u64, enough: usize) -> Vec<TracedPacket> {
    let mut seen = Vec::new();
    until("traced packets", || {
        seen.extend(rig.client().poll_trace(id).unwrap().packets);
        (seen.len() >= enough).then_some(())
    });
    seen
}

/// Three requests and no more, however late an answer comes; [`ping`] goes on until three were answered.
fn three_pings(namespace: &Namespace, address: impl Display) {
    must(namespace, &format!("ping -n -c 3 -i 0.05 -W 10 {address}")).has(" 3 received");
}

fn stages(packet: &TracedPacket) -> Vec<Stage> {
    packet.stages.iter().map(|stage| stage.stage).collect()
}

fn filter(text: &str) -> StartTrace {
    StartTrace { filter: Some(text.parse().unwrap()), ..StartTrace::default() }
}

#[test]
fn a_ping_is_shown_there_and_back() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    let between = format!("icmp or (icmp6 and host {} and host {})", a.v6(), b.v6());
    let id = rig.client().start_trace(filter(&between)).unwrap().id;
    let there_and_back = |address| {
        three_pings(&a, address);
        follow(&rig, id, 6)
    };
    let seen = b.addresses().map(there_and_back).concat();
    assert_eq!(seen.len(), 12);
    let names = |packet: &TracedPacket| {
        let name = |port: &Option<control::PortLabel>| port.as_ref().unwrap().name.clone();
        (name(&packet.from), name(&packet.to))
    };
    for (place, packet) in seen.iter().enumerate() {
        let is_request = matches!(packet.headers.icmp, Some((8 | 128, 0)));
        let (one, other) = if is_request { ("pod-2", "pod-3") } else { ("pod-3", "pod-2") };
        assert_eq!(names(packet), (one.to_owned(), other.to_owned()));
        // Where there are no rules, policy says nothing.
        let asked = Stage::ALL.iter().copied().filter(|&stage| stage != Stage::Policy);
        assert!(stages(packet).into_iter().eq(asked), "{packet:?}");
        let family = usize::from(place >= 6);
        let headers = &packet.headers;
        let ends = [headers.source.unwrap(), headers.destination.unwrap()];
        let (a, b) = (a.addresses()[family], b.addresses()[family]);
        assert_eq!(ends, if is_request { [a, b] } else { [b, a] });
        let Decision::Rewritten { ttl, .. } = packet.stages[3].decision else { panic!("{packet:?}") };
        assert_eq!((headers.ttl, ttl), (Some(64), 63));
        let sent = &packet.stages[4].decision;
        assert!(matches!(sent, Decision::Sent { form: Form::Whole, frames: 1, .. }), "{sent:?}");
    }
    let last = rig.client().stop_trace(id).unwrap();
    assert_eq!((last.matched, last.missed, last.ended), (12, 0, Some(TraceEnd::Stopped)));
    let error = rig.client().poll_trace(id).unwrap_err().to_string();
    assert!(error.contains("does not run"), "{error}");
}

#[test]
fn the_command_prints_packets_and_ends_after_their_count() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    let filter = format!("icmp and host {}", b.v4());
    let mut trace = Tracing::start(&rig, &["--port", "pod-2", "--filter", &filter, "--count", "4"]);
    ping(&a, b.v4());
    let (text, closing) = trace.ended();
    for words in [
        "pod-2 > pod-3  IPv4 10.244.0.2 > 10.244.0.3 ICMP type 8 code 0",
        "pod-3 > pod-2  IPv4 10.244.0.3 > 10.244.0.2 ICMP type 0 code 0",
        "ICMP type 8 code 0  98 bytes\n    parse    ICMP\n",
        "leaving  its own address",
        "by the route table",
        "rewrite  TTL 63, from ee:ee:ee:ee:ee:ee to ",
        "depart   port 2 pod-3",
    ] {
        assert!(text.contains(words), "'{words}' is not in\n{text}");
    }
    assert_eq!(text.lines().filter(|line| line.starts_with(char::is_numeric)).count(), 4);
    assert!(closing.contains(", 4 shown, 0 missed"), "{closing}");
    let mut trace = Tracing::start(&rig, &["--json", "--count", "2", "--filter", "icmp"]);
    ping(&a, b.v4());
    let (lines, _) = trace.ended();
    let packets: Vec<TracedPacket> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(packets.len(), 2);
    assert!(!is_tracing(&rig));
}

#[test]
fn a_spoofed_packet_is_shown_with_the_stage_and_the_reason() {
    let rig = Rig::new();
    let (a, b, c) = (rig.pod(2), rig.pod(3), rig.pod(4));
    must(&a, &format!("ip address add {}/32 dev eth0", b.v4()));
    let forger = udp(&a, b.v4(), 7000);
    let dropped = StartTrace { dropped: true, port: Some("pod-2".to_owned()), ..filter("udp dst port 7001") };
    let id = rig.client().start_trace(dropped).unwrap().id;
    udp(&a, a.v4(), 7000).send_to(b"true", (c.v4(), 7001)).unwrap();
    forger.send_to(b"forged", (c.v4(), 7001)).unwrap();
    let [packet] = &follow(&rig, id, 1)[..] else { panic!("the first one is not dropped") };
    assert_eq!((packet.headers.source, packet.headers.destination_port), (Some(b.v4()), Some(7001)));
    assert_eq!(stages(packet), [Stage::Parse, Stage::Leaving]);
    assert_eq!(packet.stages[1].decision, Decision::Dropped { reason: "spoofed_source".to_owned(), adjacency: None });
    rig.client().stop_trace(id).unwrap();
    assert_eq!(rig.settled().dropped["spoofed_source"], 1);
}

#[test]
fn a_killed_client_takes_its_trace_along() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    let mut trace = Tracing::start(&rig, &[]);
    trace.signal(Signal::SIGKILL);
    trace.0.wait().unwrap();
    ping(&a, b.v4());
    // That takes its time, and asking all the while would keep the machine busy.
    until_within(2 * PATIENCE, "the end of the trace", || {
        rig.logged().contains("nobody has asked for its packets").then_some(())
    });
    let id = rig.client().start_trace(filter("tcp port 1")).unwrap().id;
    assert_eq!(rig.client().poll_trace(id).unwrap().packets, [], "what nobody took is not the next one's");
}

#[test]
fn an_interrupt_ends_the_trace_with_the_rest_and_the_counts() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut trace = Tracing::start(&rig, &["--filter", "icmp"]);
        three_pings(&a, b.v4());
        trace.signal(signal);
        let (text, closing) = trace.ended();
        assert_eq!(text.matches(" bytes\n").count(), 6, "{text}");
        assert_eq!(closing, "6 packets matched, 6 shown, 0 missed\n");
        assert!(!is_tracing(&rig), "its end need not be waited for");
    }
}

#[test]
fn a_trace_whose_time_is_up_or_whose_port_is_unknown_ends_or_does_not_begin() {
    let rig = Rig::new();
    let mut trace = Tracing::begin(&rig, &["--seconds", "1"]);
    let (_, closing) = trace.ended();
    assert!(closing.ends_with("missed; the time is up\n"), "{closing}");
    let _pod = rig.pod(2);
    for port in ["pod-2", "1", "podswitch0", "0"] {
        let port = Some(port.to_owned());
        let started = rig.client().start_trace(StartTrace { port, ..StartTrace::default() }).unwrap();
        rig.client().stop_trace(started.id).unwrap();
    }
    let said = rig.podswitch(&format!("trace --port pod-9 --socket {}", rig.client().socket().display()));
    assert!(!said.success);
    said.has("error: there is no port 'pod-9'").has("hint: `podswitch show ports`");
}

#[test]
fn the_trace_of_a_port_ends_with_it_and_never_shows_the_next_one_of_its_number() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    let of_b = StartTrace { port: Some("pod-3".to_owned()), ..filter("icmp") };
    let id = rig.client().start_trace(of_b).unwrap().id;
    three_pings(&a, b.v4());
    let number = rig.client().ports().unwrap().iter().find(|port| port.name == "pod-3").unwrap().index;
    rig.detach(&b);
    let c = Pod::new(4);
    assert_eq!(rig.join(&c).port, number, "the number is used again");
    three_pings(&a, c.v4());
    let last = rig.client().poll_trace(id).unwrap();
    assert_eq!((last.packets.len(), last.matched, last.ended), (6, 6, Some(TraceEnd::PortGone)));
    assert!(!is_tracing(&rig));

    let mut trace = Tracing::start(&rig, &["--port", "pod-4"]);
    rig.detach(&a);
    assert!(is_tracing(&rig), "it is another port's");
    rig.detach(&c);
    let (_, closing) = trace.ended();
    assert!(closing.ends_with("missed; the port is gone\n"), "{closing}");
}

#[test]
fn a_trace_goes_on_while_pods_come_and_streams_pass() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    let id = rig.client().start_trace(filter("tcp")).unwrap().id;
    let c: Pod = rig.pod(4);
    exchange(&connection(&c, &a, a.v4()), 1 << 20);
    let mut views: Vec<TraceView> = vec![rig.client().poll_trace(id).unwrap()];
    exchange(&connection(&a, &b, b.v6()), 1 << 20);
    views.push(rig.client().poll_trace(id).unwrap());
    while views.last().is_none_or(|view| view.more) {
        views.push(rig.client().poll_trace(id).unwrap());
    }
    views.push(rig.client().stop_trace(id).unwrap());
    let (shown, last) = (views.iter().map(|view| view.packets.len() as u64).sum::<u64>(), &views[views.len() - 1]);
    assert_eq!(last.matched, shown + last.missed);
    let packets: Vec<&TracedPacket> = views.iter().flat_map(|view| &view.packets).collect();
    let flags = |packet: &&TracedPacket| packet.headers.tcp_flags.clone();
    assert_eq!(packets.first().and_then(flags).as_deref(), Some("S"), "from the first one on");
    assert!(packets.iter().any(|packet| packet.super_frame.is_some() && packet.checksum_unfinished));
    assert!(packets.iter().any(|packet| packet.to.as_ref().is_some_and(|to| to.name == "pod-4")));
    assert!(packets.windows(2).all(|pair| pair[0].time_ns <= pair[1].time_ns));
    rig.settled();
}

#[test]
fn an_unfinished_trace_does_not_hinder_the_end_of_the_switch() {
    let mut rig = Rig::new();
    rig.client().start_trace(StartTrace::default()).unwrap();
    rig.client().timeout(Duration::from_secs(10)).stop().unwrap();
    assert!(rig.has_ended());
}

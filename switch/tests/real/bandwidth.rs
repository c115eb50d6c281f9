//! Pods with limits: what they get, of streams in super-frames and of datagrams, and that others notice nothing.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use control::{Attach, Bandwidth, BitRate, RateLimit};

use crate::rig::{Pod, Rig, call};
use crate::traffic::{connection, udp};

const SPAN: Duration = Duration::from_secs(3);
/// TCP finds its pace, and the burst is used up.
const WARM_UP: Duration = Duration::from_secs(2);

fn limit(rate: &str) -> Option<RateLimit> {
    Some(RateLimit { rate: rate.parse().unwrap(), burst: None })
}

fn limited(rig: &Rig, number: u8, bandwidth: Bandwidth) -> Pod {
    let pod = Pod::new(number);
    rig.client().attach(Attach { bandwidth, ..pod.attach() }).unwrap();
    pod
}

/// Bits a second that arrive of a stream from one pod to another.
fn streamed(from: &Pod, to: &Pod, address: IpAddr) -> f64 {
    pace(connection(from, to, address))
}

fn pace((sender, mut receiver): (TcpStream, TcpStream)) -> f64 {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let bytes = vec![0; 1 << 17];
            while !ended.load(Ordering::Relaxed) && (&sender).write_all(&bytes).is_ok() {
                std::hint::spin_loop();
            }
        });
        let (begin, mut counted, mut bytes) = (Instant::now() + WARM_UP, 0, vec![0; 1 << 20]);
        let span = loop {
            let read = receiver.read(&mut bytes).unwrap();
            let now = Instant::now();
            if now >= begin {
                counted += read;
            }
            if now >= begin + SPAN {
                break now - begin;
            }
        };
        ended.store(true, Ordering::Relaxed);
        let _ = sender.shutdown(Shutdown::Both);
        counted as f64 * 8.0 / span.as_secs_f64()
    })
}

/// Bits a second of datagrams that arrive, IP and UDP headers included, when far more are sent.
fn showered(from: &Pod, to: &Pod, (length, every): (usize, Duration)) -> f64 {
    let (sender, receiver) = (udp(from, from.v4(), 4000), udp(to, to.v4(), 5000));
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let bytes = vec![0; length];
            while !ended.load(Ordering::Relaxed) {
                // Full queues are what this is about.
                (0..16).for_each(|_| drop(sender.send_to(&bytes, (to.v4(), 5000))));
                thread::sleep(every);
            }
        });
        let (begin, mut counted, mut bytes) = (Instant::now() + WARM_UP, 0, vec![0; 1 << 16]);
        receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let span = loop {
            let read = receiver.recv(&mut bytes).unwrap();
            let now = Instant::now();
            if now >= begin {
                counted += read + 28;
            }
            if now >= begin + SPAN {
                break now - begin;
            }
        };
        ended.store(true, Ordering::Relaxed);
        counted as f64 * 8.0 / span.as_secs_f64()
    })
}

#[track_caller]
fn within_a_twentieth(got: f64, rate: &str) {
    let wanted = rate.parse::<BitRate>().unwrap().get() as f64;
    assert!((got / wanted - 1.0).abs() < 0.05, "{:.2} Mbit/s instead of {:.2}", got / 1e6, wanted / 1e6);
}

/// The interface counts whole super-frames, so a stream has nearly all of the rate.
#[test]
fn a_stream_from_a_limited_pod_has_its_rate() {
    for rate in ["20M", "300M"] {
        let rig = Rig::new();
        let from = limited(&rig, 2, Bandwidth { egress: limit(rate), ingress: None });
        let to = rig.pod(3);
        within_a_twentieth(streamed(&from, &to, to.v4()), rate);
        assert!(rests(&rig) > 0, "{rate}");
    }
}

#[test]
fn a_stream_to_a_limited_pod_of_the_same_node_has_its_rate() {
    for rate in ["20M", "300M"] {
        let rig = Rig::new();
        let (from, to) = (rig.pod(2), limited(&rig, 3, Bandwidth { ingress: limit(rate), egress: None }));
        within_a_twentieth(streamed(&from, &to, to.v6()), rate);
        assert!(metric(&rig, "podswitch_port_limit_held_frames_total") > 0, "{rate}");
        rig.settled();
    }
}

#[test]
fn the_stages_of_a_pipeline_keep_limits_too() {
    let rig = Rig::with("pipeline = true");
    let both = Bandwidth { egress: limit("20M"), ingress: limit("40M") };
    let (limited, free) = (limited(&rig, 2, both), rig.pod(3));
    within_a_twentieth(streamed(&limited, &free, free.v4()), "20M");
    within_a_twentieth(streamed(&free, &limited, limited.v4()), "40M");
}

#[test]
fn datagrams_over_the_limit_are_dropped_and_counted() {
    let rig = Rig::new();
    let fast = Duration::from_micros(100);
    let (free, to) = (rig.pod(2), limited(&rig, 3, Bandwidth { ingress: limit("20M"), egress: None }));
    within_a_twentieth(showered(&free, &to, (1400, fast)), "20M");
    let dropped = rig.settled().dropped["over_limit"];
    assert_eq!(metric(&rig, "podswitch_port_limit_dropped_packets_total"), dropped);
    let from = limited(&rig, 4, Bandwidth { egress: limit("20M"), ingress: None });
    within_a_twentieth(showered(&from, &free, (1400, fast)), "20M");
    // Those stayed in the pod's own kernel.
    assert_eq!(rig.settled().dropped["over_limit"], dropped);
}

/// The others' frames go by the same workers.
#[test]
fn a_pod_without_limits_notices_nothing_of_one_that_waits() {
    let rig = Rig::new();
    let slow = limited(&rig, 2, Bandwidth { egress: limit("1M"), ingress: limit("1M") });
    let (a, b) = (rig.pod(3), rig.pod(4));
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let (sender, receiver) = connection(&slow, &a, a.v4());
        scope.spawn(move || while (&receiver).read(&mut [0; 4096]).is_ok_and(|read| read > 0) {});
        let ended = &ended;
        scope.spawn(move || {
            sender.set_nonblocking(true).unwrap();
            while !ended.load(Ordering::Relaxed) {
                let _ = (&sender).write(&[0; 1 << 16]);
                thread::sleep(Duration::from_millis(1));
            }
            let _ = sender.shutdown(Shutdown::Both);
        });
        let free = streamed(&a, &b, b.v4());
        ended.store(true, Ordering::Relaxed);
        assert!(free > 1e8, "{:.0} Mbit/s", free / 1e6);
    });
}

#[test]
fn limits_are_shown_and_outlive_the_switch() {
    let mut rig = Rig::new();
    let pod = Pod::new(2);
    let limits = "--ingress-rate 50M --ingress-burst 2M --egress-rate 20M";
    let attach = format!("attach pod-2 --netns {} --address {}", pod.path().display(), pod.v4());
    let socket = rig.client().socket().display().to_string();
    assert!(rig.podswitch(&format!("{attach} {limits} --socket {socket}")).success);
    let to = rig.pod(3);
    rig.kill();
    rig.start();
    let shown = rig.client().endpoints().unwrap().remove(0).bandwidth;
    let burst = Some(2_000_000);
    assert_eq!(shown.ingress, Some(RateLimit { burst, ..limit("50M").unwrap() }));
    assert_eq!(shown.egress, limit("20M"));
    rig.podswitch(&format!("show endpoints --socket {socket}")).has("50Mbit/s").has("20Mbit/s");
    within_a_twentieth(streamed(&pod, &to, to.v4()), "20M");
}

/// The sum of a metric over all ports.
fn metric(rig: &Rig, name: &str) -> u64 {
    let socket = rig.client().socket().display().to_string();
    let said = call(&rig.node, &format!("curl -sS --max-time 20 --unix-socket {socket} http://switch/metrics"));
    let values = said.result.lines().filter(|line| line.starts_with(name));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

fn rests(rig: &Rig) -> u64 {
    metric(rig, "podswitch_port_limit_rests_total")
}

//! Pods with limits: what they get, of streams in super-frames and of datagrams, and that others notice nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use control::{Attach, Bandwidth, RateLimit};

use crate::rig::{Pod, Rig, until};
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
            while !ended.load(Ordering::Relaxed) && (&sender).write_all(&bytes).is_ok() {}
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
fn within_a_twentieth(got: f64, wanted: f64) {
    assert!((got / wanted - 1.0).abs() < 0.05, "{:.2} Mbit/s instead of {:.2}", got / 1e6, wanted / 1e6);
}

#[test]
fn explore() {
    let rates = std::env::var("RATES").unwrap();
    for rate in rates.split(',') {
        let rig = Rig::new();
        let wanted = rate.parse::<control::BitRate>().unwrap().get() as f64;
        let sender = limited(&rig, 2, Bandwidth { egress: limit(rate), ingress: None });
        let receiver = limited(&rig, 3, Bandwidth { ingress: limit(rate), egress: None });
        let free = rig.pod(4);
        let show = |what: &str, got: f64| eprintln!("{rate} {what}: {:.1} %", got / wanted * 100.0);
        show("egress v4", streamed(&sender, &free, free.v4()));
        show("egress v6", streamed(&sender, &free, free.v6()));
        show("ingress v4", streamed(&free, &receiver, receiver.v4()));
        show("ingress v6", streamed(&free, &receiver, receiver.v6()));
        show("both", streamed(&sender, &receiver, receiver.v4()));
        if wanted < 2e9 {
            show("udp egress", showered(&sender, &free, (1400, Duration::from_micros(20))));
            show("udp ingress", showered(&free, &receiver, (1400, Duration::from_micros(20))));
        }
        eprintln!("{}", rig.podswitch("show ports").text);
        eprintln!("{}", rig.podswitch("show drops").text);
        eprintln!("{}", rig.podswitch("show endpoints").text);
    }
}

//! Groups of UDP sockets whose datagrams are steered. Needs root and two CPUs; over loopback the kernel receives on the CPU
//! that sends.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket as PlainSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use podswitch_host::{Datagrams, Steered, Steering, Taken, TunnelSocket};
use socket2::SockAddr;

/// As many sockets as CPUs, each the queue of one.
struct Group {
    sockets: Vec<TunnelSocket>,
    steering: Steering,
    cpus: [u16; 2],
    address: SocketAddr,
}

impl Group {
    fn new(loopback: &str) -> Group {
        let local: SocketAddr = loopback.parse().unwrap();
        // A port that was free a moment ago, for all sockets of a group must be bound to the same one.
        let port = PlainSocket::bind(local).unwrap().local_addr().unwrap().port();
        let address = SocketAddr::new(local.ip(), port);
        let (sockets, cpus) = (TunnelSocket::group(address, 2).unwrap(), two_cpus());
        let mut queue_of_cpu = vec![0; usize::from(cpus[1]) + 1];
        queue_of_cpu[usize::from(cpus[1])] = 1;
        let steering = Steering::new(Steered::Datagrams, &queue_of_cpu, 2).unwrap();
        steering.attach_to_group(&sockets[1]).unwrap();
        Group { sockets, steering, cpus, address }
    }

    /// Takes out of a queue all there is: the datagrams that came, by the first number in each.
    fn take(&self, queue: u16) -> (Vec<u64>, Taken) {
        let (mut buffer, mut trains, mut numbers) = (vec![0; 65_536], 0, Vec::new());
        while let Some(train) = self.sockets[usize::from(queue)].receive(&mut buffer).unwrap() {
            trains += 1;
            let datagrams = buffer[..train.length].chunks(train.segment);
            numbers.extend(datagrams.map(|bytes| u64::from_be_bytes(bytes[..8].try_into().unwrap())));
        }
        (numbers, Taken { frames: trains, drained: true })
    }

    fn read(&self, queue: u16) -> Vec<u64> {
        let (numbers, taken) = self.take(queue);
        self.steering.departed(queue, taken, Instant::now());
        numbers
    }
}

#[test]
fn a_datagram_goes_to_the_socket_of_the_cpu_that_receives() {
    for loopback in LOOPBACKS {
        let group = Group::new(loopback);
        for (queue, cpu) in [0, 1, 0].into_iter().zip([0, 1, 0].map(|at| group.cpus[at])) {
            // A port of its own is a flow of its own.
            let socket = PlainSocket::bind(loopback).unwrap();
            on_cpu(cpu, || socket.send_to(&7u64.to_be_bytes(), group.address).unwrap());
            assert_eq!([group.read(queue), group.read(1 - queue)], [vec![7], vec![]], "{loopback}, CPU {cpu}");
            assert_eq!(group.steering.sender_cpu(queue), Some(cpu));
        }
    }
}

#[test]
fn a_flow_leaves_a_socket_when_its_last_train_has_departed() {
    for loopback in LOOPBACKS {
        let group = Group::new(loopback);
        let sender = TunnelSocket::open(loopback.parse().unwrap()).unwrap();
        let to = SockAddr::from(group.address);
        let send = |cpu, first: u64| {
            let train: Vec<u8> = (first..first + 10).flat_map(u64::to_be_bytes).collect();
            let datagrams = Datagrams { slices: &[IoSlice::new(&train)], segment: 8, tos: 0 };
            on_cpu(cpu, || sender.send(&to, &datagrams).unwrap());
        };
        send(group.cpus[0], 0);
        send(group.cpus[1], 10);
        assert_eq!(group.read(1), [], "what was sent later waits behind what was sent first");
        assert_eq!(group.read(0), (0..20).collect::<Vec<_>>());
        send(group.cpus[1], 20);
        assert_eq!([group.read(0), group.read(1)], [vec![], (20..30).collect::<Vec<_>>()]);
    }
}

#[test]
fn flows_whose_sender_moves_stay_in_order() {
    let group = Group::new("127.0.0.1:0");
    let (latest, late, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let read_all = |queue: u16| {
            pin(group.cpus[usize::from(queue)]);
            let mut received = 0;
            loop {
                let is_last = done.load(Ordering::Acquire);
                let (numbers, taken) = group.take(queue);
                for &number in &numbers {
                    let before = latest.fetch_max(number, Ordering::AcqRel);
                    late.fetch_add(u64::from(before > number), Ordering::Relaxed);
                }
                // Only now: whoever comes by the other queue may be noted before what has departed.
                group.steering.departed(queue, taken, Instant::now());
                received += numbers.len();
                match numbers.is_empty() {
                    true if is_last => return received,
                    true => thread::yield_now(),
                    false => {}
                }
            }
        };
        let readers = [0, 1].map(|queue| scope.spawn(move || read_all(queue)));
        let socket = PlainSocket::bind("127.0.0.1:0").unwrap();
        let echo = PlainSocket::bind("127.0.0.1:0").unwrap();
        echo.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (mut moved, mut here) = (Instant::now(), 0);
        for number in 1..=NUMBERS {
            if moved.elapsed() > Duration::from_millis(1) {
                // What a busy CPU has not received yet would be overtaken on the wire: this comes behind it.
                echo.send_to(b"all", echo.local_addr().unwrap()).unwrap();
                echo.recv(&mut [0; 8]).unwrap();
                (moved, here) = (Instant::now(), 1 - here);
                pin(group.cpus[here]);
            }
            socket.send_to(&number.to_be_bytes(), group.address).unwrap();
        }
        done.store(true, Ordering::Release);
        let received = readers.map(|reader| reader.join().unwrap());
        assert!(received.iter().all(|count| *count > 0), "both sockets were used: {received:?}");
    });
    assert_eq!(late.into_inner(), 0);
}

#[test]
fn a_socket_without_a_group_is_refused() {
    let alone = TunnelSocket::open("127.0.0.1:0".parse().unwrap()).unwrap();
    let steering = Steering::new(Steered::Datagrams, &[0], 1).unwrap();
    let refused = steering.attach_to_group(&alone).unwrap_err().to_string();
    assert!(refused.contains("SO_ATTACH_REUSEPORT_EBPF"), "{refused}");
}

fn two_cpus() -> [u16; 2] {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let mut cpus = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap()).map(|cpu| cpu as u16);
    [cpus.next().unwrap(), cpus.next().expect("this test needs two CPUs")]
}

fn on_cpu<T: Send>(cpu: u16, action: impl FnOnce() -> T + Send) -> T {
    let pinned = || {
        pin(cpu);
        action()
    };
    thread::scope(|scope| scope.spawn(pinned).join().unwrap())
}

fn pin(cpu: u16) {
    let mut set = CpuSet::new();
    set.set(cpu.into()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

const LOOPBACKS: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];
const NUMBERS: u64 = 300_000;

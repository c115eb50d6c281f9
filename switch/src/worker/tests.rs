use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use etherparse::PacketBuilder;
use mio::Token;
use packet::{BURST, Mac, Offload, Prefix};
use ring::snapshot::Publisher;
use route_table::RouteTable;

use super::*;
use crate::bank::ROOM_FOR_ANSWERS;
use crate::limits::Limits;
use crate::port::{Abilities, Count, Link, Port, PortCounters, Wire};
use crate::world::hop_of;

pub(crate) fn port(number: u16, workers: usize) -> (Port, Wire) {
    let (end, wire) = Wire::new(256);
    let port = Port {
        number,
        name: format!("port-{number}"),
        host: number == 0,
        mac: Mac([2, 0, 0, 0, 0, number as u8]),
        gateway: Mac::GATEWAY,
        mtu: 1500,
        sources_v4: Vec::new(),
        sources_v6: Vec::new(),
        strict_mac: false,
        abilities: Abilities::ALL,
        link: Link::Memory(end),
        steering: None,
        limits: Limits::default(),
        counters: PortCounters::new(workers),
    };
    (port, wire)
}

#[test]
fn under_a_flood_from_every_port_each_gets_its_share() {
    flood(7);
    // More than a turn has room for.
    flood(61);
}

fn flood(count: u16) {
    let (ports, wires): (Vec<Port>, Vec<Wire>) = (0..count).map(|number| port(number, 1)).unzip();
    let mut ports = ports.into_iter();
    let mut world = World::new(ports.next().unwrap(), RouteTable::new().reader());
    ports.for_each(|port| world.add(port));
    let mut worlds = Publisher::new(world);
    let mut worker = only_worker(&mut worlds);
    (0..count).for_each(|number| worker.activate(number));
    let received = |number| worlds.current().port(number).unwrap().counters.get(Count::Received);
    let at_once = u64::from(count).div_ceil((BURST - ROOM_FOR_ANSWERS) as u64 / FRAMES_IN_COMPANY as u64);
    for turn in 1..=140 {
        for wire in &wires {
            while wire.send(&Offload::default().bytes(), &[0; 60]) {}
        }
        assert!(worker.turn());
        // Nobody waits for longer than it takes to come to everybody once.
        assert!(turn != at_once || (0..count).all(|number| received(number) > 0), "{turn}");
    }
    let counts: Vec<u64> = (0..count).map(received).collect();
    let fair = counts.iter().sum::<u64>() / u64::from(count);
    assert!(counts.iter().all(|&count| count > fair * 8 / 10), "{counts:?}");
}

fn only_worker(worlds: &mut Publisher<World>) -> Worker {
    let poll = Poll::new().unwrap();
    let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
    let crew = Crew { cpus: vec![0], waiting: Waiting::Spin, steered: false, pipeline: false };
    workers(&crew, || worlds.reader(), (&Arc::new(Returns::new(64)), &waker)).unwrap().pop().unwrap().0
}

/// Nothing would tell of its frames.
#[test]
fn a_port_without_a_descriptor_is_read_however_long_it_had_nothing() {
    let (ports, wires): (Vec<Port>, Vec<Wire>) = (0..2).map(|number| port(number, 1)).unzip();
    let mut ports = ports.into_iter();
    let mut world = World::new(ports.next().unwrap(), RouteTable::new().reader());
    world.add(ports.next().unwrap());
    let mut worker = only_worker(&mut Publisher::new(world));
    worker.activate(1);
    for _ in 0..1_000 {
        assert!(!worker.turn());
    }
    assert!(wires[1].send(&Offload::default().bytes(), &frame(0)));
    assert!(worker.turn());
}

/// What wakes a worker that has a guest says nothing about the guest.
#[test]
fn a_guest_goes_home_after_a_rest_and_not_for_a_bell() {
    let (host, _wire) = port(0, 2);
    let mut worlds = Publisher::new(World::new(host, RouteTable::new().reader()));
    let poll = Poll::new().unwrap();
    let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
    let crew = Crew { cpus: vec![0; 2], waiting: Waiting::Sleep, steered: false, pipeline: false };
    let mut workers = workers(&crew, || worlds.reader(), (&Arc::new(Returns::new(64)), &waker)).unwrap();
    let [(home, _), (away, ends)] = &mut workers[..] else { unreachable!("two were made") };
    let mut events = Events::with_capacity(8);
    home.give_all_away();
    away.take_in();
    let homes = |worker: &Worker| worker.banks.iter().map(|bank| bank.home).collect::<Vec<_>>();
    (ends.wake)().unwrap();
    away.sleep(&mut events).unwrap();
    assert_eq!(homes(away), [1, 0]);
    let since = Instant::now();
    while homes(away) != [1] {
        away.sleep(&mut events).unwrap();
    }
    assert!(since.elapsed() >= GUEST_REST);
    home.take_in();
    assert_eq!(homes(home), [0]);
}

/// A bank goes from worker to worker after each of their turns, while frames come by one of its ports and leave by another.
/// With `PODSWITCH_DEEP` a million times.
#[test]
fn no_frame_is_lost_repeated_or_overtaken_however_often_a_bank_changes_hands() {
    const WORKERS: u16 = 3;
    let handovers = if std::env::var_os("PODSWITCH_DEEP").is_some() { 1_000_000 } else { 3_000 };
    let (ports, wires): (Vec<Port>, Vec<Wire>) = (0..3).map(|number| port(number, WORKERS.into())).unzip();
    let mut routes = RouteTable::new();
    let (mut world, mut ports) = (None, ports.into_iter());
    for mut port in ports.by_ref() {
        port.sources_v4 = vec![u32::from_be_bytes([10, 0, 0, port.number as u8])];
        match &mut world {
            None => world = Some(World::new(port, routes.reader())),
            Some(world) => world.add(port),
        }
    }
    routes.insert(Prefix::host([10, 0, 0, 2].into()), hop_of(2)).unwrap();
    let mut worlds = Publisher::new(world.unwrap());
    let poll = Poll::new().unwrap();
    let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
    let crew = Crew { cpus: vec![0; WORKERS.into()], waiting: Waiting::Spin, steered: false, pipeline: false };
    let mut workers = workers(&crew, || worlds.reader(), (&Arc::new(Returns::new(64)), &waker)).unwrap();
    // A wire has one queue, which is the first bank's.
    (0..3).for_each(|port| workers[0].0.activate(port));
    let (given, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let (sent, received) = thread::scope(|scope| {
        for (mut worker, _ends) in workers {
            let (given, ended) = (&given, &ended);
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    worker.take_in();
                    worker.turn();
                    given.fetch_add(worker.give_all_away(), Ordering::Relaxed);
                    thread::yield_now();
                }
            });
        }
        let _ending = Ending(&ended);
        let (mut sent, mut received) = (0, 0);
        while given.load(Ordering::Relaxed) < handovers || received < sent || sent <= 200 {
            // No more than the wire behind the switch has room for.
            while (given.load(Ordering::Relaxed) < handovers || sent <= 200) && sent < received + 200 {
                assert!(wires[1].send(&Offload::default().bytes(), &frame(sent)));
                sent += 1;
            }
            while let Some(count) = wires[2].receive(|offload, frame| in_order(received, &offload, frame)) {
                received += count;
            }
            thread::yield_now();
        }
        (sent, received)
    });
    assert_eq!(sent, received);
    let count = |port, what| worlds.current().port(port).unwrap().counters.get(what);
    assert_eq!((count(1, Count::Received), count(2, Count::Sent)), (sent, sent));
}

/// Ends the workers, however the test ends.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A datagram with a number, from port 1 to port 2.
pub(crate) fn frame(number: u64) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], Mac::GATEWAY.0).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    let mut frame = Vec::new();
    builder.udp(1000, 2000).write(&mut frame, &number.to_be_bytes()).unwrap();
    frame
}

/// How many datagrams a frame carries, after a look at their numbers, which go on from `next`.
fn in_order(next: u64, offload: &Offload, frame: &[u8]) -> u64 {
    let numbers = frame[14 + 20 + 8..].chunks(8).map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
    let count = numbers.enumerate().map(|(at, number)| assert_eq!(number, next + at as u64, "{offload:?}")).count();
    assert!(count > 0);
    count as u64
}

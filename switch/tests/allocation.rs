//! A turn allocates nothing: a counting allocator watches a thousand turns of mixed traffic.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use mio::{Poll, Token, Waker};
use packet::view::Family;
use packet::{Offload, Punt, Reason};
use podswitch::crew::Crew;
use podswitch::port::Count;
use podswitch::returns::Returns;
use podswitch::worker::{Tally, Waiting, Worker, workers};
use podswitch::world::World;
use ring::snapshot::Publisher;
use route_table::RouteTable;

use ends::{Kind, nodes};
use frames::{Packet, arp_request};
use rig::{ABLE, HOST, PLAIN, Rig, Station, UPLINK, mac, tcp, udp, v4};
use rules::Rules;

#[allow(dead_code, reason = "the path tests use more of it")]
#[path = "path/ends.rs"]
mod ends;
#[allow(dead_code, reason = "the path tests read more of it")]
#[path = "path/frames.rs"]
mod frames;
#[allow(dead_code, reason = "the path tests use more of it")]
#[path = "path/rig.rs"]
mod rig;
#[allow(dead_code, reason = "the path tests use more of it")]
#[path = "path/rules.rs"]
mod rules;

const TURNS: usize = 1_000;

#[test]
fn a_turn_allocates_nothing() {
    let small = Station { mtu: 1300, ..PLAIN };
    let mut rig = Rig::new(&[ABLE, PLAIN, ABLE, small]);
    assert_eq!(allocations_of_turns(&mut rig), 0);
    // All of it was in play.
    let happened = |count: u64| count >= TURNS as u64;
    assert!(happened(rig.count(2, Count::Cut)) && happened(rig.count(3, Count::Joined)));
    assert!(happened(rig.count(2, Count::Sent)) && happened(rig.count(1, Count::Answered)));
    for why in [Punt::Arp, Punt::TtlExceeded, Punt::Fragment] {
        assert!(rig.punted(1).iter().any(|&(seen, count)| seen == why && happened(count)), "{why:?}");
    }
    assert!(rig.dropped(1).iter().any(|&(seen, count)| seen == Reason::SpoofedSource && happened(count)));
}

/// Some flows are allowed, some denied, and all are looked for again each second.
#[test]
fn a_turn_with_rules_allocates_nothing() {
    let mut rig = Rig::new(&[ABLE, PLAIN, ABLE, PLAIN]);
    let mut rules = Rules::new(4);
    rules.apply(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: asked, namespace: shop},
          spec: {podSelector: {matchLabels: {pod: p2}}, ingress: [{ports: [{protocol: UDP, port: 53}]}]}}",
    );
    rules.enforce(&mut rig);
    let traffic = traffic();
    (0..TURNS / 10).for_each(|_| _ = turn(&mut rig, &traffic));
    let turn = |second| {
        rig.lane.now_seconds = second as u32;
        turn(&mut rig, &traffic)
    };
    assert_eq!((0..TURNS).map(turn).sum::<u64>(), 0);
    assert!(rig.dropped(1).iter().any(|&(seen, count)| seen == Reason::PolicyIngress && count >= TURNS as u64));
    assert!(rig.count(2, Count::Sent) >= TURNS as u64);
}

/// Counting included, and the clock of turns that are timed.
#[test]
fn a_workers_turn_allocates_nothing() {
    let (host, wire) = rig::port(HOST, ABLE);
    let mut worlds = Publisher::new(World::new(host, RouteTable::new().reader()));
    let poll = Poll::new().unwrap();
    let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
    let crew = Crew { cpus: vec![0], waiting: Waiting::Spin, steered: false, pipeline: false };
    let (mut worker, ends) =
        workers(&crew, || worlds.reader(), (&Arc::new(Returns::new(64)), &waker)).unwrap().pop().unwrap();
    worker.activate(HOST);
    let turn = |worker: &mut Worker| {
        wire.send(&Offload::default().bytes(), &arp_request((mac(HOST), v4(HOST)), v4(1)));
        allocations(|| assert!(worker.turn()))
    };
    turn(&mut worker);
    let timed = ends.tallies.turn_times.read().count();
    assert_eq!((0..TURNS).map(|_| turn(&mut worker)).sum::<u64>(), 0);
    assert!(ends.tallies.turn_times.read().count() > timed);
    assert!(ends.tallies.get(Tally::PuntsHighest) > 0);
}

#[test]
fn a_traced_turn_allocates_nothing() {
    let small = Station { mtu: 1300, ..PLAIN };
    let mut rig = Rig::new(&[ABLE, PLAIN, ABLE, small]);
    rig.trace(None, Some("not (port 7 or src net 192.0.2.0/24) and (ip or ip6 or arp)"), false);
    assert_eq!(allocations_of_turns(&mut rig), 0);
    assert!(rig.lane.tracer.matched >= TURNS as u64 && rig.lane.tracer.missed > 0, "a full ring was met too");
}

#[test]
fn the_stages_of_a_pipeline_allocate_nothing() {
    let mut rig = Rig::new(&[ABLE, PLAIN, ABLE, PLAIN]);
    let (_worlds, (mut receiving, mut deciding, mut departing)) = rig.pipeline();
    let traffic = traffic();
    let mut turn = || {
        for (port, offload, frame) in &traffic {
            rig.send(*port, offload, frame);
        }
        let allocations = allocations(|| {
            let received = receiving.turn(|burst, world, lane| {
                world.ports.iter().flatten().for_each(|port| _ = port.receive(0, burst, (world, lane), rig::BUDGET));
            });
            assert!(received && deciding.turn(0) && departing.turn());
        });
        rig.serve();
        rig.assert_conservation();
        (0..=4).for_each(|port| rig.drain(port, |_, _| {}));
        allocations
    };
    (0..TURNS / 10).for_each(|_| _ = turn());
    assert_eq!((0..TURNS).map(|_| turn()).sum::<u64>(), 0);
}

/// Trains, super-frames that are cut, and all that is wrapped and unwrapped.
#[test]
fn turns_through_a_tunnel_allocate_nothing() {
    for kind in [Kind::Vxlan, Kind::Bare] {
        let (mut near, mut far) = nodes(kind);
        let (offload, long) = tcp(Family::V4, 1, 2, 20_000).super_frame(1380);
        let small = udp(Family::V4, 1, 2, 22).frame();
        let mut turn = || {
            near.send(1, &offload, &long);
            (0..20).for_each(|_| near.send(1, &Offload::default(), &small));
            let allocations = allocations(|| {
                near.path_turn();
                far.path_turn();
            });
            far.drain(2, |_, _| {});
            allocations
        };
        (0..TURNS / 10).for_each(|_| _ = turn());
        assert_eq!((0..TURNS).map(|_| turn()).sum::<u64>(), 0);
        let happened = |count: u64| assert!(count >= TURNS as u64, "{count}");
        happened(near.count(UPLINK, Count::Sent) / 21);
        happened(far.count(2, Count::Joined));
    }
}

/// Of a thousand turns, after a hundred that nobody watches.
fn allocations_of_turns(rig: &mut Rig) -> u64 {
    let traffic = traffic();
    for _ in 0..TURNS / 10 {
        turn(rig, &traffic);
    }
    (0..TURNS).map(|_| turn(rig, &traffic)).sum()
}

#[test]
fn an_allocation_is_seen() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| drop(black_box(vec![0_u8; 10]))), 1);
    assert_eq!(allocations(|| assert!(black_box(true))), 0);
}

/// A burst by port 1 and another by port 2: forwarded, cut, joined, completed, dropped, punted.
fn traffic() -> Vec<(u16, Offload, Vec<u8>)> {
    let mut traffic = Vec::new();
    let finished = |packet: &Packet| (1, Offload::default(), packet.frame());
    for family in [Family::V4, Family::V6] {
        let (offload, frame) = tcp(family, 1, 2, 20_000).super_frame(1400);
        traffic.push((1, offload, frame.clone()));
        let (offload, frame) = tcp(family, 1, 3, 20_000).super_frame(1400);
        traffic.push((1, offload, frame));
        let (offload, frame) = udp(family, 1, 2, 500).unfinished();
        traffic.push((1, offload, frame));
        traffic
            .extend(tcp(family, 2, 3, 8 * 1400).segments(1400).iter().map(|one| (2, Offload::default(), one.frame())));
        traffic.push(finished(&udp(family, 1, 3, 64)));
        traffic.push(finished(&Packet { ttl: 1, ..udp(family, 1, 3, 64) }));
        let spoofed = udp(family, 3, 2, 64);
        traffic.push(finished(&spoofed));
    }
    traffic.push(finished(&udp(Family::V4, 1, 4, 1400)));
    traffic.push((1, Offload::default(), arp_request((mac(1), v4(1)), v4(2))));
    traffic
}

/// One turn; the allocations of its path, not of the slow path.
fn turn(rig: &mut Rig, traffic: &[(u16, Offload, Vec<u8>)]) -> u64 {
    for (port, offload, frame) in traffic {
        rig.send(*port, offload, frame);
    }
    rig.now += Duration::from_secs(1);
    let allocations = allocations(|| assert!(rig.path_turn(), "something was received"));
    rig.serve();
    rig.assert_conservation();
    for port in 0..=4 {
        rig.drain(port, |_, _| {});
    }
    allocations
}

/// How often this thread allocates during `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

#[allow(unsafe_code, reason = "an allocator is an unsafe trait")]
// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`, which is the system allocator's too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above with this layout, and so from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

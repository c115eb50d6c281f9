use std::thread;

use mio::{Poll, Token};
use packet::{Offload, Prefix};
use ring::snapshot::Publisher;
use route_table::RouteTable;

use super::*;
use crate::pipeline::{BATCHES, WRITERS};
use crate::port::{Port, Wire};
use crate::worker::tests::{frame, port};
use crate::world::hop_of;

/// Stages, and the far ends of the ports between which they carry frames: from number 1 to number 2.
struct Rig {
    stages: Stages,
    bank: Bank,
    wires: Vec<Wire>,
    slow_waker: Waker,
    _worlds: Publisher<World>,
    _routes: RouteTable,
    _poll: Poll,
}

impl Rig {
    fn new(waiting: Waiting) -> Rig {
        let (ports, wires): (Vec<Port>, Vec<Wire>) = (0..3).map(|number| port(number, WRITERS)).unzip();
        let (mut routes, mut ports) = (RouteTable::new(), ports.into_iter());
        routes.insert(Prefix::host([10, 0, 0, 2].into()), hop_of(2)).unwrap();
        let mut world = World::new(ports.next().unwrap(), routes.reader());
        for mut port in ports {
            port.sources_v4 = vec![u32::from_be_bytes([10, 0, 0, port.number as u8])];
            world.add(port);
        }
        let (mut worlds, poll) = (Publisher::new(world), Poll::new().unwrap());
        let crew = Crew { cpus: vec![0, 1, 2], waiting, steered: false, pipeline: true };
        let (stages, _) = connected(&crew, || worlds.reader(), &Arc::new(Returns::new(64)));
        let (bank, slow_waker) = (Bank::new(0, 0).unwrap(), Waker::new(poll.registry(), Token(0)).unwrap());
        Rig { stages, bank, wires, slow_waker, _worlds: worlds, _routes: routes, _poll: poll }
    }

    fn tallies(&self) -> [&Tallies; 3] {
        let (receiving, deciding, departing) = &self.stages;
        [&receiving.tallies, &deciding.tallies, &departing.tallies]
    }

    /// Turns that were begun and have not ended, of all stages together.
    fn under_way(&self) -> u64 {
        let sum = |what| self.tallies().iter().map(|tallies| tallies.get(what)).sum::<u64>();
        sum(Tally::Begun) - sum(Tally::Ended)
    }
}

fn send(wire: &Wire) {
    assert!(wire.send(&Offload::default().bytes(), &frame(0)));
}

fn take_all(wire: &Wire) -> usize {
    std::iter::from_fn(|| wire.receive(|_, _| ())).count()
}

/// A wire has no descriptor that would tell of frames.
fn receive(receiving: &mut Stage<Receiving>, bank: &mut Bank) -> bool {
    bank.activate(1);
    receiving.receive(bank)
}

#[test]
fn a_turn_is_under_way_from_its_receive_to_its_departure() {
    let mut rig = Rig::new(Waiting::Sleep);
    for under_way in [1, 2] {
        send(&rig.wires[1]);
        assert!(receive(&mut rig.stages.0, &mut rig.bank));
        assert_eq!(rig.under_way(), under_way);
    }
    assert!(!receive(&mut rig.stages.0, &mut rig.bank));
    assert!(rig.stages.1.decide(0) && rig.stages.1.decide(0) && !rig.stages.1.decide(0));
    assert_eq!(rig.under_way(), 2);
    for under_way in [1, 0] {
        assert!(rig.stages.2.depart());
        assert_eq!(rig.under_way(), under_way);
    }
    assert!(!rig.stages.2.depart());
    assert_eq!(rig.under_way(), 0);
    assert_eq!(rig.tallies().map(|tallies| tallies.get(Tally::Turns)), [2, 2, 2]);
}

#[test]
fn at_the_end_what_was_received_departs() {
    let mut rig = Rig::new(Waiting::Spin);
    for _ in 0..3 {
        send(&rig.wires[1]);
        assert!(receive(&mut rig.stages.0, &mut rig.bank));
    }
    send(&rig.wires[1]);
    let (receiving, deciding, departing) = rig.stages;
    // Told before it receives once more; each of the others has nobody before it when it begins.
    receiving.run(rig.bank, || true).unwrap();
    deciding.run().unwrap();
    departing.run(&rig.slow_waker).unwrap();
    assert_eq!(take_all(&rig.wires[2]), 3);
}

#[test]
fn who_shares_a_cpu_sleeps_at_once() {
    let crew = |cpus| Crew { cpus, waiting: Waiting::Spin, steered: false, pipeline: true };
    let waiting = |cpus| {
        let crew = crew(cpus);
        [0, 1, 2]
            .map(|number| Stage::new((), (Parker::new(), Parker::new().unparker().clone()), (&crew, number)).waiting)
    };
    assert_eq!(waiting(vec![4, 5, 6]), [Waiting::Spin; 3]);
    assert_eq!(waiting(vec![4, 5, 5]), [Waiting::Spin, Waiting::Sleep, Waiting::Sleep]);
}

/// Frames find the other threads asleep or about to be, and Receiving without a batch. With `PODSWITCH_DEEP` a million times.
#[test]
fn no_batch_waits_for_a_ring_that_was_missed() {
    let rounds = if std::env::var_os("PODSWITCH_DEEP").is_some() { 1_000_000 } else { 5_000 };
    for waiting in [Waiting::Sleep, Waiting::Adaptive(Duration::from_micros(5))] {
        let Rig { stages: (receiving, deciding, departing), mut bank, wires, slow_waker, .. } = Rig::new(waiting);
        let tallies = [&deciding.tallies, &departing.tallies].map(Arc::clone);
        thread::scope(|scope| {
            scope.spawn(|| deciding.run().unwrap());
            scope.spawn(|| departing.run(&slow_waker).unwrap());
            // Goes with this closure, also by a panic, and the others with it.
            let mut receiving = receiving;
            for round in 0..rounds {
                let frames = if round % 16 == 0 { 2 * BATCHES } else { 1 };
                for _ in 0..frames {
                    while !receiving.stage.may_receive() {
                        receiving.wait(Receiving::may_receive, None);
                    }
                    send(&wires[1]);
                    assert!(receive(&mut receiving, &mut bank));
                }
                let (mut came, start) = (0, Instant::now());
                while came < frames {
                    came += take_all(&wires[2]);
                    assert!(start.elapsed() < Duration::from_secs(30), "waited in vain in round {round}");
                    thread::yield_now();
                }
            }
        });
        assert!(tallies.iter().all(|tallies| tallies.get(Tally::Sleeps) > 0));
    }
}

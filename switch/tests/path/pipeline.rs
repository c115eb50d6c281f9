//! The path on three threads does what it does on one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use control::{Form, Stage};
use packet::view::Family;
use packet::{Mac, Offload, Punt, Reason};
use podswitch::pipeline::{BATCHES, Deciding, Departing, Receiving};
use podswitch::port::Count;

use crate::frames::{Packet, arp_request};
use crate::rig::{ABLE, BUDGET, HOST, PLAIN, Rig, Station, WIRE_FRAMES, mac, tcp, udp, v4};

type Stages = (Receiving, Deciding, Departing);

const PORTS: u16 = 4;

/// A batch from all ports; false when there is none, or none to fill.
fn receive(receiving: &mut Receiving) -> bool {
    receiving.turn(|burst, world, lane| {
        world.ports.iter().flatten().for_each(|port| _ = port.receive(0, burst, (world, lane), BUDGET));
    })
}

/// Turns until all is settled, the slow path included.
fn settle(rig: &mut Rig, (receiving, deciding, departing): &mut Stages) {
    loop {
        let received = receive(receiving);
        let decided = deciding.turn(0);
        let departed = departing.turn() || departing.answer();
        rig.serve();
        if !(received || decided || departed) {
            break;
        }
    }
    assert!(receiving.is_idle());
    rig.assert_conservation();
}

fn stations() -> [Station; 3] {
    [ABLE, PLAIN, Station { mtu: 1300, ..ABLE }]
}

/// Frames to be forwarded, cut, joined, completed, dropped and punted, by the port they come from.
fn traffic() -> Vec<(u16, Offload, Vec<u8>)> {
    let mut traffic = Vec::new();
    let finished = |from, packet: &Packet| (from, Offload::default(), packet.frame());
    for family in [Family::V4, Family::V6] {
        for to in [2, 3] {
            let (offload, frame) = tcp(family, 1, to, 20_000).super_frame(1200);
            traffic.push((1, offload, frame));
        }
        let (offload, frame) = udp(family, 1, 2, 500).unfinished();
        traffic.push((1, offload, frame));
        traffic.extend(tcp(family, 2, 1, 8 * 1400).segments(1400).iter().map(|packet| finished(2, packet)));
        traffic.push(finished(1, &Packet { ttl: 1, ..udp(family, 1, 3, 64) }));
        traffic.push(finished(1, &udp(family, 3, 2, 64)));
        traffic.push(finished(1, &udp(family, 1, 3, 1400)));
        let to_pod = udp(family, 2, 1, 30);
        traffic.push(finished(HOST, &Packet { macs: (mac(HOST), Mac::GATEWAY), ..to_pod }));
    }
    traffic.push((1, Offload::default(), arp_request((mac(1), v4(1)), v4(2))));
    traffic
}

#[test]
fn three_stages_do_what_one_turn_does() {
    let (mut one, mut three) = (Rig::new(&stations()), Rig::new(&stations()));
    let (_worlds, mut stages) = three.pipeline();
    for (port, offload, frame) in traffic() {
        one.send(port, &offload, &frame);
        three.send(port, &offload, &frame);
    }
    one.settle();
    settle(&mut three, &mut stages);
    for port in 0..PORTS {
        assert_eq!(three.take_frames(port), one.take_frames(port), "port {port}");
        assert_eq!((three.dropped(port), three.punted(port)), (one.dropped(port), one.punted(port)));
        Count::ALL.iter().for_each(|&what| assert_eq!(three.count(port, what), one.count(port, what), "{what:?}"));
    }
    assert!(three.dropped(1).iter().any(|&(reason, _)| reason == Reason::SpoofedSource));
    for why in [Punt::Arp, Punt::TtlExceeded, Punt::TooBig, Punt::Fragment] {
        assert!(three.punted(1).iter().any(|&(seen, _)| seen == why), "{why:?}");
    }
    assert!(three.count(1, Count::Joined) > 0 && three.count(2, Count::Cut) > 0 && three.count(1, Count::Answered) > 0);
    assert!(stages.2.take_punted() && !stages.2.take_punted());
}

#[test]
fn a_world_is_not_in_force_while_a_batch_of_an_older_one_is_under_way() {
    let mut rig = Rig::new(&stations());
    let (mut worlds, (mut receiving, mut deciding, mut departing)) = rig.pipeline();
    rig.send(1, &Offload::default(), &udp(Family::V4, 1, 2, 10).frame());
    assert!(receive(&mut receiving) && deciding.turn(0) && !receiving.is_idle());
    let mut world = rig.world.clone();
    world.remove(2);
    let version = worlds.publish(world);
    assert!(!worlds.is_in_force(version));
    assert!(departing.turn() && worlds.is_in_force(version));
    assert_eq!(rig.take(2).len(), 1, "it departed by the port it was decided for");
    // The next batch knows better.
    rig.send(1, &Offload::default(), &udp(Family::V4, 1, 2, 10).frame());
    assert!(receive(&mut receiving) && deciding.turn(0) && departing.turn());
    assert!(rig.is_silent());
    rig.assert_conservation();
    // One that waits to be filled holds a world, unless it is told not to.
    assert!(!receive(&mut receiving));
    let version = worlds.barrier();
    assert!(!worlds.is_in_force(version));
    receiving.offline();
    assert!(worlds.is_in_force(version));
}

#[test]
fn nothing_is_received_while_all_batches_are_under_way() {
    let mut rig = Rig::new(&stations());
    let (_worlds, mut stages) = rig.pipeline();
    for sent in 0..=BATCHES {
        rig.send(1, &Offload::default(), &udp(Family::V4, 1, 2, 10).frame());
        assert_eq!(receive(&mut stages.0), sent < BATCHES);
    }
    assert_eq!(rig.count(1, Count::Received), BATCHES as u64);
    settle(&mut rig, &mut stages);
    assert_eq!(rig.take(2).len(), BATCHES + 1);
}

#[test]
fn a_trace_goes_along() {
    let mut rig = Rig::new(&stations());
    rig.trace(None, None, false);
    let (_worlds, mut stages) = rig.pipeline();
    // Two batches at once: what was noted of one does not mix with the other's.
    let (offload, frame) = tcp(Family::V4, 1, 2, 20_000).super_frame(1400);
    rig.send(1, &offload, &frame);
    assert!(receive(&mut stages.0) && stages.1.turn(0));
    rig.send(1, &Offload::default(), &udp(Family::V4, 3, 2, 64).frame());
    settle(&mut rig, &mut stages);
    let first = rig.traced().unwrap();
    assert_eq!((first.from, first.to, first.form.0, first.left), (Some(1), Some(2), Form::Cut, None));
    let second = rig.traced().unwrap();
    assert_eq!(
        second.left.map(|(stage, exit)| (stage, exit.reason())),
        Some((Stage::Leaving, Some(Reason::SpoofedSource)))
    );
    assert!(rig.traced().is_none());
}

#[test]
fn packets_keep_their_order_between_threads() {
    const PACKETS: usize = 20_000;
    let mut rig = Rig::new(&stations());
    let (_worlds, (mut receiving, mut deciding, mut departing)) = rig.pipeline();
    let sent = |number: usize| udp(Family::V4, 1, 2, 2 + number % 100);
    let send = |rig: &Rig, number| rig.send_raw(1, &Offload::default().bytes(), &sent(number).frame());
    let (mut sending, mut received) = (0, Vec::with_capacity(PACKETS));
    let stop = AtomicBool::new(false);
    let until_stopped = |mut turn: Box<dyn FnMut() + Send>| {
        while !stop.load(Ordering::Relaxed) {
            turn();
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        let turns: [Box<dyn FnMut() + Send>; 3] = [
            Box::new(move || _ = receive(&mut receiving)),
            Box::new(move || _ = deciding.turn(0)),
            Box::new(move || _ = departing.turn()),
        ];
        turns.into_iter().for_each(|turn| _ = scope.spawn(|| until_stopped(turn)));
        // What is dropped counts too, so that a fault is told of and not waited for.
        let settled = |rig: &Rig| rig.dropped(1).iter().map(|(_, count)| *count as usize).sum::<usize>();
        while received.len() + settled(&rig) < PACKETS {
            while sending < PACKETS.min(received.len() + WIRE_FRAMES) && send(&rig, sending) {
                sending += 1;
            }
            received.extend(rig.take(2));
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let expected = (0..PACKETS).map(|number| sent(number).hop(Mac::GATEWAY, mac(2)));
    assert!(expected.eq(received), "each packet came, in order; dropped: {:?}", rig.dropped(1));
    rig.assert_conservation();
}

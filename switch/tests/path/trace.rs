//! What a trace sees: every way a packet can leave, told as it was; and nothing while there is none.

use std::sync::Arc;

use control::{Form, Stage};
use packet::view::Family;
use packet::{Burst, Exit, Mac, Offload, Punt, Reason};
use podswitch::lane::Lane;
use podswitch::path;
use podswitch::tracer::{RECORDS, Record, Rewritten, START_LEN};
use podswitch::world::{Adjacency, BLACKHOLE, Hop, hop_of};

use crate::frames::{Packet, Transport, arp_request};
use crate::rig::{ABLE, HOST, PLAIN, Rig, Station, mac, tcp, udp, v4};

/// Everything traced so far.
fn traced(rig: &mut Rig) -> Vec<Record> {
    std::iter::from_fn(|| rig.traced()).collect()
}

/// What a trace of everything sees of one frame.
fn of(rig: &mut Rig, port: u16, offload: &Offload, frame: &[u8]) -> Record {
    rig.trace(None, None, false);
    rig.send(port, offload, frame);
    rig.path_turn();
    let [record] = traced(rig)[..] else { panic!("one packet was sent") };
    record
}

fn left(record: &Record) -> Option<(Stage, Exit)> {
    record.left
}

#[test]
fn nothing_is_seen_while_there_is_no_trace() {
    let mut rig = Rig::new(&[ABLE, PLAIN]);
    rig.pass(1, &[udp(Family::V4, 1, 2, 10)]);
    rig.trace(None, None, false);
    rig.world.trace = None;
    rig.pass(1, &[udp(Family::V4, 1, 2, 10)]);
    assert!(rig.traced().is_none());
    assert_eq!((rig.lane.tracer.matched, rig.lane.tracer.missed), (0, 0));
}

#[test]
fn a_forwarded_packet_is_told_stage_by_stage() {
    for (family, transport) in [(Family::V4, 34), (Family::V6, 54)] {
        let mut rig = Rig::new(&[ABLE, ABLE]);
        let frame = udp(family, 1, 2, 300).frame();
        let padded = [&frame[..], &[0; 9]].concat();
        let record = of(&mut rig, 1, &Offload::default(), &padded);
        assert_eq!((record.from, record.to, record.length as usize), (Some(1), Some(2), padded.len()));
        assert_eq!(record.start(), &frame[..START_LEN], "as it came in, before it was rewritten");
        let parsed = record.parsed;
        assert_eq!((parsed.protocol, parsed.transport, parsed.length as usize), (17, transport, frame.len()));
        let routed = record.routed.unwrap();
        assert_eq!((routed.number, routed.adjacency.hop, routed.by_return), (hop_of(2).0, Hop::Forward, false));
        assert_eq!(record.rewritten, Some(Rewritten { ttl: 63, source: Mac::GATEWAY, destination: mac(2) }));
        assert_eq!((record.form, left(&record), record.settled), ((Form::Whole, 1), None, Exit::NONE));
    }
}

#[test]
fn every_form_of_departure_is_told() {
    let mut rig = Rig::new(&[ABLE, PLAIN]);
    let (offload, frame) = tcp(Family::V4, 1, 2, 5000).super_frame(1000);
    let record = of(&mut rig, 1, &offload, &frame);
    assert_eq!((record.form, record.offload), ((Form::Cut, 5), offload));
    let (offload, frame) = udp(Family::V6, 1, 2, 50).unfinished();
    assert_eq!(of(&mut rig, 1, &offload, &frame).form, (Form::Completed, 1));
    for segment in tcp(Family::V4, 2, 1, 4000).segments(1000) {
        rig.send(2, &Offload::default(), &segment.frame());
    }
    rig.path_turn();
    let joined: Vec<_> = traced(&mut rig).iter().map(|record| (record.form, record.to)).collect();
    assert_eq!(joined, [((Form::Joined, 4), Some(1)); 4]);
}

#[test]
fn every_stage_that_lets_a_packet_go_is_named_with_its_reason() {
    let plain = Offload::default();
    let base = || udp(Family::V4, 1, 2, 10);
    let to = |address: &str| Packet { addresses: (base().addresses.0, address.parse().unwrap()), ..base() };
    let small = Station { mtu: 600, ..PLAIN };
    let drop = Exit::drop;
    let punt = Exit::punt;
    for (port, frame, stage, exit) in [
        (1, base().frame()[..20].to_vec(), Stage::Parse, drop(Reason::Truncated)),
        (1, vec![], Stage::Parse, drop(Reason::Truncated)),
        (1, arp_request((mac(1), v4(1)), v4(2)), Stage::Parse, punt(Punt::Arp)),
        (1, udp(Family::V4, 3, 2, 10).frame(), Stage::Leaving, drop(Reason::SpoofedSource)),
        (1, to("203.0.113.9").frame(), Stage::Route, drop(Reason::Blackhole)),
        (1, to("10.244.77.1").frame(), Stage::Route, punt(Punt::Unreachable)),
        (1, to("169.254.1.1").frame(), Stage::Route, punt(Punt::Local)),
        (
            HOST,
            Packet { macs: (mac(HOST), Mac::GATEWAY), ..to("192.0.2.1") }.frame(),
            Stage::Route,
            drop(Reason::HostToHost),
        ),
        (1, Packet { ttl: 1, ..base() }.frame(), Stage::Rewrite, punt(Punt::TtlExceeded)),
        (1, udp(Family::V4, 1, 3, 700).frame(), Stage::Rewrite, punt(Punt::Fragment)),
        (1, udp(Family::V6, 1, 3, 700).frame(), Stage::Rewrite, punt(Punt::TooBig)),
    ] {
        let mut rig = Rig::new(&[ABLE, PLAIN, small]);
        rig.route("203.0.113.0/24", BLACKHOLE);
        let record = of(&mut rig, port, &plain, &frame);
        assert_eq!((left(&record), record.settled), (Some((stage, exit)), exit), "{exit:?}");
        assert_eq!((record.from, record.rewritten), (Some(port), None), "{exit:?}");
        assert_eq!(record.routed.is_some(), matches!(stage, Stage::Route | Stage::Rewrite), "{exit:?}");
        assert_eq!(record.start(), &frame[..frame.len().min(START_LEN)]);
    }
}

#[test]
fn what_departs_in_vain_is_dropped_at_last() {
    let frame = udp(Family::V4, 1, 2, 10).frame();
    let mut gone = Rig::new(&[ABLE, PLAIN]);
    gone.world.ports[2] = None;
    let (offload, uncuttable) = tcp(Family::V6, 1, 2, 60_000).super_frame(1);
    for (mut rig, offload, frame, reason) in [
        (gone, Offload::default(), frame, Reason::PortGone),
        (Rig::new(&[ABLE, PLAIN]), offload, uncuttable, Reason::Uncuttable),
    ] {
        let record = of(&mut rig, 1, &offload, &frame);
        let exit = Exit::drop(reason);
        assert_eq!((left(&record), record.settled, record.to), (Some((Stage::Depart, exit)), exit, Some(2)));
    }
}

#[test]
fn a_punt_without_room_is_told_as_both() {
    let mut rig = Rig::new(&[ABLE]);
    let request = arp_request((mac(1), v4(1)), v4(2));
    for _ in 0..200 {
        rig.send(1, &Offload::default(), &request);
    }
    rig.trace(None, None, true);
    while rig.path_turn() {}
    let record = traced(&mut rig).pop().expect("the slow path was never served");
    let both = (Some((Stage::Parse, Exit::punt(Punt::Arp))), Exit::drop(Reason::PuntFull));
    assert_eq!((left(&record), record.settled), both);
}

#[test]
fn a_return_entry_is_told_apart_from_the_route_table() {
    let mut rig = Rig::new(&[ABLE, ABLE]);
    // The host translated: pod 1 speaks to pod 2 by way of the host, and so does the reply.
    let translated = Packet { macs: (mac(HOST), Mac::GATEWAY), ..udp(Family::V4, 1, 2, 10) };
    rig.pass(HOST, &[translated]);
    let reply = Packet { transport: Transport::Udp(53, 4000), ..udp(Family::V4, 2, 1, 10) };
    let routed = of(&mut rig, 2, &Offload::default(), &reply.frame()).routed.unwrap();
    assert_eq!((routed.adjacency.port, routed.by_return), (HOST, true));
    let other = Packet { transport: Transport::Udp(54, 4000), ..reply };
    let routed = of(&mut rig, 2, &Offload::default(), &other.frame()).routed.unwrap();
    assert_eq!((routed.adjacency.port, routed.by_return), (1, false));
}

#[test]
fn answers_of_the_slow_path_are_told_as_such() {
    let mut rig = Rig::new(&[ABLE, ABLE]);
    rig.trace(None, Some("icmp"), false);
    rig.pass(1, &[Packet { ttl: 1, ..udp(Family::V4, 1, 2, 10) }]);
    let [answer] = traced(&mut rig)[..] else { panic!("the datagram itself is no ICMP") };
    assert_eq!((answer.from, answer.to, left(&answer)), (None, Some(1), None));
    assert_eq!((answer.routed, answer.rewritten, answer.settled), (None, None, Exit::NONE));
}

#[test]
fn port_filter_and_dropped_choose() {
    let packets = [udp(Family::V4, 1, 2, 10), tcp(Family::V4, 1, 3, 10), udp(Family::V4, 3, 2, 10)];
    let seen = |port, filter, dropped| {
        let mut rig = Rig::new(&[ABLE, PLAIN, PLAIN]);
        rig.trace(port, filter, dropped);
        rig.pass(1, &packets);
        rig.pass(3, &[udp(Family::V4, 3, 2, 10)]);
        let seen = traced(&mut rig);
        assert_eq!(rig.lane.tracer.matched as usize, seen.len());
        seen.iter().map(|record| (record.from.unwrap(), record.to)).collect::<Vec<_>>()
    };
    let (first, second, spoofed, last) = ((1, Some(2)), (1, Some(3)), (1, None), (3, Some(2)));
    assert_eq!(seen(None, None, false), [first, second, spoofed, last]);
    assert_eq!(seen(Some(1), None, false), [first, second, spoofed]);
    assert_eq!(seen(Some(3), None, false), [second, last], "what enters or departs there");
    assert_eq!(seen(None, Some("udp"), false), [first, spoofed, last]);
    assert_eq!(seen(Some(2), Some("src 10.244.1.3"), false), [last]);
    assert_eq!(seen(None, None, true), [spoofed]);
    assert_eq!(seen(None, Some("tcp"), true), []);
}

#[test]
fn a_full_ring_costs_records_that_are_counted_and_no_packet() {
    let mut rig = Rig::new(&[ABLE, PLAIN]);
    rig.trace(None, None, false);
    let total = RECORDS + 100;
    for start in (0..total).step_by(50) {
        rig.pass(1, &vec![udp(Family::V4, 1, 2, 10); 50.min(total - start)]);
        assert_eq!(rig.take(2).len(), 50.min(total - start));
    }
    assert_eq!((rig.lane.tracer.matched, rig.lane.tracer.missed), (total as u64, 100));
    assert_eq!(traced(&mut rig).len(), RECORDS);
    rig.pass(1, &[udp(Family::V4, 1, 2, 10)]);
    assert_eq!(traced(&mut rig).len(), 1);
}

#[test]
fn time_goes_on_from_turn_to_turn() {
    let mut rig = Rig::new(&[ABLE, PLAIN]);
    rig.trace(None, None, false);
    for _ in 0..3 {
        rig.pass(1, &vec![udp(Family::V4, 1, 2, 10); 2]);
    }
    let times: Vec<u64> = traced(&mut rig).iter().map(|record| record.at_nanos).collect();
    assert!(times.len() == 6 && times.is_sorted() && times[0] == times[1] && times[1] < times[2], "{times:?}");
}

#[test]
fn an_adjacency_the_world_does_not_know_is_no_route() {
    let mut rig = Rig::new(&[ABLE]);
    rig.route("203.0.113.0/24", route_table::NextHop(4000));
    let base = udp(Family::V4, 1, 2, 10);
    let packet = Packet { addresses: (base.addresses.0, "203.0.113.9".parse().unwrap()), ..base };
    let routed = of(&mut rig, 1, &Offload::default(), &packet.frame()).routed.unwrap();
    assert_eq!((routed.number, routed.adjacency), (4000, Adjacency::of(Hop::Punt(Punt::Unreachable))));
}

#[test]
fn a_whole_burst_of_answers_and_packets_has_room() {
    let mut rig = Rig::new(&[ABLE; 8]);
    rig.trace(None, None, false);
    for from in 1..=8 {
        for _ in 0..60 {
            rig.send(from, &Offload::default(), &udp(Family::V4, from, from % 8 + 1, 4).frame());
        }
    }
    rig.settle();
    assert_eq!(traced(&mut rig).len(), 480);
    // A turn over an empty burst sees nothing.
    let (mut lane, _ends) = Lane::new(0, Arc::clone(&rig.lane.returns));
    path::carry(&mut Burst::new(), &rig.world, &mut lane);
    assert_eq!(lane.tracer.matched, 0);
}

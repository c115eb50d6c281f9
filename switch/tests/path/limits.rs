//! What happens at the limits: slots, the burst and mailboxes run out, are counted, and come back.

use packet::view::Family;
use packet::{BURST, Mac, Offload, Punt, Reason};

use crate::frames::{Packet, arp_request};
use crate::rig::{ABLE, PLAIN, Rig, mac, tcp, udp, v4};

#[test]
fn big_slots_run_out_and_every_super_frame_still_arrives_in_order() {
    let mut rig = Rig::new(&[ABLE, ABLE, ABLE, ABLE]);
    let sent = |from: u16, id| Packet { id, ..tcp(Family::V4, from, 4, 2500) };
    for id in 0..60 {
        for from in 1..=3 {
            let (offload, frame) = sent(from, id).super_frame(1000);
            rig.send(from, &offload, &frame);
        }
    }
    rig.settle();
    let seen = rig.take(4);
    for from in 1..=3 {
        let of_port: Vec<&Packet> = seen.iter().filter(|packet| packet.addresses.0 == v4(from)).collect();
        let expected: Vec<Packet> = (0..60).map(|id| sent(from, id).hop(Mac::GATEWAY, mac(4))).collect();
        assert!(of_port.into_iter().eq(&expected));
    }
    assert_eq!(rig.lane.slots.lowest_free().1, 0, "the limit was reached");
    assert!((0..=4).all(|port| rig.dropped(port).is_empty()), "and nothing was lost");
}

#[test]
fn a_full_burst_leaves_the_rest_on_the_wires() {
    let mut rig = Rig::new(&[PLAIN; 6]);
    for from in 1..=6 {
        for id in 0..100 {
            let packet = Packet { id, ..udp(Family::V4, from, from % 6 + 1, 20) };
            rig.send(from, &Offload::default(), &packet.frame());
        }
    }
    rig.turn();
    let first: usize = (1..=6).map(|to| rig.take(to).len()).sum();
    assert_eq!(first, BURST);
    rig.settle();
    let rest: usize = (1..=6).map(|to| rig.take(to).len()).sum();
    assert_eq!(first + rest, 600);
}

#[test]
fn a_full_punt_mailbox_costs_frames_under_their_reason_and_recovers() {
    let mut rig = Rig::new(&[ABLE, ABLE]);
    let request = arp_request((mac(1), v4(1)), v4(2));
    for _ in 0..200 {
        rig.send(1, &Offload::default(), &request);
    }
    // The slow path is away.
    while rig.path_turn() {}
    assert_eq!(rig.punted(1), [(Punt::Arp, 128)]);
    assert_eq!(rig.dropped(1), [(Reason::PuntFull, 72)]);
    rig.assert_conservation();
    // It is back: all it was told of is answered, and it hears of the next one.
    rig.turn();
    assert_eq!(rig.take_frames(1).len(), 128);
    rig.send(1, &Offload::default(), &request);
    rig.settle();
    assert_eq!((rig.take_frames(1).len(), rig.dropped(1)), (1, vec![(Reason::PuntFull, 72)]));
}

#[test]
fn more_answers_than_the_mailbox_holds_cost_answers_and_no_more() {
    let mut rig = Rig::new(&[ABLE, crate::rig::Station { mtu: 576, ..PLAIN }]);
    // 45 datagrams in three pieces each are 135 answers, 7 more than there are letters.
    let datagram = udp(Family::V4, 1, 2, 1400);
    rig.pass(1, &vec![datagram.clone(); 45]);
    assert_eq!(rig.take(2).len(), 128);
    rig.pass(1, &[datagram]);
    assert_eq!(rig.take(2).len(), 3);
}

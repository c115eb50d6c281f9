//! Two switches joined by a tunnel over loopback: what one wraps the other unwraps.

use std::iter;
use std::net::{IpAddr, UdpSocket as PlainSocket};

use encap::vxlan_header;
use host::TunnelSocket;
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use packet::view::{Family, Ipv4, Ipv6};
use packet::{Mac, Offload, Reason, Vni};
use podswitch::port::Count;
use podswitch::world::{Adjacency, hop_of};
use socket2::SockRef;

use crate::ends::{FAR, Kind, NEAR, address, nodes};
use crate::frames::{Packet, Transport, arp_request};
use crate::rig::{Rig, TUNNEL_MTU, UPLINK, mac, tcp, udp, v4};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Until both are silent.
fn settle(near: &mut Rig, far: &mut Rig) {
    // Answers of the slow path depart in a turn in which nothing came.
    let mut silent = 0;
    while silent < 3 {
        silent = if near.turn() | far.turn() { 0 } else { silent + 1 };
    }
}

/// As it arrives: two hops further.
fn arrived(packet: &Packet) -> Packet {
    packet.hop(Mac::GATEWAY, mac(2)).hop(Mac::GATEWAY, mac(2))
}

/// The bytes of a flow in the order of their sequence numbers.
fn stream(packets: &[Packet]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for packet in packets {
        let Transport::Tcp(tcp) = packet.transport else { panic!("{packet:?}") };
        assert_eq!(tcp.sequence, 0xffff_ff00_u32.wrapping_add(bytes.len() as u32), "in order");
        bytes.extend_from_slice(&packet.payload);
    }
    bytes
}

#[test]
fn datagrams_of_all_sizes_arrive_as_they_were_sent() {
    for kind in [Kind::Vxlan, Kind::Bare] {
        let (mut near, mut far) = nodes(kind);
        let families = if kind == Kind::Vxlan { &FAMILIES[..] } else { &FAMILIES[..1] };
        for &family in families {
            for payload in [0, 1, 22, 500, 1300] {
                let sent = udp(family, 1, 2, payload);
                near.send(1, &Offload::default(), &sent.frame());
                settle(&mut near, &mut far);
                assert_eq!(far.take(2), [arrived(&sent)], "{payload}");
            }
        }
    }
}

#[test]
fn a_super_frame_is_cut_on_the_wire_and_joined_again() {
    for kind in [Kind::Vxlan, Kind::Bare] {
        let (mut near, mut far) = nodes(kind);
        let families = if kind == Kind::Vxlan { &FAMILIES[..] } else { &FAMILIES[..1] };
        for &family in families {
            for size in [60_000, 10_000, 1391] {
                let sent = tcp(family, 1, 2, size);
                let (offload, frame) = sent.super_frame(1380);
                near.send(1, &offload, &frame);
                settle(&mut near, &mut far);
                let seen = far.take(2);
                assert_eq!(stream(&seen), sent.payload, "{size}");
                assert!(seen.len() <= 2, "joined into {} frames", seen.len());
            }
        }
        assert!(far.count(2, Count::Joined) > 0);
    }
}

#[test]
fn small_frames_of_many_flows_travel_in_trains_and_each_flow_keeps_its_order() {
    let (mut near, mut far) = nodes(Kind::Vxlan);
    let of = |flow: u16, number: u8| Packet {
        transport: Transport::Udp(4000 + flow, 53),
        payload: vec![number; 22],
        ..udp(Family::V4, 1, 2, 22)
    };
    let sent: Vec<Packet> = (0..60).map(|number| of(number % 4, number as u8)).collect();
    near.pass(1, &sent);
    settle(&mut near, &mut far);
    let seen = far.take(2);
    let flow = |packets: &[Packet], flow: u16| -> Vec<u8> {
        let of_it = packets.iter().filter(|packet| packet.transport == Transport::Udp(4000 + flow, 53));
        of_it.flat_map(|packet| packet.payload.chunks(22).map(|payload| payload[0])).collect()
    };
    for number in 0..4 {
        assert_eq!(flow(&seen, number), flow(&sent, number));
    }
    assert!(near.count(UPLINK, Count::Joined) > 0 && near.count(UPLINK, Count::Sent) == 60);
}

#[test]
fn an_unfinished_checksum_is_finished_before_the_wire() {
    let (mut near, mut far) = nodes(Kind::Vxlan);
    let sent = tcp(Family::V4, 1, 2, 100);
    let (offload, frame) = sent.super_frame(1380);
    near.send(1, &Offload { gso: packet::Gso::None, gso_size: 0, ..offload }, &frame);
    settle(&mut near, &mut far);
    let frames = far.take_frames(2);
    assert!(!frames[0].0.needs_csum);
    assert_eq!(Packet::read(&frames[0].0, &frames[0].1), arrived(&sent));
}

#[test]
fn what_is_over_the_tunnels_mtu_is_answered() {
    let (mut near, mut far) = nodes(Kind::Vxlan);
    let sent = Packet { dont_fragment: true, ..udp(Family::V4, 1, 2, 1440) };
    near.send(1, &Offload::default(), &sent.frame());
    settle(&mut near, &mut far);
    let [answer] = &near.take(1)[..] else { panic!("one answer") };
    assert!(matches!(answer.transport, Transport::Icmp(3, 4, mtu) if mtu == u32::from(TUNNEL_MTU)), "{answer:?}");
    assert!(far.is_silent());
}

#[test]
fn errors_about_a_remote_pods_packet_go_back_through_the_tunnel() {
    let (mut near, mut far) = nodes(Kind::Vxlan);
    let sent = Packet { ttl: 2, ..udp(Family::V4, 1, 2, 10) };
    near.send(1, &Offload::default(), &sent.frame());
    settle(&mut near, &mut far);
    let [answer] = &near.take(1)[..] else { panic!("one answer") };
    assert!(matches!(answer.transport, Transport::Icmp(11, 0, _)), "{answer:?}");
    assert_eq!(answer.addresses.1, IpAddr::from(v4(1)));
}

/// `frame`'s packet with the congestion mark.
fn marked(mut frame: Vec<u8>, mark: u8) -> Vec<u8> {
    match Ipv4::parse_mut(&mut frame[14..]) {
        Some(mut ip) => ip.set_tos(mark),
        None => Ipv6::parse_mut(&mut frame[14..]).unwrap().set_traffic_class(mark),
    }
    frame
}

fn mark_of(frame: &[u8]) -> u8 {
    let packet = &frame[14..];
    Ipv4::parse(packet).map_or_else(|| Ipv6::parse(packet).unwrap().traffic_class(), |ip| ip.tos())
}

#[test]
fn a_packets_congestion_mark_is_its_datagrams_too() {
    for kind in [Kind::Vxlan, Kind::Bare] {
        let (mut near, far) = nodes(kind);
        drop(far);
        let underlay = TunnelSocket::open(address(2)).unwrap();
        let families = if kind == Kind::Vxlan { &FAMILIES[..] } else { &FAMILIES[..1] };
        for &family in families {
            // In one burst, of one flow.
            let marks = [0, 2, 2, 1, 3, 0];
            marks
                .iter()
                .for_each(|&mark| near.send(1, &Offload::default(), &marked(udp(family, 1, 2, 100).frame(), mark)));
            while near.turn() {}
            let (offload, frame) = tcp(family, 1, 2, 5_000).super_frame(1380);
            near.send(1, &offload, &marked(frame, 2));
            while near.turn() {}
            let mut buffer = [0; 10_000];
            let trains = iter::from_fn(|| underlay.receive(&mut buffer).unwrap());
            let seen: Vec<u8> =
                trains.flat_map(|train| iter::repeat_n(train.tos, train.length.div_ceil(train.segment))).collect();
            assert_eq!(seen, [&marks[..], &[2; 4]].concat(), "{family:?}");
        }
    }
}

/// Routers see the outer header only.
#[test]
fn what_met_congestion_on_the_way_tells_its_receiver_or_is_dropped() {
    for family in FAMILIES {
        let (_near, mut far) = nodes(Kind::Vxlan);
        let neighbour = PlainSocket::bind((address(1).ip(), 0)).unwrap();
        let mut cross = |outer: u8, inner: u8| {
            SockRef::from(&neighbour).set_tos_v4(outer.into()).unwrap();
            let frame = marked(Packet { macs: (NEAR, FAR), ..udp(family, 1, 2, 10) }.frame(), inner);
            neighbour.send_to(&[&vxlan_header(Vni::FLANNEL)[..], &frame].concat(), address(2)).unwrap();
            while far.turn() {}
            let frames = far.take_frames(2);
            frames.iter().for_each(|(offload, frame)| _ = Packet::read(offload, frame));
            (frames.iter().map(|(_, frame)| mark_of(frame)).collect::<Vec<_>>(), far.dropped_now(UPLINK))
        };
        assert_eq!(cross(3, 2), (vec![3], vec![]));
        assert_eq!(cross(0, 2), (vec![2], vec![]));
        assert_eq!(cross(2, 3), (vec![3], vec![]));
        assert_eq!(cross(3, 0), (vec![], vec![(Reason::Congested, 1)]));
    }
}

/// What a stranger, or a neighbour gone wrong, may send.
#[test]
fn what_is_not_a_neighbours_proper_frame_is_dropped_for_its_reason() {
    let (_near, mut far) = nodes(Kind::Vxlan);
    let inner = Packet { macs: (NEAR, FAR), ..udp(Family::V4, 1, 2, 10) }.frame();
    let header = vxlan_header(Vni::FLANNEL);
    let datagram = |header: [u8; 8], inner: &[u8]| [&header[..], inner].concat();
    let spoofed = Packet { macs: (NEAR, FAR), addresses: (v4(7).into(), v4(2).into()), ..udp(Family::V4, 1, 2, 10) };
    let elsewhere = Packet { macs: (NEAR, mac(5)), ..udp(Family::V4, 1, 2, 10) };
    let own = Packet { macs: (FAR, FAR), ..udp(Family::V4, 1, 2, 10) };
    let back = Packet { macs: (NEAR, FAR), addresses: (v4(1).into(), v4(1).into()), ..udp(Family::V4, 1, 2, 10) };
    let cases = [
        (datagram(vxlan_header(Vni::CALICO), &inner), Reason::UnknownVni),
        (datagram([0, 0, 0, 0, 0, 0, 1, 0], &inner), Reason::NoVni),
        (datagram([8, 0, 0, 1, 0, 0, 1, 0], &inner), Reason::ReservedBits),
        (datagram([0x88, 0, 0, 0, 0, 0, 1, 0], &inner), Reason::GroupPolicy),
        (datagram(header, &inner[..10]), Reason::Truncated),
        (datagram(header, &inner[..30]), Reason::Truncated),
        (datagram(header, &inner[..inner.len() - 1]), Reason::BadIpLength),
        (datagram(header, &elsewhere.frame()), Reason::OtherStation),
        (datagram(header, &own.frame()), Reason::OwnMac),
        (datagram(header, &spoofed.frame()), Reason::ForeignSource),
        (datagram(header, &back.frame()), Reason::TunnelToTunnel),
    ];
    let neighbour = PlainSocket::bind((address(1).ip(), 0)).unwrap();
    for (number, (datagram, reason)) in cases.iter().enumerate() {
        neighbour.send_to(datagram, address(2)).unwrap();
        while far.turn() {}
        assert_eq!(far.dropped_now(UPLINK), [(*reason, 1)], "{number}");
    }
    let stranger = PlainSocket::bind((address(3).ip(), 0)).unwrap();
    stranger.send_to(&datagram(header, &inner), address(2)).unwrap();
    while far.turn() {}
    assert_eq!(far.dropped_now(UPLINK), [(Reason::ForeignSource, 1)]);
    assert!(far.is_silent());
}

#[test]
fn a_pod_sends_no_tunnels_packets_of_its_own() {
    let (mut near, mut far) = nodes(Kind::Vxlan);
    let to_our_port = Packet { transport: Transport::Udp(4000, 8472), ..udp(Family::V4, 1, 2, 60) };
    near.pass(1, &[to_our_port, Packet { transport: Transport::Raw(4), ..udp(Family::V4, 1, 2, 60) }]);
    settle(&mut near, &mut far);
    assert_eq!(near.dropped(1), [(Reason::NestedTunnel, 2)]);
    assert!(far.is_silent());
}

#[test]
fn a_kernels_uncut_super_frame_is_taken_for_one() {
    let (_near, mut far) = nodes(Kind::Vxlan);
    let sent = Packet { macs: (NEAR, FAR), ..tcp(Family::V4, 1, 2, 20_000) };
    let (_, frame) = sent.super_frame(1380);
    let neighbour = PlainSocket::bind((address(1).ip(), 0)).unwrap();
    neighbour.send_to(&[&vxlan_header(Vni::FLANNEL)[..], &frame].concat(), address(2)).unwrap();
    while far.turn() {}
    let [(offload, frame)] = &far.take_frames(2)[..] else { panic!("one frame") };
    assert_eq!((offload.gso, offload.gso_size), (packet::Gso::Tcp4, TUNNEL_MTU - 40));
    assert_eq!(Packet::read(offload, frame).payload, sent.payload);
}

/// Its sender may have made them so short from the first; were it told, it would do nothing and the stream stand still.
#[test]
fn a_kernels_uncut_super_frame_is_cut_to_what_the_next_hop_takes() {
    for family in FAMILIES {
        let (_near, mut far) = nodes(Kind::Vxlan);
        let next = *far.world.adjacency(hop_of(2).0);
        far.world.set_adjacencies([(hop_of(2), Adjacency { mtu: 1400, ..next })]);
        let sent = Packet { macs: (NEAR, FAR), ..tcp(family, 1, 2, 20_000) };
        let neighbour = PlainSocket::bind((address(1).ip(), 0)).unwrap();
        neighbour.send_to(&[&vxlan_header(Vni::FLANNEL)[..], &sent.super_frame(1360).1].concat(), address(2)).unwrap();
        while far.turn() {}
        let [(offload, frame)] = &far.take_frames(2)[..] else { panic!("one frame") };
        assert_eq!(offload.gso_size, if family == Family::V4 { 1360 } else { 1340 });
        assert_eq!(Packet::read(offload, frame).payload, sent.payload);
    }
}

#[test]
fn a_kernels_uncut_datagrams_are_told_apart_from_a_train() {
    let (_near, mut far) = nodes(Kind::Vxlan);
    let neighbour = PlainSocket::bind((address(1).ip(), 0)).unwrap();
    for (size, segment) in [(20_500, 1000), (300, 100)] {
        let sent = Packet { macs: (NEAR, FAR), ..udp(Family::V4, 1, 2, size) };
        let (_, frame) = sent.super_frame(segment);
        setsockopt(&neighbour, UdpGsoSegment, &i32::from(segment)).unwrap();
        neighbour.send_to(&[&vxlan_header(Vni::FLANNEL)[..], &frame].concat(), address(2)).unwrap();
        while far.turn() {}
        let [(offload, frame)] = &far.take_frames(2)[..] else { panic!("one frame") };
        assert_eq!((offload.gso, offload.gso_size), (packet::Gso::Udp, segment));
        assert_eq!(Packet::read(offload, frame).payload, sent.payload);
    }
}

/// Every byte of a proper datagram changed, one at a time, and every length of it: nothing is ever forwarded that was
/// not sent by its node, nothing is lost uncounted, and nobody panics.
#[test]
fn whatever_comes_out_of_the_underlay_is_forwarded_answered_or_counted() {
    let (_near, mut far) = nodes(Kind::Vxlan);
    let neighbour = PlainSocket::bind((address(1).ip(), 0)).unwrap();
    let inner = Packet { macs: (NEAR, FAR), ..tcp(Family::V4, 1, 2, 30) }.frame();
    let proper = [&vxlan_header(Vni::FLANNEL)[..], &inner].concat();
    let mut sent = 0;
    for place in 0..proper.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut datagram = proper.clone();
            datagram[place] ^= change;
            neighbour.send_to(&datagram, address(2)).unwrap();
            sent += 1;
        }
        neighbour.send_to(&proper[..place], address(2)).unwrap();
        // Of an empty datagram nothing is left to be counted.
        sent += u64::from(place > 0);
        while far.turn() {}
    }
    assert_eq!(far.count(UPLINK, Count::Received), sent);
    for (_, frame) in far.take_frames(2) {
        assert_eq!(frame[26..30], v4(1).octets(), "the source is the node's");
    }
}

/// Nodes have no need to ask each other for Ethernet addresses: they are told.
#[test]
fn questions_for_ethernet_addresses_end_at_the_tunnel() {
    let (_near, mut far) = nodes(Kind::Vxlan);
    let neighbour = PlainSocket::bind((address(1).ip(), 0)).unwrap();
    let mut arp = arp_request((NEAR, v4(1)), v4(2));
    arp[..6].copy_from_slice(&FAR.0);
    let solicitation = Packet { macs: (NEAR, FAR), transport: Transport::Icmp(135, 0, 0), ..udp(Family::V6, 1, 2, 16) };
    for frame in [arp, solicitation.frame()] {
        neighbour.send_to(&[&vxlan_header(Vni::FLANNEL)[..], &frame].concat(), address(2)).unwrap();
        (0..3).for_each(|_| _ = far.turn());
        assert_eq!(far.dropped_now(UPLINK), [(Reason::Multicast, 1)]);
    }
    assert!(far.is_silent());
}

/// An answer takes a row in which another packet's headers were found before, longer ones than it has itself.
#[test]
fn an_answer_finds_its_way_whatever_packet_was_before_it() {
    let (mut near, mut far) = nodes(Kind::Vxlan);
    let mut long = udp(Family::V6, 2, 1, 900).frame();
    // The payload as destination options of 800 bytes, and more behind it.
    (long[20], long[54], long[55]) = (60, 17, 99);
    (0..2).for_each(|_| far.send(2, &Offload::default(), &long));
    settle(&mut near, &mut far);
    let sent = Packet { ttl: 2, ..udp(Family::V4, 1, 2, 10) };
    near.send(1, &Offload::default(), &sent.frame());
    near.turn();
    assert!(far.path_turn());
    far.serve();
    // Comes first, so that the answer has the second row.
    far.send(2, &Offload::default(), &long);
    settle(&mut near, &mut far);
    let answers = near.take_frames(1).iter().filter(|(_, frame)| frame[12..14] == [8, 0]).count();
    assert_eq!(answers, 1);
}

/// Between the question and its answer the neighbour may go.
#[test]
fn an_answer_to_a_node_that_is_gone_is_dropped() {
    let (mut near, mut far) = nodes(Kind::Vxlan);
    let sent = Packet { ttl: 2, ..udp(Family::V4, 1, 2, 10) };
    near.send(1, &Offload::default(), &sent.frame());
    near.turn();
    assert!(far.path_turn());
    far.serve();
    far.route("10.244.1.1/32", podswitch::world::BLACKHOLE);
    settle(&mut near, &mut far);
    assert_eq!(far.dropped_now(UPLINK), [(Reason::PortGone, 1)]);
    assert!(near.is_silent() && far.is_silent());
}

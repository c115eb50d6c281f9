//! What the switch answers as a router: addresses, errors, echoes, fragments.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use etherparse::{ArpOperation, ArpPacketSlice};
use packet::view::Family;
use packet::{Mac, Offload, Punt};
use podswitch::state::{GATEWAY_V4, GATEWAY_V6};
use podswitch::world::UNREACHABLE;

use crate::frames::{Packet, Transport, arp_request, solicitation};
use crate::rig::{ABLE, HOST, PLAIN, ROUTER_V4, ROUTER_V6, Rig, Station, mac, tcp, udp, v4, v6};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const SMALL: Station = Station { mtu: 1300, ..PLAIN };

fn gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => GATEWAY_V4.into(),
        Family::V6 => GATEWAY_V6.into(),
    }
}

fn router(family: Family) -> IpAddr {
    match family {
        Family::V4 => ROUTER_V4.into(),
        Family::V6 => ROUTER_V6.into(),
    }
}

fn to(packet: Packet, destination: IpAddr) -> Packet {
    Packet { addresses: (packet.addresses.0, destination), ..packet }
}

/// The one answer to a frame, at the port it came by.
fn answer(rig: &mut Rig, port: u16, offload: &Offload, frame: &[u8]) -> Packet {
    rig.send(port, offload, frame);
    rig.settle();
    let mut answers = rig.take(port);
    assert_eq!(answers.len(), 1);
    assert!(rig.is_silent());
    answers.remove(0)
}

/// The error that `source` is to send about `packet`, quoted up to `quoted_max` bytes.
fn error(packet: &Packet, source: IpAddr, (kind, code, word): (u8, u8, u32)) -> Packet {
    let quoted_max = if source.is_ipv4() { 576 - 28 } else { 1280 - 48 };
    let quoted = &packet.frame()[14..];
    Packet {
        macs: (Mac::GATEWAY, packet.macs.0),
        addresses: (source, packet.addresses.0),
        ttl: 64,
        id: 0,
        dont_fragment: source.is_ipv4(),
        transport: Transport::Icmp(kind, code, word),
        payload: quoted[..quoted.len().min(quoted_max)].to_vec(),
    }
}

#[test]
fn every_ipv4_address_is_at_the_gateway() {
    let mut rig = Rig::new(&[ABLE, ABLE]);
    for (port, target) in [(1, GATEWAY_V4), (1, v4(2)), (1, Ipv4Addr::new(192, 0, 2, 1)), (HOST, v4(1))] {
        let asker = if port == HOST { ROUTER_V4 } else { v4(port) };
        rig.send(port, &Offload::default(), &arp_request((mac(port), asker), target));
        rig.settle();
        let [(_, frame)] = &rig.take_frames(port)[..] else { panic!("one reply") };
        assert_eq!((&frame[..6], &frame[6..14]), (&mac(port).0[..], &[&Mac::GATEWAY.0[..], &[8, 6]].concat()[..]));
        let reply = ArpPacketSlice::from_slice(&frame[14..]).unwrap();
        assert_eq!(reply.operation(), ArpOperation::REPLY);
        assert_eq!((reply.sender_hw_addr(), reply.sender_protocol_addr()), (&Mac::GATEWAY.0[..], &target.octets()[..]));
        assert_eq!((reply.target_hw_addr(), reply.target_protocol_addr()), (&mac(port).0[..], &asker.octets()[..]));
    }
}

#[test]
fn a_pod_that_checks_its_own_ipv4_address_hears_nothing() {
    let mut rig = Rig::new(&[ABLE, ABLE]);
    let station = |address| (mac(1), address);
    for request in [
        arp_request(station(Ipv4Addr::UNSPECIFIED), v4(1)),
        arp_request(station(Ipv4Addr::UNSPECIFIED), v4(2)),
        arp_request(station(v4(1)), v4(1)),
        arp_request(station(v4(2)), v4(2)),
    ] {
        rig.send(1, &Offload::default(), &request);
    }
    let mut reply = arp_request(station(v4(1)), v4(2));
    reply[21] = 2;
    rig.send(1, &Offload::default(), &reply);
    rig.settle();
    assert!(rig.is_silent());
    assert_eq!(rig.punted(1), [(Punt::Arp, 5)]);
}

#[test]
fn every_ipv6_address_is_at_the_gateway() {
    let mut rig = Rig::new(&[ABLE, ABLE]);
    let link_local: Ipv6Addr = "fe80::1:1".parse().unwrap();
    for (asker, target, flags) in [
        (v6(1), GATEWAY_V6, 0xe000_0000_u32),
        (link_local, GATEWAY_V6, 0xe000_0000),
        (v6(1), v6(2), 0x6000_0000),
        (v6(1), "2001:db8::1".parse().unwrap(), 0x6000_0000),
    ] {
        let seen = answer(&mut rig, 1, &Offload::default(), &solicitation((mac(1), asker), target).frame());
        let expected = Packet {
            macs: (Mac::GATEWAY, mac(1)),
            addresses: (target.into(), asker.into()),
            transport: Transport::Icmp(136, 0, flags),
            payload: [&target.octets()[..], &[2, 1], &Mac::GATEWAY.0].concat(),
            ..solicitation((mac(1), asker), target)
        };
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_pod_that_checks_its_own_ipv6_address_hears_nothing() {
    let mut rig = Rig::new(&[ABLE, ABLE]);
    let mut packets = vec![
        solicitation((mac(1), Ipv6Addr::UNSPECIFIED), v6(1)),
        solicitation((mac(1), Ipv6Addr::UNSPECIFIED), "fe80::1:1".parse().unwrap()),
        solicitation((mac(1), v6(1)), v6(1)),
    ];
    // One that was routed here, and an advertisement.
    packets.push(Packet { ttl: 254, ..solicitation((mac(1), v6(1)), v6(2)) });
    packets.push(Packet { transport: Transport::Icmp(136, 0, 0), ..solicitation((mac(1), v6(1)), v6(2)) });
    rig.pass(1, &packets);
    assert!(rig.is_silent());
    assert_eq!(rig.punted(1), [(Punt::NeighborDiscovery, 5)]);
}

#[test]
fn a_used_up_ttl_is_reported_by_the_gateway_to_pods_and_by_the_router_to_others() {
    for family in FAMILIES {
        let kind = if family == Family::V4 { 11 } else { 3 };
        let mut rig = Rig::new(&[ABLE, ABLE]);
        for ttl in [0, 1] {
            for sent in [udp(family, 1, 2, 30), tcp(family, 1, 2, 1400)] {
                let sent = Packet { ttl, ..sent };
                let seen = answer(&mut rig, 1, &Offload::default(), &sent.frame());
                assert_eq!(seen, error(&sent, gateway(family), (kind, 0, 0)));
            }
        }
        let outside = if family == Family::V4 { "192.0.2.1" } else { "2001:db8::1" }.parse().unwrap();
        let sent = udp(family, 2, 1, 30);
        let sent = Packet { macs: (mac(HOST), Mac::GATEWAY), addresses: (outside, sent.addresses.1), ttl: 1, ..sent };
        let seen = answer(&mut rig, HOST, &Offload::default(), &sent.frame());
        assert_eq!(seen, error(&sent, router(family), (kind, 0, 0)));
        assert_eq!((rig.punted(1), rig.punted(HOST)), (vec![(Punt::TtlExceeded, 4)], vec![(Punt::TtlExceeded, 1)]));
    }
}

#[test]
fn a_packet_bigger_than_the_next_link_is_reported_with_its_mtu() {
    for (family, header) in [(Family::V4, (3, 4, 1300)), (Family::V6, (2, 0, 1300))] {
        let mut rig = Rig::new(&[ABLE, SMALL]);
        let overhead = if family == Family::V4 { 28 } else { 48 };
        let sent =
            |length: usize| Packet { dont_fragment: family == Family::V4, ..udp(family, 1, 2, length - overhead) };
        rig.pass(1, &[sent(1300)]);
        assert_eq!(rig.take(2), [sent(1300).hop(Mac::GATEWAY, mac(2))]);
        for unfinished in [false, true] {
            let (offload, frame) =
                if unfinished { sent(1301).unfinished() } else { (Offload::default(), sent(1301).frame()) };
            let seen = answer(&mut rig, 1, &offload, &frame);
            assert_eq!(seen, error(&sent(1301), gateway(family), header));
        }
        assert_eq!(rig.punted(1), [(Punt::TooBig, 2)]);
    }
}

#[test]
fn of_a_super_frame_the_segments_count_against_the_mtu() {
    for (family, header, overhead) in [(Family::V4, (3, 4, 1300), 40), (Family::V6, (2, 0, 1300), 60)] {
        let mut rig = Rig::new(&[ABLE, SMALL]);
        let sent = Packet { dont_fragment: family == Family::V4, ..tcp(family, 1, 2, 20_000) };
        let fits = 1300 - overhead;
        let (offload, frame) = sent.super_frame(fits);
        rig.send(1, &offload, &frame);
        rig.settle();
        let hops: Vec<Packet> = sent.segments(fits).iter().map(|one| one.hop(Mac::GATEWAY, mac(2))).collect();
        assert_eq!(rig.take(2), hops);
        // One byte more in each segment: the first is quoted, as if the sender had cut it.
        let (offload, frame) = sent.super_frame(fits + 1);
        let seen = answer(&mut rig, 1, &offload, &frame);
        assert_eq!(seen, error(&sent.segments(fits + 1)[0], gateway(family), header));
        // A segment size beyond the payload is no longer than the frame.
        let short = Packet { payload: vec![7; 500], ..sent };
        let (offload, frame) = short.super_frame(9000);
        rig.send(1, &offload, &frame);
        rig.settle();
        assert_eq!(rig.take(2), [short.hop(Mac::GATEWAY, mac(2))]);
    }
}

#[test]
fn an_ipv4_packet_that_may_be_fragmented_goes_on_in_pieces() {
    let mut rig = Rig::new(&[ABLE, SMALL]);
    for (offload, frame, packets) in [
        whole(udp(Family::V4, 1, 2, 1472)),
        unfinished(udp(Family::V4, 1, 2, 1472)),
        in_segments(tcp(Family::V4, 1, 2, 4000), 1400),
        in_segments(udp(Family::V4, 1, 2, 4000), 1400),
    ] {
        rig.send(1, &offload, &frame);
        rig.settle();
        let mut seen = rig.take(2).into_iter();
        for packet in packets {
            let datagram = packet.frame()[34..].to_vec();
            let (mut rebuilt, mut more) = (Vec::<u8>::new(), true);
            while more {
                let piece = seen.next().expect("a piece more");
                let protocol = packet.frame()[23];
                more = match piece.transport {
                    Transport::Fragment(seen, offset, more) => {
                        assert_eq!((seen, usize::from(offset)), (protocol, rebuilt.len()));
                        rebuilt.extend(&piece.payload);
                        more
                    }
                    // The last segment of a super-frame may fit whole.
                    _ => {
                        rebuilt.extend(&datagram);
                        assert_eq!(piece, packet.hop(Mac::GATEWAY, mac(2)));
                        false
                    }
                };
                assert!(piece.payload.len() <= 1280, "20 bytes of header and a multiple of 8 in 1 300");
                let header = Packet { transport: packet.transport, payload: packet.payload.clone(), ..piece };
                assert_eq!(header, packet.hop(Mac::GATEWAY, mac(2)));
            }
            assert_eq!(rebuilt, datagram);
        }
        assert_eq!(seen.next(), None);
    }
    assert_eq!(rig.punted(1), [(Punt::Fragment, 4)]);
}

fn whole(packet: Packet) -> (Offload, Vec<u8>, Vec<Packet>) {
    (Offload::default(), packet.frame(), vec![packet])
}

fn unfinished(packet: Packet) -> (Offload, Vec<u8>, Vec<Packet>) {
    let (offload, frame) = packet.unfinished();
    (offload, frame, vec![packet])
}

fn in_segments(packet: Packet, size: u16) -> (Offload, Vec<u8>, Vec<Packet>) {
    let (offload, frame) = packet.super_frame(size);
    (offload, frame, packet.segments(size))
}

#[test]
fn an_address_that_is_nobodys_is_reported_as_unreachable() {
    for (family, free, header) in [(Family::V4, "10.244.77.1", (3, 0, 0)), (Family::V6, "fd00:10:244::77", (1, 0, 0))] {
        let mut rig = Rig::new(&[ABLE]);
        let sent = to(udp(family, 1, 2, 600), free.parse().unwrap());
        let seen = answer(&mut rig, 1, &Offload::default(), &sent.frame());
        assert_eq!(seen, error(&sent, gateway(family), header));
    }
    let mut rig = Rig::new(&[ABLE]);
    rig.route("192.0.2.0/24", UNREACHABLE);
    let sent = to(udp(Family::V4, 1, 2, 10), "192.0.2.1".parse().unwrap());
    answer(&mut rig, 1, &Offload::default(), &sent.frame());
    assert_eq!(rig.punted(1), [(Punt::Unreachable, 1)]);
}

#[test]
fn no_error_is_sent_about_errors_and_later_fragments() {
    let mut rig = Rig::new(&[ABLE]);
    let free = |transport| {
        let packet = to(udp(Family::V4, 1, 2, 64), "10.244.77.1".parse().unwrap());
        Packet { transport, ..packet }
    };
    rig.pass(
        1,
        &[free(Transport::Icmp(3, 0, 0)), free(Transport::Icmp(11, 0, 0)), free(Transport::Fragment(17, 8, false))],
    );
    let error_v6 = to(udp(Family::V6, 1, 2, 64), "fd00:10:244::77".parse().unwrap());
    rig.pass(1, &[Packet { transport: Transport::Icmp(1, 0, 0), ..error_v6 }]);
    assert!(rig.is_silent());
    assert_eq!(rig.punted(1), [(Punt::Unreachable, 4)]);
}

#[test]
fn the_gateway_answers_a_ping_and_refuses_everything_else() {
    for (family, request, reply) in [(Family::V4, 8, 0), (Family::V6, 128, 129)] {
        let mut rig = Rig::new(&[ABLE]);
        let to_gateway = to(udp(family, 1, 2, 56), gateway(family));
        let ping = Packet { ttl: 1, transport: Transport::Icmp(request, 0, 7 << 16 | 3), ..to_gateway.clone() };
        let expected = Packet {
            macs: (Mac::GATEWAY, mac(1)),
            addresses: (gateway(family), ping.addresses.0),
            ttl: 64,
            id: 0,
            dont_fragment: family == Family::V4,
            transport: Transport::Icmp(reply, 0, 7 << 16 | 3),
            payload: ping.payload.clone(),
        };
        assert_eq!(answer(&mut rig, 1, &Offload::default(), &ping.frame()), expected);
        let port_unreachable = if family == Family::V4 { (3, 3, 0) } else { (1, 4, 0) };
        for sent in [to_gateway.clone(), to(tcp(family, 1, 2, 0), gateway(family))] {
            let seen = answer(&mut rig, 1, &Offload::default(), &sent.frame());
            assert_eq!(seen, error(&sent, gateway(family), port_unreachable));
        }
        rig.pass(1, &[Packet { transport: Transport::Raw(132), ..to_gateway }]);
        assert!(rig.is_silent());
        assert_eq!(rig.punted(1), [(Punt::Local, 4)]);
    }
}

#[test]
fn a_port_hears_no_more_than_its_rate_and_time_gives_it_more() {
    let mut rig = Rig::new(&[ABLE, ABLE]);
    let sent = |from| to(udp(Family::V4, from, 2, 10), "10.244.77.1".parse().unwrap());
    rig.pass(1, &vec![sent(1); 100]);
    assert_eq!(rig.take(1).len(), 50);
    rig.pass(2, &[sent(2)]);
    assert_eq!(rig.take(2).len(), 1, "another port has its own rate");
    rig.now += Duration::from_millis(100);
    rig.pass(1, &vec![sent(1); 100]);
    assert_eq!(rig.take(1).len(), 10);
}

//! ARP and neighbour discovery.

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv6Type};

use super::*;

pub(super) fn arp(from: &Side<'_>, operation: u16, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation(operation),
        &from.mac.0,
        &sender.octets(),
        &[0; 6],
        &target.octets(),
    );
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from.mac.0, Mac::BROADCAST.0).arp(packet.unwrap()).write(&mut frame).unwrap();
    frame
}

/// A solicitation with the source link-layer address option.
pub(super) fn solicitation(from: &Side<'_>, source: Ipv6Addr, target: Ipv6Addr, hop_limit: u8) -> Vec<u8> {
    let destination = Ipv6Addr::from(u128::from(target) & 0xff_ffff | 0xff02_0000_0000_0000_0000_0001_ff00_0000);
    let mut body = target.octets().to_vec();
    body.extend([1, 1]);
    body.extend(from.mac.0);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from.mac.0, [0x33, 0x33, 0xff, 0, 0, 1])
        .ipv6(source.octets(), destination.octets(), hop_limit)
        .icmpv6(Icmpv6Type::NeighborSolicitation)
        .write(&mut frame, &body)
        .unwrap();
    frame
}

#[test]
fn an_arp_request_for_any_address_is_answered_with_the_gateway() {
    for (from, asker) in [(POD, POD_V4), (POD, Ipv4Addr::new(172, 17, 0, 1)), (HOST, OUTSIDE_V4)] {
        for target in [GATEWAY_V4, NEXT_V4, OUTSIDE_V4] {
            if asker == target {
                continue;
            }
            let answer = answer(&punted(Punt::Arp, &arp(&from, 1, asker, target), from));
            let packet = SlicedPacket::from_ethernet(&answer.frame).unwrap();
            let Some(NetSlice::Arp(reply)) = packet.net else { panic!("not ARP") };
            assert_eq!(answer.port, from.port);
            assert_eq!((&answer.frame[..6], &answer.frame[6..12]), (&from.mac.0[..], &from.gateway.0[..]));
            assert_eq!((reply.hw_addr_type(), reply.operation()), (ArpHardwareId::ETHERNET, ArpOperation::REPLY));
            assert_eq!(
                (reply.sender_hw_addr(), reply.sender_protocol_addr()),
                (&from.gateway.0[..], &target.octets()[..])
            );
            assert_eq!((reply.target_hw_addr(), reply.target_protocol_addr()), (&from.mac.0[..], &asker.octets()[..]));
        }
    }
}

#[test]
fn an_arp_check_of_the_askers_own_address_stays_unanswered() {
    let check = |frame: Vec<u8>, from| outcome(&punted(Punt::Arp, &frame, from));
    assert_eq!(check(arp(&POD, 1, Ipv4Addr::UNSPECIFIED, POD_V4), POD), Outcome::AddressCheck);
    assert_eq!(check(arp(&POD, 1, Ipv4Addr::UNSPECIFIED, NEXT_V4), POD), Outcome::AddressCheck);
    assert_eq!(check(arp(&POD, 1, POD_V4, POD_V4), POD), Outcome::AddressCheck);
    assert_eq!(check(arp(&POD, 1, NEXT_V4, POD_V4), POD), Outcome::AddressCheck);
    assert_eq!(check(arp(&HOST, 1, OUTSIDE_V4, OUTSIDE_V4), HOST), Outcome::AddressCheck);
}

#[test]
fn arp_that_asks_nothing_is_consumed() {
    assert_eq!(outcome(&punted(Punt::Arp, &arp(&POD, 2, POD_V4, GATEWAY_V4), POD)), Outcome::NothingAsked);
    let bad = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)];
    for target in bad {
        assert_eq!(outcome(&punted(Punt::Arp, &arp(&POD, 1, POD_V4, target), POD)), Outcome::Malformed);
    }
    let request = arp(&POD, 1, POD_V4, GATEWAY_V4);
    assert_eq!(outcome(&punted(Punt::Arp, &request[..41], POD)), Outcome::Malformed);
    let mut token_ring = request;
    token_ring[15] = 6;
    assert_eq!(outcome(&punted(Punt::Arp, &token_ring, POD)), Outcome::Malformed);
    let ip = udp(&POD, POD_V4.into(), NEXT_V4.into(), 30);
    assert_eq!(outcome(&punted(Punt::Arp, &ip, POD)), Outcome::Malformed);
}

#[test]
fn a_solicitation_for_any_address_is_answered_with_the_gateway() {
    let link_local: Ipv6Addr = "fe80::5".parse().unwrap();
    for (from, asker) in [(POD, POD_V6), (POD, link_local), (HOST, link_local)] {
        for (target, router) in [(GATEWAY_V6, true), (ROUTER_V6, true), (NEXT_V6, false)] {
            let frame = solicitation(&from, asker, target, 255);
            let advertisement = read(&answer(&punted(Punt::NeighborDiscovery, &frame, from)));
            let flags = if router { 0xe000_0000 } else { 0x6000_0000 };
            let payload = [&target.octets()[..], &[2, 1], &from.gateway.0].concat();
            let expected = Icmp {
                port: from.port,
                to: from.mac,
                from: from.gateway,
                source: target.into(),
                destination: asker.into(),
                hop_limit: 255,
                kind: 136,
                code: 0,
                word: flags,
                payload,
            };
            assert_eq!(advertisement, expected);
        }
    }
}

#[test]
fn duplicate_address_detection_stays_unanswered() {
    let check =
        |source, target| outcome(&punted(Punt::NeighborDiscovery, &solicitation(&POD, source, target, 255), POD));
    assert_eq!(check(Ipv6Addr::UNSPECIFIED, "fe80::5".parse().unwrap()), Outcome::AddressCheck);
    assert_eq!(check(Ipv6Addr::UNSPECIFIED, NEXT_V6), Outcome::AddressCheck);
    assert_eq!(check("fe80::5".parse().unwrap(), POD_V6), Outcome::AddressCheck);
    assert_eq!(check("fe80::5".parse().unwrap(), "fe80::5".parse().unwrap()), Outcome::AddressCheck);
}

#[test]
fn neighbor_discovery_that_may_be_forged_or_asks_nothing_is_consumed() {
    let check = |frame: &[u8]| outcome(&punted(Punt::NeighborDiscovery, frame, POD));
    let sound = solicitation(&POD, POD_V6, GATEWAY_V6, 255);
    assert_eq!(check(&sound), Outcome::Answered);
    assert_eq!(check(&solicitation(&POD, POD_V6, GATEWAY_V6, 254)), Outcome::Malformed);
    assert_eq!(check(&solicitation(&POD, POD_V6, "ff02::1".parse().unwrap(), 255)), Outcome::Malformed);
    for wrong in [40, 57, 62, 70, sound.len() - 1] {
        let mut frame = sound.clone();
        frame[wrong] ^= 1;
        assert_eq!(check(&frame), Outcome::Malformed, "byte {wrong}");
    }
    for length in 0..sound.len() {
        assert_eq!(check(&sound[..length]), Outcome::Malformed, "{length} bytes");
    }
    let advertisement = answer(&punted(Punt::NeighborDiscovery, &sound, POD));
    assert_eq!(check(&advertisement.frame), Outcome::NothingAsked);
    let ping = services::ping(&POD, POD_V6.into(), GATEWAY_V6.into(), 8);
    assert_eq!(check(&ping), Outcome::Malformed);
}

#[test]
fn a_solicitation_with_an_empty_option_is_consumed() {
    let body = [&GATEWAY_V6.octets()[..], &[1, 0, 0, 0, 0, 0, 0, 0]].concat();
    let mut frame = Vec::new();
    ethernet(&POD)
        .ipv6(POD_V6.octets(), GATEWAY_V6.octets(), 255)
        .icmpv6(Icmpv6Type::NeighborSolicitation)
        .write(&mut frame, &body)
        .unwrap();
    assert_eq!(outcome(&punted(Punt::NeighborDiscovery, &frame, POD)), Outcome::Malformed);
}

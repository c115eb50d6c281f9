//! The slow path seen from outside: frames in, frames out, read back with etherparse.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use etherparse::{Icmpv4Slice, Icmpv6Slice, IpNumber, NetSlice, PacketBuilder, SlicedPacket};
use packet::{Mac, Offload, Punt};

use super::*;

mod errors;
mod fragments;
mod fuzz;
mod neighbors;
mod services;

const POD_MAC: Mac = Mac([2, 0, 0, 0, 0, 5]);
const HOST_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const HOST_GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 0xaa]);
const NEXT_MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

const POD_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 5);
const NEXT_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 9);
const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const OUTSIDE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

const POD_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5);
const NEXT_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

const POD: Side<'static> = Side {
    port: 5,
    mac: POD_MAC,
    gateway: Mac::GATEWAY,
    addresses: &[IpAddr::V4(POD_V4), IpAddr::V6(POD_V6)],
    host: false,
    mtu: 1500,
};
const HOST: Side<'static> =
    Side { port: 1, mac: HOST_MAC, gateway: HOST_GATEWAY, addresses: &[], host: true, mtu: 1500 };
const NEXT: Side<'static> = Side {
    port: 9,
    mac: NEXT_MAC,
    gateway: Mac::GATEWAY,
    addresses: &[IpAddr::V4(NEXT_V4), IpAddr::V6(NEXT_V6)],
    host: false,
    mtu: 1400,
};

fn slow_path() -> SlowPath {
    SlowPath::new(Config { router_v4: Some(ROUTER_V4), router_v6: Some(ROUTER_V6), ..Config::default() })
}

fn punted<'a>(why: Punt, frame: &'a [u8], from: Side<'a>) -> Punted<'a> {
    Punted { why, frame, offload: Offload::default(), from, to: Some(NEXT) }
}

fn outcome(punted: &Punted<'_>) -> Outcome {
    let mut out = Vec::new();
    let outcome = slow_path().answer(punted, Duration::ZERO, &mut out);
    assert_eq!(out.is_empty(), outcome != Outcome::Answered, "{outcome:?}");
    outcome
}

fn answer(punted: &Punted<'_>) -> Answer {
    let mut out = Vec::new();
    assert_eq!(slow_path().answer(punted, Duration::ZERO, &mut out), Outcome::Answered);
    assert_eq!(out.len(), 1);
    out.remove(0)
}

/// A frame from the station of `from` to our address there, its IP header made by `network`.
fn ethernet(from: &Side<'_>) -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2(from.mac.0, from.gateway.0)
}

fn udp(from: &Side<'_>, source: IpAddr, destination: IpAddr, payload: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload).map(|byte| byte as u8).collect();
    let builder = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => ethernet(from).ipv4(source.octets(), destination.octets(), 33),
        (IpAddr::V6(source), IpAddr::V6(destination)) => ethernet(from).ipv6(source.octets(), destination.octets(), 33),
        _ => panic!("one family"),
    };
    let mut frame = Vec::new();
    builder.udp(4000, 53).write(&mut frame, &payload).unwrap();
    frame
}

/// An ICMP answer read back, every checksum verified.
#[derive(Debug, PartialEq)]
struct Icmp {
    port: u16,
    to: Mac,
    from: Mac,
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
    kind: u8,
    code: u8,
    word: u32,
    payload: Vec<u8>,
}

fn read(answer: &Answer) -> Icmp {
    let packet = SlicedPacket::from_ethernet(&answer.frame).unwrap();
    let (source, destination, hop_limit, payload): (IpAddr, IpAddr, u8, _) = match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
            assert_eq!(usize::from(header.total_len()) + 14, answer.frame.len());
            (header.source_addr().into(), header.destination_addr().into(), header.ttl(), ip.payload())
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            assert_eq!(usize::from(header.payload_length()) + 54, answer.frame.len());
            (header.source_addr().into(), header.destination_addr().into(), header.hop_limit(), ip.payload())
        }
        NetSlice::Arp(_) => panic!("not ICMP"),
    };
    let (kind, code, rest, body) = match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            assert_eq!(payload.ip_number, IpNumber::IPV6_ICMP);
            let icmp = Icmpv6Slice::from_slice(payload.payload).unwrap();
            assert!(icmp.is_checksum_valid(source.octets(), destination.octets()));
            (icmp.type_u8(), icmp.code_u8(), icmp.bytes5to8(), icmp.payload())
        }
        _ => {
            assert_eq!(payload.ip_number, IpNumber::ICMP);
            let icmp = Icmpv4Slice::from_slice(payload.payload).unwrap();
            assert_eq!(icmp.icmp_type().calc_checksum(icmp.payload()), icmp.checksum());
            (icmp.type_u8(), icmp.code_u8(), icmp.bytes5to8(), icmp.payload())
        }
    };
    Icmp {
        port: answer.port,
        to: Mac(answer.frame[..6].try_into().unwrap()),
        from: Mac(answer.frame[6..12].try_into().unwrap()),
        source,
        destination,
        hop_limit,
        kind,
        code,
        word: u32::from_be_bytes(rest),
        payload: body.to_vec(),
    }
}

#[test]
fn a_port_is_told_only_as_much_as_its_rate_allows() {
    let mut slow_path = slow_path();
    let frame = udp(&POD, POD_V4.into(), OUTSIDE_V4.into(), 10);
    let mut out = Vec::new();
    let mut say = |punted: &Punted<'_>, now: u64| {
        let before = out.len();
        let outcomes: Vec<_> =
            (0..1000).map(|_| slow_path.answer(punted, Duration::from_millis(now), &mut out)).collect();
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Answered | Outcome::RateLimited)));
        out.len() - before
    };
    assert_eq!(say(&punted(Punt::Unreachable, &frame, POD), 0), 50);
    assert_eq!(say(&punted(Punt::TtlExceeded, &frame, POD), 100), 10);
    assert_eq!(say(&punted(Punt::TtlExceeded, &frame, HOST), 100), 50, "another port has its own");
    let request = neighbors::arp(&POD, 1, POD_V4, GATEWAY_V4);
    assert_eq!(say(&punted(Punt::Arp, &request, POD), 100), 500, "replies have their own");
    assert_eq!(say(&punted(Punt::Fragment, &frame, POD), 100), 1000, "what goes on is not limited");
}

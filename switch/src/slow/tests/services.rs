//! What is addressed to the gateway itself.

use etherparse::{IpFragOffset, Ipv4Header};

use super::*;

pub(super) fn ping(from: &Side<'_>, source: IpAddr, destination: IpAddr, payload: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload).map(|byte| byte as u8).collect();
    let mut frame = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => ethernet(from)
            .ipv4(source.octets(), destination.octets(), 33)
            .icmpv4_echo_request(0x1234, 7)
            .write(&mut frame, &payload),
        (IpAddr::V6(source), IpAddr::V6(destination)) => ethernet(from)
            .ipv6(source.octets(), destination.octets(), 33)
            .icmpv6_echo_request(0x1234, 7)
            .write(&mut frame, &payload),
        _ => panic!("one family"),
    }
    .unwrap();
    frame
}

#[test]
fn the_gateway_answers_a_ping_of_any_size() {
    let asked: [(Side<'_>, IpAddr, IpAddr, u8); 4] = [
        (POD, POD_V4.into(), GATEWAY_V4.into(), 0),
        (HOST, OUTSIDE_V4.into(), ROUTER_V4.into(), 0),
        (POD, POD_V6.into(), GATEWAY_V6.into(), 129),
        (HOST, NEXT_V6.into(), ROUTER_V6.into(), 129),
    ];
    for (from, source, destination, kind) in asked {
        for size in [0, 1, 56, 1472, 60_000] {
            let mut frame = ping(&from, source, destination, size);
            frame.extend([0; 6]);
            let reply = read(&answer(&punted(Punt::Local, &frame, from)));
            let expected = Icmp {
                port: from.port,
                to: from.mac,
                from: from.gateway,
                source: destination,
                destination: source,
                hop_limit: 64,
                kind,
                code: 0,
                word: 0x1234_0007,
                payload: (0..size).map(|byte| byte as u8).collect(),
            };
            assert_eq!(reply, expected, "padding does not belong to the answer");
        }
    }
}

#[test]
fn a_ping_that_is_broken_or_from_nobody_is_consumed() {
    for (source, destination) in [(IpAddr::from(POD_V4), IpAddr::from(GATEWAY_V4)), (POD_V6.into(), GATEWAY_V6.into())]
    {
        let mut frame = ping(&POD, source, destination, 56);
        *frame.last_mut().unwrap() ^= 1;
        assert_eq!(outcome(&punted(Punt::Local, &frame, POD)), Outcome::Malformed);
    }
    for source in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::LOCALHOST, Ipv4Addr::new(224, 0, 0, 9)] {
        let frame = ping(&POD, source.into(), GATEWAY_V4.into(), 56);
        assert_eq!(outcome(&punted(Punt::Local, &frame, POD)), Outcome::Malformed);
    }
    let to_all = ping(&POD, POD_V6.into(), IpAddr::V6("ff02::1".parse().unwrap()), 56);
    assert_eq!(outcome(&punted(Punt::Local, &to_all, POD)), Outcome::Malformed);
}

#[test]
fn other_icmp_to_the_gateway_is_consumed() {
    let reply = answer(&punted(Punt::Local, &ping(&POD, POD_V4.into(), GATEWAY_V4.into(), 5), POD));
    assert_eq!(outcome(&punted(Punt::Local, &reply.frame, POD)), Outcome::NotServed);
    let reply = answer(&punted(Punt::Local, &ping(&POD, POD_V6.into(), GATEWAY_V6.into(), 5), POD));
    assert_eq!(outcome(&punted(Punt::Local, &reply.frame, POD)), Outcome::NotServed);
}

#[test]
fn a_fragmented_ping_is_consumed() {
    for (more_fragments, offset) in [(true, 0), (false, 185)] {
        let mut header = Ipv4Header::new(1000, 33, IpNumber::ICMP, POD_V4.octets(), GATEWAY_V4.octets()).unwrap();
        header.more_fragments = more_fragments;
        header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
        header.header_checksum = header.calc_header_checksum();
        let frame = [&Mac::GATEWAY.0[..], &POD_MAC.0, &[8, 0], &header.to_bytes(), &[0; 1000]].concat();
        assert_eq!(outcome(&punted(Punt::Local, &frame, POD)), Outcome::GatewayFragment);
    }
}

#[test]
fn the_gateway_listens_on_no_port() {
    for (source, destination, kind, code) in
        [(IpAddr::from(POD_V4), IpAddr::from(GATEWAY_V4), 3, 3), (POD_V6.into(), GATEWAY_V6.into(), 1, 4)]
    {
        let frame = udp(&POD, source, destination, 30);
        let error = read(&answer(&punted(Punt::Local, &frame, POD)));
        assert_eq!((error.source, error.destination), (destination, source));
        assert_eq!((error.kind, error.code, error.word), (kind, code, 0));
        assert_eq!((error.port, error.to, error.from), (POD.port, POD_MAC, Mac::GATEWAY));
        assert_eq!(error.payload, &frame[14..]);
    }
    let mut sctp = udp(&POD, POD_V4.into(), GATEWAY_V4.into(), 30);
    sctp[23] = 132;
    assert_eq!(outcome(&punted(Punt::Local, &sctp, POD)), Outcome::NotServed);
}

//! ICMP errors about packets on their way.

use super::*;

/// The three reasons and, per family, what is said.
fn said(v6: bool) -> [(Punt, u8, u8, u32); 3] {
    if v6 {
        [(Punt::TtlExceeded, 3, 0, 0), (Punt::TooBig, 2, 0, 1400), (Punt::Unreachable, 1, 0, 0)]
    } else {
        [(Punt::TtlExceeded, 11, 0, 0), (Punt::TooBig, 3, 4, 1400), (Punt::Unreachable, 3, 0, 0)]
    }
}

#[test]
fn a_pod_is_told_by_its_gateway_and_others_by_the_router() {
    let ways: [(Side<'_>, IpAddr, IpAddr, IpAddr); 4] = [
        (POD, POD_V4.into(), NEXT_V4.into(), GATEWAY_V4.into()),
        (POD, POD_V6.into(), NEXT_V6.into(), GATEWAY_V6.into()),
        (HOST, OUTSIDE_V4.into(), NEXT_V4.into(), ROUTER_V4.into()),
        (HOST, "2001:db8::7".parse().unwrap(), NEXT_V6.into(), ROUTER_V6.into()),
    ];
    for (from, source, destination, reporter) in ways {
        let frame = udp(&from, source, destination, 100);
        for (why, kind, code, word) in said(source.is_ipv6()) {
            let expected = Icmp {
                port: from.port,
                to: from.mac,
                from: from.gateway,
                source: reporter,
                destination: source,
                hop_limit: 64,
                kind,
                code,
                word,
                payload: frame[14..].to_vec(),
            };
            assert_eq!(read(&answer(&punted(why, &frame, from))), expected);
        }
    }
}

#[test]
fn without_a_router_address_only_pods_are_told() {
    let mut slow_path = SlowPath::new(Config::default());
    let mut out = Vec::new();
    for (source, destination) in [(IpAddr::from(OUTSIDE_V4), IpAddr::from(NEXT_V4)), (ROUTER_V6.into(), NEXT_V6.into())]
    {
        let frame = udp(&HOST, source, destination, 10);
        let outcome = slow_path.answer(&punted(Punt::TtlExceeded, &frame, HOST), Duration::ZERO, &mut out);
        assert_eq!((outcome, out.len()), (Outcome::NoRouterAddress, 0));
    }
    let frame = udp(&POD, POD_V4.into(), NEXT_V4.into(), 10);
    let outcome = slow_path.answer(&punted(Punt::TtlExceeded, &frame, POD), Duration::ZERO, &mut out);
    assert_eq!((outcome, out.len()), (Outcome::Answered, 1));
}

#[test]
fn a_quote_fills_what_the_error_may_hold_and_no_more() {
    let frame = udp(&POD, POD_V4.into(), NEXT_V4.into(), 1400);
    let error = answer(&punted(Punt::TooBig, &frame, POD));
    assert_eq!(error.frame.len(), 14 + 576);
    assert_eq!(read(&error).payload, &frame[14..14 + 548]);
    let frame = udp(&POD, POD_V6.into(), NEXT_V6.into(), 1400);
    let error = answer(&punted(Punt::TooBig, &frame, POD));
    assert_eq!(error.frame.len(), 14 + 1280);
    assert_eq!(read(&error).payload, &frame[14..14 + 1232]);
}

#[test]
fn an_mtu_below_1280_is_never_announced_to_ipv6() {
    let frame = udp(&POD, POD_V6.into(), NEXT_V6.into(), 1400);
    let punt = Punted { to: Some(Side { mtu: 900, ..NEXT }), ..punted(Punt::TooBig, &frame, POD) };
    assert_eq!(read(&answer(&punt)).word, 1280);
    let frame = udp(&POD, POD_V4.into(), NEXT_V4.into(), 1400);
    let punt = Punted { to: Some(Side { mtu: 900, ..NEXT }), ..punted(Punt::TooBig, &frame, POD) };
    assert_eq!(read(&answer(&punt)).word, 900);
    assert_eq!(outcome(&Punted { to: None, ..punt }), Outcome::NoNextHop);
}

#[test]
fn no_error_is_sent_about_an_error() {
    let about = [udp(&POD, POD_V4.into(), NEXT_V4.into(), 9), udp(&POD, POD_V6.into(), NEXT_V6.into(), 9)];
    for frame in about {
        for why in [Punt::TtlExceeded, Punt::TooBig, Punt::Unreachable] {
            let error = answer(&punted(why, &frame, POD));
            assert_eq!(outcome(&punted(Punt::TtlExceeded, &error.frame, POD)), Outcome::NoErrorAbout);
        }
    }
    for ping in
        [services::ping(&POD, POD_V4.into(), NEXT_V4.into(), 9), services::ping(&POD, POD_V6.into(), NEXT_V6.into(), 9)]
    {
        assert_eq!(outcome(&punted(Punt::TtlExceeded, &ping, POD)), Outcome::Answered, "a ping is no error");
    }
}

#[test]
fn no_error_is_sent_to_or_about_a_group_or_nobody() {
    let check = |source: &str, destination: &str| {
        let frame = udp(&POD, source.parse().unwrap(), destination.parse().unwrap(), 9);
        assert_eq!(outcome(&punted(Punt::Unreachable, &frame, POD)), Outcome::NoErrorAbout, "{source} {destination}");
    };
    for source in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1"] {
        check(source, "10.1.0.9");
    }
    for destination in ["0.0.0.0", "224.0.0.1", "255.255.255.255"] {
        check("10.1.0.5", destination);
    }
    for source in ["::", "::1", "ff02::1"] {
        check(source, "fd00::9");
    }
    check("fd00::5", "ff0e::9");
    let mut broadcast = udp(&POD, POD_V4.into(), NEXT_V4.into(), 9);
    broadcast[..6].fill(0xff);
    assert_eq!(outcome(&punted(Punt::Unreachable, &broadcast, POD)), Outcome::NoErrorAbout);
}

#[test]
fn of_a_fragmented_packet_only_the_first_part_is_reported() {
    let mut frame = udp(&POD, POD_V4.into(), NEXT_V4.into(), 100);
    frame[20] = 0x20;
    assert_eq!(outcome(&punted(Punt::TtlExceeded, &frame, POD)), Outcome::Answered);
    (frame[20], frame[21]) = (0, 9);
    assert_eq!(outcome(&punted(Punt::TtlExceeded, &frame, POD)), Outcome::NoErrorAbout);

    let mut frame = udp(&POD, POD_V6.into(), NEXT_V6.into(), 100);
    frame.splice(54..54, [17, 0, 0, 1, 0, 0, 0, 9]);
    (frame[20], frame[19]) = (44, 116);
    assert_eq!(outcome(&punted(Punt::TtlExceeded, &frame, POD)), Outcome::Answered);
    frame[57] = 0x41;
    assert_eq!(outcome(&punted(Punt::TtlExceeded, &frame, POD)), Outcome::NoErrorAbout);
}

#[test]
fn a_frame_cut_short_is_not_reported() {
    for frame in [udp(&POD, POD_V4.into(), NEXT_V4.into(), 9), udp(&POD, POD_V6.into(), NEXT_V6.into(), 9)] {
        for length in 0..frame.len() {
            assert_eq!(outcome(&punted(Punt::TtlExceeded, &frame[..length], POD)), Outcome::Malformed);
        }
    }
}

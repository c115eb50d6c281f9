//! Filters over frames: etherparse says what a frame is.

use std::net::IpAddr;

use control::{Expression, Filter, Protocol, Side, Transport};
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, IpFragOffset, IpHeaders, IpNumber, Ipv4Header, LaxPacketHeaders,
    LaxPayloadSlice, NetHeaders, PacketBuilder, TransportHeader,
};
use proptest::prelude::*;

use super::*;

fn holds(filter: &str, frame: &[u8]) -> bool {
    let filter: Filter = filter.parse().unwrap_or_else(|error| panic!("{filter}: {error}"));
    matching::holds(filter.expression(), &Headers::of(frame), frame.len() as u32)
}

/// The same by etherparse, one primitive after the other.
fn oracle(expression: &Expression, frame: &[u8]) -> bool {
    let Ok(seen) = LaxPacketHeaders::from_ethernet(frame) else { return false };
    let (addresses, protocol): (Option<(IpAddr, IpAddr)>, Option<IpNumber>) = match &seen.net {
        Some(NetHeaders::Ipv4(ip, _)) => (Some((ip.source.into(), ip.destination.into())), Some(ip.protocol)),
        Some(NetHeaders::Ipv6(ip, extensions)) => {
            let last = extensions.next_header(ip.next_header).ok();
            (Some((ip.source.into(), ip.destination.into())), last)
        }
        Some(NetHeaders::Arp(arp)) => {
            let arp = arp.try_eth_ipv4().unwrap();
            (Some((arp.sender_ipv4.into(), arp.target_ipv4.into())), None)
        }
        None => (None, None),
    };
    let ports = match (&seen.transport, protocol, &seen.payload) {
        (Some(TransportHeader::Tcp(tcp)), ..) => Some((tcp.source_port, tcp.destination_port)),
        (Some(TransportHeader::Udp(udp)), ..) => Some((udp.source_port, udp.destination_port)),
        // What it does not read: SCTP, and the transport header of a first fragment.
        (None, Some(IpNumber::UDP | IpNumber::SCTP), LaxPayloadSlice::Ip(ip)) if !is_later_fragment(&seen) => {
            let word = |at: usize| ip.payload.get(at..at + 2).map(|word| u16::from_be_bytes([word[0], word[1]]));
            word(0).zip(word(2))
        }
        _ => None,
    };
    let of = |transport: &Transport| match transport {
        Transport::Tcp => IpNumber::TCP,
        Transport::Udp => IpNumber::UDP,
        Transport::Sctp => IpNumber::SCTP,
    };
    let (v4, v6) = (matches!(seen.net, Some(NetHeaders::Ipv4(..))), matches!(seen.net, Some(NetHeaders::Ipv6(..))));
    let want = |side: &Option<Side>, which: Side| side.is_none_or(|side| side == which);
    match expression {
        Expression::Protocol(Protocol::Ip) => v4,
        Expression::Protocol(Protocol::Ip6) => v6,
        Expression::Protocol(Protocol::Arp) => matches!(seen.net, Some(NetHeaders::Arp(_))),
        Expression::Protocol(Protocol::Icmp) => v4 && protocol == Some(IpNumber::ICMP),
        Expression::Protocol(Protocol::Icmp6) => v6 && protocol == Some(IpNumber::IPV6_ICMP),
        Expression::Transport(transport) => protocol == Some(of(transport)),
        Expression::Address { side, prefix } => addresses.is_some_and(|(source, destination)| {
            want(side, Side::Src) && prefix.net().contains(&source)
                || want(side, Side::Dst) && prefix.net().contains(&destination)
        }),
        Expression::Port { transport, side, range } => {
            let transport_is_right = transport.as_ref().is_none_or(|transport| protocol == Some(of(transport)));
            transport_is_right
                && ports.is_some_and(|(source, destination)| {
                    want(side, Side::Src) && range.contains(&source)
                        || want(side, Side::Dst) && range.contains(&destination)
                })
        }
        Expression::Less(bytes) => frame.len() <= *bytes as usize,
        Expression::Greater(bytes) => frame.len() >= *bytes as usize,
        Expression::Not(term) => !oracle(term, frame),
        Expression::And(terms) => oracle(&terms[0], frame) && oracle(&terms[1], frame),
        Expression::Or(terms) => oracle(&terms[0], frame) || oracle(&terms[1], frame),
    }
}

fn is_later_fragment(seen: &LaxPacketHeaders<'_>) -> bool {
    matches!(&seen.net, Some(NetHeaders::Ipv4(ip, _)) if ip.fragment_offset.value() > 0)
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Arp,
    FirstFragment,
    LaterFragment,
    Unknown,
}

fn frame(kind: Kind, v6: bool, (from, to): (u8, u8), (source, destination): (u16, u16), payload: usize) -> Vec<u8> {
    let (mut frame, payload) = (Vec::new(), vec![7; payload]);
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let v4s = [from, to].map(|last| [10, 0, last & 1, last]);
    let v6s = [from, to].map(|last| [0xfd, 0, 0, 0, 0, 0, 0, last & 1, 0, 0, 0, 0, 0, 0, 0, last]);
    if let Kind::Arp = kind {
        let arp = ArpEthIpv4Packet {
            operation: ArpOperation::REQUEST,
            sender_mac: [2; 6],
            sender_ipv4: v4s[0],
            target_mac: [0; 6],
            target_ipv4: v4s[1],
        };
        ethernet.arp(arp.into()).write(&mut frame).unwrap();
        return frame;
    }
    let fragment = |offset, more| {
        let mut ip = Ipv4Header::new(0, 64, IpNumber::UDP, v4s[0], v4s[1]).unwrap();
        (ip.fragment_offset, ip.more_fragments) = (IpFragOffset::try_new(offset).unwrap(), more);
        ip
    };
    let ports = [source.to_be_bytes(), destination.to_be_bytes(), [0, 40], [0, 0]].concat();
    match kind {
        Kind::FirstFragment | Kind::LaterFragment => {
            let ip = fragment(if let Kind::FirstFragment = kind { 0 } else { 9 }, true);
            let step = ethernet.ip(IpHeaders::Ipv4(ip, Default::default()));
            step.write(&mut frame, IpNumber::UDP, &[ports, payload].concat()).unwrap();
            return frame;
        }
        _ => {}
    }
    let ip = if v6 { ethernet.ipv6(v6s[0], v6s[1], 64) } else { ethernet.ipv4(v4s[0], v4s[1], 64) };
    match kind {
        Kind::Tcp => ip.tcp(source, destination, 1, 2).write(&mut frame, &payload),
        Kind::Udp => ip.udp(source, destination).write(&mut frame, &payload),
        Kind::Icmp if v6 => ip.icmpv6_echo_request(1, 2).write(&mut frame, &payload),
        Kind::Icmp => ip.icmpv4_echo_request(1, 2).write(&mut frame, &payload),
        Kind::Sctp => ip.write(&mut frame, IpNumber::SCTP, &[ports, payload].concat()),
        _ => ip.write(&mut frame, IpNumber(50), &payload),
    }
    .unwrap();
    frame
}

#[test]
fn primitives_hold_for_what_they_name() {
    let tcp = frame(Kind::Tcp, false, (2, 3), (43_122, 80), 20);
    for filter in [
        "ip",
        "tcp",
        "host 10.0.0.2",
        "10.0.1.3",
        "src 10.0.0.2 and dst 10.0.1.3",
        "src net 10.0.0.0/24",
        "port 80",
        "tcp dst port 80",
        "src portrange 43000-44000",
        "less 74",
        "greater 74",
        "not udp and not arp",
    ] {
        assert!(holds(filter, &tcp), "{filter}");
        assert!(!holds(&format!("not ({filter})"), &tcp), "{filter}");
    }
    for filter in ["ip6", "udp", "icmp", "dst 10.0.0.2", "udp port 80", "src port 80", "less 73", "greater 75"] {
        assert!(!holds(filter, &tcp), "{filter}");
    }
    assert!(holds("arp and src 10.0.0.2 and dst host 10.0.1.3", &frame(Kind::Arp, false, (2, 3), (0, 0), 0)));
}

#[test]
fn a_fragment_without_ports_matches_no_port_and_padding_is_none() {
    let later = frame(Kind::LaterFragment, false, (2, 3), (43_122, 80), 40);
    assert!(holds("udp and dst 10.0.1.3", &later));
    assert!(!holds("portrange 0-65535", &later));
    assert!(holds("udp dst port 80", &frame(Kind::FirstFragment, false, (2, 3), (43_122, 80), 40)));
    let mut padded = frame(Kind::Unknown, false, (2, 3), (0, 0), 0);
    (padded[23], padded[24], padded[25]) = (17, 0, 0);
    padded.resize(60, 0);
    assert!(holds("udp", &padded) && !holds("portrange 0-65535", &padded));
}

fn primitive() -> impl Strategy<Value = String> {
    let side = prop::sample::select(vec!["", "src ", "dst "]);
    let transport = prop::sample::select(vec!["", "tcp ", "udp ", "sctp "]);
    let word = prop::sample::select(vec!["ip", "ip6", "arp", "icmp", "icmp6", "tcp", "udp", "sctp"]);
    let address =
        prop::sample::select(vec!["10.0.0.2", "net 10.0.1.0/24", "net 0.0.0.0/0", "fd00::2", "net fd00::/64"]);
    prop_oneof![
        word.prop_map(str::to_owned),
        (side.clone(), address).prop_map(|(side, address)| format!("{side}{address}")),
        (transport, side, 1..5_u16)
            .prop_map(|(transport, side, port)| format!("{transport}{side}portrange 2-{port}"))
            .prop_filter("an empty range", |text| !text.ends_with("2-1")),
        (30..120_u32).prop_map(|bytes| format!("less {bytes}")),
    ]
}

fn filter() -> impl Strategy<Value = String> {
    primitive().prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|term| format!("not ({term})")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one}) and ({other})")),
            (inner.clone(), inner).prop_map(|(one, other)| format!("({one}) or ({other})")),
        ]
    })
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let kinds = [
        Kind::Tcp,
        Kind::Udp,
        Kind::Sctp,
        Kind::Icmp,
        Kind::Arp,
        Kind::FirstFragment,
        Kind::LaterFragment,
        Kind::Unknown,
    ];
    let kind = prop::sample::select(kinds.to_vec());
    (kind, any::<bool>(), (0..4_u8, 0..4_u8), (1..5_u16, 1..5_u16), 0..60_usize)
        .prop_map(|(kind, v6, addresses, ports, payload)| frame(kind, v6, addresses, ports, payload))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_filter_holds_for_what_etherparse_says_it_does(filter in filter(), frame in any_frame()) {
        let parsed: Filter = filter.parse().unwrap();
        prop_assert_eq!(holds(&filter, &frame), oracle(parsed.expression(), &frame));
    }

    #[test]
    fn any_bytes_have_headers_or_not_but_never_panic(
        mut frame in any_frame(), changes in prop::collection::vec((any::<u8>(), any::<u8>()), 0..6), cut in any::<u8>(),
    ) {
        for (at, byte) in changes {
            let at = usize::from(at) % frame.len();
            frame[at] = byte;
        }
        frame.truncate(usize::from(cut));
        let headers = Headers::of(&frame);
        prop_assert!(headers.transport.len() <= frame.len());
        // Whatever they are, they are so or not.
        let is = holds("port 2 or ip and 10.0.0.2", &frame);
        prop_assert_eq!(holds("not (port 2 or ip and 10.0.0.2)", &frame), !is);
        prop_assert!(headers.ports().is_none() || headers.protocol().is_some());
    }

    #[test]
    fn so_do_bytes_that_are_no_frame(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Headers::of(&frame).transport.len() <= frame.len());
    }
}

#[test]
fn an_ethertype_alone_is_enough_for_a_protocol() {
    let bare = [&[0; 12][..], &EtherType::IPV4.0.to_be_bytes()].concat();
    assert!(holds("ip", &bare) && !holds("icmp or host 0.0.0.0", &bare));
}

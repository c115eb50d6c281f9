//! The filter's text: what it means, that it comes back, and that no text at all is too much.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Expression {
    text.parse::<Filter>().unwrap_or_else(|error| panic!("{text}: {error}")).0
}

fn not(term: Expression) -> Expression {
    Expression::Not(Box::new(term))
}

fn and(left: Expression, right: Expression) -> Expression {
    Expression::And(Box::new([left, right]))
}

fn or(left: Expression, right: Expression) -> Expression {
    Expression::Or(Box::new([left, right]))
}

fn address(side: Option<Side>, prefix: &str) -> Expression {
    Expression::Address { side, prefix: prefix.parse().unwrap() }
}

fn port(transport: Option<Transport>, side: Option<Side>, range: RangeInclusive<u16>) -> Expression {
    Expression::Port { transport, side, range }
}

#[test]
fn every_primitive_is_read() {
    for (text, expected) in [
        ("ip", Expression::Protocol(Protocol::Ip)),
        ("icmp6", Expression::Protocol(Protocol::Icmp6)),
        ("sctp", Expression::Transport(Transport::Sctp)),
        ("10.1.2.3", address(None, "10.1.2.3/32")),
        ("host fd00::1", address(None, "fd00::1/128")),
        ("src 10.1.2.3", address(Some(Side::Src), "10.1.2.3/32")),
        ("dst host 10.1.2.3", address(Some(Side::Dst), "10.1.2.3/32")),
        ("src net 10.0.0.0/8", address(Some(Side::Src), "10.0.0.0/8")),
        ("port 80", port(None, None, 80..=80)),
        ("tcp port 80", port(Some(Transport::Tcp), None, 80..=80)),
        ("udp dst portrange 5-9", port(Some(Transport::Udp), Some(Side::Dst), 5..=9)),
        ("less 64", Expression::Less(64)),
        ("greater 1500", Expression::Greater(1500)),
    ] {
        assert_eq!(parse(text), expected, "{text}");
    }
}

#[test]
fn words_join_from_left_to_right_and_not_binds_tightest() {
    let [ip, tcp, arp] = ["ip", "tcp", "arp"].map(parse);
    let [a, b, c] = [ip, tcp, arp];
    assert_eq!(parse("ip or tcp and arp"), and(or(a.clone(), b.clone()), c.clone()));
    assert_eq!(parse("ip or (tcp and arp)"), or(a.clone(), and(b.clone(), c.clone())));
    assert_eq!(parse("ip||(tcp&&arp)"), parse("ip or (tcp and arp)"));
    assert_eq!(parse("not ip and tcp"), and(not(a.clone()), b.clone()));
    assert_eq!(parse("!(ip and tcp)"), not(and(a, b)));
    assert_eq!(parse("tcp and dst 10.1.2.3"), and(parse("tcp"), parse("dst host 10.1.2.3")));
    assert_eq!(parse("not!not arp"), not(not(not(c))));
}

#[test]
fn an_error_names_the_word_its_place_and_what_is_allowed() {
    for (text, found, needs) in [
        ("", "ends at character 1", "an address, or one of ip, ip6"),
        ("tcp prt 80", "has 'prt' at character 5", "'and', 'or' or its end"),
        ("tcp and", "ends at character 8", "one of ip"),
        ("port 80 or 443", "has '443' at character 12", "portrange"),
        ("port 65536", "has '65536' at character 6", "0 to 65535"),
        ("port http", "has 'http' at character 6", "a port number"),
        ("portrange 9-5", "has '9-5' at character 11", "the lower one first"),
        ("portrange 9", "has '9'", "8000-8080"),
        ("host web-1", "has 'web-1' at character 6", "an IPv4 or IPv6 address"),
        ("src tcp", "has 'tcp' at character 5", "'net'"),
        ("tcp src 10.1.2.3", "has '10.1.2.3' at character 9", "'port' or 'portrange'"),
        ("net 10.0.0.1/8", "has '10.0.0.1/8' at character 5", "did you mean 10.0.0.0/8?"),
        ("(tcp", "ends at character 5", "')'"),
        ("tcp)", "has ')' at character 4", "its end"),
        ("tcp & udp", "has '&' at character 5", "'and'"),
        ("less many", "has 'many' at character 6", "a number of bytes"),
        ("ä port 1", "has 'ä' at character 1", "one of"),
        ("src less 5", "has 'less' at character 5", "an address"),
    ] {
        let error = text.parse::<Filter>().unwrap_err().to_string();
        assert!(error.contains(found) && error.contains(needs), "{text}: {error}");
    }
}

#[test]
fn the_number_of_terms_is_bounded_however_they_are_put() {
    let chain = |count| vec!["arp"; count].join(" or ");
    assert_eq!(parse(&chain(TERMS_MAX)).to_string(), chain(TERMS_MAX));
    let nested = format!("{}arp{}", "(".repeat(100_000), ")".repeat(100_000));
    for text in [chain(TERMS_MAX + 1), "not ".repeat(TERMS_MAX) + "arp", nested, "!".repeat(1 << 20)] {
        let error = text.parse::<Filter>().unwrap_err().to_string();
        assert!(error.contains("more than 64 terms"), "{error}");
    }
}

fn primitive() -> impl Strategy<Value = Expression> {
    let protocol = prop::sample::select(Protocol::ALL).prop_map(Expression::Protocol);
    let transport = prop::sample::select(Transport::ALL);
    let side = prop::option::of(prop::sample::select(Side::ALL));
    let prefix = (any::<IpAddr>(), any::<u8>()).prop_map(|(address, length)| {
        let length = length % if address.is_ipv4() { 33 } else { 129 };
        Prefix::try_from(ipnet::IpNet::new(address, length).unwrap().trunc()).unwrap()
    });
    prop_oneof![
        protocol,
        transport.clone().prop_map(Expression::Transport),
        (side.clone(), prefix).prop_map(|(side, prefix)| Expression::Address { side, prefix }),
        (prop::option::of(transport), side, any::<u16>(), any::<u16>()).prop_map(|(transport, side, one, other)| port(
            transport,
            side,
            one.min(other)..=one.max(other)
        )),
        any::<u32>().prop_map(Expression::Less),
        any::<u32>().prop_map(Expression::Greater),
    ]
}

fn expression() -> impl Strategy<Value = Expression> {
    primitive().prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(not),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| and(left, right)),
            (inner.clone(), inner).prop_map(|(left, right)| or(left, right)),
        ]
    })
}

proptest! {
    #[test]
    fn a_filter_survives_text_json_and_back(expression in expression()) {
        let filter = Filter(expression);
        prop_assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter.clone());
        let json = serde_json::to_string(&filter).unwrap();
        prop_assert_eq!(serde_json::from_str::<Filter>(&json).unwrap(), filter);
    }

    #[test]
    fn any_text_is_a_filter_or_an_error(text in any::<String>()) {
        if let Ok(filter) = text.parse::<Filter>() {
            prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter));
        }
    }

    #[test]
    fn any_words_are_a_filter_or_an_error(words in prop::collection::vec(prop::sample::select(WORDS), 0..90)) {
        let text = words.join(" ");
        if let Ok(filter) = text.parse::<Filter>() {
            prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter));
        }
    }
}

const WORDS: &[&str] = &[
    "ip",
    "tcp",
    "udp",
    "src",
    "dst",
    "host",
    "net",
    "port",
    "portrange",
    "less",
    "greater",
    "and",
    "or",
    "not",
    "(",
    ")",
    "!",
    "&&",
    "||",
    "&",
    "80",
    "5-9",
    "10.0.0.0/8",
    "10.1.2.3",
    "fd00::1",
    "(tcp",
    "arp)",
    "é",
];

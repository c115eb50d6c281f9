//! Whether a filter holds for a frame.

use control::{Expression, Protocol, Side, Transport};
use packet::view::{ethertype, protocol};

use super::Headers;

/// True when the expression holds for a frame of these headers and `length` bytes. What a header does not say, no
/// primitive about it holds for.
pub(super) fn holds(expression: &Expression, headers: &Headers<'_>, length: u32) -> bool {
    match expression {
        Expression::Protocol(protocol) => is(*protocol, headers),
        Expression::Transport(transport) => headers.protocol() == Some(number(*transport)),
        Expression::Address { side, prefix } => either(*side, headers.addresses(), |address| prefix.contains(address)),
        Expression::Port { transport, side, range } => {
            let transport_is_right = transport.is_none_or(|transport| headers.protocol() == Some(number(transport)));
            transport_is_right && either(*side, headers.ports(), |port| range.contains(&port))
        }
        Expression::Less(bytes) => length <= *bytes,
        Expression::Greater(bytes) => length >= *bytes,
        Expression::Not(term) => !holds(term, headers, length),
        Expression::And(terms) => terms.iter().all(|term| holds(term, headers, length)),
        Expression::Or(terms) => terms.iter().any(|term| holds(term, headers, length)),
    }
}

fn is(kind: Protocol, headers: &Headers<'_>) -> bool {
    let (ethertype, transport) = match kind {
        Protocol::Ip => (ethertype::IPV4, None),
        Protocol::Ip6 => (ethertype::IPV6, None),
        Protocol::Arp => (ethertype::ARP, None),
        Protocol::Icmp => (ethertype::IPV4, Some(protocol::ICMP)),
        Protocol::Icmp6 => (ethertype::IPV6, Some(protocol::ICMP_V6)),
    };
    headers.ethertype() == Some(ethertype) && transport.is_none_or(|number| headers.protocol() == Some(number))
}

fn either<T>(side: Option<Side>, pair: Option<(T, T)>, holds: impl Fn(T) -> bool) -> bool {
    let Some((source, destination)) = pair else { return false };
    match side {
        Some(Side::Src) => holds(source),
        Some(Side::Dst) => holds(destination),
        None => holds(source) || holds(destination),
    }
}

fn number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => protocol::TCP,
        Transport::Udp => protocol::UDP,
        Transport::Sctp => protocol::SCTP,
    }
}

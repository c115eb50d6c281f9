//! ICMP errors about packets that cannot go on.
//!
//! What is quoted and about what an error may be sent: RFC 1812, section 4.3.2, and RFC 4443, sections 2.4 and 3. A
//! quote is as long as those allow: 576 bytes of IPv4 packet in all, 1 280 of IPv6. Of a super-frame the first segment
//! is quoted, with its own length, checksum and sequence number, so that the sender's TCP finds the connection.

use std::net::IpAddr;

use packet::view::{Ethernet, Fragment, ICMP_LEN, IPV4_LEN, IPV6_LEN, protocol};
use smoltcp::wire::IPV6_MIN_MTU;

use super::answer::{HOP_LIMIT, Icmp};
use super::datagram::Datagram;
use super::segments::Segments;
use super::{Answer, Config, Outcome, Punted};

/// What the error says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// The TTL or hop limit is used up.
    TtlExceeded,
    /// Bigger than the next hop's MTU, in bytes.
    TooBig(u16),
    /// No route.
    NetUnreachable,
    /// The gateway listens on no port.
    PortUnreachable,
}

impl Cause {
    /// Type, code and second word of the ICMP header (RFC 792; RFC 1191, section 4), or of the ICMPv6 header (RFC 4443,
    /// section 3). IPv6 is never told of an MTU below its least.
    fn header(self, v6: bool) -> (u8, u8, u32) {
        match (self, v6) {
            (Cause::TtlExceeded, false) => (11, 0, 0),
            (Cause::TtlExceeded, true) => (3, 0, 0),
            (Cause::TooBig(mtu), false) => (3, 4, mtu.into()),
            (Cause::TooBig(mtu), true) => (2, 0, u32::from(mtu).max(IPV6_MIN_MTU as u32)),
            (Cause::NetUnreachable, false) => (3, 0, 0),
            (Cause::NetUnreachable, true) => (1, 0, 0),
            (Cause::PortUnreachable, false) => (3, 3, 0),
            (Cause::PortUnreachable, true) => (1, 4, 0),
        }
    }
}

/// The error about the packet in `punted`, back to its sender.
pub(super) fn compose(cause: Cause, punted: &Punted<'_>, config: &Config) -> Result<Answer, Outcome> {
    let frame = Segments::of(punted)?.next().ok_or(Outcome::Malformed)?;
    let about = Datagram::parse(&frame).ok_or(Outcome::Malformed)?;
    let to_group = Ethernet::parse(&frame).is_none_or(|ethernet| ethernet.destination().is_group());
    if to_group || about.fragment == Fragment::Later || !about.is_between_hosts() || is_icmp_error(&about) {
        return Err(Outcome::NoErrorAbout);
    }
    let source = source(cause, &about, punted, config).ok_or(Outcome::NoRouterAddress)?;
    let (kind, code, word) = cause.header(source.is_ipv6());
    let quoted_max = if source.is_ipv6() { QUOTED_MAX_V6 } else { QUOTED_MAX_V4 };
    let mut message = vec![kind, code, 0, 0];
    message.extend(word.to_be_bytes());
    message.extend(&about.bytes[..about.bytes.len().min(quoted_max)]);
    let icmp = Icmp { source, destination: about.source, hop_limit: HOP_LIMIT, message };
    Ok(Answer::icmp(&punted.from, icmp))
}

/// Who reports: the address spoken to for its ports, the gateway to a local pod, else the router.
fn source(cause: Cause, about: &Datagram<'_>, punted: &Punted<'_>, config: &Config) -> Option<IpAddr> {
    let from = &punted.from;
    let is_pod = !from.host && !from.addresses.is_empty();
    match (cause, about.destination) {
        (Cause::PortUnreachable, spoken_to) => Some(spoken_to),
        (_, IpAddr::V4(_)) if is_pod => Some(config.gateway_v4.into()),
        (_, IpAddr::V6(_)) if is_pod => Some(config.gateway_v6.into()),
        (_, IpAddr::V4(_)) => config.router_v4.map(IpAddr::V4),
        (_, IpAddr::V6(_)) => config.router_v6.map(IpAddr::V6),
    }
}

/// True if the packet may be an ICMP error (or an ICMPv6 redirect): an error about an error could go on for ever.
fn is_icmp_error(about: &Datagram<'_>) -> bool {
    let kind = about.transport.first();
    match about.protocol {
        protocol::ICMP => kind.is_none_or(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12)),
        protocol::ICMP_V6 => kind.is_none_or(|kind| matches!(kind, 0..=127 | 137)),
        _ => false,
    }
}

/// Bytes of quote that make a packet of 576 bytes (RFC 1812, section 4.3.2.3).
const QUOTED_MAX_V4: usize = 576 - IPV4_LEN - ICMP_LEN;
/// Bytes of quote that make a packet of IPv6's least MTU (RFC 4443, section 2.4 (c)).
const QUOTED_MAX_V6: usize = IPV6_MIN_MTU - IPV6_LEN - ICMP_LEN;

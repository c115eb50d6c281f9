//! Neighbour discovery: every IPv6 address is at the gateway.
//!
//! The IPv6 twin of [`super::arp`] (RFC 4861, section 7.2). A solicitation from `::` or for the asker's own address is
//! duplicate address detection (RFC 4862) and stays unanswered. What RFC 4861, section 7.1.1, says a valid solicitation
//! is, is checked: hop limit 255 (so it was not routed here), checksum, code, length, options.

use std::net::IpAddr;

use packet::view::{Fragment, protocol};
use smoltcp::wire::{EthernetAddress, Icmpv6Message, Icmpv6Packet, NdiscNeighborFlags, NdiscRepr};

use super::answer::Icmp;
use super::datagram::Datagram;
use super::{Answer, Config, Outcome, Punted};

/// The advertisement that answers the solicitation in `punted`.
pub(super) fn advertise(punted: &Punted<'_>, config: &Config) -> Result<Answer, Outcome> {
    let datagram = Datagram::parse(punted.frame).ok_or(Outcome::Malformed)?;
    let (IpAddr::V6(asker), IpAddr::V6(destination)) = (datagram.source, datagram.destination) else {
        return Err(Outcome::Malformed);
    };
    let message = Icmpv6Packet::new_checked(datagram.transport).map_err(|_| Outcome::Malformed)?;
    let sound = datagram.protocol == protocol::ICMP_V6
        && datagram.fragment == Fragment::Whole
        && datagram.hop_limit == ON_LINK
        && message.msg_code() == 0
        && message.verify_checksum(&asker, &destination);
    if !sound {
        return Err(Outcome::Malformed);
    }
    match message.msg_type() {
        Icmpv6Message::NeighborSolicit => {}
        Icmpv6Message::NeighborAdvert => return Err(Outcome::NothingAsked),
        _ => return Err(Outcome::Malformed),
    }
    let target = message.target_addr();
    if target.is_multicast() || target.is_unspecified() || asker.is_multicast() || !options_are_sound(message.payload())
    {
        return Err(Outcome::Malformed);
    }
    let from = &punted.from;
    if asker.is_unspecified() || target == asker || from.addresses.contains(&IpAddr::V6(target)) {
        return Err(Outcome::AddressCheck);
    }
    let ours = target == config.gateway_v6 || Some(target) == config.router_v6;
    let router = if ours { NdiscNeighborFlags::ROUTER } else { NdiscNeighborFlags::empty() };
    let advertisement = NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE | router,
        target_addr: target,
        lladdr: Some(EthernetAddress(from.gateway.0).into()),
    };
    let mut message = vec![0; advertisement.buffer_len()];
    advertisement.emit(&mut Icmpv6Packet::new_unchecked(&mut message[..]));
    let icmp = Icmp { source: target.into(), destination: asker.into(), hop_limit: ON_LINK, message };
    Ok(Answer::icmp(from, icmp))
}

/// True if every option is complete and none has length 0.
fn options_are_sound(mut options: &[u8]) -> bool {
    while let [_, units, ..] = *options {
        match options.split_at_checked(8 * usize::from(units)) {
            Some((option, rest)) if !option.is_empty() => options = rest,
            _ => return false,
        }
    }
    options.is_empty()
}

/// Proves that a message came from the link itself (RFC 4861, section 3.1).
const ON_LINK: u8 = 255;

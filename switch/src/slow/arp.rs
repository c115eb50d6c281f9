//! ARP: every address is at the gateway.
//!
//! A pod has no on-link neighbour: whatever it asks for is reached through the switch, so the answer is always our own
//! Ethernet address (proxy ARP, RFC 1027). Two questions must not be answered, or the asker takes its own address for
//! taken: a probe, whose sender address is 0.0.0.0, and a request for the asker's own address (RFC 5227). The sender
//! address is otherwise not looked at: nothing is learned from it.

use std::net::IpAddr;

use packet::view::{ARP_LEN, Arp, ETHERNET_LEN, Ethernet, arp_operation, ethertype};

use super::{Answer, Outcome, Punted};

/// The reply to the request in `punted`.
pub(super) fn reply(punted: &Punted<'_>) -> Result<Answer, Outcome> {
    let request = parse(punted.frame).ok_or(Outcome::Malformed)?;
    if request.operation() != arp_operation::REQUEST {
        return Err(Outcome::NothingAsked);
    }
    let (from, asker, target) = (&punted.from, request.sender(), request.target());
    if asker.is_unspecified() || target == asker || from.addresses.contains(&IpAddr::V4(target)) {
        return Err(Outcome::AddressCheck);
    }
    if target.is_unspecified() || target.is_multicast() || target.is_broadcast() {
        return Err(Outcome::Malformed);
    }
    let mut packet = [0; ARP_LEN];
    Arp::write(&mut packet).set(arp_operation::REPLY, (from.gateway, target), (from.mac, asker));
    Ok(Answer::ethernet(from, ethertype::ARP, &[&packet]))
}

fn parse(frame: &[u8]) -> Option<Arp<&[u8; ARP_LEN]>> {
    let ethertype = Ethernet::parse(frame)?.ethertype();
    Arp::parse(&frame[ETHERNET_LEN..]).filter(|_| ethertype == ethertype::ARP)
}

//! Leaving: may it leave its workload?
//!
//! A pod sends only from its own addresses. Its link-local address is good for nothing but talking to the gateway, so
//! such a source passes only towards a link-local destination; the unspecified source of duplicate address detection
//! and MLD never comes here, parse lets those go. The host port is the node's own: it may send from any address.
//!
//! Another node sends through a tunnel only from addresses to which packets would go back to it. And since tunnels'
//! packets are believed for where they come from, no pod may send one of its own ([`encap::is_tunnel`]).

use packet::{Burst, Exit, Reason, shape};

use super::parse::ETHERNET_LEN;
use crate::lane::Lane;
use crate::port::{Link, Port};
use crate::world::World;

pub(super) fn leaving(burst: &mut Burst, world: &World, lane: &mut Lane) {
    for &row in lane.others.rows() {
        let row = usize::from(row);
        if !burst.exit[row].is_none() {
            continue;
        }
        let head = lane.slots.head(burst.head[row], burst.length[row]);
        if let Some(reason) = refused((burst, row), world, head) {
            burst.exit[row] = Exit::drop(reason);
        }
    }
}

/// Why a packet may not leave, unless it may.
#[inline(never)]
fn refused((burst, row): (&Burst, usize), world: &World, head: &[u8]) -> Option<Reason> {
    let port = world.port(burst.from[row]).filter(|port| !port.host)?;
    let v6 = burst.shape[row] & shape::V6 != 0;
    match port.link {
        Link::Uplink(_) => not_from_its_node(world, head, (burst.remote[row], v6)),
        _ if !is_own(port, head, v6) => Some(Reason::SpoofedSource),
        _ if port.strict_mac && head[6..12] != port.mac.0 => Some(Reason::SpoofedMac),
        _ => {
            let (tunnels, transport) = (world.remotes.ports(), usize::from(burst.transport[row]).min(head.len()));
            let nested = !tunnels.is_empty() && encap::is_tunnel(burst.protocol[row], &head[transport..], tunnels);
            nested.then_some(Reason::NestedTunnel)
        }
    }
}

#[inline]
fn not_from_its_node(world: &World, head: &[u8], (remote, v6): (u16, bool)) -> Option<Reason> {
    let back = if v6 { world.fib.lookup6(source_v6(head)) } else { world.fib.lookup4(source_v4(head)) };
    let is_its_own = remote != 0 && world.adjacency(back.0).remote == remote;
    (!is_its_own).then_some(Reason::ForeignSource)
}

fn is_own(port: &Port, head: &[u8], v6: bool) -> bool {
    if v6 {
        let source = source_v6(head);
        port.sources_v6.contains(&source) || (is_link_local(source) && is_link_local(destination_v6(head)))
    } else {
        port.sources_v4.contains(&source_v4(head))
    }
}

#[inline]
fn is_link_local(address: u128) -> bool {
    address >> 118 == 0xfe80 >> 6
}

/// IPv4 source address of a parsed frame.
#[inline]
pub(super) fn source_v4(head: &[u8]) -> u32 {
    word(head, ETHERNET_LEN + 12)
}

/// IPv4 destination address of a parsed frame.
#[inline]
pub(super) fn destination_v4(head: &[u8]) -> u32 {
    word(head, ETHERNET_LEN + 16)
}

/// IPv6 source address of a parsed frame.
#[inline]
pub(super) fn source_v6(head: &[u8]) -> u128 {
    quad(head, ETHERNET_LEN + 8)
}

/// IPv6 destination address of a parsed frame.
#[inline]
pub(super) fn destination_v6(head: &[u8]) -> u128 {
    quad(head, ETHERNET_LEN + 24)
}

#[inline]
fn word(head: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(head[at..at + 4].try_into().expect("parse saw the whole header"))
}

#[inline]
fn quad(head: &[u8], at: usize) -> u128 {
    u128::from_be_bytes(head[at..at + 16].try_into().expect("parse saw the whole header"))
}

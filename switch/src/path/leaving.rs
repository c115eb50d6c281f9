//! Leaving: may it leave its workload?
//!
//! A pod sends only from its own addresses. Its link-local address is good for nothing but talking to the gateway, so
//! such a source passes only towards a link-local destination; the unspecified source of duplicate address detection
//! and MLD never comes here, parse lets those go. The host port is the node's own: it may send from any address.
//!
//! Another node sends through a tunnel only from addresses to which packets would go back to it. And since tunnels'
//! packets are believed for where they come from, no pod may send one of its own ([`encap::is_tunnel`]).

use packet::{BURST, Burst, Exit, Reason, shape};

use super::parse::ETHERNET_LEN;
use super::route::Address;
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
    if burst.remote[burst.rows()].iter().fold(0, |any, remote| any | remote) != 0 {
        leave_their_nodes(burst, world, lane);
    }
}

/// What came out of tunnels, all rows together: packets to their sources must go back to the nodes that sent them.
#[inline(never)]
fn leave_their_nodes(burst: &mut Burst, world: &World, lane: &mut Lane) {
    let Lane { slots, lookups, .. } = lane;
    let Burst { exit, remote, shape, head, .. } = burst;
    let came = (0..burst.len.min(BURST)).filter(|&row| remote[row] != 0 && exit[row].is_none());
    let mut foreign = [false; BURST];
    let source = |row: usize| match shape[row] & shape::V6 {
        0 => (row, Address::V4(source_v4(slots.start(head[row])))),
        _ => (row, Address::V6(source_v6(slots.start(head[row])))),
    };
    lookups.look_up(&world.fib, came.map(source), |row, hop| {
        foreign[row] = world.adjacency(hop.0).remote != remote[row];
    });
    for (exit, _) in exit.iter_mut().zip(foreign).filter(|(_, foreign)| *foreign) {
        *exit = Exit::drop(Reason::ForeignSource);
    }
}

/// Why a packet may not leave, unless it may.
#[inline(never)]
fn refused((burst, row): (&Burst, usize), world: &World, head: &[u8]) -> Option<Reason> {
    let port = world.port(burst.from[row]).filter(|port| !port.host)?;
    let v6 = burst.shape[row] & shape::V6 != 0;
    match port.link {
        // These are asked all together.
        Link::Uplink(_) => None,
        _ if !is_own(port, head, v6) => Some(Reason::SpoofedSource),
        _ if port.strict_mac && head[6..12] != port.mac.0 => Some(Reason::SpoofedMac),
        _ => {
            let (tunnels, transport) = (world.remotes.ports(), usize::from(burst.transport[row]).min(head.len()));
            let nested = !tunnels.is_empty() && encap::is_tunnel(burst.protocol[row], &head[transport..], tunnels);
            nested.then_some(Reason::NestedTunnel)
        }
    }
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

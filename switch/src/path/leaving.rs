//! Leaving: may it leave its workload?
//!
//! A pod sends only from its own addresses. Its link-local address is good for nothing but talking to the gateway, so
//! such a source passes only towards a link-local destination; the unspecified source of duplicate address detection
//! and MLD never comes here, parse lets those go. The host port is the node's own: it may send from any address.
//!
//! Another node sends through a tunnel only from addresses to which packets would go back to it. And since tunnels'
//! packets are believed for where they come from, no pod may send one of its own ([`encap::is_tunnel`]).

use packet::{Burst, Exit, Reason, START_LEN, shape};

use super::parse::{ETHERNET_LEN, NO_PORT};
use crate::lane::Lane;
use crate::port::{Link, Port};
use crate::world::World;

pub(super) fn leaving(burst: &mut Burst, world: &World, lane: &mut Lane) {
    let tunnels = world.remotes.ports();
    let (mut from, mut gate) = (NO_PORT, Gate::Open);
    for row in burst.rows() {
        // Frames come port by port.
        if burst.from[row] != from {
            from = burst.from[row];
            gate = world.port(from).map_or(Gate::Open, Gate::of);
        }
        if !burst.exit[row].is_none() {
            continue;
        }
        let (_, start) = lane.slots.start(burst.head[row]);
        let v6 = burst.shape[row] & shape::V6 != 0;
        let refused = match gate {
            Gate::Open => continue,
            Gate::Tunnel => not_from_its_node(world, start, (burst.remote[row], v6)),
            Gate::Pod { v4: Some(own), .. } if !v6 && source_v4(start) == own => None,
            Gate::Pod { v6: Some(own), .. } if v6 && source_v6(start) == own => None,
            Gate::Pod { .. } | Gate::Strict => spoofed(world.port(from), start, v6),
        };
        if let Some(reason) = refused {
            burst.exit[row] = Exit::drop(reason);
        } else if !tunnels.is_empty() && !matches!(gate, Gate::Tunnel) {
            let head = lane.slots.head(burst.head[row], burst.length[row]);
            let transport = &head[usize::from(burst.transport[row]).min(head.len())..];
            if encap::is_tunnel(burst.protocol[row], transport, tunnels) {
                burst.exit[row] = Exit::drop(Reason::NestedTunnel);
            }
        }
    }
}

/// What is asked of the packets of a port.
#[derive(Clone, Copy)]
enum Gate {
    /// Nothing.
    Open,
    /// To come from the node they say.
    Tunnel,
    /// To come from an address of the pod, of which these are the first.
    Pod { v4: Option<u32>, v6: Option<u128> },
    /// And from its Ethernet address.
    Strict,
}

impl Gate {
    fn of(port: &Port) -> Gate {
        match port.link {
            _ if port.host => Gate::Open,
            Link::Uplink(_) => Gate::Tunnel,
            _ if port.strict_mac => Gate::Strict,
            _ => Gate::Pod { v4: port.sources_v4.first().copied(), v6: port.sources_v6.first().copied() },
        }
    }
}

#[inline]
fn not_from_its_node(world: &World, start: &[u8; START_LEN], (remote, v6): (u16, bool)) -> Option<Reason> {
    let back = if v6 { world.fib.lookup6(source_v6(start)) } else { world.fib.lookup4(source_v4(start)) };
    let is_its_own = remote != 0 && world.adjacency(back.0).remote == remote;
    (!is_its_own).then_some(Reason::ForeignSource)
}

#[inline(never)]
fn spoofed(port: Option<&Port>, start: &[u8; START_LEN], v6: bool) -> Option<Reason> {
    let port = port?;
    if !is_own(port, start, v6) {
        Some(Reason::SpoofedSource)
    } else if port.strict_mac && start[6..12] != port.mac.0 {
        Some(Reason::SpoofedMac)
    } else {
        None
    }
}

fn is_own(port: &Port, start: &[u8; START_LEN], v6: bool) -> bool {
    if v6 {
        let source = source_v6(start);
        port.sources_v6.contains(&source) || (is_link_local(source) && is_link_local(destination_v6(start)))
    } else {
        port.sources_v4.contains(&source_v4(start))
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

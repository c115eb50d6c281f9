//! What a worker needs to know during a turn, compiled: ports, adjacencies and the route table's reader.
//!
//! A world is immutable; the control thread publishes a new one when ports come or go. Routes are not in it: the
//! route table is updated in place, so that one route among a million does not copy the rest. The order that makes the
//! two agree:
//!
//! - **coming**: publish the world with the port and its adjacency, wait until it is in force, then write the route's
//!   cell. Whoever reads the cell already has the adjacency.
//! - **going**: clear the cell, wait for a turn of every worker, publish the world without them, wait until it is in
//!   force. Only then may the adjacency's or port's number be used again and the descriptor be closed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use packet::{Mac, Prefix, Punt, Reason};
use route_table::{Fib, NextHop};

use crate::bank::PORTS_MAX;
use crate::config::Node;
use crate::port::Port;
use crate::remotes::Remotes;
use crate::state::{GATEWAY_V4, GATEWAY_V6};
use crate::tracer::Trace;

/// The tables of one turn.
#[derive(Clone)]
pub struct World {
    /// By port number; number 0 is the host port. A number without a port is free.
    pub ports: Vec<Option<Arc<Port>>>,
    /// By next-hop number; the first ones are [`FIXED`].
    pub adjacencies: Vec<Adjacency>,
    /// Destination address to next-hop number.
    pub fib: Fib,
    /// The nodes behind tunnels.
    pub remotes: Arc<Remotes>,
    /// How many comings and goings of ports led to it from the first world, each published as a world of its own.
    pub number: u64,
    /// Shared by every world of a switch that still exists.
    existing: Arc<()>,
    /// What is to be seen of the packets, while somebody looks.
    pub trace: Option<Arc<Trace>>,
}

/// Where packets of one next hop go and what they look like then. None lies across cache lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(align(32))]
pub struct Adjacency {
    /// What is done.
    pub hop: Hop,
    /// Port they depart by, when forwarded.
    pub port: u16,
    /// Longest IP packet, in bytes.
    pub mtu: u16,
    /// The station at the other end.
    pub destination: Mac,
    /// Our own address on that link.
    pub source: Mac,
    /// Number of the node behind a tunnel, of [`Remotes`]; 0 for none.
    pub remote: u16,
}

/// What an adjacency does with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hop {
    /// Departs by a port.
    Forward,
    /// Goes to the slow path.
    Punt(Punt),
    /// Is dropped.
    Drop(Reason),
}

/// No route: answered as unreachable.
pub const NO_ROUTE: NextHop = NextHop(0);
/// An explicit unreachable route.
pub const UNREACHABLE: NextHop = NextHop(1);
/// A blackhole route.
pub const BLACKHOLE: NextHop = NextHop(2);
/// The gateway's own addresses.
pub const LOCAL: NextHop = NextHop(3);
/// Multicast and broadcast.
pub const MULTICAST: NextHop = NextHop(4);
/// Link-local, loopback and unspecified destinations.
pub const UNROUTABLE: NextHop = NextHop(5);
/// The host port.
pub const HOST: NextHop = NextHop(6);
/// The first number that belongs to endpoints.
pub const FIRST_ENDPOINT: usize = 7;

/// The adjacencies every world starts with, in the order of the constants above; the host port's is filled in later.
pub const FIXED: [Adjacency; FIRST_ENDPOINT] = [
    Adjacency::of(Hop::Punt(Punt::Unreachable)),
    Adjacency::of(Hop::Punt(Punt::Unreachable)),
    Adjacency::of(Hop::Drop(Reason::Blackhole)),
    Adjacency::of(Hop::Punt(Punt::Local)),
    Adjacency::of(Hop::Drop(Reason::Multicast)),
    Adjacency::of(Hop::Drop(Reason::Unroutable)),
    Adjacency::of(Hop::Punt(Punt::Unreachable)),
];

impl Adjacency {
    /// An adjacency that forwards nothing.
    pub const fn of(hop: Hop) -> Self {
        Adjacency { hop, port: 0, mtu: u16::MAX, destination: Mac::ZERO, source: Mac::ZERO, remote: 0 }
    }

    /// The adjacency of the station behind `port`.
    pub fn to(port: &Port) -> Self {
        let Port { number, mtu, mac, gateway, .. } = *port;
        Adjacency { hop: Hop::Forward, port: number, mtu, destination: mac, source: gateway, remote: 0 }
    }
}

impl World {
    /// The world of a switch without workloads.
    pub fn new(host: Port, fib: Fib) -> World {
        let mut adjacencies = FIXED.to_vec();
        adjacencies[HOST.index()] = Adjacency::to(&host);
        let ports = vec![Some(Arc::new(host))];
        let remotes = Arc::default();
        World { ports, adjacencies, fib, remotes, number: 0, existing: Arc::default(), trace: None }
    }

    /// The adjacency of that number; a number the world does not know is the first one, no route.
    #[inline]
    pub fn adjacency(&self, number: u16) -> &Adjacency {
        self.adjacencies.get(usize::from(number)).unwrap_or(&self.adjacencies[0])
    }

    /// The adjacency of the station behind a port of this world, whose address may have changed since the port was made.
    pub fn station(&self, port: &Port) -> Adjacency {
        let own = self.adjacency(hop_of(port.number).0);
        if (own.hop, own.port) == (Hop::Forward, port.number) { *own } else { Adjacency::to(port) }
    }

    /// Writes adjacencies by their numbers.
    pub fn set_adjacencies(&mut self, adjacencies: impl IntoIterator<Item = (NextHop, Adjacency)>) {
        for (hop, adjacency) in adjacencies {
            self.adjacencies.resize(self.adjacencies.len().max(hop.index() + 1), FIXED[0]);
            self.adjacencies[hop.index()] = adjacency;
        }
    }

    /// Makes a port and the adjacency of its station known.
    pub fn add(&mut self, port: Port) {
        let (slot, hop) = (usize::from(port.number), hop_of(port.number).index());
        self.ports.resize_with(self.ports.len().max(slot + 1), || None);
        self.adjacencies.resize(self.adjacencies.len().max(hop + 1), FIXED[0]);
        self.adjacencies[hop] = Adjacency::to(&port);
        self.number += 1;
        self.ports[slot] = Some(Arc::new(port));
    }

    /// Forgets a port; its adjacency becomes one of no route.
    pub fn remove(&mut self, number: u16) -> Option<Arc<Port>> {
        let port = self.ports.get_mut(usize::from(number))?.take()?;
        self.adjacencies[hop_of(number).index()] = FIXED[0];
        self.number += 1;
        Some(port)
    }

    /// How many earlier worlds are still held by a worker; asked of the newest.
    pub fn retiring(&self) -> usize {
        Arc::strong_count(&self.existing) - 1
    }

    /// The port of that number, while there is one.
    #[inline]
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.get(usize::from(number))?.as_deref()
    }
}

/// The first number that belongs to neighbours: other nodes.
pub const FIRST_NEIGHBOR: usize = FIRST_ENDPOINT + PORTS_MAX;

/// The next-hop number of the station behind a port.
pub fn hop_of(port: u16) -> NextHop {
    if port == 0 { HOST } else { NextHop(port - 1 + FIRST_ENDPOINT as u16) }
}

/// The routes that stand when nobody asked for anything else.
pub fn fixed_routes(node: &Node) -> BTreeMap<Prefix, NextHop> {
    let parsed = |&(text, hop): &(&str, NextHop)| (text.parse().expect("the fixed routes are prefixes"), hop);
    let mut fixed: BTreeMap<Prefix, NextHop> = FIXED_ROUTES.iter().map(parsed).collect();
    for gateway in [IpAddr::V4(GATEWAY_V4), IpAddr::V6(GATEWAY_V6)] {
        fixed.insert(Prefix::host(gateway), LOCAL);
    }
    // A free address of a pod range is nobody's, not the outside's.
    fixed.extend(node.pod_ranges.iter().map(|&range| (range, UNREACHABLE)));
    fixed.extend(node.router_addresses.iter().map(|&address| (Prefix::host(address), HOST)));
    fixed
}

/// Routes every switch has. The defaults lead to the host; link-scope and group addresses are routed nowhere.
const FIXED_ROUTES: &[(&str, NextHop)] = &[
    ("0.0.0.0/0", HOST),
    ("::/0", HOST),
    ("0.0.0.0/8", UNROUTABLE),
    ("127.0.0.0/8", UNROUTABLE),
    ("169.254.0.0/16", UNROUTABLE),
    ("224.0.0.0/4", MULTICAST),
    ("255.255.255.255/32", MULTICAST),
    ("::/127", UNROUTABLE),
    ("fe80::/10", UNROUTABLE),
    ("ff00::/8", MULTICAST),
];

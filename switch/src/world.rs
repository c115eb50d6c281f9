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
use crate::enforcement::Enforcement;
use crate::path::Doors;
use crate::port::{Port, Sent};
use crate::remotes::Remotes;
use crate::state::{GATEWAY_V4, GATEWAY_V6};
use crate::tracer::Trace;

/// The tables of one turn.
#[derive(Clone)]
pub struct World {
    /// By port number; number 0 is the host port. A number without a port is free.
    pub ports: Vec<Option<Arc<Port>>>,
    /// By port number, like them.
    doors: Doors,
    /// What departed by each of them.
    pub(crate) sent: Arc<Sent>,
    /// By next-hop number; the first ones are [`FIXED`].
    adjacencies: Vec<Adjacency>,
    /// The same in short.
    next: Vec<Next>,
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
    /// Which packets may pass; none while no policy is known.
    pub enforcement: Option<Arc<Enforcement>>,
}

/// Where packets of one next hop go and what they look like then. None lies across cache lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(32))]
pub struct Adjacency {
    /// The station at the other end and our own address on that link, as an Ethernet header has them.
    pub stations: [u8; 12],
    /// Port they depart by, when forwarded.
    pub port: u16,
    /// Longest IP packet, in bytes.
    pub mtu: u16,
    /// Number of the node behind a tunnel, of [`Remotes`]; 0 for none.
    pub remote: u16,
    /// What is done.
    pub hop: Hop,
}

/// What nearly all packets need of an adjacency.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub(crate) struct Next {
    pub(crate) stations: [u8; 12],
    pub(crate) port: u16,
    /// 0 where it does not forward.
    pub(crate) mtu: u16,
}

impl Next {
    fn of(adjacency: &Adjacency) -> Next {
        let Adjacency { stations, port, mtu, hop, .. } = *adjacency;
        Next { stations, port, mtu: if hop == Hop::Forward { mtu } else { 0 } }
    }
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
        Adjacency { stations: [0; 12], port: 0, mtu: u16::MAX, remote: 0, hop }
    }

    /// The adjacency of the station behind `port`.
    pub fn to(port: &Port) -> Self {
        let Port { number, mtu, mac, gateway, .. } = *port;
        Adjacency { port: number, mtu, ..Self::of(Hop::Forward) }.between(mac, gateway)
    }

    /// The same towards the station `destination`, from our own address `source`.
    #[must_use]
    pub fn between(mut self, destination: Mac, source: Mac) -> Self {
        self.stations[..6].copy_from_slice(&destination.0);
        self.stations[6..].copy_from_slice(&source.0);
        self
    }

    /// The station at the other end.
    pub fn destination(&self) -> Mac {
        Mac(*self.stations.first_chunk().expect("two stations are longer than one"))
    }

    /// Our own address on that link.
    pub fn source(&self) -> Mac {
        Mac(*self.stations.last_chunk().expect("two stations are longer than one"))
    }
}

impl World {
    /// The world of a switch without workloads.
    pub fn new(mut host: Port, fib: Fib) -> World {
        let sent = Arc::new(Sent::new(host.counters.workers()));
        host.counters.count_in(&sent, host.number);
        let mut doors = Doors::default();
        doors.set(host.number, Some(&host));
        let mut world = World {
            ports: Vec::new(),
            doors,
            sent,
            adjacencies: FIXED.to_vec(),
            next: FIXED.iter().map(Next::of).collect(),
            fib,
            remotes: Arc::default(),
            number: 0,
            existing: Arc::default(),
            trace: None,
            enforcement: None,
        };
        world.set_adjacencies([(HOST, Adjacency::to(&host))]);
        world.ports.push(Some(Arc::new(host)));
        world
    }

    /// By next-hop number; the first ones are [`FIXED`].
    pub fn adjacencies(&self) -> &[Adjacency] {
        &self.adjacencies
    }

    /// The adjacency of that number in short; a number the world does not know is the first one, no route.
    #[inline(always)]
    pub(crate) fn next(&self, number: u16) -> &Next {
        let at = usize::from(number);
        &self.next[if at < self.next.len() { at } else { 0 }]
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
            let count = self.adjacencies.len().max(hop.index() + 1);
            self.adjacencies.resize(count, FIXED[0]);
            self.next.resize(count, Next::of(&FIXED[0]));
            self.adjacencies[hop.index()] = adjacency;
            self.next[hop.index()] = Next::of(&adjacency);
        }
    }

    /// Makes a port and the adjacency of its station known.
    pub fn add(&mut self, mut port: Port) {
        let slot = usize::from(port.number);
        self.ports.resize_with(self.ports.len().max(slot + 1), || None);
        self.set_adjacencies([(hop_of(port.number), Adjacency::to(&port))]);
        self.doors.set(port.number, Some(&port));
        port.counters.count_in(&self.sent, port.number);
        self.number += 1;
        self.ports[slot] = Some(Arc::new(port));
    }

    /// Forgets a port; its adjacency becomes one of no route.
    pub fn remove(&mut self, number: u16) -> Option<Arc<Port>> {
        let port = self.ports.get_mut(usize::from(number))?.take()?;
        self.set_adjacencies([(hop_of(number), FIXED[0])]);
        self.doors.set(number, None);
        self.number += 1;
        Some(port)
    }

    /// What frames are held against.
    #[inline]
    pub(crate) fn doors(&self) -> &Doors {
        &self.doors
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

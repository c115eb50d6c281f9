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

use std::sync::Arc;

use packet::{Mac, Punt, Reason};
use route_table::{Fib, NextHop};

use crate::port::Port;

/// The tables of one turn.
pub struct World {
    /// By port number; number 0 is the host port. A number without a port is free.
    pub ports: Vec<Option<Arc<Port>>>,
    /// By next-hop number; the first ones are [`FIXED`].
    pub adjacencies: Vec<Adjacency>,
    /// Destination address to next-hop number.
    pub fib: Fib,
}

/// Where packets of one next hop go and what they look like then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
        Adjacency { hop, port: 0, mtu: u16::MAX, destination: Mac::ZERO, source: Mac::ZERO }
    }

    /// The adjacency of the station behind `port`.
    pub fn to(port: &Port) -> Self {
        Adjacency {
            hop: Hop::Forward,
            port: port.number,
            mtu: port.mtu,
            destination: port.mac,
            source: port.gateway,
        }
    }
}

impl World {
    /// The port of that number, while there is one.
    #[inline]
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.get(usize::from(number))?.as_deref()
    }
}

//! Route: where to?
//!
//! Longest prefix match of the whole burst at once, one call per family; the answer is an adjacency. Two things come
//! before it:
//!
//! - a packet that enters by the host port with a *workload's* source address was translated by the host (a Service, a
//!   hostPort). It leaves a return entry, so that the replies pass the host's connection tracking again;
//! - a packet of a workload that has return entries is looked up there first.
//!
//! A packet of the host port never departs by the host port: the host sent it here because it has no better way. Nor
//! does one out of a tunnel depart by a tunnel: nodes send directly to the node that has the destination.

use packet::{BURST, Burst, Exit, Reason, shape};
use route_table::{Fib, NextHop, Recent};

use super::leaving::{source_v4, source_v6};
use crate::lane::Lane;
use crate::returns::Flow;
use crate::world::{HOST, Hop, World};

/// The scratch memory of lookups, used again every turn: of a burst of both families each one's addresses, and whose they are.
pub struct Lookups {
    v4: Keys<u32>,
    v6: Keys<u128>,
    hops: [NextHop; BURST],
    recent: Recent,
}

struct Keys<A> {
    to: [A; BURST],
    rows: [u8; BURST],
}

impl Lookups {
    /// All the memory it will ever need.
    pub(crate) fn new() -> Box<Self> {
        Box::new(Lookups { v4: Keys::new(0), v6: Keys::new(0), hops: [NextHop::NONE; BURST], recent: Recent::new() })
    }

    /// Looks up an address of each of some rows, one call for each family, and tells what was found.
    pub(super) fn look_up(
        &mut self,
        fib: &Fib,
        addresses: impl Iterator<Item = (usize, Address)>,
        mut found: impl FnMut(usize, NextHop),
    ) {
        let (mut count_v4, mut count_v6) = (0, 0);
        for (row, address) in addresses {
            match address {
                Address::V4(to) => self.v4.add(&mut count_v4, to, row),
                Address::V6(to) => self.v6.add(&mut count_v6, to, row),
            }
        }
        let Lookups { v4, v6, hops, recent } = self;
        let (count_v4, count_v6) = (count_v4.min(BURST), count_v6.min(BURST));
        fib.lookup4_burst(&v4.to[..count_v4], &mut hops[..count_v4]);
        v4.rows.iter().zip(&hops[..count_v4]).for_each(|(&row, &hop)| found(row.into(), hop));
        recent.lookup6_burst(fib, &v6.to[..count_v6], &mut hops[..count_v6]);
        v6.rows.iter().zip(&hops[..count_v6]).for_each(|(&row, &hop)| found(row.into(), hop));
    }
}

/// What is looked up.
pub(super) enum Address {
    V4(u32),
    V6(u128),
}

impl<A: Copy> Keys<A> {
    fn new(zero: A) -> Self {
        Keys { to: [zero; BURST], rows: [0; BURST] }
    }

    #[inline]
    fn add(&mut self, count: &mut usize, to: A, row: usize) {
        let at = *count % BURST;
        (self.to[at], self.rows[at]) = (to, row as u8);
        *count += 1;
    }
}

pub(super) fn route(burst: &mut Burst, world: &World, lane: &mut Lane) {
    longest_prefix_match(burst, world, lane);
    if lane.returns.is_used() {
        follow_returns(burst, world, lane);
    }
    if resolve(burst, world) {
        leave_returns(burst, world, lane);
    }
}

/// Says of each row what its adjacency does with it; true if any that goes on came from the host.
#[inline(never)]
fn resolve(burst: &mut Burst, world: &World) -> bool {
    let mut from_host = false;
    for row in burst.rows() {
        let next = world.next(burst.adjacency[row]);
        burst.to[row] = next.port;
        let is_plain = (next.mtu != 0) & (burst.from[row] != 0) & (burst.remote[row] == 0);
        if !is_plain & burst.exit[row].is_none() {
            burst.exit[row] = exit_of((burst, row), world);
            from_host |= burst.from[row] == 0;
        }
    }
    from_host
}

/// How a row leaves, if it does.
#[inline(never)]
fn exit_of((burst, row): (&Burst, usize), world: &World) -> Exit {
    let adjacency = world.adjacency(burst.adjacency[row]);
    match adjacency.hop {
        Hop::Forward if burst.from[row] == 0 && adjacency.port == 0 => Exit::drop(Reason::HostToHost),
        Hop::Forward if burst.remote[row] != 0 && adjacency.remote != 0 => Exit::drop(Reason::TunnelToTunnel),
        Hop::Forward => Exit::NONE,
        Hop::Punt(why) => Exit::punt(why),
        Hop::Drop(reason) => Exit::drop(reason),
    }
}

/// Of the whole burst at once. What has left is looked up too: it costs less than to take it out.
#[inline]
fn longest_prefix_match(burst: &mut Burst, world: &World, lane: &mut Lane) {
    let rows = burst.rows();
    let Lookups { hops, recent, .. } = &mut *lane.lookups;
    let hops = &mut hops[rows.clone()];
    let shapes = &burst.shape[rows.clone()];
    let any = shapes.iter().fold(0, |any, shape| any | shape);
    let all = shapes.iter().fold(u8::MAX, |all, shape| all & shape);
    if any & shape::V6 == 0 {
        world.fib.lookup4_burst(&burst.to_v4[rows.clone()], hops);
    } else if all & shape::V6 != 0 {
        recent.lookup6_burst(&world.fib, &burst.to_v6[rows.clone()], hops);
    } else {
        return look_up_both(burst, world, lane);
    }
    for (adjacency, hop) in burst.adjacency[rows].iter_mut().zip(hops) {
        *adjacency = hop.0;
    }
}

/// The same of a burst of both families.
#[inline(never)]
fn look_up_both(burst: &mut Burst, world: &World, lane: &mut Lane) {
    let Burst { shape, to_v4, to_v6, adjacency, .. } = burst;
    let to = |row: usize| match shape[row] & shape::V6 {
        0 => (row, Address::V4(to_v4[row])),
        _ => (row, Address::V6(to_v6[row])),
    };
    let rows = 0..burst.len.min(BURST);
    lane.lookups.look_up(&world.fib, rows.map(to), |row, hop| adjacency[row] = hop.0);
}

fn follow_returns(burst: &mut Burst, world: &World, lane: &mut Lane) {
    for row in 0..burst.len {
        let from = burst.from[row];
        if from == 0 || !burst.exit[row].is_none() || !lane.returns.concerns(from) {
            continue;
        }
        let head = lane.slots.frame(burst.head[row], burst.tail[row], burst.length[row]).head;
        let flow = Flow::of(head, burst, row);
        if world.adjacency(HOST.0).hop == Hop::Forward && lane.returns.find(&flow, lane.now_seconds) {
            burst.adjacency[row] = HOST.0;
            lane.tracer.followed_return(row);
        }
    }
}

fn leave_returns(burst: &Burst, world: &World, lane: &mut Lane) {
    for row in 0..burst.len {
        if burst.from[row] != 0 || !burst.exit[row].is_none() {
            continue;
        }
        let head = lane.slots.frame(burst.head[row], burst.tail[row], burst.length[row]).head;
        let source = if burst.shape[row] & shape::V6 == 0 {
            world.fib.lookup4(source_v4(head))
        } else {
            world.fib.lookup6(source_v6(head))
        };
        let origin = world.adjacency(source.0);
        if origin.hop == Hop::Forward && origin.port != 0 {
            lane.returns.insert(&Flow::of(head, burst, row).reversed(), burst.to[row], lane.now_seconds);
        }
    }
}

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
use route_table::NextHop;

use super::leaving::{destination_v4, destination_v6, source_v4, source_v6};
use crate::lane::Lane;
use crate::returns::Flow;
use crate::world::{HOST, Hop, World};

pub(super) fn route(burst: &mut Burst, world: &World, lane: &mut Lane) {
    // Scratch memory for a whole burst costs more to clear than a packet that comes alone costs to route.
    match burst.len {
        ..=SMALL_BURST => longest_prefix_match::<SMALL_BURST>(burst, world, lane),
        _ => longest_prefix_match::<BURST>(burst, world, lane),
    }
    if lane.returns.is_used() {
        follow_returns(burst, world, lane);
    }
    for row in 0..burst.len {
        if !burst.exit[row].is_none() {
            continue;
        }
        let adjacency = world.adjacency(burst.adjacency[row]);
        match adjacency.hop {
            Hop::Forward if burst.from[row] == 0 && adjacency.port == 0 => {
                burst.exit[row] = Exit::drop(Reason::HostToHost);
            }
            Hop::Forward if burst.remote[row] != 0 && adjacency.remote != 0 => {
                burst.exit[row] = Exit::drop(Reason::TunnelToTunnel);
            }
            Hop::Forward => burst.to[row] = adjacency.port,
            Hop::Punt(why) => burst.exit[row] = Exit::punt(why),
            Hop::Drop(reason) => burst.exit[row] = Exit::drop(reason),
        }
    }
    leave_returns(burst, world, lane);
}

/// Of a burst of at most `N` packets.
fn longest_prefix_match<const N: usize>(burst: &mut Burst, world: &World, lane: &Lane) {
    let (mut to_v4, mut rows_v4, mut count_v4) = ([0; N], [0u16; N], 0);
    let (mut to_v6, mut rows_v6, mut count_v6) = ([0; N], [0u16; N], 0);
    for row in 0..burst.len {
        if !burst.exit[row].is_none() {
            continue;
        }
        let head = lane.slots.frame(burst.head[row], burst.tail[row], burst.length[row]).head;
        if burst.shape[row] & shape::V6 == 0 {
            (to_v4[count_v4], rows_v4[count_v4]) = (destination_v4(head), row as u16);
            count_v4 += 1;
        } else {
            (to_v6[count_v6], rows_v6[count_v6]) = (destination_v6(head), row as u16);
            count_v6 += 1;
        }
    }
    let mut hops = [NextHop::NONE; N];
    world.fib.lookup4_burst(&to_v4[..count_v4], &mut hops[..count_v4]);
    for (&row, hop) in rows_v4[..count_v4].iter().zip(&hops) {
        burst.adjacency[usize::from(row)] = hop.0;
    }
    world.fib.lookup6_burst(&to_v6[..count_v6], &mut hops[..count_v6]);
    for (&row, hop) in rows_v6[..count_v6].iter().zip(&hops) {
        burst.adjacency[usize::from(row)] = hop.0;
    }
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

/// Most bursts have fewer packets.
const SMALL_BURST: usize = 8;

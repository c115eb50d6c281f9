//! Answers of the slow path on their way to another node.
//!
//! An answer is a complete frame, made for the port by which its question came. Behind an uplink there are many nodes: which of
//! them it goes to is asked of the route table, as for any packet, and what wrapping reads of a packet is filled in.

use packet::{Burst, Exit, Reason, Slots, shape};

use super::leaving::{destination_v4, destination_v6};
use super::parse::packet;
use crate::world::{Hop, World};

/// Readies the answer in `row` for departure. One whose node has gone meanwhile gets its exit written.
pub(crate) fn readdress(burst: &mut Burst, row: usize, world: &World, slots: &mut Slots) {
    let length = burst.length[row];
    let head = slots.head_mut(burst.head[row], length);
    let parsed = match packet(head, length as usize) {
        Ok(parsed) => parsed,
        Err(exit) => return burst.exit[row] = exit,
    };
    let hop = match parsed.shape & shape::V6 {
        0 => world.fib.lookup4(destination_v4(head)),
        _ => world.fib.lookup6(destination_v6(head)),
    };
    let next = world.adjacency(hop.0);
    if next.hop != Hop::Forward {
        return burst.exit[row] = Exit::drop(Reason::PortGone);
    }
    head[..12].copy_from_slice(&next.stations);
    parsed.write(burst, row);
    (burst.adjacency[row], burst.to[row]) = (hop.0, next.port);
}

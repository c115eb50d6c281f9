//! The packets handled together, as columns.
//!
//! A row is a packet; a stage is one plain loop over the columns it needs. Rows never move and never leave: a packet
//! that is let go gets its [`Exit`] written, and the departure settles every row exactly once. Columns are fixed arrays
//! so that a turn allocates nothing.

use std::ops::Range;

use crate::exit::Exit;
use crate::slot::{NO_TAIL, Slots};

/// Most packets of a burst.
pub const BURST: usize = 256;

/// What the parse stage found out about a packet; bits of the `shape` column.
pub mod shape {
    /// IPv6; IPv4 without it.
    pub const V6: u8 = 1;
    /// A fragment other than the first: no transport header.
    pub const LATER_FRAGMENT: u8 = 2;
    /// Any fragment.
    pub const FRAGMENT: u8 = 4;
    /// A super-frame: the port says it stands for many segments.
    pub const SUPER: u8 = 8;
}

/// One burst. Only rows below `len` mean anything.
pub struct Burst {
    /// Rows in use.
    pub len: usize,
    /// Offset of the frame in the small arena.
    pub head: [u32; BURST],
    /// Offset of its rest in the big arena, or [`NO_TAIL`].
    pub tail: [u32; BURST],
    /// Bytes of the whole frame.
    pub length: [u32; BURST],
    /// Port it entered by.
    pub from: [u16; BURST],
    /// Number of the node it came from through a tunnel; 0 for none.
    pub remote: [u16; BURST],
    /// Offset of the transport header from the frame's first byte.
    pub transport: [u16; BURST],
    /// Transport protocol, after extension headers.
    pub protocol: [u8; BURST],
    /// Bits of [`shape`].
    pub shape: [u8; BURST],
    /// Destination of an IPv4 packet; of others it means nothing.
    pub to_v4: [u32; BURST],
    /// Destination of an IPv6 packet; of others it means nothing.
    pub to_v6: [u128; BURST],
    /// Index of the next hop's adjacency.
    pub adjacency: [u16; BURST],
    /// Port it departs by.
    pub to: [u16; BURST],
    /// How it left, or [`Exit::NONE`].
    pub exit: [Exit; BURST],
}

impl Burst {
    /// An empty burst; about 11 KiB, so it lives in its lane and is used again every turn.
    pub fn new() -> Box<Burst> {
        Box::new(Burst {
            len: 0,
            head: [0; BURST],
            tail: [NO_TAIL; BURST],
            length: [0; BURST],
            from: [0; BURST],
            remote: [0; BURST],
            transport: [0; BURST],
            protocol: [0; BURST],
            shape: [0; BURST],
            to_v4: [0; BURST],
            to_v6: [0; BURST],
            adjacency: [0; BURST],
            to: [0; BURST],
            exit: [Exit::NONE; BURST],
        })
    }

    /// Rows still to be filled.
    #[inline]
    pub fn room(&self) -> usize {
        BURST - self.len
    }

    /// The rows in use.
    #[inline]
    pub fn rows(&self) -> Range<usize> {
        // The bound says to the compiler what is true anyway, so that no access of a column need be checked.
        0..self.len.min(BURST)
    }

    /// True when a row has left.
    #[inline]
    pub fn has_leavers(&self) -> bool {
        self.exit[self.rows()].iter().fold(false, |any, exit| any | !exit.is_none())
    }

    /// Adds a received frame as a row; the caller checked [`Burst::room`].
    #[inline]
    pub fn push(&mut self, head: u32, tail: u32, length: u32, from: u16) {
        let row = self.len;
        self.head[row] = head;
        self.tail[row] = tail;
        self.length[row] = length;
        self.from[row] = from;
        self.remote[row] = 0;
        self.shape[row] = 0;
        self.exit[row] = Exit::NONE;
        self.len = row + 1;
    }

    /// Gives every row's slots back and empties the burst.
    #[inline]
    pub fn settle(&mut self, slots: &mut Slots) {
        let rows = self.rows();
        slots.give_all_small(&self.head[rows.clone()]);
        for &tail in self.tail[rows].iter().filter(|tail| **tail != NO_TAIL) {
            slots.give_big(tail);
        }
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settling_gives_every_slot_back() {
        let mut slots = Slots::new(4, 2);
        let mut burst = Burst::new();
        let (head, other, tail) = (slots.take_small().unwrap(), slots.take_small().unwrap(), slots.take_big().unwrap());
        burst.push(head, tail, 4000, 1);
        burst.push(other, NO_TAIL, 60, 2);
        burst.settle(&mut slots);
        assert_eq!((slots.free(), burst.len, burst.room()), ((4, 2), 0, BURST));
    }
}

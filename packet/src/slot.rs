//! The memory frames lie in: two arenas of one worker, handed out as slots and taken back when the turn ends.
//!
//! A small slot holds [`HEADROOM`] bytes (room for a virtio header and, later, outer headers) and the first
//! [`SMALL_LEN`] bytes of a frame; whatever a super-frame has beyond that stays in a big slot. A frame *lands* in a big
//! slot, which is the same one until a super-frame keeps it, and its head is copied out: the reader need not know the
//! size of what comes, and a small frame costs one short copy that is always in cache.
//!
//! ```text
//!  big slot, 66 KiB                                             small slot, stride 2 176
//!  +--------+-------------------+---------------------------+   +--------------+--------------------------+
//!  | header | head: 2 048 bytes | tail: the rest            |   | headroom 128 | head                     |
//!  +--------+-------------------+---------------------------+   +--------------+--------------------------+
//!           \-------------------------------- copied --------------------------^ frame offset, 16 bytes into a cache line
//! ```
//!
//! (Measured: `readv` into both costs more than the copy, since the kernel must fetch the list and walk two segments.)
//!
//! The stride is 2 048 + 128 so that the headers of neighbouring slots do not fall into the same cache set.
//! Slots are plain offsets; the memory is borrowed from [`Slots`], so nothing here is shared or counted by reference.
//! Limits: the counts given to [`Slots::new`]; an empty class answers `None` and the caller stops receiving.

use crate::offload::{Offload, VNET_HEADER_LEN};

/// Bytes before every frame, for headers that are put in front of it.
pub const HEADROOM: usize = 128;
/// Frame bytes a small slot holds.
pub const SMALL_LEN: usize = 2048;
/// Longest frame, in bytes: the longest IP packet, its Ethernet header, and room to spare.
pub const FRAME_LEN_MAX: usize = SMALL_LEN + 65_536;
/// So many bytes of every frame can be read at once, whatever its length: all headers but long chains of IPv6 extensions.
pub const START_LEN: usize = 128;
/// The tail column's word for "no tail".
pub const NO_TAIL: u32 = u32::MAX;

const CACHE_LINE: usize = 64;
/// Where in its cache line a frame starts: what came beside it and the headers of an IPv4 packet are in one.
const IN_LINE: usize = 16;
const STRIDE: usize = HEADROOM + SMALL_LEN;
/// Where in a big slot the tail begins.
const TAIL_AT: usize = VNET_HEADER_LEN + SMALL_LEN;
/// A whole number of cache lines.
const BIG_STRIDE: usize = (VNET_HEADER_LEN + FRAME_LEN_MAX).next_multiple_of(64);

/// Both arenas and their free lists.
pub struct Slots {
    small: Vec<u8>,
    big: Vec<u8>,
    free_small: Vec<u32>,
    free_big: Vec<u32>,
    lowest_small: usize,
    lowest_big: usize,
}

/// A frame as two slices: `head` holds at least all of its headers, `tail` what did not fit the small slot.
#[derive(Clone, Copy, Debug)]
pub struct FrameRef<'a> {
    /// The first [`SMALL_LEN`] bytes, or all of a shorter frame.
    pub head: &'a [u8],
    /// The rest; empty for all but super-frames.
    pub tail: &'a [u8],
}

impl FrameRef<'_> {
    /// Bytes of the whole frame.
    #[allow(clippy::len_without_is_empty, reason = "a frame is never empty: parse refuses it")]
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }
}

impl Slots {
    /// Arenas of `small` and `big` slots; untouched memory stays unmapped.
    pub fn new(small: usize, big: usize) -> Self {
        let offsets = |count: usize, stride: usize, first: usize| {
            (0..count)
                .rev()
                .map(|slot| u32::try_from(slot * stride + first).expect("an arena is below 4 GiB"))
                .collect()
        };
        let memory = vec![0; small * STRIDE + CACHE_LINE];
        let beside = memory.as_ptr().wrapping_add(HEADROOM - IN_LINE);
        let first = HEADROOM + beside.align_offset(CACHE_LINE) % CACHE_LINE;
        Slots {
            small: memory,
            big: vec![0; big * BIG_STRIDE],
            free_small: offsets(small, STRIDE, first),
            free_big: offsets(big, BIG_STRIDE, 0),
            lowest_small: small,
            lowest_big: big,
        }
    }

    /// Takes a small slot: the offset at which its frame starts.
    #[inline]
    pub fn take_small(&mut self) -> Option<u32> {
        let slot = self.free_small.pop();
        self.lowest_small = self.lowest_small.min(self.free_small.len());
        slot
    }

    /// Takes a big slot.
    #[inline]
    pub fn take_big(&mut self) -> Option<u32> {
        let slot = self.free_big.pop();
        self.lowest_big = self.lowest_big.min(self.free_big.len());
        slot
    }

    /// Gives a small slot back.
    #[inline]
    pub fn give_small(&mut self, head: u32) {
        debug_assert!(!self.free_small.contains(&head), "a slot was given back twice");
        self.free_small.push(head);
    }

    /// Gives a big slot back; [`NO_TAIL`] is nothing to give.
    #[inline]
    pub fn give_big(&mut self, tail: u32) {
        if tail != NO_TAIL {
            debug_assert!(!self.free_big.contains(&tail), "a slot was given back twice");
            self.free_big.push(tail);
        }
    }

    /// Gives many small slots back at once.
    #[inline]
    pub fn give_all_small(&mut self, heads: &[u32]) {
        debug_assert!(heads.iter().all(|head| !self.free_small.contains(head)), "a slot was given back twice");
        self.free_small.extend_from_slice(heads);
    }

    /// Slots not in use, small and big.
    pub fn free(&self) -> (usize, usize) {
        (self.free_small.len(), self.free_big.len())
    }

    /// The fewest small and big slots that ever were free: how near exhaustion came.
    pub fn lowest_free(&self) -> (usize, usize) {
        (self.lowest_small, self.lowest_big)
    }

    /// Where a frame lands, its virtio header first.
    #[inline]
    pub fn landing(&mut self, tail: u32) -> &mut [u8] {
        let start = tail as usize;
        &mut self.big[start..start + VNET_HEADER_LEN + FRAME_LEN_MAX]
    }

    /// Copies the virtio header and the head of a landed frame of `length` bytes to its small slot.
    #[inline]
    pub fn take_in(&mut self, head: u32, tail: u32, length: usize) {
        let (to, from) = (head as usize - VNET_HEADER_LEN, tail as usize);
        let count = VNET_HEADER_LEN + length.min(SMALL_LEN);
        self.small[to..to + count].copy_from_slice(&self.big[from..from + count]);
    }

    /// Copies one of several frames that landed together, `length` bytes at `at` behind the virtio header's place, to slots of
    /// its own: to the small one what fits, to `rest`, needed for longer frames, all of it.
    pub fn take_part(&mut self, (head, rest): (u32, u32), (landed, at): (u32, usize), length: usize) {
        let from = landed as usize + VNET_HEADER_LEN + at;
        if length > SMALL_LEN {
            self.big.copy_within(from..from + length, rest as usize + VNET_HEADER_LEN);
        }
        let count = length.min(SMALL_LEN);
        self.small[head as usize..head as usize + count].copy_from_slice(&self.big[from..from + count]);
    }

    /// Puts a frame with its virtio header into a pair of slots.
    pub fn fill(&mut self, head: u32, tail: u32, offload: &Offload, frame: &[u8]) {
        let landing = self.landing(tail);
        landing[..VNET_HEADER_LEN].copy_from_slice(&offload.bytes());
        landing[VNET_HEADER_LEN..VNET_HEADER_LEN + frame.len()].copy_from_slice(frame);
        self.take_in(head, tail, frame.len());
    }

    /// The start of a frame. Of a frame shorter than that the bytes behind its end mean nothing.
    #[inline]
    pub fn start(&self, head: u32) -> &[u8; START_LEN] {
        let from = head as usize;
        self.small[from..from + START_LEN].try_into().expect("the start's length was taken")
    }

    /// All small slots: a frame's offset is the place where it starts.
    #[inline]
    pub fn heads(&self) -> &[u8] {
        &self.small
    }

    /// What came beside a frame, and the frame's start.
    #[inline]
    pub fn header_and_start(&self, head: u32) -> (&[u8; VNET_HEADER_LEN], &[u8; START_LEN]) {
        let from = head as usize - VNET_HEADER_LEN;
        let both = &self.small[from..from + VNET_HEADER_LEN + START_LEN];
        let (header, start) = both.split_first_chunk().expect("a header's length was taken");
        (header, start.first_chunk().expect("and the start's"))
    }

    /// The start of a frame, to be changed in place; the bytes behind its end are nobody's.
    #[inline]
    pub fn start_mut(&mut self, head: u32) -> &mut [u8; START_LEN] {
        let from = head as usize;
        (&mut self.small[from..from + START_LEN]).try_into().expect("the start's length was taken")
    }

    /// The `length` bytes of a frame.
    #[inline]
    pub fn frame(&self, head: u32, tail: u32, length: u32) -> FrameRef<'_> {
        self.frame_with(head, tail, length, 0)
    }

    /// The same with the last `before` bytes of the headroom in front of `head`.
    #[inline]
    pub fn frame_with(&self, head: u32, tail: u32, length: u32, before: usize) -> FrameRef<'_> {
        let (start, length) = (head as usize, length as usize);
        let in_head = length.min(SMALL_LEN);
        let rest = length - in_head;
        let tail = if rest == 0 { &[][..] } else { &self.big[tail as usize + TAIL_AT..tail as usize + TAIL_AT + rest] };
        FrameRef { head: &self.small[start - before..start + in_head], tail }
    }

    /// A frame no longer than [`SMALL_LEN`] with the last `before` bytes of the headroom in front.
    #[inline]
    pub fn short_with(&self, head: u32, length: u32, before: usize) -> &[u8] {
        &self.small[head as usize - before..head as usize + length as usize]
    }

    /// The part of a frame in its small slot.
    #[inline]
    pub fn head(&self, head: u32, length: u32) -> &[u8] {
        let start = head as usize;
        &self.small[start..start + (length as usize).min(SMALL_LEN)]
    }

    /// The part of a frame in its small slot, to be changed in place.
    #[inline]
    pub fn head_mut(&mut self, head: u32, length: u32) -> &mut [u8] {
        let start = head as usize;
        &mut self.small[start..start + (length as usize).min(SMALL_LEN)]
    }

    /// Both parts of a frame, the one in the small slot to be changed in place.
    #[inline]
    pub fn frame_mut(&mut self, head: u32, tail: u32, length: u32) -> (&mut [u8], &[u8]) {
        let (start, length) = (head as usize, length as usize);
        let in_head = length.min(SMALL_LEN);
        let rest = length - in_head;
        let tail = if rest == 0 { &[][..] } else { &self.big[tail as usize + TAIL_AT..tail as usize + TAIL_AT + rest] };
        (&mut self.small[start..start + in_head], tail)
    }

    /// The `count` headroom bytes right before a frame.
    #[inline]
    pub fn before(&self, head: u32, count: usize) -> &[u8] {
        &self.small[head as usize - count..head as usize]
    }

    /// The `count` headroom bytes right before a frame, to be written.
    #[inline]
    pub fn before_mut(&mut self, head: u32, count: usize) -> &mut [u8] {
        &mut self.small[head as usize - count..head as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_run_out_and_come_back() {
        let mut slots = Slots::new(2, 1);
        let (a, b) = (slots.take_small().unwrap(), slots.take_small().unwrap());
        assert_eq!(slots.take_small(), None);
        assert_ne!(a, b);
        assert_eq!(a % 64, b % 64);
        slots.give_small(a);
        assert_eq!(slots.take_small(), Some(a));
        assert_eq!(slots.lowest_free(), (0, 1));
    }

    #[test]
    fn a_super_frame_spans_both_classes() {
        let mut slots = Slots::new(2, 2);
        let (head, tail) = (slots.take_small().unwrap(), slots.take_big().unwrap());
        let frame: Vec<u8> = (0..SMALL_LEN + 100).map(|at| at as u8).collect();
        slots.fill(head, tail, &Offload::default(), &frame);
        let seen = slots.frame(head, tail, frame.len() as u32);
        assert_eq!((seen.head, seen.tail), frame.split_at(SMALL_LEN));
        assert_eq!(slots.before(head, VNET_HEADER_LEN), Offload::default().bytes());
        assert!(slots.frame(head, NO_TAIL, 60).tail.is_empty());
    }
}

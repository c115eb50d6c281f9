//! Our rings and those of the crates `rtrb` and `crossbeam`, in one shape.
//!
//! A burst goes from an array into the ring and from the ring into an array, whoever's ring it is. Where a ring has no bursts, its
//! items go one by one.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use ring::{mpsc, spsc};

/// A ring of [`CAPACITY`] items.
pub(crate) trait Ring {
    type Push: Push;
    type Pop: Pop;

    /// So many ends to push to, and one to pop from.
    fn ends(producers: usize) -> (Vec<Self::Push>, Self::Pop);
}

/// What a producer does.
pub(crate) trait Push: Send {
    fn push(&mut self, item: u64) -> bool;

    /// Pushes from the front of `items` and returns how many; what is left of the vector does not matter.
    fn push_burst(&mut self, items: &mut Vec<u64>) -> usize;
}

/// What the consumer does.
pub(crate) trait Pop: Send {
    fn pop(&mut self) -> Option<u64>;

    /// Pops at most `max` items and returns them; `into` is memory for as many, and what was there does not matter.
    fn pop_burst<'a>(&mut self, into: &'a mut Vec<u64>, max: usize) -> &'a [u64];
}

pub(crate) struct OurSpsc;

impl Ring for OurSpsc {
    type Push = spsc::Producer<u64>;
    type Pop = spsc::Consumer<u64>;

    fn ends(_: usize) -> (Vec<Self::Push>, Self::Pop) {
        let (producer, consumer) = spsc::ring(CAPACITY);
        (vec![producer], consumer)
    }
}

pub(crate) struct OurMpsc;

impl Ring for OurMpsc {
    type Push = mpsc::Producer<u64>;
    type Pop = mpsc::Consumer<u64>;

    fn ends(producers: usize) -> (Vec<Self::Push>, Self::Pop) {
        let (producer, consumer) = mpsc::ring(CAPACITY);
        (vec![producer; producers], consumer)
    }
}

macro_rules! ends_of_ours {
    ($kind:ident) => {
        impl Push for $kind::Producer<u64> {
            #[inline(always)]
            fn push(&mut self, item: u64) -> bool {
                self.push(item).is_ok()
            }

            #[inline(always)]
            fn push_burst(&mut self, items: &mut Vec<u64>) -> usize {
                self.push_burst(items)
            }
        }

        impl Pop for $kind::Consumer<u64> {
            #[inline(always)]
            fn pop(&mut self) -> Option<u64> {
                self.pop()
            }

            #[inline(always)]
            fn pop_burst<'a>(&mut self, into: &'a mut Vec<u64>, max: usize) -> &'a [u64] {
                into.clear();
                self.pop_burst(into, max);
                into
            }
        }
    };
}

ends_of_ours!(spsc);
ends_of_ours!(mpsc);

pub(crate) struct Rtrb;

impl Ring for Rtrb {
    type Push = rtrb::Producer<u64>;
    type Pop = rtrb::Consumer<u64>;

    fn ends(_: usize) -> (Vec<Self::Push>, Self::Pop) {
        let (producer, consumer) = rtrb::RingBuffer::new(CAPACITY);
        (vec![producer], consumer)
    }
}

impl Push for rtrb::Producer<u64> {
    #[inline(always)]
    fn push(&mut self, item: u64) -> bool {
        self.push(item).is_ok()
    }

    #[inline(always)]
    fn push_burst(&mut self, items: &mut Vec<u64>) -> usize {
        self.push_partial_slice(items).0.len()
    }
}

impl Pop for rtrb::Consumer<u64> {
    #[inline(always)]
    fn pop(&mut self) -> Option<u64> {
        self.pop().ok()
    }

    #[inline(always)]
    fn pop_burst<'a>(&mut self, into: &'a mut Vec<u64>, max: usize) -> &'a [u64] {
        into.resize(max, 0);
        self.pop_partial_slice(into).0
    }
}

pub(crate) struct Crossbeam;

impl Ring for Crossbeam {
    type Push = Arc<ArrayQueue<u64>>;
    type Pop = Arc<ArrayQueue<u64>>;

    fn ends(producers: usize) -> (Vec<Self::Push>, Self::Pop) {
        let queue = Arc::new(ArrayQueue::new(CAPACITY));
        (vec![Arc::clone(&queue); producers], queue)
    }
}

impl Push for Arc<ArrayQueue<u64>> {
    #[inline(always)]
    fn push(&mut self, item: u64) -> bool {
        ArrayQueue::push(self, item).is_ok()
    }

    #[inline(always)]
    fn push_burst(&mut self, items: &mut Vec<u64>) -> usize {
        items.iter().take_while(|&&item| Push::push(self, item)).count()
    }
}

impl Pop for Arc<ArrayQueue<u64>> {
    #[inline(always)]
    fn pop(&mut self) -> Option<u64> {
        ArrayQueue::pop(self)
    }

    #[inline(always)]
    fn pop_burst<'a>(&mut self, into: &'a mut Vec<u64>, max: usize) -> &'a [u64] {
        into.clear();
        into.extend(std::iter::from_fn(|| Pop::pop(self)).take(max));
        into
    }
}

/// As many items as each ring holds; DPDK's one less.
pub(crate) const CAPACITY: usize = 1024;

//! A bounded ring from one producer to one consumer, built for bursts.
//!
//! The rule: a cell belongs to the consumer from the store of `tail` that passes it to the store of `head` that passes
//! it, and to the producer otherwise. Positions only grow (and wrap with `usize`); a cell is
//! `position & (capacity - 1)`.
//!
//! ```text
//!              head                 tail
//!                v                    v
//!    | free free | full full full full | free free |
//!                  pop ->               push ->
//! ```
//!
//! Each end keeps its own position and the other end's as last seen, and looks across only when that says full or
//! empty. A burst is published by one store, however long.
//! What one thread writes often shares no cache line, nor pair of lines, with what the other uses: that holds for the two
//! positions and for the ends themselves. The orderings, by cases:
//!
//! - `tail` is stored with Release after the cells are written and loaded with Acquire before they are read: whoever
//!   sees the position sees the items.
//! - `head` is stored with Release after the cells are read and loaded with Acquire before they are written again: no
//!   item is overwritten while it is being read.
//! - An end's own position, and the other's as last seen, may be old: old means fuller to the producer and emptier to
//!   the consumer, which costs a look across and never an item.
//! - `abandoned` is stored with Release by the producer that goes and loaded with Acquire by the consumer, which so
//!   sees the last burst too. The other way round it is relaxed: a consumer that goes leaves nothing to be seen.
//!
//! Nothing here waits or allocates after [`ring`]; a full ring gives the rest back. No waking: who may sleep needs a
//! signal beside the ring.

use std::fmt;

use crossbeam::utils::CachePadded;

use crate::{
    cells::{self, Cell, Cells},
    sync::{Arc, AtomicBool, AtomicUsize, Ordering},
};

/// Makes a ring of `capacity` items and returns its two ends.
///
/// # Panics
/// If `capacity` is not a power of two.
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let shared = Arc::new(Shared {
        cells: cells::empty(capacity),
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
        abandoned: AtomicBool::new(false),
    });
    let cells = Cells::of(&shared.cells);
    let producer = Producer { shared: Arc::clone(&shared), cells, tail: 0, head_seen: 0 };
    (producer, Consumer { shared, cells, head: 0, tail_seen: 0 })
}

/// The end that pushes.
#[repr(align(128))]
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    cells: Cells<T>,
    tail: usize,
    head_seen: usize,
}

impl<T> Producer<T> {
    /// Pushes one item, or gives it back if the ring is full.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.free(1) == 0 {
            return Err(item);
        }
        // SAFETY: `free` says that the cell at `tail` is the producer's until the store below.
        unsafe { self.cells.write(self.tail, item) };
        self.publish(1);
        Ok(())
    }

    /// Moves as many items as fit from the front of `items` into the ring, in order, and returns how many; the rest
    /// stays in `items`.
    #[inline]
    pub fn push_burst(&mut self, items: &mut Vec<T>) -> usize {
        let count = items.len().min(self.free(items.len()));
        if count == 0 {
            return 0;
        }
        // SAFETY: `free` says that the `count` cells from `tail` on are the producer's until the store below.
        unsafe { self.cells.write_burst(self.tail, items, count) };
        self.publish(count);
        count
    }

    /// How many items are in the ring; the consumer may have taken some since.
    pub fn len(&self) -> usize {
        self.tail.wrapping_sub(self.shared.head.load(Ordering::Relaxed))
    }

    /// Whether the consumer has taken everything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The greatest number of items in the ring.
    pub fn capacity(&self) -> usize {
        self.cells.capacity()
    }

    /// Whether the consumer is gone, so that nothing pushed will ever be taken.
    pub fn is_abandoned(&self) -> bool {
        self.shared.abandoned.load(Ordering::Relaxed)
    }

    /// How many cells may be written: looks across only if those known of are fewer than `wanted`.
    #[inline]
    fn free(&mut self, wanted: usize) -> usize {
        let capacity = self.capacity();
        let known = capacity - self.tail.wrapping_sub(self.head_seen);
        if known >= wanted {
            return known;
        }
        self.head_seen = self.shared.head.load(Ordering::Acquire);
        capacity - self.tail.wrapping_sub(self.head_seen)
    }

    #[inline]
    fn publish(&mut self, count: usize) {
        self.tail = self.tail.wrapping_add(count);
        self.shared.tail.store(self.tail, Ordering::Release);
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::Release);
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Producer").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

/// The end that pops.
#[repr(align(128))]
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    cells: Cells<T>,
    head: usize,
    tail_seen: usize,
}

impl<T> Consumer<T> {
    /// Takes the oldest item, or `None` if the ring is empty.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.full(1) == 0 {
            return None;
        }
        // SAFETY: `full` says that the cell at `head` holds an item and is the consumer's until the store below, which
        // passes it, so that it is read once.
        let item = unsafe { self.cells.read(self.head) };
        self.release(1);
        Some(item)
    }

    /// Moves the oldest items to the end of `into`, in order, and returns how many: at most `max`, and at most what
    /// `into` has room for without allocating.
    #[inline]
    pub fn pop_burst(&mut self, into: &mut Vec<T>, max: usize) -> usize {
        let room = max.min(into.capacity() - into.len());
        let count = room.min(self.full(room));
        if count == 0 {
            return 0;
        }
        // SAFETY: `full` says that the `count` cells from `head` on hold items and are the consumer's until the store below,
        // which passes them, so that each is read once.
        unsafe { self.cells.read_burst(self.head, count, into) };
        self.release(count);
        count
    }

    /// How many items are in the ring; the producer may have added some since.
    pub fn len(&self) -> usize {
        self.shared.tail.load(Ordering::Relaxed).wrapping_sub(self.head)
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The greatest number of items in the ring.
    pub fn capacity(&self) -> usize {
        self.cells.capacity()
    }

    /// Whether the producer is gone: an empty ring seen after that stays empty.
    pub fn is_abandoned(&self) -> bool {
        self.shared.abandoned.load(Ordering::Acquire)
    }

    /// How many cells may be read: looks across only if those known of are fewer than `wanted`.
    #[inline]
    fn full(&mut self, wanted: usize) -> usize {
        let known = self.tail_seen.wrapping_sub(self.head);
        if known >= wanted {
            return known;
        }
        self.tail_seen = self.shared.tail.load(Ordering::Acquire);
        self.tail_seen.wrapping_sub(self.head)
    }

    #[inline]
    fn release(&mut self, count: usize) {
        self.head = self.head.wrapping_add(count);
        self.shared.head.store(self.head, Ordering::Release);
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::Relaxed);
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Consumer").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

struct Shared<T> {
    cells: Box<[Cell<T>]>,
    /// The oldest item's position; the consumer's to write.
    head: CachePadded<AtomicUsize>,
    /// The next item's position; the producer's to write.
    tail: CachePadded<AtomicUsize>,
    /// Set by the first end that goes.
    abandoned: AtomicBool,
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let head = self.head.load(Ordering::Relaxed);
        let count = self.tail.load(Ordering::Relaxed).wrapping_sub(head);
        // SAFETY: both ends are gone, and the cells between `head` and `tail` hold items that nobody has taken.
        unsafe { Cells::of(&self.cells).drop_burst(head, count) };
    }
}

// SAFETY: items are moved from one thread to another, which asks for `T: Send`; no two threads ever use one cell at a
// time, by the rule at the top of this file, so nothing asks for `T: Sync`.
unsafe impl<T: Send> Sync for Shared<T> {}

#[cfg(all(test, not(loom)))]
mod tests;

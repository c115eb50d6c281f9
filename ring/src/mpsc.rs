//! A bounded ring from several producers to one consumer, built for bursts.
//!
//! The rule: a producer owns the cells it has reserved until it marks their first; the consumer owns the cells of a marked burst
//! until the store of `head` that passes them. Positions only grow, and have 64 bits, so that no old mark is ever taken for a new
//! one; a cell is `position & (capacity - 1)`, and so is a mark.
//!
//! ```text
//!              head                            tail
//!                v                               v
//!    | free free | full full reserved full reserved | free free |
//!        marks:    ^- to here ->      ^
//!                  pop ->                              reserve ->
//! ```
//!
//! The **mark** of a burst, at its first position, is the position after its last. At `head` the consumer finds either that, 1 to
//! `capacity` further on, or an older mark: one of an earlier lap, which was no more than `capacity` after a position at least
//! `capacity` before, so it is not after `head`.
//!
//! A burst is reserved by one compare-and-swap, marked by one store and taken by one store, however long. Within a burst order
//! holds, and so it does between bursts of one producer; bursts of different producers do not mix. The orderings, by cases:
//!
//! - A mark is stored with Release after the cells of its burst are written and loaded with Acquire before they are read: whoever
//!   sees the mark sees the items.
//! - `head` is stored with Release after the cells are read and loaded with Acquire before they are reserved again: no
//!   item is overwritten while it is being read, and no mark before it was read.
//! - `tail` moves by relaxed compare-and-swap, because it carries no items: it only makes reservations disjoint.
//! - A producer that looks across loads `tail` first (Acquire) and then `head`. If that leaves no room, there was none when
//!   `tail` was loaded, for `head` was no further then; so a ring never reads as full that was not, however long the thread is
//!   kept between the two. If `head` has passed `tail` meanwhile, others were faster, and it looks again. A `tail` from
//!   elsewhere may be ahead of the `head` seen before by more than the capacity; that reads as full and costs a look across.
//! - `producers` is counted down with Release and loaded with Acquire: a consumer that sees none sees all they pushed.
//!   `consumer_gone` is relaxed, because a consumer that goes leaves nothing to be seen.
//!
//! Nothing here locks, waits or allocates after [`ring`]; a full ring gives the rest back. A producer that is halted
//! between reserving and marking hides what lies behind it from the consumer until it goes on; it stops nobody else
//! from pushing, and the consumer from nothing but those items.

use std::{fmt, iter};

use crossbeam::utils::CachePadded;

use crate::{
    cells::{self, Cell, Cells},
    sync::{Arc, AtomicBool, AtomicUsize, Ordering},
};

/// Makes a ring of `capacity` items and returns its two ends; clone the producer for more of them.
///
/// # Panics
/// If `capacity` is not a power of two.
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let shared = Arc::new(Shared {
        cells: cells::empty(capacity),
        marks: iter::repeat_with(|| AtomicUsize::new(0)).take(capacity).collect(),
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
        producers: AtomicUsize::new(1),
        consumer_gone: AtomicBool::new(false),
    });
    let cells = Cells::of(&shared.cells);
    (Producer { shared: Arc::clone(&shared), cells, head_seen: 0 }, Consumer { shared, cells, head: 0, full_until: 0 })
}

/// An end that pushes.
#[repr(align(128))]
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    cells: Cells<T>,
    head_seen: usize,
}

impl<T> Producer<T> {
    /// Pushes one item, or gives it back if the ring is full.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        let (position, count) = self.reserve(1);
        if count == 0 {
            return Err(item);
        }
        // SAFETY: the cell at `position` is reserved until it is marked below.
        unsafe { self.cells.write(position, item) };
        self.shared.mark(position, 1);
        Ok(())
    }

    /// Moves as many items as fit from the front of `items` into the ring, in order and next to each other, and returns
    /// how many; the rest stays in `items`.
    #[inline]
    pub fn push_burst(&mut self, items: &mut Vec<T>) -> usize {
        let (position, count) = self.reserve(items.len());
        if count == 0 {
            return 0;
        }
        // SAFETY: `count` cells from `position` on are reserved until they are marked below.
        unsafe { self.cells.write_burst(position, items, count) };
        self.shared.mark(position, count);
        count
    }

    /// How many items are in the ring, those still being pushed included.
    pub fn len(&self) -> usize {
        self.shared.len()
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
        self.shared.consumer_gone.load(Ordering::Relaxed)
    }

    /// Takes up to `wanted` cells for this producer: the first one's position and how many; none if the ring is full.
    /// What is taken must be written and marked.
    #[inline]
    fn reserve(&mut self, wanted: usize) -> (usize, usize) {
        let mut tail = self.shared.tail.load(Ordering::Relaxed);
        loop {
            let mut free = self.free(tail);
            if free < wanted {
                tail = self.shared.tail.load(Ordering::Acquire);
                self.head_seen = self.shared.head.load(Ordering::Acquire);
                if tail.wrapping_sub(self.head_seen).cast_signed() < 0 {
                    continue;
                }
                free = self.free(tail);
            }
            let count = wanted.min(free);
            if count == 0 {
                return (tail, 0);
            }
            let after = tail.wrapping_add(count);
            match self.shared.tail.compare_exchange_weak(tail, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return (tail, count),
                Err(moved) => tail = moved,
            }
        }
    }

    /// How many cells may be reserved from `tail` on, by what is known of the consumer.
    #[inline]
    fn free(&self, tail: usize) -> usize {
        self.capacity().saturating_sub(tail.wrapping_sub(self.head_seen))
    }
}

impl<T> Clone for Producer<T> {
    fn clone(&self) -> Self {
        self.shared.producers.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared), cells: self.cells, head_seen: self.head_seen }
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.shared.producers.fetch_sub(1, Ordering::Release);
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
    /// The end of the burst that `head` is in.
    full_until: usize,
}

impl<T> Consumer<T> {
    /// Takes the oldest item, or `None` if there is none that is pushed completely.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.full() == 0 {
            return None;
        }
        // SAFETY: `full` says that the cell at `head` holds an item and is the consumer's until the store below, which
        // passes it, so that it is read once.
        let item = unsafe { self.cells.read(self.head) };
        self.head = self.head.wrapping_add(1);
        self.release();
        Some(item)
    }

    /// Moves the oldest items to the end of `into`, in order, and returns how many: at most `max`, and at most what
    /// `into` has room for without allocating.
    #[inline]
    pub fn pop_burst(&mut self, into: &mut Vec<T>, max: usize) -> usize {
        let room = max.min(into.capacity() - into.len());
        let mut popped = 0;
        while popped < room {
            let count = self.full().min(room - popped);
            if count == 0 {
                break;
            }
            // SAFETY: `full` says that the `count` cells from `head` on hold items and are the consumer's until the store below,
            // which passes them, so that each is read once.
            unsafe { self.cells.read_burst(self.head, count, into) };
            self.head = self.head.wrapping_add(count);
            popped += count;
        }
        if popped > 0 {
            self.release();
        }
        popped
    }

    /// How many items are in the ring, those still being pushed included.
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether there is nothing to take and nothing being pushed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The greatest number of items in the ring.
    pub fn capacity(&self) -> usize {
        self.cells.capacity()
    }

    /// Whether all producers are gone: an empty ring seen after that stays empty.
    pub fn is_abandoned(&self) -> bool {
        self.shared.producers.load(Ordering::Acquire) == 0
    }

    /// How many cells of the burst at `head` may be read: none if it is not marked yet.
    #[inline]
    fn full(&mut self) -> usize {
        if self.full_until == self.head {
            let mark = self.shared.mark_at(self.head).load(Ordering::Acquire);
            let is_of_this_lap = (1..=self.capacity()).contains(&mark.wrapping_sub(self.head));
            self.full_until = if is_of_this_lap { mark } else { self.head };
        }
        self.full_until.wrapping_sub(self.head)
    }

    #[inline]
    fn release(&self) {
        self.shared.head.store(self.head, Ordering::Release);
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.shared.consumer_gone.store(true, Ordering::Relaxed);
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Consumer").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

struct Shared<T> {
    cells: Box<[Cell<T>]>,
    /// Where a burst begins: the position after its last item.
    marks: Box<[AtomicUsize]>,
    /// The oldest item's position; the consumer's to write.
    head: CachePadded<AtomicUsize>,
    /// The next position to reserve; any producer's to move.
    tail: CachePadded<AtomicUsize>,
    producers: AtomicUsize,
    consumer_gone: AtomicBool,
}

impl<T> Shared<T> {
    #[inline]
    fn mark_at(&self, position: usize) -> &AtomicUsize {
        &self.marks[position & (self.marks.len() - 1)]
    }

    /// Gives the `count` cells from `position` on, reserved and written, to the consumer.
    #[inline]
    fn mark(&self, position: usize, count: usize) {
        self.mark_at(position).store(position.wrapping_add(count), Ordering::Release);
    }

    fn len(&self) -> usize {
        let head = self.head.load(Ordering::Acquire);
        self.tail.load(Ordering::Relaxed).wrapping_sub(head).min(self.cells.len())
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let head = self.head.load(Ordering::Relaxed);
        // SAFETY: all ends are gone, so that every reserved cell is full; those from `head` on nobody has taken.
        unsafe { Cells::of(&self.cells).drop_burst(head, self.len()) };
    }
}

// SAFETY: items are moved from one thread to another, which asks for `T: Send`; no two threads ever use one cell at a
// time, by the rule at the top of this file, so nothing asks for `T: Sync`.
unsafe impl<T: Send> Sync for Shared<T> {}

const _: () = assert!(usize::BITS == 64, "positions must not wrap");

#[cfg(all(test, not(loom)))]
mod tests;

//! A bounded ring from several producers to one consumer, built for bursts.
//!
//! The rule: a producer owns the cells it has reserved until it marks each as full; the consumer owns a full cell until
//! the store of `head` that passes it. Positions only grow (and wrap with `usize`); a cell is
//! `position & (capacity - 1)` and is full when its mark is `position + 1`, which no earlier lap has written.
//!
//! ```text
//!              head                            tail
//!                v                               v
//!    | free free | full full reserved full reserved | free free |
//!                  pop ->                              reserve ->
//! ```
//!
//! A burst is reserved by one compare-and-swap and taken by one store. Within a burst order holds, and so it does
//! between bursts of one producer; bursts of different producers do not mix. The orderings, by cases:
//!
//! - A mark is stored with Release after its cell is written and loaded with Acquire before it is read: whoever sees
//!   the mark sees the item.
//! - `head` is stored with Release after the cells are read and loaded with Acquire before they are reserved again: no
//!   item is overwritten while it is being read.
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

use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell};
use crossbeam::utils::CachePadded;
use std::{fmt, iter, mem::MaybeUninit};

/// Makes a ring of `capacity` items and returns its two ends; clone the producer for more of them.
///
/// # Panics
/// If `capacity` is not a power of two.
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity.is_power_of_two(), "the capacity of a ring is a power of two, not {capacity}");
    let shared = Arc::new(Shared {
        cells: iter::repeat_with(Cell::empty).take(capacity).collect(),
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
        producers: AtomicUsize::new(1),
        consumer_gone: AtomicBool::new(false),
    });
    (Producer { shared: Arc::clone(&shared), head_seen: 0 }, Consumer { shared, head: 0 })
}

/// An end that pushes.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
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
        // SAFETY: the cell at `position` is reserved and filled once.
        unsafe { self.shared.fill(position, item) };
        Ok(())
    }

    /// Moves as many items as fit from the front of `items` into the ring, in order and next to each other, and returns
    /// how many; the rest stays in `items`.
    #[inline]
    pub fn push_burst(&mut self, items: &mut Vec<T>) -> usize {
        let (mut position, count) = self.reserve(items.len());
        for item in items.drain(..count) {
            // SAFETY: `count` cells are reserved and each is filled once.
            unsafe { self.shared.fill(position, item) };
            position = position.wrapping_add(1);
        }
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
        self.shared.cells.len()
    }

    /// Whether the consumer is gone, so that nothing pushed will ever be taken.
    pub fn is_abandoned(&self) -> bool {
        self.shared.consumer_gone.load(Ordering::Relaxed)
    }

    /// Takes up to `wanted` cells for this producer: the first one's position and how many; none if the ring is full.
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
        Self { shared: Arc::clone(&self.shared), head_seen: self.head_seen }
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
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
}

impl<T> Consumer<T> {
    /// Takes the oldest item, or `None` if there is none that is pushed completely.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let item = self.take()?;
        self.shared.head.store(self.head, Ordering::Release);
        Some(item)
    }

    /// Moves the oldest items to the end of `into`, in order, and returns how many: at most `max`, and at most what
    /// `into` has room for without allocating.
    #[inline]
    pub fn pop_burst(&mut self, into: &mut Vec<T>, max: usize) -> usize {
        let before = into.len();
        let room = max.min(into.capacity() - before);
        into.extend(iter::from_fn(|| self.take()).take(room));
        let count = into.len() - before;
        if count > 0 {
            self.shared.head.store(self.head, Ordering::Release);
        }
        count
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
        self.shared.cells.len()
    }

    /// Whether all producers are gone: an empty ring seen after that stays empty.
    pub fn is_abandoned(&self) -> bool {
        self.shared.producers.load(Ordering::Acquire) == 0
    }

    /// Reads the item at `head` and passes it; the caller stores `head` for the producers.
    #[inline]
    fn take(&mut self) -> Option<T> {
        let cell = self.shared.cell(self.head);
        let after = self.head.wrapping_add(1);
        if cell.mark.load(Ordering::Acquire) != after {
            return None;
        }
        self.head = after;
        // SAFETY: the mark says that the cell holds the item of this position; the consumer owns it until `head` is
        // stored, and has just passed it, so that it is read once.
        Some(cell.item.with(|item| unsafe { (*item).assume_init_read() }))
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

struct Cell<T> {
    /// The position after that of the item it holds or held last.
    mark: AtomicUsize,
    item: UnsafeCell<MaybeUninit<T>>,
}

impl<T> Cell<T> {
    fn empty() -> Self {
        Self { mark: AtomicUsize::new(0), item: UnsafeCell::new(MaybeUninit::uninit()) }
    }
}

struct Shared<T> {
    cells: Box<[Cell<T>]>,
    /// The oldest item's position; the consumer's to write.
    head: CachePadded<AtomicUsize>,
    /// The next position to reserve; any producer's to move.
    tail: CachePadded<AtomicUsize>,
    producers: AtomicUsize,
    consumer_gone: AtomicBool,
}

impl<T> Shared<T> {
    #[inline]
    fn cell(&self, position: usize) -> &Cell<T> {
        &self.cells[position & (self.cells.len() - 1)]
    }

    /// Writes `item` and marks its cell as full.
    ///
    /// # Safety
    /// The caller has reserved `position` and fills it only once.
    #[inline]
    unsafe fn fill(&self, position: usize, item: T) {
        let cell = self.cell(position);
        // SAFETY: a reserved cell is its producer's alone until the mark below.
        cell.item.with_mut(|cell| unsafe { (*cell).write(item) });
        cell.mark.store(position.wrapping_add(1), Ordering::Release);
    }

    fn len(&self) -> usize {
        let head = self.head.load(Ordering::Acquire);
        self.tail.load(Ordering::Relaxed).wrapping_sub(head).min(self.cells.len())
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let head = self.head.load(Ordering::Relaxed);
        for step in 0..self.len() {
            // SAFETY: all ends are gone, so that every reserved cell is full; those from `head` on nobody has taken.
            self.cell(head.wrapping_add(step)).item.with_mut(|item| unsafe { (*item).assume_init_drop() });
        }
    }
}

// SAFETY: items are moved from one thread to another, which asks for `T: Send`; no two threads ever use one cell at a
// time, by the rule at the top of this file, so nothing asks for `T: Sync`.
unsafe impl<T: Send> Sync for Shared<T> {}

#[cfg(all(test, not(loom)))]
mod tests;

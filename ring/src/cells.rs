//! The memory of a ring: cells that its ends use in turn.
//!
//! The rule: a ring says which end may use a cell at the moment, and an end asks for no other; nothing here can check that. A
//! burst is copied in one piece, or in two over the end of the memory.

use std::{iter, mem::MaybeUninit, ptr::NonNull};

use crate::sync::UnsafeCell;

/// Room for an item, which may be there or not.
pub(crate) type Cell<T> = UnsafeCell<MaybeUninit<T>>;

/// Cells without items.
///
/// # Panics
/// If `capacity` is not a power of two.
pub(crate) fn empty<T>(capacity: usize) -> Box<[Cell<T>]> {
    assert!(capacity.is_power_of_two(), "the capacity of a ring is a power of two, not {capacity}");
    iter::repeat_with(|| UnsafeCell::new(MaybeUninit::uninit())).take(capacity).collect()
}

/// Where cells are, kept by each end beside its hold on who owns them: one load less for each item.
///
/// A position is any number; its cell is `position & (capacity - 1)`. For every call the owner must still be there.
pub(crate) struct Cells<T> {
    first: NonNull<Cell<T>>,
    mask: usize,
}

impl<T> Cells<T> {
    /// These cells, as many as a power of two.
    pub(crate) fn of(cells: &[Cell<T>]) -> Self {
        Self { first: NonNull::from(cells).cast(), mask: cells.len() - 1 }
    }

    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.mask + 1
    }

    /// # Safety
    /// The cell of `position` is the caller's, and holds no item.
    #[inline]
    pub(crate) unsafe fn write(&self, position: usize, item: T) {
        // SAFETY: the caller's promise.
        unsafe { self.at(position).with_mut(|cell| (*cell).write(item)) };
    }

    /// Moves the first `count` of `items` to the cells from `position` on; the others stay.
    ///
    /// # Safety
    /// These cells are the caller's, there are so many, and they hold no items; there are `count` items.
    #[inline]
    pub(crate) unsafe fn write_burst(&self, position: usize, items: &mut Vec<T>, count: usize) {
        let rest = items.len() - count;
        // SAFETY: the caller's promise. With its length at 0 the vector owns none of its items: the first `count` go to the
        // cells, each once, and the rest to its front.
        unsafe {
            items.set_len(0);
            let mut from = items.as_ptr();
            for run in self.runs(position, count) {
                for (at, cell) in run.iter().enumerate() {
                    cell.with_mut(|cell| (*cell).write(from.add(at).read()));
                }
                from = from.add(run.len());
            }
            from.copy_to(items.as_mut_ptr(), rest);
            items.set_len(rest);
        }
    }

    /// # Safety
    /// The cell of `position` is the caller's and holds an item, which nobody reads again.
    #[inline]
    pub(crate) unsafe fn read(&self, position: usize) -> T {
        // SAFETY: the caller's promise.
        unsafe { self.at(position).with(|cell| (*cell).assume_init_read()) }
    }

    /// Moves the items of the `count` cells from `position` on to the end of `into`.
    ///
    /// # Safety
    /// These cells are the caller's, there are so many, and they hold items, which nobody reads again.
    #[inline]
    pub(crate) unsafe fn read_burst(&self, position: usize, count: usize, into: &mut Vec<T>) {
        // SAFETY: the caller's promise.
        unsafe {
            for run in self.runs(position, count) {
                into.extend(run.iter().map(|cell| cell.with(|cell| (*cell).assume_init_read())));
            }
        }
    }

    /// Drops the items of the `count` cells from `position` on.
    ///
    /// # Safety
    /// As for [`Cells::read_burst`].
    pub(crate) unsafe fn drop_burst(&self, position: usize, count: usize) {
        for step in 0..count {
            // SAFETY: the caller's promise.
            drop(unsafe { self.read(position.wrapping_add(step)) });
        }
    }

    #[inline]
    unsafe fn at(&self, position: usize) -> &Cell<T> {
        // SAFETY: the owner is there, and `mask` is one less than the number of cells.
        unsafe { self.first.add(position & self.mask).as_ref() }
    }

    /// The `count` cells from `position` on: those up to the end of the memory, and the rest from its start.
    #[inline]
    unsafe fn runs(&self, position: usize, count: usize) -> [&[Cell<T>]; 2] {
        let start = position & self.mask;
        let first = count.min(self.capacity() - start);
        // SAFETY: the owner is there, the first run ends with the last cell at most, and the second is no longer than all.
        unsafe {
            [
                NonNull::slice_from_raw_parts(self.first.add(start), first).as_ref(),
                NonNull::slice_from_raw_parts(self.first, count - first).as_ref(),
            ]
        }
    }
}

impl<T> Clone for Cells<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Cells<T> {}

// SAFETY: knowing where cells are gives access to none; who uses one promises that it is theirs.
unsafe impl<T: Send> Send for Cells<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Cells<T> {}

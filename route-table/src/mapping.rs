//! Memory that costs what is written to it: an array of zeros as large as an address space asks, of which the kernel gives a page
//! when it is touched (mmap(2), private and anonymous).
//!
//! Where it is dense, huge pages are advised (madvise(2)): a random lookup in tens of megabytes misses the TLB otherwise. The kernel
//! aligns large mappings for them since 6.7; an advice that is refused changes nothing but speed.

use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::cell::{Cell, Hop};
use crate::v6::Node;

/// An array of zeros on pages of its own.
pub(crate) struct Mapping<T> {
    first: NonNull<T>,
    len: usize,
}

/// What may be all zeros.
///
/// # Safety
/// A value whose bytes are all zero must be legal, and dropping it must do nothing.
pub(crate) unsafe trait Zeroed {}

// SAFETY: an integer.
unsafe impl Zeroed for u8 {}
// SAFETY: an atomic integer.
unsafe impl Zeroed for Hop {}
// SAFETY: an atomic integer.
unsafe impl Zeroed for Cell {}
// SAFETY: an array of atomic integers.
unsafe impl Zeroed for Node {}

/// How the memory is going to be touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Much of it, side by side: huge pages are worth it.
    Dense,
    /// Here and there.
    Sparse,
}

impl<T: Zeroed> Mapping<T> {
    /// `len` zeros.
    ///
    /// # Panics
    /// Where the system has not even addresses left.
    pub(crate) fn new(len: usize, usage: Use) -> Self {
        assert!(len > 0 && align_of::<T>() <= 4096, "what pages can hold");
        let bytes = len * size_of::<T>();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let first = unsafe { mmap_anonymous(ptr::null_mut(), bytes, access, MapFlags::PRIVATE | MapFlags::NORESERVE) };
        let first = NonNull::new(first.expect("addresses for a route table")).expect("no mapping is at 0");
        if usage == Use::Dense {
            // SAFETY: the range is the mapping just made, and the advice changes no content.
            let _ = unsafe { madvise(first.as_ptr(), bytes, Advice::LinuxHugepage) };
        }
        Mapping { first: first.cast(), len }
    }
}

impl<T> Deref for Mapping<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the mapping is as long, page-aligned, all its bytes began as zeros, which [`Zeroed`] allows, and it stands until drop.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Mapping<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, and whoever borrowed from it is gone.
        let unmapped = unsafe { munmap(self.first.as_ptr().cast(), self.len * size_of::<T>()) };
        debug_assert!(unmapped.is_ok(), "a mapping is unmapped once");
    }
}

// SAFETY: it owns its values, as a boxed slice does.
unsafe impl<T: Send> Send for Mapping<T> {}
// SAFETY: sharing it gives shared access to its values alone.
unsafe impl<T: Sync> Sync for Mapping<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_zero_and_holds_what_is_written() {
        let mut bytes = Mapping::<u8>::new(3 << 20, Use::Dense);
        assert!(bytes.iter().all(|&byte| byte == 0));
        *bytes.last_mut().unwrap() = 7;
        assert_eq!((bytes.len(), bytes[(3 << 20) - 1]), (3 << 20, 7));
    }

    #[test]
    fn nodes_stand_on_lines_of_their_own() {
        let nodes = Mapping::<Node>::new(3, Use::Sparse);
        assert!(nodes.iter().all(|node| ptr::from_ref(node).addr() % 64 == 0));
    }
}

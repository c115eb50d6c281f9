//! Flags that any thread raises and any reads; once raised a flag stays so.
//!
//! The rule: a flag orders no other memory (all accesses are relaxed). Whoever comes after the raising, by whatever says so,
//! sees the flag; whoever comes at the same time may or may not.

use crate::sync::{AtomicBool, Ordering};

/// A fixed number of flags.
#[derive(Debug)]
pub struct Flags {
    flags: Box<[AtomicBool]>,
    any: AtomicBool,
}

impl Flags {
    /// `count` flags, none raised.
    pub fn new(count: usize) -> Self {
        Self { flags: (0..count).map(|_| AtomicBool::new(false)).collect(), any: AtomicBool::new(false) }
    }

    /// Raises flag `index`. Writes only the first time, so that readers keep their copies of the cache line.
    ///
    /// # Panics
    /// If there is no such flag.
    #[inline]
    pub fn raise(&self, index: usize) {
        if !self.is_raised(index) {
            self.flags[index].store(true, Ordering::Relaxed);
            self.any.store(true, Ordering::Relaxed);
        }
    }

    /// Whether flag `index` is raised.
    ///
    /// # Panics
    /// If there is no such flag.
    #[inline]
    pub fn is_raised(&self, index: usize) -> bool {
        self.flags[index].load(Ordering::Relaxed)
    }

    /// Whether any is raised.
    #[inline]
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_raised_flag_is_seen_by_who_comes_after_and_no_other_is() {
        let flags = Flags::new(4);
        assert!(!flags.any());
        thread::scope(|scope| {
            scope.spawn(|| flags.raise(2));
            scope.spawn(|| flags.raise(3));
        });
        assert!(flags.any());
        assert_eq!([0, 1, 2, 3].map(|index| flags.is_raised(index)), [false, false, true, true]);
    }
}

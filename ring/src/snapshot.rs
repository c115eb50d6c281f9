//! A snapshot that one publisher replaces and many readers read, by quiescent states (QSBR): readers pay a load per
//! turn, the publisher frees a value when every reader has said that it is past it.
//!
//! The rule: a reader holds one value from one [`Reader::turn`] to the next and nothing while it is offline. Its
//! **mark** says so to the publisher: the version it has begun a turn with, or that it is offline. Versions count up
//! from 1 with every [`Publisher::publish`] and [`Publisher::barrier`]. A version is **in force** when every mark has
//! reached it or is offline; a value is freed when the version that replaced it is in force.
//!
//! ```text
//!    publisher   current -> version -> fence -> marks -> free what all are past
//!    reader                 version (unchanged: done) -> current -> mark
//!    from offline    mark ARRIVING -> fence -> version -> current -> mark
//! ```
//!
//! The orderings, by cases:
//!
//! - *A reader sees a version*: `current` was stored before it with Release, so the reader finds that version's value
//!   or a newer one, whole, with everything written before it anywhere (the cells of a table changed in place too).
//! - *The publisher sees a reader's mark, or offline*: it was stored with Release after the last use of what the reader
//!   held before, so all such uses happen before the value is freed.
//! - *The publisher sees an old mark*: it frees less than it could; the next look frees the rest.
//! - *A reader finds a newer value than its version's*: its mark is too low, which again only delays freeing.
//! - *A reader arrives while the publisher looks*: both store, fence (SeqCst), then load. Either the reader's fence is
//!   first, and the publisher sees ARRIVING or what follows it, so it waits for the mark; or the publisher's is first,
//!   and the reader finds the new version and can no longer reach the old value. There is no third order.
//!   ARRIVING itself is relaxed: it frees nothing, so it need not say what happened before.
//! - *A reader is dropped*: its mark is GONE, which counts as offline for good; the publisher forgets it at its next
//!   look. *The publisher is dropped*: nothing is freed until the last reader goes, and then everything is.
//!
//! Readers never wait, lock or allocate. A reader that neither turns nor goes offline keeps every later value from
//! being freed: whoever may block goes offline first. The number of retired values is the publisher's to bound
//! ([`Publisher::retiring`]).

use crate::sync::{Arc, AtomicPtr, AtomicU64, Ordering, UnsafeCell, fence};
use crossbeam::utils::{Backoff, CachePadded};
use std::{fmt, ptr, thread, time::Duration};

/// A state of the world by number: later is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// The one who replaces the value.
pub struct Publisher<T> {
    shared: Arc<Shared<T>>,
    version: u64,
    marks: Vec<Arc<Mark>>,
}

impl<T> Publisher<T> {
    /// A snapshot of `value`, in its first version, with no reader.
    pub fn new(value: T) -> Self {
        let shared = Arc::new(Shared {
            current: AtomicPtr::new(Box::into_raw(Box::new(value))),
            version: AtomicU64::new(FIRST),
            retired: UnsafeCell::new(Vec::new()),
        });
        Self { shared, version: FIRST, marks: Vec::new() }
    }

    /// A further reader, offline until its first turn; for one worker.
    pub fn reader(&mut self) -> Reader<T> {
        let mark = Arc::new(CachePadded::new(AtomicU64::new(OFFLINE)));
        self.marks.push(Arc::clone(&mark));
        Reader { shared: Arc::clone(&self.shared), mark, version: OFFLINE, held: ptr::null() }
    }

    /// Makes `value` the current one, retires the one before, and frees the retired that no reader can see.
    pub fn publish(&mut self, value: T) -> Version {
        let replaced = self.shared.current.swap(Box::into_raw(Box::new(value)), Ordering::AcqRel);
        let version = self.barrier();
        // SAFETY: `retired` is used under `&mut` of the only publisher, or when publisher and readers are gone.
        self.shared.retired.with_mut(|retired| unsafe { (*retired).push((version, replaced)) });
        self.reclaim();
        version
    }

    /// A new version of the same value. When it is in force, every reader has seen what was changed elsewhere before
    /// the call, and has ended the turn in which it may have used what was removed.
    pub fn barrier(&mut self) -> Version {
        self.version += 1;
        self.shared.version.store(self.version, Ordering::Release);
        fence(Ordering::SeqCst);
        Version(self.version)
    }

    /// Whether every reader is offline or has begun a turn with at least `version`. Once true, no reader can go back
    /// behind `version`; a later look may yet say no for as long as a reader is between offline and its turn.
    pub fn is_in_force(&self, version: Version) -> bool {
        self.marks.iter().all(|mark| mark.load(Ordering::Acquire) >= version.0)
    }

    /// Waits until `version` is in force: spins, then yields, then sleeps 50 µs between looks. There is no limit: a
    /// reader that neither turns nor goes offline makes it wait for ever, and so does one on the calling thread.
    pub fn wait_in_force(&self, version: Version) {
        let backoff = Backoff::new();
        while !self.is_in_force(version) {
            if backoff.is_completed() {
                thread::sleep(NAP);
            } else {
                backoff.snooze();
            }
        }
    }

    /// Frees the retired values that no reader can see, forgets the readers that are gone, and returns how many values
    /// it freed. It may leave some for the next call while a reader is between offline and its turn.
    pub fn reclaim(&mut self) -> usize {
        let mut in_force = u64::MAX;
        self.marks.retain(|mark| {
            let mark = mark.load(Ordering::Acquire);
            in_force = in_force.min(mark);
            mark != GONE
        });
        // SAFETY: as in `publish`; the values themselves are dropped below, when this borrow has ended.
        let freed: Vec<_> = self.shared.retired.with_mut(|retired| unsafe {
            let count = (*retired).partition_point(|(replaced_by, _)| replaced_by.0 <= in_force);
            (*retired).drain(..count).collect()
        });
        for &(_, value) in &freed {
            // SAFETY: it came out of a box in `new` or `publish` and out of the list above, which held it once; the
            // version that replaced it is in force, so no reader holds it or can still find it.
            drop(unsafe { Box::from_raw(value) });
        }
        freed.len()
    }

    /// How many replaced values wait for readers.
    pub fn retiring(&self) -> usize {
        // SAFETY: `retired` changes only under `&mut` of this publisher.
        self.shared.retired.with(|retired| unsafe { (*retired).len() })
    }

    /// The newest version.
    pub fn version(&self) -> Version {
        Version(self.version)
    }

    /// The newest value.
    pub fn current(&self) -> &T {
        // SAFETY: only `publish` retires it, which asks for `&mut self`.
        unsafe { &*self.shared.current.load(Ordering::Relaxed) }
    }
}

impl<T> fmt::Debug for Publisher<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (readers, retiring) = (self.marks.len(), self.retiring());
        out.debug_struct("Publisher")
            .field("version", &self.version)
            .field("readers", &readers)
            .field("retiring", &retiring)
            .finish()
    }
}

/// One worker's sight of the value.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    mark: Arc<Mark>,
    /// The version its mark says, or OFFLINE.
    version: u64,
    /// What `turn` returned last; null while offline.
    held: *const T,
}

impl<T> Reader<T> {
    /// Begins a turn: says that the value of the turn before is no longer used, and returns the newest.
    #[inline]
    pub fn turn(&mut self) -> &T {
        let version = self.shared.version.load(Ordering::Acquire);
        if version != self.version {
            self.renew(version);
        }
        // SAFETY: `renew` has set `held` since the reader was last offline, and the mark keeps it from being freed
        // until the next call of `turn` or `offline`, which ends the borrow.
        unsafe { &*self.held }
    }

    /// What the turn under way returned; none while offline. For a reader that goes from thread to thread within a turn.
    #[inline]
    pub fn held(&self) -> Option<&T> {
        // SAFETY: as in `turn`; it is null while the reader is offline.
        unsafe { self.held.as_ref() }
    }

    /// Says that this reader uses nothing until its next turn; call it before anything that may block.
    #[inline]
    pub fn offline(&mut self) {
        self.held = ptr::null();
        self.version = OFFLINE;
        self.mark.store(OFFLINE, Ordering::Release);
    }

    #[cold]
    fn renew(&mut self, mut version: u64) {
        if self.version == OFFLINE {
            self.mark.store(ARRIVING, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            version = self.shared.version.load(Ordering::Acquire);
        }
        self.held = self.shared.current.load(Ordering::Acquire);
        self.version = version;
        self.mark.store(version, Ordering::Release);
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        self.mark.store(GONE, Ordering::Release);
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = Some(self.version).filter(|&version| version != OFFLINE);
        out.debug_struct("Reader").field("version", &version).finish()
    }
}

// SAFETY: it is a share of `Shared` (see there) and a pointer to a value that is only read through it.
unsafe impl<T: Send + Sync> Send for Reader<T> {}

/// The version a reader's turn has, or one of the constants that compare as they should: [`ARRIVING`] is before every
/// version, [`OFFLINE`] and [`GONE`] are after.
type Mark = CachePadded<AtomicU64>;

struct Shared<T> {
    current: AtomicPtr<T>,
    version: AtomicU64,
    /// Replaced values, each with the version that replaced it, oldest first; the publisher's to use. It lies here and
    /// not in the publisher because readers may outlive that.
    retired: UnsafeCell<Vec<(Version, *mut T)>>,
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: publisher and readers are gone; the list and `current` hold each value once, out of a box.
        self.retired.with_mut(|retired| unsafe {
            for (_, value) in (*retired).drain(..) {
                drop(Box::from_raw(value));
            }
            drop(Box::from_raw(self.current.load(Ordering::Relaxed)));
        });
    }
}

// SAFETY: readers in other threads see `&T` (`T: Sync`), and whoever goes last drops values that others have made
// (`T: Send`). `retired` is the publisher's alone and the rest is atomic.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

/// The pause between two looks of [`Publisher::wait_in_force`], once spinning and yielding have not helped.
const NAP: Duration = Duration::from_micros(50);

const ARRIVING: u64 = 0;
const FIRST: u64 = 1;
const OFFLINE: u64 = u64::MAX - 1;
const GONE: u64 = u64::MAX;

#[cfg(all(test, not(loom)))]
mod tests;

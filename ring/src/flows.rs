//! A table of flows that threads share: what one has noted, any other finds.
//!
//! The rule: nobody waits. A table is a fixed number of buckets of eight entries, an entry is one cache line, and the
//! bucket of a key is all that is ever looked at. An entry's **sequence** is odd while its key is being replaced:
//!
//! ```text
//!             compare and swap                       store
//!   even, old key --------------> odd, key changing --------> even + 2, new key
//! ```
//!
//! - [`FlowTable::find`] looks once at each entry of the bucket and makes the one it finds young again.
//! - [`FlowTable::insert`] does that too where the flow is there already. Otherwise it claims the entry unused for
//!   longest, those apart that somebody else is writing. When another was faster it looks again, [`WAYS`] times at most;
//!   a flow that then still has no place (eight others wrote in its bucket meanwhile) counts as evicted.
//!
//! The orderings, by cases:
//!
//! - *A writer claims an entry* (Acquire): it sees whole what the last writer left there, so it knows whether it evicts.
//!   It claims with the sequence under which it saw the key and its age; if the key was replaced since, it fails.
//! - *A reader finds an even sequence* (Acquire, with the Release that stored it): it sees that write's key, or newer words.
//! - *A reader sees a word of a later write*: it was stored after a Release fence after the claim, and read before an
//!   Acquire fence, so the second look at the sequence finds the claim. Thus no key is made up of two.
//! - *The sequence is odd, or has changed*: no match, and no second try. The key that was there has gone, for nobody
//!   claims the entry of a live flow to write the same key (the claim's sequence is older than the look that did not find
//!   it); the key that comes is owed to nobody before `insert` returns.
//! - *A reader that comes after `insert`* (something that happened in between says so: a packet that departed and was
//!   answered): it sees that sequence or a later one. If it is that one, the reader finds the key, whole and for good; if
//!   later, the flow was evicted.
//! - *The last use* is relaxed, for it says nothing of the key. Made young while its entry goes to another flow, it is
//!   that flow's age by then, which is as young. Chosen as the oldest just before somebody used it, a flow goes
//!   nevertheless; that is an eviction and counted, as the age is read again after the claim.
//!
//! Two threads that insert the same flow at once may leave two entries; only the first is used again, and the other ages.
//! The threads' clocks may differ by a second or so, which moves the end of an idle entry by as much.

use crate::sync::{AtomicU64, Ordering, fence};
use crossbeam::utils::CachePadded;
use std::{array, fmt};

/// A bounded set of flows, each a key of `WORDS` words, that forgets what is not used.
pub struct FlowTable<const WORDS: usize> {
    buckets: Box<[[Entry<WORDS>; WAYS]]>,
    evicted: CachePadded<AtomicU64>,
}

impl<const WORDS: usize> FlowTable<WORDS> {
    /// A table of `entries` entries, rounded up to whole buckets; a cache line each, all written at once.
    pub fn new(entries: usize) -> Self {
        let buckets = entries.div_ceil(WAYS).max(1);
        let empty = || array::from_fn(|_| Entry::default());
        Self { buckets: (0..buckets).map(|_| empty()).collect(), evicted: CachePadded::new(AtomicU64::new(0)) }
    }

    /// Whether `key` was inserted and has not been idle for too long since; this is a use.
    #[inline]
    pub fn find(&self, key: &[u64; WORDS], now_seconds: u32) -> bool {
        self.bucket(key).iter().any(|entry| entry.use_for(key, now_seconds))
    }

    /// Inserts `key`, to be found until it was idle for more than `idle_seconds_max`; or uses it, where it is there.
    pub fn insert(&self, key: &[u64; WORDS], idle_seconds_max: u32, now_seconds: u32) {
        for _ in 0..WAYS {
            let mut oldest: Option<(u64, u64, &Entry<WORDS>)> = None;
            for entry in self.bucket(key) {
                // Before the look at the key: so the claim fails where the same key came since.
                let sequence = entry.sequence.load(Ordering::Acquire);
                if entry.use_for(key, now_seconds) {
                    return;
                }
                let used = entry.used.load(Ordering::Relaxed);
                if !is_odd(sequence) && oldest.is_none_or(|(least, ..)| used < least) {
                    oldest = Some((used, sequence, entry));
                }
            }
            let Some((_, sequence, entry)) = oldest else { continue };
            if entry.claim(sequence) {
                self.evicted.fetch_add(u64::from(entry.is_live(now_seconds)), Ordering::Relaxed);
                return entry.write(sequence, key, [now_seconds, idle_seconds_max]);
            }
        }
        self.evicted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the flows that are not idle for too long, by a look at every entry.
    pub fn live(&self, now_seconds: u32) -> usize {
        self.buckets.as_flattened().iter().filter(|entry| entry.is_live(now_seconds)).count()
    }

    /// As many flows as there is room for.
    pub fn limit(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// How many live flows had to go for newer ones, or found no place at all.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    #[inline]
    fn bucket(&self, key: &[u64; WORDS]) -> &[Entry<WORDS>; WAYS] {
        // Each word by its own odd number: the products do not wait for each other, and their high bits tell.
        let (hash, _) = key.iter().fold((0u64, MIX), |(hash, factor), word| {
            (hash.wrapping_add(word.wrapping_mul(factor)), factor.wrapping_mul(MIX))
        });
        &self.buckets[((u128::from(hash) * self.buckets.len() as u128) >> u64::BITS) as usize]
    }
}

impl<const WORDS: usize> fmt::Debug for FlowTable<WORDS> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("FlowTable").field("limit", &self.limit()).field("evicted", &self.evicted()).finish()
    }
}

#[repr(align(64))]
struct Entry<const WORDS: usize> {
    /// Odd while the key is being replaced.
    sequence: AtomicU64,
    /// Second of the last use, plus one; 0 is an entry that never held a key.
    used: AtomicU64,
    idle_seconds_max: AtomicU64,
    key: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Entry<WORDS> {
    /// True when it holds `key`, live; that is a use.
    #[inline]
    fn use_for(&self, key: &[u64; WORDS], now_seconds: u32) -> bool {
        let sequence = self.sequence.load(Ordering::Acquire);
        if self.key.iter().zip(key).any(|(word, wanted)| word.load(Ordering::Relaxed) != *wanted) {
            return false;
        }
        let live = self.is_live(now_seconds);
        fence(Ordering::Acquire);
        if !live || is_odd(sequence) || self.sequence.load(Ordering::Relaxed) != sequence {
            return false;
        }
        // Within a second nothing is written, so threads that use the same flow do not take its line from each other.
        let now = u64::from(now_seconds) + 1;
        if self.used.load(Ordering::Relaxed) != now {
            self.used.store(now, Ordering::Relaxed);
        }
        true
    }

    #[inline]
    fn is_live(&self, now_seconds: u32) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        let idle_seconds = (u64::from(now_seconds) + 1).saturating_sub(used);
        used != 0 && idle_seconds <= self.idle_seconds_max.load(Ordering::Relaxed)
    }

    /// Makes it the caller's to write; false when it is no longer what it was at `sequence`.
    fn claim(&self, sequence: u64) -> bool {
        self.sequence.compare_exchange(sequence, sequence + 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Replaces the key and gives up the claim made with `sequence`.
    fn write(&self, sequence: u64, key: &[u64; WORDS], [now_seconds, idle_seconds_max]: [u32; 2]) {
        fence(Ordering::Release);
        self.used.store(u64::from(now_seconds) + 1, Ordering::Relaxed);
        self.idle_seconds_max.store(u64::from(idle_seconds_max), Ordering::Relaxed);
        for (word, &value) in self.key.iter().zip(key) {
            word.store(value, Ordering::Relaxed);
        }
        self.sequence.store(sequence + 2, Ordering::Release);
    }
}

impl<const WORDS: usize> Default for Entry<WORDS> {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self { sequence: zero(), used: zero(), idle_seconds_max: zero(), key: array::from_fn(|_| zero()) }
    }
}

fn is_odd(sequence: u64) -> bool {
    sequence & 1 != 0
}

/// Entries of a bucket; loom's models, which try every order of every access, have fewer.
pub const WAYS: usize = if cfg!(loom) { 2 } else { 8 };
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

// Five words are addresses of 128 bits, ports and protocol.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Entry<5>>() == 64);

#[cfg(all(test, not(loom)))]
mod tests;

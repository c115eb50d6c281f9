//! A bounded cache from flows to numbers, that may forget but never lies.
//!
//! The rule: a flow is in one bucket or nowhere, and a bucket is one cache line. It holds three flows, which are compared all at
//! once without a branch, so a hit costs the same wherever it lies:
//!
//! ```text
//!  bytes  0       16      32      48     52     56     60
//!         | key 0 | key 1 | key 2 | val 0| val 1| val 2| marks |
//!                                                       /       \
//!                          bits  31                6 5    3 2    0
//!                                | epoch of bucket | used  | live |
//! ```
//!
//! **Ageing.** The owner calls [`FlowCache::next_epoch`] now and then: a flow that was used neither in this epoch nor in the one
//! before is gone. Nothing is scanned for that. A bucket notes the epoch in which it was touched last, and when it is touched in
//! a later one, it catches up: after one epoch what was not used in it dies, after more all of it does.
//! [`FlowCache::forget_all`], for new rules, is two epochs at once. Epochs have 26 bits; when they run out, once in two years of
//! seconds, everything is cleared, so that an old bucket never passes for a new one.
//!
//! **Eviction.** A new flow takes the place of a dead one, else of one not used in this epoch, else of any in turn. The last two
//! are counted. Whoever sends many flows can evict those of others; they cost a miss each, and the seed of the hash keeps
//! outsiders from aiming.
//!
//! **Keys** are 16 bytes, compared whole: an IPv4 flow fits as it is ([`FlowKey::v4`]), an IPv6 flow when its addresses are
//! written as numbers of what they stand for. A hash of a longer key will not do, because flows whose hashes are equal would get
//! each other's verdict.

use std::{fmt, hint::black_box, net::Ipv4Addr};

/// Numbers of recent flows. One owner; no part of it is shared.
pub struct FlowCache {
    buckets: Box<[Bucket]>,
    seed: [u64; 2],
    epoch: u32,
    /// Counts evictions, and says whose turn it is.
    evicted: u64,
}

impl FlowCache {
    /// A cache with room for `flows` or more: as many buckets as a power of two. `seed` is best taken from the system's random numbers.
    pub fn new(flows: usize, seed: [u64; 2]) -> Self {
        let buckets = flows.div_ceil(WAYS).next_power_of_two();
        Self { buckets: vec![Bucket::EMPTY; buckets].into(), seed, epoch: 0, evicted: 0 }
    }

    /// What was inserted last for this flow, if it is not forgotten; this is a use.
    #[inline]
    pub fn lookup(&mut self, key: FlowKey) -> Option<u32> {
        let place = self.place(key);
        self.buckets[place].lookup(key, self.epoch)
    }

    /// Looks up many flows, each as [`FlowCache::lookup`] does; their buckets come from memory all at once.
    ///
    /// # Panics
    /// If there are not as many `values` as `keys`.
    pub fn lookup_burst(&mut self, keys: &[FlowKey], values: &mut [Option<u32>]) {
        assert_eq!(keys.len(), values.len(), "each flow has its value");
        let mut places = [0; AT_ONCE];
        for (keys, values) in keys.chunks(AT_ONCE).zip(values.chunks_mut(AT_ONCE)) {
            let mut touched = 0;
            for (place, &key) in places.iter_mut().zip(keys) {
                *place = self.place(key);
                touched |= self.buckets[*place].words[MARKS];
            }
            black_box(touched);
            for ((&place, &key), value) in places.iter().zip(keys).zip(values) {
                *value = self.buckets[place].lookup(key, self.epoch);
            }
        }
    }

    /// Remembers `value` for this flow, instead of what was there; this is a use.
    pub fn insert(&mut self, key: FlowKey, value: u32) {
        let place = self.place(key);
        let evicts = self.buckets[place].insert(key, value, [self.epoch, (self.evicted % WAYS as u64) as u32]);
        self.evicted += u64::from(evicts);
    }

    /// Begins an epoch: what was used neither in the last nor from now on will be gone at the end of this one.
    pub fn next_epoch(&mut self) {
        self.advance(1);
    }

    /// Forgets every flow, at once and without touching any.
    pub fn forget_all(&mut self) {
        self.advance(2);
    }

    /// As many flows as there is room for.
    pub fn limit(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// How many flows that were not yet to be forgotten had to go for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    #[inline]
    fn place(&self, key: FlowKey) -> usize {
        let [low, high] = [0, 1].map(|word| u128::from(key.0[word] ^ self.seed[word]));
        let product = low * high;
        (product as u64 ^ (product >> 64) as u64) as usize & (self.buckets.len() - 1)
    }

    fn advance(&mut self, epochs: u32) {
        self.epoch += epochs;
        if self.epoch > EPOCH_MAX {
            self.buckets.fill(Bucket::EMPTY);
            self.epoch = 0;
        }
    }
}

impl fmt::Debug for FlowCache {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("FlowCache").field("limit", &self.limit()).field("evicted", &self.evicted).finish()
    }
}

/// What a flow is told by, 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey(pub [u64; 2]);

impl FlowKey {
    /// The flow from one address and port to another, of a protocol; in the other direction it is another flow. `scope` sets
    /// flows of equal addresses apart, such as those of different ports of a switch.
    pub fn v4(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), protocol: u8, scope: u16) -> Self {
        let addresses = u64::from(from.0.to_bits()) << 32 | u64::from(to.0.to_bits());
        let ports = u64::from(from.1) << 16 | u64::from(to.1);
        Self([addresses, u64::from(scope) << 40 | u64::from(protocol) << 32 | ports])
    }
}

/// Three flows, or places for them.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Bucket {
    keys: [FlowKey; WAYS],
    /// Three values, and the marks: from the lowest bit, which ways are live, which of them were used in the bucket's epoch, and
    /// that epoch. One array, so that a value is taken by its number without a check.
    words: [u32; WAYS + 1],
}

impl Bucket {
    const EMPTY: Self = Self { keys: [FlowKey([0; 2]); WAYS], words: [0; WAYS + 1] };

    #[inline(always)]
    fn lookup(&mut self, key: FlowKey, epoch: u32) -> Option<u32> {
        self.catch_up(epoch);
        let way = self.way_of(key);
        // Written once in an epoch, so that lines which are only read stay clean.
        if way & !(self.words[MARKS] >> USED_SHIFT) != 0 {
            self.words[MARKS] |= way << USED_SHIFT;
        }
        // The ways' bits are 1, 2 and 4, which makes 0, 1 and 2.
        let value = self.words[(way >> 1) as usize & MARKS];
        (way != 0).then_some(value)
    }

    /// True where a flow had to go that was not yet to be forgotten; where all are equal it is that of the way given with the epoch.
    fn insert(&mut self, key: FlowKey, value: u32, [epoch, turn]: [u32; 2]) -> bool {
        self.catch_up(epoch);
        let (live, used) = (self.words[MARKS] & ALL, self.words[MARKS] >> USED_SHIFT & ALL);
        let lowest = |ways: u32| (ways != 0).then(|| ways & ways.wrapping_neg());
        let same = lowest(self.way_of(key)).or(lowest(!live & ALL));
        let way = same.or(lowest(!used & ALL)).unwrap_or(1 << turn);
        let at = way.trailing_zeros() as usize;
        (self.keys[at], self.words[at]) = (key, value);
        self.words[MARKS] |= way | way << USED_SHIFT;
        same.is_none()
    }

    /// The bit of the live way that holds `key`.
    #[inline(always)]
    fn way_of(&self, key: FlowKey) -> u32 {
        let is_same = |at: usize| {
            let [low, high] = self.keys[at].0;
            u32::from((low ^ key.0[0]) | (high ^ key.0[1]) == 0) << at
        };
        (is_same(0) | is_same(1) | is_same(2)) & self.words[MARKS] & ALL
    }

    /// Lets die what was not used in the epochs that went by since the last touch.
    #[inline(always)]
    fn catch_up(&mut self, epoch: u32) {
        if self.words[MARKS] >> EPOCH_SHIFT != epoch {
            self.age(epoch);
        }
    }

    #[cold]
    fn age(&mut self, epoch: u32) {
        let marks = self.words[MARKS];
        let went_by = epoch - (marks >> EPOCH_SHIFT);
        let survivors = if went_by == 1 { marks & marks >> USED_SHIFT & ALL } else { 0 };
        self.words[MARKS] = epoch << EPOCH_SHIFT | survivors;
    }
}

/// Flows of a bucket.
const WAYS: usize = 3;
/// Which of a bucket's words has the marks.
const MARKS: usize = WAYS;
/// A bit for each way.
const ALL: u32 = 0b111;
const USED_SHIFT: u32 = 3;
const EPOCH_SHIFT: u32 = 6;
const EPOCH_MAX: u32 = u32::MAX >> EPOCH_SHIFT;
/// So many buckets are asked of memory before the first is needed.
const AT_ONCE: usize = 32;

const _: () = assert!(size_of::<Bucket>() == 64);

#[cfg(test)]
mod tests;

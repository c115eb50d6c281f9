//! Flows that rules allowed, for all workers: a reply is told from a packet of its own accord, whoever carries it.
//!
//! The rule: nobody waits, and no flow that was answered goes for one that was not. An entry is one cache line, a bucket eight of
//! them, and the bucket of a flow is all that is ever looked at. A flow has one key for both its directions; a bit says which end
//! began it.
//!
//! ```text
//!  sequence   odd while the key is being replaced
//!  life       63  last use, s  32 | 31  tag  21 | 20  kind  13 | 12  code  5 | 4  began | 3  phase  0
//!  ruling     63  generation   44 | 43  tag  32 | 31  0: allowed, else who denies                  0
//!  key        5 words
//! ```
//!
//! - [`Connections::find`] looks once at each entry of the bucket and copies what it finds.
//! - [`Connections::insert`] takes the place of an entry that has expired, else of the unanswered one unused for longest. If all
//!   are answered and live, the flow finds no place, which is counted: its packets are then judged one by one.
//! - [`Connections::renew`] and [`Connections::rule`] change one word by compare and swap, from the value that was found. Both words
//!   have a **tag**, some bits of the sequence, so that a word found before its entry went to another flow is not taken for that
//!   flow's; a change that fails is left to the next packet.
//!
//! The orderings are those of [`ring::FlowTable`]: a claim acquires and a release fence follows it; a reader acquires the sequence, reads,
//! and looks at it again behind an acquire fence. What is read between two equal even looks was written together, except that `life`
//! and `ruling` may be newer than the key, and of the same flow as their tags say.
//!
//! Two workers that insert one flow at once may leave two entries; the first is used and the other expires.

use std::array;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crossbeam::utils::CachePadded;

mod phase;

pub use phase::{Phase, Step};

/// The table that all workers share.
pub struct Connections {
    buckets: Box<[[Entry; WAYS]]>,
    seed: u64,
    full: CachePadded<AtomicU64>,
    displaced: CachePadded<AtomicU64>,
}

/// A flow's key, the same for both directions.
pub type Key = [u64; 5];

/// What is known of a flow, as it was when it was found.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    place: usize,
    life: u64,
    ruling: u64,
}

/// What a new flow is noted with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// True when the end that comes first in the key began it.
    pub by_first: bool,
    /// How it begins.
    pub phase: Phase,
    /// Type and code of the ICMP message that began it.
    pub icmp: (u8, u8),
    /// The ruling that let it pass, and the generation of rules under which that was.
    pub ruling: Ruling,
}

/// What was decided about a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// Of the rules that decided; only the lowest 20 bits are kept.
    pub generation: u32,
    /// 0 where it is allowed, or a number of the caller's.
    pub value: u32,
}

impl Connections {
    /// A table of `entries` entries, rounded up to whole buckets; a cache line each, all written at once.
    pub fn new(entries: usize) -> Self {
        let empty = || array::from_fn(|_| Entry::default());
        let buckets = (0..entries.div_ceil(WAYS).max(1)).map(|_| empty()).collect();
        let zero = || CachePadded::new(AtomicU64::new(0));
        Connections { buckets, seed: RandomState::new().hash_one(0), full: zero(), displaced: zero() }
    }

    /// The live flow of that key.
    #[inline]
    pub fn find(&self, key: &Key, now_seconds: u32) -> Option<Connection> {
        let first = self.bucket(key);
        let entries = &self.buckets[first];
        entries.iter().enumerate().find_map(|(way, entry)| entry.look(key, (first * WAYS + way, now_seconds)))
    }

    /// Notes a flow that [`Connections::find`] did not find; false when there is no place for it.
    pub fn insert(&self, key: &Key, start: &Start, now_seconds: u32) -> bool {
        for _ in 0..WAYS {
            let entries = &self.buckets[self.bucket(key)];
            let candidates = entries.iter().filter_map(|entry| {
                let sequence = entry.sequence.load(Ordering::Acquire);
                let life = entry.life.load(Ordering::Relaxed);
                // What was never used and what has expired comes first, then who was not answered, oldest first.
                let rank = match Phase::of(life) {
                    _ if !is_live(life, now_seconds) => 0,
                    phase if !phase.is_answered() => 1 + (life >> SECONDS_SHIFT),
                    _ => return None,
                };
                (sequence & 1 == 0).then_some((rank, sequence, entry))
            });
            let Some((rank, sequence, entry)) = candidates.min_by_key(|&(rank, ..)| rank) else { break };
            if entry.claim(sequence) {
                self.displaced.fetch_add(u64::from(rank != 0), Ordering::Relaxed);
                entry.write(sequence, key, start, now_seconds);
                return true;
            }
        }
        self.full.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Notes a use in `phase`, and which end began the flow. Within a second nothing is written unless the phase is another.
    #[inline]
    pub fn renew(&self, found: &mut Connection, (by_first, phase): (bool, Phase), now_seconds: u32) {
        let kept = found.life & !(SECONDS_MASK | BY_FIRST_MASK | PHASE_MASK);
        let life = kept | seconds(now_seconds) | u64::from(by_first) << BY_FIRST_SHIFT | phase as u64;
        if life != found.life
            && self.entry(found).life.compare_exchange(found.life, life, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            found.life = life;
        }
    }

    /// Notes another ruling, unless what was found has one of newer rules.
    pub fn rule(&self, found: &mut Connection, ruling: Ruling) {
        let newer = ruling.generation.wrapping_sub(found.ruling().generation) & GENERATION_MAX <= GENERATION_MAX / 2;
        let word = ruling.word(found.ruling >> TAG_SHIFT_RULING & TAG_MAX);
        if newer
            && self
                .entry(found)
                .ruling
                .compare_exchange(found.ruling, word, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            found.ruling = word;
        }
    }

    /// Counts the flows in use, by a look at every entry.
    pub fn in_use(&self, now_seconds: u32) -> usize {
        let live = |entry: &&Entry| is_live(entry.life.load(Ordering::Relaxed), now_seconds);
        self.buckets.as_flattened().iter().filter(live).count()
    }

    /// As many flows as there is room for.
    pub fn limit(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// Flows that found no place.
    pub fn full(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }

    /// Unanswered flows that had to go for newer ones.
    pub fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    fn entry(&self, found: &Connection) -> &Entry {
        &self.buckets[found.place / WAYS][found.place % WAYS]
    }

    /// Nobody outside can aim at a bucket: the seed is random, and each step multiplies to 128 bits and folds.
    #[inline]
    fn bucket(&self, key: &Key) -> usize {
        let mix = |hash: u64, word: u64| {
            let product = u128::from(hash ^ word ^ MIX) * u128::from(self.seed ^ word.rotate_left(32) | 1);
            product as u64 ^ (product >> u64::BITS) as u64
        };
        let hash = key.iter().fold(self.seed, |hash, &word| mix(hash, word));
        ((u128::from(hash) * self.buckets.len() as u128) >> u64::BITS) as usize
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Connections").field("limit", &self.limit()).field("full", &self.full()).finish()
    }
}

impl Connection {
    /// How far the flow is.
    pub fn phase(&self) -> Phase {
        Phase::of(self.life)
    }

    /// True when the end that comes first in the key began it.
    pub fn by_first(&self) -> bool {
        self.life >> BY_FIRST_SHIFT & 1 == 1
    }

    /// Type and code of the ICMP message that began it.
    pub fn icmp(&self) -> (u8, u8) {
        ((self.life >> KIND_SHIFT) as u8, (self.life >> CODE_SHIFT) as u8)
    }

    /// What was decided last.
    pub fn ruling(&self) -> Ruling {
        Ruling { generation: (self.ruling >> GENERATION_SHIFT) as u32, value: self.ruling as u32 }
    }
}

impl Ruling {
    /// True where it was made under these rules.
    pub fn is_of(&self, generation: u32) -> bool {
        (self.generation ^ generation) & GENERATION_MAX == 0
    }

    fn word(self, tag: u64) -> u64 {
        u64::from(self.generation & GENERATION_MAX) << GENERATION_SHIFT
            | tag << TAG_SHIFT_RULING
            | u64::from(self.value)
    }
}

#[repr(align(64))]
#[derive(Default)]
struct Entry {
    sequence: AtomicU64,
    life: AtomicU64,
    ruling: AtomicU64,
    key: [AtomicU64; 5],
}

impl Entry {
    #[inline]
    fn look(&self, key: &Key, (place, now_seconds): (usize, u32)) -> Option<Connection> {
        let sequence = self.sequence.load(Ordering::Acquire);
        if self.key.iter().zip(key).any(|(word, wanted)| word.load(Ordering::Relaxed) != *wanted) {
            return None;
        }
        let (life, ruling) = (self.life.load(Ordering::Relaxed), self.ruling.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let is_whole = sequence & 1 == 0 && self.sequence.load(Ordering::Relaxed) == sequence;
        (is_whole && is_live(life, now_seconds)).then_some(Connection { place, life, ruling })
    }

    fn claim(&self, sequence: u64) -> bool {
        self.sequence.compare_exchange(sequence, sequence + 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Replaces all of it and gives up the claim made with `sequence`.
    fn write(&self, sequence: u64, key: &Key, start: &Start, now_seconds: u32) {
        fence(Ordering::Release);
        let tag = (sequence / 2 + 1) & TAG_MAX;
        let (kind, code) = start.icmp;
        let life = seconds(now_seconds)
            | tag << TAG_SHIFT_LIFE
            | u64::from(kind) << KIND_SHIFT
            | u64::from(code) << CODE_SHIFT
            | u64::from(start.by_first) << BY_FIRST_SHIFT
            | start.phase as u64;
        self.life.store(life, Ordering::Relaxed);
        self.ruling.store(start.ruling.word(tag), Ordering::Relaxed);
        for (word, &value) in self.key.iter().zip(key) {
            word.store(value, Ordering::Relaxed);
        }
        self.sequence.store(sequence + 2, Ordering::Release);
    }
}

fn seconds(now_seconds: u32) -> u64 {
    u64::from(now_seconds) << SECONDS_SHIFT
}

/// The threads' clocks may differ by a second: a use in the future is one of now.
fn is_live(life: u64, now_seconds: u32) -> bool {
    let idle_seconds = now_seconds.saturating_sub((life >> SECONDS_SHIFT) as u32);
    idle_seconds <= Phase::of(life).idle_seconds_max() && Phase::of(life) != Phase::Empty
}

/// Entries of a switch with policies: 64 MiB.
pub const CONNECTIONS: usize = 1 << 20;
/// Entries of a bucket.
const WAYS: usize = 8;

const PHASE_MASK: u64 = 0xf;
const BY_FIRST_SHIFT: u32 = 4;
const BY_FIRST_MASK: u64 = 1 << BY_FIRST_SHIFT;
const CODE_SHIFT: u32 = 5;
const KIND_SHIFT: u32 = 13;
const TAG_SHIFT_LIFE: u32 = 21;
const TAG_MAX: u64 = 0x7ff;
const SECONDS_SHIFT: u32 = 32;
const SECONDS_MASK: u64 = !0 << SECONDS_SHIFT;
const TAG_SHIFT_RULING: u32 = 32;
const GENERATION_SHIFT: u32 = 44;
const GENERATION_MAX: u32 = (1 << 20) - 1;
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

const _: () = assert!(size_of::<Entry>() == 64);

#[cfg(test)]
mod tests;

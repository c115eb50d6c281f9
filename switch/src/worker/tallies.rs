//! What a worker counts of itself.
//!
//! The worker alone writes, with plain stores ([`ring::Counters`]); anybody may read. Counting a turn costs a handful of
//! them. Only one turn in [`TIMED_EVERY`] of those that carry something is timed, since a clock read before and after
//! every turn would cost more than all else here.
//!
//! A histogram's buckets hold what is at most 1, 2, 4, ... of its unit; the last holds the rest:
//!
//! ```text
//!   cells   0     1     2     3     4           n-1
//!           sum   <=1   2     3-4   5-8   ...   more
//! ```

use std::time::Instant;

use ring::Counters;

use crate::lane::Lane;

/// What is counted, or marked, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tally {
    /// Turns that carried something.
    Turns,
    /// Times it went to sleep.
    Sleeps,
    /// Banks it gave to another worker.
    Handovers,
    /// 1 while it sleeps.
    Asleep,
    /// Turns begun, with something to carry or without.
    Begun,
    /// Turns ended. A turn that one thread begins may be another's to end: nothing is under way while, of all threads
    /// together, as many have ended as begun.
    Ended,
    /// Most small slots that ever were in use.
    SmallSlotsHighest,
    /// Most big slots that ever were in use.
    BigSlotsHighest,
    /// Most letters with punted frames that ever were under way.
    PuntsHighest,
    /// Packets that traces wanted.
    Traced,
    /// Those of them whose record found no room.
    TracesMissed,
}

/// A worker's counters, marks and histograms.
#[derive(Debug, Default)]
pub struct Tallies {
    counts: Counters<{ Tally::TracesMissed as usize + 1 }>,
    /// Packets received in a turn that carried something.
    pub bursts: Histogram<{ 2 + BURST_BOUNDS }>,
    /// Duration of timed turns: buckets by microseconds, the sum in nanoseconds.
    pub turn_times: Histogram<{ 2 + TURN_TIME_BOUNDS }>,
}

impl Tallies {
    /// Adds `n`; by the worker only.
    #[inline]
    pub fn add(&self, what: Tally, n: u64) {
        self.counts.add(what as usize, n);
    }

    /// Sets a mark; by the worker only.
    #[inline]
    pub fn set(&self, what: Tally, value: u64) {
        self.counts.set(what as usize, value);
    }

    /// Sets a mark that is not yet as high; by the worker only.
    #[inline]
    pub fn raise(&self, what: Tally, value: u64) {
        self.set(what, self.get(what).max(value));
    }

    /// Takes over what was counted and marked in the worker's lane.
    #[inline]
    pub fn take_over(&self, lane: &Lane) {
        self.set(Tally::PuntsHighest, lane.punts_highest() as u64);
        self.set(Tally::Traced, lane.tracer.matched);
        self.set(Tally::TracesMissed, lane.tracer.missed);
    }

    /// The count or mark now.
    #[inline]
    pub fn get(&self, what: Tally) -> u64 {
        self.counts.get(what as usize)
    }

    /// When the turn now beginning began, if it is one of those that are timed.
    #[inline]
    pub fn begin_turn(&self) -> Option<Instant> {
        self.get(Tally::Turns).is_multiple_of(TIMED_EVERY).then(Instant::now)
    }

    /// Counts what a turn that carried something received: packets, or answers alone.
    #[inline]
    pub fn count_burst(&self, received: usize) {
        self.bursts.record(received as u64, received as u64);
    }

    /// Counts a turn that carried something; `began` is from [`Tallies::begin_turn`].
    #[inline]
    pub fn end_turn(&self, began: Option<Instant>) {
        self.add(Tally::Turns, 1);
        if let Some(began) = began {
            let nanoseconds = began.elapsed().as_nanos() as u64;
            self.turn_times.record(nanoseconds.div_ceil(1000), nanoseconds);
        }
    }
}

/// Counts by powers of two, and a sum.
#[derive(Debug, Default)]
pub struct Histogram<const CELLS: usize>(Counters<CELLS>);

impl<const CELLS: usize> Histogram<CELLS> {
    /// Counts `value` and adds `amount`, the same in whatever unit the sum has; by one thread only.
    #[inline]
    pub fn record(&self, value: u64, amount: u64) {
        let bucket = (u64::BITS - value.saturating_sub(1).leading_zeros()) as usize;
        self.0.add(0, amount);
        self.0.add((1 + bucket).min(CELLS - 1), 1);
    }

    /// What was recorded up to now.
    pub fn read(&self) -> Recorded {
        Recorded { sum: self.0.get(0), counts: (1..CELLS).map(|cell| self.0.get(cell)).collect() }
    }
}

/// A histogram as it was at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recorded {
    /// The sum of what was recorded.
    pub sum: u64,
    /// How many values lay in each bucket.
    pub counts: Vec<u64>,
}

impl Recorded {
    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Each bucket's greatest value, none for the last, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let last = self.counts.len() - 1;
        self.counts.iter().enumerate().map(move |(at, &count)| ((at < last).then(|| 1 << at), count))
    }

    /// The bound that at least `percent` of the values do not exceed; none without values, or beyond the last bound.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let wanted = (self.count() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let reaching = self.buckets().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        reaching.and_then(|(bound, _)| bound)
    }
}

/// One turn in so many is timed.
pub const TIMED_EVERY: u64 = 16;
/// 1 to 256 packets, a full burst.
const BURST_BOUNDS: usize = packet::BURST.ilog2() as usize + 1;
/// 1 to 16384 microseconds.
const TURN_TIME_BOUNDS: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::<6>::default();
        for (value, bucket) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4), (u64::MAX, 4)] {
            let before = histogram.read().counts[bucket];
            histogram.record(value, 1);
            assert_eq!(histogram.read().counts[bucket], before + 1, "{value}");
        }
        let recorded = histogram.read();
        assert_eq!((recorded.count(), recorded.sum), (9, 9));
        let bounds: Vec<_> = recorded.buckets().map(|(bound, _)| bound).collect();
        assert_eq!(bounds, [Some(1), Some(2), Some(4), Some(8), None]);
    }

    #[test]
    fn a_percentile_is_the_bound_that_so_many_do_not_exceed() {
        let histogram = Histogram::<6>::default();
        assert_eq!(histogram.read().percentile(50), None);
        (0..98).for_each(|_| histogram.record(1, 1));
        histogram.record(8, 8);
        histogram.record(100, 100);
        let recorded = histogram.read();
        assert_eq!([50, 98, 99, 100].map(|percent| recorded.percentile(percent)), [Some(1), Some(1), Some(8), None]);
    }

    #[test]
    fn a_full_burst_lies_within_the_bounds_and_one_turn_in_sixteen_is_timed() {
        let tallies = Tallies::default();
        for _ in 0..TIMED_EVERY * 3 {
            let began = tallies.begin_turn();
            tallies.count_burst(packet::BURST);
            tallies.end_turn(began);
        }
        let bursts = tallies.bursts.read();
        assert_eq!(bursts.percentile(100), Some(packet::BURST as u64));
        assert_eq!(bursts.sum, TIMED_EVERY * 3 * packet::BURST as u64);
        assert_eq!((tallies.turn_times.read().count(), tallies.get(Tally::Turns)), (3, TIMED_EVERY * 3));
    }
}

//! How much each port may make the switch say.
//!
//! A token bucket kept as one instant: when it will be full again. A token taken moves that instant one interval on; a
//! bucket that would be full later than `burst` intervals from now is empty. (The same as the virtual scheduling form
//! of the generic cell rate algorithm, ITU-T I.371.)
//!
//! Limit: one row per port number ever seen, 65 536 rows of 32 bytes at most.

use std::time::Duration;

use super::Outcome;

/// A sustained rate and how many may come at once after a silence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Answers per second; 0 means none at all.
    pub per_second: u32,
    /// Answers at once.
    pub burst: u32,
}

/// What is counted apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// An answer to a question put to the switch.
    Reply,
    /// An ICMP error about a packet.
    Error,
}

/// The buckets of every port, one per [`Purpose`].
#[derive(Debug, Default)]
pub(super) struct Buckets {
    full_at: Vec<[Duration; 2]>,
}

impl Buckets {
    /// Takes one token of a port's bucket.
    pub(super) fn take(&mut self, (port, purpose): (u16, Purpose), rate: Rate, now: Duration) -> Result<(), Outcome> {
        let row = usize::from(port);
        if self.full_at.len() <= row {
            self.full_at.resize(row + 1, [Duration::ZERO; 2]);
        }
        let full_at = &mut self.full_at[row][purpose as usize];
        let interval = Duration::from_secs(1).checked_div(rate.per_second).ok_or(Outcome::RateLimited)?;
        let next = now.max(*full_at).saturating_add(interval);
        if next.saturating_sub(now) > interval.saturating_mul(rate.burst) {
            return Err(Outcome::RateLimited);
        }
        *full_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 100, burst: 50 };

    fn taken(buckets: &mut Buckets, port: u16, now: Duration) -> usize {
        (0..1000).filter(|_| buckets.take((port, Purpose::Error), RATE, now).is_ok()).count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut buckets = Buckets::default();
        let start = Duration::from_secs(7);
        assert_eq!(taken(&mut buckets, 3, start), 50);
        assert_eq!(taken(&mut buckets, 3, start + Duration::from_millis(9)), 0);
        assert_eq!(taken(&mut buckets, 3, start + Duration::from_millis(100)), 10);
        assert_eq!(taken(&mut buckets, 3, start + Duration::from_secs(60)), 50);
    }

    #[test]
    fn ports_and_purposes_are_counted_apart() {
        let mut buckets = Buckets::default();
        assert_eq!(taken(&mut buckets, 0, Duration::ZERO), 50);
        assert_eq!(taken(&mut buckets, u16::MAX, Duration::ZERO), 50);
        assert_eq!(buckets.take((0, Purpose::Reply), RATE, Duration::ZERO), Ok(()));
    }

    #[test]
    fn a_rate_of_nothing_lets_nothing_pass() {
        let mut buckets = Buckets::default();
        for rate in [Rate { per_second: 0, burst: 9 }, Rate { per_second: 9, burst: 0 }] {
            assert_eq!(buckets.take((1, Purpose::Reply), rate, Duration::from_secs(9)), Err(Outcome::RateLimited));
        }
    }
}

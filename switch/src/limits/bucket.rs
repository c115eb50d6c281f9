//! A token bucket that may be in debt, shared by all workers.
//!
//! It is one number, the time at which the bucket will be full again. What goes is charged after it went, so a frame may be
//! longer than what was left; the next one then waits until the debt is paid. Over any time no more goes than its rate, one burst
//! and, for each worker, one frame.
//!
//! ```text
//!                 full at, at most           full at
//!                 to be out of debt             |
//!   ----+---------------+-----------------------+-------> time
//!      now      now + burst's time            in debt: until full_at - burst's time
//! ```
//!
//! The order of memory is not at stake: the number guards nothing but itself, so all accesses are relaxed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use control::RateLimit;

/// The bucket of one direction.
#[derive(Debug)]
pub struct Bucket {
    /// Bits a second.
    rate: u64,
    /// Time in which the burst is earned, in ticks.
    burst: u64,
    /// The tick 0.
    origin: Instant,
    /// In ticks.
    full_at: AtomicU64,
}

impl Bucket {
    /// A full bucket.
    pub fn new(limit: RateLimit, now: Instant) -> Bucket {
        let rate = limit.rate.get();
        // Runtimes that were told no burst say the most that 32 bits hold.
        let asked = limit.burst.filter(|&bits| bits < u64::from(u32::MAX));
        let burst = asked.map_or(0, |bits| ticks_of(bits, rate)).max(BURST_TICKS_MIN);
        Bucket { rate, burst, origin: now, full_at: AtomicU64::new(0) }
    }

    /// Bytes that may go now.
    ///
    /// # Errors
    /// When the debt will be paid.
    #[inline]
    pub fn credit(&self, now: Instant) -> Result<usize, Instant> {
        let (now_ticks, full_at) = (self.tick(now), self.full_at.load(Ordering::Relaxed));
        let debt_ends = full_at.saturating_sub(self.burst);
        if debt_ends > now_ticks {
            return Err(now + Duration::from_nanos((debt_ends - now_ticks).div_ceil(TICKS)));
        }
        let earned = now_ticks + self.burst - full_at.max(now_ticks);
        let bytes = u128::from(earned) * u128::from(self.rate) / u128::from(8 * TICKS_A_SECOND);
        Ok(bytes.try_into().unwrap_or(usize::MAX).max(1))
    }

    /// Takes so many bytes out.
    #[inline]
    pub fn charge(&self, bytes: usize, now: Instant) {
        let (now, cost) = (self.tick(now), ticks_of(8 * bytes as u64, self.rate));
        let charged = |full_at: u64| Some(full_at.max(now).saturating_add(cost));
        // It is given back only by a closure that says no.
        let _ = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged);
    }

    #[inline]
    fn tick(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_nanos() as u64 * TICKS
    }
}

/// Ticks in which `bits` are earned.
#[inline]
fn ticks_of(bits: u64, rate: u64) -> u64 {
    (u128::from(bits) * u128::from(TICKS_A_SECOND) / u128::from(rate)).try_into().unwrap_or(u64::MAX / 2)
}

/// Parts of a nanosecond: a short frame at a high rate costs few of those, and must not cost none. They last for years.
const TICKS: u64 = 64;
const TICKS_A_SECOND: u64 = TICKS * 1_000_000_000;
/// A burst is at least what is earned while a worker sleeps and wakes: 10 ms.
const BURST_TICKS_MIN: u64 = TICKS_A_SECOND / 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(rate: &str, burst: Option<u64>, now: Instant) -> Bucket {
        Bucket::new(RateLimit { rate: rate.parse().unwrap(), burst }, now)
    }

    /// Sends frames of a length as fast as the bucket lets, looking as often; what went in the time.
    fn pour(bucket: &Bucket, (start, span): (Instant, Duration), frame: usize, look: Duration) -> usize {
        let (mut now, mut sent) = (start, 0);
        while now < start + span {
            while bucket.credit(now).is_ok() {
                bucket.charge(frame, now);
                sent += frame;
            }
            now += look;
        }
        sent
    }

    #[test]
    fn over_time_its_rate_goes_whatever_the_frames_and_however_late_somebody_looks() {
        for (rate, bytes_a_second) in
            [("10M", 1.25e6), ("100M", 1.25e7), ("1G", 1.25e8), ("10G", 1.25e9), ("400G", 5e10)]
        {
            for (frame, look) in [(60, 100), (1500, 1000), (65_536, 50), (65_536, 9000)] {
                if bytes_a_second / frame as f64 > 1e7 {
                    continue;
                }
                let start = Instant::now();
                let bucket = bucket(rate, None, start);
                pour(&bucket, (start, Duration::from_secs(1)), frame, Duration::from_micros(look));
                let again = start + Duration::from_secs(1);
                let span = Duration::from_secs(4);
                let sent = pour(&bucket, (again, span), frame, Duration::from_micros(look)) as f64 / 4.0;
                let off = (sent / bytes_a_second - 1.0).abs();
                assert!(off < 0.02 + frame as f64 / bytes_a_second / 4.0, "{rate} {frame} {look}: {sent}");
            }
        }
    }

    #[test]
    fn after_a_pause_a_burst_goes_and_no_more() {
        let start = Instant::now();
        for (burst, bytes) in
            [(None, 12_500), (Some(1000), 12_500), (Some(800_000), 100_000), (Some(u32::MAX.into()), 12_500)]
        {
            let bucket = bucket("10M", burst, start);
            let later = start + Duration::from_secs(3600);
            assert_eq!(bucket.credit(later), Ok(bytes), "{burst:?}");
            bucket.charge(bytes + 1250, later);
            assert_eq!(bucket.credit(later), Err(later + Duration::from_millis(1)), "{burst:?}");
            assert!(bucket.credit(later + Duration::from_millis(1)).is_ok());
        }
    }

    #[test]
    fn what_cannot_be_paid_in_a_lifetime_does_not_overflow() {
        let start = Instant::now();
        let slow = bucket("1k", Some(u64::from(u32::MAX) - 1), start);
        (0..100).for_each(|_| slow.charge(1 << 40, start));
        assert!(slow.credit(start).is_err());
    }
}

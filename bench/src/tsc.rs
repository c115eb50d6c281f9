//! Reference cycles: what the processor's time stamp counter counts, at a fixed rate whatever the clock runs at.
//!
//! On x86-64 it is read by `rdtsc` between two fences, so that nothing that is measured moves across the reading; elsewhere
//! nanoseconds stand in for cycles. Source: Intel 64 and IA-32 manual, volume 2, RDTSC.

/// The counter, when all before it is done and before anything after it begins.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn now() -> u64 {
    use std::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: every x86-64 processor has both instructions, and Linux lets programs use the counter.
    unsafe {
        _mm_lfence();
        let cycles = _rdtsc();
        _mm_lfence();
        cycles
    }
}

/// The counter's stand-in.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub fn now() -> u64 {
    use std::sync::LazyLock;
    use std::time::Instant;
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed().as_nanos() as u64
}

/// What two readings with nothing between them are apart: to be taken off what lies between two readings.
pub fn overhead() -> u64 {
    let readings = (0..READINGS).map(|_| {
        let began = now();
        now() - began
    });
    readings.min().unwrap_or(0)
}

const READINGS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_goes_on() {
        let began = now();
        let overhead = overhead();
        assert!(now() - began > overhead);
    }
}

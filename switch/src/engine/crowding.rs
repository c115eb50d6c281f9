//! Whether pods compute on the worker's CPU: then polling there would take from them, and the worker had better sleep.
//!
//! The kernel tells nobody who else wants a CPU. It does tell how long each was idle (`/proc/stat`) and how long a thread
//! ran (`/proc/PID/task/TID/schedstat`). What is neither idle nor the worker nor the hypervisor's is others:
//!
//! ```text
//!   |--- the worker ---|--------------- others ---------------|- stolen -|   idle: nothing, so the CPU is crowded
//! ```
//!
//! Pods that only take and send packets beside a worker that polls keep the CPU busy too, so others must have had
//! [`OTHERS_MIN`] of it. Looked at five times a second while the worker has something to carry, and not at all otherwise.

use std::fs;
use std::time::{Duration, Instant};

use crate::thread::{OWN, WORKER_THREAD, thread_named};

/// A worker's CPU, watched.
pub(super) struct Crowding {
    cpu: usize,
    last: Option<Reading>,
    turns: u64,
}

/// Nanoseconds since the machine or the thread began.
#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    idle: u64,
    stolen: u64,
    own: u64,
}

impl Crowding {
    /// Watches `cpu`, to which the worker is bound.
    pub(super) fn new(cpu: usize) -> Self {
        Crowding { cpu, last: None, turns: 0 }
    }

    /// Whether the CPU was crowded since the last look; `None` while that is not known. `turns` counts those in which the
    /// worker had something to carry.
    pub(super) fn look(&mut self, now: Instant, turns: u64) -> Option<bool> {
        let last = self.last;
        if last.is_some_and(|last| now.saturating_duration_since(last.at) < LOOK_EVERY) {
            return None;
        }
        let carried = turns != self.turns;
        self.turns = turns;
        self.last = if carried { self.read(now) } else { None };
        if !carried {
            return Some(false);
        }
        let (last, this) = (last?, self.last?);
        let span = this.at.saturating_duration_since(last.at);
        (span <= 2 * LOOK_EVERY).then(|| is_crowded(span.as_nanos() as u64, last, this))
    }

    fn read(&self, at: Instant) -> Option<Reading> {
        let (idle, stolen) = idle_and_stolen(&fs::read_to_string("/proc/stat").ok()?, self.cpu)?;
        let own = thread_named(OWN, WORKER_THREAD)?.cpu_time?.as_nanos() as u64;
        Some(Reading { at, idle, stolen, own })
    }
}

fn is_crowded(span: u64, last: Reading, this: Reading) -> bool {
    let since = |field: fn(&Reading) -> u64| field(&this).saturating_sub(field(&last));
    let (idle, stolen, own) = (since(|one| one.idle), since(|one| one.stolen), since(|one| one.own));
    let others = span.saturating_sub(idle + stolen + own);
    idle * 100 <= span * IDLE_MAX && others * 100 >= span * OTHERS_MIN
}

/// Of one CPU's line, in nanoseconds: `cpu1 user nice system idle iowait irq softirq steal ...` (proc_stat(5)).
fn idle_and_stolen(stat: &str, cpu: usize) -> Option<(u64, u64)> {
    let name = format!("cpu{cpu}");
    let mut fields = stat.lines().map(str::split_ascii_whitespace).find_map(|mut fields| {
        let found = fields.next()? == name;
        found.then_some(fields)
    })?;
    let mut ticks = |skipped| fields.nth(skipped)?.parse::<u64>().ok();
    let (idle, waiting, stolen) = (ticks(3)?, ticks(0)?, ticks(2).unwrap_or(0));
    Some(((idle + waiting) * NANOSECONDS_PER_TICK, stolen * NANOSECONDS_PER_TICK))
}

const LOOK_EVERY: Duration = Duration::from_millis(190);
/// Hundredths of the time that a crowded CPU may be idle: idle time is told in steps of 10 ms.
const IDLE_MAX: u64 = 6;
/// Hundredths of the time that others have had of a crowded CPU.
const OTHERS_MIN: u64 = 40;
/// A hundredth of a second (`USER_HZ`), on every architecture this runs on.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_cpus_own_line_is_read() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 10 20 30 40 5 6 7 8 0 0\nintr 1 2 3\n";
        assert_eq!(idle_and_stolen(stat, 1), Some((450_000_000, 80_000_000)));
        assert_eq!(idle_and_stolen(stat, 2), None);
    }

    #[test]
    fn crowded_is_a_cpu_that_others_keep_from_idling() {
        let start = Instant::now();
        let reading = |idle, stolen, own| Reading { at: start, idle, stolen, own };
        let crowded = |idle, stolen, own| is_crowded(200, reading(1000, 1000, 1000), reading(idle, stolen, own));
        // A pod that computes, beside a worker that sleeps and one that polls.
        assert!(crowded(1000, 1000, 1010) && crowded(1010, 1000, 1100));
        // A worker that polls alone, and one that shares the CPU with pods that only answer.
        assert!(!crowded(1000, 1000, 1200) && !crowded(1000, 1000, 1140));
        // Idle for long, or away with the hypervisor.
        assert!(!crowded(1100, 1000, 1010) && !crowded(1000, 1150, 1020));
    }

    #[test]
    fn it_looks_seldom_and_not_at_all_while_nothing_is_carried() {
        let (stop, stopped) = mpsc::channel::<()>();
        // Ends with this test, however that ends.
        let named = thread::Builder::new().name(WORKER_THREAD.to_owned());
        let worker = named.spawn(move || stopped.recv()).unwrap();
        while thread_named(OWN, WORKER_THREAD).is_none() {
            // The name is the thread's own first act.
            thread::yield_now();
        }
        let mut crowding = Crowding::new(0);
        let start = Instant::now();
        assert_eq!(crowding.look(start, 1), None);
        assert_eq!(crowding.look(start + LOOK_EVERY / 2, 2), None);
        assert!(crowding.look(start + LOOK_EVERY, 2).is_some());
        assert_eq!(crowding.look(start + 2 * LOOK_EVERY, 2), Some(false));
        assert_eq!(crowding.look(start + 3 * LOOK_EVERY, 3), None);
        drop(stop);
        worker.join().unwrap().unwrap_err();
    }
}

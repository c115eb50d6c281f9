//! Whether pods compute on a worker's CPU: then polling there would take from them, and the worker had better sleep.
//!
//! The kernel tells nobody who else wants a CPU. It does tell how long each was idle (`/proc/stat`) and how long a thread
//! ran (`/proc/PID/task/TID/schedstat`). What is neither idle nor the worker nor the hypervisor's is others:
//!
//! ```text
//!   |--- the worker ---|--------------- others ---------------|- stolen -|   idle: nothing, so the CPU is crowded
//! ```
//!
//! Pods that only take and send packets beside a worker that polls keep the CPU busy too, so others must have had
//! [`OTHERS_MIN`] of it. Looked at five times a second while workers have something to carry, and not at all otherwise.

use std::fs;
use std::mem;
use std::time::{Duration, Instant};

use crate::thread::{OWN, thread_named, worker_thread};

/// The workers' CPUs, watched.
pub(super) struct Crowding {
    /// CPU and thread of each worker.
    watched: Vec<(u16, String)>,
    last: Option<(Instant, Vec<Reading>)>,
    turns: u64,
}

/// Nanoseconds since the machine or the thread began.
#[derive(Clone, Copy)]
struct Reading {
    idle: u64,
    stolen: u64,
    own: u64,
}

impl Crowding {
    /// Watches `cpus`, to which the workers are bound in this order.
    pub(super) fn new(cpus: &[u16]) -> Self {
        let watched = (0..).zip(cpus).map(|(number, &cpu)| (cpu, worker_thread(number))).collect();
        Crowding { watched, last: None, turns: 0 }
    }

    /// For each worker, what others had of its CPU since the last look; `None` while that is not known. `turns` counts
    /// those in which any had something to carry.
    pub(super) fn look(&mut self, now: Instant, turns: u64) -> Option<Vec<Others>> {
        if self.last.as_ref().is_some_and(|(at, _)| now.saturating_duration_since(*at) < LOOK_EVERY) {
            return None;
        }
        let carried = turns != self.turns;
        self.turns = turns;
        let this = if carried { self.read().map(|readings| (now, readings)) } else { None };
        let last = mem::replace(&mut self.last, this);
        if !carried {
            return Some(vec![Others::default(); self.watched.len()]);
        }
        let ((before, last), (_, this)) = (last?, self.last.as_ref()?);
        let span = now.saturating_duration_since(before);
        let others = |(last, this): (&Reading, &Reading)| Others::of(span.as_nanos() as u64, *last, *this);
        (span <= 2 * LOOK_EVERY).then(|| last.iter().zip(this).map(others).collect())
    }

    fn read(&self) -> Option<Vec<Reading>> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let read = |(cpu, thread): &(u16, String)| {
            let (idle, stolen) = idle_and_stolen(&stat, *cpu)?;
            let own = thread_named(OWN, thread)?.cpu_time?.as_nanos() as u64;
            Some(Reading { idle, stolen, own })
        };
        self.watched.iter().map(read).collect()
    }
}

/// What others than the worker had of a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Others {
    /// In hundredths; none while nothing is carried.
    pub(super) share: Option<u64>,
    /// They had much, and it never idled.
    pub(super) crowd: bool,
}

impl Others {
    fn of(span: u64, last: Reading, this: Reading) -> Others {
        let since = |field: fn(&Reading) -> u64| field(&this).saturating_sub(field(&last));
        let (idle, stolen, own) = (since(|one| one.idle), since(|one| one.stolen), since(|one| one.own));
        let share = span.saturating_sub(idle + stolen + own) * 100 / span.max(1);
        Others { share: Some(share), crowd: idle * 100 <= span * IDLE_MAX && share >= OTHERS_MIN }
    }
}

/// Of one CPU's line, in nanoseconds: `cpu1 user nice system idle iowait irq softirq steal ...` (proc_stat(5)).
fn idle_and_stolen(stat: &str, cpu: u16) -> Option<(u64, u64)> {
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
        let reading = |idle, stolen, own| Reading { idle, stolen, own };
        let crowded = |idle, stolen, own| Others::of(200, reading(1000, 1000, 1000), reading(idle, stolen, own)).crowd;
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
        let named = thread::Builder::new().name(worker_thread(0));
        let worker = named.spawn(move || stopped.recv()).unwrap();
        while thread_named(OWN, &worker_thread(0)).is_none() {
            // The name is the thread's own first act.
            thread::yield_now();
        }
        let mut crowding = Crowding::new(&[0]);
        let start = Instant::now();
        assert_eq!(crowding.look(start, 1), None);
        assert_eq!(crowding.look(start + LOOK_EVERY / 2, 2), None);
        assert!(crowding.look(start + LOOK_EVERY, 2).is_some());
        assert_eq!(crowding.look(start + 2 * LOOK_EVERY, 2), Some(vec![Others::default()]));
        assert_eq!(crowding.look(start + 3 * LOOK_EVERY, 3), None);
        drop(stop);
        worker.join().unwrap().unwrap_err();
    }
}

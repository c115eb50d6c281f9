//! Full turns run to their end, whoever they wake.
//!
//! Each frame written wakes the pod that reads it, and where pod and worker share a CPU the scheduler runs the pod at
//! once: one packet, and back. At full bursts half of the worker's time went into that. The kernel's own packet path does
//! not know the problem, since softirqs run before any thread; so a full turn does the same and runs at real-time
//! priority, and the pod then finds the whole burst in its socket. A spell of such turns is short, and between spells the
//! worker is an ordinary thread.
//!
//! A pod that computes gets the CPU between two turns and keeps it for a slice, so that turn by turn the worker would get
//! less than its fair share. When the worker was kept waiting that long, it stays an ordinary thread for a while:
//!
//! ```text
//!              full turn                   waited longer than GAP_MAX after one
//!   FAIR  ------------------>  REAL TIME  ------------------------------------->  FAIR for FAIR_SPELL
//! ```
//!
//! Without the permission (`CAP_SYS_NICE`) it is always an ordinary thread.

use std::time::{Duration, Instant};

use host::{Scheduling, set_scheduling};
use packet::Burst;

use crate::bank::work;

/// The worker's say in when it is scheduled.
#[derive(Default)]
pub struct Urgency {
    /// Since when it runs at real-time priority.
    urgent: Option<Instant>,
    refused: bool,
    ended: Option<Instant>,
    fair_until: Option<Instant>,
}

impl Urgency {
    /// Before a turn's burst is carried.
    #[inline]
    pub fn begin(&mut self, burst: &Burst) {
        if self.urgent.is_some() || self.refused {
            return;
        }
        if work(burst, 0) >= FULL_TURN {
            self.become_urgent(Instant::now());
        } else {
            self.ended = None;
        }
    }

    /// After it has departed.
    #[inline]
    pub fn end(&mut self, in_company: bool) {
        if let Some(since) = self.urgent {
            let now = Instant::now();
            let spell_max = if in_company { URGENT_IN_COMPANY } else { URGENT_MAX };
            if now.saturating_duration_since(since) >= spell_max {
                self.become_fair(now);
            }
        }
    }

    /// After a turn that found nothing.
    #[inline]
    pub fn rest(&mut self) {
        if self.urgent.is_some() {
            self.become_fair(Instant::now());
        }
        self.ended = None;
    }

    fn become_urgent(&mut self, now: Instant) {
        if self.ended.take().is_some_and(|ended| now.saturating_duration_since(ended) > GAP_MAX) {
            self.fair_until = Some(now + FAIR_SPELL);
        }
        if self.fair_until.is_some_and(|until| now < until) {
            return;
        }
        self.refused = set_scheduling(Scheduling::RealTime).is_err();
        self.urgent = (!self.refused).then_some(now);
    }

    fn become_fair(&mut self, now: Instant) {
        // Leaving needs no permission.
        let _ = set_scheduling(Scheduling::Fair);
        (self.urgent, self.ended) = (None, Some(now));
    }
}

/// Work that makes a turn full: less is not worth two system calls.
const FULL_TURN: u32 = 8;
/// A pod waits no longer than this, and a turn, for the worker.
const URGENT_MAX: Duration = Duration::from_micros(50);
/// The same while one of several ports floods: pods that take little at a time give the CPU back sooner, and who speaks
/// seldom waits for less.
const URGENT_IN_COMPANY: Duration = Duration::from_micros(20);
/// A pod that only takes its packets gives the CPU back sooner than this.
const GAP_MAX: Duration = Duration::from_micros(400);
/// How long the worker is an ordinary thread after it had to wait.
const FAIR_SPELL: Duration = Duration::from_millis(20);

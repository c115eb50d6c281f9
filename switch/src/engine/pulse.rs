//! Whether the worker is alive: it turns, or it sleeps. A worker that ended is noticed otherwise.

use std::time::{Duration, Instant};

use crate::server::Health;
use crate::worker::{Tallies, Tally};

/// What was last seen of the worker.
pub(super) struct Pulse {
    sequence: u64,
    felt: Instant,
}

impl Pulse {
    /// A worker that was alive at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Pulse { sequence: 0, felt: now }
    }

    /// Looks at the worker.
    pub(super) fn feel(&mut self, tallies: &Tallies, now: Instant) {
        let sequence = tallies.get(Tally::Sequence);
        if sequence != self.sequence || tallies.get(Tally::Asleep) == 1 {
            *self = Pulse { sequence, felt: now };
        }
    }

    /// The switch's health by what was felt up to `now`; `ending` when it no longer wants traffic.
    pub(super) fn health(&self, ending: bool, now: Instant) -> Health {
        let still = now.saturating_duration_since(self.felt);
        let stalled = still >= STALLED_AFTER;
        Health { stalled: stalled.then_some(still), forwarding: !stalled && !ending }
    }
}

/// A turn takes less than a millisecond; a worker that must wait for its CPU this long forwards nothing.
const STALLED_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_turns_or_sleeps_is_alive_and_one_that_does_neither_is_not() {
        let (tallies, start) = (Tallies::default(), Instant::now());
        let (mut pulse, mut now) = (Pulse::new(start), start);
        let mut look = |tallies: &Tallies| {
            now += STALLED_AFTER;
            pulse.feel(tallies, now);
            pulse.health(false, now)
        };
        tallies.add(Tally::Sequence, 2);
        assert_eq!(look(&tallies), Health { stalled: None, forwarding: true });
        assert_eq!(look(&tallies), Health { stalled: Some(STALLED_AFTER), forwarding: false });
        tallies.set(Tally::Asleep, 1);
        assert_eq!(look(&tallies), Health { stalled: None, forwarding: true });
        assert_eq!(look(&tallies), Health { stalled: None, forwarding: true });
        tallies.set(Tally::Asleep, 0);
        assert_eq!(look(&tallies).stalled, Some(STALLED_AFTER));
        tallies.add(Tally::Sequence, 1);
        assert_eq!(look(&tallies).stalled, None);
        assert_eq!(Pulse::new(now).health(true, now), Health { stalled: None, forwarding: false });
    }
}

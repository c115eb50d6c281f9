//! Whether every worker is alive: it turns, or it sleeps. A worker that ended is noticed otherwise.

use std::time::{Duration, Instant};

use crate::server::Health;
use crate::worker::{Tallies, Tally};

/// What was last seen of each worker.
pub(super) struct Pulse(Vec<Felt>);

#[derive(Clone, Copy)]
struct Felt {
    turns: u64,
    at: Instant,
}

impl Pulse {
    /// Workers that were alive at `now`.
    pub(super) fn new(workers: usize, now: Instant) -> Self {
        Pulse(vec![Felt { turns: 0, at: now }; workers])
    }

    /// Looks at the workers.
    pub(super) fn feel<'a>(&mut self, workers: impl Iterator<Item = &'a Tallies>, now: Instant) {
        for (felt, tallies) in self.0.iter_mut().zip(workers) {
            let turns = tallies.get(Tally::Begun) + tallies.get(Tally::Ended);
            if turns != felt.turns || tallies.get(Tally::Asleep) == 1 {
                *felt = Felt { turns, at: now };
            }
        }
    }

    /// The switch's health by what was felt up to `now`, which is that of the worker that stands still for longest;
    /// `ending` when it no longer wants traffic.
    pub(super) fn health(&self, ending: bool, now: Instant) -> Health {
        let still = self.0.iter().map(|felt| now.saturating_duration_since(felt.at)).max().unwrap_or_default();
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
        let sleeper = Tallies::default();
        sleeper.set(Tally::Asleep, 1);
        let (mut pulse, mut now) = (Pulse::new(2, start), start);
        let mut look = |tallies: &Tallies| {
            now += STALLED_AFTER;
            pulse.feel([tallies, &sleeper].into_iter(), now);
            pulse.health(false, now)
        };
        tallies.add(Tally::Begun, 1);
        tallies.add(Tally::Ended, 1);
        assert_eq!(look(&tallies), Health { stalled: None, forwarding: true });
        assert_eq!(look(&tallies), Health { stalled: Some(STALLED_AFTER), forwarding: false });
        tallies.set(Tally::Asleep, 1);
        assert_eq!(look(&tallies), Health { stalled: None, forwarding: true });
        assert_eq!(look(&tallies), Health { stalled: None, forwarding: true });
        tallies.set(Tally::Asleep, 0);
        assert_eq!(look(&tallies).stalled, Some(STALLED_AFTER));
        tallies.add(Tally::Begun, 1);
        assert_eq!(look(&tallies).stalled, None);
        assert_eq!(Pulse::new(1, now).health(true, now), Health { stalled: None, forwarding: false });
    }
}

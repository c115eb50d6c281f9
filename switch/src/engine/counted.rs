//! Everything counted at ports, at one moment.

use std::thread;

use crate::port::Counted;
use crate::worker::Tally;

use super::Engine;

/// The counts of one moment.
#[derive(Default)]
pub(super) struct Moment {
    /// Of the ports that are there, in order of their numbers.
    pub(super) ports: Vec<Counted>,
    /// Of all ports there ever were.
    pub(super) total: Counted,
}

impl Moment {
    /// The counts now. What left is read before what came, so that a sum taken while packets pass is never short of
    /// arrivals: packets that came and have not left are in flight.
    pub(super) fn now(engine: &Engine) -> Moment {
        let ports = || engine.tables.world().ports.iter().flatten();
        let mut moment = Moment::default();
        moment.ports.extend(ports().map(|port| port.counters.what_left()));
        moment.total += &engine.departed;
        for (counted, port) in moment.ports.iter_mut().zip(ports()) {
            port.counters.what_came(counted);
            moment.total += counted;
        }
        moment
    }

    /// The counts while no worker is in a turn, when nothing is in flight, and whether they balance. Only if they are
    /// never all caught between turns, packets that came and have not left count as in flight.
    pub(super) fn balanced(engine: &Engine) -> (Moment, bool) {
        let sum = |tally| engine.tables.workers.iter().map(|worker| worker.tallies.get(tally)).sum::<u64>();
        let between_turns = || {
            // Read first: a turn that begins meanwhile makes the two differ.
            let ended = sum(Tally::Ended);
            (sum(Tally::Begun) == ended).then_some(ended)
        };
        let (mut moment, mut caught) = (Moment::default(), false);
        for _ in 0..LOOKS {
            let before = between_turns();
            moment = Moment::now(engine);
            let between = before.is_some() && between_turns() == before;
            if between && moment.total.came() == moment.total.left() {
                return (moment, true);
            }
            caught |= between;
            thread::yield_now();
        }
        let conserved = !caught && moment.total.came() >= moment.total.left();
        (moment, conserved)
    }
}

/// Looks for a moment between turns before a sum is given as it is.
const LOOKS: usize = 200;

//! The stages on their threads: how each waits for the others.
//!
//! ```text
//!   ports --epoll--> receiving --bell--> deciding --bell--> departing <--bell-- answers of the slow path
//!                        ^                                      |
//!                        +----------------bell------------------+   of an empty batch, if it waits for one
//! ```
//!
//! A stage that has nothing to do polls for as long as it is told to, looks once more, and sleeps until somebody rings: its
//! predecessor with every batch, the control thread with answers. A ring that comes too early ends the next sleep at once
//! ([`Parker`]), so none is missed, and ringing for a thread that is awake costs no system call. Receiving sleeps on its bank,
//! as a worker does, unless all batches are under way.
//!
//! A stage that shares its CPU with another sleeps at once, whatever it is told: by polling it would keep the CPU from the very
//! thread it waits for.
//!
//! The end goes the way of the packets: Receiving stops when it is told to, and each other stage when its predecessor is gone
//! and what was left has been passed on.

use std::hint;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::sync::{Parker, Unparker};
use mio::{Events, Waker};
use ring::snapshot::Reader;

use crate::bank::{Bank, PORT_BUDGET};
use crate::crew::Crew;
use crate::lane::SlowEnds;
use crate::limits::Wake;
use crate::returns::Returns;
use crate::worker::{EVENTS, FRAMES_IN_COMPANY, Life, Tallies, Tally, Waiting, WorkerEnds};
use crate::world::World;

use super::{BATCH_SLOTS, Deciding, Departing, Receiving, pipeline};

/// What the stages' threads are called, in the order of the stages.
pub const STAGES: [&str; 3] = ["receiving", "deciding", "departing"];

/// The lives of a pipeline's stages until `stop` says so, and what the control thread keeps of each. They read worlds by
/// `reader` and share return entries; the waker is rung after punts.
///
/// # Errors
/// What the kernel says of the epoll that Receiving sleeps on.
pub fn stages(
    crew: &Crew,
    reader: impl FnMut() -> Reader<World>,
    (returns, slow_waker): (&Arc<Returns>, &Arc<Waker>),
    stop: impl Fn() -> bool + Send + 'static,
) -> io::Result<Vec<(Life, WorkerEnds)>> {
    let ((receiving, deciding, departing), [no_punts, nor_here, slow]) = connected(crew, reader, returns);
    let bank = Bank::new(0, crew.cpus[0])?;
    let (registry, at_bank, slow_waker) = (Some(bank.registry()?), bank.waker()?, Arc::clone(slow_waker));
    let ends = receiving.ends(no_punts);
    let without_batch = ends.wake;
    let wake: Wake = Arc::new(move || without_batch().and(at_bank.wake()));
    let ends = [WorkerEnds { registry, wake, ..ends }, deciding.ends(nor_here), departing.ends(slow)];
    let lives: [Life; 3] = [
        Box::new(move || receiving.run(bank, stop)),
        Box::new(move || deciding.run()),
        Box::new(move || departing.run(&slow_waker)),
    ];
    Ok(lives.into_iter().zip(ends).collect())
}

type Stages = (Stage<Receiving>, Stage<Deciding>, Stage<Departing>);

/// The stages of a pipeline, each with the bell of the next.
fn connected(crew: &Crew, reader: impl FnMut() -> Reader<World>, returns: &Arc<Returns>) -> (Stages, [SlowEnds; 3]) {
    let ((receiving, deciding, departing), slow) = pipeline(Arc::clone(returns), reader);
    let bells = STAGES.map(|_| Parker::new());
    let [to_receiving, to_deciding, to_departing] = bells.each_ref().map(|bell| bell.unparker().clone());
    let [first, second, third] = bells;
    let receiving = Stage::new(receiving, (first, to_deciding), (crew, 0));
    let deciding = Stage::new(deciding, (second, to_departing), (crew, 1));
    let departing = Stage::new(departing, (third, to_receiving), (crew, 2));
    ((receiving, deciding, departing), slow)
}

/// A stage and its thread's part.
struct Stage<S> {
    number: usize,
    stage: S,
    /// Behind the stage, so that who is told of the end finds it gone.
    next: Next,
    /// To sleep on.
    bell: Parker,
    waiting: Waiting,
    /// Since when it has had nothing to do.
    idle_since: Option<Instant>,
    tallies: Arc<Tallies>,
}

/// Wakes the stage that gets what this one passes on; at the end too.
struct Next(Unparker);

impl Drop for Next {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

impl<S> Stage<S> {
    fn new(stage: S, (bell, next): (Parker, Unparker), (crew, number): (&Crew, usize)) -> Stage<S> {
        let waiting = if crew.shares_cpu(number) { Waiting::Sleep } else { crew.waiting };
        let tallies = Arc::default();
        Stage { number, stage, next: Next(next), bell, waiting, idle_since: None, tallies }
    }

    fn ends(&self, slow: SlowEnds) -> WorkerEnds {
        let bell = self.bell.unparker().clone();
        WorkerEnds {
            thread: STAGES[self.number].to_owned(),
            slow,
            slots: BATCH_SLOTS,
            registry: None,
            wake: Arc::new(move || {
                bell.unpark();
                Ok(())
            }),
            tallies: Arc::clone(&self.tallies),
            standing: Arc::default(),
        }
    }

    /// Has the stage work, counts that, and wakes the next one if there was anything.
    #[inline]
    fn turn(&mut self, work: impl FnOnce(&mut S, &Tallies) -> bool) -> bool {
        let began = self.tallies.begin_turn();
        self.tallies.add(Tally::Begun, 1);
        let carried = work(&mut self.stage, &self.tallies);
        self.tallies.add(Tally::Ended, 1);
        if carried {
            self.tallies.end_turn(began);
            self.next.0.unpark();
            self.idle_since = None;
        }
        carried
    }

    /// With nothing to do: returns soon to look again, or sleeps until the stage `is_wanted`, but not beyond `until`.
    fn wait(&mut self, is_wanted: impl Fn(&S) -> bool, until: Option<Instant>) {
        if !self.may_sleep() {
            return hint::spin_loop();
        }
        self.tallies.add(Tally::Sleeps, 1);
        self.tallies.set(Tally::Asleep, 1);
        while !is_wanted(&self.stage) && until.is_none_or(|until| Instant::now() < until) {
            match until {
                None => self.bell.park(),
                Some(until) => self.bell.park_deadline(until),
            }
        }
        self.tallies.set(Tally::Asleep, 0);
    }

    fn may_sleep(&mut self) -> bool {
        match self.waiting {
            Waiting::Adaptive(spin_max) => self.idle_since.get_or_insert_with(Instant::now).elapsed() >= spin_max,
            Waiting::Spin => false,
            Waiting::Sleep => true,
        }
    }
}

impl Stage<Receiving> {
    fn run(mut self, mut bank: Bank, stop: impl Fn() -> bool) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while !stop() {
            if !self.stage.may_receive() {
                self.wait(|stage| stage.may_receive() || stop(), None);
                continue;
            }
            if !self.receive(&mut bank) && self.may_sleep() {
                self.sleep(&mut bank, &mut events)?;
            }
            if bank.active() == 0 || bank.wants_a_look() {
                bank.look(&mut events, Some(Duration::ZERO))?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, bank: &mut Bank) -> bool {
        self.turn(|stage, tallies| {
            // Departing ends it.
            tallies.add(Tally::Begun, 1);
            let received = stage.turn(|burst, world, lane| {
                let frames_max = if bank.active() > 1 { FRAMES_IN_COMPANY } else { PORT_BUDGET.frames };
                bank.receive(burst, (world, lane), frames_max);
                // There is one queue, so nobody who chooses among several waits to hear of departures.
                bank.forget_taken();
                if burst.len > 0 {
                    tallies.count_burst(burst.len);
                    let (small, big) = lane.slots.lowest_free();
                    tallies.raise(Tally::SmallSlotsHighest, (BATCH_SLOTS[0] - small) as u64);
                    tallies.raise(Tally::BigSlotsHighest, (BATCH_SLOTS[1] - big) as u64);
                }
            });
            tallies.add(Tally::Ended, u64::from(!received));
            received
        })
    }

    /// Watches all ports, goes offline and sleeps until one has a frame or it is woken.
    fn sleep(&mut self, bank: &mut Bank, events: &mut Events) -> io::Result<()> {
        let mut watched = false;
        self.stage.turn(|_, world, _| watched = bank.watch_all(world));
        self.stage.offline();
        self.tallies.add(Tally::Sleeps, 1);
        self.tallies.set(Tally::Asleep, 1);
        // A port that cannot be watched must go on being read.
        let until_next = || bank.next().map(|next| next.saturating_duration_since(Instant::now()));
        let patience = if watched { until_next() } else { Some(Duration::ZERO) };
        let slept = bank.look(events, patience);
        self.tallies.set(Tally::Asleep, 0);
        slept
    }
}

impl Stage<Deciding> {
    fn run(mut self) -> io::Result<()> {
        let started = Instant::now();
        while !self.stage.is_over() {
            let now_seconds = started.elapsed().as_secs() as u32;
            if !self.decide(now_seconds) {
                self.wait(Deciding::is_wanted, None);
            }
        }
        Ok(())
    }

    fn decide(&mut self, now_seconds: u32) -> bool {
        self.turn(|stage, _| stage.turn(now_seconds))
    }
}

impl Stage<Departing> {
    fn run(mut self, slow_waker: &Waker) -> io::Result<()> {
        while !self.stage.is_over() {
            if !self.depart() {
                let until = self.stage.lane().gates.next();
                self.wait(Departing::is_wanted, until);
                continue;
            }
            if self.stage.take_punted() {
                // A failed wake-up loses nothing: the slow path also looks by itself.
                let _ = slow_waker.wake();
            }
            self.tallies.take_over(self.stage.lane());
        }
        Ok(())
    }

    fn depart(&mut self) -> bool {
        self.turn(|stage, tallies| {
            let settled = stage.turn();
            // Receiving began it.
            tallies.add(Tally::Ended, settled.into());
            stage.open_gates();
            settled || stage.answer()
        })
    }
}

#[cfg(test)]
mod tests;

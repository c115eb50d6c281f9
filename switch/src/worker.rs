//! A worker: one thread that serves ports, turn by turn.
//!
//! A turn takes the newest world, receives a burst from the ports that are ready, carries it along the path and departs
//! it. Ports become ready by an edge-triggered event and stay so until a receive found them drained, so idle ports cost
//! nothing. With nothing ready the worker polls for a while, then goes offline and sleeps:
//!
//! ```text
//!            ready ports                        nothing for spin_max
//!   TURN  <-------------  POLL (events, no wait)  ------------->  SLEEP (offline)
//!     |                     ^                                        |
//!     +---------------------+----------------------------------------+  event, or woken
//! ```
//!
//! Fairness: a port gives at most [`PORT_BUDGET`] per turn, and the ready ports take turns at being first.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use packet::Burst;
use ring::Counters;
use ring::snapshot::Reader;

use crate::lane::{Lane, SlowEnds};
use crate::path;
use crate::port::{Budget, Received};
use crate::world::World;

/// How a worker waits for frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// Poll for this long after the last frame, then sleep.
    Adaptive(Duration),
    /// Never sleep: for rigs with cores to spare.
    Spin,
    /// Sleep at once.
    Sleep,
}

/// A worker's own counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tally {
    /// Turns that carried something.
    Turns,
    /// Times it went to sleep.
    Sleeps,
    /// Odd while a turn is under way: reads between equal even values are consistent.
    Sequence,
    /// Return entries that had to go for newer ones.
    ReturnsEvicted,
    /// Fewest small slots that ever were free.
    SmallSlotsLowest,
    /// Fewest big slots that ever were free.
    BigSlotsLowest,
}

/// A worker's counters, shared with whoever shows them.
pub type Tallies = Arc<Counters<6>>;

/// The thread's state. [`Worker::run`] is its life.
pub struct Worker {
    lane: Lane,
    burst: Box<Burst>,
    world: Reader<World>,
    poll: Poll,
    ready: VecDeque<u16>,
    is_ready: Vec<bool>,
    waiting: Waiting,
    started: Instant,
    tallies: Tallies,
    slow_waker: Arc<Waker>,
}

/// What the control thread keeps of a worker.
pub struct WorkerEnds {
    /// The slow path's mailboxes.
    pub slow: SlowEnds,
    /// To register descriptors under their port's number.
    pub registry: mio::Registry,
    /// Wakes the worker.
    pub waker: Waker,
    /// Its counters.
    pub tallies: Tallies,
}

impl Worker {
    /// A worker that reads `world`, and what the control thread keeps of it. `slow_waker` is rung after punts.
    pub fn new(world: Reader<World>, waiting: Waiting, slow_waker: Arc<Waker>) -> io::Result<(Worker, WorkerEnds)> {
        let poll = Poll::new()?;
        let (lane, slow) = Lane::new();
        let tallies = Tallies::default();
        let ends = WorkerEnds {
            slow,
            registry: poll.registry().try_clone()?,
            waker: Waker::new(poll.registry(), WAKE)?,
            tallies: Arc::clone(&tallies),
        };
        let worker = Worker {
            lane,
            burst: Burst::new(),
            world,
            poll,
            ready: VecDeque::with_capacity(PORTS_MAX),
            is_ready: vec![false; PORTS_MAX],
            waiting,
            started: Instant::now(),
            tallies,
            slow_waker,
        };
        Ok((worker, ends))
    }

    /// Serves ports until `stop` says so; it is asked between turns and after every sleep.
    pub fn run(&mut self, stop: impl Fn() -> bool) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut last_work = Instant::now();
        let mut turns_since_poll = 0;
        while !stop() {
            if self.ready.is_empty() || turns_since_poll >= TURNS_PER_POLL {
                self.take_events(&mut events, Some(Duration::ZERO))?;
                turns_since_poll = 0;
            }
            if !self.ready.is_empty() || self.lane.has_answers() {
                self.turn();
                turns_since_poll += 1;
                last_work = Instant::now();
                self.lane.now_seconds = (last_work - self.started).as_secs() as u32;
            } else if self.may_sleep(last_work) {
                self.tallies.add(Tally::Sleeps as usize, 1);
                self.world.offline();
                self.take_events(&mut events, None)?;
            } else {
                self.world.turn();
                std::hint::spin_loop();
            }
        }
        self.world.offline();
        Ok(())
    }

    /// One turn over the ready ports.
    pub fn turn(&mut self) {
        let world = self.world.turn();
        self.tallies.add(Tally::Sequence as usize, 1);
        let (burst, lane) = (&mut *self.burst, &mut self.lane);
        for _ in 0..self.ready.len() {
            let Some(number) = self.ready.pop_front() else { break };
            let received = match world.port(number) {
                Some(port) => port.receive(burst, &mut lane.slots, &mut lane.spare, PORT_BUDGET),
                None => Received::Drained,
            };
            match received {
                Received::More => self.ready.push_back(number),
                Received::Drained => self.is_ready[usize::from(number)] = false,
            }
        }
        path::carry(burst, world, lane);
        self.tallies.add(Tally::Sequence as usize, 1);
        self.tallies.add(Tally::Turns as usize, 1);
        self.report();
    }

    /// Marks a port ready, as its event would; for ports without a descriptor.
    pub fn set_ready(&mut self, number: u16) {
        let ready = &mut self.is_ready[usize::from(number)];
        if !*ready {
            *ready = true;
            self.ready.push_back(number);
        }
    }

    fn report(&mut self) {
        if self.lane.take_punted() {
            // A failed wake-up loses nothing: the slow path also looks by itself.
            let _ = self.slow_waker.wake();
        }
        let (small, big) = self.lane.slots.lowest_free();
        for (tally, value) in [
            (Tally::SmallSlotsLowest, small as u64),
            (Tally::BigSlotsLowest, big as u64),
            (Tally::ReturnsEvicted, self.lane.returns.evicted),
        ] {
            let now = self.tallies.get(tally as usize);
            self.tallies.add(tally as usize, value.wrapping_sub(now));
        }
    }

    fn may_sleep(&self, last_work: Instant) -> bool {
        match self.waiting {
            Waiting::Adaptive(spin_max) => last_work.elapsed() >= spin_max,
            Waiting::Spin => false,
            Waiting::Sleep => true,
        }
    }

    fn take_events(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        for event in events.iter() {
            if let Token(number @ ..PORTS_MAX) = event.token() {
                self.set_ready(number as u16);
            }
        }
        Ok(())
    }
}

/// Port numbers are below this.
pub const PORTS_MAX: usize = 4096;

/// What a port may give per turn.
pub const PORT_BUDGET: Budget = Budget { frames: 64, bytes: 256 * 1024 };
const TURNS_PER_POLL: u32 = 8;
const EVENTS: usize = 256;
const WAKE: Token = Token(PORTS_MAX);

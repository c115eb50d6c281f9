//! A worker: one thread that serves ports, turn by turn.
//!
//! A turn takes the newest world, receives a burst from the active ports, carries it along the path and departs it. A port
//! is *watched* by epoll until its first frame; then it is *active* and read every turn, and soon no longer watched, so
//! that who sends to it need not ring a bell that nobody waits for. After `EMPTY_TURNS_MAX` turns without a frame, or
//! before the worker sleeps, it is watched again. So idle ports cost nothing, and busy ones no wake-ups:
//!
//! ```text
//!              event                            a frame in two turns
//!   WATCHED ----------> ACTIVE, still watched ----------------------> ACTIVE
//!      ^                     |                                          |
//!      +---------------------+------------------------------------------+   many empty turns, or the worker sleeps
//! ```
//!
//! With nothing to carry the worker polls for a while, then goes offline and sleeps. Watching is edge-triggered, and
//! beginning to watch tells at once of a frame that is there already, so none is missed in between.
//!
//! Fairness: a port gives at most `PORT_BUDGET` per turn, and less where others are active, so that who speaks seldom waits
//! for a short turn only; the active ports take turns at being first. For the same reason events are asked for after so much
//! work at the latest, also while ports keep the worker busy.

mod tallies;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use packet::Burst;
use ring::Counter;
use ring::snapshot::Reader;

use crate::lane::{BIG_SLOTS, Lane, SMALL_SLOTS, SlowEnds};
use crate::path;
use crate::port::{Budget, Port, Received};
use crate::returns::{RETURNS, Returns};
use crate::urgency::Urgency;
use crate::world::World;

pub use self::tallies::{Recorded, TIMED_EVERY, Tallies, Tally};

/// How a worker waits for frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// Poll for this long after the last frame, then sleep; sleep at once on a CPU that pods compute on.
    Adaptive(Duration),
    /// Never sleep: for rigs with cores to spare.
    Spin,
    /// Sleep at once.
    Sleep,
}

/// The thread's state. [`Worker::run`] is its life.
pub struct Worker {
    lane: Lane,
    burst: Box<Burst>,
    world: Reader<World>,
    poll: Poll,
    /// Numbers of the active ports, in the order they are served.
    active: VecDeque<u16>,
    /// By port number.
    attention: Vec<Attention>,
    waiting: Waiting,
    urgency: Urgency,
    /// Work done since events were asked for.
    unlooked: u32,
    started: Instant,
    tallies: Arc<Tallies>,
    crowded: Arc<Counter>,
    slow_waker: Arc<Waker>,
}

/// How a port is looked after.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Attention {
    active: bool,
    /// Frames were found in this many turns since it became active; counted to two.
    fruitful: u8,
    /// Turns without a frame since the last one with.
    empty: u8,
    /// Not watched; a port begins its life watched.
    unwatched: bool,
}

/// What the control thread keeps of a worker.
pub struct WorkerEnds {
    /// The slow path's mailboxes.
    pub slow: SlowEnds,
    /// The table of return entries.
    pub returns: Arc<Returns>,
    /// To watch descriptors under their port's number.
    pub registry: Registry,
    /// Wakes the worker.
    pub waker: Waker,
    /// Its counters.
    pub tallies: Arc<Tallies>,
    /// Tells it whether pods compute on its CPU: 1 or 0.
    pub crowded: Arc<Counter>,
}

impl Worker {
    /// A worker that reads `world`, and what the control thread keeps of it. `slow_waker` is rung after punts.
    pub fn new(world: Reader<World>, waiting: Waiting, slow_waker: Arc<Waker>) -> io::Result<(Worker, WorkerEnds)> {
        let poll = Poll::new()?;
        let returns = Arc::new(Returns::new(RETURNS));
        let (lane, slow) = Lane::new(Arc::clone(&returns));
        let (tallies, crowded) = (Arc::new(Tallies::default()), Arc::new(Counter::default()));
        let ends = WorkerEnds {
            slow,
            returns,
            registry: poll.registry().try_clone()?,
            waker: Waker::new(poll.registry(), WAKE)?,
            tallies: Arc::clone(&tallies),
            crowded: Arc::clone(&crowded),
        };
        let worker = Worker {
            lane,
            burst: Burst::new(),
            world,
            poll,
            active: VecDeque::with_capacity(PORTS_MAX),
            attention: vec![Attention::default(); PORTS_MAX],
            waiting,
            urgency: Urgency::default(),
            unlooked: 0,
            started: Instant::now(),
            tallies,
            crowded,
            slow_waker,
        };
        Ok((worker, ends))
    }

    /// Serves ports until `stop` says so; it is asked between turns and after every sleep.
    pub fn run(&mut self, stop: impl Fn() -> bool) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut idle_since = None;
        while !stop() {
            if self.turn() {
                idle_since = None;
            } else if self.may_sleep(*idle_since.get_or_insert_with(Instant::now)) {
                self.sleep(&mut events)?;
                idle_since = None;
            }
            if self.unlooked >= WORK_PER_LOOK || self.active.is_empty() {
                self.take_events(&mut events, Some(Duration::ZERO))?;
            }
        }
        self.world.offline();
        Ok(())
    }

    /// One turn over the active ports; true when it carried anything.
    pub fn turn(&mut self) -> bool {
        let world = self.world.turn();
        let (burst, lane) = (&mut *self.burst, &mut self.lane);
        let began = self.tallies.begin_turn();
        self.tallies.add(Tally::Sequence, 1);
        let in_company = self.active.len() > 1;
        let frames_max = if in_company { FRAMES_IN_COMPANY } else { PORT_BUDGET.frames };
        let (mut kept, mut unread) = (0, None);
        for _ in 0..self.active.len() {
            let Some(number) = self.active.pop_front() else { break };
            let attention = &mut self.attention[usize::from(number)];
            let Some(port) = world.port(number) else {
                *attention = Attention::default();
                continue;
            };
            let before = burst.len;
            let frames = frames_max.min(burst.room().saturating_sub(ROOM_FOR_ANSWERS));
            let budget = Budget { frames, ..PORT_BUDGET };
            let received = port.receive(burst, &mut lane.slots, &mut lane.spare, budget);
            if burst.len == before && received == Received::More {
                // The turn was full before it came to this port: frames may wait, and no event would tell of them.
                unread.get_or_insert(kept);
            } else if !attention.stays_active(burst.len > before, port, self.poll.registry()) {
                continue;
            }
            self.active.push_back(number);
            kept += 1;
        }
        // Whoever was not come to is first the next time.
        if !self.active.is_empty() {
            self.active.rotate_left(unread.unwrap_or(1) % self.active.len());
        }
        self.unlooked += WORK_PER_TURN + work(burst);
        let received = burst.len;
        let carries = received > 0 || lane.has_answers();
        if carries {
            self.urgency.begin(burst);
            path::carry(burst, world, lane);
            self.urgency.end(in_company && received >= FRAMES_IN_COMPANY);
        } else {
            self.urgency.rest();
        }
        self.tallies.add(Tally::Sequence, 1);
        if carries {
            self.tallies.end_turn(received, began);
            self.report();
        }
        carries
    }

    /// Makes a port active, as its event would; for ports without a descriptor.
    pub fn activate(&mut self, number: u16) {
        let attention = &mut self.attention[usize::from(number)];
        if !attention.active {
            attention.active = true;
            self.active.push_back(number);
        }
    }

    /// Watches all ports, goes offline and sleeps until one has a frame or the worker is woken.
    fn sleep(&mut self, events: &mut Events) -> io::Result<()> {
        let world = self.world.turn();
        let (attention, registry) = (&mut self.attention, self.poll.registry());
        self.active.retain(|&number| {
            let attention = &mut attention[usize::from(number)];
            let left_to_epoll = world.port(number).is_none_or(|port| attention.watch(port, registry));
            if left_to_epoll {
                *attention = Attention::default();
            }
            !left_to_epoll
        });
        self.tallies.add(Tally::Sleeps, 1);
        self.world.offline();
        self.tallies.set(Tally::Asleep, 1);
        // A port that cannot be watched must go on being read.
        let woken = self.take_events(events, if self.active.is_empty() { None } else { Some(Duration::ZERO) });
        self.tallies.set(Tally::Asleep, 0);
        woken
    }

    fn report(&mut self) {
        if self.lane.take_punted() {
            // A failed wake-up loses nothing: the slow path also looks by itself.
            let _ = self.slow_waker.wake();
            self.tallies.set(Tally::PuntsHighest, self.lane.punts_highest() as u64);
        }
        let (small, big) = self.lane.slots.lowest_free();
        self.tallies.set(Tally::SmallSlotsHighest, (SMALL_SLOTS - small) as u64);
        self.tallies.set(Tally::BigSlotsHighest, (BIG_SLOTS - big) as u64);
        self.tallies.set(Tally::Traced, self.lane.tracer.matched);
        self.tallies.set(Tally::TracesMissed, self.lane.tracer.missed);
    }

    fn may_sleep(&self, idle_since: Instant) -> bool {
        match self.waiting {
            Waiting::Adaptive(spin_max) => self.crowded.get() != 0 || idle_since.elapsed() >= spin_max,
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
                self.activate(number as u16);
            }
        }
        self.unlooked = 0;
        self.lane.now_seconds = self.started.elapsed().as_secs() as u32;
        Ok(())
    }
}

impl Attention {
    /// Takes note of a receive; false when the port is left to epoll.
    #[inline]
    fn stays_active(&mut self, found: bool, port: &Port, registry: &Registry) -> bool {
        if found {
            self.empty = 0;
            self.fruitful = self.fruitful.saturating_add(1);
            if self.fruitful >= FRUITFUL_TURNS && !self.unwatched {
                self.unwatch(port, registry);
            }
            return true;
        }
        self.empty += 1;
        if self.empty < EMPTY_TURNS_MAX {
            return true;
        }
        let left_to_epoll = self.watch(port, registry);
        if left_to_epoll {
            *self = Attention::default();
        }
        self.empty = 0;
        !left_to_epoll
    }

    fn unwatch(&mut self, port: &Port, registry: &Registry) {
        if let Some(descriptor) = port.descriptor() {
            // Failing, it stays watched, which costs its senders a little and nothing else.
            self.unwatched = registry.deregister(&mut SourceFd(&descriptor)).is_ok();
        }
    }

    /// Has the port watched; false when the kernel has no room for it among the watched.
    fn watch(&mut self, port: &Port, registry: &Registry) -> bool {
        if let (Some(descriptor), true) = (port.descriptor(), self.unwatched) {
            let token = Token(port.number.into());
            self.unwatched = match registry.register(&mut SourceFd(&descriptor), token, Interest::READABLE) {
                // Watched by whoever brought the port in.
                Err(error) => error.kind() != ErrorKind::AlreadyExists,
                Ok(()) => false,
            };
        }
        !self.unwatched
    }
}

/// Port numbers are below this.
pub const PORTS_MAX: usize = 4096;

/// What a burst costs, roughly: a frame, or 4 KiB of a long one, is 1.
#[inline]
pub(crate) fn work(burst: &Burst) -> u32 {
    burst.len as u32 + burst.length[..burst.len].iter().sum::<u32>() / 4096
}

/// What a port may give per turn.
const PORT_BUDGET: Budget = Budget { frames: 64, bytes: 256 * 1024 };
/// Rows of a burst that are kept for the slow path's answers.
pub(crate) const ROOM_FOR_ANSWERS: usize = 32;
/// Frames of one port and turn while others are active: some microseconds of work.
const FRAMES_IN_COMPANY: usize = 4;
/// Events are asked for after so much work while ports are active.
const WORK_PER_LOOK: u32 = 64;
/// What a turn costs whatever it carries.
const WORK_PER_TURN: u32 = 8;
/// Turns with frames after which an active port is no longer watched.
const FRUITFUL_TURNS: u8 = 2;
/// Turns without a frame after which a port is no longer active.
const EMPTY_TURNS_MAX: u8 = 64;
const EVENTS: usize = 256;
const WAKE: Token = Token(PORTS_MAX);

#[cfg(test)]
mod tests {
    use packet::{BURST, Mac, Offload};
    use ring::snapshot::Publisher;
    use route_table::RouteTable;

    use super::*;
    use crate::port::{Abilities, Count, Link, PortCounters, Wire};

    fn port(number: u16) -> (Port, Wire) {
        let (end, wire) = Wire::new(256);
        let port = Port {
            number,
            name: format!("port-{number}"),
            host: number == 0,
            mac: Mac([2, 0, 0, 0, 0, number as u8]),
            gateway: Mac::GATEWAY,
            mtu: 1500,
            sources_v4: Vec::new(),
            sources_v6: Vec::new(),
            strict_mac: false,
            abilities: Abilities::ALL,
            link: Link::Memory(end),
            counters: PortCounters::default(),
        };
        (port, wire)
    }

    #[test]
    fn under_a_flood_from_every_port_each_gets_its_share() {
        flood(7);
        // More than a turn has room for.
        flood(61);
    }

    fn flood(count: u16) {
        let (ports, wires): (Vec<Port>, Vec<Wire>) = (0..count).map(port).unzip();
        let mut ports = ports.into_iter();
        let mut world = World::new(ports.next().unwrap(), RouteTable::new().reader());
        ports.for_each(|port| world.add(port));
        let mut worlds = Publisher::new(world);
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (mut worker, _ends) = Worker::new(worlds.reader(), Waiting::Spin, waker).unwrap();
        (0..count).for_each(|number| worker.activate(number));
        let received = |number| worlds.current().port(number).unwrap().counters.get(Count::Received);
        let at_once = u64::from(count).div_ceil((BURST - ROOM_FOR_ANSWERS) as u64 / FRAMES_IN_COMPANY as u64);
        for turn in 1..=140 {
            for wire in &wires {
                while wire.send(&Offload::default().bytes(), &[0; 60]) {}
            }
            assert!(worker.turn());
            // Nobody waits for longer than it takes to come to everybody once.
            assert!(turn != at_once || (0..count).all(|number| received(number) > 0), "{turn}");
        }
        let counts: Vec<u64> = (0..count).map(received).collect();
        let fair = counts.iter().sum::<u64>() / u64::from(count);
        assert!(counts.iter().all(|&count| count > fair * 8 / 10), "{counts:?}");
    }
}

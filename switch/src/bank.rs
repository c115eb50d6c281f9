//! A bank: one queue of every port, and what is known of those queues: which to read, which epoll watches.
//!
//! There is a bank for each worker, its *home*; bank 3 is queue 3 of every port. A bank is a value that one worker owns at
//! a time, and that is the ownership token of its queues: only between turns, when all that was read has departed, may it
//! go to another worker, by way of that worker's inbox. So frames of a queue leave in the order they came, whoever
//! serves it (`ring/tests/loom_handover.rs` is the model).
//!
//! Within a bank a port is *watched* by epoll until its first frame; then it is *active* and read every turn, and soon no
//! longer watched, so that who sends to it need not ring a bell that nobody waits for. After `EMPTY_TURNS_MAX` turns
//! without a frame, or before a worker sleeps on the bank, it is watched again. So idle ports cost nothing, and busy ones no
//! wake-ups:
//!
//! ```text
//!              event                            a frame in two turns
//!   WATCHED ----------> ACTIVE, still watched ----------------------> ACTIVE
//!      ^                     |                                          |
//!      +---------------------+------------------------------------------+   many empty turns, or the worker sleeps
//! ```
//!
//! Watching is edge-triggered, and beginning to watch tells at once of a frame that is there already, so none is missed in
//! between. The active ports take turns at being first.
//!
//! A port whose pod has sent what its limit allows **rests**: it is neither read nor watched until its time has come
//! (`crate::limits`), and who sleeps on the bank sleeps no longer than that.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use host::Taken;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use packet::Burst;

use crate::lane::Lane;
use crate::placement::Heat;
use crate::port::{Budget, Count, Port};
use crate::world::World;

/// One queue of every port.
pub struct Bank {
    /// The number of its queues, and of the worker it belongs to.
    pub home: u16,
    /// How much comes in by it.
    pub heat: Heat,
    poll: Poll,
    /// Numbers of the active ports, in the order they are served.
    active: VecDeque<u16>,
    /// Ports that rest, and when their time comes.
    resting: Vec<(u16, Instant)>,
    /// By port number.
    attention: Vec<Attention>,
    /// What was taken from each port in this turn.
    taken: Vec<(u16, Taken)>,
    /// Nothing was left in any queue in the last turn, and epoll tells of all that comes.
    emptied: bool,
    /// All that came last was sent on the home CPU.
    sent_at_home: bool,
    /// The home worker's CPU.
    cpu: u16,
    /// Work done since events were asked for.
    unlooked: u32,
}

/// How a port is looked after.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Attention {
    active: bool,
    /// Active, but not read until its time has come.
    rests: bool,
    /// Frames were found in this many turns since it became active; counted to two.
    fruitful: u8,
    /// Turns without a frame since the last one with.
    empty: u8,
    /// Not watched; a port begins its life watched.
    unwatched: bool,
}

impl Bank {
    /// The bank of worker `home` on CPU `cpu`, with no port.
    pub fn new(home: u16, cpu: u16) -> io::Result<Bank> {
        Ok(Bank {
            home,
            heat: Heat::default(),
            poll: Poll::new()?,
            active: VecDeque::with_capacity(PORTS_MAX),
            resting: Vec::with_capacity(PORTS_MAX),
            attention: vec![Attention::default(); PORTS_MAX],
            taken: Vec::with_capacity(PORTS_MAX),
            emptied: false,
            sent_at_home: false,
            cpu,
            unlooked: 0,
        })
    }

    /// To watch descriptors under their port's number, wherever the bank is.
    pub fn registry(&self) -> io::Result<Registry> {
        self.poll.registry().try_clone()
    }

    /// Wakes whoever sleeps on this bank.
    pub fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKE)
    }

    /// How many ports are active.
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// True when all that came last was sent on the CPU of the home worker, which must sleep for more to come; who sends on
    /// another CPU goes on sending while it polls, and is spared a wake-up by it.
    pub fn was_sent_at_home(&self) -> bool {
        self.sent_at_home
    }

    /// True when the last turn left nothing to do but to wait for an event.
    pub fn is_emptied(&self) -> bool {
        self.emptied
    }

    /// Makes a port active, as its event would; for ports without a descriptor.
    pub fn activate(&mut self, number: u16) {
        let attention = &mut self.attention[usize::from(number)];
        if attention.rests {
            // Nobody watches a port that rests: this one has come to the number of another.
            *attention = Attention::default();
            self.resting.retain(|&(resting, _)| resting != number);
        }
        if !attention.active {
            attention.active = true;
            self.active.push_back(number);
        }
    }

    /// When the first of the ports that rest is to be read.
    pub fn next(&self) -> Option<Instant> {
        self.resting.iter().map(|&(_, when)| when).min()
    }

    /// Has ports read again whose time has come.
    fn end_rests(&mut self) {
        let now = Instant::now();
        let Bank { resting, active, attention, .. } = self;
        resting.retain(|&(number, when)| {
            if when <= now {
                attention[usize::from(number)].rests = false;
                active.push_back(number);
            }
            when > now
        });
    }

    /// Leaves a port unread until then.
    #[cold]
    fn rest(&mut self, port: &Port, until: Instant) {
        let attention = &mut self.attention[usize::from(port.number)];
        if !attention.unwatched {
            attention.unwatch((port, self.home), self.poll.registry());
        }
        attention.rests = true;
        self.resting.push((port.number, until));
    }

    /// Receives from the active ports, at most `frames_max` frames each. Every turn is ended by [`Bank::departed`] or
    /// [`Bank::forget_taken`].
    pub fn receive(&mut self, burst: &mut Burst, (world, lane): (&World, &mut Lane), frames_max: usize) {
        let (first, mut kept, mut unread, mut away) = (burst.len, 0, None, false);
        self.emptied = true;
        if !self.resting.is_empty() {
            self.end_rests();
        }
        for _ in 0..self.active.len() {
            let Some(number) = self.active.pop_front() else { break };
            let attention = &mut self.attention[usize::from(number)];
            let Some(port) = world.port(number) else {
                *attention = Attention::default();
                continue;
            };
            let frames = frames_max.min(burst.room().saturating_sub(ROOM_FOR_ANSWERS));
            let bytes = match port.limits.leaving.as_ref().map_or(Ok(usize::MAX), |limit| limit.credit(Instant::now()))
            {
                Ok(credit) => credit.min(PORT_BUDGET.bytes),
                Err(until) => {
                    port.counters.of(lane.number).add(Count::Rests, 1);
                    self.rest(port, until);
                    continue;
                }
            };
            let taken = port.receive(self.home, burst, (world, lane), Budget { frames, bytes });
            let found = taken.frames > 0;
            self.taken.push((number, taken));
            self.emptied &= taken.drained;
            if !found && !taken.drained {
                // The turn was full before it came to this port: frames may wait, and no event would tell of them.
                unread.get_or_insert(kept);
            } else if !attention.stays_active(found, (port, self.home), self.poll.registry()) {
                continue;
            }
            self.emptied &= !attention.unwatched;
            if found {
                self.heat.note(port);
                away |= port.sender_cpu(self.home) != Some(self.cpu);
            }
            self.active.push_back(number);
            kept += 1;
        }
        // Whoever was not come to is first the next time.
        if !self.active.is_empty() {
            self.active.rotate_left(unread.unwrap_or(1) % self.active.len());
        }
        if burst.len > first {
            self.sent_at_home = !away;
        }
        self.unlooked += WORK_PER_TURN + work(burst, first);
    }

    /// After all that was received has departed; `now` as the clock was last read.
    pub fn departed(&mut self, world: &World, now: Instant) {
        for (number, taken) in self.taken.drain(..) {
            if let Some(port) = world.port(number) {
                port.departed(self.home, taken, now);
            }
        }
    }

    /// The same where nobody waits to hear of it.
    pub fn forget_taken(&mut self) {
        self.taken.clear();
    }

    /// True when events should be asked for although ports are active: for those that are not.
    pub fn wants_a_look(&self) -> bool {
        self.unlooked >= WORK_PER_LOOK
    }

    /// Asks for events, waiting for one at most for `timeout`.
    pub fn look(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        wait(&mut self.poll, events, timeout)?;
        for event in events.iter() {
            if let Token(number @ ..PORTS_MAX) = event.token() {
                self.activate(number as u16);
            }
        }
        self.unlooked = 0;
        Ok(())
    }

    /// Watches all ports; false when one cannot be watched and must go on being read.
    pub fn watch_all(&mut self, world: &World) -> bool {
        let (attention, registry, queue) = (&mut self.attention, self.poll.registry(), self.home);
        self.active.retain(|&number| {
            let attention = &mut attention[usize::from(number)];
            let left_to_epoll = world.port(number).is_none_or(|port| attention.watch((port, queue), registry));
            if left_to_epoll {
                *attention = Attention::default();
            }
            !left_to_epoll
        });
        self.active.is_empty()
    }
}

/// Waits for an event of any of `banks`, or of `rest` itself, for at most `timeout`, and takes all there are; false if none
/// came.
pub(crate) fn wait_for_any(
    rest: &mut Poll,
    banks: &mut [Bank],
    events: &mut Events,
    timeout: Option<Duration>,
) -> io::Result<bool> {
    for bank in &*banks {
        rest.registry().register(&mut SourceFd(&bank.poll.as_raw_fd()), WAKE, Interest::READABLE)?;
    }
    wait(rest, events, timeout)?;
    let came = !events.is_empty();
    for bank in banks {
        rest.registry().deregister(&mut SourceFd(&bank.poll.as_raw_fd()))?;
        bank.look(events, Some(Duration::ZERO))?;
    }
    Ok(came)
}

/// Waits for events; an interrupt is none.
fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        waited => waited,
    }
}

impl Attention {
    /// Takes note of a receive; false when the queue is left to epoll.
    #[inline]
    fn stays_active(&mut self, found: bool, queue: (&Port, u16), registry: &Registry) -> bool {
        if found {
            self.empty = 0;
            self.fruitful = self.fruitful.saturating_add(1);
            if self.fruitful >= FRUITFUL_TURNS && !self.unwatched {
                self.unwatch(queue, registry);
            }
            return true;
        }
        self.empty += 1;
        if self.empty < EMPTY_TURNS_MAX {
            return true;
        }
        let left_to_epoll = self.watch(queue, registry);
        if left_to_epoll {
            *self = Attention::default();
        }
        self.empty = 0;
        !left_to_epoll
    }

    fn unwatch(&mut self, (port, queue): (&Port, u16), registry: &Registry) {
        if let Some(descriptor) = port.descriptor(queue) {
            // Failing, it stays watched, which costs its senders a little and nothing else.
            self.unwatched = registry.deregister(&mut SourceFd(&descriptor)).is_ok();
        }
    }

    /// Has the queue watched; false when it has no descriptor to watch, or the kernel has no room for it among the watched.
    fn watch(&mut self, (port, queue): (&Port, u16), registry: &Registry) -> bool {
        let Some(descriptor) = port.descriptor(queue) else { return false };
        if self.unwatched {
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

/// What the rows of a burst from `first` on cost, roughly: a frame, or 4 KiB of a long one, is 1.
#[inline]
pub(crate) fn work(burst: &Burst, first: usize) -> u32 {
    (burst.len - first) as u32 + burst.length[first..burst.len].iter().sum::<u32>() / 4096
}

/// What a port may give per turn: so many small frames that those of 64 flows can be joined, or one full super-frame, so that it is
/// written while it is hot in cache.
pub(crate) const PORT_BUDGET: Budget = Budget { frames: 192, bytes: 60 * 1024 };
/// Rows of a burst that are kept for the slow path's answers.
pub(crate) const ROOM_FOR_ANSWERS: usize = 32;
/// Events are asked for after so much work while ports are active.
const WORK_PER_LOOK: u32 = 64;
/// What a turn costs whatever it carries.
const WORK_PER_TURN: u32 = 8;
/// Turns with frames after which an active port is no longer watched.
const FRUITFUL_TURNS: u8 = 2;
/// Turns without a frame after which a port is no longer active.
const EMPTY_TURNS_MAX: u8 = 64;
/// Under which a worker is woken.
pub(crate) const WAKE: Token = Token(PORTS_MAX);

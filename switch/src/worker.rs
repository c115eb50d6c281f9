//! A worker: one thread that serves banks of ports' queues, turn by turn.
//!
//! A turn takes the newest world, receives a burst from the active ports of the banks the worker owns, carries it along the
//! path and departs it. Between turns it takes in banks that others have given it, and gives away those that are better
//! served elsewhere ([`crate::placement`]). At rest it owns its own bank and no other.
//!
//! With nothing to carry a worker polls for a while if it has a reason to: a guest, whose sender is on another CPU, or frames
//! that were not sent on its own. Otherwise who sends next is on this very CPU and needs it; so the worker goes offline and
//! sleeps. Guests that have nothing for longer go home.
//!
//! Fairness: a port gives at most `PORT_BUDGET` per turn, and less where others are active, so that who speaks seldom waits
//! for a short turn only. For the same reason events are asked for after so much work at the latest, also while ports keep
//! the worker busy.

mod tallies;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Registry, Waker};
use packet::Burst;
use ring::mpsc;
use ring::snapshot::Reader;

use crate::bank::{self, Bank, PORT_BUDGET};
use crate::crew::Crew;
use crate::lane::{BIG_SLOTS, Lane, SMALL_SLOTS, SlowEnds};
use crate::limits::Wake;
use crate::path;
use crate::placement::{self, Bell, Peer, Standing, Weather};
use crate::returns::Returns;
use crate::thread::worker_thread;
use crate::urgency::Urgency;
use crate::world::World;

pub use self::tallies::{Recorded, TIMED_EVERY, Tallies, Tally};

/// How a worker waits for frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// Poll for this long after the last frame where that may help, then sleep; sleep at once on a CPU that pods compute on.
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
    /// Those it owns.
    banks: Vec<Bank>,
    inbox: mpsc::Consumer<Bank>,
    /// The other workers, by their numbers.
    peers: Vec<Peer>,
    /// To sleep on while its own bank is away.
    rest: Poll,
    cpu: u16,
    waiting: Waiting,
    urgency: Urgency,
    started: Instant,
    /// The clock, as read after the last sleep or look for events.
    now: Instant,
    tallies: Arc<Tallies>,
    standing: Arc<Standing>,
    slow_waker: Arc<Waker>,
}

/// What the control thread keeps of a worker, or of a thread of the pipeline.
pub struct WorkerEnds {
    /// What its thread is called.
    pub thread: String,
    /// The slow path's mailboxes.
    pub slow: SlowEnds,
    /// Small and big slots that a turn of it has.
    pub slots: [usize; 2],
    /// To watch queues of its bank under their port's number, if it has one.
    pub registry: Option<Registry>,
    /// Wakes it.
    pub wake: Wake,
    /// Its counters.
    pub tallies: Arc<Tallies>,
    /// Its state, which tells it whether pods compute on its CPU.
    pub standing: Arc<Standing>,
}

/// What a thread does from its start to its end.
pub type Life = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// The workers of a crew, which read worlds by `reader` and share return entries, and what the control thread keeps of each.
/// The waker is rung after punts.
pub fn workers(
    crew: &Crew,
    mut reader: impl FnMut() -> Reader<World>,
    shared: (&Arc<Returns>, &Arc<Waker>),
) -> io::Result<Vec<(Worker, WorkerEnds)>> {
    let mut made = Vec::with_capacity(crew.cpus.len());
    for (number, &cpu) in (0..).zip(&crew.cpus) {
        made.push(Worker::new((number, cpu), crew, reader(), shared)?);
    }
    let peers: Vec<Peer> = made.iter().map(|(_, _, peer)| peer.clone()).collect();
    let joined = made.into_iter().map(|(mut worker, ends, peer)| {
        worker.peers.extend(peers.iter().filter(|other| other.number != peer.number).cloned());
        (worker, ends)
    });
    Ok(joined.collect())
}

impl Worker {
    fn new(
        (number, cpu): (u16, u16),
        crew: &Crew,
        world: Reader<World>,
        (returns, slow_waker): (&Arc<Returns>, &Arc<Waker>),
    ) -> io::Result<(Worker, WorkerEnds, Peer)> {
        let now = Instant::now();
        let (lane, slow) = Lane::new(number, Arc::clone(returns));
        let (bank, rest) = (Bank::new(number, cpu)?, Poll::new()?);
        let (give, inbox) = mpsc::ring(crew.cpus.len().next_power_of_two());
        let (tallies, standing) = (Arc::new(Tallies::default()), Arc::new(Standing::default()));
        let bell = Arc::new(Bell { at_bank: bank.waker()?, at_rest: Waker::new(rest.registry(), bank::WAKE)? });
        let ends = WorkerEnds {
            thread: worker_thread(number),
            slow,
            slots: [SMALL_SLOTS, BIG_SLOTS],
            registry: Some(bank.registry()?),
            wake: Arc::new({
                let bell = Arc::clone(&bell);
                move || bell.ring()
            }),
            tallies: Arc::clone(&tallies),
            standing: Arc::clone(&standing),
        };
        let peer = Peer { number, cpu, inbox: give, bell, standing: Arc::clone(&standing) };
        let mut banks = Vec::with_capacity(crew.cpus.len());
        banks.push(bank);
        let worker = Worker {
            lane,
            burst: Burst::new(),
            world,
            banks,
            inbox,
            peers: Vec::with_capacity(crew.cpus.len()),
            rest,
            cpu,
            waiting: crew.waiting,
            urgency: Urgency::default(),
            started: now,
            now,
            tallies,
            standing,
            slow_waker: Arc::clone(slow_waker),
        };
        Ok((worker, ends, peer))
    }

    /// Serves its banks until `stop` says so; it is asked between turns and after every sleep.
    pub fn run(&mut self, stop: impl Fn() -> bool) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut idle_since = None;
        while !stop() {
            self.take_in();
            let carried = self.turn();
            if carried {
                idle_since = None;
                self.place();
            }
            if (!carried || self.is_emptied()) && self.may_sleep(&mut idle_since) {
                self.sleep(&mut events)?;
                idle_since = None;
            }
            self.look(&mut events)?;
        }
        self.world.offline();
        Ok(())
    }

    /// One turn over the active ports of its banks; true when it carried anything.
    pub fn turn(&mut self) -> bool {
        let world = self.world.turn();
        let (burst, lane) = (&mut *self.burst, &mut self.lane);
        let began = self.tallies.begin_turn();
        self.tallies.add(Tally::Begun, 1);
        let in_company = self.banks.iter().map(|bank| bank.active()).sum::<usize>() > 1;
        let frames_max = if in_company { FRAMES_IN_COMPANY } else { PORT_BUDGET.frames };
        for bank in &mut self.banks {
            bank.receive(burst, (world, lane), frames_max);
        }
        let received = burst.len;
        let carries = received > 0 || lane.has_answers();
        if carries {
            self.urgency.begin(burst);
            path::carry(burst, world, lane);
            self.urgency.end(in_company && received >= FRAMES_IN_COMPANY);
        } else {
            self.urgency.rest();
        }
        lane.gates.open(world);
        for bank in &mut self.banks {
            bank.departed(world, self.now);
        }
        self.tallies.add(Tally::Ended, 1);
        if carries {
            self.tallies.count_burst(received);
            self.tallies.end_turn(began);
            self.report();
        }
        carries
    }

    /// Makes a queue of its own bank active, as its event would; for ports without a descriptor.
    pub fn activate(&mut self, port: u16) {
        if let Some(own) = self.banks.iter_mut().find(|bank| bank.home == self.lane.number) {
            own.activate(port);
        }
    }

    /// Takes in the banks that others have given it.
    fn take_in(&mut self) {
        while let Some(mut bank) = self.inbox.pop() {
            bank.heat.forget();
            self.banks.push(bank);
            self.standing.set_load(load(&self.banks, self.lane.number));
        }
    }

    /// Gives away the banks that are better served elsewhere.
    fn place(&mut self) {
        if self.peers.is_empty() {
            return;
        }
        let (world, now) = (self.world.turn(), self.now);
        let mut at = 0;
        while let Some(bank) = self.banks.get_mut(at) {
            let (home, weather) = (bank.home, bank.heat.judge(world, now));
            let to = match weather {
                None => None,
                Some(weather) if home != self.lane.number => {
                    let home = self.peers.iter_mut().find(|peer| peer.number == home);
                    home.filter(|home| weather == Weather::Cold || self.standing.is_worse_than(&home.standing))
                }
                Some(Weather::Hot) if bank.was_sent_at_home() => placement::choose(&mut self.peers, (home, self.cpu)),
                Some(_) => None,
            };
            match to {
                Some(peer) => {
                    self.tallies.add(Tally::Handovers, 1);
                    peer.give(self.banks.remove(at));
                    self.standing.set_load(load(&self.banks, self.lane.number));
                }
                None => at += 1,
            }
        }
    }

    /// Gives each of its banks to the next worker, and says how many those were.
    #[cfg(test)]
    fn give_all_away(&mut self) -> u64 {
        let number = self.lane.number;
        let next = self.peers.iter().position(|peer| peer.number > number).unwrap_or(0);
        let banks = self.banks.drain(..).map(|bank| self.peers[next].give(bank));
        banks.count() as u64
    }

    fn send_guests_home(&mut self) {
        for guest in self.banks.extract_if(.., |bank| bank.home != self.lane.number) {
            let home = self.peers.iter_mut().find(|peer| peer.number == guest.home);
            self.tallies.add(Tally::Handovers, 1);
            home.expect("every bank has a home among the workers").give(guest);
        }
        self.standing.set_load(load(&self.banks, self.lane.number));
    }

    /// Watches all ports of its banks, goes offline and sleeps until one has a frame or it is woken. Guests that have nothing
    /// for a while go home.
    fn sleep(&mut self, events: &mut Events) -> io::Result<()> {
        let world = self.world.turn();
        // A port that cannot be watched must go on being read.
        let watched = self.banks.iter_mut().all(|bank| bank.watch_all(world));
        let patience = if watched { self.patience() } else { Some(Duration::ZERO) };
        self.tallies.add(Tally::Sleeps, 1);
        self.world.offline();
        self.tallies.set(Tally::Asleep, 1);
        let rested = match &mut self.banks[..] {
            [own] if own.home == self.lane.number => own.look(events, patience).map(|()| false),
            // Without a guest nothing but a bell, or the time, ends it.
            [] => bank::wait_for_any(&mut self.rest, &mut [], events, patience).map(|_| false),
            banks => {
                let rest = patience.map_or(GUEST_REST, |patience| patience.min(GUEST_REST));
                bank::wait_for_any(&mut self.rest, banks, events, Some(rest)).map(|came| rest == GUEST_REST && !came)
            }
        };
        self.tallies.set(Tally::Asleep, 0);
        self.read_clock();
        if rested? {
            self.send_guests_home();
        }
        Ok(())
    }

    /// How long it may sleep: until a port that rests is to be read or a gate opened.
    fn patience(&self) -> Option<Duration> {
        let rests = self.banks.iter().filter_map(Bank::next);
        let next = rests.chain(self.lane.gates.next()).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Asks for events where that is due.
    fn look(&mut self, events: &mut Events) -> io::Result<()> {
        let idle = self.banks.iter().all(|bank| bank.active() == 0);
        let mut looked = false;
        for bank in &mut self.banks {
            if idle || bank.wants_a_look() {
                bank.look(events, Some(Duration::ZERO))?;
                looked = true;
            }
        }
        if looked {
            self.read_clock();
        }
        Ok(())
    }

    fn read_clock(&mut self) {
        self.now = Instant::now();
        self.lane.now_seconds = self.now.saturating_duration_since(self.started).as_secs() as u32;
    }

    fn report(&mut self) {
        if self.lane.take_punted() {
            // A failed wake-up loses nothing: the slow path also looks by itself.
            let _ = self.slow_waker.wake();
        }
        self.tallies.take_over(&self.lane);
        let (small, big) = self.lane.slots.lowest_free();
        self.tallies.set(Tally::SmallSlotsHighest, (SMALL_SLOTS - small) as u64);
        self.tallies.set(Tally::BigSlotsHighest, (BIG_SLOTS - big) as u64);
    }

    /// True when another turn would most likely find nothing.
    fn is_emptied(&self) -> bool {
        matches!(&self.banks[..], [own] if own.home == self.lane.number && own.is_emptied())
    }

    fn may_sleep(&self, idle_since: &mut Option<Instant>) -> bool {
        match self.waiting {
            Waiting::Adaptive(spin_max) => {
                let own = self.banks.first().is_none_or(|own| own.was_sent_at_home());
                let at_home = own && self.standing.is_at_rest();
                let mut idle = || idle_since.get_or_insert_with(Instant::now).elapsed();
                at_home || self.standing.is_crowded() || idle() >= spin_max
            }
            Waiting::Spin => false,
            Waiting::Sleep => true,
        }
    }
}

/// How much worker `number` has to do beside its own bank: its guests, and 1 if its own is away.
fn load(banks: &[Bank], number: u16) -> u64 {
    let guests = banks.iter().filter(|bank| bank.home != number).count();
    let away = banks.len() == guests;
    guests as u64 + u64::from(away)
}

/// A guest goes home that has had nothing for so long.
const GUEST_REST: Duration = Duration::from_millis(50);
/// Frames of one port and turn while others are active: some microseconds of work.
pub(crate) const FRAMES_IN_COMPANY: usize = 4;
/// Events taken at once.
pub(crate) const EVENTS: usize = 256;

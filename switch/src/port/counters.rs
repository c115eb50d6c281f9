//! What is counted at ports.
//!
//! Each worker has counters of its own at every port; whoever reads gets the sums. What departed is counted in one table of all
//! ports, [`Sent`], beside which a port remembers what others of its number had sent before: numbers are used again.

use std::iter;
use std::ops::AddAssign;
use std::sync::Arc;

use crossbeam::utils::CachePadded;
use packet::{Punt, Reason};
use ring::{Counter, Counters};

use crate::bank::PORTS_MAX;

/// A port's counters, a set for each worker that may write them; whoever reads gets the sums.
pub struct PortCounters {
    workers: Box<[CachePadded<WorkerCounters>]>,
    sent: Option<PortSent>,
}

/// Packets and bytes that departed by ports, of all ports of a switch: for each worker side by side, so that a burst that
/// departs by many ports meets few cache lines.
#[derive(Debug)]
pub struct Sent(Box<[Box<WorkerSent>]>);

/// The same of one worker.
pub(crate) type WorkerSent = [[Counter; 2]; PORTS_MAX];

/// A port's part in [`Sent`], and what a port of that number had sent before.
#[derive(Debug)]
struct PortSent {
    sent: Arc<Sent>,
    port: u16,
    before: [u64; 2],
}

/// What one worker counted at a port: by [`Count`] and, for the packets that entered here, by how they left otherwise than
/// by a port.
#[derive(Default)]
pub struct WorkerCounters {
    counts: Counters<{ Count::ALL.len() }>,
    drops: Counters<{ Reason::COUNT }>,
    punts: Counters<{ Punt::COUNT }>,
}

/// What is counted at a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// Packets that entered.
    Received,
    /// Their bytes.
    ReceivedBytes,
    /// The slow path's answers that departed by this port.
    Answered,
    /// Packets that departed by this port.
    Sent,
    /// Their bytes.
    SentBytes,
    /// Writes that carried several packets joined.
    Joined,
    /// Super-frames cut for this port.
    Cut,
    /// Frames to a limited workload that waited at the gate.
    Held,
    /// Their bytes.
    HeldBytes,
    /// Packets to a limited workload that were dropped because too much waited; they are also in the drops of where they came in.
    OverLimit,
    /// Times a queue was left unread because the workload had sent what its limit allows.
    Rests,
}

impl Count {
    /// Those of packets that came.
    const OF_ARRIVALS: [Count; 3] = [Count::Received, Count::ReceivedBytes, Count::Answered];
    /// All of them, in order of their number.
    pub const ALL: [Count; 11] = [
        Count::Received,
        Count::ReceivedBytes,
        Count::Answered,
        Count::Sent,
        Count::SentBytes,
        Count::Joined,
        Count::Cut,
        Count::Held,
        Count::HeldBytes,
        Count::OverLimit,
        Count::Rests,
    ];
}

impl WorkerCounters {
    /// Adds `n`; by that worker only.
    #[inline]
    pub fn add(&self, what: Count, n: u64) {
        self.counts.add(what as usize, n);
    }

    /// Counts a dropped packet that entered here; by that worker only.
    #[inline]
    pub fn drop(&self, reason: Reason) {
        self.drops.add(reason as usize, 1);
    }

    /// Counts a packet that entered here and went to the slow path; by that worker only.
    #[inline]
    pub fn punt(&self, why: Punt) {
        self.punts.add(why as usize, 1);
    }
}

impl PortCounters {
    /// A set for each of so many workers.
    pub fn new(workers: usize) -> Self {
        PortCounters { workers: iter::repeat_with(CachePadded::default).take(workers).collect(), sent: None }
    }

    /// Counts as that port of `sent` from now on.
    pub(crate) fn count_in(&mut self, sent: &Arc<Sent>, port: u16) {
        self.sent = Some(PortSent { sent: Arc::clone(sent), port, before: sent.of_port(port) });
    }

    /// How many workers there may be.
    pub(crate) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Those of one worker.
    #[inline]
    pub fn of(&self, worker: u16) -> &WorkerCounters {
        &self.workers[usize::from(worker)]
    }

    /// The count now.
    pub fn get(&self, what: Count) -> u64 {
        let counted: u64 = self.workers.iter().map(|one| one.counts.get(what as usize)).sum();
        let of_sent = match what {
            Count::Sent => Some(0),
            Count::SentBytes => Some(1),
            _ => None,
        };
        let sent = |at| self.sent.as_ref().map(|own: &PortSent| own.now()[at]);
        counted + of_sent.and_then(sent).unwrap_or(0)
    }

    /// Drops for one reason, now.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.workers.iter().map(|one| one.drops.get(reason as usize)).sum()
    }

    /// Punts for one cause, now.
    pub fn punted(&self, why: Punt) -> u64 {
        self.workers.iter().map(|one| one.punts.get(why as usize)).sum()
    }

    /// All of them, now.
    pub fn read(&self) -> Counted {
        let mut counted = self.what_left();
        self.what_came(&mut counted);
        counted
    }

    /// What left, now: all counts but those of packets that came.
    pub fn what_left(&self) -> Counted {
        let mut counted = Counted::default();
        Reason::ALL.iter().for_each(|&reason| counted.drops[reason as usize] = self.dropped(reason));
        Punt::ALL.iter().for_each(|&why| counted.punts[why as usize] = self.punted(why));
        for what in Count::ALL.into_iter().filter(|what| !Count::OF_ARRIVALS.contains(what)) {
            counted.counts[what as usize] = self.get(what);
        }
        counted
    }

    /// Adds what came, now, to what was read before: so that a sum over ports that is taken while packets pass is never
    /// short of arrivals, what left is read first, at all of them.
    pub fn what_came(&self, counted: &mut Counted) {
        for what in Count::OF_ARRIVALS {
            counted.counts[what as usize] += self.get(what);
        }
    }
}

impl Sent {
    /// Nothing sent, by so many workers.
    pub(crate) fn new(workers: usize) -> Sent {
        let ports = || iter::repeat_with(Default::default).take(PORTS_MAX).collect::<Vec<_>>().into_boxed_slice();
        let worker = || Box::<WorkerSent>::try_from(ports()).expect("as many as were taken");
        Sent(iter::repeat_with(worker).take(workers).collect())
    }

    /// What one worker counts.
    #[inline]
    pub(crate) fn of(&self, worker: u16) -> &WorkerSent {
        &self.0[usize::from(worker)]
    }

    fn of_port(&self, port: u16) -> [u64; 2] {
        let of = |at: usize| self.0.iter().map(|worker| worker[usize::from(port) % PORTS_MAX][at].get()).sum();
        [of(0), of(1)]
    }
}

impl PortSent {
    fn now(&self) -> [u64; 2] {
        let now = self.sent.of_port(self.port);
        [0, 1].map(|at| now[at] - self.before[at])
    }
}

/// A port's counters as they were at one moment, or sums of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counted {
    counts: [u64; Count::ALL.len()],
    drops: [u64; Reason::COUNT],
    punts: [u64; Punt::COUNT],
}

impl Counted {
    /// How many.
    pub fn get(&self, what: Count) -> u64 {
        self.counts[what as usize]
    }

    /// Drops by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().map(|&reason| (reason, self.drops[reason as usize]))
    }

    /// Punts by cause.
    pub fn punted(&self) -> impl Iterator<Item = (Punt, u64)> {
        Punt::ALL.iter().map(|&why| (why, self.punts[why as usize]))
    }

    /// Packets received, and answers of the slow path.
    pub fn came(&self) -> u64 {
        self.get(Count::Received) + self.get(Count::Answered)
    }

    /// Packets that found an exit.
    pub fn left(&self) -> u64 {
        self.get(Count::Sent) + self.drops.iter().sum::<u64>() + self.punts.iter().sum::<u64>()
    }
}

impl Default for Counted {
    fn default() -> Self {
        Counted { counts: [0; Count::ALL.len()], drops: [0; Reason::COUNT], punts: [0; Punt::COUNT] }
    }
}

impl AddAssign<&Counted> for Counted {
    fn add_assign(&mut self, other: &Counted) {
        let add = |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        add(&mut self.counts, &other.counts);
        add(&mut self.drops, &other.drops);
        add(&mut self.punts, &other.punts);
    }
}

//! Ports: where frames come and go.
//!
//! A port receives a burst into a worker's slots and transmits frames from them. What it can take is its
//! [`Abilities`]: the departure cuts, joins and finishes checksums as they ask. Kinds:
//!
//! - [`Link::Tap`]: a TAP; its frames carry a virtio header, so super-frames pass whole;
//! - [`Link::Uplink`]: the end of tunnels to other nodes;
//! - [`Link::Memory`]: one end of a wire in memory, for tests and benches.
//!
//! A descriptor that has nothing answers `WouldBlock`, which ends the receive; a TAP gives no back-pressure, so
//! conservation ends at the accepted write.

mod express;
mod memory;
mod tap;
mod uplink;

use std::fmt;
use std::io::{self, IoSlice};
use std::iter;
use std::net::IpAddr;
use std::ops::AddAssign;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

use crossbeam::utils::CachePadded;
pub use host::Abilities;
use host::{Steering, Taken, Tap};
use packet::{Burst, Mac, Punt, Reason};
use ring::Counters;

use crate::lane::Lane;
use crate::limits::{Limits, counted};
use crate::world::World;

pub use express::{EXPRESS_ROOM, Express};
pub use memory::{MemoryPort, Wire};
pub use uplink::Uplink;

/// One port with all that is known of it.
pub struct Port {
    /// Its number in the world; 0 is the host port.
    pub number: u16,
    /// The endpoint's name, or the host device's.
    pub name: String,
    /// True for the host port: the way to the node and outside.
    pub host: bool,
    /// The station at the other end.
    pub mac: Mac,
    /// Our own address on this link.
    pub gateway: Mac,
    /// Longest IP packet the other end takes, in bytes.
    pub mtu: u16,
    /// The workload's own IPv4 addresses; empty for the host port.
    pub sources_v4: Vec<u32>,
    /// The workload's own IPv6 addresses; empty for the host port.
    pub sources_v6: Vec<u128>,
    /// Drop frames whose source Ethernet address is not `mac`.
    pub strict_mac: bool,
    /// What the other end takes.
    pub abilities: Abilities,
    /// How fast the workload's traffic may be.
    pub limits: Limits,
    /// Where the frames come and go.
    pub link: Link,
    /// Chooses the queue of each frame that comes, where the kernel can be told to.
    pub steering: Option<Steering>,
    /// What happened here.
    pub counters: PortCounters,
}

/// What carries the frames.
pub enum Link {
    /// A TAP with virtio headers.
    Tap(Tap),
    /// The end of tunnels to other nodes.
    Uplink(Uplink),
    /// A wire in memory.
    Memory(MemoryPort),
}

/// A port's counters, a set for each worker that may write them; whoever reads gets the sums.
pub struct PortCounters(Box<[CachePadded<WorkerCounters>]>);

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

    /// Counts packets that departed by this port; by that worker only.
    #[inline]
    pub fn sent(&self, packets: u64, bytes: u64) {
        self.add(Count::Sent, packets);
        self.add(Count::SentBytes, bytes);
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
        PortCounters(iter::repeat_with(CachePadded::default).take(workers).collect())
    }

    /// Those of one worker.
    #[inline]
    pub fn of(&self, worker: u16) -> &WorkerCounters {
        &self.0[usize::from(worker)]
    }

    /// The count now.
    pub fn get(&self, what: Count) -> u64 {
        self.0.iter().map(|one| one.counts.get(what as usize)).sum()
    }

    /// Drops for one reason, now.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.0.iter().map(|one| one.drops.get(reason as usize)).sum()
    }

    /// Punts for one cause, now.
    pub fn punted(&self, why: Punt) -> u64 {
        self.0.iter().map(|one| one.punts.get(why as usize)).sum()
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

/// What a receive may take at most.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Frames.
    pub frames: usize,
    /// Bytes; the frame that crosses the bound is still taken.
    pub bytes: usize,
}

impl Port {
    /// Receives frames of one queue into rows of `burst` until nothing is left, when an edge-triggered event will tell of the
    /// next one, or until budget, burst or slots are used up.
    pub fn receive(&self, queue: u16, burst: &mut Burst, (world, lane): (&World, &mut Lane), budget: Budget) -> Taken {
        if let Link::Uplink(uplink) = &self.link {
            return uplink.receive((self, queue), burst, (world, lane), budget);
        }
        let Lane { slots, spare, .. } = lane;
        let before = burst.len;
        let mut bytes = 0;
        let drained = loop {
            if burst.room() == 0 || burst.len - before >= budget.frames || bytes >= budget.bytes {
                break false;
            }
            let Some(tail) = spare.or_else(|| slots.take_big()) else { break false };
            *spare = Some(tail);
            let Some(head) = slots.take_small() else { break false };
            let got = match &self.link {
                Link::Tap(tap) => tap::receive(&tap.queues()[usize::from(queue)], slots, head, tail),
                Link::Memory(memory) => memory.receive(slots, head, tail),
                Link::Uplink(_) => unreachable!("an uplink receives trains"),
            };
            let Some(length) = got else {
                slots.give_small(head);
                break true;
            };
            let spilled = length > packet::SMALL_LEN;
            burst.push(head, if spilled { tail } else { packet::NO_TAIL }, length as u32, self.number);
            if spilled {
                *spare = None;
            }
            bytes += length;
        };
        let counters = self.counters.of(lane.number);
        counters.add(Count::Received, (burst.len - before) as u64);
        counters.add(Count::ReceivedBytes, bytes as u64);
        if let Some(bucket) = &self.limits.leaving {
            bucket.charge(counted(burst.len - before, bytes), Instant::now());
        }
        Taken { frames: (burst.len - before) as u32, drained }
    }

    /// After the turn, when all that was taken from a queue has departed; `now` as the clock was last read.
    #[inline]
    pub fn departed(&self, queue: u16, taken: Taken, now: Instant) {
        if let Some(steering) = &self.steering {
            steering.departed(queue, taken, now);
        }
    }

    /// The CPU that sent the last frame of a queue, where that is known.
    #[inline]
    pub fn sender_cpu(&self, queue: u16) -> Option<u16> {
        self.steering.as_ref()?.sender_cpu(queue)
    }

    /// Writes one frame given in slices, by this queue if the port has it; the first slice starts with a virtio header. One that
    /// is over the workload's limit waits until it is not.
    ///
    /// # Errors
    /// Why the frame is to be dropped.
    #[inline(always)]
    pub fn write(&self, queue: u16, slices: &[IoSlice<'_>]) -> Result<(), Reason> {
        match &self.limits.entering {
            None => self.put(queue, slices),
            Some(gate) => gate.pass(self, queue, slices),
        }
    }

    /// Writes it whatever the limit.
    #[inline(always)]
    pub(crate) fn put(&self, queue: u16, slices: &[IoSlice<'_>]) -> Result<(), Reason> {
        let written = match &self.link {
            Link::Memory(memory) => memory.write(slices),
            Link::Tap(tap) => write_to_tap(tap, queue, slices),
            Link::Uplink(_) => unreachable!("what leaves by an uplink is wrapped"),
        };
        written.map_err(|_| Reason::WriteFailed)
    }

    /// How many queues it has; frames may wait in each.
    pub fn queues(&self) -> u16 {
        match &self.link {
            Link::Tap(tap) => tap.queues().len() as u16,
            Link::Uplink(uplink) => uplink.queues(),
            Link::Memory(_) => 1,
        }
    }

    /// The descriptor to wait for frames of a queue with, if there is one.
    pub fn descriptor(&self, queue: u16) -> Option<RawFd> {
        match &self.link {
            Link::Tap(tap) => Some(tap.queues().get(usize::from(queue))?.as_raw_fd()),
            Link::Uplink(uplink) => uplink.descriptor(queue),
            Link::Memory(_) => None,
        }
    }

    /// The workload's own addresses.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let v4 = self.sources_v4.iter().map(|&address| IpAddr::V4(address.into()));
        v4.chain(self.sources_v6.iter().map(|&address| IpAddr::V6(address.into()))).collect()
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {} ({})", self.number, self.name)
    }
}

#[inline(never)]
fn write_to_tap(tap: &Tap, queue: u16, slices: &[IoSlice<'_>]) -> io::Result<()> {
    // An interface of an earlier switch may have fewer queues than there are workers.
    let queues = tap.queues();
    tap::write_frame(queues.get(usize::from(queue)).unwrap_or(&queues[0]), slices)
}

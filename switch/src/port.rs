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

mod counters;
mod express;
mod memory;
mod tap;
mod underlay;
mod uplink;

use std::fmt;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

pub use host::Abilities;
use host::{Steering, Taken, Tap};
use packet::{Burst, Mac, Reason};

use crate::lane::Lane;
use crate::limits::{Limits, counted};
use crate::world::World;

pub(crate) use counters::WorkerSent;
pub use counters::{Count, Counted, PortCounters, Sent, WorkerCounters};
pub use express::{EXPRESS_ROOM, Express};
pub use memory::{MemoryPort, Wire};
pub use underlay::{MemoryTrain, MemoryTrains};
pub use uplink::Uplink;

/// One port with all that is known of it; what every packet needs of it comes first, in one cache line.
#[repr(C, align(64))]
pub struct Port {
    /// What the other end takes.
    pub abilities: Abilities,
    /// Its number in the world; 0 is the host port.
    pub number: u16,
    /// Longest IP packet the other end takes, in bytes.
    pub mtu: u16,
    /// How fast the workload's traffic may be.
    pub limits: Limits,
    /// Where the frames come and go.
    pub link: Link,
    /// What happened here.
    pub counters: PortCounters,
    /// The endpoint's name, or the host device's.
    pub name: String,
    /// True for the host port: the way to the node and outside.
    pub host: bool,
    /// The station at the other end.
    pub mac: Mac,
    /// Our own address on this link.
    pub gateway: Mac,
    /// The workload's own IPv4 addresses; empty for the host port.
    pub sources_v4: Vec<u32>,
    /// The workload's own IPv6 addresses; empty for the host port.
    pub sources_v6: Vec<u128>,
    /// Drop frames whose source Ethernet address is not `mac`.
    pub strict_mac: bool,
    /// Chooses the queue of each frame that comes, where the kernel can be told to.
    pub steering: Option<Steering>,
}

/// What carries the frames. Its tag is a byte, not folded into what it holds: each write asks for it.
#[repr(u8)]
pub enum Link {
    /// A TAP with virtio headers.
    Tap(Tap),
    /// The end of tunnels to other nodes.
    Uplink(Uplink),
    /// A wire in memory.
    Memory(MemoryPort),
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

//! What carries the datagrams of an uplink: sockets, or memory for benches.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use crossbeam::queue::ArrayQueue;
use host::{Datagrams, Train, TunnelSocket};
use socket2::SockAddr;

/// Both directions of an uplink.
pub(super) enum Underlay {
    /// The receiving sockets, one for each queue, and the sending ones.
    Sockets(Vec<TunnelSocket>, Vec<TunnelSocket>),
    Memory(Box<MemoryTrains>),
}

/// An underlay in memory: it gives the same trains again and again, one each time it is asked, and takes everything unread.
#[derive(Debug)]
pub struct MemoryTrains {
    trains: ArrayQueue<MemoryTrain>,
    senders: usize,
}

/// Datagrams of one length from one node.
#[derive(Debug)]
pub struct MemoryTrain {
    /// Who sent it.
    pub from: IpAddr,
    /// Bytes of each datagram.
    pub segment: usize,
    /// All datagrams.
    pub bytes: Box<[u8]>,
}

impl MemoryTrains {
    /// Gives these, and takes by so many senders.
    pub fn new(trains: Vec<MemoryTrain>, senders: usize) -> MemoryTrains {
        let queue = ArrayQueue::new(trains.len().max(1));
        trains.into_iter().for_each(|train| _ = queue.push(train));
        MemoryTrains { trains: queue, senders }
    }

    fn receive(&self, buffer: &mut [u8]) -> Option<Train> {
        let train = self.trains.pop()?;
        buffer[..train.bytes.len()].copy_from_slice(&train.bytes);
        let received = Train { length: train.bytes.len(), segment: train.segment, from: train.from, tos: 0 };
        let _ = self.trains.push(train);
        Some(received)
    }
}

impl Underlay {
    pub(super) fn senders(&self) -> usize {
        match self {
            Underlay::Sockets(_, senders) => senders.len(),
            Underlay::Memory(trains) => trains.senders,
        }
    }

    /// True where trains of several datagrams can be sent.
    #[inline]
    pub(super) fn cuts(&self) -> bool {
        match self {
            Underlay::Sockets(_, senders) => senders[0].cuts(),
            Underlay::Memory(_) => true,
        }
    }

    #[inline]
    pub(super) fn send(&self, sender: usize, to: &SockAddr, datagrams: &Datagrams<'_>) -> io::Result<()> {
        match self {
            Underlay::Sockets(_, senders) => senders[sender].send(to, datagrams),
            Underlay::Memory(_) => Ok(()),
        }
    }

    #[inline]
    pub(super) fn receive(&self, queue: u16, buffer: &mut [u8]) -> io::Result<Option<Train>> {
        match self {
            Underlay::Sockets(receivers, _) => receivers[usize::from(queue)].receive(buffer),
            Underlay::Memory(trains) => Ok(trains.receive(buffer)),
        }
    }

    pub(super) fn queues(&self) -> u16 {
        match self {
            Underlay::Sockets(receivers, _) => receivers.len() as u16,
            Underlay::Memory(_) => 1,
        }
    }

    pub(super) fn descriptor(&self, queue: u16) -> Option<RawFd> {
        match self {
            Underlay::Sockets(receivers, _) => Some(receivers.get(usize::from(queue))?.as_raw_fd()),
            Underlay::Memory(_) => None,
        }
    }
}

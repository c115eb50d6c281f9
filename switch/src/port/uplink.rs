//! An uplink: our end of the tunnels to other nodes, on ordinary UDP sockets.
//!
//! No network card is taken from the node: the kernel routes what is sent, and hands over what comes to the tunnel's
//! port. One socket for each queue receives; an outer flow keeps its order, whoever chooses among them ([`host::Steering`]).
//! Sending is done by a few sockets of different source ports, the same for all workers; a flow always takes the
//! same one, so the underlay keeps it in order however banks change hands. flannel's UDP wants one port for both.
//!
//! A train lands in a big slot as a frame of a TAP does, tunnel header and all:
//!
//! ```text
//!   big slot   | virtio header 12     | frame ...
//!   VXLAN      |    4 | VXLAN 8       | inner Ethernet, IP ...  | VXLAN | inner Ethernet, IP ...  | VXLAN | ...
//!   IPv4       |                      | 14: Ethernet made here | IP packet       | IP packet       | ...
//! ```
//!
//! Of a datagram that comes alone a long frame's rest stays there. Each frame of a train is checked by itself and
//! copied to slots of its own; for an IPv4 packet's Ethernet header the room behind its predecessor, which is copied by
//! then, is used.

use std::io;
use std::ops::Range;
use std::os::fd::RawFd;

use encap::{Inner, Tunnel, ecn};
use host::{Datagrams, Taken, Train, TunnelSocket};
use packet::view::{ETHERNET_LEN, Layout, ethertype};
use packet::{Burst, FrameRef, Mac, NO_TAIL, Offload, Reason, SMALL_LEN, VNET_HEADER_LEN};

use super::underlay::Underlay;
use super::{Budget, Count, Express, MemoryTrains, Port};
use crate::bank::ROOM_FOR_ANSWERS;
use crate::lane::Lane;
use crate::remotes::Remote;
use crate::world::World;

/// Our end of the tunnels of one kind, over one family of addresses.
pub struct Uplink {
    tunnel: Tunnel,
    /// Stamped before each frame; empty where the IPv4 packet goes bare.
    header: Vec<u8>,
    underlay: Underlay,
    senders: usize,
    /// Longest inner IP packet that is not a super-frame.
    mtu: u16,
    /// For super-frames, where the kernel has it.
    pub express: Option<Express>,
}

impl Uplink {
    /// The end that says `tunnel` of itself, with `header` before each frame.
    pub fn new(
        tunnel: Tunnel,
        header: &[u8],
        (receivers, senders): (Vec<TunnelSocket>, Vec<TunnelSocket>),
        mtu: u16,
    ) -> Self {
        assert!(!senders.is_empty() && !receivers.is_empty(), "an uplink sends and receives");
        Self::over(tunnel, header, Underlay::Sockets(receivers, senders), mtu)
    }

    /// The same in memory.
    pub fn in_memory(tunnel: Tunnel, header: &[u8], trains: MemoryTrains, mtu: u16) -> Self {
        Self::over(tunnel, header, Underlay::Memory(Box::new(trains)), mtu)
    }

    fn over(tunnel: Tunnel, header: &[u8], underlay: Underlay, mtu: u16) -> Self {
        let senders = underlay.senders();
        Uplink { tunnel, header: header.to_vec(), underlay, senders, mtu, express: None }
    }

    /// What is stamped before each frame.
    #[inline]
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Bytes of each frame that do not go through the tunnel: its Ethernet header, where IPv4 packets go bare.
    #[inline]
    pub fn skipped(&self) -> usize {
        if self.header.is_empty() { ETHERNET_LEN } else { 0 }
    }

    /// The sender of flows of that hash.
    #[inline]
    pub fn sender_of(&self, flow_hash: u32) -> usize {
        ((u64::from(flow_hash) * self.senders as u64) >> 32) as usize
    }

    /// How many datagrams may go in one train.
    #[inline]
    pub fn train_max(&self) -> usize {
        if self.underlay.cuts() { host::TRAIN_DATAGRAMS_MAX } else { 1 }
    }

    /// Sends datagrams, headers included, to a node.
    #[inline]
    pub fn send(&self, to: &Remote, sender: usize, datagrams: &Datagrams<'_>) -> io::Result<()> {
        self.underlay.send(sender, &to.to, datagrams)
    }

    pub(super) fn queues(&self) -> u16 {
        self.underlay.queues()
    }

    pub(super) fn descriptor(&self, queue: u16) -> Option<RawFd> {
        self.underlay.descriptor(queue)
    }

    /// Receives trains of one queue into rows of `burst`.
    pub(super) fn receive(
        &self,
        (port, queue): (&Port, u16),
        burst: &mut Burst,
        (world, lane): (&World, &mut Lane),
        budget: Budget,
    ) -> Taken {
        let first = burst.len;
        let (mut trains, mut bytes) = (0, 0);
        loop {
            let enough = bytes >= budget.bytes || burst.len - first >= budget.frames;
            if enough || burst.room() < TRAIN_MAX + ROOM_FOR_ANSWERS || lane.slots.free().0 < TRAIN_MAX {
                return Taken { frames: trains, drained: false };
            }
            let Some(landed) = lane.spare.or_else(|| lane.slots.take_big()) else {
                return Taken { frames: trains, drained: false };
            };
            lane.spare = Some(landed);
            let landing = &mut lane.slots.landing(landed)[self.landing()..];
            match self.underlay.receive(queue, landing) {
                Ok(Some(train)) => {
                    bytes += train.length;
                    trains += 1;
                    let remote = world.remotes.number_of(port.number, train.from);
                    Taking { uplink: self, port, burst, lane, landed, remote }.take(&train);
                }
                // What the underlay reports of a datagram sent earlier has been counted as sent.
                Ok(None) | Err(_) => return Taken { frames: trains, drained: true },
            }
        }
    }

    /// Where a train lands in a slot.
    fn landing(&self) -> usize {
        VNET_HEADER_LEN + self.skipped() - self.header.len()
    }
}

/// Making rows of a landed train.
struct Taking<'a> {
    uplink: &'a Uplink,
    port: &'a Port,
    burst: &'a mut Burst,
    lane: &'a mut Lane,
    landed: u32,
    remote: u16,
}

impl Taking<'_> {
    fn take(&mut self, train: &Train) {
        let counters = self.port.counters.of(self.lane.number);
        let (segment, told) = match self.is_super_frame(train) {
            true => (train.length, u16::try_from(train.segment).ok()),
            false => (train.segment, None),
        };
        let alone = train.length <= segment;
        let mut start = 0;
        let mut datagrams = 0;
        while start < train.length {
            let end = train.length.min(start + segment);
            if let Err(reason) = self.take_one((start, end), alone, (told, train.tos)) {
                counters.drop(reason);
            }
            (start, datagrams) = (end, datagrams + 1);
        }
        counters.add(Count::Received, datagrams);
        counters.add(Count::ReceivedBytes, train.length as u64);
    }

    /// True for one datagram with a UDP super-frame that the kernel beside us has not cut. Its segment size, the inner one, is
    /// told as that of a train is; but no frame of a train is as long as all of it.
    fn is_super_frame(&mut self, train: &Train) -> bool {
        if train.segment >= train.length || self.uplink.header.is_empty() {
            return false;
        }
        let header_len = self.uplink.header.len();
        let landed = &self.lane.slots.landing(self.landed)[self.uplink.landing()..][..train.length];
        let inner = landed.get(header_len..).and_then(Layout::parse);
        inner.is_some_and(|inner| header_len + inner.end == train.length)
    }

    fn take_one(
        &mut self,
        (start, end): (usize, usize),
        alone: bool,
        (told, tos): (Option<u16>, u8),
    ) -> Result<(), Reason> {
        let (uplink, ethernet) = (self.uplink, self.ethernet());
        if self.remote == 0 {
            return Err(Reason::ForeignSource);
        }
        let landing = self.lane.slots.landing(self.landed);
        let (start, end) = (start + uplink.landing(), end + uplink.landing());
        let payload = FrameRef { head: &landing[start..end], tail: &[] };
        let Inner { at, group } = uplink.tunnel.strip(payload)?;
        if group {
            return Err(Reason::Multicast);
        }
        let frame = start + at.start - uplink.skipped()..start + at.end;
        if uplink.skipped() > 0 {
            landing[frame.start..frame.start + ETHERNET_LEN].copy_from_slice(&ethernet);
        }
        ecn::propagate(tos, &mut landing[frame.start + ETHERNET_LEN..frame.end])?;
        let offload = Offload::of_bare(FrameRef { head: &landing[frame.clone()], tail: &[] }, uplink.mtu, told)?;
        let length = frame.len();
        if self.burst.room() <= ROOM_FOR_ANSWERS {
            return Err(Reason::NoRoom);
        }
        let head = self.lane.slots.take_small().ok_or(Reason::NoRoom)?;
        let tail = if alone { self.leave(head, length) } else { self.copy(head, &frame)? };
        self.lane.slots.before_mut(head, VNET_HEADER_LEN).copy_from_slice(&offload.bytes());
        self.burst.push(head, tail, length as u32, self.port.number);
        self.burst.remote[self.burst.len - 1] = self.remote;
        Ok(())
    }

    /// Takes in the only frame; its rest stays where it landed.
    fn leave(&mut self, head: u32, length: usize) -> u32 {
        self.lane.slots.take_in(head, self.landed, length);
        if length <= SMALL_LEN {
            return NO_TAIL;
        }
        self.lane.spare = None;
        self.landed
    }

    /// Copies a frame to slots of its own.
    fn copy(&mut self, head: u32, frame: &Range<usize>) -> Result<u32, Reason> {
        let long = frame.len() > SMALL_LEN;
        let rest = if long { self.lane.slots.take_big() } else { Some(NO_TAIL) };
        let Some(rest) = rest else {
            self.lane.slots.give_small(head);
            return Err(Reason::NoRoom);
        };
        self.lane.slots.take_part((head, rest), (self.landed, frame.start - VNET_HEADER_LEN), frame.len());
        Ok(rest)
    }

    /// What a station of the tunnel would have put before the IPv4 packet.
    fn ethernet(&self) -> [u8; ETHERNET_LEN] {
        let mut header = [0; ETHERNET_LEN];
        header[..6].copy_from_slice(&self.port.gateway.0);
        header[6..12].copy_from_slice(&Mac::ZERO.0);
        header[12..].copy_from_slice(&ethertype::IPV4.to_be_bytes());
        header
    }
}

/// Most datagrams the kernel puts into one train (`UDP_MAX_SEGMENTS` of Linux `include/linux/udp.h`).
const TRAIN_MAX: usize = 128;

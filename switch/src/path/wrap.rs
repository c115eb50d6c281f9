//! Wrap: departing through a tunnel.
//!
//! The rows of an uplink go out as **trains**: datagrams of equal length to one node from one source port, sent by one
//! call. The rows are taken node by node and port by port, in the order they came; since a flow's source port is chosen
//! by its hash, no frame overtakes one of its flow.
//!
//! ```text
//!   small frames, of any flow   [header|frame] [header|frame] [header|frame]       a longer frame begins another train,
//!                                                                                  a shorter one is a train's last
//!   a super-frame               [outer headers|frame ..................... ]       whole, where the kernel takes it so
//!                                                                                  (crate::port::Express), else
//!                               [header|headers|part of payload] [..|..|..] ...    cut here, checksums finished
//! ```
//!
//! Nothing is copied but the headers of cut segments. On the wire every checksum is finished: the inner one here, the
//! outer one by the kernel or the card.

use std::io::IoSlice;

use arrayvec::ArrayVec;
use control::Form;
use encap::{VXLAN_LEN, ecn};
use host::{Datagrams, TRAIN_BYTES_MAX, TRAIN_DATAGRAMS_MAX};
use packet::view::ETHERNET_LEN;
use packet::{BURST, ChecksumForm, Cut, HEADERS_MAX, Offload, Reason, complete_checksum_at};

use super::depart::Departure;
use super::transport_fields::flow_hash;
use crate::port::{Count, EXPRESS_ROOM, Uplink};
use crate::remotes::Remote;

/// The scratch memory of wrapping, used again every turn.
pub(super) struct Wraps {
    groups: Groups,
    /// By row.
    datagrams: [Datagram; BURST],
    /// The rows of one group, and of one train of it.
    rows: [u8; BURST],
    train: [u8; TRAIN_DATAGRAMS_MAX],
    blocks: Box<[[u8; BLOCK_LEN]; TRAIN_DATAGRAMS_MAX]>,
}

/// What a row's frame is on the way through the tunnel.
#[derive(Clone, Copy, Default)]
struct Datagram {
    /// With the tunnel's header; of a super-frame it means nothing.
    bytes: u32,
    /// TOS or traffic class of the outer header, which brings the congestion mark along.
    tos: u8,
    is_super: bool,
}

/// Which rows go to one node by one sender, without sorting them: rows whose keys share a place are chained, in order.
struct Groups {
    /// By row: remote << 16 | sender.
    keys: [u32; BURST],
    /// By place, 1 more than the first row; 0 for none, and between turns.
    first: Box<[u16; PLACES]>,
    /// By row, 1 more than the next.
    next: [u16; BURST],
}

impl Wraps {
    pub(super) fn new() -> Self {
        Wraps {
            groups: Groups { keys: [0; BURST], first: Box::new([0; PLACES]), next: [0; BURST] },
            datagrams: [Datagram::default(); BURST],
            rows: [0; BURST],
            train: [0; TRAIN_DATAGRAMS_MAX],
            blocks: Box::new([[0; BLOCK_LEN]; TRAIN_DATAGRAMS_MAX]),
        }
    }
}

impl Groups {
    fn place(key: u32) -> usize {
        (key >> 16 << 3 ^ key & 0xffff) as usize % PLACES
    }

    /// Puts a row before those of its place.
    #[inline]
    fn add(&mut self, row: usize, key: u32) {
        let first = &mut self.first[Self::place(key)];
        (self.keys[row], self.next[row]) = (key, *first);
        *first = row as u16 + 1;
    }

    /// Takes the chain that begins with this row: 1 more than its number; 0 if none does.
    #[inline]
    fn take(&mut self, row: usize) -> u16 {
        let first = &mut self.first[Self::place(self.keys[row])];
        if usize::from(*first) == row + 1 { std::mem::take(first) } else { 0 }
    }

    /// Takes the rows of the first one's key off a chain, and says how many they are and where the chain now begins.
    #[inline]
    fn split(&mut self, chain: u16, rows: &mut [u8; BURST]) -> (usize, u16) {
        let key = self.keys[usize::from(chain) - 1];
        let (mut at, mut count, mut rest, mut last) = (chain, 0, 0, None);
        while at != 0 {
            let row = usize::from(at) - 1;
            if self.keys[row] == key {
                rows[count] = row as u8;
                count += 1;
            } else {
                *last.map_or(&mut rest, |last: usize| &mut self.next[last]) = at;
                last = Some(row);
            }
            at = self.next[row];
        }
        if let Some(last) = last {
            self.next[last] = 0;
        }
        (count, rest)
    }
}

/// Where a train goes.
#[derive(Clone, Copy)]
struct Way<'a> {
    uplink: &'a Uplink,
    remote: &'a Remote,
    sender: usize,
}

/// What is known of the rows that go out as one train.
#[derive(Clone, Copy, Default)]
struct Train {
    count: usize,
    bytes: usize,
    /// Bytes of each datagram but the last.
    segment: usize,
    /// TOS or traffic class of the outer header.
    tos: u8,
    /// The last one is shorter: nothing comes after it.
    ended: bool,
}

impl Departure<'_> {
    /// Sends `rows`, all of which depart by this uplink.
    pub(super) fn wrap_all(&mut self, uplink: &Uplink, rows: &[u8], wraps: &mut Wraps) {
        let Wraps { groups, datagrams, rows: group, train, blocks } = wraps;
        for &row in rows.iter().rev() {
            let row = usize::from(row);
            let start = self.slots.start(self.burst.head[row]);
            let hash = flow_hash(start, self.burst, row);
            let (sender, tos) = (uplink.sender_of((hash >> 32) as u32), ecn::outer_of(&start[ETHERNET_LEN..]));
            let remote = self.world.adjacency(self.burst.adjacency[row]).remote;
            match self.stamp(uplink, row) {
                Ok(bytes) => datagrams[row] = Datagram { bytes: bytes.unwrap_or(0), tos, is_super: bytes.is_none() },
                Err(reason) => {
                    self.settle(row, Err(reason));
                    continue;
                }
            }
            groups.add(row, u32::from(remote) << 16 | sender as u32);
        }
        for &row in rows {
            let mut chain = groups.take(row.into());
            while chain != 0 {
                let (count, rest) = groups.split(chain, group);
                let (key, rows, world) = (groups.keys[usize::from(group[0])], &group[..count], self.world);
                match world.remotes.get((key >> 16) as u16) {
                    Some(remote) => {
                        let way = Way { uplink, remote, sender: usize::from(key as u16) };
                        self.wrap_flows(way, (rows, datagrams), (train, &mut blocks[..]));
                    }
                    None => rows.iter().for_each(|&row| self.settle(row.into(), Err(Reason::PortGone))),
                }
                chain = rest;
            }
        }
    }

    /// Makes a frame a datagram in place: its checksum finished, the tunnel's header before it. How long it is then; none for a
    /// super-frame, which stays as it is.
    #[inline]
    fn stamp(&mut self, uplink: &Uplink, row: usize) -> Result<Option<u32>, Reason> {
        let (head, tail, length) = (self.burst.head[row], self.burst.tail[row], self.burst.length[row]);
        let (beside, _) = self.slots.header_and_start(head);
        if beside[1] & SUPER != 0 {
            return Ok(None);
        }
        if beside[0] & UNFINISHED != 0 {
            let word = |at: usize| u16::from_le_bytes([beside[at], beside[at + 1]]);
            let place = (word(6), word(8));
            let (head, tail) = self.slots.frame_mut(head, tail, length);
            complete_checksum_at(head, tail, place).map_err(|_| Reason::Uncuttable)?;
            self.tracer.formed(row, Form::Completed, 1);
        }
        let header = uplink.header();
        match <&[u8; VXLAN_LEN]>::try_from(header) {
            Ok(header) => self.slots.before_mut(head, VXLAN_LEN).copy_from_slice(header),
            Err(_) => self.slots.before_mut(head, header.len()).copy_from_slice(header),
        }
        Ok(Some((header.len() + length as usize - uplink.skipped()) as u32))
    }

    #[inline]
    fn wrap_flows(
        &mut self,
        way: Way<'_>,
        (rows, datagrams): (&[u8], &[Datagram; BURST]),
        (own, blocks): (&mut [u8; TRAIN_DATAGRAMS_MAX], &mut [[u8; BLOCK_LEN]]),
    ) {
        let mut train = Train::default();
        for &row in rows {
            let datagram = datagrams[usize::from(row)];
            if datagram.is_super {
                self.send(way, &mut train, own);
                self.wrap_super(way, row.into(), datagram.tos, blocks);
                continue;
            }
            if !train.takes(datagram, way.uplink.train_max()) {
                self.send(way, &mut train, own);
            }
            own[train.count] = row;
            train.push(datagram);
        }
        self.send(way, &mut train, own);
    }

    /// Sends a super-frame, whole if there is a way for it.
    fn wrap_super(&mut self, way: Way<'_>, row: usize, tos: u8, blocks: &mut [[u8; BLOCK_LEN]]) {
        let offload = self.offload(row);
        let sent = match self.send_uncut(way, (row, tos), &offload) {
            Some(sent) => sent,
            None => self.send_cut(way, (row, tos, &offload), blocks),
        };
        self.settle(row, sent);
    }

    /// Sends what the train has, and empties it.
    #[inline]
    fn send(&mut self, way: Way<'_>, train: &mut Train, rows: &[u8; TRAIN_DATAGRAMS_MAX]) {
        let rows = &rows[..train.count];
        if rows.is_empty() {
            return;
        }
        let (before, skipped) = (way.uplink.header().len(), way.uplink.skipped());
        let mut slices = ArrayVec::<_, { 2 * TRAIN_DATAGRAMS_MAX }>::new();
        for &row in rows {
            let row = usize::from(row);
            let (head, tail, length) = (self.burst.head[row], self.burst.tail[row], self.burst.length[row]);
            let frame = self.slots.frame_with(head, tail, length, before);
            slices.push(IoSlice::new(&frame.head[skipped..]));
            if !frame.tail.is_empty() {
                slices.push(IoSlice::new(frame.tail));
            }
        }
        let datagrams = Datagrams { slices: &slices, segment: train.segment, tos: train.tos };
        let sent = way.uplink.send(way.remote, way.sender, &datagrams).map_err(|_| Reason::WriteFailed);
        drop(slices);
        self.counters().add(Count::Joined, u64::from(sent.is_ok() && rows.len() > 1));
        for &row in rows {
            self.settle(row.into(), sent);
        }
        *train = Train::default();
    }

    /// Sends a super-frame whole, if there is a way for it.
    fn send_uncut(&mut self, way: Way<'_>, (row, tos): (usize, u8), offload: &Offload) -> Option<Result<(), Reason>> {
        let (express, template) = (way.uplink.express.as_ref()?, way.remote.template.as_ref()?);
        let (head, tail, length) = (self.burst.head[row], self.burst.tail[row], self.burst.length[row]);
        let room = self.slots.before_mut(head, EXPRESS_ROOM).try_into().expect("as many bytes as were asked for");
        let before = express.wrap((template, way.sender, tos), (offload, length as usize), room)?;
        let frame = self.slots.frame_with(head, tail, length, before);
        let slices = [IoSlice::new(frame.head), IoSlice::new(frame.tail)];
        Some(express.write(self.worker, &slices).map_err(|_| Reason::WriteFailed))
    }

    /// Sends a super-frame as trains of its segments.
    fn send_cut(
        &mut self,
        way: Way<'_>,
        (row, tos, offload): (usize, u8, &Offload),
        blocks: &mut [[u8; BLOCK_LEN]],
    ) -> Result<(), Reason> {
        let (head, tail, length) = (self.burst.head[row], self.burst.tail[row], self.burst.length[row]);
        let frame = self.slots.frame(head, tail, length);
        let mut cut = Cut::new(frame, offload, ChecksumForm::Complete).map_err(|_| Reason::Uncuttable)?;
        let (header, skipped) = (way.uplink.header(), way.uplink.skipped());
        self.tracer.formed(row, Form::Cut, cut.segments());
        let (from, to) = (skipped, header.len() + cut.header_len());
        let mut failed = false;
        loop {
            // Ranges of the payload: a segment's bytes lie in up to two pieces of memory.
            let mut parts = ArrayVec::<_, TRAIN_DATAGRAMS_MAX>::new();
            let mut bytes = 0;
            while parts.len() < way.uplink.train_max()
                && bytes + to - from + usize::from(offload.gso_size) <= TRAIN_BYTES_MAX
            {
                let block = &mut blocks[parts.len()];
                let Some(part) = cut.next(&mut block[header.len()..]) else { break };
                block[..header.len()].copy_from_slice(header);
                bytes += to - from + part.len();
                parts.push(part);
            }
            let Some(first) = parts.first() else {
                return if failed { Err(Reason::WriteFailed) } else { Ok(()) };
            };
            let mut slices = ArrayVec::<_, { 3 * TRAIN_DATAGRAMS_MAX }>::new();
            for (part, block) in parts.iter().zip(&*blocks) {
                let pieces = [&block[from..to]].into_iter().chain(cut.payload(part));
                slices.extend(pieces.filter(|piece| !piece.is_empty()).map(IoSlice::new));
            }
            let datagrams = Datagrams { slices: &slices, segment: to - from + first.len(), tos };
            failed |= way.uplink.send(way.remote, way.sender, &datagrams).is_err();
        }
    }
}

impl Train {
    /// True if a datagram may go with those there are.
    fn takes(&self, Datagram { bytes, tos, .. }: Datagram, datagrams_max: usize) -> bool {
        self.count == 0
            || !self.ended
                && tos == self.tos
                && bytes as usize <= self.segment
                && self.count < datagrams_max
                && self.bytes + bytes as usize <= TRAIN_BYTES_MAX
    }

    fn push(&mut self, Datagram { bytes, tos, .. }: Datagram) {
        let bytes = bytes as usize;
        if self.count == 0 {
            (self.segment, self.tos) = (bytes, tos);
        }
        self.count += 1;
        self.bytes += bytes;
        self.ended = bytes < self.segment;
    }
}

/// Of a virtio header's second byte, what says that it is beside a super-frame.
const SUPER: u8 = 0x7f;
/// Of its first byte, what says that a checksum is unfinished.
const UNFINISHED: u8 = 1;
/// More than there are ways in a small cluster.
const PLACES: usize = 1024;
/// A tunnel's header, and all headers of a segment.
const BLOCK_LEN: usize = 8 + HEADERS_MAX;

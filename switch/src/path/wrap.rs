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

use control::Form;
use encap::ecn;
use host::{Datagrams, TRAIN_BYTES_MAX, TRAIN_DATAGRAMS_MAX};
use packet::view::ETHERNET_LEN;
use packet::{BURST, ChecksumForm, Cut, Gso, HEADERS_MAX, Offload, Reason};

use super::depart::Departure;
use super::transport_fields::flow_hash;
use crate::port::{Count, EXPRESS_ROOM, Uplink};
use crate::remotes::Remote;

/// The scratch memory of wrapping, used again every turn.
pub(super) struct Wraps {
    /// remote << 32 | sender << 16 | row
    order: [u64; BURST],
    blocks: Box<[[u8; BLOCK_LEN]; TRAIN_DATAGRAMS_MAX]>,
}

impl Wraps {
    pub(super) fn new() -> Self {
        Wraps { order: [0; BURST], blocks: Box::new([[0; BLOCK_LEN]; TRAIN_DATAGRAMS_MAX]) }
    }
}

fn row_of(key: u64) -> usize {
    usize::from(key as u16)
}

/// Where a train goes.
#[derive(Clone, Copy)]
struct Way<'a> {
    uplink: &'a Uplink,
    remote: &'a Remote,
    sender: usize,
}

/// Rows that go out as one train.
#[derive(Clone, Copy)]
struct Train {
    rows: [u16; TRAIN_DATAGRAMS_MAX],
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
        let order = &mut wraps.order[..rows.len()];
        for (key, &row) in order.iter_mut().zip(rows) {
            let row = usize::from(row);
            let remote = self.world.adjacency(self.burst.adjacency[row]).remote;
            let hash = flow_hash(self.slots.start(self.burst.head[row]), self.burst, row);
            let sender = uplink.sender_of((hash >> 32) as u32);
            *key = u64::from(remote) << 32 | (sender as u64) << 16 | row as u64;
        }
        order.sort_unstable();
        for rows in order.chunk_by(|one, next| one >> 16 == next >> 16) {
            let (number, sender) = ((rows[0] >> 32) as u16, usize::from((rows[0] >> 16) as u16));
            let world = self.world;
            match world.remotes.get(number) {
                Some(remote) => self.wrap_flows(Way { uplink, remote, sender }, rows, &mut wraps.blocks[..]),
                None => rows.iter().for_each(|&row| self.settle(row_of(row), Err(Reason::PortGone))),
            }
        }
    }

    fn wrap_flows(&mut self, way: Way<'_>, rows: &[u64], blocks: &mut [[u8; BLOCK_LEN]]) {
        let mut train = Train::EMPTY;
        for &row in rows {
            let row = row_of(row);
            let offload = self.offload(row);
            if offload.gso != Gso::None {
                self.send(way, &mut train);
                let sent = match self.send_uncut(way, row, &offload) {
                    Some(sent) => sent,
                    None => self.send_cut(way, (row, &offload), blocks),
                };
                self.settle(row, sent);
                continue;
            }
            if offload.needs_csum
                && let Err(reason) = self.complete(row, offload)
            {
                self.settle(row, Err(reason));
                continue;
            }
            let length = way.uplink.header().len() + self.burst.length[row] as usize - way.uplink.skipped();
            let tos = self.outer_tos(row);
            if !train.takes((length, tos), way.uplink.train_max()) {
                self.send(way, &mut train);
            }
            train.push(row, (length, tos));
        }
        self.send(way, &mut train);
    }

    /// The outer TOS or traffic class of a row's packet, which brings its congestion mark along.
    fn outer_tos(&self, row: usize) -> u8 {
        ecn::outer_of(&self.slots.start(self.burst.head[row])[ETHERNET_LEN..])
    }

    /// Sends what the train has, and empties it.
    fn send(&mut self, way: Way<'_>, train: &mut Train) {
        let rows = &train.rows[..train.count];
        if rows.is_empty() {
            return;
        }
        let (header, skipped) = (way.uplink.header(), way.uplink.skipped());
        let mut slices = [IoSlice::new(&[]); 2 * TRAIN_DATAGRAMS_MAX];
        let mut count = 0;
        for &row in rows {
            let head = self.burst.head[usize::from(row)];
            self.slots.before_mut(head, header.len()).copy_from_slice(header);
        }
        for &row in rows {
            let row = usize::from(row);
            let (head, tail, length) = (self.burst.head[row], self.burst.tail[row], self.burst.length[row]);
            let frame = self.slots.frame_with(head, tail, length, header.len());
            slices[count] = IoSlice::new(&frame.head[skipped..]);
            slices[count + 1] = IoSlice::new(frame.tail);
            count += 1 + usize::from(!frame.tail.is_empty());
        }
        let datagrams = Datagrams { slices: &slices[..count], segment: train.segment, tos: train.tos };
        let sent = way.uplink.send(way.remote, way.sender, &datagrams).map_err(|_| Reason::WriteFailed);
        self.counters().add(Count::Joined, u64::from(sent.is_ok() && rows.len() > 1));
        for &row in rows {
            self.settle(row.into(), sent);
        }
        *train = Train::EMPTY;
    }

    /// Sends a super-frame whole, if there is a way for it.
    fn send_uncut(&mut self, way: Way<'_>, row: usize, offload: &Offload) -> Option<Result<(), Reason>> {
        let (express, template) = (way.uplink.express.as_ref()?, way.remote.template.as_ref()?);
        let (head, tail, length) = (self.burst.head[row], self.burst.tail[row], self.burst.length[row]);
        let tos = self.outer_tos(row);
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
        (row, offload): (usize, &Offload),
        blocks: &mut [[u8; BLOCK_LEN]],
    ) -> Result<(), Reason> {
        let (head, tail, length) = (self.burst.head[row], self.burst.tail[row], self.burst.length[row]);
        let frame = self.slots.frame(head, tail, length);
        let mut cut = Cut::new(frame, offload, ChecksumForm::Complete).map_err(|_| Reason::Uncuttable)?;
        let (header, skipped) = (way.uplink.header(), way.uplink.skipped());
        self.tracer.formed(row, Form::Cut, cut.segments());
        let (from, to, tos) = (skipped, header.len() + cut.header_len(), self.outer_tos(row));
        let mut failed = false;
        loop {
            // Ranges of the payload: a segment's bytes lie in up to two pieces of memory.
            let mut parts = [const { 0..0 }; TRAIN_DATAGRAMS_MAX];
            let (mut count, mut bytes) = (0, 0);
            while count < way.uplink.train_max() && bytes + to - from + usize::from(offload.gso_size) <= TRAIN_BYTES_MAX
            {
                let block = &mut blocks[count];
                let Some(part) = cut.next(&mut block[header.len()..]) else { break };
                block[..header.len()].copy_from_slice(header);
                bytes += to - from + part.len();
                parts[count] = part;
                count += 1;
            }
            if count == 0 {
                return if failed { Err(Reason::WriteFailed) } else { Ok(()) };
            }
            let mut slices = [IoSlice::new(&[]); 3 * TRAIN_DATAGRAMS_MAX];
            let mut used = 0;
            for (part, block) in parts[..count].iter().zip(&*blocks) {
                for bytes in [&block[from..to]].into_iter().chain(cut.payload(part)).filter(|bytes| !bytes.is_empty()) {
                    slices[used] = IoSlice::new(bytes);
                    used += 1;
                }
            }
            let datagrams = Datagrams { slices: &slices[..used], segment: to - from + parts[0].len(), tos };
            failed |= way.uplink.send(way.remote, way.sender, &datagrams).is_err();
        }
    }
}

impl Train {
    const EMPTY: Train = Train { rows: [0; TRAIN_DATAGRAMS_MAX], count: 0, bytes: 0, segment: 0, tos: 0, ended: false };

    /// True if a datagram of that length and TOS may go with those there are.
    fn takes(&self, (length, tos): (usize, u8), datagrams_max: usize) -> bool {
        self.count == 0
            || !self.ended
                && tos == self.tos
                && length <= self.segment
                && self.count < datagrams_max
                && self.bytes + length <= TRAIN_BYTES_MAX
    }

    fn push(&mut self, row: usize, (length, tos): (usize, u8)) {
        if self.count == 0 {
            (self.segment, self.tos) = (length, tos);
        }
        self.rows[self.count] = row as u16;
        self.count += 1;
        self.bytes += length;
        self.ended = length < self.segment;
    }
}

/// A tunnel's header, and all headers of a segment.
const BLOCK_LEN: usize = 8 + HEADERS_MAX;

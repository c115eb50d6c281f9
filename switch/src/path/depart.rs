//! Depart: by which port, in which form?
//!
//! Every row of the burst is settled here, exactly once: dropped under its reason, handed to the slow path, or written
//! to its port. The rows of one port are taken together, in the order they came, and the port that gets the fewest first
//! ([`super::lists`]):
//!
//! ```text
//!   rows --by port--> [ join: same-flow frames become groups ] --> one write per group
//!                                                          \
//!                       a frame alone: as it is, or cut into segments, or its checksum completed,
//!                                      as the port's abilities ask
//! ```
//!
//! Nothing is copied: a group is gathered from its members' slots, a cut super-frame from fresh header blocks and slices
//! of its payload. All writes happen within the turn, so that afterwards the slots can be given back. A packet dropped
//! here gets its exit written as everywhere. What goes to another node through a tunnel is [`super::wrap`]'s.

use std::io::IoSlice;

use arrayvec::ArrayVec;
use control::Form;
use packet::{
    BURST, Burst, ChecksumForm, Cut, Exit, Group, Gso, HEADERS_MAX, Join, JoinKinds, MEMBERS_MAX, Offload, Punt,
    Reason, SMALL_LEN, Slots, VNET_HEADER_LEN, complete_checksum,
};

use super::lists::{List, Lists};
use super::transport_fields::flow_hash;
use super::wrap::Wraps;
use crate::bank::PORTS_MAX;
use crate::lane::Lane;
use crate::port::{Abilities, Count, Link, Port, WorkerCounters, WorkerSent};
use crate::tracer::Tracer;
use crate::world::World;

/// The departure's scratch memory, used again every turn.
pub struct Departures {
    lists: Lists,
    /// The rows of one list.
    rows: [u8; BURST],
    join: Join,
    wraps: Wraps,
}

impl Departures {
    /// All the memory it will ever need.
    pub(crate) fn new() -> Box<Self> {
        Box::new(Departures { lists: Lists::new(), rows: [0; BURST], join: Join::new(), wraps: Wraps::new() })
    }
}

pub(super) fn depart(burst: &mut Burst, world: &World, lane: &mut Lane) {
    if burst.has_leavers() {
        settle_leavers(burst, world, lane);
    }
    let sent = world.sent.of(lane.number);
    lane.departures.lists.fill(burst, &world.ports, sent);
    for row in burst.rows() {
        let to = burst.to[row];
        if !burst.exit[row].is_none() {
            continue;
        }
        let Some(list) = lane.departures.lists.meet(row, to) else { continue };
        match world.port(to) {
            Some(port) if port.abilities.are_all() => {
                let written = write_whole((burst, &lane.slots), (port, lane.number), row);
                settle(burst, (world, sent, lane.number), row, written);
            }
            _ if list.rows() > 0 => depart_list(burst, world, lane, list),
            // It went with the first of its list.
            _ => {}
        }
    }
    for number in 0..lane.departures.lists.sort().min(BURST) {
        depart_list(burst, world, lane, lane.departures.lists.list(number));
    }
}

#[inline(never)]
fn depart_list(burst: &mut Burst, world: &World, lane: &mut Lane, list: List) {
    let Lane { number: worker, slots, tracer, departures, .. } = lane;
    let Departures { lists, rows, join, wraps } = &mut **departures;
    let worker = *worker;
    let Some(port) = world.port(list.port()) else {
        let rows = lists.rows_of(&list, rows);
        return rows.iter().for_each(|&row| drop_row(burst, (world, worker), row.into(), Reason::PortGone));
    };
    let rows = lists.rows_of(&list, rows);
    let mut departure = Departure { burst, world, port, slots, tracer, worker };
    match &port.link {
        Link::Uplink(uplink) => departure.wrap_all(uplink, rows, wraps),
        _ => departure.write_all(rows, join),
    }
}

/// Counts the rows that left early, and hands punts over.
fn settle_leavers(burst: &mut Burst, world: &World, lane: &mut Lane) {
    for row in burst.rows() {
        let exit = burst.exit[row];
        if !exit.is_none() {
            let_go(burst, world, lane, (row, exit));
        }
    }
}

#[inline(never)]
fn let_go(burst: &mut Burst, world: &World, lane: &mut Lane, (row, exit): (usize, Exit)) {
    if let Some(reason) = exit.reason() {
        drop_row(burst, (world, lane.number), row, reason);
    } else if let Some(why) = exit.why() {
        punt_row(burst, world, lane, (row, why));
    }
}

fn punt_row(burst: &mut Burst, world: &World, lane: &mut Lane, (row, why): (usize, Punt)) {
    if !lane.punt(burst, row, why) {
        drop_row(burst, (world, lane.number), row, Reason::PuntFull);
    } else if let Some(port) = world.port(burst.from[row]) {
        port.counters.of(lane.number).punt(why);
    }
}

/// The one place where a departing row is counted: sent, or dropped.
#[inline(always)]
fn settle(
    burst: &mut Burst,
    (world, sent, worker): (&World, &WorkerSent, u16),
    row: usize,
    written: Result<(), Reason>,
) {
    match written {
        Ok(()) => {
            let [packets, bytes] = &sent[usize::from(burst.to[row]) % PORTS_MAX];
            packets.add(1);
            bytes.add(burst.length[row].into());
        }
        Err(reason) => {
            if let Some(port) = world.port(burst.to[row]).filter(|_| reason == Reason::OverLimit) {
                port.counters.of(worker).add(Count::OverLimit, 1);
            }
            drop_row(burst, (world, worker), row, reason);
        }
    }
}

/// True when two rows are of one flow, or may be.
#[inline]
fn is_any_flow_repeated((burst, slots): (&Burst, &Slots), rows: &[u8], join: &mut Join) -> bool {
    let hash = |&row: &u8| flow_hash(slots.start(burst.head[usize::from(row)]), burst, row.into());
    rows.len() > 1 && join.is_any_repeated(rows.iter().map(hash))
}

#[cold]
fn drop_row(burst: &mut Burst, (world, worker): (&World, u16), row: usize, reason: Reason) {
    burst.exit[row] = Exit::drop(reason);
    if let Some(port) = world.port(burst.from[row]) {
        port.counters.of(worker).drop(reason);
    }
}

/// The departure of some rows by one port.
pub(super) struct Departure<'a> {
    pub(super) burst: &'a mut Burst,
    pub(super) world: &'a World,
    port: &'a Port,
    pub(super) slots: &'a mut Slots,
    pub(super) tracer: &'a mut Tracer,
    /// Who writes.
    pub(super) worker: u16,
}

impl Departure<'_> {
    pub(super) fn counters(&self) -> &WorkerCounters {
        self.port.counters.of(self.worker)
    }

    fn write_all(&mut self, rows: &[u8], join: &mut Join) {
        if !is_any_flow_repeated((self.burst, self.slots), rows, join) {
            return rows.iter().for_each(|&row| self.write_alone(row.into()));
        }
        join.clear(kinds(self.port.abilities));
        for &row in rows {
            let row = usize::from(row);
            let offload = self.offload(row);
            let (head, tail, length) = (self.burst.head[row], self.burst.tail[row], self.burst.length[row]);
            let pushed = join.push(row as u32, self.slots.frame(head, tail, length), &offload);
            debug_assert!(pushed, "a burst has no more rows than a join takes");
        }
        for group in join.groups() {
            match group.len() {
                1 => self.write_alone(group.first() as usize),
                _ => self.write_group(&group),
            }
        }
    }

    /// Several frames as one super-frame: the first whole, of the others what follows the headers.
    fn write_group(&mut self, group: &Group<'_>) {
        let first = group.first() as usize;
        let offload = group.apply(self.slots.head_mut(self.burst.head[first], self.burst.length[first]));
        self.set_offload(first, &offload);
        let mut slices = ArrayVec::<_, { 2 * MEMBERS_MAX }>::new();
        for row in group.members() {
            let row = row as usize;
            let before = if row == first { VNET_HEADER_LEN } else { 0 };
            let skip = if row == first { 0 } else { group.header_len() };
            let (head, tail, length) = (self.burst.head[row], self.burst.tail[row], self.burst.length[row]);
            let frame = self.slots.frame_with(head, tail, length, before);
            slices.push(IoSlice::new(&frame.head[skip..]));
            if !frame.tail.is_empty() {
                slices.push(IoSlice::new(frame.tail));
            }
        }
        let written = self.port.write(self.worker, &slices);
        drop(slices);
        self.counters().add(Count::Joined, u64::from(written.is_ok()));
        for row in group.members() {
            self.tracer.formed(row as usize, Form::Joined, group.len());
            self.settle(row as usize, written);
        }
    }

    /// One frame in the form the port takes.
    #[inline]
    fn write_alone(&mut self, row: usize) {
        let written = if self.port.abilities.are_all() { self.write_whole(row) } else { self.write_able(row) };
        self.settle(row, written);
    }

    /// The same by a port that does not take everything.
    #[inline(never)]
    fn write_able(&mut self, row: usize) -> Result<(), Reason> {
        let offload = self.offload(row);
        if takes(self.port.abilities, &offload) {
            self.write_whole(row)
        } else if offload.gso == Gso::None {
            self.complete(row, offload).and_then(|()| self.write_whole(row))
        } else {
            self.write_cut(row, &offload)
        }
    }

    #[inline]
    fn write_whole(&mut self, row: usize) -> Result<(), Reason> {
        write_whole((self.burst, self.slots), (self.port, self.worker), row)
    }

    /// Completes a checksum that the port would not.
    fn complete(&mut self, row: usize, mut offload: Offload) -> Result<(), Reason> {
        let (head, tail, length) = (self.burst.head[row], self.burst.tail[row], self.burst.length[row]);
        let (head, tail) = self.slots.frame_mut(head, tail, length);
        complete_checksum(head, tail, &mut offload).map_err(|_| Reason::Uncuttable)?;
        self.set_offload(row, &offload);
        self.tracer.formed(row, Form::Completed, 1);
        Ok(())
    }

    fn write_cut(&mut self, row: usize, offload: &Offload) -> Result<(), Reason> {
        let (head, tail, length) = (self.burst.head[row], self.burst.tail[row], self.burst.length[row]);
        let form = if self.port.abilities.checksum { ChecksumForm::Partial } else { ChecksumForm::Complete };
        let frame = self.slots.frame(head, tail, length);
        let mut cut = Cut::new(frame, offload, form).map_err(|_| Reason::Uncuttable)?;
        let mut block = [0; VNET_HEADER_LEN + HEADERS_MAX];
        block[..VNET_HEADER_LEN].copy_from_slice(&cut.offload().bytes());
        let to = VNET_HEADER_LEN + cut.header_len();
        self.counters().add(Count::Cut, 1);
        self.tracer.formed(row, Form::Cut, cut.segments());
        let mut written = Ok(());
        while let Some(part) = cut.next(&mut block[VNET_HEADER_LEN..]) {
            let [near, far] = cut.payload(&part);
            let slices = [IoSlice::new(&block[..to]), IoSlice::new(near), IoSlice::new(far)];
            written = written.and(self.port.write(self.worker, &slices));
        }
        written
    }

    pub(super) fn offload(&self, row: usize) -> Offload {
        let (header, _) = self.slots.header_and_start(self.burst.head[row]);
        Offload::parse(header).unwrap_or_default()
    }

    fn set_offload(&mut self, row: usize, offload: &Offload) {
        self.slots.before_mut(self.burst.head[row], VNET_HEADER_LEN).copy_from_slice(&offload.bytes());
    }

    #[inline]
    pub(super) fn settle(&mut self, row: usize, written: Result<(), Reason>) {
        settle(self.burst, (self.world, self.world.sent.of(self.worker), self.worker), row, written);
    }
}

/// Writes one frame as it is.
#[inline(always)]
fn write_whole((burst, slots): (&Burst, &Slots), (port, worker): (&Port, u16), row: usize) -> Result<(), Reason> {
    let (head, length) = (burst.head[row], burst.length[row]);
    if length as usize <= SMALL_LEN {
        port.write(worker, &[IoSlice::new(slots.short_with(head, length, VNET_HEADER_LEN))])
    } else {
        let frame = slots.frame_with(head, burst.tail[row], length, VNET_HEADER_LEN);
        port.write(worker, &[IoSlice::new(frame.head), IoSlice::new(frame.tail)])
    }
}

fn kinds(abilities: Abilities) -> JoinKinds {
    JoinKinds { tso4: abilities.tso4, tso6: abilities.tso6, uso: abilities.uso }
}

/// True when a port of these abilities takes the frame as it is.
fn takes(abilities: Abilities, offload: &Offload) -> bool {
    match offload.gso {
        Gso::None => abilities.checksum || !offload.needs_csum,
        Gso::Tcp4 => abilities.tso4,
        Gso::Tcp6 => abilities.tso6,
        Gso::Udp => abilities.uso,
    }
}

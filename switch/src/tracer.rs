//! The tracer: notes what the stages of a turn decide about the packets a trace wants to see.
//!
//! A trace comes and goes with the world. While there is none, each call here is one test. While there is one, `begin`
//! copies the start of every frame that its filter matches into a [`Record`], `saw` notes after each stage who was let
//! go, and `end`, before the slots are given back, reads the rest off the burst's columns, which nobody clears within a
//! turn:
//!
//! ```text
//!   begin   parse saw   leaving saw   route saw   rewrite saw   answers begin_answers   depart end --> ring --> control
//! ```
//!
//! What the columns do not say is told here by the stage that knows: `followed_return` by route, `formed` by depart.
//! Nothing allocates; a traced turn reads the clock once. Limits: [`START_LEN`] bytes of a frame, [`RECORDS`] records on
//! their way to the control thread; what finds no room is counted as missed.

mod headers;
mod matching;
#[cfg(test)]
mod tests;

use std::time::Instant;

use control::{Filter, Form, Stage};
use packet::view::{Ethernet, Ipv4, Ipv6};
use packet::{BURST, Burst, Exit, Mac, Offload, Slots, VNET_HEADER_LEN, shape};
use ring::spsc::{self, Consumer, Producer};

use crate::world::{Adjacency, Hop, World};

pub use headers::{Headers, Network};

/// What a trace wants to see. It is part of the world.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Only packets that enter or depart by this port.
    pub port: Option<u16>,
    /// Only packets that came in as this says.
    pub filter: Option<Filter>,
    /// Only packets that are dropped.
    pub dropped: bool,
    /// When it began.
    pub began: Instant,
}

/// A packet's way along the path.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    row: u16,
    /// When its turn began: nanoseconds since the trace did.
    pub at_nanos: u64,
    /// Port it entered by; none for an answer of the slow path.
    pub from: Option<u16>,
    /// Port it departed by, or was to.
    pub to: Option<u16>,
    /// Bytes of the frame as it came in.
    pub length: u32,
    /// What came beside it.
    pub offload: Offload,
    start: [u8; START_LEN],
    by_return: bool,
    /// What parse found, for those it let pass.
    pub parsed: Parsed,
    /// What route found, for those that came to it.
    pub routed: Option<Routed>,
    /// What it looked like behind rewrite, for those that came that far.
    pub rewritten: Option<Rewritten>,
    /// In which form it was written, and of how many frames that was made or was made of it.
    pub form: (Form, u32),
    /// The stage that let it go, and how; none for those that departed.
    pub left: Option<(Stage, Exit)>,
    /// How it was settled; that differs from the above when the slow path had no room.
    pub settled: Exit,
}

/// The columns that parse fills.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Parsed {
    /// Transport protocol.
    pub protocol: u8,
    /// Bits of [`packet::shape`].
    pub shape: u8,
    /// Offset of the transport header.
    pub transport: u16,
    /// Bytes of the frame without padding.
    pub length: u32,
}

/// What route found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Routed {
    /// The adjacency's number.
    pub number: u16,
    /// The adjacency.
    pub adjacency: Adjacency,
    /// A return entry overruled the route table.
    pub by_return: bool,
}

/// Headers as the next link sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rewritten {
    /// TTL or hop limit.
    pub ttl: u8,
    /// Our own address on that link.
    pub source: Mac,
    /// The station there.
    pub destination: Mac,
}

/// A worker's tracer.
pub struct Tracer {
    notes: Notes,
    ring: Producer<Record>,
    /// Packets that any trace wanted.
    pub matched: u64,
    /// Those of them whose record found no room.
    pub missed: u64,
}

/// What a tracer notes of the burst under way; it goes with the burst where stages are threads.
pub(crate) struct Notes {
    /// There is a trace in this turn.
    on: bool,
    /// Rows of the burst that were looked at.
    looked: usize,
    at_nanos: u64,
    /// In the order of their rows.
    records: Vec<Record>,
}

impl Notes {
    /// Nothing noted, and room for a whole burst.
    pub(crate) fn new() -> Notes {
        Notes { on: false, looked: 0, at_nanos: 0, records: Vec::with_capacity(BURST) }
    }
}

impl Record {
    /// The first bytes of the frame as it came in.
    pub fn start(&self) -> &[u8] {
        &self.start[..START_LEN.min(self.length as usize)]
    }

    fn new((burst, row): (&Burst, usize), slots: &Slots, at_nanos: u64) -> Record {
        let frame = slots.frame(burst.head[row], burst.tail[row], burst.length[row]).head;
        let header = slots.before(burst.head[row], VNET_HEADER_LEN).try_into().expect("a header's length was taken");
        let mut start = [0; START_LEN];
        let length = frame.len().min(START_LEN);
        start[..length].copy_from_slice(&frame[..length]);
        Record {
            row: row as u16,
            at_nanos,
            from: Some(burst.from[row]),
            to: None,
            length: burst.length[row],
            offload: Offload::parse(header).unwrap_or_default(),
            start,
            by_return: false,
            parsed: Parsed::default(),
            routed: None,
            rewritten: None,
            form: (Form::Whole, 1),
            left: None,
            settled: Exit::NONE,
        }
    }

    fn saw(&mut self, stage: Stage, burst: &Burst, world: &World) {
        if self.left.is_some() {
            return;
        }
        let row = usize::from(self.row);
        if stage == Stage::Route {
            let (number, by_return) = (burst.adjacency[row], self.by_return);
            self.routed = Some(Routed { number, adjacency: *world.adjacency(number), by_return });
        }
        let exit = burst.exit[row];
        self.left = (!exit.is_none()).then_some((stage, exit));
    }

    /// Reads what the columns and the frame say when all is decided.
    fn settle(&mut self, burst: &Burst, slots: &Slots) {
        let row = usize::from(self.row);
        self.settled = burst.exit[row];
        let reached_depart = self.left.is_none();
        if reached_depart && !self.settled.is_none() {
            self.left = Some((Stage::Depart, self.settled));
        }
        let forwarded = self.routed.filter(|routed| routed.adjacency.hop == Hop::Forward);
        self.to = forwarded.map(|routed| routed.adjacency.port).or(reached_depart.then_some(burst.to[row]));
        if self.from.is_some() {
            self.parsed = Parsed {
                protocol: burst.protocol[row],
                shape: burst.shape[row],
                transport: burst.transport[row],
                length: burst.length[row],
            };
            let head = slots.frame(burst.head[row], burst.tail[row], burst.length[row]).head;
            self.rewritten = if reached_depart { Rewritten::read(head, burst.shape[row]) } else { None };
        }
    }
}

impl Rewritten {
    fn read(head: &[u8], bits: u8) -> Option<Rewritten> {
        let (ethernet, packet) = (Ethernet::parse(head)?, head.get(packet::view::ETHERNET_LEN..)?);
        let ttl = if bits & shape::V6 == 0 { Ipv4::parse(packet)?.ttl() } else { Ipv6::parse(packet)?.hop_limit() };
        Some(Rewritten { ttl, source: ethernet.source(), destination: ethernet.destination() })
    }
}

impl Trace {
    fn wants(&self, record: &Record) -> bool {
        let by_port = self.port.is_none_or(|port| record.from == Some(port) || record.to == Some(port));
        by_port && (!self.dropped || record.settled.reason().is_some())
    }
}

impl Tracer {
    /// A tracer, and the end at which its records come out.
    pub(crate) fn new() -> (Tracer, Consumer<Record>) {
        let (ring, records) = spsc::ring(RECORDS);
        (Tracer { notes: Notes::new(), ring, matched: 0, missed: 0 }, records)
    }

    /// Goes on with what was noted of another burst.
    #[inline]
    pub(crate) fn exchange(&mut self, notes: &mut Notes) {
        std::mem::swap(&mut self.notes, notes);
    }

    /// Before the first stage.
    #[inline]
    pub(crate) fn begin(&mut self, burst: &Burst, world: &World, slots: &Slots) {
        self.notes.on = world.trace.is_some();
        if let Some(trace) = &world.trace {
            self.notes.looked = 0;
            self.notes.at_nanos = trace.began.elapsed().as_nanos() as u64;
            self.look(trace, burst, slots);
        }
    }

    /// After the slow path's answers have joined: they skipped all stages but the last.
    #[inline]
    pub(crate) fn begin_answers(&mut self, burst: &Burst, world: &World, slots: &Slots) {
        if let Some(trace) = &world.trace {
            let before = self.notes.records.len();
            self.look(trace, burst, slots);
            self.notes.records[before..].iter_mut().for_each(|record| record.from = None);
        }
    }

    /// After a stage.
    #[inline]
    pub(crate) fn saw(&mut self, stage: Stage, burst: &Burst, world: &World) {
        if self.notes.on {
            self.notes.records.iter_mut().for_each(|record| record.saw(stage, burst, world));
        }
    }

    /// A row's next hop is a return entry's, not the route table's.
    #[inline]
    pub(crate) fn followed_return(&mut self, row: usize) {
        if let Some(record) = self.record(row) {
            record.by_return = true;
        }
    }

    /// A row departs in another form than it has.
    #[inline]
    pub(crate) fn formed(&mut self, row: usize, form: Form, frames: usize) {
        if let Some(record) = self.record(row) {
            record.form = (form, frames as u32);
        }
    }

    /// After the last stage, while the slots still hold the frames.
    #[inline]
    pub(crate) fn end(&mut self, burst: &Burst, world: &World, slots: &Slots) {
        let Some(trace) = &world.trace else { return };
        for mut record in self.notes.records.drain(..) {
            record.settle(burst, slots);
            if trace.wants(&record) {
                self.matched += 1;
                self.missed += u64::from(self.ring.push(record).is_err());
            }
        }
    }

    #[cold]
    fn look(&mut self, trace: &Trace, burst: &Burst, slots: &Slots) {
        for row in self.notes.looked..burst.len {
            let head = slots.frame(burst.head[row], burst.tail[row], burst.length[row]).head;
            let matches = |filter: &Filter| matching::holds(filter.expression(), &Headers::of(head), burst.length[row]);
            if trace.filter.as_ref().is_none_or(matches) {
                self.notes.records.push(Record::new((burst, row), slots, self.notes.at_nanos));
            }
        }
        self.notes.looked = burst.len;
    }

    fn record(&mut self, row: usize) -> Option<&mut Record> {
        if !self.notes.on {
            return None;
        }
        let at = self.notes.records.binary_search_by_key(&(row as u16), |record| record.row).ok()?;
        Some(&mut self.notes.records[at])
    }
}

/// Bytes of a frame that a record keeps: all headers but those behind long chains of extension headers.
pub const START_LEN: usize = 128;
/// Records on their way to the control thread.
pub const RECORDS: usize = 2048;

//! What one worker owns: slots, the way to the slow path and back; and its hold on what all workers share.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use packet::{Burst, Offload, Punt, Slots, VNET_HEADER_LEN};
use ring::spsc::Consumer;

use crate::limits::{Calls, Gates};
use crate::mailbox::{Receiver, Sender, mailbox};
use crate::path::{self, Departures, Lookups, Others, Verdicts};
use crate::port::{Count, Link};
use crate::returns::Returns;
use crate::tracer::{Record, Tracer};
use crate::world::World;

/// Everything a turn changes, beside the counters of ports.
pub struct Lane {
    /// The worker's number.
    pub number: u16,
    /// Memory of the frames.
    pub slots: Slots,
    /// The big slot that the next receive may spill into.
    pub spare: Option<u32>,
    /// Flows that go back by the host port: the one table of all workers.
    pub returns: Arc<Returns>,
    /// The turn's clock: seconds since the switch started.
    pub now_seconds: u32,
    /// Rows that a glance did not tell.
    pub(crate) others: Box<Others>,
    /// Scratch memory of lookups.
    pub(crate) lookups: Box<Lookups>,
    /// What it remembers of policy.
    pub(crate) verdicts: Box<Verdicts>,
    /// The departure's scratch memory.
    pub(crate) departures: Box<Departures>,
    /// Looks on while a trace wants it.
    pub tracer: Tracer,
    /// Where frames to limited pods wait that this worker lets through.
    pub(crate) gates: Gates,
    punts: Sender<Punted>,
    punted: bool,
    answers: Receiver<u16>,
}

/// The control thread's ends of a lane's mailboxes.
pub struct SlowEnds {
    /// Frames the path gave up.
    pub punts: Receiver<Punted>,
    /// Complete frames for a port, by its number.
    pub answers: Sender<u16>,
    /// Packets that a trace wants to see.
    pub traced: Consumer<Record>,
    /// To call the worker to gates.
    pub calls: Arc<Calls>,
}

/// What is said about a punted frame.
#[derive(Clone, Copy, Debug)]
pub struct Punted {
    /// Why.
    pub why: Punt,
    /// Port it entered by.
    pub from: u16,
    /// Number of its next hop's adjacency, where the route was known.
    pub adjacency: u16,
    /// What came beside it.
    pub offload: Offload,
}

impl Default for Punted {
    fn default() -> Self {
        Punted { why: Punt::Local, from: 0, adjacency: 0, offload: Offload::default() }
    }
}

impl Lane {
    /// The lane of worker `number`, which shares `returns`, and the slow path's ends of it.
    pub fn new(number: u16, returns: Arc<Returns>) -> (Lane, SlowEnds) {
        let (punts_in, punts_out) = mailbox(PUNTS);
        let (answers_in, answers_out) = mailbox(ANSWERS);
        let (tracer, traced) = Tracer::new();
        let gates = Gates::new(number);
        let calls = gates.calls();
        let lane = Lane {
            number,
            slots: Slots::new(SMALL_SLOTS, BIG_SLOTS),
            spare: None,
            returns,
            now_seconds: 0,
            others: Others::new(),
            lookups: Lookups::new(),
            verdicts: Verdicts::new([0, 1].map(|half| RandomState::new().hash_one(half))),
            departures: Departures::new(),
            tracer,
            gates,
            punts: punts_in,
            punted: false,
            answers: answers_out,
        };
        (lane, SlowEnds { punts: punts_out, answers: answers_in, traced, calls })
    }

    /// Hands a row to the slow path; false when it has no room.
    pub(crate) fn punt(&mut self, burst: &Burst, row: usize, why: Punt) -> bool {
        let header = self.slots.before(burst.head[row], VNET_HEADER_LEN);
        let header = header.try_into().expect("a header's length was taken");
        let about = Punted {
            why,
            from: burst.from[row],
            adjacency: burst.adjacency[row],
            offload: Offload::parse(header).unwrap_or_default(),
        };
        let frame = self.slots.frame(burst.head[row], burst.tail[row], burst.length[row]);
        let sent = self.punts.send(about, [frame.head, frame.tail]);
        self.punted |= sent;
        sent
    }

    /// True once after a punt: the slow path should be woken.
    pub(crate) fn take_punted(&mut self) -> bool {
        std::mem::take(&mut self.punted)
    }

    /// The most punts that ever waited for the slow path.
    pub(crate) fn punts_highest(&self) -> usize {
        self.punts.highest()
    }

    /// True when the slow path has answers waiting.
    pub(crate) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Appends the slow path's answers as rows that are ready to depart. Answers to a port that left are dropped
    /// uncounted: they never were packets of the burst.
    pub(crate) fn take_answers(&mut self, burst: &mut Burst, world: &World) {
        while burst.room() > 0 && !self.answers.is_empty() {
            let Some(head) = self.slots.take_small() else { return };
            let Some(tail) = self.spare.take().or_else(|| self.slots.take_big()) else {
                self.slots.give_small(head);
                return;
            };
            let (slots, port) = (&mut self.slots, &mut 0);
            let length = self.answers.receive(|letter| {
                *port = letter.about;
                slots.fill(head, tail, &Offload::default(), &letter.bytes);
                letter.bytes.len()
            });
            let (Some(length), Some(to)) = (length, world.port(*port)) else {
                slots.give_small(head);
                slots.give_big(tail);
                continue;
            };
            let spilled = length > packet::SMALL_LEN;
            if !spilled {
                self.spare = Some(tail);
            }
            to.counters.of(self.number).add(Count::Answered, 1);
            burst.push(head, if spilled { tail } else { packet::NO_TAIL }, length as u32, *port);
            let row = burst.len - 1;
            burst.to[row] = *port;
            if let Link::Uplink(_) = to.link {
                path::readdress(burst, row, world, &mut self.slots);
            }
        }
    }
}

/// Twice a burst: the rows of one turn never run short.
pub const SMALL_SLOTS: usize = 2 * packet::BURST;
/// 4 MiB of super-frames at once.
pub const BIG_SLOTS: usize = 64;
/// Letters for punted frames.
pub const PUNTS: usize = 128;
/// Letters for the slow path's answers.
pub const ANSWERS: usize = 128;

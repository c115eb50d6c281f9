//! The path on three threads: receive | decide | depart, for rigs with cores to spare.
//!
//! What is passed on is a whole **batch**: a burst, the slots its frames lie in, what a trace noted of it, and the world it is
//! carried in. Nothing of it is copied or shared; batches go round:
//!
//! ```text
//!   Receiving ---- received ----> Deciding ---- decided ----> Departing
//!       ^                       parse .. rewrite             answers, depart
//!       +--------------------------- empty -----------------------+
//! ```
//!
//! The order of the stages is [`crate::path`]'s. A batch reads one world from its first frame to its last, so what waits until
//! a world is in force waits for every batch under way too: no packet departs by a port that has come to the number of another.
//! While all batches are under way nothing is received, and frames wait in the ports' queues. Of those a port has one: queues
//! that a sender chooses from count turns, and here there are several under way.
//!
//! Each counter keeps one writer: Receiving counts what came, in a port's set 0, Departing everything else, answers included,
//! in set 1, and Deciding nothing.
//! Punts leave by Departing's mailbox, answers come to it, and records of a trace leave by its ring. An answer needs a batch:
//! Departing keeps one of its own, so that answers do not wait for frames.
//!
//! Nothing here waits: a stage that has nothing to do says so, and its thread ([`threads`]) decides what to do about that.
//! A stage whose predecessor is gone is over when it has passed on what was left, so that what was received departs.

pub mod threads;

use std::sync::Arc;

use packet::{BURST, Burst, Slots};
use ring::snapshot::Reader;
use ring::spsc::{self, Consumer, Producer};

use crate::lane::{Lane, SlowEnds};
use crate::path;
use crate::returns::Returns;
use crate::tracer::Notes;
use crate::world::World;

/// Frames on their way through the stages, with all that belongs to them.
struct Batch {
    burst: Box<Burst>,
    slots: Slots,
    spare: Option<u32>,
    notes: Notes,
    world: Reader<World>,
}

/// The first stage.
pub struct Receiving {
    lane: Lane,
    filling: Option<Box<Batch>>,
    empty: Consumer<Box<Batch>>,
    received: Producer<Box<Batch>>,
}

/// The second stage.
pub struct Deciding {
    lane: Lane,
    received: Consumer<Box<Batch>>,
    decided: Producer<Box<Batch>>,
}

/// The third stage.
pub struct Departing {
    lane: Lane,
    own: Box<Batch>,
    decided: Consumer<Box<Batch>>,
    empty: Producer<Box<Batch>>,
}

/// The three stages, and the slow path's ends of each, of which the last one's alone are used. `reader` makes readers of the
/// world: one for each batch.
pub fn pipeline(
    returns: Arc<Returns>,
    mut reader: impl FnMut() -> Reader<World>,
) -> ((Receiving, Deciding, Departing), [SlowEnds; 3]) {
    let (received_in, received) = spsc::ring(BATCHES);
    let (decided_in, decided) = spsc::ring(BATCHES);
    let (mut empty_in, empty) = spsc::ring(BATCHES);
    (0..BATCHES).for_each(|_| pass_on(&mut empty_in, Batch::new(reader())));
    let lanes = [0, 1, 1].map(|number| lane(number, &returns));
    let [(receiving, no_punts), (deciding, nor_here), (departing, slow)] = lanes;
    let receiving = Receiving { lane: receiving, filling: None, empty, received: received_in };
    let deciding = Deciding { lane: deciding, received, decided: decided_in };
    let departing = Departing { lane: departing, own: Batch::new(reader()), decided, empty: empty_in };
    ((receiving, deciding, departing), [no_punts, nor_here, slow])
}

/// A lane without slots: those of the batch at hand take their place.
fn lane(number: u16, returns: &Arc<Returns>) -> (Lane, SlowEnds) {
    let (mut lane, slow) = Lane::new(number, Arc::clone(returns));
    lane.slots = Slots::new(0, 0);
    (lane, slow)
}

fn pass_on(to: &mut Producer<Box<Batch>>, batch: Box<Batch>) {
    assert!(to.push(batch).is_ok(), "each ring has room for every batch");
}

impl Batch {
    fn new(world: Reader<World>) -> Box<Batch> {
        let [small, big] = BATCH_SLOTS;
        let slots = Slots::new(small, big);
        Box::new(Batch { burst: Burst::new(), slots, spare: None, notes: Notes::new(), world })
    }

    /// Has `stage` work on it, with the lane of the stage's thread.
    #[inline]
    fn pass_by(&mut self, lane: &mut Lane, stage: impl FnOnce(&mut Burst, &World, &mut Lane)) {
        self.exchange(lane);
        stage(&mut self.burst, self.world.held().expect("a batch under way holds its world"), lane);
        self.exchange(lane);
    }

    fn exchange(&mut self, lane: &mut Lane) {
        std::mem::swap(&mut self.slots, &mut lane.slots);
        std::mem::swap(&mut self.spare, &mut lane.spare);
        lane.tracer.exchange(&mut self.notes);
    }
}

impl Receiving {
    /// Has `receive` fill a batch in the newest world, with room left for answers, and passes it on. False when nothing came
    /// or all batches are under way.
    #[inline]
    pub fn turn(&mut self, receive: impl FnOnce(&mut Burst, &World, &mut Lane)) -> bool {
        let Some(mut batch) = self.filling.take().or_else(|| self.empty.pop()) else { return false };
        batch.world.turn();
        batch.pass_by(&mut self.lane, receive);
        let is_filled = batch.burst.len > 0;
        if is_filled {
            pass_on(&mut self.received, batch);
        } else {
            self.filling = Some(batch);
        }
        is_filled
    }

    /// Holds no world until the next turn: before anything that may block.
    pub fn offline(&mut self) {
        self.filling.iter_mut().for_each(|batch| batch.world.offline());
    }

    /// False while all batches are under way.
    #[inline]
    pub fn may_receive(&self) -> bool {
        self.filling.is_some() || !self.empty.is_empty()
    }

    /// True while no packet is under way.
    pub fn is_idle(&self) -> bool {
        self.empty.len() + usize::from(self.filling.is_some()) == BATCHES
    }
}

impl Deciding {
    /// Takes the next batch, if there is one; `now_seconds` since the switch started.
    #[inline]
    pub fn turn(&mut self, now_seconds: u32) -> bool {
        let Some(mut batch) = self.received.pop() else { return false };
        self.lane.now_seconds = now_seconds;
        batch.pass_by(&mut self.lane, path::decide);
        pass_on(&mut self.decided, batch);
        true
    }

    /// True when there is a batch to take, or there will never be another.
    pub fn is_wanted(&self) -> bool {
        !self.received.is_empty() || self.received.is_abandoned()
    }

    /// True when there will never be another batch.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.received.is_abandoned() && self.received.is_empty()
    }
}

impl Departing {
    /// Settles the next batch, if there is one, and some of the slow path's answers.
    #[inline]
    pub fn turn(&mut self) -> bool {
        let Some(mut batch) = self.decided.pop() else { return false };
        batch.pass_by(&mut self.lane, path::depart);
        batch.world.offline();
        pass_on(&mut self.empty, batch);
        true
    }

    /// The slow path's answers, if there are any, when there is no batch for them to join.
    #[inline]
    pub fn answer(&mut self) -> bool {
        let has_answers = self.lane.has_answers();
        if has_answers {
            self.own.world.turn();
            self.own.pass_by(&mut self.lane, path::carry);
            self.own.world.offline();
        }
        has_answers
    }

    /// Lets frames to limited pods through whose time has come.
    #[inline]
    pub fn open_gates(&mut self) {
        if self.lane.gates.next().is_some() {
            self.lane.gates.open(self.own.world.turn());
            self.own.world.offline();
        }
    }

    /// True when there is a batch or an answer to settle, or there will never be another batch.
    pub fn is_wanted(&self) -> bool {
        !self.decided.is_empty() || self.lane.has_answers() || self.decided.is_abandoned()
    }

    /// True when there will never be another batch.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.decided.is_abandoned() && self.decided.is_empty()
    }

    /// True once after a punt: the slow path should be woken.
    pub fn take_punted(&mut self) -> bool {
        self.lane.take_punted()
    }

    /// The lane, with what was counted there.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }
}

/// Under way at once. More would only be colder in cache.
pub const BATCHES: usize = 8;
/// Small and big slots of a batch: a burst, and 2 MiB of super-frames.
pub const BATCH_SLOTS: [usize; 2] = [BURST, 32];
/// Threads that count at a port.
pub const WRITERS: usize = 2;

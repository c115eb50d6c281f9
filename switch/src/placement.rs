//! Placement: which worker serves a bank.
//!
//! A pod's frames come in by the queue of the CPU that sends them (`host::Steering`), and that CPU's worker owns the queue's
//! bank: it wakes up where the sender has just gone to sleep, which no other CPU can do as fast. Under a flood that may be the
//! wrong place, since sender and worker take the CPU from each other. So a **hot** bank goes to a worker whose CPU has room, if
//! there is one; that worker polls it, and gives it back when it is cold again or has no room any more:
//!
//! ```text
//!              hot for a window, and others have at most ROOM of another CPU
//!   AT HOME  ----------------------------------------------------------------> GUEST
//!            <----------------------------------------------------------------
//!              cold for COLD_WINDOWS, nothing for GUEST_REST, or others have NO_ROOM of that CPU and less at home
//! ```
//!
//! Hot is what comes in *one-sided*: two pods that ask and answer on one CPU exchange as many packets as a flood has, but
//! each waits for the other, so nothing is won elsewhere. What others have of a CPU the control thread finds out five times a
//! second (`engine/crowding.rs`); before the first time, other CPUs are taken to be free.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Waker;
use ring::{Counter, mpsc};

use crate::bank::Bank;
use crate::port::{Count, Port};
use crate::world::World;

/// How much comes in by a bank, one-sided.
pub struct Heat {
    began: Option<Instant>,
    seen: Vec<Seen>,
    cold_windows: u8,
}

/// A port that gave frames in this window, and its counts at that time.
struct Seen {
    port: u16,
    received: u64,
    sent: u64,
}

/// What a window showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weather {
    /// So much comes in one-sided that sender and worker might better not share a CPU.
    Hot,
    /// As it is.
    Mild,
    /// So little for a while that the bank is best at home.
    Cold,
}

impl Default for Heat {
    fn default() -> Self {
        Heat { began: None, seen: Vec::with_capacity(PORTS_SEEN), cold_windows: 0 }
    }
}

impl Heat {
    /// Notes that a port gave frames.
    #[inline]
    pub fn note(&mut self, port: &Port) {
        if self.seen.len() < PORTS_SEEN && self.seen.iter().all(|seen| seen.port != port.number) {
            let (received, sent) = traffic(port);
            self.seen.push(Seen { port: port.number, received, sent });
        }
    }

    /// At the end of a window, what it showed.
    #[inline]
    pub fn judge(&mut self, world: &World, now: Instant) -> Option<Weather> {
        let span = now.saturating_duration_since(*self.began.get_or_insert(now));
        (span >= WINDOW).then(|| self.close_window(world, (now, span)))
    }

    /// Forgets what it knows; for a bank in new hands.
    pub fn forget(&mut self) {
        self.seen.clear();
        (self.began, self.cold_windows) = (None, 0);
    }

    fn close_window(&mut self, world: &World, (now, span): (Instant, Duration)) -> Weather {
        let one_sided = |seen: &Seen| {
            let (received, sent) = world.port(seen.port).map_or((seen.received, seen.sent), traffic);
            received.saturating_sub(seen.received).saturating_sub(2 * sent.saturating_sub(seen.sent))
        };
        let work: u64 = self.seen.iter().map(one_sided).sum();
        self.seen.clear();
        self.began = Some(now);
        let rate = work as u128 * 1_000_000 / span.as_nanos().max(1);
        self.cold_windows = if rate < COLD_RATE { (self.cold_windows + 1).min(COLD_WINDOWS) } else { 0 };
        match rate {
            HOT_RATE.. => Weather::Hot,
            _ if self.cold_windows == COLD_WINDOWS => Weather::Cold,
            _ => Weather::Mild,
        }
    }
}

/// What is known of a worker and its CPU where banks are placed.
#[derive(Default, Debug)]
pub struct Standing {
    /// 1 while pods compute on its CPU; written by the control thread.
    crowded: Counter,
    /// Hundredths of its CPU that others than it have, plus 1; 0 while that is not known. Written by the control thread.
    others: Counter,
    /// Guests it has, and 1 if its own bank is away; written by it.
    load: Counter,
}

impl Standing {
    /// Tells what others have of its CPU: a share in hundredths, if known, and whether they leave nothing; by the control
    /// thread.
    pub fn tell(&self, share: Option<u64>, crowded: bool) {
        self.others.set(share.map_or(0, |share| share + 1));
        self.crowded.set(crowded.into());
    }

    /// Tells how much it has to do beside its own bank; by the worker.
    pub fn set_load(&self, load: u64) {
        self.load.set(load);
    }

    /// True while it serves its own bank and no other.
    pub fn is_at_rest(&self) -> bool {
        self.load.get() == 0
    }

    /// True while pods compute on its CPU.
    pub fn is_crowded(&self) -> bool {
        self.crowded.get() != 0
    }

    fn others(&self) -> Option<u64> {
        self.others.get().checked_sub(1)
    }

    /// True when its CPU has room for a hot bank. What is not known yet is taken to be in favour: a CPU that was idle until
    /// now can have it.
    fn has_room(&self) -> bool {
        self.is_at_rest() && self.others().is_none_or(|others| others <= ROOM)
    }

    /// True when a guest is worse off here than at home.
    pub fn is_worse_than(&self, home: &Standing) -> bool {
        self.others().zip(home.others()).is_some_and(|(here, there)| here >= NO_ROOM && there < here)
    }
}

/// Another worker, as one sees it that may give it a bank.
#[derive(Clone)]
pub struct Peer {
    /// Its number.
    pub number: u16,
    /// Its CPU.
    pub cpu: u16,
    /// Banks for it.
    pub inbox: mpsc::Producer<Bank>,
    /// Wakes it.
    pub bell: Arc<Bell>,
    /// Its state.
    pub standing: Arc<Standing>,
}

/// Wakes a worker, whether it sleeps on its bank or without it.
#[derive(Debug)]
pub struct Bell {
    /// On its bank.
    pub at_bank: Waker,
    /// Without it.
    pub at_rest: Waker,
}

impl Bell {
    /// Rings. Whoever it reaches awake comes back once from its next sleep without cause.
    pub fn ring(&self) -> io::Result<()> {
        self.at_bank.wake().and(self.at_rest.wake())
    }
}

impl Peer {
    /// Gives it a bank.
    pub fn give(&mut self, bank: Bank) {
        let refused = self.inbox.push(bank);
        assert!(refused.is_ok(), "an inbox has room for all banks there are");
        // A failed wake-up is made up for by the next frame of a watched port; writing to an eventfd fails for no reason
        // that could arise here.
        let _ = self.bell.ring();
    }
}

/// The worker to which a hot bank had best go from the worker of number `number` on CPU `cpu`: the next whose CPU is another
/// and has room.
pub fn choose(peers: &mut [Peer], (number, cpu): (u16, u16)) -> Option<&mut Peer> {
    let next = peers.iter().position(|peer| peer.number > number).unwrap_or(0);
    let (before, after) = peers.split_at_mut(next);
    after.iter_mut().chain(before).find(|peer| peer.cpu != cpu && peer.standing.has_room())
}

/// What a port gave and took: a frame, or 4 KiB of a long one, is 1.
fn traffic(port: &Port) -> (u64, u64) {
    let get = |what| port.counters.get(what);
    let work = |frames, bytes| get(frames) + get(bytes) / 4096;
    (work(Count::Received, Count::ReceivedBytes), work(Count::Sent, Count::SentBytes))
}

/// A hot bank may go to a CPU of which others have at most so many hundredths.
const ROOM: u64 = 40;
/// It leaves one of which others have so many, if that is more than at home.
const NO_ROOM: u64 = 55;
/// Work is looked at over this time.
const WINDOW: Duration = Duration::from_millis(1);
/// Work in a millisecond that makes a bank hot.
const HOT_RATE: u128 = 40;
/// Less than this is cold.
const COLD_RATE: u128 = 10;
/// For so many windows.
const COLD_WINDOWS: u8 = 20;
/// Ports looked at in one window.
const PORTS_SEEN: usize = 32;

#[cfg(test)]
mod tests;

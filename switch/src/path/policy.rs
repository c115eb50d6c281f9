//! Policy: may it leave its workload, and enter the next?
//!
//! Egress of the pod it comes from and ingress of the pod it goes to are asked together, once a flow. A world without enforcement costs
//! one test a burst.
//!
//! ```text
//!  plain IPv4 packets --> this worker's cache of allowed flows --no--+
//!  all others -------------------------------------------------------+--> connections, of all workers --no--> rules
//! ```
//!
//! - A **reply** of an allowed flow is allowed; what allowed the flow is asked anew when the rules have another generation, so a flow in
//!   use that is no longer allowed is cut. A TCP packet that begins a connection is never taken for a reply.
//! - The cache is forgotten once a second and with each generation, so the table of connections hears of every flow in use.
//!   It holds nothing that is denied: a packet the other way may allow it any time.
//! - An **ICMP error** is of the flow that it quotes, and goes where that came from; else rules are asked of it as of any message.
//! - A **fragment** other than the first goes with the first, if this worker saw it lately; else rules are asked of its addresses and
//!   protocol, and those that speak of ports do not match it.
//! - The node may always talk to its own pods: health probes come from there.

use packet::{BURST, Burst, Exit, Reason, START_LEN, Slots, shape};
use policy::{FlowCache, FlowKey, RuleId};

mod fragments;
mod ruling;
mod seen;

use super::parse::{ETHERNET_LEN, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::enforcement::Enforcement;
use crate::lane::Lane;
use crate::world::World;
use fragments::Fragments;
use seen::Seen;

/// What a worker remembers of policy, and the memory of a burst's questions, used again every turn.
pub struct Verdicts {
    allowed: FlowCache,
    fragments: Fragments,
    second: u32,
    generation: Option<u32>,
    keys: [FlowKey; BURST],
    found: [Option<u32>; BURST],
    plain: [u8; BURST],
    others: [u8; BURST],
    /// Of each row that was denied in this turn, the rule that did it.
    denied_by: [RuleId; BURST],
}

impl Verdicts {
    /// All the memory it will ever need; `seed` comes from outside, so that nobody can aim at a place.
    pub(crate) fn new(seed: [u64; 2]) -> Box<Self> {
        Box::new(Verdicts {
            allowed: FlowCache::new(FLOWS, seed),
            fragments: Fragments::new(seed[0]),
            second: 0,
            generation: None,
            keys: [FlowKey([0; 2]); BURST],
            found: [None; BURST],
            plain: [0; BURST],
            others: [0; BURST],
            denied_by: [RuleId::OPEN; BURST],
        })
    }

    /// The rule that denied a row which has one of the reasons of policy.
    pub fn denied_by(&self, row: usize) -> RuleId {
        self.denied_by[row]
    }

    fn keep_up(&mut self, second: u32, generation: u32) {
        if (self.second, self.generation) != (second, Some(generation)) {
            if self.generation != Some(generation) {
                self.fragments.forget_all();
            }
            (self.second, self.generation) = (second, Some(generation));
            self.allowed.forget_all();
        }
    }

    /// Sorts the rows that go on into those the cache can know and the others; how many each are.
    #[inline]
    fn sort(&mut self, burst: &Burst, slots: &Slots) -> (usize, usize) {
        let (mut plain, mut others) = (0, 0);
        for row in burst.rows() {
            let start = slots.start(burst.head[row]);
            let flags = start[V4_LEN + 13] & BEGINS_OR_ENDS == 0;
            let (is_udp, is_tcp) = (burst.protocol[row] == PROTOCOL_UDP, burst.protocol[row] == PROTOCOL_TCP);
            let is_v4 = burst.shape[row] & !shape::SUPER == 0 && usize::from(burst.transport[row]) == V4_LEN;
            let (goes_on, is_plain) = (burst.exit[row].is_none(), is_v4 & (is_udp | (is_tcp & flags)));
            self.keys[plain % BURST] = key(start, burst.protocol[row], burst.from[row]);
            self.plain[plain % BURST] = row as u8;
            self.others[others % BURST] = row as u8;
            plain += usize::from(goes_on & is_plain);
            others += usize::from(goes_on & !is_plain);
        }
        (plain.min(BURST), others.min(BURST))
    }
}

#[inline]
pub(super) fn policy(burst: &mut Burst, world: &World, lane: &mut Lane) {
    if let Some(enforcement) = world.enforcement.as_deref() {
        enforce(burst, enforcement, lane);
    }
}

#[inline(never)]
fn enforce(burst: &mut Burst, enforcement: &Enforcement, lane: &mut Lane) {
    let Lane { verdicts, slots, now_seconds, .. } = lane;
    verdicts.keep_up(*now_seconds, enforcement.generation);
    let (plain, others) = verdicts.sort(burst, slots);
    let Verdicts { allowed, keys, found, .. } = &mut **verdicts;
    allowed.lookup_burst(&keys[..plain], &mut found[..plain]);
    for at in 0..plain {
        if verdicts.found[at].is_none() {
            unknown((burst, at), enforcement, (verdicts, slots), *now_seconds);
        }
    }
    for at in 0..others {
        other((burst, usize::from(verdicts.others[at])), enforcement, (verdicts, slots), *now_seconds);
    }
}

/// A packet whose flow the cache does not know.
#[inline(never)]
fn unknown(
    (burst, at): (&mut Burst, usize),
    enforcement: &Enforcement,
    (verdicts, slots): (&mut Verdicts, &Slots),
    now_seconds: u32,
) {
    let row = usize::from(verdicts.plain[at]);
    // It may be there since an earlier packet of the burst.
    if verdicts.allowed.lookup(verdicts.keys[at]).is_some() {
        return;
    }
    let seen = Seen::read(slots.start(burst.head[row]), burst, row);
    let ruling = enforcement.rule(&seen, (burst.from[row], burst.to[row]), now_seconds);
    if ruling.is_steady && ruling.denied.is_none() {
        verdicts.allowed.insert(verdicts.keys[at], 0);
    }
    settle((burst, row), verdicts, ruling.denied);
}

/// A packet that the cache cannot know.
#[inline(never)]
fn other(
    (burst, row): (&mut Burst, usize),
    enforcement: &Enforcement,
    (verdicts, slots): (&mut Verdicts, &Slots),
    now_seconds: u32,
) {
    let head = slots.head(burst.head[row], burst.length[row]);
    let seen = Seen::read(head, burst, row);
    let fragment = (burst.shape[row] & shape::FRAGMENT != 0).then(|| fragments::Key::of(head, burst, row));
    let is_later = burst.shape[row] & shape::LATER_FRAGMENT != 0;
    let known = fragment.filter(|_| is_later).and_then(|key| verdicts.fragments.find(&key, now_seconds));
    let denied = known.unwrap_or_else(|| {
        let denied = enforcement.rule(&seen, (burst.from[row], burst.to[row]), now_seconds).denied;
        if let Some(key) = fragment.filter(|_| !is_later) {
            verdicts.fragments.note(key, denied, now_seconds);
        }
        denied
    });
    settle((burst, row), verdicts, denied);
}

fn settle((burst, row): (&mut Burst, usize), verdicts: &mut Verdicts, denied: Option<(Reason, RuleId)>) {
    if let Some((reason, by)) = denied {
        burst.exit[row] = Exit::drop(reason);
        verdicts.denied_by[row] = by;
    }
}

/// The flow of an IPv4 packet without options that came by a port, as its header has it in memory.
#[inline(always)]
fn key(start: &[u8; START_LEN], protocol: u8, from: u16) -> FlowKey {
    let addresses = u64::from_ne_bytes(*start[ETHERNET_LEN + 12..].first_chunk().expect("a start holds all addresses"));
    let ports = u32::from_ne_bytes(*start[V4_LEN..].first_chunk().expect("a start holds a port's header"));
    FlowKey([addresses, u64::from(from) << 40 | u64::from(protocol) << 32 | u64::from(ports)])
}

/// Where the transport header of an IPv4 packet without options is.
const V4_LEN: usize = ETHERNET_LEN + 20;
/// FIN, SYN and RST.
const BEGINS_OR_ENDS: u8 = 7;
/// Flows of a worker's cache: 1 MiB, of which 10 000 flows leave some room in nearly every bucket.
const FLOWS: usize = 3 << 14;

//! Rules compiled for an endpoint and a direction: what they say of a packet in a time that hardly depends on how many they are.
//!
//! A packet's **peer** becomes a class ([`crate::Peers`]), and a class a **row**: what rules ask of peers are a few different **tests**, and classes
//! for which the same tests hold share a row. Protocol, port and kind of ICMP message become a **service**. A rule is in one of these
//! groups, by what it looks at, and each group knows the first of its rules that matches:
//!
//! ```text
//!  rules that look at ...   first match is in
//!  nothing, or the service  a list by service
//!  the peer                 the row
//!  both                     a hash table by test and service, asked for each test that the row has
//!  more                     sets of bits, of the row, the service and the source port; then a check, packet by packet
//! ```
//!
//! The least of these decides. That is done for each tier, a **segment**, because passing goes on with the next one; rules that
//! only note what they match are a segment of their own before those that decide.
//!
//! Where many tests hold for a row, and where the hash table would be too large, rules that look at both are looked up in the
//! sets of bits too. A program is immutable. When addresses of a new class appear, a new program shares with the old one all but the
//! row that is new.

use std::collections::HashMap;
use std::sync::Arc;

mod bits;
mod blueprint;
mod pairs;
mod rows;
mod services;
pub(crate) mod term;

pub(crate) use blueprint::{Blueprint, Draft};

use bits::Bits;
use pairs::Pairs;
use rows::Rows;
use services::Services;
use term::Check;

use crate::endpoint::NamedPort;
use crate::peers::{Class, Peers};
use crate::rule::{Action, Direction, Protocol};
use crate::tuple::{Transport, Tuple};
use crate::verdict::{RuleId, Verdict};

/// What the rules for an endpoint say about packets of a direction.
#[derive(Debug, Clone)]
pub struct Program {
    body: Arc<Body>,
    rows: Rows,
    /// Of classes, the names of ports that rules ask for.
    names: Arc<HashMap<Class, Arc<[NamedPort]>>>,
}

/// What does not depend on who the peers are.
#[derive(Debug)]
struct Body {
    direction: Direction,
    segments: Box<[Segment]>,
    /// What each term does, by its position.
    steps: Box<[Step]>,
    services: Services,
    /// Of each service and segment, the first term that looks at nothing else.
    firsts: Box<[u32]>,
    pairs: Pairs,
    /// Of each service, the terms among those that are looked up in sets of bits.
    further: Box<[Bits]>,
    sources: Option<Sources>,
    /// These terms in order: position, and what is left to check.
    checks: Box<[(u32, Option<Box<Check>>)]>,
}

#[derive(Debug)]
struct Segment {
    /// True when its terms only note what they match.
    is_log: bool,
    /// Which of the terms that are looked up in sets of bits are of it.
    further: (u32, u32),
}

#[derive(Debug, Clone, Copy)]
struct Step {
    action: Action,
    by: RuleId,
}

/// Source ports, for rules that look at them.
#[derive(Debug)]
struct Sources {
    /// Services of source ports: they are looked up as if they were destination ports.
    services: Services,
    further: Box<[Bits]>,
}

impl Program {
    /// What happens to the packet, whose own end is the endpoint. `peers` must be of the same time as the program.
    #[inline]
    pub fn decide(&self, peers: &Peers, tuple: &Tuple) -> Verdict {
        self.decide_class(peers.class(tuple.addresses.peer(self.body.direction)), tuple)
    }

    /// The same, when the peer's class is known.
    #[inline]
    pub fn decide_class(&self, class: Class, tuple: &Tuple) -> Verdict {
        let body = &*self.body;
        let row = self.rows.of(class, tuple.addresses.family());
        let service = body.services.of(tuple.protocol, tuple.transport);
        let count = body.segments.len();
        let of_service = &body.firsts[service as usize * count..][..count];
        let (of_row, tests) = row.parts(count);
        let mut of_pairs: [&[u32]; TESTS_MAX] = [&[]; TESTS_MAX];
        let mut pairs = 0;
        for firsts in tests.iter().filter_map(|&test| body.pairs.firsts(test, service)) {
            of_pairs[pairs] = firsts;
            pairs += 1;
        }
        let (mut log, mut noted) = (None, NONE);
        for (at, segment) in body.segments.iter().enumerate() {
            let mut first = of_service[at].min(of_row[at]);
            for of_pair in &of_pairs[..pairs] {
                first = first.min(of_pair[at]);
            }
            if let Some(further) = &row.further {
                first = self.further(segment, (further, service), (class, tuple), first);
            }
            if segment.is_log {
                noted = first;
                continue;
            }
            if noted < first && log.is_none() {
                log = Some(body.steps[noted as usize].by);
            }
            noted = NONE;
            let Step { action, by } = body.steps[first as usize];
            if action != Action::Pass {
                return Verdict { allow: action == Action::Allow, by, log };
            }
        }
        unreachable!("the last segment decides")
    }

    /// The first term of a segment that matches, when the first of those that are not checked further is known.
    fn further(
        &self,
        segment: &Segment,
        (of_row, service): (&Bits, u32),
        (class, tuple): (Class, &Tuple),
        first: u32,
    ) -> u32 {
        let body = &*self.body;
        let range = (segment.further.0 as usize, segment.further.1 as usize);
        let mut sets = [of_row, &body.further[service as usize], of_row];
        if let Some(sources) = &body.sources {
            let key = match tuple.transport {
                Transport::Ports { source, .. } => Transport::Ports { source: 0, destination: source },
                other => other,
            };
            sets[2] = &sources.further[sources.services.of(ANY_PROTOCOL, key) as usize];
        }
        let sets = if body.sources.is_some() { &sets[..] } else { &sets[..2] };
        let mut found = first;
        Bits::first_common(sets, range, |number| {
            let (position, check) = &body.checks[number];
            let is_late = *position >= first;
            let holds = !is_late && check.as_ref().is_none_or(|check| self.holds(check, class, tuple));
            if holds {
                found = *position;
            }
            is_late || holds
        });
        found
    }

    fn holds(&self, check: &Check, class: Class, tuple: &Tuple) -> bool {
        let own = tuple.addresses.own(self.body.direction);
        let (nets, not_nets) = &check.own_nets;
        let is_within = nets.is_empty() || nets.iter().any(|net| net.contains(own));
        if !is_within || not_nets.iter().any(|net| net.contains(own)) {
            return false;
        }
        let ports = match tuple.transport {
            Transport::Ports { source, destination } => Some((source, destination)),
            _ => None,
        };
        let peer: &[NamedPort] = self.names.get(&class).map_or(&[], |names| names);
        let is_so = |test: &Option<term::NameTest>, port: Option<u16>| {
            test.as_ref().is_none_or(|test| port.is_some_and(|port| test.holds(port, tuple.protocol, peer)))
        };
        is_so(&check.source, ports.map(|(source, _)| source))
            && is_so(&check.destination, ports.map(|(_, destination)| destination))
    }

    /// The direction of the packets it is for.
    pub fn direction(&self) -> Direction {
        self.body.direction
    }

    /// How many rules and ends of tiers it is made of.
    pub fn len(&self) -> usize {
        self.body.steps.len()
    }

    /// Never: the end of all tiers is there always.
    pub fn is_empty(&self) -> bool {
        self.body.steps.is_empty()
    }

    /// About how many bytes it takes, what other programs share with it included.
    pub fn bytes(&self) -> usize {
        let body = &*self.body;
        let bits = |bits: &[Bits]| bits.iter().map(Bits::bytes).sum::<usize>() + size_of_val(bits);
        let sources = body.sources.as_ref().map_or(0, |sources| sources.services.bytes() + bits(&sources.further));
        size_of::<Body>()
            + size_of_val(&*body.segments)
            + size_of_val(&*body.steps)
            + size_of_val(&*body.firsts)
            + size_of_val(&*body.checks)
            + body.services.bytes()
            + body.pairs.bytes()
            + bits(&body.further)
            + sources
            + self.rows.bytes()
    }
}

/// Behind all positions.
const NONE: u32 = u32::MAX;
/// For so many tests of a row terms are looked up one by one; more are quicker looked up in sets of bits.
const TESTS_MAX: usize = 8;
/// Source ports are looked up without regard to the protocol.
const ANY_PROTOCOL: Protocol = Protocol(0);

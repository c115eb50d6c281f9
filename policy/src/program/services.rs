//! Protocol, destination port and kind of ICMP message, as one number.
//!
//! Packets that no rule tells apart by these have the same **service**. It is found by three loads:
//!
//! ```text
//!  protocol --> group --> kind of packet, key's upper byte --> page --> key's lower byte --> service
//! ```
//!
//! Equal pages are kept once, so a few ports cost a few pages of 1 KiB.

use std::collections::{BTreeSet, HashMap};

use super::term::{Kind, ServiceTest};
use crate::rule::Protocol;
use crate::tuple::Transport;

/// The service of every packet.
#[derive(Debug)]
pub(super) struct Services {
    /// Of each protocol; 0 is all that no test names.
    groups: Box<[u16; 256]>,
    /// Of each group, kind and upper byte, where its page starts.
    pages_at: Box<[u32]>,
    pages: Box<[u32]>,
}

/// The services of some tests, and which tests hold for which.
pub(super) struct Built {
    pub(super) services: Services,
    /// Of each service, the tests that hold, in rising order.
    pub(super) holding: Vec<Vec<u32>>,
}

impl Services {
    /// Finds the services that these tests tell apart.
    pub(super) fn build(tests: &[ServiceTest]) -> Built {
        let named = tests.iter().flat_map(|test| [test.protocol, test.not_protocol]).flatten();
        let mut protocols: Vec<Protocol> = named.collect();
        protocols.sort_unstable();
        protocols.dedup();
        let mut groups = Box::new([0; 256]);
        for (at, protocol) in protocols.iter().enumerate() {
            groups[usize::from(protocol.0)] = at as u16 + 1;
        }
        let mut building = Building::default();
        for group in std::iter::once(None).chain(protocols.into_iter().map(Some)) {
            for kind in [Kind::Ports, Kind::Icmp, Kind::Opaque] {
                let admitted = tests.iter().enumerate().filter(|(_, test)| test.admits(group, kind));
                building.add(admitted.map(|(at, test)| (at as u32, test)));
            }
        }
        let Building { pages_at, pages, services, .. } = building;
        let mut holding = vec![Vec::new(); services.len()];
        for (tests, service) in services {
            holding[service as usize] = tests;
        }
        Built { services: Self { groups, pages_at: pages_at.into(), pages: pages.into() }, holding }
    }

    #[inline]
    pub(super) fn of(&self, protocol: Protocol, transport: Transport) -> u32 {
        let (kind, key) = match transport {
            Transport::Ports { destination, .. } => (Kind::Ports, destination),
            Transport::Icmp { kind, code } => (Kind::Icmp, u16::from(kind) << 8 | u16::from(code)),
            Transport::Opaque => (Kind::Opaque, 0),
        };
        let table = usize::from(self.groups[usize::from(protocol.0)]) * KINDS + kind as usize;
        let page = self.pages_at[table << 8 | usize::from(key >> 8)];
        self.pages[page as usize + usize::from(key & 0xff)]
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.groups) + size_of_val(&*self.pages_at) + size_of_val(&*self.pages)
    }
}

#[derive(Default)]
struct Building {
    pages_at: Vec<u32>,
    pages: Vec<u32>,
    /// Pages that are of one service throughout, and others, by what is in them.
    plain: HashMap<u32, u32>,
    mixed: HashMap<Vec<u32>, u32>,
    services: HashMap<Vec<u32>, u32>,
}

impl Building {
    /// Adds the table of one group and kind, given the tests that can hold there.
    fn add<'t>(&mut self, tests: impl Iterator<Item = (u32, &'t ServiceTest)>) {
        let mut starts: Vec<(u32, u32, bool)> = Vec::new();
        for (at, test) in tests {
            for &(first, last) in &test.keys {
                starts.push((u32::from(first), at, true));
                starts.push((u32::from(last) + 1, at, false));
            }
        }
        starts.sort_unstable();
        let (mut intervals, mut holding, mut next) = (Vec::new(), BTreeSet::new(), 0);
        while intervals.is_empty() || next < starts.len() {
            let start = if intervals.is_empty() { 0 } else { starts[next].0 };
            while let Some(&(_, test, begins)) = starts.get(next).filter(|(at, ..)| *at == start) {
                if begins {
                    holding.insert(test)
                } else {
                    holding.remove(&test)
                };
                next += 1;
            }
            if start < KEYS {
                intervals.push((start, self.service(&holding)));
            }
        }
        self.fill(&intervals);
    }

    fn service(&mut self, holding: &BTreeSet<u32>) -> u32 {
        let tests = holding.iter().copied().collect();
        let next = self.services.len() as u32;
        *self.services.entry(tests).or_insert(next)
    }

    fn fill(&mut self, intervals: &[(u32, u32)]) {
        let mut at = 0;
        for first in (0..KEYS).step_by(PAGE) {
            while intervals.get(at + 1).is_some_and(|(start, _)| *start <= first) {
                at += 1;
            }
            let end = first + PAGE as u32;
            let is_plain = intervals.get(at + 1).is_none_or(|(start, _)| *start >= end);
            let page =
                if is_plain { self.plain_page(intervals[at].1) } else { self.mixed_page(&intervals[at..], first) };
            self.pages_at.push(page);
        }
    }

    fn plain_page(&mut self, service: u32) -> u32 {
        let pages = &mut self.pages;
        *self.plain.entry(service).or_insert_with(|| {
            let page = pages.len() as u32;
            pages.resize(pages.len() + PAGE, service);
            page
        })
    }

    fn mixed_page(&mut self, intervals: &[(u32, u32)], first: u32) -> u32 {
        let mut at = 0;
        let page: Vec<u32> = (first..first + PAGE as u32)
            .map(|key| {
                while intervals.get(at + 1).is_some_and(|(start, _)| *start <= key) {
                    at += 1;
                }
                intervals[at].1
            })
            .collect();
        let pages = &mut self.pages;
        *self.mixed.entry(page).or_insert_with_key(|page| {
            let start = pages.len() as u32;
            pages.extend(page);
            start
        })
    }
}

const KINDS: usize = 3;
const PAGE: usize = 256;
const KEYS: u32 = 1 << 16;

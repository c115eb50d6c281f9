//! How a program is made, and made anew when classes of addresses come and go.
//!
//! Rules ask few different things of peers, however many rules there are: each different question is a **test**. A class is told
//! by the tests that hold for it, and most classes answer all but a few tests as an address would that nobody has. So a class costs the
//! tests that name one of its atoms, and classes for which the same tests hold share a row.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::bits::Bits;
use super::rows::{Row, Rows};
use super::services::{Built, Services};
use super::term::{Atom, Kind, PeerTest, Ranges, ServiceTest, Term, Traits};
use super::{Body, NONE, Program, Segment, Sources, Step};
use crate::peers::Class;
use crate::rule::{Action, Direction, Family};

/// Terms in order, by tiers. The last term of each tier matches everything, and that of the last tier does not pass.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Draft {
    pub(crate) direction: Direction,
    pub(crate) tiers: Vec<Vec<Term>>,
}

/// A program, and what it takes to change it.
pub(crate) struct Blueprint {
    program: Program,
    tests: Vec<PeerTest>,
    /// Of each test, the terms that ask it.
    terms: Vec<TestTerms>,
    by_atom: HashMap<Atom, Vec<u32>>,
    /// Of addresses that nobody has, the tests that hold, by family.
    nobody: [Vec<u32>; 2],
    /// Of each service test, for which services it holds.
    covers: Vec<Vec<u32>>,
    /// Rows by the tests that hold: which, and of how many classes.
    rows: HashMap<Arc<[u32]>, (u32, u32)>,
    tests_of: HashMap<Class, Arc<[u32]>>,
    free: Vec<u32>,
    /// How many places the tables of all rows have.
    places: usize,
    has_names: bool,
    pairs_max: usize,
}

/// Terms by what else they ask.
#[derive(Default, Clone)]
struct TestTerms {
    /// Segment and position.
    alone: Vec<(u32, u32)>,
    /// Segment, position and service test.
    pairs: Vec<(u32, u32, u32)>,
    /// Numbers among those that are checked further.
    further: Vec<u32>,
}

/// What the terms of a draft come to.
#[derive(Default)]
struct Sorted {
    segments: Vec<Segment>,
    steps: Vec<Step>,
    peers: Numbers<PeerTest>,
    terms: Vec<TestTerms>,
    services: Numbers<ServiceTest>,
    /// Of each service test, the terms that ask it alone, and the numbers of those that are checked further.
    alone: Vec<Vec<(u32, u32)>>,
    further: Vec<Vec<u32>>,
    sources: Numbers<Option<Ranges>>,
    source_further: Vec<Vec<u32>>,
    checks: Vec<(u32, Option<Box<super::Check>>)>,
}

impl Blueprint {
    /// Of a draft, with tables of pairs up to so many places; 0 does without.
    pub(crate) fn new(draft: &Draft, pairs_max: usize) -> Self {
        let mut sorted = Sorted::default();
        for terms in &draft.tiers {
            sorted.add_tier(terms, pairs_max > 0);
        }
        let has_names = sorted.checks.iter().any(|(_, check)| check.as_ref().is_some_and(|check| check.asks_peer()));
        let tests = std::mem::take(&mut sorted.peers.items);
        let terms = std::mem::take(&mut sorted.terms);
        let (body, covers) = sorted.into_body(draft.direction);
        let mut by_atom: HashMap<Atom, Vec<u32>> = HashMap::new();
        for (at, test) in tests.iter().enumerate() {
            for atom in test.atoms().collect::<BTreeSet<_>>() {
                by_atom.entry(atom).or_default().push(at as u32);
            }
        }
        let nobody = [Family::V4, Family::V6].map(|family| {
            let traits = Traits { family, atoms: Box::new([]), ports: Arc::new([]) };
            (0..tests.len() as u32).filter(|&at| tests[at as usize].holds(&traits)).collect::<Vec<u32>>()
        });
        let empty = Row::new(&[], &[], Bits::default());
        let program = Program { body: Arc::new(body), rows: Rows::new([empty.clone(), empty]), names: Arc::default() };
        let mut made = Self {
            program,
            tests,
            terms,
            by_atom,
            nobody,
            covers,
            rows: HashMap::new(),
            tests_of: HashMap::new(),
            free: Vec::new(),
            places: 0,
            has_names,
            pairs_max,
        };
        for at in 0..2 {
            let row = made.row(&made.nobody[at]);
            made.places += row.places();
            made.program.rows.put_row(at, row);
        }
        made.rows = HashMap::from([(made.nobody[1].clone().into(), (1, 1))]);
        made.rows.insert(made.nobody[0].clone().into(), (0, 1));
        made
    }

    /// The program as it is now.
    pub(crate) fn program(&self) -> Program {
        self.program.clone()
    }

    /// True when its tables of pairs have grown over the limit, so that it is to be made without.
    pub(crate) fn is_over(&self) -> bool {
        self.pairs_max > 0 && self.places > self.pairs_max
    }

    /// Whether it tells addresses with these traits from those that nobody has.
    fn knows(&self, traits: &Traits) -> bool {
        (self.has_names && !traits.ports.is_empty()) || traits.atoms.iter().any(|atom| self.by_atom.contains_key(atom))
    }

    /// Takes in a class of addresses that it did not have; true where that changes the program.
    pub(crate) fn add_class(&mut self, class: Class, traits: &Traits) -> bool {
        if !self.knows(traits) {
            return false;
        }
        if self.has_names && !traits.ports.is_empty() {
            Arc::make_mut(&mut self.program.names).insert(class, traits.ports.clone());
        }
        let asked: BTreeSet<u32> =
            traits.atoms.iter().filter_map(|atom| self.by_atom.get(atom)).flatten().copied().collect();
        let nobody = &self.nobody[traits.family as usize];
        let usual = nobody.iter().copied().filter(|test| !asked.contains(test));
        let mut holding: Vec<u32> = usual.collect();
        holding.extend(asked.iter().copied().filter(|&test| self.tests[test as usize].holds(traits)));
        holding.sort_unstable();
        let holding: Arc<[u32]> = holding.into();
        let row = self.row_of(&holding);
        self.program.rows.set(class, row);
        self.tests_of.insert(class, holding);
        true
    }

    /// Forgets a class; true where that changes the program.
    pub(crate) fn remove_class(&mut self, class: Class) -> bool {
        let Some(holding) = self.tests_of.remove(&class) else { return false };
        if self.program.names.contains_key(&class) {
            Arc::make_mut(&mut self.program.names).remove(&class);
        }
        self.program.rows.remove(class);
        let (row, classes) = self.rows.get_mut(&holding).expect("a class has a row");
        *classes -= 1;
        if *classes == 0 {
            let row = *row;
            self.rows.remove(&holding);
            self.places -= self.program.rows.row(row).places();
            self.program.rows.put_row(row as usize, Row::new(&[], &[], Bits::default()));
            self.free.push(row);
        }
        true
    }

    /// The number of the row for which these tests hold, counting one class more.
    fn row_of(&mut self, holding: &Arc<[u32]>) -> u32 {
        if let Some((row, classes)) = self.rows.get_mut(holding) {
            *classes += 1;
            return *row;
        }
        let row = self.row(holding);
        self.places += row.places();
        let at = self.free.pop().unwrap_or_else(|| self.program.rows.len() as u32);
        self.program.rows.put_row(at as usize, row);
        self.rows.insert(holding.clone(), (at, 1));
        at
    }

    fn row(&self, holding: &[u32]) -> Row {
        let count = self.program.body.segments.len();
        let mut firsts = vec![NONE; count];
        let mut pairs: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut further: Vec<u32> = Vec::new();
        let mut places = self.places;
        for terms in holding.iter().map(|&test| &self.terms[test as usize]) {
            for &(segment, position) in &terms.alone {
                lower(&mut firsts[segment as usize], position);
            }
            for &(segment, position, service) in &terms.pairs {
                if places > self.pairs_max {
                    break;
                }
                for &service in &self.covers[service as usize] {
                    let firsts = pairs.entry(service).or_insert_with(|| vec![NONE; count]);
                    lower(&mut firsts[segment as usize], position);
                }
                places = self.places + pairs.len();
            }
            further.extend(&terms.further);
        }
        further.sort_unstable();
        let pairs: Vec<_> = pairs.into_iter().collect();
        Row::new(&firsts, &pairs, Bits::new(further.into_iter().map(|at| at as usize), self.program.body.checks.len()))
    }
}

impl Sorted {
    fn add_tier(&mut self, terms: &[Term], has_pairs: bool) {
        let first = self.steps.len() as u32;
        self.steps.extend(terms.iter().map(|term| Step { action: term.action, by: term.by }));
        for is_log in [true, false] {
            let (segment, further) = (self.segments.len() as u32, self.checks.len() as u32);
            let of_segment = (first..).zip(terms).filter(|(_, term)| (term.action == Action::Log) == is_log);
            let mut is_empty = true;
            for (position, term) in of_segment {
                self.add((segment, position), term, has_pairs);
                is_empty = false;
            }
            if !is_empty {
                self.segments.push(Segment { is_log, further: (further, self.checks.len() as u32) });
            }
        }
    }

    fn add(&mut self, (segment, position): (u32, u32), term: &Term, has_pairs: bool) {
        let service = self.services.of(&term.service);
        self.alone.resize_with(self.services.items.len(), Vec::new);
        self.further.resize_with(self.services.items.len(), Vec::new);
        let is_further = term.check.is_some() || term.source_ports.is_some();
        if term.peer.is_trivial() && !is_further {
            self.alone[service as usize].push((segment, position));
            return;
        }
        let peer = self.peers.of(&term.peer);
        self.terms.resize_with(self.peers.items.len(), TestTerms::default);
        let terms = &mut self.terms[peer as usize];
        if !is_further && term.service.is_trivial() {
            terms.alone.push((segment, position));
        } else if !is_further && has_pairs {
            terms.pairs.push((segment, position, service));
        } else {
            let number = self.checks.len() as u32;
            self.checks.push((position, term.check.clone()));
            terms.further.push(number);
            self.further[service as usize].push(number);
            let source = self.sources.of(&term.source_ports);
            self.source_further.resize_with(self.sources.items.len(), Vec::new);
            self.source_further[source as usize].push(number);
        }
    }

    /// What does not depend on peers, and for which services each service test holds.
    fn into_body(self, direction: Direction) -> (Body, Vec<Vec<u32>>) {
        let Built { services, holding } = Services::build(&self.services.items);
        let count = self.segments.len();
        let mut firsts = vec![NONE; holding.len() * count];
        let mut covers = vec![Vec::new(); self.services.items.len()];
        for (service, tests) in holding.iter().enumerate() {
            for &test in tests {
                covers[test as usize].push(service as u32);
                for &(segment, position) in &self.alone[test as usize] {
                    lower(&mut firsts[service * count + segment as usize], position);
                }
            }
        }
        let body = Body {
            direction,
            segments: self.segments.into(),
            steps: self.steps.into(),
            services,
            firsts: firsts.into(),
            further: bits_of(&holding, &self.further, self.checks.len()),
            sources: Sources::build(&self.sources.items, &self.source_further, self.checks.len()),
            checks: self.checks.into(),
        };
        (body, covers)
    }
}

impl Sources {
    fn build(tests: &[Option<Ranges>], further: &[Vec<u32>], limit: usize) -> Option<Self> {
        tests.iter().flatten().next()?;
        let of_key = |ranges: &Option<Ranges>| match ranges {
            Some(keys) => ServiceTest { kind: Some(Kind::Ports), keys: keys.clone(), ..ServiceTest::any() },
            None => ServiceTest::any(),
        };
        let tests: Vec<ServiceTest> = tests.iter().map(of_key).collect();
        let Built { services, holding } = Services::build(&tests);
        Some(Self { services, further: bits_of(&holding, further, limit) })
    }
}

/// Of each service the terms that one of its tests has.
fn bits_of(holding: &[Vec<u32>], terms: &[Vec<u32>], limit: usize) -> Box<[Bits]> {
    let bits = holding.iter().map(|tests| {
        let mut numbers: Vec<u32> = tests.iter().flat_map(|&test| &terms[test as usize]).copied().collect();
        numbers.sort_unstable();
        Bits::new(numbers.into_iter().map(|at| at as usize), limit)
    });
    bits.collect()
}

/// Different values, numbered as they come.
struct Numbers<T> {
    items: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T: Clone + Eq + std::hash::Hash> Numbers<T> {
    fn of(&mut self, item: &T) -> u32 {
        if let Some(&number) = self.numbers.get(item) {
            return number;
        }
        let number = self.items.len() as u32;
        self.items.push(item.clone());
        self.numbers.insert(item.clone(), number);
        number
    }
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { items: Vec::new(), numbers: HashMap::new() }
    }
}

fn lower(first: &mut u32, position: u32) {
    *first = position.min(*first);
}

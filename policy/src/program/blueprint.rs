//! How a program is made, and made anew when classes of addresses come and go.
//!
//! Rules ask few different things of peers, however many rules there are: each different question is a **test**. A class is told
//! by the tests that hold for it, and it answers all but those that name one of its atoms as an address would that nobody has. So a
//! class costs as many tests as it differs in, and classes for which the same tests hold share a row.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::bits::Bits;
use super::pairs::Pairs;
use super::rows::{Row, Rows};
use super::services::{Built, Services};
use super::term::{Atom, Kind, PeerTest, Ranges, ServiceTest, Term, Traits};
use super::{Body, NONE, Program, Segment, Sources, Step, TESTS_MAX};
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
    /// Rows by the tests that hold: which, and of how many classes.
    rows: HashMap<Arc<[u32]>, (u32, u32)>,
    tests_of: HashMap<Class, Arc<[u32]>>,
    free: Vec<u32>,
    has_names: bool,
    /// True when there is a table of pairs.
    has_pairs: bool,
}

/// Terms by what else they ask.
#[derive(Default, Clone)]
struct TestTerms {
    /// Segment and position.
    alone: Vec<(u32, u32)>,
    /// Segment, position, service test, and number among those that are looked up in sets of bits.
    pairs: Vec<(u32, u32, u32, u32)>,
    /// Such numbers of terms that cannot be looked up otherwise.
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
    /// Of each service test, the terms that ask it alone, and the numbers of those that are looked up in sets of bits.
    alone: Vec<Vec<(u32, u32)>>,
    further: Vec<Vec<u32>>,
    sources: Numbers<Option<Ranges>>,
    source_further: Vec<Vec<u32>>,
    checks: Vec<(u32, Option<Box<super::Check>>)>,
}

impl Blueprint {
    /// Of a draft, with a table of pairs if it has up to so many places.
    pub(crate) fn new(draft: &Draft, places_max: usize) -> Self {
        let mut sorted = Sorted::default();
        for terms in &draft.tiers {
            sorted.add_tier(terms);
        }
        let has_names = sorted.checks.iter().any(|(_, check)| check.as_ref().is_some_and(|check| check.asks_peer()));
        let tests = std::mem::take(&mut sorted.peers.items);
        let terms = std::mem::take(&mut sorted.terms);
        let (body, has_pairs) = sorted.into_body(draft.direction, &terms, places_max);
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
        let empty = Row::unused();
        let program = Program { body: Arc::new(body), rows: Rows::new([empty.clone(), empty]), names: Arc::default() };
        let mut made = Self {
            program,
            tests,
            terms,
            by_atom,
            nobody,
            rows: HashMap::new(),
            tests_of: HashMap::new(),
            free: Vec::new(),
            has_names,
            has_pairs,
        };
        for at in 0..2 {
            let row = made.row(&made.nobody[at]);
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
            self.program.rows.put_row(row as usize, Row::unused());
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
        let at = self.free.pop().unwrap_or_else(|| self.program.rows.len() as u32);
        self.program.rows.put_row(at as usize, row);
        self.rows.insert(holding.clone(), (at, 1));
        at
    }

    fn row(&self, holding: &[u32]) -> Row {
        let body = &self.program.body;
        let mut firsts = vec![NONE; body.segments.len()];
        let terms = || holding.iter().map(|&test| (test, &self.terms[test as usize]));
        for &(segment, position) in terms().flat_map(|(_, terms)| &terms.alone) {
            lower(&mut firsts[segment as usize], position);
        }
        let mut tests: Vec<u32> = terms().filter(|(_, terms)| !terms.pairs.is_empty()).map(|(test, _)| test).collect();
        let mut further: Vec<u32> = terms().flat_map(|(_, terms)| &terms.further).copied().collect();
        if !self.has_pairs || tests.len() > TESTS_MAX {
            tests.clear();
            further.extend(terms().flat_map(|(_, terms)| terms.pairs.iter().map(|&(.., number)| number)));
        }
        further.sort_unstable();
        let further = (!further.is_empty())
            .then(|| Bits::new(further.into_iter().map(|number| number as usize), body.checks.len()));
        Row::new(&firsts, &tests, further)
    }
}

impl Sorted {
    fn add_tier(&mut self, terms: &[Term]) {
        let first = self.steps.len() as u32;
        self.steps.extend(terms.iter().map(|term| Step { action: term.action, by: term.by }));
        for is_log in [true, false] {
            let (segment, further) = (self.segments.len() as u32, self.checks.len() as u32);
            let of_segment = (first..).zip(terms).filter(|(_, term)| (term.action == Action::Log) == is_log);
            let mut is_empty = true;
            for (position, term) in of_segment {
                self.add((segment, position), term);
                is_empty = false;
            }
            if !is_empty {
                self.segments.push(Segment { is_log, further: (further, self.checks.len() as u32) });
            }
        }
    }

    fn add(&mut self, (segment, position): (u32, u32), term: &Term) {
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
            return;
        }
        let number = self.checks.len() as u32;
        if is_further {
            terms.further.push(number);
        } else {
            terms.pairs.push((segment, position, service, number));
        }
        self.checks.push((position, term.check.clone()));
        self.further[service as usize].push(number);
        let source = self.sources.of(&term.source_ports);
        self.source_further.resize_with(self.sources.items.len(), Vec::new);
        self.source_further[source as usize].push(number);
    }

    /// What does not depend on who the peers are, and whether there is a table of pairs.
    fn into_body(self, direction: Direction, terms: &[TestTerms], places_max: usize) -> (Body, bool) {
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
        let pairs = pairs_of(terms, &covers, (count, places_max));
        let has_pairs = pairs.is_some();
        let body = Body {
            direction,
            segments: self.segments.into(),
            steps: self.steps.into(),
            services,
            firsts: firsts.into(),
            pairs: Pairs::new(&pairs.unwrap_or_default(), count),
            further: bits_of(&holding, &self.further, self.checks.len()),
            sources: Sources::build(&self.sources.items, &self.source_further, self.checks.len()),
            checks: self.checks.into(),
        };
        (body, has_pairs)
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

/// The firsts of each test and service, by segment, of terms that look at both; none if they take too many places.
fn pairs_of(
    terms: &[TestTerms],
    covers: &[Vec<u32>],
    (segments, places_max): (usize, usize),
) -> Option<BTreeMap<(u32, u32), Vec<u32>>> {
    let mut pairs = BTreeMap::new();
    for (test, terms) in (0..).zip(terms) {
        for &(segment, position, service, _) in &terms.pairs {
            for &service in &covers[service as usize] {
                let firsts = pairs.entry((test, service)).or_insert_with(|| vec![NONE; segments]);
                lower(&mut firsts[segment as usize], position);
            }
            if pairs.len() * 2 > places_max {
                return None;
            }
        }
    }
    Some(pairs)
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

//! Any bytes at all, read as changes of a book and as packets: after each change programs say what the oracle says, and what was
//! handed out is all that changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::book::PLACES_MAX;
use policy::rule::Direction;
use policy::{Book, Peers, Programs, Tuple};
use proptest::prelude::*;

mod draw;

use draw::Draw;

/// What a switch has: what was handed out to it, and no more.
#[derive(Default)]
struct Switch {
    peers: Peers,
    programs: BTreeMap<Arc<str>, Programs>,
}

impl Switch {
    fn take(&mut self, book: &mut Book) {
        let changes = book.compile();
        if changes.peers {
            self.peers = book.peers().clone();
        }
        for name in &changes.gone {
            self.programs.remove(name).expect("only what was there can be gone");
        }
        self.programs.extend(changes.programs);
    }
}

/// Changes a book as the bytes say, and looks at packets in between.
fn drive(bytes: &[u8]) {
    let (mut draw, mut switch) = (Draw(bytes), Switch::default());
    // Tables of pairs: all that is needed, a few, none.
    let places_max = [PLACES_MAX, 40, 0][usize::from(draw.below(3))];
    let mut book = Book::with_places_max(places_max);
    while !draw.is_empty() {
        for _ in 0..=draw.below(4) {
            change(&mut book, &mut draw);
        }
        switch.take(&mut book);
        let tuples: Vec<Tuple> = (0..12).map(|_| draw.tuple()).collect();
        compare(&book, &switch, &tuples);
    }
    assert_eq!(sizes(&book), sizes(&from_scratch(&book)), "left: grown by changes; right: of the same facts at once");
    remove_all(&mut book);
    switch.take(&mut book);
    assert_eq!((switch.programs.len(), book.programs_made(), book.classes()), (0, 0, 2));
}

/// How much it tells apart, and how many programs that makes.
fn sizes(book: &Book) -> (usize, usize) {
    (book.classes(), book.programs_made())
}

fn from_scratch(book: &Book) -> Book {
    let (mut fresh, facts) = (Book::new(), book.facts().clone());
    facts.endpoints.into_values().for_each(|endpoint| fresh.set_endpoint(endpoint));
    facts.sets.into_values().for_each(|set| fresh.set_network_set(set));
    facts.policies.into_values().for_each(|policy| fresh.set_policy(policy).expect("it was taken before"));
    facts.profiles.into_values().for_each(|profile| fresh.set_profile(profile).expect("it was taken before"));
    facts.tiers.into_values().for_each(|tier| fresh.set_tier(tier).expect("it was taken before"));
    fresh.compile();
    fresh
}

fn remove_all(book: &mut Book) {
    let facts = book.facts().clone();
    assert!(facts.endpoints.keys().all(|name| book.remove_endpoint(name)));
    assert!(facts.policies.keys().all(|name| book.remove_policy(name)));
    assert!(facts.sets.keys().all(|name| book.remove_network_set(name)));
    assert!(facts.profiles.keys().all(|name| book.remove_profile(name)));
    assert!(facts.tiers.keys().all(|name| book.remove_tier(name)));
}

fn change(book: &mut Book, draw: &mut Draw<'_>) {
    match draw.below(16) {
        0 => book.set_tier(draw.tier()).expect("it denies or passes"),
        1 => drop(book.remove_tier(&draw.name("tier", 3))),
        2..=5 => book.set_policy(draw.policy()).expect("nothing is backwards"),
        6 => drop(book.remove_policy(&draw.name("policy", 8))),
        7 => book.set_profile(draw.profile()).expect("nothing is backwards"),
        8 => drop(book.remove_profile(&draw.name("profile", 2))),
        9 | 10 => book.set_network_set(draw.set()),
        11 => drop(book.remove_network_set(&draw.name("set", 3))),
        12..=14 => book.set_endpoint(draw.endpoint()),
        _ => drop(book.remove_endpoint(&draw.name("pod", 8))),
    }
}

/// Every local endpoint, in both directions, by its program and by the facts.
fn compare(book: &Book, switch: &Switch, tuples: &[Tuple]) {
    let locals = book.facts().endpoints.values().filter(|endpoint| endpoint.is_local);
    assert!(locals.map(|endpoint| &endpoint.name).eq(switch.programs.keys()));
    for (name, programs) in &switch.programs {
        let had = book.programs(name).expect("it is local");
        assert!(Arc::ptr_eq(&had.ingress, &programs.ingress) && Arc::ptr_eq(&had.egress, &programs.egress));
        for (direction, program) in [(Direction::Ingress, &programs.ingress), (Direction::Egress, &programs.egress)] {
            for tuple in tuples {
                let verdict = program.decide(&switch.peers, tuple);
                let explained = book.explain(name, direction, tuple).expect("it is there");
                let said = (verdict.allow, book.cause(verdict.by), verdict.log.map(|id| book.cause(id)));
                let expected = (explained.allow, Some(explained.by.clone()), explained.log.clone().map(Some));
                assert_eq!(said, expected, "{direction} of {name}: {tuple}\n{explained:#?}\n{:#?}", book.facts());
            }
        }
    }
}

proptest! {
    // A failing case takes long to shrink, for every step compiles anew.
    #![proptest_config(ProptestConfig { max_shrink_iters: 1000, ..ProptestConfig::default() })]
    #[test]
    fn programs_say_what_the_rules_say_after_any_change(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        drive(&bytes);
    }
}

#[test]
fn any_bytes_leave_programs_and_rules_in_agreement() {
    let (mut state, began, mut rounds) = (0x5eed_u64, Instant::now(), 0);
    while rounds < ROUNDS_MIN || began.elapsed() < LASTS {
        let mut random = || {
            // Xorshift64* (Vigna 2014).
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
        };
        let bytes: Vec<u8> = (0..4000).map(|_| random()).collect();
        drive(&bytes);
        rounds += 1;
    }
}

const ROUNDS_MIN: u32 = 20;
const LASTS: Duration = Duration::from_secs(2);

//! Choices by example, and that no address is ever given twice.

use std::collections::BTreeSet;

use super::*;
use crate::state::Change;
use crate::state::tests::{attach, detach, node_of};
use control::Origin;

fn state() -> State {
    State::new(node_of(&["10.0.0.0/29", "fd00::/64"]))
}

fn chosen(state: &State, memory: &Memory, assign: &Assign) -> Vec<String> {
    let all = complete(Vec::new(), assign, (state, memory, &[])).unwrap();
    all.iter().map(PodAddress::to_string).collect()
}

fn assign(pools: &[&[&str]], keep_for: Option<&str>) -> Assign {
    let pool = |pool: &&[&str]| pool.iter().map(|range| range.parse().unwrap()).collect();
    Assign { pools: pools.iter().map(pool).collect(), keep_for: keep_for.map(|name| name.parse().unwrap()) }
}

fn leave(state: &mut State, memory: &mut Memory, name: &str) {
    let endpoint = state.endpoint(&name.parse().unwrap()).unwrap().clone();
    state.apply(detach(name, Origin::Cli, false)).unwrap();
    memory.remember(&endpoint);
}

#[test]
fn each_family_gives_its_lowest_free_address_beside_the_router() {
    let mut state = state();
    let memory = Memory::default();
    assert_eq!(chosen(&state, &memory, &Assign::default()), ["10.0.0.2", "fd00::2"]);
    state.apply(attach("a", 1, &["10.0.0.2", "fd00::3"])).unwrap();
    assert_eq!(chosen(&state, &memory, &Assign::default()), ["10.0.0.3", "fd00::2"]);
}

#[test]
fn a_given_address_stands_for_its_pool() {
    let (state, memory) = (state(), Memory::default());
    let given = vec!["10.0.0.6".parse().unwrap()];
    let all = complete(given, &Assign::default(), (&state, &memory, &[])).unwrap();
    assert_eq!(all.iter().map(PodAddress::to_string).collect::<Vec<_>>(), ["10.0.0.6", "fd00::2"]);
}

#[test]
fn pools_are_asked_range_by_range_and_lie_within_the_pod_ranges() {
    let mut state = state();
    let memory = Memory::default();
    let two = assign(&[&["10.0.0.5", "10.0.0.3"]], None);
    assert_eq!(chosen(&state, &memory, &two), ["10.0.0.5"]);
    state.apply(attach("a", 1, &["10.0.0.5"])).unwrap();
    assert_eq!(chosen(&state, &memory, &two), ["10.0.0.3"]);
    for (given, pools, named) in [
        (vec![], assign(&[&["10.9.0.0/24"]], None), "10.9.0.0"),
        (vec!["10.9.0.1"], Assign::default(), "10.9.0.1"),
        (vec!["10.0.0.6"], assign(&[&["10.0.0.3"]], None), "10.0.0.6"),
    ] {
        let given = given.into_iter().map(|text| text.parse().unwrap()).collect();
        let refusal = complete(given, &pools, (&state, &memory, &[])).unwrap_err();
        assert_eq!(refusal.code, Code::Invalid);
        assert!(refusal.message.contains(named), "{refusal}");
    }
}

#[test]
fn an_exhausted_pool_is_told_and_reserved_addresses_are_only_had_by_asking() {
    let mut state = State::new(node_of(&["10.0.0.0/29"]));
    let memory = Memory::default();
    let reserved = ["10.0.0.2-10.0.0.4".parse().unwrap(), "10.0.0.5".parse().unwrap()];
    let choose = |state: &State| complete(Vec::new(), &Assign::default(), (state, &memory, &reserved));
    assert_eq!(choose(&state).unwrap()[0].to_string(), "10.0.0.6");
    state.apply(attach("a", 1, &["10.0.0.6"])).unwrap();
    let refusal = choose(&state).unwrap_err();
    assert_eq!(refusal.code, Code::Unavailable);
    assert!(refusal.message.contains("10.0.0.1-10.0.0.6"), "{refusal}");
    let asked = vec!["10.0.0.3".parse().unwrap()];
    assert_eq!(complete(asked.clone(), &Assign::default(), (&state, &memory, &reserved)).unwrap(), asked);
}

#[test]
fn an_address_that_was_left_is_given_last_but_to_its_owner_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::new(node_of(&["10.0.0.0/29"]));
    let mut memory = Memory::open(dir.path()).unwrap();
    for (name, address) in [("a", "10.0.0.2"), ("b", "10.0.0.3")] {
        let Change::Attach(mut wish, id) = attach(name, 1, &[address]) else { unreachable!() };
        wish.assign = Some(assign(&[], Some(name)));
        wish.interface = name.parse().unwrap();
        state.apply(Change::Attach(wish, id)).unwrap();
    }
    leave(&mut state, &mut memory, "b");
    leave(&mut state, &mut memory, "a");
    drop(memory);
    let memory = Memory::open(dir.path()).unwrap();
    assert_eq!(chosen(&state, &memory, &Assign::default()), ["10.0.0.4"]);
    assert_eq!(chosen(&state, &memory, &assign(&[], Some("a"))), ["10.0.0.2"]);
    for (netns, address) in [(4, "10.0.0.4"), (5, "10.0.0.5"), (6, "10.0.0.6")] {
        state.apply(attach(&format!("pod-{netns}"), netns, &[address])).unwrap();
    }
    assert_eq!(chosen(&state, &memory, &Assign::default()), ["10.0.0.3"], "b left first");
}

#[test]
fn every_address_of_a_range_is_given_once() {
    let mut state = State::new(node_of(&["10.0.0.0/24"]));
    let memory = Memory::default();
    let mut given = BTreeSet::new();
    for netns in 0.. {
        let Ok(all) = complete(Vec::new(), &Assign::default(), (&state, &memory, &[])) else { break };
        assert!(given.insert(all[0]), "{} was given twice", all[0]);
        state.apply(attach(&format!("pod-{netns}"), netns, &[&all[0].to_string()])).unwrap();
    }
    // Without the network's own, broadcast, and the router's.
    assert_eq!(given.len(), 253);
}

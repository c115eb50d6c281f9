use super::*;
use std::{sync::mpsc, thread};

const IDLE_MAX: u32 = 600;
const FLOWS: u64 = if cfg!(miri) { 20 } else { 1_000 };
const ROUNDS: u64 = if cfg!(miri) { 50 } else { 200_000 };

/// A key that shows when it is made up of two.
fn key(number: u64) -> [u64; 5] {
    [number; 5]
}

#[test]
fn a_flow_is_found_and_a_stranger_is_not() {
    let table = FlowTable::new(64);
    assert!(!table.find(&key(0), 0), "nor is the key of an empty entry");
    table.insert(&key(7), IDLE_MAX, 100);
    assert!(table.find(&key(7), 101) && !table.find(&key(8), 101));
    for word in 0..5 {
        let mut other = key(7);
        other[word] = 8;
        assert!(!table.find(&other, 101), "{word}");
    }
    assert_eq!((table.live(101), table.limit(), table.evicted()), (1, 64, 0));
}

#[test]
fn an_idle_flow_ends_and_use_keeps_it() {
    let table = FlowTable::new(64);
    table.insert(&key(7), IDLE_MAX, 0);
    table.insert(&key(8), 2 * IDLE_MAX, 0);
    assert!(table.find(&key(7), IDLE_MAX) && table.find(&key(7), 2 * IDLE_MAX));
    assert_eq!(table.live(2 * IDLE_MAX), 2);
    assert_eq!(table.live(2 * IDLE_MAX + 1), 1, "each flow has its own patience");
    table.insert(&key(7), IDLE_MAX, 3 * IDLE_MAX);
    assert!(!table.find(&key(7), 4 * IDLE_MAX + 1), "an insertion is a use, and no more");
    table.insert(&key(7), IDLE_MAX, 4 * IDLE_MAX + 1);
    assert!(table.find(&key(7), 4 * IDLE_MAX + 2));
    assert_eq!(table.evicted(), 0);
}

#[test]
fn a_clock_that_is_behind_does_no_harm() {
    let table = FlowTable::new(64);
    table.insert(&key(7), IDLE_MAX, 10);
    assert!(table.find(&key(7), 9) && table.live(0) == 1);
}

#[test]
fn a_full_bucket_evicts_the_flow_unused_for_longest() {
    let table = FlowTable::new(WAYS);
    for number in 0..WAYS as u64 {
        table.insert(&key(number), IDLE_MAX, number as u32);
    }
    assert!(table.find(&key(0), 50));
    table.insert(&key(2), IDLE_MAX, 50);
    table.insert(&key(100), IDLE_MAX, 51);
    assert_eq!((table.evicted(), table.live(51)), (1, WAYS));
    let kept = |number| table.find(&key(number), 52);
    assert!(kept(0) && kept(100) && kept(2) && !kept(1));
    table.insert(&key(101), IDLE_MAX, 5 * IDLE_MAX);
    assert_eq!(table.evicted(), 1, "an idle flow is not evicted");
}

#[test]
fn an_entry_under_way_is_passed_over_and_without_another_the_flow_counts_as_evicted() {
    let table = FlowTable::new(WAYS);
    let entries = &table.buckets[0];
    assert!(entries[..WAYS - 1].iter().all(|entry| entry.claim(0)));
    table.insert(&key(7), IDLE_MAX, 0);
    assert!(table.find(&key(7), 0));
    assert!(entries[WAYS - 1].claim(2) && !entries[WAYS - 1].claim(2));
    assert!(!table.find(&key(7), 0), "its place is being given to another");
    table.insert(&key(8), IDLE_MAX, 0);
    assert_eq!(table.evicted(), 1);
    entries[0].write(0, &key(9), [0, IDLE_MAX]);
    assert!(table.find(&key(9), 0));
}

#[test]
fn flows_that_differ_little_do_not_evict_each_other() {
    for word in 0..5 {
        for shift in [0, 8, 16, 24, 32, 48, 54] {
            let table = FlowTable::new(8192);
            for number in 0..1024 {
                let mut key = key(0x0a00_0001);
                key[word] ^= number << shift;
                table.insert(&key, IDLE_MAX, 0);
            }
            assert_eq!(table.evicted(), 0, "word {word} from bit {shift}");
        }
    }
}

#[test]
fn what_four_threads_insert_is_found_by_whoever_is_told() {
    let table = FlowTable::new(16 * 4 * FLOWS as usize);
    let (told, hears) = mpsc::channel();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (table, told) = (&table, told.clone());
            scope.spawn(move || {
                for number in thread * FLOWS..(thread + 1) * FLOWS {
                    table.insert(&key(number), IDLE_MAX, 0);
                    told.send(number).unwrap();
                }
            });
        }
        drop(told);
        assert_eq!(hears.iter().inspect(|&number| assert!(table.find(&key(number), 0))).count() as u64, 4 * FLOWS);
    });
    assert_eq!((table.live(0) as u64, table.evicted()), (4 * FLOWS, 0));
}

#[test]
fn threads_that_fight_for_one_bucket_leave_whole_keys_and_count_every_eviction() {
    let table = FlowTable::new(WAYS);
    thread::scope(|scope| {
        for thread in 1..4 {
            let table = &table;
            scope.spawn(move || {
                for number in 0..ROUNDS {
                    table.insert(&key(thread * ROUNDS + number), IDLE_MAX, 0);
                }
            });
        }
        // Keys of two halves, of which both may be there at the moment.
        for number in 0..ROUNDS {
            let (low, high) = (ROUNDS + number, 2 * ROUNDS + number);
            assert!(!table.find(&[low, low, high, high, high], 0) && !table.find(&[low, high, high, high, high], 0));
        }
    });
    assert_eq!(table.live(0) as u64 + table.evicted(), 3 * ROUNDS);
    for entry in &table.buckets[0] {
        let words = entry.key.each_ref().map(|word| word.load(Ordering::Relaxed));
        assert_eq!(words, key(words[0]));
        assert!(!is_odd(entry.sequence.load(Ordering::Relaxed)));
    }
}

//! Every interleaving (of bounded preemption) of threads that insert into one bucket of two entries and look there, by loom.
#![cfg(loom)]

use loom::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use podswitch_ring::{FlowTable, flows::WAYS};

type Table = FlowTable<2>;

fn model(preemptions: usize, check: impl Fn(Arc<Table>) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || check(Arc::new(FlowTable::new(WAYS))));
}

/// Inserts a key that was never idle.
fn insert(table: &Table, key: [u64; 2]) {
    table.insert(&key, 60, 0);
}

fn find(table: &Table, key: [u64; 2]) -> bool {
    table.find(&key, 0)
}

fn inserting(table: &Arc<Table>, key: [u64; 2]) -> thread::JoinHandle<()> {
    let table = Arc::clone(table);
    thread::spawn(move || insert(&table, key))
}

#[test]
fn no_reader_sees_a_key_made_up_of_two() {
    for mixed in [[1, 2], [2, 1], [0, 1], [1, 0]] {
        model(3, move |table| {
            insert(&table, [2, 2]);
            insert(&table, [2, 3]);
            let writer = inserting(&table, [1, 1]);
            assert!(!find(&table, mixed));
            writer.join().unwrap();
            assert!(find(&table, [1, 1]));
        });
    }
}

#[test]
fn no_reader_sees_a_key_made_up_of_those_of_two_writers() {
    for mixed in [[1, 2], [2, 1]] {
        model(2, move |table| {
            // Younger than what the writers insert, so both choose the other entry.
            table.insert(&[3, 3], 60, 9);
            let writers = [inserting(&table, [1, 1]), inserting(&table, [2, 2])];
            assert!(!find(&table, mixed));
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            assert_eq!(table.live(0) as u64 + table.evicted(), 3);
        });
    }
}

#[test]
fn an_inserted_flow_is_found_by_whoever_comes_after() {
    model(2, |table| {
        let departed = Arc::new(AtomicBool::new(false));
        let writers = [
            inserting(&table, [1, 1]),
            thread::spawn({
                let (table, departed) = (Arc::clone(&table), Arc::clone(&departed));
                move || {
                    insert(&table, [2, 2]);
                    departed.store(true, Ordering::Release);
                }
            }),
        ];
        if departed.load(Ordering::Acquire) {
            assert!(find(&table, [2, 2]));
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert!(find(&table, [1, 1]) && find(&table, [2, 2]));
        assert_eq!((table.live(0), table.evicted()), (2, 0));
    });
}

#[test]
fn a_flow_that_two_insert_at_once_is_found_by_each_from_then_on() {
    model(3, |table| {
        insert(&table, [5, 5]);
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                insert(&table, [1, 1]);
                assert!(find(&table, [1, 1]));
            }
        });
        insert(&table, [1, 1]);
        assert!(find(&table, [1, 1]));
        other.join().unwrap();
        assert!(find(&table, [1, 1]));
    });
}

#[test]
fn every_flow_that_has_to_go_is_counted() {
    model(2, |table| {
        insert(&table, [3, 3]);
        insert(&table, [4, 4]);
        let writers = [inserting(&table, [1, 1]), inserting(&table, [2, 2])];
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!((table.live(0), table.evicted()), (2, 2));
    });
}

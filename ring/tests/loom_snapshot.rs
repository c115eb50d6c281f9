//! Every interleaving of a publisher with readers that turn, go offline, come back and leave, by loom.
#![cfg(loom)]
#![allow(unsafe_code, reason = "a cell that loom watches is shared between threads")]

use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};
use podswitch_ring::{Publisher, Reader};

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

/// A cell that loom watches: a use that does not happen before `end`, or happens after it, fails the model.
struct Watched(UnsafeCell<()>);

impl Watched {
    fn new() -> Self {
        Self(UnsafeCell::new(()))
    }

    fn use_it(&self) {
        self.0.with(|_| ());
    }

    fn end(&self) {
        self.0.with_mut(|_| ());
    }
}

// SAFETY: the pointer into the cell is never used, only that loom hears of it.
unsafe impl Sync for Watched {}

/// A published value that must not be used once it is dropped.
struct Value {
    number: u64,
    memory: Watched,
    drops: Arc<AtomicUsize>,
}

impl Value {
    fn new(number: u64, drops: &Arc<AtomicUsize>) -> Self {
        Self { number, memory: Watched::new(), drops: Arc::clone(drops) }
    }

    fn read(&self) -> u64 {
        self.memory.use_it();
        self.number
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.memory.end();
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

/// Turns twice and reads twice in each turn, with a stay offline between the turns or without.
fn two_turns(reader: &mut Reader<Value>, offline_between: bool) {
    let mut last = 0;
    for _ in 0..2 {
        let value = reader.turn();
        let number = value.read();
        assert!(number >= last, "a reader never goes back");
        last = number;
        thread::yield_now();
        assert_eq!(value.read(), number);
        if offline_between {
            reader.offline();
        }
    }
}

fn a_value_is_not_freed_while_a_reader_sees_it(offline_between: bool) {
    model(move || {
        let drops = Arc::new(AtomicUsize::new(0));
        let mut publisher = Publisher::new(Value::new(1, &drops));
        let mut reader = publisher.reader();
        let reading = thread::spawn(move || two_turns(&mut reader, offline_between));
        publisher.publish(Value::new(2, &drops));
        publisher.publish(Value::new(3, &drops));
        assert_eq!(publisher.current().read(), 3);
        reading.join().expect("the reader sees only live values");
        publisher.reclaim();
        assert_eq!(publisher.retiring(), 0);
        assert_eq!(drops.load(Ordering::Relaxed), 2);
        drop(publisher);
        assert_eq!(drops.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn a_value_is_not_freed_while_an_online_reader_sees_it() {
    a_value_is_not_freed_while_a_reader_sees_it(false);
}

#[test]
fn a_value_is_not_freed_while_a_reader_that_comes_and_goes_sees_it() {
    a_value_is_not_freed_while_a_reader_sees_it(true);
}

#[test]
fn a_version_in_force_leaves_no_reader_the_old_value() {
    for offline_between in [false, true] {
        model(move || {
            let thing = Arc::new(Watched::new());
            let mut publisher = Publisher::new(Some(Arc::clone(&thing)));
            let mut reader = publisher.reader();
            let reading = thread::spawn(move || {
                for _ in 0..2 {
                    if let Some(thing) = reader.turn() {
                        thing.use_it();
                    }
                    if offline_between {
                        reader.offline();
                    }
                }
            });
            let version = publisher.publish(None);
            if publisher.is_in_force(version) {
                thing.end();
            }
            reading.join().unwrap();
            assert!(publisher.is_in_force(version), "the reader is gone");
        });
    }
}

#[test]
fn a_barrier_in_force_leaves_no_reader_what_was_removed_elsewhere() {
    for offline_between in [false, true] {
        model(move || {
            let table = Arc::new((AtomicBool::new(true), Watched::new()));
            let mut publisher = Publisher::new(());
            let mut reader = publisher.reader();
            let reading = thread::spawn({
                let table = Arc::clone(&table);
                move || {
                    for _ in 0..2 {
                        reader.turn();
                        if table.0.load(Ordering::Relaxed) {
                            table.1.use_it();
                        }
                        if offline_between {
                            reader.offline();
                        }
                    }
                }
            });
            table.0.store(false, Ordering::Relaxed);
            let version = publisher.barrier();
            if publisher.is_in_force(version) {
                table.1.end();
            }
            reading.join().unwrap();
        });
    }
}

#[test]
fn a_value_waits_for_the_slower_of_two_readers() {
    model(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let mut publisher = Publisher::new(Value::new(1, &drops));
        let (mut one, mut other) = (publisher.reader(), publisher.reader());
        let threads = [
            thread::spawn(move || assert!(one.turn().read() > 0)),
            thread::spawn(move || {
                other.offline();
                assert!(other.turn().read() > 0);
            }),
        ];
        publisher.publish(Value::new(2, &drops));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        publisher.reclaim();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn readers_outlive_the_publisher() {
    model(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let mut publisher = Publisher::new(Value::new(1, &drops));
        let mut reader = publisher.reader();
        let reading = thread::spawn(move || two_turns(&mut reader, false));
        publisher.publish(Value::new(2, &drops));
        drop(publisher);
        reading.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 2);
    });
}

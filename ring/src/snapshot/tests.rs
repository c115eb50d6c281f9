use super::*;
use proptest::{collection::vec, prelude::*};
use std::{
    rc::Rc,
    sync::{Weak, atomic::AtomicUsize},
};

const ROUNDS: u64 = if cfg!(miri) { 30 } else { 2_000 };
const CASES: u32 = if cfg!(miri) { 8 } else { 256 };

#[test]
fn a_reader_sees_the_newest_value_from_its_next_turn_on() {
    let mut publisher = Publisher::new(1);
    let mut reader = publisher.reader();
    assert_eq!(*reader.turn(), 1);
    publisher.publish(2);
    publisher.publish(3);
    assert_eq!((*publisher.current(), *reader.turn()), (3, 3));
}

#[test]
fn a_reader_holds_what_its_turn_returned_until_it_is_offline() {
    let mut publisher = Publisher::new(1);
    let mut reader = publisher.reader();
    assert_eq!(reader.held(), None);
    reader.turn();
    publisher.publish(2);
    assert_eq!(reader.held(), Some(&1));
    assert_eq!((*reader.turn(), reader.held().copied()), (2, Some(2)));
    reader.offline();
    assert_eq!(reader.held(), None);
}

#[test]
fn a_version_is_in_force_once_every_reader_has_turned_or_is_offline() {
    let mut publisher = Publisher::new(1);
    let (mut one, mut other) = (publisher.reader(), publisher.reader());
    assert!(publisher.is_in_force(publisher.version()), "new readers are offline");
    one.turn();
    other.turn();
    let version = publisher.publish(2);
    assert_eq!(version, publisher.version());
    assert!(!publisher.is_in_force(version));
    one.turn();
    assert!(!publisher.is_in_force(version));
    other.offline();
    assert!(publisher.is_in_force(version));
    publisher.wait_in_force(version);
}

#[test]
fn a_barrier_is_in_force_after_a_turn_and_retires_nothing() {
    let mut publisher = Publisher::new(1);
    let mut reader = publisher.reader();
    reader.turn();
    let version = publisher.barrier();
    assert!(version > Version(FIRST) && !publisher.is_in_force(version));
    assert_eq!((*reader.turn(), publisher.retiring()), (1, 0));
    assert!(publisher.is_in_force(version));
}

#[test]
fn a_value_is_freed_when_its_last_reader_turns_goes_offline_or_is_dropped() {
    let counted = Rc::new(());
    let mut publisher = Publisher::new(Rc::clone(&counted));
    let mut readers = [publisher.reader(), publisher.reader(), publisher.reader()];
    for reader in &mut readers {
        reader.turn();
    }
    publisher.publish(Rc::clone(&counted));
    let [mut turns, mut rests, leaves] = readers;
    turns.turn();
    rests.offline();
    assert_eq!((publisher.reclaim(), publisher.retiring(), Rc::strong_count(&counted)), (0, 1, 3));
    drop(leaves);
    assert_eq!((publisher.reclaim(), publisher.retiring(), Rc::strong_count(&counted)), (1, 0, 2));
    assert_eq!(publisher.marks.len(), 2, "a reader that is gone is forgotten");
}

#[test]
fn publishing_frees_what_it_can() {
    let counted = Rc::new(());
    let mut publisher = Publisher::new(Rc::clone(&counted));
    for _ in 0..5 {
        publisher.publish(Rc::clone(&counted));
    }
    assert_eq!(Rc::strong_count(&counted), 2);
}

#[test]
fn a_reader_outlives_the_publisher_and_frees_everything() {
    let counted = Rc::new(());
    let mut publisher = Publisher::new((1, Rc::clone(&counted)));
    let mut reader = publisher.reader();
    let held = reader.turn();
    publisher.publish((2, Rc::clone(&counted)));
    publisher.publish((3, Rc::clone(&counted)));
    drop(publisher);
    assert_eq!((held.0, Rc::strong_count(&counted)), (1, 4));
    assert_eq!(reader.turn().0, 3);
    drop(reader);
    assert_eq!(Rc::strong_count(&counted), 1);
}

/// A value that readers can tell from a freed or half-written one.
struct Value {
    number: u64,
    twice: Box<u64>,
    drops: Arc<AtomicUsize>,
}

impl Value {
    fn new(number: u64, drops: &Arc<AtomicUsize>) -> Self {
        Self { number, twice: Box::new(2 * number), drops: Arc::clone(drops) }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        *self.twice = u64::MAX;
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

/// Turns as long as somebody publishes (or has not failed to), and goes offline after every third turn.
fn read_while(publishing: &Weak<()>, mut reader: Reader<Value>) {
    let (mut last, mut turns) = (0, 0);
    while publishing.strong_count() > 0 {
        let value = reader.turn();
        assert!(value.number >= last, "a reader never goes back");
        last = value.number;
        assert_eq!(*value.twice, 2 * value.number);
        thread::yield_now();
        assert_eq!(*value.twice, 2 * value.number);
        turns += 1;
        if turns % 3 == 0 {
            reader.offline();
            thread::yield_now();
        }
    }
}

#[test]
fn readers_in_threads_never_see_a_freed_value() {
    let drops = Arc::new(AtomicUsize::new(0));
    let mut publisher = Publisher::new(Value::new(0, &drops));
    thread::scope(|scope| {
        let publishing = Arc::new(());
        for _ in 0..2 {
            let (publishing, reader) = (Arc::downgrade(&publishing), publisher.reader());
            scope.spawn(move || read_while(&publishing, reader));
        }
        for number in 1..=ROUNDS {
            let version = publisher.publish(Value::new(number, &drops));
            if number % 64 != 0 {
                continue;
            }
            publisher.wait_in_force(version);
            // A reader that arrives just now holds the newest value, but does not say so yet.
            while publisher.retiring() > 0 {
                publisher.reclaim();
                thread::yield_now();
            }
            assert_eq!(drops.load(Ordering::Relaxed) as u64, number);
        }
    });
    drop(publisher);
    assert_eq!(drops.load(Ordering::Relaxed) as u64, ROUNDS + 1);
}

#[derive(Clone, Debug)]
enum Step {
    Publish,
    Barrier,
    Turn(usize),
    Offline(usize),
    Replace(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Publish),
        Just(Step::Barrier),
        (0..3_usize).prop_map(Step::Turn),
        (0..3_usize).prop_map(Step::Offline),
        (0..3_usize).prop_map(Step::Replace),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    /// The model: each reader's version or `None`, and the versions that replaced a value that somebody may hold.
    #[test]
    fn exactly_what_some_reader_may_hold_is_kept(steps in vec(step(), 0..100)) {
        let counted = Rc::new(());
        let mut publisher = Publisher::new(Rc::clone(&counted));
        let mut readers = [publisher.reader(), publisher.reader(), publisher.reader()];
        let (mut begun, mut replaced) = ([None; 3], Vec::new());
        for step in steps {
            match step {
                Step::Publish => replaced.push(publisher.publish(Rc::clone(&counted))),
                Step::Barrier => drop(publisher.barrier()),
                Step::Turn(which) => {
                    prop_assert!(std::ptr::eq(readers[which].turn(), publisher.current()));
                    begun[which] = Some(publisher.version());
                }
                Step::Offline(which) => {
                    readers[which].offline();
                    begun[which] = None;
                }
                Step::Replace(which) => {
                    readers[which] = publisher.reader();
                    begun[which] = None;
                }
            }
            publisher.reclaim();
            let slowest = begun.iter().flatten().min();
            replaced.retain(|replaced_by| slowest.is_some_and(|slowest| slowest < replaced_by));
            prop_assert_eq!(publisher.retiring(), replaced.len());
            prop_assert_eq!(Rc::strong_count(&counted), 2 + replaced.len());
            let in_force = slowest.is_none_or(|&slowest| slowest == publisher.version());
            prop_assert_eq!(publisher.is_in_force(publisher.version()), in_force);
        }
    }
}

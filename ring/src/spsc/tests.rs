use super::*;
use proptest::{collection::vec, prelude::*};
use std::{collections::VecDeque, rc::Rc, thread};

const ITEMS: u32 = if cfg!(miri) { 300 } else { 200_000 };
const CASES: u32 = if cfg!(miri) { 8 } else { 256 };

#[test]
fn a_full_ring_returns_the_rest() {
    let (mut producer, mut consumer) = ring(4);
    let mut items = vec![1, 2, 3, 4, 5, 6];
    assert_eq!(producer.push_burst(&mut items), 4);
    assert_eq!(items, [5, 6]);
    assert_eq!(producer.push(7), Err(7));
    assert_eq!((producer.len(), consumer.len(), producer.capacity(), consumer.capacity()), (4, 4, 4, 4));
    assert_eq!(consumer.pop(), Some(1));
    assert_eq!(producer.push_burst(&mut items), 1);
    assert_eq!(items, [6]);
}

#[test]
fn an_empty_ring_returns_nothing() {
    let (mut producer, mut consumer) = ring::<u8>(2);
    assert_eq!(consumer.pop(), None);
    assert_eq!(consumer.pop_burst(&mut Vec::with_capacity(4), 4), 0);
    assert_eq!(producer.push_burst(&mut Vec::new()), 0);
    assert!(producer.is_empty() && consumer.is_empty());
}

#[test]
fn a_popped_burst_is_bounded_by_max_and_by_the_room_it_finds() {
    let (mut producer, mut consumer) = ring(8);
    producer.push_burst(&mut (0..8).collect());
    let mut into = Vec::with_capacity(4);
    into.push(100);
    let room = into.capacity() - 1;
    assert_eq!(consumer.pop_burst(&mut into, 2), 2);
    assert_eq!(consumer.pop_burst(&mut into, 8), room - 2);
    assert_eq!(consumer.pop_burst(&mut into, 8), 0);
    assert!(into.iter().copied().eq([100].into_iter().chain(0..room as i32)));
    assert_eq!(into.capacity(), room + 1);
}

#[test]
fn positions_go_on_when_they_wrap() {
    let (mut producer, mut consumer) = ring(4);
    let start = usize::MAX - 1;
    producer.shared.head.store(start, Ordering::Relaxed);
    producer.shared.tail.store(start, Ordering::Relaxed);
    (producer.tail, producer.head_seen, consumer.head, consumer.tail_seen) = (start, start, start, start);
    assert_eq!(producer.push_burst(&mut vec![1, 2, 3, 4, 5]), 4);
    assert_eq!(producer.len(), 4);
    let mut into = Vec::with_capacity(4);
    assert_eq!(consumer.pop_burst(&mut into, 4), 4);
    assert_eq!(into, [1, 2, 3, 4]);
}

#[test]
#[should_panic(expected = "power of two")]
fn a_capacity_that_is_no_power_of_two_is_refused() {
    ring::<u8>(3);
}

#[test]
fn items_are_dropped_once_wherever_they_are() {
    let item = Rc::new(());
    let (mut producer, mut consumer) = ring(4);
    for _ in 0..3 {
        producer.push_burst(&mut vec![Rc::clone(&item), Rc::clone(&item)]);
        drop(consumer.pop());
    }
    drop(producer.push(Rc::clone(&item)));
    assert_eq!(Rc::strong_count(&item), 1 + 4);
    drop(producer);
    assert_eq!(Rc::strong_count(&item), 1 + 4);
    drop(consumer);
    assert_eq!(Rc::strong_count(&item), 1);
}

#[test]
fn each_end_learns_that_the_other_is_gone() {
    let (producer, mut consumer) = ring::<u8>(2);
    assert!(!producer.is_abandoned() && !consumer.is_abandoned());
    drop(producer);
    assert!(consumer.is_abandoned());
    assert_eq!(consumer.pop(), None);
    let (producer, consumer) = ring::<u8>(2);
    drop(consumer);
    assert!(producer.is_abandoned());
}

#[test]
fn a_thread_receives_what_another_sends_in_order() {
    let (mut producer, mut consumer) = ring(64);
    let pushing = thread::spawn(move || {
        let (mut next, mut items) = (0, Vec::new());
        while next < ITEMS || !items.is_empty() {
            let end = ITEMS.min(next + 1 + next % 40);
            items.extend((next..end).map(Box::new));
            next = end;
            while producer.push_burst(&mut items) == 0 {
                thread::yield_now();
            }
        }
    });
    let (mut expected, mut items) = (0, Vec::with_capacity(32));
    while expected < ITEMS {
        items.extend(consumer.pop());
        if consumer.pop_burst(&mut items, 31) == 0 {
            thread::yield_now();
        }
        for item in items.drain(..) {
            assert_eq!(*item, expected);
            expected += 1;
        }
    }
    pushing.join().unwrap();
    assert!(consumer.is_empty() && consumer.is_abandoned());
}

#[derive(Clone, Debug)]
enum Step {
    Push,
    PushBurst(usize),
    Pop,
    PopBurst { room: usize, max: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Push),
        (0..12_usize).prop_map(Step::PushBurst),
        Just(Step::Pop),
        (0..12_usize, 0..12_usize).prop_map(|(room, max)| Step::PopBurst { room, max }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_behaves_as_a_bounded_queue(exponent in 0..4_u32, steps in vec(step(), 0..100)) {
        let capacity = 1 << exponent;
        let (mut producer, mut consumer) = ring(capacity);
        let (mut model, mut next) = (VecDeque::new(), 0..);
        for step in steps {
            match step {
                Step::Push => {
                    let item = next.next().unwrap();
                    let fits = model.len() < capacity;
                    model.extend(fits.then_some(item));
                    let expected = if fits { Ok(()) } else { Err(item) };
                    prop_assert_eq!(producer.push(item), expected);
                }
                Step::PushBurst(count) => {
                    let mut items: Vec<i32> = next.by_ref().take(count).collect();
                    let fits = count.min(capacity - model.len());
                    let rest = items[fits..].to_vec();
                    model.extend(&items[..fits]);
                    prop_assert_eq!(producer.push_burst(&mut items), fits);
                    prop_assert_eq!(items, rest);
                }
                Step::Pop => prop_assert_eq!(consumer.pop(), model.pop_front()),
                Step::PopBurst { room, max } => {
                    let mut into = Vec::with_capacity(room);
                    let count = max.min(into.capacity()).min(model.len());
                    prop_assert_eq!(consumer.pop_burst(&mut into, max), count);
                    prop_assert_eq!(into, model.drain(..count).collect::<Vec<_>>());
                }
            }
            prop_assert_eq!((producer.len(), consumer.len()), (model.len(), model.len()));
        }
    }
}

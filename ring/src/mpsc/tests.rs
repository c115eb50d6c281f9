use super::*;
use proptest::{collection::vec, prelude::*};
use std::{collections::VecDeque, rc::Rc, thread};

const ITEMS: u32 = if cfg!(miri) { 100 } else { 50_000 };
const CASES: u32 = if cfg!(miri) { 8 } else { 256 };

#[test]
fn a_full_ring_returns_the_rest() {
    let (mut producer, mut consumer) = ring(4);
    let mut items = vec![1, 2, 3, 4, 5, 6];
    assert_eq!(producer.push_burst(&mut items), 4);
    assert_eq!(items, [5, 6]);
    assert_eq!(producer.clone().push(7), Err(7));
    assert_eq!((producer.len(), consumer.len(), producer.capacity(), consumer.capacity()), (4, 4, 4, 4));
    assert_eq!(consumer.pop(), Some(1));
    assert_eq!(producer.push_burst(&mut items), 1);
    assert_eq!(items, [6]);
}

#[test]
fn a_popped_burst_is_bounded_by_max_and_by_the_room_it_finds() {
    let (mut producer, mut consumer) = ring(8);
    producer.push_burst(&mut (0..8).collect());
    let mut into = Vec::with_capacity(4);
    let room = into.capacity();
    assert_eq!(consumer.pop_burst(&mut into, 2), 2);
    assert_eq!(consumer.pop_burst(&mut into, 8), room - 2);
    assert_eq!(consumer.pop_burst(&mut into, 8), 0);
    assert_eq!(into.capacity(), room);
}

#[test]
fn what_is_reserved_and_not_yet_marked_hides_what_lies_behind_it() {
    let (mut slow, mut consumer) = ring(4);
    let (position, 1) = slow.reserve(1) else { panic!("an empty ring has room") };
    slow.clone().push(2).unwrap();
    assert_eq!((consumer.pop(), consumer.len()), (None, 2));
    // SAFETY: `position` was reserved above and is written here alone.
    unsafe { slow.cells.write(position, 1) };
    slow.shared.mark(position, 1);
    assert_eq!([consumer.pop(), consumer.pop()], [Some(1), Some(2)]);
}

#[test]
fn an_old_mark_of_a_long_burst_is_not_taken_for_a_new_one() {
    let (mut producer, mut consumer) = ring(4);
    let mut into = Vec::with_capacity(4);
    for lap in 0..3 {
        producer.push_burst(&mut vec![4 * lap, 4 * lap + 1, 4 * lap + 2, 4 * lap + 3]);
        into.clear();
        assert_eq!(consumer.pop_burst(&mut into, 4), 4);
        assert_eq!((consumer.pop(), consumer.len()), (None, 0));
    }
    let reserved = producer.reserve(1).1;
    assert_eq!((reserved, consumer.pop(), consumer.len()), (1, None, 1));
    // SAFETY: the position was reserved above and is written here alone.
    unsafe { producer.cells.write(12, 12) };
    producer.shared.mark(12, 1);
    assert_eq!((consumer.pop(), consumer.pop()), (Some(12), None));
}

#[test]
#[should_panic(expected = "power of two")]
fn a_capacity_that_is_no_power_of_two_is_refused() {
    ring::<u8>(0);
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
    drop((producer.clone(), producer, consumer));
    assert_eq!(Rc::strong_count(&item), 1);
}

#[test]
fn an_end_learns_that_all_others_are_gone() {
    let (producer, consumer) = ring::<u8>(2);
    let other = producer.clone();
    drop(producer);
    assert!(!consumer.is_abandoned() && !other.is_abandoned());
    drop(other);
    assert!(consumer.is_abandoned());
    let (producer, consumer) = ring::<u8>(2);
    drop(consumer);
    assert!(producer.is_abandoned());
}

#[test]
fn bursts_of_four_threads_arrive_in_the_order_of_each() {
    const BURST: u32 = 4;
    let (producer, mut consumer) = ring(64);
    let threads = [0, 1, 2, 3].map(|thread| {
        let mut producer = producer.clone();
        thread::spawn(move || {
            let mut items = Vec::new();
            for first in (0..ITEMS).step_by(BURST as usize) {
                items.extend((first..first + BURST).map(|item| Box::new((thread, item))));
                while producer.push_burst(&mut items) == 0 || !items.is_empty() {
                    thread::yield_now();
                }
            }
        })
    });
    drop(producer);
    let (mut expected, mut items) = ([0; 4], Vec::with_capacity(32));
    while expected.iter().sum::<u32>() < 4 * ITEMS {
        if consumer.pop_burst(&mut items, 31) == 0 {
            thread::yield_now();
        }
        items.extend(consumer.pop());
        for item in items.drain(..) {
            let (thread, item) = *item;
            assert_eq!(item, expected[thread as usize]);
            expected[thread as usize] += 1;
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(consumer.is_empty() && consumer.is_abandoned());
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    PushBurst(usize, usize),
    Pop,
    PopBurst { room: usize, max: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..2_usize).prop_map(Step::Push),
        (0..2_usize, 0..12_usize).prop_map(|(producer, count)| Step::PushBurst(producer, count)),
        Just(Step::Pop),
        (0..12_usize, 0..12_usize).prop_map(|(room, max)| Step::PopBurst { room, max }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_behaves_as_a_bounded_queue(exponent in 0..4_u32, steps in vec(step(), 0..100)) {
        let capacity = 1 << exponent;
        let (producer, mut consumer) = ring(capacity);
        let mut producers = [producer.clone(), producer];
        let (mut model, mut next) = (VecDeque::new(), 0..);
        for step in steps {
            match step {
                Step::Push(producer) => {
                    let item = next.next().unwrap();
                    let fits = model.len() < capacity;
                    model.extend(fits.then_some(item));
                    let expected = if fits { Ok(()) } else { Err(item) };
                    prop_assert_eq!(producers[producer].push(item), expected);
                }
                Step::PushBurst(producer, count) => {
                    let mut items: Vec<i32> = next.by_ref().take(count).collect();
                    let fits = count.min(capacity - model.len());
                    let rest = items[fits..].to_vec();
                    model.extend(&items[..fits]);
                    prop_assert_eq!(producers[producer].push_burst(&mut items), fits);
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
            prop_assert_eq!((producers[0].len(), consumer.len()), (model.len(), model.len()));
        }
    }
}

//! Every interleaving (of bounded preemption) of two producers and one consumer over short rings, by loom.
#![cfg(loom)]

use loom::{sync::Arc, thread};
use podswitch_ring::mpsc::{self, Consumer, Producer};

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(check);
}

fn push_all<T>(producer: &mut Producer<T>, mut items: Vec<T>) {
    while !items.is_empty() {
        if producer.push_burst(&mut items) == 0 {
            thread::yield_now();
        }
    }
}

fn pop_all<T>(consumer: &mut Consumer<T>, count: usize) -> Vec<T> {
    let mut popped = Vec::with_capacity(count);
    while popped.len() < count {
        if consumer.pop_burst(&mut popped, 2) == 0 {
            thread::yield_now();
        }
    }
    popped
}

#[test]
fn bursts_of_two_producers_do_not_mix() {
    model(3, || {
        let (mut one, mut consumer) = mpsc::ring(4);
        let mut other = one.clone();
        let threads = [
            thread::spawn(move || push_all(&mut one, vec![1, 2])),
            thread::spawn(move || push_all(&mut other, vec![11, 12])),
        ];
        let popped = pop_all(&mut consumer, 4);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(popped == [1, 2, 11, 12] || popped == [11, 12, 1, 2], "{popped:?}");
        assert!(consumer.is_abandoned() && consumer.is_empty());
    });
}

#[test]
fn a_cell_is_used_again_only_when_its_item_was_taken() {
    /// Tries twice to push all, so that the model ends, and returns the number of items that found room.
    fn push_some(mut producer: Producer<i32>, mut items: Vec<i32>) -> usize {
        let first = producer.push_burst(&mut items);
        thread::yield_now();
        first + producer.push_burst(&mut items)
    }
    model(3, || {
        let (one, mut consumer) = mpsc::ring(2);
        let other = one.clone();
        let threads =
            [thread::spawn(move || push_some(one, vec![1, 2])), thread::spawn(move || push_some(other, vec![11, 12]))];
        let mut popped = Vec::with_capacity(4);
        consumer.pop_burst(&mut popped, 2);
        consumer.pop_burst(&mut popped, 2);
        let pushed = threads.map(|thread| thread.join().unwrap());
        consumer.pop_burst(&mut popped, 4);
        for (own, pushed) in [[1, 2], [11, 12]].iter().zip(pushed) {
            assert!(popped.iter().filter(|item| own.contains(item)).eq(&own[..pushed]));
        }
        assert_eq!(popped.len(), pushed.iter().sum());
    });
}

#[test]
fn a_burst_that_is_taken_in_parts_ends_where_the_next_begins() {
    model(3, || {
        let (mut one, mut consumer) = mpsc::ring(4);
        let mut other = one.clone();
        let threads =
            [thread::spawn(move || push_all(&mut one, vec![1, 2])), thread::spawn(move || other.push(11).unwrap())];
        let mut popped: Vec<i32> = consumer.pop().into_iter().chain(consumer.pop()).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        popped.extend(std::iter::from_fn(|| consumer.pop()));
        assert!(popped == [1, 2, 11] || popped == [11, 1, 2], "{popped:?}");
        assert!(consumer.is_empty());
    });
}

#[test]
fn a_push_fails_only_when_the_ring_is_full() {
    model(3, || {
        let (mut one, mut consumer) = mpsc::ring(1);
        let mut other = one.clone();
        let pushing = thread::spawn(move || other.push(1));
        let mine = one.push(2);
        let theirs = pushing.join().unwrap();
        assert!(mine.is_ok() != theirs.is_ok());
        assert_eq!(consumer.pop(), Some(if mine.is_ok() { 2 } else { 1 }));
        assert_eq!(consumer.pop(), None);
    });
}

#[test]
fn what_is_left_inside_is_dropped_once() {
    model(3, || {
        let item = Arc::new(());
        let (mut one, mut consumer) = mpsc::ring(2);
        let mut other = one.clone();
        let pushing = thread::spawn({
            let item = Arc::clone(&item);
            move || {
                let _ = other.push(item);
            }
        });
        let _ = one.push_burst(&mut vec![Arc::clone(&item), Arc::clone(&item)]);
        drop(one);
        drop(consumer.pop());
        drop(consumer);
        pushing.join().unwrap();
        assert_eq!(Arc::strong_count(&item), 1);
    });
}

#[test]
fn producers_that_are_seen_gone_have_left_everything_they_pushed() {
    model(3, || {
        let (mut one, mut consumer) = mpsc::ring(2);
        let mut other = one.clone();
        let threads = [thread::spawn(move || one.push(1).unwrap()), thread::spawn(move || other.push(2).unwrap())];
        if consumer.is_abandoned() {
            assert_eq!(consumer.pop_burst(&mut Vec::with_capacity(2), 2), 2);
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn the_length_counts_no_more_than_was_pushed() {
    model(3, || {
        let (mut one, mut consumer) = mpsc::ring(2);
        let other = one.clone();
        let threads = [
            thread::spawn(move || one.push(1).unwrap()),
            thread::spawn(move || assert!(consumer.pop().is_none_or(|item| item == 1))),
        ];
        assert!(other.len() <= 1);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

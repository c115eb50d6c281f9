//! Every interleaving of one producer and one consumer over short rings, by loom.
#![cfg(loom)]

use loom::{sync::Arc, thread};
use podswitch_ring::spsc;

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

#[test]
fn single_items_arrive_in_order_over_the_end_of_the_memory() {
    model(|| {
        let (mut producer, mut consumer) = spsc::ring(2);
        let pushing = thread::spawn(move || {
            for item in 0..4 {
                while producer.push(Box::new(item)).is_err() {
                    thread::yield_now();
                }
            }
        });
        for item in 0..4 {
            let popped = loop {
                match consumer.pop() {
                    Some(popped) => break popped,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(*popped, item);
        }
        pushing.join().unwrap();
        assert!(consumer.pop().is_none());
    });
}

#[test]
fn bursts_arrive_in_order_over_the_end_of_the_memory() {
    model(|| {
        let (mut producer, mut consumer) = spsc::ring(2);
        let pushing = thread::spawn(move || {
            let mut items: Vec<_> = (0..5).map(Box::new).collect();
            while !items.is_empty() {
                if producer.push_burst(&mut items) == 0 {
                    thread::yield_now();
                }
            }
        });
        let mut popped = Vec::with_capacity(5);
        while popped.len() < 5 {
            if consumer.pop_burst(&mut popped, 3) == 0 {
                thread::yield_now();
            }
        }
        pushing.join().unwrap();
        assert!(popped.into_iter().map(|item| *item).eq(0..5));
    });
}

#[test]
fn what_is_left_inside_is_dropped_once() {
    model(|| {
        let item = Arc::new(());
        let (mut producer, mut consumer) = spsc::ring(2);
        let pushing = thread::spawn({
            let item = Arc::clone(&item);
            move || {
                let _ = producer.push(Arc::clone(&item));
                let _ = producer.push_burst(&mut vec![Arc::clone(&item), item]);
            }
        });
        drop(consumer.pop());
        drop(consumer);
        pushing.join().unwrap();
        assert_eq!(Arc::strong_count(&item), 1);
    });
}

#[test]
fn an_end_that_is_seen_gone_has_left_everything_it_pushed() {
    model(|| {
        let (mut producer, mut consumer) = spsc::ring(2);
        let pushing = thread::spawn(move || producer.push(7).unwrap());
        if consumer.is_abandoned() {
            assert_eq!(consumer.pop(), Some(7));
        }
        pushing.join().unwrap();
        assert!(consumer.is_abandoned());
    });
}

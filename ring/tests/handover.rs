//! A million hand-overs of boxes between more threads than CPUs: no box and nothing in it is lost, doubled or overtaken.
//!
//! Each box is a bank as in `loom_handover.rs`: whoever has it takes numbers out of a ring whose far end lies in the box,
//! and gives it on into another's inbox. Threads that have no box park.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "all of this is tests")]

use std::{
    iter,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    thread::{self, Thread},
};

use podswitch_ring::{mpsc, spsc};

struct Bank {
    number: usize,
    numbers: spsc::Consumer<u64>,
    taken: u64,
    hand_overs: u64,
}

impl Bank {
    fn turn(&mut self) {
        for number in iter::from_fn(|| self.numbers.pop()).take(BURST) {
            assert_eq!(number, self.taken, "numbers come in order, each once");
            self.taken += 1;
        }
    }
}

/// Where a thread is reached.
#[derive(Clone)]
struct Place {
    inbox: mpsc::Producer<Box<Bank>>,
    thread: Thread,
}

impl Place {
    fn give(&mut self, bank: Box<Bank>) {
        self.inbox.push(bank).unwrap_or_else(|_| panic!("an inbox has room for every bank"));
        self.thread.unpark();
    }
}

/// Takes banks and gives each on, to another almost always; its last hand-over is to `home`.
fn work(mut inbox: mpsc::Consumer<Box<Bank>>, mut places: Vec<Place>, mut home: Place, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let Some(mut bank) = inbox.pop() else {
            thread::park();
            continue;
        };
        bank.turn();
        bank.hand_overs += 1;
        if bank.hand_overs == HAND_OVERS / BANKS as u64 {
            home.give(bank);
        } else {
            let to = (bank.hand_overs * (bank.number as u64 + 1)) as usize % places.len();
            places[to].give(bank);
        }
    }
}

fn hand_over_between(threads: usize) {
    let (inbox, mut returned) = mpsc::ring(BANKS);
    let home = Place { inbox, thread: thread::current() };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (mut places, mut openings) = (Vec::new(), Vec::new());
        for _ in 0..threads {
            let (inbox, taken) = mpsc::ring(BANKS);
            let (opening, opened) = channel();
            let (home, stop) = (home.clone(), &stop);
            let worker = scope.spawn(move || work(taken, opened.recv().unwrap(), home, stop));
            places.push(Place { inbox, thread: worker.thread().clone() });
            openings.push(opening);
        }
        openings.iter().for_each(|opening| opening.send(places.clone()).unwrap());
        let mut pushed = Vec::new();
        for number in 0..BANKS {
            let (producer, numbers) = spsc::ring(RING);
            pushed.push((producer, 0));
            places[number % threads].give(Box::new(Bank { number, numbers, taken: 0, hand_overs: 0 }));
        }
        let mut banks = Vec::with_capacity(BANKS);
        while banks.len() < BANKS {
            for (producer, pushed) in &mut pushed {
                while producer.push(*pushed).is_ok() {
                    *pushed += 1;
                }
            }
            returned.pop_burst(&mut banks, BANKS);
            thread::yield_now();
        }
        stop.store(true, Ordering::Release);
        places.iter().for_each(|place| place.thread.unpark());
        banks.sort_by_key(|bank| bank.number);
        for ((bank, (_, pushed)), number) in banks.iter_mut().zip(&pushed).zip(0..) {
            while !bank.numbers.is_empty() {
                bank.turn();
            }
            assert_eq!((bank.number, bank.hand_overs, bank.taken), (number, HAND_OVERS / BANKS as u64, *pushed));
        }
    });
}

#[test]
fn two_threads_hand_over_whole_banks() {
    hand_over_between(2);
}

#[test]
fn three_threads_hand_over_whole_banks() {
    hand_over_between(3);
}

#[test]
fn four_threads_hand_over_whole_banks() {
    hand_over_between(4);
}

/// Together.
const HAND_OVERS: u64 = if cfg!(miri) { 100 } else { 1_000_000 };
const BANKS: usize = 4;
/// Numbers under way to a bank.
const RING: usize = 64;
/// Numbers taken in one turn.
const BURST: usize = 8;

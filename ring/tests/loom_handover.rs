//! Every interleaving (of bounded preemption) of a bank of queues that changes hands, and of a flow that changes queue, by
//! loom.
//!
//! **A bank** is the queues that one worker, its *home*, serves, with what is remembered of them. It is a box, and whoever
//! has the box reads the queues: there is no other token. It is given away between two turns, into the other's inbox, and
//! comes back the same way when its queues are silent. What the kernel says of a silent queue it says to the home worker,
//! which passes it on by a ring whose far end lies in the box:
//!
//! ```text
//!   kernel ---- frames ----> queue <==== whoever has the box
//!       \------ event -----> home ---- box --------------> inbox of the other, bell
//!                            home ---- ports that woke --> ring, far end in the box
//!                            home, inbox, bell <---------- box ---- other
//! ```
//!
//! A **bell** stays rung until it is heard, as an eventfd does. Whoever pushes rings it afterwards, always or only for one
//! who has said that he sleeps; in the latter case both fences are needed, and who wants to sleep must look at the inbox
//! once more after saying so.
//!
//! **A flow** may change queue when a turn has begun behind the enqueuing of its last frame, and has ended. The sender
//! knows only when it chose the queue, which is a step before: see [`Steering`].
#![cfg(loom)]

use std::collections::VecDeque;

use loom::{
    cell::UnsafeCell,
    sync::{
        Arc, Mutex, Notify,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread,
};
use podswitch_ring::{mpsc, spsc};

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(check);
}

#[test]
fn a_bank_changes_hands_without_losing_a_frame_or_a_wake_up() {
    model(2, || bank_goes_round(Knock::Always));
}

#[test]
fn a_bell_may_be_spared_while_its_worker_is_awake() {
    model(2, || bank_goes_round(Knock::WhenAsleep));
}

#[test]
fn a_bank_given_to_one_who_falls_asleep_is_taken() {
    for knock in [Knock::Always, Knock::WhenAsleep] {
        model(3, move || {
            let (mut inbox, mut taken) = mpsc::ring(1);
            let door = Arc::new(Door::new(knock));
            let giving = thread::spawn({
                let door = Arc::clone(&door);
                move || {
                    inbox.push(Box::new(UnsafeCell::new(7))).expect("an inbox has room for every bank");
                    door.knock();
                }
            });
            let mut bank = taken.pop();
            while bank.is_none() {
                door.sleep(|| {
                    bank = taken.pop();
                    bank.is_some()
                });
                bank = bank.or_else(|| taken.pop());
            }
            bank.unwrap().with_mut(|_| ());
            giving.join().unwrap();
        });
    }
}

/// The home worker gives its bank away at its first frame, gets it back when the queue is silent, and serves the rest.
fn bank_goes_round(knock: Knock) {
    let (home_inbox, home_taken) = mpsc::ring(1);
    let (to_other, other_taken) = mpsc::ring(1);
    let (woke, woken) = spsc::ring(FRAMES);
    let [home, other] = [(); 2].map(|()| Arc::new(Door::new(knock)));
    let [event, stop] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let queue = Arc::new(Queue::default());
    let bank =
        Box::new(Bank { queue: Arc::clone(&queue), woken, active: false, taken: 0, contents: UnsafeCell::new(()) });

    let kernel = thread::spawn({
        let (home, event) = (Arc::clone(&home), Arc::clone(&event));
        move || {
            for frame in 0..FRAMES {
                queue.push(frame);
                event.swap(true, Ordering::AcqRel);
                home.bell.notify();
            }
        }
    });
    let away = thread::spawn({
        let worker = Worker { door: Arc::clone(&other), inbox: other_taken, bank: None };
        let (home, stop) = (Arc::clone(&home), Arc::clone(&stop));
        move || worker.serve_for_others(home_inbox, &home, &stop)
    });
    let worker = Worker { door: home, inbox: home_taken, bank: Some(bank) };
    worker.serve_at_home(&event, (woke, to_other), &other);
    stop.store(true, Ordering::Release);
    other.bell.notify();
    kernel.join().unwrap();
    away.join().unwrap();
}

struct Worker {
    door: Arc<Door>,
    inbox: mpsc::Consumer<Box<Bank>>,
    bank: Option<Box<Bank>>,
}

impl Worker {
    fn take_in(&mut self) -> bool {
        let given = self.inbox.pop();
        let is_given = given.is_some();
        assert!(!is_given || self.bank.is_none(), "there is one bank");
        self.bank = self.bank.take().or(given);
        is_given
    }

    fn sleep(&mut self) {
        let door = Arc::clone(&self.door);
        door.sleep(|| self.take_in());
    }

    /// Serves its own bank, but for the first frame's turn, until all frames were taken.
    fn serve_at_home(mut self, event: &AtomicBool, (mut woke, mut to_other): ToOther, other: &Door) {
        let mut gave = false;
        loop {
            self.take_in();
            if event.swap(false, Ordering::AcqRel) {
                match &mut self.bank {
                    Some(bank) => bank.active = true,
                    None => {
                        woke.push(PORT).expect("the ring has room for every port");
                        other.knock();
                    }
                }
            }
            match self.bank.take() {
                Some(bank) if bank.active && !gave => {
                    gave = true;
                    to_other.push(bank).unwrap_or_else(|_| panic!("an inbox has room for every bank"));
                    other.knock();
                }
                Some(mut bank) => {
                    let carried = bank.turn();
                    if bank.taken == FRAMES {
                        return;
                    }
                    self.bank = Some(bank);
                    if !carried {
                        self.sleep();
                    }
                }
                None => self.sleep(),
            }
        }
    }

    /// Serves the bank whenever it is given, and gives it back when its queue is silent.
    fn serve_for_others(mut self, mut home_inbox: mpsc::Producer<Box<Bank>>, home: &Door, stop: &AtomicBool) {
        loop {
            self.take_in();
            let carried = self.bank.as_mut().is_some_and(|bank| bank.turn());
            match self.bank.take() {
                Some(bank) if carried => self.bank = Some(bank),
                Some(bank) => {
                    home_inbox.push(bank).unwrap_or_else(|_| panic!("an inbox has room for every bank"));
                    home.knock();
                }
                None if stop.load(Ordering::Acquire) => return,
                None => self.sleep(),
            }
        }
    }
}

/// The ports that woke, and the box.
type ToOther = (spsc::Producer<u16>, mpsc::Producer<Box<Bank>>);

/// A bank of one queue.
struct Bank {
    queue: Arc<Queue>,
    /// Ports of silent queues that the home worker heard of.
    woken: spsc::Consumer<u16>,
    active: bool,
    /// How many frames were taken.
    taken: usize,
    /// Loom sees whether two workers have the bank at a time.
    contents: UnsafeCell<()>,
}

impl Bank {
    /// Takes a frame, if there is one.
    fn turn(&mut self) -> bool {
        while self.woken.pop().is_some() {
            self.active = true;
        }
        self.contents.with_mut(|_| ());
        let frame = if self.active { self.queue.pop() } else { None };
        self.active = frame.is_some();
        if let Some(frame) = frame {
            assert_eq!(frame, self.taken, "frames are taken in order, each once");
            self.taken += 1;
        }
        self.active
    }
}

/// How a worker sleeps, and how it is woken.
struct Door {
    knock: Knock,
    asleep: AtomicBool,
    bell: Notify,
}

/// When the bell is rung after a push.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Knock {
    Always,
    /// If the worker has said that it sleeps.
    WhenAsleep,
}

impl Door {
    fn new(knock: Knock) -> Self {
        Door { knock, asleep: AtomicBool::new(false), bell: Notify::new() }
    }

    /// After a push: whoever sleeps here, or is about to, will look.
    fn knock(&self) {
        if self.knock == Knock::Always {
            return self.bell.notify();
        }
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) {
            self.bell.notify();
        }
    }

    fn sleep(&self, take_in: impl FnOnce() -> bool) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !take_in() {
            self.bell.wait();
        }
        self.asleep.store(false, Ordering::Relaxed);
    }
}

/// A device's queue in the kernel.
#[derive(Default)]
struct Queue(Mutex<VecDeque<usize>>);

impl Queue {
    fn push(&self, frame: usize) {
        self.0.lock().unwrap().push_back(frame);
    }

    fn pop(&self) -> Option<usize> {
        self.0.lock().unwrap().pop_front()
    }
}

#[test]
fn a_flow_that_changes_queue_is_not_overtaken() {
    assert!(!is_ever_overtaken(2));
}

#[test]
fn one_turn_behind_the_choice_of_a_queue_may_be_one_too_few() {
    assert!(is_ever_overtaken(1));
}

fn is_ever_overtaken(behind: usize) -> bool {
    let ever = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    model(3, {
        let ever = std::sync::Arc::clone(&ever);
        move || {
            ever.fetch_or(flow_changes_queue(behind), Ordering::Relaxed);
        }
    });
    ever.load(Ordering::Relaxed)
}

/// The first frame of a flow is sent on CPU 0, the second on CPU 1; true when that one departs before.
fn flow_changes_queue(behind: usize) -> bool {
    let steering = Arc::new(Steering { behind, ..Steering::default() });
    let workers = [(0, 3), (1, 1)].map(|(queue, turns)| {
        let steering = Arc::clone(&steering);
        thread::spawn(move || (0..turns).for_each(|_| steering.turn(queue)))
    });
    let first = steering.choose(0, None);
    steering.enqueue(first.0, 0);
    let second = steering.choose(1, Some(first));
    steering.enqueue(second.0, 1);
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    let departed = steering.departed.lock().unwrap();
    departed.first() == Some(&1)
}

/// One flow, two queues, each with a worker, and a sender that moves between CPUs.
///
/// A queue's **generation** is odd during a turn that reads it to its end and writes everything out, else even. The sender
/// chooses a queue by it and enqueues a moment later. A frame chosen at generation `e` is surely out when `behind` whole
/// turns have begun behind `e` and ended: the generation is `(e + 1 + 2 * behind) & !1`, or higher. The first such turn may
/// have looked at the queue before the frame was there, so one is too few. Two are enough if no whole turn falls between
/// choosing and enqueuing. The kernel does both without being preempted, in a microsecond or so; empty turns are shorter,
/// so a worker must not count each of them.
#[derive(Default)]
struct Steering {
    behind: usize,
    queues: [Queue; 2],
    /// A lock, so that the assumption can be stated; what the sender reads may be old in no other way than it has to be.
    kernel: Mutex<Kernel>,
    departed: Mutex<Vec<usize>>,
}

#[derive(Default)]
struct Kernel {
    generations: [usize; 2],
    /// Counts up when the sender has chosen and when it has enqueued: odd in between.
    step: usize,
}

impl Steering {
    /// The queue of the next frame sent on `cpu`, and that queue's generation.
    fn choose(&self, cpu: usize, last: Option<(usize, usize)>) -> (usize, usize) {
        let mut kernel = self.kernel.lock().unwrap();
        kernel.step += 1;
        let is_out = |(queue, then): (usize, usize)| kernel.generations[queue] >= (then + 1 + 2 * self.behind) & !1;
        let queue = last.filter(|&last| !is_out(last)).map_or(cpu, |(queue, _)| queue);
        (queue, kernel.generations[queue])
    }

    fn enqueue(&self, queue: usize, frame: usize) {
        self.queues[queue].push(frame);
        self.kernel.lock().unwrap().step += 1;
    }

    /// The worker's turn; one that falls between choosing and enqueuing is not counted.
    fn turn(&self, queue: usize) {
        let begun = {
            let mut kernel = self.kernel.lock().unwrap();
            kernel.generations[queue] += 1;
            kernel.step
        };
        while let Some(frame) = self.queues[queue].pop() {
            self.departed.lock().unwrap().push(frame);
        }
        let mut kernel = self.kernel.lock().unwrap();
        let within = begun % 2 == 1 && kernel.step == begun;
        kernel.generations[queue] = if within { kernel.generations[queue] - 1 } else { kernel.generations[queue] + 1 };
    }
}

const FRAMES: usize = 2;
const PORT: u16 = 1;

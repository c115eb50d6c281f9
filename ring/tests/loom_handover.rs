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
//! **A flow** may change queue when its last frame has departed from the old one. The sender knows only the ticket it drew
//! before it enqueued that frame: see [`Steering`].
#![cfg(loom)]

use std::collections::VecDeque;

use loom::{
    cell::UnsafeCell,
    sync::{
        Arc, Mutex, Notify,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
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
    assert!(!is_ever_overtaken(Departed::AllSteered, 1));
}

#[test]
fn a_flow_of_two_senders_that_changes_queue_is_not_overtaken() {
    assert!(!is_ever_overtaken(Departed::AllSteered, 0));
}

#[test]
fn as_many_as_the_ticket_says_may_be_others() {
    assert!(is_ever_overtaken(Departed::AsMany, 1));
}

fn is_ever_overtaken(departed: Departed, other: usize) -> bool {
    let ever = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    model(2, {
        let ever = std::sync::Arc::clone(&ever);
        move || {
            ever.fetch_or(flow_changes_queue(departed, other), Ordering::Relaxed);
        }
    });
    ever.load(Ordering::Relaxed)
}

/// One sender sends frame 0 on CPU 0, and then frame 1 on CPU 1, both of flow 0; another frame 2 of flow `other` on CPU 0.
/// True when frame 1 departs before frame 0.
fn flow_changes_queue(departed: Departed, other: usize) -> bool {
    let steering = Arc::new(Steering::default());
    let workers = [(0, 2), (1, 1)].map(|(queue, turns)| {
        let steering = Arc::clone(&steering);
        thread::spawn(move || steering.serve(queue, turns, departed))
    });
    let sender = thread::spawn({
        let steering = Arc::clone(&steering);
        move || steering.send(other, 0, 2)
    });
    steering.send(0, 0, 0);
    steering.send(0, 1, 1);
    sender.join().unwrap();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    let departed = steering.departed.lock().unwrap();
    let place = |frame| departed.iter().position(|&other| other == frame).unwrap_or(usize::MAX);
    place(1) < place(0)
}

/// Two flows, two queues, each with a worker, and senders that move between CPUs.
///
/// A sender draws a ticket of the queue it chooses and enqueues later, after any delay. A flow's **entry** holds its queue and
/// the last ticket drawn for it. Another queue may be chosen when all tickets up to that one have departed.
#[derive(Default)]
struct Steering {
    entries: [AtomicU64; 2],
    lines: [Line; 2],
    departed: Mutex<Vec<usize>>,
}

#[derive(Default)]
struct Line {
    steered: AtomicU64,
    departed: AtomicU64,
    queue: Queue,
}

/// Which tickets a worker says have departed.
#[derive(Clone, Copy)]
enum Departed {
    /// All that were drawn, when as many frames have departed; else none.
    AllSteered,
    /// As many as frames have departed: wrong where frames are enqueued in another order than tickets were drawn.
    AsMany,
}

impl Steering {
    fn send(&self, flow: usize, cpu: usize, frame: usize) {
        let queue = self.choose(flow, cpu);
        self.lines[queue].queue.push(frame);
    }

    /// The queue of the next frame that is sent on `cpu`.
    fn choose(&self, flow: usize, cpu: usize) -> usize {
        let entry = &self.entries[flow];
        let mut found = entry.load(Ordering::Acquire);
        loop {
            let last = queue_of(found);
            let has_departed = self.lines[last].departed.load(Ordering::Acquire) >= found >> 1;
            let queue = if has_departed { cpu } else { last };
            let ticket = self.lines[queue].steered.fetch_add(1, Ordering::AcqRel) + 1;
            let mine = ticket << 1 | queue as u64;
            loop {
                match entry.compare_exchange(found, mine, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return queue,
                    Err(changed) => found = changed,
                }
                if queue_of(found) != queue {
                    break;
                }
                if found > mine {
                    return queue;
                }
            }
        }
    }

    /// So many turns, each of which reads the queue to its end.
    fn serve(&self, queue: usize, turns: usize, departed: Departed) {
        let (line, mut gone) = (&self.lines[queue], 0);
        for _ in 0..turns {
            while let Some(frame) = line.queue.pop() {
                self.departed.lock().unwrap().push(frame);
                gone += 1;
            }
            let said = match departed {
                Departed::AllSteered if line.steered.load(Ordering::Acquire) != gone => continue,
                _ => gone,
            };
            line.departed.store(said, Ordering::Release);
        }
    }
}

fn queue_of(entry: u64) -> usize {
    (entry & 1) as usize
}

const FRAMES: usize = 2;
const PORT: u16 = 1;

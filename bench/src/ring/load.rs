//! The load: numbers of 8 bytes through a ring, each of them checked.
//!
//! `bench/dpdk/ring.c` does the same with DPDK's rings, step by step.

use std::hint::spin_loop;
use std::ops::Range;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use crate::error::Result;
use crate::machine;
use crate::ring::contestants::{Pop, Push, Ring};

/// How much is carried, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    /// The CPU of each producer's thread; without any, the consumer's thread pushes each burst itself.
    pub(crate) producers: &'a [usize],
    /// The CPU of the consumer's thread.
    pub(crate) consumer: usize,
    /// Items pushed, and popped, at once.
    pub(crate) burst: usize,
    /// Items each producer sends.
    pub(crate) items: u64,
}

impl Load<'_> {
    /// Carries everything and returns how many millions of items arrived a second.
    ///
    /// # Panics
    /// If something else comes out of the ring than went in.
    pub(crate) fn carry<R: Ring>(self) -> Result<f64> {
        let (pushes, pop) = R::ends(self.producers.len().max(1));
        let start = Barrier::new(self.producers.len() + 1);
        thread::scope(|scope| {
            let consumer = if self.producers.is_empty() {
                let push = pushes.into_iter().next().expect("there is one end at least");
                scope.spawn(move || self.on(self.consumer, None, || self.push_and_pop(push, pop)))
            } else {
                for (number, (push, &cpu)) in pushes.into_iter().zip(self.producers).enumerate() {
                    let (start, numbers) = (&start, numbers_of(number, self.items));
                    scope.spawn(move || self.on(cpu, Some(start), || self.produce(push, numbers)));
                }
                let start = &start;
                scope.spawn(move || self.on(self.consumer, Some(start), || self.consume(pop)))
            };
            let seconds = consumer.join().expect("a ring gives what it was given")?;
            Ok(self.items as f64 * self.producers.len().max(1) as f64 / seconds / 1e6)
        })
    }

    /// Does the work on a CPU and says how many seconds it took.
    fn on(self, cpu: usize, start: Option<&Barrier>, work: impl FnOnce()) -> Result<f64> {
        let pinned = machine::pin(Some(cpu));
        // Also where pinning failed: the others wait here.
        start.map(Barrier::wait);
        pinned?;
        let began = Instant::now();
        work();
        Ok(began.elapsed().as_secs_f64())
    }

    fn produce(self, mut push: impl Push, numbers: Range<u64>) {
        let (mut items, mut next, mut patience) = (Vec::with_capacity(self.burst), numbers.start, self.patience());
        while next < numbers.end {
            let pushed = if self.burst == 1 {
                u64::from(push.push(next))
            } else {
                items.clear();
                items.extend(next..numbers.end.min(next + self.burst as u64));
                push.push_burst(&mut items) as u64
            };
            next += pushed;
            if pushed == 0 {
                patience.wait();
            }
        }
    }

    fn consume(self, pop: impl Pop) {
        match self.producers.len() {
            1 => self.consume_of_one(pop),
            _ => self.consume_of_several(pop),
        }
    }

    fn consume_of_one(self, mut pop: impl Pop) {
        let (mut into, mut next, mut patience) = (Vec::with_capacity(self.burst), 0, self.patience());
        let mut difference = 0;
        while next < self.items {
            let popped = if self.burst == 1 {
                pop.pop().map_or(0, |item| {
                    difference |= item ^ next;
                    1
                })
            } else {
                let popped = pop.pop_burst(&mut into, self.burst);
                difference |= differ(popped, next);
                popped.len() as u64
            };
            next += popped;
            if popped == 0 {
                patience.wait();
            }
        }
        assert_eq!(difference, 0, "numbers came in another order");
    }

    fn consume_of_several(self, mut pop: impl Pop) {
        let (mut into, mut next, mut patience) = (Vec::with_capacity(self.burst), [0; 2], self.patience());
        let mut difference = 0;
        while next[0] + next[1] < self.items * self.producers.len() as u64 {
            let popped = if self.burst == 1 {
                into.clear();
                into.extend(pop.pop());
                &into[..]
            } else {
                pop.pop_burst(&mut into, self.burst)
            };
            for item in popped {
                let next = &mut next[(item >> 63) as usize];
                difference |= (item << 1 >> 1) ^ *next;
                *next += 1;
            }
            if popped.is_empty() {
                patience.wait();
            }
        }
        assert_eq!(difference, 0, "numbers of a producer came in another order");
    }

    fn push_and_pop(self, mut push: impl Push, mut pop: impl Pop) {
        let [mut items, mut into] = [(); 2].map(|()| Vec::with_capacity(self.burst));
        let (mut next, mut difference) = (0, 0);
        while next < self.items {
            if self.burst == 1 {
                push.push(next);
                difference |= pop.pop().map_or(u64::MAX, |item| item ^ next);
            } else {
                items.clear();
                items.extend(next..next + self.burst as u64);
                push.push_burst(&mut items);
                difference |= differ(pop.pop_burst(&mut into, self.burst), next);
            }
            next += self.burst as u64;
        }
        assert_eq!(difference, 0, "other numbers came out than went in");
    }

    fn patience(self) -> Patience {
        Patience { crowded: self.producers.contains(&self.consumer), looks: 0 }
    }
}

/// What a thread does that finds a ring full or empty: it pauses; where threads share a CPU it lets another run now and then.
struct Patience {
    crowded: bool,
    looks: u32,
}

impl Patience {
    #[inline(always)]
    fn wait(&mut self) {
        self.looks += 1;
        if self.crowded && self.looks > LOOKS_MAX {
            self.looks = 0;
            thread::yield_now();
        } else {
            spin_loop();
        }
    }
}

/// What producer `number` sends; the highest bit tells two of them apart.
fn numbers_of(number: usize, items: u64) -> Range<u64> {
    let first = (number as u64) << 63;
    first..first + items
}

/// Not zero if these are not `next` and those that follow it.
#[inline(always)]
fn differ(items: &[u64], next: u64) -> u64 {
    items.iter().zip(next..).fold(0, |difference, (item, expected)| difference | (item ^ expected))
}

const LOOKS_MAX: u32 = 100;

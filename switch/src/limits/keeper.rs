//! Who opens gates: one worker for each, called by those who left something there.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crossbeam::queue::ArrayQueue;

use crate::bank::PORTS_MAX;
use crate::world::World;

/// What wakes a worker.
pub type Wake = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// A worker as a gate knows it.
#[derive(Clone)]
pub struct Keeper {
    calls: Arc<Calls>,
    wake: Wake,
}

/// Ports at whose gates somebody left something, for their keeper.
#[derive(Debug)]
pub struct Calls {
    worker: u16,
    /// There is a place for every port, so none is turned away.
    ports: ArrayQueue<u16>,
}

/// The gates at which something waits; the keeper's own.
#[derive(Debug)]
pub struct Gates {
    calls: Arc<Calls>,
    /// Ports, and when their gates are to be opened.
    waiting: Vec<(u16, Instant)>,
}

impl Keeper {
    /// The worker that takes these calls.
    pub fn new(calls: &Arc<Calls>, wake: &Wake) -> Keeper {
        Keeper { calls: Arc::clone(calls), wake: Arc::clone(wake) }
    }

    /// Its number.
    #[inline]
    pub fn worker(&self) -> u16 {
        self.calls.worker
    }

    /// Calls it to the gate of a port, on behalf of worker `from`.
    pub fn call(&self, port: u16, from: u16) {
        let refused = self.calls.ports.push(port);
        debug_assert!(refused.is_ok(), "a gate calls once until it has been opened");
        if from != self.worker() {
            // Writing to an eventfd fails for no reason that could arise here.
            let _ = (self.wake)();
        }
    }
}

impl Gates {
    /// Those that worker `number` keeps, none yet.
    pub fn new(worker: u16) -> Gates {
        let calls = Arc::new(Calls { worker, ports: ArrayQueue::new(2 * PORTS_MAX) });
        Gates { calls, waiting: Vec::with_capacity(PORTS_MAX) }
    }

    /// For those who call.
    pub fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }

    /// When the next one is to be opened; at once where somebody called.
    pub fn next(&self) -> Option<Instant> {
        if self.is_called() {
            return Some(Instant::now());
        }
        self.waiting.iter().map(|&(_, when)| when).min()
    }

    /// True when somebody called since gates were last opened.
    #[inline]
    pub fn is_called(&self) -> bool {
        !self.calls.ports.is_empty()
    }

    /// Opens those whose time has come.
    #[inline]
    pub fn open(&mut self, world: &World) {
        if self.is_called() || !self.waiting.is_empty() {
            self.open_some(world);
        }
    }

    #[inline(never)]
    fn open_some(&mut self, world: &World) {
        let now = Instant::now();
        while let Some(port) = self.calls.ports.pop() {
            // One of an earlier port of that number may still be there.
            self.waiting.retain(|&(waiting, _)| waiting != port);
            self.waiting.push((port, now));
        }
        self.waiting.retain_mut(|(number, when)| {
            if *when > now {
                return true;
            }
            let gate = world.port(*number).and_then(|port| Some((port, port.limits.entering.as_ref()?)));
            let Some(next) = gate.and_then(|(port, gate)| gate.open(port)) else { return false };
            *when = next;
            true
        });
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keeper {}", self.worker())
    }
}

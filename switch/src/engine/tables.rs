//! What workers read, and the only place that changes it: the route table and the published worlds.
//!
//! Every change here is in force when its function returns: each worker is asleep or has begun a turn that sees it. The
//! order of coming and going is [`crate::world`]'s.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use control::{Code, Poll as PollMode, Refusal};
use crossbeam::channel;
use mio::unix::SourceFd;
use mio::{Interest, Token, Waker};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use packet::Prefix;
use ring::snapshot::Publisher;
use route_table::{NextHop, RouteTable};

use crate::config::Config;
use crate::lane::SlowEnds;
use crate::port::Port;
use crate::thread::WORKER_THREAD;
use crate::tracer::Trace;
use crate::worker::{Tally, Waiting, Worker, WorkerEnds};
use crate::world::{World, fixed_routes, hop_of};

use super::crowding::Crowding;

/// Route table, worlds, and the worker that reads them.
pub(super) struct Tables {
    routes: RouteTable,
    /// What stands when nobody asked for anything else.
    fixed: BTreeMap<Prefix, NextHop>,
    worlds: Publisher<World>,
    pub(super) worker: WorkerEnds,
    crowding: Crowding,
    thread: Option<WorkerThread>,
    ending: Arc<AtomicBool>,
}

impl Tables {
    /// Tables with the fixed routes and the host port, and a running worker.
    pub(super) fn new(config: &Config, host: Port, slow_waker: Arc<Waker>) -> io::Result<Tables> {
        let (mut routes, fixed) = (RouteTable::new(), fixed_routes(&config.node));
        for (&prefix, &hop) in &fixed {
            routes.insert(prefix, hop).expect("an empty table has room for the fixed routes");
        }
        let mut worlds = Publisher::new(World::new(host, routes.reader()));
        let (worker, ends) = Worker::new(worlds.reader(), waiting(config), slow_waker)?;
        let ending = Arc::new(AtomicBool::new(false));
        let (thread, cpu) = spawn(worker, config.worker_cpu, Arc::clone(&ending))?;
        let (thread, crowding) = (Some(thread), Crowding::new(cpu));
        let tables = Tables { routes, fixed, worlds, worker: ends, crowding, thread, ending };
        tables.watch(0)?;
        Ok(tables)
    }

    /// The newest world.
    pub(super) fn world(&self) -> &World {
        self.worlds.current()
    }

    /// The slow path's mailboxes, and the world to answer by.
    pub(super) fn slow_ends(&mut self) -> (&mut SlowEnds, &World) {
        (&mut self.worker.slow, self.worlds.current())
    }

    /// Makes ports and their adjacencies known, then their addresses.
    ///
    /// # Errors
    /// No room among the watched descriptors or in the route table; nothing of any of them is left.
    pub(super) fn add_ports(&mut self, ports: Vec<Port>) -> Result<(), Refusal> {
        let own = |port: &Port| (port.number, port.addresses().into_iter().map(Prefix::host).collect::<Vec<_>>());
        let coming: Vec<(u16, Vec<Prefix>)> = ports.iter().map(own).collect();
        let mut world = self.world().clone();
        ports.into_iter().for_each(|port| world.add(port));
        self.publish(world);
        let added = coming.iter().try_for_each(|(number, prefixes)| {
            self.watch(*number).map_err(|error| no_room(&error))?;
            prefixes.iter().try_for_each(|&prefix| self.load(prefix, hop_of(*number)))
        });
        if added.is_err() {
            for (number, prefixes) in coming {
                drop(self.remove_port(number, &prefixes));
            }
        }
        self.settle();
        added
    }

    /// Removes a port after everything that leads to it. The caller holds the last handle and may close it.
    pub(super) fn remove_port(&mut self, number: u16, routes: &[Prefix]) -> Option<Arc<Port>> {
        self.take_back(routes);
        let mut world = self.world().clone();
        let port = world.remove(number)?;
        self.publish(world);
        if let Some(descriptor) = port.descriptor() {
            // It fails when the worker did not have it watched just then.
            let _ = self.worker.registry.deregister(&mut SourceFd(&descriptor));
        }
        Some(port)
    }

    /// Sets or changes a route; it is in force when this returns.
    pub(super) fn set(&mut self, prefix: Prefix, hop: NextHop) -> Result<(), Refusal> {
        self.load(prefix, hop)?;
        self.settle();
        Ok(())
    }

    /// The same, in force a moment later: for many at once.
    pub(super) fn load(&mut self, prefix: Prefix, hop: NextHop) -> Result<(), Refusal> {
        self.routes.insert(prefix, hop).map(drop).map_err(|full| no_room(&full))
    }

    /// Takes routes away; where a fixed route stood, it stands again.
    pub(super) fn take_back(&mut self, prefixes: &[Prefix]) {
        for &prefix in prefixes {
            match self.fixed.get(&prefix) {
                Some(&hop) => drop(self.routes.insert(prefix, hop)),
                None => drop(self.routes.remove(prefix)),
            }
        }
        self.settle();
    }

    /// Has packets traced, or no longer.
    pub(super) fn set_trace(&mut self, trace: Option<Arc<Trace>>) {
        let mut world = self.world().clone();
        world.trace = trace;
        self.publish(world);
    }

    /// Waits until every answer of the slow path has been read, for whatever port it was. A number may then be given to
    /// another port.
    pub(super) fn flush_answers(&self) {
        while !self.worker.slow.answers.is_idle() && !self.worker_is_gone() {
            // A failed wake-up is made up for by the next look.
            let _ = self.worker.waker.wake();
            thread::yield_now();
        }
    }

    /// Looks whether pods compute on the worker's CPU, and tells it.
    pub(super) fn look_at_cpu(&mut self, now: Instant) {
        let turns = self.worker.tallies.get(Tally::Turns);
        if let Some(crowded) = self.crowding.look(now, turns) {
            self.worker.crowded.set(crowded.into());
        }
    }

    /// Ends the worker. Frames still in the ports' queues stay there.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        self.ending.store(true, Ordering::Relaxed);
        self.worker.waker.wake()?;
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(io::Error::other("the worker panicked")),
        }
    }

    /// True when the worker ended without being told to.
    pub(super) fn worker_is_gone(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn publish(&mut self, world: World) {
        let version = self.worlds.publish(world);
        self.worlds.wait_in_force(version);
        // A worker that is just waking holds an older world up for an instant, and its ports with it.
        while self.worlds.retiring() > 0 {
            self.worlds.reclaim();
            thread::yield_now();
        }
    }

    /// Waits until every worker sees the route table as it is now; what was removed may then be used again.
    fn settle(&mut self) {
        let version = self.worlds.barrier();
        self.worlds.wait_in_force(version);
        self.routes.reclaim();
    }

    fn watch(&self, number: u16) -> io::Result<()> {
        let Some(descriptor) = self.world().port(number).and_then(Port::descriptor) else { return Ok(()) };
        let (token, readable) = (Token(usize::from(number)), Interest::READABLE);
        self.worker.registry.register(&mut SourceFd(&descriptor), token, readable)
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        // Whoever wanted to know how the worker ended has asked.
        let _ = self.stop();
    }
}

fn no_room(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Code::Unavailable, error.to_string())
}

/// The highest CPU this thread may use: where pods are least likely to be put first.
fn last_cpu() -> io::Result<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let last = (0..CpuSet::count()).rev().find(|&cpu| allowed.is_set(cpu).is_ok_and(|set| set));
    last.ok_or_else(|| io::Error::other("this thread may use no CPU"))
}

fn waiting(config: &Config) -> Waiting {
    match config.poll {
        PollMode::Adaptive => Waiting::Adaptive(config.spin),
        PollMode::Spin => Waiting::Spin,
        PollMode::Sleep => Waiting::Sleep,
    }
}

/// Starts the worker on its CPU, whose number comes with it.
fn spawn(mut worker: Worker, cpu: Option<u16>, ending: Arc<AtomicBool>) -> io::Result<(WorkerThread, usize)> {
    let (bound, is_bound) = channel::bounded(1);
    let thread = thread::Builder::new().name(WORKER_THREAD.to_owned()).spawn(move || {
        let placed = bind(cpu);
        let failed = placed.is_err();
        // The receiver waits for it.
        let _ = bound.send(placed);
        if failed { Ok(()) } else { worker.run(|| ending.load(Ordering::Relaxed)) }
    })?;
    let cpu = is_bound.recv().map_err(io::Error::other).flatten()?;
    Ok((thread, cpu))
}

/// Binds the calling thread to a CPU, the last it may use where none is given.
fn bind(cpu: Option<u16>) -> io::Result<usize> {
    let cpu = cpu.map_or_else(last_cpu, |cpu| Ok(cpu.into()))?;
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus)?;
    Ok(cpu)
}

type WorkerThread = JoinHandle<io::Result<()>>;

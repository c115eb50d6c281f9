//! What workers read, and the only place that changes it: the route table and the published worlds.
//!
//! Every change here is in force when its function returns: each worker is asleep or has begun a turn that sees it. The
//! order of coming and going is [`crate::world`]'s.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use control::Poll as PollMode;
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
use crate::worker::{Waiting, Worker, WorkerEnds};
use crate::world::{World, fixed_routes, hop_of};

/// Route table, worlds, and the worker that reads them.
pub(super) struct Tables {
    routes: RouteTable,
    /// What stands when nobody asked for anything else.
    fixed: BTreeMap<Prefix, NextHop>,
    worlds: Publisher<World>,
    pub(super) worker: WorkerEnds,
    thread: Option<JoinHandle<io::Result<()>>>,
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
        let thread = spawn(worker, config.worker_cpu, Arc::clone(&ending))?;
        let tables = Tables { routes, fixed, worlds, worker: ends, thread: Some(thread), ending };
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

    /// Makes a port and its adjacency known, then its addresses.
    pub(super) fn add_port(&mut self, port: Port, addresses: &[IpAddr]) -> Result<(), route_table::Error> {
        let (number, hop) = (port.number, hop_of(port.number));
        let mut world = self.world().clone();
        world.add(port);
        self.publish(world);
        let watched = self.watch(number);
        debug_assert!(watched.is_ok(), "a fresh descriptor can be watched: {watched:?}");
        let prefixes: Vec<Prefix> = addresses.iter().map(|&address| Prefix::host(address)).collect();
        let inserted = prefixes.iter().try_for_each(|&prefix| self.routes.insert(prefix, hop).map(drop));
        if let Err(full) = inserted {
            drop(self.remove_port(number, &prefixes));
            return Err(full);
        }
        self.settle();
        Ok(())
    }

    /// Removes a port after everything that leads to it. The caller holds the last handle and may close it.
    pub(super) fn remove_port(&mut self, number: u16, routes: &[Prefix]) -> Option<Arc<Port>> {
        self.clear(routes);
        let mut world = self.world().clone();
        let port = world.remove(number)?;
        if let Some(descriptor) = port.descriptor() {
            // A failure means it was never watched; closing it would end the watch too.
            let _ = self.worker.registry.deregister(&mut SourceFd(&descriptor));
        }
        self.publish(world);
        Some(port)
    }

    /// Sets or changes a route.
    pub(super) fn set(&mut self, prefix: Prefix, hop: NextHop) -> Result<(), route_table::Error> {
        self.routes.insert(prefix, hop)?;
        self.settle();
        Ok(())
    }

    /// Takes a route away; where a fixed route stood, it stands again.
    pub(super) fn take_back(&mut self, prefix: Prefix) {
        match self.fixed.get(&prefix) {
            Some(&hop) => drop(self.routes.insert(prefix, hop)),
            None => drop(self.routes.remove(prefix)),
        }
        self.settle();
    }

    fn clear(&mut self, prefixes: &[Prefix]) {
        for &prefix in prefixes {
            self.routes.remove(prefix);
        }
        self.settle();
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
        self.worlds.reclaim();
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

fn spawn(mut worker: Worker, cpu: Option<u16>, ending: Arc<AtomicBool>) -> io::Result<JoinHandle<io::Result<()>>> {
    thread::Builder::new().name("worker-0".to_owned()).spawn(move || {
        let mut cpus = CpuSet::new();
        cpus.set(cpu.map_or_else(last_cpu, |cpu| Ok(cpu.into()))?)?;
        sched_setaffinity(Pid::from_raw(0), &cpus)?;
        worker.run(|| ending.load(Ordering::Relaxed))
    })
}

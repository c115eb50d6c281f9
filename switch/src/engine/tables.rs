//! The workers and what they read, and the only place that changes it: the route table and the published worlds.
//! Everything here holds for the threads of a pipeline too.
//!
//! Every change here is in force when its function returns: each worker is asleep or has begun a turn that sees it. The
//! order of coming and going is [`crate::world`]'s.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use control::{Code, Refusal};
use crossbeam::channel;
use mio::unix::SourceFd;
use mio::{Interest, Token, Waker};
use nix::errno::Errno;
use packet::Prefix;
use ring::snapshot::{Publisher, Reader};
use route_table::{NextHop, RouteTable};

use crate::config::Config;
use crate::crew::{Crew, bind};
use crate::limits::Keeper;
use crate::pipeline::threads::stages;
use crate::port::Port;
use crate::returns::{RETURNS, Returns};
use crate::tracer::Trace;
use crate::worker::{Life, Tally, WorkerEnds, workers};
use crate::world::{LOCAL, World, fixed_routes, hop_of};

use super::crowding::Crowding;
use super::error::Error;
use super::neighbors::Neighbors;
use super::uplinks::End;

/// Route table, worlds, and the workers that read them.
pub(super) struct Tables {
    routes: RouteTable,
    /// What stands when nobody asked for anything else.
    fixed: BTreeMap<Prefix, NextHop>,
    worlds: Publisher<World>,
    pub(super) workers: Vec<WorkerEnds>,
    pub(super) returns: Arc<Returns>,
    /// Other nodes.
    pub(super) neighbors: Neighbors,
    crowding: Crowding,
    threads: Vec<WorkerThread>,
    ending: Arc<AtomicBool>,
}

impl Tables {
    /// Tables with the fixed routes and the host port, and running workers.
    pub(super) fn new(config: &Config, crew: &Crew, host: Port, slow_waker: &Arc<Waker>) -> io::Result<Tables> {
        let (mut routes, fixed) = (RouteTable::new(), fixed_routes(&config.node));
        for (&prefix, &hop) in &fixed {
            routes.insert(prefix, hop).expect("an empty table has room for the fixed routes");
        }
        let mut worlds = Publisher::new(World::new(host, routes.reader()));
        let returns = Arc::new(Returns::new(RETURNS));
        let ending = Arc::new(AtomicBool::new(false));
        let stop = {
            let ending = Arc::clone(&ending);
            move || ending.load(Ordering::Relaxed)
        };
        let lives = lives(crew, || worlds.reader(), (&returns, slow_waker), stop)?;
        let (lives, workers): (Vec<_>, Vec<_>) = lives.into_iter().unzip();
        // Stages have CPUs to themselves.
        let crowding = Crowding::new(if crew.pipeline { &[] } else { &crew.cpus });
        let (neighbors, threads) = (Neighbors::default(), Vec::new());
        let mut tables = Tables { routes, fixed, worlds, workers, returns, neighbors, crowding, threads, ending };
        for (life, &cpu) in lives.into_iter().zip(&crew.cpus) {
            let name = tables.workers[tables.threads.len()].thread.clone();
            tables.threads.push(spawn(life, name, cpu)?);
        }
        tables.watch(0)?;
        Ok(tables)
    }

    /// The newest world.
    pub(super) fn world(&self) -> &World {
        self.worlds.current()
    }

    /// The workers' ends, and the world to answer by.
    pub(super) fn ends(&mut self) -> (&mut [WorkerEnds], &World) {
        (&mut self.workers, self.worlds.current())
    }

    /// Opens our ends of tunnels. The node answers for the first address of each of `own`, as nodes of flannel do.
    pub(super) fn open_uplinks(&mut self, (ends, own): (Vec<End>, &[Prefix]), crew: &Crew) -> Result<(), Error> {
        if ends.is_empty() {
            return Ok(());
        }
        let failed = |end: &End, source: host::Error| {
            let taken = source.errno() == Some(Errno::EADDRINUSE as i32);
            Error::Uplink { end: end.local, holder: taken.then(|| end.holder()).flatten(), source }
        };
        let open = |end: &End| end.open(crew).map_err(|source| failed(end, source));
        let ports = ends.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        self.add_ports(ports).map_err(Error::State)?;
        for base in own.iter().map(|range| Prefix::host(range.address())) {
            if let Entry::Vacant(free) = self.fixed.entry(base) {
                free.insert(LOCAL);
                self.load(base, LOCAL).map_err(Error::State)?;
            }
        }
        self.neighbors.ends = ends;
        self.publish_neighbors(Vec::new());
        Ok(())
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
        for (queue, worker) in (0..).zip(&self.workers) {
            if let (Some(registry), Some(descriptor)) = (&worker.registry, port.descriptor(queue)) {
                // It fails when it was not watched just then.
                let _ = registry.deregister(&mut SourceFd(&descriptor));
            }
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
        if self.routes.insert(prefix, hop).is_ok() {
            return Ok(());
        }
        // Perhaps only what earlier changes have unlinked is in the way.
        self.settle();
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
        for worker in &self.workers {
            while !worker.slow.answers.is_idle() && !self.a_worker_is_gone() {
                // A failed wake-up is made up for by the next look.
                let _ = (worker.wake)();
                thread::yield_now();
            }
        }
    }

    /// Looks whether pods compute on the workers' CPUs, and tells each of its own.
    pub(super) fn look_at_cpus(&mut self, now: Instant) {
        let turns = self.workers.iter().map(|worker| worker.tallies.get(Tally::Turns)).sum();
        if let Some(others) = self.crowding.look(now, turns) {
            for (worker, others) in self.workers.iter().zip(others) {
                worker.standing.tell(others.share, others.crowd);
            }
        }
    }

    /// The worker that keeps the gate of a port, if it needs one: in a pipeline the stage that writes.
    pub(super) fn keeper(&self, port: u16, is_pipeline: bool) -> Keeper {
        let last = self.workers.len() - 1;
        let keeper = if is_pipeline { last } else { usize::from(port) % (last + 1) };
        let WorkerEnds { slow, wake, .. } = &self.workers[keeper];
        Keeper::new(&slow.calls, wake)
    }

    /// Ends the workers. Frames still in the ports' queues stay there.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        self.ending.store(true, Ordering::Relaxed);
        self.workers.iter().try_for_each(|worker| (worker.wake)())?;
        let ended: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        ended.into_iter().try_for_each(|ended| ended.unwrap_or_else(|_| Err(io::Error::other("a worker panicked"))))
    }

    /// True when a worker ended without being told to.
    pub(super) fn a_worker_is_gone(&self) -> bool {
        self.threads.len() < self.workers.len() || self.threads.iter().any(JoinHandle::is_finished)
    }

    pub(super) fn publish(&mut self, world: World) {
        let version = self.worlds.publish(world);
        self.worlds.wait_in_force(version);
        // A worker that is just waking holds an older world up for an instant, and its ports with it.
        while self.worlds.retiring() > 0 {
            self.worlds.reclaim();
            thread::yield_now();
        }
    }

    /// Waits until every worker sees the route table as it is now; what was removed may then be used again.
    pub(super) fn settle(&mut self) {
        let version = self.worlds.barrier();
        self.worlds.wait_in_force(version);
        self.routes.reclaim();
    }

    fn watch(&self, number: u16) -> io::Result<()> {
        let Some(port) = self.world().port(number) else { return Ok(()) };
        let (token, readable) = (Token(usize::from(number)), Interest::READABLE);
        for (queue, worker) in (0..).zip(&self.workers) {
            if let (Some(registry), Some(descriptor)) = (&worker.registry, port.descriptor(queue)) {
                registry.register(&mut SourceFd(&descriptor), token, readable)?;
            }
        }
        Ok(())
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

/// The workers' lives until `stop` says so, or those of a pipeline's stages, and the control thread's ends of them.
fn lives(
    crew: &Crew,
    reader: impl FnMut() -> Reader<World>,
    shared: (&Arc<Returns>, &Arc<Waker>),
    stop: impl Fn() -> bool + Clone + Send + 'static,
) -> io::Result<Vec<(Life, WorkerEnds)>> {
    if crew.pipeline {
        return stages(crew, reader, shared, stop);
    }
    let workers = workers(crew, reader, shared)?.into_iter();
    let alive = workers.map(|(mut worker, ends)| {
        let stop = stop.clone();
        let life: Life = Box::new(move || worker.run(stop));
        (life, ends)
    });
    Ok(alive.collect())
}

/// Starts a thread on its CPU.
fn spawn(life: Life, name: String, cpu: u16) -> io::Result<WorkerThread> {
    let (bound, is_bound) = channel::bounded(1);
    let thread = thread::Builder::new().name(name).spawn(move || {
        let placed = bind(cpu);
        let failed = placed.is_err();
        // The receiver waits for it.
        let _ = bound.send(placed);
        if failed { Ok(()) } else { life() }
    })?;
    is_bound.recv().map_err(io::Error::other).flatten()?;
    Ok(thread)
}

type WorkerThread = JoinHandle<io::Result<()>>;

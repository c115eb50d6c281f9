//! What `/metrics` says, copied from everything the control thread owns or may read.

use std::collections::HashMap;

use control::{Backend, PortKind};

use crate::kernel_drops::Place;
use crate::lane::{ANSWERS, PUNTS};
use crate::metrics::{Mark, Metrics, PortMetrics, ReturnMetrics, WorkerMetrics};
use crate::port::{Link, Port};
use crate::state::Endpoint;
use crate::thread::{OWN, thread_named};
use crate::worker::{Tally, WorkerEnds};

use super::Engine;
use super::counted::Moment;

pub(super) fn metrics(engine: &Engine) -> Metrics {
    let moment = Moment::now(engine);
    let world = engine.tables.world();
    let ports = world.ports.iter().flatten().zip(moment.ports);
    Metrics {
        ports: ports
            .zip(places(engine))
            .map(|((port, counted), place)| PortMetrics {
                number: port.number,
                name: port.name.clone(),
                kind: kind_of(port).word(),
                counted,
                place,
                kernel_dropped: None,
            })
            .collect(),
        total: moment.total,
        workers: workers(engine),
        returns: return_entries(engine),
        slow: engine.slow.outcomes().collect(),
        worlds_published: world.number,
        worlds_retiring: world.retiring() as u64,
        endpoints: engine.state.endpoints().len() as u64,
        routes: engine.state.routes().len() as u64,
        neighbors: neighbors(engine),
        swept: engine.swept,
        started_at: engine.started_at,
    }
}

/// Neighbours counted by backend, those of none too.
fn neighbors(engine: &Engine) -> Vec<(&'static str, u64)> {
    let of = |backend| engine.state.neighbors().filter(|neighbor| neighbor.backend == backend).count() as u64;
    Backend::ALL.iter().map(|&backend| (backend.word(), of(backend))).collect()
}

/// Endpoints by the number of their port.
pub(super) fn endpoints_by_port(engine: &Engine) -> HashMap<u16, &Endpoint> {
    engine.state.endpoints().map(|endpoint| (endpoint.port, endpoint)).collect()
}

/// What is behind a port.
pub(super) fn kind_of(port: &Port) -> PortKind {
    match port.link {
        Link::Uplink(_) => PortKind::Uplink,
        _ if port.host => PortKind::Host,
        _ => PortKind::Workload,
    }
}

/// Where the interface of each port is, in order of the ports; an uplink has none.
pub(super) fn places(engine: &Engine) -> Vec<Option<Place>> {
    let by_port = endpoints_by_port(engine);
    let place = |port: &Port| {
        if port.host {
            return Some(Place { netns: None, interface: engine.config.node.host_port.clone() });
        }
        let Endpoint { netns, netns_id, interface, .. } = by_port.get(&port.number)?;
        Some(Place { netns: Some((netns.clone(), *netns_id)), interface: interface.clone() })
    };
    engine.tables.world().ports.iter().flatten().map(|port| place(port)).collect()
}

pub(super) fn workers(engine: &Engine) -> Vec<WorkerMetrics> {
    (0..).zip(&engine.tables.workers).map(|(number, ends)| worker(number, ends)).collect()
}

fn worker(number: u16, ends: &WorkerEnds) -> WorkerMetrics {
    let [small_slots, big_slots] = ends.slots;
    let get = |what| ends.tallies.get(what);
    let mark = |value: u64, limit: usize| Mark { value, limit: limit as u64 };
    WorkerMetrics {
        number,
        thread: ends.thread.clone(),
        turns: get(Tally::Turns),
        sleeps: get(Tally::Sleeps),
        handovers: get(Tally::Handovers),
        bursts: ends.tallies.bursts.read(),
        turn_times: ends.tallies.turn_times.read(),
        cpu_time: thread_named(OWN, &ends.thread).and_then(|thread| thread.cpu_time),
        slots: [
            ("small", mark(get(Tally::SmallSlotsHighest), small_slots)),
            ("big", mark(get(Tally::BigSlotsHighest), big_slots)),
        ],
        mailboxes: [
            ("punts", mark(get(Tally::PuntsHighest), PUNTS)),
            ("answers", mark(ends.slow.answers.highest() as u64, ANSWERS)),
        ],
    }
}

/// The table that all workers share.
pub(super) fn return_entries(engine: &Engine) -> ReturnMetrics {
    let (returns, now_seconds) = (&engine.tables.returns, engine.started.elapsed().as_secs() as u32);
    let entries = Mark { value: returns.in_use(now_seconds) as u64, limit: returns.limit() as u64 };
    ReturnMetrics { entries, evicted: returns.evicted() }
}

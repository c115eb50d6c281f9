//! Traces: begun, asked for packets, ended. There is one at a time.
//!
//! The trace in force is part of the world, so it begins and ends by publishing one, and what the worker noted waits in
//! the ring until a poll takes it. It ends when it is stopped, and by itself with the poll that finds its count reached,
//! its time up or its port gone. A client that went without a word does not poll: after [`FORSAKEN_AFTER`] its trace ends
//! too, so the switch never looks on for nobody.

mod view;

use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::{Code, Refusal, StartTrace, TraceEnd, TraceStarted, TraceView, TracedPacket};

use super::Engine;
use crate::tracer::{RECORDS, Record, Trace};
use crate::worker::Tally;

/// The trace that runs, if any, and how many there were.
#[derive(Default)]
pub(super) struct Traces {
    running: Option<Running>,
    begun: u64,
}

/// What is kept of the running trace; times since the switch started.
struct Running {
    id: u64,
    /// The port it is of, if of one.
    port: Option<u16>,
    /// That port has left: the trace sees nothing more, and the next poll says why.
    port_gone: bool,
    began: Duration,
    polled: Duration,
    until: Duration,
    /// Packets it may still show.
    left: u64,
    /// What the worker had counted before.
    before: Counts,
}

/// The worker's counts for traces.
#[derive(Clone, Copy)]
struct Counts {
    matched: u64,
    missed: u64,
}

impl Engine {
    pub(super) fn start_trace(&mut self, start: StartTrace) -> Result<TraceStarted, Refusal> {
        let now = self.started.elapsed();
        if let Some(running) = &self.traces.running {
            let since = now.saturating_sub(running.began).as_secs();
            let message = format!("trace {} has been running for {since} s, and there is one at a time", running.id);
            let hint = format!("end that `podswitch trace`; if its client is gone it ends within {FORSAKEN_AFTER:?}");
            return Err(Refusal::new(Code::Conflict, message).hint(hint));
        }
        let StartTrace { port, filter, dropped, count, seconds } = start;
        let port = port.map(|port| self.port_number(&port)).transpose()?;
        let lasts = seconds.map_or(LASTS_MAX, Duration::from_secs).min(LASTS_MAX);
        self.traces.begun += 1;
        self.traces.running = Some(Running {
            id: self.traces.begun,
            port,
            port_gone: false,
            began: now,
            polled: now,
            until: now + lasts,
            left: count.unwrap_or(u64::MAX),
            before: self.trace_counts(),
        });
        self.tables.set_trace(Some(Arc::new(Trace { port, filter, dropped, began: Instant::now() })));
        Ok(TraceStarted { id: self.traces.begun })
    }

    pub(super) fn poll_trace(&mut self, id: u64) -> Result<TraceView, Refusal> {
        let now = self.started.elapsed();
        self.running_trace(id)?.polled = now;
        let packets = self.take_traced(PACKETS_AT_ONCE);
        let running = self.running_trace(id)?;
        let ended = match running.left {
            0 => Some(TraceEnd::Count),
            _ if running.port_gone => Some(TraceEnd::PortGone),
            _ if now >= running.until => Some(TraceEnd::Time),
            _ => None,
        };
        Ok(self.trace_view(packets, ended))
    }

    pub(super) fn stop_trace(&mut self, id: u64) -> Result<TraceView, Refusal> {
        self.running_trace(id)?;
        Ok(self.trace_view(Vec::new(), Some(TraceEnd::Stopped)))
    }

    /// Lets the trace of a port that leaves see nothing more: the next port may get its number.
    pub(super) fn end_trace_of(&mut self, port: u16) {
        if let Some(running) = self.traces.running.as_mut().filter(|running| running.port == Some(port)) {
            running.port_gone = true;
            self.tables.set_trace(None);
        }
    }

    /// Ends the trace of a client that has not asked for too long.
    pub(super) fn end_forsaken_trace(&mut self) {
        let Some(running) = &self.traces.running else { return };
        if self.started.elapsed().saturating_sub(running.polled) > FORSAKEN_AFTER {
            tracing::info!(trace = running.id, "ended: nobody has asked for its packets");
            self.trace_view(Vec::new(), Some(TraceEnd::Stopped));
        }
    }

    /// What a client is told. Where the trace is to end it is taken out of force first, and the rest is shown.
    fn trace_view(&mut self, mut packets: Vec<TracedPacket>, ended: Option<TraceEnd>) -> TraceView {
        if ended.is_some() {
            self.tables.set_trace(None);
            packets.append(&mut self.take_traced(RECORDS));
        }
        let (now, before) = (self.trace_counts(), self.traces.running.as_ref().map(|running| running.before));
        let before = before.unwrap_or(now);
        let (workers, _) = self.tables.ends();
        if ended.is_some() {
            workers.iter_mut().for_each(|worker| while worker.slow.traced.pop().is_some() {});
            self.traces.running = None;
        }
        let more = workers.iter().any(|worker| !worker.slow.traced.is_empty());
        let (matched, missed) = (now.matched - before.matched, now.missed - before.missed);
        TraceView { packets, matched, missed, more, ended }
    }

    /// The next packets, at most so many and no more than the trace may show.
    fn take_traced(&mut self, packets_max: usize) -> Vec<TracedPacket> {
        let Some(running) = &mut self.traces.running else { return Vec::new() };
        let (workers, world) = self.tables.ends();
        let packets_max = packets_max.min(usize::try_from(running.left).unwrap_or(usize::MAX));
        let mut records: Vec<Record> = Vec::new();
        for worker in workers {
            records.extend(iter::from_fn(|| worker.slow.traced.pop()).take(packets_max - records.len()));
        }
        running.left -= records.len() as u64;
        records.sort_by_key(|record| record.at_nanos);
        records.iter().map(|record| view::packet(record, world)).collect()
    }

    fn running_trace(&mut self, id: u64) -> Result<&mut Running, Refusal> {
        let running = self.traces.running.as_mut().filter(|running| running.id == id);
        running.ok_or_else(|| {
            Refusal::new(Code::NotFound, format!("trace {id} does not run"))
                .hint(format!("a trace ends when nobody asks for its packets for {FORSAKEN_AFTER:?}"))
        })
    }

    fn trace_counts(&self) -> Counts {
        let get = |tally| self.tables.workers.iter().map(|worker| worker.tallies.get(tally)).sum();
        Counts { matched: get(Tally::Traced), missed: get(Tally::TracesMissed) }
    }

    /// The number of the port of that name, or of that number.
    fn port_number(&self, port: &str) -> Result<u16, Refusal> {
        let ports = &self.tables.world().ports;
        let named = ports.iter().flatten().find(|known| known.name == port);
        let known = named.or_else(|| ports.get(port.parse::<usize>().ok()?)?.as_ref());
        known.map(|port| port.number).ok_or_else(|| {
            let message = format!("there is no port '{port}'");
            Refusal::new(Code::NotFound, message).hint("`podswitch show ports` lists numbers and names")
        })
    }
}

/// A client asks far more often than that, unless its terminal holds it up.
const FORSAKEN_AFTER: Duration = Duration::from_secs(15);
/// However long a client goes on asking.
const LASTS_MAX: Duration = Duration::from_secs(3600);
/// Packets of one answer, as long as the trace goes on.
const PACKETS_AT_ONCE: usize = 256;

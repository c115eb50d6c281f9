//! How the agent is doing, as it is shown: one value that the agent keeps up to date and the pages read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;

use crate::desired::PassedOver;
use crate::switch::Refused;

/// The agent in short.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// Its version.
    pub version: &'static str,
    /// This node's address.
    pub address: Option<String>,
    /// All pods' addresses.
    pub network: Option<String>,
    /// How nodes reach each other.
    pub backend: Option<&'static str>,
    /// This node's subnets.
    pub subnets: Option<String>,
    /// What is wrong with its lease.
    pub lease_trouble: Option<String>,
    /// What is wrong with the store.
    pub store_trouble: Option<String>,
    /// What is wrong with the switch.
    pub switch_trouble: Option<String>,
    /// Leases in the store, this node's own included.
    pub leases: usize,
    /// Neighbours that the switch knows by this agent.
    pub neighbors: usize,
    /// Routes that the switch has by this agent.
    pub routes: usize,
    /// Leases and routes of the host's that the switch is not told of.
    pub passed_over: Vec<PassedOver>,
    /// Neighbours and routes that the switch does not take.
    pub refused: Vec<Refused>,
}

impl Status {
    /// Why pods of this node may not reach others, if so. A store that is away is no reason: what it said last holds.
    pub fn unready(&self) -> Option<&str> {
        let waiting = self.subnets.is_none().then_some("the node has no subnet yet");
        self.lease_trouble.as_deref().or(self.switch_trouble.as_deref()).or(waiting)
    }
}

/// Status and counters, shared by the agent and who serves its pages.
#[derive(Clone, Debug)]
pub struct Shared {
    status: Arc<Mutex<(Status, Instant)>>,
    registry: Arc<Registry>,
    /// What is counted.
    pub counts: Counts,
}

/// What is counted.
#[derive(Clone, Debug)]
pub struct Counts {
    /// The lease was gone, changed or somebody else's.
    pub conflicts: Counter,
    /// The store was read as a whole.
    pub resyncs: Counter,
    /// The store could not be asked.
    pub store_troubles: Counter,
    /// The switch could not be told.
    pub switch_troubles: Counter,
    /// Seconds from what the store said to its being in force.
    pub programmed: Histogram,
    leases: Gauge,
    passed_over: Gauge,
    neighbors: Gauge,
    routes: Gauge,
    refused: Gauge,
    ready: Gauge,
}

impl Shared {
    /// Nothing is known and nothing counted.
    pub fn new() -> Self {
        let counts = Counts {
            conflicts: Counter::default(),
            resyncs: Counter::default(),
            store_troubles: Counter::default(),
            switch_troubles: Counter::default(),
            programmed: Histogram::new(SECONDS),
            leases: Gauge::default(),
            passed_over: Gauge::default(),
            neighbors: Gauge::default(),
            routes: Gauge::default(),
            refused: Gauge::default(),
            ready: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("podswitch_agent");
        registry.register(
            "lease_conflicts",
            "Times the node's lease was gone, changed or another's",
            counts.conflicts.clone(),
        );
        registry.register("store_resyncs", "Times the store was read as a whole", counts.resyncs.clone());
        registry.register("store_troubles", "Times the store could not be asked", counts.store_troubles.clone());
        registry.register("switch_troubles", "Times the switch could not be told", counts.switch_troubles.clone());
        let help = "Time from what the store said to its being in force";
        registry.register_with_unit("programming", help, Unit::Seconds, counts.programmed.clone());
        registry.register("leases", "Leases in the store", counts.leases.clone());
        let help = "Leases and routes of the host's that the switch is not told of";
        registry.register("passed_over", help, counts.passed_over.clone());
        registry.register("neighbors", "Neighbours in the switch by this agent", counts.neighbors.clone());
        registry.register("routes", "Routes in the switch by this agent", counts.routes.clone());
        registry.register("refused", "Neighbours and routes that the switch does not take", counts.refused.clone());
        registry.register("ready", "1 while the lease is held and the switch is told", counts.ready.clone());
        let status = Status { version: env!("CARGO_PKG_VERSION"), ..Status::default() };
        Shared { status: Arc::new(Mutex::new((status, Instant::now()))), registry: Arc::new(registry), counts }
    }

    /// A copy of the status.
    pub fn status(&self) -> Status {
        self.lock().0.clone()
    }

    /// Changes the status; the agent is alive.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        let (status, beat) = &mut *self.lock();
        change(status);
        *beat = Instant::now();
        self.counts.leases.set(status.leases as i64);
        self.counts.passed_over.set(status.passed_over.len() as i64);
        self.counts.neighbors.set(status.neighbors as i64);
        self.counts.routes.set(status.routes as i64);
        self.counts.refused.set(status.refused.len() as i64);
        self.counts.ready.set(status.unready().is_none().into());
    }

    /// When the agent was last seen alive.
    pub fn beat(&self) -> Instant {
        self.lock().1
    }

    /// Everything counted, as OpenMetrics text.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("text takes what is written");
        text
    }

    fn lock(&self) -> MutexGuard<'_, (Status, Instant)> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}

const SECONDS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_with_a_lease_and_a_switch_and_whatever_the_store_does() {
        let shared = Shared::new();
        assert_eq!(shared.status().unready(), Some("the node has no subnet yet"));
        shared.update(|status| {
            status.subnets = Some("10.5.1.0-24".to_owned());
            status.store_trouble = Some("away".to_owned());
            status.leases = 7;
        });
        assert_eq!(shared.status().unready(), None);
        let text = shared.metrics();
        for line in
            ["podswitch_agent_leases 7", "podswitch_agent_ready 1", "podswitch_agent_programming_seconds_count 0"]
        {
            assert!(text.contains(line), "{text}");
        }
        shared.update(|status| status.switch_trouble = Some("dead".to_owned()));
        assert_eq!(shared.status().unready(), Some("dead"));
    }
}

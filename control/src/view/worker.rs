//! What a switch shows of its workers and of the table they share.

use serde::{Deserialize, Serialize};

/// A worker, or a thread of the pipeline, since its start.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WorkerView {
    /// Its number.
    pub worker: u16,
    /// What its thread is called: `worker-0`, or a stage of the pipeline.
    pub thread: String,
    /// CPUs its thread may run on, as a list such as `0-1,3`.
    pub cpus: Option<String>,
    /// CPU time of its thread in seconds.
    pub cpu_seconds: Option<f64>,
    /// Turns that carried something.
    pub turns: u64,
    /// Times it went to sleep.
    pub sleeps: u64,
    /// Banks of queues it gave to another worker.
    pub handovers: u64,
    /// Packets received in a turn.
    pub burst_packets: Percentiles,
    /// Duration of a turn that carried something, in microseconds; not every turn is timed.
    pub turn_microseconds: Percentiles,
    /// Small slots.
    pub small_slots: Usage,
    /// Big slots.
    pub big_slots: Usage,
    /// Letters to the slow path.
    pub punts: Usage,
    /// Letters from the slow path.
    pub answers: Usage,
}

/// Bounds that half and 99 of 100 values do not exceed, to the next power of two; none without values, or beyond the
/// last bound that is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// For half of the values.
    pub p50: Option<u64>,
    /// For 99 of 100.
    pub p99: Option<u64>,
}

/// How much of something bounded was needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// The most that ever were in use at once.
    pub highest: u64,
    /// As many as there are.
    pub limit: u64,
}

/// Return entries: flows that the host translated, whose replies go back by the host port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ReturnsView {
    /// Entries in use.
    pub entries: u64,
    /// As many as there is room for.
    pub limit: u64,
    /// Entries in use that had to go for newer ones.
    pub evicted: u64,
}

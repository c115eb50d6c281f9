//! Everything that can be asked of a switch, and everything it can answer, as they are handed about in a process.

use serde::{Deserialize, Serialize};

use crate::{
    AdjacencyView, Attach, Attached, ChangeNeighbors, ConfigView, DeleteRoute, Detach, Detached, DropsView,
    EndpointView, NeighborView, Pause, PortView, Resume, ReturnsView, Route, RouteView, StartTrace, StationView,
    Status, TraceStarted, TraceView, WorkerView, WorldsView,
};

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Join a pod; answered by [`Reply::Attached`] when it forwards.
    Attach(Attach),
    /// Take a pod off; answered by [`Reply::Detached`].
    Detach(Detach),
    /// Add a route or, for the same origin, change its target; answered by [`Reply::Done`].
    AddRoute(Route),
    /// Delete a route; answered by [`Reply::Done`].
    DeleteRoute(DeleteRoute),
    /// Know other nodes, and forget some; answered by [`Reply::Done`].
    ChangeNeighbors(ChangeNeighbors),
    /// Attach no pod until the same origin says [`Request::Resume`]; answered by [`Reply::Done`].
    Pause(Pause),
    /// End the pause of an origin, if there is one; answered by [`Reply::Done`].
    Resume(Resume),
    /// List ports and their counters.
    Ports,
    /// List routes.
    Routes,
    /// List neighbours.
    Neighbors,
    /// List the stations behind the ports.
    Stations,
    /// Account for every packet.
    Drops,
    /// Describe the switch.
    Status,
    /// List workers and what they did.
    Workers,
    /// List adjacencies.
    Adjacencies,
    /// Count worlds.
    Worlds,
    /// List endpoints.
    Endpoints,
    /// Count return entries, by worker.
    Returns,
    /// Tell the settings in force.
    Config,
    /// Begin a trace, of which there is one at a time; answered by [`Reply::TraceStarted`].
    StartTrace(StartTrace),
    /// Ask the trace of this number for its packets; answered by [`Reply::Trace`].
    PollTrace(u64),
    /// End the trace of this number; answered by [`Reply::Trace`] with what was left.
    StopTrace(u64),
    /// End the switch; pods' interfaces stay for the next start. Answered by [`Reply::Done`] before it ends.
    Stop,
    /// Remove all the switch ever made, then end; answered by [`Reply::Purged`].
    Purge,
}

/// The answer to a [`Request`] that was not refused; in JSON it stands bare, as the request tells its kind.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "each holds the answer its name says")]
pub enum Reply {
    Attached(Attached),
    Detached(Detached),
    Done(Done),
    Ports(Vec<PortView>),
    Routes(Vec<RouteView>),
    Neighbors(Vec<NeighborView>),
    Stations(Vec<StationView>),
    Drops(DropsView),
    Status(Status),
    Workers(Vec<WorkerView>),
    Adjacencies(Vec<AdjacencyView>),
    Worlds(WorldsView),
    Endpoints(Vec<EndpointView>),
    Returns(ReturnsView),
    Config(Box<ConfigView>),
    TraceStarted(TraceStarted),
    Trace(TraceView),
    Purged(Purged),
}

/// Done, and nothing to tell: `{}`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Done {}

/// What a purge removed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Purged {
    /// One line for each thing removed.
    pub removed: Vec<String>,
}

//! The words said to a switch, and a blocking client that says them.
//!
//! A client speaks JSON over HTTP/1.1 on a Unix socket that only root may open. Every word is a type whose values are
//! all legal: a text is parsed once, here, and nothing below looks at it again.
//!
//! ```text
//!  client                                                     switch
//!  Request --wire::encode--> method, target, body --wire::decode--> Request
//!  answer  <--wire::answer-- status, body <--wire::encode_reply-- Result<Reply, Refusal>
//! ```
//!
//! [`wire`] alone knows methods and paths, for both sides. What a client sends is refused when it holds a field the
//! switch does not know; what a switch answers may grow, so that an older client can read a newer switch.
//! I/O happens in `client.rs` and `handover.rs` alone. Nothing here knows what a switch does with the words.

#![forbid(unsafe_code)]

mod assign;
mod bandwidth;
mod client;
mod endpoint;
mod error;
mod filter;
mod handover;
mod name;
mod neighbor;
mod pause;
mod refusal;
mod request;
mod route;
mod text;
mod trace;
mod view;
pub mod wire;

pub use assign::{AddressRange, Assign};
pub use bandwidth::{Bandwidth, BitRate, RateLimit, bits};
pub use client::Client;
pub use endpoint::{Ability, Attach, Attached, Detach, Detached, Mtu, PodAddress, unroutable};
pub use error::{Error, ParseError};
pub use filter::{Expression, Filter, Protocol, Side, TERMS_MAX, Transport};
pub use name::{InterfaceName, Name, NetnsPath, Origin, Poll};
pub use neighbor::{Backend, ChangeNeighbors, DeleteNeighbor, NEIGHBORS_MAX, Neighbor};
pub use pause::{Pause, Resume, Why};
pub use refusal::{Code, Refusal};
pub use request::{Done, Purged, Reply, Request};
pub use route::{DeleteRoute, Route, RouteTarget};
pub use trace::{
    Decision, Form, Headers, PortLabel, Stage, StageTrace, StartTrace, SuperFrame, TraceEnd, TraceStarted, TraceView,
    TracedPacket,
};
pub use view::{
    AdjacencyView, ConfigView, DropsView, EndpointView, LinkView, NeighborView, Percentiles, PortKind, PortView,
    ReturnsView, RouteView, StationState, StationView, Status, Traffic, Usage, WorkerView, WorldsView,
};

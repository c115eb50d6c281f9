//! What is remembered of flows, so that it need not be worked out for every packet.
//!
//! [`FlowCache`] keeps a number for each of the flows of late: a verdict of rules, or which connection it is. Each worker has its
//! own, so nothing here is shared between threads. Nothing uses it for plain forwarding, where a route lookup costs less than a look
//! into any cache. The rules themselves are not here yet.
//!
//! The crate does no I/O, keeps no clock and starts no thread; after it was made, a cache does not allocate.

#![forbid(unsafe_code)]

pub mod flow_cache;
pub mod labels;
pub mod read;
pub mod rule;
pub mod selector;

pub use flow_cache::{FlowCache, FlowKey};

//! What is remembered of flows, so that it need not be worked out for every packet.
//!
//! [`FlowCache`] keeps a number for each of the flows of late: a verdict of rules, or which connection it is. Each worker has its
//! own, so nothing here is shared between threads. Nothing uses it for plain forwarding, where a route lookup costs less than a look
//! into any cache. The rules themselves are not here yet.
//!
//! The crate does no I/O, keeps no clock and starts no thread; after it was made, a cache does not allocate.

#![forbid(unsafe_code)]

pub mod book;
pub mod endpoint;
pub mod error;
pub mod facts;
pub mod flow_cache;
pub mod labels;
pub mod oracle;
pub mod peers;
pub mod program;
pub mod rule;
pub mod selector;
pub mod tuple;
pub mod verdict;

pub use book::{Book, Changes, Programs};
pub use endpoint::{Endpoint, NamedPort};
pub use error::{Error, Result};
pub use facts::Facts;
pub use flow_cache::{FlowCache, FlowKey};
pub use oracle::Explanation;
pub use peers::{Class, Peers};
pub use program::Program;
pub use tuple::{Addresses, Transport, Tuple};
pub use verdict::{Cause, RuleId, Verdict};

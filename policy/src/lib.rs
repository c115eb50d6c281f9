//! Rules: who may send what to whom.
//!
//! ```text
//!  tiers, policies, profiles,          Book  --- compiles what a change touches --->  Programs   one for each pod and direction
//!  network sets, endpoints   ------->                                                 Peers      what an address is to the rules
//!                                                                                       |
//!                                                             Tuple of a packet ------> Verdict and the rule that decided
//! ```
//!
//! [`Library`] keeps documents of policies, namespaces and pods by their names, and the book that comes of them. [`rule`] is the one form
//! that every policy language is read into; [`selector`] chooses endpoints by their labels. [`oracle`] says the same as the programs,
//! slowly and with reasons. [`FlowCache`] remembers a number for each of the flows of late, such as a verdict, so that it need not be
//! worked out for every packet.
//!
//! The crate does no I/O, keeps no clock and starts no thread; after it was made, a cache does not allocate.

#![forbid(unsafe_code)]

pub mod book;
pub mod endpoint;
pub mod error;
pub mod facts;
pub mod flow_cache;
pub mod labels;
pub mod library;
pub mod oracle;
pub mod peers;
pub mod program;
pub mod read;
pub mod rule;
pub mod selector;
pub mod tuple;
pub mod verdict;

pub use book::{Book, Changes, Programs};
pub use endpoint::{Endpoint, NamedPort};
pub use error::{Error, Result};
pub use facts::Facts;
pub use flow_cache::{FlowCache, FlowKey};
pub use library::{Library, LibraryError, LocalPod};
pub use oracle::Explanation;
pub use peers::{Class, Peers};
pub use program::Program;
pub use tuple::{Addresses, Transport, Tuple};
pub use verdict::{Cause, RuleId, Verdict};

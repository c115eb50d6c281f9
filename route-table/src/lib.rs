//! Longest prefix match for IPv4 and IPv6: one writer updates the table in place, readers on other threads never wait.
//!
//! ```text
//!    control thread                                workers
//!    RouteTable::insert, remove  -- same memory --> Fib::lookup4_burst, lookup6_burst
//!    RouteTable::reclaim         <-- "a new turn" --
//! ```
//!
//! **The rule.** A lookup during an update answers for its address as the table did before or as it does after that
//! update, never with a third thing: every change of an answer is one store into one atomic word, and a word holds
//! either a finished answer or the index of a node that was filled before its index was stored. The one limit: the
//! default route is a word by itself, read last. A lookup that meets *two* updates, first a more specific route
//! inserted and then the default route changed or removed, may answer with the later default route.
//!
//! **Retired memory.** A node that an update unlinks keeps its content until [`RouteTable::reclaim`], because a reader
//! may be inside. The caller of `reclaim` promises that every reader has begun a new turn since; a broken promise gives wrong
//! answers for a moment, never invalid memory.
//!
//! **Limits.** 32 767 next hops; 32 768 blocks of /24 with longer IPv4 routes in them; a stated number of IPv6 nodes
//! ([`RouteTable::with_nodes_max`]). Beyond them `insert` fails and changes nothing. Memory is taken from the system as routes
//! come, is used again, and is given back with the table.
//!
//! The crate does no I/O, keeps no clock, starts no thread, and does not know what a next hop leads to.

mod cell;
mod error;
#[allow(unsafe_code, reason = "memory that is taken when it is touched, and advised to be huge pages")]
mod mapping;
mod next_hop;
mod pool;
mod recent;
mod routes;
mod table;
mod v4;
mod v6;

pub use error::Error;
pub use next_hop::NextHop;
pub use recent::Recent;
pub use table::{Fib, RouteTable};

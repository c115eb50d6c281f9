//! The node agent of podswitch: it takes a subnet for its node, tells the other nodes, learns theirs, and has the switch know
//! them.
//!
//! ```text
//!            claim                                        desired              switch
//!  Store <---- lease of this node      Store ----> View ----------> Desired ----------> control::Client
//!  (folder, etcd)                      leases of all      pure                 differences only
//! ```
//!
//! The switch forwards on what it was told; the agent is not on the path and may be killed and started at any moment without
//! a packet lost. Keys and values are flannel's ([`lease`], [`network`]), so that nodes of both may share a cluster. Other
//! than flannel, it never writes over a lease without having seen what was there ([`claim`]), and does not end for what
//! others do to the store ([`agent`]).
//!
//! It asks the kernel for the node's own addresses, and for its routes where the switch is to have them too ([`host_routes`]), and
//! changes nothing there.

#![forbid(unsafe_code)]

pub mod agent;
pub mod claim;
pub mod cli;
pub mod config;
pub mod desired;
pub mod error;
pub mod host_routes;
pub mod lease;
pub mod network;
pub mod node;
pub mod pages;
pub mod status;
pub mod store;
pub mod switch;
pub mod view;

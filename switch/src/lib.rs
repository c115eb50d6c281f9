//! The switch engine as a library, and the thin `podswitch` binary.
//!
//! Reading order: [`path`] is the product, stage by stage; [`worker`] turns it, over the queues of its [`bank`], which
//! [`placement`] may give to another; [`world`] is what it reads; [`engine`] changes that as [`state`] asks; [`wire`] and
//! [`port`] are where it meets the kernel.

pub mod bank;
pub mod cli;
pub mod config;
pub mod connections;
pub mod crew;
pub mod doctor;
pub mod enforcement;
pub mod engine;
mod ipam;
pub mod kernel_drops;
pub mod lane;
pub mod limits;
pub mod log;
pub mod mailbox;
pub mod masquerade;
pub mod metrics;
pub mod path;
pub mod pipeline;
pub mod placement;
pub mod port;
#[allow(unsafe_code, reason = "a prefetch has no safe form")]
mod prefetch;
pub mod privilege;
pub mod purge;
pub mod remotes;
pub mod returns;
pub mod server;
pub mod signals;
pub mod slow;
pub mod state;
pub mod store;
pub mod thread;
pub mod tracer;
pub mod urgency;
pub mod wire;
pub mod worker;
pub mod world;

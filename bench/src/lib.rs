//! Demo, load generator and side-by-side benches of podswitch.
//!
//! A figure is worth something only beside a peer's: [`local`] sets up two pods joined by us and the same two pods
//! joined by others ([`topology`]), sends the same [`load`] through each in turn, round after round, and puts medians,
//! quartiles and ratios into a [`report`]. [`order`] counts what came late or twice, [`node`] what a switch costs a node, and [`cni`] what it costs to attach pods. [`demo`] shows in half a minute that a switch works, and how well.
//!
//! Everything happens in network namespaces made for the run and removed after it, also after a panic or Ctrl-C
//! ([`interrupt`]); the machine's own interfaces and settings are not touched.

pub mod across;
pub mod cluster;
pub mod cni;
pub mod cycles;
pub mod demo;
pub mod dpdk;
pub mod error;
pub mod flow_cache;
mod frame;
#[allow(unsafe_code, reason = "sigaction(2) has no safe form: a handler must be async-signal-safe")]
pub mod interrupt;
pub mod load;
pub mod local;
pub mod lookup;
pub mod machine;
pub mod mesh;
pub mod node;
pub mod order;
pub mod path;
pub mod report;
pub mod ring;
pub mod rounds;
pub mod statistics;
pub mod topology;
#[allow(unsafe_code, reason = "the time stamp counter has no safe form")]
pub mod tsc;

pub use error::{Error, Result};

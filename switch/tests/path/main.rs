//! The whole path over wires in memory: frames in, frames out, and conservation after every turn.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

mod answers;
mod any_bytes;
mod drops;
mod ends;
mod form;
mod forward;
mod frames;
mod limits;
mod pipeline;
mod policy;
mod random;
mod returns;
mod rig;
mod rules;
mod tcp_hosts;
mod trace;
mod tunnel;

//! What is stamped is right, what was stamped is stripped again, and what is not right is refused under its own name.
//! Frames are written and read by etherparse, independently of our own code.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod any_bytes;
mod refused;
mod round_trip;
mod tunnels;

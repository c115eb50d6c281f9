//! Frames in memory: slots, packets, burst, header views, checksums, cut and join, and the value types every crate shares.
//!
//! This crate knows nothing of switches: no ports, no routes, no clock, no I/O.

#![forbid(unsafe_code)]

mod mac;
mod offload;
mod prefix;

pub use mac::{Mac, MacError};
pub use offload::{Gso, Offload, UnknownGso, VNET_HEADER_LEN};
pub use prefix::{Prefix, PrefixError};

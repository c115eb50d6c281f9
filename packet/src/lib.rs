//! Frames in memory: slots, packets, burst, header views, checksums, cut and join, and the value types every crate shares.
//!
//! This crate knows nothing of switches: no ports, no routes, no clock, no I/O.

#![forbid(unsafe_code)]

mod bare;
mod burst;
pub mod checksum;
mod coalesce;
mod exit;
#[doc(hidden)]
pub mod fuzz;
mod mac;
mod offload;
mod prefix;
#[cfg(test)]
mod sample;
mod segment;
mod slot;
pub mod view;
mod vni;

pub use bare::ChecksumFound;
pub use burst::{BURST, Burst, shape};
pub use coalesce::{Group, JOIN_MAX, Join, JoinKinds, MEMBERS_MAX};
pub use exit::{Exit, Punt, Reason};
pub use mac::{Mac, MacError};
pub use offload::{Gso, Offload, UnknownGso, VNET_HEADER_LEN};
pub use prefix::{Prefix, PrefixError};
pub use segment::{
    ChecksumForm, Cut, CutError, HEADERS_MAX, SEGMENTS_MAX, TCP_CSUM_OFFSET, UDP_CSUM_OFFSET, complete_checksum,
    complete_checksum_at,
};
pub use slot::{FRAME_LEN_MAX, FrameRef, HEADROOM, NO_TAIL, SMALL_LEN, START_LEN, Slots};
pub use vni::{Vni, VniError};

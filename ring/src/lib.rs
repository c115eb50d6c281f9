//! Burst rings, the world snapshot, the flow table and counters of podswitch: everything that two threads share.
//!
//! | module | from | to | a thread waits |
//! |---|---|---|---|
//! | [`spsc`] | one producer | one consumer | never |
//! | [`mpsc`] | several producers | one consumer | never |
//! | [`snapshot`] | one publisher | one reader per worker | the publisher, if it asks to |
//! | [`flows`], [`flags`] | anyone | anyone | never |
//! | [`counter`] | one writer | anyone | never |
//!
//! The rule of the crate: workers never lock, wait or allocate here. Whatever cannot be done at once is returned to the
//! caller (a full ring gives the rest back), and whatever needs time (freeing a world) is the publisher's work.
//!
//! `unsafe` stands in `cells.rs`, `spsc.rs`, `mpsc.rs` and `snapshot.rs` alone. All atomics and shared cells come from `sync.rs`,
//! which exchanges them for loom's under `--cfg loom`, so that `tests/loom_*.rs` check the same code that runs;
//! `loom_handover.rs` checks what workers do with it when one gives its queues to another:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p podswitch-ring --release --test 'loom_*' --target-dir target/loom
//! ```

#[allow(unsafe_code, reason = "memory that the ends of a ring use in turn")]
mod cells;
pub mod counter;
pub mod flags;
pub mod flows;
#[allow(unsafe_code, reason = "cells that two threads use in turn")]
pub mod mpsc;
#[allow(unsafe_code, reason = "values that are freed when no reader can see them")]
pub mod snapshot;
#[allow(unsafe_code, reason = "cells that two threads use in turn")]
pub mod spsc;
mod sync;

pub use counter::{Counter, Counters};
pub use flags::Flags;
pub use flows::FlowTable;
pub use snapshot::{Publisher, Reader, Version};

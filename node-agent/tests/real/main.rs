//! The agent with a real etcd, real switches, and a node of the kernel's own.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

mod cluster;
mod faults;
mod leases;
mod nodes;
mod proxy;
mod rig;
mod routing;

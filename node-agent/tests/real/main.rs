//! The agent with a real etcd, real switches, and a node of the kernel's own.

mod cluster;
mod leases;
mod nodes;
mod rig;

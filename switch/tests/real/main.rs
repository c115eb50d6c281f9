//! The switch as it is used: the binary in a node's namespace, pods in theirs, the kernel's own programs as judges.
//!
//! Needs root and the programs of `scripts/packages.txt`; what is missing is named by a failure. Every test has a node
//! of its own, so they run in parallel, and takes down all it made, also by a panic.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

mod api;
mod assign;
mod bad_clients;
mod bandwidth;
mod churn;
mod doctor;
mod documents;
mod flannel_udp;
mod inside;
mod lifecycle;
mod log;
mod masquerade;
mod metrics;
mod mtu;
mod neighbors;
mod nodes;
mod openmetrics;
mod outside;
mod packaging;
mod path_mtu;
mod pipeline;
mod pods;
mod refusals;
mod rig;
mod routes;
mod services;
mod several;
mod stage;
mod survival;
mod trace;
mod traffic;
mod unprivileged;
mod vtep;
mod workers;

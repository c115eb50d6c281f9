//! x
#![forbid(unsafe_code)]
pub mod claim;
pub mod desired;
pub mod error;
pub mod lease;
pub mod network;
pub mod store;
pub mod view;

//! The CNI plugin of podswitch: it wires a container's interface into the switch of its node.
//!
//! A container runtime starts it for each verb, with a few environment variables and a configuration on standard input;
//! it asks the switch over `control`, and says on standard output what became of it. It keeps no state: what is attached is
//! known by the switch, by the name that `attachment` makes of container and interface.
//!
//! ```text
//!  CNI_* --environment--> Environment --\
//!                                        Call --verb::add, del, ...--> control::Client --> switch
//!  stdin --config-------> Config -------/                         \--> delegate (IPAM, if another's)
//!  stdout <--outcome, error-- Outcome or Error
//! ```
//!
//! Every call is bounded in time: a switch that is away or hung is code 11, "try again later". ADD makes all or nothing, since
//! the switch does, and gives a delegate its addresses back where it fails. DEL succeeds where nothing is left.
//!
//! Beside that, `install`, `conflist` and `doctor` put the plugin and its configuration in place and look after both.

#![forbid(unsafe_code)]

mod attachment;
pub mod cli;
mod config;
mod conflist;
mod delegate;
mod doctor;
mod environment;
mod error;
pub mod fuzz;
mod install;
mod outcome;
mod verb;
mod version;

pub use config::{Config, Ipam};
pub use environment::{Arguments, Environment, Verb};
pub use error::{Error, Refusal};
pub use outcome::{Dns, Interface, Ip, Outcome, Route};
pub use verb::answer;
pub use version::Version;

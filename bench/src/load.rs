//! Load generators: what two pods send each other, and what is measured of it.
//!
//! Sockets are made inside the pods' namespaces and stay there; the threads that use them live outside and are
//! pinned to the CPUs the [`Case`] names. Every wait is bounded by [`PATIENCE`] and ends soon after an interrupt.
//! What is counted is counted where it arrives.
//!
//! | module | load | measured |
//! |---|---|---|
//! | [`tcp`] | streams in writes of 128 KiB | Gbit/s, CPU seconds per GB |
//! | [`transfer`] | random bytes over TCP | equal SHA-256 at both ends |
//! | [`udp`] | a flood of 64-byte frames, by cheap calls | frames delivered per second, order, loss |
//! | [`round_trip`] | UDP ping-pong, one outstanding | percentiles |
//! | [`probe`] | UDP requests at fixed times, open loop | percentiles |
//! | [`echo`] | ICMP and ICMPv6 echo | an answer |

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::error::{Error, Result};
use crate::machine;
use crate::topology::Pod;

pub mod echo;
pub mod probe;
pub mod round_trip;
pub mod tcp;
pub mod transfer;
pub mod udp;

/// Longest wait for anything that should come at once.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Which way a load goes, over which family, on which CPUs.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The pod that sends, or asks.
    pub from: &'a Pod,
    /// The pod that receives, or answers.
    pub to: &'a Pod,
    /// IPv4 or IPv6.
    pub family: Family,
    /// The CPUs of both ends; `None` leaves them to the scheduler.
    pub case: Option<Case>,
    /// Both ends run before every ordinary thread of their CPU: what is measured then is the path alone, not how threads
    /// compete for a CPU.
    pub urgent: bool,
}

impl Pair<'_> {
    /// The receiver's address, with port 0.
    fn receiver_address(&self) -> SocketAddr {
        SocketAddr::new(self.to.address(self.family), 0)
    }

    /// Puts the calling thread where a sender runs.
    fn pin_sender(&self) -> Result<()> {
        self.place(self.case.map(|case| case.sender))
    }

    /// Puts the calling thread where a receiver runs.
    fn pin_receiver(&self) -> Result<()> {
        self.place(self.case.map(|case| case.receiver))
    }

    fn place(&self, cpu: Option<usize>) -> Result<()> {
        if self.urgent {
            host::set_scheduling(host::Scheduling::RealTime)?;
        }
        machine::pin(cpu)
    }
}

/// The address family of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Family {
    /// IPv4.
    #[value(name = "4")]
    V4,
    /// IPv6.
    #[value(name = "6")]
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if *self == Self::V4 { "IPv4" } else { "IPv6" })
    }
}

/// The CPU that sends and the CPU that receives, written `0|1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// The sender's CPU.
    pub sender: usize,
    /// The receiver's CPU.
    pub receiver: usize,
}

impl Case {
    /// Refuses a case whose CPUs this process may not use.
    pub fn check(&self) -> Result<()> {
        let cpus = machine::available_cpus()?;
        let missing = [self.sender, self.receiver].into_iter().find(|cpu| !cpus.contains(cpu));
        let Some(cpu) = missing else { return Ok(()) };
        let available = cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        Err(Error::NoSuchCpu { case: self.to_string(), cpu, available })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}|{}", self.sender, self.receiver)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let cpus = text.split_once('|').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
        let (sender, receiver) =
            cpus.ok_or_else(|| format!("`{text}` is no case: write SENDER|RECEIVER, as in 0|1"))?;
        Ok(Self { sender, receiver })
    }
}

/// How long a load runs: a warm-up that is not counted, then the part that is.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Not counted: slow start, first neighbour resolution, placement.
    pub warm_up: Duration,
    /// Counted.
    pub counted: Duration,
}

impl Window {
    /// Counts for `counted` after a warm-up of half of it, `warm_up_max` at most.
    pub fn of(counted: Duration, warm_up_max: Duration) -> Self {
        Self { warm_up: (counted / 2).min(warm_up_max), counted }
    }

    fn start(self) -> Period {
        let opens = Instant::now() + self.warm_up;
        Period { opens, closes: opens + self.counted }
    }
}

/// A [`Window`] that has begun.
#[derive(Debug, Clone, Copy)]
struct Period {
    opens: Instant,
    closes: Instant,
}

impl Period {
    fn counts(&self, now: Instant) -> bool {
        self.opens <= now && now < self.closes
    }

    fn is_over(&self, now: Instant) -> bool {
        self.closes <= now
    }
}

/// For `map_err` on a bounded receive: its timeout means that nothing came, anything else failed.
fn or_nothing_arrived(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    move |source| match source.kind() {
        WouldBlock | TimedOut => Error::NothingArrived { what: what.to_owned(), waited: PATIENCE },
        _ => Error::System { action: format!("receive {what}"), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_reads_as_it_is_written() {
        let case: Case = "0|11".parse().unwrap();
        assert_eq!(case, Case { sender: 0, receiver: 11 });
        assert_eq!(case.to_string(), "0|11");
        for wrong in ["", "0", "0|", "|1", "a|b", "0|1|2", "-1|0"] {
            assert!(wrong.parse::<Case>().is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn a_case_on_a_missing_cpu_is_refused_by_name() {
        let refused = Case { sender: 0, receiver: 1 << 9 }.check().unwrap_err().to_string();
        assert!(refused.contains("0|512") && refused.contains("needs CPU 512"), "{refused}");
    }
}

//! The slow path: what the switch answers as a router, as pure functions over bytes.
//!
//! The path hands over ("punts") the frames that need more than a lookup. Each is answered with complete frames, or
//! the [`Outcome`] names why there is no answer:
//!
//! ```text
//!  Arp                ARP reply: every address is at the gateway's MAC              arp.rs
//!  NeighborDiscovery  neighbour advertisement: the same for IPv6                    neighbor_discovery.rs
//!  Local              echo reply, or port unreachable                               echo.rs
//!  TtlExceeded        ICMP 11/0, ICMPv6 3/0   \
//!  TooBig             ICMP 3/4,  ICMPv6 2/0    > quoting the packet                 icmp_error.rs
//!  Unreachable        ICMP 3/0,  ICMPv6 1/0   /
//!  Fragment           the packet itself in pieces, onward to the next hop           fragment.rs
//! ```
//!
//! Nothing is learned from any frame: who is where is known from attachments, so a forged ARP packet changes nothing,
//! and answers go to the station the port is known to have, never to one the frame claims.
//!
//! A punt is the frame as it was received: checksums may be unfinished, it may be a super-frame, and its TTL is not yet
//! decremented. An ICMP error about a super-frame quotes its first segment, as if the sender had cut it.
//!
//! No I/O, no clock, no threads; time is an argument. Limits: [`Config::errors`] and [`Config::replies`] per port, and
//! [`FRAMES_MAX`] frames for one punt. Not done: reassembly (a fragmented ping of the gateway stays unanswered),
//! redirects, and TCP resets in the gateway's name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use packet::view::protocol;
use packet::{Mac, Offload, Punt, SEGMENTS_MAX};

use self::datagram::Datagram;
use self::icmp_error::Cause;
use self::rate_limit::{Buckets, Purpose};

mod answer;
mod arp;
mod datagram;
mod echo;
mod fragment;
mod icmp_error;
mod neighbor_discovery;
mod outcome;
mod rate_limit;
mod segments;
#[cfg(test)]
mod tests;

pub use self::answer::Answer;
pub use self::outcome::Outcome;
pub use self::rate_limit::Rate;

/// Most frames one punt is answered with.
pub const FRAMES_MAX: usize = SEGMENTS_MAX;

/// The port a punted frame came from, or would leave by.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Its number.
    pub port: u16,
    /// The station at its other end.
    pub mac: Mac,
    /// Our own address on it.
    pub gateway: Mac,
    /// The workload's own addresses; empty for the host port and uplinks.
    pub addresses: &'a [IpAddr],
    /// True for the host port.
    pub host: bool,
    /// Longest IP packet it takes, in bytes.
    pub mtu: u16,
}

/// A frame the path gave up.
#[derive(Clone, Copy, Debug)]
pub struct Punted<'a> {
    /// Why it was given up.
    pub why: Punt,
    /// The whole frame as received, super-frames too.
    pub frame: &'a [u8],
    /// What came beside it.
    pub offload: Offload,
    /// Where it came from.
    pub from: Side<'a>,
    /// The next hop of a [`Punt::TooBig`] or [`Punt::Fragment`].
    pub to: Option<Side<'a>>,
}

/// Who the switch is and how much it says.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The gateway every pod sees.
    pub gateway_v4: Ipv4Addr,
    /// The gateway every pod sees, IPv6.
    pub gateway_v6: Ipv6Addr,
    /// Source of ICMP errors to anyone but a local pod; without it they are not sent.
    pub router_v4: Option<Ipv4Addr>,
    /// Source of ICMPv6 errors to anyone but a local pod; without it they are not sent.
    pub router_v6: Option<Ipv6Addr>,
    /// ICMP errors per port.
    pub errors: Rate,
    /// Answers to ARP, neighbour solicitation and echo per port.
    pub replies: Rate,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            gateway_v4: Ipv4Addr::new(169, 254, 1, 1),
            gateway_v6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee),
            router_v4: None,
            router_v6: None,
            errors: Rate { per_second: 100, burst: 50 },
            replies: Rate { per_second: 1000, burst: 500 },
        }
    }
}

/// The slow path: its configuration and what each port has used of its rates.
#[derive(Debug)]
pub struct SlowPath {
    /// May be changed between two punts.
    pub config: Config,
    buckets: Buckets,
}

impl SlowPath {
    /// A slow path that has said nothing yet.
    pub fn new(config: Config) -> Self {
        SlowPath { config, buckets: Buckets::default() }
    }

    /// Appends to `out` the frames that answer `punted`; `now` is any clock that does not go back.
    pub fn answer(&mut self, punted: &Punted<'_>, now: Duration, out: &mut Vec<Answer>) -> Outcome {
        let composed = match punted.why {
            Punt::Fragment => return fragment::forward(punted, out).err().unwrap_or(Outcome::Answered),
            Punt::Arp => arp::reply(punted).map(|answer| (Purpose::Reply, answer)),
            Punt::NeighborDiscovery => {
                neighbor_discovery::advertise(punted, &self.config).map(|answer| (Purpose::Reply, answer))
            }
            Punt::Local => self.serve(punted),
            Punt::TtlExceeded => self.error(Cause::TtlExceeded, punted),
            Punt::TooBig => {
                punted.to.ok_or(Outcome::NoNextHop).and_then(|to| self.error(Cause::TooBig(to.mtu), punted))
            }
            Punt::Unreachable => self.error(Cause::NetUnreachable, punted),
        };
        let sent = composed.and_then(|(purpose, answer)| {
            let rate = match purpose {
                Purpose::Reply => self.config.replies,
                Purpose::Error => self.config.errors,
            };
            self.buckets.take((punted.from.port, purpose), rate, now)?;
            out.push(answer);
            Ok(Outcome::Answered)
        });
        sent.unwrap_or_else(|why_not| why_not)
    }

    /// The gateway's own two services: echo, and saying that it has no others.
    fn serve(&self, punted: &Punted<'_>) -> Composed {
        let datagram = Datagram::parse(punted.frame).ok_or(Outcome::Malformed)?;
        match datagram.protocol {
            protocol::ICMP | protocol::ICMP_V6 => Ok((Purpose::Reply, echo::reply(&datagram, punted)?)),
            protocol::TCP | protocol::UDP => self.error(Cause::PortUnreachable, punted),
            _ => Err(Outcome::NotServed),
        }
    }

    fn error(&self, cause: Cause, punted: &Punted<'_>) -> Composed {
        Ok((Purpose::Error, icmp_error::compose(cause, punted, &self.config)?))
    }
}

/// An answer not yet counted, or why there is none.
type Composed = Result<(Purpose, Answer), Outcome>;

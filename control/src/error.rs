//! What can go wrong: a text that is no legal value, and a call that got no answer.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::Refusal;

/// Why a text is not the value it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum ParseError {
    #[error(
        "'{text}' is no endpoint name: write 1 to 128 letters, digits, '_', '.' or '-', the first a letter or a digit"
    )]
    Name { text: String },
    #[error("'{text}' is no interface name: write 1 to 15 bytes without '/', ':' or white space")]
    InterfaceName { text: String },
    #[error("'{text}' is no network namespace: write an absolute path or a name of `ip netns`")]
    Netns { text: String },
    #[error("'{text}' is no address: write it as 10.244.0.2 or fd00:10:244::2")]
    Address { text: String },
    #[error("'{text}' is no range of addresses: write 10.244.0.0/24, 10.244.0.10-10.244.0.20 or one address")]
    AddressRange { text: String },
    #[error("a pod cannot have the {kind} address {address}")]
    Unroutable { address: IpAddr, kind: &'static str },
    #[error("'{text}' is no MTU: write a number from {} to {}", crate::Mtu::MIN, crate::Mtu::MAX)]
    Mtu { text: String },
    #[error("'{text}' is no rate: write bits a second from 1k to 1000T, such as 10M")]
    Rate { text: String },
    #[error("'{text}' is no route target: write endpoint:NAME, host, unreachable or blackhole")]
    Target { text: String },
    #[error("the filter {found} at character {at} where it needs {needs}")]
    Filter { found: String, at: usize, needs: String },
    #[error("a reason is one line of 1 to 300 bytes")]
    Why,
    #[error("'{text}' is no {what}: write {}", allowed.join(", "))]
    Word { what: &'static str, text: String, allowed: &'static [&'static str] },
}

/// Why a call to a switch failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum Error {
    #[error("no switch is running at {}", socket.display())]
    Absent { socket: PathBuf },
    #[error("the switch at {} answers to root alone", socket.display())]
    Permission { socket: PathBuf },
    #[error("the switch at {} did not answer within {after:?}", socket.display())]
    Timeout { socket: PathBuf, after: Duration },
    #[error("cannot reach the switch at {}", socket.display())]
    Io { socket: PathBuf, source: io::Error },
    #[error("the exchange with the switch at {} broke off", socket.display())]
    Http { socket: PathBuf, source: hyper::Error },
    #[error("the switch answered with status {status} and something this client cannot read")]
    Answer { status: u16, source: serde_json::Error },
    #[error("{0}")]
    Refused(Refusal),
}

impl Error {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Absent { .. } => Some("start it with `podswitch run`"),
            Error::Permission { .. } => Some("run this as root"),
            Error::Timeout { .. } => Some("the switch is overloaded or stuck: see its log"),
            Error::Answer { .. } => Some("use the client of the switch's own version"),
            Error::Refused(refusal) => refusal.hint.as_deref(),
            Error::Io { .. } | Error::Http { .. } => None,
        }
    }
}

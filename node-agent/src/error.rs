//! Everything that can go wrong, and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use packet::Prefix;

use crate::network::NetworkError;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum Error {
    #[error("cannot read the configuration {}", file.display())]
    Unread { file: PathBuf, source: io::Error },
    #[error("{}: {fault}", file.display())]
    Config { file: PathBuf, fault: String },
    #[error("{key}: {fault}")]
    Setting { key: &'static str, fault: String },
    #[error("cannot {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("etcd at {endpoints}: cannot {action}")]
    Etcd { endpoints: String, action: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("etcd at {endpoints} did not {action} within {seconds} s")]
    Late { endpoints: String, action: &'static str, seconds: u64 },
    #[error("the store has no network configuration yet")]
    NoNetwork,
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("no subnet of {network} is free")]
    Full { network: Prefix },
    #[error("other nodes took every subnet that was tried")]
    Raced,
    #[error(transparent)]
    Switch(#[from] control::Error),
    #[error("the switch's {key} is {found}, and this node's lease wants {wanted}")]
    Differs { key: &'static str, found: String, wanted: String },
    #[error("cannot ask the kernel for this node's addresses")]
    Host(#[from] host::Error),
    #[error("cannot find this node's own address")]
    NoAddress { source: io::Error },
    #[error("cannot serve health and metrics at {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("no agent answers at {address}")]
    NoAgent { address: SocketAddr, source: io::Error },
    #[error("cannot {action}")]
    System { action: &'static str, source: io::Error },
}

impl Error {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::NoNetwork => Some("give 'network' in the agent's configuration, or put it into the store"),
            Error::Full { .. } => {
                Some("let the network be larger, its subnets smaller, or remove leases of nodes that are gone")
            }
            Error::Switch(error) => error.hint(),
            Error::Differs { .. } => Some("start the switch with the configuration that the agent wrote"),
            Error::NoAddress { .. } => Some("give public_ip"),
            Error::Listen { .. } => Some("give another 'listen'"),
            Error::NoAgent { .. } => Some("start it with `podswitch-agent run`, or give its --listen"),
            _ => None,
        }
    }

    /// The message with its causes.
    pub fn report(&self) -> String {
        let causes = std::iter::successors(std::error::Error::source(self), |&cause| cause.source());
        causes.map(ToString::to_string).fold(self.to_string(), |text, cause| {
            if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
        })
    }
}

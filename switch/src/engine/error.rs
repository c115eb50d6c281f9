//! What can go wrong in the engine, and how it is told.

use std::error;
use std::io;
use std::iter;
use std::net::SocketAddr;

use control::{Code, Refusal};

use crate::{config, purge, server, store};

/// Why a switch did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("cannot look at the underlay's links")]
    Links(#[from] host::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Server(#[from] server::Error),
    #[error(transparent)]
    Purge(#[from] purge::Error),
    #[error("cannot make the host port {name}")]
    HostPort { name: String, source: host::Error },
    #[error("cannot open the tunnel end at {end}{}", way_out(holder.as_deref()))]
    Uplink { end: SocketAddr, holder: Option<String>, source: host::Error },
    #[error(transparent)]
    Masquerade(#[from] crate::masquerade::Error),
    #[error("{what} failed")]
    System { what: &'static str, source: io::Error },
    #[error("the worker ended by itself")]
    Worker,
    #[error("the control server ended by itself")]
    Deaf,
    #[error("cannot take up endpoint {name}")]
    Endpoint { name: String, source: host::Error },
    #[error("{path} is another namespace now")]
    OtherNamespace { path: String },
    #[error("what an earlier switch kept does not fit the configuration: {0}")]
    State(#[source] Refusal),
}

impl Error {
    /// True when what was to be taken up does not exist any more.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            // A file where its namespace was, another device where its own was: they are gone all the same.
            Error::Endpoint { source, .. } => {
                let replaced =
                    matches!(source, host::Error::NotNetworkNamespace { .. } | host::Error::TapUnlike { .. });
                source.is_missing() || replaced
            }
            Error::OtherNamespace { .. } => true,
            _ => false,
        }
    }
}

/// How to get a tunnel's port that a device of that name may have.
fn way_out(holder: Option<&str>) -> String {
    let Some(name) = holder else { return "; 'podswitch doctor' tells who may have its port".to_owned() };
    format!(
        "; {name}, a VXLAN device of the kernel, has its port: end the program that made it, `ip link del {name}`, and start \
         the switch with its VNI"
    )
}

/// What the kernel refused, as a refusal.
pub(super) fn from_host(code: Code, error: &host::Error) -> Refusal {
    Refusal::new(code, report(error))
}

/// An error with its causes, in one line.
pub(crate) fn report(error: &dyn error::Error) -> String {
    let causes = iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// For `map_err`: what failed.
pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::System { what, source }
}

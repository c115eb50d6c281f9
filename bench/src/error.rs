//! Everything that may go wrong in a bench, each naming what was being done.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::load::Family;

/// Why a bench, the demo or a test topology could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on a socket, file or process failed.
    #[error("cannot {action}")]
    System {
        /// What was being done, as a verb phrase.
        action: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a namespace, link, address or route.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// The switch refused a request or did not answer it.
    #[error(transparent)]
    Switch(#[from] control::Error),
    /// A bounded wait ended without the thing waited for.
    #[error("{what} did not arrive within {} ms: is the path between the pods up?", waited.as_millis())]
    NothingArrived {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// A case names a CPU this process may not run on.
    #[error("case {case} needs CPU {cpu}, but this process may use only {available}: leave the case out with --cases")]
    NoSuchCpu {
        /// The case as written, such as `0|1`.
        case: String,
        /// The CPU it asks for.
        cpu: usize,
        /// The CPUs there are, such as `0` or `0-3`.
        available: String,
    },
    /// A pair of nodes was asked for that cannot be made.
    #[error("{crossing} does not speak {backend}: leave it out")]
    NoSuchCrossing {
        /// What was to stand on both nodes.
        crossing: &'static str,
        /// How they were to reach each other.
        backend: &'static str,
    },
    /// A tunnel was asked to carry what it cannot.
    #[error("{backend} does not carry {inner} over {underlay}: choose others with --family and --underlay")]
    NotCarried {
        /// How the nodes were to reach each other.
        backend: &'static str,
        /// What the pods were to speak.
        inner: Family,
        /// What the nodes were to speak.
        underlay: Family,
    },
    /// A program of this project does not stand beside this one.
    #[error("{} not found: build the whole workspace with `cargo build --release`", path.display())]
    NoProgram {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A program that belongs to a topology ended or failed.
    #[error("`{command}` failed ({status}): {output}")]
    Program {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// etcd refused or did not answer.
    #[error("cannot {action} (etcd): {message}")]
    Etcd {
        /// What was being done, as a verb phrase.
        action: &'static str,
        /// What its client said.
        message: String,
    },
    /// What was received is not what was sent.
    #[error("{wiring} corrupted a TCP transfer: its figures would mean nothing")]
    Corrupted {
        /// What joined the pods.
        wiring: &'static str,
    },
    /// One of several that are measured in turn failed.
    #[error("{name}")]
    Contestant {
        /// What joins its pods.
        name: &'static str,
        /// How.
        #[source]
        source: Box<Error>,
    },
    /// SIGINT or SIGTERM asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// A closure for `map_err` which says what was being done.
    pub fn system<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> Self {
        let action = action.into();
        move |source| Self::System { action, source: source.into() }
    }

    /// A closure for `map_err` which says what was asked of etcd.
    pub(crate) fn etcd(action: &'static str) -> impl FnOnce(etcd_client::Error) -> Self {
        move |error| Self::Etcd { action, message: error.to_string() }
    }

    /// A closure for `map_err` which says whose failure it was.
    pub fn of(name: &'static str) -> impl FnOnce(Self) -> Self {
        move |source| match source {
            Self::Interrupted => source,
            _ => Self::Contestant { name, source: Box::new(source) },
        }
    }
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

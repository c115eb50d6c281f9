//! Everything that can go wrong, and the code by which a container runtime learns of it.
//!
//! Codes below 100 are those of the CNI specification 1.1.0, section 5; 8 and 999 are libcni's own, and from 100 on they
//! are this plugin's.
//!
//! | code | when |
//! |---|---|
//! | 1 | a version of the specification that is not spoken, or one without this verb |
//! | 2 | a key of the configuration that is not known or not done here |
//! | 3 | CHECK: the switch knows no such attachment |
//! | 4 | a missing or illegal environment variable |
//! | 5 | standard input cannot be read; the switch answers to root alone |
//! | 6 | the configuration is no JSON, or a value is not of its type |
//! | 7 | the configuration says something that cannot be |
//! | 8 | the network namespace is missing, is none, or is the node's own |
//! | 11 | not now: the switch is away, busy or hung, or has no address left; the same call may succeed later |
//! | 50 | STATUS: no ADD can be served |
//! | 51 | STATUS: the same, and pods that there are may not reach all others: the switch attaches none for now |
//! | 100 | another has what is asked for: the interface, the name, the address |
//! | 101 | CHECK: something is not as it was made |
//! | 102 | the IPAM plugin is missing or broke off |
//! | 999 | a fault of the switch or of this plugin |
//!
//! What an IPAM plugin refuses is passed on with its own code.

use std::io;
use std::path::PathBuf;

use control::{Code, Pause};
use serde::{Deserialize, Serialize};

use crate::version::Version;

/// Why a verb was not done. Nothing half-made is left.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum Error {
    #[error("cniVersion '{found}' is not spoken here: there are {}", Version::list())]
    Version { found: String },
    #[error("{verb} came with cniVersion {since}, and the configuration has {version}")]
    VerbVersion { verb: &'static str, since: Version, version: Version },
    #[error("{field} is not supported")]
    Unsupported { field: String, cure: &'static str },
    #[error("the switch knows no attachment of {interface} to container {container}")]
    UnknownContainer { container: String, interface: String },
    #[error("{variable} {fault}")]
    Environment { variable: &'static str, fault: String },
    #[error("cannot read the configuration from standard input")]
    Input(#[source] io::Error),
    #[error("{field}: {fault}")]
    Decode { field: String, fault: String },
    #[error("{field}: {fault}")]
    Config { field: String, fault: String },
    #[error("CNI_NETNS '{}': {fault}", path.display())]
    Netns { path: PathBuf, fault: String },
    #[error("no pod can be attached now: {source}")]
    NotReady { source: control::Error },
    #[error("no pod is attached at present: {}", .0.why)]
    Paused(Pause),
    #[error("{0}")]
    Switch(#[from] control::Error),
    #[error("{subject} is not as it was made: {found}")]
    Differs { subject: String, found: String },
    #[error("{} may be in use by a switch that is starting", .0)]
    Held(String),
    #[error("cannot look into the pod's namespace")]
    Host(#[from] host::Error),
    #[error("the IPAM plugin {plugin} is in none of CNI_PATH's folders")]
    DelegateMissing { plugin: String },
    #[error("the IPAM plugin {plugin} {fault}")]
    Delegate { plugin: String, fault: String },
    #[error("the IPAM plugin {plugin}: {}", refusal.msg)]
    DelegateRefused { plugin: String, refusal: Refusal },
}

/// An error as it stands in JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The version of the configuration.
    #[serde(default)]
    pub cni_version: String,
    /// One of the table above.
    pub code: u32,
    /// What is wrong.
    pub msg: String,
    /// What led to it and what to do about it.
    #[serde(default)]
    pub details: String,
}

impl Error {
    /// As JSON in that version.
    pub fn refusal(&self, version: Version) -> Refusal {
        Refusal { cni_version: version.to_string(), code: self.code(), msg: self.to_string(), details: self.details() }
    }

    fn code(&self) -> u32 {
        match self {
            Error::Version { .. } | Error::VerbVersion { .. } => 1,
            Error::Unsupported { .. } => 2,
            Error::UnknownContainer { .. } => 3,
            Error::Environment { .. } => 4,
            Error::Input(_) => 5,
            Error::Decode { .. } => 6,
            Error::Config { .. } => 7,
            Error::Netns { .. } => 8,
            Error::Held(_) => TRY_AGAIN,
            Error::NotReady { .. } => 50,
            Error::Paused(_) => 51,
            Error::Switch(error) => code_of(error),
            Error::Differs { .. } => 101,
            Error::DelegateMissing { .. } | Error::Delegate { .. } => 102,
            Error::DelegateRefused { refusal, .. } => refusal.code,
            Error::Host(_) => INTERNAL,
        }
    }

    /// Causes, then the way out.
    fn details(&self) -> String {
        let causes = std::iter::successors(std::error::Error::source(self), |&cause| cause.source());
        let mut parts: Vec<String> = causes.map(ToString::to_string).collect();
        parts.dedup();
        match self {
            Error::Unsupported { cure, .. } => parts.push((*cure).to_owned()),
            Error::NotReady { source } | Error::Switch(source) => parts.extend(source.hint().map(str::to_owned)),
            Error::Paused(pause) => parts.push(format!("{} asked for it and says when it is over", pause.origin)),
            Error::DelegateRefused { refusal, .. } => parts.push(refusal.details.clone()),
            _ => {}
        }
        let told = self.to_string();
        parts.retain(|part| !part.is_empty() && !told.contains(part.as_str()));
        parts.join("; ")
    }
}

fn code_of(error: &control::Error) -> u32 {
    match error {
        control::Error::Absent { .. }
        | control::Error::Timeout { .. }
        | control::Error::Io { .. }
        | control::Error::Http { .. } => TRY_AGAIN,
        control::Error::Permission { .. } => 5,
        control::Error::Answer { .. } => INTERNAL,
        control::Error::Refused(refusal) => match refusal.code {
            Code::Invalid | Code::TooLarge => 7,
            Code::Forbidden => 5,
            Code::NotFound => 3,
            Code::Conflict => 100,
            Code::Internal => INTERNAL,
            Code::Unavailable => TRY_AGAIN,
        },
    }
}

const TRY_AGAIN: u32 = 11;
const INTERNAL: u32 = 999;

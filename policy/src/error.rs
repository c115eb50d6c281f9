//! Why rules are refused.

use std::sync::Arc;

/// Something that was told cannot be taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum Error {
    #[error("{whose}: rule {index} has the port range {first}-{last}, which is backwards: write {last}-{first}")]
    Backwards { whose: Arc<str>, index: usize, first: u16, last: u16 },
    #[error("tier {tier} is to {action} at its end: only 'deny' and 'pass' can be done there")]
    Otherwise { tier: Arc<str>, action: &'static str },
    #[error(
        "{whose} has {count} rules: more than {max} are not taken; write several policies, or name many addresses by a network set"
    )]
    TooManyRules { whose: Arc<str>, count: usize, max: usize },
    #[error("{whose} would bring the rules of all policies and profiles to {count}: more than {max} are not taken")]
    Full { whose: Arc<str>, count: usize, max: usize },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

//! What rules say of a packet, and which of them said it.

use std::fmt;
use std::sync::Arc;

use crate::rule::Direction;

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// True when it may pass.
    pub allow: bool,
    /// Who says so.
    pub by: RuleId,
    /// The first rule on the way there that notes what it matches.
    pub log: Option<RuleId>,
}

/// A number that stands for a [`Cause`]; the book tells which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

impl RuleId {
    /// [`Cause::Open`].
    pub const OPEN: Self = Self(0);
    /// [`Cause::Undecided`].
    pub const UNDECIDED: Self = Self(1);
    /// Numbers below this are those above.
    pub(crate) const FIRST: u32 = 2;
    /// All numbers are below this, so that a verdict and its number fit 32 bits.
    pub const END: u32 = 1 << 30;
}

/// What decided, by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub enum Cause {
    /// No tier decides, and the endpoint has no profile: it is open.
    Open,
    /// The endpoint has profiles, and neither a tier nor they decide: closed.
    Undecided,
    /// A rule of a policy, counted from 0.
    Rule { tier: Arc<str>, policy: Arc<str>, direction: Direction, index: usize },
    /// The end of a tier that has policies for the endpoint.
    Otherwise { tier: Arc<str> },
    /// A rule of a profile, counted from 0.
    Profile { profile: Arc<str>, direction: Direction, index: usize },
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => out.write_str("no policy decides and the endpoint has no profile: open"),
            Self::Undecided => out.write_str("neither a tier nor a profile of the endpoint decides: closed"),
            Self::Rule { tier, policy, direction, index } => {
                write!(out, "{direction} rule {index} of {policy} in tier {tier}")
            }
            Self::Otherwise { tier } => write!(out, "the end of tier {tier}"),
            Self::Profile { profile, direction, index } => {
                write!(out, "{direction} rule {index} of profile {profile}")
            }
        }
    }
}

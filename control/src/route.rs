//! Routes: where packets for a prefix go.

use std::fmt;
use std::str::FromStr;

use packet::Prefix;
use serde::{Deserialize, Serialize};

use crate::text::serde_as_text;
use crate::{Name, Origin, ParseError};

/// A route as it was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destinations; the longest that matches decides.
    pub prefix: Prefix,
    /// Where their packets go.
    pub target: RouteTarget,
    /// Who asked.
    pub origin: Origin,
}

/// Where the packets of a route go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteTarget {
    /// To a pod: `endpoint:NAME`.
    Endpoint(Name),
    /// To the host, which routes them on: `host`.
    Host,
    /// Nowhere, and the sender is told: `unreachable`.
    Unreachable,
    /// Nowhere, silently: `blackhole`.
    Blackhole,
}

/// The wish that a route go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeleteRoute {
    /// Which.
    pub prefix: Prefix,
    /// Who asks.
    pub origin: Origin,
    /// Also if another origin asked for the route.
    pub force: bool,
}

impl FromStr for RouteTarget {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match (text, text.strip_prefix(ENDPOINT)) {
            (_, Some(name)) => name.parse().map(RouteTarget::Endpoint),
            ("host", _) => Ok(RouteTarget::Host),
            ("unreachable", _) => Ok(RouteTarget::Unreachable),
            ("blackhole", _) => Ok(RouteTarget::Blackhole),
            _ => Err(ParseError::Target { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteTarget::Endpoint(name) => write!(f, "{ENDPOINT}{name}"),
            RouteTarget::Host => f.write_str("host"),
            RouteTarget::Unreachable => f.write_str("unreachable"),
            RouteTarget::Blackhole => f.write_str("blackhole"),
        }
    }
}

serde_as_text!(RouteTarget);

const ENDPOINT: &str = "endpoint:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_survive_text_and_back() {
        for text in ["endpoint:web-0", "host", "unreachable", "blackhole"] {
            assert_eq!(text.parse::<RouteTarget>().unwrap().to_string(), text);
        }
        for text in ["", "web-0", "endpoint:", "endpoint:a/b", "Host"] {
            assert!(text.parse::<RouteTarget>().is_err(), "{text}");
        }
    }
}

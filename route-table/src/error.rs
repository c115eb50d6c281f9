//! Why a route was not inserted.

use packet::Prefix;

use crate::NextHop;

/// Why a route was not inserted; the table is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum Error {
    #[error("no room for the route to {prefix}: the table's nodes for its family are taken; remove routes first")]
    Full { prefix: Prefix },
    #[error("the route to {prefix} has no next hop: index 0 means 'no route'")]
    NoNextHop { prefix: Prefix },
    #[error("the route to {prefix} names next hop {}: the highest index is {}", hop.0, NextHop::MAX.0)]
    NextHopTooHigh { prefix: Prefix, hop: NextHop },
}

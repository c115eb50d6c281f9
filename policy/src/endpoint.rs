//! Who rules speak of: the pods of all nodes.

use std::net::IpAddr;
use std::sync::Arc;

use crate::labels::Labels;
use crate::rule::Protocol;

/// A pod's attachment, on this node or another.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Its name with namespace, unique: `default/web-0`.
    pub name: Arc<str>,
    /// By which selectors find it, those of its namespace and service account included, see [`crate::labels`].
    pub labels: Labels,
    /// Profiles that are asked when no tier decides, in this order; without any the endpoint is then open.
    pub profiles: Vec<Arc<str>>,
    /// Its addresses. One that several endpoints have stands for all of them.
    pub addresses: Vec<IpAddr>,
    /// Ports it has names for.
    pub ports: Vec<NamedPort>,
    /// True when it is of this node, so that rules are enforced here; else it is only spoken of.
    pub is_local: bool,
}

/// A port under a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamedPort {
    /// The name; the same one may be had for several protocols, and for several ports.
    pub name: Arc<str>,
    /// Of which protocol.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
}

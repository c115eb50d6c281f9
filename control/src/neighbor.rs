//! Neighbours: other nodes, and how their pods are reached.

use std::net::IpAddr;

use packet::{Mac, Prefix};
use serde::{Deserialize, Serialize};

use crate::Origin;
use crate::text::words;

/// Another node, which has the pods of `subnet`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbor {
    /// The addresses of its pods; no two neighbours share one.
    pub subnet: Prefix,
    /// The node's own address.
    pub via: IpAddr,
    /// How packets get there.
    #[serde(default)]
    pub backend: Backend,
    /// Ethernet address of the node's VTEP; of `vxlan` and of no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Who asked.
    pub origin: Origin,
}

words! {
    /// How packets get to another node.
    #[derive(Default)]
    Backend, "backend" {
        /// In UDP with an Ethernet frame inside (RFC 7348).
        #[default]
        Vxlan => "vxlan",
        /// In UDP, the bare IPv4 packet inside, as flannel's udp backend does.
        Udp => "udp",
        /// In IP, IPv4 in IPv4 (RFC 2003), as the kernel's ipip devices do.
        Ipip => "ipip",
        /// As they are, routed by the host to the node, which is on a link of it.
        HostGw => "host-gw",
    }
}

/// Neighbours to be forgotten and to be known, all of it or nothing; first those that go.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeNeighbors {
    /// Those that go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delete: Vec<DeleteNeighbor>,
    /// Those that come; one of a subnet that the same origin has a neighbour of takes its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Neighbor>,
}

/// The wish that a neighbour be forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteNeighbor {
    /// Which.
    pub subnet: Prefix,
    /// Who asks.
    pub origin: Origin,
    /// Also if another origin asked for the neighbour.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// Most neighbours at a time.
pub const NEIGHBORS_MAX: usize = 24_576;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_survives_json_and_says_no_more_than_it_must() {
        let text = r#"{"subnet":"10.5.2.0/24","via":"192.168.9.2","backend":"host-gw","origin":"agent"}"#;
        let neighbor: Neighbor = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&neighbor).unwrap(), text);
        let text = r#"{"subnet":"10.5.2.0/24","via":"fd00:9::2","mac":"02:76:00:00:00:01","origin":"cli"}"#;
        let neighbor: Neighbor = serde_json::from_str(text).unwrap();
        assert_eq!((neighbor.backend, neighbor.mac), (Backend::Vxlan, Some(Mac([2, 0x76, 0, 0, 0, 1]))));
    }

    #[test]
    fn what_is_no_neighbour_is_refused_by_name() {
        for (text, named) in [
            (r#"{"subnet":"10.5.2.1/24","via":"192.168.9.2","origin":"cli"}"#, "did you mean 10.5.2.0/24?"),
            (
                r#"{"subnet":"10.5.2.0/24","via":"192.168.9.2","backend":"gre","origin":"cli"}"#,
                "'gre' is no backend: write vxlan, udp, ipip, host-gw",
            ),
            (r#"{"subnet":"10.5.2.0/24","via":"192.168.9.2","origin":"cli","metric":1}"#, "metric"),
        ] {
            let error = serde_json::from_str::<Neighbor>(text).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}

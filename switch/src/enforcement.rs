//! Which packets may pass, as the path asks it: programs of rules by port, and who every address is to them.
//!
//! It is part of the world and immutable. A world without one knows no policy, and its packets are asked nothing. A port without
//! [`Guards`] is open, as the host port and uplinks are: pods of other nodes were asked there.
//!
//! Whoever changes what rules say gives the next enforcement another [`Enforcement::generation`]: flows in use are then judged
//! anew by their next packet, and those that are no longer allowed are cut.

use std::net::IpAddr;
use std::sync::Arc;

use policy::{Peers, Program};

use crate::connections::Connections;

/// What is enforced during a turn.
#[derive(Clone, Debug)]
pub struct Enforcement {
    /// Who addresses are, of the same time as the programs.
    pub peers: Peers,
    /// By port number.
    pub ports: Vec<Option<Guards>>,
    /// Another one for other rules or peers.
    pub generation: u32,
    /// Addresses of the node itself: from these, the host may always talk to its pods.
    pub own: Vec<IpAddr>,
    /// Flows that were allowed: one table, which all enforcements of a switch share.
    pub connections: Arc<Connections>,
}

/// The programs of a pod.
#[derive(Clone, Debug)]
pub struct Guards {
    /// For packets to it.
    pub ingress: Arc<Program>,
    /// For packets from it.
    pub egress: Arc<Program>,
}

impl Enforcement {
    /// The guards of the port of that number, unless it is open.
    #[inline]
    pub fn guards(&self, port: u16) -> Option<&Guards> {
        self.ports.get(usize::from(port))?.as_ref()
    }
}

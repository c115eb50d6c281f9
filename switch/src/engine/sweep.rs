//! Detaching endpoints whose namespace is gone.
//!
//! A pod's namespace usually goes without anybody telling: its runtime crashed, or somebody deleted it by hand. The
//! descriptor of its TAP keeps it alive all the same, and would for ever; hence the question whether anything else does.

use std::cell::OnceCell;
use std::collections::HashSet;

use control::{Detach, Origin};
use host::{Identity, Namespace};

use crate::port::{Link, Port};
use crate::state::Endpoint;

use super::Engine;
use super::endpoints::netns_id;

impl Engine {
    /// Detaches endpoints without a namespace, and the routes to them, whoever asked for those.
    pub(super) fn sweep(&mut self) {
        let inhabited = OnceCell::new();
        let is_gone = |endpoint: &&Endpoint| {
            self.tables
                .world()
                .port(endpoint.port)
                .is_some_and(|port| has_lost_its_namespace(endpoint, port, &inhabited))
        };
        let gone: Vec<_> = self.state.endpoints().filter(is_gone).map(|endpoint| endpoint.name.clone()).collect();
        for name in gone {
            tracing::info!(endpoint = %name, "detached: its namespace is gone");
            let detach = Detach { name, origin: Origin::Cli, force: true };
            let detached = self.detach(detach);
            self.swept += u64::from(detached.is_ok());
        }
    }
}

/// The path names it no more, and its device is deleted or nothing but our own descriptor holds it. A path that names
/// the same inode may be a new namespace that was given the number of the dead one.
fn has_lost_its_namespace(endpoint: &Endpoint, port: &Port, inhabited: &OnceCell<Option<HashSet<Identity>>>) -> bool {
    let Link::Tap(tap) = &port.link else { return false };
    let identity = Identity { device: endpoint.netns_id.device, inode: endpoint.netns_id.inode };
    if identity.is_at(endpoint.netns.as_path()) {
        let now = || Namespace::open(endpoint.netns.as_path()).map(|namespace| netns_id(&namespace));
        return !tap.is_attached() && now().is_ok_and(|now| !now.is(endpoint.netns_id));
    }
    let inhabited = inhabited.get_or_init(|| Identity::inhabited().ok());
    // Without an answer nobody is taken for dead.
    !tap.is_attached() || inhabited.as_ref().is_some_and(|inhabited| !inhabited.contains(&identity))
}

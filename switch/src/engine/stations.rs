//! Pods whose interface gets another Ethernet address.
//!
//! Frames to the old one would not be taken by the pod's kernel. Who changes it tells nobody, and no frame is believed; so
//! the kernel is asked, of every pod with each sweep, and more often of pods attached a moment ago, since that is when
//! plugins chained behind ours change it. The answer is compared with the adjacency, which is put right.

use std::time::{Duration, Instant};

use packet::Mac;

use crate::port::Link;
use crate::world::hop_of;

use super::Engine;

/// Ports that were attached a moment ago.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    ports: Vec<(u16, Instant)>,
    looked: Option<Instant>,
}

impl Fresh {
    /// A port has come.
    pub(super) fn add(&mut self, port: u16, now: Instant) {
        self.ports.push((port, now));
    }
}

impl Engine {
    /// Asks for the addresses of pods that have just come.
    pub(super) fn look_at_fresh(&mut self, now: Instant) {
        let is_early = self.fresh.looked.is_some_and(|looked| now.duration_since(looked) < LOOK_EVERY);
        if self.fresh.ports.is_empty() || is_early {
            return;
        }
        self.fresh.looked = Some(now);
        let ports: Vec<u16> = self.fresh.ports.iter().map(|(port, _)| *port).collect();
        self.fresh.ports.retain(|(_, came)| now.duration_since(*came) < FRESH);
        self.follow(&ports);
    }

    /// The same for all pods.
    pub(super) fn look_at_stations(&mut self) {
        let ports: Vec<u16> = self.state.endpoints().map(|endpoint| endpoint.port).collect();
        self.follow(&ports);
    }

    fn follow(&mut self, ports: &[u16]) {
        let moved: Vec<(u16, Mac)> = ports.iter().filter_map(|&port| self.moved(port)).collect();
        if moved.is_empty() {
            return;
        }
        let mut world = self.tables.world().clone();
        let put_right = |(port, mac): &(u16, Mac)| {
            let hop = hop_of(*port);
            tracing::info!(port, %mac, "the pod's interface has another Ethernet address");
            let before = self.tables.world().adjacency(hop.0);
            (hop, before.between(*mac, before.source()))
        };
        world.set_adjacencies(moved.iter().map(put_right));
        self.tables.publish(world);
        self.tables.settle();
    }

    /// The address that a port's interface has and its adjacency has not.
    fn moved(&self, number: u16) -> Option<(u16, Mac)> {
        let world = self.tables.world();
        let port = world.port(number)?;
        let Link::Tap(tap) = &port.link else { return None };
        // Of a device that is gone the sweep takes care.
        let mac = tap.mac().ok()?;
        (world.station(port).destination() != mac).then_some((number, mac))
    }
}

/// How often pods that have just come are asked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a pod has just come: plugins chained behind ours are done by then.
const FRESH: Duration = Duration::from_secs(10);

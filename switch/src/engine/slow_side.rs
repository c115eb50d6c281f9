//! The slow path's place in the control thread: takes punted frames, answers, and counts what became of each.

use std::net::IpAddr;
use std::time::Duration;

use packet::Offload;

use crate::config::Node;
use crate::lane::{Punted, SlowEnds};
use crate::port::Port;
use crate::slow::{self, Answer, Outcome, Side, SlowPath};
use crate::state::{GATEWAY_V4, GATEWAY_V6};
use crate::world::{Adjacency, Hop, World};

/// The slow path with its counters.
pub struct SlowSide {
    slow: SlowPath,
    answers: Vec<Answer>,
    outcomes: [u64; Outcome::COUNT],
    unsent: u64,
}

impl SlowSide {
    /// A slow path that speaks for `node`.
    pub fn new(node: &Node) -> Self {
        let routers = &node.router_addresses;
        let v4 = |address: &IpAddr| if let IpAddr::V4(v4) = address { Some(*v4) } else { None };
        let v6 = |address: &IpAddr| if let IpAddr::V6(v6) = address { Some(*v6) } else { None };
        let config = slow::Config {
            gateway_v4: GATEWAY_V4,
            gateway_v6: GATEWAY_V6,
            router_v4: routers.iter().find_map(v4),
            router_v6: routers.iter().find_map(v6),
            ..slow::Config::default()
        };
        SlowSide { slow: SlowPath::new(config), answers: Vec::new(), outcomes: [0; Outcome::COUNT], unsent: 0 }
    }

    /// Answers what waits in the worker's mailbox, a bounded number; true when answers were sent and it should wake.
    /// `now` is any clock that does not go back.
    pub fn serve(&mut self, ends: &mut SlowEnds, world: &World, now: Duration) -> bool {
        let mut sent = false;
        for _ in 0..PUNTS_AT_ONCE {
            let taken = ends.punts.receive(|letter| self.answer(&letter.about, &letter.bytes, world, now));
            if taken.is_none() {
                break;
            }
            for answer in self.answers.drain(..) {
                let queued = ends.answers.send(answer.port, [&answer.frame, &[]]);
                self.unsent += u64::from(!queued);
                sent |= queued;
            }
        }
        sent
    }

    /// What became of the punted frames: name and count of every outcome.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counted = Outcome::ALL.iter().zip(self.outcomes).map(|(outcome, count)| (outcome.name(), count));
        counted.chain([("answer_ring_full", self.unsent)])
    }

    fn answer(&mut self, about: &Punted, frame: &[u8], world: &World, now: Duration) {
        let Some(from) = world.port(about.from) else { return };
        let next = world.adjacencies().get(usize::from(about.adjacency));
        let to = next.filter(|next| next.hop == Hop::Forward).and_then(|next| Some((next, world.port(next.port)?)));
        let from_addresses = from.addresses();
        let punted = slow::Punted {
            why: about.why,
            frame,
            offload: Offload { ..about.offload },
            from: side(from, &world.station(from), &from_addresses),
            to: to.map(|(next, port)| side(port, next, &[])),
        };
        let outcome = self.slow.answer(&punted, now, &mut self.answers);
        self.outcomes[outcome as usize] += 1;
    }
}

fn side<'a>(port: &Port, next: &Adjacency, addresses: &'a [IpAddr]) -> Side<'a> {
    Side {
        port: port.number,
        mac: next.destination(),
        gateway: next.source(),
        addresses,
        host: port.host,
        mtu: next.mtu,
    }
}

/// Calls come in between this many punts.
const PUNTS_AT_ONCE: usize = 256;

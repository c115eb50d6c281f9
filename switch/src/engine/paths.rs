//! The MTU of the way to each node: what a router of the underlay refuses to carry, the pods are told.
//!
//! The kernel learns of it from the router's error about a datagram of ours, and keeps it for some minutes. It tells nobody
//! who only sends, so it is asked: of a few nodes at every look, in turn, as long as more is sent through tunnels. A packet
//! too long for its way is then answered as any that is too long for its next hop.

use host::path_mtu;

use super::tables::Tables;
use crate::port::Count;

/// Whose turn it is.
#[derive(Default)]
pub(super) struct Paths {
    /// Index among the nodes.
    next: usize,
    /// Nodes still to be asked about since more was sent.
    due: usize,
    /// Packets sent through tunnels as of the last look.
    sent: u64,
}

impl Tables {
    /// Asks for the ways to some nodes; changes are in force when it returns.
    pub(super) fn look_at_paths(&mut self, paths: &mut Paths) {
        let world = self.world();
        let uplinks = self.neighbors.ends.iter().filter_map(|end| world.port(end.port));
        let sent = uplinks.map(|port| port.counters.get(Count::Sent)).sum();
        let changed: Vec<u16> = paths.turn(sent, self.neighbors.nodes()).filter(|&node| self.ask(node)).collect();
        if !changed.is_empty() {
            let adjacencies = self.neighbors.adjacencies_to(&changed, self.world());
            self.publish_neighbors(adjacencies);
        }
    }

    /// True if the MTU of the way to the node at that index is another than before.
    fn ask(&mut self, node: u16) -> bool {
        let address = self.neighbors.address(node);
        // Where there is no way at all, nothing is known of it.
        let mtu = address.and_then(|address| path_mtu(address).ok());
        mtu.is_some_and(|mtu| self.neighbors.set_path_mtu(node, mtu))
    }
}

impl Paths {
    /// The nodes to ask about, by index, when there are so many, and so many packets have been sent.
    fn turn(&mut self, sent: u64, nodes: usize) -> impl Iterator<Item = u16> + use<> {
        if sent != self.sent {
            (self.sent, self.due) = (sent, nodes);
        }
        let count = self.due.min(AT_ONCE).min(nodes);
        let first = self.next;
        self.due -= count;
        self.next = (first + count) % nodes.max(1);
        (first..first + count).map(move |index| (index % nodes) as u16)
    }
}

/// So many are asked about in some 100 microseconds.
const AT_ONCE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_their_turn_while_something_is_sent() {
        let mut paths = Paths::default();
        let mut turn = |sent, nodes| paths.turn(sent, nodes).collect::<Vec<_>>();
        assert_eq!(turn(0, 20), [0; 0], "nothing was sent yet");
        assert_eq!(turn(5, 0), [0; 0], "no tunnel leads anywhere");
        assert_eq!(turn(6, 20), (0..16).collect::<Vec<_>>());
        assert_eq!(turn(6, 20), [16, 17, 18, 19]);
        assert_eq!(turn(6, 20), [0; 0]);
        assert_eq!(turn(7, 3), [0, 1, 2]);
        assert_eq!(turn(8, 3), [0, 1, 2]);
    }
}

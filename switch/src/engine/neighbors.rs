//! Neighbours as workers see them: an adjacency for each subnet, a remote for each node.
//!
//! Numbers are given here and come free again only when the world that no longer has them is in force; the order of
//! coming and going is [`crate::world`]'s.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use control::{Backend, Code, Mtu, Neighbor, Refusal};
use encap::Template;
use packet::{Mac, Prefix};
use route_table::NextHop;

use super::tables::Tables;
use super::uplinks::End;
use crate::remotes::{Remote, Remotes};
use crate::world::{Adjacency, FIRST_NEIGHBOR, FIXED, HOST, Hop, World};

/// What has been numbered.
#[derive(Default)]
pub(super) struct Neighbors {
    pub(super) ends: Vec<End>,
    /// By subnet: its adjacency, and its node for tunnels.
    known: BTreeMap<Prefix, (NextHop, u16)>,
    /// By number less 1.
    nodes: Vec<Option<Node>>,
    /// Where among them a node is, by its uplink and address.
    places: HashMap<(u16, SocketAddr), usize>,
    free_places: Vec<usize>,
    free_hops: Vec<u16>,
    hops: u16,
}

/// A node behind a tunnel.
struct Node {
    remote: Remote,
    /// How many it has; none lasts without.
    subnets: usize,
    /// Longest inner IP packet on the way there.
    mtu: u16,
}

impl Tables {
    /// Makes neighbours known, or known anew; in force when it returns.
    ///
    /// # Errors
    /// No end of such a tunnel, or no room in the route table; nothing of any of them is left.
    pub(super) fn add_neighbors(&mut self, neighbors: &[Neighbor]) -> Result<(), Refusal> {
        let mut routes = Vec::with_capacity(neighbors.len());
        let mut adjacencies = Vec::with_capacity(neighbors.len());
        let mut left = Vec::new();
        let numbered = neighbors.iter().try_for_each(|neighbor| {
            let hop = match neighbor.backend {
                Backend::HostGw => {
                    left.extend(self.neighbors.known.remove(&neighbor.subnet));
                    HOST
                }
                _ => {
                    let (hop, adjacency, before) = self.neighbors.number(neighbor)?;
                    left.extend(before.map(|remote| (NextHop(0), remote)));
                    adjacencies.push((hop, adjacency));
                    hop
                }
            };
            routes.push((neighbor.subnet, hop));
            Ok(())
        });
        self.publish_neighbors(adjacencies);
        let mut load = || routes.iter().try_for_each(|&(subnet, hop)| self.load(subnet, hop));
        let loaded = numbered.and_then(|()| load());
        if loaded.is_err() {
            self.remove_neighbors(&routes.iter().map(|&(subnet, _)| subnet).collect::<Vec<_>>());
        }
        self.settle();
        self.forget(left);
        loaded
    }

    /// Forgets neighbours after the routes to them.
    pub(super) fn remove_neighbors(&mut self, subnets: &[Prefix]) {
        self.take_back(subnets);
        let gone: Vec<_> = subnets.iter().filter_map(|subnet| self.neighbors.known.remove(subnet)).collect();
        self.forget(gone);
    }

    /// Frees numbers that no route leads to any more.
    fn forget(&mut self, gone: Vec<(NextHop, u16)>) {
        if gone.is_empty() {
            return;
        }
        gone.iter().for_each(|&(_, remote)| self.neighbors.leave(remote));
        let hops: Vec<NextHop> = gone.into_iter().map(|(hop, _)| hop).filter(|hop| hop.0 != 0).collect();
        self.publish_neighbors(hops.iter().map(|&hop| (hop, FIXED[0])).collect());
        self.neighbors.free_hops.extend(hops.iter().map(|hop| hop.0));
    }

    pub(super) fn publish_neighbors(&mut self, adjacencies: Vec<(NextHop, Adjacency)>) {
        let mut world = self.world().clone();
        world.set_adjacencies(adjacencies);
        world.remotes = Arc::new(self.neighbors.remotes());
        self.publish(world);
    }
}

impl Neighbors {
    /// True where an end of a tunnel is open.
    pub(super) fn has_tunnels(&self) -> bool {
        !self.ends.is_empty()
    }

    /// Numbers a neighbour behind a tunnel: its adjacency, and the node it had before.
    fn number(&mut self, neighbor: &Neighbor) -> Result<(NextHop, Adjacency, Option<u16>), Refusal> {
        let is_its = |end: &&End| end.backend == neighbor.backend && end.local.is_ipv4() == neighbor.via.is_ipv4();
        let end = *self.ends.iter().find(is_its).ok_or_else(|| closed(neighbor))?;
        let mut adjacency = Adjacency { port: end.port, mtu: end.mtu, ..Adjacency::of(Hop::Forward) }
            .between(neighbor.mac.unwrap_or(Mac::ZERO), end.mac);
        let address = SocketAddr::new(neighbor.via, end.local.port());
        let template = end.template(neighbor.via);
        let before = self.known.get(&neighbor.subnet).copied();
        let hop = before.map(|(hop, _)| hop).or_else(|| self.free_hop()).ok_or_else(|| full(neighbor))?;
        (adjacency.remote, adjacency.mtu) = self.node((end.port, address), (template, end.mtu));
        self.known.insert(neighbor.subnet, (hop, adjacency.remote));
        Ok((hop, adjacency, before.map(|(_, remote)| remote)))
    }

    /// The number of a node, which has one subnet more, and the longest inner packet on the way there.
    fn node(&mut self, (uplink, address): (u16, SocketAddr), (template, mtu): (Option<Template>, u16)) -> (u16, u16) {
        let place = *self.places.entry((uplink, address)).or_insert_with(|| {
            self.free_places.pop().unwrap_or_else(|| {
                self.nodes.push(None);
                self.nodes.len() - 1
            })
        });
        let new = || Node { remote: Remote::new(uplink, address, template), subnets: 0, mtu };
        let node = self.nodes[place].get_or_insert_with(new);
        node.subnets += 1;
        (place as u16 + 1, node.mtu)
    }

    fn leave(&mut self, number: u16) {
        let place = usize::from(number) - 1;
        let Some(node) = &mut self.nodes[place] else { return };
        node.subnets -= 1;
        if node.subnets == 0 {
            self.places.remove(&(node.remote.uplink, node.remote.address));
            self.nodes[place] = None;
            self.free_places.push(place);
        }
    }

    fn remotes(&self) -> Remotes {
        let remotes = self.nodes.iter().map(|node| Some(node.as_ref()?.remote.clone())).collect();
        Remotes::new(remotes, self.ends.iter().map(|end| end.local.port()).collect())
    }

    /// Indices of nodes are below this.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Where the node at an index is, if there is one.
    pub(super) fn address(&self, node: u16) -> Option<IpAddr> {
        Some(self.nodes.get(usize::from(node))?.as_ref()?.remote.address.ip())
    }

    /// Notes that the way to a node takes outer packets of so many bytes; true if that is news.
    pub(super) fn set_path_mtu(&mut self, node: u16, bytes: u32) -> bool {
        let Some(Some(node)) = self.nodes.get_mut(usize::from(node)) else { return false };
        let Some(end) = self.ends.iter().find(|end| end.port == node.remote.uplink) else { return false };
        let inner = bytes.saturating_sub(end.overhead.into()).clamp(Mtu::MIN.into(), end.mtu.max(Mtu::MIN).into());
        let before = std::mem::replace(&mut node.mtu, inner as u16);
        node.mtu != before
    }

    /// The adjacencies of all subnets of some nodes, as `world` has them but for the MTU.
    pub(super) fn adjacencies_to(&self, nodes: &[u16], world: &World) -> Vec<(NextHop, Adjacency)> {
        let theirs = self.known.values().filter(|(_, number)| nodes.contains(&(number - 1)));
        let mtu = |number: u16| Some(self.nodes.get(usize::from(number) - 1)?.as_ref()?.mtu);
        theirs
            .filter_map(|&(hop, number)| Some((hop, Adjacency { mtu: mtu(number)?, ..*world.adjacency(hop.0) })))
            .collect()
    }

    fn free_hop(&mut self) -> Option<NextHop> {
        let number = self.free_hops.pop().or_else(|| {
            let next = FIRST_NEIGHBOR as u16 + self.hops;
            (usize::from(self.hops) < control::NEIGHBORS_MAX).then(|| {
                self.hops += 1;
                next
            })
        });
        number.map(NextHop)
    }
}

fn closed(neighbor: &Neighbor) -> Refusal {
    let Neighbor { subnet, via, backend, .. } = neighbor;
    let family = if via.is_ipv4() { "IPv4" } else { "IPv6" };
    let message =
        format!("neighbour {subnet}: no {backend} tunnel over {family} is open; see 'tunnels' of the configuration");
    Refusal::new(Code::Invalid, message)
}

fn full(neighbor: &Neighbor) -> Refusal {
    Refusal::new(Code::Unavailable, format!("neighbour {}: there are as many as there can be", neighbor.subnet))
}

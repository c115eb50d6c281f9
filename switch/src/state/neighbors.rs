//! The neighbours in the state: other nodes and which subnets are theirs.
//!
//! - a subnet belongs to one neighbour, and to nothing else: no pod range, no route but the default, no other neighbour's
//!   subnet shares an address with it;
//! - a node's own address lies in no subnet and no pod range, or the way to it would lead through itself;
//! - what one origin asked for, only that origin replaces, and only it takes back, unless forced;
//! - a tunnel leads only where one ends here.
//!
//! Subnets are apart from each other, so in their order only the one before and the one after can overlap a new one:
//! a change costs the logarithm of how many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use control::{Backend, ChangeNeighbors, Code, DeleteNeighbor, NEIGHBORS_MAX, Neighbor, Refusal};
use packet::{Mac, Prefix};

use super::{Effect, State, conflict, foreign};

/// All neighbours.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Neighbors {
    by_subnet: BTreeMap<Prefix, Neighbor>,
    /// The nodes' own addresses, and how many subnets each has.
    nodes: BTreeMap<IpAddr, usize>,
}

impl Neighbors {
    fn insert(&mut self, neighbor: Neighbor) {
        *self.nodes.entry(neighbor.via).or_default() += 1;
        self.by_subnet.insert(neighbor.subnet, neighbor);
    }

    fn remove(&mut self, subnet: Prefix) -> Option<Neighbor> {
        let neighbor = self.by_subnet.remove(&subnet)?;
        let subnets = self.nodes.get_mut(&neighbor.via).expect("every neighbour's node is counted");
        *subnets -= 1;
        if *subnets == 0 {
            self.nodes.remove(&neighbor.via);
        }
        Some(neighbor)
    }

    /// The neighbour whose subnet shares an address with `prefix`.
    pub(super) fn overlapping(&self, prefix: Prefix) -> Option<&Neighbor> {
        let before = self.by_subnet.range(..=prefix).next_back();
        let after = self.by_subnet.range(prefix..).next();
        before.into_iter().chain(after).map(|(_, neighbor)| neighbor).find(|other| other.subnet.overlaps(prefix))
    }

    /// A node whose own address lies in `prefix`.
    fn node_within(&self, prefix: Prefix) -> Option<IpAddr> {
        let (&node, _) = self.nodes.range(prefix.address()..).next()?;
        prefix.contains(node).then_some(node)
    }
}

impl State {
    /// Takes a neighbour that was kept, under settings that may have changed since, or refuses it.
    pub fn admit_neighbor(&mut self, neighbor: Neighbor) -> Result<(), Refusal> {
        self.check_neighbor(&neighbor)?;
        self.neighbors.insert(neighbor);
        Ok(())
    }

    /// All neighbours in order of their subnets.
    pub fn neighbors(&self) -> impl ExactSizeIterator<Item = &Neighbor> {
        self.neighbors.by_subnet.values()
    }

    pub(super) fn change_neighbors(&mut self, change: ChangeNeighbors) -> Result<Effect, Refusal> {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let deleted = change.delete.iter().try_for_each(|delete| {
            before.push(self.delete_neighbor(delete)?);
            Ok(())
        });
        let mut subnets = BTreeSet::new();
        let changed = deleted.and_then(|()| {
            change.add.into_iter().try_for_each(|neighbor| {
                if !subnets.insert(neighbor.subnet) {
                    return Err(invalid(&neighbor, "is given twice"));
                }
                before.extend(self.displace(&neighbor)?);
                self.admit_neighbor(neighbor.clone())?;
                after.push(neighbor);
                Ok(())
            })
        });
        match changed {
            Ok(()) => Ok(Effect::NeighborsChanged { before, after }),
            Err(refusal) => {
                self.put_neighbors(&after, &before);
                Err(refusal)
            }
        }
    }

    /// Puts some in the place of others, unasked: it has been so before.
    pub(super) fn put_neighbors(&mut self, gone: &[Neighbor], there: &[Neighbor]) {
        for neighbor in gone {
            self.neighbors.remove(neighbor.subnet);
        }
        for neighbor in there {
            self.neighbors.insert(neighbor.clone());
        }
    }

    fn delete_neighbor(&mut self, delete: &DeleteNeighbor) -> Result<Neighbor, Refusal> {
        let DeleteNeighbor { subnet, origin, force } = delete;
        let neighbor = self.neighbors.by_subnet.get(subnet).ok_or_else(|| {
            Refusal::new(Code::NotFound, format!("there is no neighbour {subnet}"))
                .hint("see `podswitch show neighbors` for those there are")
        })?;
        if neighbor.origin != *origin && !force {
            return Err(foreign(&format!("the neighbour {subnet}"), neighbor.origin, *origin));
        }
        Ok(self.neighbors.remove(*subnet).expect("the neighbour was found above"))
    }

    /// Takes away the one that `neighbor` takes the place of, if that is its origin's own.
    fn displace(&mut self, neighbor: &Neighbor) -> Result<Option<Neighbor>, Refusal> {
        match self.neighbors.by_subnet.get(&neighbor.subnet) {
            Some(Neighbor { subnet, origin, .. }) if *origin != neighbor.origin => {
                Err(conflict(format!("{origin} asked for a neighbour {subnet} before {}", neighbor.origin))
                    .hint(format!("have {origin} delete it first, or delete it with --force")))
            }
            _ => Ok(self.neighbors.remove(neighbor.subnet)),
        }
    }

    /// Says no to a neighbour that is wrong in itself or collides with what is there.
    fn check_neighbor(&self, neighbor: &Neighbor) -> Result<(), Refusal> {
        sound(neighbor)?;
        self.check_tunnel(neighbor)?;
        self.check_node(neighbor)?;
        self.check_subnet(neighbor.subnet)?;
        if self.neighbors.by_subnet.len() >= NEIGHBORS_MAX {
            let message = format!("the switch has {NEIGHBORS_MAX} neighbours, its limit");
            return Err(Refusal::new(Code::Unavailable, message));
        }
        Ok(())
    }

    /// The tunnel has its end here too, and the two can reach each other.
    fn check_tunnel(&self, neighbor: &Neighbor) -> Result<(), Refusal> {
        let Neighbor { via, backend, mac, .. } = neighbor;
        let underlay = &self.node.underlay;
        if *backend == Backend::HostGw {
            return Ok(());
        }
        if !underlay.tunnels.contains(backend) {
            return Err(invalid(neighbor, &format!("needs a tunnel of {backend}, and none ends here"))
                .hint(format!("add \"{backend}\" to tunnels in the configuration, or run with --tunnel {backend}")));
        }
        if underlay.towards(*via).is_none() {
            let family = if via.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(invalid(neighbor, &format!("is behind {via}, and this node has no {family} underlay address"))
                .hint("add one to underlay_address in the configuration, or run with --underlay-address"));
        }
        match mac {
            Some(mac) if underlay.vtep_mac == Some(*mac) => {
                Err(collides(neighbor, &format!("has the Ethernet address {mac} of this node's own VTEP")))
            }
            _ => Ok(()),
        }
    }

    /// The way to the node leads neither here nor through a subnet.
    fn check_node(&self, neighbor: &Neighbor) -> Result<(), Refusal> {
        let Neighbor { subnet, via, .. } = neighbor;
        let behind = |what: String| Err(collides(neighbor, &format!("is behind {via}, {what}")));
        if self.node.underlay.addresses.contains(via) {
            return behind("this node's own address".to_owned());
        }
        if let Some(range) = self.node.pod_ranges.iter().find(|range| range.contains(*via)) {
            return behind(format!("which lies in this node's pod range {range}"));
        }
        if subnet.contains(*via) {
            return behind("which lies in it".to_owned());
        }
        if let Some(Neighbor { subnet, origin, .. }) = self.neighbors.overlapping(Prefix::host(*via)) {
            return behind(format!("which lies in the neighbour {subnet}, asked for by {origin}"));
        }
        Ok(())
    }

    /// Nothing else has an address of the subnet.
    fn check_subnet(&self, subnet: Prefix) -> Result<(), Refusal> {
        let taken = |by: String| Err(conflict(format!("the neighbour {subnet} overlaps {by}")));
        if let Some(range) = self.node.pod_ranges.iter().find(|range| range.overlaps(subnet)) {
            return taken(format!("this node's pod range {range}"));
        }
        if let Some(other) = self.neighbors.overlapping(subnet) {
            return taken(format!("the neighbour {}, asked for by {}", other.subnet, other.origin));
        }
        if let Some(route) = self.route_overlapping(subnet) {
            return taken(format!("the route {}, asked for by {}", route.prefix, route.origin));
        }
        if let Some(own) = self.node.underlay.addresses.iter().find(|own| subnet.contains(**own)) {
            return taken(format!("this node's own address {own}"));
        }
        if let Some(node) = self.neighbors.node_within(subnet) {
            return taken(format!("{node}, the address of a neighbour"));
        }
        match self.holder(subnet.address()) {
            Some(endpoint) if subnet == Prefix::host(subnet.address()) => {
                taken(format!("the address of endpoint {}", endpoint.name))
            }
            _ => Ok(()),
        }
    }

    /// A route that shares an address with `subnet`. The default route does not count: it is for what nobody else has.
    fn route_overlapping(&self, subnet: Prefix) -> Option<&control::Route> {
        let around = (1..=subnet.length()).filter_map(|length| {
            let wider = Prefix::try_from(ipnet::IpNet::new(subnet.address(), length).ok()?.trunc()).ok()?;
            self.routes.get(&wider)
        });
        let within = self.routes.range(subnet..).next().map(|(_, route)| route);
        around.chain(within).find(|route| route.prefix.overlaps(subnet))
    }
}

/// Says no to a neighbour that is wrong whatever else there is.
fn sound(neighbor: &Neighbor) -> Result<(), Refusal> {
    let Neighbor { subnet, via, backend, mac, .. } = neighbor;
    let ends = [subnet.address(), subnet.net().broadcast()];
    if let Some(kind) = ends.into_iter().find_map(control::unroutable) {
        return Err(invalid(neighbor, &format!("is {kind}: no pod is there")));
    }
    if let Some(kind) = control::unroutable(*via) {
        return Err(invalid(neighbor, &format!("is behind {via}, which is {kind}")));
    }
    match (backend, mac) {
        (Backend::Vxlan, None) => {
            let what = "lacks the Ethernet address of its VTEP";
            return Err(invalid(neighbor, what).hint("vxlan needs it: give it with --vtep-mac"));
        }
        (Backend::Vxlan, Some(mac)) if mac.is_group() || *mac == Mac::ZERO => {
            return Err(invalid(neighbor, &format!("has the Ethernet address {mac}, which is no station's")));
        }
        (Backend::Vxlan, Some(_)) | (_, None) => {}
        (_, Some(_)) => {
            let what = format!("has a VTEP's Ethernet address, which {backend} knows nothing of");
            return Err(invalid(neighbor, &what).hint("leave --vtep-mac out, or choose the backend vxlan"));
        }
    }
    match (backend, subnet.address(), via) {
        (Backend::Udp | Backend::Ipip, IpAddr::V6(_), _) | (Backend::Udp | Backend::Ipip, _, IpAddr::V6(_)) => {
            let what = format!("is IPv6 or behind an IPv6 address, and {backend} carries IPv4 over IPv4 alone");
            Err(invalid(neighbor, &what).hint("choose the backend vxlan"))
        }
        (Backend::HostGw, subnet, via) if subnet.is_ipv4() != via.is_ipv4() => {
            let what = format!("is behind {via}, and host-gw routes a subnet by an address of its own family");
            Err(invalid(neighbor, &what).hint("give another --via"))
        }
        _ => Ok(()),
    }
}

fn invalid(neighbor: &Neighbor, what: &str) -> Refusal {
    Refusal::new(Code::Invalid, format!("the neighbour {} {what}", neighbor.subnet))
}

fn collides(neighbor: &Neighbor, what: &str) -> Refusal {
    conflict(format!("the neighbour {} {what}", neighbor.subnet))
}

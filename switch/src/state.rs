//! What was asked for: the node's own settings, endpoints, routes and neighbours. Pure: no clock, no kernel, no threads.
//!
//! [`State::apply`] takes one [`Change`] and refuses it whole or applies it whole; a refusal says what is in the way
//! and, where something can be done, what. The rules:
//!
//! - a name, an address, a port, and an interface of a namespace belong to one endpoint; an address of the node's own
//!   to none;
//! - a prefix has one route, of one origin. The same origin may change its target by adding it again; the prefix of a
//!   pod range or of a single address that is taken has no route;
//! - what one origin asked for, only that origin takes back, unless forced;
//! - with an endpoint go the routes to it; those of another origin hold it, unless forced.
//!
//! What holds for neighbours stands in `state/neighbors.rs`, and for times when no pod is attached in `state/pauses.rs`.
//!
//! Limits: [`ENDPOINTS_MAX`], [`ADDRESSES_MAX`] for each of them, [`ROUTES_MAX`], [`control::NEIGHBORS_MAX`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use control::{
    Attach, Bandwidth, ChangeNeighbors, Code, DeleteRoute, Detach, InterfaceName, Mtu, Name, Neighbor, NetnsPath,
    Origin, Pause, PodAddress, Refusal, Resume, Route, RouteTarget, Why,
};
use packet::{Mac, Prefix};
use serde::{Deserialize, Serialize};

use crate::config::Node;

mod neighbors;
mod pauses;

#[cfg(test)]
pub(crate) mod tests;

use self::neighbors::Neighbors;
use self::pauses::Pauses;

/// Everything that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    node: Node,
    endpoints: BTreeMap<Name, Endpoint>,
    routes: BTreeMap<Prefix, Route>,
    neighbors: Neighbors,
    pauses: Pauses,
}

/// A pod's attachment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// What it is called.
    pub name: Name,
    /// The pod's namespace.
    pub netns: NetnsPath,
    /// Which namespace that was when the endpoint was made: the path may come to name another.
    pub netns_id: NetnsId,
    /// The interface there.
    pub interface: InterfaceName,
    /// The pod's own addresses, at least one.
    pub addresses: Vec<PodAddress>,
    /// MTU of the interface.
    pub mtu: Mtu,
    /// Ethernet address of the interface.
    pub mac: Mac,
    /// Who asked.
    pub origin: Origin,
    /// Index of its port, from 1; 0 is the host port.
    pub port: u16,
    /// How its TAP was made.
    #[serde(default)]
    pub tap: TapFlags,
    /// The network of container runtimes it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Name>,
    /// Who gets its addresses again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_for: Option<Name>,
    /// How fast its traffic may be.
    #[serde(default, skip_serializing_if = "Bandwidth::is_unlimited")]
    pub bandwidth: Bandwidth,
}

/// A namespace by the device and inode of its file, unique while it lives, and by a number that is never given twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetnsId {
    /// Device of the namespace file system.
    pub device: u64,
    /// Inode of the namespace.
    pub inode: u64,
    /// `SO_NETNS_COOKIE`; none where the kernel, or who wrote this down, did not know it.
    #[serde(default)]
    pub cookie: Option<u64>,
}

/// What a TAP was made with; it can be opened again only in the same way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TapFlags {
    /// Several queues may be opened (`IFF_MULTI_QUEUE`).
    pub multi_queue: bool,
}

/// One change of the state.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each is the wish its name says")]
#[allow(clippy::large_enum_variant, reason = "one at a time, moved once or twice")]
pub enum Change {
    Attach(Attach, NetnsId),
    Detach(Detach),
    AddRoute(Route),
    DeleteRoute(DeleteRoute),
    ChangeNeighbors(ChangeNeighbors),
    Pause(Pause),
    Resume(Resume),
}

/// What a change did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// The endpoint is new.
    Attached(Endpoint),
    /// The endpoint is gone, and with it the routes to it.
    Detached(Endpoint, Vec<Route>),
    /// The route is new, or took the place of the same origin's earlier one.
    RouteAdded {
        /// The route.
        route: Route,
        /// The route its prefix had before.
        replaced: Option<Route>,
    },
    /// The route is gone.
    RouteDeleted(Route),
    /// Neighbours came and went; one that took the place of another is in both.
    NeighborsChanged {
        /// Those that are gone, or replaced.
        before: Vec<Neighbor>,
        /// Those that are there instead, or new.
        after: Vec<Neighbor>,
    },
    /// The pause of an origin begins, ends, or has another reason.
    PauseChanged {
        /// Whose it is.
        origin: Origin,
        /// The reason it had.
        before: Option<Why>,
        /// The reason it has.
        after: Option<Why>,
    },
}

impl State {
    /// A state without endpoints, routes and neighbours.
    pub fn new(node: Node) -> Self {
        let (endpoints, routes) = (BTreeMap::new(), BTreeMap::new());
        State { node, endpoints, routes, neighbors: Neighbors::default(), pauses: Pauses::new() }
    }

    /// Takes an endpoint that was kept, under settings that may have changed since, or refuses it.
    pub fn admit_endpoint(&mut self, endpoint: Endpoint) -> Result<(), Refusal> {
        self.check_endpoint(&endpoint)?;
        self.endpoints.insert(endpoint.name.clone(), endpoint);
        Ok(())
    }

    /// The same for a route; the endpoint it leads to comes first.
    pub fn admit_route(&mut self, route: Route) -> Result<(), Refusal> {
        self.check_route(&route)?;
        self.routes.insert(route.prefix, route);
        Ok(())
    }

    /// Applies `change` whole, or refuses it and changes nothing.
    pub fn apply(&mut self, change: Change) -> Result<Effect, Refusal> {
        match change {
            Change::Attach(attach, netns_id) => self.attach(attach, netns_id),
            Change::Detach(detach) => self.detach(&detach),
            Change::AddRoute(route) => self.add_route(route),
            Change::DeleteRoute(delete) => self.delete_route(&delete),
            Change::ChangeNeighbors(change) => self.change_neighbors(change),
            Change::Pause(Pause { why, origin }) => Ok(self.set_pause(origin, Some(why))),
            Change::Resume(Resume { origin }) => Ok(self.set_pause(origin, None)),
        }
    }

    /// Takes back what the last change did, and says so as an effect of its own.
    pub fn revert(&mut self, effect: Effect) -> Effect {
        match effect {
            Effect::Attached(endpoint) => {
                self.endpoints.remove(&endpoint.name);
                Effect::Detached(endpoint, Vec::new())
            }
            Effect::RouteAdded { route, replaced: None } => {
                self.routes.remove(&route.prefix);
                Effect::RouteDeleted(route)
            }
            Effect::RouteAdded { route, replaced: Some(old) } => {
                self.routes.insert(old.prefix, old.clone());
                Effect::RouteAdded { route: old, replaced: Some(route) }
            }
            Effect::RouteDeleted(route) => {
                self.routes.insert(route.prefix, route.clone());
                Effect::RouteAdded { route, replaced: None }
            }
            Effect::NeighborsChanged { before, after } => {
                self.put_neighbors(&after, &before);
                Effect::NeighborsChanged { before: after, after: before }
            }
            Effect::PauseChanged { origin, before, .. } => self.set_pause(origin, before),
            Effect::Detached(..) => unreachable!("what was taken away in the kernel is not given back"),
        }
    }

    /// The node's own settings.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// All endpoints in order of their names.
    pub fn endpoints(&self) -> impl ExactSizeIterator<Item = &Endpoint> {
        self.endpoints.values()
    }

    /// The endpoint of that name.
    pub fn endpoint(&self, name: &Name) -> Option<&Endpoint> {
        self.endpoints.get(name)
    }

    /// All routes in order of their prefixes.
    pub fn routes(&self) -> impl ExactSizeIterator<Item = &Route> {
        self.routes.values()
    }

    /// True when an endpoint could have the address.
    pub fn has_room_for(&self, address: IpAddr) -> bool {
        self.check_address(address).is_ok()
    }

    fn attach(&mut self, attach: Attach, netns_id: NetnsId) -> Result<Effect, Refusal> {
        self.check_pauses()?;
        let Attach { name, netns, interface, addresses, assign, mtu, mac, network, bandwidth, origin } = attach;
        let first = addresses.first().ok_or_else(|| no_address(&name))?;
        let endpoint = Endpoint {
            mac: mac.unwrap_or_else(|| mac_of(first.get())),
            mtu: mtu.unwrap_or(self.node.mtu),
            port: self.free_port()?,
            name,
            netns,
            netns_id,
            interface,
            addresses,
            origin,
            tap: TapFlags { multi_queue: true },
            network,
            keep_for: assign.and_then(|assign| assign.keep_for),
            bandwidth,
        };
        self.admit_endpoint(endpoint.clone())?;
        Ok(Effect::Attached(endpoint))
    }

    fn detach(&mut self, detach: &Detach) -> Result<Effect, Refusal> {
        let Detach { name, origin, force } = detach;
        let endpoint = self.endpoints.get(name).ok_or_else(|| no_endpoint(name))?;
        if endpoint.origin != *origin && !force {
            return Err(foreign(&format!("endpoint {name}"), endpoint.origin, *origin));
        }
        let leading = |route: &&Route| route.target == RouteTarget::Endpoint(name.clone());
        let routes: Vec<Route> = self.routes.values().filter(leading).cloned().collect();
        if let Some(route) = routes.iter().find(|route| route.origin != *origin && !force) {
            let Route { prefix, origin: holder, .. } = route;
            return Err(conflict(format!("the route {prefix}, asked for by {holder}, leads to endpoint {name}"))
                .hint(format!("have {holder} delete it first, or detach with --force")));
        }
        for route in &routes {
            self.routes.remove(&route.prefix);
        }
        let endpoint = self.endpoints.remove(name).expect("the endpoint was found above");
        Ok(Effect::Detached(endpoint, routes))
    }

    fn add_route(&mut self, route: Route) -> Result<Effect, Refusal> {
        self.check_route(&route)?;
        let replaced = self.routes.insert(route.prefix, route.clone());
        Ok(Effect::RouteAdded { route, replaced })
    }

    fn delete_route(&mut self, delete: &DeleteRoute) -> Result<Effect, Refusal> {
        let DeleteRoute { prefix, origin, force } = delete;
        let route = self.routes.get(prefix).ok_or_else(|| {
            Refusal::new(Code::NotFound, format!("there is no route for {prefix}"))
                .hint("see `podswitch show routes` for those there are")
        })?;
        if route.origin != *origin && !force {
            return Err(foreign(&format!("the route {prefix}"), route.origin, *origin));
        }
        let route = self.routes.remove(prefix).expect("the route was found above");
        Ok(Effect::RouteDeleted(route))
    }

    /// Says no to an endpoint that is wrong in itself or collides with what is there.
    fn check_endpoint(&self, endpoint: &Endpoint) -> Result<(), Refusal> {
        let Endpoint { name, interface, netns, netns_id, addresses, port, .. } = endpoint;
        sound(endpoint)?;
        if let Some(holder) = self.endpoints.get(name) {
            return Err(conflict(format!("the name {name} is in use by an endpoint that {} asked for", holder.origin))
                .hint(format!("detach it first: `podswitch detach {name}`")));
        }
        if self.endpoints.len() >= ENDPOINTS_MAX {
            return Err(Refusal::new(Code::Unavailable, format!("all {ENDPOINTS_MAX} ports are in use")));
        }
        for other in self.endpoints.values() {
            if other.port == *port {
                return Err(conflict(format!("port {port} is in use by endpoint {}", other.name)));
            }
            if other.netns_id.is(*netns_id) && other.interface == *interface {
                return Err(conflict(format!("{interface} of {netns} is in use by endpoint {}", other.name)));
            }
        }
        addresses.iter().try_for_each(|address| self.check_address(address.get()))
    }

    fn check_address(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.node.underlay.addresses.contains(&address) {
            return Err(conflict(format!("{address} is this node's own address towards others")));
        }
        if self.node.router_addresses.contains(&address) {
            return Err(conflict(format!("{address} is the router address of this node"))
                .hint("choose another, or set router_address in the configuration"));
        }
        if let Some(holder) = self.holder(address) {
            return Err(conflict(format!("{address} is in use by endpoint {}", holder.name)));
        }
        if let Some(Route { prefix, origin, .. }) = self.routes.get(&Prefix::host(address)) {
            return Err(conflict(format!("{origin} asked for a route {prefix}"))
                .hint(format!("delete it first: `podswitch route del {prefix}`")));
        }
        let alone = Prefix::host(address);
        if let Some(other) = self.neighbors.overlapping(alone).filter(|other| other.subnet == alone) {
            return Err(conflict(format!("{address} is a pod of the neighbour at {}", other.via)));
        }
        Ok(())
    }

    /// Says no to a route that is wrong in itself or collides with what is there.
    fn check_route(&self, route: &Route) -> Result<(), Refusal> {
        let Route { prefix, target, origin } = route;
        let address = prefix.address();
        let last = control::unroutable(prefix.net().broadcast());
        if let Some(kind) = control::unroutable(address).filter(|kind| last == Some(kind)) {
            return Err(Refusal::new(Code::Invalid, format!("{prefix} is {kind}: no packet is routed there")));
        }
        if let RouteTarget::Endpoint(name) = target
            && !self.endpoints.contains_key(name)
        {
            return Err(no_endpoint(name));
        }
        match self.routes.get(prefix) {
            Some(holder) if holder.origin != *origin => {
                return Err(conflict(format!("{} asked for a route {prefix} before {origin}", holder.origin)));
            }
            None if self.routes.len() >= ROUTES_MAX => {
                return Err(Refusal::new(
                    Code::Unavailable,
                    format!("the switch holds {ROUTES_MAX} routes, its limit"),
                ));
            }
            _ => {}
        }
        if self.node.pod_ranges.contains(prefix) {
            return Err(conflict(format!("{prefix} is a pod range of this node")).hint("route a part of it"));
        }
        // A default route is for what nobody else has.
        if let Some(Neighbor { subnet, origin, .. }) =
            self.neighbors.overlapping(*prefix).filter(|_| prefix.length() > 0)
        {
            return Err(conflict(format!("the route {prefix} overlaps the neighbour {subnet}, asked for by {origin}")));
        }
        if *prefix != Prefix::host(address) {
            return Ok(());
        }
        if self.node.router_addresses.contains(&address) {
            return Err(conflict(format!("{address} is the router address of this node")));
        }
        match self.holder(address) {
            Some(holder) => Err(conflict(format!("{address} is endpoint {}'s own address", holder.name))),
            None => Ok(()),
        }
    }

    fn holder(&self, address: IpAddr) -> Option<&Endpoint> {
        self.endpoints.values().find(|endpoint| endpoint.addresses.iter().any(|own| own.get() == address))
    }

    /// The lowest index that is free, from 1.
    fn free_port(&self) -> Result<u16, Refusal> {
        let mut taken = [false; ENDPOINTS_MAX + 1];
        for endpoint in self.endpoints.values() {
            taken[usize::from(endpoint.port)] = true;
        }
        let free = (1..=ENDPOINTS_MAX).find(|&port| !taken[port]);
        free.map(|port| port as u16)
            .ok_or_else(|| Refusal::new(Code::Unavailable, format!("all {ENDPOINTS_MAX} ports are in use")))
    }
}

impl NetnsId {
    /// True when both mean one namespace, as far as is known of them.
    pub fn is(self, other: NetnsId) -> bool {
        let differ = self.cookie.zip(other.cookie).is_some_and(|(one, other)| one != other);
        (self.device, self.inode) == (other.device, other.inode) && !differ
    }
}

impl Endpoint {
    /// The pod's next hops, one for each family it has an address of.
    pub fn gateways(&self) -> Vec<IpAddr> {
        let has = |family: fn(&IpAddr) -> bool| self.addresses.iter().any(|address| family(&address.get()));
        let v4 = has(IpAddr::is_ipv4).then_some(IpAddr::V4(GATEWAY_V4));
        let v6 = has(IpAddr::is_ipv6).then_some(IpAddr::V6(GATEWAY_V6));
        v4.into_iter().chain(v6).collect()
    }
}

/// Most endpoints at a time.
pub const ENDPOINTS_MAX: usize = 4095;
/// Most addresses of one endpoint.
pub const ADDRESSES_MAX: usize = 16;
/// Most routes at a time.
pub const ROUTES_MAX: usize = 1 << 21;
/// Every pod's IPv4 next hop, as Calico's.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Every pod's IPv6 next hop: link-local, made from [`Mac::GATEWAY`] (RFC 4291, appendix A).
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// Says no to an endpoint that is wrong whatever else there is.
fn sound(endpoint: &Endpoint) -> Result<(), Refusal> {
    let Endpoint { name, addresses, mtu, mac, port, .. } = endpoint;
    let invalid = |message: String| Refusal::new(Code::Invalid, message);
    if addresses.is_empty() {
        return Err(no_address(name));
    }
    if addresses.len() > ADDRESSES_MAX {
        return Err(invalid(format!("endpoint {name} has {} addresses; {ADDRESSES_MAX} are allowed", addresses.len())));
    }
    if let Some(twice) = addresses.iter().enumerate().find(|(at, address)| addresses[..*at].contains(address)) {
        return Err(invalid(format!("the address {} is given twice", twice.1)));
    }
    if mtu.get() < Mtu::MIN_IPV6 && addresses.iter().any(|address| address.get().is_ipv6()) {
        return Err(invalid(format!("an MTU of {mtu} is too small for IPv6"))
            .hint(format!("give at least {}, or no IPv6 address", Mtu::MIN_IPV6)));
    }
    if mac.is_group() || [Mac::ZERO, Mac::GATEWAY].contains(mac) {
        return Err(invalid(format!("{mac} cannot be a pod's Ethernet address"))
            .hint("leave --mac out, and one is made from the address"));
    }
    if !(1..=ENDPOINTS_MAX).contains(&usize::from(*port)) {
        return Err(invalid(format!("port {port} of endpoint {name} is not between 1 and {ENDPOINTS_MAX}")));
    }
    Ok(())
}

/// A locally administered address that tells the pod's: `02:00` and the IPv4 address, or `02:06` and the last four
/// bytes of the IPv6 one. Each pod is alone on its link, so two alike do no harm.
fn mac_of(address: IpAddr) -> Mac {
    let (kind, [a, b, c, d]) = match address {
        IpAddr::V4(v4) => (0, v4.octets()),
        IpAddr::V6(v6) => (6, (u128::from(v6) as u32).to_be_bytes()),
    };
    Mac([2, kind, a, b, c, d])
}

fn conflict(message: String) -> Refusal {
    Refusal::new(Code::Conflict, message)
}

fn foreign(what: &str, holder: Origin, asker: Origin) -> Refusal {
    conflict(format!("{what} was asked for by {holder}, not by {asker}")).hint("take it back all the same with --force")
}

fn no_address(name: &Name) -> Refusal {
    Refusal::new(Code::Invalid, format!("endpoint {name} has no address")).hint("give at least one with --address")
}

fn no_endpoint(name: &Name) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is no endpoint {name}"))
        .hint("see `podswitch show ports` for those there are")
}

//! Changes put into effect: endpoints come and go, routes are set and taken back.
//!
//! A change is applied to the state, kept, then brought into force; when that fails, state and store are put back. Only
//! a detach goes the other way round, effect first: a crash in between leaves a note without an interface, which the
//! next start forgets, and never an interface without a note. A purge takes everything away.

use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use control::{
    Attach, Attached, Code, Detach, Detached, Done, Name, Origin, Purged, Refusal, Reply, Route, RouteTarget,
};
use host::{Namespace, Netlink, Steering, Tap};
use packet::{Mac, Prefix};
use route_table::NextHop;

use crate::ipam;
use crate::limits::Limits;
use crate::masquerade;
use crate::port::{Link, Port, PortCounters};
use crate::state::{Change, Effect, Endpoint, NetnsId};
use crate::wire::{
    self,
    host_routes::{self, HostRoutes},
};
use crate::world::{BLACKHOLE, HOST, UNREACHABLE, hop_of};

use super::error::{from_host, report};
use super::{Engine, views};

impl Engine {
    /// Makes an endpoint with its interface, in the namespace behind `netns` or else at its path; when this returns, its
    /// first packet passes.
    pub(super) fn attach(&mut self, mut attach: Attach, netns: Option<OwnedFd>) -> Result<Attached, Refusal> {
        let path = attach.netns.as_path();
        let namespace = netns.map_or_else(|| Namespace::open(path), |netns| Namespace::of(netns, path));
        let namespace = namespace.map_err(|error| from_host(Code::Invalid, &error))?;
        let own = Namespace::current().map_err(|error| from_host(Code::Internal, &error))?;
        if namespace.identity() == own.identity() {
            let message = format!("{} is the node's own namespace: a pod needs one of its own", attach.netns);
            return Err(Refusal::new(Code::Invalid, message));
        }
        if let Some(assign) = &attach.assign {
            let given = mem::take(&mut attach.addresses);
            attach.addresses = ipam::complete(given, assign, (&self.state, &self.memory, &self.config.reserved))?;
        }
        let effect = self.state.apply(Change::Attach(attach, netns_id(&namespace)))?;
        let Effect::Attached(endpoint) = &effect else { unreachable!("an attach has no other effect") };
        let endpoint = endpoint.clone();
        let made = self.keep(&effect).and_then(|()| self.plug(&endpoint, &namespace));
        if made.is_err() {
            self.revert(effect);
        }
        made
    }

    /// Takes back an endpoint whose client has gone without its answer: it will never take it back itself.
    pub(super) fn forsake(&mut self, name: Name) {
        tracing::warn!(endpoint = %name, "detached: who asked for it has gone");
        // It was attached a moment ago, and nothing can hold it yet.
        let _ = self.detach(Detach { name, origin: Origin::Cli, force: true });
    }

    /// Takes an endpoint off; its interface goes when the last handle of its port is dropped.
    pub(super) fn detach(&mut self, detach: Detach) -> Result<(Detached, Option<Arc<Port>>), Refusal> {
        let effect = self.state.apply(Change::Detach(detach))?;
        let Effect::Detached(endpoint, routes) = &effect else { unreachable!("a detach has no other effect") };
        let routes: Vec<Prefix> = routes.iter().map(|route| route.prefix).collect();
        self.memory.remember(endpoint);
        let port = self.unplug(endpoint, &routes);
        if let Err(refusal) = self.keep(&effect) {
            tracing::warn!(endpoint = %endpoint.name, "detached, but not written down yet: {refusal}");
            self.store.distrust();
        }
        Ok((Detached { routes }, port))
    }

    /// A change of routes, whose effect is in the tables alone, or of pauses, which have none but in the state.
    pub(super) fn change(&mut self, change: Change) -> Result<Reply, Refusal> {
        let effect = self.state.apply(change)?;
        let done = self.keep(&effect).and_then(|()| self.route(&effect));
        if done.is_err() {
            self.revert(effect);
        }
        done.map(|()| Reply::Done(Done {}))
    }

    fn route(&mut self, effect: &Effect) -> Result<(), Refusal> {
        match effect {
            Effect::RouteAdded { route, .. } => {
                let hop = self.next_hop(route);
                self.tables.set(route.prefix, hop)
            }
            Effect::RouteDeleted(route) => {
                self.tables.take_back(&[route.prefix]);
                Ok(())
            }
            Effect::PauseChanged { .. } => Ok(()),
            Effect::Attached(_) | Effect::Detached(..) | Effect::NeighborsChanged { .. } => {
                unreachable!("an endpoint or a neighbour is no route")
            }
        }
    }

    /// Puts state and store back. The refusal that led here is what the client must hear.
    pub(super) fn revert(&mut self, effect: Effect) {
        let undone = self.state.revert(effect);
        if let Err(refusal) = self.keep(&undone) {
            tracing::warn!("undone, but not written down yet: {refusal}");
            self.store.distrust();
        }
    }

    pub(super) fn keep(&mut self, effect: &Effect) -> Result<(), Refusal> {
        self.store.keep(effect, &self.state).map_err(|error| {
            Refusal::new(Code::Unavailable, report(&error))
                .hint(format!("see that {} can be written and has room", self.config.state_dir.display()))
        })
    }

    /// Makes the endpoint's interface and brings its port into force.
    fn plug(&mut self, endpoint: &Endpoint, namespace: &Namespace) -> Result<Attached, Refusal> {
        let spare = self.spare.take();
        let tap = wire::pod(endpoint, namespace, (self.crew.queues(), self.tables.neighbors.has_tunnels()))
            .map_err(|error| no_interface(endpoint, namespace, &error))?;
        let port = self.pod_port(endpoint, tap, spare).map_err(|error| from_host(Code::Internal, &error))?;
        let (mac, abilities) = (port.mac, views::abilities(port.abilities));
        self.tables.add_ports(vec![port])?;
        // Last, since up to here the interface goes by itself, whatever happens.
        if let Err(refusal) = self.set_persistent(endpoint.port, true) {
            drop(self.unplug(endpoint, &[]));
            return Err(refusal);
        }
        self.fresh.add(endpoint.port, Instant::now());
        let Endpoint { port, interface, addresses, mtu, .. } = endpoint.clone();
        Ok(Attached { port, interface, mac, addresses, gateways: endpoint.gateways(), mtu, abilities })
    }

    /// Takes an endpoint's port out of force, and gives the last handle: its interface goes with that.
    pub(super) fn unplug(&mut self, endpoint: &Endpoint, routes: &[Prefix]) -> Option<Arc<Port>> {
        self.end_trace_of(endpoint.port);
        let own = endpoint.addresses.iter().map(|address| Prefix::host(address.get()));
        let gone: Vec<Prefix> = own.chain(routes.iter().copied()).collect();
        let port = self.tables.remove_port(endpoint.port, &gone);
        // What the slow path still holds speaks of the port by its number, which the next endpoint may get.
        self.serve_slow_path();
        self.tables.flush_answers();
        let port = port?;
        self.departed += &port.counters.read();
        if let Link::Tap(tap) = &port.link {
            // A device whose namespace is gone is gone already.
            let _ = tap.set_persistent(false);
        }
        Some(port)
    }

    /// Removes all that was ever made but the state folder, which goes when the switch has ended.
    pub(super) fn purge(&mut self) -> Result<Purged, Refusal> {
        let mut removed = Vec::new();
        let endpoints: Vec<Endpoint> = self.state.endpoints().cloned().collect();
        for endpoint in endpoints {
            drop(self.unplug(&endpoint, &[]));
            removed.push(format!("{} of {}", endpoint.interface, endpoint.netns));
        }
        self.set_persistent(0, false)?;
        drop(self.tables.remove_port(0, &[]));
        removed.push(self.config.node.host_port.to_string());
        wire::remove_routes(&self.config.node).map_err(|error| from_host(Code::Internal, &error))?;
        let routes = HostRoutes::open(&self.config.node);
        let gone = routes.and_then(|mut routes| self.state.neighbors().try_for_each(|one| routes.remove(one)));
        gone.map_err(|error| from_host(Code::Internal, &error))?;
        removed.extend(
            self.state.neighbors().filter_map(host_routes::route_by_node).map(|route| format!("route {route}")),
        );
        if self.config.masquerade {
            masquerade::remove(self.config.node.host_port.as_str())
                .map_err(|error| Refusal::new(Code::Internal, report(&error)))?;
            removed.push(format!("table inet {}", self.config.node.host_port));
        }
        removed.push(self.config.state_dir.display().to_string());
        (self.ending, self.purged) = (true, true);
        Ok(Purged { removed })
    }

    /// Lets a port's device outlive this process, or not.
    pub(super) fn set_persistent(&self, port: u16, on: bool) -> Result<(), Refusal> {
        let link = self.tables.world().port(port).map(|port| &port.link);
        let Some(Link::Tap(tap)) = link else { return Ok(()) };
        tap.set_persistent(on).map_err(|error| from_host(Code::Internal, &error))
    }

    /// The port of an endpoint's TAP, with its limits and, if it was made before, its steering.
    pub(super) fn pod_port(&self, endpoint: &Endpoint, tap: Tap, spare: Option<Steering>) -> Result<Port, host::Error> {
        let keeper = self.tables.keeper(endpoint.port, self.crew.pipeline);
        let addresses = || endpoint.addresses.iter().map(|address| address.get());
        Ok(Port {
            number: endpoint.port,
            name: endpoint.name.to_string(),
            host: false,
            mac: tap.mac()?,
            gateway: Mac::GATEWAY,
            mtu: endpoint.mtu.get(),
            sources_v4: addresses()
                .filter_map(|address| if let std::net::IpAddr::V4(v4) = address { Some(v4.into()) } else { None })
                .collect(),
            sources_v6: addresses()
                .filter_map(|address| if let std::net::IpAddr::V6(v6) = address { Some(v6.into()) } else { None })
                .collect(),
            strict_mac: self.config.strict_mac,
            abilities: tap.abilities(),
            steering: self.crew.steer(&tap, spare),
            limits: Limits::new(endpoint.bandwidth, endpoint.port, &keeper),
            link: Link::Tap(tap),
            counters: PortCounters::new(self.crew.writers()),
        })
    }

    pub(super) fn next_hop(&self, route: &Route) -> NextHop {
        match &route.target {
            RouteTarget::Host => HOST,
            RouteTarget::Unreachable => UNREACHABLE,
            RouteTarget::Blackhole => BLACKHOLE,
            RouteTarget::Endpoint(name) => {
                hop_of(self.state.endpoint(name).expect("the state refuses routes to endpoints it does not have").port)
            }
        }
    }
}

/// A namespace as the state knows it.
pub(crate) fn netns_id(namespace: &Namespace) -> NetnsId {
    let identity = namespace.identity();
    let cookie = Netlink::open_in(namespace).ok().and_then(|netlink| netlink.namespace_cookie());
    NetnsId { device: identity.device, inode: identity.inode, cookie }
}

/// Why an endpoint's interface was not made; what was made of it is gone again.
fn no_interface(endpoint: &Endpoint, namespace: &Namespace, error: &host::Error) -> Refusal {
    let (netns, name) = (&endpoint.netns, &endpoint.interface);
    let is_there = || Netlink::open_in(namespace).is_ok_and(|mut pod| pod.link(name.as_str()).is_ok());
    let is_taken = error.is_exists() || matches!(error, host::Error::TapBusy { .. });
    if is_taken && is_there() {
        return Refusal::new(Code::Conflict, format!("{netns} has an interface {name} that is not the switch's"))
            .hint("delete it, or ask for another with --ifname");
    }
    from_host(Code::Conflict, error)
}

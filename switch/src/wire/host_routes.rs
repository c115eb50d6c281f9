//! The host's own routes to the pods of other nodes, so that the node itself reaches them.
//!
//! Of `host-gw`: `SUBNET via NODE`, by whatever link leads to the node; packets of pods take it too. Behind a tunnel:
//! by the host port, as those of pod ranges, and from the router address, to which the other node knows the way back. Of origin
//! `host-import`: none, for the host has one of its own, from which that neighbour was made.
//!
//! They have the protocol number of all our routes. What stands there and is not ours is never replaced.

use std::collections::HashMap;

use control::{Backend, Neighbor, Origin};
use host::{Error, Netlink, Route, RouteKind};
use packet::Prefix;

use super::{gateway_of, unless_missing};
use crate::config::Node;

/// A conversation with the kernel about these routes.
#[derive(Debug)]
pub struct HostRoutes<'n> {
    own: Netlink,
    node: &'n Node,
    /// Index of the host port, while there is one.
    host_port: Option<u32>,
    /// The host's routes, as they were when one was first in the way.
    listed: Option<HashMap<Prefix, Route>>,
}

impl<'n> HostRoutes<'n> {
    /// Begins it, in the namespace of the host port.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn open(node: &'n Node) -> Result<Self, Error> {
        let mut own = Netlink::open()?;
        let host_port = unless_missing(own.link(node.host_port.as_str()))?.map(|link| link.index);
        Ok(HostRoutes { own, node, host_port, listed: None })
    }

    /// Makes the route to a neighbour, in the place of one of ours that led elsewhere.
    ///
    /// # Errors
    /// What the kernel refused; [`Error::is_exists`] where somebody else's route is in the way.
    pub fn make(&mut self, neighbor: &Neighbor) -> Result<(), Error> {
        let Some(route) = self.route(neighbor) else { return Ok(()) };
        match self.own.add_route(&route) {
            Err(error) if error.is_exists() && self.is_ours(route.prefix)? => self.own.replace_route(&route),
            made => made,
        }
    }

    /// Makes those that are missing: the kernel drops them when a link goes down or loses its address.
    ///
    /// # Errors
    /// The first refusal; the others were tried all the same.
    pub fn mend<'a>(&mut self, neighbors: impl Iterator<Item = &'a Neighbor>) -> Result<(), Error> {
        let listed = list(&mut self.own)?;
        let missing = neighbors.filter(|neighbor| !listed.contains_key(&neighbor.subnet));
        let refused = missing.filter_map(|neighbor| self.make(neighbor).err());
        // All of them, hence no short cut.
        refused.reduce(|first, _| first).map_or(Ok(()), Err)
    }

    /// Removes the route to a neighbour; one that is gone is no error.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn remove(&mut self, neighbor: &Neighbor) -> Result<(), Error> {
        // What was a neighbour's may be this node's own by now.
        let route = self.route(neighbor).filter(|route| !self.node.pod_ranges.contains(&route.prefix));
        route.map_or(Ok(()), |route| unless_missing(self.own.delete_route(&route)).map(drop))
    }

    fn route(&self, neighbor: &Neighbor) -> Option<Route> {
        if neighbor.backend == Backend::HostGw || neighbor.origin == Origin::HostImport {
            return route_by_node(neighbor);
        }
        let gateway = gateway_of(neighbor.subnet);
        let source = self.node.router_addresses.iter().copied().find(|source| source.is_ipv4() == gateway.is_ipv4());
        Some(Route { onlink: true, source, ..Route::via(neighbor.subnet, gateway, self.host_port?) })
    }

    /// Whether the route of that prefix is one to a neighbour. Those of other switches' pod ranges go by other host
    /// ports.
    fn is_ours(&mut self, prefix: Prefix) -> Result<bool, Error> {
        let listed = match &self.listed {
            Some(listed) => listed,
            None => self.listed.insert(list(&mut self.own)?),
        };
        let ours = |route: &Route| {
            route.protocol == Route::PROTOCOL
                && route.kind == RouteKind::Unicast
                && (!route.onlink || route.link == self.host_port)
        };
        Ok(listed.get(&prefix).is_some_and(ours))
    }
}

/// The route to a neighbour of `host-gw`, which outlives the host port; none of the others.
pub fn route_by_node(neighbor: &Neighbor) -> Option<Route> {
    let Neighbor { subnet, via, backend, origin, .. } = neighbor;
    (*backend == Backend::HostGw && *origin != Origin::HostImport)
        .then(|| Route { link: None, ..Route::via(*subnet, *via, 0) })
}

/// The routes of the main table that one of ours would be in the place of.
fn list(own: &mut Netlink) -> Result<HashMap<Prefix, Route>, Error> {
    let usual = |route: &Route| route.table == Route::MAIN && [0, METRIC_IPV6].contains(&route.metric);
    Ok(own.routes()?.into_iter().filter(usual).map(|route| (route.prefix, route)).collect())
}

/// What the kernel makes of a metric of 0.
const METRIC_IPV6: u32 = 1024;

//! Routes of the host's own table that the switch is to have too: what a routing daemon of the node has learnt, and what somebody
//! put there by hand.
//!
//! Those of the main table count that lie in the cluster's network and are neither podswitch's nor the kernel's own. Elsewhere
//! the host's table decides anyway, for the switch sends there what it knows nothing of.
//!
//! | the host's route | in the switch |
//! |---|---|
//! | by a node that has a lease, where nodes reach each other through tunnels | a neighbour behind the same tunnel |
//! | by anybody else, on a link, or of a part of this node's own subnet or another such route | a route to the host |
//! | `unreachable`, `blackhole` | the same |
//!
//! A lease goes before a route. All of it has the origin `host-import`, and of such neighbours the switch makes no route of the
//! host's: one is there. A route of several next hops is not seen; packets follow it by the host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use control::{Backend, Neighbor, Origin, RouteTarget};
use host::{Netlink, Route, RouteKind, RouteWatch};
use packet::{Mac, Prefix};

use crate::desired::{Desired, Here};
use crate::error::Error;
use crate::network::Network;

/// Says all routes that may count, from a thread of its own, each time they are others, until nobody listens.
///
/// # Errors
/// [`Error::Host`] and [`Error::System`]
pub fn watch<T: Send + 'static>(
    network: &Network,
    sender: Sender<T>,
    wrap: impl Fn(Vec<Route>) -> T + Send + 'static,
) -> Result<(), Error> {
    let pools = network.pools();
    let (mut watch, mut netlink) = (RouteWatch::open()?, Netlink::open()?);
    let mut known = None;
    let mut look = move || -> Result<bool, host::Error> {
        let began = Instant::now();
        let found = relevant(netlink.routes()?, &pools);
        let told = known.as_ref() == Some(&found) || sender.send(wrap(found.clone())).is_ok();
        known = Some(found);
        // Who has very many routes is not made to list them all the time.
        thread::sleep((began.elapsed() * 10).max(PAUSE_MIN));
        watch.wait()?;
        Ok(told)
    };
    let turn = move || {
        loop {
            match look() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!("{}", Error::Host(error).report());
                    thread::sleep(RETRY_EVERY);
                }
            }
        }
    };
    let started = thread::Builder::new().name("host-routes".to_owned()).spawn(turn);
    started.map(drop).map_err(|source| Error::System { action: "start a thread", source })
}

/// Those that may count, the preferred one of each prefix, in order of prefixes, wider ones first.
fn relevant(mut routes: Vec<Route>, pools: &[Prefix]) -> Vec<Route> {
    let lies_within = |prefix: Prefix| pools.iter().any(|pool| pool.covers(prefix));
    routes.retain(|route| {
        route.table == Route::MAIN
            && route.kind != RouteKind::Local
            && ![Route::PROTOCOL, KERNEL].contains(&route.protocol)
            && lies_within(route.prefix)
    });
    routes.sort_by_key(|route| (route.prefix, route.metric));
    routes.dedup_by_key(|route| route.prefix);
    routes
}

impl Desired {
    /// Adds what follows from routes of the host's.
    pub fn import(&mut self, routes: &[Route], here: &Here) {
        let hops: BTreeSet<IpAddr> = routes.iter().filter_map(|route| route.via).collect();
        let nodes = self.neighbors.values().filter(|neighbor| hops.contains(&neighbor.via));
        let nodes: BTreeMap<IpAddr, (Backend, Option<Mac>)> =
            nodes.map(|neighbor| (neighbor.via, (neighbor.backend, neighbor.mac))).collect();
        let mut wider = None;
        for route in routes {
            let subnet = route.prefix;
            // This node's own subnet, or more: as daemons write it that tell others of a subnet as a whole.
            if here.own.each().any(|own| subnet.covers(own)) {
                continue;
            }
            if let Some(other) = self.overlapping(subnet) {
                self.pass_over(&route.to_string(), format!("it overlaps {other}, which is another node's"));
                continue;
            }
            let own = here.own.each().any(|own| own.covers(subnet));
            // A neighbour shares no address with a route; a wider one came just before, or before others within it.
            let within = wider.is_some_and(|wider: Prefix| wider.covers(subnet));
            let node = route.via.filter(|_| !own && !within).and_then(|via| Some((via, *nodes.get(&via)?)));
            match (route.kind, node) {
                (RouteKind::Unreachable, _) => drop(self.routes.insert(subnet, RouteTarget::Unreachable)),
                (RouteKind::Blackhole, _) => drop(self.routes.insert(subnet, RouteTarget::Blackhole)),
                (_, Some((via, (backend, mac)))) if backend != Backend::HostGw => {
                    let neighbor = Neighbor { subnet, via, backend, mac, origin: Origin::HostImport };
                    self.neighbors.insert(subnet, neighbor);
                    continue;
                }
                _ => drop(self.routes.insert(subnet, RouteTarget::Host)),
            }
            wider = wider.filter(|_| within).or(Some(subnet));
        }
    }
}

/// The kernel's own routes, which follow from addresses.
const KERNEL: u8 = 2;
const PAUSE_MIN: Duration = Duration::from_millis(20);
const RETRY_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::View;

    fn route(prefix: &str, via: Option<&str>) -> Route {
        let route = Route::on_link(prefix.parse().unwrap(), 2);
        Route { via: via.map(|via| via.parse().unwrap()), protocol: 12, ..route }
    }

    fn imported(kind: &str, routes: &[Route]) -> Desired {
        let network: Network = format!(r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"{kind}"}}}}"#).parse().unwrap();
        let here = Here {
            own: "10.5.1.0-24".parse().unwrap(),
            addresses: vec!["192.168.9.1".parse().unwrap()],
            links: vec!["192.168.9.0/24".parse().unwrap()],
        };
        let data = r#""BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:02"}"#;
        let data = if kind == "vxlan" { data.to_owned() } else { format!(r#""BackendType":"{kind}""#) };
        let lease = format!(r#"{{"PublicIP":"192.168.9.2","PublicIPv6":null,{data}}}"#);
        let view = View::new([("10.5.2.0-24".to_owned(), lease)].into());
        let mut desired = Desired::new(&view, &network, &here);
        assert_eq!(desired.neighbors.len(), usize::from(kind != "alloc"));
        desired.import(&relevant(routes.to_vec(), &network.pools()), &here);
        desired
    }

    #[test]
    fn a_route_by_a_node_takes_the_tunnel_to_it_and_others_go_by_the_host() {
        let routes = [route("10.5.9.0/24", Some("192.168.9.2")), route("10.5.10.0/24", Some("192.168.9.3"))];
        let found = imported("vxlan", &routes);
        let text = serde_json::to_string(&found.neighbors[&routes[0].prefix]).unwrap();
        let expected = r#"{"subnet":"10.5.9.0/24","via":"192.168.9.2","backend":"vxlan","mac":"02:00:00:00:00:02","origin":"host-import"}"#;
        assert_eq!(text, expected);
        assert_eq!(found.routes, [(routes[1].prefix, RouteTarget::Host)].into());
        let part = route("10.5.10.128/25", Some("192.168.9.2"));
        let found = imported("vxlan", &[part, routes[1]]);
        let hosts = [routes[1].prefix, part.prefix].map(|prefix| (prefix, RouteTarget::Host));
        assert_eq!(found.routes, hosts.into(), "a neighbour within a route would be refused");
        for kind in ["host-gw", "alloc"] {
            let found = imported(kind, &routes);
            assert_eq!(found.routes, routes.iter().map(|route| (route.prefix, RouteTarget::Host)).collect());
        }
    }

    #[test]
    fn routes_that_refuse_refuse_in_the_switch_too() {
        let with = |kind, prefix| Route { kind, ..route(prefix, None) };
        let routes = [with(RouteKind::Unreachable, "10.5.9.0/24"), with(RouteKind::Blackhole, "10.5.1.7/32")];
        let found = imported("vxlan", &routes);
        let expected = [(routes[1].prefix, RouteTarget::Blackhole), (routes[0].prefix, RouteTarget::Unreachable)];
        assert_eq!(found.routes, expected.into());
    }

    #[test]
    fn what_is_elsewhere_ours_the_kernels_or_this_nodes_subnet_does_not_count() {
        let plain = || route("10.5.9.0/24", Some("192.168.9.3"));
        let routes = [
            route("10.6.9.0/24", Some("192.168.9.2")),
            route("0.0.0.0/0", Some("192.168.9.2")),
            route("10.5.1.0/24", Some("192.168.9.2")),
            Route { protocol: Route::PROTOCOL, ..plain() },
            Route { protocol: KERNEL, ..plain() },
            Route { table: 1000, ..plain() },
            Route { kind: RouteKind::Local, ..plain() },
        ];
        for route in routes {
            let found = imported("vxlan", &[route]);
            assert_eq!((found.neighbors.len(), found.routes.len(), found.passed_over.len()), (1, 0, 0), "{route:?}");
        }
    }

    #[test]
    fn a_part_of_this_nodes_subnet_goes_by_the_host_and_of_anothers_is_passed_over() {
        let found = imported("vxlan", &[route("10.5.1.7/32", Some("192.168.9.2")), route("10.5.2.128/25", None)]);
        assert_eq!(found.routes, [("10.5.1.7/32".parse().unwrap(), RouteTarget::Host)].into());
        assert_eq!(found.passed_over[0].key, "10.5.2.128/25 on link 2");
        assert!(found.passed_over[0].why.contains("10.5.2.0/24"));
    }

    #[test]
    fn of_two_routes_to_one_prefix_the_preferred_one_counts() {
        let (near, far) = (route("10.5.9.0/24", Some("192.168.9.3")), route("10.5.9.0/24", Some("192.168.9.2")));
        let found = imported("vxlan", &[Route { metric: 20, ..far }, Route { metric: 10, ..near }]);
        assert_eq!((found.neighbors.len(), found.routes.len()), (1, 1));
    }
}

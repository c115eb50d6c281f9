//! Each rule by example, and all of them against a model that is slow and obvious.

use std::collections::BTreeSet;

use proptest::prelude::*;

use self::neighbors::{Model as NeighborModel, any_change as any_change_of_neighbors, neighbor, underlay, vxlan};
use super::*;
use crate::config::Underlay;

pub(crate) mod neighbors;

fn node() -> Node {
    node_of(&["10.244.0.0/24", "fd00:10:244::/64"])
}

/// A node of these pod ranges, its router addresses the first of each.
pub(crate) fn node_of(ranges: &[&str]) -> Node {
    let ranges: Vec<Prefix> = ranges.iter().map(|text| text.parse().unwrap()).collect();
    let first = |range: &Prefix| range.net().hosts().find(|&address| address != range.address()).unwrap();
    Node {
        router_addresses: ranges.iter().map(first).collect(),
        pod_ranges: ranges,
        mtu: Mtu::ETHERNET,
        host_port: "podswitch0".parse().unwrap(),
        underlay: underlay(),
    }
}

fn wish(name: &str, netns: u64, addresses: &[&str]) -> (Attach, NetnsId) {
    let attach = Attach {
        name: name.parse().unwrap(),
        netns: format!("ns{netns}").parse().unwrap(),
        interface: InterfaceName::default(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        assign: None,
        mtu: None,
        mac: None,
        network: None,
        bandwidth: Bandwidth::default(),
        origin: Origin::Cli,
    };
    (attach, NetnsId { device: 4, inode: netns, cookie: Some(netns) })
}

pub(crate) fn attach(name: &str, netns: u64, addresses: &[&str]) -> Change {
    let (attach, id) = wish(name, netns, addresses);
    Change::Attach(attach, id)
}

pub(crate) fn route(prefix: &str, target: &str, origin: Origin) -> Change {
    Change::AddRoute(Route { prefix: prefix.parse().unwrap(), target: target.parse().unwrap(), origin })
}

pub(crate) fn detach(name: &str, origin: Origin, force: bool) -> Change {
    Change::Detach(Detach { name: name.parse().unwrap(), origin, force })
}

pub(crate) fn unroute(prefix: &str, origin: Origin, force: bool) -> Change {
    Change::DeleteRoute(DeleteRoute { prefix: prefix.parse().unwrap(), origin, force })
}

pub(crate) fn pause(why: &str, origin: Origin) -> Change {
    Change::Pause(Pause { why: why.parse().unwrap(), origin })
}

pub(crate) fn resume(origin: Origin) -> Change {
    Change::Resume(Resume { origin })
}

/// Two endpoints, `a` and `b`, routes of two origins, and two nodes with three neighbours.
pub(crate) fn populated() -> State {
    let mut state = State::new(node());
    for change in [
        attach("a", 1, &["10.244.0.2"]),
        attach("b", 2, &["10.244.0.3", "fd00:10:244::3"]),
        route("192.0.2.0/24", "endpoint:a", Origin::Cli),
        route("198.51.100.0/24", "endpoint:b", Origin::Agent),
        route("0.0.0.0/0", "host", Origin::Agent),
        vxlan("10.244.1.0/24", "192.168.9.2", Origin::Agent),
        vxlan("fd00:10:244:1::/64", "192.168.9.2", Origin::Agent),
        neighbor("10.244.2.0/24", "192.168.9.3", Origin::Cli),
    ] {
        state.apply(change).unwrap();
    }
    state
}

/// Refused with `code` and a message naming every one of `named`, and nothing changed.
fn refused(change: Change, code: Code, named: &[&str]) {
    let before = populated();
    let mut state = before.clone();
    let refusal = state.apply(change).unwrap_err();
    assert_eq!(refusal.code, code, "{refusal}");
    for name in named {
        assert!(refusal.message.contains(name), "'{name}' is not in: {refusal}");
    }
    assert_eq!(state, before);
}

#[test]
fn an_endpoint_gets_the_lowest_port_a_mac_and_its_gateways() {
    let mut state = populated();
    state.apply(detach("a", Origin::Cli, false)).unwrap();
    let Effect::Attached(endpoint) = state.apply(attach("c", 3, &["10.244.0.4", "fd00:10:244::4"])).unwrap() else {
        panic!("an attach attaches")
    };
    assert_eq!((endpoint.port, endpoint.mtu), (1, Mtu::ETHERNET));
    assert_eq!(endpoint.mac, Mac([2, 0, 10, 244, 0, 4]));
    assert_eq!(endpoint.gateways(), [IpAddr::V4(GATEWAY_V4), IpAddr::V6(GATEWAY_V6)]);
}

#[test]
fn what_is_taken_is_refused_by_its_holder() {
    refused(attach("a", 9, &["10.244.0.9"]), Code::Conflict, &["a", "cli"]);
    refused(attach("c", 1, &["10.244.0.9"]), Code::Conflict, &["eth0", "/run/netns/ns1", "endpoint a"]);
    refused(attach("c", 9, &["10.244.0.9", "fd00:10:244::3"]), Code::Conflict, &["fd00:10:244::3", "endpoint b"]);
    refused(attach("c", 9, &["10.244.0.1"]), Code::Conflict, &["10.244.0.1", "router"]);
    refused(route("0.0.0.0/0", "unreachable", Origin::Cli), Code::Conflict, &["0.0.0.0/0", "agent", "cli"]);
    refused(route("10.244.0.3/32", "host", Origin::Cli), Code::Conflict, &["10.244.0.3", "endpoint b"]);
    refused(route("fd00:10:244::1/128", "host", Origin::Cli), Code::Conflict, &["fd00:10:244::1", "router"]);
    refused(route("10.244.0.0/24", "host", Origin::Cli), Code::Conflict, &["10.244.0.0/24", "pod range"]);
}

#[test]
fn a_routed_address_is_no_endpoints() {
    let mut state = populated();
    state.apply(route("10.9.0.1/32", "host", Origin::Agent)).unwrap();
    let refusal = state.apply(attach("c", 9, &["10.9.0.1"])).unwrap_err();
    assert_eq!(refusal.code, Code::Conflict);
    assert!(refusal.message.contains("agent") && refusal.message.contains("10.9.0.1/32"), "{refusal}");
}

#[test]
fn what_cannot_be_is_refused() {
    refused(attach("c", 9, &[]), Code::Invalid, &["c", "no address"]);
    refused(attach("c", 9, &["10.9.0.1", "10.9.0.1/24"]), Code::Invalid, &["10.9.0.1", "twice"]);
    let many: Vec<String> = (0..17).map(|host| format!("10.9.0.{host}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    refused(attach("c", 9, &many), Code::Invalid, &["17", "16"]);
    let with = |change: fn(&mut Attach)| {
        let (mut attach, id) = wish("c", 9, &["fd00::9"]);
        change(&mut attach);
        Change::Attach(attach, id)
    };
    refused(with(|attach| attach.mtu = Some(Mtu::try_from(1279).unwrap())), Code::Invalid, &["1279", "IPv6"]);
    refused(with(|attach| attach.mac = Some(Mac::BROADCAST)), Code::Invalid, &["ff:ff:ff:ff:ff:ff"]);
    refused(with(|attach| attach.mac = Some(Mac::GATEWAY)), Code::Invalid, &["ee:ee:ee:ee:ee:ee"]);
    refused(route("10.0.0.0/8", "endpoint:z", Origin::Cli), Code::NotFound, &["endpoint z"]);
    refused(route("169.254.0.0/16", "host", Origin::Cli), Code::Invalid, &["169.254.0.0/16", "link-local"]);
    refused(route("ff00::/8", "host", Origin::Cli), Code::Invalid, &["ff00::/8", "multicast"]);
}

#[test]
fn halves_of_everything_are_routable() {
    let mut state = State::new(node());
    for prefix in ["0.0.0.0/1", "128.0.0.0/1", "::/0", "::/1", "8000::/1"] {
        state.apply(route(prefix, "host", Origin::Cli)).unwrap();
    }
}

#[test]
fn an_origin_takes_back_its_own_alone_unless_forced() {
    refused(detach("a", Origin::Cni, false), Code::Conflict, &["endpoint a", "cli", "cni"]);
    refused(unroute("0.0.0.0/0", Origin::Cli, false), Code::Conflict, &["0.0.0.0/0", "agent", "cli"]);
    refused(detach("z", Origin::Cli, true), Code::NotFound, &["endpoint z"]);
    refused(unroute("10.0.0.0/8", Origin::Cli, true), Code::NotFound, &["10.0.0.0/8"]);
    let mut state = populated();
    assert!(matches!(state.apply(unroute("0.0.0.0/0", Origin::Cli, true)), Ok(Effect::RouteDeleted(_))));
    assert!(matches!(state.apply(detach("a", Origin::Cni, true)), Ok(Effect::Detached(..))));
}

#[test]
fn with_an_endpoint_go_the_routes_to_it() {
    refused(detach("b", Origin::Cli, false), Code::Conflict, &["198.51.100.0/24", "agent", "endpoint b"]);
    let mut state = populated();
    for (name, force, prefix) in [("a", false, "192.0.2.0/24"), ("b", true, "198.51.100.0/24")] {
        let Effect::Detached(endpoint, routes) = state.apply(detach(name, Origin::Cli, force)).unwrap() else {
            panic!("a detach detaches")
        };
        assert_eq!(endpoint.name.as_str(), name);
        assert_eq!(routes.iter().map(|route| route.prefix.to_string()).collect::<Vec<_>>(), [prefix]);
    }
    assert_eq!((state.endpoints().len(), state.routes().len()), (0, 1));
}

#[test]
fn the_same_origin_may_change_a_routes_target() {
    let mut state = populated();
    let effect = state.apply(route("0.0.0.0/0", "endpoint:a", Origin::Agent)).unwrap();
    assert!(
        matches!(effect, Effect::RouteAdded { replaced: Some(Route { target: RouteTarget::Host, .. }), .. }),
        "{effect:?}"
    );
    assert_eq!(state.routes().len(), 3);
}

#[test]
fn ports_run_out_and_come_back() {
    let mut state = State::new(node());
    let nth = |number: usize| {
        let address = IpAddr::V4(Ipv4Addr::from(0x0a09_0000 + number as u32)).to_string();
        attach(&format!("e{number}"), number as u64, &[&address])
    };
    for number in 0..ENDPOINTS_MAX {
        state.apply(nth(number)).unwrap();
    }
    assert_eq!(state.apply(nth(ENDPOINTS_MAX)).unwrap_err().code, Code::Unavailable);
    state.apply(detach("e7", Origin::Cli, false)).unwrap();
    let Effect::Attached(endpoint) = state.apply(nth(ENDPOINTS_MAX)).unwrap() else { panic!("an attach attaches") };
    assert_eq!(endpoint.port, 8);
}

/// The state of these endpoints, routes and neighbours, as a start takes it up.
pub(crate) fn restore(
    node: Node,
    endpoints: Vec<Endpoint>,
    routes: Vec<Route>,
    neighbors: Vec<Neighbor>,
) -> Result<State, Refusal> {
    let mut state = State::new(node);
    endpoints.into_iter().try_for_each(|endpoint| state.admit_endpoint(endpoint))?;
    routes.into_iter().try_for_each(|route| state.admit_route(route))?;
    neighbors.into_iter().try_for_each(|neighbor| state.admit_neighbor(neighbor))?;
    Ok(state)
}

#[test]
fn kept_state_that_no_longer_fits_is_refused() {
    let state = populated();
    let (endpoints, routes): (Vec<_>, Vec<_>) =
        (state.endpoints().cloned().collect(), state.routes().cloned().collect());
    let neighbors: Vec<_> = state.neighbors().cloned().collect();
    assert_eq!(restore(node(), endpoints.clone(), routes.clone(), neighbors.clone()), Ok(state));
    let alone = Node { underlay: Underlay::default(), ..node() };
    let refusal = restore(alone, endpoints.clone(), routes.clone(), neighbors).unwrap_err();
    assert!(refusal.message.contains("10.244.1.0/24") && refusal.message.contains("vxlan"), "{refusal}");
    let moved = Node { router_addresses: vec!["10.244.0.3".parse().unwrap()], ..node() };
    let refusal = restore(moved, endpoints.clone(), routes.clone(), Vec::new()).unwrap_err();
    assert!(refusal.message.contains("10.244.0.3"), "{refusal}");
    let mut twins = endpoints;
    twins[1].port = 1;
    assert!(restore(node(), twins.clone(), routes.clone(), Vec::new()).is_err());
    twins[1].port = u16::MAX;
    assert!(restore(node(), twins, routes, Vec::new()).is_err());
}

#[test]
fn while_anybody_pauses_no_pod_comes_and_all_else_goes_on() {
    let mut state = populated();
    state.apply(pause("no lease", Origin::Agent)).unwrap();
    let before = state.clone();
    let effect = state.apply(pause("maintenance", Origin::Cli)).unwrap();
    let refusal = state.apply(attach("c", 3, &["10.244.0.9"])).unwrap_err();
    assert_eq!(refusal.code, Code::Unavailable);
    assert_eq!(refusal.to_string(), "no pod is attached at present: maintenance");
    state.revert(effect);
    assert_eq!(state, before, "a pause that was not kept is none");
    let refusal = state.apply(attach("c", 3, &["10.244.0.9"])).unwrap_err();
    assert!(refusal.message.contains("no lease") && refusal.hint.is_some_and(|hint| hint.contains("agent")));
    state.apply(detach("a", Origin::Cli, true)).unwrap();
    state.apply(neighbor("10.244.9.0/24", "192.168.9.9", Origin::Agent)).unwrap();
    state.apply(resume(Origin::Cli)).unwrap();
    state.apply(attach("c", 3, &["10.244.0.9"])).unwrap_err();
    let effect = state.apply(resume(Origin::Agent)).unwrap();
    state.apply(attach("c", 3, &["10.244.0.9"])).unwrap();
    state.revert(effect);
    assert_eq!(state.pauses().len(), 1, "nor is an end that was not kept");
}

/// The obvious model: plain lists, every rule a question asked of the whole.
#[derive(Default)]
struct Model {
    endpoints: Vec<(String, u64, BTreeSet<String>, Origin)>,
    routes: Vec<(String, String, Origin)>,
    neighbors: NeighborModel,
}

impl Model {
    /// True when the change is taken; then it is done.
    fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Pause(_) | Change::Resume(_) => true,
            Change::Attach(attach, id) => {
                let addresses: BTreeSet<String> = attach.addresses.iter().map(ToString::to_string).collect();
                let free = self.endpoints.iter().all(|(name, netns, theirs, _)| {
                    *name != attach.name.as_str() && *netns != id.inode && theirs.is_disjoint(&addresses)
                });
                let unrouted = self
                    .routes
                    .iter()
                    .all(|(prefix, ..)| prefix.strip_suffix("/32").is_none_or(|address| !addresses.contains(address)));
                let elsewhere = addresses.iter().any(|address| self.neighbors.is_alone(address));
                let sound = !elsewhere
                    && !addresses.is_empty()
                    && addresses.len() == attach.addresses.len()
                    && !addresses.contains("10.244.0.1");
                let taken = free && unrouted && sound;
                if taken {
                    self.endpoints.push((attach.name.to_string(), id.inode, addresses, attach.origin));
                }
                taken
            }
            Change::Detach(Detach { name, origin, force }) => {
                let target = format!("endpoint:{name}");
                let may = |holder: Origin| holder == *origin || *force;
                let held = self.routes.iter().any(|(_, to, holder)| *to == target && !may(*holder));
                let at = self.endpoints.iter().position(|(known, .., holder)| known == name.as_str() && may(*holder));
                let Some(at) = at.filter(|_| !held) else { return false };
                self.endpoints.remove(at);
                self.routes.retain(|(_, to, _)| *to != target);
                true
            }
            Change::AddRoute(Route { prefix, target, origin }) => {
                let (prefix, target) = (prefix.to_string(), target.to_string());
                let foreign = self.routes.iter().any(|(known, _, holder)| *known == prefix && holder != origin);
                let known = target
                    .strip_prefix("endpoint:")
                    .is_none_or(|wanted| self.endpoints.iter().any(|(name, ..)| name == wanted));
                let own = prefix.strip_suffix("/32").is_some_and(|address| {
                    address == "10.244.0.1" || self.endpoints.iter().any(|(_, _, theirs, _)| theirs.contains(address))
                });
                if foreign || !known || own || prefix == "10.244.0.0/24" || self.neighbors.overlap(&prefix) {
                    return false;
                }
                self.routes.retain(|(known, ..)| *known != prefix);
                self.routes.push((prefix, target, *origin));
                true
            }
            Change::DeleteRoute(DeleteRoute { prefix, origin, force }) => {
                let prefix = prefix.to_string();
                let before = self.routes.len();
                self.routes.retain(|(known, _, holder)| *known != prefix || !(holder == origin || *force));
                self.routes.len() < before
            }
            Change::ChangeNeighbors(change) => {
                let addresses = self.endpoints.iter().flat_map(|(_, _, addresses, _)| addresses).cloned().collect();
                let routes = self.routes.iter().map(|(prefix, ..)| prefix.parse().unwrap()).collect();
                self.neighbors.apply(change, &routes, &addresses)
            }
        }
    }

    /// The same things are there, and no two endpoints share a port.
    fn agrees_with(&self, state: &State) {
        let endpoints: BTreeSet<_> = state
            .endpoints()
            .map(|endpoint| {
                let addresses: BTreeSet<String> = endpoint.addresses.iter().map(ToString::to_string).collect();
                (endpoint.name.to_string(), endpoint.netns_id.inode, addresses, endpoint.origin)
            })
            .collect();
        assert_eq!(endpoints, self.endpoints.iter().cloned().collect());
        let routes: BTreeSet<_> =
            state.routes().map(|route| (route.prefix.to_string(), route.target.to_string(), route.origin)).collect();
        assert_eq!(routes, self.routes.iter().cloned().collect());
        self.neighbors.agrees_with(state);
        let ports: BTreeSet<u16> = state.endpoints().map(|endpoint| endpoint.port).collect();
        assert_eq!(ports.len(), state.endpoints().len());
        assert!(!ports.contains(&0));
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let origin = prop::sample::select(vec![Origin::Cli, Origin::Cni]);
    let addresses =
        prop::collection::vec(prop::sample::select(vec!["10.244.0.1", "10.9.0.1", "10.9.0.2", "fd00::9"]), 0..3);
    let prefix = prop::sample::select(vec!["0.0.0.0/0", "10.9.0.0/16", "10.9.0.1/32", "10.244.0.0/24", "fd00::/64"]);
    let neighbors = any_change_of_neighbors();
    let target = prop::sample::select(vec!["host", "blackhole", "endpoint:a", "endpoint:b"]);
    prop_oneof![
        3 => neighbors,
        1 => (name.clone(), 1..4_u64, addresses, origin.clone()).prop_map(|(name, netns, addresses, origin)| {
            let (attach, id) = wish(name, netns, &addresses);
            Change::Attach(Attach { origin, ..attach }, id)
        }),
        1 => (name, origin.clone(), prop::bool::weighted(0.2)).prop_map(|(name, origin, force)| detach(name, origin, force)),
        1 => (prefix.clone(), target, origin.clone()).prop_map(|(prefix, target, origin)| route(prefix, target, origin)),
        1 => (prefix, origin, prop::bool::weighted(0.2)).prop_map(|(prefix, origin, force)| unroute(prefix, origin, force)),
    ]
}

proptest! {
    #[test]
    fn the_state_follows_the_model_and_a_refusal_changes_nothing(
        changes in prop::collection::vec(any_change(), 1..60),
    ) {
        let (mut state, mut model) = (State::new(node()), Model::default());
        for change in changes {
            let before = state.clone();
            let taken = model.apply(&change);
            let outcome = state.apply(change.clone());
            if let Ok(effect) = &outcome && !matches!(effect, Effect::Detached(..)) {
                let mut reverted = state.clone();
                reverted.revert(effect.clone());
                prop_assert_eq!(&reverted, &before);
            }
            prop_assert_eq!(outcome.is_ok(), taken, "{:?}: {:?}", change, outcome);
            if !taken {
                prop_assert_eq!(&state, &before);
            }
            model.agrees_with(&state);
        }
    }
}

//! The rules of neighbours by example, and an obvious model of them.

use control::{Backend, ChangeNeighbors, DeleteNeighbor, NEIGHBORS_MAX};

use super::*;

pub(crate) fn underlay() -> Underlay {
    Underlay {
        addresses: vec!["192.168.9.1".parse().unwrap()],
        tunnels: vec![Backend::Vxlan, Backend::Udp],
        vtep_mac: Some(Mac([2, 0x76, 0, 0, 0, 1])),
        ..Underlay::default()
    }
}

/// One by host-gw.
pub(crate) fn neighbor(subnet: &str, via: &str, origin: Origin) -> Change {
    one(Neighbor { origin, ..of(subnet, via, Backend::HostGw) })
}

/// Some of `cli`, by host-gw, in the place of others.
pub(crate) fn change_neighbors(delete: &[(&str, Origin)], add: &[(&str, &str)]) -> Change {
    let delete = delete.iter().map(|&(subnet, origin)| gone(subnet, origin, false)).collect();
    let add = add.iter().map(|&(subnet, via)| of(subnet, via, Backend::HostGw)).collect();
    Change::ChangeNeighbors(ChangeNeighbors { delete, add })
}

pub(super) fn vxlan(subnet: &str, via: &str, origin: Origin) -> Change {
    one(Neighbor { origin, ..of(subnet, via, Backend::Vxlan) })
}

fn of(subnet: &str, via: &str, backend: Backend) -> Neighbor {
    let mac = (backend == Backend::Vxlan).then_some(Mac([2, 0x76, 0, 0, 0, 2]));
    Neighbor { subnet: subnet.parse().unwrap(), via: via.parse().unwrap(), backend, mac, origin: Origin::Cli }
}

fn one(neighbor: Neighbor) -> Change {
    Change::ChangeNeighbors(ChangeNeighbors { delete: Vec::new(), add: vec![neighbor] })
}

fn gone(subnet: &str, origin: Origin, force: bool) -> DeleteNeighbor {
    DeleteNeighbor { subnet: subnet.parse().unwrap(), origin, force }
}

fn forget(subnet: &str, origin: Origin, force: bool) -> Change {
    Change::ChangeNeighbors(ChangeNeighbors { delete: vec![gone(subnet, origin, force)], add: Vec::new() })
}

#[test]
fn what_is_wrong_in_itself_is_refused() {
    let wrong = |neighbor: Neighbor, named: &[&str]| refused(one(neighbor), Code::Invalid, named);
    let (free, node) = ("10.244.7.0/24", "192.168.9.7");
    wrong(of("169.254.0.0/16", node, Backend::HostGw), &["169.254.0.0/16", "link-local"]);
    wrong(of("127.0.0.0/8", node, Backend::Vxlan), &["loopback"]);
    wrong(of("ff02::/16", node, Backend::Vxlan), &["multicast"]);
    wrong(of("0.0.0.0/0", node, Backend::Vxlan), &["unspecified"]);
    wrong(of(free, "224.0.0.1", Backend::HostGw), &[free, "224.0.0.1", "multicast"]);
    wrong(of("fd00:7::/64", "fe80::7", Backend::HostGw), &["fe80::7", "link-local"]);
    wrong(Neighbor { mac: None, ..of(free, node, Backend::Vxlan) }, &[free, "lacks", "VTEP"]);
    for mac in [Mac::ZERO, Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 1])] {
        wrong(Neighbor { mac: Some(mac), ..of(free, node, Backend::Vxlan) }, &[&mac.to_string(), "no station"]);
    }
    for backend in [Backend::Udp, Backend::HostGw] {
        let named = ["VTEP", backend.word()];
        wrong(Neighbor { mac: Some(Mac([2; 6])), ..of(free, node, backend) }, &named);
    }
    wrong(of("fd00:7::/64", node, Backend::Udp), &["IPv4 over IPv4", "udp"]);
    wrong(of(free, "fd00:9::7", Backend::Udp), &["IPv4 over IPv4", "udp"]);
    wrong(of("fd00:7::/64", node, Backend::HostGw), &[node, "own family"]);
    let twice = change_neighbors(&[], &[(free, node), (free, "192.168.9.8")]);
    refused(twice, Code::Invalid, &[free, "twice"]);
}

#[test]
fn a_tunnel_that_does_not_end_here_is_refused_with_the_key_that_opens_it() {
    let mut node = populated().node().clone();
    node.underlay.tunnels = vec![Backend::Vxlan];
    let refusal = State::new(node).apply(one(of("10.244.7.0/24", "192.168.9.7", Backend::Udp))).unwrap_err();
    assert_eq!(refusal.code, Code::Invalid);
    assert!(refusal.hint.as_ref().unwrap().contains("tunnels") && refusal.message.contains("udp"), "{refusal:?}");
    let mut state = populated();
    let refusal = state.apply(one(of("10.244.7.0/24", "fd00:9::7", Backend::Vxlan))).unwrap_err();
    assert!(refusal.hint.as_ref().unwrap().contains("underlay_address"), "{refusal:?}");
    assert!(refusal.message.contains("fd00:9::7") && refusal.message.contains("IPv6"), "{refusal:?}");
    assert_eq!(state, populated());
    // host-gw needs no end.
    state.apply(one(of("fd00:7::/64", "fd00:9::7", Backend::HostGw))).unwrap();
    state.apply(one(of("10.244.7.0/24", "192.168.9.7", Backend::Udp))).unwrap();
}

#[test]
fn what_collides_is_refused_by_name() {
    let collides = |neighbor: Neighbor, named: &[&str]| refused(one(neighbor), Code::Conflict, named);
    let (free, node, gw) = ("10.244.7.0/24", "192.168.9.7", Backend::HostGw);
    let own = underlay().vtep_mac;
    collides(Neighbor { mac: own, ..of(free, node, Backend::Vxlan) }, &["02:76:00:00:00:01", "this node's own VTEP"]);
    collides(of(free, "192.168.9.1", gw), &["192.168.9.1", "own address"]);
    collides(of(free, "10.244.0.77", gw), &["10.244.0.77", "pod range 10.244.0.0/24"]);
    collides(of(free, "10.244.7.7", gw), &["10.244.7.7", "lies in it"]);
    collides(of(free, "10.244.1.7", gw), &["10.244.1.7", "10.244.1.0/24", "agent"]);
    collides(of("10.244.0.128/25", node, gw), &["10.244.0.128/25", "pod range 10.244.0.0/24"]);
    collides(of("10.244.0.0/16", node, gw), &["10.244.0.0/16", "pod range 10.244.0.0/24"]);
    collides(of("10.244.1.0/25", node, gw), &["10.244.1.0/25", "10.244.1.0/24", "agent"]);
    collides(of("10.244.2.0/23", node, gw), &["10.244.2.0/23", "10.244.2.0/24", "cli"]);
    collides(of("192.0.2.0/25", node, gw), &["192.0.2.0/25", "route 192.0.2.0/24", "cli"]);
    collides(of("198.51.0.0/16", node, gw), &["198.51.0.0/16", "route 198.51.100.0/24", "agent"]);
    collides(of("192.168.9.0/31", node, gw), &["192.168.9.0/31", "own address 192.168.9.1"]);
    collides(of("192.168.9.2/31", node, gw), &["192.168.9.2/31", "192.168.9.2", "a neighbour"]);
    collides(Neighbor { origin: Origin::Cli, ..of("10.244.1.0/24", node, gw) }, &["10.244.1.0/24", "agent", "cli"]);
    let route_in = |prefix| {
        refused(route(prefix, "host", Origin::Cli), Code::Conflict, &[prefix, "neighbour 10.244.1.0/24", "agent"])
    };
    route_in("10.244.1.0/24");
    route_in("10.244.1.7/32");
    refused(route("10.244.0.0/15", "host", Origin::Cli), Code::Conflict, &["10.244.1.0/24", "agent"]);
    refused(attach("c", 9, &["192.168.9.1"]), Code::Conflict, &["192.168.9.1", "own address"]);
}

#[test]
fn a_pod_that_moved_here_and_one_that_moved_away_are_told_apart() {
    let mut state = populated();
    // Its old node still has all the others.
    state.apply(attach("moved", 9, &["10.244.1.9"])).unwrap();
    let taken = state.apply(neighbor("10.244.1.9/32", "192.168.9.3", Origin::Agent)).unwrap_err();
    assert!(taken.message.contains("10.244.1.0/24"), "{taken}");
    state.apply(attach("outside", 10, &["10.9.0.1"])).unwrap();
    let taken = state.apply(neighbor("10.9.0.1/32", "192.168.9.3", Origin::Agent)).unwrap_err();
    assert!(taken.message.contains("endpoint outside"), "{taken}");
    state.apply(neighbor("10.9.0.2/32", "192.168.9.3", Origin::Agent)).unwrap();
    let taken = state.apply(attach("late", 11, &["10.9.0.2"])).unwrap_err();
    assert!(taken.message.contains("192.168.9.3") && taken.code == Code::Conflict, "{taken}");
}

#[test]
fn an_origin_changes_and_takes_back_its_own_alone_unless_forced() {
    refused(forget("10.244.1.0/24", Origin::Cli, false), Code::Conflict, &["10.244.1.0/24", "agent", "cli"]);
    refused(forget("10.244.7.0/24", Origin::Cli, true), Code::NotFound, &["10.244.7.0/24"]);
    let mut state = populated();
    let effect = state.apply(neighbor("10.244.2.0/24", "192.168.9.7", Origin::Cli)).unwrap();
    let Effect::NeighborsChanged { before, after } = effect else { panic!("neighbours change") };
    let vias = |all: &[Neighbor]| all.iter().map(|one| one.via.to_string()).collect::<Vec<_>>();
    assert_eq!((vias(&before), vias(&after)), (vec!["192.168.9.3".to_owned()], vec!["192.168.9.7".to_owned()]));
    state.apply(forget("10.244.1.0/24", Origin::Cli, true)).unwrap();
    assert_eq!(state.neighbors().len(), 2);
}

#[test]
fn a_change_of_many_is_taken_whole_or_refused_whole() {
    let all = [("10.244.3.0/24", "192.168.9.4"), ("10.244.4.0/24", "192.168.9.5"), ("10.244.1.0/24", "192.168.9.6")];
    refused(change_neighbors(&[("10.244.2.0/24", Origin::Cli)], &all), Code::Conflict, &["10.244.1.0/24", "agent"]);
    let mut state = populated();
    let before = state.clone();
    let effect = state
        .apply(change_neighbors(&[("10.244.1.0/24", Origin::Agent), ("10.244.2.0/24", Origin::Cli)], &all))
        .unwrap();
    let subnets: Vec<_> = state.neighbors().map(|neighbor| neighbor.subnet.to_string()).collect();
    assert_eq!(subnets, ["10.244.1.0/24", "10.244.3.0/24", "10.244.4.0/24", "fd00:10:244:1::/64"]);
    state.revert(effect);
    assert_eq!(state, before);
}

#[test]
fn neighbours_run_out() {
    let mut state = State::new(node());
    let nth =
        |number: usize| of(&format!("100.64.{}.{}/32", number >> 8, number & 0xff), "192.168.9.2", Backend::HostGw);
    let add = (0..NEIGHBORS_MAX).map(nth).collect();
    state.apply(Change::ChangeNeighbors(ChangeNeighbors { delete: Vec::new(), add })).unwrap();
    let refusal = state.apply(one(nth(NEIGHBORS_MAX))).unwrap_err();
    assert!(refusal.code == Code::Unavailable && refusal.message.contains("24576"), "{refusal}");
    state.apply(one(Neighbor { via: "192.168.9.3".parse().unwrap(), ..nth(7) })).unwrap();
    state.apply(forget("100.64.0.7/32", Origin::Cli, false)).unwrap();
    state.apply(one(nth(NEIGHBORS_MAX))).unwrap();
}

/// Plain lists, every rule a question asked of the whole.
#[derive(Clone, Default)]
pub(super) struct Model(Vec<Neighbor>);

impl Model {
    pub(super) fn apply(
        &mut self,
        change: &ChangeNeighbors,
        routes: &BTreeSet<Prefix>,
        addresses: &BTreeSet<String>,
    ) -> bool {
        let mut new = self.clone();
        let taken = change.delete.iter().all(|delete| new.delete(delete))
            && change.add.iter().enumerate().all(|(at, neighbor)| {
                let again = change.add[..at].iter().any(|earlier| earlier.subnet == neighbor.subnet);
                !again && new.add(neighbor, routes, addresses)
            });
        if taken {
            *self = new;
        }
        taken
    }

    fn delete(&mut self, delete: &DeleteNeighbor) -> bool {
        let may = |one: &Neighbor| one.subnet == delete.subnet && (one.origin == delete.origin || delete.force);
        let before = self.0.len();
        self.0.retain(|one| !may(one));
        self.0.len() < before
    }

    fn add(&mut self, neighbor: &Neighbor, routes: &BTreeSet<Prefix>, addresses: &BTreeSet<String>) -> bool {
        let Neighbor { subnet, via, origin, .. } = neighbor;
        if self.0.iter().any(|one| one.subnet == *subnet && one.origin != *origin) {
            return false;
        }
        self.0.retain(|one| one.subnet != *subnet);
        let range: Prefix = "10.244.0.0/24".parse().unwrap();
        let own: IpAddr = "192.168.9.1".parse().unwrap();
        let apart = !subnet.overlaps(range)
            && !subnet.contains(own)
            && !subnet.contains(*via)
            && self
                .0
                .iter()
                .all(|one| !one.subnet.overlaps(*subnet) && !one.subnet.contains(*via) && !subnet.contains(one.via))
            && routes.iter().all(|route| route.length() == 0 || !route.overlaps(*subnet))
            && addresses.iter().all(|address| Prefix::host(address.parse().unwrap()) != *subnet);
        let reached = *via != own && !range.contains(*via);
        if apart && reached {
            self.0.push(neighbor.clone());
        }
        apart && reached
    }

    /// An address that is all a neighbour has, or this node's own.
    pub(super) fn is_alone(&self, address: &str) -> bool {
        let address: IpAddr = address.parse().unwrap();
        self.0.iter().any(|one| one.subnet == Prefix::host(address))
    }

    pub(super) fn overlap(&self, prefix: &str) -> bool {
        let prefix: Prefix = prefix.parse().unwrap();
        prefix.length() > 0 && self.0.iter().any(|one| one.subnet.overlaps(prefix))
    }

    pub(super) fn agrees_with(&self, state: &State) {
        let mut known = self.0.clone();
        known.sort_by_key(|one| one.subnet);
        assert_eq!(state.neighbors().cloned().collect::<Vec<_>>(), known);
    }
}

pub(super) fn any_change() -> impl Strategy<Value = Change> {
    let subnets = vec![
        "10.9.0.0/16",
        "10.9.0.0/24",
        "10.9.0.0/25",
        "10.9.0.1/32",
        "10.9.0.128/25",
        "10.9.1.0/24",
        "10.244.0.0/25",
        "192.168.9.0/24",
        "192.168.9.4/30",
        "192.0.2.0/24",
        "198.18.0.0/15",
    ];
    let subnet = prop::sample::select(subnets);
    let via = prop::sample::select(vec!["192.168.9.1", "192.168.9.2", "192.168.9.5", "10.244.0.9", "10.9.0.130"]);
    let origin = prop::sample::select(vec![Origin::Cli, Origin::Agent]);
    let backend = prop::sample::select(vec![Backend::HostGw, Backend::Vxlan]);
    let add = (subnet.clone(), via, backend, origin.clone())
        .prop_map(|(subnet, via, backend, origin)| Neighbor { origin, ..of(subnet, via, backend) });
    let delete =
        (subnet, origin, prop::bool::weighted(0.5)).prop_map(|(subnet, origin, force)| gone(subnet, origin, force));
    let one_or_some = || prop_oneof![3 => 0..2_usize, 1 => 0..4_usize];
    let many = (one_or_some(), one_or_some());
    many.prop_flat_map(move |(deletes, adds)| {
        (prop::collection::vec(delete.clone(), deletes), prop::collection::vec(add.clone(), adds))
    })
    .prop_map(|(delete, add)| Change::ChangeNeighbors(ChangeNeighbors { delete, add }))
}

//! What the switch should know of other nodes, by what the store says: a pure function, and the difference to what it knows.
//!
//! A lease becomes one neighbour for each of its subnets, unless something is wrong with it; then it is passed over and told.
//! A lease that overlaps an earlier one, in order of subnets, has to wait for that one's end.

use std::collections::BTreeMap;
use std::mem;
use std::net::IpAddr;

use control::{Backend as By, ChangeNeighbors, DeleteNeighbor, Neighbor, Origin, RouteTarget};
use packet::Prefix;
use serde::Serialize;

use crate::lease::{Attributes, Subnets, VxlanData, vtep_mac};
use crate::network::{Backend, Network};
use crate::view::View;

/// What is known of this node.
#[derive(Clone, Debug)]
pub struct Here {
    /// The subnets it has.
    pub own: Subnets,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// The prefixes of the links that these are on.
    pub links: Vec<Prefix>,
}

/// What the switch should know.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Desired {
    /// By subnet.
    pub neighbors: BTreeMap<Prefix, Neighbor>,
    /// Of the host's.
    pub routes: BTreeMap<Prefix, RouteTarget>,
    /// Leases and routes that were passed over.
    pub passed_over: Vec<PassedOver>,
}

/// A lease that does not become a neighbour, or a route of the host's that the switch is not told of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PassedOver {
    /// Its key, or the route.
    pub key: String,
    /// Why not.
    pub why: String,
}

impl Desired {
    /// What follows from the leases.
    pub fn new(view: &View, network: &Network, here: &Here) -> Self {
        let mut desired = Desired::default();
        if network.backend == Backend::Alloc {
            return desired;
        }
        let own = here.own.to_string();
        let mut found = Vec::with_capacity(view.entries().len());
        for (key, entry) in view.entries().filter(|(key, _)| *key != own) {
            let lease = entry.lease.as_ref().map_err(String::clone);
            let neighbors = lease.and_then(|(subnets, said)| neighbors(*subnets, said, network, here));
            match neighbors {
                Ok(neighbors) => found.push((key, neighbors)),
                Err(why) => desired.pass_over(key, why),
            }
        }
        found.sort_by_key(|(_, neighbors)| neighbors.first().map(|neighbor| neighbor.subnet));
        let mut v4: Vec<(Prefix, Neighbor)> = Vec::with_capacity(found.len());
        for (key, neighbors) in found {
            // Those of IPv4 come in their order, so only the last can overlap the next.
            let taken = |neighbor: &Neighbor| match v4.last() {
                _ if neighbor.subnet.address().is_ipv6() => desired.overlapping(neighbor.subnet),
                last => last.map(|(subnet, _)| *subnet).filter(|last| last.overlaps(neighbor.subnet)),
            };
            if let Some(other) = neighbors.iter().find_map(taken) {
                desired.pass_over(key, format!("it overlaps the lease of {other}"));
                continue;
            }
            let named = neighbors.into_iter().map(|neighbor| (neighbor.subnet, neighbor));
            let (of_v4, of_v6): (Vec<_>, Vec<_>) = named.partition(|(subnet, _)| subnet.address().is_ipv4());
            v4.extend(of_v4);
            desired.neighbors.extend(of_v6);
        }
        // A map is built at once of what is in order.
        desired.neighbors = v4.into_iter().chain(mem::take(&mut desired.neighbors)).collect();
        desired
    }

    /// What has to be said to a switch that knows `known` by this agent.
    pub fn difference(&self, known: &BTreeMap<Prefix, Neighbor>) -> ChangeNeighbors {
        let (mut delete, mut add) = (Vec::new(), Vec::new());
        let mut take = |gone: &Neighbor| {
            delete.push(DeleteNeighbor { subnet: gone.subnet, origin: gone.origin, force: false });
        };
        // Both are in order.
        let mut known = known.values().peekable();
        for wanted in self.neighbors.values() {
            while let Some(gone) = known.next_if(|known| known.subnet < wanted.subnet) {
                take(gone);
            }
            let there = known.next_if(|known| known.subnet == wanted.subnet);
            there.filter(|there| there.origin != wanted.origin).into_iter().for_each(&mut take);
            if there != Some(wanted) {
                add.push(wanted.clone());
            }
        }
        known.for_each(take);
        ChangeNeighbors { delete, add }
    }

    pub(crate) fn pass_over(&mut self, key: &str, why: String) {
        self.passed_over.push(PassedOver { key: key.to_owned(), why });
    }

    /// Those that are there lie apart, so only the one before and the one after can overlap.
    pub(crate) fn overlapping(&self, subnet: Prefix) -> Option<Prefix> {
        let before = self.neighbors.range(..=subnet).next_back();
        let after = self.neighbors.range(subnet..).next();
        before.into_iter().chain(after).map(|(&other, _)| other).find(|other| other.overlaps(subnet))
    }
}

fn neighbors(subnets: Subnets, said: &Attributes, network: &Network, here: &Here) -> Result<Vec<Neighbor>, String> {
    let pools = network.pools();
    let outside = |subnet: &Prefix| !pools.iter().any(|pool| pool.covers(*subnet));
    if let Some(subnet) = subnets.each().find(outside) {
        return Err(format!("{subnet} is outside of the cluster's network"));
    }
    if subnets.overlaps(here.own) {
        return Err("it overlaps this node's own subnet".to_owned());
    }
    if said.backend != network.backend.lease_type() {
        return Err(format!("its backend is '{}', the cluster's is {}", said.backend, network.backend.name()));
    }
    subnets.each().map(|subnet| neighbor(subnet, said, network, here)).collect()
}

fn neighbor(subnet: Prefix, said: &Attributes, network: &Network, here: &Here) -> Result<Neighbor, String> {
    let v6 = subnet.address().is_ipv6();
    let via = said.address(v6);
    if here.addresses.contains(&via) {
        return Err(format!("it names this node's own address {via}"));
    }
    if let Some(kind) = control::unroutable(via) {
        return Err(format!("its address {via} is {kind}"));
    }
    if let Some(pool) = network.pools().into_iter().find(|pool| pool.contains(via)) {
        return Err(format!("its address {via} lies in the pods' network {pool}"));
    }
    let near = here.links.iter().any(|link| link.contains(via)) && via.is_ipv6() == v6;
    let (backend, mac) = match network.backend {
        Backend::Vxlan { direct: true, .. } | Backend::Ipip { direct: true } if near => (By::HostGw, None),
        Backend::Vxlan { vni, .. } => (By::Vxlan, Some(vtep(said, vni, v6)?.mac)),
        Backend::Ipip { .. } => (By::Ipip, None),
        Backend::Udp { .. } => (By::Udp, None),
        Backend::HostGw if via.is_ipv6() != v6 => {
            return Err(format!("host-gw needs an address of the family of {subnet}"));
        }
        Backend::HostGw => (By::HostGw, None),
        Backend::Alloc => unreachable!("alloc has no neighbours"),
    };
    Ok(Neighbor { subnet, via, backend, mac, origin: Origin::Agent })
}

/// A lease written by hand may leave its data out: then the VTEP is one of ours.
fn vtep(said: &Attributes, vni: packet::Vni, v6: bool) -> Result<VxlanData, String> {
    if said.data.is_none() {
        return Ok(VxlanData { vni: vni.into(), mac: vtep_mac(said.public_ip) });
    }
    let data = said.vxlan(v6).ok_or("its BackendData holds no VNI and VtepMAC")?;
    if data.vni != u32::from(vni) {
        return Err(format!("its VNI is {}, the cluster's is {}", data.vni, u32::from(vni)));
    }
    if data.mac.is_group() || data.mac == packet::Mac::ZERO {
        return Err(format!("its VtepMAC {} is no station's", data.mac));
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VXLAN: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;

    fn here() -> Here {
        Here {
            own: "10.5.1.0-24".parse().unwrap(),
            addresses: vec!["192.168.9.1".parse().unwrap()],
            links: vec!["192.168.9.0/24".parse().unwrap()],
        }
    }

    fn lease(last: u8, mac: u8) -> String {
        format!(
            r#"{{"PublicIP":"192.168.9.{last}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"02:00:00:00:00:{mac:02x}"}}}}"#
        )
    }

    fn desired(network: &str, leases: &[(&str, String)]) -> Desired {
        let view = View::new(leases.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect());
        Desired::new(&view, &network.parse().unwrap(), &here())
    }

    #[test]
    fn a_lease_becomes_a_neighbour_and_ones_own_does_not() {
        let found = desired(VXLAN, &[("10.5.1.0-24", lease(1, 1)), ("10.5.2.0-24", lease(2, 2))]);
        let text = serde_json::to_string(&found.neighbors.values().collect::<Vec<_>>()).unwrap();
        let expected = r#"[{"subnet":"10.5.2.0/24","via":"192.168.9.2","backend":"vxlan","mac":"02:00:00:00:00:02","origin":"agent"}]"#;
        assert_eq!((text.as_str(), found.passed_over), (expected, vec![]));
    }

    #[test]
    fn nodes_on_our_link_are_reached_directly_where_that_is_asked_for() {
        let direct = VXLAN.replace(r#""vxlan""#, r#""vxlan","DirectRouting":true"#);
        let far = lease(3, 3).replace("192.168.9", "192.168.8");
        let found = desired(&direct, &[("10.5.2.0-24", lease(2, 2)), ("10.5.3.0-24", far)]);
        let backends: Vec<By> = found.neighbors.values().map(|neighbor| neighbor.backend).collect();
        assert_eq!(backends, [By::HostGw, By::Vxlan]);
    }

    #[test]
    fn what_is_wrong_is_passed_over_by_name() {
        let of = |value: &str| lease(2, 2).replace(r#""BackendType":"vxlan""#, value);
        for (key, value, named) in [
            ("elsewhere", lease(2, 2), "names no subnet"),
            ("10.5.2.0-24", "{".to_owned(), "EOF"),
            ("10.5.2.0-24", "{}".to_owned(), "PublicIP"),
            ("10.6.2.0-24", lease(2, 2), "outside"),
            ("0.0.0.0-0", lease(2, 2), "outside"),
            ("10.5.0.0-23", lease(2, 2), "own subnet"),
            ("10.5.2.0-24", lease(1, 2), "own address"),
            ("10.5.2.0-24", lease(2, 1).replace("02:00", "01:00"), "no station"),
            ("10.5.2.0-24", lease(2, 2).replace(r#""VNI":1"#, r#""VNI":2"#), "VNI is 2"),
            ("10.5.2.0-24", lease(2, 2).replace("192.168.9", "10.5.9"), "pods' network"),
            ("10.5.2.0-24", of(r#""BackendType":"host-gw""#), "'host-gw'"),
        ] {
            let found = desired(VXLAN, &[(key, value.clone())]);
            assert!(found.neighbors.is_empty(), "{key} {value}");
            assert!(found.passed_over[0].why.contains(named), "{:?}", found.passed_over);
        }
    }

    #[test]
    fn of_two_leases_that_overlap_the_first_counts() {
        let found = desired(VXLAN, &[("10.5.4.0-22", lease(4, 4)), ("10.5.5.0-24", lease(5, 5))]);
        assert_eq!((found.neighbors.len(), found.passed_over[0].key.as_str()), (1, "10.5.5.0-24"));
    }

    fn leases() -> impl Strategy<Value = Vec<(String, String)>> {
        let one = (0u8..12, 22u8..=24, 0u8..6, 0u8..4).prop_map(|(third, length, node, mac)| {
            let third = third >> (24 - length) << (24 - length);
            (format!("10.5.{third}.0-{length}"), lease(node, mac * 2))
        });
        proptest::collection::vec(one, 0..12)
    }

    proptest! {
        /// Whatever a switch knows by us, after it was told the difference it knows what it should, and hears nothing more.
        #[test]
        fn the_difference_leads_to_what_is_desired(before in leases(), after in leases()) {
            let view = |leases: Vec<(String, String)>| View::new(leases.into_iter().collect());
            let network = VXLAN.parse().unwrap();
            let [before, after] = [before, after].map(|leases| Desired::new(&view(leases), &network, &here()));
            let mut known = before.neighbors;
            known.values_mut().step_by(2).for_each(|neighbor| neighbor.origin = Origin::HostImport);
            let change = after.difference(&known);
            for delete in &change.delete {
                prop_assert_eq!(known.remove(&delete.subnet).map(|gone| gone.origin), Some(delete.origin));
            }
            for add in change.add {
                let origin = add.origin;
                let before = known.insert(add.subnet, add);
                prop_assert!(before.is_none_or(|before| before.origin == origin), "only its origin replaces a neighbour");
            }
            prop_assert_eq!(&known, &after.neighbors);
            prop_assert_eq!(after.difference(&known), ChangeNeighbors::default());
        }

        /// Neighbours lie apart from each other and from us, and every lease is a neighbour, passed over or our own.
        #[test]
        fn nothing_overlaps_and_nothing_is_lost(leases in leases()) {
            let view = View::new(leases.into_iter().collect());
            let found = Desired::new(&view, &VXLAN.parse().unwrap(), &here());
            let subnets: Vec<Prefix> = found.neighbors.keys().copied().chain(here().own.each()).collect();
            for (at, one) in subnets.iter().enumerate() {
                prop_assert!(!subnets[..at].iter().any(|other| other.overlaps(*one)));
            }
            let own = view.get("10.5.1.0-24").is_some();
            prop_assert_eq!(view.entries().len(), found.neighbors.len() + found.passed_over.len() + usize::from(own));
        }

        /// Updates told twice, and one by one or all at once, end in the same view.
        #[test]
        fn a_view_does_not_depend_on_how_it_was_told(leases in leases()) {
            let mut told = View::default();
            for (key, value) in &leases {
                for _ in 0..2 {
                    told.apply(crate::view::Update::Some(vec![(key.clone(), Some(value.clone()))]));
                }
            }
            let all = View::new(leases.into_iter().collect());
            let texts = |view: &View| view.entries().map(|(key, entry)| (key.to_owned(), entry.text.clone())).collect::<Vec<_>>();
            prop_assert_eq!(texts(&told), texts(&all));
        }
    }
}

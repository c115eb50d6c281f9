//! Who has which address, and what rules can tell of it.
//!
//! Only what some rule in force asks of peers is kept: a selector or a net is an **atom** while it is asked for. An endpoint has the atoms
//! of the selectors that choose it, an address those of its endpoints, of the nets around it, and of network sets with such nets. Addresses
//! of equal [`Traits`] are of one class.
//!
//! Changes are noted and take effect together, in [`Census::settle`]. A changed endpoint asks the selectors that may choose it
//! ([`super::anchors`]); new selectors, however many, look at all endpoints once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use packet::Prefix;

use super::asked::{Asked, Changed};
use super::classes::{Classes, Shift};
use super::nets::Nets;
use crate::endpoint::{Endpoint, NamedPort};
use crate::facts::Facts;
use crate::labels::Labels;
use crate::peers::{Class, Peers};
use crate::program::term::{Atom, Traits};
use crate::rule::Family;

/// All addresses of endpoints, and all nets that matter.
#[derive(Default)]
pub(super) struct Census {
    pub(super) asked: Asked,
    members: HashMap<Arc<str>, Member>,
    /// Network sets that some selector chooses: atoms and nets.
    sets: HashMap<Arc<str>, Chosen>,
    places: BTreeMap<IpAddr, Place>,
    nets: Nets,
    classes: Classes,
    peers: Peers,
    changed_endpoints: BTreeSet<Arc<str>>,
    changed_sets: BTreeSet<Arc<str>>,
}

/// A network set: atoms and nets.
type Chosen = (Arc<[Atom]>, Vec<Prefix>);

/// An endpoint as far as rules can tell.
#[derive(Clone, PartialEq)]
struct Member {
    atoms: Arc<[Atom]>,
    /// The ports whose names are asked for.
    ports: Arc<[NamedPort]>,
    addresses: Box<[IpAddr]>,
}

/// An address of endpoints.
#[derive(Default)]
struct Place {
    holders: Vec<Arc<str>>,
    class: Option<Class>,
}

/// Addresses and nets to be looked at again.
#[derive(Default)]
struct Stirred {
    addresses: BTreeSet<IpAddr>,
    nets: BTreeSet<Prefix>,
}

impl Census {
    pub(super) fn note_endpoint(&mut self, name: &Arc<str>) {
        self.changed_endpoints.insert(name.clone());
    }

    pub(super) fn note_set(&mut self, name: &Arc<str>) {
        self.changed_sets.insert(name.clone());
    }

    pub(super) fn peers(&self) -> &Peers {
        &self.peers
    }

    pub(super) fn classes(&self) -> &Classes {
        &self.classes
    }

    /// Brings everything up to the facts, and tells which classes changed by that, and whether any address did.
    pub(super) fn settle(&mut self, facts: &Facts) -> (Vec<Shift>, bool) {
        let mut stirred = Stirred::default();
        let changed = self.asked.changed();
        if !changed.fresh.is_empty() || !changed.gone.is_empty() || changed.names {
            self.ask_all(facts, &mut stirred);
        }
        let changed = self.asked.take_changed();
        for name in std::mem::take(&mut self.changed_endpoints) {
            let member = facts.endpoints.get(&name).map(|endpoint| self.member(endpoint));
            self.set_member(&name, member, &mut stirred);
        }
        for name in std::mem::take(&mut self.changed_sets) {
            let set = facts.sets.get(&name).map(|set| (self.asked.choosing(&set.labels), set.nets.clone()));
            self.set_set(&name, set, &mut stirred);
        }
        for (&net, &atom) in &changed.nets {
            let class = self.nets.set_atom(net, atom);
            self.drop_net(class);
            stirred.nets.insert(net);
        }
        let has_changed = !stirred.addresses.is_empty() || !stirred.nets.is_empty();
        self.classify(stirred);
        self.asked.reclaim(&changed.gone);
        (self.classes.shifts(), has_changed)
    }

    /// Asks every endpoint and network set about what is asked anew, and takes from it what is asked no more.
    fn ask_all(&mut self, facts: &Facts, stirred: &mut Stirred) {
        let Changed { gone, names, fresh, .. } = self.asked.changed();
        let update = |atoms: &Arc<[Atom]>, labels: &Labels| {
            let fresh = if fresh.is_empty() { Vec::new() } else { self.asked.choosing_fresh(labels) };
            let is_same = fresh.is_empty() && (gone.is_empty() || !atoms.iter().any(|atom| gone.contains(atom)));
            (!is_same).then(|| {
                let mut kept: Vec<Atom> =
                    atoms.iter().filter(|atom| !gone.contains(atom)).chain(&fresh).copied().collect();
                kept.sort_unstable();
                kept
            })
        };
        let mut changed = Vec::new();
        for (name, member) in self.members.iter().filter(|(name, _)| !self.changed_endpoints.contains(*name)) {
            let endpoint = &facts.endpoints[name];
            let atoms = update(&member.atoms, &endpoint.labels);
            let ports = names.then(|| self.ports(endpoint)).filter(|ports| *ports != member.ports);
            if atoms.is_some() || ports.is_some() {
                let atoms = atoms.map_or_else(|| member.atoms.clone(), Arc::from);
                let ports = ports.unwrap_or_else(|| member.ports.clone());
                changed.push((name.clone(), Member { atoms, ports, addresses: member.addresses.clone() }));
            }
        }
        let mut changed_sets = Vec::new();
        for (name, set) in facts.sets.iter().filter(|(name, _)| !self.changed_sets.contains(*name)) {
            let none: Arc<[Atom]> = Arc::new([]);
            let atoms = self.sets.get(name).map_or(&none, |(atoms, _)| atoms);
            if let Some(atoms) = update(atoms, &set.labels) {
                changed_sets.push((name.clone(), (atoms, set.nets.clone())));
            }
        }
        for (name, member) in changed {
            self.set_member(&name, Some(member), stirred);
        }
        for (name, set) in changed_sets {
            self.set_set(&name, Some(set), stirred);
        }
    }

    fn member(&self, endpoint: &Endpoint) -> Member {
        let mut addresses = endpoint.addresses.clone();
        addresses.sort_unstable();
        addresses.dedup();
        let atoms = self.asked.choosing(&endpoint.labels).into();
        Member { atoms, ports: self.ports(endpoint), addresses: addresses.into() }
    }

    fn ports(&self, endpoint: &Endpoint) -> Arc<[NamedPort]> {
        let asked = endpoint.ports.iter().filter(|port| self.asked.has_name(&port.name));
        let mut ports: Vec<NamedPort> = asked.cloned().collect();
        ports.sort_unstable();
        ports.dedup();
        ports.into()
    }

    fn set_member(&mut self, name: &Arc<str>, member: Option<Member>, stirred: &mut Stirred) {
        let before = match &member {
            Some(member) => self.members.insert(name.clone(), member.clone()),
            None => self.members.remove(name),
        };
        if before == member {
            return;
        }
        let [before, after] =
            [before, member].map(|member| member.map_or_else(Box::default, |member| member.addresses));
        for address in before.iter().filter(|address| !after.contains(address)) {
            let place = self.places.get_mut(address).expect("an address has a place");
            place.holders.retain(|holder| holder != name);
        }
        for address in after.iter().filter(|address| !before.contains(address)) {
            self.places.entry(*address).or_default().holders.push(name.clone());
        }
        stirred.addresses.extend(before.iter().chain(&after));
    }

    /// Of a network set, its atoms and nets; without atoms it is as if it were not there.
    fn set_set(&mut self, name: &Arc<str>, set: Option<(Vec<Atom>, Vec<Prefix>)>, stirred: &mut Stirred) {
        let after = set.filter(|(atoms, _)| !atoms.is_empty()).map(|(atoms, nets)| (Arc::from(atoms), nets));
        let before = match &after {
            Some(after) => self.sets.insert(name.clone(), after.clone()),
            None => self.sets.remove(name),
        };
        if before == after {
            return;
        }
        let nets = |set: &Option<(_, Vec<Prefix>)>| -> BTreeSet<Prefix> {
            set.iter().flat_map(|(_, nets): &(Arc<[Atom]>, _)| nets).copied().collect()
        };
        let (old, new) = (nets(&before), nets(&after));
        for &net in old.difference(&new) {
            let class = self.nets.set_member(net, name, None);
            self.drop_net(class);
        }
        for &net in &new {
            self.nets.set_member(net, name, after.as_ref().map(|(atoms, _)| atoms.clone()));
        }
        stirred.nets.extend(old.union(&new));
    }

    fn drop_net(&mut self, class: Option<Class>) {
        if let Some(class) = class {
            self.classes.give(class);
        }
    }

    /// Finds the classes of what was stirred, and of what lies in nets that were.
    fn classify(&mut self, stirred: Stirred) {
        let Stirred { mut addresses, nets } = stirred;
        let mut inner = BTreeSet::new();
        let mut outermost: Option<Prefix> = None;
        for &net in &nets {
            if outermost.is_some_and(|outer| outer.contains(net.address()) && outer.length() <= net.length()) {
                continue;
            }
            outermost = Some(net);
            inner.extend(self.nets.within(net));
            let within = net.address()..=net.net().broadcast();
            addresses.extend(self.places.range(within).map(|(address, _)| *address));
        }
        for address in addresses {
            self.classify_address(address);
        }
        for &net in &inner {
            let traits = self.traits(net.address(), net.length(), &[]);
            let class = self.classes.take(traits);
            let entry = self.nets.get_mut(net).expect("it was found just now");
            let before = entry.class.replace(class);
            self.drop_net(before);
        }
        if !nets.is_empty() {
            self.peers.set_nets(self.nets.classes());
        }
    }

    fn classify_address(&mut self, address: IpAddr) {
        let place = &self.places[&address];
        let before = place.class;
        let after = if place.holders.is_empty() {
            self.places.remove(&address);
            None
        } else {
            let length = if address.is_ipv4() { 32 } else { 128 };
            let traits = self.traits(address, length, &place.holders);
            Some(self.classes.take(traits))
        };
        if let Some(place) = self.places.get_mut(&address) {
            place.class = after;
        }
        if before != after {
            self.peers.set_host(address, after);
        }
        self.drop_net(before);
    }

    fn traits(&self, address: IpAddr, length: u8, holders: &[Arc<str>]) -> Traits {
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let mut atoms: Vec<Atom> = self.nets.atoms_around(address, length).collect();
        let members = holders.iter().map(|name| &self.members[name]);
        let mut ports: Arc<[NamedPort]> = Arc::new([]);
        for member in members {
            atoms.extend(&*member.atoms);
            if ports.is_empty() {
                ports = member.ports.clone();
            } else if ports != member.ports {
                let all: BTreeSet<NamedPort> = ports.iter().chain(&*member.ports).cloned().collect();
                ports = all.into_iter().collect();
            }
        }
        atoms.sort_unstable();
        atoms.dedup();
        Traits { family, atoms: atoms.into(), ports }
    }
}

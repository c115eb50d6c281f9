//! Who has which address, and what rules can tell of it.
//!
//! Only what some rule in force asks of peers is kept: a selector or a net is an **atom** while it is asked for. An endpoint has the atoms
//! of the selectors that choose it, an address those of its endpoints, of the nets around it, and of network sets with such nets. Addresses
//! of equal [`Traits`] are of one class.
//!
//! Changes are noted and take effect together, in [`Census::settle`]. A changed endpoint asks the selectors that may choose it
//! ([`super::anchors`]), and a new selector asks the endpoints that it may choose ([`super::roll`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use packet::Prefix;

use super::asked::{Asked, Changed};
use super::classes::{Classes, Shift};
use super::nets::Nets;
use super::roll::Roll;
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
    roll: Roll,
    /// By number; none that is only told of so far.
    members: Vec<Option<Member>>,
    /// Network sets that some selector chooses: atoms and nets.
    sets: HashMap<Arc<str>, Chosen>,
    places: BTreeMap<IpAddr, Place>,
    nets: Nets,
    classes: Classes,
    peers: Peers,
    changed_endpoints: BTreeSet<u32>,
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
    holders: Vec<u32>,
    class: Option<Class>,
}

/// Addresses and nets to be looked at again.
#[derive(Default)]
struct Stirred {
    /// Some of them more than once.
    addresses: Vec<IpAddr>,
    nets: BTreeSet<Prefix>,
}

impl Census {
    /// Notes that an endpoint changed, and which labels it had and has.
    pub(super) fn note_endpoint(&mut self, name: &Arc<str>, before: Option<&Labels>, after: Option<&Labels>) {
        let number = self.roll.enter(name, before, after);
        self.changed_endpoints.insert(number);
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
        self.ask_anew(facts, &mut stirred);
        let changed = self.asked.take_changed();
        for number in std::mem::take(&mut self.changed_endpoints) {
            let name = self.roll.name(number).clone();
            let member = facts.endpoints.get(&name).map(|endpoint| self.member(endpoint));
            if member.is_none() {
                self.roll.forget(&name);
            }
            self.set_member(number, member, &mut stirred);
        }
        for name in std::mem::take(&mut self.changed_sets) {
            let set = facts.sets.get(&name).map(|set| (self.asked.choosing(&set.labels), set.nets.clone()));
            self.set_set(&name, set, &mut stirred);
        }
        for (&net, &atom) in &changed.nets {
            let class = self.nets.set_atom(net, atom);
            self.give_back(class);
            stirred.nets.insert(net);
        }
        let has_changed = !stirred.addresses.is_empty() || !stirred.nets.is_empty();
        self.classify(stirred);
        self.asked.reclaim(changed.gone.into_keys());
        (self.classes.shifts(), has_changed)
    }

    /// Asks of endpoints and network sets what is asked anew, and takes from them what is asked no more.
    fn ask_anew(&mut self, facts: &Facts, stirred: &mut Stirred) {
        for (number, member) in self.members_asked_anew(facts) {
            self.set_member(number, Some(member), stirred);
        }
        let Changed { gone, fresh, .. } = self.asked.changed();
        if gone.is_empty() && fresh.is_empty() {
            return;
        }
        let mut changed = Vec::new();
        for (name, set) in facts.sets.iter().filter(|(name, _)| !self.changed_sets.contains(*name)) {
            let atoms = self.sets.get(name).map_or(&[][..], |(atoms, _)| atoms);
            let mut kept: Vec<Atom> = atoms.iter().filter(|atom| !gone.contains_key(atom)).copied().collect();
            kept.extend(self.asked.choosing_fresh(&set.labels));
            kept.sort_unstable();
            if kept != atoms {
                changed.push((name.clone(), (kept, set.nets.clone())));
            }
        }
        for (name, set) in changed {
            self.set_set(&name, Some(set), stirred);
        }
    }

    /// Endpoints that come to other atoms or names of ports by what is asked anew; those that changed themselves are asked anyway.
    fn members_asked_anew(&self, facts: &Facts) -> Vec<(u32, Member)> {
        let Changed { gone, names, fresh, .. } = self.asked.changed();
        let member = |number: u32| {
            let member = self.members.get(number as usize).and_then(Option::as_ref);
            member.filter(|_| !self.changed_endpoints.contains(&number))
        };
        let mut asked: BTreeMap<u32, Vec<Atom>> = BTreeMap::new();
        for &atom in fresh {
            let selector = self.asked.of_atom(atom);
            for number in self.roll.may_be_chosen_by(selector).filter(|&number| member(number).is_some()) {
                if selector.matches(&facts.endpoints[self.roll.name(number)].labels) {
                    asked.entry(number).or_default().push(atom);
                }
            }
        }
        for (atom, selector) in gone {
            let may_have = selector.iter().flat_map(|selector| self.roll.may_be_chosen_by(selector));
            for number in may_have.filter(|&number| member(number).is_some_and(|member| member.atoms.contains(atom))) {
                asked.entry(number).or_default();
            }
        }
        if *names {
            for number in (0..self.members.len() as u32).filter(|&number| member(number).is_some()) {
                asked.entry(number).or_default();
            }
        }
        let changed = asked.into_iter().map(|(number, fresh)| {
            let member = member(number).expect("it was found just now");
            let mut atoms: Vec<Atom> = member.atoms.iter().filter(|atom| !gone.contains_key(atom)).copied().collect();
            atoms.extend(fresh);
            atoms.sort_unstable();
            let ports = match names {
                true => self.ports(&facts.endpoints[self.roll.name(number)]),
                false => member.ports.clone(),
            };
            (number, Member { atoms: atoms.into(), ports, addresses: member.addresses.clone() })
        });
        changed.collect()
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

    fn set_member(&mut self, number: u32, member: Option<Member>, stirred: &mut Stirred) {
        if self.members.len() <= number as usize {
            self.members.resize(number as usize + 1, None);
        }
        let before = std::mem::replace(&mut self.members[number as usize], member.clone());
        if before == member {
            return;
        }
        let [before, after] =
            [before, member].map(|member| member.map_or_else(Box::default, |member| member.addresses));
        for address in before.iter().filter(|address| !after.contains(address)) {
            let place = self.places.get_mut(address).expect("an address has a place");
            place.holders.retain(|holder| *holder != number);
        }
        for address in after.iter().filter(|address| !before.contains(address)) {
            self.places.entry(*address).or_default().holders.push(number);
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
            self.give_back(class);
        }
        for &net in &new {
            self.nets.set_member(net, name, after.as_ref().map(|(atoms, _)| atoms.clone()));
        }
        stirred.nets.extend(old.union(&new));
    }

    fn give_back(&mut self, class: Option<Class>) {
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
        addresses.sort_unstable();
        addresses.dedup();
        for address in addresses {
            self.classify_address(address);
        }
        for &net in &inner {
            let traits = traits(&self.nets, (net.address(), net.length()), [].into_iter());
            let class = self.classes.take(traits);
            let entry = self.nets.get_mut(net).expect("it was found just now");
            let before = entry.class.replace(class);
            self.give_back(before);
        }
        if !nets.is_empty() {
            self.peers.set_nets(self.nets.classes());
        }
    }

    fn classify_address(&mut self, address: IpAddr) {
        let Self { places, classes, nets, members, peers, .. } = self;
        let place = places.get_mut(&address).expect("an address that was stirred has a place");
        let before = place.class;
        let after = (!place.holders.is_empty()).then(|| {
            let holders = place.holders.iter().filter_map(|&number| members[number as usize].as_ref());
            classes.take(traits(nets, (address, LENGTH_MAX), holders))
        });
        place.class = after;
        if after.is_none() {
            places.remove(&address);
        }
        if before != after {
            peers.set_host(address, after);
        }
        self.give_back(before);
    }
}

/// What rules can tell of an address with these holders; the nets that count are up to so long.
fn traits<'m>(nets: &Nets, (address, length): (IpAddr, u8), holders: impl Iterator<Item = &'m Member>) -> Traits {
    let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
    let mut atoms: Vec<Atom> = nets.atoms_around(address, length).collect();
    let mut ports: Option<Arc<[NamedPort]>> = None;
    for member in holders {
        atoms.extend(&*member.atoms);
        ports = Some(match ports {
            Some(ports) if ports != member.ports => {
                let all: BTreeSet<NamedPort> = ports.iter().chain(&*member.ports).cloned().collect();
                all.into_iter().collect()
            }
            _ => member.ports.clone(),
        });
    }
    atoms.sort_unstable();
    atoms.dedup();
    Traits { family, atoms: atoms.into(), ports: ports.unwrap_or_default() }
}

/// As long as any net.
const LENGTH_MAX: u8 = 128;

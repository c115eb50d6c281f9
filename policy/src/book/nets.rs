//! Nets that rules or network sets name, nested as they are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use packet::Prefix;

use crate::peers::Class;
use crate::program::term::Atom;

/// Every net that matters, with what an address in it has for that.
#[derive(Default)]
pub(super) struct Nets {
    entries: BTreeMap<Prefix, Net>,
    /// How many there are of each length, by family.
    lengths: [BTreeMap<u8, usize>; 2],
}

/// One net.
#[derive(Default)]
pub(super) struct Net {
    /// That of the rules which name it.
    atom: Option<Atom>,
    /// Those of network sets which contain it, by set.
    sets: BTreeMap<Arc<str>, Arc<[Atom]>>,
    /// That of addresses in it which are in no longer one.
    pub(super) class: Option<Class>,
}

impl Nets {
    /// Notes that rules name the net, or do no more. If nothing needs it any more, the class it had is returned.
    pub(super) fn set_atom(&mut self, net: Prefix, atom: Option<Atom>) -> Option<Class> {
        self.entry(net).atom = atom;
        self.tidy(net)
    }

    /// Notes that a network set contains the net and has these atoms, or does not. Returns as [`Nets::set_atom`].
    pub(super) fn set_member(&mut self, net: Prefix, set: &Arc<str>, atoms: Option<Arc<[Atom]>>) -> Option<Class> {
        let entry = self.entry(net);
        match atoms {
            Some(atoms) => entry.sets.insert(set.clone(), atoms),
            None => entry.sets.remove(set),
        };
        self.tidy(net)
    }

    /// The atoms of the nets around an address that are up to so long.
    pub(super) fn atoms_around(&self, address: IpAddr, length_max: u8) -> impl Iterator<Item = Atom> + '_ {
        let lengths = self.lengths[usize::from(address.is_ipv6())].range(..=length_max);
        let around = lengths.filter_map(move |(&length, _)| {
            let net = ipnet::IpNet::new(address, length).expect("a length of the family").trunc();
            self.entries.get(&Prefix::try_from(net).expect("host bits were cut"))
        });
        around.flat_map(|net| net.sets.values().flat_map(|atoms| atoms.iter()).chain(&net.atom)).copied()
    }

    /// The nets inside another, and itself.
    pub(super) fn within(&self, net: Prefix) -> impl Iterator<Item = Prefix> + '_ {
        self.entries.range(net..).map(|(inner, _)| *inner).take_while(move |inner| net.contains(inner.address()))
    }

    pub(super) fn get_mut(&mut self, net: Prefix) -> Option<&mut Net> {
        self.entries.get_mut(&net)
    }

    /// Nets and their classes.
    pub(super) fn classes(&self) -> impl Iterator<Item = (Prefix, Class)> + '_ {
        self.entries.iter().filter_map(|(net, entry)| Some((*net, entry.class?)))
    }

    fn entry(&mut self, net: Prefix) -> &mut Net {
        let lengths = &mut self.lengths[usize::from(net.address().is_ipv6())];
        self.entries.entry(net).or_insert_with(|| {
            *lengths.entry(net.length()).or_default() += 1;
            Net::default()
        })
    }

    fn tidy(&mut self, net: Prefix) -> Option<Class> {
        let entry = &self.entries[&net];
        if entry.atom.is_some() || !entry.sets.is_empty() {
            return None;
        }
        let lengths = &mut self.lengths[usize::from(net.address().is_ipv6())];
        let count = lengths.get_mut(&net.length()).expect("the length of a net that is there");
        *count -= 1;
        if *count == 0 {
            lengths.remove(&net.length());
        }
        self.entries.remove(&net).and_then(|net| net.class)
    }
}

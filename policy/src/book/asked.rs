//! What rules in force ask of peers, each thing once, however many rules ask it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use packet::Prefix;

use super::anchors::Anchors;
use super::question::Question;
use crate::labels::Labels;
use crate::program::term::Atom;
use crate::selector::Selector;

/// Selectors, nets and names of ports, counted.
#[derive(Default)]
pub(super) struct Asked {
    selectors: HashMap<Selector, Atom>,
    nets: HashMap<Prefix, Atom>,
    atoms: Vec<Entry>,
    free: Vec<Atom>,
    /// Of all selectors, and of those that are new.
    anchors: Anchors,
    fresh_anchors: Anchors,
    names: BTreeMap<Arc<str>, usize>,
    changed: Changed,
}

/// What came and went since it was last asked.
#[derive(Default)]
pub(super) struct Changed {
    /// Selectors that are new.
    pub(super) fresh: BTreeSet<Atom>,
    /// What nobody asks any more, by its number until now; nets are no selectors.
    pub(super) gone: BTreeMap<Atom, Option<Selector>>,
    /// Nets that came or went, and what they are now.
    pub(super) nets: BTreeMap<Prefix, Option<Atom>>,
    /// True when there are other names of ports.
    pub(super) names: bool,
}

struct Entry {
    what: What,
    count: usize,
}

#[derive(Clone)]
enum What {
    Selector(Selector),
    Net(Prefix),
}

impl Asked {
    /// Counts what a question asks.
    pub(super) fn hold(&mut self, question: &Question<'_>) {
        for selector in question.selectors() {
            let (atom, is_new) = self.number(What::Selector(selector.clone()));
            if is_new {
                self.anchors.insert(selector, atom);
                self.fresh_anchors.insert(selector, atom);
                self.changed.fresh.insert(atom);
            }
        }
        for net in question.nets() {
            let (atom, is_new) = self.number(What::Net(net));
            if is_new {
                self.changed.nets.insert(net, Some(atom));
            }
        }
        for name in question.names() {
            let count = self.names.entry(name.clone()).or_default();
            self.changed.names |= *count == 0;
            *count += 1;
        }
    }

    /// Takes back what [`Asked::hold`] counted for an equal question.
    pub(super) fn release(&mut self, question: &Question<'_>) {
        for selector in question.selectors() {
            self.release_one(self.selectors[selector]);
        }
        for net in question.nets() {
            self.release_one(self.nets[&net]);
        }
        for name in question.names() {
            let count = self.names.get_mut(name).expect("a name that is held");
            *count -= 1;
            if *count == 0 {
                self.names.remove(name);
                self.changed.names = true;
            }
        }
    }

    /// The selector of a number.
    pub(super) fn of_atom(&self, atom: Atom) -> &Selector {
        match &self.atoms[atom as usize].what {
            What::Selector(selector) => selector,
            What::Net(_) => unreachable!("the number of a selector"),
        }
    }

    /// The number of a selector that is held.
    pub(super) fn selector(&self, selector: &Selector) -> Atom {
        self.selectors[selector]
    }

    /// The number of a net that is held.
    pub(super) fn net(&self, net: Prefix) -> Atom {
        self.nets[&net]
    }

    /// Whether some rule asks for a port of this name.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Those selectors that choose what has these labels, in rising order.
    pub(super) fn choosing(&self, labels: &Labels) -> Vec<Atom> {
        self.choosing_of(&self.anchors, labels)
    }

    /// Those of them that are new.
    pub(super) fn choosing_fresh(&self, labels: &Labels) -> Vec<Atom> {
        self.choosing_of(&self.fresh_anchors, labels)
    }

    /// What changed since this was last called. Numbers that are gone are free from here on.
    pub(super) fn take_changed(&mut self) -> Changed {
        self.fresh_anchors = Anchors::default();
        std::mem::take(&mut self.changed)
    }

    /// What changed, without taking it.
    pub(super) fn changed(&self) -> &Changed {
        &self.changed
    }

    fn choosing_of(&self, anchors: &Anchors, labels: &Labels) -> Vec<Atom> {
        let mut atoms: Vec<Atom> = anchors.candidates(labels).collect();
        atoms.sort_unstable();
        atoms.dedup();
        atoms.retain(|&atom| self.of_atom(atom).matches(labels));
        atoms
    }

    /// Counts one more, and tells whether it is the first.
    fn number(&mut self, what: What) -> (Atom, bool) {
        let known = match &what {
            What::Selector(selector) => self.selectors.get(selector),
            What::Net(net) => self.nets.get(net),
        };
        if let Some(&atom) = known {
            self.atoms[atom as usize].count += 1;
            return (atom, false);
        }
        // Freed numbers wait for the next settling, so what went and came again meanwhile has another.
        let atom = self.free.pop().unwrap_or(self.atoms.len() as Atom);
        match &what {
            What::Selector(selector) => self.selectors.insert(selector.clone(), atom),
            What::Net(net) => self.nets.insert(*net, atom),
        };
        let entry = Entry { what, count: 1 };
        if atom as usize == self.atoms.len() {
            self.atoms.push(entry);
        } else {
            self.atoms[atom as usize] = entry;
        }
        (atom, true)
    }

    fn release_one(&mut self, atom: Atom) {
        let entry = &mut self.atoms[atom as usize];
        entry.count -= 1;
        if entry.count > 0 {
            return;
        }
        match entry.what.clone() {
            What::Selector(selector) => {
                self.selectors.remove(&selector);
                self.anchors.remove(&selector, atom);
                self.fresh_anchors.remove(&selector, atom);
                self.changed.fresh.remove(&atom);
                self.changed.gone.insert(atom, Some(selector));
            }
            What::Net(net) => {
                self.nets.remove(&net);
                self.changed.nets.insert(net, None);
                self.changed.gone.insert(atom, None);
            }
        }
    }

    /// Numbers that may be given again, because nothing has them any more.
    pub(super) fn reclaim(&mut self, gone: impl Iterator<Item = Atom>) {
        self.free.extend(gone);
    }
}

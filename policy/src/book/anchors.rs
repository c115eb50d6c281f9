//! Which selectors may choose something, told by its labels, without asking each.
//!
//! A selector that needs a label with one of a few values is kept under these pairs; one that needs a label, under its key; all
//! others may choose anything.

use std::collections::HashMap;
use std::sync::Arc;

use crate::labels::{self, Labels};
use crate::program::term::Atom;
use crate::selector::Selector;

/// Selectors by what they need.
#[derive(Debug, Default)]
pub(super) struct Anchors {
    pairs: HashMap<Arc<str>, HashMap<Arc<str>, Vec<Atom>>>,
    keys: HashMap<Arc<str>, Vec<Atom>>,
    others: Vec<Atom>,
}

/// A label without which a selector chooses nothing.
pub(super) enum Anchor<'a> {
    Pairs(&'a Arc<str>, &'a [Arc<str>]),
    Key(&'a Arc<str>),
    Anything,
}

impl Anchors {
    pub(super) fn insert(&mut self, selector: &Selector, atom: Atom) {
        self.change(selector, |atoms| atoms.push(atom));
    }

    pub(super) fn remove(&mut self, selector: &Selector, atom: Atom) {
        self.change(selector, |atoms| atoms.retain(|other| *other != atom));
    }

    /// Selectors that may choose what has these labels, each once; all others do not.
    pub(super) fn candidates<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = Atom> + 'a {
        let keyed = labels.iter().flat_map(|(key, value)| {
            let pairs = self.pairs.get(key).and_then(|values| values.get(value));
            pairs.into_iter().chain(self.keys.get(key)).flatten()
        });
        keyed.chain(&self.others).copied()
    }

    fn change(&mut self, selector: &Selector, mut change: impl FnMut(&mut Vec<Atom>)) {
        match Anchor::of(selector, &Anchor::usual_breadth) {
            Anchor::Pairs(key, wanted) => {
                let values = self.pairs.entry(key.clone()).or_default();
                for value in wanted {
                    let atoms = values.entry(value.clone()).or_default();
                    change(atoms);
                    if atoms.is_empty() {
                        values.remove(value);
                    }
                }
                if values.is_empty() {
                    self.pairs.remove(key);
                }
            }
            Anchor::Key(key) => {
                let atoms = self.keys.entry(key.clone()).or_default();
                change(atoms);
                if atoms.is_empty() {
                    self.keys.remove(key);
                }
            }
            Anchor::Anything => change(&mut self.others),
        }
    }
}

impl<'a> Anchor<'a> {
    /// That of a selector; where it needs several labels, the one of the least breadth.
    pub(super) fn of(selector: &'a Selector, breadth: &impl Fn(&Self) -> usize) -> Self {
        use std::slice::from_ref;
        match selector {
            Selector::Has(key)
            | Selector::Contains(key, _)
            | Selector::StartsWith(key, _)
            | Selector::EndsWith(key, _) => Self::Key(key),
            Selector::Equals(key, value) => Self::Pairs(key, from_ref(value)),
            Selector::In(key, values) => Self::Pairs(key, values),
            Selector::And(parts) => {
                let anchors = parts.iter().map(|part| Self::of(part, breadth));
                anchors.min_by_key(|anchor| breadth(anchor)).unwrap_or(Self::Anything)
            }
            Selector::All | Selector::Not(_) | Selector::Or(_) => Self::Anything,
        }
    }

    /// How much it may choose, roughly: whether something is a pod tells little, its namespace tells more, other labels more still.
    fn usual_breadth(&self) -> usize {
        match self {
            Self::Pairs(key, values) => {
                let each = match &***key {
                    labels::ORCHESTRATOR => 1000,
                    labels::NAMESPACE => 10,
                    _ => 1,
                };
                values.len() * each
            }
            Self::Key(_) => usize::MAX - 1,
            Self::Anything => usize::MAX,
        }
    }
}

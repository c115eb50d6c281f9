//! Classes by their traits, counted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::peers::Class;
use crate::program::term::Traits;
use crate::rule::Family;

/// Every class that some address or net has.
pub(super) struct Classes {
    numbers: HashMap<Arc<Traits>, Class>,
    /// Of each number, its traits and how many addresses and nets have it.
    entries: Vec<Option<(Arc<Traits>, usize)>>,
    free: Vec<u32>,
    /// Of numbers that changed since they were last asked, what they were before.
    before: BTreeMap<Class, Option<Arc<Traits>>>,
}

/// A class that is not what it was: what it was and what it is, where it was and is.
pub(super) struct Shift {
    pub(super) class: Class,
    pub(super) before: Option<Arc<Traits>>,
    pub(super) after: Option<Arc<Traits>>,
}

impl Default for Classes {
    fn default() -> Self {
        let mut classes =
            Self { numbers: HashMap::new(), entries: Vec::new(), free: Vec::new(), before: BTreeMap::new() };
        for family in [Family::V4, Family::V6] {
            let traits = Traits { family, atoms: Box::new([]), ports: Arc::new([]) };
            assert_eq!(classes.take(traits), Class::nobody(family), "the first two are those that nobody has");
        }
        classes.before.clear();
        classes
    }
}

impl Classes {
    /// The class of these traits, which is had once more.
    pub(super) fn take(&mut self, traits: Traits) -> Class {
        if let Some(&class) = self.numbers.get(&traits) {
            self.entries[class.0 as usize].as_mut().expect("a class that has a number").1 += 1;
            return class;
        }
        let class = Class(self.free.pop().unwrap_or(self.entries.len() as u32));
        let traits = Arc::new(traits);
        self.numbers.insert(traits.clone(), class);
        if class.0 as usize == self.entries.len() {
            self.entries.push(None);
        }
        self.entries[class.0 as usize] = Some((traits, 1));
        self.before.entry(class).or_default();
        class
    }

    /// Had once less.
    pub(super) fn give(&mut self, class: Class) {
        let entry = &mut self.entries[class.0 as usize];
        let (_, count) = entry.as_mut().expect("a class that is had");
        *count -= 1;
        if *count > 0 {
            return;
        }
        let (traits, _) = entry.take().expect("it was there just now");
        self.numbers.remove(&traits);
        self.free.push(class.0);
        self.before.entry(class).or_insert(Some(traits));
    }

    /// What changed since this was last called.
    pub(super) fn shifts(&mut self) -> Vec<Shift> {
        let before = std::mem::take(&mut self.before).into_iter();
        let shifts = before.map(|(class, before)| Shift { class, before, after: self.traits(class).cloned() });
        shifts.filter(|shift| shift.before != shift.after).collect()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Class, &Arc<Traits>)> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(at, entry)| entry.as_ref().map(|(traits, _)| (Class(at as u32), traits)))
    }

    fn traits(&self, class: Class) -> Option<&Arc<Traits>> {
        self.entries[class.0 as usize].as_ref().map(|(traits, _)| traits)
    }
}

//! All endpoints by number, and by their labels.
//!
//! It finds those that a selector may choose without asking the others: a selector that needs a label with one of some values is only
//! asked of endpoints that have one of these.

use std::collections::HashMap;
use std::sync::Arc;

use super::anchors::Anchor;
use crate::labels::Labels;
use crate::selector::Selector;

/// Endpoints that were told of, and those that are gone but not yet forgotten.
#[derive(Default)]
pub(super) struct Roll {
    numbers: HashMap<Arc<str>, u32>,
    names: Vec<Option<Arc<str>>>,
    free: Vec<u32>,
    /// By key and value, in no order.
    by_label: HashMap<Arc<str>, HashMap<Arc<str>, Vec<u32>>>,
}

impl Roll {
    /// Takes in an endpoint's labels, those it had and those it has, and gives its number.
    pub(super) fn enter(&mut self, name: &Arc<str>, before: Option<&Labels>, after: Option<&Labels>) -> u32 {
        let number = self.numbers.get(name).copied().unwrap_or_else(|| {
            let number = self.free.pop().unwrap_or(self.names.len() as u32);
            if number as usize == self.names.len() {
                self.names.push(None);
            }
            self.names[number as usize] = Some(name.clone());
            self.numbers.insert(name.clone(), number);
            number
        });
        let has = |labels: Option<&Labels>, key: &Arc<str>, value: &Arc<str>| {
            labels.and_then(|labels| labels.get(key)) == Some(value)
        };
        for (key, value) in before.into_iter().flatten().filter(|(key, value)| !has(after, key, value)) {
            self.leave(key, value, number);
        }
        for (key, value) in after.into_iter().flatten().filter(|(key, value)| !has(before, key, value)) {
            if !self.by_label.contains_key(key) {
                self.by_label.insert(key.clone(), HashMap::new());
            }
            let values = self.by_label.get_mut(key).expect("it was put there if it was not");
            match values.get_mut(value) {
                Some(numbers) => numbers.push(number),
                None => drop(values.insert(value.clone(), vec![number])),
            }
        }
        number
    }

    /// Forgets an endpoint that has no labels any more; its number is free.
    pub(super) fn forget(&mut self, name: &str) {
        if let Some(number) = self.numbers.remove(name) {
            self.names[number as usize] = None;
            self.free.push(number);
        }
    }

    /// The name of a number that is not forgotten.
    pub(super) fn name(&self, number: u32) -> &Arc<str> {
        self.names[number as usize].as_ref().expect("the number of an endpoint")
    }

    /// Endpoints of which the selector may choose some; it chooses no others.
    pub(super) fn may_be_chosen_by(&self, selector: &Selector) -> Box<dyn Iterator<Item = u32> + '_> {
        let breadth = |anchor: &Anchor<'_>| match anchor {
            Anchor::Pairs(key, values) => values.iter().map(|value| self.having(key, value).len()).sum(),
            Anchor::Key(key) => self.by_label.get(*key).map_or(0, |values| values.values().map(Vec::len).sum()),
            Anchor::Anything => usize::MAX,
        };
        match Anchor::of(selector, &breadth) {
            Anchor::Pairs(key, values) => {
                let numbers: Vec<u32> = values.iter().flat_map(|value| self.having(key, value)).copied().collect();
                Box::new(numbers.into_iter())
            }
            Anchor::Key(key) => {
                Box::new(self.by_label.get(key).into_iter().flat_map(HashMap::values).flatten().copied())
            }
            Anchor::Anything => {
                Box::new((0..).zip(&self.names).filter(|(_, name)| name.is_some()).map(|(number, _)| number))
            }
        }
    }

    fn having(&self, key: &Arc<str>, value: &Arc<str>) -> &[u32] {
        self.by_label.get(key).and_then(|values| values.get(value)).map_or(&[], |numbers| numbers)
    }

    fn leave(&mut self, key: &Arc<str>, value: &Arc<str>, number: u32) {
        let Some(values) = self.by_label.get_mut(key) else { return };
        let Some(numbers) = values.get_mut(value) else { return };
        if let Some(at) = numbers.iter().position(|other| *other == number) {
            numbers.swap_remove(at);
        }
        if numbers.is_empty() {
            values.remove(value);
        }
        if values.is_empty() {
            self.by_label.remove(key);
        }
    }
}

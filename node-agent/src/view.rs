//! The leases as the store shows them, kept up to date by what it says of changes.

use std::collections::BTreeMap;

use crate::lease::{Attributes, Subnets};

/// Everything below `subnets/`, by the rest of the key.
#[derive(Clone, Debug, Default)]
pub struct View(BTreeMap<String, Entry>);

/// One key of the store.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The value as it is written.
    pub text: String,
    /// What it says, or what is wrong with it.
    pub lease: Result<(Subnets, Attributes), String>,
}

/// What a store says of its leases.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Update {
    /// All there are.
    All(BTreeMap<String, String>),
    /// Some that came or changed, and some that went, in their order.
    Some(Vec<(String, Option<String>)>),
    /// It cannot be asked at present.
    Trouble(String),
}

impl View {
    /// What is there now.
    pub fn new(all: BTreeMap<String, String>) -> Self {
        View(all.into_iter().map(|(key, text)| (key.clone(), Entry::new(&key, text))).collect())
    }

    /// Takes notice of an update; what was said twice changes nothing.
    pub fn apply(&mut self, update: Update) {
        match update {
            Update::All(all) => *self = View::new(all),
            Update::Some(changes) => changes.into_iter().for_each(|(key, text)| match text {
                Some(text) => drop(self.0.insert(key.clone(), Entry::new(&key, text))),
                None => drop(self.0.remove(&key)),
            }),
            Update::Trouble(_) => {}
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|entry| entry.text.as_str())
    }

    /// Keys and entries, in order of the keys.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(key, entry)| (key.as_str(), entry))
    }

    /// The leases that can be read.
    pub fn leases(&self) -> impl Iterator<Item = (&str, Subnets, &Attributes)> {
        self.entries().filter_map(|(key, entry)| entry.lease.as_ref().ok().map(|(subnets, said)| (key, *subnets, said)))
    }
}

impl Entry {
    fn new(key: &str, text: String) -> Self {
        let read = || {
            let subnets: Subnets = key.parse().map_err(|error: crate::lease::KeyError| error.to_string())?;
            let attributes = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            Ok((subnets, attributes))
        };
        Entry { lease: read(), text }
    }
}

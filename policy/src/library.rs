//! What was told in documents, by name, and the book that is written from it.
//!
//! [`Library::apply`] takes a text whole or not at all, and so does [`Library::remove`] a list of names. Documents come in any order.
//!
//! ```text
//!  documents:  policies, sets, tiers, profiles ------------------------------------>  Book
//!              Pod        ----+                                                        ^
//!              Namespace  ----+--> endpoint: labels of all three, ports, addresses ----+
//!  attached here: LocalPod ---+
//! ```
//!
//! A pod that is attached here has the addresses it was attached with, whatever its document says. Its labels are those it was attached
//! with, and those of its document, which is newer and counts where both have a key.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::book::{Book, Changes};
use crate::endpoint::{Endpoint, NamedPort};
use crate::error::Error;
use crate::labels::{self, Labels};
use crate::read::{Entry, Namespace, Object, Pod, ReadError, entries, standard_tiers};
use crate::rule::NetworkSet;

/// Documents and attached pods, with the book of both.
#[derive(Debug)]
pub struct Library {
    book: Book,
    documents: BTreeMap<Arc<str>, Entry>,
    attached: BTreeMap<Arc<str>, LocalPod>,
}

/// A pod of this node, by what it was attached with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPod {
    /// Its name with namespace: `default/web-0`.
    name: Arc<str>,
    labels: Labels,
    addresses: Vec<IpAddr>,
}

/// What a change did, for [`Library::revert`]: documents by name, as they were before.
#[derive(Debug, Default, PartialEq)]
#[must_use = "what was done is taken back by this alone"]
pub struct Before(Vec<(Arc<str>, Option<Entry>)>);

/// Why documents were not taken, none of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum LibraryError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Refused(#[from] Error),
    #[error("{name} is given twice")]
    Twice { name: Arc<str> },
    #[error("there is no {name}")]
    Absent { name: Arc<str> },
    #[error("this would make {count} documents, and {max} are kept at most", max = DOCUMENTS_MAX)]
    Full { count: usize },
}

impl Library {
    /// A library without documents: every pod is open.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in all documents of a text, each in the place of the one of its name.
    pub fn apply(&mut self, text: &str) -> Result<Before, LibraryError> {
        let mut names = BTreeSet::new();
        let mut changes = Vec::new();
        for entry in entries(text)? {
            let name = entry.object.key();
            if !names.insert(name.clone()) {
                return Err(LibraryError::Twice { name });
            }
            changes.push((name, Some(entry)));
        }
        let count = self.documents.len() + names.iter().filter(|name| !self.documents.contains_key(*name)).count();
        if count > DOCUMENTS_MAX {
            return Err(LibraryError::Full { count });
        }
        self.exchange(changes)
    }

    /// Takes out the documents of these names, as [`Library::documents`] lists them.
    pub fn remove(&mut self, names: &[Arc<str>]) -> Result<Before, LibraryError> {
        if let Some(name) = names.iter().find(|name| !self.documents.contains_key(*name)) {
            return Err(LibraryError::Absent { name: name.clone() });
        }
        self.exchange(names.iter().map(|name| (name.clone(), None)).collect())
    }

    /// Puts everything back as it was before a change, the last one that was not reverted.
    pub fn revert(&mut self, Before(before): Before) {
        // By the way it came the limits were kept too.
        self.exchange(before).expect("what was taken in once is taken in again").forget();
    }

    /// Makes a pod one of this node.
    pub fn attach(&mut self, pod: LocalPod) {
        let name = pod.name.clone();
        self.attached.insert(name.clone(), pod);
        self.tell_pod(&name);
    }

    /// Forgets that a pod is of this node; what its document says stays.
    pub fn detach(&mut self, name: &str) {
        if let Some(pod) = self.attached.remove(name) {
            self.tell_pod(&pod.name);
        }
    }

    /// All documents in order of their names: `networkpolicy/default/web`, `pod/default/web-0`, `tier/first`.
    pub fn documents(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Entry)> {
        self.documents.iter()
    }

    /// The document of that name.
    pub fn document(&self, name: &str) -> Option<&Entry> {
        self.documents.get(name)
    }

    /// What it all comes to.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Brings programs up to what was told, see [`Book::compile`].
    pub fn compile(&mut self) -> Changes {
        self.book.compile()
    }

    fn exchange(&mut self, changes: Vec<(Arc<str>, Option<Entry>)>) -> Result<Before, LibraryError> {
        let mut before = Vec::with_capacity(changes.len());
        let done = changes.into_iter().try_for_each(|(name, after)| {
            let replaced = self.put(&name, after)?;
            before.push((name, replaced));
            Ok(())
        });
        before.reverse();
        match done {
            Ok(()) => Ok(Before(before)),
            Err(error) => {
                self.revert(Before(before));
                Err(error)
            }
        }
    }

    /// Puts one document in the place of another, and tells the book.
    fn put(&mut self, name: &Arc<str>, after: Option<Entry>) -> Result<Option<Entry>, LibraryError> {
        match after.as_ref().map(|entry| &entry.object) {
            Some(Object::Tier(tier)) => self.book.set_tier(tier.clone())?,
            Some(Object::Policy(policy)) => self.book.set_policy(policy.clone())?,
            Some(Object::Profile(profile)) => self.book.set_profile(profile.clone())?,
            Some(Object::NetworkSet(_) | Object::Namespace(_) | Object::Pod(_)) | None => {}
        }
        let is_gone = after.is_none();
        let before = match after {
            Some(entry) => self.documents.insert(name.clone(), entry),
            None => self.documents.remove(name),
        };
        if is_gone && let Some(Entry { object, .. }) = &before {
            self.tell_gone(object);
        }
        let object = self.documents.get(name).or(before.as_ref()).map(|entry| entry.object.clone());
        match object {
            Some(Object::NetworkSet(set)) if !is_gone => self.tell_set(set),
            Some(Object::Namespace(Namespace { name, .. })) => self.tell_namespace(&name),
            Some(Object::Pod(Pod { name, .. })) => self.tell_pod(&name),
            _ => {}
        }
        Ok(before)
    }

    fn tell_gone(&mut self, object: &Object) {
        match object {
            Object::Tier(tier) => match standard_tiers().into_iter().find(|standard| standard.name == tier.name) {
                Some(standard) => self.book.set_tier(standard).expect("standard tiers end as tiers may"),
                None => drop(self.book.remove_tier(&tier.name)),
            },
            Object::Policy(policy) => drop(self.book.remove_policy(&policy.name)),
            Object::Profile(profile) => drop(self.book.remove_profile(&profile.name)),
            Object::NetworkSet(set) => drop(self.book.remove_network_set(&set.name)),
            Object::Namespace(_) | Object::Pod(_) => {}
        }
    }

    /// Tells the book anew of all that inherits from a namespace.
    fn tell_namespace(&mut self, namespace: &str) {
        let documents = |kind: &str| behind(&self.documents, &format!("{kind}/{namespace}/"));
        let (mut pods, sets) = (documents("pod"), documents("networkset"));
        pods.extend(behind(&self.attached, &format!("{namespace}/")));
        for pod in pods {
            self.tell_pod(&format!("{namespace}/{pod}"));
        }
        for set in sets {
            let document = self.documents.get(&*format!("networkset/{namespace}/{set}"));
            if let Some(Object::NetworkSet(set)) = document.map(|entry| entry.object.clone()) {
                self.tell_set(set);
            }
        }
    }

    fn tell_set(&mut self, mut set: NetworkSet) {
        if let Some(namespace) = set.labels.get(labels::NAMESPACE).cloned() {
            set.labels.extend(self.inherited(&namespace));
        }
        self.book.set_network_set(set);
    }

    /// Tells the book of a pod, or that it is gone.
    fn tell_pod(&mut self, name: &str) {
        let document = self.documents.get(&*format!("pod/{name}")).map(|entry| &entry.object);
        let document = if let Some(Object::Pod(pod)) = document { Some(pod) } else { None };
        let attached = self.attached.get(name);
        let Some(name) = attached.map(|pod| &pod.name).or(document.map(|pod| &pod.name)) else {
            self.book.remove_endpoint(name);
            return;
        };
        let own = [attached.map(|pod| &pod.labels), document.map(|pod| &pod.labels)];
        let mut labels: Labels =
            own.into_iter().flatten().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        if let Some(namespace) = labels.get(labels::NAMESPACE).cloned() {
            labels.extend(self.inherited(&namespace));
        }
        let port = |(name, protocol, port): &(Arc<str>, _, u16)| NamedPort {
            name: name.clone(),
            protocol: *protocol,
            port: *port,
        };
        let addresses = attached.map(|pod| &pod.addresses).or(document.map(|pod| &pod.addresses));
        self.book.set_endpoint(Endpoint {
            name: name.clone(),
            labels,
            profiles: Vec::new(),
            addresses: addresses.cloned().unwrap_or_default(),
            ports: document.map(|pod| pod.ports.iter().map(port).collect()).unwrap_or_default(),
            is_local: attached.is_some(),
        });
    }

    /// What everything in a namespace has from it; its name also where nobody told of it.
    fn inherited(&self, namespace: &Arc<str>) -> Labels {
        match self.documents.get(&*format!("namespace/{namespace}")).map(|entry| &entry.object) {
            Some(Object::Namespace(known)) => known.inherited.clone(),
            _ => Namespace::unlabelled(namespace.clone()).inherited,
        }
    }
}

impl Default for Library {
    fn default() -> Self {
        let mut book = Book::new();
        for tier in standard_tiers() {
            book.set_tier(tier).expect("standard tiers end as tiers may");
        }
        Self { book, documents: BTreeMap::new(), attached: BTreeMap::new() }
    }
}

impl LocalPod {
    /// A pod of a namespace with the labels it was given; None if one of them passes for a namespace's or account's.
    pub fn new((namespace, name): (&str, &str), own: Labels, addresses: Vec<IpAddr>) -> Option<Self> {
        if own.keys().any(|key| labels::is_reserved(key)) {
            return None;
        }
        let mut labels = own;
        labels.insert(labels::NAMESPACE.into(), namespace.into());
        labels.insert(labels::ORCHESTRATOR.into(), labels::KUBERNETES.into());
        Some(Self { name: format!("{namespace}/{name}").into(), labels, addresses })
    }

    /// Its name with namespace.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

/// What follows `prefix` in the names that begin with it.
fn behind<T>(named: &BTreeMap<Arc<str>, T>, prefix: &str) -> BTreeSet<String> {
    let from = named.range(Arc::<str>::from(prefix)..);
    from.map_while(|(name, _)| name.strip_prefix(prefix)).map(str::to_owned).collect()
}

impl Before {
    /// Says that nothing will be taken back.
    pub fn forget(self) {}
}

/// The most documents of a library.
pub const DOCUMENTS_MAX: usize = 1 << 18;

#[cfg(test)]
mod tests;

//! Policies as people and `kubectl` write them, read into the one form of rules.
//!
//! ```text
//!  text --YAML--> documents --kind--> typed objects --> rules, labels
//!         bounded    lists opened      every field        parsed: no illegal value
//! ```
//!
//! JSON is YAML too, so there is one reader for both. A text is taken whole or refused whole; a refusal names the document, the
//! object and the path of the field. What is checked, is checked while a field is read, so its path comes by itself. Unknown kinds,
//! versions and fields are refused, because a policy that is half understood lets through what it should not; only what the server
//! itself writes into `metadata` and `status` is passed over, and the parts of Pods and Namespaces that have nothing to do with policy.
//!
//! Size, depth, and what aliases expand to are bounded, see [`TEXT_MAX`].

use std::net::IpAddr;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

mod calico;
mod cluster;
mod document;
mod error;
mod kubernetes;
mod values;

use document::Document;
pub use error::ReadError;

use crate::labels::Labels;
use crate::rule::{Action, NetworkSet, Order, Policy, Profile, Protocol, Tier};

/// More bytes are refused unread.
pub const TEXT_MAX: usize = 32 << 20;

/// The tier of Kubernetes' own policies, and of Calico's that name none.
pub const DEFAULT_TIER: &str = "default";
/// The tier of ClusterNetworkPolicies that say Admin.
pub const ADMIN_TIER: &str = "kube-admin";
/// The tier of ClusterNetworkPolicies that say Baseline.
pub const BASELINE_TIER: &str = "kube-baseline";

/// Something that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// Of Calico's Tier.
    Tier(Tier),
    /// Of a policy of any language.
    Policy(Policy),
    /// Of Calico's Profile.
    Profile(Profile),
    /// Of Calico's NetworkSet or GlobalNetworkSet.
    NetworkSet(NetworkSet),
    /// Of a Namespace.
    Namespace(Namespace),
    /// Of a Pod.
    Pod(Pod),
}

/// What pods and network sets inherit from their namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// To be added to the labels of whatever is in it; keys have [`crate::labels::NAMESPACE_PREFIX`] already.
    pub inherited: Labels,
}

/// What is known of a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// Its name with namespace: `default/web-0`.
    pub name: Arc<str>,
    /// Its own labels, and its namespace's and account's names; what it inherits is to be added.
    pub labels: Labels,
    /// Its addresses; none when it has the node's, has none yet, or has ended.
    pub addresses: Vec<IpAddr>,
    /// Its ports with names.
    pub ports: Vec<(Arc<str>, Protocol, u16)>,
}

/// An object, and the document it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What it says.
    pub object: Object,
    /// The document as JSON, without what of `metadata` is passed over; it reads as the same object.
    pub source: Arc<str>,
}

/// Reads any number of documents.
pub fn read(text: &str) -> Result<Vec<Object>, ReadError> {
    document::documents(text)?.into_iter().map(object).collect()
}

/// The same, each with its document.
pub fn entries(text: &str) -> Result<Vec<Entry>, ReadError> {
    let entry = |document: Document| {
        let source = document.source();
        Ok(Entry { object: object(document)?, source })
    };
    document::documents(text)?.into_iter().map(entry).collect()
}

impl Object {
    /// Its name with kind and namespace, by which there is one of it: `networkpolicy/default/web`, `namespace/default`.
    pub fn key(&self) -> Arc<str> {
        match self {
            Self::Policy(policy) => policy.name.clone(),
            Self::NetworkSet(set) => set.name.clone(),
            Self::Tier(tier) => format!("tier/{}", tier.name).into(),
            Self::Profile(profile) => format!("profile/{}", profile.name).into(),
            Self::Namespace(namespace) => format!("namespace/{}", namespace.name).into(),
            Self::Pod(pod) => format!("pod/{}", pod.name).into(),
        }
    }
}

/// Tiers that are there without being told.
pub fn standard_tiers() -> [Tier; 3] {
    let tier = |name: &str, order, otherwise| Tier { name: name.into(), order: Order(Some(order)), otherwise };
    [
        tier(ADMIN_TIER, 1_000.0, Action::Pass),
        tier(DEFAULT_TIER, 1_000_000.0, Action::Deny),
        tier(BASELINE_TIER, 10_000_000.0, Action::Pass),
    ]
}

/// The versions in which a kind is known, and its reader.
fn object(document: Document) -> Result<Object, ReadError> {
    let group = match &*document.api_version {
        "v1" => "core",
        "networking.k8s.io/v1" => "kubernetes",
        "policy.networking.k8s.io/v1alpha2" => "cluster",
        "projectcalico.org/v3" | "crd.projectcalico.org/v1" => "calico",
        _ => "",
    };
    match (group, &*document.kind) {
        ("core", "Namespace") => into(document, |read: kubernetes::Namespace| Object::Namespace(read.into())),
        ("core", "Pod") => into(document, |read: kubernetes::Pod| Object::Pod(read.into())),
        ("kubernetes", "NetworkPolicy") => {
            into(document, |read: kubernetes::NetworkPolicy| Object::Policy(read.into()))
        }
        ("cluster", "ClusterNetworkPolicy") => {
            into(document, |read: cluster::ClusterNetworkPolicy| Object::Policy(read.into()))
        }
        ("calico", "NetworkPolicy") => into(document, |read: calico::NetworkPolicy| Object::Policy(read.into())),
        ("calico", "GlobalNetworkPolicy") => {
            into(document, |read: calico::GlobalNetworkPolicy| Object::Policy(read.into()))
        }
        ("calico", "NetworkSet") => into(document, |read: calico::NetworkSet| Object::NetworkSet(read.into())),
        ("calico", "GlobalNetworkSet") => {
            into(document, |read: calico::GlobalNetworkSet| Object::NetworkSet(read.into()))
        }
        ("calico", "Tier") => into(document, |read: calico::Tier| Object::Tier(read.into())),
        ("calico", "Profile") => into(document, |read: calico::Profile| Object::Profile(read.into())),
        _ => Err(document.unknown()),
    }
}

fn into<T: DeserializeOwned>(document: Document, made: impl FnOnce(T) -> Object) -> Result<Object, ReadError> {
    let (whose, value): (document::Whose, Value) = document.into_parts();
    serde_path_to_error::deserialize(value).map(made).map_err(|error| whose.refused(&error))
}

//! What an endpoint is called: keys and values by which rules choose it.
//!
//! Names of other kinds are labels here too, under keys no user can write: the labels of an endpoint's namespace have the prefix
//! [`NAMESPACE_PREFIX`], those of its service account [`ACCOUNT_PREFIX`], and [`NAMESPACE`] holds the namespace's name. So
//! one selector says all of "these pods in those namespaces under that account".

use std::collections::BTreeMap;
use std::sync::Arc;

/// The key that holds the name of an endpoint's namespace.
pub const NAMESPACE: &str = "projectcalico.org/namespace";
/// The key that holds the name of an endpoint's service account.
pub const ACCOUNT: &str = "projectcalico.org/serviceaccount";
/// The key that pods have and network sets lack, with the value [`KUBERNETES`]: Kubernetes' own selectors choose pods only.
pub const ORCHESTRATOR: &str = "projectcalico.org/orchestrator";
/// The value of [`ORCHESTRATOR`] for pods.
pub const KUBERNETES: &str = "k8s";
/// Before the keys of the namespace's own labels.
pub const NAMESPACE_PREFIX: &str = "pcns.";
/// Before the keys of the service account's own labels.
pub const ACCOUNT_PREFIX: &str = "pcsa.";

/// Labels by key. Strings are shared: a value that ten thousand endpoints have is in memory once if its reader interns it.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// Whether a key is one that no user can write.
pub fn is_reserved(key: &str) -> bool {
    [NAMESPACE_PREFIX, ACCOUNT_PREFIX, NAMESPACE, ACCOUNT, ORCHESTRATOR]
        .iter()
        .any(|reserved| key.starts_with(reserved))
}

/// Whether selectors can speak of such a key.
pub fn is_key(text: &str) -> bool {
    (1..=512).contains(&text.len()) && text.bytes().all(|one| one.is_ascii_alphanumeric() || b"_./-".contains(&one))
}

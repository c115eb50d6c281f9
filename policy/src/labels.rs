//! What an endpoint is called: keys and values by which rules choose it.
//!
//! Names of other kinds are labels here too, under keys no user can write: the labels of an endpoint's namespace have the prefix
//! [`NAMESPACE_PREFIX`], those of its service account [`ACCOUNT_PREFIX`], and [`NAMESPACE`] holds the namespace's name. So
//! one selector says all of "these pods in those namespaces under that account".

use std::collections::BTreeMap;
use std::sync::Arc;

/// The key that holds the name of an endpoint's namespace.
pub const NAMESPACE: &str = "projectcalico.org/namespace";
/// Before the keys of the namespace's own labels.
pub const NAMESPACE_PREFIX: &str = "pcns.";
/// Before the keys of the service account's own labels.
pub const ACCOUNT_PREFIX: &str = "pcsa.";

/// Labels by key. Strings are shared: a value that ten thousand endpoints have is in memory once if its reader interns it.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

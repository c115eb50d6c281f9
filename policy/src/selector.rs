//! Expressions over labels, in Calico's grammar.

mod parse;

use std::sync::Arc;

use crate::labels::Labels;

pub use self::parse::{DEPTH_MAX, SelectorError};

/// Chooses endpoints and network sets by their labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selector {
    /// Everything.
    All,
    /// What has the label.
    Has(Arc<str>),
    /// What has the label with this value.
    Equals(Arc<str>, Arc<str>),
    /// What has the label with one of these values.
    In(Arc<str>, Vec<Arc<str>>),
    /// What has the label with a value that contains this.
    Contains(Arc<str>, Arc<str>),
    /// What has the label with a value that starts with this.
    StartsWith(Arc<str>, Arc<str>),
    /// What has the label with a value that ends with this.
    EndsWith(Arc<str>, Arc<str>),
    /// What this does not choose.
    Not(Box<Selector>),
    /// What all of these choose.
    And(Vec<Selector>),
    /// What any of these chooses.
    Or(Vec<Selector>),
}

impl Selector {
    /// Whether it chooses what has these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = |key: &Arc<str>| labels.get(key);
        match self {
            Self::All => true,
            Self::Has(key) => value(key).is_some(),
            Self::Equals(key, wanted) => value(key) == Some(wanted),
            Self::In(key, wanted) => value(key).is_some_and(|value| wanted.contains(value)),
            Self::Contains(key, part) => value(key).is_some_and(|value| value.contains(&**part)),
            Self::StartsWith(key, part) => value(key).is_some_and(|value| value.starts_with(&**part)),
            Self::EndsWith(key, part) => value(key).is_some_and(|value| value.ends_with(&**part)),
            Self::Not(selector) => !selector.matches(labels),
            Self::And(selectors) => selectors.iter().all(|selector| selector.matches(labels)),
            Self::Or(selectors) => selectors.iter().any(|selector| selector.matches(labels)),
        }
    }
}

//! Expressions over labels, in Calico's grammar.

/// Chooses endpoints and network sets by their labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selector {
    /// Everything.
    All,
}

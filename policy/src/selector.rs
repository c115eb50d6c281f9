//! Expressions over labels, in Calico's grammar.
//!
//! ```text
//!  or  := and { "||" and }
//!  and := not { "&&" not }
//!  not := { "!" } one
//!  one := "(" or ")" | "all()" | "global()" | "has(" key ")"
//!       | key ( "==" | "!=" | "contains" | "starts with" | "ends with" ) value
//!       | key ( "in" | "not in" ) "{" [ value { "," value } ] "}"
//! ```
//!
//! A value stands in `"` or `'` and has no escapes. `!=` and `not in` hold for what lacks the label; an empty text is `all()`.
//! Selectors are made in one form for each meaning that is easily seen to be the same: sets sorted, `&&` and `||` flat, no double
//! negation. Written out and parsed again, a selector is the same one. `all()` and `global()` depend on what is spoken of:
//!
//! | [`Scope`] | keys are | `all()` | `global()` |
//! |---|---|---|---|
//! | `Endpoints` | as written | everything | what is in no namespace |
//! | `Namespaces` | labels of the namespace | what is in a namespace | what is in no namespace |
//! | `Accounts` | labels of the service account | what has a service account | what is in no namespace |
//!
//! Parentheses may be nested [`NESTING_MAX`] deep, so whatever walks a selector that was parsed may recurse.

use std::fmt;
use std::sync::Arc;

mod parse;

pub use parse::{NESTING_MAX, Scope, SyntaxError};

use crate::labels::Labels;

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
    /// Reads an expression over the labels of endpoints and network sets.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        parse::parse(text, Scope::Endpoints)
    }

    /// Reads an expression over the labels of something that endpoints are of.
    pub fn parse_of(scope: Scope, text: &str) -> Result<Self, SyntaxError> {
        parse::parse(text, scope)
    }

    /// What has the label with this value.
    pub fn equals(key: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        Self::Equals(key.into(), value.into())
    }

    /// What has the label with one of these values; nothing, if there are none.
    pub fn any_of(key: impl Into<Arc<str>>, values: impl IntoIterator<Item = Arc<str>>) -> Self {
        let mut values: Vec<Arc<str>> = values.into_iter().collect();
        values.sort();
        values.dedup();
        match &values[..] {
            [value] => Self::Equals(key.into(), value.clone()),
            _ => Self::In(key.into(), values),
        }
    }

    /// What all of these choose; everything, if there are none.
    pub fn and(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::All => {}
                Self::And(inner) => flat.extend(inner),
                part => flat.push(part),
            }
        }
        match flat.len() {
            0 => Self::All,
            1 => flat.remove(0),
            _ => Self::And(flat),
        }
    }

    /// What any of these chooses; nothing, if there are none.
    pub fn or(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::All => return Self::All,
                Self::Or(inner) => flat.extend(inner),
                part => flat.push(part),
            }
        }
        match flat.len() {
            0 => Self::negation(Self::All),
            1 => flat.remove(0),
            _ => Self::Or(flat),
        }
    }

    /// What `inner` does not choose.
    pub fn negation(inner: Self) -> Self {
        match inner {
            Self::Not(inner) => *inner,
            inner => Self::Not(Box::new(inner)),
        }
    }

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

impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => out.write_str("all()"),
            Self::Has(key) => write!(out, "has({key})"),
            Self::Equals(key, value) => write!(out, "{key} == {}", Quoted(value)),
            Self::In(key, values) => write!(out, "{key} in {}", Set(values)),
            Self::Contains(key, value) => write!(out, "{key} contains {}", Quoted(value)),
            Self::StartsWith(key, value) => write!(out, "{key} starts with {}", Quoted(value)),
            Self::EndsWith(key, value) => write!(out, "{key} ends with {}", Quoted(value)),
            Self::Not(inner) => match &**inner {
                Self::Equals(key, value) => write!(out, "{key} != {}", Quoted(value)),
                Self::In(key, values) => write!(out, "{key} not in {}", Set(values)),
                inner @ (Self::And(_) | Self::Or(_)) => write!(out, "!({inner})"),
                inner => write!(out, "!{inner}"),
            },
            Self::And(parts) => join(out, parts, " && "),
            Self::Or(parts) => join(out, parts, " || "),
        }
    }
}

/// Parts that are joined themselves stand in parentheses.
fn join(out: &mut fmt::Formatter<'_>, parts: &[Selector], between: &str) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        out.write_str(if at == 0 { "" } else { between })?;
        match part {
            Selector::And(_) | Selector::Or(_) => write!(out, "({part})")?,
            part => write!(out, "{part}")?,
        }
    }
    Ok(())
}

/// A value never holds both kinds of quotes: no text can say such a one.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('"') { '\'' } else { '"' };
        write!(out, "{quote}{}{quote}", self.0)
    }
}

struct Set<'a>(&'a [Arc<str>]);

impl fmt::Display for Set<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("{")?;
        for (at, value) in self.0.iter().enumerate() {
            write!(out, "{}{}", if at == 0 { "" } else { ", " }, Quoted(value))?;
        }
        out.write_str("}")
    }
}

#[cfg(test)]
mod tests;

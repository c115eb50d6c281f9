//! Pauses: while there is one no pod is attached; those that are go on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::serde_as_text;
use crate::{Origin, ParseError};

/// No new pod, for a reason. Each origin has one pause at most; it lasts until the same origin ends it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// What is in the way, for whoever wants a pod attached.
    pub why: Why,
    /// Who asked.
    pub origin: Origin,
}

/// The end of a pause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resume {
    /// Who asked for it.
    pub origin: Origin,
}

/// A reason: one line of 1 to 300 bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Why(String);

impl Why {
    /// A reason made of any text, which is cut and put into one line where it has to be; none of an empty one.
    pub fn of(text: &str) -> Option<Why> {
        let line = text.replace(char::is_control, " ");
        let mut end = line.len().min(WHY_LEN_MAX);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line[..end].parse().ok()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Why {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.trim().is_empty() || text.len() > WHY_LEN_MAX || text.contains(char::is_control) {
            return Err(ParseError::Why);
        }
        Ok(Why(text.to_owned()))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

serde_as_text!(Why);

/// Longest reason, in bytes.
const WHY_LEN_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_some_length() {
        let longest = "a".repeat(300);
        for text in ["no lease", "ä", &longest] {
            assert_eq!(text.parse::<Why>().unwrap().as_str(), text);
            assert_eq!(Why::of(text).unwrap().as_str(), text);
        }
        let longer = format!("a{}", "ä".repeat(150));
        for text in ["", "  ", "two\nlines", &longer] {
            assert!(text.parse::<Why>().is_err(), "{text}");
        }
        assert_eq!(Why::of("two\nlines").unwrap().as_str(), "two lines");
        assert_eq!(Why::of(&longer).unwrap().as_str(), &longer[..299]);
        assert_eq!(Why::of("\n"), None);
    }
}

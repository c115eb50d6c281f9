//! Addresses that the switch chooses: where from, and for whom.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use packet::Prefix;
use serde::{Deserialize, Serialize};

use crate::text::serde_as_text;
use crate::{Name, ParseError};

/// The wish that the switch choose a pod's addresses: one from each pool in which none of the given ones lies.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assign {
    /// Where from; empty, the node's pod ranges, those of each family being one pool. A pool is asked range by range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Vec<AddressRange>>,
    /// Who gets its earlier addresses again when it comes back, as long as they are free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_for: Option<Name>,
}

/// Addresses of one family from a first to a last one, both included; written as a prefix, as `FIRST-LAST`, or as one
/// address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

impl AddressRange {
    /// The addresses from `first` to `last`; refuses those of two families, and a last one before the first.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Self, ParseError> {
        if first.is_ipv4() != last.is_ipv4() || first > last {
            return Err(ParseError::AddressRange { text: format!("{first}-{last}") });
        }
        Ok(AddressRange { first, last })
    }

    /// The first address.
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// The last address.
    pub fn last(self) -> IpAddr {
        self.last
    }

    /// True when `address` is one of them.
    pub fn contains(self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && self.first <= address && address <= self.last
    }
}

impl From<Prefix> for AddressRange {
    fn from(prefix: Prefix) -> Self {
        AddressRange { first: prefix.address(), last: prefix.net().broadcast() }
    }
}

impl FromStr for AddressRange {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::AddressRange { text: text.to_owned() };
        if let Some((first, last)) = text.split_once('-') {
            let [first, last] = [first, last].map(|end| end.parse().map_err(|_| wrong()));
            return AddressRange::new(first?, last?);
        }
        if let Ok(address) = text.parse() {
            return AddressRange::new(address, address);
        }
        text.parse::<Prefix>().map(AddressRange::from).map_err(|_| wrong())
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

serde_as_text!(AddressRange);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_written_in_three_ways() {
        for (text, meant) in [
            ("10.0.0.0/30", "10.0.0.0-10.0.0.3"),
            ("10.0.0.9-10.0.1.1", "10.0.0.9-10.0.1.1"),
            ("fd00::5", "fd00::5"),
            ("fd00::/127", "fd00::-fd00::1"),
        ] {
            let range: AddressRange = text.parse().unwrap();
            assert_eq!(range.to_string(), meant);
            assert_eq!(meant.parse(), Ok(range));
            assert!(range.contains(range.first()) && range.contains(range.last()));
        }
        for text in ["", "-", "10.0.0.9-10.0.0.8", "10.0.0.1-fd00::1", "10.0.0.1/24", "10.0.0.1-", "x"] {
            assert!(text.parse::<AddressRange>().unwrap_err().to_string().contains("range"), "{text}");
        }
    }
}

//! How fast a pod's traffic may be, for each direction, as container runtimes say it: in bits a second, and bits.
//!
//! `ingress` is what goes to the pod and `egress` what comes from it, as CNI's capability `bandwidth` and Kubernetes' annotations
//! have them. A burst stands for nothing without a rate, so it stands within it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// The limits of an endpoint; none where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bandwidth {
    /// Of what goes to the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<RateLimit>,
    /// Of what comes from the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<RateLimit>,
}

impl Bandwidth {
    /// True when neither direction is limited.
    pub fn is_unlimited(&self) -> bool {
        *self == Bandwidth::default()
    }
}

/// A limit of one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Over time.
    pub rate: BitRate,
    /// Bits that may go at once after a pause; the switch's choice when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
}

/// Bits a second, from 1 kbit/s to 1 Pbit/s, which is what Kubernetes takes. Written with `k`, `M`, `G` or `T` for their thousands
/// (`10M`), in JSON as a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct BitRate(u64);

impl BitRate {
    /// The least.
    pub const MIN: u64 = 1000;
    /// The most.
    pub const MAX: u64 = 1_000_000_000_000_000;

    /// Bits a second.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for BitRate {
    type Error = ParseError;

    fn try_from(rate: u64) -> Result<Self, ParseError> {
        let legal = (Self::MIN..=Self::MAX).contains(&rate);
        if legal { Ok(BitRate(rate)) } else { Err(ParseError::Rate { text: rate.to_string() }) }
    }
}

impl From<BitRate> for u64 {
    fn from(rate: BitRate) -> u64 {
        rate.0
    }
}

impl FromStr for BitRate {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let rate = bits(text).ok_or_else(|| ParseError::Rate { text: text.to_owned() })?;
        BitRate::try_from(rate).map_err(|_| ParseError::Rate { text: text.to_owned() })
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = UNITS.iter().rev().find(|(_, factor)| self.0.is_multiple_of(*factor)).unwrap_or(&("", 1));
        f.pad(&format!("{}{unit}", self.0 / factor))
    }
}

/// A number of bits, written as a [`BitRate`]'s text.
pub fn bits(text: &str) -> Option<u64> {
    let (unit, factor) = UNITS.iter().rev().find(|(unit, _)| text.ends_with(unit))?;
    let digits = text.strip_suffix(unit).filter(|digits| !digits.starts_with('+'))?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

const UNITS: [(&str, u64); 5] =
    [("", 1), ("k", 1000), ("M", 1_000_000), ("G", 1_000_000_000), ("T", 1_000_000_000_000)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_written_with_or_without_thousands() {
        for (text, rate, shown) in [
            ("1000", 1000, "1k"),
            ("10M", 10_000_000, "10M"),
            ("1500k", 1_500_000, "1500k"),
            ("1000T", BitRate::MAX, "1000T"),
        ] {
            let parsed: BitRate = text.parse().unwrap();
            assert_eq!((parsed.get(), parsed.to_string().as_str()), (rate, shown));
        }
        assert_eq!(BitRate::try_from(1001).unwrap().to_string(), "1001");
        for text in ["", "999", "0", "M", "-1M", "+1M", "1.5M", "10m", "1001T", "99999999999T", "1 M"] {
            assert!(text.parse::<BitRate>().unwrap_err().to_string().contains(text), "{text}");
        }
    }

    #[test]
    fn a_burst_stands_within_its_rate_and_nothing_else_does() {
        let text = r#"{"egress":{"rate":10000000,"burst":80000}}"#;
        let bandwidth: Bandwidth = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&bandwidth).unwrap(), text);
        assert!(!bandwidth.is_unlimited() && bandwidth.ingress.is_none());
        for text in [r#"{"egress":{"burst":1}}"#, r#"{"egress":{"rate":1}}"#, r#"{"egres":{"rate":1000}}"#] {
            assert!(serde_json::from_str::<Bandwidth>(text).is_err(), "{text}");
        }
    }
}

//! Address prefixes without host bits.
//!
//! [`Prefix`] is what a route is for. A text with host bits set (`10.0.0.1/24`) is refused and told which prefix was
//! probably meant, so below the parser no illegal value exists.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An IPv4 or IPv6 prefix whose host bits are all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(IpNet);

impl Prefix {
    /// The prefix of `length` bits that starts at `address`; refuses host bits and lengths beyond the family's.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let net = IpNet::new(address, length).map_err(|_| PrefixError::Length { address, length })?;
        Self::try_from(net)
    }

    /// The prefix that holds `address` alone: /32 or /128.
    pub fn host(address: IpAddr) -> Self {
        Prefix(IpNet::from(address))
    }

    /// First address.
    pub fn address(self) -> IpAddr {
        self.0.network()
    }

    /// Number of leading bits that count, 0 to 32 or 128.
    pub fn length(self) -> u8 {
        self.0.prefix_len()
    }

    /// True when `address` is of this family and lies inside.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// True when all addresses of `other` lie inside.
    pub fn covers(self, other: Prefix) -> bool {
        self.0.contains(&other.0)
    }

    /// True when the two share an address.
    pub fn overlaps(self, other: Prefix) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The same as the library type, for arithmetic.
    pub fn net(self) -> IpNet {
        self.0
    }
}

impl TryFrom<IpNet> for Prefix {
    type Error = PrefixError;

    fn try_from(net: IpNet) -> Result<Self, PrefixError> {
        let trunc = net.trunc();
        if trunc == net { Ok(Prefix(net)) } else { Err(PrefixError::HostBits { net, meant: trunc }) }
    }
}

/// Why a text or a pair is not a [`Prefix`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum PrefixError {
    #[error("'{text}' is not an address prefix: write it as 10.244.1.0/24 or fd00:10:244::/64")]
    Syntax { text: String },
    #[error("a prefix length of {length} does not fit {address}")]
    Length { address: IpAddr, length: u8 },
    #[error("{net} has host bits set: did you mean {meant}?")]
    HostBits { net: IpNet, meant: IpNet },
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let net: IpNet = text.parse().map_err(|_| PrefixError::Syntax { text: text.to_owned() })?;
        Self::try_from(net)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_refused_with_the_prefix_that_was_meant() {
        let error = "10.0.0.1/24".parse::<Prefix>().unwrap_err();
        assert!(error.to_string().contains("10.0.0.0/24"), "{error}");
        assert!("10.0.0.0/33".parse::<Prefix>().is_err());
        assert!(Prefix::new("::".parse().unwrap(), 129).is_err());
    }

    #[test]
    fn overlap_is_symmetric_and_keeps_families_apart() {
        let [wide, narrow, other]: [Prefix; 3] =
            ["10.0.0.0/8", "10.1.0.0/16", "::/0"].map(|text| text.parse().unwrap());
        assert!(wide.overlaps(narrow) && narrow.overlaps(wide));
        assert!(!wide.overlaps(other) && !other.overlaps(wide));
        assert!(wide.covers(narrow) && wide.covers(wide) && !narrow.covers(wide) && !other.covers(wide));
        assert!(narrow.contains("10.1.2.3".parse().unwrap()) && !narrow.contains("10.2.2.3".parse().unwrap()));
    }
}

//! Attaching a pod and taking it off again.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use packet::{Mac, Prefix};
use serde::{Deserialize, Serialize};

use crate::text::{serde_as_text, words};
use crate::{Assign, Bandwidth, InterfaceName, Name, NetnsPath, Origin, ParseError};

/// The wish that an interface of a pod's namespace be joined to the switch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// What the endpoint is called from now on.
    pub name: Name,
    /// The pod's namespace.
    pub netns: NetnsPath,
    /// The interface to make there.
    #[serde(default)]
    pub interface: InterfaceName,
    /// The pod's own addresses, at least one unless the switch assigns them.
    pub addresses: Vec<PodAddress>,
    /// Has the switch choose addresses beside those given; it chooses none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assign: Option<Assign>,
    /// MTU of the interface; the switch's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
    /// Ethernet address of the interface; made from the first address when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The network of container runtimes it belongs to, if it was one that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Name>,
    /// How fast its traffic may be.
    #[serde(default, skip_serializing_if = "Bandwidth::is_unlimited")]
    pub bandwidth: Bandwidth,
    /// Who asks.
    pub origin: Origin,
}

/// What was made of an [`Attach`]; once it is said, the endpoint forwards.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attached {
    /// Index of the port.
    pub port: u16,
    /// The interface in the pod's namespace.
    pub interface: InterfaceName,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The pod's own addresses, those given before those assigned.
    pub addresses: Vec<PodAddress>,
    /// The pod's next hops, one for each family it has an address of.
    pub gateways: Vec<IpAddr>,
    /// MTU of the interface in bytes.
    pub mtu: Mtu,
    /// What the port takes off the pod's hands.
    pub abilities: Vec<Ability>,
}

/// The wish that an endpoint go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detach {
    /// Which.
    pub name: Name,
    /// Who asks.
    pub origin: Origin,
    /// Also if another origin made the endpoint or has routes to it.
    pub force: bool,
}

/// What went with an endpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Detached {
    /// The routes that led to it.
    pub routes: Vec<Prefix>,
}

words! {
    /// Work a port takes over from the network stack behind it.
    Ability, "ability" {
        /// Frames may carry unfinished transport checksums.
        Checksum => "checksum",
        /// TCP super-frames over IPv4.
        Tso4 => "tso4",
        /// TCP super-frames over IPv6.
        Tso6 => "tso6",
        /// UDP super-frames over either family.
        Uso => "uso",
    }
}

/// An address a pod may have: unicast and routable. A prefix length behind it (`10.244.0.2/24`) is read and dropped,
/// since every pod is alone on its link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PodAddress(IpAddr);

impl PodAddress {
    /// The address.
    pub fn get(self) -> IpAddr {
        self.0
    }
}

impl From<PodAddress> for IpAddr {
    fn from(address: PodAddress) -> IpAddr {
        address.0
    }
}

impl TryFrom<IpAddr> for PodAddress {
    type Error = ParseError;

    fn try_from(address: IpAddr) -> Result<Self, ParseError> {
        match unroutable(address) {
            Some(kind) => Err(ParseError::Unroutable { address, kind }),
            None => Ok(PodAddress(address)),
        }
    }
}

impl FromStr for PodAddress {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::Address { text: text.to_owned() };
        let (host, length) = text.split_once('/').map_or((text, None), |(host, length)| (host, Some(length)));
        let address: IpAddr = host.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if length.is_some_and(|length| decimal(length).is_none_or(|length| length > bits)) {
            return Err(wrong());
        }
        PodAddress::try_from(address)
    }
}

impl fmt::Display for PodAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

serde_as_text!(PodAddress);

/// A maximum transmission unit of an interface in bytes, Ethernet header not counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Mtu(u16);

impl Mtu {
    /// What every IPv4 host takes (RFC 791, section 3.1).
    pub const MIN: u16 = 576;
    /// The least of a link that carries IPv6 (RFC 8200, section 5).
    pub const MIN_IPV6: u16 = 1280;
    /// The most of a TAP: 65 535 less an Ethernet header (Linux `drivers/net/tun.c`, `MAX_MTU`).
    pub const MAX: u16 = 65_521;
    /// Ethernet's own.
    pub const ETHERNET: Mtu = Mtu(1500);

    /// Bytes.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Mtu {
    type Error = ParseError;

    fn try_from(bytes: u16) -> Result<Self, ParseError> {
        if (Self::MIN..=Self::MAX).contains(&bytes) {
            Ok(Mtu(bytes))
        } else {
            Err(ParseError::Mtu { text: bytes.to_string() })
        }
    }
}

impl From<Mtu> for u16 {
    fn from(mtu: Mtu) -> u16 {
        mtu.0
    }
}

impl FromStr for Mtu {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        decimal(text).ok_or_else(|| ParseError::Mtu { text: text.to_owned() }).and_then(Mtu::try_from)
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Why no pod may have `address` and no route lead to it: the kind of address it is; `None` for ordinary unicast.
pub fn unroutable(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("unspecified"),
        IpAddr::V4(v4) if v4.is_loopback() => Some("loopback"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("link-local"),
        IpAddr::V4(v4) if v4.is_multicast() => Some("multicast"),
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Some("reserved"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("unspecified"),
        IpAddr::V6(v6) if v6.is_loopback() => Some("loopback"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local"),
        IpAddr::V6(v6) if v6.is_multicast() => Some("multicast"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("IPv4-mapped"),
        _ => None,
    }
}

/// Digits alone: the standard library would take a plus sign too.
fn decimal(text: &str) -> Option<u16> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_or_without_a_length() {
        for (text, address) in
            [("10.244.0.2", "10.244.0.2"), ("10.244.0.2/24", "10.244.0.2"), ("fd00:0::2/128", "fd00::2")]
        {
            assert_eq!(text.parse::<PodAddress>().unwrap().to_string(), address);
        }
        for text in ["", "10.244.0", "10.244.0.2/33", "10.244.0.2/", "10.244.0.2/+4", "fd00::2/129", "fd00::2%eth0"] {
            assert!(text.parse::<PodAddress>().unwrap_err().to_string().contains(text), "{text}");
        }
    }

    #[test]
    fn an_address_no_pod_can_have_is_refused_by_its_kind() {
        for (text, kind) in [
            ("0.0.0.0", "unspecified"),
            ("127.0.0.1", "loopback"),
            ("169.254.1.1", "link-local"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "reserved"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("fe80::1", "link-local"),
            ("ff02::1", "multicast"),
            ("::ffff:10.0.0.1", "IPv4-mapped"),
        ] {
            let error = text.parse::<PodAddress>().unwrap_err().to_string();
            assert!(error.contains(kind), "{text}: {error}");
        }
    }

    #[test]
    fn an_mtu_stays_within_what_a_tap_takes() {
        for text in ["576", "1500", "65521"] {
            assert_eq!(text.parse::<Mtu>().unwrap().to_string(), text);
        }
        for text in ["0", "575", "65522", "65536", "-1", "+1500", "x", ""] {
            assert!(text.parse::<Mtu>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let text = r#"{"name":"a","netns":"a","addresses":["10.0.0.1"],"origin":"cli","mtuu":1500}"#;
        let error = serde_json::from_str::<Attach>(text).unwrap_err().to_string();
        assert!(error.contains("mtuu"), "{error}");
    }
}

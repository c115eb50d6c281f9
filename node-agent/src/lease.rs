//! A lease: which subnet is whose. Its key and its value are, byte for byte, those of flannel.
//!
//! ```text
//!  key    subnets/10.5.52.0-24                       or, with IPv6, subnets/10.5.52.0-24&fd00:12:13::-64
//!  value  {"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan",
//!          "BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}
//! ```
//!
//! `PublicIPv6` is always there; the last three fields are left out where they are empty.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use packet::{Mac, Prefix};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::network::Backend;

/// The subnets of one node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Subnets {
    /// Of IPv4, always.
    pub v4: Prefix,
    /// Of IPv6.
    pub v6: Option<Prefix>,
}

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attributes {
    /// Its address.
    #[serde(rename = "PublicIP")]
    pub public_ip: Ipv4Addr,
    /// The same of IPv6.
    #[serde(rename = "PublicIPv6", default)]
    pub public_ipv6: Option<Ipv6Addr>,
    /// How it is reached, in the words of leases.
    #[serde(rename = "BackendType", default, skip_serializing_if = "String::is_empty")]
    pub backend: String,
    /// What else one has to know for that.
    #[serde(rename = "BackendData", default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// The same over IPv6.
    #[serde(rename = "BackendV6Data", default, skip_serializing_if = "Option::is_none")]
    pub data_v6: Option<Value>,
}

/// The data of a lease of vxlan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VxlanData {
    /// The segment.
    #[serde(rename = "VNI")]
    pub vni: u32,
    /// Ethernet address of the node's VTEP.
    #[serde(rename = "VtepMAC")]
    pub mac: Mac,
}

/// Why a key is no lease's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("'{0}' names no subnet: it should look like 10.5.52.0-24 or 10.5.52.0-24&fd00:12:13::-64")]
pub struct KeyError(String);

impl Subnets {
    /// One or two.
    pub fn each(self) -> impl Iterator<Item = Prefix> {
        [self.v4].into_iter().chain(self.v6)
    }

    /// True where the two share an address.
    pub fn overlaps(self, other: Subnets) -> bool {
        self.each().any(|one| other.each().any(|another| one.overlaps(another)))
    }
}

impl fmt::Display for Subnets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.v4.address(), self.v4.length())?;
        self.v6.map_or(Ok(()), |v6| write!(f, "&{}-{}", v6.address(), v6.length()))
    }
}

impl FromStr for Subnets {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let wrong = || KeyError(text.to_owned());
        let prefix = |text: &str| {
            let (address, length) = text.split_once('-')?;
            Prefix::new(address.parse().ok()?, length.parse().ok()?).ok()
        };
        let (v4, v6) = text.split_once('&').map_or((text, None), |(v4, v6)| (v4, Some(v6)));
        let v4 = prefix(v4).filter(|v4| v4.address().is_ipv4()).ok_or_else(wrong)?;
        let v6 = v6.map(|v6| prefix(v6).filter(|v6| v6.address().is_ipv6()).ok_or_else(wrong)).transpose()?;
        Ok(Subnets { v4, v6 })
    }
}

impl Attributes {
    /// Those of a node that is reached by `backend` at `v4` and `v6`, its VTEP having the address that [`vtep_mac`] makes.
    pub fn of(backend: Backend, v4: Ipv4Addr, v6: Option<Ipv6Addr>) -> Self {
        let data = match backend {
            Backend::Vxlan { vni, .. } => serde_json::to_value(VxlanData { vni: vni.into(), mac: vtep_mac(v4) }).ok(),
            _ => None,
        };
        let data_v6 = v6.and(data.clone());
        Attributes { public_ip: v4, public_ipv6: v6, backend: backend.lease_type().to_owned(), data, data_v6 }
    }

    /// The value as it is written.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("a lease has a JSON form: its maps have text keys")
    }

    /// What a vxlan lease says of the VTEP towards that family.
    pub fn vxlan(&self, v6: bool) -> Option<VxlanData> {
        let data = if v6 { self.data_v6.as_ref().or(self.data.as_ref()) } else { self.data.as_ref() };
        VxlanData::deserialize(data?).ok()
    }

    /// Where the node is towards pods of that family.
    pub fn address(&self, v6: bool) -> IpAddr {
        self.public_ipv6.filter(|_| v6).map_or(self.public_ip.into(), IpAddr::V6)
    }
}

/// The Ethernet address of a node's VTEP: `02:76` and the CRC-32 of its address, so that it is the same after every start.
pub fn vtep_mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = crc32fast::hash(&address.octets()).to_be_bytes();
    Mac([2, 0x76, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use packet::Vni;
    use proptest::prelude::*;

    use super::*;

    const VXLAN: &str = concat!(
        r#"{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","#,
        r#""BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}"#
    );

    #[test]
    fn values_are_flannels_byte_for_byte() {
        for text in [
            VXLAN,
            r#"{"PublicIP":"10.0.0.1","PublicIPv6":null,"BackendType":"host-gw"}"#,
            r#"{"PublicIP":"10.0.0.1","PublicIPv6":null}"#,
            concat!(
                r#"{"PublicIP":"10.0.0.1","PublicIPv6":"fd00::1","BackendType":"vxlan","#,
                r#""BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"},"BackendV6Data":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:45"}}"#
            ),
        ] {
            assert_eq!(serde_json::from_str::<Attributes>(text).unwrap().text(), text);
        }
        let vxlan = Backend::Vxlan { vni: Vni::FLANNEL, port: 8472, direct: false };
        let own = Attributes::of(vxlan, [192, 168, 64, 3].into(), None);
        assert_eq!(own.text(), VXLAN.replace("c6:d2:32:6f:8f:44", &vtep_mac([192, 168, 64, 3].into()).to_string()));
        let udp = Attributes::of(Backend::Udp { port: 8285 }, [10, 0, 0, 1].into(), None);
        assert_eq!(udp.text(), r#"{"PublicIP":"10.0.0.1","PublicIPv6":null}"#);
    }

    #[test]
    fn keys_are_flannels() {
        for text in ["10.5.52.0-24", "10.12.13.0-24&fd00:12:13::-56"] {
            assert_eq!(text.parse::<Subnets>().unwrap().to_string(), text);
        }
        for text in
            ["", "10.5.52.0", "10.5.52.1-24", "10.5.52.0-33", "fd00::-64", "10.5.52.0-24&", "10.5.0.0-16&10.6.0.0-16"]
        {
            assert!(text.parse::<Subnets>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_lease_of_ipv6_pods_leads_to_the_ipv6_address_where_there_is_one() {
        let vxlan = Backend::Vxlan { vni: Vni::FLANNEL, port: 8472, direct: false };
        let both = Attributes::of(vxlan, [10, 0, 0, 1].into(), Some(Ipv6Addr::LOCALHOST));
        assert_eq!(both.address(true), IpAddr::V6(Ipv6Addr::LOCALHOST));
        assert_eq!(both.vxlan(true), both.vxlan(false));
        let alone = Attributes::of(vxlan, [10, 0, 0, 1].into(), None);
        assert_eq!(alone.address(true), alone.address(false));
    }

    proptest! {
        #[test]
        fn a_key_survives_text_and_back(v4: u32, v4_length in 0u8..=32, v6: Option<u128>, v6_length in 0u8..=128) {
            let prefix = |address: IpAddr, length| {
                Prefix::try_from(ipnet::IpNet::new(address, length).unwrap().trunc()).unwrap()
            };
            let subnets = Subnets {
                v4: prefix(IpAddr::V4(v4.into()), v4_length),
                v6: v6.map(|v6| prefix(IpAddr::V6(v6.into()), v6_length)),
            };
            prop_assert_eq!(subnets.to_string().parse::<Subnets>().unwrap(), subnets);
        }

        #[test]
        fn no_key_and_no_value_breaks_the_reader(text in "[0-9a-f:.&{}\"-]{0,60}") {
            let _ = text.parse::<Subnets>();
            let _ = serde_json::from_str::<Attributes>(&text);
        }
    }
}

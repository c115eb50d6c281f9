//! What was made of an attachment, in the form of every version.
//!
//! Inside it has the form of 1.1.0. Older versions lack fields, or have others:
//!
//! | version | form |
//! |---|---|
//! | 1.1.0 | all |
//! | 1.0.0 | interfaces without `mtu`, `socketPath`, `pciID`; routes of `dst` and `gw` alone |
//! | 0.3.0 to 0.4.0 | also, each address tells its family by `version` |
//! | 0.1.0, 0.2.0 | no interfaces; `ip4` and `ip6`, one address each, with the routes of that family |
//!
//! Source: CNI specification, section 5, of each version.

use std::net::IpAddr;

use ipnet::IpNet;
use packet::Mac;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Error;
use crate::version::Version;

/// Interfaces, addresses, routes and how to resolve names.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// All that were made, in the order they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<Ip>,
    /// Routes of the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// How the pod resolves names.
    #[serde(default)]
    pub dns: Dns,
}

/// An interface.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The namespace, or what else isolates it; empty on the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// Of interfaces that are a socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<String>,
    /// Of interfaces that are a device.
    #[serde(default, rename = "pciID", skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
}

/// An address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ip {
    /// Its family, `4` or `6`, where the version has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The address and the length of its prefix.
    pub address: IpNet,
    /// The next hop of that family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Its interface, by the index in `interfaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// A route.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Route {
    pub dst: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
}

/// How names are resolved.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Dns {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// One family's part in 0.1.0 and 0.2.0.
#[derive(Serialize, Deserialize)]
struct Legacy {
    ip: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

#[derive(Serialize, Deserialize)]
struct LegacyOutcome {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip4: Option<Legacy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip6: Option<Legacy>,
    #[serde(default)]
    dns: Dns,
}

impl Outcome {
    /// Reads one of any version, which its own `cniVersion` tells.
    ///
    /// # Errors
    /// [`Error::Version`] and [`Error::Decode`] with the field.
    pub fn parse(value: &Value) -> Result<Outcome, Error> {
        let version = Version::parse(value["cniVersion"].as_str().unwrap_or_default())?;
        let outcome = if version >= Version::V0_3_0 {
            decode::<Outcome>(value)?
        } else {
            let LegacyOutcome { ip4, ip6, dns } = decode(value)?;
            let mut outcome = Outcome { dns, ..Outcome::default() };
            for Legacy { ip, gateway, routes } in ip4.into_iter().chain(ip6) {
                outcome.ips.push(Ip { version: None, address: ip, gateway, interface: None });
                outcome.routes.extend(routes);
            }
            outcome
        };
        let strange = outcome.ips.iter().filter_map(|ip| ip.interface).find(|&at| at >= outcome.interfaces.len());
        strange.map_or(Ok(outcome), |at| {
            let fault = format!("there is no interface {at}");
            Err(Error::Decode { field: "prevResult.ips.interface".to_owned(), fault })
        })
    }

    /// In the form of `version`.
    pub fn render(mut self, version: Version) -> Value {
        let is_v4 = |net: &IpNet| net.addr().is_ipv4();
        if version < Version::V0_3_0 {
            let family = |v4: bool| {
                let first = self.ips.iter().find(|ip| is_v4(&ip.address) == v4)?;
                let routes = self.routes.iter().filter(|route| is_v4(&route.dst) == v4).map(bare).collect();
                Some(Legacy { ip: first.address, gateway: first.gateway, routes })
            };
            let (ip4, ip6) = (family(true), family(false));
            return marked(version, LegacyOutcome { ip4, ip6, dns: self.dns });
        }
        for ip in &mut self.ips {
            let family = if is_v4(&ip.address) { "4" } else { "6" };
            ip.version = (version < Version::V1_0_0).then(|| family.to_owned());
        }
        if version < Version::V1_1_0 {
            self.routes = self.routes.iter().map(bare).collect();
            for interface in &mut self.interfaces {
                (interface.mtu, interface.socket_path, interface.pci_id) = (None, None, None);
            }
        }
        marked(version, self)
    }
}

impl Dns {
    /// True when it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

fn bare(route: &Route) -> Route {
    Route { mtu: None, advmss: None, priority: None, table: None, scope: None, ..route.clone() }
}

fn marked(version: Version, value: impl Serialize) -> Value {
    let mut value = serde_json::to_value(value).expect("a result has a JSON form: its maps have text keys");
    value["cniVersion"] = json!(version.text());
    value
}

fn decode<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(value).map_err(|error| Error::Decode {
        field: format!("prevResult.{}", error.path()),
        fault: error.into_inner().to_string(),
    })
}

/// The Ethernet address of an interface, where it tells a legal one.
pub(crate) fn mac_of(interface: &Interface) -> Option<Mac> {
    interface.mac.to_ascii_lowercase().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let value = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1500, "sandbox": "/run/netns/a"}],
            "ips": [
                {"address": "10.0.0.2/32", "gateway": "169.254.1.1", "interface": 0},
                {"address": "fd00::2/128", "gateway": "fe80::1", "interface": 0}
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1", "mtu": 1400}, {"dst": "::/0", "gw": "fe80::1"}],
            "dns": {"nameservers": ["10.96.0.10"], "search": ["svc.local"]}
        });
        Outcome::parse(&value).unwrap()
    }

    #[test]
    fn every_version_has_its_form_and_is_read_again() {
        for version in Version::ALL {
            let value = outcome().render(version);
            assert_eq!(value["cniVersion"], version.text());
            assert_eq!(value["interfaces"][0]["mtu"].is_null(), version < Version::V1_1_0);
            assert_eq!(value["routes"][0]["mtu"].is_null(), version < Version::V1_1_0);
            assert_eq!(value["interfaces"].is_null(), version < Version::V0_3_0);
            assert_eq!(value["ip6"]["ip"] == "fd00::2/128", version < Version::V0_3_0);
            let told = (Version::V0_3_0..Version::V1_0_0).contains(&version);
            assert_eq!(value["ips"][1]["version"] == "6", told, "{value}");
            let again = Outcome::parse(&value).unwrap();
            assert_eq!((again.ips.len(), again.routes.len(), again.dns), (2, 2, outcome().dns), "{version}");
        }
    }

    #[test]
    fn an_address_of_no_interface_is_refused() {
        let value = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/32", "interface": 0}]});
        assert!(Outcome::parse(&value).unwrap_err().to_string().contains("interface 0"));
    }
}

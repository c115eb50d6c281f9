//! The network configuration on standard input, read once and whole.
//!
//! A key that is not known is refused by its name, as everywhere in podswitch; one with a slash (`cni.dev/...`,
//! `io.kubernetes.cri...`) is somebody's extension and passed over. A value of a wrong type is told with its path.
//!
//! ```text
//!   cniVersion name type                      which network, of which version
//!   ipam  type ranges sticky                  who chooses addresses: the switch, unless a plugin is named
//!   mtu socket dns                            the interface's MTU; where the switch listens; what pods resolve names by
//!   runtimeConfig  ips mac bandwidth ...      what the runtime adds for this pod
//!   args.cni  ips mac                         the same in an older form
//!   prevResult                                what plugins before this one made
//!   cni.dev/valid-attachments                 of GC: what is still in use
//! ```
//!
//! Source: CNI specification 1.1.0, section 1; CONVENTIONS for capabilities and `args`.

use std::net::IpAddr;
use std::path::PathBuf;

use control::{AddressRange, Bandwidth, BitRate, Mtu, Name, RateLimit};
use ipnet::IpNet;
use packet::Mac;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::outcome::{Dns, Outcome};
use crate::version::Version;

/// What a configuration says.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The version that is spoken in this call.
    pub version: Version,
    /// The network.
    pub name: Name,
    /// Who chooses addresses.
    pub ipam: Ipam,
    /// MTU of the interface; the switch's own when absent.
    pub mtu: Option<Mtu>,
    /// Where the switch listens.
    pub socket: PathBuf,
    /// How pods resolve names.
    pub dns: Dns,
    /// Addresses asked for this pod.
    pub addresses: Vec<IpAddr>,
    /// The Ethernet address asked for this pod.
    pub mac: Option<Mac>,
    /// How fast this pod's traffic may be.
    pub bandwidth: Bandwidth,
    /// What plugins before this one made; an empty list in the chain's first place.
    pub previous: Option<Outcome>,
    /// Attachments that are in use, of GC.
    pub valid: Option<Vec<Attachment>>,
}

/// Who chooses addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ipam {
    /// The switch, one from each of these pools, or from the node's ranges where there are none.
    Switch {
        /// Each one's ranges.
        pools: Vec<Vec<AddressRange>>,
        /// A pod gets its earlier addresses again.
        sticky: bool,
    },
    /// The plugin of that name.
    Plugin(String),
}

/// An attachment that is in use.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    #[serde(rename = "containerID")]
    pub container: String,
    /// `CNI_IFNAME`.
    #[serde(rename = "ifname")]
    pub interface: String,
}

impl Config {
    /// The version `input` speaks, as far as that can be told: for an error about the rest of it.
    pub fn version_of(input: &[u8]) -> Version {
        let value = serde_json::from_slice::<Value>(input).unwrap_or_default();
        value["cniVersion"].as_str().and_then(|text| Version::parse(text).ok()).unwrap_or(Version::NEWEST)
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Error::Decode`], [`Error::Version`], [`Error::Unsupported`] and [`Error::Config`], with the field.
    pub fn parse(input: &[u8]) -> Result<Config, Error> {
        let fields: Map<String, Value> = serde_json::from_slice(input)
            .map_err(|error| Error::Decode { field: "standard input".to_owned(), fault: error.to_string() })?;
        let version = Version::parse(&field::<String>(&fields, "cniVersion")?.unwrap_or_default())?;
        refuse_unknown("", &fields, KEYS)?;
        let name: String = field(&fields, "name")?.ok_or_else(|| wrong("name", "is missing"))?;
        let name = name.parse().map_err(|_| wrong("name", format!("'{name}' is no network's: {NAME_RULE}")))?;
        let runtime = section(&fields, "runtimeConfig", RUNTIME_KEYS)?;
        refuse_undone(&runtime)?;
        let arguments = arguments(&fields)?;
        let mut addresses = asked(&runtime, "runtimeConfig.ips")?;
        addresses.extend(asked(&arguments, "args.cni.ips")?);
        let mac = field::<Mac>(&runtime, "mac").map_err(|error| within("runtimeConfig", error))?;
        let dns: Option<RuntimeDns> = field(&runtime, "dns").map_err(|error| within("runtimeConfig", error))?;
        Ok(Config {
            version,
            name,
            ipam: ipam(&fields, &runtime)?,
            mtu: mtu(&fields)?,
            socket: field(&fields, "socket")?.unwrap_or_else(|| PathBuf::from(SOCKET)),
            dns: dns.map_or_else(|| field(&fields, "dns").map(Option::unwrap_or_default), |dns| Ok(dns.into()))?,
            addresses,
            mac: mac.or(field(&arguments, "mac").map_err(|error| within("args.cni", error))?),
            bandwidth: bandwidth(&runtime)?,
            previous: fields.get("prevResult").filter(|value| !value.is_null()).map(Outcome::parse).transpose()?,
            valid: match field(&fields, "cni.dev/valid-attachments")? {
                None => field(&fields, "cni.dev/attachments")?,
                valid => valid,
            },
        })
    }
}

/// The capability `dns` has other names than the result (CONVENTIONS, "dns"); containerd writes them with capitals, and
/// null for an empty list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuntimeDns {
    #[serde(default, alias = "Servers")]
    servers: Option<Vec<String>>,
    #[serde(default, alias = "Searches")]
    searches: Option<Vec<String>>,
    #[serde(default, alias = "Options")]
    options: Option<Vec<String>>,
}

impl From<RuntimeDns> for Dns {
    fn from(RuntimeDns { servers, searches, options }: RuntimeDns) -> Dns {
        let [nameservers, search, options] = [servers, searches, options].map(Option::unwrap_or_default);
        Dns { nameservers, search, options, domain: None }
    }
}

/// The capability `bandwidth`: bits a second, and bits. Zero is how runtimes write "no limit" (CONVENTIONS, "bandwidth"). containerd
/// begins the names with capitals.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuntimeBandwidth {
    #[serde(default, alias = "IngressRate")]
    ingress_rate: u64,
    #[serde(default, alias = "IngressBurst")]
    ingress_burst: u64,
    #[serde(default, alias = "EgressRate")]
    egress_rate: u64,
    #[serde(default, alias = "EgressBurst")]
    egress_burst: u64,
}

fn bandwidth(runtime: &Map<String, Value>) -> Result<Bandwidth, Error> {
    let asked: Option<RuntimeBandwidth> =
        field(runtime, "bandwidth").map_err(|error| within("runtimeConfig", error))?;
    let Some(asked) = asked else { return Ok(Bandwidth::default()) };
    let limit = |way: &str, rate: u64, burst: u64| {
        if rate == 0 && burst != 0 {
            return Err(wrong(&format!("runtimeConfig.bandwidth.{way}Rate"), format!("is missing beside {way}Burst")));
        }
        let within =
            |error: control::ParseError| wrong(&format!("runtimeConfig.bandwidth.{way}Rate"), error.to_string());
        let rate = (rate != 0).then(|| BitRate::try_from(rate).map_err(within)).transpose()?;
        Ok(rate.map(|rate| RateLimit { rate, burst: Some(burst).filter(|&burst| burst != 0) }))
    };
    Ok(Bandwidth {
        ingress: limit("ingress", asked.ingress_rate, asked.ingress_burst)?,
        egress: limit("egress", asked.egress_rate, asked.egress_burst)?,
    })
}

/// A range of addresses as `host-local` and the capability `ipRanges` write it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RangeText {
    subnet: IpNet,
    range_start: Option<IpAddr>,
    range_end: Option<IpAddr>,
    /// Every pod's gateway is the switch itself.
    #[serde(rename = "gateway")]
    _gateway: Option<IpAddr>,
}

impl RangeText {
    fn range(&self, field: &str) -> Result<AddressRange, Error> {
        let (network, broadcast) = (self.subnet.network(), self.subnet.broadcast());
        let alone = self.subnet.max_prefix_len() - self.subnet.prefix_len() < 2;
        let [first, last] = match (network, broadcast) {
            (IpAddr::V4(first), IpAddr::V4(last)) if !alone => {
                [IpAddr::V4((u32::from(first) + 1).into()), IpAddr::V4((u32::from(last) - 1).into())]
            }
            (IpAddr::V6(first), last) if !alone => [IpAddr::V6((u128::from(first) + 1).into()), last],
            (first, last) => [first, last],
        };
        let (first, last) = (self.range_start.unwrap_or(first), self.range_end.unwrap_or(last));
        for (key, end) in [("rangeStart", first), ("rangeEnd", last)] {
            if !self.subnet.contains(&end) {
                return Err(wrong(&format!("{field}.{key}"), format!("{end} lies outside {}", self.subnet)));
            }
        }
        AddressRange::new(first, last).map_err(|error| wrong(field, error.to_string()))
    }
}

fn ipam(fields: &Map<String, Value>, runtime: &Map<String, Value>) -> Result<Ipam, Error> {
    let section: Map<String, Value> = field(fields, "ipam")?.unwrap_or_default();
    match field::<String>(&section, "type").map_err(|error| within("ipam", error))?.as_deref() {
        None | Some("" | BUILT_IN) => {}
        Some("dhcp") => {
            return Err(wrong(
                "ipam.type",
                "dhcp needs a broadcast segment, and each pod is alone on its link: leave ipam out",
            ));
        }
        Some(plugin) if plugin.contains('/') || plugin.starts_with('.') => {
            return Err(wrong("ipam.type", format!("'{plugin}' is no plugin's name")));
        }
        Some(plugin) => return Ok(Ipam::Plugin(plugin.to_owned())),
    }
    refuse_unknown("ipam.", &section, IPAM_KEYS)?;
    let mut pools = pools(&section, "ipam.ranges", "ranges")?;
    let asked = self::pools(runtime, "runtimeConfig.ipRanges", "ipRanges")?;
    if !asked.is_empty() {
        pools = asked;
    }
    let sticky = field(&section, "sticky").map_err(|error| within("ipam", error))?.unwrap_or(false);
    Ok(Ipam::Switch { pools, sticky })
}

fn pools(section: &Map<String, Value>, path: &str, key: &str) -> Result<Vec<Vec<AddressRange>>, Error> {
    let place = path.strip_suffix(key).unwrap_or_default().trim_end_matches('.');
    let texts: Vec<Vec<RangeText>> = field(section, key).map_err(|error| within(place, error))?.unwrap_or_default();
    let mut pools = Vec::with_capacity(texts.len());
    for (at, pool) in texts.iter().enumerate() {
        let range = |(inner, range): (usize, &RangeText)| range.range(&format!("{path}[{at}][{inner}]"));
        pools.push(pool.iter().enumerate().map(range).collect::<Result<Vec<_>, _>>()?);
        if pools[at].is_empty() {
            return Err(wrong(&format!("{path}[{at}]"), "is empty"));
        }
    }
    Ok(pools)
}

/// Requested addresses, with or without a length.
fn asked(section: &Map<String, Value>, path: &str) -> Result<Vec<IpAddr>, Error> {
    let place = path.trim_end_matches(".ips");
    let texts: Vec<String> = field(section, "ips").map_err(|error| within(place, error))?.unwrap_or_default();
    let parse = |(at, text): (usize, String)| {
        let address = text.parse::<IpNet>().map(|net| net.addr()).or_else(|_| text.parse());
        address.map_err(|_| wrong(&format!("{path}[{at}]"), format!("'{text}' is no address")))
    };
    texts.into_iter().enumerate().map(parse).collect()
}

fn arguments(fields: &Map<String, Value>) -> Result<Map<String, Value>, Error> {
    let all: Map<String, Value> = field(fields, "args")?.unwrap_or_default();
    Ok(field(&all, "cni").map_err(|error| within("args", error))?.unwrap_or_default())
}

fn mtu(fields: &Map<String, Value>) -> Result<Option<Mtu>, Error> {
    // Zero is how some generators write "the default".
    let bytes = field::<u32>(fields, "mtu")?.filter(|&bytes| bytes != 0);
    let parse =
        |bytes: u32| bytes.to_string().parse().map_err(|error: control::ParseError| wrong("mtu", error.to_string()));
    bytes.map(parse).transpose()
}

/// Capabilities that were declared for this plugin and asked of it, which it leaves to others.
fn refuse_undone(runtime: &Map<String, Value>) -> Result<(), Error> {
    for (key, cure) in UNDONE {
        let asked = runtime.get(*key).is_some_and(|value| match value {
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            value => !value.is_null(),
        });
        if asked {
            return Err(Error::Unsupported { field: format!("runtimeConfig.{key}"), cure });
        }
    }
    Ok(())
}

fn section(fields: &Map<String, Value>, key: &str, known: &[&str]) -> Result<Map<String, Value>, Error> {
    let section: Map<String, Value> = field(fields, key)?.unwrap_or_default();
    refuse_unknown(&format!("{key}."), &section, known)?;
    Ok(section)
}

fn refuse_unknown(place: &str, fields: &Map<String, Value>, known: &[&str]) -> Result<(), Error> {
    let strange =
        fields.keys().find(|key| !known.contains(&key.as_str()) && !key.contains('/') && !key.starts_with("io."));
    strange.map_or(Ok(()), |key| {
        let cure = "see docs/cni.md for the keys there are";
        Err(Error::Unsupported { field: format!("{place}{key}"), cure })
    })
}

/// The value of a key, null being none.
fn field<T: DeserializeOwned>(fields: &Map<String, Value>, key: &str) -> Result<Option<T>, Error> {
    let Some(value) = fields.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
    serde_path_to_error::deserialize(value).map(Some).map_err(|error| {
        let inner = error.path().to_string();
        let dot = if inner.starts_with('[') { "" } else { "." };
        let field = if inner == "." { key.to_owned() } else { format!("{key}{dot}{inner}") };
        Error::Decode { field, fault: error.into_inner().to_string() }
    })
}

fn within(place: &str, error: Error) -> Error {
    match error {
        Error::Decode { field, fault } => Error::Decode { field: format!("{place}.{field}"), fault },
        other => other,
    }
}

fn wrong(field: &str, fault: impl Into<String>) -> Error {
    Error::Config { field: field.to_owned(), fault: fault.into() }
}

/// Where the switch listens unless told otherwise.
pub(crate) const SOCKET: &str = "/run/podswitch/control.sock";
/// What the choice by the switch is called where a name is wanted.
pub(crate) const BUILT_IN: &str = "podswitch";
const NAME_RULE: &str = "write letters, digits, '_', '.' and '-', the first a letter or a digit, at most 128";
const KEYS: &[&str] = &[
    "cniVersion",
    "name",
    "type",
    "ipam",
    "mtu",
    "socket",
    "dns",
    "capabilities",
    "runtimeConfig",
    "args",
    "prevResult",
];
const IPAM_KEYS: &[&str] = &["type", "ranges", "sticky"];
const RUNTIME_KEYS: &[&str] = &[
    "ips",
    "mac",
    "ipRanges",
    "dns",
    "aliases",
    "cgroupPath",
    "portMappings",
    "bandwidth",
    "deviceID",
    "infinibandGUID",
];
const UNDONE: &[(&str, &str)] = &[
    ("portMappings", "leave the capability to the plugin portmap, chained behind this one"),
    ("deviceID", "pods have TAPs: take the capability out of the configuration"),
    ("infinibandGUID", "pods have Ethernet interfaces: take the capability out of the configuration"),
];

#[cfg(test)]
mod tests;

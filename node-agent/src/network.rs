//! What all nodes of a cluster agree on: the value of the key `config`, read as flannel reads it.
//!
//! Keys match whatever their case, unknown ones are passed over, and absent ones have flannel's defaults. Other than there, a
//! value that cannot be, and a backend that is not known or not done here, is an error that names it.
//!
//! | key | meaning | default |
//! |---|---|---|
//! | `Network` | addresses of all pods | none, it is needed |
//! | `SubnetLen` | prefix length of a node's subnet | 24; in a network longer than /22 two bits more than its own |
//! | `SubnetMin`, `SubnetMax` | first and last subnet given away | the second and the last |
//! | `EnableIPv6`, `IPv6Network`, `IPv6SubnetLen`, `IPv6SubnetMin`, `IPv6SubnetMax` | the same for IPv6 | off, 64 |
//! | `Backend` | `Type` and its options | `udp` |

use std::net::IpAddr;
use std::str::FromStr;

use encap::{FLANNEL_UDP_PORT, FLANNEL_VXLAN_PORT, overhead};
use ipnet::IpNet;
use packet::{Prefix, Vni};
use serde_json::{Map, Value};

/// The network of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    /// Subnets of IPv4.
    pub v4: Pool,
    /// Subnets of IPv6, where it is on.
    pub v6: Option<Pool>,
    /// How nodes reach each other.
    pub backend: Backend,
    /// MTU of the underlay, where it is given.
    pub mtu: Option<u16>,
}

/// Subnets of one length within a prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pool {
    /// All pods' addresses.
    pub network: Prefix,
    length: u8,
    first: IpAddr,
    last: IpAddr,
}

/// How nodes reach each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// VXLAN (RFC 7348).
    Vxlan {
        /// The segment.
        vni: Vni,
        /// UDP port of every node.
        port: u16,
        /// Nodes on one link speak without a tunnel.
        direct: bool,
    },
    /// Routes of the hosts alone.
    HostGw,
    /// Bare packets in UDP.
    Udp {
        /// UDP port of every node.
        port: u16,
    },
    /// IPv4 in IPv4 (RFC 2003).
    Ipip {
        /// Nodes on one link speak without a tunnel.
        direct: bool,
    },
    /// Subnets are given away, and somebody else joins them.
    Alloc,
}

/// Why a text is no [`Network`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum NetworkError {
    #[error("the network configuration is no JSON object: {fault}")]
    Syntax { fault: String },
    #[error("the network configuration lacks {key}")]
    Missing { key: &'static str },
    #[error("{key}: {value} is no {what}")]
    Value { key: String, value: String, what: &'static str },
    #[error("Backend: Type '{found}' is not done here: there are vxlan, host-gw, udp, ipip and alloc")]
    Backend { found: String },
    #[error("{key}: {length} does not fit {network}: allowed are {least} to {most}")]
    Length { key: String, length: u8, network: Prefix, least: u8, most: u8 },
    #[error("{key}: {address} is no subnet of {network} with {length} bits")]
    Bound { key: String, address: IpAddr, network: Prefix, length: u8 },
    #[error("SubnetMin is behind SubnetMax")]
    Order,
    #[error("EnableIPv4: a cluster without IPv4 is not done here")]
    WithoutV4,
    #[error("Backend: GBP is not done here")]
    Gbp,
    #[error("Backend: {0} carries IPv4 alone, and EnableIPv6 is on")]
    V4Alone(&'static str),
}

impl Network {
    /// All pods' addresses, of both families.
    pub fn pools(&self) -> Vec<Prefix> {
        [self.v4].into_iter().chain(self.v6).map(|pool| pool.network).collect()
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let keys = Keys::parse(text)?;
        if !keys.get("EnableIPv4", "boolean", Value::as_bool)?.unwrap_or(true) {
            return Err(NetworkError::WithoutV4);
        }
        let v6 = keys.get("EnableIPv6", "boolean", Value::as_bool)?.unwrap_or(false);
        let (backend, mtu) = Backend::of(&keys)?;
        if v6 && matches!(backend, Backend::Udp { .. } | Backend::Ipip { .. }) {
            return Err(NetworkError::V4Alone(backend.name()));
        }
        let v6 = if v6 { Some(Pool::of(&keys, "IPv6Network", "IPv6", (64, 126))?) } else { None };
        Ok(Network { v4: Pool::of(&keys, "Network", "", (24, 30))?, v6, backend, mtu })
    }
}

impl Pool {
    fn of(keys: &Keys<'_>, key: &'static str, family: &str, (usual, longest): (u8, u8)) -> Result<Self, NetworkError> {
        let what = if family.is_empty() { "IPv4 prefix" } else { "IPv6 prefix" };
        let is_its = |net: &IpNet| net.addr().is_ipv6() != family.is_empty();
        let net = |value: &Value| value.as_str()?.parse::<IpNet>().ok().filter(is_its);
        let net = keys.get(key, what, net)?.ok_or(NetworkError::Missing { key })?.trunc();
        let network = Prefix::try_from(net).expect("a truncated prefix has no host bits");
        let (key, least) = (format!("{family}SubnetLen"), network.length().saturating_add(2));
        let byte = |value: &Value| value.as_u64().and_then(|number| u8::try_from(number).ok());
        let length = match keys.get(&key, "prefix length", byte)? {
            None | Some(0) => usual.max(least),
            Some(length) => length,
        };
        if !(least..=longest).contains(&length) {
            return Err(NetworkError::Length { key, length, network, least, most: longest });
        }
        let mut pool = Pool { network, length, first: net.network(), last: net.broadcast() };
        let last = pool.number(pool.last) / pool.step() * pool.step();
        let bounds = [("Min", pool.number(pool.first) + pool.step()), ("Max", last)];
        let [first, last] = bounds.map(|(end, default)| pool.bound(keys, format!("{family}Subnet{end}"), default));
        (pool.first, pool.last) = (first?, last?);
        if pool.first > pool.last { Err(NetworkError::Order) } else { Ok(pool) }
    }

    fn bound(&self, keys: &Keys<'_>, key: String, default: u128) -> Result<IpAddr, NetworkError> {
        let parse = |value: &Value| value.as_str()?.parse::<IpAddr>().ok();
        let Some(address) = keys.get(&key, "address", parse)? else { return Ok(self.address(default)) };
        if self.network.contains(address) && self.number(address).is_multiple_of(self.step()) {
            return Ok(address);
        }
        Err(NetworkError::Bound { key, address, network: self.network, length: self.length })
    }

    /// All subnets that may be given away, in order.
    pub fn subnets(&self) -> impl Iterator<Item = Prefix> {
        let (first, last, step) = (self.number(self.first), self.number(self.last), self.step());
        let numbers = std::iter::successors(Some(first), move |number| number.checked_add(step));
        numbers.take_while(move |number| *number <= last).map(|number| {
            Prefix::new(self.address(number), self.length).expect("a multiple of the subnets' size has no host bits")
        })
    }

    /// True for what this pool could have given away.
    pub fn has(&self, subnet: Prefix) -> bool {
        subnet.length() == self.length && subnet.address() >= self.first && subnet.address() <= self.last
    }

    fn step(&self) -> u128 {
        1 << (if self.network.address().is_ipv4() { 32 } else { 128 } - self.length)
    }

    fn number(&self, address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(v4) => u32::from(v4).into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }

    fn address(&self, number: u128) -> IpAddr {
        if self.network.address().is_ipv4() { IpAddr::V4((number as u32).into()) } else { IpAddr::V6(number.into()) }
    }
}

impl Backend {
    fn of(keys: &Keys<'_>) -> Result<(Self, Option<u16>), NetworkError> {
        let options = match keys.find("Backend") {
            None | Some(Value::Null) => return Ok((Backend::Udp { port: FLANNEL_UDP_PORT }, None)),
            Some(value) => Keys::of("Backend ", value)?,
        };
        let word = options.get("Type", "text", |value| value.as_str().map(str::to_owned))?;
        let flag = |key| options.get(key, "boolean", Value::as_bool).map(|flag| flag.unwrap_or(false));
        let port = |default| options.get("Port", "UDP port", positive).map(|port| port.unwrap_or(default));
        let mtu = options.get("MTU", "MTU", |value| value.as_u64().and_then(|mtu| u16::try_from(mtu).ok()))?;
        let backend = match word.as_deref() {
            None => return Err(NetworkError::Missing { key: "Backend Type" }),
            Some("vxlan") if flag("GBP")? => return Err(NetworkError::Gbp),
            Some("vxlan") => Backend::Vxlan {
                vni: options.get("VNI", "VNI", vni)?.unwrap_or(Vni::FLANNEL),
                port: port(FLANNEL_VXLAN_PORT)?,
                direct: flag("DirectRouting")?,
            },
            Some("host-gw") => Backend::HostGw,
            Some("udp") => Backend::Udp { port: port(FLANNEL_UDP_PORT)? },
            Some("ipip") => Backend::Ipip { direct: flag("DirectRouting")? },
            Some("alloc") => Backend::Alloc,
            Some(other) => return Err(NetworkError::Backend { found: other.to_owned() }),
        };
        Ok((backend, mtu.filter(|mtu| *mtu > 0)))
    }

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Vxlan { .. } => "vxlan",
            Backend::HostGw => "host-gw",
            Backend::Udp { .. } => "udp",
            Backend::Ipip { .. } => "ipip",
            Backend::Alloc => "alloc",
        }
    }

    /// The name in leases, where those of udp and alloc have none.
    pub fn lease_type(self) -> &'static str {
        match self {
            Backend::Udp { .. } | Backend::Alloc => "",
            _ => self.name(),
        }
    }

    /// By how many bytes it makes a packet longer, where nodes may have IPv6 addresses and where not.
    pub fn overhead(self, over_v6: bool) -> u16 {
        match self {
            Backend::Vxlan { .. } if over_v6 => overhead::VXLAN_V6,
            Backend::Vxlan { .. } => overhead::VXLAN_V4,
            Backend::Udp { .. } => overhead::FLANNEL_UDP,
            Backend::Ipip { .. } => overhead::IPIP,
            Backend::HostGw | Backend::Alloc => 0,
        }
    }
}

/// An object's values by their keys, whose case does not count.
struct Keys<'a> {
    place: &'static str,
    values: std::borrow::Cow<'a, Map<String, Value>>,
}

impl<'a> Keys<'a> {
    fn parse(text: &str) -> Result<Keys<'static>, NetworkError> {
        let map = serde_json::from_str(text).map_err(|error| NetworkError::Syntax { fault: error.to_string() })?;
        Ok(Keys { place: "", values: std::borrow::Cow::Owned(map) })
    }

    fn of(place: &'static str, value: &'a Value) -> Result<Self, NetworkError> {
        let wrong = || NetworkError::Value { key: place.trim().to_owned(), value: value.to_string(), what: "object" };
        Ok(Keys { place, values: std::borrow::Cow::Borrowed(value.as_object().ok_or_else(wrong)?) })
    }

    fn find(&self, key: &str) -> Option<&Value> {
        self.values.iter().find(|(known, _)| known.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    }

    fn get<T>(
        &self,
        key: &str,
        what: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, NetworkError> {
        let Some(value) = self.find(key).filter(|value| !value.is_null()) else { return Ok(None) };
        let wrong = || NetworkError::Value { key: format!("{}{key}", self.place), value: value.to_string(), what };
        read(value).ok_or_else(wrong).map(Some)
    }
}

fn positive(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

fn vni(value: &Value) -> Option<Vni> {
    value.as_u64().and_then(|number| number.to_string().parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_left_out_is_as_flannel_has_it() {
        let Network { v4, v6, backend, mtu } = network(r#"{"Network":"10.5.0.0/16"}"#);
        assert_eq!((v6, backend, mtu), (None, Backend::Udp { port: 8285 }, None));
        let subnets: Vec<String> = v4.subnets().map(|subnet| subnet.to_string()).collect();
        assert_eq!((subnets.len(), &*subnets[0], &*subnets[254]), (255, "10.5.1.0/24", "10.5.255.0/24"));
        let small = network(r#"{"Network":"10.5.0.0/23"}"#);
        assert_eq!(small.v4.subnets().map(|subnet| subnet.to_string()).collect::<Vec<_>>().len(), 3);
        let vxlan = network(r#"{"network":"10.5.0.0/16","BACKEND":{"type":"vxlan","Learning":true},"Extra":1}"#);
        assert_eq!(vxlan.backend, Backend::Vxlan { vni: Vni::FLANNEL, port: 8472, direct: false });
    }

    #[test]
    fn what_is_given_counts() {
        let text = r#"{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0",
            "EnableIPv6":true,"IPv6Network":"fd00:10::/48","IPv6SubnetMin":"fd00:10:0:8::","IPv6SubnetMax":"fd00:10:0:9::",
            "Backend":{"Type":"vxlan","VNI":7,"Port":4789,"MTU":9000,"DirectRouting":true}}"#;
        let Network { v4, v6, backend, mtu } = network(text);
        let text = |prefix: Option<Prefix>| prefix.unwrap().to_string();
        assert_eq!(
            (text(v4.subnets().next()), text(v4.subnets().last())),
            ("10.10.0.0/20".into(), "10.99.0.0/20".into())
        );
        assert_eq!(text(v6.unwrap().subnets().last()), "fd00:10:0:9::/64");
        assert_eq!(
            (backend, mtu),
            (Backend::Vxlan { vni: "7".parse().unwrap(), port: 4789, direct: true }, Some(9000))
        );
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (text, named) in [
            ("[]", "no JSON object"),
            ("{}", "lacks Network"),
            (r#"{"Network":"10.5.0.0"}"#, "Network: \"10.5.0.0\" is no IPv4 prefix"),
            (r#"{"Network":"fd00::/48"}"#, "is no IPv4 prefix"),
            (
                r#"{"Network":"10.5.0.0/16","SubnetLen":17}"#,
                "SubnetLen: 17 does not fit 10.5.0.0/16: allowed are 18 to 30",
            ),
            (r#"{"Network":"10.5.0.0/29"}"#, "SubnetLen"),
            (r#"{"Network":"10.5.0.0/16","SubnetLen":"24"}"#, "SubnetLen: \"24\" is no prefix length"),
            (r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.7"}"#, "SubnetMin: 10.5.1.7 is no subnet"),
            (r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.8.0"}"#, "behind"),
            (r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"Backend":{"Type":"vxlan"}}"#, "lacks IPv6Network"),
            (r#"{"Network":"10.5.0.0/16","EnableIPv4":false}"#, "without IPv4"),
            (r#"{"Network":"10.5.0.0/16","Backend":{"Type":"extension"}}"#, "'extension' is not done here"),
            (r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}"#, "Backend VNI: 16777216"),
            (r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","Port":0}}"#, "Backend Port: 0"),
            (r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","GBP":true}}"#, "GBP"),
            (r#"{"Network":"10.5.0.0/16","Backend":"vxlan"}"#, "Backend: \"vxlan\" is no object"),
        ] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in ".{0,200}") {
            let _ = text.parse::<Network>();
        }

        #[test]
        fn subnets_lie_apart_within_the_network(length in 0u8..=28, more in 2u8..=8) {
            let length_of_subnets = (length + more).min(30);
            let text = format!(r#"{{"Network":"10.0.0.0/{length}","SubnetLen":{length_of_subnets}}}"#);
            let pool = network(&text).v4;
            let subnets: Vec<Prefix> = pool.subnets().take(300).collect();
            prop_assert!(subnets.iter().all(|subnet| pool.network.overlaps(*subnet) && pool.has(*subnet)));
            prop_assert!(subnets.windows(2).all(|pair| !pair[0].overlaps(pair[1]) && pair[0] < pair[1]));
        }
    }
}

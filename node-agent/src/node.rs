//! What the kernel knows of this node, and the files that the agent writes on it.
//!
//! | file | for |
//! |---|---|
//! | `switch.toml` | `podswitch run --config`: the node's subnet, its address, the tunnel |
//! | `subnet.env` | flannel's CNI plugin and scripts |
//! | `lease` | the agent itself: the lease it had, key and value, so that it gets it again |
//!
//! A file appears whole, by a rename.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;

use host::Netlink;
use packet::Prefix;

use crate::claim::Held;
use crate::error::Error;
use crate::lease::{Attributes, vtep_mac};
use crate::network::{Backend, Network};

/// What the kernel knows of this node's addresses.
#[derive(Clone, Debug)]
pub struct Underlay {
    /// The prefixes of the links that have one of them.
    pub links: Vec<Prefix>,
    /// The least MTU of these links.
    pub mtu: u16,
}

impl Underlay {
    /// What it knows of these.
    ///
    /// # Errors
    /// [`Error::Setting`] where no link has one of them.
    pub fn of(addresses: &[IpAddr]) -> Result<Self, Error> {
        let mut netlink = Netlink::open()?;
        let known = netlink.addresses()?;
        let mut underlay = Underlay { links: Vec::new(), mtu: u16::MAX };
        for own in addresses {
            let found = known.iter().find(|address| address.net.addr() == *own).ok_or_else(|| Error::Setting {
                key: if own.is_ipv4() { "public_ip" } else { "public_ipv6" },
                fault: format!("no interface of this node has {own}"),
            })?;
            let link = netlink.link_by_index(found.link)?;
            underlay.mtu = underlay.mtu.min(link.mtu.min(u16::MAX.into()) as u16);
            underlay.links.extend(Prefix::try_from(found.net.trunc()));
        }
        Ok(underlay)
    }
}

/// The address by which this node would speak to the outside; nothing is sent.
///
/// # Errors
/// [`Error::NoAddress`]
pub fn own_address() -> Result<Ipv4Addr, Error> {
    let ask = || -> io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(OUTSIDE)?;
        Ok(socket.local_addr()?.ip())
    };
    match ask() {
        Ok(IpAddr::V4(address)) => Ok(address),
        Ok(IpAddr::V6(_)) => unreachable!("an IPv4 socket has an IPv4 address"),
        Err(source) => Err(Error::NoAddress { source }),
    }
}

/// What `podswitch run --config` reads.
pub fn switch_config(network: &Network, held: &Held, said: &Attributes) -> String {
    let quoted = |values: Vec<String>| {
        let quoted: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
        format!("[{}]", quoted.join(", "))
    };
    let networks = network.pools().iter().map(Prefix::to_string).collect();
    let addresses = [said.public_ip.to_string()].into_iter().chain(said.public_ipv6.map(|v6| v6.to_string())).collect();
    let tunnel = match network.backend {
        Backend::Vxlan { .. } | Backend::Udp { .. } | Backend::Ipip { .. } => Some(network.backend.name()),
        Backend::HostGw | Backend::Alloc => None,
    };
    let mut text = String::from(
        "# Written by podswitch-agent at each start: settings of one's own are flags of `podswitch run`.\n",
    );
    let mut line = |key: &str, value: String| writeln!(text, "{key} = {value}").expect("text takes what is written");
    line("pod_ranges", quoted(held.subnets.each().map(|subnet| subnet.to_string()).collect()));
    line("cluster_networks", quoted(networks));
    if let Some(tunnel) = tunnel {
        line("underlay_address", quoted(addresses));
        line("tunnels", quoted(vec![tunnel.to_owned()]));
    }
    match network.backend {
        Backend::Vxlan { vni, port, .. } => {
            line("vxlan_vni", u32::from(vni).to_string());
            line("vxlan_port", port.to_string());
            line("vtep_mac", format!("\"{}\"", vtep_mac(said.public_ip)));
        }
        Backend::Udp { port } => line("udp_port", port.to_string()),
        _ => {}
    }
    if let Some(mtu) = network.mtu {
        line("mtu", mtu.saturating_sub(network.backend.overhead(said.public_ipv6.is_some())).to_string());
    }
    text
}

/// What flannel's programs read.
pub fn subnet_env(network: &Network, held: &Held, said: &Attributes, underlay: &Underlay) -> String {
    let overhead = network.backend.overhead(said.public_ipv6.is_some());
    let mtu = network.mtu.unwrap_or(underlay.mtu).saturating_sub(overhead);
    let router = |subnet: Prefix| {
        let first = subnet.net().hosts().next().expect("a node's subnet has four addresses at least");
        let first = if subnet.address().is_ipv6() && first == subnet.address() {
            subnet.net().hosts().nth(1).expect("as above")
        } else {
            first
        };
        format!("{first}/{}", subnet.length())
    };
    let mut text = format!("FLANNEL_NETWORK={}\nFLANNEL_SUBNET={}\n", network.v4.network, router(held.subnets.v4));
    if let Some((pool, v6)) = network.v6.zip(held.subnets.v6) {
        text += &format!("FLANNEL_IPV6_NETWORK={}\nFLANNEL_IPV6_SUBNET={}\n", pool.network, router(v6));
    }
    text + &format!("FLANNEL_MTU={mtu}\nFLANNEL_IPMASQ=false\n")
}

/// Puts a text in place of a file, whole, in a folder that is made if need be; true if it read otherwise before.
///
/// # Errors
/// [`Error::File`]
pub fn write(path: &Path, text: &str) -> Result<bool, Error> {
    if fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(false);
    }
    let put = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let beside = path.with_extension("new");
        fs::write(&beside, text)?;
        fs::rename(&beside, path)
    };
    put().map(|()| true).map_err(|source| Error::File { action: "write", path: path.to_owned(), source })
}

/// The lease of an earlier run.
pub fn remembered(path: &Path) -> Option<Held> {
    let text = fs::read_to_string(path).ok()?;
    let (key, value) = text.split_once('\n')?;
    Some(Held { subnets: key.parse().ok()?, text: value.trim_end().to_owned() })
}

/// Keeps a lease for later runs.
///
/// # Errors
/// [`Error::File`]
pub fn remember(path: &Path, held: &Held) -> Result<(), Error> {
    write(path, &format!("{}\n{}\n", held.subnets, held.text)).map(drop)
}

/// An address of the documentation range (RFC 5737): no node is asked, only the routing table.
const OUTSIDE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

#[cfg(test)]
mod tests {
    use super::*;

    fn dual() -> (Network, Held, Attributes) {
        let text =
            r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10::/48","Backend":{"Type":"vxlan"}}"#;
        let network: Network = text.parse().unwrap();
        let said = Attributes::of(network.backend, [192, 168, 9, 1].into(), Some("fd00:9::1".parse().unwrap()));
        let held = Held { subnets: "10.5.52.0-24&fd00:10:0:7::-64".parse().unwrap(), text: said.text() };
        (network, held, said)
    }

    #[test]
    fn flannels_programs_find_what_they_know() {
        let (mut network, held, said) = dual();
        let underlay = Underlay { links: Vec::new(), mtu: 1500 };
        assert_eq!(
            subnet_env(&network, &held, &said, &underlay),
            "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.52.1/24\nFLANNEL_IPV6_NETWORK=fd00:10::/48\n\
             FLANNEL_IPV6_SUBNET=fd00:10:0:7::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n"
        );
        network.v6 = None;
        let alone = Attributes { public_ipv6: None, ..said };
        let text = subnet_env(&network, &held, &alone, &underlay);
        assert!(!text.contains("IPV6") && text.contains("FLANNEL_MTU=1450\n"), "{text}");
    }

    #[test]
    fn the_switch_is_told_subnet_address_and_tunnel() {
        let (network, held, said) = dual();
        let text = switch_config(&network, &held, &said);
        let table: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(table["pod_ranges"].to_string(), r#"["10.5.52.0/24", "fd00:10:0:7::/64"]"#);
        assert_eq!(table["underlay_address"].to_string(), r#"["192.168.9.1", "fd00:9::1"]"#);
        assert_eq!(table["vtep_mac"].as_str().unwrap(), said.vxlan(false).unwrap().mac.to_string());
        let direct = Network { backend: Backend::HostGw, ..network };
        assert!(!switch_config(&direct, &held, &said).contains("underlay"));
    }

    #[test]
    fn a_lease_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/lease");
        assert_eq!(remembered(&path), None);
        let (_, held, _) = dual();
        remember(&path, &held).unwrap();
        assert_eq!(remembered(&path), Some(held));
        fs::write(&path, "nonsense").unwrap();
        assert_eq!(remembered(&path), None);
    }
}

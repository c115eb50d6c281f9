//! The underlay: this node's own addresses towards other nodes, and which tunnels end at them.

use std::net::IpAddr;

use control::{Backend, Mtu};
use encap::{FLANNEL_UDP_PORT, FLANNEL_VXLAN_PORT, overhead};
use packet::{Mac, Prefix, Vni};
use serde::{Deserialize, Serialize};

use super::Settings;

/// How other nodes reach this one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Underlay {
    /// This node's own addresses towards others, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// The tunnels that end here.
    pub tunnels: Vec<Backend>,
    /// VXLAN's segment.
    pub vni: Vni,
    /// UDP port of VXLAN, here and at all neighbours.
    pub vxlan_port: u16,
    /// Ethernet address of VXLAN's end here; none without an address to make it from.
    pub vtep_mac: Option<Mac>,
    /// UDP port of `udp`, here and at all neighbours.
    pub udp_port: u16,
    /// Super-frames are cut here, even where the kernel would take them whole.
    #[serde(default)]
    pub cut_super_frames: bool,
}

/// Why there is no such [`Underlay`].
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum UnderlayError {
    #[error("underlay_address: {0} and {1} are of one family")]
    Family(IpAddr, IpAddr),
    #[error("underlay_address: {address} is {kind}: other nodes cannot send there")]
    Unroutable { address: IpAddr, kind: &'static str },
    #[error("underlay_address: {address} lies in the pod range {range}")]
    Pod { address: IpAddr, range: Prefix },
    #[error("tunnels: host-gw is no tunnel")]
    NoTunnel,
    #[error("tunnels: {0} is given twice")]
    Twice(Backend),
    #[error("tunnels: {0} needs this node's own address towards others")]
    NoAddress(Backend),
    #[error("tunnels: {0} goes over IPv4 alone, and there is no such underlay_address")]
    NoIpv4(Backend),
    #[error("vxlan_port and udp_port: both are {0}")]
    SamePort(u16),
    #[error("vtep_mac: {0} cannot be a station's Ethernet address")]
    Mac(Mac),
}

impl Underlay {
    /// What the settings say of it.
    pub(super) fn of(settings: &Settings) -> Underlay {
        let addresses = settings.underlay_address.clone();
        let default = || addresses.first().map(|_| Backend::Vxlan).into_iter().collect();
        Underlay {
            tunnels: settings.tunnels.clone().unwrap_or_else(default),
            vni: settings.vxlan_vni.unwrap_or(Vni::FLANNEL),
            vxlan_port: settings.vxlan_port.map_or(FLANNEL_VXLAN_PORT, u16::from),
            vtep_mac: settings.vtep_mac.or_else(|| addresses.first().copied().map(mac_of)),
            udp_port: settings.udp_port.map_or(FLANNEL_UDP_PORT, u16::from),
            cut_super_frames: settings.cut_super_frames.unwrap_or(false),
            addresses,
        }
    }

    pub(super) fn check(&self, pod_ranges: &[Prefix]) -> Result<(), UnderlayError> {
        let Underlay { addresses, tunnels, vxlan_port, vtep_mac, udp_port, .. } = self;
        for (at, &address) in addresses.iter().enumerate() {
            if let Some(kind) = control::unroutable(address) {
                return Err(UnderlayError::Unroutable { address, kind });
            }
            if let Some(&before) = addresses[..at].iter().find(|before| before.is_ipv4() == address.is_ipv4()) {
                return Err(UnderlayError::Family(before, address));
            }
            if let Some(&range) = pod_ranges.iter().find(|range| range.contains(address)) {
                return Err(UnderlayError::Pod { address, range });
            }
        }
        for (at, &tunnel) in tunnels.iter().enumerate() {
            match tunnel {
                Backend::HostGw => return Err(UnderlayError::NoTunnel),
                _ if tunnels[..at].contains(&tunnel) => return Err(UnderlayError::Twice(tunnel)),
                _ if addresses.is_empty() => return Err(UnderlayError::NoAddress(tunnel)),
                Backend::Udp | Backend::Ipip if !addresses.iter().any(IpAddr::is_ipv4) => {
                    return Err(UnderlayError::NoIpv4(tunnel));
                }
                _ => {}
            }
        }
        if vxlan_port == udp_port && tunnels.contains(&Backend::Vxlan) && tunnels.contains(&Backend::Udp) {
            return Err(UnderlayError::SamePort(*udp_port));
        }
        match vtep_mac {
            Some(mac) if !is_station(*mac) => Err(UnderlayError::Mac(*mac)),
            _ => Ok(()),
        }
    }

    /// The address of the family of `other`.
    pub fn towards(&self, other: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == other.is_ipv4())
    }

    /// The tunnels that end here, each at an address and with the bytes by which it makes a packet longer.
    pub fn ends(&self) -> impl Iterator<Item = (Backend, IpAddr, u16)> {
        let both = self.tunnels.iter().flat_map(|&tunnel| self.addresses.iter().map(move |&address| (tunnel, address)));
        both.filter_map(|(tunnel, address)| Some((tunnel, address, overhead_of(tunnel, address)?)))
    }

    /// The longest packet of a pod that every tunnel takes, by what is known of the links that have our addresses; none
    /// without a tunnel.
    pub fn pod_mtu(&self, link_mtu: impl Fn(IpAddr) -> u32) -> Option<u32> {
        self.ends().map(|(_, address, overhead)| link_mtu(address).saturating_sub(overhead.into())).min()
    }
}

impl Default for Underlay {
    /// None: no address, and no tunnel.
    fn default() -> Self {
        Underlay::of(&Settings::default())
    }
}

impl UnderlayError {
    /// What the user can do about it, where that is known.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            UnderlayError::Family(..) => Some("give at most one IPv4 and one IPv6 address"),
            UnderlayError::NoTunnel => Some("leave it out: neighbours of host-gw are always allowed"),
            UnderlayError::NoAddress(_) | UnderlayError::NoIpv4(_) => {
                Some("give --underlay-address 192.0.2.1, or underlay_address = [\"192.0.2.1\"] in the file of --config")
            }
            UnderlayError::Mac(_) => Some("leave it out, and one is made from underlay_address"),
            _ => None,
        }
    }
}

/// True for what one station can have: no group, not nobody, not the gateway of every pod.
fn is_station(mac: Mac) -> bool {
    !mac.is_group() && ![Mac::ZERO, Mac::GATEWAY].contains(&mac)
}

/// What a tunnel that ends at `address` adds; none where it cannot end at such an address.
fn overhead_of(tunnel: Backend, address: IpAddr) -> Option<u16> {
    match (tunnel, address) {
        (Backend::Vxlan, IpAddr::V4(_)) => Some(overhead::VXLAN_V4),
        (Backend::Vxlan, IpAddr::V6(_)) => Some(overhead::VXLAN_V6),
        (Backend::Udp, IpAddr::V4(_)) => Some(overhead::FLANNEL_UDP),
        (Backend::Ipip, IpAddr::V4(_)) => Some(overhead::IPIP),
        _ => None,
    }
}

/// A locally administered address: `02:76`, and the CRC-32 of the node's, which is another for every other IPv4 address.
fn mac_of(address: IpAddr) -> Mac {
    let checksum = match address {
        IpAddr::V4(v4) => crc32fast::hash(&v4.octets()),
        IpAddr::V6(v6) => crc32fast::hash(&v6.octets()),
    };
    let [a, b, c, d] = checksum.to_be_bytes();
    Mac([2, 0x76, a, b, c, d])
}

/// An MTU within what a pod's interface takes.
pub(super) fn pod_mtu(bytes: u32) -> Option<Mtu> {
    u16::try_from(bytes.min(Mtu::MAX.into())).ok().and_then(|bytes| Mtu::try_from(bytes).ok())
}

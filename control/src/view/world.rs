//! What a switch shows of its world: what workers read, and what it was made of.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use packet::{Mac, Prefix, Vni};
use serde::{Deserialize, Serialize};

use crate::{AddressRange, Backend, Bandwidth, InterfaceName, Mtu, Name, NetnsPath, Origin, Poll};

/// What is done with packets of one next hop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AdjacencyView {
    /// Its number, a result of route lookups.
    pub number: u16,
    /// `forward`; `punt` or `drop` and the cause or reason.
    pub action: String,
    /// The way out; none unless packets are forwarded.
    pub link: Option<LinkView>,
}

/// Where a forwarded packet departs, and what it looks like then.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LinkView {
    /// Index of the port.
    pub port: u16,
    /// Name of the port.
    pub name: String,
    /// Ethernet address of the station at the other end.
    pub destination: Mac,
    /// The switch's own on that link.
    pub source: Mac,
    /// Longest IP packet in bytes.
    pub mtu: u16,
}

/// The compiled tables as they come and go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorldsView {
    /// Worlds published after the first, which is the number of the one in force.
    pub published: u64,
    /// Earlier worlds that a worker still holds.
    pub retiring: u64,
    /// Ports of the newest.
    pub ports: u64,
    /// Adjacencies of the newest, those of free numbers apart.
    pub adjacencies: u64,
}

/// A pod's attachment as it is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndpointView {
    /// What it is called.
    pub name: Name,
    /// Who asked for it.
    pub origin: Origin,
    /// The network of container runtimes it belongs to, if it was one that asked.
    #[serde(default)]
    pub network: Option<Name>,
    /// Index of its port.
    pub port: u16,
    /// The pod's namespace.
    pub netns: NetnsPath,
    /// Inode of that namespace when the endpoint was made.
    pub netns_inode: u64,
    /// The interface there.
    pub interface: InterfaceName,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// Ethernet address of the interface.
    pub mac: Mac,
    /// MTU of the interface in bytes.
    pub mtu: Mtu,
    /// How fast its traffic may be.
    #[serde(default)]
    pub bandwidth: Bandwidth,
}

/// The settings in force, by their keys in the configuration file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the keys are the configuration's, which is where they are explained")]
pub struct ConfigView {
    pub pod_ranges: Vec<Prefix>,
    #[serde(default)]
    pub reserved: Vec<AddressRange>,
    #[serde(default)]
    pub masquerade: bool,
    #[serde(default)]
    pub cluster_networks: Vec<Prefix>,
    pub router_address: Vec<IpAddr>,
    pub mtu: Mtu,
    pub host_port: InterfaceName,
    pub underlay_address: Vec<IpAddr>,
    pub tunnels: Vec<Backend>,
    pub vxlan_vni: Vni,
    pub vxlan_port: u16,
    pub vtep_mac: Option<Mac>,
    pub udp_port: u16,
    pub cut_super_frames: bool,
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    pub metrics_address: Option<SocketAddr>,
    pub poll: Poll,
    pub spin_us: u32,
    pub worker_cpus: Vec<u16>,
    pub pipeline: bool,
    pub strict_mac: bool,
    /// Seconds an endpoint may outlive its namespace.
    pub sweep_seconds: u64,
}

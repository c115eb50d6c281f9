//! A node as flannel's backends set it up, made by netlink; the forwarder of `udp` is our own small one.
//!
//! The pod hangs on the bridge `cni0`, which has the first address of the node's subnet and is the pod's way out. The
//! interface `flannel.1` or `flannel0` has the subnet's own address. To the other node's subnet leads a route:
//!
//! * `vxlan`: by the subnet's own address on `flannel.1`, with permanent entries that say which MAC that address has and
//!   at which node the MAC is;
//! * `udp`: by the TUN `flannel0`, whose packets the forwarder sends to the other node;
//! * `host-gw`: by the other node.

use host::{LinkChange, Neighbor, Netlink, Route, TemporaryNamespace, Vxlan};
use ipnet::IpNet;
use packet::Prefix;

use super::{Backend, Setting, Site};
use crate::error::Result;
use crate::load::Family;
use crate::topology::Pod;
use crate::topology::forwarder::{Forwarder, udp::TUN};
use crate::topology::kernel::{ETH0, UP, address_of, address_on_link, connect};

/// The node; removed on drop, its forwarder before its namespace.
#[derive(Debug)]
pub(super) struct FlannelNode {
    #[allow(dead_code, reason = "held for its drop")]
    forwarder: Option<Forwarder>,
    #[allow(dead_code, reason = "held for its drop")]
    namespace: TemporaryNamespace,
}

impl FlannelNode {
    /// Makes the node at the first site, whose pods reach those of the second.
    pub(super) fn new(
        setting: Setting<'_>,
        namespace: TemporaryNamespace,
        sites: (Site, Site),
        pod: &Pod,
    ) -> Result<Self> {
        let mut netlink = Netlink::open_in(&namespace)?;
        let node = Uplink { setting, netlink: &mut netlink, own: sites.0, peer: sites.1 };
        bridge(node.netlink, sites.0, pod, setting.mtu())?;
        let forwarder = match setting.backend {
            Backend::Vxlan => node.vxlan().map(|()| None)?,
            Backend::HostGw => node.host_gw().map(|()| None)?,
            Backend::Udp => Some(node.udp(&namespace)?),
        };
        Ok(Self { forwarder, namespace })
    }

    /// Where its namespace and process are seen.
    #[cfg(test)]
    pub(super) fn traces(&self) -> Vec<std::path::PathBuf> {
        let process = self.forwarder.as_ref().map(|forwarder| format!("/proc/{}", forwarder.pid()).into());
        [self.namespace.path().to_owned()].into_iter().chain(process).collect()
    }
}

/// Puts the pod behind `cni0`.
fn bridge(netlink: &mut Netlink, own: Site, pod: &Pod, mtu: u32) -> Result<()> {
    netlink.create_bridge(BRIDGE)?;
    let bridge = netlink.link(BRIDGE)?.index;
    let port = connect(netlink, 0, pod, Some(mtu))?;
    netlink.change_link(port.index, &LinkChange { master: Some(bridge), ..UP })?;
    netlink.change_link(bridge, &LinkChange { mtu: Some(mtu), ..UP })?;
    address_on_link(pod)?;
    let mut in_pod = Netlink::open_in(&pod.namespace)?;
    let eth0 = in_pod.link(ETH0)?.index;
    for family in Site::FAMILIES {
        let (gateway, length) = (own.address(family, 1), own.subnet(family).length());
        netlink.add_address(&address_of(bridge, IpNet::new_assert(gateway, length)))?;
        let everywhere = Prefix::try_from(IpNet::new_assert(gateway, 0).trunc()).expect("a truncated prefix");
        in_pod.add_route(&Route::via(everywhere, gateway, eth0))?;
    }
    Ok(())
}

/// What leads from a node to the other one's pods.
struct Uplink<'a> {
    setting: Setting<'a>,
    netlink: &'a mut Netlink,
    own: Site,
    peer: Site,
}

impl Uplink<'_> {
    fn vxlan(self) -> Result<()> {
        let Self { setting, netlink, own, peer } = self;
        let local = setting.tunnel_end(own);
        let link = netlink.link(ETH0)?.index;
        netlink.create_vxlan(&Vxlan { name: VXLAN, mac: own.vtep_mac(), vni: 1, port: VXLAN_PORT, local, link })?;
        let link = netlink.link(VXLAN)?.index;
        netlink.change_link(link, &LinkChange { mtu: Some(setting.mtu()), ..UP })?;
        netlink.add_vxlan_peer(link, peer.vtep_mac(), setting.tunnel_end(peer))?;
        for family in Site::FAMILIES {
            netlink.add_address(&address_of(link, IpNet::from(own.address(family, 0))))?;
            let address = peer.address(family, 0);
            netlink.add_neighbor(&Neighbor { link, address, mac: peer.vtep_mac() })?;
            netlink.add_route(&Route { onlink: true, ..Route::via(peer.subnet(family), address, link) })?;
        }
        Ok(())
    }

    fn host_gw(self) -> Result<()> {
        let Self { netlink, peer, .. } = self;
        let link = netlink.link(ETH0)?.index;
        for family in Site::FAMILIES {
            netlink.add_route(&Route::via(peer.subnet(family), peer.underlay_address(family), link))?;
        }
        Ok(())
    }

    fn udp(self, node: &TemporaryNamespace) -> Result<Forwarder> {
        let Self { setting, netlink, own, peer } = self;
        let addresses = [own, peer].map(|site| setting.tunnel_end(site));
        let forwarder = Forwarder::to_node(node, addresses, setting.program.cpu)?;
        let link = netlink.link(TUN)?.index;
        netlink.change_link(link, &LinkChange { mtu: Some(setting.mtu()), ..UP })?;
        netlink.add_address(&address_of(link, IpNet::from(own.address(Family::V4, 0))))?;
        netlink.add_route(&Route::on_link(peer.subnet(Family::V4), link))?;
        Ok(forwarder)
    }
}

const BRIDGE: &str = "cni0";
const VXLAN: &str = "flannel.1";
const VXLAN_PORT: u16 = 8472;

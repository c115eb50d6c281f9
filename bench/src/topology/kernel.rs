//! What the kernel alone joins pods of one node with: a veth pair, a bridge, a router.
//!
//! Offloads of veth stay as they are by default: super-frames and unfinished checksums pass from pod to pod.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use host::{Address, LinkChange, Neighbor, Netlink, Route, Sysctl, TemporaryNamespace, VethPair};
use ipnet::IpNet;
use packet::Prefix;

use super::Pod;
use crate::error::Result;
use crate::load::Family::{V4, V6};

/// One veth pair from pod to pod.
pub(super) fn veth(pods: &[Pod; 2]) -> Result<()> {
    let mut netlink = Netlink::open_in(&pods[0].namespace)?;
    let far = Some(pods[1].namespace.as_fd());
    netlink.create_veth(&VethPair { name: ETH0, peer: ETH0, peer_namespace: far, ..VethPair::default() })?;
    pods.iter().try_for_each(address_on_link)
}

/// A bridge in a namespace of its own, a veth pair to each pod.
pub(super) fn bridge(pods: &[Pod; 2]) -> Result<TemporaryNamespace> {
    let node = TemporaryNamespace::new("bench-bridge")?;
    let mut netlink = Netlink::open_in(&node)?;
    netlink.create_bridge("bridge")?;
    let bridge = netlink.link("bridge")?.index;
    for (number, pod) in pods.iter().enumerate() {
        let port = connect(&mut netlink, number, pod, None)?;
        netlink
            .change_link(port.index, &LinkChange { master: Some(bridge), up: Some(true), ..LinkChange::default() })?;
        address_on_link(pod)?;
    }
    netlink.change_link(bridge, &UP)?;
    Ok(node)
}

/// A router in a namespace of its own, wired as Calico wires a node: the pod has a /32 and a default route by
/// 169.254.1.1, the node a /32 route to the pod's interface. Permanent neighbours stand for proxy ARP, so that no
/// resolution falls into a measurement.
pub(super) fn route(pods: &[Pod; 2]) -> Result<TemporaryNamespace> {
    let node = TemporaryNamespace::new("bench-route")?;
    node.run(|| {
        Sysctl::net(&["ipv4", "ip_forward"])?.write(1)?;
        Sysctl::interface(host::Family::V6, "all", "forwarding")?.write(1)
    })??;
    let mut netlink = Netlink::open_in(&node)?;
    for (number, pod) in pods.iter().enumerate() {
        let port = connect(&mut netlink, number, pod, None)?;
        netlink.change_link(port.index, &UP)?;
        let mut in_pod = Netlink::open_in(&pod.namespace)?;
        let eth0 = in_pod.link(ETH0)?;
        in_pod.change_link(eth0.index, &UP)?;
        for family in [V4, V6] {
            let address = pod.address(family);
            let gateway = if family == V4 { GATEWAY_V4 } else { GATEWAY_V6 };
            in_pod.add_address(&address_of(eth0.index, IpNet::from(address)))?;
            in_pod.add_neighbor(&Neighbor { link: eth0.index, address: gateway, mac: port.mac })?;
            let everywhere = IpNet::new_assert(address, 0).trunc();
            let everywhere = Prefix::try_from(everywhere).expect("a truncated prefix has no host bits");
            in_pod.add_route(&Route { onlink: true, ..Route::via(everywhere, gateway, eth0.index) })?;
            netlink.add_neighbor(&Neighbor { link: port.index, address, mac: eth0.mac })?;
            netlink.add_route(&Route::on_link(Prefix::host(address), port.index))?;
        }
    }
    Ok(node)
}

/// Sets the pod's `eth0` up with addresses whose subnets are on the link.
pub(super) fn address_on_link(pod: &Pod) -> Result<()> {
    let mut netlink = Netlink::open_in(&pod.namespace)?;
    let eth0 = netlink.link(ETH0)?.index;
    netlink.change_link(eth0, &UP)?;
    for (family, length) in [(V4, 24), (V6, 64)] {
        let net = IpNet::new_assert(pod.address(family), length);
        netlink.add_address(&address_of(eth0, net))?;
    }
    Ok(())
}

/// A veth pair between the namespace of `netlink` and the pod's `eth0`, of MTU 1500 unless told otherwise; the near end.
pub(super) fn connect(netlink: &mut Netlink, number: usize, pod: &Pod, mtu: Option<u32>) -> Result<host::Link> {
    let name = format!("pod{number}");
    let far = Some(pod.namespace.as_fd());
    netlink.create_veth(&VethPair { name: &name, peer: ETH0, peer_namespace: far, mtu, ..VethPair::default() })?;
    Ok(netlink.link(&name)?)
}

/// Usable at once: nobody else can have it.
pub(super) fn address_of(link: u32, net: IpNet) -> Address {
    Address { no_dad: true, ..Address::new(link, net) }
}

pub(super) const ETH0: &str = "eth0";
const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0, 1));
pub(super) const UP: LinkChange<'static> = LinkChange {
    up: Some(true),
    name: None,
    mac: None,
    mtu: None,
    master: None,
    namespace: None,
    queue_length: None,
    gso_max_size: None,
    gso_ipv4_max_size: None,
    gso_max_segments: None,
    address_generation: None,
};

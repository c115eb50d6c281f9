//! VXLAN interfaces of the kernel, and which node has which remote MAC.
//!
//! What flannel's backend makes: one interface with a fixed VNI, port and local address, which learns nothing. Where a
//! frame goes is told twice, by its destination's MAC: a permanent [`crate::Neighbor`] says which MAC the next hop has, and
//! [`Netlink::add_vxlan_peer`] to which node frames to that MAC are sent.
//!
//! Source: RFC 7348, ip-link(8), bridge(8), Linux `drivers/net/vxlan/vxlan_core.c`.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use packet::Mac;

use crate::link::check_name;
use crate::{Error, Netlink};

/// A VXLAN interface to be made.
#[derive(Clone, Copy, Debug)]
pub struct Vxlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address, the VTEP MAC other nodes are told.
    pub mac: Mac,
    /// The network identifier, below 2^24.
    pub vni: u32,
    /// UDP port, ours and the others'.
    pub port: u16,
    /// Source address of what it sends.
    pub local: IpAddr,
    /// Index of the link it sends by.
    pub link: u32,
}

impl Netlink {
    /// Makes a VXLAN interface that learns no addresses; it is down.
    pub fn create_vxlan(&mut self, vxlan: &Vxlan<'_>) -> Result<(), Error> {
        check_name(vxlan.name)?;
        let local = match vxlan.local {
            IpAddr::V4(local) => InfoVxlan::Local(local),
            IpAddr::V6(local) => InfoVxlan::Local6(local),
        };
        let data = vec![
            InfoVxlan::Id(vxlan.vni),
            InfoVxlan::Port(vxlan.port),
            local,
            InfoVxlan::Link(vxlan.link),
            InfoVxlan::Learning(false),
        ];
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(vxlan.name.to_owned()),
            LinkAttribute::Address(vxlan.mac.0.to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(data))]),
        ];
        self.create_link(link, || format!("create VXLAN interface {}", vxlan.name))
    }

    /// The namespace's VXLAN interfaces by their names, and the UDP port of each.
    pub fn vxlan_ports(&mut self) -> Result<Vec<(String, u16)>, Error> {
        let answer = self.list(RouteNetlinkMessage::GetLink(LinkMessage::default()));
        let bodies = answer.map_err(|refusal| refusal.of("list links".to_owned()))?;
        let links = bodies.into_iter().filter_map(|body| match body {
            RouteNetlinkMessage::NewLink(link) => Some(link.attributes),
            _ => None,
        });
        Ok(links.filter_map(|attributes| Some((name_in(&attributes)?, port_in(&attributes)?))).collect())
    }

    /// Has the VXLAN interface `link` send frames for `mac` to `node`; the entry there is for this MAC is replaced.
    pub fn add_vxlan_peer(&mut self, link: u32, mac: Mac, node: IpAddr) -> Result<(), Error> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = link;
        message.header.state = NeighbourState::Permanent;
        message.header.flags = NeighbourFlags::Own;
        message.attributes =
            vec![NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()), NeighbourAttribute::Destination(node.into())];
        let answer = self.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE);
        answer.map(drop).map_err(|refusal| refusal.of(format!("send frames for {mac} on link {link} to {node}")))
    }
}

fn name_in(attributes: &[LinkAttribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn port_in(attributes: &[LinkAttribute]) -> Option<u16> {
    let info = attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => Some(info),
        _ => None,
    })?;
    let data = info.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
        _ => None,
    })?;
    data.iter().find_map(|data| match data {
        InfoVxlan::Port(port) => Some(*port),
        _ => None,
    })
}

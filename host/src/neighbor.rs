//! Permanent neighbour entries: which MAC an address has, without asking the link.
//!
//! Entries the kernel learned by itself (ARP, neighbour discovery) are not listed; replacing or deleting the entry of
//! an address goes for a learned one too.
//!
//! Source: rtnetlink(7), ip-neighbour(8).

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::RouteType;
use packet::Mac;

use crate::netlink::family;
use crate::{Error, Netlink};

/// A permanent entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Neighbor {
    /// Index of the link.
    pub link: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
}

impl Neighbor {
    fn message(&self) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = family(self.address);
        message.header.ifindex = self.link;
        message.header.state = NeighbourState::Permanent;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![
            NeighbourAttribute::Destination(self.address.into()),
            NeighbourAttribute::LinkLayerAddress(self.mac.0.to_vec()),
        ];
        message
    }

    fn from_body(body: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewNeighbour(message) = body else { return None };
        if message.header.state != NeighbourState::Permanent {
            return None;
        }
        let (mut address, mut mac) = (None, None);
        for attribute in message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::from(v4)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::from(v6)),
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.try_into().ok().map(Mac),
                _ => {}
            }
        }
        Some(Neighbor { link: message.header.ifindex, address: address?, mac: mac? })
    }
}

impl fmt::Display for Neighbor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} on link {}", self.address, self.mac, self.link)
    }
}

impl Netlink {
    /// Adds an entry. EEXIST when the link has one for this address, also a learned one: [`Error::is_exists`].
    pub fn add_neighbor(&mut self, neighbor: &Neighbor) -> Result<(), Error> {
        let answer = self.ask(RouteNetlinkMessage::NewNeighbour(neighbor.message()), NLM_F_CREATE | NLM_F_EXCL);
        answer.map(drop).map_err(|refusal| refusal.of(format!("add neighbour {neighbor}")))
    }

    /// Adds an entry or changes the one there is for this address.
    pub fn replace_neighbor(&mut self, neighbor: &Neighbor) -> Result<(), Error> {
        let answer = self.ask(RouteNetlinkMessage::NewNeighbour(neighbor.message()), NLM_F_CREATE | NLM_F_REPLACE);
        answer.map(drop).map_err(|refusal| refusal.of(format!("replace neighbour {neighbor}")))
    }

    /// Deletes the entry of this address, whatever its MAC. ENOENT when there is none: [`Error::is_missing`].
    pub fn delete_neighbor(&mut self, link: u32, address: IpAddr) -> Result<(), Error> {
        let message = Neighbor { link, address, mac: Mac::ZERO }.message();
        let answer = self.ask(RouteNetlinkMessage::DelNeighbour(message), 0);
        answer.map(drop).map_err(|refusal| refusal.of(format!("delete neighbour {address} on link {link}")))
    }

    /// All permanent entries of the namespace, both families.
    pub fn neighbors(&mut self) -> Result<Vec<Neighbor>, Error> {
        let answer = self.list(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()));
        let bodies = answer.map_err(|refusal| refusal.of("list neighbours".to_owned()))?;
        Ok(bodies.into_iter().filter_map(Neighbor::from_body).collect())
    }
}

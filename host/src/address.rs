//! Addresses of links.
//!
//! Two flags matter to a switch: without duplicate address detection an IPv6 address is usable at once, and without a
//! prefix route the address brings no on-link route, so that every packet goes by the routes we set.
//!
//! Source: rtnetlink(7), Linux `include/uapi/linux/if_addr.h`.

use std::fmt;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};

use crate::netlink::family;
use crate::{Error, Netlink};

/// An address on a link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    /// Index of the link.
    pub link: u32,
    /// The address and the length of its on-link prefix.
    pub net: IpNet,
    /// Usable at once, without duplicate address detection (`IFA_F_NODAD`); IPv6 only, never listed for IPv4.
    pub no_dad: bool,
    /// Brings no route to its prefix (`IFA_F_NOPREFIXROUTE`).
    pub no_prefix_route: bool,
}

impl Address {
    /// An address with duplicate address detection and a route to its prefix, as `ip address add` makes it.
    pub fn new(link: u32, net: IpNet) -> Self {
        Address { link, net, no_dad: false, no_prefix_route: false }
    }

    fn message(&self) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = family(self.net.addr());
        message.header.prefix_len = self.net.prefix_len();
        message.header.index = self.link;
        let mut flags = AddressFlags::empty();
        flags.set(AddressFlags::Nodad, self.no_dad);
        flags.set(AddressFlags::Noprefixroute, self.no_prefix_route);
        // The kernel takes Local as the address and Address as the far end, which of a shared medium is the same.
        let address = self.net.addr();
        message.attributes =
            vec![AddressAttribute::Local(address), AddressAttribute::Address(address), AddressAttribute::Flags(flags)];
        message
    }

    fn from_body(body: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewAddress(message) = body else { return None };
        let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
        let (mut local, mut far) = (None, None);
        for attribute in message.attributes {
            match attribute {
                AddressAttribute::Local(address) => local = Some(address),
                AddressAttribute::Address(address) => far = Some(address),
                AddressAttribute::Flags(all) => flags = all,
                _ => {}
            }
        }
        // IPv6 tells Local only of point-to-point addresses.
        let net = IpNet::new(local.or(far)?, message.header.prefix_len).ok()?;
        Some(Address {
            link: message.header.index,
            net,
            no_dad: flags.contains(AddressFlags::Nodad),
            no_prefix_route: flags.contains(AddressFlags::Noprefixroute),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on link {}", self.net, self.link)
    }
}

impl Netlink {
    /// Adds an address. EEXIST when the link has it: [`Error::is_exists`].
    pub fn add_address(&mut self, address: &Address) -> Result<(), Error> {
        let answer = self.ask(RouteNetlinkMessage::NewAddress(address.message()), NLM_F_CREATE | NLM_F_EXCL);
        answer.map(drop).map_err(|refusal| refusal.of(format!("add address {address}")))
    }

    /// Deletes an address; its flags do not matter. EADDRNOTAVAIL when the link has it not: [`Error::is_missing`].
    pub fn delete_address(&mut self, address: &Address) -> Result<(), Error> {
        let answer = self.ask(RouteNetlinkMessage::DelAddress(address.message()), 0);
        answer.map(drop).map_err(|refusal| refusal.of(format!("delete address {address}")))
    }

    /// All addresses of the namespace, both families, link-local ones too.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let answer = self.list(RouteNetlinkMessage::GetAddress(AddressMessage::default()));
        let bodies = answer.map_err(|refusal| refusal.of("list addresses".to_owned()))?;
        Ok(bodies.into_iter().filter_map(Address::from_body).collect())
    }
}

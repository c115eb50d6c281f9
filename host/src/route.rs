//! Routes of the kernel's own tables.
//!
//! Every route we make carries [`Route::PROTOCOL`], so that they can be found and removed whoever made them. The kernel
//! tells routes apart by prefix, metric, table and (IPv4) next hop; `replace` puts a route in the place of the first
//! one of the same prefix, metric and table.
//!
//! IPv6 has no scopes and no metric 0: it lists scope [`Scope::Universe`], and 1024 where 0 was asked.
//!
//! Source: rtnetlink(7), ip-route(8), Linux `include/uapi/linux/rtnetlink.h`.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use packet::Prefix;

use crate::netlink::family;
use crate::{Error, Netlink};

/// A route of one next hop, or of none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Route {
    /// Where to.
    pub prefix: Prefix,
    /// What becomes of a packet.
    pub kind: RouteKind,
    /// The next hop; on the link itself when absent.
    pub via: Option<IpAddr>,
    /// The next hop is taken to be on the link, whatever the addresses say.
    pub onlink: bool,
    /// Index of the link; by the next hop's own route when absent.
    pub link: Option<u32>,
    /// How far away, IPv4 only.
    pub scope: Scope,
    /// Source address of packets this host itself sends by it.
    pub source: Option<IpAddr>,
    /// The lowest is preferred.
    pub metric: u32,
    /// Routing table; [`Route::MAIN`] is the usual one.
    pub table: u32,
    /// Who made it: [`Route::PROTOCOL`] when we did.
    pub protocol: u8,
    /// MTU of the path in bytes.
    pub mtu: Option<u32>,
    /// TCP segment size to advertise, in bytes.
    pub advertised_mss: Option<u32>,
}

/// What becomes of a packet that a route matches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RouteKind {
    /// Sent on.
    Unicast,
    /// Dropped; the sender is told by ICMP.
    Unreachable,
    /// Dropped in silence.
    Blackhole,
    /// Taken in: the destination is this host's own. The kernel makes these of addresses.
    Local,
}

/// How far away an IPv4 destination is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Scope {
    /// Anywhere.
    #[default]
    Universe,
    /// On the link.
    Link,
    /// This host.
    Host,
}

impl Route {
    /// The protocol number of podswitch's routes; `ip route show proto 112` lists them.
    pub const PROTOCOL: u8 = 0x70;
    /// The main table.
    pub const MAIN: u32 = 254;

    /// A route to what lies on a link, as `ip route add PREFIX dev LINK` makes it.
    pub fn on_link(prefix: Prefix, link: u32) -> Self {
        let scope = if prefix.address().is_ipv4() { Scope::Link } else { Scope::Universe };
        Route { link: Some(link), scope, ..Self::to(prefix, RouteKind::Unicast) }
    }

    /// A route by a next hop on a link, as `ip route add PREFIX via ADDRESS dev LINK` makes it.
    pub fn via(prefix: Prefix, via: IpAddr, link: u32) -> Self {
        Route { via: Some(via), link: Some(link), ..Self::to(prefix, RouteKind::Unicast) }
    }

    /// Refuses packets to `prefix` that no route of a lower metric or longer prefix takes.
    pub fn unreachable(prefix: Prefix, metric: u32) -> Self {
        Route { metric, ..Self::to(prefix, RouteKind::Unreachable) }
    }

    fn to(prefix: Prefix, kind: RouteKind) -> Self {
        Route {
            prefix,
            kind,
            via: None,
            onlink: false,
            link: None,
            scope: Scope::Universe,
            source: None,
            metric: 0,
            table: Self::MAIN,
            protocol: Self::PROTOCOL,
            mtu: None,
            advertised_mss: None,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteKind::Unicast => {}
            RouteKind::Unreachable => f.write_str("unreachable ")?,
            RouteKind::Blackhole => f.write_str("blackhole ")?,
            RouteKind::Local => f.write_str("local ")?,
        }
        write!(f, "{}", self.prefix)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(link) = self.link {
            write!(f, " on link {link}")?;
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        Ok(())
    }
}

impl Netlink {
    /// Adds a route. EEXIST when there is one of this prefix, metric and table: [`Error::is_exists`].
    pub fn add_route(&mut self, route: &Route) -> Result<(), Error> {
        let answer = self.ask(RouteNetlinkMessage::NewRoute(route.message()), NLM_F_CREATE | NLM_F_EXCL);
        answer.map(drop).map_err(|refusal| refusal.of(format!("add route {route}")))
    }

    /// Adds a route, or puts it in the place of the one of the same prefix, metric and table.
    pub fn replace_route(&mut self, route: &Route) -> Result<(), Error> {
        let answer = self.ask(RouteNetlinkMessage::NewRoute(route.message()), NLM_F_CREATE | NLM_F_REPLACE);
        answer.map(drop).map_err(|refusal| refusal.of(format!("replace route {route}")))
    }

    /// Deletes the route that matches in all `route` says. ESRCH when there is none: [`Error::is_missing`].
    pub fn delete_route(&mut self, route: &Route) -> Result<(), Error> {
        let answer = self.ask(RouteNetlinkMessage::DelRoute(route.message()), 0);
        answer.map(drop).map_err(|refusal| refusal.of(format!("delete route {route}")))
    }

    /// All routes of the kinds in [`RouteKind`], of every table and both families. A route of several next hops, or by
    /// one of the other family, is left out: it is never ours.
    pub fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let answer = self.list(RouteNetlinkMessage::GetRoute(request));
            let bodies = answer.map_err(|refusal| refusal.of("list routes".to_owned()))?;
            routes.extend(bodies.into_iter().filter_map(Route::from_body));
        }
        Ok(routes)
    }
}

impl Route {
    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(self.prefix.address()),
            destination_prefix_length: self.prefix.length(),
            table: u8::try_from(self.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
            protocol: RouteProtocol::from(self.protocol),
            scope: match self.scope {
                Scope::Universe => RouteScope::Universe,
                Scope::Link => RouteScope::Link,
                Scope::Host => RouteScope::Host,
            },
            kind: match self.kind {
                RouteKind::Unicast => RouteType::Unicast,
                RouteKind::Unreachable => RouteType::Unreachable,
                RouteKind::Blackhole => RouteType::BlackHole,
                RouteKind::Local => RouteType::Local,
            },
            flags: if self.onlink { RouteFlags::Onlink } else { RouteFlags::empty() },
            ..RouteHeader::default()
        };
        let metrics: Vec<_> = [self.mtu.map(RouteMetric::Mtu), self.advertised_mss.map(RouteMetric::Advmss)]
            .into_iter()
            .flatten()
            .collect();
        let parts = [
            Some(RouteAttribute::Destination(self.prefix.address().into())),
            Some(RouteAttribute::Table(self.table)),
            self.via.map(|via| RouteAttribute::Gateway(via.into())),
            self.link.map(RouteAttribute::Oif),
            self.source.map(|source| RouteAttribute::PrefSource(source.into())),
            (self.metric != 0).then_some(RouteAttribute::Priority(self.metric)),
            (!metrics.is_empty()).then_some(RouteAttribute::Metrics(metrics)),
        ];
        message.attributes = parts.into_iter().flatten().collect();
        message
    }

    fn from_body(body: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewRoute(message) = body else { return None };
        let header = message.header;
        if header.flags.contains(RouteFlags::Cloned) {
            return None;
        }
        let kind = match header.kind {
            RouteType::Unicast => RouteKind::Unicast,
            RouteType::Unreachable => RouteKind::Unreachable,
            RouteType::BlackHole => RouteKind::Blackhole,
            RouteType::Local => RouteKind::Local,
            _ => return None,
        };
        let all = match header.address_family {
            AddressFamily::Inet => Prefix::new(IpAddr::from([0; 4]), 0),
            _ => Prefix::new(IpAddr::from([0; 16]), 0),
        };
        let mut route = Self::to(all.ok()?, kind);
        route.onlink = header.flags.contains(RouteFlags::Onlink);
        route.protocol = header.protocol.into();
        route.table = header.table.into();
        route.scope = match header.scope {
            RouteScope::Link => Scope::Link,
            RouteScope::Host => Scope::Host,
            _ => Scope::Universe,
        };
        for attribute in message.attributes {
            route.take(attribute, header.destination_prefix_length)?;
        }
        // IPv6 lists its refusing routes as going by the loopback.
        route.link = route.link.filter(|_| matches!(kind, RouteKind::Unicast | RouteKind::Local));
        Some(route)
    }

    /// Notes one attribute of a listed route; `None` when the route is not of the kind this type can describe.
    fn take(&mut self, attribute: RouteAttribute, length: u8) -> Option<()> {
        match attribute {
            RouteAttribute::Destination(address) => self.prefix = Prefix::new(ip(address)?, length).ok()?,
            RouteAttribute::Gateway(address) => self.via = Some(ip(address)?),
            RouteAttribute::Oif(link) => self.link = Some(link),
            RouteAttribute::PrefSource(address) => self.source = Some(ip(address)?),
            RouteAttribute::Priority(metric) => self.metric = metric,
            RouteAttribute::Table(table) => self.table = table,
            RouteAttribute::Metrics(metrics) => metrics.into_iter().for_each(|metric| match metric {
                RouteMetric::Mtu(bytes) => self.mtu = Some(bytes),
                RouteMetric::Advmss(bytes) => self.advertised_mss = Some(bytes),
                _ => {}
            }),
            // A nexthop object of one next hop is listed with that.
            RouteAttribute::MultiPath(_) | RouteAttribute::Via(_) => return None,
            _ => {}
        }
        Some(())
    }
}

fn ip(address: RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(address.into()),
        RouteAddress::Inet6(address) => Some(address.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_named_as_the_ip_command_names_it() {
        let prefix: Prefix = "10.0.0.0/8".parse().unwrap();
        assert_eq!(Route::via(prefix, "10.1.0.1".parse().unwrap(), 3).to_string(), "10.0.0.0/8 via 10.1.0.1 on link 3");
        assert_eq!(Route::unreachable(prefix, 9).to_string(), "unreachable 10.0.0.0/8 metric 9");
    }
}

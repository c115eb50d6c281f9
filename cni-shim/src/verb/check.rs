//! CHECK: is everything as ADD left it? Both sides are asked, the switch and the pod's own kernel.
//!
//! The result of the chain (`prevResult`) is what counts, since plugins after this one may have changed what it made: tuning
//! may give the interface another Ethernet address.

use std::net::IpAddr;

use control::EndpointView;
use host::{Link, Namespace, Netlink, Route, RouteKind};
use packet::Mac;

use super::Call;
use crate::error::Error;
use crate::outcome::{self, Interface, Outcome};

impl Call {
    pub(super) fn check(&self) -> Result<(), Error> {
        let missing = || Error::Config { field: "prevResult".to_owned(), fault: "is missing".to_owned() };
        let previous = self.config.previous.as_ref().ok_or_else(missing)?;
        let name = self.environment.interface().as_str();
        let is_ours = |interface: &Interface| interface.name == name && !interface.sandbox.is_empty();
        let place = previous.interfaces.iter().position(is_ours).ok_or_else(|| Error::Config {
            field: "prevResult.interfaces".to_owned(),
            fault: format!("there is no {name} in a sandbox"),
        })?;
        let of_ours = previous.ips.iter().filter(|ip| ip.interface == Some(place));
        let addresses: Vec<IpAddr> = of_ours.map(|ip| ip.address.addr()).collect();
        self.check_switch(&addresses)?;
        self.check_pod(&previous.interfaces[place], &addresses)?;
        self.check_routes(previous)?;
        self.delegate()?.map_or(Ok(()), |delegate| delegate.tell("CHECK"))
    }

    fn check_switch(&self, addresses: &[IpAddr]) -> Result<(), Error> {
        let name = self.name();
        let known: Option<EndpointView> = self.client().endpoints()?.into_iter().find(|known| known.name == name);
        let known = known.ok_or_else(|| Error::UnknownContainer {
            container: self.environment.container().to_string(),
            interface: self.environment.interface().to_string(),
        })?;
        let inode = self.pod()?.identity().inode;
        if known.netns_inode != inode {
            return Err(differs(&format!("endpoint {name}"), "the switch has it in another namespace"));
        }
        let lost = addresses.iter().find(|address| !known.addresses.contains(address));
        lost.map_or(Ok(()), |lost| {
            Err(differs(&format!("endpoint {name}"), &format!("the switch has it without {lost}")))
        })
    }

    fn check_pod(&self, made: &Interface, addresses: &[IpAddr]) -> Result<(), Error> {
        let (mut pod, link) = self.link()?;
        let subject = format!("interface {}", link.name);
        if !link.up || !link.carrier {
            return Err(differs(&subject, "it is down"));
        }
        if let Some(mac) = outcome::mac_of(made).filter(|&mac| mac != link.mac) {
            return Err(differs(&subject, &format!("its address is {} in place of {mac}", link.mac)));
        }
        if let Some(mtu) = made.mtu.filter(|&mtu| mtu != link.mtu) {
            return Err(differs(&subject, &format!("its MTU is {} in place of {mtu}", link.mtu)));
        }
        let there: Vec<IpAddr> =
            pod.addresses()?.iter().filter(|one| one.link == link.index).map(|one| one.net.addr()).collect();
        let lost = addresses.iter().find(|address| !there.contains(address));
        lost.map_or(Ok(()), |lost| Err(differs(&subject, &format!("it lacks the address {lost}"))))
    }

    /// Every route by one of our gateways is there, and the gateway is at no other Ethernet address. That it is at none is no
    /// fault: the kernel forgets it when the interface's own address changes, and asks the switch.
    fn check_routes(&self, previous: &Outcome) -> Result<(), Error> {
        let (mut pod, link) = self.link()?;
        let (routes, neighbors) = (pod.routes()?, pod.neighbors()?);
        let ours = |gateway: IpAddr| previous.ips.iter().any(|ip| ip.gateway == Some(gateway));
        for (wanted, gateway) in
            previous.routes.iter().filter_map(|route| Some((route.dst, route.gw.filter(|&gw| ours(gw))?)))
        {
            let is_it = |route: &Route| {
                let to_us = (route.link, route.via) == (Some(link.index), Some(gateway));
                route.kind == RouteKind::Unicast && route.prefix.net() == wanted && to_us
            };
            if !routes.iter().any(is_it) {
                return Err(differs("the routing table", &format!("it lacks {wanted} via {gateway}")));
            }
            let told = neighbors.iter().find(|one| (one.link, one.address) == (link.index, gateway));
            if let Some(other) = told.filter(|told| told.mac != Mac::GATEWAY) {
                let found = format!("{gateway} is at {} in place of {}", other.mac, Mac::GATEWAY);
                return Err(differs("the neighbour table", &found));
            }
        }
        Ok(())
    }

    fn link(&self) -> Result<(Netlink, Link), Error> {
        let mut pod = Netlink::open_in(&self.pod()?)?;
        let name = self.environment.interface().as_str();
        match pod.link(name) {
            Ok(link) => Ok((pod, link)),
            Err(error) if error.is_missing() => Err(differs(&format!("interface {name}"), "it is gone")),
            Err(error) => Err(error.into()),
        }
    }

    fn pod(&self) -> Result<Namespace, Error> {
        let path = self.environment.netns().expect("CHECK is not read without it");
        Namespace::open(path).map_err(|error| Error::Netns { path: path.clone(), fault: error.to_string() })
    }
}

fn differs(subject: &str, found: &str) -> Error {
    Error::Differs { subject: subject.to_owned(), found: found.to_owned() }
}

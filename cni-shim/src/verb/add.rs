//! ADD: an interface in the pod, wired into the switch.
//!
//! When it returns the first packet passes: the switch says "attached" only when every worker knows the pod, whose gateway is
//! a permanent neighbour and whose addresses wait for no duplicate address detection.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use control::{Assign, Attach, Attached, Origin, PodAddress};
use host::Namespace;
use ipnet::IpNet;
use packet::Mac;
use serde_json::Value;

use super::Call;
use crate::config::Ipam;
use crate::delegate::Delegate;
use crate::error::Error;
use crate::outcome::{Interface, Ip, Outcome, Route};

impl Call {
    pub(super) fn add(&self) -> Result<Value, Error> {
        let path = self.environment.netns().expect("ADD is not read without it");
        let namespace = self.namespace(path)?;
        let delegate = self.delegate()?;
        let made = match &delegate {
            None => self.attach(&namespace, None),
            Some(delegate) => delegate.add().and_then(|chosen| self.attach(&namespace, Some(chosen))),
        };
        if made.is_err() {
            give_back(delegate.as_ref());
        }
        Ok(made?.render(self.config.version))
    }

    fn attach(&self, namespace: &Namespace, chosen: Option<Outcome>) -> Result<Outcome, Error> {
        let chosen = chosen.unwrap_or_default();
        let mut addresses: Vec<IpAddr> = chosen.ips.iter().map(|ip| ip.address.addr()).collect();
        let assign = match &self.config.ipam {
            Ipam::Plugin(_) => None,
            Ipam::Switch { pools, sticky } => {
                addresses = self.asked();
                let keep_for = self.environment.arguments.pod.clone().filter(|_| *sticky);
                Some(Assign { pools: pools.clone(), keep_for })
            }
        };
        let netns = namespace.path().to_str().and_then(|path| path.parse().ok());
        let attach = Attach {
            name: self.name(),
            netns: netns.ok_or_else(|| netns_error(namespace.path(), "write an absolute path, in UTF-8"))?,
            interface: self.environment.interface().clone(),
            addresses: addresses.into_iter().map(pod_address).collect::<Result<_, _>>()?,
            assign,
            mtu: self.config.mtu,
            mac: self.mac(),
            network: Some(self.config.name.clone()),
            bandwidth: self.config.bandwidth,
            origin: Origin::Cni,
        };
        let attached = self.client().attach_in(attach, namespace.as_fd())?;
        Ok(self.outcome(&attached, namespace.path(), chosen))
    }

    /// The pod's namespace, which is not the node's own.
    fn namespace(&self, path: &Path) -> Result<Namespace, Error> {
        let namespace = Namespace::open(path).map_err(|error| netns_error(path, &error.to_string()))?;
        let is_own = Namespace::current()?.identity() == namespace.identity();
        if is_own && !self.environment.netns_override {
            return Err(netns_error(path, "it is the namespace this plugin runs in"));
        }
        Ok(namespace)
    }

    /// Addresses asked for this pod, each once.
    fn asked(&self) -> Vec<IpAddr> {
        let mut asked = Vec::new();
        for address in self.config.addresses.iter().chain(&self.environment.arguments.addresses) {
            if !asked.contains(address) {
                asked.push(*address);
            }
        }
        asked
    }

    fn mac(&self) -> Option<Mac> {
        self.config.mac.or(self.environment.arguments.mac)
    }

    /// What earlier plugins made, and after it what was made here.
    fn outcome(&self, attached: &Attached, netns: &Path, chosen: Outcome) -> Outcome {
        let mut outcome = self.config.previous.clone().unwrap_or_default();
        let place = outcome.interfaces.len();
        outcome.interfaces.push(Interface {
            name: attached.interface.to_string(),
            mac: attached.mac.to_string(),
            mtu: Some(attached.mtu.get().into()),
            sandbox: netns.display().to_string(),
            ..Interface::default()
        });
        let gateway = |v4: bool| attached.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == v4);
        outcome.ips.extend(attached.addresses.iter().map(|address| Ip {
            version: None,
            address: IpNet::from(address.get()),
            gateway: gateway(address.get().is_ipv4()),
            interface: Some(place),
        }));
        outcome.routes.extend(attached.gateways.iter().map(|&gateway| Route {
            dst: everything(gateway),
            gw: Some(gateway),
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }));
        if !self.config.dns.is_empty() {
            outcome.dns = self.config.dns.clone();
        } else if !chosen.dns.is_empty() {
            outcome.dns = chosen.dns;
        }
        outcome
    }
}

/// What a delegate gave goes back to it; that it cannot be given back is no news beside the error that led here.
fn give_back(delegate: Option<&Delegate<'_>>) {
    if let Some(delegate) = delegate {
        let _ = delegate.tell("DEL");
    }
}

fn pod_address(address: IpAddr) -> Result<PodAddress, Error> {
    PodAddress::try_from(address).map_err(|error| Error::Config { field: "ips".to_owned(), fault: error.to_string() })
}

fn everything(of: IpAddr) -> IpNet {
    let zero = if of.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    IpNet::new(zero, 0).expect("every address may have length 0")
}

fn netns_error(path: &Path, fault: &str) -> Error {
    Error::Netns { path: path.to_owned(), fault: fault.to_owned() }
}

//! The switch of this node, told what it should know, by `control` alone.
//!
//! What it was told is kept here, so that a change of one node is one short call. It is asked again for what it knows when it was
//! restarted, when a call failed, and every half minute. What others told it is left alone: the agent's are neighbours of the
//! origin `agent`, from leases, and neighbours and routes of `host-import`, from routes of the host. While the node's lease
//! is lost the switch attaches no pod; who dies without taking that back leaves it so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use control::{
    ChangeNeighbors, Client, Code, DeleteRoute, Neighbor, NeighborView, Origin, Pause, Resume, Route, RouteTarget, Why,
};
use packet::Prefix;
use serde::Serialize;

use crate::desired::Desired;
use crate::error::Error;
use crate::lease::{Attributes, Subnets};
use crate::network::{Backend, Network};

/// A switch and what it knows.
#[derive(Debug)]
pub struct Switch {
    client: Client,
    pid: Option<u32>,
    /// Why it attaches no pod, by this agent; none while that has to be asked for.
    paused: Option<Option<Why>>,
    /// By this agent; none while that has to be asked for.
    known: Option<Known>,
    refused: BTreeMap<Prefix, (Neighbor, String)>,
    refused_routes: BTreeMap<Prefix, (RouteTarget, String)>,
}

#[derive(Debug)]
struct Known {
    neighbors: BTreeMap<Prefix, Neighbor>,
    routes: BTreeMap<Prefix, RouteTarget>,
}

/// A neighbour or a route that the switch does not take.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Refused {
    /// The addresses there.
    pub subnet: Prefix,
    /// What the switch says.
    pub why: String,
}

impl Switch {
    /// The switch that listens at `socket`; nothing is said yet.
    pub fn new(socket: PathBuf) -> Self {
        let client = Client::new(socket).timeout(TIMEOUT);
        let (refused, refused_routes) = Default::default();
        Switch { client, pid: None, paused: None, known: None, refused, refused_routes }
    }

    /// Forgets what it knows, so that it is asked at the next occasion.
    pub fn doubt(&mut self) {
        self.known = None;
    }

    /// It is to be asked what it knows.
    pub fn is_doubted(&self) -> bool {
        self.known.is_none()
    }

    /// Whether it is another process than it was. Then it is asked what it knows.
    ///
    /// # Errors
    /// [`Error::Switch`]
    pub fn restarted(&mut self) -> Result<bool, Error> {
        let pid = self.look().inspect_err(|_| self.known = None)?;
        let restarted = self.pid.replace(pid) != Some(pid);
        if restarted {
            self.known = None;
        }
        Ok(restarted)
    }

    /// Has it attach no pod for that reason, or pods again; in force when it returns.
    ///
    /// # Errors
    /// [`Error::Switch`]
    pub fn pause(&mut self, why: Option<&str>) -> Result<(), Error> {
        let why = why.and_then(Why::of);
        if self.paused.is_none() {
            self.look()?;
        }
        if self.paused.as_ref() == Some(&why) {
            return Ok(());
        }
        self.paused = None;
        let origin = Origin::Agent;
        match why.clone() {
            Some(why) => self.client.pause(Pause { why, origin })?,
            None => self.client.resume(Resume { origin })?,
        };
        self.paused = Some(why);
        Ok(())
    }

    /// Its process; notes why it attaches no pod.
    fn look(&mut self) -> Result<u32, Error> {
        let status = self.client.status().inspect_err(|_| self.paused = None)?;
        let ours = status.pauses.into_iter().find(|pause| pause.origin == Origin::Agent);
        self.paused = Some(ours.map(|pause| pause.why));
        Ok(status.pid)
    }

    /// Tells what is not known yet; in force when it returns, apart from what is refused.
    ///
    /// # Errors
    /// [`Error::Differs`] and [`Error::Switch`]
    pub fn tell(&mut self, desired: &Desired, network: &Network, own: (Subnets, &Attributes)) -> Result<(), Error> {
        let told = self.try_tell(desired, network, own);
        if told.is_err() {
            self.known = None;
        }
        told
    }

    /// Neighbours that it knows by this agent.
    pub fn known(&self) -> usize {
        self.known.as_ref().map_or(0, |known| known.neighbors.len())
    }

    /// Routes that it has by this agent.
    pub fn routes(&self) -> usize {
        self.known.as_ref().map_or(0, |known| known.routes.len())
    }

    /// What it does not take.
    pub fn refused(&self) -> Vec<Refused> {
        let neighbors = self.refused.iter().map(|(&subnet, (_, why))| (subnet, why));
        let routes = self.refused_routes.iter().map(|(&prefix, (_, why))| (prefix, why));
        neighbors.chain(routes).map(|(subnet, why)| Refused { subnet, why: why.clone() }).collect()
    }

    fn try_tell(&mut self, desired: &Desired, network: &Network, own: (Subnets, &Attributes)) -> Result<(), Error> {
        let mut known = match self.known.take() {
            Some(known) => known,
            None => {
                self.check(network, own)?;
                self.ask()?
            }
        };
        // A route and a neighbour share no address, so what goes makes room first.
        self.delete_routes(desired, &mut known.routes)?;
        self.change_neighbors(desired, &mut known.neighbors)?;
        self.add_routes(desired, &mut known.routes)?;
        self.known = Some(known);
        Ok(())
    }

    fn ask(&mut self) -> Result<Known, Error> {
        self.refused.clear();
        self.refused_routes.clear();
        let neighbors = self.client.neighbors()?.into_iter().filter(|view| is_ours(view.origin));
        let routes = self.client.routes()?.into_iter().filter(|view| view.origin == Some(Origin::HostImport));
        Ok(Known {
            neighbors: neighbors.map(|view| (view.subnet, neighbor(view))).collect(),
            routes: routes.map(|view| (view.prefix, view.target)).collect(),
        })
    }

    fn change_neighbors(&mut self, desired: &Desired, known: &mut BTreeMap<Prefix, Neighbor>) -> Result<(), Error> {
        self.refused.retain(|subnet, (refused, _)| desired.neighbors.get(subnet) == Some(refused));
        let ChangeNeighbors { delete, mut add } = desired.difference(known);
        add.retain(|neighbor| !self.refused.contains_key(&neighbor.subnet));
        if delete.is_empty() && add.is_empty() {
            return Ok(());
        }
        let gone: Vec<Prefix> = delete.iter().map(|delete| delete.subnet).collect();
        let all = ChangeNeighbors { delete: delete.clone(), add: add.clone() };
        match self.client.change_neighbors(all) {
            Ok(_) => {}
            Err(control::Error::Refused(refusal)) if is_about_one(refusal.code) => {
                self.client.change_neighbors(ChangeNeighbors { delete, add: Vec::new() })?;
                self.add_what_can_be(&add)?;
            }
            Err(error) => return Err(error.into()),
        }
        for subnet in &gone {
            known.remove(subnet);
        }
        let added = add.into_iter().filter(|neighbor| !self.refused.contains_key(&neighbor.subnet));
        known.extend(added.map(|neighbor| (neighbor.subnet, neighbor)));
        Ok(())
    }

    fn delete_routes(&self, desired: &Desired, known: &mut BTreeMap<Prefix, RouteTarget>) -> Result<(), Error> {
        let gone: Vec<Prefix> = known.keys().filter(|prefix| !desired.routes.contains_key(prefix)).copied().collect();
        for prefix in gone {
            self.client.delete_route(DeleteRoute { prefix, origin: Origin::HostImport, force: false })?;
            known.remove(&prefix);
        }
        Ok(())
    }

    fn add_routes(&mut self, desired: &Desired, known: &mut BTreeMap<Prefix, RouteTarget>) -> Result<(), Error> {
        self.refused_routes.retain(|prefix, (refused, _)| desired.routes.get(prefix) == Some(refused));
        for (&prefix, target) in &desired.routes {
            if known.get(&prefix) == Some(target) || self.refused_routes.contains_key(&prefix) {
                continue;
            }
            let route = Route { prefix, target: target.clone(), origin: Origin::HostImport };
            match self.client.add_route(route) {
                Ok(_) => drop(known.insert(prefix, target.clone())),
                Err(control::Error::Refused(refusal)) if is_about_one(refusal.code) => {
                    self.refused_routes.insert(prefix, (target.clone(), refusal.message));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// A change is done whole or not at all, so who is refused is found by halving.
    fn add_what_can_be(&mut self, add: &[Neighbor]) -> Result<(), Error> {
        if add.is_empty() {
            return Ok(());
        }
        match self.client.change_neighbors(ChangeNeighbors { add: add.to_vec(), delete: Vec::new() }) {
            Ok(_) => Ok(()),
            Err(control::Error::Refused(refusal)) if is_about_one(refusal.code) => match add {
                [one] => {
                    self.refused.insert(one.subnet, (one.clone(), refusal.message));
                    Ok(())
                }
                _ => {
                    let (first, second) = add.split_at(add.len() / 2);
                    self.add_what_can_be(first)?;
                    self.add_what_can_be(second)
                }
            },
            Err(error) => Err(error.into()),
        }
    }

    /// The switch has the subnet that the lease is for, and the end of the tunnel that it speaks of.
    fn check(&self, network: &Network, (own, said): (Subnets, &Attributes)) -> Result<(), Error> {
        let config = self.client.config()?;
        let differs = |key, found: String, wanted: String| Err(Error::Differs { key, found, wanted });
        let text = |ranges: &[Prefix]| ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let wanted: Vec<Prefix> = own.each().collect();
        if config.pod_ranges != wanted {
            return differs("pod_ranges", text(&config.pod_ranges), text(&wanted));
        }
        if let (Backend::Vxlan { vni, .. }, Some(data)) = (network.backend, said.vxlan(false)) {
            if config.vtep_mac != Some(data.mac) {
                let found = config.vtep_mac.map_or("none".to_owned(), |mac| mac.to_string());
                return differs("vtep_mac", found, data.mac.to_string());
            }
            if config.vxlan_vni != vni {
                return differs("vxlan_vni", config.vxlan_vni.to_string(), vni.to_string());
            }
        }
        Ok(())
    }
}

/// True where one neighbour is wrong, and others may be taken.
fn is_about_one(code: Code) -> bool {
    matches!(code, Code::Invalid | Code::Conflict)
}

/// The agent tells of these.
fn is_ours(origin: Origin) -> bool {
    matches!(origin, Origin::Agent | Origin::HostImport)
}

fn neighbor(view: NeighborView) -> Neighbor {
    let NeighborView { subnet, via, backend, mac, origin } = view;
    Neighbor { subnet, via, backend, mac, origin }
}

/// A change of all neighbours there can be takes a second or two.
const TIMEOUT: Duration = Duration::from_secs(20);

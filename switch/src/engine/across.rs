//! Other nodes: the underlay as the node's links have it, and changes of neighbours put into effect.
//!
//! What goes is taken out of force first, then the change is kept, then what comes is brought into force: a crash in
//! between leaves a note without a route, which the next start makes again, and never a route without a note. When a
//! step fails, all is put back.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use control::{Backend, ChangeNeighbors, Code, Done, Mtu, Neighbor, Refusal, Reply};
use host::Netlink;
use packet::{Mac, Prefix};

use crate::config::Config;
use crate::state::{Change, Effect};
use crate::wire::host_routes::HostRoutes;

use super::Engine;
use super::error::{Error, report};
use super::uplinks::{End, FIRST_UPLINK};

/// The links that have the underlay's addresses, by their MTUs in bytes.
pub(super) struct Links(Vec<(IpAddr, u32)>);

impl Links {
    /// Asks the kernel. An address that no link has yet is taken to come with Ethernet's MTU.
    pub(super) fn of(config: &Config) -> Result<Links, host::Error> {
        let wanted = &config.node.underlay.addresses;
        if wanted.is_empty() {
            return Ok(Links(Vec::new()));
        }
        let mut own = Netlink::open()?;
        let there = own.addresses()?;
        let mut mtus = Vec::with_capacity(wanted.len());
        for &address in wanted {
            match there.iter().find(|one| one.net.addr() == address) {
                Some(one) => mtus.push((address, own.link_by_index(one.link)?.mtu)),
                None => {
                    tracing::warn!("no interface has the underlay address {address}: its MTU is taken for {ETHERNET}")
                }
            }
        }
        Ok(Links(mtus))
    }

    /// The MTU of the link that has `address`.
    pub(super) fn mtu(&self, address: IpAddr) -> u32 {
        self.0.iter().find(|(own, _)| *own == address).map_or(ETHERNET, |(_, mtu)| *mtu)
    }

    /// The ends of tunnels to open.
    pub(super) fn ends(&self, config: &Config) -> Vec<End> {
        let underlay = &config.node.underlay;
        let open = underlay.ends().filter_map(|(backend, address, overhead)| {
            let port = match backend {
                Backend::Vxlan => underlay.vxlan_port,
                Backend::Udp => underlay.udp_port,
                // It has no ports.
                Backend::Ipip => 0,
                Backend::HostGw => return None,
            };
            let mtu = self.mtu(address).saturating_sub(overhead.into()).min(Mtu::MAX.into()) as u16;
            Some((backend, SocketAddr::new(address, port), (mtu, overhead)))
        });
        let numbered = (FIRST_UPLINK..).zip(open);
        let mac = underlay.vtep_mac.unwrap_or(Mac::ZERO);
        numbered
            .map(|(port, (backend, local, (mtu, overhead)))| End {
                backend,
                local,
                mac,
                mtu,
                overhead,
                vni: underlay.vni,
                cuts: underlay.cut_super_frames,
                port,
            })
            .collect()
    }
}

impl Engine {
    /// Knows some neighbours and forgets others; all of it is in force when this returns.
    pub(super) fn change_neighbors(&mut self, change: ChangeNeighbors) -> Result<Reply, Refusal> {
        let effect = self.state.apply(Change::ChangeNeighbors(change))?;
        let Effect::NeighborsChanged { before, after } = &effect else {
            unreachable!("a change of neighbours has no other effect")
        };
        let done = self.withdraw(before, after).and_then(|()| self.keep(&effect)).and_then(|()| self.establish(after));
        if let Err(refusal) = done {
            let back = self.withdraw(after, before).and_then(|()| self.establish(before));
            if let Err(error) = back {
                tracing::warn!("a refused change of neighbours was not undone: {error}");
            }
            self.revert(effect);
            return Err(refusal);
        }
        Ok(Reply::Done(Done {}))
    }

    /// Takes out of force what is `gone` and not `there` in another form.
    fn withdraw(&mut self, gone: &[Neighbor], there: &[Neighbor]) -> Result<(), Refusal> {
        let stay: BTreeSet<Prefix> = there.iter().map(|neighbor| neighbor.subnet).collect();
        let leaving = || gone.iter().filter(|neighbor| !stay.contains(&neighbor.subnet));
        let routes = HostRoutes::open(&self.config.node);
        let removed = routes.and_then(|mut routes| leaving().try_for_each(|neighbor| routes.remove(neighbor)));
        removed.map_err(|error| Refusal::new(Code::Internal, report(&error)))?;
        self.tables.remove_neighbors(&leaving().map(|neighbor| neighbor.subnet).collect::<Vec<_>>());
        Ok(())
    }

    fn establish(&mut self, neighbors: &[Neighbor]) -> Result<(), Refusal> {
        let routes = HostRoutes::open(&self.config.node);
        let made = routes.and_then(|mut routes| neighbors.iter().try_for_each(|neighbor| routes.make(neighbor)));
        made.map_err(|error| no_route(&error))?;
        self.tables.add_neighbors(neighbors)
    }

    /// Takes up the neighbours an earlier switch had. One that does not fit the settings any more is forgotten: whoever
    /// told of it finds it gone, and nothing of it is left.
    pub(super) fn take_over_neighbors(&mut self, kept: Vec<Neighbor>) -> Result<(), Error> {
        if kept.is_empty() {
            return Ok(());
        }
        let named = |source| Error::HostPort { name: self.config.node.host_port.to_string(), source };
        let mut routes = HostRoutes::open(&self.config.node).map_err(named)?;
        let (mut taken, mut forgotten) = (Vec::with_capacity(kept.len()), Vec::new());
        for neighbor in kept {
            match self.state.admit_neighbor(neighbor.clone()) {
                Ok(()) => taken.push(neighbor),
                Err(refusal) => {
                    tracing::warn!("forgotten: {refusal}");
                    forgotten.push(neighbor);
                }
            }
        }
        self.tables.add_neighbors(&taken).map_err(Error::State)?;
        let mut routed: Vec<Result<(), host::Error>> = forgotten.iter().map(|gone| routes.remove(gone)).collect();
        // A node that is out of reach for now is no reason to keep from the others.
        routed.extend(taken.iter().map(|neighbor| routes.make(neighbor)));
        for error in routed.into_iter().filter_map(Result::err) {
            tracing::warn!("{}", report(&error));
        }
        Ok(())
    }

    /// Makes routes to neighbours again that the kernel has dropped.
    pub(super) fn mend_host_routes(&self) {
        if self.state.neighbors().len() == 0 {
            return;
        }
        let routes = HostRoutes::open(&self.config.node);
        if let Err(error) = routes.and_then(|mut routes| routes.mend(self.state.neighbors())) {
            tracing::warn!("{}", report(&error));
        }
    }
}

fn no_route(error: &host::Error) -> Refusal {
    let refusal = Refusal::new(Code::Conflict, report(error));
    if error.is_exists() {
        refusal.hint("the host has a route of its own there: see `ip route show`, and delete it with `ip route del`")
    } else {
        refusal.hint("host-gw needs a node on a link of this host: see `ip route get` for its address")
    }
}

/// What most links have.
const ETHERNET: u32 = 1500;

//! What `show` shows: the tables and counters in the words of control.

use std::collections::BTreeMap;
use std::process;

use control::{
    Ability, DropsView, NeighborState, NeighborView, PortKind, PortView, RouteTarget, RouteView, Status, Traffic,
};
use host::Namespace;
use packet::{Prefix, Punt, Reason};

use crate::port::{Abilities, Count, Port};
use crate::worker::Tally;

use super::Engine;

/// Sums over ports; kept on when a port leaves, so that the switch's totals never go back.
#[derive(Clone, Default)]
pub(super) struct Totals {
    received: u64,
    injected: u64,
    sent: u64,
    dropped: BTreeMap<&'static str, u64>,
    punted: BTreeMap<&'static str, u64>,
}

impl Totals {
    /// Adds what was counted at `port`. What left is read before what came, so that a sum taken while packets pass is
    /// never short of arrivals.
    pub(super) fn add(&mut self, port: &Port) {
        let counters = &port.counters;
        self.sent += counters.get(Count::Sent);
        for &reason in Reason::ALL {
            *self.dropped.entry(reason.name()).or_default() += counters.dropped(reason);
        }
        for &why in Punt::ALL {
            *self.punted.entry(why.name()).or_default() += counters.punted(why);
        }
        self.injected += counters.get(Count::Answered);
        self.received += counters.get(Count::Received);
    }

    fn came(&self) -> u64 {
        self.received + self.injected
    }

    fn left(&self) -> u64 {
        self.sent + self.dropped.values().sum::<u64>() + self.punted.values().sum::<u64>()
    }
}

pub(super) fn ports(engine: &Engine) -> Vec<PortView> {
    engine.tables.world().ports.iter().flatten().map(|port| port_view(engine, port)).collect()
}

fn port_view(engine: &Engine, port: &Port) -> PortView {
    let endpoint = engine.state.endpoints().find(|endpoint| endpoint.port == port.number);
    let interface = endpoint.map_or(&engine.config.node.host_port, |endpoint| &endpoint.interface);
    let get = |what| port.counters.get(what);
    PortView {
        index: port.number,
        name: port.name.clone(),
        kind: if port.host { PortKind::Host } else { PortKind::Workload },
        interface: interface.clone(),
        netns: endpoint.map(|endpoint| endpoint.netns.clone()),
        addresses: if port.host { engine.config.node.router_addresses.clone() } else { port.addresses() },
        mac: port.mac,
        mtu: endpoint.map_or(engine.config.node.mtu, |endpoint| endpoint.mtu),
        abilities: abilities(port.abilities),
        origin: endpoint.map(|endpoint| endpoint.origin),
        received: Traffic { frames: get(Count::Received), bytes: get(Count::ReceivedBytes) },
        sent: Traffic { frames: get(Count::Sent), bytes: get(Count::SentBytes) },
        dropped: Reason::ALL
            .iter()
            .map(|&reason| (reason.name().to_owned(), port.counters.dropped(reason)))
            .filter(|(_, count)| *count > 0)
            .collect(),
        kernel_dropped: kernel_dropped(endpoint.map(|endpoint| endpoint.netns.as_path()), interface.as_str()),
    }
}

/// Frames the kernel dropped before the switch could read them: the TAP's queue was full.
fn kernel_dropped(netns: Option<&std::path::Path>, interface: &str) -> Option<u64> {
    let mut netlink = match netns {
        Some(path) => host::Netlink::open_in(&Namespace::open(path).ok()?),
        None => host::Netlink::open(),
    }
    .ok()?;
    Some(netlink.link(interface).ok()?.counters.transmit_dropped)
}

pub(super) fn abilities(abilities: Abilities) -> Vec<Ability> {
    let all = [
        (abilities.checksum, Ability::Checksum),
        (abilities.tso4, Ability::Tso4),
        (abilities.tso6, Ability::Tso6),
        (abilities.uso, Ability::Uso),
    ];
    all.into_iter().filter_map(|(able, ability)| able.then_some(ability)).collect()
}

pub(super) fn routes(engine: &Engine) -> Vec<RouteView> {
    let asked = engine.state.routes().map(|route| RouteView {
        prefix: route.prefix,
        target: route.target.clone(),
        origin: Some(route.origin),
    });
    let pods = engine.state.endpoints().flat_map(|endpoint| {
        endpoint.addresses.iter().map(|address| RouteView {
            prefix: Prefix::host(address.get()),
            target: RouteTarget::Endpoint(endpoint.name.clone()),
            origin: Some(endpoint.origin),
        })
    });
    let node = &engine.config.node;
    let to = |prefix, target| RouteView { prefix, target, origin: None };
    let ranges = node.pod_ranges.iter().map(|&range| to(range, RouteTarget::Unreachable));
    let routers = node.router_addresses.iter().map(|&address| to(Prefix::host(address), RouteTarget::Host));
    let defaults = ["0.0.0.0/0", "::/0"].map(|text| text.parse().expect("a default route is a prefix"));
    let defaults = defaults.into_iter().map(|prefix| to(prefix, RouteTarget::Host));
    let defaults = defaults.filter(|default| engine.state.routes().all(|route| route.prefix != default.prefix));
    let mut all: Vec<RouteView> = asked.chain(pods).chain(ranges).chain(routers).chain(defaults).collect();
    all.sort_by_key(|route| route.prefix);
    all
}

pub(super) fn neighbors(engine: &Engine) -> Vec<NeighborView> {
    let ports = engine.tables.world().ports.iter().flatten();
    let views = ports.flat_map(|port| {
        let addresses = if port.host { engine.config.node.router_addresses.clone() } else { port.addresses() };
        addresses.into_iter().map(|address| NeighborView {
            address,
            mac: Some(port.mac),
            port: port.number,
            state: NeighborState::Permanent,
        })
    });
    views.collect()
}

pub(super) fn drops(engine: &Engine) -> DropsView {
    let (totals, conserved) = balanced_totals(engine);
    let counted = |map: &BTreeMap<&'static str, u64>| {
        let happened = map.iter().filter(|(_, count)| **count > 0);
        happened.map(|(name, count)| ((*name).to_owned(), *count)).collect::<BTreeMap<_, _>>()
    };
    DropsView {
        received: totals.received,
        injected: totals.injected,
        sent: totals.sent,
        dropped: counted(&totals.dropped),
        punted: counted(&totals.punted),
        in_flight: totals.came().saturating_sub(totals.left()),
        conserved,
        slow: engine.slow.outcomes().collect(),
    }
}

/// The totals, and whether they balance. They are read between two turns of the worker, when nothing is in flight; only
/// if it is never caught between, packets that came and have not left count as in flight.
fn balanced_totals(engine: &Engine) -> (Totals, bool) {
    let sequence = || engine.tables.worker.tallies.get(Tally::Sequence as usize);
    let (mut totals, mut caught) = (Totals::default(), false);
    for _ in 0..LOOKS {
        let before = sequence();
        totals = engine.departed.clone();
        engine.tables.world().ports.iter().flatten().for_each(|port| totals.add(port));
        let between = before.is_multiple_of(2) && sequence() == before;
        if between && totals.came() == totals.left() {
            return (totals, true);
        }
        caught |= between;
        std::thread::yield_now();
    }
    let conserved = !caught && totals.came() >= totals.left();
    (totals, conserved)
}

pub(super) fn status(engine: &Engine) -> Status {
    Status {
        pid: process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: engine.started.elapsed().as_secs(),
        workers: 1,
        poll: engine.config.poll,
        endpoints: engine.state.endpoints().len(),
        routes: engine.state.routes().len(),
    }
}

/// Looks for a moment between turns before a sum is given as it is.
const LOOKS: usize = 200;

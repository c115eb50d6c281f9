//! What `show` shows: the tables and counters in the words of control.

use std::collections::BTreeMap;
use std::process;

use control::{
    Ability, DropsView, Neighbor, NeighborView, PortView, RouteTarget, RouteView, StationState, StationView, Status,
    Traffic,
};
use packet::Prefix;

use crate::port::{Abilities, Count, Port};
use crate::state::Endpoint;

use super::Engine;
use super::counted::Moment;
use super::scrape::{endpoints_by_port, kind_of};

/// All ports; the kernel's drops there are for another thread to ask for.
pub(super) fn ports(engine: &Engine) -> Vec<PortView> {
    let by_port = endpoints_by_port(engine);
    let ports = engine.tables.world().ports.iter().flatten();
    ports.map(|port| port_view(engine, port, by_port.get(&port.number).copied())).collect()
}

fn port_view(engine: &Engine, port: &Port, endpoint: Option<&Endpoint>) -> PortView {
    let uplink = engine.tables.neighbors.ends.iter().find(|end| end.port == port.number);
    let host = port.host.then_some(&engine.config.node.host_port);
    let get = |what| port.counters.get(what);
    PortView {
        index: port.number,
        name: port.name.clone(),
        kind: kind_of(port),
        interface: endpoint.map(|endpoint| &endpoint.interface).or(host).cloned(),
        netns: endpoint.map(|endpoint| endpoint.netns.clone()),
        addresses: match uplink {
            Some(end) => vec![end.local.ip()],
            None if port.host => engine.config.node.router_addresses.clone(),
            None => port.addresses(),
        },
        mac: uplink.map_or(engine.tables.world().station(port).destination(), |end| end.mac),
        mtu: port.mtu,
        abilities: abilities(port.abilities),
        origin: endpoint.map(|endpoint| endpoint.origin),
        received: Traffic { frames: get(Count::Received), bytes: get(Count::ReceivedBytes) },
        sent: Traffic { frames: get(Count::Sent), bytes: get(Count::SentBytes) },
        dropped: happened(port.counters.read().dropped().map(|(reason, count)| (reason.name(), count))),
        kernel_dropped: None,
    }
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
    let known = engine.state.neighbors().cloned();
    known
        .map(|Neighbor { subnet, via, backend, mac, origin }| NeighborView { subnet, via, backend, mac, origin })
        .collect()
}

pub(super) fn stations(engine: &Engine) -> Vec<StationView> {
    let ports = engine.tables.world().ports.iter().flatten();
    let views = ports.flat_map(|port| {
        let addresses = if port.host { engine.config.node.router_addresses.clone() } else { port.addresses() };
        addresses.into_iter().map(|address| StationView {
            address,
            mac: Some(engine.tables.world().station(port).destination()),
            port: port.number,
            state: StationState::Permanent,
        })
    });
    views.collect()
}

pub(super) fn drops(engine: &Engine) -> DropsView {
    let (Moment { total, .. }, conserved) = Moment::balanced(engine);
    DropsView {
        received: total.get(Count::Received),
        injected: total.get(Count::Answered),
        sent: total.get(Count::Sent),
        dropped: happened(total.dropped().map(|(reason, count)| (reason.name(), count))),
        punted: happened(total.punted().map(|(why, count)| (why.name(), count))),
        in_flight: total.came().saturating_sub(total.left()),
        conserved,
        slow: happened(engine.slow.outcomes()),
    }
}

/// Those that did, by name.
fn happened<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> BTreeMap<String, u64> {
    counts.filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect()
}

pub(super) fn status(engine: &Engine) -> Status {
    Status {
        pid: process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: engine.started.elapsed().as_secs(),
        workers: engine.tables.workers.len() as u16,
        poll: engine.config.poll,
        endpoints: engine.state.endpoints().len(),
        routes: engine.state.routes().len(),
        neighbors: engine.state.neighbors().len(),
        pauses: engine.state.pauses().collect(),
    }
}

//! What `show` shows of the inside: workers, the world they read, endpoints as they are kept, settings.

use control::{
    AdjacencyView, ConfigView, EndpointView, LinkView, Percentiles, ReturnsView, Usage, WorkerView, WorldsView,
};

use crate::config::Config;
use crate::metrics::{Mark, ReturnMetrics, WorkerMetrics};
use crate::thread::{OWN, thread_named};
use crate::worker::Recorded;
use crate::world::{Adjacency, FIRST_ENDPOINT, Hop, World};

use super::{Engine, scrape};

pub(super) fn workers(engine: &Engine) -> Vec<WorkerView> {
    scrape::workers(engine).iter().map(worker).collect()
}

fn worker(numbers: &WorkerMetrics) -> WorkerView {
    let ([small_slots, big_slots], [punts, answers]) = (usages(&numbers.slots), usages(&numbers.mailboxes));
    WorkerView {
        worker: numbers.number,
        thread: numbers.thread.clone(),
        cpus: thread_named(OWN, &numbers.thread).and_then(|thread| thread.cpus),
        cpu_seconds: numbers.cpu_time.map(|time| time.as_secs_f64()),
        turns: numbers.turns,
        sleeps: numbers.sleeps,
        handovers: numbers.handovers,
        burst_packets: percentiles(&numbers.bursts),
        turn_microseconds: percentiles(&numbers.turn_times),
        small_slots,
        big_slots,
        punts,
        answers,
    }
}

pub(super) fn returns(engine: &Engine) -> ReturnsView {
    let ReturnMetrics { entries, evicted } = scrape::return_entries(engine);
    ReturnsView { entries: entries.value, limit: entries.limit, evicted }
}

pub(super) fn adjacencies(engine: &Engine) -> Vec<AdjacencyView> {
    let world = engine.tables.world();
    let shown = in_use(world).map(|(number, adjacency)| AdjacencyView {
        number: number as u16,
        action: match adjacency.hop {
            Hop::Forward => "forward".to_owned(),
            Hop::Punt(why) => format!("punt {}", why.name()),
            Hop::Drop(reason) => format!("drop {}", reason.name()),
        },
        link: world.port(adjacency.port).filter(|_| adjacency.hop == Hop::Forward).map(|port| LinkView {
            port: port.number,
            name: port.name.clone(),
            destination: adjacency.destination(),
            source: adjacency.source(),
            mtu: adjacency.mtu,
        }),
    });
    shown.collect()
}

pub(super) fn worlds(engine: &Engine) -> WorldsView {
    let world = engine.tables.world();
    WorldsView {
        published: world.number,
        retiring: world.retiring() as u64,
        ports: world.ports.iter().flatten().count() as u64,
        adjacencies: in_use(world).count() as u64,
    }
}

pub(super) fn endpoints(engine: &Engine) -> Vec<EndpointView> {
    let shown = engine.state.endpoints().map(|endpoint| EndpointView {
        name: endpoint.name.clone(),
        origin: endpoint.origin,
        network: endpoint.network.clone(),
        port: endpoint.port,
        netns: endpoint.netns.clone(),
        netns_inode: endpoint.netns_id.inode,
        interface: endpoint.interface.clone(),
        addresses: endpoint.addresses.iter().map(|address| address.get()).collect(),
        mac: endpoint.mac,
        mtu: endpoint.mtu,
        bandwidth: endpoint.bandwidth,
    });
    shown.collect()
}

pub(super) fn config(config: &Config) -> ConfigView {
    let Config { node, state_dir, socket, poll, spin, worker_cpus, pipeline, .. } = config.clone();
    let Config { reserved, cluster_networks, .. } = config.clone();
    let Config { masquerade, strict_mac, sweep_every, metrics_address, .. } = *config;
    let underlay = node.underlay;
    ConfigView {
        pod_ranges: node.pod_ranges,
        reserved,
        masquerade,
        cluster_networks,
        router_address: node.router_addresses,
        mtu: node.mtu,
        host_port: node.host_port,
        underlay_address: underlay.addresses,
        tunnels: underlay.tunnels,
        vxlan_vni: underlay.vni,
        vxlan_port: underlay.vxlan_port,
        vtep_mac: underlay.vtep_mac,
        udp_port: underlay.udp_port,
        cut_super_frames: underlay.cut_super_frames,
        state_dir,
        socket,
        metrics_address,
        poll,
        spin_us: spin.as_micros() as u32,
        worker_cpus,
        pipeline,
        strict_mac,
        sweep_seconds: sweep_every.as_secs(),
    }
}

/// All that do something; the number of an endpoint that left is free.
fn in_use(world: &World) -> impl Iterator<Item = (usize, &Adjacency)> {
    let numbered = world.adjacencies().iter().enumerate();
    numbered.filter(|&(number, adjacency)| number < FIRST_ENDPOINT || adjacency.hop == Hop::Forward)
}

fn percentiles(recorded: &Recorded) -> Percentiles {
    Percentiles { p50: recorded.percentile(50), p99: recorded.percentile(99) }
}

fn usages(marks: &[(&'static str, Mark); 2]) -> [Usage; 2] {
    marks.map(|(_, Mark { value, limit })| Usage { highest: value, limit })
}

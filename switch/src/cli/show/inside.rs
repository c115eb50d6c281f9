//! Tables of the inside: workers, the world they read, endpoints as they are kept, settings.

use control::{
    AdjacencyView, ConfigView, EndpointView, Percentiles, RateLimit, ReturnsView, Usage, WorkerView, WorldsView,
};
use serde_json::Value;

use super::{Table, joined};

pub(super) fn workers(workers: &[WorkerView]) -> String {
    let mut table = Table::new(&[
        "thread",
        "cpus",
        "cpu time",
        "turns",
        "sleeps",
        "handovers",
        "burst p50/p99",
        "turn us p50/p99",
        "small slots",
        "big slots",
        "punts",
        "answers",
    ]);
    for worker in workers {
        table.row([
            worker.thread.clone(),
            worker.cpus.clone().unwrap_or_else(none),
            worker.cpu_seconds.map_or_else(none, |seconds| format!("{seconds:.1}s")),
            worker.turns.to_string(),
            worker.sleeps.to_string(),
            worker.handovers.to_string(),
            percentiles(worker.burst_packets),
            percentiles(worker.turn_microseconds),
            usage(worker.small_slots),
            usage(worker.big_slots),
            usage(worker.punts),
            usage(worker.answers),
        ]);
    }
    table.text()
}

pub(super) fn adjacencies(adjacencies: &[AdjacencyView]) -> String {
    let mut table = Table::new(&["number", "action", "port", "name", "destination", "source", "mtu"]);
    for AdjacencyView { number, action, link } in adjacencies {
        let of_link = |text: fn(&control::LinkView) -> String| link.as_ref().map_or_else(none, text);
        table.row([
            number.to_string(),
            action.clone(),
            of_link(|link| link.port.to_string()),
            of_link(|link| link.name.clone()),
            of_link(|link| link.destination.to_string()),
            of_link(|link| link.source.to_string()),
            of_link(|link| link.mtu.to_string()),
        ]);
    }
    table.text()
}

pub(super) fn worlds(worlds: &WorldsView) -> String {
    let WorldsView { published, retiring, ports, adjacencies } = worlds;
    let mut table = Table::new(&["published", "retiring", "ports", "adjacencies"]);
    table.row([published, retiring, ports, adjacencies]);
    table.text()
}

pub(super) fn endpoints(endpoints: &[EndpointView]) -> String {
    let mut table = Table::new(&["name", "origin", "port", "interface", "addresses", "netns", "inode", "to", "from"]);
    for endpoint in endpoints {
        table.row([
            endpoint.name.to_string(),
            endpoint.origin.to_string(),
            endpoint.port.to_string(),
            endpoint.interface.to_string(),
            joined(&endpoint.addresses),
            endpoint.netns.to_string(),
            endpoint.netns_inode.to_string(),
            limit(endpoint.bandwidth.ingress),
            limit(endpoint.bandwidth.egress),
        ]);
    }
    table.text()
}

pub(super) fn returns(returns: &ReturnsView) -> String {
    let ReturnsView { entries, limit, evicted } = returns;
    let mut table = Table::new(&["entries", "limit", "evicted"]);
    table.row([entries, limit, evicted]);
    table.text()
}

/// One line a key, as the JSON form has them.
pub(super) fn config(config: &ConfigView) -> String {
    let mut table = Table::new(&["key", "value"]);
    if let Ok(Value::Object(keys)) = serde_json::to_value(config) {
        keys.iter().for_each(|(key, value)| table.row([key.as_str(), &plain(value)]));
    }
    table.text()
}

fn limit(limit: Option<RateLimit>) -> String {
    limit.map_or_else(none, |limit| format!("{}bit/s", limit.rate))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => none(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn percentiles(Percentiles { p50, p99 }: Percentiles) -> String {
    let text = |bound: Option<u64>| bound.map_or_else(none, |bound| bound.to_string());
    format!("{}/{}", text(p50), text(p99))
}

/// The most that were in use, of how many.
fn usage(Usage { highest, limit }: Usage) -> String {
    format!("{highest}/{limit}")
}

fn none() -> String {
    "-".to_owned()
}

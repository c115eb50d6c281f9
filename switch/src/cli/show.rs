//! What a switch shows of itself, as tables for people and as JSON for programs.

mod inside;
pub(super) mod watch;

use std::collections::BTreeMap;
use std::fmt::Display;

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use control::{Client, DropsView, NeighborView, Pause, PortView, RouteView, StationView, Status};

use super::json;

/// What can be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum View {
    /// Ports, their addresses and counters.
    Ports,
    /// Routes in force and who asked for them.
    Routes,
    /// Other nodes and their subnets.
    Neighbors,
    /// Who is behind the ports' links.
    Stations,
    /// Where every packet went.
    Drops,
    /// The switch in short.
    Status,
    /// Workers, or the threads of a pipeline: turns, bursts, slots, letters to and from the slow path.
    Workers,
    /// What is done with packets of each next hop.
    Adjacencies,
    /// How often the tables were published.
    Worlds,
    /// Pods as they were attached.
    Endpoints,
    /// Return entries of flows that the host translates.
    Returns,
    /// The settings in force.
    Config,
}

impl View {
    /// Asks the switch and puts its answer into text.
    pub(super) fn ask(self, client: &Client, as_json: bool) -> Result<String, control::Error> {
        Ok(match (self, as_json) {
            (View::Ports, true) => json(&client.ports()?),
            (View::Ports, false) => ports(&client.ports()?),
            (View::Routes, true) => json(&client.routes()?),
            (View::Routes, false) => routes(&client.routes()?),
            (View::Neighbors, true) => json(&client.neighbors()?),
            (View::Neighbors, false) => neighbors(&client.neighbors()?),
            (View::Stations, true) => json(&client.stations()?),
            (View::Stations, false) => stations(&client.stations()?),
            (View::Drops, true) => json(&client.drops()?),
            (View::Drops, false) => drops(&client.drops()?),
            (View::Status, true) => json(&client.status()?),
            (View::Status, false) => status(&client.status()?),
            (View::Workers, true) => json(&client.workers()?),
            (View::Workers, false) => inside::workers(&client.workers()?),
            (View::Adjacencies, true) => json(&client.adjacencies()?),
            (View::Adjacencies, false) => inside::adjacencies(&client.adjacencies()?),
            (View::Worlds, true) => json(&client.worlds()?),
            (View::Worlds, false) => inside::worlds(&client.worlds()?),
            (View::Endpoints, true) => json(&client.endpoints()?),
            (View::Endpoints, false) => inside::endpoints(&client.endpoints()?),
            (View::Returns, true) => json(&client.returns()?),
            (View::Returns, false) => inside::returns(&client.returns()?),
            (View::Config, true) => json(&client.config()?),
            (View::Config, false) => inside::config(&client.config()?),
        })
    }
}

/// Aligned columns without borders, so that other programs can read them too.
pub(super) struct Table(comfy_table::Table);

impl Table {
    /// A table with these headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING).set_header(headings.iter().map(|heading| heading.to_uppercase()));
        Table(table)
    }

    /// Adds a row.
    pub(super) fn row<T: Display>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.0.add_row(cells.into_iter().map(|cell| cell.to_string()));
    }

    /// The lines, none with blanks at its end.
    pub(super) fn text(&self) -> String {
        self.0
            .to_string()
            .lines()
            .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line).trim_end()))
            .collect()
    }
}

fn ports(ports: &[PortView]) -> String {
    let mut table = Table::new(&[
        "port",
        "name",
        "interface",
        "addresses",
        "mac",
        "mtu",
        "received",
        "sent",
        "dropped",
        "abilities",
    ]);
    for port in ports {
        let dropped: u64 = port.dropped.values().sum();
        table.row([
            port.index.to_string(),
            port.name.clone(),
            or_dash(port.interface.as_ref()),
            joined(&port.addresses),
            port.mac.to_string(),
            port.mtu.to_string(),
            port.received.frames.to_string(),
            port.sent.frames.to_string(),
            (dropped + port.kernel_dropped.unwrap_or(0)).to_string(),
            joined(&port.abilities),
        ]);
    }
    table.text()
}

fn routes(routes: &[RouteView]) -> String {
    let mut table = Table::new(&["prefix", "target", "origin"]);
    for route in routes {
        let origin = route.origin.map_or("config", |origin| origin.word());
        table.row([route.prefix.to_string(), route.target.to_string(), origin.to_owned()]);
    }
    table.text()
}

fn neighbors(neighbors: &[NeighborView]) -> String {
    let mut table = Table::new(&["subnet", "via", "backend", "vtep mac", "origin"]);
    for NeighborView { subnet, via, backend, mac, origin } in neighbors {
        table.row([subnet.to_string(), via.to_string(), backend.to_string(), or_dash(*mac), origin.to_string()]);
    }
    table.text()
}

fn stations(stations: &[StationView]) -> String {
    let mut table = Table::new(&["address", "mac", "port", "state"]);
    for StationView { address, mac, port, state } in stations {
        table.row([address.to_string(), or_dash(*mac), port.to_string(), state.to_string()]);
    }
    table.text()
}

fn drops(drops: &DropsView) -> String {
    let DropsView { received, injected, sent, dropped, punted, in_flight, conserved, slow } = drops;
    let mut table = Table::new(&["what", "which", "packets"]);
    let mut counted = |what: &str, counts: &BTreeMap<String, u64>| {
        for (which, count) in counts {
            table.row([what, which.as_str(), &count.to_string()]);
        }
    };
    counted("received", &only(*received));
    counted("injected", &only(*injected));
    counted("sent", &only(*sent));
    counted("dropped", dropped);
    counted("punted", punted);
    counted("in flight", &only(*in_flight));
    counted("slow path", slow);
    let verdict = if *conserved { "every packet is accounted for" } else { "PACKETS ARE UNACCOUNTED FOR" };
    format!("{}{verdict}\n", table.text())
}

/// A count without kinds.
fn only(count: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([("-".to_owned(), count)])
}

fn status(status: &Status) -> String {
    let Status { pid, version, uptime_seconds, workers, poll, endpoints, routes, neighbors, pauses } = status;
    let mut table = Table::new(&["pid", "version", "uptime", "workers", "poll", "endpoints", "routes", "neighbors"]);
    table.row([
        pid.to_string(),
        version.clone(),
        uptime(*uptime_seconds),
        workers.to_string(),
        poll.to_string(),
        endpoints.to_string(),
        routes.to_string(),
        neighbors.to_string(),
    ]);
    let paused =
        pauses.iter().map(|Pause { why, origin }| format!("no pod is attached, asked for by {origin}: {why}\n"));
    paused.fold(table.text(), |text, line| text + &line)
}

fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

fn or_dash(item: Option<impl Display>) -> String {
    item.map_or_else(|| "-".to_owned(), |item| item.to_string())
}

fn joined<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_blanks_at_their_ends() {
        let mut table = Table::new(&["a", "bb"]);
        table.row(["longer", ""]);
        table.row(["x", "y"]);
        let lines: Vec<String> = table.text().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.trim() == line), "{lines:?}");
        let mut table = Table::new(&["", "a"]);
        table.row(["ok", "x"]);
        assert_eq!(table.text(), "    A\nok  x\n");
        assert_eq!(lines[0].find("BB"), lines[2].find('y'), "{lines:?}");
    }

    #[test]
    fn every_packet_is_told_of() {
        let count = |name: &str, count| BTreeMap::from([(name.to_owned(), count)]);
        let view = DropsView {
            received: 10,
            sent: 7,
            dropped: count("bad_ip_header", 2),
            punted: count("arp", 1),
            conserved: true,
            slow: count("answered", 1),
            ..DropsView::default()
        };
        let text = drops(&view);
        for part in ["received", "bad_ip_header", "arp", "answered", "every packet is accounted for"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(drops(&DropsView { conserved: false, ..view }).contains("UNACCOUNTED"));
    }

    #[test]
    fn an_uptime_is_told_by_its_two_greatest_units() {
        let told = [0, 59, 61, 3_661, 90_000].map(uptime);
        assert_eq!(told, ["0s", "59s", "1m1s", "1h1m", "1d1h"]);
    }
}

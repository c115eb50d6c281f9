//! The demo: a node of its own, our switch, two pods, and proof that it carries traffic whole; or two nodes, a switch and
//! a pod on each.
//!
//! Both families are pinged, random bytes go both ways and are compared by hash, then throughput and round trip are
//! measured. At the end each switch accounts for every packet: in = out + dropped + punted + in flight. What fails is
//! reported as `false`, with the drop reasons beside it; only a broken set-up is an error.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{ContentArrangement, Table};
use control::DropsView;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::load::{Family, Pair, Window, echo, round_trip, tcp, transfer};
use crate::report::{STYLE, number};
use crate::topology::nodes::{Backend, Crossing, Nodes, Underlay};
use crate::topology::switch::Switch;
use crate::topology::{Pod, Program, Topology, Wiring};

/// What the demo found.
#[derive(Debug, Clone, Serialize)]
pub struct Demo {
    /// What the pods saw.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Whether every switch accounts for every packet.
    pub conservation_ok: bool,
    /// The account of the first pod's switch.
    pub packets: DropsView,
    /// That of the second pod's, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets_across: Option<DropsView>,
    /// How the nodes reach each other, where there are two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<&'static str>,
}

/// What two pods saw of the path between them.
#[derive(Debug, Clone, Serialize)]
pub struct Traffic {
    /// An ICMP echo request was answered.
    pub ping_v4: bool,
    /// An ICMPv6 echo request was answered; absent where IPv6 is not carried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping_v6: Option<bool>,
    /// Random bytes arrived as they were sent, both ways.
    pub hash_ok: bool,
    /// How fast it was; absent when one of the above failed.
    #[serde(flatten)]
    pub figures: Option<Figures>,
}

/// Throughput and latency, both ends placed by the scheduler.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// One TCP connection over IPv4, 10^9 bits of payload per second.
    pub tcp_gbps: f64,
    /// The same over IPv6, the other way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_v6_gbps: Option<f64>,
    /// CPU seconds of the whole machine per 10^9 bytes of the IPv4 connection.
    pub cpu_s_per_gb: f64,
    /// Median UDP round trip, microseconds.
    pub rtt_p50_us: f64,
    /// 99th percentile, microseconds.
    pub rtt_p99_us: f64,
}

impl Demo {
    /// Sets up a switch and two pods, exercises them and takes them down; throughput is counted for `counted`.
    pub fn on_one_node(counted: Duration) -> Result<Self> {
        let topology = Topology::new(Wiring::Ours, &Program::default())?;
        let traffic = Traffic::between(topology.pods(), true, CHECKED_MEGABYTES, counted)?;
        let packets = topology.switch().expect("ours is joined by our switch").drops()?;
        Ok(Self { traffic, conservation_ok: packets.conserved, packets, packets_across: None, backend: None })
    }

    /// The same with two switches and a pod at each, whose nodes reach each other by `backend`.
    pub fn across(backend: Backend, counted: Duration) -> Result<Self> {
        let nodes = Nodes::new(Crossing::Ours, backend, &Underlay::default(), &Program::default())?;
        let v6 = backend.carries(Family::V6, Family::V4);
        let traffic = Traffic::between(nodes.pods(), v6, CHECKED_MEGABYTES, counted)?;
        let accounts = nodes.switches().map(Switch::drops).collect::<Result<Vec<_>>>()?;
        let conservation_ok = accounts.iter().all(|account| account.conserved);
        let [packets, across] = accounts.try_into().expect("ours has a switch on both nodes");
        Ok(Self { traffic, conservation_ok, packets, packets_across: Some(across), backend: Some(backend.name()) })
    }

    /// Whether everything that must be so is so.
    pub fn passed(&self) -> bool {
        self.traffic.passed() && self.conservation_ok
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let word = |good| if good { "ok" } else { "FAILED" }.to_owned();
        let mut rows = vec![("ping over IPv4", word(self.traffic.ping_v4))];
        rows.extend(self.traffic.ping_v6.map(|answered| ("ping over IPv6", word(answered))));
        rows.push(("256 MiB each way, SHA-256", word(self.traffic.hash_ok)));
        if let Some(figures) = &self.traffic.figures {
            rows.push(("TCP over IPv4", number(figures.tcp_gbps) + " Gbit/s"));
            rows.extend(figures.tcp_v6_gbps.map(|gbps| ("TCP over IPv6", number(gbps) + " Gbit/s")));
            rows.extend([
                ("CPU time, whole machine", number(figures.cpu_s_per_gb) + " s per GB"),
                ("UDP round trip, p50", number(figures.rtt_p50_us) + " us"),
                ("UDP round trip, p99", number(figures.rtt_p99_us) + " us"),
            ]);
        }
        rows.push(("every packet accounted for", word(self.conservation_ok)));
        for account in [&self.packets].into_iter().chain(&self.packets_across) {
            rows.extend(account_rows(account));
        }
        let mut table = Table::new();
        table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
        let header = match self.backend {
            None => "pod 10.244.0.2 <-> podswitch <-> pod 10.244.0.3".to_owned(),
            Some(backend) => format!("pod 10.244.1.2 <-> podswitch <-{backend}-> podswitch <-> pod 10.244.2.2"),
        };
        table.set_header([header.as_str(), ""]);
        table.add_rows(rows.iter().map(|(what, result)| [*what, result.as_str()]));
        table.to_string()
    }
}

/// What a switch says became of packets.
fn account_rows(account: &DropsView) -> [(&'static str, String); 4] {
    let DropsView { received, injected, sent, dropped, punted, in_flight, .. } = account;
    let counts = |counts: &BTreeMap<String, u64>| {
        let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
    };
    [
        ("packets in", format!("{received} received, {injected} injected")),
        ("packets out", format!("{sent} sent, {in_flight} in flight")),
        ("dropped", counts(dropped)),
        ("punted", counts(punted)),
    ]
}

impl Traffic {
    /// Exercises the path between two pods, over IPv6 too if `v6`; `megabytes` MiB are checked each way.
    pub fn between([first, second]: &[Pod; 2], v6: bool, megabytes: usize, counted: Duration) -> Result<Self> {
        let other = if v6 { Family::V6 } else { Family::V4 };
        let forth = |family| Pair { from: first, to: second, family, case: None, urgent: false };
        let back = Pair { from: second, to: first, family: other, case: None, urgent: false };
        let mut traffic = Self {
            ping_v4: echo::is_answered(forth(Family::V4))?,
            ping_v6: if v6 { Some(echo::is_answered(forth(Family::V6))?) } else { None },
            hash_ok: false,
            figures: None,
        };
        if traffic.answered() {
            traffic.hash_ok = arrived(transfer::is_intact(forth(Family::V4), megabytes, SEED))?
                && arrived(transfer::is_intact(back, megabytes, !SEED))?;
        }
        if traffic.passed() {
            let window = Window::of(counted, Duration::from_secs(1));
            let stream = tcp::stream(forth(Family::V4), 1, window)?;
            let trip = round_trip::measure(forth(Family::V4), window)?;
            traffic.figures = Some(Figures {
                tcp_gbps: stream.gbps,
                tcp_v6_gbps: if v6 { Some(tcp::stream(back, 1, window)?.gbps) } else { None },
                cpu_s_per_gb: stream.cpu_s_per_gb,
                rtt_p50_us: trip.p50_us,
                rtt_p99_us: trip.p99_us,
            });
        }
        Ok(traffic)
    }

    /// Whether everything arrived, and arrived whole.
    pub fn passed(&self) -> bool {
        self.answered() && self.hash_ok
    }

    fn answered(&self) -> bool {
        self.ping_v4 && self.ping_v6 != Some(false)
    }
}

/// What did not arrive is a finding of the demo, not an error of it.
pub(crate) fn arrived(result: Result<bool>) -> Result<bool> {
    match result {
        Err(Error::NothingArrived { .. }) => Ok(false),
        result => result,
    }
}

const CHECKED_MEGABYTES: usize = 256;
const SEED: u64 = 0x7377_6974_6368;

#[cfg(test)]
mod tests {
    use super::*;

    fn demo() -> Demo {
        let figures =
            Figures { tcp_gbps: 9.5, tcp_v6_gbps: Some(9.0), cpu_s_per_gb: 1.5, rtt_p50_us: 25.0, rtt_p99_us: 50.0 };
        let traffic = Traffic { ping_v4: true, ping_v6: Some(true), hash_ok: true, figures: Some(figures) };
        let dropped = [("no-route".to_owned(), 3)].into_iter().collect();
        let packets = DropsView { received: 10, sent: 7, dropped, conserved: true, ..DropsView::default() };
        Demo { traffic, conservation_ok: true, packets, packets_across: None, backend: None }
    }

    #[test]
    fn the_json_holds_verdicts_and_figures_at_the_top() {
        let json = serde_json::to_value(demo()).unwrap();
        for verdict in ["ping_v4", "ping_v6", "hash_ok", "conservation_ok"] {
            assert_eq!(json[verdict], true, "{verdict}");
        }
        assert_eq!(
            (&json["tcp_gbps"], &json["rtt_p50_us"], &json["rtt_p99_us"]),
            (&9.5.into(), &25.0.into(), &50.0.into())
        );
        assert_eq!(json["packets"]["dropped"]["no-route"], 3);
    }

    #[test]
    fn one_false_verdict_fails_the_demo() {
        assert!(demo().passed());
        let spoil: [fn(&mut Demo); 4] = [
            |demo| demo.traffic.ping_v4 = false,
            |demo| demo.traffic.ping_v6 = Some(false),
            |demo| demo.traffic.hash_ok = false,
            |demo| demo.conservation_ok = false,
        ];
        for spoil in spoil {
            let mut demo = demo();
            spoil(&mut demo);
            assert!(!demo.passed() && demo.table().contains("FAILED"));
        }
    }

    #[test]
    fn two_nodes_have_two_accounts_and_may_do_without_ipv6() {
        let mut demo = demo();
        demo.traffic.ping_v6 = None;
        demo.backend = Some("udp");
        demo.packets_across = Some(DropsView { received: 77, conserved: true, ..DropsView::default() });
        assert!(demo.passed());
        let (table, json) = (demo.table(), serde_json::to_value(&demo).unwrap());
        for text in ["<-udp->", "10 received", "77 received"] {
            assert!(table.contains(text), "{text:?} is missing in\n{table}");
        }
        assert!(!table.contains("ping over IPv6"), "{table}");
        assert_eq!((&json["packets_across"]["received"], json.get("ping_v6")), (&77.into(), None));
    }

    #[test]
    fn the_table_says_what_was_dropped() {
        let table = demo().table();
        for text in ["9.50 Gbit/s", "25.0 us", "no-route 3", "10 received"] {
            assert!(table.contains(text), "{text:?} is missing in\n{table}");
        }
    }
}

//! The figures of comparisons, and the loads that give them; some loads give several at once.

use std::fmt;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;

use super::Rounds;
use crate::error::Result;
use crate::load::{Pair, Window, probe, round_trip, tcp, udp};
use crate::report::Better;

/// A figure of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Metric {
    /// TCP payload over one connection.
    #[value(name = "tcp1_gbps")]
    Tcp1Gbps,
    /// Segments that one connection sent more than once, in the whole run.
    #[value(name = "tcp1_resent")]
    Tcp1Resent,
    /// How often the sender of one connection found its segments reordered, in the whole run.
    #[value(name = "tcp1_reordered")]
    Tcp1Reordered,
    /// TCP payload over four connections.
    #[value(name = "tcp4_gbps")]
    Tcp4Gbps,
    /// Frames of 64 bytes delivered, one flow.
    #[value(name = "udp64_pps")]
    Udp64Pps,
    /// Those of them that came after a later one of their flow, of a million.
    #[value(name = "udp64_late_ppm")]
    Udp64LatePpm,
    /// Frames of 64 bytes delivered, 64 flows in turn.
    #[value(name = "udp64_flows64_pps")]
    Udp64Flows64Pps,
    /// Those of them that came after a later one of their flow, of a million.
    #[value(name = "udp64_flows64_late_ppm")]
    Udp64Flows64LatePpm,
    /// Frames of 64 bytes delivered, as many flows in turn as --flows says.
    Udp64FlowsPps,
    /// Median round trip.
    #[value(name = "rtt_p50_us")]
    RttP50Us,
    /// 99th percentile of the round trip.
    #[value(name = "rtt_p99_us")]
    RttP99Us,
    /// CPU time of the whole machine per GB over one TCP connection.
    CpuSPerGb,
    /// Frames of 64 bytes delivered, one flow, its sender moved between CPUs 50 times a second.
    #[value(name = "udp64_moved50_pps")]
    Udp64Moved50Pps,
    /// Those of them that came after a later one, of a million.
    #[value(name = "udp64_moved50_late_ppm")]
    Udp64Moved50LatePpm,
    /// Frames of 64 bytes delivered, one flow, its sender moved between CPUs 1000 times a second.
    #[value(name = "udp64_moved1000_pps")]
    Udp64Moved1000Pps,
    /// Those of them that came after a later one, of a million.
    #[value(name = "udp64_moved1000_late_ppm")]
    Udp64Moved1000LatePpm,
    /// Median of requests at fixed times, nothing else on its way.
    Probe0P50Us,
    /// 99th percentile of them.
    Probe0P99Us,
    /// 99.9th percentile of them.
    Probe0P999Us,
    /// Median beside a flow of half of what the path carries.
    Probe50P50Us,
    /// 99th percentile of them.
    Probe50P99Us,
    /// 99.9th percentile of them.
    Probe50P999Us,
    /// Median beside a flow of nine tenths of what the path carries.
    Probe90P50Us,
    /// 99th percentile of them.
    Probe90P99Us,
    /// 99.9th percentile of them.
    Probe90P999Us,
}

impl Metric {
    pub(super) fn better(self) -> Better {
        match self {
            Self::Tcp1Gbps | Self::Tcp4Gbps => Better::Higher,
            Self::Udp64Pps | Self::Udp64Flows64Pps | Self::Udp64FlowsPps => Better::Higher,
            Self::Udp64Moved50Pps | Self::Udp64Moved1000Pps => Better::Higher,
            _ => Better::Lower,
        }
    }

    pub(super) fn load(self) -> Load {
        match self {
            Self::Tcp1Gbps | Self::Tcp1Resent | Self::Tcp1Reordered | Self::CpuSPerGb => Load::Tcp { connections: 1 },
            Self::Tcp4Gbps => Load::Tcp { connections: 4 },
            Self::Udp64Pps | Self::Udp64LatePpm => Load::Udp { flows: Some(1) },
            Self::Udp64Flows64Pps | Self::Udp64Flows64LatePpm => Load::Udp { flows: Some(64) },
            Self::Udp64FlowsPps => Load::Udp { flows: None },
            Self::RttP50Us | Self::RttP99Us => Load::RoundTrip,
            Self::Udp64Moved50Pps | Self::Udp64Moved50LatePpm => Load::Moved { per_second: 50 },
            Self::Udp64Moved1000Pps | Self::Udp64Moved1000LatePpm => Load::Moved { per_second: 1000 },
            _ => Load::Probed,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.to_possible_value().expect("no metric is hidden").get_name())
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Load {
    Tcp {
        connections: usize,
    },
    /// A flood; without a number of flows that of the rounds.
    Udp {
        flows: Option<usize>,
    },
    RoundTrip,
    /// A flood of one flow whose sender moves.
    Moved {
        per_second: u32,
    },
    Probed,
}

impl Load {
    pub(super) fn measure(self, pair: Pair<'_>, rounds: &Rounds, warn: impl Fn(String)) -> Result<Vec<(Metric, f64)>> {
        let settled = Window::of(rounds.counted, Duration::from_secs(1));
        let brief = Window::of(rounds.counted, Duration::from_millis(250));
        Ok(match self {
            Self::Tcp { connections: 1 } => {
                let stream = tcp::stream(pair, 1, settled)?;
                vec![
                    (Metric::Tcp1Gbps, stream.gbps),
                    (Metric::Tcp1Resent, stream.resent as f64),
                    (Metric::Tcp1Reordered, stream.reordered as f64),
                    (Metric::CpuSPerGb, stream.cpu_s_per_gb),
                ]
            }
            Self::Tcp { connections } => vec![(Metric::Tcp4Gbps, tcp::stream(pair, connections, settled)?.gbps)],
            Self::Udp { flows } => {
                let (delivered, late) = match flows {
                    Some(1) => (Metric::Udp64Pps, Some(Metric::Udp64LatePpm)),
                    Some(_) => (Metric::Udp64Flows64Pps, Some(Metric::Udp64Flows64LatePpm)),
                    None => (Metric::Udp64FlowsPps, None),
                };
                let flows = flows.unwrap_or(rounds.flows);
                let flood = udp::flood(pair, flows, brief)?;
                warn_of_order(flood, &format!("{flows} flows"), warn);
                let late = late.map(|metric| (metric, flood.late_ppm()));
                [(delivered, flood.delivered_pps)].into_iter().chain(late).collect()
            }
            Self::RoundTrip => {
                let trip = round_trip::measure(pair, brief)?;
                if trip.lost > 0 {
                    warn(format!("{} requests got no answer", trip.lost));
                }
                vec![(Metric::RttP50Us, trip.p50_us), (Metric::RttP99Us, trip.p99_us)]
            }
            Self::Moved { per_second } => {
                let sending = udp::Sending { moves_per_second: per_second, ..udp::Sending::flat_out(1) };
                let flood = udp::send_as(pair, sending, brief)?;
                warn_of_order(flood, &format!("sender moved {per_second} times a second"), warn);
                let late = flood.late_ppm();
                match per_second {
                    50 => vec![(Metric::Udp64Moved50Pps, flood.delivered_pps), (Metric::Udp64Moved50LatePpm, late)],
                    _ => vec![(Metric::Udp64Moved1000Pps, flood.delivered_pps), (Metric::Udp64Moved1000LatePpm, late)],
                }
            }
            Self::Probed => probed(pair, brief, warn)?,
        })
    }
}

impl fmt::Display for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { connections } => write!(out, "tcp{connections}"),
            Self::Udp { flows: Some(1) } => out.write_str("udp64"),
            Self::Udp { flows: Some(flows) } => write!(out, "udp64_flows{flows}"),
            Self::Udp { flows: None } => out.write_str("udp64_flows"),
            Self::RoundTrip => out.write_str("rtt"),
            Self::Moved { per_second } => write!(out, "udp64_moved{per_second}"),
            Self::Probed => out.write_str("probe"),
        }
    }
}

fn warn_of_order(flood: udp::Flood, which: &str, warn: impl Fn(String)) {
    let udp::Flood { late, duplicates, delivered, .. } = flood;
    if late + duplicates > 0 {
        warn(format!("{late} late and {duplicates} repeated of {delivered} frames, {which}"));
    }
}

/// Capacity is what a flood delivers, taken a moment before.
fn probed(pair: Pair<'_>, window: Window, warn: impl Fn(String)) -> Result<Vec<(Metric, f64)>> {
    let capacity = udp::flood(pair, 1, window)?.delivered_pps;
    let longer = Window { counted: window.counted + window.warm_up, ..window };
    let mut figures = Vec::new();
    for (share, [p50, p99, p999]) in LEVELS {
        let pps_max = Some((capacity * share) as u64).filter(|&pps| pps > 0);
        let probe = thread::scope(|scope| {
            let sending = udp::Sending { pps_max, ..udp::Sending::flat_out(1) };
            let beside = pps_max.map(|_| scope.spawn(move || udp::send_as(pair, sending, longer)));
            let probe = probe::measure(pair, PROBES_PER_SECOND, window);
            let sent = beside.map_or(Ok(()), |beside| beside.join().expect("a flood does not panic").map(drop));
            probe.and_then(|probe| sent.map(|()| probe))
        })?;
        if probe.lost > 0 {
            warn(format!("{} requests got no answer beside {:.0} % of the capacity", probe.lost, 100.0 * share));
        }
        figures.extend([(p50, probe.p50_us), (p99, probe.p99_us), (p999, probe.p999_us)]);
    }
    Ok(figures)
}

/// The share of the capacity that is sent beside the requests, and what is reported of them.
const LEVELS: [(f64, [Metric; 3]); 3] = [
    (0.0, [Metric::Probe0P50Us, Metric::Probe0P99Us, Metric::Probe0P999Us]),
    (0.5, [Metric::Probe50P50Us, Metric::Probe50P99Us, Metric::Probe50P999Us]),
    (0.9, [Metric::Probe90P50Us, Metric::Probe90P99Us, Metric::Probe90P999Us]),
];
const PROBES_PER_SECOND: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_named_as_agreed() {
        let names: Vec<String> = Metric::value_variants().iter().map(Metric::to_string).collect();
        let agreed = "tcp1_gbps tcp1_resent tcp1_reordered tcp4_gbps udp64_pps udp64_late_ppm \
                      udp64_flows64_pps udp64_flows64_late_ppm udp64_flows_pps \
                      rtt_p50_us rtt_p99_us cpu_s_per_gb \
                      udp64_moved50_pps udp64_moved50_late_ppm udp64_moved1000_pps udp64_moved1000_late_ppm \
                      probe0_p50_us probe0_p99_us probe0_p999_us probe50_p50_us probe50_p99_us probe50_p999_us \
                      probe90_p50_us probe90_p99_us probe90_p999_us";
        assert_eq!(names.join(" "), agreed);
    }
}

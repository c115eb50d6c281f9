//! What `/metrics` says: every counter and mark of the switch as it was at one moment, in the words of Prometheus.
//!
//! The control thread copies the numbers ([`Metrics`]), which is short; whoever asked makes the text of them, elsewhere.
//! Names begin with `podswitch_`, counters end in `_total`, units are base units (OpenMetrics 1.0).
//!
//! - A port's series end when it leaves, so they may go back to zero when another endpoint of its name comes; totals of
//!   the switch count ports that left too and never go back while it runs.
//! - Of a port, only reasons and causes that happened there are told, or 200 pods would be thousands of zeros; of the
//!   switch, all are, so that a first occurrence is seen as an increase.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::kernel_drops::Place;
use crate::port::{Count, Counted};
use crate::thread::worker_thread;
use crate::worker::Recorded;

#[cfg(test)]
mod tests;

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All numbers of a switch at one moment.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Ports that are there now.
    pub ports: Vec<PortMetrics>,
    /// Sums over all ports there ever were.
    pub total: Counted,
    /// Workers.
    pub workers: Vec<WorkerMetrics>,
    /// Return entries.
    pub returns: ReturnMetrics,
    /// What the slow path made of the packets handed to it, by outcome.
    pub slow: Vec<(&'static str, u64)>,
    /// Worlds published after the first.
    pub worlds_published: u64,
    /// Earlier worlds that a worker still holds.
    pub worlds_retiring: u64,
    /// Endpoints attached.
    pub endpoints: u64,
    /// Routes asked for.
    pub routes: u64,
    /// Other nodes' subnets, by backend.
    pub neighbors: Vec<(&'static str, u64)>,
    /// Endpoints detached because their namespace was gone.
    pub swept: u64,
    /// When the switch started.
    pub started_at: SystemTime,
}

/// The numbers of a port.
#[derive(Clone, Debug)]
pub struct PortMetrics {
    /// Its index.
    pub number: u16,
    /// The endpoint's name, or the host device's.
    pub name: String,
    /// `host`, `workload` or `uplink`.
    pub kind: &'static str,
    /// What was counted there.
    pub counted: Counted,
    /// Where its interface is, if it has one.
    pub place: Option<Place>,
    /// Frames the kernel dropped there, as far as known.
    pub kernel_dropped: Option<u64>,
}

/// The numbers of a worker.
#[derive(Clone, Debug)]
pub struct WorkerMetrics {
    /// Its number.
    pub number: u16,
    /// What its thread is called.
    pub thread: String,
    /// Turns that carried something.
    pub turns: u64,
    /// Times it went to sleep.
    pub sleeps: u64,
    /// Banks of queues it gave to another worker.
    pub handovers: u64,
    /// Packets received a turn.
    pub bursts: Recorded,
    /// Duration of timed turns: buckets by microseconds, the sum in nanoseconds.
    pub turn_times: Recorded,
    /// CPU time it used, where the kernel tells.
    pub cpu_time: Option<Duration>,
    /// By class.
    pub slots: [(&'static str, Mark); 2],
    /// By what the letters carry.
    pub mailboxes: [(&'static str, Mark); 2],
}

/// The numbers of the table of return entries.
#[derive(Clone, Copy, Debug)]
pub struct ReturnMetrics {
    /// In use now.
    pub entries: Mark,
    /// Those in use that had to go for newer ones.
    pub evicted: u64,
}

/// A level or high-water mark, and what it cannot exceed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Now, or at most up to now.
    pub value: u64,
    /// The limit.
    pub limit: u64,
}

impl Metrics {
    /// The OpenMetrics text.
    pub fn text(self) -> String {
        let mut registry = Registry::with_prefix("podswitch");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a string does not fail");
        text
    }

    fn encode_ports(&self, out: &mut Out<'_>) -> fmt::Result {
        for (what, [name, help], unit) in PORT_COUNTS {
            out.counters(
                name,
                help,
                unit.as_ref(),
                self.ports.iter().map(|port| (port.labels(), port.counted.get(*what))),
            )?;
        }
        let drops = self.ports.iter().flat_map(|port| {
            let happened = port.counted.dropped().filter(|&(_, count)| count > 0);
            happened.map(|(reason, count)| (port.labels_and("reason", reason.name()), count))
        });
        out.counters(
            "port_dropped_packets",
            "Packets that entered here and were dropped, by reason; a reason appears with its first drop.",
            None,
            drops,
        )?;
        let punts = self.ports.iter().flat_map(|port| {
            let happened = port.counted.punted().filter(|&(_, count)| count > 0);
            happened.map(|(why, count)| (port.labels_and("cause", why.name()), count))
        });
        out.counters(
            "port_punted_packets",
            "Packets that entered here and went to the slow path, by cause; a cause appears with its first punt.",
            None,
            punts,
        )?;
        for (what, [name, help], unit) in LIMIT_COUNTS {
            let happened = self.ports.iter().filter(|port| port.counted.get(*what) > 0);
            out.counters(name, help, unit.as_ref(), happened.map(|port| (port.labels(), port.counted.get(*what))))?;
        }
        let kernel = self.ports.iter().filter_map(|port| Some((port.labels(), port.kernel_dropped?)));
        out.counters(
            "port_kernel_dropped_packets",
            "Frames the kernel dropped because the TAP was not read in time, as of 1 second ago at most.",
            None,
            kernel,
        )
    }

    fn encode_totals(&self, out: &mut Out<'_>) -> fmt::Result {
        for (what, [name, help], unit) in TOTAL_COUNTS {
            out.counter(name, help, unit.as_ref(), self.total.get(*what))?;
        }
        let drops = self.total.dropped().map(|(reason, count)| (vec![("reason", reason.name().to_owned())], count));
        out.counters("dropped_packets", "Packets dropped, by reason.", None, drops)?;
        let punts = self.total.punted().map(|(why, count)| (vec![("cause", why.name().to_owned())], count));
        out.counters("punted_packets", "Packets handed to the slow path, by cause.", None, punts)?;
        out.gauge(
            "in_flight_packets",
            "Packets that came (received and injected) and have not left (sent, dropped, punted); 0 between two turns.",
            self.total.came().saturating_sub(self.total.left()),
        )?;
        let slow = self.slow.iter().map(|&(outcome, count)| (vec![("outcome", outcome.to_owned())], count));
        out.counters("slow_path_packets", "What became of punted packets, by outcome.", None, slow)
    }

    fn encode_workers(&self, out: &mut Out<'_>) -> fmt::Result {
        let each = |value: fn(&WorkerMetrics) -> u64| self.workers.iter().map(move |one| (one.labels(), value(one)));
        out.counters("worker_turns", "Turns that carried something.", None, each(|worker| worker.turns))?;
        out.counters("worker_sleeps", "Times the worker went to sleep.", None, each(|worker| worker.sleeps))?;
        let help = "Banks of queues the worker gave to another one.";
        out.counters("worker_handovers", help, None, each(|worker| worker.handovers))?;
        let bursts = self.workers.iter().map(|worker| (worker.labels(), &worker.bursts));
        out.histograms("worker_burst_packets", "Packets received in one turn.", None, bursts)?;
        let times = self.workers.iter().map(|worker| (worker.labels(), &worker.turn_times));
        out.histograms(
            "worker_turn",
            "Duration of a turn that carried something; one such turn in 16 is timed.",
            Some(Seconds { bound: 1e6, sum: 1e9 }),
            times,
        )?;
        let cpu = self.workers.iter().filter_map(|one| Some((one.labels(), one.cpu_time?.as_secs_f64())));
        out.counters("worker_cpu", "CPU time of the worker's thread.", Some(&Unit::Seconds), cpu)?;

        type Marks = fn(&WorkerMetrics) -> &[(&'static str, Mark)];
        let marks = |label: &'static str, marks: Marks, value: fn(&Mark) -> u64| {
            let rows = self.workers.iter().flat_map(move |one| marks(one).iter().map(move |mark| (one, mark)));
            rows.map(move |(worker, (class, mark))| (worker.labels_and(label, class), value(mark)))
        };
        let (slots, mailboxes): (Marks, Marks) = (|worker| &worker.slots, |worker| &worker.mailboxes);
        let help = "Most slots of a class ever in use at once; at the limit a turn stops receiving.";
        out.gauges("worker_slots_highest", help, marks("class", slots, |mark| mark.value))?;
        out.gauges("worker_slots_limit", "Slots of a class.", marks("class", slots, |mark| mark.limit))?;
        let help = "Most letters of a mailbox ever under way at once; at the limit what it would carry is dropped.";
        out.gauges("worker_mailbox_highest", help, marks("mailbox", mailboxes, |mark| mark.value))?;
        out.gauges("worker_mailbox_limit", "Letters of a mailbox.", marks("mailbox", mailboxes, |mark| mark.limit))
    }

    fn encode_switch(&self, out: &mut Out<'_>) -> fmt::Result {
        let help = "Worlds published after the first: one for each coming and going of a port.";
        out.counter("worlds_published", help, None, self.worlds_published)?;
        let help = "Earlier worlds that a worker still holds; staying above 0 means that a worker does not turn.";
        out.gauge("worlds_retiring", help, self.worlds_retiring)?;
        out.gauge("endpoints", "Endpoints attached.", self.endpoints)?;
        out.gauge("routes", "Routes asked for, those of endpoints' own addresses apart.", self.routes)?;
        let neighbors = self.neighbors.iter().map(|&(backend, count)| (vec![("backend", backend.to_owned())], count));
        out.gauges("neighbors", "Neighbours asked for, each a subnet of another node, by backend.", neighbors)?;
        let ReturnMetrics { entries, evicted } = self.returns;
        out.gauge("return_entries", "Return entries in use: flows that the host translates.", entries.value)?;
        out.gauge("return_entries_limit", "Return entries there is room for.", entries.limit)?;
        let help = "Return entries in use that had to go for newer ones.";
        out.counter("returns_evicted", help, None, evicted)?;
        let help = "Endpoints detached because their network namespace was gone.";
        out.counter("endpoints_swept", help, None, self.swept)?;
        let since = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut start = out.0.encode_descriptor(
            "start_time",
            "When the switch started, since 1970.",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        start.encode_gauge(&since.as_secs_f64())?;
        let mut build = out.0.encode_descriptor("build", "The running program.", None, MetricType::Info)?;
        build.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.encode_switch(&mut out)?;
        self.encode_totals(&mut out)?;
        self.encode_workers(&mut out)?;
        self.encode_ports(&mut out)
    }
}

impl PortMetrics {
    fn labels(&self) -> Labels {
        vec![("port", self.number.to_string()), ("name", self.name.clone()), ("kind", self.kind.to_owned())]
    }

    fn labels_and(&self, label: &'static str, value: &str) -> Labels {
        let mut labels = self.labels();
        labels.push((label, value.to_owned()));
        labels
    }
}

impl WorkerMetrics {
    fn labels(&self) -> Labels {
        vec![("worker", self.name())]
    }

    fn labels_and(&self, label: &'static str, value: &str) -> Labels {
        vec![("worker", self.name()), (label, value.to_owned())]
    }

    /// A worker's number, or what a stage of the pipeline does.
    fn name(&self) -> String {
        if self.thread == worker_thread(self.number) { self.number.to_string() } else { self.thread.clone() }
    }
}

type Labels = Vec<(&'static str, String)>;

/// The text as it grows, a family of metrics at a time.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counters<V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        rows: impl Iterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, value) in rows {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauges<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn histograms<'r>(
        &mut self,
        name: &str,
        help: &str,
        seconds: Option<Seconds>,
        rows: impl Iterator<Item = (Labels, &'r Recorded)>,
    ) -> fmt::Result {
        let unit = seconds.as_ref().map(|_| Unit::Seconds);
        let Seconds { bound, sum } = seconds.unwrap_or(Seconds { bound: 1.0, sum: 1.0 });
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?;
        for (labels, recorded) in rows {
            let in_unit = |most: Option<u64>| most.map_or(f64::INFINITY, |most| most as f64 / bound);
            let buckets: Vec<(f64, u64)> = recorded.buckets().map(|(most, count)| (in_unit(most), count)).collect();
            let (sum, count) = (recorded.sum as f64 / sum, recorded.count());
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

/// How many of a histogram's units make a second: of its bounds, and of its sum.
struct Seconds {
    bound: f64,
    sum: f64,
}

type Family = (Count, [&'static str; 2], Option<Unit>);

const PORT_COUNTS: &[Family] = &[
    (
        Count::Received,
        ["port_received_packets", "Packets that entered the switch by the port; a super-frame is one."],
        None,
    ),
    (Count::ReceivedBytes, ["port_received", "Their bytes, Ethernet header included."], Some(Unit::Bytes)),
    (Count::Sent, ["port_sent_packets", "Packets that left the switch by the port."], None),
    (Count::SentBytes, ["port_sent", "Their bytes, Ethernet header included."], Some(Unit::Bytes)),
    (Count::Answered, ["port_answered_packets", "Answers of the slow path to the port, such as ARP replies."], None),
    (Count::Joined, ["port_joined_writes", "Writes to the port that carried several packets joined."], None),
    (Count::Cut, ["port_cut_frames", "Super-frames that were cut because the port cannot take them."], None),
];

/// Of ports whose pods have limits; told once they happened.
const LIMIT_COUNTS: &[Family] = &[
    (
        Count::Held,
        ["port_limit_held_frames", "Frames to a limited pod that had to wait, several packets joined being one."],
        None,
    ),
    (Count::HeldBytes, ["port_limit_held", "Their bytes, Ethernet header included."], Some(Unit::Bytes)),
    (
        Count::OverLimit,
        ["port_limit_dropped_packets", "Packets to a limited pod that were dropped, since as much waited as may."],
        None,
    ),
    (
        Count::Rests,
        ["port_limit_rests", "Times a queue was left unread because its pod had sent what its limit allows."],
        None,
    ),
];

const TOTAL_COUNTS: &[Family] = &[
    (Count::Received, ["received_packets", "Packets received by all ports, those that left included."], None),
    (Count::ReceivedBytes, ["received", "Bytes received by all ports."], Some(Unit::Bytes)),
    (Count::Answered, ["injected_packets", "Answers that the slow path put in."], None),
    (Count::Sent, ["sent_packets", "Packets sent by all ports."], None),
    (Count::SentBytes, ["sent", "Bytes sent by all ports."], Some(Unit::Bytes)),
    (Count::Joined, ["joined_writes", "Writes that carried several packets joined."], None),
    (Count::Cut, ["cut_frames", "Super-frames that were cut."], None),
];

//! `podswitch trace`: asks for packets and prints them as they come, until it is told to end.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use clap::Args;
use control::{
    Client, Decision, Filter, Form, Headers, PortLabel, StageTrace, StartTrace, TraceEnd, TraceView, TracedPacket,
};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signalfd::SignalFd;
use packet::view::{ethertype, protocol};

use super::{Error, print};
use crate::signals;

#[derive(Args)]
pub(super) struct TraceArgs {
    /// Only packets that enter or depart by this port.
    #[arg(long, value_name = "NAME_OR_NUMBER")]
    port: Option<String>,
    /// Only packets that come in like this, in the language of pcap-filter(7).
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<Filter>,
    /// Only packets that are dropped.
    #[arg(long)]
    dropped: bool,
    /// End after this many packets.
    #[arg(long, value_name = "PACKETS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this long; an hour at most.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// Print JSON, a line for each packet.
    #[arg(long)]
    json: bool,
}

impl TraceArgs {
    /// Traces until the switch or a signal ends it. The last line, on standard error, counts.
    pub(super) fn execute(self, client: &Client) -> Result<(), Error> {
        let TraceArgs { port, filter, dropped, count, seconds, json } = self;
        let mut signals = Signals::new()?;
        let id = client.start_trace(StartTrace { port, filter, dropped, count, seconds })?.id;
        let mut shown = 0;
        let outcome = loop {
            let view = match client.poll_trace(id) {
                Ok(view) => view,
                Err(error) => break Err(error.into()),
            };
            shown += view.packets.len();
            match show(&view, json) {
                Err(error) => break Err(error),
                Ok(()) if view.ended.is_some() => break Ok(view),
                Ok(()) => {}
            }
            if signals.within(if view.more { Duration::ZERO } else { PAUSE })? {
                break stop(client, id, (&mut shown, json));
            }
        };
        let last = outcome.inspect_err(|_| {
            // Whatever went wrong, the switch should not go on for nobody; where it does not answer it does not trace.
            let _ = client.stop_trace(id);
        })?;
        eprintln!("{} packets matched, {shown} shown, {} missed{}", last.matched, last.missed, because(last.ended));
        Ok(())
    }
}

fn stop(client: &Client, id: u64, (shown, json): (&mut usize, bool)) -> Result<TraceView, Error> {
    let view = client.stop_trace(id)?;
    *shown += view.packets.len();
    show(&view, json).map(|()| view)
}

fn because(ended: Option<TraceEnd>) -> &'static str {
    match ended {
        Some(TraceEnd::Time) => "; the time is up",
        Some(TraceEnd::PortGone) => "; the port is gone",
        Some(TraceEnd::Count | TraceEnd::Stopped) | None => "",
    }
}

/// SIGINT and SIGTERM as something to wait for.
struct Signals {
    signals: SignalFd,
    poll: Poll,
    events: Events,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let (signals, poll) = (signals::block()?, Poll::new()?);
        let descriptor = signals.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE)?;
        Ok(Signals { signals, poll, events: Events::with_capacity(1) })
    }

    /// True when one comes within this time.
    fn within(&mut self, time: Duration) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, Some(time)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        Ok(self.signals.read_signal()?.is_some())
    }
}

fn show(view: &TraceView, json: bool) -> Result<(), Error> {
    let line = |packet: &TracedPacket| serde_json::to_string(packet).expect("every view has a JSON form") + "\n";
    print(&view.packets.iter().map(|packet| if json { line(packet) } else { text(packet) }).collect::<String>())
}

/// A packet in a line, and its stages in a line each.
fn text(packet: &TracedPacket) -> String {
    let time = Duration::from_nanos(packet.time_ns);
    let name = |port: &Option<PortLabel>, none| port.as_ref().map_or(none, |port| port.name.as_str()).to_owned();
    let mut text = format!(
        "{}.{:06} {} > {}  {}  {} bytes",
        time.as_secs(),
        time.subsec_micros(),
        name(&packet.from, "slow path"),
        name(&packet.to, "-"),
        summary(&packet.headers),
        packet.length
    );
    if let Some(super_frame) = &packet.super_frame {
        text += &format!(", in segments of {}", super_frame.segment_size);
    }
    if packet.checksum_unfinished {
        text += ", checksum unfinished";
    }
    text.push('\n');
    for StageTrace { stage, decision } in &packet.stages {
        text += &format!("    {stage:8} {}\n", told(packet, decision));
    }
    text
}

fn summary(headers: &Headers) -> String {
    let (Some(source), Some(destination)) = (headers.source, headers.destination) else {
        return format!("EtherType {:#06x} {} > {}", headers.ethertype, headers.source_mac, headers.destination_mac);
    };
    if headers.ethertype == ethertype::ARP {
        return match headers.arp_operation {
            Some(1) => format!("ARP who has {destination}, tell {source}"),
            Some(2) => format!("ARP {source} is at {}", headers.source_mac),
            _ => format!("ARP {source} > {destination}"),
        };
    }
    let family = if source.is_ipv4() { "IPv4" } else { "IPv6" };
    let end = |address, port: Option<u16>| match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    };
    let (from, to) = (end(source, headers.source_port), end(destination, headers.destination_port));
    let mut text = format!("{family} {from} > {to} {}", headers.protocol.map_or_else(String::new, protocol_name));
    if let Some(flags) = &headers.tcp_flags {
        text += &format!(" {flags}");
    }
    if let Some((kind, code)) = headers.icmp {
        text += &format!(" type {kind} code {code}");
    }
    if headers.fragment {
        text += " fragment";
    }
    text
}

fn told(packet: &TracedPacket, decision: &Decision) -> String {
    let by = |adjacency: &Option<u16>| adjacency.map_or_else(String::new, |number| format!(", by adjacency {number}"));
    match decision {
        Decision::Parsed { protocol, fragment, length, .. } => {
            let fragment = if *fragment { ", a fragment" } else { "" };
            let padding = packet.length.saturating_sub(*length);
            let padding = if padding > 0 { format!(", {padding} bytes of padding") } else { String::new() };
            format!("{}{fragment}{padding}", protocol_name(*protocol))
        }
        Decision::Allowed { host: true } => "the host may send from any address".to_owned(),
        Decision::Allowed { host: false } => "its own address".to_owned(),
        Decision::Routed { adjacency, port, return_entry } => {
            let by = if *return_entry { "by a return entry" } else { "by the route table" };
            format!("adjacency {adjacency}, port {} {}, {by}", port.index, port.name)
        }
        Decision::Rewritten { ttl, source_mac, destination_mac } => {
            format!("TTL {ttl}, from {source_mac} to {destination_mac}")
        }
        Decision::Sent { port, form, frames } => format!("port {} {}{}", port.index, port.name, formed(*form, *frames)),
        Decision::Dropped { reason, adjacency } => format!("DROPPED: {reason}{}", by(adjacency)),
        Decision::Punted { why, adjacency } => format!("to the slow path: {why}{}", by(adjacency)),
    }
}

fn formed(form: Form, frames: u32) -> String {
    match form {
        Form::Whole => String::new(),
        Form::Joined => format!(", joined with {} more", frames.saturating_sub(1)),
        Form::Cut => format!(", cut into {frames} segments"),
        Form::Completed => ", checksum completed".to_owned(),
    }
}

fn protocol_name(number: u8) -> String {
    match number {
        protocol::TCP => "TCP".to_owned(),
        protocol::UDP => "UDP".to_owned(),
        protocol::SCTP => "SCTP".to_owned(),
        protocol::ICMP => "ICMP".to_owned(),
        protocol::ICMP_V6 => "ICMPv6".to_owned(),
        other => format!("protocol {other}"),
    }
}

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

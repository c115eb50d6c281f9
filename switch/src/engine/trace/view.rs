//! A record in the words of control.

use control::{Decision, PortLabel, Stage, StageTrace, SuperFrame, TracedPacket};
use packet::view::{Fragment, Icmp, Tcp, protocol, tcp_flag};
use packet::{Exit, Gso, shape};

use crate::tracer::{Headers, Network, Record};
use crate::world::World;

/// What a record says; `world` names the ports.
pub(super) fn packet(record: &Record, world: &World) -> TracedPacket {
    let kind = match record.offload.gso {
        Gso::None => None,
        Gso::Tcp4 => Some("tcp4"),
        Gso::Tcp6 => Some("tcp6"),
        Gso::Udp => Some("udp"),
    };
    let segment_size = record.offload.gso_size;
    TracedPacket {
        time_ns: record.at_nanos,
        from: record.from.map(|port| label(port, world)),
        to: record.to.map(|port| label(port, world)),
        length: record.length,
        super_frame: kind.map(|kind| SuperFrame { kind: kind.to_owned(), segment_size }),
        checksum_unfinished: record.offload.needs_csum,
        headers: headers(record.start()),
        stages: stages(record, world),
        bytes: record.start().iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn label(number: u16, world: &World) -> PortLabel {
    PortLabel { index: number, name: world.port(number).map_or_else(|| number.to_string(), |port| port.name.clone()) }
}

fn headers(start: &[u8]) -> control::Headers {
    let seen = Headers::of(start);
    let Some(ethernet) = seen.ethernet else { return control::Headers::default() };
    let (ttl, arp_operation) = match &seen.network {
        Network::V4(ip) => (Some(ip.ttl()), None),
        Network::V6(ip) => (Some(ip.hop_limit()), None),
        Network::Arp(arp) => (None, Some(arp.operation())),
        Network::Other => (None, None),
    };
    let (addresses, ports) = (seen.addresses(), seen.ports());
    let is_tcp = seen.protocol() == Some(protocol::TCP);
    let is_icmp = matches!(seen.protocol(), Some(protocol::ICMP | protocol::ICMP_V6));
    control::Headers {
        destination_mac: ethernet.destination(),
        source_mac: ethernet.source(),
        ethertype: ethernet.ethertype(),
        source: addresses.map(|(source, _)| source),
        destination: addresses.map(|(_, destination)| destination),
        ttl,
        protocol: seen.protocol(),
        fragment: seen.layout.is_some_and(|layout| layout.fragment != Fragment::Whole),
        source_port: ports.map(|(source, _)| source),
        destination_port: ports.map(|(_, destination)| destination),
        tcp_flags: Tcp::parse(seen.transport).filter(|_| is_tcp).map(|tcp| letters(tcp.flags())),
        icmp: Icmp::parse(seen.transport).filter(|_| is_icmp).map(|icmp| (icmp.kind(), icmp.code())),
        arp_operation,
    }
}

/// TCP's flags in the letters and the order of tcpdump(8).
fn letters(flags: u16) -> String {
    let set = TCP_FLAGS.iter().filter(|(flag, _)| flags & flag != 0);
    set.map(|(_, letter)| letter).collect()
}

fn stages(record: &Record, world: &World) -> Vec<StageTrace> {
    let of_answers = [Stage::Depart];
    let came_by: &[Stage] = if record.from.is_some() { Stage::ALL } else { &of_answers };
    let mut stages = Vec::with_capacity(came_by.len());
    for &stage in came_by {
        let let_go = record.left.filter(|(by, _)| *by == stage).and_then(|(_, exit)| left(exit));
        let ended = let_go.is_some();
        let decision = let_go.or_else(|| passed(stage, record, world));
        stages.extend(decision.map(|decision| StageTrace { stage, decision }));
        if ended {
            break;
        }
    }
    // The slow path had no room.
    if let Some((_, exit)) = record.left.filter(|(_, exit)| *exit != record.settled) {
        debug_assert!(exit.why().is_some(), "only a punt is settled otherwise");
        stages.extend(left(record.settled).map(|decision| StageTrace { stage: Stage::Depart, decision }));
    }
    stages
}

fn left(exit: Exit) -> Option<Decision> {
    let dropped = exit.reason().map(|reason| Decision::Dropped { reason: reason.name().to_owned() });
    dropped.or_else(|| exit.why().map(|why| Decision::Punted { why: why.name().to_owned() }))
}

/// What a stage decided about a packet that it did not let go.
fn passed(stage: Stage, record: &Record, world: &World) -> Option<Decision> {
    match stage {
        Stage::Parse => {
            let parsed = record.parsed;
            let fragment = parsed.shape & shape::FRAGMENT != 0;
            let (protocol, transport, length) = (parsed.protocol, parsed.transport, parsed.length);
            Some(Decision::Parsed { protocol, transport, length, fragment })
        }
        Stage::Leaving => Some(Decision::Allowed { host: record.from == Some(0) }),
        Stage::Route => record.routed.map(|routed| Decision::Routed {
            adjacency: routed.number,
            port: label(routed.adjacency.port, world),
            return_entry: routed.by_return,
        }),
        Stage::Rewrite => record.rewritten.map(|rewritten| Decision::Rewritten {
            ttl: rewritten.ttl,
            source_mac: rewritten.source,
            destination_mac: rewritten.destination,
        }),
        Stage::Depart => record.to.map(|port| {
            let (form, frames) = record.form;
            Decision::Sent { port: label(port, world), form, frames }
        }),
    }
}

const TCP_FLAGS: &[(u16, char)] = &[
    (tcp_flag::FIN, 'F'),
    (tcp_flag::SYN, 'S'),
    (tcp_flag::RST, 'R'),
    (tcp_flag::PSH, 'P'),
    (tcp_flag::ACK, '.'),
    (tcp_flag::URG, 'U'),
    (tcp_flag::ECE, 'E'),
    (tcp_flag::CWR, 'W'),
];

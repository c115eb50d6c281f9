//! A record in the words of control.

use std::fmt::Write as _;

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
        bytes: hexadecimal(record.start()),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
    }
    text
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
        let adjacency = record.routed.filter(|_| stage == Stage::Route).map(|routed| routed.number);
        let let_go = record.left.filter(|(by, _)| *by == stage).and_then(|(_, exit)| left(exit, adjacency));
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
        stages.extend(left(record.settled, None).map(|decision| StageTrace { stage: Stage::Depart, decision }));
    }
    stages
}

fn left(exit: Exit, adjacency: Option<u16>) -> Option<Decision> {
    let dropped = exit.reason().map(|reason| Decision::Dropped { reason: reason.name().to_owned(), adjacency });
    dropped.or_else(|| exit.why().map(|why| Decision::Punted { why: why.name().to_owned(), adjacency }))
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
        // What policy allows it says nothing of.
        Stage::Policy => None,
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

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tcp_flags_have_the_letters_of_tcpdump() {
        assert_eq!(letters(tcp_flag::SYN), "S");
        assert_eq!(letters(tcp_flag::SYN | tcp_flag::ACK), "S.");
        assert_eq!(letters(tcp_flag::FIN | tcp_flag::PSH | tcp_flag::ACK), "FP.");
        assert_eq!(letters(0xfff).len(), TCP_FLAGS.len());
    }

    #[test]
    fn headers_are_named_one_by_one() {
        let mut frame = Vec::new();
        let step = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([0xfd; 16], [0xfe; 16], 9);
        step.tcp(43_122, 80, 1, 2).syn().write(&mut frame, &[0; 200]).unwrap();
        let seen = headers(&frame[..128]);
        assert_eq!((seen.source_mac.0, seen.destination_mac.0, seen.ethertype), ([2; 6], [4; 6], 0x86dd));
        assert_eq!((seen.source, seen.destination), (Some([0xfd; 16].into()), Some([0xfe; 16].into())));
        assert_eq!((seen.ttl, seen.protocol, seen.fragment), (Some(9), Some(6), false));
        assert_eq!((seen.source_port, seen.destination_port), (Some(43_122), Some(80)));
        assert_eq!((seen.tcp_flags.as_deref(), seen.icmp, seen.arp_operation), (Some("S"), None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_have_headers_or_none(kind in 0..4_usize, mut frame in prop::collection::vec(any::<u8>(), 0..128)) {
            if let Some(ethertype) = frame.get_mut(12..14) {
                ethertype.copy_from_slice(&[[8, 0], [0x86, 0xdd], [8, 6], [0, 1]][kind]);
            }
            let seen = headers(&frame);
            prop_assert_eq!(seen.source.is_some(), seen.destination.is_some());
            prop_assert!(seen.source.is_none() || seen.ethertype != 0);
        }
    }
}

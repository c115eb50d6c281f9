//! The glance against the stages it spares most frames, and sixteen rows at once against one by one.

use std::sync::Arc;

use etherparse::PacketBuilder;
use packet::{Mac, NO_TAIL, Offload};
use proptest::prelude::*;
use route_table::RouteTable;

use super::*;
use crate::limits::Limits;
use crate::path::{leaving, parse};
use crate::port::{Abilities, MemoryPort, PortCounters};
use crate::remotes::Remotes;
use crate::returns::Returns;

/// A frame on its way in.
#[derive(Clone, Debug)]
struct Came {
    from: u16,
    header: [u8; VNET_HEADER_LEN],
    bytes: Vec<u8>,
}

/// The columns that a glance fills.
#[derive(PartialEq, Debug)]
struct Columns {
    transport: u16,
    protocol: u8,
    shape: u8,
    length: u32,
    to: u128,
}

fn mac(port: u16) -> Mac {
    Mac([2, 0, 0, 0, 0, port as u8])
}

fn v4(port: u16) -> [u8; 4] {
    [10, 0, 0, port as u8]
}

fn v6(port: u16) -> [u8; 16] {
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, port as u8]
}

/// The host port, a pod, one whose stations are checked, and one without IPv6.
fn world(tunnels: &[u16]) -> World {
    let port = |number: u16| Port {
        number,
        name: format!("port-{number}"),
        host: number == 0,
        mac: mac(number),
        gateway: Mac::GATEWAY,
        mtu: 1500,
        sources_v4: vec![u32::from_be_bytes(v4(number))],
        sources_v6: if number == 3 { vec![] } else { vec![u128::from_be_bytes(v6(number))] },
        strict_mac: number == 2,
        abilities: Abilities::ALL,
        limits: Limits::default(),
        link: Link::Memory(MemoryPort::nowhere()),
        steering: None,
        counters: PortCounters::new(1),
    };
    let mut world = World::new(port(0), RouteTable::new().reader());
    (1..4).for_each(|number| world.add(port(number)));
    world.remotes = Arc::new(Remotes::new(vec![], tunnels.to_vec()));
    world
}

/// A frame that is plain, or nearly so.
fn came() -> impl Strategy<Value = Came> {
    let kind = (any::<bool>(), 0u8..4, 0u16..5, 0u16..5, 0usize..120);
    let changes = prop::collection::vec((0usize..72, prop_oneof![any::<u8>(), Just(0), Just(0xff)]), 0..3);
    let beside = (any::<bool>(), prop::option::weighted(0.2, (0usize..VNET_HEADER_LEN, any::<u8>())));
    (kind, changes, beside, any::<bool>(), -4isize..12).prop_map(
        |((is_v6, carried, from, source, payload), changes, (unfinished, flip), mend, longer)| {
            let station = PacketBuilder::ethernet2(mac(from).0, Mac::GATEWAY.0);
            let ip = if is_v6 { station.ipv6(v6(source), v6(9), 64) } else { station.ipv4(v4(source), v4(9), 64) };
            let (mut bytes, payload) = (Vec::new(), vec![7; payload]);
            match carried {
                0 => ip.tcp(9, 80, 1, 1).write(&mut bytes, &payload),
                1 => ip.udp(9, 8472).write(&mut bytes, &payload),
                2 => ip.udp(9, 53).write(&mut bytes, &payload),
                _ => ip.icmpv4_echo_request(1, 1).write(&mut bytes, &payload),
            }
            .unwrap_or_default();
            for (at, byte) in changes {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            if mend && bytes.len() >= 34 && bytes[12] == 8 {
                bytes[24..26].fill(0);
                let sum = checksum::Sum::of(&bytes[14..34]).finish();
                bytes[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            bytes.resize((bytes.len() as isize + longer).max(14) as usize, 0);
            let transport = if is_v6 { 54 } else { 34 };
            let csum_offset = if carried == 0 { 16 } else { 6 };
            let offload = Offload { needs_csum: unfinished, csum_start: transport, csum_offset, ..Offload::default() };
            let mut header = offload.bytes();
            if let Some((at, byte)) = flip {
                header[at] = byte;
            }
            Came { from, header, bytes }
        },
    )
}

/// A lane and a burst with these frames in it.
fn receive(all: &[Came]) -> (Lane, Box<Burst>) {
    let (mut lane, _) = Lane::new(0, Arc::new(Returns::new(16)));
    let mut burst = Burst::new();
    for came in all {
        let head = lane.slots.take_small().unwrap();
        lane.slots.before_mut(head, VNET_HEADER_LEN).copy_from_slice(&came.header);
        lane.slots.head_mut(head, came.bytes.len() as u32).copy_from_slice(&came.bytes);
        burst.push(head, NO_TAIL, came.bytes.len() as u32, came.from);
    }
    (lane, burst)
}

fn columns(burst: &Burst, row: usize) -> Columns {
    let to = if burst.shape[row] & shape::V6 == 0 { burst.to_v4[row].into() } else { burst.to_v6[row] };
    Columns {
        transport: burst.transport[row],
        protocol: burst.protocol[row],
        shape: burst.shape[row],
        length: burst.length[row],
        to,
    }
}

proptest! {
    #[test]
    fn what_passes_is_what_both_stages_let_pass_and_sixteen_rows_pass_as_one_by_one(
        all in prop::collection::vec(came(), 1..60), tunnels in prop_oneof![Just(vec![]), Just(vec![8472, 8285])]
    ) {
        let world = world(&tunnels);
        let ((mut lane, mut burst), (single, mut other)) = (receive(&all), receive(&all));
        let (mut asked, mut step) = receive(&all);
        glance(&mut burst, &world, &mut lane);
        asked.others.count = 0;
        step.rows().for_each(|row| asked.others.add(row, true));
        parse::parse(&mut step, &world, &mut asked);
        leaving::leaving(&mut step, &world, &mut asked);
        let known = Tunnels::of(&tunnels);
        for row in burst.rows() {
            let passes = !lane.others.rows().contains(&(row as u8));
            prop_assert_eq!(passes, one((&mut other, row), (&world, &known), &single.slots), "row {}", row);
            if passes {
                prop_assert!(step.exit[row].is_none());
                prop_assert_eq!(columns(&burst, row), columns(&step, row));
                prop_assert_eq!(columns(&other, row), columns(&step, row));
            } else {
                prop_assert_eq!(burst.length[row] as usize, all[row].bytes.len(), "untouched");
            }
        }
    }
}

#[test]
fn frames_as_most_are_pass() {
    for family in [false, true] {
        let station = PacketBuilder::ethernet2(mac(1).0, Mac::GATEWAY.0);
        let ip = if family { station.ipv6(v6(1), v6(9), 64) } else { station.ipv4(v4(1), v4(9), 64) };
        let mut bytes = Vec::new();
        ip.udp(9, 53).write(&mut bytes, &[0; 20]).unwrap();
        let came = Came { from: 1, header: Offload::default().bytes(), bytes };
        let (mut lane, mut burst) = receive(&vec![came; 37]);
        glance(&mut burst, &world(&[]), &mut lane);
        assert_eq!(lane.others.rows(), [0u8; 0]);
    }
}

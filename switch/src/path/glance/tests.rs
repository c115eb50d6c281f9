//! What the glance lets pass, the stages that ask step by step would let pass with the same columns.

use std::sync::Arc;

use etherparse::PacketBuilder;
use packet::{NO_TAIL, Offload};
use proptest::prelude::*;
use route_table::RouteTable;

use super::*;
use crate::path::{leaving, parse};
use crate::returns::Returns;
use crate::worker::tests::port;

/// A host port, and a pod's.
fn world() -> World {
    let host = port(0, 1).0;
    let mut pod = port(1, 1).0;
    pod.sources_v4 = vec![u32::from_be_bytes(OWN_V4), u32::from_be_bytes([10, 0, 0, 9])];
    pod.sources_v6 = vec![u128::from_be_bytes(OWN_V6)];
    let mut world = World::new(host, RouteTable::new().reader());
    world.add(pod);
    world
}

/// A frame that the glance knows, of either family.
fn plain(v6: bool, tcp: bool, payload: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], packet::Mac::GATEWAY.0);
    let builder = if v6 { builder.ipv6(OWN_V6, [0xfd; 16], 64) } else { builder.ipv4(OWN_V4, [10, 0, 1, 1], 64) };
    let mut frame = Vec::new();
    let payload = vec![0; payload];
    if tcp {
        builder.tcp(1, 2, 3, 4).write(&mut frame, &payload).unwrap();
    } else {
        builder.udp(1, 2).write(&mut frame, &payload).unwrap();
    }
    frame
}

/// Columns of a burst of these frames after parse and leaving, and how many rows the glance knew.
fn columns(world: &World, frames: &[(u16, Offload, Vec<u8>)], at_a_glance: bool) -> (Vec<String>, usize) {
    let (mut lane, _ends) = Lane::new(0, Arc::new(Returns::new(64)));
    let mut burst = Burst::new();
    let landing = lane.slots.take_big().unwrap();
    for (from, offload, frame) in frames {
        let head = lane.slots.take_small().unwrap();
        lane.slots.fill(head, landing, offload, frame);
        burst.push(head, NO_TAIL, frame.len() as u32, *from);
    }
    if at_a_glance {
        glance(&mut burst, world, &mut lane);
    } else {
        lane.others.count = 0;
        (0..frames.len()).for_each(|row| lane.others.add(row, true));
    }
    let known = frames.len() - lane.others.rows().len();
    parse::parse(&mut burst, world, &mut lane);
    leaving::leaving(&mut burst, world, &mut lane);
    let row = |row: usize| {
        let exit = burst.exit[row];
        if !exit.is_none() {
            return format!("{:?} {:?}", exit.reason(), exit.why());
        }
        let v6 = burst.shape[row] & shape::V6 != 0;
        let to = if v6 { format!("{:x}", burst.to_v6[row]) } else { format!("{:x}", burst.to_v4[row]) };
        format!("{} {} {} {} {to}", burst.length[row], burst.transport[row], burst.protocol[row], burst.shape[row])
    };
    ((0..frames.len()).map(row).collect(), known)
}

#[test]
fn plain_frames_are_known_and_nothing_else_is() {
    let world = world();
    let frames: Vec<_> = [(false, false), (false, true), (true, false), (true, true)]
        .into_iter()
        .flat_map(|(v6, tcp)| [0, 1].map(|from| (from, Offload::default(), plain(v6, tcp, 20))))
        .collect();
    assert_eq!(columns(&world, &frames, true).1, frames.len());
    let foreign = |mut frame: Vec<u8>| {
        frame[29] ^= 1;
        vec![(1, Offload::default(), frame)]
    };
    assert_eq!(columns(&world, &foreign(plain(false, false, 20)), true).1, 0);
    assert_eq!(columns(&world, &[(1, Offload::default(), vec![0xff; 60])], true).1, 0);
}

fn any_frame() -> impl Strategy<Value = (u16, Offload, Vec<u8>)> {
    let change = prop::collection::vec((0usize..80, any::<u8>()), 0..3);
    let cut = prop_oneof![4 => Just(0usize), 1 => 0usize..70];
    (0u16..2, any::<bool>(), any::<bool>(), 0usize..40, change, cut).prop_map(
        |(from, v6, tcp, payload, change, cut)| {
            let mut frame = plain(v6, tcp, payload);
            for (at, value) in change {
                let end = frame.len();
                frame[at % end] = value;
            }
            frame.truncate((frame.len() - cut.min(frame.len() - 15)).max(15));
            (from, Offload::default(), frame)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_glance_and_the_stages_agree(frames in prop::collection::vec(any_frame(), 1..40)) {
        let world = world();
        prop_assert_eq!(columns(&world, &frames, true).0, columns(&world, &frames, false).0);
    }
}

const OWN_V4: [u8; 4] = [10, 0, 0, 1];
const OWN_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

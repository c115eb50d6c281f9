//! The scene's tunnels: VXLAN to a hundred nodes over an underlay in memory.

use std::net::{Ipv4Addr, SocketAddr};

use encap::{FLANNEL_VXLAN_PORT, Tunnel, VXLAN_LEN, Vtep, vxlan_header};
use packet::{Mac, Vni, complete_checksum};
use podswitch::port::{Abilities, Link, MemoryTrain, MemoryTrains, Port, Uplink};
use podswitch::remotes::{Remote, Remotes};

use super::{BLOCKS, FRAME_LEN, NEIGHBORS, PODS, Random, UPLINK, in_block, neighbor, port, v4};
use crate::frame;

/// The port towards other nodes, to which trains of so many datagrams come.
pub(super) fn uplink(train: usize) -> Port {
    let mut random = Random(2);
    let trains = (0..TRAINS).map(|at| from_node(at % NEIGHBORS, train, &mut random)).collect();
    let vtep = Tunnel::Vxlan(Vtep::new(Vni::FLANNEL, OWN));
    let uplink = Uplink::in_memory(vtep, &vxlan_header(Vni::FLANNEL), MemoryTrains::new(trains, SENDERS), MTU);
    Port {
        name: "uplink".to_owned(),
        mac: Mac::ZERO,
        gateway: OWN,
        mtu: MTU,
        sources_v4: vec![],
        sources_v6: vec![],
        abilities: Abilities::default(),
        link: Link::Uplink(uplink),
        ..port(UPLINK)
    }
}

/// All nodes.
pub(super) fn remotes() -> Remotes {
    let remote = |number| Some(Remote::new(UPLINK, SocketAddr::new(node(number).into(), FLANNEL_VXLAN_PORT), None));
    Remotes::new((0..NEIGHBORS).map(remote).collect(), vec![FLANNEL_VXLAN_PORT])
}

/// What pods behind a node send to pods here.
fn from_node(number: u16, datagrams: usize, random: &mut Random) -> MemoryTrain {
    let mut bytes = Vec::new();
    for _ in 0..datagrams {
        let block = random.below(u64::from(BLOCKS / NEIGHBORS)) as u16 * NEIGHBORS + number;
        let from = SocketAddr::new(in_block(block, random.below(64) as u16).0.into(), random.below(60_000) as u16);
        let to = SocketAddr::new(v4(random.below(PODS.into()) as u16 + 1).into(), 53);
        let (mut offload, mut inner) = frame::datagram(neighbor(number), [from, to], FRAME_LEN);
        inner[..6].copy_from_slice(&OWN.0);
        complete_checksum(&mut inner, &[], &mut offload).expect("it is said where the checksum is");
        bytes.extend(vxlan_header(Vni::FLANNEL));
        bytes.extend(inner);
    }
    MemoryTrain { from: node(number).into(), segment: VXLAN_LEN + FRAME_LEN, bytes: bytes.into() }
}

fn node(number: u16) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 9, number as u8 + 1)
}

const OWN: Mac = Mac([2, 2, 0, 0, 0, 1]);
const TRAINS: u16 = 300;
const SENDERS: usize = 8;
const MTU: u16 = 1450;

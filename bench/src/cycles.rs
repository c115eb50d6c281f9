//! What the path costs in memory: reference cycles for each 64-byte packet, from a received burst to empty slots.
//!
//! Counted is what the product does with a burst between receiving it and writing it: all stages of [`path::carry`], headers
//! read, checked and rewritten, the route looked up, packets sorted by the port they leave by and joined where they can be,
//! counters, slots given back. Not counted: how frames come into the slots (they are put there before the clock starts, so
//! headers are in cache, as after a read) and the write itself (the ports take everything unread). So no memory is copied
//! and no system call made in what is counted.
//!
//! 250 pods have 40 flows each. A port's frames come four at a time, as a worker takes them where many send; one flow in
//! eight goes to one of 5 000 routed blocks by the host port, the others to pods. Frames are as a pod's kernel sends them, their
//! UDP checksums unfinished.
//!
//! | metric | what |
//! |---|---|
//! | `path_v4_cycles`, `path_v6_cycles` | tables in cache |
//! | `path_v4_cold_cycles`, `path_v6_cold_cycles` | each burst meets tables, ports and counters that have not been touched for long |
//! | `path_v4_policy_cycles` | the first, with rules for every pod that allow everything: each flow is known to the worker's cache |
//! | `encap_cycles` | all flows go to the blocks, which are behind 100 nodes, through VXLAN by 8 sockets in turn of flows; checksums are finished |
//! | `decap_cycles` | the other way: a burst is a train of one of these nodes, for pods here; taking it apart is counted, and so is its copy on arrival |
//!
//! The case says how many packets are a burst.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use packet::view::Family;
use packet::{Burst, Mac, NO_TAIL, Prefix, VNET_HEADER_LEN};
use podswitch::lane::Lane;
use podswitch::path;
use podswitch::port::{Abilities, Budget, Link, MemoryPort, Port, PortCounters};
use podswitch::returns::{RETURNS, Returns};
use podswitch::world::{Adjacency, FIRST_NEIGHBOR, HOST, World, hop_of};
use route_table::{NextHop, RouteTable};

use crate::frame;
use crate::report::{Better, Comparison};
use crate::statistics::Spread;
use crate::tsc;

mod rules;
mod tunnel;

/// Measures so many rounds, each figure once a round.
pub fn run(rounds: usize) -> Vec<Comparison> {
    let mut scenes: Vec<Scene> = SCENES.map(|(_, kind, worlds)| Scene::new(kind, worlds)).into();
    let mut figures = [const { [const { Vec::new() }; SIZES.len()] }; SCENES.len()];
    for _ in 0..rounds {
        for (scene, figures) in scenes.iter_mut().zip(&mut figures) {
            for (size, figures) in SIZES.into_iter().zip(figures) {
                if scene.has(size) {
                    figures.push(scene.cycles_per_packet(size));
                }
            }
        }
    }
    let compare = |(metric, figures): (&'static str, &[Vec<f64>; SIZES.len()])| {
        let by_size = SIZES.into_iter().zip(figures);
        let compare = |(size, figures): (usize, &Vec<f64>)| {
            Comparison::new((metric, Better::Lower), format!("bursts of {size}"), figures, &[])
        };
        by_size.filter_map(compare).collect::<Vec<_>>()
    };
    SCENES.iter().map(|(metric, ..)| *metric).zip(&figures).flat_map(compare).collect()
}

/// What comes, and where it goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// From pod to pod, and some out by the host port.
    Pods(Family),
    /// The same of IPv4, with rules.
    Ruled,
    /// From pods to other nodes.
    Encap,
    /// From other nodes to pods.
    Decap,
}

/// A switch, and the frames that come to it.
struct Scene {
    kind: Kind,
    /// As many switches as are to be met in turn; a burst meets one of them.
    switches: Vec<Switch>,
    lane: Lane,
    burst: Box<Burst>,
    frames: Vec<Frame>,
    /// The next switch and the next frame.
    next: (usize, usize),
    overhead: u64,
}

struct Switch {
    world: World,
    /// Written no more, but read.
    _routes: RouteTable,
}

/// A frame on its way to a slot.
struct Frame {
    from: u16,
    header: [u8; VNET_HEADER_LEN],
    bytes: [u8; FRAME_LEN],
}

impl Scene {
    fn new(kind: Kind, switches: usize) -> Scene {
        let (lane, _) = Lane::new(0, Arc::new(Returns::new(RETURNS)));
        Scene {
            kind,
            switches: (0..switches).map(|_| Switch::new(kind, TRAIN)).collect(),
            lane,
            burst: Burst::new(),
            frames: frames(kind),
            next: (0, 0),
            overhead: tsc::overhead(),
        }
    }

    /// The median of many short rounds.
    fn cycles_per_packet(&mut self, size: usize) -> f64 {
        let bursts = PACKETS_OF_ROUND / size;
        let round = |_| {
            let cycles: u64 = (0..bursts).map(|_| self.carry(size)).sum();
            cycles as f64 / (bursts * size) as f64
        };
        let rounds: Vec<f64> = (0..ROUNDS).map(round).collect();
        Spread::of(&rounds).map_or(0.0, |spread| spread.median)
    }

    /// Whether bursts of that size can be: a train's is its own.
    fn has(&self, size: usize) -> bool {
        self.kind != Kind::Decap || size == TRAIN
    }

    /// The cycles of one burst.
    fn carry(&mut self, size: usize) -> u64 {
        if self.kind == Kind::Decap {
            return self.carry_train();
        }
        let (switch, mut at) = self.next;
        for _ in 0..size {
            self.receive(at);
            at = (at + 1) % self.frames.len();
        }
        self.next = ((switch + 1) % self.switches.len(), at);
        let world = &self.switches[switch].world;
        let began = tsc::now();
        path::carry(&mut self.burst, world, &mut self.lane);
        (tsc::now() - began).saturating_sub(self.overhead)
    }

    /// The same of a train.
    fn carry_train(&mut self) -> u64 {
        let world = &self.switches[0].world;
        let uplink = world.port(UPLINK).expect("this switch has an uplink");
        let budget = Budget { frames: 1, bytes: usize::MAX };
        let began = tsc::now();
        uplink.receive(0, &mut self.burst, (world, &mut self.lane), budget);
        path::carry(&mut self.burst, world, &mut self.lane);
        (tsc::now() - began).saturating_sub(self.overhead)
    }

    fn receive(&mut self, at: usize) {
        let (slots, frame) = (&mut self.lane.slots, &self.frames[at]);
        let head = slots.take_small().expect("a lane has slots for a burst");
        slots.before_mut(head, VNET_HEADER_LEN).copy_from_slice(&frame.header);
        slots.head_mut(head, FRAME_LEN as u32).copy_from_slice(&frame.bytes);
        self.burst.push(head, NO_TAIL, FRAME_LEN as u32, frame.from);
    }
}

impl Switch {
    fn new(kind: Kind, train: usize) -> Switch {
        let mut routes = RouteTable::new();
        let mut world = World::new(port(0), routes.reader());
        let mut route = |prefix, hop| _ = routes.insert(prefix, hop).expect("the table has room for all of them");
        for number in 1..=PODS {
            world.add(port(number));
            route(Prefix::host(v4(number).into()), hop_of(number));
            route(Prefix::host(v6(number).into()), hop_of(number));
        }
        let tunnels = matches!(kind, Kind::Encap | Kind::Decap);
        if tunnels {
            world.add(tunnel::uplink(train));
            world.remotes = Arc::new(tunnel::remotes());
        }
        let way = if tunnels { hop_of(UPLINK) } else { HOST };
        for number in 0..NEIGHBORS {
            let remote = if tunnels { number + 1 } else { 0 };
            let way = Adjacency { remote, ..*world.adjacency(way.0) };
            world.set_adjacencies([(hop_of_neighbor(number), way.between(neighbor(number), way.source()))]);
        }
        for block in 0..BLOCKS {
            let hop = hop_of_neighbor(block % NEIGHBORS);
            let (v4, v6) = in_block(block, 0);
            route(prefix(v4.into(), 26), hop);
            route(prefix(v6.into(), 122), hop);
        }
        if kind == Kind::Ruled {
            world.enforcement = Some(Arc::new(rules::enforcement()));
        }
        Switch { world, _routes: routes }
    }
}

fn port(number: u16) -> Port {
    Port {
        number,
        name: format!("port-{number}"),
        host: number == 0,
        mac: mac(number),
        gateway: Mac::GATEWAY,
        mtu: 1500,
        sources_v4: vec![v4(number).into()],
        sources_v6: vec![v6(number).into()],
        strict_mac: false,
        abilities: Abilities::ALL,
        link: Link::Memory(MemoryPort::nowhere()),
        steering: None,
        limits: Default::default(),
        counters: PortCounters::new(2),
    }
}

/// All flows' frames in the order they come: four of a port, then of another.
fn frames(kind: Kind) -> Vec<Frame> {
    let (family, others) = match kind {
        Kind::Pods(family) => (family, 8),
        Kind::Ruled => (Family::V4, 8),
        Kind::Encap | Kind::Decap => (Family::V4, 1),
    };
    let mut random = Random(1);
    let mut frames = Vec::with_capacity(FLOWS);
    let mut ports: Vec<u16> = (1..=PODS).collect();
    while frames.len() < FLOWS {
        random.shuffle(&mut ports);
        for &from in &ports {
            for _ in 0..RUN {
                let to = if random.below(others) == 0 {
                    in_block(random.below(BLOCKS.into()) as u16, random.below(64) as u16)
                } else {
                    let to = random.below(u64::from(PODS) - 1) as u16 + 1;
                    let to = to + u16::from(to >= from);
                    (v4(to), v6(to))
                };
                frames.push(frame(family, from, to, frames.len() as u16));
            }
        }
    }
    frames
}

fn frame(family: Family, from: u16, (to_v4, to_v6): (Ipv4Addr, Ipv6Addr), source_port: u16) -> Frame {
    let (source, destination): (IpAddr, IpAddr) = match family {
        Family::V4 => (v4(from).into(), to_v4.into()),
        Family::V6 => (v6(from).into(), to_v6.into()),
    };
    let ends = [SocketAddr::new(source, source_port), SocketAddr::new(destination, 53)];
    let (offload, bytes) = frame::datagram(mac(from), ends, FRAME_LEN);
    Frame { from, header: offload.bytes(), bytes: bytes.try_into().expect("it is as long as was asked for") }
}

/// The station of another node.
fn neighbor(number: u16) -> Mac {
    Mac([2, 1, 0, 0, 0, number as u8])
}

fn mac(port: u16) -> Mac {
    Mac([2, 0, 0, 0, 0, port as u8])
}

fn v4(port: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 1, port as u8)
}

fn v6(port: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 1, port)
}

/// An address of another node's pod.
fn in_block(block: u16, address: u16) -> (Ipv4Addr, Ipv6Addr) {
    let host = u32::from(block) << 6 | u32::from(address);
    let v4 = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 100, 0, 0)) + host);
    (v4, Ipv6Addr::from_bits(u128::from(Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 0)) + u128::from(host)))
}

fn prefix(address: IpAddr, length: u8) -> Prefix {
    format!("{address}/{length}").parse().expect("a block has no host bits set")
}

fn hop_of_neighbor(number: u16) -> NextHop {
    NextHop(FIRST_NEIGHBOR as u16 + number)
}

/// The same numbers in every run (Marsaglia, Xorshift RNGs, 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) % bound
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// Metric, what comes, and how many switches are met in turn.
const SCENES: [(&str, Kind, usize); 7] = [
    ("path_v4_cycles", Kind::Pods(Family::V4), 1),
    ("path_v6_cycles", Kind::Pods(Family::V6), 1),
    ("path_v4_cold_cycles", Kind::Pods(Family::V4), COLD),
    ("path_v6_cold_cycles", Kind::Pods(Family::V6), COLD),
    ("path_v4_policy_cycles", Kind::Ruled, 1),
    ("encap_cycles", Kind::Encap, 1),
    ("decap_cycles", Kind::Decap, 1),
];
/// Packets of a burst.
const SIZES: [usize; 3] = [32, 64, 256];
/// So many switches do not fit the caches of one core together.
const COLD: usize = 24;
const PODS: u16 = 250;
/// The number of the port towards other nodes.
const UPLINK: u16 = PODS + 1;
/// Datagrams of a train that comes.
const TRAIN: usize = 64;
const FLOWS: usize = 10_000;
/// Frames that come from one port together.
const RUN: usize = 4;
/// Prefixes behind other nodes, of 64 addresses each, and those nodes.
const BLOCKS: u16 = 5_000;
const NEIGHBORS: u16 = 100;
const FRAME_LEN: usize = 64;
/// A short round is rarely interrupted, and the median passes over those that were.
const PACKETS_OF_ROUND: usize = 10_240;
const ROUNDS: usize = 41;

#[cfg(test)]
mod tests {
    use super::*;
    use podswitch::port::Count;

    #[test]
    fn every_packet_departs() {
        for (_, kind, _) in SCENES {
            let mut scene = Scene::new(kind, 1);
            let sizes: Vec<usize> = SIZES.into_iter().filter(|size| scene.has(*size)).collect();
            sizes.iter().for_each(|size| _ = scene.carry(*size));
            let sent: u64 =
                scene.switches[0].world.ports.iter().flatten().map(|port| port.counters.get(Count::Sent)).sum();
            assert_eq!(sent as usize, sizes.iter().sum::<usize>());
        }
    }
}

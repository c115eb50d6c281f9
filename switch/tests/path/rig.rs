//! A whole switch but for threads and TAPs: a host port and pods on wires in memory, driven turn by turn.
//!
//! After every turn conservation is asserted: what came in is what went out, was dropped or was punted, and every slot
//! is free again. Time stands still unless a test moves it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use packet::view::Family;
use packet::{Burst, Mac, Offload, Prefix, Punt, Reason, VNET_HEADER_LEN};
use podswitch::config::{Node, Underlay};
use podswitch::engine::slow_side::SlowSide;
use podswitch::lane::{Lane, SlowEnds};
use podswitch::limits::Limits;
use podswitch::path;
use podswitch::pipeline::{self, Deciding, Departing, Receiving};
use podswitch::port::{Abilities, Budget, Count, Link, Port, PortCounters, Uplink, Wire};
use podswitch::remotes::{Remote, Remotes};
use podswitch::returns::{RETURNS, Returns};
use podswitch::tracer::{Record, Trace};
use podswitch::world::{Adjacency, FIRST_NEIGHBOR, Hop, World, fixed_routes, hop_of};
use ring::Publisher;
use route_table::{NextHop, RouteTable};

use crate::frames::{ACK, Packet, Tcp, Transport};

/// What is at the other end of a port.
#[derive(Clone, Copy)]
pub(crate) struct Station {
    pub(crate) mtu: u16,
    pub(crate) abilities: Abilities,
    pub(crate) strict_mac: bool,
}

/// A pod whose kernel takes super-frames and unfinished checksums.
pub(crate) const ABLE: Station = Station { mtu: 1500, abilities: Abilities::ALL, strict_mac: false };
/// A pod that takes finished frames within its MTU and nothing else.
pub(crate) const PLAIN: Station =
    Station { abilities: Abilities { checksum: false, tso4: false, tso6: false, uso: false }, ..ABLE };

/// The host port's number.
pub(crate) const HOST: u16 = 0;
pub(crate) const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
pub(crate) const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 1);

/// Ethernet address of the station behind a port.
pub(crate) fn mac(port: u16) -> Mac {
    Mac([2, 0, 0, 0, 0, port as u8])
}

/// IPv4 address of the pod behind a port.
pub(crate) fn v4(port: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 1, port as u8)
}

/// IPv6 address of the pod behind a port.
pub(crate) fn v6(port: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 1, port)
}

/// A datagram from the pod behind one port to that behind another, as its kernel sends it.
pub(crate) fn udp(family: Family, from: u16, to: u16, payload: usize) -> Packet {
    Packet {
        macs: (mac(from), Mac::GATEWAY),
        addresses: match family {
            Family::V4 => (v4(from).into(), v4(to).into()),
            Family::V6 => (v6(from).into(), v6(to).into()),
        },
        ttl: 64,
        id: if family == Family::V4 { 0xfffe } else { 0 },
        dont_fragment: false,
        transport: Transport::Udp(4000, 53),
        payload: (0..payload).map(|place| (place + place / 251) as u8).collect(),
    }
}

/// A TCP segment, otherwise the same.
pub(crate) fn tcp(family: Family, from: u16, to: u16, payload: usize) -> Packet {
    let tcp = Tcp { ports: (40_000, 80), sequence: 0xffff_ff00, acknowledgment: 77, window: 1000, flags: ACK };
    Packet { transport: Transport::Tcp(tcp), ..udp(family, from, to, payload) }
}

/// What the receiver of `packet`, behind the port `from`, says to it.
pub(crate) fn reply(packet: &Packet, from: u16) -> Packet {
    let transport = match packet.transport {
        Transport::Udp(source, destination) => Transport::Udp(destination, source),
        Transport::Tcp(tcp) => Transport::Tcp(Tcp { ports: (tcp.ports.1, tcp.ports.0), ..tcp }),
        Transport::Icmp(8, code, word) => Transport::Icmp(0, code, word),
        Transport::Icmp(128, code, word) => Transport::Icmp(129, code, word),
        other => other,
    };
    let addresses = (packet.addresses.1, packet.addresses.0);
    Packet { macs: (mac(from), Mac::GATEWAY), addresses, ttl: 64, transport, ..packet.clone() }
}

/// A switch in memory.
pub(crate) struct Rig {
    pub(crate) world: World,
    pub(crate) lane: Lane,
    /// The slow path's clock.
    pub(crate) now: Duration,
    burst: Box<Burst>,
    routes: RouteTable,
    slow: SlowSide,
    ends: SlowEnds,
    wires: Vec<Wire>,
    slots: (usize, usize),
    dropped_before: Vec<(Reason, u64)>,
}

impl Rig {
    /// A switch with an able host port and `pods` behind the ports from 1 on.
    pub(crate) fn new(pods: &[Station]) -> Rig {
        let node = Node {
            pod_ranges: vec!["10.244.0.0/16".parse().unwrap(), "fd00:10:244::/64".parse().unwrap()],
            router_addresses: vec![ROUTER_V4.into(), ROUTER_V6.into()],
            mtu: "1500".parse().unwrap(),
            host_port: "podswitch0".parse().unwrap(),
            underlay: Underlay::default(),
        };
        let mut routes = RouteTable::new();
        for (prefix, hop) in fixed_routes(&node) {
            routes.insert(prefix, hop).unwrap();
        }
        let (host, wire) = port(HOST, ABLE);
        let (mut world, mut wires) = (World::new(host, routes.reader()), vec![wire]);
        for (number, &pod) in (1..).zip(pods) {
            let (port, wire) = port(number, pod);
            world.add(port);
            wires.push(wire);
            for address in [IpAddr::V4(v4(number)), IpAddr::V6(v6(number))] {
                routes.insert(Prefix::host(address), hop_of(number)).unwrap();
            }
        }
        let (lane, ends) = Lane::new(0, Arc::new(Returns::new(RETURNS)));
        let (now, burst, slow, slots) = (Duration::ZERO, Burst::new(), SlowSide::new(&node), lane.slots.free());
        Rig { world, lane, now, burst, routes, slow, ends, wires, slots, dropped_before: Vec::new() }
    }

    /// Has another worker carry what follows, with a lane of its own and the same return entries.
    pub(crate) fn change_worker(&mut self) {
        let now_seconds = self.lane.now_seconds;
        (self.lane, self.ends) = Lane::new(1, Arc::clone(&self.lane.returns));
        self.lane.now_seconds = now_seconds;
    }

    /// Has the stages of a pipeline carry what follows, in the worlds of a publisher; the rig's own turns carry nothing more.
    pub(crate) fn pipeline(&mut self) -> (Publisher<World>, (Receiving, Deciding, Departing)) {
        let mut worlds = Publisher::new(self.world.clone());
        let (stages, [.., ends]) = pipeline::pipeline(Arc::clone(&self.lane.returns), || worlds.reader());
        self.ends = ends;
        (worlds, stages)
    }

    /// Adds or changes a route.
    pub(crate) fn route(&mut self, prefix: &str, hop: NextHop) {
        self.routes.insert(prefix.parse().unwrap(), hop).unwrap();
    }

    /// Opens the end of a tunnel whose station is `mac`, and makes the node at `remote` known, which has `prefixes`.
    pub(crate) fn tunnel(&mut self, (uplink, own): (Uplink, Mac), (remote, mac): (SocketAddr, Mac), prefixes: &[&str]) {
        let abilities = Abilities::default();
        let link = Link::Uplink(uplink);
        let (sources_v4, sources_v6) = (Vec::new(), Vec::new());
        let (plain, _) = port(UPLINK, PLAIN);
        self.world.add(Port { gateway: own, mac: Mac::ZERO, link, abilities, sources_v4, sources_v6, ..plain });
        let there = Adjacency { port: UPLINK, mtu: TUNNEL_MTU, remote: 1, ..Adjacency::of(Hop::Forward) };
        let there = there.between(mac, own);
        self.world.set_adjacencies([(NextHop(FIRST_NEIGHBOR as u16), there)]);
        self.world.remotes = Arc::new(Remotes::new(vec![Some(Remote::new(UPLINK, remote, None))], vec![remote.port()]));
        prefixes.iter().for_each(|prefix| self.route(prefix, NextHop(FIRST_NEIGHBOR as u16)));
    }

    /// Puts a frame on the wire towards a port.
    pub(crate) fn send(&mut self, port: u16, offload: &Offload, frame: &[u8]) {
        assert!(self.send_raw(port, &offload.bytes(), frame), "the wire of port {port} is full");
    }

    /// The same with any virtio header; false when the wire is full.
    pub(crate) fn send_raw(&self, port: u16, header: &[u8; VNET_HEADER_LEN], frame: &[u8]) -> bool {
        self.wires[usize::from(port)].send(header, frame)
    }

    /// One turn: a burst from every port, carried; the slow path's answers, departed. False when nothing came in.
    pub(crate) fn turn(&mut self) -> bool {
        let received = self.path_turn();
        self.serve();
        path::carry(&mut self.burst, &self.world, &mut self.lane);
        self.assert_conservation();
        received
    }

    /// The worker's half of a turn alone: punts stay in their mailbox.
    pub(crate) fn path_turn(&mut self) -> bool {
        for port in self.world.ports.iter().flatten() {
            port.receive(0, &mut self.burst, (&self.world, &mut self.lane), BUDGET);
        }
        let received = self.burst.len > 0;
        path::carry(&mut self.burst, &self.world, &mut self.lane);
        received
    }

    /// The slow path's half: answers go to their mailbox.
    pub(crate) fn serve(&mut self) {
        self.slow.serve(&mut self.ends, &self.world, self.now);
    }

    /// Has packets traced.
    pub(crate) fn trace(&mut self, port: Option<u16>, filter: Option<&str>, dropped: bool) {
        let filter = filter.map(|filter| filter.parse().unwrap());
        self.world.trace = Some(Arc::new(Trace { port, filter, dropped, began: Instant::now() }));
    }

    /// The next packet that was traced.
    pub(crate) fn traced(&mut self) -> Option<Record> {
        self.ends.traced.pop()
    }

    /// Turns until the wires have nothing more to give.
    pub(crate) fn settle(&mut self) {
        while self.turn() {}
    }

    /// Sends complete frames by one port and settles.
    pub(crate) fn pass(&mut self, port: u16, packets: &[Packet]) {
        for packet in packets {
            self.send(port, &Offload::default(), &packet.frame());
        }
        self.settle();
    }

    /// Calls `with` on every frame that left by a port since the last call.
    pub(crate) fn drain(&mut self, port: u16, mut with: impl FnMut(Offload, &[u8])) {
        while self.wires[usize::from(port)].receive(&mut with).is_some() {}
    }

    /// The frames that left by a port.
    pub(crate) fn take_frames(&mut self, port: u16) -> Vec<(Offload, Vec<u8>)> {
        let mut frames = Vec::new();
        self.drain(port, |offload, frame| frames.push((offload, frame.to_vec())));
        frames
    }

    /// The packets that left by a port, every checksum verified.
    pub(crate) fn take(&mut self, port: u16) -> Vec<Packet> {
        self.take_frames(port).iter().map(|(offload, frame)| Packet::read(offload, frame)).collect()
    }

    /// True when nothing left by any port since it was last looked at.
    pub(crate) fn is_silent(&mut self) -> bool {
        (0..self.wires.len() as u16).all(|port| self.take_frames(port).is_empty())
    }

    pub(crate) fn count(&self, port: u16, what: Count) -> u64 {
        self.port(port).counters.get(what)
    }

    /// The drops of packets that entered by a port, those that happened.
    pub(crate) fn dropped(&self, port: u16) -> Vec<(Reason, u64)> {
        let counted = Reason::ALL.iter().map(|&reason| (reason, self.port(port).counters.dropped(reason)));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// The same since it was last asked.
    pub(crate) fn dropped_now(&mut self, port: u16) -> Vec<(Reason, u64)> {
        let all = self.dropped(port);
        let before = std::mem::replace(&mut self.dropped_before, all.clone());
        let seen = |reason| before.iter().find(|(one, _)| *one == reason).map_or(0, |(_, count)| *count);
        all.into_iter().map(|(reason, count)| (reason, count - seen(reason))).filter(|(_, count)| *count > 0).collect()
    }

    /// The punts of packets that entered by a port, those that happened.
    pub(crate) fn punted(&self, port: u16) -> Vec<(Punt, u64)> {
        let counted = Punt::ALL.iter().map(|&why| (why, self.port(port).counters.punted(why)));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    fn port(&self, number: u16) -> &Port {
        self.world.port(number).expect("a port of the rig")
    }

    pub(crate) fn assert_conservation(&self) {
        let (mut entered, mut left) = (0, 0);
        for port in self.world.ports.iter().flatten() {
            let counters = &port.counters;
            entered += counters.get(Count::Received) + counters.get(Count::Answered);
            left += counters.get(Count::Sent)
                + Reason::ALL.iter().map(|&reason| counters.dropped(reason)).sum::<u64>()
                + Punt::ALL.iter().map(|&why| counters.punted(why)).sum::<u64>();
        }
        assert_eq!(entered, left, "packets in, packets out");
        let (small, big) = self.lane.slots.free();
        assert_eq!((small, big + usize::from(self.lane.spare.is_some())), self.slots, "slots free");
    }
}

pub(crate) fn port(number: u16, station: Station) -> (Port, Wire) {
    let (memory, wire) = Wire::new(WIRE_FRAMES);
    let host = number == HOST;
    let port = Port {
        number,
        name: format!("port-{number}"),
        host,
        mac: mac(number),
        gateway: Mac::GATEWAY,
        mtu: station.mtu,
        sources_v4: if host { vec![] } else { vec![v4(number).into()] },
        sources_v6: if host { vec![] } else { vec![v6(number).into()] },
        strict_mac: station.strict_mac,
        abilities: station.abilities,
        link: Link::Memory(memory),
        steering: None,
        limits: Limits::default(),
        counters: PortCounters::new(2),
    };
    (port, wire)
}

/// The number of the end of a tunnel.
pub(crate) const UPLINK: u16 = 9;
/// Longest packet through it.
pub(crate) const TUNNEL_MTU: u16 = 1450;
/// Frames under way on one wire.
pub(crate) const WIRE_FRAMES: usize = 512;
/// What a port may give per turn.
pub(crate) const BUDGET: Budget = Budget { frames: 64, bytes: 256 * 1024 };

//! Two TCP hosts (smoltcp) that talk through the switch over bad lines, on a simulated clock.
//!
//! ```text
//!   host 1 --line--> [ port 1  switch  port 2 ] --line--> host 2        both ways; frames get lost, late and overtaken
//! ```
//!
//! The hosts know nothing but their addresses: ARP and neighbour discovery of the gateway are the switch's. A host on
//! an able port hands its bursts over as super-frames and takes super-frames, as a kernel with TSO does.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use packet::view::Family;
use packet::{Offload, Reason};
use podswitch::port::{Abilities, Count};
use podswitch::state::{GATEWAY_V4, GATEWAY_V6};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr};

use crate::frames::{ACK, PSH, Packet, Tcp, Transport};
use crate::random::Random;
use crate::rig::{ABLE, PLAIN, Rig, Station, mac, v4, v6};

/// Bytes each host sends.
const BYTES: usize = 2 << 20;
const PORT: u16 = 80;
const BUFFER: usize = 64 * 1024;
/// Simulated time after which a transfer is taken for stuck.
const PATIENCE: Instant = Instant::from_micros_const(600_000_000);

/// How the streams crossed the switch, both ports together.
struct Crossed {
    joined: u64,
    cut: u64,
    bytes_per_packet: u64,
}

#[test]
fn plain_hosts_exchange_a_stream() {
    for family in [Family::V4, Family::V6] {
        let crossed = exchange(family, [PLAIN, PLAIN]);
        assert_eq!((crossed.joined, crossed.cut), (0, 0));
    }
}

#[test]
fn able_hosts_exchange_a_stream_in_super_frames() {
    for family in [Family::V4, Family::V6] {
        let crossed = exchange(family, [ABLE, ABLE]);
        assert!(crossed.cut == 0 && crossed.bytes_per_packet > 3000, "{} bytes each", crossed.bytes_per_packet);
    }
}

#[test]
fn an_able_and_a_plain_host_exchange_a_stream() {
    for family in [Family::V4, Family::V6] {
        let crossed = exchange(family, [ABLE, PLAIN]);
        assert!(crossed.joined > 10 && crossed.cut > 10, "{} joined, {} cut", crossed.joined, crossed.cut);
    }
}

/// Both hosts send and receive a stream; every byte must arrive as it was sent.
fn exchange(family: Family, stations: [Station; 2]) -> Crossed {
    let mut rig = Rig::new(&stations);
    let mut hosts = [1, 2].map(|port| Host::new(family, port, stations[usize::from(port) - 1]));
    let mut up = [3, 5].map(Line::new);
    let mut down = [7, 11].map(Line::new);
    let server = if family == Family::V4 { IpAddr::V4(v4(2)) } else { IpAddr::V6(v6(2)) };
    hosts[1].socket().listen(PORT).unwrap();
    hosts[0].connect(server);
    let mut now = Instant::ZERO;
    while hosts.iter().any(|host| host.received < BYTES) {
        assert!(now < PATIENCE, "{} and {} bytes arrived", hosts[0].received, hosts[1].received);
        rig.now = Duration::from_micros(now.total_micros() as u64);
        for (place, host) in hosts.iter_mut().enumerate() {
            host.card.arrived.extend(down[place].due(now).map(|(_, frame)| frame));
            host.run(now);
            host.departing().into_iter().for_each(|frame| up[place].put(now, frame));
        }
        for (port, line) in (1..).zip(&mut up) {
            line.due(now).for_each(|(offload, frame)| rig.send(port, &offload, &frame));
        }
        rig.settle();
        for (port, line) in (1..).zip(&mut down) {
            rig.drain(port, |offload, frame| {
                if frame[12..14] != [8, 6] {
                    Packet::read(&offload, frame);
                }
                line.put(now, (offload, frame.to_vec()));
            });
        }
        let due =
            up.iter().chain(&down).filter_map(Line::next).chain(hosts.iter_mut().filter_map(|host| host.next(now)));
        now = due.min().unwrap_or(PATIENCE).max(now + smoltcp::time::Duration::from_micros(1));
    }
    let of_all = |count: fn(&Line) -> u64| up.iter().chain(&down).map(count).sum::<u64>();
    assert!(of_all(|line| line.lost) > 0 && of_all(|line| line.overtaken) > 0, "the lines were bad");
    assert_eq!(rig.dropped(1).into_iter().chain(rig.dropped(2)).collect::<Vec<(Reason, u64)>>(), []);
    let both = |what| rig.count(1, what) + rig.count(2, what);
    let bytes_per_packet = both(Count::SentBytes) / both(Count::Sent);
    Crossed { joined: both(Count::Joined), cut: both(Count::Cut), bytes_per_packet }
}

/// One direction of a line.
struct Line {
    random: Random,
    under_way: BTreeMap<(Instant, u64), (Offload, Vec<u8>)>,
    count: u64,
    lost: u64,
    overtaken: u64,
}

impl Line {
    fn new(seed: u64) -> Line {
        Line { random: Random::new(seed), under_way: BTreeMap::new(), count: 0, lost: 0, overtaken: 0 }
    }

    /// Loses one frame of a hundred; of the others some take longer than those behind them.
    fn put(&mut self, now: Instant, frame: (Offload, Vec<u8>)) {
        self.count += 1;
        let (lost, late) = (self.random.once_in(100), self.random.once_in(50));
        self.lost += u64::from(lost);
        self.overtaken += u64::from(late && !lost);
        let micros = if late { 200 + self.random.below(800) as u64 } else { 200 };
        if !lost {
            self.under_way.insert((now + smoltcp::time::Duration::from_micros(micros), self.count), frame);
        }
    }

    fn due(&mut self, now: Instant) -> impl Iterator<Item = (Offload, Vec<u8>)> + use<> {
        let later = self.under_way.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.under_way, later).into_values()
    }

    fn next(&self) -> Option<Instant> {
        self.under_way.first_key_value().map(|((due, _), _)| *due)
    }
}

/// A host that sends one stream and receives another.
struct Host {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    card: Card,
    stream: Vec<u8>,
    sent: usize,
    expected: Vec<u8>,
    received: usize,
}

impl Host {
    fn new(family: Family, port: u16, station: Station) -> Host {
        let mut card = Card { arrived: VecDeque::new(), sent: Vec::new(), able: station.abilities == Abilities::ALL };
        let mut config = Config::new(EthernetAddress(mac(port).0).into());
        config.random_seed = u64::from(port);
        let mut interface = Interface::new(config, &mut card, Instant::ZERO);
        let address = match family {
            // smoltcp believes ARP replies of its own network only: it asks for its peer, and the switch answers.
            Family::V4 => IpCidr::new(v4(port).into(), 24),
            Family::V6 => IpCidr::new(v6(port).into(), 128),
        };
        interface.update_ip_addrs(|addresses| addresses.push(address).expect("room for one address"));
        interface.routes_mut().add_default_ipv4_route(GATEWAY_V4).expect("room for two routes");
        interface.routes_mut().add_default_ipv6_route(GATEWAY_V6).expect("room for two routes");
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
        let stream = |port| Random::new(u64::from(port)).bytes(BYTES);
        Host {
            interface,
            sockets,
            handle,
            card,
            stream: stream(port),
            sent: 0,
            expected: stream(3 - port),
            received: 0,
        }
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn connect(&mut self, server: IpAddr) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        socket.connect(self.interface.context(), (server, PORT), 49_152).expect("a fresh socket connects");
    }

    /// Takes what arrived, and sends what there is room for.
    fn run(&mut self, now: Instant) {
        self.interface.poll(now, &mut self.card, &mut self.sockets);
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        while socket.can_recv() {
            let (expected, received) = (&self.expected, self.received);
            self.received += socket
                .recv(|bytes| {
                    assert_eq!(*bytes, expected[received..received + bytes.len()]);
                    (bytes.len(), bytes.len())
                })
                .expect("the socket said that it can");
        }
        if socket.can_send() {
            self.sent += socket.send_slice(&self.stream[self.sent..]).expect("the socket said that it can");
        }
        self.interface.poll(now, &mut self.card, &mut self.sockets);
    }

    fn next(&mut self, now: Instant) -> Option<Instant> {
        self.interface.poll_at(now, &self.sockets)
    }

    /// What was sent since the last call; an able host's bursts as super-frames.
    fn departing(&mut self) -> Vec<(Offload, Vec<u8>)> {
        let mut departing: Vec<Departing> = Vec::new();
        for frame in self.card.sent.drain(..) {
            match segment(&frame).filter(|_| self.card.able) {
                Some(segment) => match departing.last_mut() {
                    Some(Departing::Segments(whole, size)) if follows(whole, *size, &segment) => {
                        whole.payload.extend(segment.payload);
                    }
                    _ => departing.push(Departing::Segments(segment.clone(), segment.payload.len())),
                },
                None => departing.push(Departing::Frame(frame)),
            }
        }
        departing.into_iter().map(Departing::frame).collect()
    }
}

/// A frame, or segments that follow one another and the payload length of all but the last.
enum Departing {
    Frame(Vec<u8>),
    Segments(Packet, usize),
}

impl Departing {
    fn frame(self) -> (Offload, Vec<u8>) {
        match self {
            Departing::Frame(frame) => (Offload::default(), frame),
            Departing::Segments(whole, size) if whole.payload.len() > size => whole.super_frame(size as u16),
            Departing::Segments(whole, _) => whole.unfinished(),
        }
    }
}

/// A TCP segment that carries data and nothing special.
fn segment(frame: &[u8]) -> Option<Packet> {
    if frame[12..14] == [8, 6] {
        return None;
    }
    let packet = Packet::read(&Offload::default(), frame);
    let plain = matches!(packet.transport, Transport::Tcp(Tcp { flags, .. }) if flags & !PSH == ACK);
    let without_options = plain && frame[packet.transport_start() + 12] >> 4 == 5;
    Some(packet).filter(|packet| without_options && !packet.payload.is_empty())
}

/// True when `segment` continues `whole`, whose segments are `size` long.
fn follows(whole: &Packet, size: usize, segment: &Packet) -> bool {
    let (Transport::Tcp(before), Transport::Tcp(after)) = (whole.transport, segment.transport) else { return false };
    let sequence = before.sequence.wrapping_add(whole.payload.len() as u32);
    after == Tcp { sequence, flags: after.flags, ..before }
        && before.flags & PSH == 0
        && after.flags & PSH == 0
        && whole.payload.len().is_multiple_of(size)
        && segment.payload.len() <= size
        && whole.payload.len() + segment.payload.len() < 65_000
}

/// A host's network card.
struct Card {
    arrived: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    able: bool,
}

impl Device for Card {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Room<'_>)> {
        Some((Arrived(self.arrived.pop_front()?), Room(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room<'_>> {
        Some(Room(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        if self.able {
            // What arrives may be unfinished.
            capabilities.checksum.tcp = Checksum::Tx;
        }
        capabilities
    }
}

struct Arrived(Vec<u8>);

impl smoltcp::phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

struct Room<'a>(&'a mut Vec<Vec<u8>>);

impl smoltcp::phy::TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.push(frame);
        result
    }
}

//! A peer of flannel's UDP backend, as its proxy behaves: a datagram at port 8285 is the inner IPv4 packet and nothing else.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use control::{Backend, ChangeNeighbors, Neighbor, Origin};
use etherparse::{Icmpv4Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice, icmpv4};
use host::TemporaryNamespace;

use crate::nodes::WIRE;
use crate::rig::{Pod, Rig, call, link, must, namespace, subnets};
use crate::traffic::{receive, udp, waiting};

#[test]
fn datagrams_are_bare_packets_both_ways_and_whole_to_the_last_byte() {
    let peer = Peer::new();
    let at_pod = udp(&peer.pod, peer.pod.v4(), PORT);
    for length in [0, 1, 700, MTU - 28] {
        let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
        at_pod.send_to(&payload, (REMOTE, PORT)).unwrap();
        let (heard, from) = receive(&peer.proxy);
        assert_eq!(from, (OURS, PROXY_PORT).into());
        assert_eq!(heard.len(), 28 + length);
        let seen = SlicedPacket::from_ip(&heard).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &seen.net else { panic!("{heard:02x?}") };
        let header = ip.header().to_header();
        assert_eq!((IpAddr::from(header.source), IpAddr::from(header.destination)), (peer.pod.v4(), REMOTE.into()));
        assert_eq!((header.time_to_live, usize::from(header.total_len)), (63, heard.len()), "one hop, no more");
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        let Some(TransportSlice::Udp(udp)) = seen.transport else { panic!("{heard:02x?}") };
        assert_eq!(udp.payload(), payload);
        assert_eq!(udp.to_header().calc_checksum_ipv4(&header, &payload).unwrap(), udp.checksum(), "finished");

        // Back, from its own port and, as behind a proxy of other make, from any.
        for sender in [&peer.proxy, &peer.elsewhere] {
            sender.send_to(&peer.packet(17, &payload), (OURS, PROXY_PORT)).unwrap();
            let (heard, from) = receive(&at_pod);
            assert!(heard == payload && from == (REMOTE, PORT).into());
        }
    }
    peer.ours.settled();
}

#[test]
fn each_node_is_one_hop_and_the_last_one_says_so() {
    let peer = Peer::new();
    // Out: at our node, and with the hop that is left at theirs.
    call(&peer.pod, &format!("ping -n -c 1 -W 2 -t 1 {REMOTE}")).has("From 169.254.1.1").has("Time to live exceeded");
    assert_eq!(waiting(&peer.proxy), 0);
    let at_pod = udp(&peer.pod, peer.pod.v4(), PORT);
    at_pod.set_ttl(2).unwrap();
    at_pod.send_to(b"far", (REMOTE, PORT)).unwrap();
    assert_eq!(receive(&peer.proxy).0[8], 1);
    // In: two are enough for one hop, one is not.
    peer.proxy.send_to(&peer.packet(2, b"near"), (OURS, PROXY_PORT)).unwrap();
    assert_eq!(receive(&at_pod).0, b"near");
    let expired = peer.packet(1, b"gone");
    peer.proxy.send_to(&expired, (OURS, PROXY_PORT)).unwrap();
    let (answer, _) = receive(&peer.proxy);
    let seen = SlicedPacket::from_ip(&answer).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &seen.net else { panic!("{answer:02x?}") };
    assert_eq!((ip.header().source_addr(), ip.header().destination_addr()), (ROUTER, REMOTE));
    let Some(TransportSlice::Icmpv4(icmp)) = seen.transport else { panic!("{answer:02x?}") };
    let exceeded = Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit);
    assert!(icmp.icmp_type() == exceeded && icmp.payload().starts_with(&expired[..28]), "{answer:02x?}");
    assert_eq!(peer.ours.settled().punted["ttl_exceeded"], 2);
}

#[test]
fn what_is_longer_than_the_pods_packets_is_dropped_and_not_cut_short() {
    let peer = Peer::new();
    let at_pod = udp(&peer.pod, peer.pod.v4(), PORT);
    peer.proxy.send_to(&peer.packet(17, &[7; 8000]), (OURS, PROXY_PORT)).unwrap();
    peer.proxy.send_to(&peer.packet(17, b"behind it"), (OURS, PROXY_PORT)).unwrap();
    assert_eq!(receive(&at_pod).0, b"behind it");
    let drops = peer.ours.settled();
    assert_eq!(drops.dropped["uncuttable"], 1, "{drops:?}");
}

#[test]
fn what_is_no_packet_of_the_peers_is_dropped_for_its_reason() {
    let peer = Peer::new();
    let at_pod = udp(&peer.pod, peer.pod.v4(), PORT);
    let packet = peer.packet(17, b"payload");
    let changed = |at: usize, byte: u8| {
        let mut packet = packet.clone();
        packet[at] = byte;
        packet
    };
    for (datagram, reason) in [
        (packet[..19].to_vec(), "truncated"),
        (packet[..packet.len() - 1].to_vec(), "bad_ip_length"),
        (changed(0, 0x65), "bad_ip_header"),
        (changed(0, 0x44), "bad_ip_header"),
        (changed(8, 0x44), "bad_ip_checksum"),
        (packet_of(Ipv4Addr::new(10, 244, 3, 2), (17, b"another's")), "foreign_source"),
    ] {
        let before = peer.dropped(reason);
        peer.proxy.send_to(&datagram, (OURS, PROXY_PORT)).unwrap();
        peer.proxy.send_to(&packet, (OURS, PROXY_PORT)).unwrap();
        assert_eq!(receive(&at_pod).0, b"payload");
        assert_eq!(peer.dropped(reason), before + 1, "{reason}");
    }
    let stranger = peer.namespace.run(|| UdpSocket::bind((STRANGER, PROXY_PORT))).unwrap().unwrap();
    stranger.send_to(&packet, (OURS, PROXY_PORT)).unwrap();
    peer.proxy.send_to(&packet, (OURS, PROXY_PORT)).unwrap();
    assert_eq!(receive(&at_pod).0, b"payload");
    assert_eq!((peer.dropped("foreign_source"), waiting(&at_pod)), (2, 0));
    // A pod's own packet of that kind would be believed elsewhere.
    at_pod.send_to(&packet, ("10.244.1.9", PROXY_PORT)).unwrap();
    at_pod.send_to(b"plain", (REMOTE, PORT)).unwrap();
    assert_eq!(receive(&peer.proxy).0[28..], *b"plain");
    assert_eq!(peer.dropped("nested_tunnel"), 1);
}

/// Our node with a pod, and the sockets of another node in whose place the test is.
struct Peer {
    ours: Rig,
    pod: Pod,
    namespace: TemporaryNamespace,
    /// At the port that is meant for receiving.
    proxy: UdpSocket,
    elsewhere: UdpSocket,
}

impl Peer {
    fn new() -> Peer {
        let mut ours = Rig::stopped_at(1, &format!("underlay_address = [\"{OURS}\"]\ntunnels = [\"udp\"]"));
        let there = namespace("psw-flannel");
        link([(&ours.node, "up0", WIRE[0]), (&there, "up0", WIRE[1])]);
        must(&there, &format!("ip address add {STRANGER}/24 dev up0"));
        ours.start();
        let subnet = subnets(2)[0];
        let add = vec![Neighbor { subnet, via: THEIRS.into(), backend: Backend::Udp, mac: None, origin: Origin::Cli }];
        ours.client().change_neighbors(ChangeNeighbors { add, ..Default::default() }).unwrap();
        let [proxy, elsewhere] = [PROXY_PORT, 0].map(|port| udp(&there, THEIRS.into(), port));
        let pod = ours.pod(2);
        Peer { ours, pod, namespace: there, proxy, elsewhere }
    }

    /// A datagram to the pod with so many hops left.
    fn packet(&self, ttl: u8, payload: &[u8]) -> Vec<u8> {
        packet_of(REMOTE, (ttl, payload))
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.ours.settled().dropped.get(reason).copied().unwrap_or_default()
    }
}

fn packet_of(source: Ipv4Addr, (ttl, payload): (u8, &[u8])) -> Vec<u8> {
    let builder = PacketBuilder::ipv4(source.octets(), [10, 244, 1, 2], ttl).udp(PORT, PORT);
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).unwrap();
    packet
}

/// The nodes on the wire, and an address there that is no node's.
const OURS: Ipv4Addr = Ipv4Addr::new(192, 168, 9, 1);
const THEIRS: Ipv4Addr = Ipv4Addr::new(192, 168, 9, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 168, 9, 7);
/// Our switch as a router.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);
/// A pod behind the peer.
const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 2);
/// flannel's.
const PROXY_PORT: u16 = 8285;
/// Of the pods.
const PORT: u16 = 45_007;
/// Longest inner packet.
const MTU: usize = 1472;

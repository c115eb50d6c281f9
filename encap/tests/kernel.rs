//! The kernel as the other end: it sends what we stamp, byte for byte, takes what we stamp, and refuses what we refuse.
//! Needs root; each test works in namespaces of its own.
//!
//! The underlay is a TAP, so that the test reads what the kernel sends, writes what it receives, and is the remote
//! node:
//!
//! ```text
//!  UDP socket -- tunnel0: the kernel's VTEP -- underlay: TAP -- the test
//! ```

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use encap::{
    Ends, FLANNEL_UDP_PORT, FLANNEL_VXLAN_PORT, Outer, ROOM, SOURCE_PORTS, Stamp, Template, Tunnel, VXLAN_LEN,
    VXLAN_PORT, Vtep,
};
use etherparse::{IpHeaders, PacketBuilder, UdpHeader};
use host::{Abilities, Tap, TapOptions, TemporaryNamespace};
use packet::view::{ETHERNET_LEN, Ipv4, UDP_LEN};
use packet::{ChecksumFound, FrameRef, Gso, Mac, Offload, Reason, Vni, complete_checksum};
use socket2::{Domain, Protocol, Socket, Type};

#[test]
fn the_kernel_sends_what_we_stamp() {
    for flavour in FLAVOURS {
        let node = Node::new(flavour);
        let template = flavour.template(&KERNEL, &REMOTE);
        // TOS 0x2a: some DSCP, and ECT(0), which goes outside too.
        for (tos, length) in [(0, 11), (0x2a, 1300), (0, 0)] {
            let sent = node.send(tos, &vec![7; length]);
            let (headers, inner) = sent.split_at(template.header_len());
            let id = if flavour.v6 { 0 } else { Ipv4::parse(&headers[ETHERNET_LEN..]).unwrap().id() };
            let mut ours = stamped(&template, inner, tos, id);
            // Both choose the port as they like, within the range.
            let udp = headers.len() - VXLAN_LEN - UDP_LEN;
            assert!(SOURCE_PORTS.contains(&u16::from_be_bytes([sent[udp], sent[udp + 1]])));
            ours[udp..udp + 2].copy_from_slice(&sent[udp..udp + 2]);
            finish(&mut ours);
            assert_eq!(ours, sent, "{flavour:?}\nours   {ours:02x?}\nkernel {sent:02x?}");
        }
    }
}

#[test]
fn the_kernel_takes_what_we_stamp_and_refuses_what_we_refuse() {
    for flavour in FLAVOURS {
        let node = Node::new(flavour);
        for (change, reason) in CHANGES {
            let changed = flavour.frame(b"changed", change);
            assert_eq!(flavour.strip(&KERNEL, &changed).err(), reason, "{flavour:?}");
            // The good frame behind it tells that it was not taken.
            node.receive(&changed);
            node.receive(&flavour.frame(b"good", |_, _| {}));
            if reason.is_none() {
                assert_eq!(node.taken(), b"changed", "{flavour:?}");
            }
            assert_eq!(node.taken(), b"good", "{flavour:?}, {reason:?}");
        }
    }
}

#[test]
fn a_udp_checksum_of_zero_is_taken_over_ipv4_and_refused_over_ipv6() {
    for flavour in FLAVOURS {
        let node = Node::new(flavour);
        let mut bare = flavour.frame(b"bare", |_, _| {});
        let field = flavour.template(&REMOTE, &KERNEL).header_len() - VXLAN_LEN - 2;
        bare[field..field + 2].fill(0);
        let expected = flavour.v6.then_some(Reason::NoOuterChecksum);
        assert_eq!(flavour.strip(&KERNEL, &bare).err(), expected);
        node.receive(&bare);
        node.receive(&flavour.frame(b"good", |_, _| {}));
        assert_eq!(node.taken(), if flavour.v6 { &b"good"[..] } else { b"bare" });
    }
}

/// Where the uplink is a socket the kernel writes the outer headers; for the receiver it must make no difference.
#[test]
fn sockets_send_what_we_stamp_for_flannel_s_udp_and_ip_in_ip() {
    let node = Node::new(FLAVOURS[0]);
    let inner = &FLAVOURS[0].inner(b"raw")[ETHERNET_LEN..];
    let to = |port: u16| SocketAddr::from((REMOTE.v4, port));
    let udp = node.namespace.run(|| UdpSocket::bind((KERNEL.v4, FLANNEL_UDP_PORT))).unwrap().unwrap();
    let raw = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(4)));
    let raw = node.namespace.run(raw).unwrap().unwrap();

    udp.send_to(inner, to(FLANNEL_UDP_PORT)).unwrap();
    let sent = node.sent(|frame| frame[23] == 17 && frame[36..38] == FLANNEL_UDP_PORT.to_be_bytes());
    let template = Template::flannel_udp(&ends(&KERNEL, &REMOTE), FLANNEL_UDP_PORT);
    let template = template.with_dont_fragment().with_udp_checksum();
    let mut ours = stamped(&template, inner, 0, Ipv4::parse(&sent[14..]).unwrap().id());
    ours[34..36].copy_from_slice(&FLANNEL_UDP_PORT.to_be_bytes());
    finish(&mut ours);
    assert_eq!(ours, sent, "\nours   {ours:02x?}\nkernel {sent:02x?}");

    raw.send_to(inner, &to(0).into()).unwrap();
    let sent = node.sent(|frame| frame[23] == 4);
    let template = Template::ipip(&ends(&KERNEL, &REMOTE)).with_dont_fragment();
    let ours = stamped(&template, inner, 0, Ipv4::parse(&sent[14..]).unwrap().id());
    assert_eq!(ours, sent, "\nours   {ours:02x?}\nkernel {sent:02x?}");

    node.receive(&stamped(&Template::ipip(&ends(&REMOTE, &KERNEL)), inner, 0, 1));
    let mut received = [0; 200];
    raw.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = (&raw).read(&mut received).unwrap();
    let packet = FrameRef { head: &received[..length], tail: &[] };
    let outer = Outer::ipip(packet, KERNEL.v4).unwrap();
    let found = Tunnel::Ipv4.strip(outer.payload).unwrap();
    assert_eq!(&outer.payload.head[found.at], inner);
}

/// Between namespaces a kernel hands over checksums it has not finished, and super-frames it has not cut; our end is a
/// UDP socket here, which is told nothing of either.
#[test]
fn unfinished_and_uncut_frames_of_a_kernel_beside_us_are_known_for_what_they_are() {
    let (node, here) = (namespace(), namespace());
    ip(&format!("link add eth0 netns {} type veth peer name eth0 netns {}", node.name(), here.name()));
    ip(&format!("-n {} address add {}/24 dev eth0", here.name(), REMOTE.v4));
    ip(&format!("-n {} link set eth0 up", here.name()));
    let flavour = FLAVOURS[0];
    ip(&format!("-n {} address add {}/24 dev eth0", node.name(), KERNEL.v4));
    ip(&format!("-n {} link set eth0 up", node.name()));
    flavour.make_vtep(&node, "eth0");
    let pod = node.run(|| Tap::open(&TapOptions::new("pod")).unwrap()).unwrap();
    ip(&format!("-n {} address add 10.244.1.1/24 dev pod", node.name()));
    ip(&format!("-n {} link set pod up", node.name()));
    assert!(pod.abilities() == Abilities::ALL, "{:?}", pod.abilities());
    let forwarding = host::Sysctl::net(&["ipv4", "ip_forward"]).unwrap();
    node.run(|| forwarding.write(1)).unwrap().unwrap();
    let socket = here.run(|| UdpSocket::bind((REMOTE.v4, flavour.port))).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();

    let headers = |macs: (Mac, Mac)| PacketBuilder::ethernet2(macs.0.0, macs.1.0);
    let addresses = (POD.octets(), REMOTE.inside.octets());
    let macs = (Mac([2, 0, 0, 0, 0, 9]), pod.mac().unwrap());
    let (mut datagram, mut stream) = (Vec::new(), Vec::new());
    headers(macs).ipv4(addresses.0, addresses.1, 64).udp(5, 6).write(&mut datagram, b"unfinished").unwrap();
    let tcp = headers(macs).ipv4(addresses.0, addresses.1, 64).tcp(5, 6, 1000, 500).ack(7);
    tcp.write(&mut stream, &vec![9; 40_000]).unwrap();
    let partial = |csum_offset: u16| Offload { needs_csum: true, csum_start: 34, csum_offset, ..Offload::default() };
    let unfinished = Offload { header_len: 42, ..partial(6) };
    let uncut = Offload { header_len: 54, gso: Gso::Tcp4, gso_size: MTU - 40, ..partial(16) };

    for (frame, offload) in [(datagram, unfinished), (stream, uncut)] {
        let field = 34 + usize::from(offload.csum_offset);
        let bare = Ipv4::parse(&frame[14..]).unwrap();
        let bare = bare.pseudo(bare.protocol(), (frame.len() - 34) as u16).fold();
        let mut unsummed = frame.clone();
        unsummed[field..field + 2].copy_from_slice(&bare.to_be_bytes());
        pod.queues()[0].try_clone().unwrap().write_all(&[&offload.bytes()[..], &unsummed].concat()).unwrap();

        let mut received = vec![0; 65_536];
        let length = socket.recv(&mut received).expect("a datagram of the kernel's VTEP");
        let found = flavour.tunnel(&REMOTE).strip(FrameRef { head: &received[..length], tail: &[] }).unwrap();
        assert!(!found.group);
        let inner = FrameRef { head: &received[found.at.clone()], tail: &[] };
        assert_eq!(ChecksumFound::of(inner), Some(ChecksumFound::Unfinished));
        assert_eq!(Offload::of_bare(inner, MTU, None), Ok(offload));

        let mut inner = inner.head.to_vec();
        complete_checksum(&mut inner, &[], &mut Offload { gso: Gso::None, ..offload }).unwrap();
        assert_eq!(inner[34..], frame[34..], "finished, it is what etherparse wrote");
    }
}

/// Changes a frame whose VXLAN header starts at the place given.
type Change = fn(&mut Vec<u8>, usize);

const CHANGES: [(Change, Option<Reason>); 13] = [
    (|_, _| {}, None),
    (|frame, _| frame.extend([0; 9]), None),
    (|frame, at| frame[at] = 0, Some(Reason::NoVni)),
    (|frame, at| frame[at] = 0x88, Some(Reason::GroupPolicy)),
    (|frame, at| frame[at] = 0x0c, Some(Reason::ReservedBits)),
    (|frame, at| frame[at + 2] = 1, Some(Reason::ReservedBits)),
    (|frame, at| frame[at + 7] = 1, Some(Reason::ReservedBits)),
    (|frame, at| frame[at + 6] ^= 2, Some(Reason::UnknownVni)),
    (|frame, at| frame[at + 4] = 1, Some(Reason::UnknownVni)),
    (|frame, at| frame[at + 13] ^= 1, Some(Reason::OtherStation)),
    (|frame, at| frame[at + 14..at + 20].copy_from_slice(&KERNEL.vtep.0), Some(Reason::OwnMac)),
    (|frame, at| frame[at + 14..at + 20].fill(0), None),
    (|frame, at| frame[at + 14..at + 20].fill(0x66), None),
];

/// A VXLAN as some project makes it, over one family of the underlay.
#[derive(Clone, Copy, Debug)]
struct Flavour {
    vni: Vni,
    port: u16,
    v6: bool,
    /// A UDP checksum over IPv4 too.
    checksum: bool,
}

const FLAVOURS: [Flavour; 4] = [
    Flavour { vni: Vni::FLANNEL, port: FLANNEL_VXLAN_PORT, v6: false, checksum: false },
    Flavour { vni: Vni::CALICO, port: VXLAN_PORT, v6: false, checksum: true },
    Flavour { vni: Vni::FLANNEL, port: FLANNEL_VXLAN_PORT, v6: true, checksum: true },
    Flavour { vni: Vni::CALICO, port: VXLAN_PORT, v6: true, checksum: true },
];

impl Flavour {
    fn template(&self, from: &Side, to: &Side) -> Template {
        let (local_mac, remote_mac) = (from.station, to.station);
        if self.v6 {
            return Template::vxlan_v6(
                &Ends { local: from.v6, remote: to.v6, local_mac, remote_mac },
                self.vni,
                self.port,
            );
        }
        let template = Template::vxlan_v4(&ends(from, to), self.vni, self.port);
        if self.checksum { template.with_udp_checksum() } else { template }
    }

    fn tunnel(&self, end: &Side) -> Tunnel {
        Tunnel::Vxlan(Vtep::new(self.vni, end.vtep))
    }

    /// The inner frame of a frame of the underlay that comes to `end`.
    fn strip(&self, end: &Side, frame: &[u8]) -> Result<Vec<u8>, Reason> {
        let address = if self.v6 { end.v6.into() } else { end.v4.into() };
        let packet = FrameRef { head: &frame[ETHERNET_LEN..], tail: &[] };
        let outer = Outer::udp(packet, SocketAddr::new(address, self.port), false)?;
        let inner = self.tunnel(end).strip(outer.payload)?;
        Ok(outer.payload.head[inner.at].to_vec())
    }

    /// A datagram from the remote pod to the kernel's socket.
    fn inner(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let ethernet = PacketBuilder::ethernet2(REMOTE.vtep.0, KERNEL.vtep.0);
        let ip = ethernet.ipv4(REMOTE.inside.octets(), KERNEL.inside.octets(), 63);
        ip.udp(9, SOCKET_PORT).write(&mut frame, payload).unwrap();
        frame
    }

    /// The same wrapped for the kernel, but for a change that no checksum tells of.
    fn frame(&self, payload: &[u8], change: Change) -> Vec<u8> {
        let template = self.template(&REMOTE, &KERNEL);
        let mut inner = stamped(&template, &self.inner(payload), 0, 1);
        change(&mut inner, template.header_len() - VXLAN_LEN);
        finish(&mut inner);
        inner
    }

    /// What a node agent programs: the device, and of the remote node its address, station and subnet.
    fn make_vtep(&self, node: &TemporaryNamespace, underlay: &str) {
        let (local, remote) = match self.v6 {
            true => (KERNEL.v6.to_string(), REMOTE.v6.to_string()),
            false => (KERNEL.v4.to_string(), REMOTE.v4.to_string()),
        };
        let (name, vni, port) = (node.name(), self.vni, self.port);
        let udp = format!(
            "id {vni} dev {underlay} local {local} dstport {port} nolearning {}udpcsum",
            if self.checksum { "" } else { "no" }
        );
        ip(&format!("-n {name} link add tunnel0 address {} mtu {MTU} type vxlan {udp}", KERNEL.vtep));
        ip(&format!("-n {name} link set tunnel0 up"));
        ip(&format!("-n {name} address add {}/32 dev tunnel0", KERNEL.inside));
        ip(&format!("-n {name} neighbor add {BASE} lladdr {} dev tunnel0 nud permanent", REMOTE.vtep));
        ip(&format!("-n {name} route add {SUBNET} via {BASE} dev tunnel0 onlink"));
        let entry = format!("-n {name} fdb add {} dev tunnel0 dst {remote} self permanent", REMOTE.vtep);
        call("bridge", &entry);
    }
}

/// A node whose kernel is one side; the other is the test.
struct Node {
    namespace: TemporaryNamespace,
    underlay: Tap,
    socket: UdpSocket,
}

impl Node {
    fn new(flavour: Flavour) -> Node {
        let namespace = namespace();
        let options = TapOptions { vnet_header: false, ..TapOptions::new("underlay") };
        let underlay = namespace.run(|| Tap::open(&options).unwrap()).unwrap();
        let name = namespace.name();
        ip(&format!("-n {name} link set underlay address {} up", KERNEL.station));
        ip(&format!("-n {name} address add {}/24 dev underlay", KERNEL.v4));
        ip(&format!("-n {name} address add {}/64 dev underlay nodad", KERNEL.v6));
        for remote in [REMOTE.v4.to_string(), REMOTE.v6.to_string()] {
            ip(&format!("-n {name} neighbor add {remote} lladdr {} dev underlay nud permanent", REMOTE.station));
        }
        flavour.make_vtep(&namespace, "underlay");
        let socket = namespace.run(|| UdpSocket::bind((KERNEL.inside, SOCKET_PORT))).unwrap().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Node { namespace, underlay, socket }
    }

    fn queue(&self) -> &File {
        &self.underlay.queues()[0]
    }

    /// Has the kernel send a datagram to the remote pod; the frame it is wrapped in.
    fn send(&self, tos: u8, payload: &[u8]) -> Vec<u8> {
        socket2::SockRef::from(&self.socket).set_tos_v4(tos.into()).unwrap();
        self.socket.send_to(payload, (REMOTE.inside, 9)).unwrap();
        self.sent(|frame| frame.ends_with(payload) && frame.windows(4).any(|bytes| bytes == REMOTE.inside.octets()))
    }

    /// The next frame of the kernel's that is `wanted`; others are its own business (neighbours, multicast).
    fn sent(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let (mut bytes, end) = (vec![0; 65_536], Instant::now() + PATIENCE);
        while Instant::now() < end {
            match self.queue().read(&mut bytes) {
                Ok(length) if wanted(&bytes[..length]) => return bytes[..length].to_vec(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
                read => drop(read.unwrap()),
            }
        }
        panic!("the kernel sent nothing of what was wanted");
    }

    /// Gives the kernel a frame from the underlay.
    fn receive(&self, frame: &[u8]) {
        self.queue().write_all(frame).unwrap();
    }

    /// The next datagram that came out of the tunnel.
    #[track_caller]
    fn taken(&self) -> Vec<u8> {
        let mut bytes = vec![0; 2000];
        let length = self.socket.recv(&mut bytes).expect("the kernel should have taken a frame");
        bytes.truncate(length);
        bytes
    }
}

/// One end of the tunnel, outside and inside.
struct Side {
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    station: Mac,
    vtep: Mac,
    inside: Ipv4Addr,
}

const KERNEL: Side = Side {
    v4: Ipv4Addr::new(192, 0, 2, 1),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    station: Mac([2, 0, 0, 0, 1, 1]),
    vtep: Mac([2, 0, 0, 0, 2, 1]),
    inside: Ipv4Addr::new(10, 244, 1, 0),
};
const REMOTE: Side = Side {
    v4: Ipv4Addr::new(192, 0, 2, 2),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
    station: Mac([2, 0, 0, 0, 1, 2]),
    vtep: Mac([2, 0, 0, 0, 2, 2]),
    inside: Ipv4Addr::new(10, 244, 2, 3),
};
/// A pod of the kernel's node.
const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
/// The remote node's base address and subnet.
const BASE: &str = "10.244.2.0";
const SUBNET: &str = "10.244.2.0/24";
const SOCKET_PORT: u16 = 7000;
const MTU: u16 = 1430;
/// No answer takes longer; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

fn ends(from: &Side, to: &Side) -> Ends<Ipv4Addr> {
    Ends { local: from.v4, remote: to.v4, local_mac: from.station, remote_mac: to.station }
}

fn stamped(template: &Template, inner: &[u8], tos: u8, id: u16) -> Vec<u8> {
    let mut room = [0; ROOM];
    let stamp = Stamp { length: inner.len(), flow_hash: 1 << 31, tos, id };
    let count = template.stamp(&mut room, &stamp).unwrap();
    [&room[ROOM - count..], inner].concat()
}

/// Has etherparse finish the outer UDP checksum of a frame that is to have one.
fn finish(frame: &mut [u8]) {
    let (ip, rest) = IpHeaders::from_slice(&frame[ETHERNET_LEN..]).unwrap();
    let (udp, payload) = UdpHeader::from_slice(rest.payload).unwrap();
    let checksum = match &ip {
        IpHeaders::Ipv4(..) if udp.checksum == 0 => 0,
        IpHeaders::Ipv4(ip, _) => udp.calc_checksum_ipv4(ip, payload).unwrap(),
        IpHeaders::Ipv6(ip, _) => udp.calc_checksum_ipv6(ip, payload).unwrap(),
    };
    let field = ETHERNET_LEN + ip.header_len() + 6;
    frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
}

fn namespace() -> TemporaryNamespace {
    TemporaryNamespace::new("encap").unwrap_or_else(|error| panic!("this test needs root: {error}"))
}

fn ip(arguments: &str) {
    call("ip", arguments);
}

#[track_caller]
fn call(program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let output = output.unwrap_or_else(|error| panic!("{program}, of the Debian package iproute2: {error}"));
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

//! A node beside ours that the kernel alone makes, as flannel's VXLAN backend and Calico's program it.
//!
//! ```text
//!  [pod eth0]--cni0--VTEP--up0 ========= up0--[podswitch run]--[TAP pod]        10.244.2.2, fd00:10:244:2::2 | 10.244.1.2, ...
//! ```
//!
//! The VTEP has the subnet's own address; the other node is a permanent neighbour with an onlink route and an entry that says at
//! which node its MAC is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use control::{Attach, Backend, ChangeNeighbors, Neighbor, Origin, PortKind, PortView};
use host::{Namespace, TemporaryNamespace};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use nix::unistd::Pid;
use packet::Mac;
use tempfile::TempDir;

use crate::nodes::WIRE;
use crate::rig::{Pod, Rig, link, must, namespace, ping, subnets, until};
use crate::traffic::{MIB, connect, exchange, listen, receive, transfer, udp};

#[test]
fn flannels_node_is_a_neighbour() {
    Flavour { vni: 1, port: 8472, underlay: 4 }.is_a_neighbour();
}

#[test]
fn flannels_node_is_a_neighbour_over_ipv6() {
    Flavour { vni: 1, port: 8472, underlay: 6 }.is_a_neighbour();
}

#[test]
fn calicos_node_is_a_neighbour() {
    Flavour { vni: 4096, port: 4789, underlay: 4 }.is_a_neighbour();
}

#[test]
fn calicos_node_is_a_neighbour_over_ipv6() {
    Flavour { vni: 4096, port: 4789, underlay: 6 }.is_a_neighbour();
}

#[test]
fn a_stream_that_the_kernel_leaves_uncut_is_taken_uncut() {
    let (nodes, ends) = Flavour::FLANNEL.nodes();
    for (from, to) in ends.theirs.into_iter().zip(ends.pod.addresses()) {
        let before = nodes.uplink();
        let listener = listen(&ends.pod, to, PORT);
        assert!(from.is_ipv4() == to.is_ipv4());
        transfer(&connect(&ends.their_pod, (to, PORT).into(), &listener), 8 * MIB, || {});
        let after = nodes.uplink();
        let frames = after.received.frames - before.received.frames;
        let bytes = after.received.bytes - before.received.bytes;
        assert!(bytes > 3 * 1450 * frames, "{bytes} bytes in {frames} frames over {to}");
    }
    nodes.ours.settled();
}

#[test]
fn datagrams_that_the_kernel_leaves_uncut_arrive_as_what_they_stand_for() {
    let (nodes, ends) = Flavour::FLANNEL.nodes();
    for (source, destination) in ends.theirs.into_iter().zip(ends.pod.addresses()) {
        let (sender, receiver) = (udp(&ends.their_pod, source, PORT), udp(&ends.pod, destination, PORT));
        for (length, segment) in [(20_500, 1000), (600, 200)] {
            setsockopt(&sender, UdpGsoSegment, &(segment as i32)).unwrap();
            let sent = pattern(length);
            sender.send_to(&sent, (destination, PORT)).unwrap();
            for segment in sent.chunks(segment) {
                assert!(receive(&receiver).0 == segment);
            }
        }
    }
    nodes.ours.settled();
}

/// How long the sender's segments were nobody tells the switch; they fit already.
#[test]
fn a_stream_that_the_kernel_leaves_uncut_reaches_a_pod_of_a_smaller_mtu() {
    let (nodes, ends) = Flavour::FLANNEL.nodes();
    let small = Pod::at(1, 3);
    let mtu = Some(1400.try_into().unwrap());
    nodes.ours.client().attach(Attach { mtu, ..small.attach() }).unwrap();
    for (theirs, own) in ends.theirs.into_iter().zip(small.addresses()) {
        let listener = listen(&small, own, PORT);
        exchange(&connect(&ends.their_pod, (own, PORT).into(), &listener), 2 * MIB);
        let listener = listen(&ends.their_pod, theirs, PORT);
        exchange(&connect(&small, (theirs, PORT).into(), &listener), 2 * MIB);
    }
    nodes.ours.settled();
}

/// What a cluster's nodes agree on.
#[derive(Clone, Copy)]
struct Flavour {
    vni: u32,
    port: u16,
    /// 4 or 6: the family of the nodes' addresses.
    underlay: u8,
}

/// Both nodes.
struct Nodes {
    ours: Rig,
    theirs: TemporaryNamespace,
}

/// The pods behind them, and the addresses of the one behind the kernel.
struct Ends {
    pod: Pod,
    their_pod: TemporaryNamespace,
    theirs: [IpAddr; 2],
}

impl Flavour {
    const FLANNEL: Flavour = Flavour { vni: 1, port: 8472, underlay: 4 };

    /// Between namespaces, where nothing is cut and no checksum finished, and on a wire that has every frame as it is on a cable.
    fn is_a_neighbour(self) {
        let (nodes, ends) = self.nodes();
        nodes.reach_all(&ends);
        ends.exchange_streams(4 * MIB);
        ends.exchange_datagrams();
        for node in [&*nodes.ours.node, &nodes.theirs] {
            must(node, &format!("ethtool -K up0 {}", OFFLOADS.map(|feature| format!("{feature} off")).join(" ")));
        }
        let capture = Capture::start(&nodes.theirs, &format!("udp dst port {}", self.port));
        nodes.reach_all(&ends);
        ends.exchange_streams(MIB / 4);
        ends.exchange_datagrams();
        ends.send_mark();
        capture.ends_sound(self.port);
        for pod in [&*ends.pod, &ends.their_pod] {
            let faults = checksum_faults(pod);
            assert!(faults.values().all(|count| *count == 0), "{faults:?}");
        }
        let reasons: BTreeSet<String> = nodes.ours.settled().dropped.into_keys().collect();
        let silent = ["igmp", "mld", "router_solicitation"].map(String::from);
        assert!(reasons.is_subset(&silent.into()), "{reasons:?}");
    }

    fn nodes(self) -> (Nodes, Ends) {
        let own = WIRE.map(|end| end[usize::from(self.underlay == 6)].split('/').next().unwrap());
        let configuration =
            format!("underlay_address = [\"{}\"]\nvxlan_vni = {}\nvxlan_port = {}", own[0], self.vni, self.port);
        let mut ours = Rig::stopped_at(1, &configuration);
        let theirs = namespace("psw-flannel");
        link([(&ours.node, "up0", WIRE[0]), (&theirs, "up0", WIRE[1])]);
        ours.start();
        let vtep_mac = ours.client().config().unwrap().vtep_mac.unwrap();
        let (their_pod, mac) = self.program(&theirs, own, vtep_mac);
        let via = own[1].parse().unwrap();
        let neighbor = |subnet| Neighbor { subnet, via, backend: Backend::Vxlan, mac: Some(mac), origin: Origin::Cli };
        let add = subnets(2).map(neighbor).to_vec();
        ours.client().change_neighbors(ChangeNeighbors { add, ..Default::default() }).unwrap();
        let ends = Ends { pod: ours.pod(2), their_pod, theirs: ["10.244.2.2", "fd00:10:244:2::2"].map(address) };
        (Nodes { ours, theirs }, ends)
    }

    /// Makes the kernel's node and its pod; `own` are our address and its, `ours` is our VTEP's MAC.
    fn program(self, node: &Namespace, own: [&str; 2], ours: Mac) -> (TemporaryNamespace, Mac) {
        let Flavour { vni, port, underlay } = self;
        let mtu = 1500 - if underlay == 4 { 50 } else { 70 };
        let pod = namespace("psw-kernel-pod");
        for line in [
            "sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
            &format!("ip link add vtep type vxlan id {vni} dev up0 local {} dstport {port} nolearning", own[1]),
            "sysctl -q -w net.ipv6.conf.vtep.accept_dad=0",
            &format!("ip link set vtep mtu {mtu} up"),
            "ip address add 10.244.2.0/32 dev vtep",
            "ip address add fd00:10:244:2::/128 dev vtep nodad",
            &format!("ip link add cni0 mtu {mtu} type bridge"),
            "sysctl -q -w net.ipv6.conf.cni0.accept_dad=0",
            "ip address add 10.244.2.1/24 dev cni0",
            "ip address add fd00:10:244:2::1/64 dev cni0 nodad",
            "ip link set cni0 up",
            &format!("ip link add v0 mtu {mtu} type veth peer name eth0 mtu {mtu} netns {}", pod.name()),
            "ip link set v0 master cni0 up",
            &format!("ip neighbor replace 10.244.1.0 lladdr {ours} dev vtep nud permanent"),
            &format!("ip neighbor replace fd00:10:244:1:: lladdr {ours} dev vtep nud permanent"),
            &format!("bridge fdb replace {ours} dev vtep dst {} self permanent", own[0]),
            "ip route replace 10.244.1.0/24 via 10.244.1.0 dev vtep onlink",
            "ip route replace fd00:10:244:1::/64 via fd00:10:244:1:: dev vtep onlink",
        ] {
            must(node, line);
        }
        for line in [
            "sysctl -q -w net.ipv6.conf.eth0.accept_dad=0",
            "ip address add 10.244.2.2/24 dev eth0",
            "ip address add fd00:10:244:2::2/64 dev eth0 nodad",
            "ip link set eth0 up",
            "ip route add default via 10.244.2.1",
            "ip route add default via fd00:10:244:2::1",
        ] {
            must(&pod, line);
        }
        let mac = host::Netlink::open_in(node).unwrap().link("vtep").unwrap().mac;
        (pod, mac)
    }
}

impl Nodes {
    /// Pods and nodes, all to all; nodes of flannel's have the first address of their subnet.
    fn reach_all(&self, Ends { pod, their_pod, theirs }: &Ends) {
        theirs.iter().for_each(|address| ping(pod, address));
        pod.addresses().iter().for_each(|address| ping(their_pod, address));
        pod.addresses().iter().for_each(|address| ping(&self.theirs, address));
        theirs.iter().for_each(|address| ping(&self.ours.node, address));
        ping(&self.theirs, "10.244.1.0");
        ping(pod, "10.244.2.0");
    }

    /// Our end of the tunnel.
    fn uplink(&self) -> PortView {
        let ports = self.ours.client().ports().unwrap();
        ports.into_iter().find(|port| port.kind == PortKind::Uplink).unwrap()
    }
}

impl Ends {
    /// Sends what ends a capture.
    fn send_mark(&self) {
        udp(&self.pod, self.pod.v4(), PORT).send_to(MARK, (self.theirs[0], PORT)).unwrap();
    }

    /// Connections from either side, `length` bytes each way.
    fn exchange_streams(&self, length: usize) {
        for (own, theirs) in self.pod.addresses().into_iter().zip(self.theirs) {
            let listener = listen(&self.their_pod, theirs, PORT);
            exchange(&connect(&self.pod, (theirs, PORT).into(), &listener), length);
            let listener = listen(&self.pod, own, PORT);
            exchange(&connect(&self.their_pod, (own, PORT).into(), &listener), length);
        }
    }

    /// From nothing to 64 KiB, which goes in fragments, to the other pod and back.
    fn exchange_datagrams(&self) {
        for (own, theirs) in self.pod.addresses().into_iter().zip(self.theirs) {
            let sockets = [udp(&self.pod, own, PORT), udp(&self.their_pod, theirs, PORT)];
            for length in [0, 1, 22, 1400, 1402, 20_000, 65_000] {
                let sent = pattern(length);
                let pass = |from: &UdpSocket, to: &UdpSocket, address: IpAddr| {
                    from.send_to(&sent, (address, PORT)).unwrap();
                    let (heard, peer) = receive(to);
                    assert!(heard == sent, "{} bytes of {length} from {peer}", heard.len());
                };
                pass(&sockets[0], &sockets[1], theirs);
                pass(&sockets[1], &sockets[0], own);
            }
        }
    }
}

/// What arrives at a node's `up0`, in a file.
struct Capture {
    dumpcap: Child,
    file: PathBuf,
    folder: TempDir,
}

impl Capture {
    fn start(node: &Namespace, filter: &str) -> Capture {
        let folder = TempDir::with_prefix("podswitch-real-").unwrap();
        let (file, said) = (folder.path().join("frames.pcapng"), folder.path().join("said"));
        let mut command = Command::new("dumpcap");
        command.args(["-q", "-B", "64", "-i", "up0", "-f", filter, "-w"]).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said).unwrap());
        let dumpcap = node.run(|| command.spawn()).unwrap();
        let capture = Capture { dumpcap: dumpcap.expect("dumpcap is missing: `make deps`"), file, folder };
        until("a capture", || fs::read_to_string(&said).unwrap().contains("File:").then_some(()));
        capture
    }

    /// Every frame is read to its last header, every checksum is right, and nothing is worth a warning. What a stream lost on a busy
    /// machine is no fault of a frame.
    fn ends_sound(mut self, port: u16) {
        let has_mark = || fs::read(&self.file).unwrap().windows(MARK.len()).any(|bytes| bytes == MARK);
        until("the last frame", || has_mark().then_some(()));
        kill(Pid::from_raw(self.dumpcap.id() as i32), Signal::SIGINT).unwrap();
        self.dumpcap.wait().unwrap();
        let mut command = Command::new("tshark");
        command.arg("-r").arg(&self.file).args(["-d", &format!("udp.port=={port},vxlan"), "-T", "fields"]);
        let checked = ["ip", "udp", "tcp"].map(|protocol| format!("{protocol}.check_checksum:TRUE"));
        command.args(checked.iter().flat_map(|setting| ["-o", setting]));
        command.args(FIELDS.iter().flat_map(|field| ["-e", field]));
        let output = command.env("HOME", self.folder.path()).output().expect("tshark is missing: `make deps`");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let [protocols, checksums @ .., severities, groups] = &fields[..] else { panic!("{line}") };
            assert!(checksums.iter().flat_map(|all| all.split(',')).all(|one| ["", GOOD].contains(&one)), "{line}");
            for (severity, group) in severities.split(',').zip(groups.split(',')).filter(|(one, _)| !one.is_empty()) {
                assert!(severity.parse::<u32>().unwrap() < WARNING || group == SEQUENCE, "{line}");
            }
            *seen.entry(protocols.to_string()).or_default() += 1;
        }
        let inner = |suffix: &str| {
            let found =
                seen.iter().filter(|(protocols, _)| protocols.contains(":vxlan:") && protocols.ends_with(suffix));
            found.map(|(_, count)| count).sum::<u32>()
        };
        for suffix in [
            "ip:tcp",
            "ipv6:tcp",
            "ip:tcp:data",
            "ipv6:tcp:data",
            "ip:icmp:data",
            "ipv6:icmpv6:data",
            "ip:udp:data",
            "ipv6:udp:data",
        ] {
            assert!(inner(suffix) > 3, "{suffix}: {seen:?}");
        }
        assert!(seen.keys().all(|protocols| protocols.contains(":vxlan:eth:")), "{seen:?}");
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.dumpcap.kill();
        let _ = self.dumpcap.wait();
    }
}

/// How often the kernel of a namespace found a checksum wrong, by protocol.
fn checksum_faults(namespace: &Namespace) -> BTreeMap<String, u64> {
    let text = must(namespace, "cat /proc/net/snmp").result;
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let v4 = lines.chunks(2).flat_map(|pair| {
        let counts = pair[0].iter().zip(&pair[1]).filter(|(name, _)| name.ends_with("InCsumErrors"));
        counts.map(|(name, count)| (format!("{}{name}", pair[0][0]), count.parse().unwrap()))
    });
    let text = must(namespace, "cat /proc/net/snmp6").result;
    let v6 = text.lines().filter_map(|line| {
        let (name, count) = line.split_once(char::is_whitespace)?;
        let of_checksums = name.ends_with("InCsumErrors") || name == "Icmp6InErrors";
        of_checksums.then(|| (name.to_owned(), count.trim().parse().unwrap()))
    });
    let found: BTreeMap<String, u64> = v4.chain(v6).collect();
    assert!(found.len() >= 5, "{found:?}");
    found
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// What tshark(1) tells of a frame: its headers, how their checksums are, what there is to say of it.
const FIELDS: [&str; 8] = [
    "frame.protocols",
    "ip.checksum.status",
    "udp.checksum.status",
    "tcp.checksum.status",
    "icmp.checksum.status",
    "icmpv6.checksum.status",
    "_ws.expert.severity",
    "_ws.expert.group",
];
const GOOD: &str = "1";
/// `PI_WARN` of Wireshark's `epan/proto.h`.
const WARNING: u32 = 0x0060_0000;
/// `PI_SEQUENCE` there.
const SEQUENCE: &str = "33554432";
/// The payload of the last frame.
const MARK: &[u8] = b"the last frame of this capture";
/// No protocol of its own has it.
const PORT: u16 = 45_007;
/// What makes a link of namespaces unlike a cable.
const OFFLOADS: [&str; 6] =
    ["tso", "gso", "tx-udp-segmentation", "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation", "tx"];

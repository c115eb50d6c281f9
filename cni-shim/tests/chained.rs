//! Plugins of containernetworking-plugins behind ours, called one after another as a runtime does; and what runs inside pods
//! that meshes set up.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

mod rig;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use rig::{Node, PLUGIN, Pod, run_in};

#[test]
fn portmap_tuning_and_firewall_do_their_part_and_take_it_back() {
    let node = Node::with("");
    let [pod, other, outside] = [(); 3].map(|()| Pod::new());
    let link = format!("ip link add net0 type veth peer name eth0 netns {}", outside.name());
    must(&node, &format!("{link} && ip address add 192.0.2.1/24 dev net0 && ip link set net0 up"));
    must(&node, "echo 1 >/proc/sys/net/ipv4/ip_forward; iptables -P FORWARD DROP");
    must(
        &outside,
        "ip address add 192.0.2.2/24 dev eth0 && ip link set eth0 up && ip route add 10.244.0.0/24 via 192.0.2.1",
    );
    let plain = Chain::of(&node, &[]);
    let chain = Chain::of(
        &node,
        &[
            json!({ "type": "tuning", "mac": CHANGED, "sysctl": { "net.ipv4.conf.eth0.arp_filter": "1" } }),
            json!({ "type": "firewall" }),
            json!({ "type": "portmap", "snat": true, "runtimeConfig": {
            "portMappings": [{ "hostPort": 18080, "containerPort": 8080, "protocol": "tcp" }] } }),
        ],
    );
    let result = chain.add("c1", &pod);
    let second = plain.add("c2", &other);
    assert_eq!(result["interfaces"][0]["mac"], CHANGED);
    let [address, theirs] = [&result, &second].map(v4);

    // Traffic goes on under the new Ethernet address, both ways.
    must(&other, &format!("ping -c 2 -W 5 {address}"));
    must(&pod, &format!("ping -c 2 -W 5 {theirs}"));
    // A way through a FORWARD chain that lets nobody pass is for those who have the firewall plugin behind them.
    must(&pod, "ping -c 1 -W 5 192.0.2.2");
    assert!(!run_in(other.namespace(), &["ping", "-c", "1", "-W", "1", "192.0.2.2"]).status.success());
    // It lets replies in, and no more: ports of the node want a chain that forwards.
    must(&node, "iptables -P FORWARD ACCEPT");
    let listener = listen(&pod, (address, 8080).into());
    for (from, to) in
        [(outside.namespace(), "192.0.2.1"), (other.namespace(), "192.0.2.1"), (node.namespace(), "127.0.0.1")]
    {
        let to = SocketAddr::new(to.parse().unwrap(), 18080);
        let stream = from.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
        exchange(&stream.unwrap_or_else(|error| panic!("{to}: {error}")), &listener.accept().unwrap().0, 100_000);
    }
    // Not portmap: version 1.1.1 looks for the IPv4 rules of a pod of both families among those of IPv6.
    let plugins = chain.plugins[..3].to_vec();
    Chain { node: &node, plugins }.call("CHECK", "c1", &pod, Some(&result)).unwrap();

    chain.del("c1", &pod, &result);
    chain.del("c1", &pod, &result);
    plain.del("c2", &other, &second);
    assert!(node.client().endpoints().unwrap().is_empty());
    let rules = run_in(node.namespace(), &["iptables-save"]).stdout;
    let rules = String::from_utf8(rules).unwrap();
    assert!(!rules.contains("10.244.0.") && !rules.contains("18080"), "{rules}");
}

#[test]
fn a_mesh_that_redirects_within_pods_has_its_streams_in_super_frames() {
    let node = Node::with("");
    let chain = Chain::of(&node, &[]);
    let (client, server) = (Pod::new(), Pod::new());
    let address = [(&client, "c1"), (&server, "c2")].map(|(pod, name)| v4(&chain.add(name, pod)))[1];
    for pod in [&client, &server] {
        REDIRECT.iter().for_each(|rule| must(pod, rule));
    }
    // The application, the proxy beside it, the proxy beside the server, the server.
    let [outgoing, incoming] = [(&client, 15001), (&server, 15006)].map(|(pod, port)| listen(pod, any(port)));
    let application = client.namespace().run(|| TcpStream::connect_timeout(&(address, 8080).into(), PATIENCE));
    let application = application.unwrap().unwrap();
    let beside = outgoing.accept().unwrap().0;
    assert_eq!(beside.peer_addr().unwrap(), application.local_addr().unwrap());
    let onward = client.namespace().run(|| marked((address, 8080).into())).unwrap();
    let arrived = incoming.accept().unwrap().0;
    assert_eq!(arrived.peer_addr().unwrap(), onward.local_addr().unwrap());
    exchange(&application, &beside, BYTES);
    exchange(&onward, &arrived, BYTES);
    let ports = node.client().ports().unwrap();
    let pods = ports.iter().filter(|port| port.index > 0);
    for traffic in pods.flat_map(|port| [port.received, port.sent]) {
        assert!(traffic.bytes as usize > BYTES && traffic.bytes / traffic.frames > 1514, "{traffic:?}");
    }
}

#[test]
fn the_first_packet_after_an_attach_arrives_whoever_sends_it() {
    let node = Node::with("");
    let chain = Chain::of(&node, &[]);
    let first = Pod::new();
    let known = v4(&chain.add("first", &first));
    let listener = udp(&first, known);
    for number in 0..20 {
        let pod = Pod::new();
        let address = v4(&chain.add(&format!("c{number}"), &pod));
        let own = udp(&pod, address);
        own.send_to(&[number], (known, PORT)).unwrap();
        listener.send_to(&[number], (address, PORT)).unwrap();
        for socket in [&own, &listener] {
            let mut got = [0; 2];
            assert_eq!((socket.recv(&mut got).expect("a datagram should have come"), got[0]), (1, number));
        }
    }
}

#[test]
fn two_hundred_and_fifty_pods_are_attached_side_by_side() {
    let node = Node::with("pod_ranges = [\"10.244.0.0/22\"]");
    let chain = Chain::of(&node, &[]);
    let pods: Vec<(usize, Pod)> = (0..250).map(|number| (number, Pod::new())).collect();
    thread::scope(|scope| {
        for share in pods.chunks(8) {
            let chain = &chain;
            scope.spawn(move || share.iter().for_each(|(number, pod)| drop(chain.add(&format!("c{number}"), pod))));
        }
    });
    let mut addresses: Vec<IpAddr> =
        node.client().endpoints().unwrap().iter().flat_map(|one| one.addresses.clone()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 250);
    must(&pods[0].1, &format!("ping -c 1 -W 5 {}", addresses[249]));
}

#[test]
fn the_bandwidth_plugin_is_refused_before_a_runtime_meets_it() {
    let output = Command::new(PLUGIN).args(["conflist", "--chain=bandwidth"]).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("veth pair"), "{said}");
    let node = Node::stopped();
    let folder = node.folder().join("net.d");
    std::fs::create_dir(&folder).unwrap();
    let configuration = json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [
        { "type": "podswitch-cni", "socket": node.socket() }, { "type": "bandwidth" }] });
    std::fs::write(folder.join("10-pods.conflist"), configuration.to_string()).unwrap();
    let folders = [format!("--conf-dir={}", folder.display()), format!("--bin-dir={REFERENCE}")];
    let output = Command::new(PLUGIN).arg("doctor").args(folders).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("LACK  bandwidth") && said.contains("veth pair"), "{said}");
}

/// A configuration of several plugins, carried out as a runtime would.
struct Chain<'a> {
    node: &'a Node,
    plugins: Vec<Value>,
}

impl Chain<'_> {
    fn of<'a>(node: &'a Node, behind: &[Value]) -> Chain<'a> {
        let own = json!({ "type": "podswitch-cni", "socket": node.socket() });
        Chain { node, plugins: [own].into_iter().chain(behind.iter().cloned()).collect() }
    }

    #[track_caller]
    fn add(&self, container: &str, pod: &Pod) -> Value {
        self.call("ADD", container, pod, None).unwrap()
    }

    #[track_caller]
    fn del(&self, container: &str, pod: &Pod, result: &Value) {
        self.call("DEL", container, pod, Some(result)).unwrap();
    }

    /// What the last plugin answers, or the first refusal.
    fn call(&self, verb: &str, container: &str, pod: &Pod, result: Option<&Value>) -> Result<Value, Value> {
        let mut result = result.cloned().unwrap_or_default();
        let forward = || self.plugins.iter();
        let in_turn: Vec<&Value> = if verb == "DEL" { forward().rev().collect() } else { forward().collect() };
        for plugin in in_turn {
            let mut input = plugin.clone();
            (input["cniVersion"], input["name"]) = (json!("1.0.0"), json!("pods"));
            if !result.is_null() {
                input["prevResult"] = result.clone();
            }
            let kind = plugin["type"].as_str().unwrap();
            let path = if kind == "podswitch-cni" { PLUGIN.into() } else { Path::new(REFERENCE).join(kind) };
            let mut command = Command::new(path);
            command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("CNI_COMMAND", verb);
            command.env("CNI_CONTAINERID", container).env("CNI_NETNS", pod.path());
            command.env("CNI_IFNAME", "eth0").env("CNI_PATH", REFERENCE);
            let output = self.node.call(&mut command, input.to_string().as_bytes());
            let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if !output.status.success() {
                return Err(json!({ kind: answer }));
            }
            if verb == "ADD" {
                result = answer;
            }
        }
        Ok(result)
    }
}

/// A place where programs run.
trait Place {
    fn run(&self, line: &str) -> std::process::Output;
}

impl Place for Node {
    fn run(&self, line: &str) -> std::process::Output {
        run_in(self.namespace(), &["sh", "-c", line])
    }
}

impl Place for Pod {
    fn run(&self, line: &str) -> std::process::Output {
        run_in(self.namespace(), &["sh", "-c", line])
    }
}

#[track_caller]
fn must(place: &impl Place, line: &str) {
    let output = place.run(line);
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "`{line}`:\n{said}");
}

fn v4(result: &Value) -> IpAddr {
    let texts = result["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap());
    texts.map(|text| text.split('/').next().unwrap().parse().unwrap()).find(IpAddr::is_ipv4).unwrap()
}

fn listen(pod: &Pod, at: SocketAddr) -> TcpListener {
    pod.namespace().run(|| TcpListener::bind(at)).unwrap().unwrap()
}

fn udp(pod: &Pod, address: IpAddr) -> UdpSocket {
    let socket = pod.namespace().run(|| UdpSocket::bind((address, PORT))).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn any(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

/// A connection that the rules pass over, as those of a mesh's proxy.
fn marked(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_mark(MARK).unwrap();
    socket.connect_timeout(&to.into(), PATIENCE).unwrap();
    socket.into()
}

/// So many bytes each way, at once.
#[track_caller]
fn exchange(one: &TcpStream, other: &TcpStream, bytes: usize) {
    let sent: Vec<u8> = (0..bytes).map(|at| (at / 7) as u8).collect();
    for stream in [one, other] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    let sent = &sent;
    thread::scope(|scope| {
        for mut stream in [one, other] {
            scope.spawn(move || stream.write_all(sent).unwrap());
            scope.spawn(move || {
                let mut got = vec![0; bytes];
                stream.read_exact(&mut got).unwrap();
                assert!(got == *sent, "the bytes differ");
            });
        }
    });
}

/// As a mesh's init container writes them: what comes in goes to one port of the proxy, what goes out to another, but for
/// the proxy's own connections.
const REDIRECT: [&str; 2] = [
    "iptables -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 15006",
    "iptables -t nat -A OUTPUT -p tcp -m mark ! --mark 1337 -j REDIRECT --to-ports 15001",
];
const MARK: u32 = 1337;
const CHANGED: &str = "02:00:00:00:00:77";
const PORT: u16 = 9000;
const BYTES: usize = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(20);
/// Where Debian has them.
const REFERENCE: &str = "/usr/lib/cni";

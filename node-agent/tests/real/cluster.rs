//! Nodes on one link: ours with agent and switch, one of the kernel's own, and an etcd beside them.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use agent::lease::{Attributes, Subnets};
use control::{Attach, Client, InterfaceName, Origin};
use host::{Namespace, TemporaryNamespace};
use packet::Mac;
use serde_json::Value;
use tempfile::TempDir;

use crate::rig::{Security, Server, until};

/// The link, and what is beside it.
pub(crate) struct Cluster {
    pub(crate) server: Server,
    pub(crate) hub: TemporaryNamespace,
}

/// A node of ours.
pub(crate) struct Node {
    pub(crate) namespace: TemporaryNamespace,
    pub(crate) number: u8,
    folder: TempDir,
    switch: Option<Child>,
    agent: Option<Child>,
}

/// A node whose kernel does it all, as flannel would set it up.
pub(crate) struct KernelNode {
    pub(crate) namespace: TemporaryNamespace,
    pub(crate) pod: TemporaryNamespace,
    mac: Mac,
    number: u8,
}

/// A pod of a node of ours.
pub(crate) struct Pod {
    pub(crate) namespace: TemporaryNamespace,
    pub(crate) address: IpAddr,
    /// Where pods have one.
    pub(crate) address_v6: Option<IpAddr>,
}

impl Cluster {
    pub(crate) fn new() -> Cluster {
        let hub = namespace("psw-hub");
        for line in [
            "ip link set lo up",
            "ip link add br0 type bridge",
            "ip address add 192.168.9.254/24 dev br0",
            "ip link set br0 up",
        ] {
            must(&hub, line);
        }
        let mut server = Server::at("192.168.9.254", 2379, Security::None);
        server.start(Some(&hub));
        Cluster { server, hub }
    }

    /// etcdctl in the hub.
    pub(crate) fn etcdctl(&self, arguments: &[&str]) -> String {
        self.hub.run(|| self.server.etcdctl(arguments)).unwrap()
    }

    /// All leases, by key.
    pub(crate) fn leases(&self) -> Vec<(String, String)> {
        let text = self.etcdctl(&["get", "--prefix", SUBNETS]);
        let lines: Vec<&str> = text.lines().collect();
        lines.chunks(2).map(|pair| (pair[0][SUBNETS.len()..].to_owned(), pair[1].to_owned())).collect()
    }

    fn join(&self, node: &TemporaryNamespace, number: u8) {
        must(&self.hub, &format!("ip link add n{number} type veth peer name eth0 netns {}", node.name()));
        must(&self.hub, &format!("ip link set n{number} master br0 up"));
        must(node, &format!("ip address add 192.168.9.{number}/24 dev eth0"));
        must(node, "ip link set eth0 up");
        must(node, "ip link set lo up");
    }

    /// A node of ours with a running agent and switch.
    pub(crate) fn node(&self, number: u8, network: &str) -> Node {
        self.node_with(number, network, "")
    }

    /// The same, of little patience with who takes its subnet.
    pub(crate) fn impatient_node(&self, number: u8, network: &str) -> Node {
        self.node_with(number, network, "lost_seconds_max = 1\n")
    }

    /// A node of ours where nothing runs yet.
    pub(crate) fn idle_node(&self, number: u8, network: &str, more: &str) -> Node {
        let namespace = namespace("psw-node");
        self.join(&namespace, number);
        let folder = TempDir::with_prefix("podswitch-agent-").unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let text = format!(
            "store = \"etcd\"\netcd_endpoints = [\"{}\"]\nnetwork = {network}\npublic_ip = \"192.168.9.{number}\"\n\
             socket = \"{}\"\nswitch_config = \"{}\"\nsubnet_env = \"{}\"\nremembered = \"{}\"\n{more}",
            self.server.url(),
            path("state/control.sock"),
            path("switch.toml"),
            path("subnet.env"),
            path("lease")
        );
        fs::write(folder.path().join("agent.toml"), text).unwrap();
        Node { namespace, number, folder, switch: None, agent: None }
    }

    /// The same, with further lines of configuration.
    pub(crate) fn node_with(&self, number: u8, network: &str, more: &str) -> Node {
        let mut node = self.idle_node(number, network, more);
        node.start();
        node
    }

    /// A node of the kernel's own, which holds 10.244.`number`.0/24.
    pub(crate) fn kernel_node(&self, number: u8) -> KernelNode {
        let (node, pod) = (namespace("psw-kernel"), namespace("psw-kernel-pod"));
        self.join(&node, number);
        for line in [
            "sysctl -q -w net.ipv4.ip_forward=1",
            &format!("ip link add flannel.1 type vxlan id 1 dev eth0 local 192.168.9.{number} dstport 8472 nolearning"),
            "ip link set flannel.1 mtu 1450 up",
            &format!("ip address add 10.244.{number}.0/32 dev flannel.1"),
            "ip link add cni0 mtu 1450 type bridge",
            &format!("ip address add 10.244.{number}.1/24 dev cni0"),
            "ip link set cni0 up",
            &format!("ip link add v0 mtu 1450 type veth peer name eth0 mtu 1450 netns {}", pod.name()),
            "ip link set v0 master cni0 up",
        ] {
            must(&node, line);
        }
        must(&pod, &format!("ip address add 10.244.{number}.2/24 dev eth0"));
        must(&pod, "ip link set eth0 up");
        must(&pod, &format!("ip route add default via 10.244.{number}.1"));
        let mac = host::Netlink::open_in(&node).unwrap().link("flannel.1").unwrap().mac;
        let value = format!(
            r#"{{"PublicIP":"192.168.9.{number}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
        );
        self.etcdctl(&["put", &format!("{SUBNETS}10.244.{number}.0-24"), &value]);
        KernelNode { namespace: node, pod, mac, number }
    }
}

impl KernelNode {
    /// Does what flannel does with the leases of others.
    pub(crate) fn program(&self, cluster: &Cluster) {
        for (key, value) in cluster.leases() {
            let subnets: Subnets = key.parse().unwrap();
            let said: Attributes = serde_json::from_str(&value).unwrap();
            let (data, base) = (said.vxlan(false).unwrap(), subnets.v4.address());
            assert!(said.backend == "vxlan" && data.vni == 1, "{value}");
            if data.mac == self.mac {
                continue;
            }
            must(
                &self.namespace,
                &format!("ip neighbor replace {base} lladdr {} dev flannel.1 nud permanent", data.mac),
            );
            must(
                &self.namespace,
                &format!("bridge fdb replace {} dev flannel.1 dst {} self permanent", data.mac, said.public_ip),
            );
            must(&self.namespace, &format!("ip route replace {} via {base} dev flannel.1 onlink", subnets.v4));
        }
    }

    pub(crate) fn address(&self) -> IpAddr {
        [10, 244, self.number, 2].into()
    }
}

impl Node {
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Both programs.
    pub(crate) fn start(&mut self) {
        self.start_agent();
        until("the switch's configuration", || self.path("switch.toml").exists().then_some(()));
        self.start_switch();
    }

    pub(crate) fn start_agent(&mut self) {
        let mut command = Command::new(AGENT);
        command.arg("run").arg("--config").arg(self.path("agent.toml"));
        self.agent = Some(self.spawn(command, "agent.log"));
    }

    pub(crate) fn kill_agent(&mut self) {
        end(&mut self.agent);
    }

    pub(crate) fn start_switch(&mut self) {
        let podswitch = Path::new(AGENT).with_file_name("podswitch");
        assert!(podswitch.exists(), "{} is missing: `cargo build -p podswitch`", podswitch.display());
        let mut command = Command::new(podswitch);
        command.arg("run").arg("--config").arg(self.path("switch.toml")).arg("--state-dir").arg(self.path("state"));
        self.switch = Some(self.spawn(command, "switch.log"));
        until("the switch", || self.client().status().ok());
    }

    pub(crate) fn kill_switch(&mut self) {
        end(&mut self.switch);
    }

    fn spawn(&self, mut command: Command, log: &str) -> Child {
        let log = File::options().create(true).append(true).open(self.path(log)).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.namespace.run(|| command.spawn()).unwrap().unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.path("state/control.sock"))
    }

    /// What `podswitch-agent status --json` says; none while nobody answers.
    pub(crate) fn status(&self) -> Option<Value> {
        let output = self.namespace.run(|| Command::new(AGENT).args(["status", "--json"]).output()).unwrap().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Waits until the switch knows so many neighbours and nothing is wrong.
    #[track_caller]
    pub(crate) fn until_ready(&self, neighbors: usize) {
        until(&format!("{neighbors} neighbours of node {}", self.number), || {
            let status = self.status()?;
            let well = ["lease_trouble", "switch_trouble", "store_trouble"].iter().all(|key| status[*key].is_null());
            (well && status["neighbors"] == neighbors).then_some(())
        });
    }

    /// A page of the agent: status and text.
    pub(crate) fn page(&self, path: &str) -> String {
        must(&self.namespace, &format!("curl -s -w %{{http_code}} http://127.0.0.1:9471{path}"))
    }

    pub(crate) fn subnet(&self) -> packet::Prefix {
        self.client().config().unwrap().pod_ranges[0]
    }

    /// Why the switch attaches no pod, if so.
    pub(crate) fn paused(&self) -> Option<String> {
        let pause = self.client().status().unwrap().pauses.pop()?;
        assert_eq!(pause.origin, Origin::Agent);
        Some(pause.why.to_string())
    }

    /// A pod is refused, and told why.
    pub(crate) fn refuses_pods(&self, why: &str) {
        let namespace = namespace("psw-pod");
        let refused = self.client().attach(self.attachment("late", &namespace)).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }

    /// A new pod, joined.
    pub(crate) fn pod(&self) -> Pod {
        self.pod_named("pod")
    }

    pub(crate) fn pod_named(&self, name: &str) -> Pod {
        let namespace = namespace("psw-pod");
        let attach = self.attachment(name, &namespace);
        let (address, address_v6) = (attach.addresses[0].get(), attach.addresses.get(1).map(|address| address.get()));
        self.client().attach(attach).unwrap();
        Pod { namespace, address, address_v6 }
    }

    /// One that has an address of nobody's subnet.
    pub(crate) fn foreign_pod(&self, address: &str) -> Pod {
        let namespace = namespace("psw-pod");
        let mut attach = self.attachment("foreign", &namespace);
        attach.addresses = vec![address.parse().unwrap()];
        self.client().attach(attach).unwrap();
        Pod { namespace, address: address.parse().unwrap(), address_v6: None }
    }

    fn attachment(&self, name: &str, namespace: &Namespace) -> Attach {
        let second = |range: &packet::Prefix| range.net().hosts().nth(2).unwrap().try_into().unwrap();
        Attach {
            bandwidth: control::Bandwidth::default(),
            name: name.parse().unwrap(),
            netns: namespace.path().display().to_string().parse().unwrap(),
            interface: InterfaceName::default(),
            addresses: self.client().config().unwrap().pod_ranges.iter().map(second).collect(),
            assign: None,
            mtu: None,
            mac: None,
            network: None,
            origin: Origin::Cli,
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["agent.log", "switch.log"] {
                eprintln!("{log} of node {}:\n{}", self.number, fs::read_to_string(self.path(log)).unwrap_or_default());
            }
        }
        end(&mut self.agent);
        end(&mut self.switch);
    }
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

pub(crate) fn namespace(prefix: &str) -> TemporaryNamespace {
    TemporaryNamespace::new(prefix).unwrap_or_else(|error| panic!("this test needs root: {error}"))
}

/// Runs a program, its words separated by spaces, inside a namespace; what it printed.
#[track_caller]
pub(crate) fn must(namespace: &Namespace, line: &str) -> String {
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "60"]).args(line.split_whitespace()).env("LC_ALL", "C").stdin(Stdio::null());
    let output = namespace.run(|| command.output()).unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "`{line}`:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// One answer, of some requests: the first may meet a resolution.
#[track_caller]
pub(crate) fn ping(from: &Namespace, to: IpAddr) {
    must(from, &format!("ping -n -c 1 -w 10 {to}"));
}

const AGENT: &str = env!("CARGO_BIN_EXE_podswitch-agent");
/// What all keys of leases begin with.
pub(crate) const SUBNETS: &str = "/coreos.com/network/subnets/";

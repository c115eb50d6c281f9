//! Nodes that find each other: an agent and a switch on each, and a store that they share.
//!
//! ```text
//!        hub: a bridge, and etcd or a folder             192.168.255.254
//!         |               |               |
//!      eth0            eth0            eth0              192.168.N.N
//!     node 1          node 2          node 3 ...         agent, switch
//!        |               |               |
//!       pod             pod             pod              an address of the subnet that the agent has taken
//! ```
//!
//! The programs are those that lie beside this one, and Debian's etcd. Everything goes on drop.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use control::{Client, DropsView};
use host::{LinkChange, Netlink, Sysctl, TemporaryNamespace, VethPair};
use ipnet::IpNet;
use tempfile::TempDir;

use super::kernel::{ETH0, UP, address_of};
use super::nodes::Backend;
use super::switch::attach;
use super::{Pod, program};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::load::Family;

/// What nodes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Store {
    /// A folder, as of nodes that have one mounted.
    File,
    /// etcd.
    Etcd,
}

/// The hub, to which nodes come and from which they go.
#[derive(Debug)]
pub struct Cluster {
    etcd: Option<Running>,
    store: Store,
    backend: Backend,
    lease: Duration,
    folder: TempDir,
    hub: TemporaryNamespace,
}

/// A node with its agent and its switch.
#[derive(Debug)]
pub struct Member {
    agent: Option<Running>,
    switch: Option<Running>,
    client: Client,
    folder: TempDir,
    namespace: TemporaryNamespace,
}

/// A program that was started, and ends with this.
#[derive(Debug)]
struct Running(Child);

impl Cluster {
    /// A hub without nodes, whose leases in etcd last for `lease` when nobody renews them.
    pub fn new(store: Store, backend: Backend, lease: Duration) -> Result<Self> {
        let folder = scratch()?;
        let hub = TemporaryNamespace::new("bench-hub")?;
        hub.loopback_up()?;
        let mut netlink = Netlink::open_in(&hub)?;
        netlink.create_bridge(BRIDGE)?;
        let bridge = netlink.link(BRIDGE)?.index;
        netlink.add_address(&address_of(bridge, IpNet::new_assert(HUB.into(), 16)))?;
        netlink.change_link(bridge, &UP)?;
        let mut cluster = Self { etcd: None, store, backend, lease, folder, hub };
        if store == Store::Etcd {
            cluster.etcd = Some(cluster.start_etcd()?);
        }
        Ok(cluster)
    }

    /// Where etcd listens, for those in the hub and in nodes.
    pub fn url() -> String {
        format!("http://{HUB}:2379")
    }

    /// The hub.
    pub fn hub(&self) -> &TemporaryNamespace {
        &self.hub
    }

    /// Not waited for: those who call it try again.
    fn start_etcd(&self) -> Result<Running> {
        let (client, peer) = (Self::url(), format!("http://{HUB}:2380"));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(self.folder.path().join("etcd")).args(["--name", "bench", "--unsafe-no-fsync"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("bench={peer}"), "--logger", "zap", "--log-level", "warn"]);
        Running::start(&self.hub, command, &self.folder, "etcd.log")
    }

    /// A node that comes, the `number`-th; ready when its switch runs.
    pub fn join(&self, number: u8) -> Result<Member> {
        let namespace = TemporaryNamespace::new("bench-node")?;
        self.connect(&namespace, number)?;
        namespace.run(|| Sysctl::net(&["ipv4", "ip_forward"])?.write(1))??;
        let folder = scratch()?;
        let text = self.configuration(&folder, own_address(number));
        fs::write(folder.path().join(AGENT_TOML), text).map_err(Error::system("write the agent's configuration"))?;
        let client = Client::new(folder.path().join("state/control.sock")).timeout(PATIENCE);
        let mut member = Member { agent: None, switch: None, client, folder, namespace };
        member.start_agent()?;
        wait("a subnet for the node", || Ok(member.folder.path().join(SWITCH_TOML).exists().then_some(())))?;
        member.start_switch()?;
        Ok(member)
    }

    fn connect(&self, node: &TemporaryNamespace, number: u8) -> Result<()> {
        node.loopback_up()?;
        let mut netlink = Netlink::open_in(&self.hub)?;
        let (name, far) = (format!("node{number}"), Some(node.as_fd()));
        netlink.create_veth(&VethPair { name: &name, peer: ETH0, peer_namespace: far, ..VethPair::default() })?;
        let (port, bridge) = (netlink.link(&name)?.index, netlink.link(BRIDGE)?.index);
        netlink.change_link(port, &LinkChange { master: Some(bridge), up: Some(true), ..LinkChange::default() })?;
        let mut netlink = Netlink::open_in(node)?;
        let eth0 = netlink.link(ETH0)?.index;
        netlink.add_address(&address_of(eth0, IpNet::new_assert(own_address(number).into(), 16)))?;
        Ok(netlink.change_link(eth0, &UP)?)
    }

    fn configuration(&self, folder: &TempDir, own: Ipv4Addr) -> String {
        let path = |name: &str| folder.path().join(name).display().to_string();
        let store = match self.store {
            Store::Etcd => format!("store = \"etcd\"\netcd_endpoints = [\"{}\"]\n", Self::url()),
            Store::File => format!("store = \"file\"\nfolder = \"{}\"\n", self.folder.path().join("store").display()),
        };
        let (backend, lease) = (self.backend, self.lease.as_secs());
        store
            + &format!(
                "network = {{ Network = \"{NETWORK}\", SubnetLen = 24, SubnetMax = \"{LAST}\", Backend = {{ Type = \"{backend}\" }} }}\n\
                 lease_seconds = {lease}\npublic_ip = \"{own}\"\nsocket = \"{}\"\nswitch_config = \"{}\"\nsubnet_env = \"{}\"\nremembered = \"{}\"\n",
                path("state/control.sock"),
                path(SWITCH_TOML),
                path("subnet.env"),
                path("lease")
            )
    }
}

impl Member {
    /// Starts the agent; it takes its time to know the others.
    pub fn start_agent(&mut self) -> Result<()> {
        let mut command = Command::new(program("podswitch-agent")?);
        command.arg("run").arg("--config").arg(self.folder.path().join(AGENT_TOML));
        self.agent = Some(Running::start(&self.namespace, command, &self.folder, "agent.log")?);
        Ok(())
    }

    /// Kills the agent, as the node goes on without it.
    pub fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// The agent's process, while it runs.
    pub fn agent(&self) -> Option<u32> {
        self.agent.as_ref().map(|Running(child)| child.id())
    }

    /// The switch's process.
    pub fn switch(&self) -> Option<u32> {
        self.switch.as_ref().map(|Running(child)| child.id())
    }

    fn start_switch(&mut self) -> Result<()> {
        let mut command = Command::new(program("podswitch")?);
        command.arg("run").arg("--config").arg(self.folder.path().join(SWITCH_TOML));
        command.arg("--state-dir").arg(self.folder.path().join("state"));
        self.switch = Some(Running::start(&self.namespace, command, &self.folder, "switch.log")?);
        wait("the switch", || Ok(self.client.status().ok())).map(drop)
    }

    /// How many other nodes its switch knows.
    pub fn neighbors(&self) -> Result<usize> {
        Ok(self.client.status()?.neighbors)
    }

    /// Waits until its switch knows so many others.
    pub fn wait_for_neighbors(&self, count: usize) -> Result<()> {
        wait(&format!("word of {count} other nodes"), || Ok((self.neighbors()? == count).then_some(())))
    }

    /// Where every packet of its switch went.
    pub fn drops(&self) -> Result<DropsView> {
        Ok(self.client.drops()?)
    }

    /// A new pod with the second address of the node's subnet, joined.
    pub fn pod(&self) -> Result<Pod> {
        let ranges = self.client.config()?.pod_ranges;
        let subnet = ranges.iter().map(|range| range.net()).find(|net| net.addr().is_ipv4());
        let Some(IpAddr::V4(v4)) = subnet.and_then(|net| net.hosts().nth(1)) else {
            unreachable!("the agent's switch has a subnet of IPv4");
        };
        let pod = Pod { namespace: TemporaryNamespace::new("bench-pod")?, v4, v6: Ipv6Addr::UNSPECIFIED };
        attach(&self.client, &pod, &[Family::V4])?;
        Ok(pod)
    }
}

impl Running {
    fn start(node: &TemporaryNamespace, mut command: Command, folder: &TempDir, log: &str) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let log = File::options().create(true).append(true).open(folder.path().join(log));
        let log = log.map_err(Error::system(format!("make the log of {name}")))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = node.run(|| command.spawn())?;
        child.map(Self).map_err(Error::system(format!("start {name}, which `make deps` or the build provides")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `look` finds something.
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        interrupt::check()?;
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(Error::NothingArrived { what: what.to_owned(), waited: PATIENCE });
        }
        std::thread::sleep(NAP);
    }
}

fn scratch() -> Result<TempDir> {
    TempDir::with_prefix("podswitch-bench-").map_err(Error::system("make a scratch folder"))
}

fn own_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, number, number)
}

/// Pods of all nodes: room for 32 768 of them.
const NETWORK: &str = "10.128.0.0/9";
/// The last subnet that agents take; what is behind it is for nodes that somebody else writes.
const LAST: &str = "10.159.255.0";
const HUB: Ipv4Addr = Ipv4Addr::new(192, 168, 255, 254);
const BRIDGE: &str = "bridge";
const AGENT_TOML: &str = "agent.toml";
const SWITCH_TOML: &str = "switch.toml";
const PATIENCE: Duration = Duration::from_secs(30);
const NAP: Duration = Duration::from_millis(5);

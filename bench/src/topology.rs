//! Two pods and what joins them: the same ends for us and for every peer. Here on one node; [`nodes`] has two.
//!
//! Each pod is a network namespace with `eth0`, MTU 1500, 10.244.0.2 or .3 and fd00:10:244::2 or ::3. Only the
//! [`Wiring`] between them differs, and our switch may have further pods that say nothing:
//!
//! ```text
//! kernel-veth     [pod eth0]------------------------------[eth0 pod]      one veth pair
//! kernel-bridge   [pod eth0]---veth---[bridge]---veth---[eth0 pod]
//! kernel-route    [pod eth0]---veth---[router]---veth---[eth0 pod]        /32 routes, 169.254.1.1, as Calico wires
//! tun-tap         [pod eth0 = TAP]---read, write---[TAP = eth0 pod]       one thread, no offloads
//! ours            [pod eth0]-------[podswitch run]-------[eth0 pod]
//! ```
//!
//! Everything is named uniquely and goes on drop: programs first, then namespaces, and with them their links.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use clap::ValueEnum;
use host::TemporaryNamespace;

use crate::error::{Error, Result};
use crate::load::Family;

pub mod cluster;
pub mod forwarder;
mod kernel;
pub mod nodes;
pub mod switch;

use forwarder::Forwarder;
use switch::Switch;

/// What joins the two pods; the variants' names are those of the reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Wiring {
    /// Our switch.
    Ours,
    /// veth pairs into a router namespace, Calico's way.
    KernelRoute,
    /// veth pairs into a bridge.
    KernelBridge,
    /// One veth pair, nothing between.
    KernelVeth,
    /// A plain one-thread forwarder between two TAPs without offloads.
    TunTap,
}

impl Wiring {
    /// The name in reports, such as `kernel-route`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::KernelRoute => "kernel-route",
            Self::KernelBridge => "kernel-bridge",
            Self::KernelVeth => "kernel-veth",
            Self::TunTap => "tun-tap",
        }
    }
}

impl fmt::Display for Wiring {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// One end of every load.
#[derive(Debug)]
pub struct Pod {
    namespace: TemporaryNamespace,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Pod {
    /// Runs `work` on a thread inside the pod's namespace; sockets it returns stay there.
    pub fn within<T: Send>(&self, action: &str, work: impl FnOnce() -> io::Result<T> + Send) -> Result<T> {
        let done = self.namespace.run(work)?;
        done.map_err(Error::system(action))
    }

    /// The pod's address of a family.
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    /// A pod that is joined to nothing yet; its addresses are the `number`-th of 10.244.0.0/20 and fd00:10:244::/64.
    pub fn new(number: u16) -> Result<Self> {
        let namespace = TemporaryNamespace::new("bench-pod")?;
        let [high, low] = number.to_be_bytes();
        let v6 = Ipv6Addr::new(0xFD00, 0x10, 0x244, 0, 0, 0, 0, number);
        Ok(Self { namespace, v4: Ipv4Addr::new(10, 244, high, low), v6 })
    }
}

/// How a program between the pods is run: our switch, or the plain forwarder.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// The CPU it is bound to; `None` leaves it to the scheduler or to its own choice.
    pub cpu: Option<usize>,
    /// Lines of TOML that are added to the switch's configuration.
    pub configuration: String,
}

/// Two pods, joined; taken down on drop.
#[derive(Debug)]
pub struct Topology {
    wiring: Wiring,
    // Dropped before the pods: a program lets go of its devices, then their namespaces go.
    between: Between,
    pods: [Pod; 2],
    silent: Vec<Pod>,
}

impl Topology {
    /// Sets up two pods with `wiring` between them.
    pub fn new(wiring: Wiring, program: &Program) -> Result<Self> {
        let pods = [Pod::new(2)?, Pod::new(3)?];
        let between = match wiring {
            Wiring::Ours => Between::Switch(Switch::between(&pods, program)?),
            Wiring::KernelRoute => Between::Namespace(kernel::route(&pods)?),
            Wiring::KernelBridge => Between::Namespace(kernel::bridge(&pods)?),
            Wiring::KernelVeth => kernel::veth(&pods).map(|()| Between::Nothing)?,
            Wiring::TunTap => Between::Forwarder(Forwarder::between(&pods, program.cpu)?),
        };
        Ok(Self { wiring, between, pods, silent: Vec::new() })
    }

    /// Attaches a further pod, which says nothing, to our switch.
    ///
    /// Panics where something else joins the two pods.
    pub fn attach_silent(&mut self) -> Result<()> {
        let Between::Switch(switch) = &self.between else { panic!("{} has room for two pods", self.wiring) };
        let pod = Pod::new(2 + (self.pods.len() + self.silent.len()) as u16)?;
        switch.attach(&pod)?;
        self.silent.push(pod);
        Ok(())
    }

    /// What joins the pods.
    pub fn wiring(&self) -> Wiring {
        self.wiring
    }

    /// The two pods; loads go from the first to the second.
    pub fn pods(&self) -> &[Pod; 2] {
        &self.pods
    }

    /// Our switch, where it is what joins the pods.
    pub fn switch(&self) -> Option<&Switch> {
        match &self.between {
            Between::Switch(switch) => Some(switch),
            _ => None,
        }
    }
}

/// What stands between the pods and must go with them.
#[derive(Debug)]
enum Between {
    Nothing,
    Namespace(#[allow(dead_code, reason = "held for its drop")] TemporaryNamespace),
    Forwarder(#[allow(dead_code, reason = "held for its drop")] Forwarder),
    Switch(Switch),
}

/// Where the addresses of pods are from.
const RANGES: [&str; 2] = ["10.244.0.0/20", "fd00:10:244::/64"];
/// The most pods a bench attaches to one switch, within what their ranges hold.
pub const PODS_MAX: u16 = 4000;

/// A program of this project: beside this one, or beside the folder of cargo's test binaries.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().map_err(Error::system("find this program's own file"))?;
    let folder = this.parent().unwrap_or(&this);
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let path = folder.join(name);
    if path.exists() { Ok(path) } else { Err(Error::NoProgram { path }) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use host::{Neighbor, Netlink};
    use packet::Mac;

    use super::*;
    use crate::load::{Pair, Window, echo, round_trip, tcp, udp};

    #[test]
    fn nothing_is_left_of_a_topology() {
        for wiring in [Wiring::KernelRoute, Wiring::KernelBridge, Wiring::KernelVeth, Wiring::TunTap] {
            let topology = Topology::new(wiring, &Program::default()).unwrap();
            let mut made: Vec<PathBuf> = topology.pods.iter().map(|pod| pod.namespace.path().to_owned()).collect();
            match &topology.between {
                Between::Namespace(node) => made.push(node.path().to_owned()),
                Between::Forwarder(forwarder) => made.push(Path::new("/proc").join(forwarder.pid().to_string())),
                _ => {}
            }
            assert!(made.iter().all(|path| path.exists()), "{wiring}: {made:?}");
            drop(topology);
            assert!(!made.iter().any(|path| path.exists()), "{wiring}: {made:?}");
        }
    }

    #[test]
    fn a_panic_takes_the_topology_down() {
        let topology = Topology::new(Wiring::KernelVeth, &Program::default()).unwrap();
        let namespace = topology.pods[0].namespace.path().to_owned();
        let panicked = std::thread::spawn(move || {
            let _held = topology;
            panic!("on purpose");
        });
        panicked.join().unwrap_err();
        assert!(!namespace.exists());
    }

    /// Frames to the second pod bear the address of a station that is not there.
    fn broken() -> Topology {
        let topology = Topology::new(Wiring::KernelVeth, &Program::default()).unwrap();
        let mut netlink = Netlink::open_in(&topology.pods[0].namespace).unwrap();
        let link = netlink.link("eth0").unwrap().index;
        for family in [Family::V4, Family::V6] {
            let address = topology.pods[1].address(family);
            netlink.add_neighbor(&Neighbor { link, address, mac: Mac([2, 0, 0, 0, 0, 99]) }).unwrap();
        }
        topology
    }

    #[test]
    fn where_nothing_arrives_every_load_ends_and_says_so() {
        let topology = broken();
        let [from, to] = topology.pods();
        let window = Window::of(Duration::from_millis(100), Duration::ZERO);
        for family in [Family::V4, Family::V6] {
            let pair = Pair { from, to, family, case: None, urgent: false };
            assert!(!echo::is_answered(pair).unwrap());
            let outcomes = [
                tcp::stream(pair, 1, window).map(drop),
                udp::flood(pair, 1, window).map(drop),
                round_trip::measure(pair, window).map(drop),
            ];
            for outcome in outcomes {
                assert!(matches!(outcome, Err(Error::NothingArrived { .. })), "{outcome:?}");
            }
        }
    }
}

//! Two nodes on one wire, a pod behind each, and what carries packets between the nodes.
//!
//! Node *n*, 1 or 2, is a network namespace. It has 172.31.10.*n* on the wire and the pods of 10.244.*n*.0/24 and
//! fd00:10:244:*n*::/64; its pod is a namespace with the second address of these. What the node is made of is either ours or
//! what flannel makes of one:
//!
//! ```text
//!                          node 1                                    node 2
//! ours       [pod TAP]---[podswitch run]---eth0 ====== eth0---[podswitch run]---[TAP pod]
//! vxlan      [pod eth0]---cni0, flannel.1--eth0 ====== eth0--flannel.1, cni0---[eth0 pod]     VNI 1, port 8472
//! udp        [pod eth0]---cni0, flannel0---eth0 ====== eth0---flannel0, cni0---[eth0 pod]     a TUN, a process, port 8285
//! host-gw    [pod eth0]---cni0-------------eth0 ====== eth0-------------cni0---[eth0 pod]     routes alone
//! ```
//!
//! Every node forwards, as a node must. Everything is named uniquely or lies in these namespaces, and goes on drop: programs
//! first, then namespaces, and with them their links.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::ValueEnum;
use control::{Neighbor, Origin};
use host::{Sysctl, TemporaryNamespace};
use packet::{Mac, Prefix};

use super::forwarder::Forwarder;
use super::switch::Switch;
use super::{Pod, Program};
use crate::error::{Error, Result};
use crate::load::Family;

mod flannel;
mod underlay;

use flannel::FlannelNode;
pub use underlay::{Offloads, Underlay};

/// How a node reaches the pods of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// Ethernet in UDP, RFC 7348, as flannel programs the kernel's.
    Vxlan,
    /// The bare packet in UDP, flannel's own.
    Udp,
    /// No tunnel: a route by the other node.
    HostGw,
}

impl Backend {
    /// The word of configuration and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Udp => "udp",
            Self::HostGw => "host-gw",
        }
    }

    /// Bytes it adds to a packet, the Ethernet header of the wire not counted.
    fn overhead(self, underlay: Family) -> u32 {
        match (self, underlay) {
            (Self::Vxlan, Family::V4) => 50,
            (Self::Vxlan, Family::V6) => 70,
            (Self::Udp, _) => 28,
            (Self::HostGw, _) => 0,
        }
    }

    /// Whether packets of `inner` can be carried between nodes whose tunnels run over `underlay`.
    pub fn carries(self, inner: Family, underlay: Family) -> bool {
        self != Self::Udp || (inner, underlay) == (Family::V4, Family::V4)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// What both nodes are, the sender's first; the variants' names are those of the reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Crossing {
    /// Our switch on both nodes.
    Ours,
    /// Our switch towards a node that the kernel alone makes.
    OursToKernel,
    /// The same, the other way.
    KernelToOurs,
    /// Our switch towards the plain forwarder.
    OursToForwarder,
    /// The same, the other way.
    ForwarderToOurs,
    /// The kernel's VXLAN on both nodes.
    KernelVxlan,
    /// The kernel's routes on both nodes.
    KernelHostGw,
    /// On both nodes a plain forwarder of the kind of flannel's: one thread, one packet a call.
    UdpForwarder,
}

impl Crossing {
    /// The name in reports, such as `kernel-vxlan`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursToKernel => "ours-to-kernel",
            Self::KernelToOurs => "kernel-to-ours",
            Self::OursToForwarder => "ours-to-forwarder",
            Self::ForwarderToOurs => "forwarder-to-ours",
            Self::KernelVxlan => "kernel-vxlan",
            Self::KernelHostGw => "kernel-host-gw",
            Self::UdpForwarder => "udp-forwarder",
        }
    }

    /// How its nodes reach each other, and what they are, where ours are to use `backend`.
    fn ends(self, backend: Backend) -> Result<(Backend, [Kind; 2])> {
        use Backend::{HostGw, Udp, Vxlan};
        use Kind::{Flannel, Ours};
        Ok(match (self, backend) {
            (Self::Ours, _) => (backend, [Ours, Ours]),
            (Self::OursToKernel, Vxlan | HostGw) | (Self::OursToForwarder, Udp) => (backend, [Ours, Flannel]),
            (Self::KernelToOurs, Vxlan | HostGw) | (Self::ForwarderToOurs, Udp) => (backend, [Flannel, Ours]),
            (Self::KernelVxlan, _) => (Vxlan, [Flannel, Flannel]),
            (Self::KernelHostGw, _) => (HostGw, [Flannel, Flannel]),
            (Self::UdpForwarder, _) => (Udp, [Flannel, Flannel]),
            _ => return Err(Error::NoSuchCrossing { crossing: self.name(), backend: backend.name() }),
        })
    }

    /// Refuses what cannot be set up, or could not carry packets of `inner`.
    pub fn check(self, backend: Backend, inner: Family, underlay: Family) -> Result<()> {
        let (backend, _) = self.ends(backend)?;
        if backend.carries(inner, underlay) {
            return Ok(());
        }
        Err(Error::NotCarried { backend: backend.name(), inner, underlay })
    }
}

impl fmt::Display for Crossing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// What a node is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ours,
    Flannel,
}

/// Two nodes with a pod each; taken down on drop.
#[derive(Debug)]
pub struct Nodes {
    crossing: Crossing,
    // Dropped before the pods: a program lets go of its devices, then their namespaces go.
    nodes: [Node; 2],
    #[allow(dead_code, reason = "held for its drop")]
    wire: Option<Forwarder>,
    pods: [Pod; 2],
}

#[derive(Debug)]
enum Node {
    Ours(Switch),
    Flannel(#[allow(dead_code, reason = "held for its drop")] FlannelNode),
}

impl Nodes {
    /// Sets up both nodes and their pods; our switches use `backend`.
    pub fn new(crossing: Crossing, backend: Backend, underlay: &Underlay, program: &Program) -> Result<Self> {
        let (backend, kinds) = crossing.ends(backend)?;
        let namespaces = [TemporaryNamespace::new("bench-node")?, TemporaryNamespace::new("bench-node")?];
        let wire = underlay.wire(&namespaces)?;
        let pods = [Site(1).pod()?, Site(2).pod()?];
        let setting = Setting { backend, underlay, program };
        let [first, second] = namespaces;
        let nodes = [
            setting.node(kinds[0], first, (Site(1), Site(2)), &pods[0])?,
            setting.node(kinds[1], second, (Site(2), Site(1)), &pods[1])?,
        ];
        Ok(Self { crossing, nodes, wire, pods })
    }

    /// What both nodes are.
    pub fn crossing(&self) -> Crossing {
        self.crossing
    }

    /// The two pods; loads go from the first to the second.
    pub fn pods(&self) -> &[Pod; 2] {
        &self.pods
    }

    /// Our switches, the first node's first.
    pub fn switches(&self) -> impl Iterator<Item = &Switch> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Ours(switch) => Some(switch),
            Node::Flannel(_) => None,
        })
    }
}

/// What both nodes are set up by.
#[derive(Debug, Clone, Copy)]
struct Setting<'a> {
    backend: Backend,
    underlay: &'a Underlay,
    program: &'a Program,
}

impl Setting<'_> {
    fn node(self, kind: Kind, namespace: TemporaryNamespace, sites: (Site, Site), pod: &Pod) -> Result<Node> {
        namespace.run(|| {
            Sysctl::net(&["ipv4", "ip_forward"])?.write(1)?;
            Sysctl::interface(host::Family::V6, "all", "forwarding")?.write(1)
        })??;
        Ok(match kind {
            Kind::Ours => Node::Ours(self.switch(namespace, sites, pod)?),
            Kind::Flannel => Node::Flannel(FlannelNode::new(self, namespace, sites, pod)?),
        })
    }

    fn switch(self, namespace: TemporaryNamespace, (own, peer): (Site, Site), pod: &Pod) -> Result<Switch> {
        let ranges = Site::FAMILIES.map(|family| own.subnet(family).to_string());
        let configuration = self.configure(own) + &self.program.configuration;
        let switch = Switch::start_in(namespace, &ranges, &Program { configuration, ..self.program.clone() })?;
        switch.attach(pod)?;
        switch.add_neighbors(self.neighbors(peer))?;
        Ok(switch)
    }

    /// What the switch at `own` must know of its end of the tunnel.
    fn configure(self, own: Site) -> String {
        if self.backend == Backend::HostGw {
            return String::new();
        }
        let open = format!("underlay_address = [\"{}\"]\ntunnels = [\"{}\"]\n", self.tunnel_end(own), self.backend);
        if self.backend == Backend::Vxlan { open + &format!("vtep_mac = \"{}\"\n", own.vtep_mac()) } else { open }
    }

    /// The node at `peer`, as our switch is told of it.
    fn neighbors(self, peer: Site) -> Vec<Neighbor> {
        let carried = Site::FAMILIES.into_iter().filter(|&inner| self.backend.carries(inner, self.underlay.family));
        let neighbor = |inner| {
            let (via, backend, mac) = match self.backend {
                Backend::Vxlan => (self.tunnel_end(peer), control::Backend::Vxlan, Some(peer.vtep_mac())),
                Backend::Udp => (self.tunnel_end(peer), control::Backend::Udp, None),
                Backend::HostGw => (peer.underlay_address(inner), control::Backend::HostGw, None),
            };
            Neighbor { subnet: peer.subnet(inner), via, backend, mac, origin: Origin::Cli }
        };
        carried.map(neighbor).collect()
    }

    /// MTU of the pods.
    fn mtu(self) -> u32 {
        self.underlay.mtu - self.backend.overhead(self.underlay.family)
    }

    /// The address at which the node's end of a tunnel is.
    fn tunnel_end(self, site: Site) -> IpAddr {
        site.underlay_address(self.underlay.family)
    }
}

/// A node's number, from which all its addresses follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Site(u8);

impl Site {
    const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

    /// Its pods' addresses.
    fn subnet(self, family: Family) -> Prefix {
        let length = if family == Family::V4 { 24 } else { 64 };
        Prefix::new(self.address(family, 0), length).expect("the host part is zero")
    }

    /// One of them.
    fn address(self, family: Family, host: u8) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, 244, self.0, host).into(),
            Family::V6 => Ipv6Addr::new(0xFD00, 0x10, 0x244, self.0.into(), 0, 0, 0, host.into()).into(),
        }
    }

    /// Its own, on the wire.
    fn underlay_address(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(172, 31, 10, self.0).into(),
            Family::V6 => Ipv6Addr::new(0xFD00, 0x172, 0x31, 0x10, 0, 0, 0, self.0.into()).into(),
        }
    }

    /// The Ethernet address of its end of the wire.
    fn mac(self) -> Mac {
        Mac([2, 0, 172, 31, 10, self.0])
    }

    /// The Ethernet address of its end of the VXLAN.
    fn vtep_mac(self) -> Mac {
        Mac([2, 0, 10, 244, self.0, 0])
    }

    /// Its pod, joined to nothing yet.
    fn pod(self) -> Result<Pod> {
        let namespace = TemporaryNamespace::new("bench-pod")?;
        let (v4, v6) =
            (Ipv4Addr::new(10, 244, self.0, 2), Ipv6Addr::new(0xFD00, 0x10, 0x244, self.0.into(), 0, 0, 0, 2));
        Ok(Pod { namespace, v4, v6 })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::demo::Traffic;

    /// Where namespaces and processes of the pair are seen.
    fn traces(nodes: &Nodes) -> Vec<PathBuf> {
        let pods = nodes.pods.iter().map(|pod| pod.namespace.path().to_owned());
        let made = nodes.nodes.iter().flat_map(|node| match node {
            Node::Ours(switch) => vec![PathBuf::from(format!("/proc/{}", switch.pid()))],
            Node::Flannel(node) => node.traces(),
        });
        pods.chain(made).collect()
    }

    #[test]
    fn a_checked_transfer_crosses_every_kind_of_flannels_and_nothing_is_left_of_them() {
        let wire = Underlay::default();
        for (crossing, made) in [(Crossing::KernelVxlan, 4), (Crossing::KernelHostGw, 4), (Crossing::UdpForwarder, 6)] {
            let nodes = Nodes::new(crossing, Backend::Vxlan, &wire, &Program::default()).unwrap();
            let v6 = crossing != Crossing::UdpForwarder;
            let traffic = Traffic::between(nodes.pods(), v6, 2, Duration::from_millis(200)).unwrap();
            assert!(traffic.passed(), "{crossing}: {traffic:?}");
            let traces = traces(&nodes);
            assert_eq!(traces.iter().filter(|path| path.exists()).count(), made, "{crossing}: {traces:?}");
            drop(nodes);
            assert!(!traces.iter().any(|path| path.exists()), "{crossing}: {traces:?}");
        }
    }

    #[test]
    fn every_pair_of_nodes_is_for_the_backends_it_speaks() {
        let speak = |backend| {
            let all = Crossing::value_variants().iter();
            all.filter(|crossing| crossing.ends(backend).is_ok()).map(|crossing| crossing.name()).collect::<Vec<_>>()
        };
        let anywhere = ["kernel-vxlan", "kernel-host-gw", "udp-forwarder"];
        let with = |mixed: [&'static str; 2]| [&["ours"][..], &mixed, &anywhere].concat();
        assert_eq!(speak(Backend::Vxlan), with(["ours-to-kernel", "kernel-to-ours"]));
        assert_eq!(speak(Backend::HostGw), with(["ours-to-kernel", "kernel-to-ours"]));
        assert_eq!(speak(Backend::Udp), with(["ours-to-forwarder", "forwarder-to-ours"]));
    }
}

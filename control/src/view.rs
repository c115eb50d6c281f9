//! What a switch shows of itself.

mod worker;
mod world;

use std::collections::BTreeMap;
use std::net::IpAddr;

use packet::{Mac, Prefix};
use serde::{Deserialize, Serialize};

use crate::text::words;
use crate::{Ability, Backend, InterfaceName, NetnsPath, Origin, Pause, Poll, RouteTarget};

pub use self::worker::{Percentiles, ReturnsView, Usage, WorkerView};
pub use self::world::{AdjacencyView, ConfigView, EndpointView, LinkView, WorldsView};

/// A port and what went through it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortView {
    /// Its index; 0 is the host port.
    pub index: u16,
    /// The endpoint's name; of the host port its interface's.
    pub name: String,
    /// What is behind it.
    pub kind: PortKind,
    /// The interface on the far side; none of an uplink.
    pub interface: Option<InterfaceName>,
    /// The namespace of that interface; none for the host's own.
    pub netns: Option<NetnsPath>,
    /// Addresses behind the port; of an uplink the switch's own there.
    pub addresses: Vec<IpAddr>,
    /// Ethernet address of the interface; of a VXLAN uplink our VTEP's.
    pub mac: Mac,
    /// MTU of the interface in bytes; of an uplink the longest packet that fits its tunnels.
    pub mtu: u16,
    /// What the port takes off the far side's hands.
    pub abilities: Vec<Ability>,
    /// Who asked for it; none for the host port and uplinks.
    pub origin: Option<Origin>,
    /// Frames the switch received from the port.
    pub received: Traffic,
    /// Frames the switch wrote to the port.
    pub sent: Traffic,
    /// Packets received here and dropped by the switch, by reason; reasons without drops are left out.
    pub dropped: BTreeMap<String, u64>,
    /// Frames the kernel dropped before the switch could read them, where it says: the TAP's queue was full.
    pub kernel_dropped: Option<u64>,
}

words! {
    /// What is behind a port.
    PortKind, "port kind" {
        /// The host.
        Host => "host",
        /// A pod.
        Workload => "workload",
        /// Other nodes.
        Uplink => "uplink",
    }
}

/// Frames and the bytes in them, Ethernet header included; a super-frame counts as one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// How many frames.
    pub frames: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// A route in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RouteView {
    /// Destinations.
    pub prefix: Prefix,
    /// Where their packets go.
    pub target: RouteTarget,
    /// Who asked; none for what follows from the configuration.
    pub origin: Option<Origin>,
}

/// Another node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NeighborView {
    /// The addresses of its pods.
    pub subnet: Prefix,
    /// The node's own address.
    pub via: IpAddr,
    /// How packets get there.
    pub backend: Backend,
    /// Ethernet address of the node's VTEP; of `vxlan` alone.
    pub mac: Option<Mac>,
    /// Who asked.
    pub origin: Origin,
}

/// A station: who is behind a port's link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StationView {
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address, once known.
    pub mac: Option<Mac>,
    /// Index of the port.
    pub port: u16,
    /// How sure the switch is.
    pub state: StationState,
}

words! {
    /// How sure the switch is of a station (after RFC 4861, section 7.3.2).
    StationState, "station state" {
        /// Told, not learned: never asked for again.
        Permanent => "permanent",
        /// Heard of lately.
        Reachable => "reachable",
        /// Not heard of for a while, used all the same.
        Stale => "stale",
        /// Asked for, no answer yet.
        Incomplete => "incomplete",
        /// Asked for, and nobody answered.
        Failed => "failed",
    }
}

/// Where every packet went: `received + injected = sent + dropped + punted + in_flight`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DropsView {
    /// Packets that came in by ports.
    pub received: u64,
    /// Packets the slow path put in.
    pub injected: u64,
    /// Packets written to ports.
    pub sent: u64,
    /// Packets dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Packets handed to the slow path, by cause.
    pub punted: BTreeMap<String, u64>,
    /// Packets on their way while this was counted.
    pub in_flight: u64,
    /// True when the sum holds.
    pub conserved: bool,
    /// What the slow path made of the packets handed to it, by outcome.
    pub slow: BTreeMap<String, u64>,
}

/// The switch in short.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Threads that carry packets: workers, or the pipeline's three.
    pub workers: u16,
    /// What they do when there is nothing to do.
    pub poll: Poll,
    /// Endpoints attached.
    pub endpoints: usize,
    /// Routes asked for.
    pub routes: usize,
    /// Other nodes asked for.
    pub neighbors: usize,
    /// Why no pod is attached at present; empty where pods are.
    #[serde(default)]
    pub pauses: Vec<Pause>,
}

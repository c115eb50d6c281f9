//! What a switch is told before it starts: a TOML file, and flags of `podswitch run` that override its keys one by one.
//!
//! ```text
//!  file --toml--> Settings --\
//!                             over --> Settings --TryFrom--> Config
//!  flags --clap--> Settings --/
//! ```
//!
//! [`Settings`] is the one list of keys: a flag is a key with dashes. An unknown key is refused with its file and line
//! and the key that was probably meant; a value that cannot be is refused with what is allowed.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Command};
use control::{AddressRange, Backend, InterfaceName, Mtu, Poll};
use packet::{Mac, Prefix, Vni};
use serde::{Deserialize, Serialize};

use crate::crew::WORKERS_MAX;

mod underlay;

#[cfg(test)]
mod tests;

pub use self::underlay::{Underlay, UnderlayError};

/// Settings as they are written, each present or not.
#[derive(Clone, PartialEq, Eq, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Addresses of this node's pods; give it once for each range.
    #[arg(long = "pod-range", value_name = "PREFIX")]
    #[serde(default)]
    pub pod_ranges: Vec<Prefix>,
    /// Addresses that pods get only by asking: a prefix, FIRST-LAST or one address; give it once for each.
    #[arg(long = "reserve", value_name = "ADDRESSES")]
    #[serde(default)]
    pub reserved: Vec<AddressRange>,
    /// Hide pods behind the node's own address where they speak to others than the cluster's networks.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub masquerade: Option<bool>,
    /// A network of the cluster, to which pods are not hidden; give it once for each [default: the pod ranges].
    #[arg(long = "cluster-network", value_name = "PREFIX")]
    #[serde(default)]
    pub cluster_networks: Vec<Prefix>,
    /// The switch's own address, one for each family or range [default: the first of each pod range].
    #[arg(long, value_name = "ADDRESS")]
    #[serde(default)]
    pub router_address: Vec<IpAddr>,
    /// MTU of pods that do not ask for another: 576 to 65521, with IPv6 from 1280 [default: what tunnels leave, or 1500].
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<Mtu>,
    /// Name of the interface between the switch and the host [default: podswitch0].
    #[arg(long, value_name = "INTERFACE")]
    pub host_port: Option<InterfaceName>,
    /// This node's own address towards other nodes; give it once for each family [default: none, and no tunnels].
    #[arg(long, value_name = "ADDRESS")]
    #[serde(default)]
    pub underlay_address: Vec<IpAddr>,
    /// A tunnel that ends here: vxlan or udp; give it once for each [default: vxlan, with an underlay address].
    #[arg(long = "tunnel", value_name = "TUNNEL")]
    pub tunnels: Option<Vec<Backend>>,
    /// Number of the VXLAN segment [default: 1].
    #[arg(long, value_name = "VNI")]
    pub vxlan_vni: Option<Vni>,
    /// UDP port of VXLAN, here and at other nodes [default: 8472].
    #[arg(long, value_name = "PORT")]
    pub vxlan_port: Option<NonZeroU16>,
    /// Ethernet address of VXLAN's end here [default: made from the first underlay address].
    #[arg(long, value_name = "MAC")]
    pub vtep_mac: Option<Mac>,
    /// UDP port of the udp tunnel, here and at other nodes [default: 8285].
    #[arg(long, value_name = "PORT")]
    pub udp_port: Option<NonZeroU16>,
    /// Cut super-frames for other nodes here instead of leaving it to the kernel [default: false].
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub cut_super_frames: Option<bool>,
    /// Where the switch keeps what it was asked for [default: /run/podswitch].
    #[arg(long, visible_alias = "state", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// What workers do when there is nothing to do: adaptive, spin or sleep [default: adaptive].
    #[arg(long, value_name = "MODE")]
    pub poll: Option<Poll>,
    /// How long adaptive workers spin before they sleep, in microseconds [default: 50].
    #[arg(long, value_name = "MICROSECONDS")]
    pub spin_us: Option<u32>,
    /// CPUs of the workers, one worker each; give it once for each [default: all it may use, in spin mode the last].
    #[arg(long = "worker-cpu", value_name = "CPU")]
    #[serde(default)]
    pub worker_cpus: Vec<u16>,
    /// Three threads carry the packets, on the first three of the workers' CPUs; for rigs with cores to spare.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub pipeline: Option<bool>,
    /// Drop pods' frames that carry another Ethernet address than their own.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub strict_mac: Option<bool>,
    /// Seconds an endpoint may outlive its namespace before it is detached [default: 10].
    #[arg(long, value_name = "SECONDS")]
    pub sweep_seconds: Option<NonZeroU32>,
    /// Where metrics and health are served over TCP too, on loopback, such as 127.0.0.1:9470 [default: nowhere].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_address: Option<SocketAddr>,
    /// Where the switch listens for control [default: control.sock in the state directory].
    // On the command line this is the global --socket.
    #[arg(skip)]
    pub socket: Option<PathBuf>,
}

/// Settings that are complete and fit together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// What pods and the host see of this node.
    pub node: Node,
    /// The MTU of the node is not given: with tunnels it is what they leave of the underlay's.
    pub mtu_by_underlay: bool,
    /// Addresses that pods get only by asking.
    pub reserved: Vec<AddressRange>,
    /// Hide pods behind the node's own address where they speak to others than `cluster_networks`.
    pub masquerade: bool,
    /// The cluster's networks, the pod ranges among them.
    pub cluster_networks: Vec<Prefix>,
    /// Where the switch keeps what it was asked for.
    pub state_dir: PathBuf,
    /// Where it listens for control.
    pub socket: PathBuf,
    /// What workers do when there is nothing to do.
    pub poll: Poll,
    /// How long adaptive workers spin before they sleep.
    pub spin: Duration,
    /// CPUs of the workers, one worker each; none given, all that it may use.
    pub worker_cpus: Vec<u16>,
    /// Three threads carry the packets, on the first three of these CPUs.
    pub pipeline: bool,
    /// Drop pods' frames that carry another Ethernet address than their own.
    pub strict_mac: bool,
    /// How long an endpoint may outlive its namespace before it is detached.
    pub sweep_every: Duration,
    /// Where metrics and health are served over TCP, on loopback.
    pub metrics_address: Option<SocketAddr>,
}

/// What pods and the host see of this node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Addresses of this node's pods: at least one range, no two overlapping.
    pub pod_ranges: Vec<Prefix>,
    /// The switch's own addresses, within the ranges, at least one for each family of them.
    pub router_addresses: Vec<IpAddr>,
    /// MTU of pods that do not ask for another, and of the host port.
    pub mtu: Mtu,
    /// The interface between the switch and the host.
    pub host_port: InterfaceName,
    /// How other nodes reach it.
    #[serde(default)]
    pub underlay: Underlay,
}

/// Why there is no [`Config`].
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum Error {
    #[error("cannot read the configuration {}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{}:{line}: {message}", file.display())]
    Syntax { file: PathBuf, line: usize, message: String },
    #[error("{}:{line}: '{key}' is no key of the configuration", file.display())]
    UnknownKey { file: PathBuf, line: usize, key: String, meant: Option<String> },
    #[error("{}:{line}: {key}: {message}", file.display())]
    Value { file: PathBuf, line: usize, key: String, message: String },
    #[error("pod_ranges is missing")]
    NoRange,
    #[error("pod_ranges: {range} holds no pod addresses: it is {kind}")]
    Unroutable { range: Prefix, kind: &'static str },
    #[error("pod_ranges: {0} and {1} overlap")]
    Overlap(Prefix, Prefix),
    #[error("router_address: {address} lies in none of pod_ranges ({})", list(ranges))]
    RouterOutside { address: IpAddr, ranges: Vec<Prefix> },
    #[error("router_address: {address} is given twice")]
    RouterTwice { address: IpAddr },
    #[error("router_address: none lies in {range} or another range of its family")]
    RouterFamily { range: Prefix },
    #[error("mtu: {mtu} is too small for the IPv6 range {range}: allowed are {} to {}", Mtu::MIN_IPV6, Mtu::MAX)]
    MtuIpv6 { mtu: Mtu, range: Prefix },
    #[error(transparent)]
    Underlay(#[from] UnderlayError),
    #[error("mtu: tunnels leave {left} bytes of the underlay's MTU, and pods need {}", Mtu::MIN)]
    MtuLeft { left: u32 },
    #[error("spin_us: {spin_us} is too long: allowed are 0 to {SPIN_US_MAX}")]
    Spin { spin_us: u32 },
    #[error("worker_cpus: {workers} workers are too many: a TAP has at most {WORKERS_MAX} queues")]
    Workers { workers: usize },
    #[error("metrics_address: {address} is not a loopback address, and metrics are for this node alone")]
    MetricsElsewhere { address: SocketAddr },
    #[error("{key}: '{}' is not an absolute path", path.display())]
    Relative { key: &'static str, path: PathBuf },
    #[error("socket: '{}' is longer than the {SOCKET_LEN_MAX} bytes a socket's path may have", path.display())]
    SocketLength { path: PathBuf },
}

impl Settings {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Syntax`], [`Error::UnknownKey`] and [`Error::Value`], with file and line.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(file).map_err(|source| Error::Read { file: file.to_owned(), source })?;
        Self::parse(file, &text)
    }

    /// Parses `text`; `file` is for errors alone.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Error> {
        let line = |at: usize| 1 + text.as_bytes()[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count();
        let place = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
        let syntax = |error: toml::de::Error| Error::Syntax {
            file: file.to_owned(),
            line: line(place(&error)),
            message: error.message().to_owned(),
        };
        let table = toml::de::DeTable::parse(text).map_err(syntax)?;
        let known = keys();
        for key in table.get_ref().keys() {
            let name = key.get_ref().to_string();
            if !known.contains(&name) {
                let meant = meant(&name, &known);
                return Err(Error::UnknownKey {
                    file: file.to_owned(),
                    line: line(key.span().start),
                    key: name,
                    meant,
                });
            }
        }
        toml::from_str(text).map_err(|error| {
            let at = place(&error);
            let holder = table.get_ref().iter().find(|(_, value)| value.span().contains(&at));
            match holder {
                None => syntax(error),
                Some((key, _)) => Error::Value {
                    file: file.to_owned(),
                    line: line(at),
                    key: key.get_ref().to_string(),
                    message: error.message().to_owned(),
                },
            }
        })
    }

    /// These settings, and where they say nothing, the `other`s.
    pub fn over(self, other: Settings) -> Settings {
        Settings {
            pod_ranges: if self.pod_ranges.is_empty() { other.pod_ranges } else { self.pod_ranges },
            reserved: if self.reserved.is_empty() { other.reserved } else { self.reserved },
            masquerade: self.masquerade.or(other.masquerade),
            cluster_networks: if self.cluster_networks.is_empty() {
                other.cluster_networks
            } else {
                self.cluster_networks
            },
            router_address: if self.router_address.is_empty() { other.router_address } else { self.router_address },
            mtu: self.mtu.or(other.mtu),
            host_port: self.host_port.or(other.host_port),
            underlay_address: if self.underlay_address.is_empty() {
                other.underlay_address
            } else {
                self.underlay_address
            },
            tunnels: self.tunnels.or(other.tunnels),
            vxlan_vni: self.vxlan_vni.or(other.vxlan_vni),
            vxlan_port: self.vxlan_port.or(other.vxlan_port),
            vtep_mac: self.vtep_mac.or(other.vtep_mac),
            udp_port: self.udp_port.or(other.udp_port),
            cut_super_frames: self.cut_super_frames.or(other.cut_super_frames),
            state_dir: self.state_dir.or(other.state_dir),
            socket: self.socket.or(other.socket),
            poll: self.poll.or(other.poll),
            spin_us: self.spin_us.or(other.spin_us),
            worker_cpus: if self.worker_cpus.is_empty() { other.worker_cpus } else { self.worker_cpus },
            pipeline: self.pipeline.or(other.pipeline),
            strict_mac: self.strict_mac.or(other.strict_mac),
            sweep_seconds: self.sweep_seconds.or(other.sweep_seconds),
            metrics_address: self.metrics_address.or(other.metrics_address),
        }
    }
}

impl TryFrom<Settings> for Config {
    type Error = Error;

    fn try_from(settings: Settings) -> Result<Self, Error> {
        let config = Config::without_ranges(settings)?;
        config.node.check()?;
        Ok(config)
    }
}

impl Config {
    /// The same for a switch that is not to run but to be cleaned up after: pod ranges are neither needed nor checked.
    pub fn without_ranges(settings: Settings) -> Result<Self, Error> {
        let underlay = Underlay::of(&settings);
        let state_dir = settings.state_dir.unwrap_or_else(|| PathBuf::from(STATE_DIR));
        let socket = settings.socket.unwrap_or_else(|| state_dir.join(SOCKET));
        for (key, path) in [("state_dir", &state_dir), ("socket", &socket)] {
            if !path.is_absolute() {
                return Err(Error::Relative { key, path: path.clone() });
            }
        }
        if socket.as_os_str().len() > SOCKET_LEN_MAX {
            return Err(Error::SocketLength { path: socket });
        }
        let spin_us = settings.spin_us.unwrap_or(SPIN_US);
        if spin_us > SPIN_US_MAX {
            return Err(Error::Spin { spin_us });
        }
        if settings.worker_cpus.len() > WORKERS_MAX {
            return Err(Error::Workers { workers: settings.worker_cpus.len() });
        }
        if let Some(address) = settings.metrics_address.filter(|address| !address.ip().is_loopback()) {
            return Err(Error::MetricsElsewhere { address });
        }
        let cluster_networks = settings.pod_ranges.iter().copied().chain(settings.cluster_networks).collect();
        let node = Node {
            underlay,
            router_addresses: router_addresses(settings.router_address, &settings.pod_ranges),
            pod_ranges: settings.pod_ranges,
            mtu: settings.mtu.unwrap_or(Mtu::ETHERNET),
            host_port: settings.host_port.unwrap_or_else(|| HOST_PORT.parse().expect("the default is a legal name")),
        };
        Ok(Config {
            node,
            mtu_by_underlay: settings.mtu.is_none(),
            reserved: settings.reserved,
            masquerade: settings.masquerade.unwrap_or(false),
            cluster_networks,
            state_dir,
            socket,
            poll: settings.poll.unwrap_or(Poll::Adaptive),
            spin: Duration::from_micros(spin_us.into()),
            worker_cpus: settings.worker_cpus,
            pipeline: settings.pipeline.unwrap_or(false),
            strict_mac: settings.strict_mac.unwrap_or(false),
            sweep_every: Duration::from_secs(settings.sweep_seconds.map_or(SWEEP_SECONDS, u32::from).into()),
            metrics_address: settings.metrics_address,
        })
    }

    /// The same where the links that have the underlay's addresses have the MTUs that `link_mtu` says.
    ///
    /// # Errors
    /// Tunnels leave too little for pods.
    pub fn over_links(mut self, link_mtu: impl Fn(IpAddr) -> u32) -> Result<Config, Error> {
        if let Some(left) = self.node.underlay.pod_mtu(link_mtu).filter(|_| self.mtu_by_underlay) {
            self.node.mtu = underlay::pod_mtu(left).ok_or(Error::MtuLeft { left })?;
        }
        self.node.check()?;
        Ok(self)
    }
}

impl Node {
    fn check(&self) -> Result<(), Error> {
        let Node { pod_ranges, router_addresses, mtu, underlay, .. } = self;
        if pod_ranges.is_empty() {
            return Err(Error::NoRange);
        }
        for (at, &range) in pod_ranges.iter().enumerate() {
            if let Some(kind) = [range.address(), range.net().broadcast()].into_iter().find_map(control::unroutable) {
                return Err(Error::Unroutable { range, kind });
            }
            if let Some(&before) = pod_ranges[..at].iter().find(|before| before.overlaps(range)) {
                return Err(Error::Overlap(before, range));
            }
            if range.address().is_ipv6() && mtu.get() < Mtu::MIN_IPV6 {
                return Err(Error::MtuIpv6 { mtu: *mtu, range });
            }
            if !router_addresses.iter().any(|address| address.is_ipv4() == range.address().is_ipv4()) {
                return Err(Error::RouterFamily { range });
            }
        }
        for (at, &address) in router_addresses.iter().enumerate() {
            if !pod_ranges.iter().any(|range| range.contains(address)) {
                return Err(Error::RouterOutside { address, ranges: pod_ranges.clone() });
            }
            if router_addresses[..at].contains(&address) {
                return Err(Error::RouterTwice { address });
            }
        }
        Ok(underlay.check(pod_ranges)?)
    }
}

impl Error {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::UnknownKey { meant: Some(meant), .. } => Some(format!("did you mean '{meant}'?")),
            Error::UnknownKey { meant: None, .. } => Some(format!("there are {}", keys().join(", "))),
            Error::NoRange => Some(
                "give --pod-range 10.244.0.0/24, or pod_ranges = [\"10.244.0.0/24\"] in the file of --config"
                    .to_owned(),
            ),
            Error::MetricsElsewhere { address } => Some(format!(
                "give 127.0.0.1:{0} or [::1]:{0}, and let a proxy serve them elsewhere if need be",
                address.port()
            )),
            Error::Underlay(error) => error.hint().map(str::to_owned),
            Error::RouterFamily { .. } => Some("give one address for each family, or none at all".to_owned()),
            _ => None,
        }
    }
}

/// Those given, or the first usable address of each range: the one after its base, which names the network in IPv4 and
/// any router in IPv6 (RFC 4291, section 2.6.1); ranges of one or two addresses have no such base.
fn router_addresses(given: Vec<IpAddr>, ranges: &[Prefix]) -> Vec<IpAddr> {
    if !given.is_empty() {
        return given;
    }
    let first = |range: &Prefix| {
        let step = u8::from(range.net().max_prefix_len() - range.length() > 1);
        match range.address() {
            IpAddr::V4(base) => IpAddr::V4((u32::from(base) + u32::from(step)).into()),
            IpAddr::V6(base) => IpAddr::V6((u128::from(base) + u128::from(step)).into()),
        }
    };
    ranges.iter().map(first).collect()
}

/// Every key, as clap knows them, and the one that is global on the command line.
pub fn keys() -> Vec<String> {
    let flags = Settings::augment_args(Command::new("keys"));
    flags.get_arguments().map(|flag| flag.get_id().to_string()).chain(["socket".to_owned()]).collect()
}

fn meant(key: &str, known: &[String]) -> Option<String> {
    let likeness = |known: &&String| (strsim::jaro_winkler(key, known) * 1000.0) as u32;
    known.iter().max_by_key(likeness).filter(|known| likeness(known) > LIKENESS_MIN).cloned()
}

fn list(prefixes: &[Prefix]) -> String {
    prefixes.iter().map(Prefix::to_string).collect::<Vec<_>>().join(", ")
}

/// Where a switch keeps what it was asked for unless told otherwise.
pub const STATE_DIR: &str = "/run/podswitch";
/// The control socket's name there.
pub const SOCKET: &str = "control.sock";
/// The interface between the switch and the host unless told otherwise.
pub const HOST_PORT: &str = "podswitch0";
const SWEEP_SECONDS: u32 = 10;
const SPIN_US: u32 = 50;
const SPIN_US_MAX: u32 = 1_000_000;
/// `sun_path` less its terminating zero (unix(7)).
const SOCKET_LEN_MAX: usize = 107;
/// Jaro-Winkler likeness in thousandths below which nothing is proposed.
const LIKENESS_MIN: u32 = 800;

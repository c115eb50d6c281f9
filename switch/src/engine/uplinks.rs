//! Our ends of the tunnels to other nodes: opened when the switch starts, and ports like any other from then on.

use std::net::{IpAddr, SocketAddr};

use control::Backend;
use encap::{Ends, SOURCE_PORTS, Template, Tunnel, Vtep, vxlan_header};
use host::{Abilities, Netlink, TunnelSocket};
use nix::errno::Errno;
use packet::{Mac, Vni};

use crate::bank::PORTS_MAX;
use crate::crew::Crew;
use crate::limits::Limits;
use crate::port::{Express, Link, Port, PortCounters, Uplink};
use crate::wire;

/// One end, as neighbours are told apart by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct End {
    pub(super) backend: Backend,
    /// Where it listens, and the far ends too.
    pub(super) local: SocketAddr,
    /// Its station: of VXLAN, the VTEP's.
    pub(super) mac: Mac,
    /// Longest inner IP packet.
    pub(super) mtu: u16,
    /// Bytes by which it makes a packet longer.
    pub(super) overhead: u16,
    /// VXLAN's.
    pub(super) vni: Vni,
    /// Super-frames are cut before they go.
    pub(super) cuts: bool,
    /// Its port's number: [`FIRST_UPLINK`] and after.
    pub(super) port: u16,
}

impl End {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel's word, such as that another tunnel device has the port.
    pub(super) fn open(&self, crew: &Crew) -> Result<Port, host::Error> {
        let receivers = match (self.backend, self.local.ip()) {
            (Backend::Ipip, IpAddr::V4(local)) => TunnelSocket::ipip_group(local, crew.queues())?,
            _ => TunnelSocket::group(self.local, crew.queues())?,
        };
        let (tunnel, header) = match self.backend {
            Backend::Vxlan => (Tunnel::Vxlan(Vtep::new(self.vni, self.mac)), vxlan_header(self.vni).to_vec()),
            _ => (Tunnel::Ipv4, Vec::new()),
        };
        let senders = match self.backend {
            Backend::Vxlan => self.senders()?,
            // flannel's peers answer to the port that is meant for receiving; IP-in-IP has none.
            _ => vec![receivers[0].try_clone()?],
        };
        let ports = senders.iter().map(TunnelSocket::port).collect::<Result<Vec<_>, _>>()?;
        let steering = if self.backend == Backend::Ipip { None } else { crew.steer_group(&receivers) };
        let mut uplink = Uplink::new(tunnel, &header, (receivers, senders), self.mtu);
        if self.may_go_uncut() {
            uplink.express = wire::express(crew.queues())?.map(|tap| Express::new(tap, hashes_of(&ports)));
        }
        let family = if self.local.is_ipv4() { 4 } else { 6 };
        Ok(Port {
            number: self.port,
            name: format!("{}{family}", self.backend),
            host: false,
            mac: Mac::ZERO,
            gateway: self.mac,
            mtu: self.mtu,
            sources_v4: Vec::new(),
            sources_v6: Vec::new(),
            strict_mac: false,
            abilities: Abilities::default(),
            link: Link::Uplink(uplink),
            steering,
            limits: Limits::default(),
            counters: PortCounters::new(crew.writers()),
        })
    }
}

impl End {
    /// The outer headers towards `via` of what may go out uncut.
    pub(super) fn template(&self, via: IpAddr) -> Option<Template> {
        let (IpAddr::V4(local), IpAddr::V4(remote)) = (self.local.ip(), via) else { return None };
        let ends = Ends { local, remote, local_mac: EXPRESS_MAC_FROM, remote_mac: wire::EXPRESS_MAC };
        let template = Template::vxlan_v4(&ends, self.vni, self.local.port()).with_udp_checksum().with_dont_fragment();
        self.may_go_uncut().then_some(template)
    }

    /// The VXLAN device of the kernel that has its port.
    pub(super) fn holder(&self) -> Option<String> {
        let devices = Netlink::open().and_then(|mut own| own.vxlan_ports()).ok()?;
        devices.into_iter().find(|(_, port)| *port == self.local.port()).map(|(name, _)| name)
    }

    fn may_go_uncut(&self) -> bool {
        self.backend == Backend::Vxlan && self.local.is_ipv4() && !self.cuts
    }

    /// Sockets with source ports that a template can stamp too.
    fn senders(&self) -> Result<Vec<TunnelSocket>, host::Error> {
        let mut senders = Vec::with_capacity(SENDERS);
        let mut ports = SOURCE_PORTS.skip(usize::from(self.local.port()) % 1024);
        while senders.len() < SENDERS {
            let port = ports.next().unwrap_or(0);
            match TunnelSocket::open(SocketAddr::new(self.local.ip(), port)) {
                Err(error) if error.errno() == Some(Errno::EADDRINUSE as i32) => {}
                opened => senders.push(opened?),
            }
        }
        Ok(senders)
    }
}

/// Of each port the least flow hash that gives it.
fn hashes_of(ports: &[u16]) -> Vec<u32> {
    let (first, count) = (u64::from(*SOURCE_PORTS.start()), SOURCE_PORTS.count() as u64);
    ports.iter().map(|&port| ((u64::from(port).saturating_sub(first) << 32).div_ceil(count)) as u32).collect()
}

/// The station that frames written there come from.
const EXPRESS_MAC_FROM: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// Uplinks have the last numbers.
pub(super) const FIRST_UPLINK: u16 = PORTS_MAX as u16 - 8;
/// Source ports of one end: flows spread over them, so that the far end's queues share the work.
const SENDERS: usize = 8;

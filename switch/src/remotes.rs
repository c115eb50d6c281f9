//! Other nodes as workers see them: where a tunnel to each leads, and who it is that a tunnel's datagram came from.
//!
//! A remote is a node's address at one uplink. Several neighbours, which are subnets, may be behind one. Remotes are
//! part of the world and never change: a new world has new ones. A number goes to another node only when no worker sees
//! the old one.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use encap::Template;
use socket2::SockAddr;

/// The nodes that tunnels lead to.
#[derive(Debug, Default)]
pub struct Remotes {
    /// By number less 1.
    remotes: Vec<Option<Remote>>,
    numbers: HashMap<(u16, IpAddr), u16>,
    /// Where our own ends listen.
    ports: Vec<u16>,
}

/// One node at one uplink.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Port number of the uplink.
    pub uplink: u16,
    /// Where its end of the tunnel listens.
    pub address: SocketAddr,
    /// The same as the kernel takes it.
    pub to: SockAddr,
    /// The outer headers of super-frames that go out uncut.
    pub template: Option<Template>,
}

impl Remote {
    /// The node at `address`, by `uplink`.
    pub fn new(uplink: u16, address: SocketAddr, template: Option<Template>) -> Self {
        Remote { uplink, address, to: address.into(), template }
    }
}

impl Remotes {
    /// Numbers the remotes by their places, from 1. Our own ends listen at `ports`; none are without a tunnel.
    pub fn new(remotes: Vec<Option<Remote>>, ports: Vec<u16>) -> Self {
        let numbered = (1..).zip(&remotes).filter_map(|(number, remote)| Some((number, remote.as_ref()?)));
        let numbers = numbered.map(|(number, remote)| ((remote.uplink, remote.address.ip()), number)).collect();
        Remotes { remotes, numbers, ports }
    }

    /// The remote of that number.
    #[inline]
    pub fn get(&self, number: u16) -> Option<&Remote> {
        self.remotes.get(usize::from(number).wrapping_sub(1))?.as_ref()
    }

    /// UDP ports of our own ends.
    #[inline]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The number of the node that sent a datagram to `uplink`; 0 if no neighbour has that address.
    #[inline]
    pub fn number_of(&self, uplink: u16, from: IpAddr) -> u16 {
        self.numbers.get(&(uplink, from)).copied().unwrap_or(0)
    }
}

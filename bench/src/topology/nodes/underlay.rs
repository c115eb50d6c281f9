//! The wire between two nodes: a veth pair, and what makes it worse.
//!
//! A veth pair passes super-frames uncut and checksums unfinished, which no network card and no switch in between does:
//! tunnels look better on it than they are. So what it takes off the kernel's hands can be switched off, and frames be
//! lost on arrival at either node. What crosses uncut is lost as a whole. The kernel's own frame reordering
//! (`netem`) is missing in many kernels, so a wire that changes the order of frames is a plain forwarder between two TAPs: all
//! frames are cut and finished there.

use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use clap::ValueEnum;
use host::{LinkChange, Namespace, Neighbor, Netlink, TemporaryNamespace, VethPair};
use ipnet::IpNet;

use super::Site;
use crate::error::{Error, Result};
use crate::load::Family;
use crate::topology::forwarder::Forwarder;
use crate::topology::kernel::{ETH0, UP, address_of};

/// The wire, as it is to be.
#[derive(Debug, Clone, Copy)]
pub struct Underlay {
    /// What tunnels run over.
    pub family: Family,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// What both ends take off the kernel's hands.
    pub offloads: Offloads,
    /// Of a hundred frames, how many are lost, each way.
    pub loss_percent: u8,
    /// Of a hundred frames, how many arrive after later ones, each way.
    pub reorder_percent: u8,
}

impl Default for Underlay {
    fn default() -> Self {
        Self { family: Family::V4, mtu: 1500, offloads: Offloads::On, loss_percent: 0, reorder_percent: 0 }
    }
}

/// What both ends of the wire take off the kernel's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Offloads {
    /// Whatever a veth does.
    On,
    /// Checksums, but no segmentation: not of TCP, not of UDP, not within tunnels.
    NoSegmentation,
    /// The same, but what arrives is joined (GRO), as a network card's driver does.
    Card,
    /// Neither segmentation nor checksums.
    None,
}

impl Offloads {
    fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::NoSegmentation => "no-segmentation",
            Self::Card => "card",
            Self::None => "none",
        }
    }

    /// What ethtool(8) has to set.
    fn settings(self) -> Vec<&'static str> {
        const CUT: [&str; 4] =
            ["tso", "tx-udp-segmentation", "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"];
        let cut = CUT.into_iter().flat_map(|feature| [feature, "off"]);
        match self {
            Self::On => Vec::new(),
            Self::NoSegmentation => cut.collect(),
            Self::Card => cut.chain(["gro", "on"]).collect(),
            Self::None => cut.chain(["tx", "off"]).collect(),
        }
    }
}

impl Underlay {
    /// The conditions of a report.
    pub fn describe(&self) -> String {
        let Self { mtu, offloads, loss_percent, reorder_percent, .. } = self;
        let wire = format!("wire of MTU {mtu}, offloads {}, {loss_percent} % lost", offloads.name());
        if *reorder_percent == 0 {
            wire
        } else {
            format!("{wire}, {reorder_percent} % late, through a plain forwarder")
        }
    }

    /// Joins the namespaces of nodes 1 and 2 by `eth0` in each, and says what has to be held for that.
    pub(super) fn wire(&self, nodes: &[TemporaryNamespace; 2]) -> Result<Option<Forwarder>> {
        let forwarder = match self.reorder_percent {
            0 => self.veth(nodes).map(|()| None)?,
            percent => Some(Forwarder::wire(nodes, percent)?),
        };
        self.set_up(&nodes[0], (Site(1), Site(2)))?;
        self.set_up(&nodes[1], (Site(2), Site(1)))?;
        Ok(forwarder)
    }

    fn veth(&self, nodes: &[TemporaryNamespace; 2]) -> Result<()> {
        let far = Some(nodes[1].as_fd());
        let pair = VethPair { name: ETH0, peer: ETH0, peer_namespace: far, mtu: Some(self.mtu), ..VethPair::default() };
        Ok(Netlink::open_in(&nodes[0])?.create_veth(&pair)?)
    }

    /// Permanent neighbours, so that no resolution falls into a measurement, or is lost.
    fn set_up(&self, node: &Namespace, (own, peer): (Site, Site)) -> Result<()> {
        let mut netlink = Netlink::open_in(node)?;
        let eth0 = netlink.link(ETH0)?.index;
        netlink.change_link(eth0, &LinkChange { mac: Some(own.mac()), mtu: Some(self.mtu), ..UP })?;
        for (family, length) in [(Family::V4, 24), (Family::V6, 64)] {
            netlink.add_address(&address_of(eth0, IpNet::new_assert(own.underlay_address(family), length)))?;
            let address = peer.underlay_address(family);
            netlink.add_neighbor(&Neighbor { link: eth0, address, mac: peer.mac() })?;
        }
        let settings = self.offloads.settings();
        if !settings.is_empty() {
            tell(node, Command::new("ethtool").args(["-K", ETH0]).args(settings), "")?;
        }
        if self.loss_percent > 0 {
            let hook = format!("type filter hook ingress device {ETH0} priority 0");
            let rule = format!("numgen random mod 100 < {} drop", self.loss_percent);
            let table = format!("table netdev loss {{ chain arrival {{ {hook}\n{rule}\n }}\n }}\n");
            tell(node, Command::new("nft").args(["-f", "-"]), &table)?;
        }
        Ok(())
    }
}

/// Runs a program of the system inside the node, with `input` at its standard input.
fn tell(node: &Namespace, command: &mut Command, input: &str) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let missing = Error::system(format!("run `{name}`, which `make deps` installs"));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let told = node.run(|| {
        let mut child = command.spawn()?;
        child.stdin.take().expect("its input is a pipe").write_all(input.as_bytes())?;
        child.wait_with_output()
    })?;
    let told = told.map_err(missing)?;
    if told.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&told.stderr).trim_end().to_owned();
    Err(Error::Program { command: name, status: told.status.to_string(), output })
}

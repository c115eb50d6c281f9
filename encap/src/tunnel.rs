//! Where the inner frame lies in what came out of a tunnel.

use std::ops::Range;

use packet::view::{IPV4_LEN, Ipv4};
use packet::{FrameRef, Reason};

use crate::vxlan::Vtep;

/// Our end of a tunnel, as received datagrams are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tunnel {
    /// VXLAN: the datagram carries an Ethernet frame.
    Vxlan(Vtep),
    /// flannel's UDP and IP-in-IP: the payload is an IPv4 packet and nothing else.
    Ipv4,
}

/// A frame or packet found in a datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inner {
    /// Its bytes in the datagram: an Ethernet frame out of VXLAN, else an IPv4 packet.
    pub at: Range<usize>,
    /// A frame to a broadcast or multicast address: to be answered if it is ARP or neighbour discovery for an address
    /// of ours, never to be forwarded.
    pub group: bool,
}

impl Tunnel {
    /// Finds the inner frame in the payload of a datagram: what a UDP socket gives, or of a whole packet
    /// [`Outer::payload`](crate::Outer). All headers of the inner frame are in the payload's head; its tail may hold
    /// the rest.
    ///
    /// # Errors
    /// The reason to drop it: [`Reason::Truncated`]; of VXLAN [`Reason::NoVni`], [`Reason::GroupPolicy`],
    /// [`Reason::ReservedBits`], [`Reason::UnknownVni`], [`Reason::OtherStation`] and [`Reason::OwnMac`]; of the others
    /// [`Reason::BadIpHeader`] and [`Reason::BadIpLength`].
    #[inline]
    pub fn strip(&self, payload: FrameRef<'_>) -> Result<Inner, Reason> {
        match self {
            Tunnel::Vxlan(vtep) => vtep.strip(payload),
            Tunnel::Ipv4 => strip_ipv4(payload),
        }
    }
}

/// The length is the packet's own; what lies behind it is padding.
#[inline]
fn strip_ipv4(payload: FrameRef<'_>) -> Result<Inner, Reason> {
    if payload.head.len() < IPV4_LEN {
        return Err(Reason::Truncated);
    }
    let ip = Ipv4::parse(payload.head).ok_or(Reason::BadIpHeader)?;
    let length = usize::from(ip.total_len());
    if length > payload.len() {
        return Err(Reason::BadIpLength);
    }
    Ok(Inner { at: 0..length, group: false })
}

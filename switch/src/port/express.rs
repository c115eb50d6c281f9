//! The express way of super-frames into a tunnel: whole, by one write into a TAP of the node's own namespace.
//!
//! The kernel takes an encapsulated super-frame as if a network card had received it, forwards it, and cuts it where
//! the way needs it, or never, if the other end is on this machine or the card does it. What stands before the inner
//! frame:
//!
//! ```text
//!   | virtio header 24 | Ethernet 14, to this TAP | IP 20 | UDP 8 | VXLAN 8 | inner frame, its checksum unfinished ...
//! ```
//!
//! The UDP checksum is left unfinished too, for the kernel joins cut datagrams only if they have one. The source port
//! is that of the socket by which the flow's small frames go, so the underlay keeps them in order. Only TCP goes this
//! way, and only to nodes with IPv4 addresses; all else is cut ([`crate::path`]).
//!
//! Source: `struct virtio_net_hdr_v1_hash_tunnel` of Linux `include/uapi/linux/virtio_net.h`, `tun_vnet.h`.

use std::fs::File;
use std::io::{self, IoSlice};

use encap::{ROOM, Stamp, Template};
use host::{TUNNEL_HEADER_LEN, Tap};
use packet::view::{ETHERNET_LEN, IPV4_LEN};
use packet::{Gso, Offload};

use super::tap;

/// The TAP, a queue for each worker.
pub struct Express {
    queues: Vec<File>,
    /// A flow hash for each sender, which gives its source port when stamped.
    hashes: Vec<u32>,
}

impl Express {
    /// By `tap`, which was opened for tunnels; `hashes` are the senders'.
    pub fn new(tap: Tap, hashes: Vec<u32>) -> Self {
        Express { queues: tap.into_queues(), hashes }
    }

    /// Writes the outer headers, of that TOS, into `room`, the bytes right before an inner frame of `length` bytes, and says
    /// how many of them are to be written. `None` if the frame cannot go this way.
    #[inline]
    pub fn wrap(
        &self,
        (template, sender, tos): (&Template, usize, u8),
        (offload, length): (&Offload, usize),
        room: &mut [u8; EXPRESS_ROOM],
    ) -> Option<usize> {
        let gso_type = match offload.gso {
            Gso::Tcp4 => 1,
            Gso::Tcp6 => 4,
            _ => return None,
        };
        let stamp = Stamp { length, flow_hash: self.hashes[sender], tos, id: 0 };
        let stamped = room.last_chunk_mut::<ROOM>().expect("there is more room");
        let outer_len = template.stamp(stamped, &stamp)?;
        let inner = outer_len as u16;
        let outer_transport = (ETHERNET_LEN + IPV4_LEN) as u16;
        let start = EXPRESS_ROOM - outer_len - TUNNEL_HEADER_LEN;
        let header = &mut room[start..start + TUNNEL_HEADER_LEN];
        header.fill(0);
        (header[0], header[1]) = (NEEDS_CSUM | TUNNEL_CSUM, gso_type | TUNNEL_IPV4);
        let words = [
            (2, inner + offload.header_len),
            (4, offload.gso_size),
            (6, inner + offload.csum_start),
            (8, offload.csum_offset),
            (20, outer_transport),
            (22, inner + ETHERNET_LEN as u16),
        ];
        for (at, word) in words {
            header[at..at + 2].copy_from_slice(&word.to_le_bytes());
        }
        Some(outer_len + TUNNEL_HEADER_LEN)
    }

    /// Writes a frame, outer headers and all, by the worker's queue.
    #[inline]
    pub fn write(&self, worker: u16, slices: &[IoSlice<'_>]) -> io::Result<()> {
        tap::write_frame(self.queues.get(usize::from(worker)).unwrap_or(&self.queues[0]), slices)
    }
}

/// Room before a frame that [`Express::wrap`] needs.
pub const EXPRESS_ROOM: usize = TUNNEL_HEADER_LEN + ROOM;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`
const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_F_UDP_TUNNEL_CSUM`
const TUNNEL_CSUM: u8 = 8;
/// `VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4`
const TUNNEL_IPV4: u8 = 0x20;

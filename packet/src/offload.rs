//! What a TAP says beside a frame: the virtio network header.
//!
//! A TAP opened with `IFF_VNET_HDR` puts [`VNET_HEADER_LEN`] bytes before every frame. They say whether the transport
//! checksum is unfinished (the field holds only the pseudo-header's sum) and whether the frame is a super-frame that
//! stands for many segments:
//!
//! ```text
//!  0      1         2        4         6           8            10           12
//!  +------+---------+--------+---------+-----------+------------+------------+
//!  |flags |gso_type |hdr_len |gso_size |csum_start |csum_offset |num_buffers |   little-endian
//!  +------+---------+--------+---------+-----------+------------+------------+
//! ```
//!
//! Source: virtio 1.2, section 5.1.6; Linux `include/uapi/linux/virtio_net.h` and `drivers/net/tun.c`.

/// Bytes of the header before each frame of a vnet port (`TUNSETVNETHDRSZ`).
pub const VNET_HEADER_LEN: usize = 12;

/// What kind of super-frame a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Gso {
    /// An ordinary frame.
    #[default]
    None = 0,
    /// TCP over IPv4.
    Tcp4 = 1,
    /// TCP over IPv6.
    Tcp6 = 4,
    /// UDP over either family, cut into whole datagrams (USO); *not* IP fragmentation.
    Udp = 5,
}

/// The header's content, parsed. Offsets count from the frame's first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offload {
    /// The checksum at `csum_start + csum_offset` covers only the pseudo-header so far.
    pub needs_csum: bool,
    /// The sender's side vouches for the checksum (`VIRTIO_NET_HDR_F_DATA_VALID`).
    pub data_valid: bool,
    /// What the frame stands for.
    pub gso: Gso,
    /// A segment has the congestion-window-reduced flag (TCP only).
    pub ecn: bool,
    /// Bytes of all headers, a hint of the kernel's: never trust it.
    pub header_len: u16,
    /// Payload bytes of each segment but the last.
    pub gso_size: u16,
    /// Where the unfinished checksum's coverage starts: the transport header.
    pub csum_start: u16,
    /// Where in the transport header the field lies: 16 TCP, 6 UDP.
    pub csum_offset: u16,
}

/// The header says something this switch does not know or cannot be true.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown super-frame type {0:#x} in the virtio header")]
pub struct UnknownGso(pub u8);

impl Offload {
    /// Parses the first ten bytes of `header`; an unknown `gso_type` is an error, flags beyond the two known are ignored.
    #[inline]
    pub fn parse(header: &[u8; VNET_HEADER_LEN]) -> Result<Self, UnknownGso> {
        let gso = match header[1] & !GSO_ECN {
            0 => Gso::None,
            1 => Gso::Tcp4,
            4 => Gso::Tcp6,
            5 => Gso::Udp,
            other => return Err(UnknownGso(other)),
        };
        let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        Ok(Offload {
            needs_csum: header[0] & NEEDS_CSUM != 0,
            data_valid: header[0] & DATA_VALID != 0,
            gso,
            ecn: header[1] & GSO_ECN != 0,
            header_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        })
    }

    /// The bytes to put before the frame; `num_buffers` is 0.
    #[inline]
    pub fn bytes(&self) -> [u8; VNET_HEADER_LEN] {
        let mut header = [0; VNET_HEADER_LEN];
        header[0] = if self.needs_csum { NEEDS_CSUM } else { 0 } | if self.data_valid { DATA_VALID } else { 0 };
        header[1] = self.gso as u8 | if self.ecn { GSO_ECN } else { 0 };
        header[2..4].copy_from_slice(&self.header_len.to_le_bytes());
        header[4..6].copy_from_slice(&self.gso_size.to_le_bytes());
        header[6..8].copy_from_slice(&self.csum_start.to_le_bytes());
        header[8..10].copy_from_slice(&self.csum_offset.to_le_bytes());
        header
    }
}

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_ECN: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_bytes_and_back() {
        let offload = Offload {
            needs_csum: true,
            data_valid: false,
            gso: Gso::Tcp6,
            ecn: true,
            header_len: 86,
            gso_size: 1428,
            csum_start: 54,
            csum_offset: 16,
        };
        assert_eq!(Offload::parse(&offload.bytes()), Ok(offload));
    }

    #[test]
    fn ip_fragmentation_offload_is_unknown_to_us() {
        let mut header = [0; VNET_HEADER_LEN];
        header[1] = 3;
        assert_eq!(Offload::parse(&header), Err(UnknownGso(3)));
    }
}

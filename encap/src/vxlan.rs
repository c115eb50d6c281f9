//! The VXLAN header and our end of a VXLAN tunnel (RFC 7348, section 5).
//!
//! ```text
//!   0 1 2 3 4 5 6 7                                31
//!  |G R R R I R R R| reserved                       |      I: there is a VNI; G: group policy, an extension
//!  | VNI, 24 bits                   | reserved      |
//! ```
//!
//! A good header has I set and nothing else but the VNI, so all of it is one known 64-bit word, and receiving is one
//! comparison. The RFC asks receivers to ignore reserved bits; like Linux we refuse them, because whoever sets one
//! means an extension that changes how the rest is to be read.

use packet::view::Ethernet;
use packet::{FrameRef, Mac, Reason, Vni};

use crate::tunnel::Inner;

/// Bytes of a VXLAN header.
pub const VXLAN_LEN: usize = 8;

/// The header of every frame of `vni`.
pub fn vxlan_header(vni: Vni) -> [u8; VXLAN_LEN] {
    (I_FLAG | u64::from(u32::from(vni)) << VNI_SHIFT).to_be_bytes()
}

/// Our end of a VXLAN tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vtep {
    header: [u8; VXLAN_LEN],
    mac: Mac,
}

impl Vtep {
    /// The end that other nodes reach at `mac` in `vni`.
    pub fn new(vni: Vni, mac: Mac) -> Self {
        Vtep { header: vxlan_header(vni), mac }
    }

    /// Finds the Ethernet frame in a VXLAN datagram.
    #[inline]
    pub(crate) fn strip(&self, datagram: FrameRef<'_>) -> Result<Inner, Reason> {
        let (header, frame) = datagram.head.split_first_chunk::<VXLAN_LEN>().ok_or(Reason::Truncated)?;
        if *header != self.header {
            return Err(fault_of(*header));
        }
        let ethernet = Ethernet::parse(frame).ok_or(Reason::Truncated)?;
        let destination = ethernet.destination();
        if destination != self.mac && !destination.is_group() {
            return Err(Reason::OtherStation);
        }
        if ethernet.source() == self.mac {
            return Err(Reason::OwnMac);
        }
        Ok(Inner { at: VXLAN_LEN..datagram.len(), group: destination.is_group() })
    }
}

/// What is wrong with a header that is not ours.
#[cold]
fn fault_of(header: [u8; VXLAN_LEN]) -> Reason {
    let header = u64::from_be_bytes(header);
    if header & I_FLAG == 0 {
        Reason::NoVni
    } else if header & G_FLAG != 0 {
        Reason::GroupPolicy
    } else if header & !(I_FLAG | VNI_MASK) != 0 {
        Reason::ReservedBits
    } else {
        Reason::UnknownVni
    }
}

const I_FLAG: u64 = 0x08 << 56;
const G_FLAG: u64 = 0x80 << 56;
const VNI_SHIFT: u32 = 8;
const VNI_MASK: u64 = 0xff_ffff << VNI_SHIFT;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_flannel_and_of_the_rfc() {
        assert_eq!(vxlan_header(Vni::FLANNEL), [8, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(vxlan_header(Vni::CALICO), [8, 0, 0, 0, 0, 0x10, 0, 0]);
        assert_eq!(vxlan_header(Vni::MAX), [8, 0, 0, 0, 0xff, 0xff, 0xff, 0]);
    }

    #[test]
    fn each_bit_of_a_header_that_is_not_ours_has_its_reason() {
        let own = u64::from_be_bytes(vxlan_header(Vni::FLANNEL));
        for bit in 0..64 {
            let expected = match 1u64 << bit {
                I_FLAG => Reason::NoVni,
                G_FLAG => Reason::GroupPolicy,
                flag if flag & VNI_MASK != 0 => Reason::UnknownVni,
                _ => Reason::ReservedBits,
            };
            assert_eq!(fault_of((own ^ 1 << bit).to_be_bytes()), expected, "bit {bit}");
        }
    }
}

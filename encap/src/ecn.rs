//! Congestion marks through a tunnel (RFC 6040).
//!
//! A router that drops early may mark a packet instead, if the two low bits of its TOS or traffic class say that the
//! ends understand marks. In a tunnel it sees the outer header only. So the inner bits are copied outside when a frame
//! is wrapped ([`outer_of`]; section 4.1, normal mode), and a mark met on the way is brought in when it is unwrapped
//! ([`propagate`]; section 4.2). The upper six bits, DSCP, stay on their own side.
//!
//! ```text
//!   inner \ outer   Not-ECT   ECT(0)    ECT(1)    CE
//!   Not-ECT         Not-ECT   Not-ECT   Not-ECT   drop
//!   ECT(0)          ECT(0)    ECT(0)    ECT(1)    CE
//!   ECT(1)          ECT(1)    ECT(1)    ECT(1)    CE
//!   CE              CE        CE        CE        CE
//! ```

use packet::Reason;
use packet::view::{Ipv4, Ipv6};

/// The outer TOS or traffic class for an inner packet that starts `packet`; 0 if it is none.
#[inline]
pub fn outer_of(packet: &[u8]) -> u8 {
    match packet {
        [first, second, ..] if first >> 4 == 4 => outer(*second),
        [first, second, ..] if first >> 4 == 6 => outer(second >> 4),
        _ => NOT_ECT,
    }
}

/// The outer TOS or traffic class for an inner one: its mark and no DSCP, as the kernel's tunnels do by default.
#[inline]
pub fn outer(inner_tos: u8) -> u8 {
    inner_tos & MASK
}

/// Brings what the outer TOS or traffic class says into the inner IP packet that starts `packet`.
///
/// # Errors
/// [`Reason::Congested`]: marked, and its ends do not understand.
#[inline]
pub fn propagate(outer_tos: u8, packet: &mut [u8]) -> Result<(), Reason> {
    let outer = outer_tos & MASK;
    if matches!(outer, NOT_ECT | ECT_0) {
        return Ok(());
    }
    if let Some(mut ip) = Ipv4::parse_mut(packet) {
        let tos = ip.tos();
        ip.set_tos(tos & !MASK | combine(tos & MASK, outer)?);
    } else if let Some(mut ip) = Ipv6::parse_mut(packet) {
        let class = ip.traffic_class();
        ip.set_traffic_class(class & !MASK | combine(class & MASK, outer)?);
    }
    Ok(())
}

/// The table above.
fn combine(inner: u8, outer: u8) -> Result<u8, Reason> {
    match (inner, outer) {
        (NOT_ECT, CE) => Err(Reason::Congested),
        (NOT_ECT | CE, _) => Ok(inner),
        (_, CE) | (ECT_0, ECT_1) => Ok(outer),
        _ => Ok(inner),
    }
}

const MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

#[cfg(test)]
mod tests {
    use etherparse::{IpNumber, Ipv4Header, Ipv6Header};

    use super::*;

    /// RFC 6040, figure 4, row by row: inner Not-ECT, ECT(0), ECT(1), CE; columns likewise for outer.
    const TABLE: [(u8, [Option<u8>; 4]); 4] = [
        (0b00, [Some(0b00), Some(0b00), Some(0b00), None]),
        (0b10, [Some(0b10), Some(0b10), Some(0b01), Some(0b11)]),
        (0b01, [Some(0b01), Some(0b01), Some(0b01), Some(0b11)]),
        (0b11, [Some(0b11), Some(0b11), Some(0b11), Some(0b11)]),
    ];

    #[test]
    fn marks_are_combined_as_the_table_says_and_dscp_stays() {
        for (inner, row) in TABLE {
            for (outer, expected) in [0b00, 0b10, 0b01, 0b11].into_iter().zip(row) {
                let dscp = 0xb8;
                let mut v4 = Ipv4Header::new(0, 64, IpNumber::UDP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
                (v4.dscp, v4.ecn) = ((dscp >> 2).try_into().unwrap(), inner.try_into().unwrap());
                v4.header_checksum = v4.calc_header_checksum();
                let mut bytes = v4.to_bytes().to_vec();
                let done = propagate(0x40 | outer, &mut bytes);
                assert_eq!(done.ok(), expected.map(drop), "{inner:b} {outer:b}");
                let seen = Ipv4Header::from_slice(&bytes).unwrap().0;
                assert_eq!((seen.dscp.value(), seen.ecn.value()), (dscp >> 2, expected.unwrap_or(inner)));
                assert_eq!(seen.header_checksum, seen.calc_header_checksum());

                let mut bytes = Ipv6Header { traffic_class: dscp | inner, ..Default::default() }.to_bytes().to_vec();
                assert_eq!(propagate(outer, &mut bytes).ok(), expected.map(drop));
                let seen = Ipv6Header::from_slice(&bytes).unwrap().0;
                assert_eq!(seen.traffic_class, dscp | expected.unwrap_or(inner));
            }
            assert_eq!(outer(0xb8 | inner), inner);
        }
    }
}

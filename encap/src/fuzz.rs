//! What fuzzers run: stripping arbitrary bytes, with what must hold whatever they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use packet::{FrameRef, Mac, Vni};

use crate::{Outer, Tunnel, VXLAN_PORT, Vtep, ecn};

/// The end of every tunnel here, in the documentation's address ranges.
pub const END_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The same over IPv6.
pub const END_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Our station in the VXLAN.
pub const END_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// Strips a packet of the underlay, or what a socket gave: three bytes (which tunnel, and whether its checksum is
/// vouched for; where head and tail part), then the packet.
pub fn strip(bytes: &[u8]) {
    let Some(([how, low, high], packet)) = bytes.split_first_chunk::<3>() else { return };
    let at = usize::from(u16::from_le_bytes([*low, *high]));
    let (head, tail) = packet.split_at(at.min(packet.len()));
    let packet = FrameRef { head, tail };
    let vxlan = Tunnel::Vxlan(Vtep::new(Vni::FLANNEL, END_MAC));
    let ipv4 = Tunnel::Ipv4;
    let socket = |address: IpAddr| SocketAddr::new(address, VXLAN_PORT);
    let vouched = how & 0x80 != 0;
    let of_a_socket = Outer { source: END_V4.into(), tos: 0, start: 0, payload: packet };
    let (outer, tunnel) = match how & 0x7f {
        0 => (Outer::udp(packet, socket(END_V4.into()), vouched), vxlan),
        1 => (Outer::udp(packet, socket(END_V6.into()), vouched), vxlan),
        2 => (Outer::udp(packet, socket(END_V4.into()), vouched), ipv4),
        3 => (Outer::ipip(packet, END_V4), ipv4),
        4 => (Ok(of_a_socket), vxlan),
        _ => (Ok(of_a_socket), ipv4),
    };
    let Ok(outer) = outer else { return };
    assert!(packet.head[outer.start..].starts_with(outer.payload.head));
    assert!(outer.start + outer.payload.len() <= packet.len());
    let Ok(inner) = tunnel.strip(outer.payload) else { return };
    assert!(inner.at.start <= outer.payload.head.len() && inner.at.end <= outer.payload.len() && !inner.at.is_empty());
    let _ = ecn::propagate(outer.tos, &mut packet.head[outer.start + inner.at.start..].to_vec());
}

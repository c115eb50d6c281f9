//! Frames as a pod's kernel hands them over.

use std::net::SocketAddr;

use etherparse::PacketBuilder;
use packet::checksum::{pseudo_v4, pseudo_v6};
use packet::view::protocol::UDP;
use packet::{Mac, Offload, UDP_CSUM_OFFSET};

/// A datagram in a frame of `length` bytes that `source` sends to its gateway, between these two ends, and what comes
/// beside it: its checksum is unfinished.
///
/// # Panics
/// If the ends are of two families, or the length is no frame's.
pub(crate) fn datagram(source: Mac, [from, to]: [SocketAddr; 2], length: usize) -> (Offload, Vec<u8>) {
    let ethernet = PacketBuilder::ethernet2(source.0, Mac::GATEWAY.0);
    let (packet, transport, unfinished) = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let sum = pseudo_v4(*from.ip(), *to.ip(), UDP, (length - V4_LEN) as u16);
            (ethernet.ipv4(from.ip().octets(), to.ip().octets(), TTL), V4_LEN, sum)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let sum = pseudo_v6(*from.ip(), *to.ip(), UDP, (length - V6_LEN) as u32);
            (ethernet.ipv6(from.ip().octets(), to.ip().octets(), TTL), V6_LEN, sum)
        }
        _ => panic!("both ends speak the same IP"),
    };
    let mut frame = Vec::with_capacity(length);
    let payload = vec![0; length - transport - UDP_LEN];
    packet
        .udp(from.port(), to.port())
        .write(&mut frame, &payload)
        .expect("a vector takes a datagram that IP can carry");
    let offload =
        Offload { needs_csum: true, csum_start: transport as u16, csum_offset: UDP_CSUM_OFFSET, ..Offload::default() };
    let field = transport + usize::from(UDP_CSUM_OFFSET);
    frame[field..field + 2].copy_from_slice(&unfinished.fold().to_be_bytes());
    (offload, frame)
}

const TTL: u8 = 64;
const UDP_LEN: usize = 8;
/// Ethernet and IP headers.
const V4_LEN: usize = 34;
const V6_LEN: usize = 54;

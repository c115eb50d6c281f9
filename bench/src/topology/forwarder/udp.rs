//! The forwarder between a node's TUN and another node: the bare IPv4 packet in a UDP datagram, as flannel's `udp`
//! backend sends it.
//!
//! Whoever sends to the port is listened to; what leaves goes to the one other node. TTL is decremented on the way
//! out and on the way in, and a packet without any left vanishes. It does nothing else of what a router does.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use tun_tap::{Iface, Mode};

use super::{forward, open, read, say_ready, write};
use crate::error::{Error, Result};

/// The interface that the forwarder makes.
pub(in crate::topology) const TUN: &str = "flannel0";

/// The body of the command `udp-forwarder`: makes the TUN here and forwards until standard input ends.
pub fn run(own: Ipv4Addr, peer: Ipv4Addr) -> Result<()> {
    let tun = open(TUN, Mode::Tun).map_err(Error::system("open a TUN"))?;
    let socket = UdpSocket::bind((own, PORT)).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    let socket = socket.map_err(Error::system(format!("listen at port {PORT} of {own}")))?;
    say_ready()?;
    let peer = SocketAddrV4::new(peer, PORT);
    let step = |from| if from == 0 { leave(&tun, &socket, peer) } else { enter(&socket, &tun) };
    let forwarded = forward([tun.as_raw_fd(), socket.as_raw_fd()], step);
    forwarded.map_err(Error::system("forward packets between a TUN and another node"))
}

fn leave(tun: &Iface, socket: &UdpSocket, peer: SocketAddrV4) -> io::Result<()> {
    let mut packet = [0; PACKET_MAX];
    let length = read(tun, &mut packet)?;
    let packet = &mut packet[..length];
    if !decrement_ttl(packet) {
        return Ok(());
    }
    match socket.send_to(packet, peer) {
        // The wire is full: lost, as on any wire.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
        sent => sent.map(drop),
    }
}

fn enter(socket: &UdpSocket, tun: &Iface) -> io::Result<()> {
    let mut packet = [0; PACKET_MAX];
    let (length, _) = socket.recv_from(&mut packet)?;
    let packet = &mut packet[..length];
    if decrement_ttl(packet) { write(tun, packet) } else { Ok(()) }
}

/// Decrements TTL and patches the header checksum (RFC 1624); false for what is to vanish: no hop left, or no IPv4.
fn decrement_ttl(packet: &mut [u8]) -> bool {
    if packet.len() < 20 || packet[0] >> 4 != 4 || packet[8] <= 1 {
        return false;
    }
    packet[8] -= 1;
    // One less in the upper byte of a word is one more there in its complement, the checksum.
    let (sum, carry) = u16::from_be_bytes([packet[10], packet[11]]).overflowing_add(0x100);
    packet[10..12].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
    true
}

const PORT: u16 = 8285;
/// The longest datagram.
const PACKET_MAX: usize = 65_507;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The sum over a header with a right checksum (RFC 1071).
    fn sum(header: &[u8]) -> u16 {
        let words = header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum: u32 = words.sum();
        let folded = (sum & 0xFFFF) + (sum >> 16);
        ((folded & 0xFFFF) + (folded >> 16)) as u16
    }

    proptest! {
        #[test]
        fn a_hop_leaves_the_checksum_right(mut header in prop::array::uniform20(0_u8..), ttl in 2_u8..) {
            (header[0], header[8]) = (0x45, ttl);
            header[10..12].fill(0);
            let checksum = !sum(&header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            prop_assert!(decrement_ttl(&mut header));
            prop_assert_eq!((header[8], sum(&header)), (ttl - 1, 0xFFFF));
        }
    }

    #[test]
    fn a_packet_without_a_hop_left_vanishes() {
        for (first, ttl, length) in [(0x45, 0, 20), (0x45, 1, 20), (0x60, 64, 40), (0x45, 64, 19)] {
            let mut packet = [0; 40];
            (packet[0], packet[8]) = (first, ttl);
            assert!(!decrement_ttl(&mut packet[..length]), "{first:x} {ttl} {length}");
        }
    }
}

//! ICMP and ICMPv6 echo from pod to pod, as `ping` does it without privileges.
//!
//! The socket is the kernel's ping socket (icmp(7)): it fills in identifier and checksum and hands back only the
//! answers to its own requests. The pod's namespace is told which groups may open one.

use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::io::Read;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Family, PATIENCE, Pair};
use crate::error::{Error, Result};
use crate::interrupt;

/// Whether one of a few echo requests from `pair.from` is answered by `pair.to`.
pub fn is_answered(pair: Pair<'_>) -> Result<bool> {
    let (domain, protocol, request, reply) = match pair.family {
        Family::V4 => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        Family::V6 => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let socket = pair.from.within("open a ping socket", || {
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0")?;
        let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
        socket.set_read_timeout(Some(PATIENCE / REQUESTS_MAX))?;
        Ok(socket)
    })?;
    let to = SockAddr::from(pair.receiver_address());
    for number in 0..REQUESTS_MAX as u8 {
        interrupt::check()?;
        // Type, code, checksum, identifier, sequence (RFC 792, RFC 4443), then a payload.
        let message: Message = [request, 0, 0, 0, 0, 0, 0, number, b'p', b'o', b'd', b's'];
        socket.send_to(&message, &to).map_err(Error::system("send an echo request"))?;
        // An earlier request may be answered late, after the first address resolution.
        if answer(&socket)?.is_some_and(|got| got[0] == reply && got[8..] == message[8..]) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn answer(mut socket: &Socket) -> Result<Option<Message>> {
    let mut message = Message::default();
    match socket.read(&mut message) {
        Ok(_) => Ok(Some(message)),
        Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => Ok(None),
        Err(error) => Err(Error::system("receive an echo reply")(error)),
    }
}

type Message = [u8; 12];
const REQUESTS_MAX: u32 = 3;

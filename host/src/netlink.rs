//! One request at a time over a route netlink socket.
//!
//! [`Netlink`] belongs for good to the namespace it was opened in, whichever thread uses it later. Its methods stand
//! beside the types they speak of: links in `link.rs`, addresses, routes and neighbours in the files of their names.
//!
//! ```text
//!   request  ->  [header|body|attributes]     flags say: do and acknowledge, or list
//!   answer   <-  body* then one of            acknowledgement (0), refusal (-errno and the kernel's words), done
//! ```
//!
//! The socket asks for capped acknowledgements with extended words (`NETLINK_CAP_ACK`, `NETLINK_EXT_ACK`), so a
//! refusal carries the kernel's own explanation. A listing that another change interrupted is asked again, a few
//! times. In a listing, entries that cannot be decoded are left out: they are of a kind this crate never makes.
//!
//! Source: netlink(7), rtnetlink(7), Linux `Documentation/userspace-api/netlink/intro.rst`.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    DecodeError, ErrorMessage, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::{Error, Namespace, ioctl};

/// A conversation with the kernel about one network namespace.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Speaks about the calling thread's namespace.
    pub fn open() -> Result<Self, Error> {
        let socket = connect().map_err(|source| Error::call("socket", "NETLINK_ROUTE", source))?;
        Ok(Netlink { socket, sequence: 0, buffer: Vec::with_capacity(RECEIVE_BYTES) })
    }

    /// Speaks about `namespace`.
    pub fn open_in(namespace: &Namespace) -> Result<Self, Error> {
        namespace.visit(Netlink::open)?
    }

    /// The number of the namespace, never given twice while the machine runs; none before Linux 5.14.
    pub fn namespace_cookie(&self) -> Option<u64> {
        ioctl::namespace_cookie(&self.socket).ok()
    }

    /// Sends one request and collects what comes before its acknowledgement.
    pub(crate) fn ask(&mut self, body: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        let answer = self.exchange(body, flags | NLM_F_ACK)?;
        Ok(answer.bodies)
    }

    /// Asks for all of a kind.
    pub(crate) fn list(&mut self, body: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        for _ in 0..LIST_ATTEMPTS {
            let answer = self.exchange(body.clone(), NLM_F_DUMP)?;
            if !answer.interrupted {
                return Ok(answer.bodies);
            }
        }
        Err(Refusal::from(io::Error::from_raw_os_error(libc::EINTR)))
    }

    fn exchange(&mut self, body: RouteNetlinkMessage, flags: u16) -> Result<Answer, Refusal> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(body));
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answer = Answer { listing: flags & NLM_F_DUMP != 0, interrupted: false, bodies: Vec::new() };
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) if answer.read(&self.buffer, self.sequence)? => return Ok(answer),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
        }
    }
}

/// Why a request was not done; the caller adds what it was.
#[derive(Debug)]
pub(crate) enum Refusal {
    Kernel { source: io::Error, explanation: Option<String> },
    Answer(DecodeError),
}

impl Refusal {
    /// The error for an `action` such as "delete link pod1".
    pub(crate) fn of(self, action: String) -> Error {
        match self {
            Refusal::Kernel { source, explanation } => Error::Netlink { action, explanation, source },
            Refusal::Answer(source) => Error::Answer { action, source },
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(source: io::Error) -> Self {
        Refusal::Kernel { source, explanation: None }
    }
}

/// What has come in for one request so far.
struct Answer {
    listing: bool,
    interrupted: bool,
    bodies: Vec<RouteNetlinkMessage>,
}

impl Answer {
    /// Takes the messages of one datagram; true when the last one has come.
    fn read(&mut self, mut datagram: &[u8], sequence: u32) -> Result<bool, Refusal> {
        while !datagram.is_empty() {
            let header = NetlinkBuffer::new_checked(datagram).map_err(Refusal::Answer)?;
            let length = header.length() as usize;
            let (ours, flags) = (header.sequence_number() == sequence, header.flags());
            let message = &datagram[..length];
            datagram = &datagram[length.next_multiple_of(4).min(datagram.len())..];
            if ours {
                self.interrupted |= flags & NLM_F_DUMP_INTR != 0;
                if self.take(message, flags)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn take(&mut self, bytes: &[u8], flags: u16) -> Result<bool, Refusal> {
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).map(|message| message.payload) {
            Ok(NetlinkPayload::InnerMessage(body)) => self.bodies.push(body),
            Ok(NetlinkPayload::Done(done)) if done.code < 0 => {
                return Err(io::Error::from_raw_os_error(-done.code).into());
            }
            Ok(NetlinkPayload::Done(_)) => return Ok(true),
            Ok(NetlinkPayload::Error(error)) if error.code.is_none() => return Ok(true),
            Ok(NetlinkPayload::Error(error)) => {
                return Err(Refusal::Kernel { source: error.to_io(), explanation: explanation(&error, flags) });
            }
            Ok(_) => {}
            Err(_) if self.listing => {}
            Err(error) => return Err(Refusal::Answer(error)),
        }
        Ok(false)
    }
}

/// The text attribute after the refused request's header, which capping leaves alone of the request.
fn explanation(error: &ErrorMessage, flags: u16) -> Option<String> {
    let attributes = error.header.get(REQUEST_HEADER_BYTES..).filter(|_| flags & NLM_F_ACK_TLVS != 0)?;
    let words = NlasIterator::new(attributes).flatten().find(|nla| nla.kind() == NLMSGERR_ATTR_MSG)?;
    let words = String::from_utf8_lossy(words.value());
    Some(words.trim_end_matches('\0').to_owned())
}

/// The address family of an address.
pub(crate) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn connect() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_cap_ack(true)?;
    socket.set_ext_ack(true)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// The kernel fills at most 32 KiB per datagram of a listing.
const RECEIVE_BYTES: usize = 64 * 1024;
/// A listing that changes under the reader this often is given up.
const LIST_ATTEMPTS: usize = 8;
/// `struct nlmsghdr`.
const REQUEST_HEADER_BYTES: usize = 16;
/// Linux `include/uapi/linux/netlink.h`.
const NLMSGERR_ATTR_MSG: u16 = 1;

//! Sockets of tunnels. UDP datagrams travel in trains, many of one length in one call; IP-in-IP packets go one by one.
//!
//! A sent train is cut by the kernel, or by the network card, every `segment` bytes (`UDP_SEGMENT`); a received one is
//! what the kernel joined of datagrams of one source (`UDP_GRO`). Only the last datagram of a train may be shorter. A
//! kernel that can do neither sends and receives one datagram a call.
//!
//! Several sockets may share an address ([`TunnelSocket::group`]): the kernel chooses by a hash of both addresses and
//! ports, so what comes from one port of one sender always comes by the same socket, in order; or a program does
//! ([`crate::Steering`]).
//!
//! Of the outer header a train has one TOS or traffic class, which bears congestion marks (RFC 6040): the kernel joins
//! datagrams only if theirs are equal.
//!
//! **IP-in-IP** (RFC 2003) is a raw socket's, and a datagram is what follows the outer header. The kernel gives every raw
//! socket a copy of everything, so in a group each has a filter that takes its share by the inner addresses.
//!
//! Sockets are not connected and do not block. Source: udp(7), raw(7), Linux `net/ipv4/udp.c`, `net/ipv4/raw.c`,
//! `net/core/sock_reuseport.c`.

use std::io::{self, IoSlice};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use libc::c_int;
use libc::{BPF_ABS, BPF_ADD, BPF_ALU, BPF_JEQ, BPF_JMP, BPF_LD, BPF_MISC, BPF_MOD, BPF_RET, BPF_TAX, BPF_W, BPF_X};
use nix::sys::socket::sockopt::{RcvBufForce, SndBufForce, UdpGroSegment, UdpGsoSegment};
use nix::sys::socket::{GetSockOpt, SetSockOpt, setsockopt};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};

use crate::Error;

/// Most datagrams of a sent train (`UDP_MAX_SEGMENTS` of Linux `include/linux/udp.h`; since 6.9 the kernel takes twice
/// as many).
pub const TRAIN_DATAGRAMS_MAX: usize = 64;
/// Most bytes of a train: an IPv4 packet without its headers.
pub const TRAIN_BYTES_MAX: usize = 65_507;
/// Most slices of a call (`UIO_MAXIOV`).
pub const SLICES_MAX: usize = 1024;

/// A socket for trains of datagrams.
#[derive(Debug)]
pub struct TunnelSocket {
    socket: Socket,
    /// The kernel cuts trains.
    cuts: bool,
    /// Bytes of the outer header that come before each datagram.
    before: usize,
}

/// What one call received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Train {
    /// Bytes of all datagrams.
    pub length: usize,
    /// Bytes of each but the last, which may have fewer; no less than 1.
    pub segment: usize,
    /// Who sent it; an IPv4 address is never mapped into IPv6.
    pub from: IpAddr,
    /// TOS or traffic class of the outer header.
    pub tos: u8,
}

/// What one call sends.
#[derive(Clone, Copy, Debug)]
pub struct Datagrams<'a> {
    /// All of them, end to end; at most [`SLICES_MAX`].
    pub slices: &'a [IoSlice<'a>],
    /// Bytes of each but the last, which may have fewer.
    pub segment: usize,
    /// TOS or traffic class of the outer header.
    pub tos: u8,
}

impl TunnelSocket {
    /// Opens a socket at `local`; port 0 is any free one.
    ///
    /// # Errors
    /// What the kernel said; `EADDRINUSE` where another program or a tunnel device of the kernel has the port.
    pub fn open(local: SocketAddr) -> Result<Self, Error> {
        Self::open_shared(local, false).map_err(|error| Error::call("bind", local, error))
    }

    /// Opens so many sockets at one address, which share what comes.
    ///
    /// # Errors
    /// As [`TunnelSocket::open`].
    pub fn group(local: SocketAddr, count: u16) -> Result<Vec<Self>, Error> {
        let open = |_| Self::open_shared(local, count > 1).map_err(|error| Error::call("bind", local, error));
        (0..count).map(open).collect()
    }

    fn open_shared(local: SocketAddr, shared: bool) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        if local.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_port(shared)?;
        // Without CAP_NET_ADMIN the buffers stay as large as the system allows everybody.
        let _ = setsockopt(&socket, RcvBufForce, &BUFFER_BYTES);
        let _ = setsockopt(&socket, SndBufForce, &BUFFER_BYTES);
        // An old kernel joins nothing.
        let _ = UdpGroSegment.set(&socket, &true);
        if local.is_ipv6() {
            socket.set_recv_tclass_v6(true)?
        } else {
            socket.set_recv_tos_v4(true)?
        }
        let cuts = UdpGsoSegment.get(&socket).is_ok();
        socket.bind(&SockAddr::from(local))?;
        Ok(TunnelSocket { socket, cuts, before: 0 })
    }

    /// Opens so many sockets for the IP-in-IP packets of one address, which share what comes; `CAP_NET_RAW` is needed.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn ipip_group(local: Ipv4Addr, count: u16) -> Result<Vec<Self>, Error> {
        let open = |number| Self::open_ipip(local, (number, count)).map_err(|error| Error::call("bind", local, error));
        (0..count).map(open).collect()
    }

    fn open_ipip(local: Ipv4Addr, (number, count): (u16, u16)) -> io::Result<Self> {
        let protocol = Protocol::from(libc::IPPROTO_IPIP);
        let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
        socket.attach_filter(&share(number.into(), count.into()))?;
        let _ = setsockopt(&socket, RcvBufForce, &BUFFER_BYTES);
        let _ = setsockopt(&socket, SndBufForce, &BUFFER_BYTES);
        socket.bind(&SockAddr::from(SocketAddr::new(local.into(), 0)))?;
        let opened = TunnelSocket { socket, cuts: false, before: IPV4_LEN };
        // What came before the filter and the address were there may be others' share.
        while opened.receive(&mut [])?.is_some() {}
        Ok(opened)
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let socket = self.socket.try_clone().map_err(|error| Error::call("fcntl", "a socket", error))?;
        Ok(TunnelSocket { socket, cuts: self.cuts, before: self.before })
    }

    /// Has the program choose among the sockets of its group.
    pub(crate) fn set_steering_program(&self, program: BorrowedFd<'_>) -> Result<(), Error> {
        let descriptor = program.as_raw_fd();
        // SAFETY: the option's value is a live integer of the length that is given, and the kernel only reads it.
        let set = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_REUSEPORT_EBPF,
                (&raw const descriptor).cast(),
                size_of::<c_int>() as _,
            )
        };
        if set == 0 {
            Ok(())
        } else {
            Err(Error::call("setsockopt", "SO_ATTACH_REUSEPORT_EBPF", io::Error::last_os_error()))
        }
    }

    /// The port it has.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn port(&self) -> Result<u16, Error> {
        let address = self.socket.local_addr().map_err(|error| Error::call("getsockname", "a socket", error))?;
        Ok(address.as_socket().map_or(0, |address| address.port()))
    }

    /// True where trains of several datagrams can be sent.
    pub fn cuts(&self) -> bool {
        self.cuts
    }

    /// Sends datagrams to one address. A train is sent whole or not at all.
    ///
    /// # Errors
    /// What sendmsg(2) says; `EMSGSIZE` over [`TRAIN_BYTES_MAX`] or the path's MTU, `EAGAIN` where the queue is full.
    #[inline]
    pub fn send(&self, to: &SockAddr, datagrams: &Datagrams<'_>) -> io::Result<()> {
        let Datagrams { slices, segment, tos } = *datagrams;
        debug_assert!(slices.len() <= SLICES_MAX);
        let mut control = Control::default();
        if slices.iter().map(|slice| slice.len()).sum::<usize>() > segment {
            let segment = u16::try_from(segment).map_err(|_| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
            control.put((libc::SOL_UDP, libc::UDP_SEGMENT), segment);
        }
        if tos > 0 {
            let v6 = c_int::from(to.family()) == libc::AF_INET6;
            let kind = if v6 { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) } else { (libc::IPPROTO_IP, libc::IP_TOS) };
            control.put(kind, c_int::from(tos));
        }
        // SAFETY: a zeroed msghdr is one that names nothing.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_namelen = to.len();
        // An IoSlice has the layout of an iovec (its documentation promises it).
        message.msg_iov = slices.as_ptr().cast_mut().cast();
        message.msg_iovlen = slices.len() as _;
        if control.length > 0 {
            message.msg_control = control.room.as_mut_ptr().cast();
            message.msg_controllen = control.length as _;
        }
        // SAFETY: all that the message names is borrowed for the call, and sendmsg(2) only reads it.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Receives one train into `buffer`; `None` when there is none. What is longer than the buffer is lost.
    ///
    /// # Errors
    /// What recvmsg(2) says, among it errors that the underlay reported of sent datagrams.
    #[inline]
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Train>> {
        let mut control = Control::default();
        // SAFETY: zeroed, it is an address of no family.
        let mut from: libc::sockaddr_in6 = unsafe { mem::zeroed() };
        let mut outer = [0_u8; IPV4_LEN];
        let mut vectors = [
            libc::iovec { iov_base: outer.as_mut_ptr().cast(), iov_len: self.before },
            libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() },
        ];
        // SAFETY: a zeroed msghdr is one that names nothing.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of::<libc::sockaddr_in6>() as _;
        message.msg_iov = vectors.as_mut_ptr();
        message.msg_iovlen = vectors.len() as _;
        message.msg_control = control.room.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control.room) as _;
        // SAFETY: everything the message names is live, ours and as long as it says.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        if length < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        let length = (length as usize).saturating_sub(self.before);
        let (mut segment, mut tos) = (length.max(1), outer[1]);
        each_control(&message, |kind, value| match kind {
            (libc::SOL_UDP, libc::UDP_GRO) if value > 0 => segment = value as usize,
            (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => tos = value as u8,
            _ => {}
        });
        Ok(Some(Train { length, segment, from: address_of(&from), tos }))
    }
}

/// The MTU of the way to `to` in bytes, as far as the kernel has learned of it: what its link takes, or less if a
/// router has said so. Nothing is sent.
///
/// # Errors
/// What connect(2) says: there is no way.
pub fn path_mtu(to: IpAddr) -> Result<u32, Error> {
    ask_path_mtu(SocketAddr::new(to, DISCARD)).map_err(|error| Error::call("connect", to, error))
}

fn ask_path_mtu(to: SocketAddr) -> io::Result<u32> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    socket.connect(&to.into())?;
    let (level, option) =
        if to.is_ipv4() { (libc::IPPROTO_IP, libc::IP_MTU) } else { (libc::IPPROTO_IPV6, libc::IPV6_MTU) };
    let (mut mtu, mut length): (c_int, libc::socklen_t) = (0, size_of::<c_int>() as _);
    // SAFETY: both are live, and the kernel writes no more than the length says.
    let asked = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut mtu).cast(), &raw mut length) };
    if asked == 0 { Ok(mtu.unsigned_abs()) } else { Err(io::Error::last_os_error()) }
}

impl AsRawFd for TunnelSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Control messages with an integer each, as cmsg(3) wants them laid out.
#[derive(Default)]
#[repr(C, align(8))]
struct Control {
    room: [u64; CONTROL_WORDS],
    /// Bytes used.
    length: usize,
}

impl Control {
    /// Adds a message of that level and type.
    fn put<T>(&mut self, (level, kind): (c_int, c_int), value: T) {
        // SAFETY: this only computes.
        let (length, space) =
            unsafe { (libc::CMSG_LEN(size_of::<T>() as _), libc::CMSG_SPACE(size_of::<T>() as _) as usize) };
        assert!(self.length + space <= size_of_val(&self.room), "there is room for all that is ever put");
        // SAFETY: there is room behind the `length` bytes, a multiple of a cmsghdr's alignment; the value is written unaligned.
        unsafe {
            let header: *mut libc::cmsghdr = self.room.as_mut_ptr().byte_add(self.length).cast();
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = length as _;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        self.length += space;
    }
}

/// Tells level, type and value, an integer or a byte, of each control message that came.
fn each_control(message: &libc::msghdr, mut tell: impl FnMut((c_int, c_int), c_int)) {
    // SAFETY: the message names our room, live and aligned, and how much of it the kernel has filled with whole messages.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let value = match (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize {
                1 => Some(c_int::from(*libc::CMSG_DATA(header))),
                4 => Some(libc::CMSG_DATA(header).cast::<c_int>().read_unaligned()),
                _ => None,
            };
            value.into_iter().for_each(|value| tell(((*header).cmsg_level, (*header).cmsg_type), value));
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}

/// The filter that takes one of `count` shares of IP-in-IP packets, by the sum of the inner addresses: both directions and
/// all fragments of a flow are in one. What is too short for these is in none.
fn share(number: u32, count: u32) -> [SockFilter; 8] {
    let (load, keep) = (BPF_LD | BPF_W | BPF_ABS, BPF_MISC | BPF_TAX);
    let (add, divide) = (BPF_ALU | BPF_ADD | BPF_X, BPF_ALU | BPF_MOD);
    let inner = IPV4_LEN as u32;
    [
        SockFilter::new(load as u16, 0, 0, inner + 12),
        SockFilter::new(keep as u16, 0, 0, 0),
        SockFilter::new(load as u16, 0, 0, inner + 16),
        SockFilter::new(add as u16, 0, 0, 0),
        SockFilter::new(divide as u16, 0, 0, count),
        SockFilter::new((BPF_JMP | BPF_JEQ) as u16, 1, 0, number),
        SockFilter::new(BPF_RET as u16, 0, 0, 0),
        SockFilter::new(BPF_RET as u16, 0, 0, u32::MAX),
    ]
}

/// Both families' addresses begin with the family, and an IPv4 one is the shorter.
fn address_of(from: &libc::sockaddr_in6) -> IpAddr {
    if c_int::from(from.sin6_family) == libc::AF_INET {
        // SAFETY: the kernel wrote a sockaddr_in, which is shorter than the live sockaddr_in6, and needs no more alignment.
        let from = unsafe { ptr::from_ref(from).cast::<libc::sockaddr_in>().read_unaligned() };
        return Ipv4Addr::from(from.sin_addr.s_addr.to_ne_bytes()).into();
    }
    IpAddr::from(from.sin6_addr.s6_addr).to_canonical()
}

/// An IPv4 header without options, which no tunnel has.
const IPV4_LEN: usize = 20;
/// Two messages with an integer, a header and its value each.
const CONTROL_WORDS: usize = 2 * (size_of::<libc::cmsghdr>() / 8 + 1);
/// Any port: nothing goes there (RFC 863).
const DISCARD: u16 = 9;
/// A burst of super-frames, and what a peer sends meanwhile.
const BUFFER_BYTES: usize = 8 << 20;

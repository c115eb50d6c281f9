//! The ioctls of this crate and one socket option, each as a safe function of typed arguments.
//!
//! Every block passes the kernel either an integer by value or a pointer to a live local of exactly the type the
//! request is defined for, and the kernel keeps no pointer after the call returns.
//!
//! Source: Linux `drivers/net/tun.c`, `include/uapi/linux/if_tun.h`, netdevice(7), ioctl_ns(2), socket(7).

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{Ioctl, c_char, c_int, c_ulong, ifreq};

/// What can be set on an attached TAP with an integer by value.
#[derive(Clone, Copy)]
pub(crate) enum Setting {
    Owner,
    Group,
    Persist,
    Offload,
}

impl Setting {
    /// The request, and the name a user finds in documentation.
    const fn request(self) -> (Ioctl, &'static str) {
        match self {
            Setting::Owner => (libc::TUNSETOWNER, "TUNSETOWNER"),
            Setting::Group => (libc::TUNSETGROUP, "TUNSETGROUP"),
            Setting::Persist => (libc::TUNSETPERSIST, "TUNSETPERSIST"),
            Setting::Offload => (libc::TUNSETOFFLOAD, "TUNSETOFFLOAD"),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        self.request().1
    }
}

/// `TUNSETIFF`: attaches `file`, an open `/dev/net/tun`, to the device `name`, which is made if it is not there.
pub(crate) fn attach(file: &File, name: &str, flags: c_int) -> io::Result<()> {
    let mut request = empty_request();
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as c_char;
    }
    // The flags word is 16 bits wide in the request, and all flags fit in it.
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which is live and ours.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
}

/// `TUNGETIFF`: the name of the device `file` is attached to, as it is now, wherever the device lies.
pub(crate) fn attached_name(file: &File) -> io::Result<String> {
    let mut request = empty_request();
    // SAFETY: TUNGETIFF writes one ifreq, which is live and ours.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    let name = request.ifr_name.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8(name).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Sets one property of the attached device.
pub(crate) fn set(file: &File, setting: Setting, value: u32) -> io::Result<()> {
    // SAFETY: these requests take an integer, no pointer.
    check(unsafe { libc::ioctl(file.as_raw_fd(), setting.request().0, c_ulong::from(value)) })
}

/// `TUNSETVNETHDRSZ`: bytes of the virtio header before each frame.
pub(crate) fn set_header_size(file: &File, bytes: usize) -> io::Result<()> {
    let bytes = c_int::try_from(bytes).expect("a virtio header is a few bytes");
    // SAFETY: TUNSETVNETHDRSZ reads one int, which is live.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const bytes) })
}

/// `TUNSETCARRIER`: whether the device looks connected.
pub(crate) fn set_carrier(file: &File, on: bool) -> io::Result<()> {
    let on = c_int::from(on);
    // SAFETY: TUNSETCARRIER reads one int, which is live.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETCARRIER, &raw const on) })
}

/// `TUNSETSTEERINGEBPF`: the program that chooses the queue of each frame. Without one, frames are spread over the queues
/// as they always were.
pub(crate) fn set_steering_program(file: &File, program: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let program: c_int = program.map_or(-1, |program| program.as_raw_fd());
    // SAFETY: TUNSETSTEERINGEBPF reads one int, which is live.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETSTEERINGEBPF, &raw const program) })
}

/// `SIOCGIFHWADDR` on a TAP's descriptor, which the driver answers for the attached device, wherever it lies.
pub(crate) fn hardware_address(file: &File) -> io::Result<[u8; 6]> {
    let mut request = empty_request();
    // SAFETY: SIOCGIFHWADDR writes one ifreq, which is live and ours.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::SIOCGIFHWADDR, &raw mut request) })?;
    // SAFETY: the request was zeroed before, so every byte of the union is initialised, and any bytes are a sockaddr.
    let bytes = unsafe { request.ifr_ifru.ifru_hwaddr }.sa_data;
    Ok([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]].map(|byte| byte as u8))
}

/// `NS_GET_NSTYPE`: which kind of namespace a namespace file is, as a `CLONE_NEW` flag.
pub(crate) fn namespace_kind(descriptor: BorrowedFd<'_>) -> io::Result<c_int> {
    // SAFETY: NS_GET_NSTYPE takes no argument.
    let kind = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::NS_GET_NSTYPE) };
    check(kind).map(|()| kind)
}

/// `SO_NETNS_COOKIE` (Linux 5.14): the number of the namespace a socket was opened in, never given twice while the
/// machine runs.
pub(crate) fn namespace_cookie(socket: &impl AsRawFd) -> io::Result<u64> {
    let (mut cookie, mut length) = (0_u64, mem::size_of::<u64>() as libc::socklen_t);
    // SAFETY: the option is eight bytes long and is written to a live u64; the length says so.
    check(unsafe {
        let value = (&raw mut cookie).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, value, &raw mut length)
    })?;
    Ok(cookie)
}

/// Linux `include/uapi/asm-generic/socket.h`; on the architectures that number their options otherwise it is unknown,
/// and the call refused.
const SO_NETNS_COOKIE: c_int = 71;

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn empty_request() -> ifreq {
    // SAFETY: an ifreq is integers and a union of integers and a pointer; all zeroes is a value of each.
    unsafe { mem::zeroed() }
}

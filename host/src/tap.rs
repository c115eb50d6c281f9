//! TAP devices: open or take over, probe what they can do, hand out their queues.
//!
//! A TAP is an Ethernet interface whose other end is a descriptor. With `vnet_header` every frame read or written has
//! [`packet::VNET_HEADER_LEN`] bytes before it ([`packet::Offload`]), and the kernel may be told that the holder takes
//! unfinished checksums and super-frames; [`Abilities`] is what it agreed to.
//!
//! Rules kept here:
//! * A device of the same name is never taken by accident: `adopt` must be asked (`IFF_TUN_EXCL` otherwise).
//! * Owner and group are root before the device is persistent or has a second queue, for an unowned one can be
//!   attached by any user.
//! * The descriptors are non-blocking and closed on exec.
//!
//! A descriptor keeps alive the namespace it was opened in. A device that was moved elsewhere dies with that other
//! namespace, and its descriptors then report `EBADFD`; a device adopted where it lies keeps its namespace from dying.
//!
//! Source: Linux `Documentation/networking/tuntap.rst`, `drivers/net/tun.c`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use libc::{IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, IFF_TUN_EXCL, IFF_VNET_HDR};
use packet::{Mac, VNET_HEADER_LEN};

use crate::ioctl::{self, Setting};
use crate::{Error, link};

/// How to open a TAP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TapOptions {
    /// Its name in the calling thread's namespace.
    pub name: String,
    /// How many queues, at least 1; more than 1 needs `multi_queue`.
    pub queues: u16,
    /// A virtio header before each frame.
    pub vnet_header: bool,
    /// It is [`TUNNEL_HEADER_LEN`] bytes long and tells of super-frames within UDP tunnels; written frames alone.
    pub tunnels: bool,
    /// The device outlives its descriptors; false takes that back from an adopted one.
    pub persistent: bool,
    /// Queues can be added later. A device is adopted with the value it was made with, or not at all.
    pub multi_queue: bool,
    /// A device that exists is taken over, with its addresses and routes. The kernel refuses one that another process
    /// holds, except a multi-queue one, which it gives a further queue.
    pub adopt: bool,
}

impl TapOptions {
    /// A new device with a virtio header and one queue that goes when it is closed.
    pub fn new(name: impl Into<String>) -> Self {
        TapOptions {
            name: name.into(),
            queues: 1,
            vnet_header: true,
            tunnels: false,
            persistent: false,
            multi_queue: false,
            adopt: false,
        }
    }
}

/// What may be done on a TAP beyond whole, finished frames; all false without a virtio header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Abilities {
    /// Unfinished transport checksums.
    pub checksum: bool,
    /// TCP super-frames over IPv4.
    pub tso4: bool,
    /// TCP super-frames over IPv6.
    pub tso6: bool,
    /// UDP super-frames of both families, cut into whole datagrams.
    pub uso: bool,
}

impl Abilities {
    /// What a pod's TAP can do at most.
    pub const ALL: Abilities = Abilities { checksum: true, tso4: true, tso6: true, uso: true };

    /// True of [`Abilities::ALL`], said so that it is one comparison.
    #[inline]
    pub fn are_all(self) -> bool {
        let Abilities { checksum, tso4, tso6, uso } = self;
        u32::from_ne_bytes([checksum, tso4, tso6, uso].map(u8::from)) == u32::from_ne_bytes([1; 4])
    }

    fn flags(self) -> u32 {
        let mut flags = 0;
        for (on, bits) in [
            (self.checksum, libc::TUN_F_CSUM),
            (self.tso4, libc::TUN_F_TSO4),
            (self.tso6, libc::TUN_F_TSO6),
            // Congestion marks matter only to a TCP that is offloaded.
            (self.tso4 || self.tso6, libc::TUN_F_TSO_ECN),
            (self.uso, libc::TUN_F_USO4 | libc::TUN_F_USO6),
        ] {
            flags |= if on { bits } else { 0 };
        }
        flags
    }
}

/// Something a kernel may or may not know about TAPs, beyond what is asked for when one is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TapFeature {
    /// `TUNSETSTEERINGEBPF`: a program chooses the queue of each frame (Linux 4.16).
    SteeringProgram,
    /// `TUN_F_UDP_TUNNEL_GSO`: super-frames within UDP tunnels (Linux 6.17).
    UdpTunnelGso,
}

/// An open TAP.
#[derive(Debug)]
pub struct Tap {
    /// As it was opened; the device may be called otherwise by now.
    opened_as: String,
    queues: Vec<File>,
    abilities: Abilities,
}

impl Tap {
    /// Opens a TAP in the calling thread's namespace and asks for the most it can do.
    ///
    /// # Errors
    /// [`Error::TunMissing`], [`Error::TapBusy`] when the name is taken or another process holds the device,
    /// [`Error::TapUnlike`] when it cannot be adopted as asked, [`Error::Call`] with what permission is missing.
    pub fn open(options: &TapOptions) -> Result<Self, Error> {
        link::check_name(&options.name)?;
        let rule = "one queue, or several with multi_queue";
        if options.queues == 0 || (options.queues > 1 && !options.multi_queue) {
            return Err(Error::Illegal { what: "number of queues", value: options.queues.to_string(), rule });
        }
        let exclusive = if options.adopt { 0 } else { IFF_TUN_EXCL };
        let queues = vec![open_queue(options, exclusive)?];
        let mut tap = Tap { opened_as: options.name.clone(), queues, abilities: Abilities::default() };
        tap.set(Setting::Owner, 0)?;
        tap.set(Setting::Group, 0)?;
        for _ in 1..options.queues {
            tap.queues.push(open_queue(options, 0)?);
        }
        if options.vnet_header {
            let header_len = if options.tunnels { TUNNEL_HEADER_LEN } else { VNET_HEADER_LEN };
            let sized = ioctl::set_header_size(&tap.queues[0], header_len);
            sized.map_err(|source| tap.failed("TUNSETVNETHDRSZ", source))?;
            tap.abilities = tap.richest();
        }
        tap.set(Setting::Offload, tap.abilities.flags())?;
        tap.set_persistent(options.persistent)?;
        Ok(tap)
    }

    /// One open file per queue; `read_vectored` and `write_vectored` move one frame each and give `WouldBlock` when
    /// there is none or no room.
    pub fn queues(&self) -> &[File] {
        &self.queues
    }

    /// Gives up the handle for its queues.
    pub fn into_queues(self) -> Vec<File> {
        self.queues
    }

    /// What the kernel agreed to.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// The device's name now, also after it was renamed or moved.
    pub fn name(&self) -> Result<String, Error> {
        ioctl::attached_name(&self.queues[0]).map_err(|source| self.failed("TUNGETIFF", source))
    }

    /// False once the device was deleted, by itself or with its namespace.
    pub fn is_attached(&self) -> bool {
        self.name().is_ok()
    }

    /// The device's Ethernet address, wherever it lies now.
    pub fn mac(&self) -> Result<Mac, Error> {
        let bytes = ioctl::hardware_address(&self.queues[0]);
        bytes.map(Mac).map_err(|source| self.failed("SIOCGIFHWADDR", source))
    }

    /// Whether the device outlives its descriptors.
    pub fn set_persistent(&self, on: bool) -> Result<(), Error> {
        self.set(Setting::Persist, u32::from(on))
    }

    /// Tells the kernel what the holder takes from now on; EINVAL when the kernel cannot do it.
    pub fn set_abilities(&mut self, abilities: Abilities) -> Result<(), Error> {
        self.set(Setting::Offload, abilities.flags())?;
        self.abilities = abilities;
        Ok(())
    }

    /// Whether the interface looks connected to its host.
    pub fn set_carrier(&self, on: bool) -> Result<(), Error> {
        ioctl::set_carrier(&self.queues[0], on).map_err(|source| self.failed("TUNSETCARRIER", source))
    }

    /// Whether the kernel knows a feature. Tried and taken back at once, so for a TAP that carries nothing.
    pub fn offers(&self, feature: TapFeature) -> bool {
        match feature {
            TapFeature::SteeringProgram => self.set_steering_program(None).is_ok(),
            TapFeature::UdpTunnelGso => {
                let known = self.set(Setting::Offload, Abilities::ALL.flags() | TUN_F_UDP_TUNNEL_GSO).is_ok();
                // These were agreed to before.
                known && self.set(Setting::Offload, self.abilities.flags()).is_ok()
            }
        }
    }

    pub(crate) fn set_steering_program(&self, program: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let set = ioctl::set_steering_program(&self.queues[0], program);
        set.map_err(|source| self.failed("TUNSETSTEERINGEBPF", source))
    }

    fn set(&self, setting: Setting, value: u32) -> Result<(), Error> {
        ioctl::set(&self.queues[0], setting, value).map_err(|source| self.failed(setting.name(), source))
    }

    fn failed(&self, call: &'static str, source: io::Error) -> Error {
        Error::call(call, &self.opened_as, source)
    }

    /// The richest set of abilities this kernel knows.
    fn richest(&self) -> Abilities {
        let without_uso = Abilities { uso: false, ..Abilities::ALL };
        let checksum_alone = Abilities { checksum: true, ..Abilities::default() };
        let mut richest_first = [Abilities::ALL, without_uso, checksum_alone].into_iter();
        richest_first.find(|abilities| self.set(Setting::Offload, abilities.flags()).is_ok()).unwrap_or_default()
    }
}

/// The first process found that has the TAP `name` open, by what `/proc/PID/fdinfo` says. Only processes the caller may
/// look into are seen, and devices of the same name in other namespaces look alike.
pub fn tap_holder(name: &str) -> Option<u32> {
    let wanted = format!("iff:\t{name}");
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.take(PROCESSES_MAX).find(|pid: &u32| holds(*pid, &wanted))
}

fn holds(pid: u32, wanted: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().take(DESCRIPTORS_MAX).any(|entry| {
        let is_tun = fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(DEVICE));
        let info = || fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", entry.file_name().display()));
        is_tun && info().is_ok_and(|text| text.lines().any(|line| line == wanted))
    })
}

fn open_queue(options: &TapOptions, exclusive: i32) -> Result<File, Error> {
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE);
    let file = opened.map_err(|source| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Error::TunMissing { source },
        _ => Error::call("open", DEVICE, source),
    })?;
    let header = if options.vnet_header { IFF_VNET_HDR } else { 0 };
    let several = if options.multi_queue { IFF_MULTI_QUEUE } else { 0 };
    let flags = IFF_TAP | IFF_NO_PI | header | several | exclusive;
    ioctl::attach(&file, &options.name, flags).map_err(|source| refused(&options.name, source))?;
    Ok(file)
}

fn refused(name: &str, source: io::Error) -> Error {
    let name = name.to_owned();
    match source.raw_os_error() {
        Some(libc::EBUSY) => Error::TapBusy { holder: tap_holder(&name), name, source },
        Some(libc::EINVAL) => Error::TapUnlike { name, source },
        _ => Error::call("TUNSETIFF", name, source),
    }
}

/// Bytes of `struct virtio_net_hdr_v1_hash_tunnel` (Linux `include/uapi/linux/virtio_net.h`, since 6.17).
pub const TUNNEL_HEADER_LEN: usize = 24;

const DEVICE: &str = "/dev/net/tun";
/// Linux `include/uapi/linux/if_tun.h`; libc lacks it.
const TUN_F_UDP_TUNNEL_GSO: u32 = 0x80;
/// Bounds of the search for a holder: it serves an error message and must end.
const PROCESSES_MAX: usize = 65_536;
const DESCRIPTORS_MAX: usize = 65_536;

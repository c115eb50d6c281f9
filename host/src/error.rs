//! The one error of this crate: which call failed, on what, and what the user can do about it.
//!
//! The operating system's own reason is the `source`, so a report that prints the chain (`{:#}` of `anyhow`) reads
//! "cannot add route 10.0.0.0/8 dev 3 (Nexthop has invalid gateway): Network is unreachable". Callers that must tell
//! "exists already" from "no such device" ask [`Error::errno`] or the named questions beside it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use netlink_packet_core::DecodeError;

/// Why the kernel did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum Error {
    #[error("no network namespace at {path}: it was deleted, or never existed", path = path.display())]
    NamespaceMissing { path: PathBuf, source: io::Error },
    #[error("{path} is no network namespace: it should be /run/netns/NAME or /proc/PID/ns/net", path = path.display())]
    NotNetworkNamespace { path: PathBuf },
    #[error("'{value}' is no {what}: {rule}")]
    Illegal { what: &'static str, value: String, rule: &'static str },
    #[error("{call} failed for {object}{cure}", cure = Cure(call, source))]
    Call { call: &'static str, object: String, source: io::Error },
    #[error("cannot {action}{words}{cure}", words = Explanation(explanation), cure = Cure("netlink", source))]
    Netlink { action: String, explanation: Option<String>, source: io::Error },
    #[error("cannot {action}: the kernel's answer is not understood")]
    Answer { action: String, source: DecodeError },
    #[error("/dev/net/tun is missing: load it with 'modprobe tun', or make it with 'mknod /dev/net/tun c 10 200'")]
    TunMissing { source: io::Error },
    #[error("TUNSETIFF failed for {name}: {holder}", holder = Holder(*holder))]
    TapBusy { name: String, holder: Option<u32>, source: io::Error },
    #[error("the kernel refuses the steering program, which needs CAP_BPF and Linux 5.12 (arm64: 5.18){words}", words = Explanation(explanation))]
    SteeringProgram { explanation: Option<String>, source: io::Error },
    #[error("TUNSETIFF failed for {name}: it exists, but is no TAP, or one with another number of queues")]
    TapUnlike { name: String, source: io::Error },
}

impl Error {
    /// The operating system's error number, such as `libc::EEXIST`; none when the refusal is our own.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::NamespaceMissing { source, .. }
            | Error::Call { source, .. }
            | Error::Netlink { source, .. }
            | Error::TunMissing { source }
            | Error::TapBusy { source, .. }
            | Error::SteeringProgram { source, .. }
            | Error::TapUnlike { source, .. } => source.raw_os_error(),
            Error::NotNetworkNamespace { .. } | Error::Illegal { .. } | Error::Answer { .. } => None,
        }
    }

    /// True when what was to be added is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// True when what was asked for, or was to be deleted, is not there: the link, route, address, neighbour, sysctl,
    /// or namespace.
    pub fn is_missing(&self) -> bool {
        let absent = [libc::ENOENT, libc::ENODEV, libc::ESRCH, libc::EADDRNOTAVAIL];
        self.errno().is_some_and(|errno| absent.contains(&errno))
    }

    pub(crate) fn call(call: &'static str, object: impl fmt::Display, source: impl Into<io::Error>) -> Self {
        Error::Call { call, object: object.to_string(), source: source.into() }
    }
}

/// What to do about a refused permission; empty for every other reason.
struct Cure<'a>(&'static str, &'a io::Error);

impl fmt::Display for Cure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cure(call, source) = self;
        if !matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES)) {
            return Ok(());
        }
        match *call {
            "setns" | "unshare" | "mount" | "umount" => f.write_str(": needs CAP_SYS_ADMIN, run as root"),
            "bpf" => f.write_str(": needs CAP_BPF, run as root"),
            "netlink" | "TUNSETIFF" | "write" => f.write_str(": needs CAP_NET_ADMIN, run as root"),
            _ => f.write_str(": run as root"),
        }
    }
}

/// The kernel's own words about what it refused, where it gave any.
struct Explanation<'a>(&'a Option<String>);

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |words| write!(f, " ({words})"))
    }
}

struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => {
                write!(f, "the name is taken, and process {pid} has a TAP of this name open; end that process first")
            }
            None => f.write_str("the name is taken; delete the device with 'ip link del', or choose another name"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    #[test]
    fn a_refused_permission_names_the_capability_that_is_missing() {
        let enter = Error::call("setns", "/run/netns/a", os(libc::EPERM));
        assert_eq!(enter.to_string(), "setns failed for /run/netns/a: needs CAP_SYS_ADMIN, run as root");
        let add = Error::Netlink { action: "add link a".into(), explanation: None, source: os(libc::EPERM) };
        assert_eq!(add.to_string(), "cannot add link a: needs CAP_NET_ADMIN, run as root");
    }

    #[test]
    fn the_kernels_own_words_are_repeated() {
        let explanation = Some("Nexthop has invalid gateway".to_owned());
        let error = Error::Netlink { action: "add route 10.0.0.0/8".into(), explanation, source: os(libc::EINVAL) };
        assert_eq!(error.to_string(), "cannot add route 10.0.0.0/8 (Nexthop has invalid gateway)");
        assert_eq!(error.errno(), Some(libc::EINVAL));
        assert!(!error.is_exists() && !error.is_missing());
    }

    #[test]
    fn a_busy_tap_names_its_holder() {
        let busy = |holder| Error::TapBusy { name: "tap0".into(), holder, source: os(libc::EBUSY) }.to_string();
        assert!(busy(Some(7)).starts_with("TUNSETIFF failed for tap0: the name is taken, and process 7"));
        assert!(busy(None).contains("ip link del"), "{}", busy(None));
    }
}

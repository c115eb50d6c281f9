//! Network settings below `/proc/sys/net`, read and written in the calling thread's namespace.
//!
//! The kernel resolves `/proc/sys/net` by the namespace of the thread that looks, so to reach another one, do it inside
//! [`crate::Namespace::run`]. A setting is named by its path components, never by the dotted form, which cannot
//! hold an interface name with a dot in it (`eth0.100`).
//!
//! `accept_dad` of an interface must be written before the interface is set up, or the first addresses are already
//! being probed for duplicates.
//!
//! Source: Linux `Documentation/networking/ip-sysctl.rst`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;

/// One setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sysctl(PathBuf);

/// The family a setting is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// `net.ipv4`
    V4,
    /// `net.ipv6`
    V6,
}

impl Sysctl {
    /// A setting of the namespace: `Sysctl::net(&["ipv4", "ip_forward"])`.
    pub fn net(components: &[&str]) -> Result<Self, Error> {
        let mut path = PathBuf::from("/proc/sys/net");
        for component in components {
            if component.is_empty() || component.contains(['/', '\0']) || *component == "." || *component == ".." {
                let rule = "one path component below /proc/sys/net";
                return Err(Error::Illegal { what: "part of a sysctl", value: (*component).to_owned(), rule });
            }
            path.push(component);
        }
        Ok(Sysctl(path))
    }

    /// A setting of one interface, or of the pseudo-interfaces `all` and `default`:
    /// `Sysctl::interface(Family::V4, "podswitch0", "rp_filter")`.
    pub fn interface(family: Family, name: &str, key: &str) -> Result<Self, Error> {
        let family = match family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        Self::net(&[family, "conf", name, key])
    }

    /// Its value, without the line end.
    pub fn read(&self) -> Result<String, Error> {
        let text = fs::read_to_string(&self.0).map_err(|source| Error::call("read", self, source))?;
        Ok(text.trim_end().to_owned())
    }

    /// Sets its value.
    pub fn write(&self, value: impl fmt::Display) -> Result<(), Error> {
        // Not fs::write, which would create a file where the kernel has no such setting.
        let file = fs::OpenOptions::new().write(true).open(&self.0);
        let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, value.to_string().as_bytes()));
        written.map_err(|source| Error::call("write", self, source))
    }

    /// The file it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_name_with_a_dot_stays_one_component() {
        let sysctl = Sysctl::interface(Family::V6, "eth0.100", "accept_dad").unwrap();
        assert_eq!(sysctl.path(), Path::new("/proc/sys/net/ipv6/conf/eth0.100/accept_dad"));
    }

    #[test]
    fn a_name_cannot_lead_out_of_its_directory() {
        for name in ["..", ".", "", "a/b", "../../kernel"] {
            let error = Sysctl::interface(Family::V4, name, "rp_filter").unwrap_err();
            assert!(error.to_string().contains("one path component"), "{error}");
        }
    }

    #[test]
    fn a_setting_the_kernel_lacks_is_missing_not_created() {
        let sysctl = Sysctl::net(&["ipv4", "no_such_setting"]).unwrap();
        assert!(sysctl.read().unwrap_err().is_missing());
        assert!(sysctl.write(1).is_err());
    }
}

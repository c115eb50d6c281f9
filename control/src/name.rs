//! Names: of endpoints, interfaces, namespaces, and of those who ask.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::ParseError;
use crate::text::{serde_as_text, words};

/// The name of an endpoint: 1 to 128 of `[a-zA-Z0-9_.-]`, the first a letter or a digit, as CNI's container ids.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name(String);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let legal = (1..=NAME_LEN_MAX).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if legal { Ok(Name(text.to_owned())) } else { Err(ParseError::Name { text: text.to_owned() }) }
    }
}

/// The name of a network interface as the kernel takes it (`dev_valid_name` in Linux `net/core/dev.c`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for InterfaceName {
    /// `eth0`, what container runtimes expect.
    fn default() -> Self {
        InterfaceName("eth0".to_owned())
    }
}

impl FromStr for InterfaceName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let legal = (1..=INTERFACE_LEN_MAX).contains(&text.len())
            && text != "."
            && text != ".."
            && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
        if legal {
            Ok(InterfaceName(text.to_owned()))
        } else {
            Err(ParseError::InterfaceName { text: text.to_owned() })
        }
    }
}

/// The file that stands for a network namespace; a bare name is looked up where `ip netns` keeps its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NetnsPath(PathBuf);

impl NetnsPath {
    /// The path, absolute.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for NetnsPath {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = text.is_empty() || text.contains('\0') || text == "." || text == "..";
        match (wrong, text.starts_with('/'), text.contains('/')) {
            (false, true, _) => Ok(NetnsPath(PathBuf::from(text))),
            (false, false, false) => Ok(NetnsPath(Path::new(NETNS_DIR).join(text))),
            _ => Err(ParseError::Netns { text: text.to_owned() }),
        }
    }
}

words! {
    /// Who asked for an endpoint or a route. A client changes only what it asked for itself.
    Origin, "origin" {
        /// A person at the command line.
        Cli => "cli",
        /// The CNI plugin, for a container runtime.
        Cni => "cni",
        /// The node agent, for other nodes.
        Agent => "agent",
        /// The host's own routing table.
        HostImport => "host-import",
    }
}

words! {
    /// What a worker does when there is nothing to do.
    Poll, "poll mode" {
        /// Spins for a while, then sleeps.
        Adaptive => "adaptive",
        /// Never sleeps: the lowest latency for a whole core.
        Spin => "spin",
        /// Sleeps at once.
        Sleep => "sleep",
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for NetnsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.to_str().expect("a namespace path is made from text"))
    }
}

serde_as_text!(Name, InterfaceName, NetnsPath);

const NAME_LEN_MAX: usize = 128;
/// `IFNAMSIZ` less its terminating zero.
const INTERFACE_LEN_MAX: usize = 15;
const NETNS_DIR: &str = "/run/netns";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_letters() {
        let longest = "a".repeat(128);
        for text in ["a", "0", "web-0", "default.nginx_1", &longest] {
            assert_eq!(text.parse::<Name>().unwrap().as_str(), text);
        }
        let too_long = "a".repeat(129);
        for text in ["", "-a", ".a", "_a", "a b", "a/b", "ä", "a%2f", &too_long] {
            assert!(text.parse::<Name>().unwrap_err().to_string().contains(text), "{text}");
        }
    }

    #[test]
    fn interfaces_are_named_as_the_kernel_allows() {
        for text in ["eth0", "x", "abcdefghijklmno", "pod+0"] {
            assert_eq!(text.parse::<InterfaceName>().unwrap().as_str(), text);
        }
        for text in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "abcdefghijklmnop", "ääääääää"] {
            assert!(text.parse::<InterfaceName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_bare_namespace_name_is_one_of_ip_netns() {
        let path = |text: &str| text.parse::<NetnsPath>().map(|netns| netns.to_string());
        assert_eq!(path("blue").unwrap(), "/run/netns/blue");
        assert_eq!(path("/proc/7/ns/net").unwrap(), "/proc/7/ns/net");
        for text in ["", ".", "..", "ns/blue", "./blue", "a\0b"] {
            assert!(path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_survive_text_and_back() {
        for &origin in Origin::ALL {
            assert_eq!(origin.word().parse(), Ok(origin));
        }
        let error = "fast".parse::<Poll>().unwrap_err().to_string();
        assert_eq!(error, "'fast' is no poll mode: write adaptive, spin, sleep");
    }
}

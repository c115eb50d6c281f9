//! What this process may do, and the command line that may do it.
//!
//! Rights are capabilities(7), read from `/proc/self/status`; without proc nothing is known and all is taken as lacking.

use std::env;
use std::fs;

/// A right that podswitch makes use of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capability {
    /// Interfaces, addresses, routes, TAPs.
    NetAdmin,
    /// Entering pods' namespaces.
    SysAdmin,
    /// Looking for a namespace behind a process that holds more rights: `/proc/PID/ns/net`.
    SysPtrace,
    /// Full turns at real-time priority.
    SysNice,
    /// Programs for the kernel to run.
    Bpf,
}

impl Capability {
    /// Its bit (Linux `include/uapi/linux/capability.h`).
    const fn bit(self) -> u32 {
        match self {
            Capability::NetAdmin => 12,
            Capability::SysPtrace => 19,
            Capability::SysAdmin => 21,
            Capability::SysNice => 23,
            Capability::Bpf => 39,
        }
    }

    /// Its name in capabilities(7).
    pub const fn name(self) -> &'static str {
        match self {
            Capability::NetAdmin => "CAP_NET_ADMIN",
            Capability::SysPtrace => "CAP_SYS_PTRACE",
            Capability::SysAdmin => "CAP_SYS_ADMIN",
            Capability::SysNice => "CAP_SYS_NICE",
            Capability::Bpf => "CAP_BPF",
        }
    }
}

/// Without these there is no switch, and nothing to purge either.
pub const NEEDED: [Capability; 2] = [Capability::NetAdmin, Capability::SysAdmin];

/// Those of `wanted` that this process does not have.
pub fn missing(wanted: &[Capability]) -> Vec<Capability> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    missing_of(&status, wanted)
}

/// Names with `and` between them.
pub fn listed(capabilities: &[Capability]) -> String {
    capabilities.iter().map(|capability| capability.name()).collect::<Vec<_>>().join(" and ")
}

/// This process' own command line, to be run as root; what it was told by the environment included.
pub fn sudo() -> String {
    let environment = ["PODSWITCH_SOCKET", "PODSWITCH_LOG"].into_iter().filter_map(|name| {
        let value = env::var(name).ok()?;
        Some(format!("{name}={}", quoted(&value)))
    });
    let arguments = env::args_os().map(|argument| quoted(&argument.to_string_lossy()));
    ["sudo".to_owned()].into_iter().chain(environment).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// `status` is the text of `/proc/PID/status` (proc_pid_status(5)).
fn missing_of(status: &str, wanted: &[Capability]) -> Vec<Capability> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    wanted.iter().copied().filter(|capability| effective & (1 << capability.bit()) == 0).collect()
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        assert_eq!(missing_of("Name:\tx\nCapEff:\t000001ffffffffff\n", &NEEDED), []);
        assert_eq!(listed(&missing_of("CapEff:\t0000000000200000\n", &NEEDED)), "CAP_NET_ADMIN");
        assert_eq!(listed(&missing_of("", &NEEDED)), "CAP_NET_ADMIN and CAP_SYS_ADMIN");
    }

    #[test]
    fn a_word_stays_one_word() {
        let words = ["web-0", "10.244.0.2/24", "", "a b", "it's", "$HOME"].map(quoted);
        assert_eq!(words, ["web-0", "10.244.0.2/24", "''", "'a b'", r"'it'\''s'", "'$HOME'"]);
    }
}

//! What this machine gives a switch, and what it lacks: each finding says what is so and the command that mends it.
//!
//! Nothing is changed. A TAP is made for a moment, to see what the kernel agrees to; it goes when it is closed. What
//! belongs to the whole node (forwarding, firewall policies) the switch never changes by itself, so this says it aloud.

use std::fs::{self, OpenOptions};
use std::process::{self, Command, Stdio};

use control::InterfaceName;
use host::{Abilities, Family, Sysctl, Tap, TapOptions};
use serde::Serialize;
use serde_json::Value;

/// One thing looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// True when the switch gets what it needs.
    pub ok: bool,
    /// What is so.
    pub detail: String,
    /// The command or the step that mends it.
    pub cure: Option<String>,
}

/// Looks at everything; `host_port` is the switch's interface on the host.
pub fn examine(host_port: &InterfaceName) -> Vec<Finding> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut findings = vec![capabilities(&status), tun()];
    findings.extend(offloads());
    findings.extend([
        forwarding("IPv4 forwarding", Sysctl::net(&["ipv4", "ip_forward"])),
        forwarding("IPv6 forwarding", Sysctl::interface(Family::V6, "all", "forwarding")),
        router_advertisements(&fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default()),
        forward_policy(host_port),
        reverse_path(),
    ]);
    findings
}

fn found(subject: &'static str, detail: impl Into<String>) -> Finding {
    Finding { subject, ok: true, detail: detail.into(), cure: None }
}

fn lacking(subject: &'static str, detail: impl Into<String>, cure: impl Into<String>) -> Finding {
    Finding { subject, ok: false, detail: detail.into(), cure: Some(cure.into()) }
}

/// `status` is the text of `/proc/PID/status` (proc_pid_status(5)).
fn capabilities(status: &str) -> Finding {
    let subject = "privileges";
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let missing: Vec<&str> =
        CAPABILITIES.iter().filter(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        found(subject, "CAP_NET_ADMIN and CAP_SYS_ADMIN")
    } else {
        lacking(subject, format!("{} missing", missing.join(" and ")), "run as root: sudo podswitch doctor")
    }
}

fn tun() -> Finding {
    match OpenOptions::new().read(true).write(true).open(TUN) {
        Ok(_) => found(TUN, "opens"),
        Err(error) => lacking(TUN, error.to_string(), "modprobe tun"),
    }
}

fn offloads() -> [Finding; 2] {
    let (tcp, udp) = ("TAP checksums and TCP super-frames", "TAP UDP super-frames");
    let abilities = match Tap::open(&TapOptions::new(format!("pswtry{}", process::id()))) {
        Ok(tap) => tap.abilities(),
        Err(error) => {
            let cure = "mend the findings above first";
            return [tcp, udp].map(|subject| lacking(subject, error.to_string(), cure));
        }
    };
    let Abilities { checksum, tso4, tso6, uso } = abilities;
    let tcp = match (checksum, tso4 && tso6) {
        (true, true) => found(tcp, "active"),
        (true, false) => {
            lacking(tcp, "checksums alone are active", "use a kernel that offers TUN_F_TSO4 and TUN_F_TSO6")
        }
        (false, _) => lacking(tcp, "the kernel refuses them", "use a kernel that offers TUN_F_CSUM"),
    };
    let udp = if uso {
        found(udp, "active")
    } else {
        lacking(udp, "the kernel does not know them: UDP passes frame by frame", "use Linux 6.2 or newer")
    };
    [tcp, udp]
}

fn forwarding(subject: &'static str, sysctl: Result<Sysctl, host::Error>) -> Finding {
    let read = sysctl.and_then(|sysctl| Ok((sysctl.read()?, sysctl)));
    match read {
        Ok((value, _)) if value != "0" => found(subject, "on"),
        Ok((_, sysctl)) => lacking(
            subject,
            "off: pods do not reach the outside by the host",
            format!("sysctl -w {}=1", dotted(&sysctl)),
        ),
        Err(error) if error.is_missing() => found(subject, "the kernel does without this family"),
        Err(error) => lacking(subject, error.to_string(), "see that /proc/sys is mounted"),
    }
}

/// A host that forwards ignores router advertisements unless `accept_ra` is 2. `routes` is `/proc/net/ipv6_route`.
fn router_advertisements(routes: &str) -> Finding {
    let subject = "router advertisements";
    let value = |interface: &str| {
        let sysctl = Sysctl::interface(Family::V6, interface, "accept_ra").ok()?;
        sysctl.read().ok().map(|value| (value, sysctl))
    };
    let learned = advertised_defaults(routes);
    let deaf = learned.iter().filter_map(|interface| value(interface)).find(|(value, _)| value != "2");
    match deaf {
        Some((value, sysctl)) => lacking(
            subject,
            format!("{} is {value}: with forwarding on, the default route will expire", dotted(&sysctl)),
            format!("sysctl -w {}=2", dotted(&sysctl)),
        ),
        None if learned.is_empty() => found(subject, "no default route is learned from them"),
        None => found(subject, format!("heard on {}", learned.join(", "))),
    }
}

/// Interfaces whose IPv6 default route came by advertisement (`RTF_ADDRCONF`, Linux `include/uapi/linux/ipv6_route.h`).
fn advertised_defaults(routes: &str) -> Vec<&str> {
    let interface = |line| {
        let fields: Vec<&str> = str::split_whitespace(line).collect();
        let [destination, length, .., flags, interface] = fields[..] else { return None };
        let default = length == "00" && destination.bytes().all(|digit| digit == b'0');
        let flags = u32::from_str_radix(flags, 16).ok()?;
        (default && flags & RTF_ADDRCONF != 0).then_some(interface)
    };
    let mut interfaces: Vec<&str> = routes.lines().filter_map(interface).collect();
    interfaces.dedup();
    interfaces
}

fn forward_policy(host_port: &InterfaceName) -> Finding {
    let subject = "firewall policy for forwarding";
    if let Some(listing) = output("nft", &["--json", "list", "chains"]) {
        let chains = serde_json::from_slice(&listing).map(|listing| dropping_chains(&listing)).unwrap_or_default();
        let closed = chains.into_iter().find(|Chain { family, table, name }| {
            let rules = output("nft", &["list", "chain", family, table, name]).unwrap_or_default();
            !String::from_utf8_lossy(&rules).contains(&format!("\"{host_port}\""))
        });
        return match closed {
            None => found(subject, format!("nothing drops what {host_port} forwards by default")),
            Some(Chain { family, table, name }) => lacking(
                subject,
                format!("chain {name} of table {family} {table} drops by default"),
                format!(
                    "nft insert rule {family} {table} {name} iifname {host_port} accept && \
                     nft insert rule {family} {table} {name} oifname {host_port} accept"
                ),
            ),
        };
    }
    match output("iptables", &["-S", "FORWARD"]) {
        None => found(subject, "not examined: neither nft nor iptables answers here"),
        Some(rules) => {
            let rules = String::from_utf8_lossy(&rules).into_owned();
            if !rules.contains("-P FORWARD DROP") || rules.contains(host_port.as_str()) {
                return found(subject, format!("nothing drops what {host_port} forwards by default"));
            }
            let open = |way| format!("iptables -I FORWARD {way} {host_port} -j ACCEPT");
            lacking(subject, "FORWARD drops by default", format!("{} && {}", open("-i"), open("-o")))
        }
    }
}

struct Chain {
    family: String,
    table: String,
    name: String,
}

/// The chains that hook forwarding with policy drop, of `nft --json list chains` (libnftables-json(5)).
fn dropping_chains(listing: &Value) -> Vec<Chain> {
    let text = |chain: &Value, key: &str| chain[key].as_str().unwrap_or_default().to_owned();
    let items = listing["nftables"].as_array().into_iter().flatten().map(|item| &item["chain"]);
    items
        .filter(|chain| chain["hook"] == "forward" && chain["policy"] == "drop")
        .map(|chain| Chain { family: text(chain, "family"), table: text(chain, "table"), name: text(chain, "name") })
        .collect()
}

fn reverse_path() -> Finding {
    let subject = "reverse path filter";
    let sysctl = Sysctl::interface(Family::V4, "all", "rp_filter");
    match sysctl.and_then(|sysctl| Ok((sysctl.read()?, sysctl))) {
        Ok((value, sysctl)) if value == "1" => lacking(
            subject,
            "strict on every interface: pods with addresses outside the pod ranges do not reach the host",
            format!("sysctl -w {}=2", dotted(&sysctl)),
        ),
        Ok((value, _)) => found(subject, if value == "2" { "loose" } else { "off" }),
        Err(error) => lacking(subject, error.to_string(), "see that /proc/sys is mounted"),
    }
}

/// What a command says when it succeeds; nothing where it is not installed or fails.
fn output(command: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new(command).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then_some(output.stdout)
}

/// The name as sysctl(8) takes it.
fn dotted(sysctl: &Sysctl) -> String {
    let path = sysctl.path().to_string_lossy();
    // sysctl(8) reads a slash as a separator too, so a dot within an interface's name stays one.
    path.trim_start_matches("/proc/sys/").to_owned()
}

const TUN: &str = "/dev/net/tun";
/// Bits of capabilities(7).
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];
const RTF_ADDRCONF: u32 = 0x0004_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        assert!(capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n").ok);
        let finding = capabilities("CapEff:\t0000000000200000\n");
        assert_eq!((finding.ok, finding.detail.as_str()), (false, "CAP_NET_ADMIN missing"));
        assert!(!capabilities("").ok);
    }

    #[test]
    fn only_advertised_default_routes_count() {
        let zeros = "0".repeat(32);
        let router = "fe800000000000000000000000000001";
        let line = |length, flags, interface| {
            format!("{zeros} {length} {zeros} 00 {router} 00000400 00000001 00000000 {flags}     {interface}\n")
        };
        let routes = [
            line("00", "00450003", "eth0"),
            line("00", "00450003", "eth0"),
            line("00", "00000003", "eth1"),
            line("40", "00450003", "eth2"),
        ];
        assert_eq!(advertised_defaults(&routes.concat()), ["eth0"]);
        assert!(advertised_defaults("nonsense\n\n").is_empty());
    }

    #[test]
    fn a_chain_that_drops_what_is_forwarded_is_found() {
        let listing = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"}},
            {"chain": {"family": "inet", "table": "own", "name": "f", "hook": "forward", "policy": "accept"}},
            {"chain": {"family": "ip", "table": "filter", "name": "DOCKER"}}]}"#;
        let chains = dropping_chains(&serde_json::from_str(listing).unwrap());
        let names: Vec<_> = chains.iter().map(|chain| (chain.family.as_str(), chain.name.as_str())).collect();
        assert_eq!(names, [("ip", "FORWARD")]);
        assert!(dropping_chains(&Value::Null).is_empty());
    }

    #[test]
    fn forwarding_that_is_off_names_the_command() {
        // A setting of this namespace that reads 0 or 1 either way: only the shape is checked.
        let finding = forwarding("x", Sysctl::net(&["ipv4", "ip_forward"]));
        assert_eq!(finding.ok, finding.cure.is_none());
        let finding = forwarding("x", Sysctl::net(&["ipv4", "no_such_setting"]));
        assert_eq!((finding.ok, finding.detail.as_str()), (true, "the kernel does without this family"));
    }
}

//! The host's side of the network: forwarding, the firewall, the tables that fill up.

use std::process::{Command, Stdio};

use control::InterfaceName;
use host::{Family, Sysctl};
use serde_json::Value;

use super::{Finding, found, lacking, note, text};

/// Looks at forwarding, the firewall, and the tables of connections and neighbours.
pub(super) fn findings(host_port: &InterfaceName) -> Vec<Finding> {
    vec![
        forwarding("IPv4 forwarding", Sysctl::net(&["ipv4", "ip_forward"])),
        forwarding("IPv6 forwarding", Sysctl::interface(Family::V6, "all", "forwarding")),
        router_advertisements(&text("/proc/net/ipv6_route").unwrap_or_default()),
        nftables(),
        forward_policy(host_port),
        reverse_path(),
        connection_tracking(),
        neighbors(),
    ]
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

fn nftables() -> Finding {
    let subject = "nftables";
    match (output("nft", &["list", "tables"]), output("nft", &["--version"])) {
        (Some(_), _) => found(subject, "answers"),
        (None, Some(_)) => note(subject, "nft gets no answer from the kernel").cured("run as root; modprobe nf_tables"),
        (None, None) => {
            note(subject, "nft is missing: what its rules drop is not seen").cured("apt-get install nftables")
        }
    }
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

/// The host tracks the connections it translates for pods; with the table full their packets are lost.
fn connection_tracking() -> Finding {
    let subject = "connection tracking table";
    let value = |key| text(&format!("/proc/sys/net/netfilter/{key}"))?.parse().ok();
    let (Some(used), Some(most)) = (value("nf_conntrack_count"), value("nf_conntrack_max")) else {
        return found(subject, "the host tracks no connections");
    };
    fill(subject, used, most).unwrap_or_else(|detail| {
        lacking(subject, detail, format!("sysctl -w net.netfilter.nf_conntrack_max={}", 2 * most))
    })
}

/// The switch's own entries are permanent and do not count; those of the node's other links do.
fn neighbors() -> Finding {
    let subject = "neighbour table";
    let limit = text("/proc/sys/net/ipv4/neigh/default/gc_thresh3").and_then(|value| value.parse().ok());
    let Some(most) = limit else { return note(subject, "its limit is shown in the first namespace alone") };
    let statistics = text("/proc/net/stat/arp_cache").unwrap_or_default();
    let used = statistics.lines().nth(1).and_then(|line| u64::from_str_radix(line.split_whitespace().next()?, 16).ok());
    fill(subject, used.unwrap_or(0), most).unwrap_or_else(|detail| {
        lacking(subject, detail, format!("sysctl -w net.ipv4.neigh.default.gc_thresh3={}", 4 * most))
    })
}

/// A table of which four fifths are taken is as good as full: new entries come in bursts.
fn fill(subject: &'static str, used: u64, most: u64) -> Result<Finding, String> {
    let detail = format!("{used} of {most} entries taken");
    if used.saturating_mul(5) >= most.saturating_mul(4) { Err(detail) } else { Ok(found(subject, detail)) }
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

const RTF_ADDRCONF: u32 = 0x0004_0000;

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

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
        assert_eq!(finding.status == Status::Ok, finding.cure.is_none());
        let finding = forwarding("x", Sysctl::net(&["ipv4", "no_such_setting"]));
        assert_eq!((finding.status, finding.detail.as_str()), (Status::Ok, "the kernel does without this family"));
    }

    #[test]
    fn a_table_is_full_before_the_last_place_is_taken() {
        assert!(fill("x", 79, 100).is_ok() && fill("x", 80, 100).is_err() && fill("x", 0, 0).is_err());
    }
}

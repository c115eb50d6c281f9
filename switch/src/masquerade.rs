//! Masquerading: pods that speak to the world beyond the cluster do so by their node's address.
//!
//! A table of the host's own packet filter, named as the host port, holds one rule for each family:
//!
//! ```text
//!   from a pod range, to neither a network of the cluster nor a multicast group, not marked 0x4000  -->  masquerade
//! ```
//!
//! The mark is the one by which kube-proxy says that it translates a packet itself. Within the cluster, and
//! towards the pods, nothing is translated. The table is put in place as a whole in one transaction and goes with a purge.
//!
//! Spoken to through nft(8) in its JSON form (libnftables-json(5)), which is what the kernel's own interface is made for.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use packet::Prefix;
use serde_json::{Value, json};

use crate::config::Config;

/// Why the packet filter was not changed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum Error {
    #[error("masquerading needs the program nft, which is missing: install the package nftables")]
    Missing,
    #[error("cannot run nft")]
    Run { source: io::Error },
    #[error("nft refused the table {table}: {said}")]
    Refused { table: String, said: String },
}

/// Has the packet filter be as `config` says: the table in place, or away.
///
/// # Errors
/// Masquerading is wanted, and nft is missing or refuses.
pub fn arrange(config: &Config) -> Result<(), Error> {
    let table = config.node.host_port.as_str();
    match change(table, &if config.masquerade { whole(table, config) } else { gone(table) }) {
        Err(Error::Missing) if !config.masquerade => Ok(()),
        changed => changed,
    }
}

/// Removes the table of that host port; a node without nft has none.
///
/// # Errors
/// nft refuses.
pub fn remove(table: &str) -> Result<(), Error> {
    match change(table, &gone(table)) {
        Err(Error::Missing) => Ok(()),
        changed => changed,
    }
}

/// True when the table of that host port is there.
pub fn is_there(table: &str) -> bool {
    let mut nft = Command::new(NFT);
    nft.args(["list", "table", FAMILY, table]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    nft.status().is_ok_and(|status| status.success())
}

fn change(table: &str, commands: &[Value]) -> Result<(), Error> {
    let mut nft = Command::new(NFT);
    nft.args(["--json", "--file", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = nft.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing,
        _ => Error::Run { source },
    })?;
    let text = json!({ "nftables": commands }).to_string();
    let written = child.stdin.take().expect("its input was asked for").write_all(text.as_bytes());
    let output = child.wait_with_output().map_err(|source| Error::Run { source })?;
    if output.status.success() {
        return written.map_err(|source| Error::Run { source });
    }
    Err(Error::Refused { table: table.to_owned(), said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

/// What removes the table, if there is one.
fn gone(table: &str) -> Vec<Value> {
    let table = json!({ "table": { "family": FAMILY, "name": table } });
    vec![json!({ "add": table }), json!({ "delete": table })]
}

/// What puts the whole table in the place of an earlier one.
fn whole(table: &str, config: &Config) -> Vec<Value> {
    let mut commands = gone(table);
    commands.push(json!({ "add": { "table": { "family": FAMILY, "name": table } } }));
    commands.push(json!({ "add": { "chain": {
        "family": FAMILY, "table": table, "name": CHAIN,
        "type": "nat", "hook": "postrouting", "prio": PRIORITY_SRCNAT, "policy": "accept",
    } } }));
    for (protocol, v4, multicast) in [("ip", true, "224.0.0.0/4"), ("ip6", false, "ff00::/8")] {
        let of = |prefixes: &[Prefix]| apart(prefixes.iter().filter(|prefix| prefix.address().is_ipv4() == v4));
        let (pods, mut known) = (of(&config.node.pod_ranges), of(&config.cluster_networks));
        if pods.is_empty() {
            continue;
        }
        known.push(multicast.parse().expect("it is a prefix"));
        let field = |field: &str| json!({ "payload": { "protocol": protocol, "field": field } });
        let rule = json!([
            { "match": { "op": "==", "left": field("saddr"), "right": set(&pods) } },
            { "match": { "op": "!=", "left": field("daddr"), "right": set(&known) } },
            { "match": { "op": "!=", "left": { "&": [{ "meta": { "key": "mark" } }, MARK] }, "right": MARK } },
            { "masquerade": { "flags": "fully-random" } },
        ]);
        commands.push(json!({ "add": { "rule": { "family": FAMILY, "table": table, "chain": CHAIN, "expr": rule } } }));
    }
    commands
}

/// Those that lie in no other: nft takes no overlapping elements.
fn apart<'a>(prefixes: impl Iterator<Item = &'a Prefix>) -> Vec<Prefix> {
    let mut apart: Vec<Prefix> = Vec::new();
    for &prefix in prefixes {
        if apart.iter().any(|wider| wider.net().contains(&prefix.net())) {
            continue;
        }
        apart.retain(|narrower| !prefix.net().contains(&narrower.net()));
        apart.push(prefix);
    }
    apart
}

fn set(prefixes: &[Prefix]) -> Value {
    let element =
        |prefix: &Prefix| json!({ "prefix": { "addr": prefix.address().to_string(), "len": prefix.length() } });
    json!({ "set": prefixes.iter().map(element).collect::<Vec<_>>() })
}

const NFT: &str = "nft";
const FAMILY: &str = "inet";
const CHAIN: &str = "postrouting";
/// What nft calls `srcnat` there.
const PRIORITY_SRCNAT: i32 = 100;
/// kube-proxy's "masquerade this" mark.
const MARK: u32 = 0x4000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_within_another_is_not_said_twice() {
        let prefixes = ["10.0.0.0/16", "10.0.1.0/24", "10.2.0.0/24", "10.2.0.0/16", "10.2.0.0/16"];
        let prefixes = prefixes.map(|text| text.parse::<Prefix>().unwrap());
        let apart: Vec<String> = apart(prefixes.iter()).iter().map(Prefix::to_string).collect();
        assert_eq!(apart, ["10.0.0.0/16", "10.2.0.0/16"]);
    }
}

//! The switch that runs, if one does: its version, its ports, what it lost.

use std::collections::BTreeMap;

use control::{Ability, Client, DropsView, Error, PortKind, PortView, Status};
use host::Abilities;

use super::{Finding, found, lacking, note};

/// Looks at the switch; `abilities` are what its ports could have, where that is known.
pub(super) fn findings(client: &Client, status: &Result<Status, Error>, abilities: Option<Abilities>) -> Vec<Finding> {
    let status = match status {
        Ok(status) => status,
        Err(error @ (Error::Absent { .. } | Error::Permission { .. })) => {
            return vec![note("running switch", error.to_string())];
        }
        Err(error) => {
            return vec![lacking("running switch", error.to_string(), error.hint().unwrap_or("see its log"))];
        }
    };
    let mut findings = vec![version(status)];
    if let (Ok(ports), Ok(drops)) = (client.ports(), client.drops()) {
        findings.extend([complete(&ports, abilities), kernel_drops(&ports), attention(&drops)]);
    }
    findings
}

fn version(status: &Status) -> Finding {
    let (subject, own) = ("running switch", env!("CARGO_PKG_VERSION"));
    let detail = format!("process {}, version {}", status.pid, status.version);
    if status.version == own {
        found(subject, detail)
    } else {
        lacking(subject, format!("{detail}; this program is {own}"), "restart it: its pods' connections live on")
    }
}

fn complete(ports: &[PortView], abilities: Option<Abilities>) -> Finding {
    let subject = "offloads of its ports";
    let Some(Abilities { checksum, tso4, tso6, uso }) = abilities else {
        return note(subject, "not examined: there is no TAP to compare them with");
    };
    let wanted = [(checksum, Ability::Checksum), (tso4, Ability::Tso4), (tso6, Ability::Tso6), (uso, Ability::Uso)];
    let ports = ports.iter().filter(|port| port.kind != PortKind::Uplink);
    let lacks = |port: &&PortView| wanted.iter().any(|(able, ability)| *able && !port.abilities.contains(ability));
    let names: Vec<&str> = ports.clone().filter(lacks).map(|port| port.name.as_str()).collect();
    if names.is_empty() {
        found(subject, format!("complete on {} ports", ports.count()))
    } else {
        lacking(subject, format!("incomplete: {}", names.join(", ")), "restart the switch")
    }
}

fn kernel_drops(ports: &[PortView]) -> Finding {
    let subject = "drops by the kernel";
    let losing: Vec<String> = ports
        .iter()
        .filter_map(|port| port.kernel_dropped.filter(|&count| count > 0).map(|count| format!("{} {count}", port.name)))
        .collect();
    if losing.is_empty() {
        found(subject, "none")
    } else {
        note(subject, format!("workers came too late: {}", losing.join(", "))).cured("worker_cpus, poll = \"spin\"")
    }
}

fn attention(drops: &DropsView) -> Finding {
    let subject = "drops by the switch";
    let counted = worth_attention(&drops.dropped);
    match (counted.is_empty(), drops.conserved) {
        (_, false) => lacking(subject, "packets are unaccounted for", "report this with podswitch show drops --json"),
        (true, _) => found(subject, "none worth attention"),
        (false, _) => note(subject, counted).cured("docs/troubleshooting.md, by reason"),
    }
}

fn worth_attention(dropped: &BTreeMap<String, u64>) -> String {
    let counted = dropped.iter().filter(|(reason, count)| **count > 0 && !ORDINARY.contains(&reason.as_str()));
    counted.map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ")
}

/// What every pod's kernel says now and then, and what was asked for.
const ORDINARY: [&str; 6] = ["igmp", "mld", "router_solicitation", "multicast", "blackhole", "port_gone"];

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn without_a_tap_to_compare_with_nothing_is_complete() {
        let finding = complete(&[], None);
        assert_eq!(finding.status, Status::Note);
        assert!(finding.detail.starts_with("not examined"));
        assert_eq!(complete(&[], Some(Abilities::default())).status, Status::Ok);
    }

    #[test]
    fn ordinary_drops_are_passed_over_and_exist() {
        let counts = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 2)).collect();
        assert_eq!(worth_attention(&counts(&ORDINARY)), "");
        assert_eq!(worth_attention(&counts(&["mld", "spoofed_source", "truncated"])), "spoofed_source 2, truncated 2");
        let reasons: Vec<&str> = packet::Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert!(ORDINARY.iter().all(|name| reasons.contains(name)));
    }
}

//! What this machine gives a switch, and what it lacks: each finding says what is so and the command that mends it.
//!
//! Nothing is changed. A TAP is made for a moment, to see what the kernel agrees to; it goes when it is closed. What
//! belongs to the whole node (forwarding, firewall policies) the switch never changes by itself, so this says it aloud.
//!
//! A finding is `ok`, a `lack` of something the switch uses, or a `note`: worth knowing, of use later, or a matter of
//! taste. Each file below looks at one part; a switch that runs is looked at too.

mod machine;
mod network;
mod rights;
mod running;
mod security;
mod tap;
mod underlay;

use std::fs;
use std::path::PathBuf;

use control::{Client, InterfaceName};
use serde::Serialize;

use crate::thread::OWN;

/// One thing looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// Whether the switch gets what it needs.
    pub status: Status,
    /// What is so.
    pub detail: String,
    /// The command or the step that mends it.
    pub cure: Option<String>,
}

/// What a finding means for the switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It gets what it needs.
    Ok,
    /// It does without something it would use.
    Lack,
    /// Worth knowing.
    Note,
}

/// Where to look.
#[derive(Debug)]
pub struct Place {
    /// The switch's interface on the host.
    pub host_port: InterfaceName,
    /// Where a switch keeps, or would keep, its state.
    pub state_dir: PathBuf,
    /// How to speak to one that runs.
    pub client: Client,
}

/// Looks at everything.
pub fn examine(place: &Place) -> Vec<Finding> {
    let tap = tap::Probe::new();
    let status = place.client.status();
    // What is true of one process alone is asked of the switch; where none runs, of this program in its place.
    let process = status.as_ref().map_or_else(|_| OWN.to_owned(), |status| format!("/proc/{}", status.pid));
    [
        rights::findings(),
        tap.findings(),
        network::findings(&place.host_port),
        underlay::findings(place.client.config().ok().as_ref()),
        machine::findings(&place.state_dir, &process),
        security::findings(&process),
        running::findings(&place.client, &status, tap.abilities()),
    ]
    .concat()
}

impl Finding {
    /// The same with what can be done about it.
    fn cured(self, cure: impl Into<String>) -> Self {
        Finding { cure: Some(cure.into()), ..self }
    }
}

fn found(subject: &'static str, detail: impl Into<String>) -> Finding {
    Finding { subject, status: Status::Ok, detail: detail.into(), cure: None }
}

fn note(subject: &'static str, detail: impl Into<String>) -> Finding {
    Finding { subject, status: Status::Note, detail: detail.into(), cure: None }
}

fn lacking(subject: &'static str, detail: impl Into<String>, cure: impl Into<String>) -> Finding {
    Finding { subject, status: Status::Lack, detail: detail.into(), cure: Some(cure.into()) }
}

/// A file of proc or sys, without blanks around; nothing where it cannot be read.
fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The value of a line `key: value`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

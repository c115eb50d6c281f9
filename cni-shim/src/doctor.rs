//! Looks whether a container runtime on this node would get its pods wired: the configuration it reads, the programs that
//! names, the switch behind it. It changes nothing.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use control::Client;
use serde_json::Value;

use crate::config::SOCKET;
use crate::conflist::{Found, NO_BANDWIDTH, TYPE};
use crate::install::Place;

/// One thing that was looked at.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) subject: String,
    pub(crate) verdict: Verdict,
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// As it should be.
    Well(String),
    /// A runtime would fail: what is wrong and what mends it.
    Lack(String, String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Well(found) => write!(f, "ok    {}: {found}", self.subject),
            Verdict::Lack(found, cure) => write!(f, "LACK  {}: {found}\n      {cure}", self.subject),
        }
    }
}

impl Finding {
    /// True unless a runtime would fail by it.
    pub(crate) fn is_well(&self) -> bool {
        matches!(self.verdict, Verdict::Well(_))
    }

    fn well(subject: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding { subject: subject.into(), verdict: Verdict::Well(found.into()) }
    }

    fn lack(subject: impl Into<String>, found: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding { subject: subject.into(), verdict: Verdict::Lack(found.into(), cure.into()) }
    }
}

/// Everything worth telling.
pub(crate) fn examine(place: &Place<'_>) -> Vec<Finding> {
    let (configuration, found) = configuration(place.configurations);
    let mut findings = vec![configuration];
    let socket = found.as_ref().and_then(Found::own).and_then(|own| own.socket.clone());
    findings.push(switch(&socket.unwrap_or_else(|| PathBuf::from(SOCKET))));
    for (position, plugin) in found.iter().flat_map(|found| found.plugins.iter().enumerate()) {
        if plugin.kind == "bandwidth" {
            findings.push(Finding::lack(&plugin.kind, NO_BANDWIDTH, "take it out of the configuration"));
            continue;
        }
        let version = found.as_ref().map_or("", |found| &found.cni_version);
        findings.push(program(place.programs, &plugin.kind, version));
        let ipam =
            plugin.ipam["type"].as_str().filter(|ipam| position == 0 && !ipam.is_empty() && *ipam != "podswitch");
        findings.extend(ipam.map(|ipam| program(place.programs, ipam, version)));
        if plugin.kind == "portmap" && !runs("iptables") {
            findings.push(Finding::lack(
                "portmap",
                "it needs iptables, which is missing",
                "install the package iptables",
            ));
        }
    }
    findings
}

/// The file a runtime would take, the first in order of names, and what it says.
fn configuration(folder: &Path) -> (Finding, Option<Found>) {
    let subject = "configuration";
    let write = "write one with `podswitch-cni install`";
    let is_one =
        |path: &PathBuf| path.extension().is_some_and(|end| end == "conflist" || end == "conf" || end == "json");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let Some(first) = entries.map(|entry| entry.path()).filter(is_one).min() else {
        return (Finding::lack(subject, format!("there is none in {}", folder.display()), write), None);
    };
    let shown = first.display().to_string();
    let found = fs::read(&first).ok().and_then(|text| serde_json::from_slice::<Found>(&text).ok());
    let Some(found) = found else {
        return (Finding::lack(subject, format!("{shown}, the first, cannot be read"), "mend or remove it"), None);
    };
    if found.own().is_none() {
        let cure = format!("remove it, or give this plugin's a name that comes before; {write}");
        return (Finding::lack(subject, format!("{shown}, the first, is another plugin's"), cure), None);
    }
    (Finding::well(subject, shown), Some(found))
}

fn switch(socket: &Path) -> Finding {
    match Client::new(socket).timeout(PATIENCE).status() {
        Ok(status) => Finding::well("switch", format!("{} with {} pods", status.version, status.endpoints)),
        Err(error) => {
            let cure = error.hint().unwrap_or("see its log").to_owned();
            Finding::lack("switch", error.to_string(), cure)
        }
    }
}

/// Whether a plugin is there and speaks the configuration's version.
fn program(folder: &Path, plugin: &str, version: &str) -> Finding {
    let path = folder.join(plugin);
    let missing = || {
        let package =
            if plugin == TYPE { "`podswitch-cni install`" } else { "the package containernetworking-plugins" };
        Finding::lack(plugin, format!("{} is missing", path.display()), format!("{package} puts it in place"))
    };
    let mut command = Command::new(&path);
    command.env_clear().env("CNI_COMMAND", "VERSION").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut ask = || {
        let mut child = command.stdin(Stdio::piped()).spawn().ok()?;
        let asked = format!("{{\"cniVersion\":\"{version}\"}}");
        // One that does not read it may answer all the same.
        let _ = std::io::Write::write_all(&mut child.stdin.take()?, asked.as_bytes());
        Some(child.wait_with_output().ok()?.stdout)
    };
    if !path.is_file() {
        return missing();
    }
    let answer = ask().and_then(|answer| serde_json::from_slice::<Value>(&answer).ok()).unwrap_or_default();
    let versions: Vec<&str> =
        answer["supportedVersions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if versions.contains(&version) {
        return Finding::well(plugin, format!("{} speaks {version}", path.display()));
    }
    let found = format!("{} does not speak cniVersion {version}, but: {}", path.display(), versions.join(", "));
    Finding::lack(plugin, found, "write the configuration with an older --cni-version")
}

fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

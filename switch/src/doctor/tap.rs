//! What the kernel agrees to on a TAP, tried on one that is made for a moment.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::process;

use host::{Abilities, Error, Tap, TapFeature, TapOptions};

use crate::privilege::sudo;

use super::{Finding, found, lacking, note};

/// A TAP to try things on.
pub(super) struct Probe(Result<Tap, Error>);

impl Probe {
    /// Makes it.
    pub(super) fn new() -> Self {
        Probe(Tap::open(&TapOptions::new(format!("pswtry{}", process::id()))))
    }

    /// What every port should have, where that could be tried.
    pub(super) fn abilities(&self) -> Option<Abilities> {
        self.0.as_ref().ok().map(Tap::abilities)
    }

    /// Looks at the device and its features.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![device()];
        match &self.0 {
            Ok(tap) => {
                findings.push(found("TAP virtio header", format!("{} bytes", packet::VNET_HEADER_LEN)));
                findings.extend(offloads(tap.abilities()));
                findings.extend(later(tap));
            }
            Err(error) => findings.push(lacking("TAP offloads", error.to_string(), "mend the findings above first")),
        }
        findings
    }
}

fn device() -> Finding {
    match OpenOptions::new().read(true).write(true).open(TUN) {
        Ok(_) => found(TUN, "opens"),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            lacking(TUN, error.to_string(), format!("run as root: {}", sudo()))
        }
        Err(error) => lacking(TUN, error.to_string(), "modprobe tun"),
    }
}

fn offloads(abilities: Abilities) -> [Finding; 2] {
    let (tcp, udp) = ("TAP checksums and TCP super-frames", "TAP UDP super-frames");
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

/// What nothing uses yet.
fn later(tap: &Tap) -> [Finding; 3] {
    let offered = |subject, offered: bool| {
        note(
            subject,
            if offered { "offered; nothing needs it yet" } else { "the kernel has none; nothing needs it yet" },
        )
    };
    let several = TapOptions { queues: 2, multi_queue: true, ..TapOptions::new(format!("pswtrm{}", process::id())) };
    [
        offered("TAP with several queues", Tap::open(&several).is_ok()),
        offered("TAP steering by program", tap.offers(TapFeature::SteeringProgram)),
        offered("TAP super-frames in UDP tunnels", tap.offers(TapFeature::UdpTunnelGso)),
    ]
}

const TUN: &str = "/dev/net/tun";

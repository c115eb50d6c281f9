//! A switch that takes calls and never answers: every verb ends in time, says what it should, and leaves nothing.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

mod rig;

use std::fs;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use rig::{Node, Pod, run_in};

#[test]
fn no_verb_waits_for_a_switch_that_hangs() {
    let node = Node::stopped();
    fs::create_dir_all(node.socket().parent().unwrap()).unwrap();
    // Connections wait to be accepted until it is dropped.
    let _silent = UnixListener::bind(node.socket()).unwrap();
    let verbs = [("ADD", 11), ("STATUS", 50), ("GC", 11), ("CHECK", 11)];
    thread::scope(|scope| {
        for (verb, code) in verbs {
            let node = &node;
            scope.spawn(move || call(node, verb, code));
        }
    });
}

fn call(node: &Node, verb: &str, code: u64) {
    let (pod, began) = (Pod::new(), Instant::now());
    let input = json!({
        "cniVersion": "1.1.0", "name": "pods", "type": "podswitch-cni", "socket": node.socket(),
        "cni.dev/valid-attachments": [],
        "prevResult": { "cniVersion": "1.1.0", "interfaces": [{ "name": "eth0", "sandbox": pod.path() }], "ips": [], "routes": [] },
    });
    let mut plugin = node.plugin();
    plugin.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", "c1").env("CNI_IFNAME", "eth0");
    let output = node.call(plugin.env("CNI_NETNS", pod.path()), input.to_string().as_bytes());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.success(), said["code"].as_u64()), (false, Some(code)), "{verb}: {said}");
    assert!(began.elapsed() < Duration::from_secs(30), "{verb}: {:?}", began.elapsed());
    assert!(!run_in(pod.namespace(), &["ip", "link", "show", "eth0"]).status.success(), "{verb}");
}

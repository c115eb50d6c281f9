//! Two hundred pods at once, while plugins and the switch are killed: afterwards GC leaves exactly what is in use.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

mod rig;

use std::collections::HashSet;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use host::Namespace;
use rig::{Node, PLUGIN, Pod, run_in};

#[test]
fn whatever_is_killed_gc_leaves_what_is_in_use_and_nothing_else() {
    let mut node = Node::with("");
    let before = traces(&node);
    let pods: Vec<Pod> = (0..PODS).map(|_| Pod::new()).collect();
    let switch = Mutex::new(&mut node);
    let socket = switch.lock().unwrap().socket();
    let configuration = json!({ "cniVersion": "1.1.0", "name": "storm", "type": "podswitch-cni", "socket": socket });
    let attached: Vec<Option<Value>> = thread::scope(|scope| {
        let adding: Vec<_> = (0..PODS)
            .map(|number| {
                let (pod, text) = (&pods[number], configuration.to_string());
                scope.spawn(move || add(number, pod, &text))
            })
            .collect();
        for round in 0..KILLS {
            thread::sleep(Duration::from_millis(300 * (round + 1)));
            let mut node = switch.lock().unwrap();
            node.kill();
            node.start();
        }
        adding.into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    let addresses: Vec<&str> = attached.iter().flatten().flat_map(addresses).collect();
    assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), addresses.len(), "an address was given twice");
    assert!(attached.iter().flatten().count() >= PODS * 2 / 3, "those that were not killed are attached");

    // The runtime knows every second one of those it was told of.
    let kept: Vec<usize> = (0..PODS).filter(|&number| attached[number].is_some() && number.is_multiple_of(2)).collect();
    collect(&node, &configuration, &kept);
    let known: HashSet<String> = node.client().endpoints().unwrap().iter().map(|one| one.name.to_string()).collect();
    assert_eq!(known, kept.iter().map(|number| format!("c{number}.eth0")).collect::<HashSet<_>>());
    for (number, pod) in pods.iter().enumerate() {
        assert_eq!(has_interface(pod), kept.contains(&number), "pod {number}");
    }
    collect(&node, &configuration, &[]);
    assert!(node.client().endpoints().unwrap().is_empty());
    assert!(pods.iter().all(|pod| !has_interface(pod)));
    assert_eq!(node.client().status().unwrap().endpoints, 0);
    assert_eq!(traces(&node), before, "left: after the storm; right: before it");
    assert!(pods.iter().all(|pod| said(pod.namespace(), &["ip", "route"]).is_empty()));
}

/// What a pod could leave behind on its node: links, routes, routes of the switch.
fn traces(node: &Node) -> [String; 4] {
    let links = said(node.namespace(), &["ip", "-o", "link"]);
    let names: Vec<&str> = links.lines().filter_map(|line| line.split(':').nth(1)).collect();
    let routes = |family| said(node.namespace(), &["ip", family, "route", "show", "table", "all", "scope", "global"]);
    [names.join("\n"), routes("-4"), routes("-6"), format!("{:?}", node.client().routes().unwrap())]
}

fn said(namespace: &Namespace, words: &[&str]) -> String {
    String::from_utf8(run_in(namespace, words).stdout).unwrap()
}

/// What an ADD came to; every third plugin is killed on its way, the others are asked again as long as it is "later".
fn add(number: usize, pod: &Pod, configuration: &str) -> Option<Value> {
    for _ in 0..ATTEMPTS {
        let mut child = start("ADD", number, pod, configuration);
        if number.is_multiple_of(3) {
            // Spread evenly over what an attach takes when all come at once.
            thread::sleep(Duration::from_millis(number as u64 * 7919 % 500));
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        if output.stdout.is_empty() {
            return None;
        }
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        if output.status.success() {
            return Some(answer);
        }
        assert_eq!(answer["code"], 11, "pod {number}: {answer}");
        while let Some(refusal) = delete(number, pod, configuration) {
            assert_eq!(refusal["code"], 11, "pod {number}: {refusal}");
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("pod {number} was not attached in {ATTEMPTS} attempts");
}

/// Why a DEL was refused, if it was.
fn delete(number: usize, pod: &Pod, configuration: &str) -> Option<Value> {
    let output = start("DEL", number, pod, configuration).wait_with_output().unwrap();
    (!output.status.success()).then(|| serde_json::from_slice(&output.stdout).unwrap())
}

fn start(verb: &str, number: usize, pod: &Pod, configuration: &str) -> Child {
    let mut command = Command::new(PLUGIN);
    command.env_clear().env("CNI_COMMAND", verb).env("CNI_CONTAINERID", format!("c{number}"));
    command.env("CNI_NETNS", pod.path()).env("CNI_IFNAME", "eth0");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(configuration.as_bytes()).unwrap();
    child
}

fn addresses(result: &Value) -> Vec<&str> {
    result["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap()).collect()
}

fn collect(node: &Node, configuration: &Value, kept: &[usize]) {
    let valid = |number: &usize| json!({ "containerID": format!("c{number}"), "ifname": "eth0" });
    let mut input = configuration.clone();
    input["cni.dev/valid-attachments"] = kept.iter().map(valid).collect();
    let output = node.call(node.plugin().env("CNI_COMMAND", "GC"), input.to_string().as_bytes());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn has_interface(pod: &Pod) -> bool {
    run_in(pod.namespace(), &["ip", "link", "show", "eth0"]).status.success()
}

const PODS: usize = 200;
/// Enough for a switch that is killed a few times.
const ATTEMPTS: usize = 100;
/// Times the switch is killed and started again.
const KILLS: u64 = 3;

//! What `show` shows of the inside, as people and programs read it.

use crate::rig::{Rig, must, ping};

#[test]
fn every_view_has_a_table_and_json() {
    let rig = Rig::with("strict_mac = true");
    let (a, b) = (rig.pod(2), rig.pod(3));
    ping(&a, b.v4());
    for view in [
        "ports",
        "routes",
        "neighbors",
        "stations",
        "drops",
        "status",
        "workers",
        "adjacencies",
        "worlds",
        "endpoints",
        "returns",
        "config",
    ] {
        let show = format!("show {view} --socket {}", rig.client().socket().display());
        let table = rig.podswitch(&show);
        // Of other nodes this switch knows none.
        let least = if view == "neighbors" { 1 } else { 2 };
        assert!(table.success && table.result.lines().count() >= least, "{view}: {}", table.text);
        assert!(table.result.lines().all(|line| line.trim_end() == line), "{view}: {}", table.text);
        let json = rig.podswitch(&format!("{show} --json"));
        assert!(serde_json::from_str::<serde_json::Value>(&json.result).is_ok(), "{view}: {}", json.text);
    }
}

#[test]
fn the_inside_is_told_as_it_is() {
    let rig = Rig::with("strict_mac = true\nworker_cpus = [0]");
    let (a, b) = (rig.pod(2), rig.pod(3));
    ping(&a, b.v4());
    let client = rig.client();

    let worker = &client.workers().unwrap()[0];
    assert_eq!((worker.worker, worker.cpus.as_deref()), (0, Some("0")));
    assert!(worker.turns > 0 && worker.sleeps > 0 && worker.cpu_seconds.unwrap() > 0.0, "{worker:?}");
    assert!(worker.burst_packets.p50.unwrap() <= worker.burst_packets.p99.unwrap(), "{worker:?}");
    assert!((1..=worker.small_slots.limit).contains(&worker.small_slots.highest), "{worker:?}");

    let adjacencies = client.adjacencies().unwrap();
    let actions: Vec<&str> = adjacencies.iter().map(|adjacency| adjacency.action.as_str()).collect();
    let fixed = ["punt unreachable", "punt unreachable", "drop blackhole", "punt local", "drop multicast"];
    assert_eq!(actions, [&fixed[..], &["drop unroutable", "forward", "forward", "forward"]].concat());
    let link = adjacencies[7].link.as_ref().unwrap();
    let ports = client.ports().unwrap();
    assert!(ports.iter().all(|port| port.kernel_dropped == Some(0)), "the kernel was asked: {ports:?}");
    let port = &ports[1];
    assert_eq!((link.port, &link.name, link.destination), (1, &"pod-2".to_owned(), port.mac));

    let endpoints = client.endpoints().unwrap();
    let inode = must(&a, "stat -L -c %i /proc/self/ns/net").result;
    assert_eq!(endpoints[0].netns_inode.to_string(), inode.trim());
    assert_eq!((endpoints[0].port, endpoints[0].addresses.as_slice()), (1, &a.addresses()[..]));

    let before = client.worlds().unwrap();
    assert_eq!((before.published, before.retiring, before.ports, before.adjacencies), (2, 0, 3, 9));
    rig.detach(&b);
    let after = client.worlds().unwrap();
    assert_eq!((after.published, after.retiring, after.ports, after.adjacencies), (3, 0, 2, 8));

    let returns = client.returns().unwrap();
    assert_eq!((returns.entries, returns.limit, returns.evicted), (0, 65_536, 0));

    let config = client.config().unwrap();
    assert_eq!((config.strict_mac, &config.worker_cpus[..], config.mtu.get()), (true, &[0][..], 1500));
    assert_eq!(config.socket, client.socket());
}

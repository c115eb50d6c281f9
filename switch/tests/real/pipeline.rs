//! The switch with its path on three threads does what it does with workers, and one takes over from the other.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::rig::{GATEWAY_V4, GATEWAY_V6, Rig, call, must, ping, until};
use crate::traffic::{MIB, connection, exchange, receive, transfer, udp};

const ON: &str = "pipeline = true";

#[test]
fn pods_talk_to_each_other_and_are_answered_through_three_threads() {
    let rig = Rig::with(ON);
    let (a, b) = (rig.pod(2), rig.pod(3));
    let gateway_v6 = format!("{GATEWAY_V6}%eth0");
    for address in [GATEWAY_V4, &gateway_v6, "10.244.0.1", &b.v4().to_string(), &b.v6().to_string()] {
        ping(&a, address);
    }
    ping(&rig.node, b.v4());
    for address in b.addresses() {
        exchange(&connection(&a, &b, address), 32 * MIB);
    }
    // Errors come from the slow path, while nothing else is on its way.
    call(&a, "ping -n -c 1 -W 3 10.244.0.200").has("From 169.254.1.1").has("Net Unreachable");
    call(&a, "ping -n -c 1 -W 3 -t 1 10.244.0.3").has("Time to live exceeded");
    call(&a, "ping -n -c 1 -W 3 -M do -s 3000 10.244.0.3").has("ocal error");
    rig.settled();
    until("a moment without traffic", || (rig.client().drops().unwrap().in_flight == 0).then_some(()));
}

#[test]
fn its_threads_are_told_apart_and_sleep_while_nobody_speaks() {
    let rig = Rig::with(ON);
    let (a, b) = (rig.pod(2), rig.pod(3));
    ping(&a, b.v4());
    ping(&a, GATEWAY_V4);
    let stages = rig.client().workers().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage.thread.as_str()).collect();
    assert_eq!(names, ["receiving", "deciding", "departing"]);
    assert!(stages.iter().all(|stage| stage.turns > 0 && stage.sleeps > 0 && stage.cpu_seconds.is_some()));
    let [receiving, deciding, departing] = &stages[..] else { unreachable!("there are three") };
    assert!(receiving.small_slots.highest > 0 && receiving.burst_packets.p99.is_some(), "{receiving:?}");
    assert!(departing.punts.highest > 0 && departing.answers.highest > 0, "{departing:?}");
    assert_eq!((deciding.punts.highest, deciding.burst_packets.p99), (0, None), "{deciding:?}");
    let metrics = must(&rig.node, &format!("curl -sS --unix-socket {} http://s/metrics", socket(&rig)));
    names.iter().for_each(|name| _ = metrics.has(&format!("podswitch_worker_turns_total{{worker=\"{name}\"}}")));
    rig.podswitch(&format!("show workers --socket {}", socket(&rig))).has("departing");
    assert!(rig.client().config().unwrap().pipeline);
    until("all three to sleep", || names.iter().all(|name| is_asleep(&rig, name)).then_some(()));
    must(&rig.node, &format!("curl -sS --unix-socket {} http://s/healthz", socket(&rig))).has("ok");
    // And wake.
    ping(&b, a.v6());
}

#[test]
fn pods_come_and_go_while_others_transfer() {
    let rig = Rig::with(ON);
    let (a, b) = (rig.pod(2), rig.pod(3));
    for address in b.addresses() {
        transfer(&connection(&a, &b, address), 256 * MIB, || {
            for _ in 0..10 {
                let c = rig.pod(4);
                let (at_b, at_c) = (udp(&b, b.v4(), 7001), udp(&c, c.v4(), 7001));
                at_b.send_to(b"first", (c.v4(), 7001)).unwrap();
                assert_eq!(receive(&at_c).0, b"first");
                rig.detach(&c);
            }
        });
    }
    rig.settled();
}

#[test]
fn connections_and_transfers_outlive_a_change_from_workers_to_stages_and_back() {
    let mut rig = Rig::with("pipeline = false");
    let (a, b) = (rig.pod(2), rig.pod(3));
    for (address, stops_by_itself) in [(b.v4(), true), (b.v6(), false)] {
        transfer(&connection(&a, &b, address), 256 * MIB, || {
            for (before, after) in [("false", "true"), ("true", "false")] {
                thread::sleep(Duration::from_millis(30));
                if stops_by_itself {
                    rig.client().stop().unwrap();
                    assert!(rig.has_ended());
                } else {
                    rig.kill();
                }
                configure(&rig, &format!("pipeline = {before}"), &format!("pipeline = {after}"));
                rig.start();
                let thread = &rig.client().workers().unwrap()[0].thread;
                assert_eq!(thread, if after == "true" { "receiving" } else { "worker-0" });
            }
        });
        ping(&a, b.v4());
        rig.settled();
    }
}

#[test]
fn it_works_whatever_its_threads_do_when_there_is_nothing_to_do() {
    for poll in ["poll = \"spin\"", "poll = \"sleep\"", "spin_us = 0"] {
        let rig = Rig::with(&format!("{ON}\n{poll}"));
        let (a, b) = (rig.pod(2), rig.pod(3));
        ping(&a, b.v6());
        exchange(&connection(&a, &b, b.v4()), 4 * MIB);
        rig.settled();
        rig.client().stop().unwrap();
    }
}

#[test]
fn with_one_cpu_its_threads_share_it_and_it_says_so() {
    let rig = Rig::with(&format!("{ON}\nworker_cpus = [0]"));
    let (a, b) = (rig.pod(2), rig.pod(3));
    exchange(&connection(&a, &b, b.v4()), 4 * MIB);
    assert!(rig.client().workers().unwrap().iter().all(|stage| stage.cpus.as_deref() == Some("0")));
    assert!(rig.logged().contains("stages of the pipeline share a CPU"), "{}", rig.logged());
    rig.settled();
}

#[test]
fn cpus_that_do_not_exist_and_words_that_mean_nothing_are_refused() {
    let rig = Rig::stopped(&format!("{ON}\nworker_cpus = [0, 0, 4000]"));
    let run = |arguments: &str| rig.podswitch(&format!("run --config {} {arguments}", rig.configuration().display()));
    let said = run("");
    assert!(!said.success, "{}", said.text);
    said.has("starting the workers").has("Invalid argument");
    let said = run("--pipeline=perhaps");
    assert!(!said.success && !said.text.contains("ready"), "{}", said.text);
    said.has("'perhaps'").has("--pipeline").has("[possible values: true, false]");
}

/// Whether the thread of that name sleeps (proc_pid_stat(5)).
fn is_asleep(rig: &Rig, thread: &str) -> bool {
    let stats = fs::read_dir(format!("/proc/{}/task", rig.pid())).unwrap();
    let stats = stats.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
    stats.filter(|stat| stat.contains(&format!("({thread})"))).all(|stat| stat.contains(") S "))
}

fn socket(rig: &Rig) -> String {
    rig.client().socket().display().to_string()
}

fn configure(rig: &Rig, before: &str, after: &str) {
    let text = fs::read_to_string(rig.configuration()).unwrap();
    fs::write(rig.configuration(), text.replace(before, after)).unwrap();
}

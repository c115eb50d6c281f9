//! Pods come and go under traffic, and no frame ever arrives in the wrong one.

use std::env;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::rig::{Pod, Rig, must};
use crate::traffic::{EndOnDrop, udp};

#[test]
fn no_frame_arrives_in_the_wrong_pod_while_pods_come_and_go() {
    churn(&Rig::new());
}

#[test]
fn nor_when_there_are_batches_of_older_worlds_under_way() {
    churn(&Rig::with("pipeline = true"));
}

/// Two pods take turns, so that one gets the port number the other had, while a third floods both and a bystander. Each
/// receiver takes the others' addresses for its own, so that a stray frame is heard and not dropped by the kernel.
fn churn(rig: &Rig) {
    let flooder = rig.pod(2);
    let receivers = [rig.pod(3), Pod::new(4), Pod::new(5)];
    take_all_addresses(&receivers);
    let ending = AtomicBool::new(false);
    let heard = [const { AtomicU64::new(0) }; 3];
    thread::scope(|scope| {
        let _end = EndOnDrop(&ending);
        for (pod, heard) in receivers.iter().zip(&heard) {
            // It hears IPv4 too.
            let socket = udp(pod, Ipv6Addr::UNSPECIFIED.into(), 7000);
            scope.spawn(|| listen(socket, pod, heard, &ending));
        }
        let sockets = flooder.addresses().map(|own| udp(&flooder, own, 7000));
        let targets: Vec<IpAddr> = receivers.iter().flat_map(Pod::addresses).collect();
        scope.spawn(|| flood(sockets, targets, &ending));
        let [_, one, other] = &receivers;
        take_turns(rig, [one, other]);
    });
    assert!(heard.iter().all(|heard| heard.load(Ordering::Relaxed) > 0), "{heard:?}");
    rig.settled();
}

fn take_turns(rig: &Rig, [one, other]: [&Pod; 2]) {
    let cycles = if env::var_os("PODSWITCH_DEEP").is_some() { 10_000 } else { 30 };
    let (mut attaching, mut detaching) = (Duration::ZERO, Duration::ZERO);
    for cycle in 0..cycles {
        let pod = if cycle % 2 == 0 { one } else { other };
        let start = Instant::now();
        rig.join(pod);
        let joined = Instant::now();
        // Long enough for the flood to reach it, short enough for the port to be under fire when it goes.
        thread::sleep(Duration::from_millis(2));
        let parting = Instant::now();
        rig.detach(pod);
        attaching += joined - start;
        detaching += parting.elapsed();
    }
    println!("{cycles} cycles: attach {:?}, detach {:?} on average", attaching / cycles, detaching / cycles);
}

/// Sends each target its own address, in bounded bursts; a target that is unreachable for the moment may be refused.
fn flood([v4, v6]: [UdpSocket; 2], targets: Vec<IpAddr>, ending: &AtomicBool) {
    while !ending.load(Ordering::Relaxed) {
        for _ in 0..8 {
            for &target in &targets {
                let socket = if target.is_ipv4() { &v4 } else { &v6 };
                let _ = socket.send_to(target.to_string().as_bytes(), (target, 7000));
            }
        }
        thread::sleep(Duration::from_micros(200));
    }
}

fn listen(socket: UdpSocket, pod: &Pod, heard: &AtomicU64, ending: &AtomicBool) {
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let own = pod.addresses().map(|address| address.to_string());
    let mut bytes = [0; 64];
    while !ending.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut bytes) else { continue };
        let intended = std::str::from_utf8(&bytes[..length]).unwrap();
        assert!(own.iter().any(|own| own == intended), "what was meant for {intended} arrived at {own:?}");
        heard.fetch_add(1, Ordering::Relaxed);
    }
}

fn take_all_addresses(receivers: &[Pod; 3]) {
    for pod in receivers {
        let others = receivers.iter().flat_map(Pod::addresses).filter(|address| !pod.addresses().contains(address));
        for address in others {
            must(pod, &format!("ip route add local {address} dev lo"));
        }
    }
}

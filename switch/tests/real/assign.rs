//! Pods whose addresses the switch chooses, in namespaces that are handed over open; and clients that go too early.

use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;

use control::{Assign, Attach, Attached, Code, Detach, Error, Origin};

use crate::rig::{Pod, Rig, must, until};

/// A pod named by its number, in the namespace that is sent along under a path that means nothing here.
fn join(rig: &Rig, pod: &Pod, number: u8, keep_for: Option<&str>) -> Result<Attached, Error> {
    let keep_for = keep_for.map(|owner| owner.parse().unwrap());
    let attach = Attach {
        bandwidth: control::Bandwidth::default(),
        name: format!("pod-{number}").parse().unwrap(),
        netns: "/nowhere/that/the/switch/sees".parse().unwrap(),
        addresses: Vec::new(),
        assign: Some(Assign { pools: Vec::new(), keep_for }),
        network: Some("pods".parse().unwrap()),
        origin: Origin::Cni,
        ..pod.attach()
    };
    rig.client().attach_in(attach, pod.as_fd())
}

fn leave(rig: &Rig, number: u8) {
    let name = format!("pod-{number}").parse().unwrap();
    rig.client().detach(Detach { name, origin: Origin::Cni, force: false }).unwrap();
}

fn addresses(attached: &Attached) -> Vec<IpAddr> {
    attached.addresses.iter().map(|address| address.get()).collect()
}

#[test]
fn pods_get_addresses_of_both_families_and_reach_each_other_at_once() {
    let rig = Rig::new();
    let [one, other] = [1, 2].map(Pod::new);
    let [a, b] = [join(&rig, &one, 1, None).unwrap(), join(&rig, &other, 2, None).unwrap()];
    assert_eq!(addresses(&a).iter().map(IpAddr::to_string).collect::<Vec<_>>(), ["10.244.0.2", "fd00:10:244::2"]);
    for address in addresses(&b) {
        must(&one, &format!("ping -c 1 -W 2 {address}"));
    }
    let view = &rig.client().endpoints().unwrap()[0];
    assert_eq!(view.network.as_ref().map(|name| name.as_str()), Some("pods"));
}

#[test]
fn an_owner_gets_its_addresses_again_also_after_the_switch_was_killed() {
    let mut rig = Rig::new();
    let [one, other, third] = [1, 2, 3].map(Pod::new);
    let first = addresses(&join(&rig, &one, 1, Some("default.web-0")).unwrap());
    leave(&rig, 1);
    rig.kill();
    rig.start();
    assert_ne!(addresses(&join(&rig, &other, 2, None).unwrap()), first, "left a moment ago");
    assert_eq!(addresses(&join(&rig, &third, 3, Some("default.web-0")).unwrap()), first);
}

#[test]
fn a_full_range_is_refused_as_unavailable_and_a_leaving_pod_makes_room() {
    let rig = Rig::with("reserved = [\"10.244.0.0-10.244.0.253\"]");
    let [one, other] = [1, 2].map(Pod::new);
    join(&rig, &one, 1, None).unwrap();
    match join(&rig, &other, 2, None) {
        Err(Error::Refused(refusal)) => assert_eq!(refusal.code, Code::Unavailable, "{refusal}"),
        other => panic!("{other:?}"),
    }
    leave(&rig, 1);
    join(&rig, &other, 2, None).unwrap();
    assert_eq!(rig.client().endpoints().unwrap().len(), 1);
}

#[test]
fn a_client_that_goes_before_its_answer_leaves_no_endpoint() {
    let rig = Rig::new();
    let pod = Pod::new(2);
    let signal = |signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(rig.pid() as i32), signal).unwrap();
    signal(Signal::SIGSTOP);
    let body = serde_json::to_string(&pod.attach()).unwrap();
    let mut stream = UnixStream::connect(rig.state_dir().join("control.sock")).unwrap();
    let head = format!("POST /v1/endpoints HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).unwrap();
    drop(stream);
    signal(Signal::SIGCONT);
    until("an endpoint-free switch that has seen the request", || {
        rig.client().status().unwrap();
        let none = rig.client().endpoints().unwrap().is_empty();
        none.then_some(())
    });
    rig.join(&pod);
    must(&pod, "ip link show eth0");
}

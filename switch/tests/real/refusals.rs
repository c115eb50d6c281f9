//! What cannot be is refused, with the thing in the way named, and leaves nothing behind.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use control::{Attach, Error, Mtu};

use crate::rig::{PATIENCE, Pod, Rig, must, picture};

#[test]
fn a_refused_attach_names_what_is_in_the_way_and_changes_nothing() {
    let mut rig = Rig::new();
    let (a, b) = (rig.pod(2), Pod::new(3));
    must(&b, "ip link add taken type bridge");
    // Or its link-local address would come into use somewhere on the way.
    must(&b, "ip link set taken addrgenmode none");
    let file = rig.configuration();
    let in_b = |attach: Attach| Attach { netns: b.attach().netns, ..attach };
    for (attach, words) in [
        (a.attach(), &["name pod-2", "in use"][..]),
        (Attach { netns: "nobody-made-this".parse().unwrap(), ..b.attach() }, &["/run/netns/nobody-made-this"]),
        (Attach { netns: file.to_str().unwrap().parse().unwrap(), ..b.attach() }, &[file.to_str().unwrap()]),
        (Attach { netns: a.attach().netns, ..b.attach() }, &["eth0", "in use", "pod-2"]),
        (Attach { interface: "taken".parse().unwrap(), ..b.attach() }, &["taken", b.path().to_str().unwrap()]),
        (Attach { addresses: a.attach().addresses, ..b.attach() }, &["10.244.0.2", "in use", "pod-2"]),
        (in_b(Attach { addresses: Vec::new(), ..b.attach() }), &["pod-3", "no address"]),
        (Attach { addresses: vec!["10.244.0.1".parse().unwrap()], ..b.attach() }, &["10.244.0.1", "router address"]),
        (Attach { mtu: Some(Mtu::try_from(1279).unwrap()), ..b.attach() }, &["1279", "IPv6"]),
    ] {
        refused_without_trace(&rig, [&a, &b], attach, words);
    }
    // Only when the addresses are there already does the kernel refuse the default route.
    must(&b, "ip address add 192.0.2.1/24 dev taken");
    must(&b, "ip link set taken up");
    must(&b, "ip route add default via 192.0.2.2");
    refused_without_trace(&rig, [&a, &b], b.attach(), &["0.0.0.0/0"]);
    must(&b, "ip route delete default");
    rig.join(&b);
    must(&b, &format!("ping -n -c 1 -w 10 {}", a.v4()));
    // Nor does the next start know of any of them.
    rig.kill();
    rig.start();
    assert_eq!(rig.client().status().unwrap().endpoints, 2);
}

fn refused_without_trace(rig: &Rig, pods: [&Pod; 2], attach: Attach, words: &[&str]) {
    let look = || (picture(&rig.node), pods.map(|pod| picture(pod)));
    let (before, ports) = (look(), rig.client().ports().unwrap().len());
    let Err(Error::Refused(refusal)) = rig.client().attach(attach.clone()) else { panic!("not refused: {attach:?}") };
    for word in words {
        assert!(refusal.message.contains(word), "'{word}' is not in '{refusal}', said to {attach:?}");
    }
    assert!(look() == before, "this left something behind: {refusal}");
    assert_eq!(rig.client().ports().unwrap().len(), ports);
}

/// A client of another make may say what ours cannot.
#[test]
fn illegal_words_are_refused_by_the_switch_itself() {
    let rig = Rig::new();
    let pod = Pod::new(2);
    let legal = serde_json::to_value(pod.attach()).unwrap();
    for (key, value, words) in [
        ("interface", serde_json::json!("much-too-long-for-linux"), "much-too-long-for-linux"),
        ("interface", "../eth0".into(), "../eth0"),
        ("mtu", 80.into(), "80"),
        ("name", "../../etc".into(), "../../etc"),
        ("netns", "../web".into(), "../web"),
        ("addresses", serde_json::json!(["127.0.0.1"]), "loopback"),
        ("adresses", serde_json::json!(["10.244.0.2"]), "adresses"),
    ] {
        let mut attach = legal.clone();
        attach[key] = value;
        let answer = post(&rig, "/v1/endpoints", &attach.to_string());
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(words), "{key}: {answer}");
    }
    assert_eq!(rig.client().status().unwrap().endpoints, 0);
}

#[test]
fn a_second_switch_is_refused_and_the_first_goes_on() {
    let rig = Rig::with("host_port = \"psw-second\"");
    let (a, b) = (rig.pod(2), rig.pod(3));
    let before = (picture(&rig.node), picture(&a));
    let pid = rig.pid().to_string();
    let (first, other) = (rig.configuration(), tempfile::tempdir().unwrap());
    let run = format!("run --config {}", first.display());
    let elsewhere = format!("{run} --state-dir {}", other.path().join("state").display());
    let socket = rig.state_dir().join("control.sock");
    for (arguments, words) in [
        (run.clone(), [rig.state_dir().to_str().unwrap(), &pid]),
        (format!("{elsewhere} --host-port psw-other --socket {}", socket.display()), [socket.to_str().unwrap(), ""]),
        (elsewhere, ["psw-second", &pid]),
    ] {
        let said = rig.podswitch(&arguments);
        assert!(!said.success, "{arguments}");
        said.has("error: ").has(words[0]).has(words[1]);
    }
    assert_eq!((picture(&rig.node), picture(&a)), before);
    must(&a, &format!("ping -n -c 1 -w 10 {}", b.v4()));
    assert_eq!(rig.client().status().unwrap().pid.to_string(), pid);
}

fn post(rig: &Rig, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(rig.client().socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

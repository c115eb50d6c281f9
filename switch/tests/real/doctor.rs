//! The doctor's findings against a machine that is made to lack what they are about, and its cures.

use std::net::UdpSocket;

use serde_json::Value;

use crate::stage::Stage;

#[test]
fn a_cure_mends_what_was_found_lacking() {
    let mut stage = Stage::new();
    stage.must("echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding");
    stage.must("echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter");
    stage.must("nft add table inet filter");
    stage.must("nft add chain inet filter forward '{ type filter hook forward priority 0; policy drop; }'");
    for subject in ["IPv4 forwarding", "IPv6 forwarding", "reverse path filter", "firewall policy for forwarding"] {
        let finding = finding(&mut stage, subject);
        assert_eq!(finding["status"], "lack", "{finding}");
        stage.must(finding["cure"].as_str().unwrap());
        let finding = self::finding(&mut stage, subject);
        assert_eq!((&finding["status"], &finding["cure"]), (&Value::from("ok"), &Value::Null), "{finding}");
    }
}

#[test]
fn the_underlay_is_looked_at() {
    let mut stage = Stage::new();
    assert_eq!(finding(&mut stage, "underlay address")["status"], "note");
    assert_eq!(finding(&mut stage, "ports of tunnels")["status"], "ok");
    stage.must(
        "ip link add eth9 type veth peer name wire9 && ip address add 192.168.9.1/24 dev eth9 && ip link set eth9 up",
    );
    stage.must("ip link add flannel.1 type vxlan id 1 dev eth9 local 192.168.9.1 dstport 8472 nolearning");
    let held = finding(&mut stage, "ports of tunnels");
    assert!(held["detail"].as_str().unwrap().contains("flannel.1") && held["cure"].is_string(), "{held}");
    stage.must("ip link del flannel.1");
    let socket = stage.namespace().run(|| UdpSocket::bind("[::]:8472")).unwrap().unwrap();
    let held = finding(&mut stage, "ports of tunnels");
    assert!(held["status"] == "note" && held["detail"].as_str().unwrap().contains("UDP port 8472"), "{held}");
    drop(socket);
    stage.start_switch("--pod-range 10.244.0.0/24 --underlay-address 192.168.9.1");
    assert_eq!(finding(&mut stage, "underlay address")["detail"], "192.168.9.1 on eth9");
    stage.must("ip link set eth9 down");
    let down = finding(&mut stage, "underlay address");
    assert_eq!(down["status"], "lack", "{down}");
    stage.must(down["cure"].as_str().unwrap());
    assert_eq!(finding(&mut stage, "underlay address")["status"], "ok");
    assert_eq!(finding(&mut stage, "offloads of its ports")["status"], "ok");
}

#[test]
fn a_running_switch_is_looked_at_too() {
    let mut stage = Stage::new();
    assert_eq!(finding(&mut stage, "running switch")["status"], "note");
    stage.start_switch("--pod-range 10.244.0.0/24");
    stage.must("ip netns add web && podswitch attach web --netns web --address 10.244.0.2");
    for (subject, status, words) in [
        ("running switch", "ok", "version"),
        ("offloads of its ports", "ok", "complete on 2 ports"),
        ("drops by the kernel", "ok", "none"),
        ("drops by the switch", "ok", "none"),
        ("state folder", "ok", "in memory"),
    ] {
        let finding = finding(&mut stage, subject);
        assert_eq!(finding["status"], status, "{finding}");
        assert!(finding["detail"].as_str().unwrap().contains(words), "{finding}");
    }
    // What holds the switch, not the doctor.
    stage.must("prlimit --pid $(pgrep -x podswitch) --nofile=612:612");
    let finding = finding(&mut stage, "open files of one process");
    assert_eq!(finding["detail"], "up to 612: enough for 100 pods of 4095");
    // An address that is not the pod's.
    stage.must("ip -n web address add 10.244.0.9/32 dev eth0");
    stage.run("ip netns exec web ping -n -c 1 -W 1 -I 10.244.0.9 169.254.1.1");
    let finding = self::finding(&mut stage, "drops by the switch");
    assert_eq!(finding["status"], "note", "{finding}");
    assert!(finding["detail"].as_str().unwrap().contains("spoofed_source 1"), "{finding}");
}

fn finding(stage: &mut Stage, subject: &str) -> Value {
    // Its exit code tells of the whole machine.
    let said = stage.run("podswitch doctor --json 2>/dev/null").text;
    let findings: Vec<Value> = serde_json::from_str(&said).unwrap();
    findings.into_iter().find(|finding| finding["subject"] == subject).unwrap()
}

//! Longest packets: the switch is a hop, says what the next one takes, and fragments what may be.

use crate::rig::{Rig, call, must};
use crate::traffic::{MIB, connection, exchange};

#[test]
fn traceroute_and_tracepath_show_the_switch_as_a_hop() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod_with_mtu(3, 1400));
    for (address, gateway) in [(b.v4(), " 169.254.1.1 "), (b.v6(), " fe80::ecee:eeff:feee:eeee")] {
        for kind in ["-U", "-I"] {
            let said = must(&a, &format!("traceroute {kind} -n -q 1 -w 3 -m 4 {address}"));
            let hops: Vec<&str> = said.text.lines().skip(1).collect();
            assert_eq!(hops.len(), 2, "{}", said.text);
            assert!(hops[0].contains(gateway) && hops[1].contains(&format!(" {address} ")), "{}", said.text);
        }
    }
    for (address, gateway) in [(b.v4(), "169.254.1.1"), (b.v6(), "fe80::ecee:eeff:feee:eeee")] {
        must(&a, &format!("tracepath -n -m 4 {address}")).has(gateway).has("pmtu 1400").has("reached");
    }
    rig.settled();
}

#[test]
fn a_sender_is_told_what_the_next_hop_takes() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod_with_mtu(3, 1400));
    let v4 = call(&a, &format!("ping -n -c 1 -W 5 -M do -s 1422 {}", b.v4()));
    v4.has("From 169.254.1.1 ").has("Frag needed and DF set (mtu = 1400)");
    let v6 = call(&a, &format!("ping -n -c 1 -W 5 -M do -s 1402 {}", b.v6()));
    v6.has("From fe80::ecee:eeff:feee:eeee").has("Packet too big: mtu=1400");
    assert_eq!(rig.settled().punted["too_big"], 2);
}

#[test]
fn a_packet_that_may_be_fragmented_is() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod_with_mtu(3, 1400));
    must(&a, &format!("ping -n -c 3 -i 0.05 -w 10 -M dont -s 1422 {}", b.v4()));
    assert!(rig.settled().punted["fragment"] >= 3);
}

/// The receiver advertises segments of 1500-byte packets, so the sender learns of 1400 by the switch alone, and from
/// super-frames.
#[test]
fn tcp_learns_the_path_mtu_from_super_frames() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod_with_mtu(3, 1400));
    must(&b, "ip -4 route replace default via 169.254.1.1 dev eth0 advmss 1460");
    must(&b, "ip -6 route replace default via fe80::ecee:eeff:feee:eeee dev eth0 advmss 1440");
    for address in b.addresses() {
        let before = rig.settled().punted.get("too_big").copied().unwrap_or_default();
        exchange(&connection(&a, &b, address), 8 * MIB);
        must(&a, &format!("ip route get {address}")).has("mtu 1400");
        assert!(rig.settled().punted["too_big"] > before, "{address}: the switch was not asked");
    }
}

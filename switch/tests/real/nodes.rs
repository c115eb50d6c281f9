//! Pods of two nodes, a switch in each.

use std::net::IpAddr;

use control::{Backend, ChangeNeighbors, DeleteNeighbor, Neighbor, Origin};
use packet::Mac;

use crate::rig::{Pod, Rig, call, link, must, namespace, ping, subnets, until};
use crate::traffic::{MIB, connection, exchange};

#[test]
fn pods_of_two_nodes_talk_through_vxlan() {
    let [mut one, two] = nodes("underlay_address = [\"ADDRESS\"]");
    tell(&one, &two, (Backend::Vxlan, Underlay::V4));
    tell(&two, &one, (Backend::Vxlan, Underlay::V4));
    let (a, b) = (one.pod(2), two.pod(2));
    for (from, to) in [(&a, &b), (&b, &a)] {
        to.addresses().into_iter().for_each(|address| ping(from, address));
    }
    b.addresses().into_iter().for_each(|address| exchange(&connection(&a, &b, address), 8 * MIB));
    a.addresses().into_iter().for_each(|address| exchange(&connection(&b, &a, address), 8 * MIB));
    nodes_reach_pods([&one, &two], [&a, &b]);
    for (interface, mtu) in [("eth0", &*a), ("podswitch0", &*one.node)] {
        must(mtu, &format!("ip -o link show {interface}")).has(" mtu 1450 ");
    }
    outlives_a_restart(&mut one, &a, &b.addresses());
    goes([one, two], [&a, &b], &b.addresses());
}

#[test]
fn vxlan_goes_over_ipv6_too() {
    let [one, two] = nodes("underlay_address = [\"ADDRESS6\"]");
    tell(&one, &two, (Backend::Vxlan, Underlay::V6));
    tell(&two, &one, (Backend::Vxlan, Underlay::V6));
    let (a, b) = (one.pod(2), two.pod(2));
    for address in b.addresses() {
        ping(&a, address);
        exchange(&connection(&a, &b, address), 8 * MIB);
    }
    must(&a, "ip -o link show eth0").has(" mtu 1430 ");
}

#[test]
fn pods_of_two_nodes_talk_through_flannels_udp() {
    let [mut one, two] = nodes("underlay_address = [\"ADDRESS\"]\ntunnels = [\"udp\"]");
    tell(&one, &two, (Backend::Udp, Underlay::V4));
    tell(&two, &one, (Backend::Udp, Underlay::V4));
    let (a, b) = (one.pod(2), two.pod(2));
    ping(&a, b.v4());
    ping(&b, a.v4());
    exchange(&connection(&a, &b, b.v4()), 8 * MIB);
    exchange(&connection(&b, &a, a.v4()), 8 * MIB);
    ping(&one.node, b.v4());
    must(&a, "ip -o link show eth0").has(" mtu 1472 ");
    outlives_a_restart(&mut one, &a, &[b.v4()]);
    goes([one, two], [&a, &b], &[b.v4()]);
}

#[test]
fn pods_of_two_nodes_talk_through_ip_in_ip() {
    let [mut one, two] = nodes("underlay_address = [\"ADDRESS\"]\ntunnels = [\"ipip\"]");
    tell(&one, &two, (Backend::Ipip, Underlay::V4));
    tell(&two, &one, (Backend::Ipip, Underlay::V4));
    let (a, b) = (one.pod(2), two.pod(2));
    ping(&a, b.v4());
    ping(&b, a.v4());
    exchange(&connection(&a, &b, b.v4()), 8 * MIB);
    exchange(&connection(&b, &a, a.v4()), 8 * MIB);
    ping(&one.node, b.v4());
    must(&a, "ip -o link show eth0").has(" mtu 1480 ");
    outlives_a_restart(&mut one, &a, &[b.v4()]);
    goes([one, two], [&a, &b], &[b.v4()]);
}

#[test]
fn pods_of_two_nodes_talk_without_a_tunnel() {
    let [mut one, two] = nodes("");
    tell(&one, &two, (Backend::HostGw, Underlay::Same));
    tell(&two, &one, (Backend::HostGw, Underlay::Same));
    let (a, b) = (one.pod(2), two.pod(2));
    for (from, to) in [(&a, &b), (&b, &a)] {
        for address in to.addresses() {
            ping(from, address);
            exchange(&connection(from, to, address), 8 * MIB);
        }
    }
    nodes_reach_pods([&one, &two], [&a, &b]);
    must(&one.node, "ip route show proto 112").has("10.244.2.0/24 via 192.168.9.2 dev up0");
    outlives_a_restart(&mut one, &a, &b.addresses());
    goes([one, two], [&a, &b], &b.addresses());
}

#[test]
fn a_route_of_somebody_else_is_not_taken() {
    let [one, two] = nodes("underlay_address = [\"ADDRESS\"]");
    must(&one.node, "ip route add 10.244.2.0/24 via 192.168.9.2");
    let wish = ChangeNeighbors { add: neighbors(&two, (Backend::Vxlan, Underlay::V4)), ..Default::default() };
    let error = one.client().change_neighbors(wish).unwrap_err();
    assert!(error.to_string().contains("10.244.2.0/24") && error.hint().unwrap().contains("ip route"), "{error}");
    assert_eq!(one.client().neighbors().unwrap(), []);
    must(&one.node, "ip route show 10.244.2.0/24").has("via 192.168.9.2 dev up0");
    assert!(!must(&one.node, "ip -6 route show").text.contains("fd00:10:244:2::/64"));
}

#[test]
fn a_change_that_the_host_cannot_follow_leaves_what_was() {
    let [one, two] = nodes("underlay_address = [\"ADDRESS\"]");
    tell(&one, &two, (Backend::Vxlan, Underlay::V4));
    let (a, b) = (one.pod(2), two.pod(2));
    tell(&two, &one, (Backend::Vxlan, Underlay::V4));
    let before = one.client().neighbors().unwrap();
    let delete = DeleteNeighbor { subnet: subnets(2)[1], origin: Origin::Cli, force: false };
    let moved =
        Neighbor { mac: Some(Mac([2, 0, 0, 0, 0, 9])), ..neighbors(&two, (Backend::Vxlan, Underlay::V4)).remove(0) };
    let via = "198.51.100.1".parse().unwrap();
    let nowhere = Neighbor { subnet: subnets(3)[0], via, backend: Backend::HostGw, mac: None, origin: Origin::Cli };
    let wish = ChangeNeighbors { delete: vec![delete], add: vec![moved, nowhere] };
    let error = one.client().change_neighbors(wish).unwrap_err().to_string();
    assert!(error.contains("10.244.3.0/24") && error.contains("198.51.100.1"), "{error}");
    assert_eq!(one.client().neighbors().unwrap(), before);
    b.addresses().into_iter().for_each(|address| ping(&a, address));
    b.addresses().into_iter().for_each(|address| ping(&one.node, address));
}

#[test]
fn what_the_configuration_no_longer_allows_is_forgotten_with_its_routes() {
    let [mut one, two] = nodes("underlay_address = [\"ADDRESS\"]");
    tell(&one, &two, (Backend::Vxlan, Underlay::V4));
    must(&one.node, "ip route show proto 112").has("10.244.2.0/24 via 169.254.1.1 dev podswitch0");
    one.client().stop().unwrap();
    assert!(one.has_ended());
    one.configure("underlay_address = [\"192.168.9.1\"]\ntunnels = [\"udp\"]");
    one.start();
    assert_eq!(one.client().neighbors().unwrap(), []);
    assert!(
        one.logged().contains("forgotten: the neighbour 10.244.2.0/24 needs a tunnel of vxlan"),
        "{}",
        one.logged()
    );
    assert!(!must(&one.node, "ip route show proto 112").text.contains("10.244.2.0/24"));
}

#[test]
fn a_port_that_a_device_of_the_kernels_has_is_told() {
    let rig = Rig::stopped("underlay_address = [\"192.168.9.1\"]");
    let other = namespace("psw-other");
    link([(&rig.node, "up0", WIRE[0]), (&other, "up0", WIRE[1])]);
    must(&rig.node, "ip link add flannel.1 type vxlan id 1 dev up0 local 192.168.9.1 dstport 8472 nolearning");
    must(&rig.node, "ip link set flannel.1 up");
    let said = rig.podswitch(&format!("run --config {}", rig.configuration().display()));
    assert!(!said.success);
    said.has("cannot open the tunnel end at 192.168.9.1:8472")
        .has("flannel.1, a VXLAN device")
        .has("ip link del flannel.1");
    must(&rig.node, "ip link delete flannel.1");
    must(&rig.node, "ip address delete 192.168.9.1/24 dev up0");
    let said = rig.podswitch(&format!("run --config {}", rig.configuration().display()));
    said.has("no interface has the underlay address 192.168.9.1");
    said.has("cannot open the tunnel end at 192.168.9.1:8472").has("podswitch doctor");
}

/// What tunnels go over; without one it is what the pods speak.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Underlay {
    V4,
    V6,
    Same,
}

/// Two nodes joined by a link, each with a running switch; `ADDRESS` and `ADDRESS6` stand for their own.
pub(crate) fn nodes(configuration: &str) -> [Rig; 2] {
    let with = |site: u8| {
        let text = configuration.replace("ADDRESS6", &format!("fd00:9::{site}"));
        Rig::stopped_at(site, &text.replace("ADDRESS", &format!("192.168.9.{site}")))
    };
    let mut rigs = [with(1), with(2)];
    link([(&rigs[0].node, "up0", WIRE[0]), (&rigs[1].node, "up0", WIRE[1])]);
    for rig in &mut rigs {
        must(&rig.node, "sysctl -q -w net.ipv4.conf.up0.forwarding=1 net.ipv6.conf.up0.force_forwarding=1");
        rig.start();
    }
    rigs
}

/// The neighbours that the node with this switch is for others.
pub(crate) fn neighbors(rig: &Rig, (backend, underlay): (Backend, Underlay)) -> Vec<Neighbor> {
    let config = rig.client().config().unwrap();
    let site = config.pod_ranges[0].to_string().split('.').nth(2).unwrap().parse().unwrap();
    let node: [IpAddr; 2] = [format!("192.168.9.{site}"), format!("fd00:9::{site}")].map(|text| text.parse().unwrap());
    let neighbor = |subnet: packet::Prefix| Neighbor {
        subnet,
        via: match underlay {
            Underlay::V4 => node[0],
            Underlay::V6 => node[1],
            Underlay::Same => node[usize::from(subnet.address().is_ipv6())],
        },
        backend,
        mac: config.vtep_mac.filter(|_| backend == Backend::Vxlan),
        origin: Origin::Cli,
    };
    let carried =
        |subnet: &packet::Prefix| !matches!(backend, Backend::Udp | Backend::Ipip) || subnet.address().is_ipv4();
    subnets(site).into_iter().filter(carried).map(neighbor).collect()
}

pub(crate) fn tell(rig: &Rig, of: &Rig, how: (Backend, Underlay)) {
    change(rig, ChangeNeighbors { add: neighbors(of, how), ..Default::default() });
}

#[track_caller]
pub(crate) fn change(rig: &Rig, change: ChangeNeighbors) {
    rig.client().change_neighbors(change).unwrap();
}

/// Each node reaches the other's pod, from its router address where that is told.
fn nodes_reach_pods([one, two]: [&Rig; 2], [a, b]: [&Pod; 2]) {
    for (rig, pod) in [(one, b), (two, a)] {
        pod.addresses().into_iter().for_each(|address| ping(&rig.node, address));
    }
    for (pod, router) in [(b, "10.244.1.1"), (b, "fd00:10:244:1::1"), (a, "10.244.2.1"), (a, "fd00:10:244:2::1")] {
        ping(pod, router);
    }
}

fn outlives_a_restart(rig: &mut Rig, pod: &Pod, theirs: &[IpAddr]) {
    let before = rig.client().neighbors().unwrap();
    let routes =
        |rig: &Rig| ["-4", "-6"].map(|family| must(&rig.node, &format!("ip {family} route show proto 112")).result);
    let routes_before = routes(rig);
    rig.kill();
    rig.start();
    assert_eq!(rig.client().neighbors().unwrap(), before);
    assert_eq!(routes(rig), routes_before);
    theirs.iter().for_each(|address| ping(pod, address));
    theirs.iter().for_each(|address| ping(&rig.node, address));
}

/// A deleted neighbour is out of reach, and a purge leaves nothing.
fn goes([mut one, mut two]: [Rig; 2], [a, b]: [&Pod; 2], theirs: &[IpAddr]) {
    let known = one.client().neighbors().unwrap();
    let delete: Vec<_> =
        known.iter().map(|known| DeleteNeighbor { subnet: known.subnet, origin: Origin::Cli, force: false }).collect();
    change(&one, ChangeNeighbors { delete, add: Vec::new() });
    for address in theirs {
        for from in [&**a, &*one.node] {
            let said = call(from, &format!("ping -n -c 1 -W 1 {address}"));
            assert!(!said.success, "{}", said.text);
        }
    }
    for family in ["-4", "-6"] {
        let routes = must(&one.node, &format!("ip {family} route show proto 112")).result;
        assert!(!routes.contains(":2::/64") && !routes.contains("10.244.2.0/24"), "{routes}");
    }
    for rig in [&one, &two] {
        rig.settled();
    }
    // One by itself; of the other, which has neighbours still, what a dead switch left.
    one.client().purge().unwrap();
    assert!(one.has_ended());
    two.kill();
    let purge = format!("purge --yes --config {}", two.configuration().display());
    assert!(two.podswitch(&purge).success);
    for (rig, pod) in [(&one, a), (&two, b)] {
        until("the interface to be gone", || (!must(pod, "ip -o link").text.contains("eth0")).then_some(()));
        let left = ["-o link", "-4 route show proto 112", "-6 route show proto 112"];
        let left = left.map(|what| must(&rig.node, &format!("ip {what}")).result).concat();
        assert!(!left.contains("podswitch") && !left.contains("10.244.") && !left.contains("fd00:10:"), "{left}");
        assert!(!rig.state_dir().exists());
    }
}

/// The addresses of the two ends of the link between nodes.
pub(crate) const WIRE: [[&str; 2]; 2] = [["192.168.9.1/24", "fd00:9::1/64"], ["192.168.9.2/24", "fd00:9::2/64"]];

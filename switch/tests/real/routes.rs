//! Where packets go that no pod's own address claims.

use control::{DeleteRoute, Origin, Route, RouteTarget};

use crate::rig::{Pod, Rig, call, must, until};
use crate::traffic::{receive, udp};

#[test]
fn the_node_routes_each_range_to_the_switch_and_to_nothing_else_without_it() {
    let mut rig = Rig::new();
    for (family, range, via) in
        [("-4", "10.244.0.0/24", "169.254.1.1"), ("-6", "fd00:10:244::/64", "fe80::ecee:eeff:feee:eeee")]
    {
        let routes = must(&rig.node, &format!("ip {family} route show"));
        routes.has(&format!("{range} via {via} dev podswitch0")).has(&format!("unreachable {range}"));
    }
    let pod = rig.pod(2);
    for address in pod.addresses() {
        must(&rig.node, &format!("ping -n -c 1 -w 10 {address}"));
    }
    rig.kill();
    nothing_leads_to(&rig, &pod);
    rig.start();
    for address in pod.addresses() {
        must(&rig.node, &format!("ping -n -c 1 -w 10 {address}"));
    }
    rig.client().stop().unwrap();
    assert!(rig.has_ended());
    nothing_leads_to(&rig, &pod);
}

/// Without a switch, the kernel notices within a second that its interface leads nowhere.
fn nothing_leads_to(rig: &Rig, pod: &Pod) {
    for address in pod.addresses() {
        let refused = || call(&rig.node, &format!("ping -n -c 1 -W 1 {address}")).text.contains("No route to host");
        until("a refusal of the node's own", || refused().then_some(()));
    }
}

#[test]
fn an_address_of_nobody_is_unreachable_for_the_node_and_for_pods() {
    let rig = Rig::new();
    let pod = rig.pod(2);
    for (asker, address, answerer) in [
        (&*rig.node, "10.244.0.77", "10.244.0.1"),
        (&*rig.node, "fd00:10:244::77", "fd00:10:244::1"),
        (&*pod, "10.244.0.77", "169.254.1.1"),
        (&*pod, "fd00:10:244::77", "fe80::ecee:eeff:feee:eeee"),
    ] {
        let said = call(asker, &format!("ping -n -c 1 -W 3 {address}"));
        said.has(&format!("From {answerer}")).has("nreachable");
    }
    let drops = rig.settled();
    assert_eq!((drops.punted["unreachable"], drops.dropped.get("host_to_host")), (4, None));
}

#[test]
fn routes_come_into_force_and_go_again() {
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    must(&rig.node, "ip address add 10.244.0.200/32 dev lo");
    let unreachable = |address: &str| {
        call(&a, &format!("ping -n -c 1 -W 3 {address}")).has("From 169.254.1.1").has("Net Unreachable");
    };
    unreachable("10.244.0.200");
    add(&rig, "10.244.0.200/32", RouteTarget::Host);
    must(&a, "ping -n -c 1 -w 10 10.244.0.200");
    add(&rig, "10.244.0.200/32", RouteTarget::Unreachable);
    unreachable("10.244.0.200");
    delete(&rig, "10.244.0.200/32");
    unreachable("10.244.0.200");

    add(&rig, "198.51.100.0/24", RouteTarget::Unreachable);
    unreachable("198.51.100.7");
    add(&rig, "198.51.100.0/25", RouteTarget::Blackhole);
    let silent = call(&a, "ping -n -c 1 -W 1 198.51.100.7");
    assert!(!silent.success && !silent.text.contains("From"), "{}", silent.text);
    assert_eq!(rig.settled().dropped["blackhole"], 1);
    delete(&rig, "198.51.100.0/25");
    unreachable("198.51.100.7");
    to_an_endpoint(&rig, &a, &b);
}

/// What a route leads to a pod arrives there, and no longer when the pod is gone.
fn to_an_endpoint(rig: &Rig, a: &Pod, b: &Pod) {
    must(b, "ip address add 203.0.113.9/32 dev lo");
    let (sender, receiver) = (udp(a, a.v4(), 7000), udp(b, [203, 0, 113, 9].into(), 7000));
    add(rig, "203.0.113.0/24", RouteTarget::Endpoint(b.attach().name));
    sender.send_to(b"by a route", ("203.0.113.9", 7000)).unwrap();
    assert_eq!(receive(&receiver).0, b"by a route");
    assert_eq!(rig.detach(b).routes, ["203.0.113.0/24".parse().unwrap()]);
    assert!(rig.client().routes().unwrap().iter().all(|route| route.prefix.to_string() != "203.0.113.0/24"));
    must(b, "ip -o link").has("lo");
    until("the interface to be gone", || (!must(b, "ip -o link").text.contains("eth0")).then_some(()));
}

fn add(rig: &Rig, prefix: &str, target: RouteTarget) {
    rig.client().add_route(Route { prefix: prefix.parse().unwrap(), target, origin: Origin::Cli }).unwrap();
}

fn delete(rig: &Rig, prefix: &str) {
    let delete = DeleteRoute { prefix: prefix.parse().unwrap(), origin: Origin::Cli, force: false };
    rig.client().delete_route(delete).unwrap();
}

//! Links, addresses, routes and neighbours: what was set is listed back. Needs root.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

use std::os::fd::AsFd;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use packet::{Mac, Prefix};
use podswitch_host::{
    Address, Family, Link, LinkChange, Neighbor, Netlink, Route, RouteKind, RouteWatch, Sysctl, Tap, TapOptions,
    TemporaryNamespace, VethPair, Vxlan,
};

#[test]
fn a_veth_pair_is_made_with_an_end_in_each_namespace() {
    let (here, there) = (namespace(), namespace());
    let mut netlink = Netlink::open_in(&here).unwrap();
    let pair =
        VethPair { peer_namespace: Some(there.as_fd()), mtu: Some(1400), queues: Some(2), ..pair("veth0", "eth0") };
    netlink.create_veth(&pair).unwrap();
    let near = netlink.link("veth0").unwrap();
    let far = Netlink::open_in(&there).unwrap().link("eth0").unwrap();
    for end in [&near, &far] {
        assert_eq!((end.kind.as_str(), end.mtu, end.up, end.carrier), ("veth", 1400, false, false), "{end:?}");
        assert_eq!((end.transmit_queues, end.receive_queues), (2, 2));
        assert_ne!(end.mac, Mac::ZERO);
    }
    assert!(netlink.create_veth(&pair).unwrap_err().is_exists());

    netlink.delete_link(near.index).unwrap();
    assert!(netlink.link("veth0").unwrap_err().is_missing());
    assert!(Netlink::open_in(&there).unwrap().link("eth0").unwrap_err().is_missing());
}

#[test]
fn every_change_of_a_link_is_seen_in_it() {
    let here = namespace();
    let mut netlink = Netlink::open_in(&here).unwrap();
    netlink.create_bridge("br0").unwrap();
    netlink.create_veth(&pair("a", "b")).unwrap();
    let (bridge, link) = (netlink.link("br0").unwrap().index, netlink.link("a").unwrap().index);
    let mac: Mac = "02:00:00:00:00:07".parse().unwrap();
    let change = LinkChange {
        name: Some("port1"),
        mac: Some(mac),
        mtu: Some(1300),
        master: Some(bridge),
        queue_length: Some(77),
        gso_max_size: Some(32_000),
        gso_ipv4_max_size: Some(31_000),
        gso_max_segments: Some(40),
        up: Some(true),
        ..LinkChange::default()
    };
    netlink.change_link(link, &change).unwrap();
    let seen = netlink.link_by_index(link).unwrap();
    let wanted = Link {
        index: link,
        name: "port1".into(),
        mac,
        mtu: 1300,
        up: true,
        kind: "veth".into(),
        master: Some(bridge),
        queue_length: 77,
        gso_max_size: 32_000,
        gso_ipv4_max_size: 31_000,
        gso_max_segments: 40,
        carrier: false,
        ..seen.clone()
    };
    assert_eq!(seen, wanted);

    let peer = netlink.link("b").unwrap().index;
    netlink.change_link(peer, &up()).unwrap();
    assert!(netlink.link("port1").unwrap().carrier);
    netlink.change_link(link, &LinkChange { up: Some(false), master: Some(0), ..LinkChange::default() }).unwrap();
    let seen = netlink.link("port1").unwrap();
    assert_eq!((seen.up, seen.master), (false, None));
    let names: Vec<_> = netlink.links().unwrap().into_iter().map(|link| link.name).collect();
    assert_eq!(names, ["lo", "br0", "b", "port1"]);
}

#[test]
fn one_message_moves_renames_and_sets_up() {
    let (here, there) = (namespace(), namespace());
    let mut netlink = Netlink::open_in(&here).unwrap();
    netlink.create_veth(&pair("a", "b")).unwrap();
    let index = netlink.link("a").unwrap().index;
    let change = LinkChange { namespace: Some(there.as_fd()), name: Some("eth0"), mtu: Some(1350), ..up() };
    netlink.change_link(index, &change).unwrap();
    let moved = Netlink::open_in(&there).unwrap().link("eth0").unwrap();
    assert_eq!((moved.mtu, moved.up), (1350, true));
}

#[test]
fn without_address_generation_a_link_has_no_address_of_its_own() {
    let here = namespace();
    let mut netlink = Netlink::open_in(&here).unwrap();
    netlink.create_veth(&pair("a", "b")).unwrap();
    let [a, b] = ["a", "b"].map(|name| netlink.link(name).unwrap().index);
    netlink.change_link(a, &LinkChange { address_generation: Some(false), ..LinkChange::default() }).unwrap();
    for link in [a, b] {
        netlink.change_link(link, &up()).unwrap();
    }
    // The kernel gives the other end its address on its own time, after the carrier has come.
    let mut links_with_addresses = || -> Vec<u32> {
        netlink.addresses().unwrap().iter().map(|address| address.link).filter(|link| [a, b].contains(link)).collect()
    };
    let start = Instant::now();
    while links_with_addresses().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "neither end ever had an address");
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(links_with_addresses(), [b]);
}

#[test]
fn addresses_of_both_families_are_listed_as_set() {
    let (here, mut netlink, link) = wired();
    for net in ["10.9.0.1/24", "fd00:9::1/64"] {
        let plain = Address::new(link, net.parse().unwrap());
        let address = Address { no_dad: plain.net.addr().is_ipv6(), no_prefix_route: true, ..plain };
        netlink.add_address(&address).unwrap();
        assert!(netlink.addresses().unwrap().contains(&address), "{:?}", netlink.addresses());
        assert!(netlink.add_address(&address).unwrap_err().is_exists());
        let prefix: Prefix = address.net.trunc().try_into().unwrap();
        assert!(!netlink.routes().unwrap().iter().any(|route| route.prefix == prefix));

        netlink.delete_address(&address).unwrap();
        assert!(!netlink.addresses().unwrap().contains(&address));
        assert!(netlink.delete_address(&address).unwrap_err().is_missing());

        netlink.add_address(&plain).unwrap();
        assert!(netlink.routes().unwrap().iter().any(|route| route.prefix == prefix && route.link == Some(link)));
    }
    drop(here);
}

#[test]
fn routes_of_both_families_are_listed_as_set() {
    let (_here, mut netlink, link) = wired();
    for (net, gateway, to) in
        [("10.9.0.1/24", "10.9.0.2", "10.20.0.0/16"), ("fd00:9::1/64", "fd00:9::2", "fd00:20::/48")]
    {
        let net: ipnet::IpNet = net.parse().unwrap();
        netlink.add_address(&Address { no_dad: true, ..Address::new(link, net) }).unwrap();
        let (to, gateway): (Prefix, _) = (to.parse().unwrap(), gateway.parse().unwrap());
        let full = Route {
            source: Some(net.addr()),
            metric: 50,
            mtu: Some(1400),
            advertised_mss: Some(1300),
            ..Route::via(to, gateway, link)
        };
        let on_link = Route { metric: 60, ..Route::on_link(to, link) };
        let elsewhere = Route { table: 1000, metric: 70, protocol: 4, ..Route::on_link(to, link) };
        let refusing = Route::unreachable(to, u32::MAX - 1);
        let silent = Route { kind: RouteKind::Blackhole, metric: 80, ..refusing };
        let all = [full, on_link, elsewhere, refusing, silent];
        for route in &all {
            netlink.add_route(route).unwrap();
            assert!(netlink.add_route(route).unwrap_err().is_exists(), "{route}");
        }
        let listed = netlink.routes().unwrap();
        for route in &all {
            assert_eq!(listed.iter().filter(|found| *found == route).count(), 1, "{route:?}\n{listed:#?}");
        }
        let ours = listed.iter().filter(|route| route.protocol == Route::PROTOCOL && route.prefix == to).count();
        assert_eq!(ours, 4);

        let changed = Route { mtu: Some(1200), ..full };
        netlink.replace_route(&changed).unwrap();
        let listed = netlink.routes().unwrap();
        assert!(listed.contains(&changed) && !listed.contains(&full), "{listed:#?}");
        for route in [changed, on_link, elsewhere, refusing, silent] {
            netlink.delete_route(&route).unwrap();
            assert!(netlink.delete_route(&route).unwrap_err().is_missing(), "{route}");
        }
        assert!(!netlink.routes().unwrap().iter().any(|route| route.prefix == to));
    }
}

#[test]
fn a_change_of_routes_is_told_and_a_route_by_a_nexthop_object_is_listed_with_its_next_hop() {
    let (here, mut netlink, link) = wired();
    netlink.add_address(&Address::new(link, "10.9.0.1/24".parse().unwrap())).unwrap();
    let mut watch = here.run(RouteWatch::open).unwrap().unwrap();
    let prefix: Prefix = "10.20.0.0/16".parse().unwrap();
    let route = Route::via(prefix, "10.9.0.2".parse().unwrap(), link);
    let shown = |netlink: &mut Netlink| netlink.routes().unwrap().into_iter().find(|found| found.prefix == prefix);
    for round in 0..3 {
        // Several changes at once are one notice, and none is left over.
        netlink.add_route(&route).unwrap();
        netlink.delete_route(&route).unwrap();
        netlink.add_route(&route).unwrap();
        watch.wait().unwrap();
        assert_eq!(shown(&mut netlink), Some(route), "round {round}");
        netlink.delete_route(&route).unwrap();
        watch.wait().unwrap();
        assert_eq!(shown(&mut netlink), None);
    }
    for line in [
        format!("nexthop add id 7 via 10.9.0.2 dev {}", name(&mut netlink, link)),
        format!("route add {prefix} nhid 7"),
    ] {
        let added = here.run(|| Command::new("ip").args(line.split(' ')).status()).unwrap();
        assert!(added.expect("iproute2 is missing: `make deps`").success(), "{line}");
    }
    watch.wait().unwrap();
    let found = shown(&mut netlink).unwrap();
    assert_eq!((found.via, found.link), (route.via, route.link));
}

fn name(netlink: &mut Netlink, link: u32) -> String {
    netlink.link_by_index(link).unwrap().name
}

#[test]
fn a_pods_default_route_goes_by_a_gateway_that_is_on_no_prefix() {
    let (_here, mut netlink, link) = wired();
    for (net, gateway, all) in [("10.9.0.7/32", "169.254.1.1", "0.0.0.0/0"), ("fd00:9::7/128", "fe80::1", "::/0")] {
        netlink.add_address(&Address { no_dad: true, ..Address::new(link, net.parse().unwrap()) }).unwrap();
        let (gateway, all): (std::net::IpAddr, Prefix) = (gateway.parse().unwrap(), all.parse().unwrap());
        let metric = 1024;
        let by_link = Route { metric, ..Route::via(all, gateway, link) };
        if gateway.is_ipv4() {
            let refused = netlink.add_route(&by_link).unwrap_err();
            assert_eq!(refused.to_string(), format!("cannot add route {by_link} (Nexthop has invalid gateway)"));
        }
        let onlink = Route { onlink: true, ..by_link };
        netlink.add_route(&onlink).unwrap();
        assert!(netlink.routes().unwrap().contains(&onlink), "{:#?}", netlink.routes());
        netlink.delete_route(&onlink).unwrap();

        netlink.add_route(&Route { metric, ..Route::on_link(Prefix::host(gateway), link) }).unwrap();
        netlink.add_route(&by_link).unwrap();
        assert!(netlink.routes().unwrap().contains(&by_link));
    }
}

#[test]
fn a_listing_longer_than_one_datagram_is_whole() {
    let (_here, mut netlink, link) = wired();
    let routes: Vec<_> = (0..2000u32)
        .map(|number| Route::on_link(Prefix::host(std::net::Ipv4Addr::from(0x0a14_0000 + number).into()), link))
        .collect();
    for route in &routes {
        netlink.add_route(route).unwrap();
    }
    let listed = netlink.routes().unwrap();
    let ours: Vec<_> = listed.into_iter().filter(|route| route.protocol == Route::PROTOCOL).collect();
    assert_eq!(ours, routes);
}

#[test]
fn permanent_neighbours_of_both_families_are_listed_as_set() {
    let (_here, mut netlink, link) = wired();
    for address in ["169.254.1.1", "fe80::1"] {
        let entry = Neighbor { link, address: address.parse().unwrap(), mac: Mac::GATEWAY };
        netlink.add_neighbor(&entry).unwrap();
        assert!(netlink.add_neighbor(&entry).unwrap_err().is_exists());
        let changed = Neighbor { mac: Mac([2, 0, 0, 0, 0, 9]), ..entry };
        netlink.replace_neighbor(&changed).unwrap();
        assert_eq!(netlink.neighbors().unwrap(), [changed]);
        netlink.delete_neighbor(link, entry.address).unwrap();
        assert_eq!(netlink.neighbors().unwrap(), []);
        assert!(netlink.delete_neighbor(link, entry.address).unwrap_err().is_missing());
    }
}

#[test]
fn frames_for_a_vxlan_peer_leave_for_its_node() {
    let (here, mut netlink, link) = wired();
    for (net, node, name) in [("172.31.9.1/24", "172.31.9.2", "vxlan4"), ("fd00:9::1/64", "fd00:9::2", "vxlan6")] {
        let net: ipnet::IpNet = net.parse().unwrap();
        netlink.add_address(&Address { no_dad: true, ..Address::new(link, net) }).unwrap();
        let (mac, far) = (Mac([2, 0, 0, 0, 0, 5]), Mac([2, 0, 0, 0, 0, 6]));
        let port = if net.addr().is_ipv4() { 8472 } else { 8473 };
        let vxlan = Vxlan { name, mac, vni: 1, port, local: net.addr(), link };
        netlink.create_vxlan(&vxlan).unwrap();
        assert!(netlink.create_vxlan(&vxlan).unwrap_err().is_exists());
        let made = netlink.link(name).unwrap();
        assert_eq!((made.kind.as_str(), made.mac), ("vxlan", mac));
        assert_eq!(netlink.vxlan_ports().unwrap(), [(name.to_owned(), port)]);

        netlink.change_link(made.index, &up()).unwrap();
        let node: std::net::IpAddr = node.parse().unwrap();
        netlink.add_vxlan_peer(made.index, far, node).unwrap();
        netlink.add_vxlan_peer(made.index, far, node).unwrap();
        let (subnet, base): (_, std::net::IpAddr) = ("10.77.0.0/24".parse().unwrap(), "10.77.0.0".parse().unwrap());
        netlink.add_neighbor(&Neighbor { link: made.index, address: base, mac: far }).unwrap();
        let metric = made.index;
        netlink.add_route(&Route { onlink: true, metric, ..Route::via(subnet, base, made.index) }).unwrap();
        // The other end of the wire has no such node; an entry for it lets the datagram leave all the same.
        netlink.add_neighbor(&Neighbor { link, address: node, mac: far }).unwrap();

        let sent = |netlink: &mut Netlink| netlink.link(name).unwrap().counters.transmit_packets;
        let before = sent(&mut netlink);
        let socket = here.run(|| std::net::UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
        socket.send_to(b"inside", "10.77.0.9:9").unwrap();
        assert!(sent(&mut netlink) > before);
        netlink.delete_link(made.index).unwrap();
    }
}

#[test]
fn a_refusal_says_what_was_asked_of_which_object() {
    let (_here, mut netlink, link) = wired();
    let missing = netlink.link("nothing").unwrap_err();
    assert!(missing.is_missing() && missing.to_string() == "cannot find link nothing", "{missing}");
    let change = LinkChange { mtu: Some(10), ..LinkChange::default() };
    let refused = netlink.change_link(link, &change).unwrap_err();
    assert_eq!(refused.to_string(), format!("cannot change link {link}: mtu 10 (mtu less than device minimum)"));
}

#[test]
fn a_link_of_several_queues_loses_its_queue_discipline_until_it_moves() {
    let (here, there) = (namespace(), namespace());
    let options = TapOptions { queues: 2, multi_queue: true, ..TapOptions::new("tap") };
    let _tap = here.run(|| Tap::open(&options)).unwrap().unwrap();
    let mut netlink = Netlink::open_in(&here).unwrap();
    let link = netlink.link("tap").unwrap().index;
    let down = LinkChange { up: Some(false), ..LinkChange::default() };
    netlink.change_link(link, &up()).unwrap();
    assert_ne!(netlink.link("tap").unwrap().queue_discipline, "noqueue");

    netlink.set_no_queue(link).unwrap();
    for change in [up(), down, up()] {
        netlink.change_link(link, &change).unwrap();
        assert_eq!(netlink.link("tap").unwrap().queue_discipline, "noqueue");
    }
    netlink.change_link(link, &LinkChange { namespace: Some(there.as_fd()), ..up() }).unwrap();
    let mut netlink = Netlink::open_in(&there).unwrap();
    let moved = netlink.link("tap").unwrap();
    assert_ne!(moved.queue_discipline, "noqueue");
    netlink.set_no_queue(moved.index).unwrap();
    netlink.set_no_queue(moved.index).unwrap();
    assert_eq!(netlink.link("tap").unwrap().queue_discipline, "noqueue");
    assert!(netlink.set_no_queue(99_999).unwrap_err().is_missing());
}

fn namespace() -> TemporaryNamespace {
    TemporaryNamespace::new("host-nl").unwrap_or_else(|error| panic!("this test needs root: {error}"))
}

fn pair<'a>(name: &'a str, peer: &'a str) -> VethPair<'a> {
    VethPair { name, peer, ..VethPair::default() }
}

fn up() -> LinkChange<'static> {
    LinkChange { up: Some(true), ..LinkChange::default() }
}

/// A namespace with a veth pair that is up and has no addresses, and the index of one end.
fn wired() -> (TemporaryNamespace, Netlink, u32) {
    let here = namespace();
    let mut netlink = Netlink::open_in(&here).unwrap();
    netlink.create_veth(&pair("a", "b")).unwrap();
    let [a, b] = ["a", "b"].map(|name| netlink.link(name).unwrap().index);
    for (link, name) in [(a, "a"), (b, "b")] {
        netlink.change_link(link, &LinkChange { address_generation: Some(false), ..LinkChange::default() }).unwrap();
        let accept_dad = Sysctl::interface(Family::V6, name, "accept_dad").unwrap();
        here.run(|| accept_dad.write(0)).unwrap().unwrap();
        netlink.change_link(link, &up()).unwrap();
    }
    (here, netlink, a)
}

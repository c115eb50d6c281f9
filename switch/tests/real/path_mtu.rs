//! A router between the nodes whose second link takes shorter packets than the nodes' own.

use std::net::IpAddr;

use control::{Backend, ChangeNeighbors, Neighbor, Origin};

use crate::rig::{Rig, call, link, must, namespace, subnets, until};
use crate::traffic::{MIB, connection, exchange};

#[test]
fn pods_are_told_what_the_way_to_another_node_takes() {
    for (family, inner_mtu) in [(4, 1350), (6, 1330)] {
        let (rigs, _router) = nodes_behind_a_router(family, 1400);
        let (a, b) = (rigs[0].pod(2), rigs[1].pod(2));
        // The router's word comes back by the packet it refused, the answer to a pod from then on.
        for address in b.addresses() {
            let too_long = format!("ping -n -c 1 -W 1 -M do -s 1380 {address}");
            let told = format!("mtu={inner_mtu}");
            until("the pod to be told", || call(&a, &too_long).text.replace(' ', "").contains(&told).then_some(()));
        }
        b.addresses().into_iter().for_each(|address| exchange(&connection(&a, &b, address), 8 * MIB));
        // Whoever sends from that pod knows it from now on.
        let routes = [4, 6].map(|family| must(&a, &format!("ip -{family} route show cache")).text).concat();
        assert!(routes.contains(&format!("mtu {inner_mtu}")), "{routes}");
    }
}

/// Two nodes that speak VXLAN over a router, whose link to the second is of `mtu`.
fn nodes_behind_a_router(family: u8, mtu: u16) -> ([Rig; 2], host::TemporaryNamespace) {
    let node = |site: u8| -> IpAddr {
        if family == 4 { [192, 168, site, 1].into() } else { [0xfd00, 9, site.into(), 0, 0, 0, 0, 1].into() }
    };
    let router = namespace("psw-router");
    must(&router, "sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    let mut rigs = [1, 2].map(|site| Rig::stopped_at(site, &format!("underlay_address = [\"{}\"]", node(site))));
    for (site, rig) in (1..).zip(&mut rigs) {
        let own = [format!("192.168.{site}.1/24"), format!("fd00:9:{site}::1/64")];
        let routers = [format!("192.168.{site}.254/24"), format!("fd00:9:{site}::fe/64")];
        let name = format!("to{site}");
        link([(&rig.node, "up0", [&own[0], &own[1]]), (&router, &name, [&routers[0], &routers[1]])]);
        must(&rig.node, &format!("ip route add 192.168.0.0/16 via 192.168.{site}.254"));
        must(&rig.node, &format!("ip route add fd00:9::/32 via fd00:9:{site}::fe"));
        rig.start();
    }
    must(&router, &format!("ip link set to2 mtu {mtu}"));
    must(&rigs[1].node, &format!("ip link set up0 mtu {mtu}"));
    for (rig, (other, site)) in [(&rigs[0], (&rigs[1], 2)), (&rigs[1], (&rigs[0], 1))] {
        let mac = other.client().config().unwrap().vtep_mac;
        let neighbor = |subnet| Neighbor { subnet, via: node(site), backend: Backend::Vxlan, mac, origin: Origin::Cli };
        let add = subnets(site).into_iter().map(neighbor).collect();
        rig.client().change_neighbors(ChangeNeighbors { add, ..Default::default() }).unwrap();
    }
    (rigs, router)
}

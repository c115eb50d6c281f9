//! Two switches in memory, joined by a tunnel over loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::process;

use encap::{Tunnel, Vtep, vxlan_header};
use host::TunnelSocket;
use packet::{Mac, Vni};
use podswitch::port::Uplink;

use crate::rig::{ABLE, Rig, TUNNEL_MTU};

pub(crate) const NEAR: Mac = Mac([2, 9, 0, 0, 0, 1]);
pub(crate) const FAR: Mac = Mac([2, 9, 0, 0, 0, 2]);

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Vxlan,
    Bare,
}

/// A loopback address that no other test process has.
pub(crate) fn address(node: u8) -> SocketAddr {
    let [.., high, low] = process::id().to_be_bytes();
    (Ipv4Addr::new(127, high & 0x3f | 0x40, low, node), 8472).into()
}

pub(crate) fn uplink(kind: Kind, local: SocketAddr, own: Mac) -> Uplink {
    let receivers = TunnelSocket::group(local, 1).unwrap();
    let any = SocketAddr::new(local.ip(), 0);
    let senders = (0..4).map(|_| TunnelSocket::open(any).unwrap()).collect();
    match kind {
        Kind::Vxlan => {
            let tunnel = Tunnel::Vxlan(Vtep::new(Vni::FLANNEL, own));
            Uplink::new(tunnel, &vxlan_header(Vni::FLANNEL), (receivers, senders), TUNNEL_MTU)
        }
        Kind::Bare => Uplink::new(Tunnel::Ipv4, &[], (receivers, senders), TUNNEL_MTU),
    }
}

/// Pod 1 behind the first switch, pod 2 and the router's address behind the second.
pub(crate) fn nodes(kind: Kind) -> (Rig, Rig) {
    let (mut near, mut far) = (Rig::new(&[ABLE]), Rig::new(&[ABLE, ABLE]));
    let far_off = ["10.244.1.2/32", "fd00:10:244::1:2/128", "10.244.0.1/32"];
    near.tunnel((uplink(kind, address(1), NEAR), NEAR), (address(2), FAR), &far_off);
    far.tunnel((uplink(kind, address(2), FAR), FAR), (address(1), NEAR), &["10.244.1.1/32", "fd00:10:244::1:1/128"]);
    (near, far)
}

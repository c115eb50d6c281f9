//! Tunnels that pods open themselves.
//!
//! A node believes a tunnel packet that comes from the address of another node, and a pod whose traffic leaves by the
//! host is given that address there. So a pod could send, inside a tunnel packet of its own making, anything to any pod
//! of the cluster in the name of any other. Nobody but the node wraps packets: the leaving stage asks [`is_tunnel`] for
//! each packet of a pod, whatever its destination, and drops with [`packet::Reason::NestedTunnel`]. It asks where the
//! uplinks use tunnels at all, with the ports they use. Later fragments have no ports and pass: without their first
//! they reach nobody.

use packet::view::protocol;

/// flannel's VXLAN, which is Linux's first default too.
pub const FLANNEL_VXLAN_PORT: u16 = 8472;
/// VXLAN's own (RFC 7348, section 8), which Calico uses.
pub const VXLAN_PORT: u16 = 4789;
/// flannel's UDP.
pub const FLANNEL_UDP_PORT: u16 = 8285;

/// True for IP-in-IP and for UDP to one of `ports`. `protocol` and `transport` are those of the pod's packet behind all
/// of its IP headers; fewer than 4 bytes there have no port.
#[inline]
pub fn is_tunnel(protocol: u8, transport: &[u8], ports: &[u16]) -> bool {
    match protocol {
        protocol::IPV4 => true,
        protocol::UDP => {
            transport.get(2..4).is_some_and(|port| ports.contains(&u16::from_be_bytes([port[0], port[1]])))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_are_known_by_their_destination_port_or_protocol() {
        let ports = [FLANNEL_VXLAN_PORT, FLANNEL_UDP_PORT];
        let udp = |from: u16, to: u16| [from.to_be_bytes(), to.to_be_bytes(), [0, 8], [0, 0]].concat();
        for port in ports {
            assert!(is_tunnel(protocol::UDP, &udp(5, port), &ports));
            assert!(!is_tunnel(protocol::UDP, &udp(port, 5), &ports), "an answer");
            assert!(!is_tunnel(protocol::TCP, &udp(5, port), &ports));
            assert!(!is_tunnel(protocol::UDP, &udp(5, port)[..3], &ports));
        }
        assert!(!is_tunnel(protocol::UDP, &udp(5, VXLAN_PORT), &ports), "no uplink uses it");
        assert!(is_tunnel(protocol::IPV4, &[], &[]));
    }
}

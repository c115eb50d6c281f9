//! Whether a packet out of a tunnel may have the source it has.
//!
//! A node owns the addresses of its lease and speaks for no others. That is the route table's knowledge read backwards: the
//! route *to* an inner source must lead into the tunnel to the very node that sent the packet. The switch therefore looks up
//! the inner source as it looks up destinations, and asks [`is_senders_own`] of what came out; else it drops with
//! [`packet::Reason::ForeignSource`]. It is the strict form of reverse path forwarding (RFC 3704, section 2.2), so a subnet that
//! moves is accepted from its new node as soon as it is routed there. What a node's own programs send to remote pods passes,
//! since they use an address of that node's lease. UDP sources can be forged on the underlay; this is no authentication.

use std::net::IpAddr;

/// True when `remote`, the far end of the tunnel in which packets to the inner source would leave (`None` when they would not
/// enter a tunnel), is where the packet came from. `outer_source` may be an IPv4 address mapped into IPv6, as sockets of both
/// families report it.
#[inline]
pub fn is_senders_own(remote: Option<IpAddr>, outer_source: IpAddr) -> bool {
    remote == Some(outer_source.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_node_that_packets_back_would_go_to_may_send_them() {
        let [node, other, mapped, v6]: [IpAddr; 4] =
            ["192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        assert!(is_senders_own(Some(node), node) && is_senders_own(Some(v6), v6));
        assert!(is_senders_own(Some(node), mapped));
        assert!(!is_senders_own(Some(other), node));
        assert!(!is_senders_own(None, node), "a local pod's address, or nobody's");
    }
}

//! By how many bytes an inner packet grows: what is taken off the underlay's MTU to get the pods'.
//!
//! Our own reckoning is [`Template::overhead`](crate::Template::overhead). Nodes of one network must agree on the pods'
//! MTU, so beside it stand the numbers that other software takes off where they differ.

/// VXLAN over IPv4: the inner Ethernet header 14, VXLAN 8, UDP 8, IPv4 20 (RFC 7348, section 5). Calico and flannel
/// agree.
pub const VXLAN_V4: u16 = 50;
/// VXLAN over IPv6, 20 more. Calico agrees.
pub const VXLAN_V6: u16 = 70;
/// What flannel takes off for VXLAN over either family (its `encapOverhead`). Over IPv6 a full inner packet is then 20
/// bytes too long for the underlay, unless that has larger frames.
pub const FLANNEL_VXLAN: u16 = 50;
/// flannel's UDP: UDP 8, IPv4 20.
pub const FLANNEL_UDP: u16 = 28;
/// IP-in-IP: IPv4 20 (RFC 2003). flannel and Calico agree.
pub const IPIP: u16 = 20;

//! Outer headers of tunnels to other nodes, stamped before inner frames and stripped off received ones.
//!
//! ```text
//!               Ethernet   IP          UDP   VXLAN   Ethernet                    bytes stamped
//!  VXLAN        | 14     | 20 or 40  | 8   | 8     | 14 inner | inner packet     50 or 70
//!  flannel UDP  | 14     | 20        | 8   |                  | inner IPv4       42
//!  IP-in-IP     | 14     | 20        |                        | inner IPv4       34
//! ```
//!
//! **Sending.** Behind a TAP or a packet socket the whole outer stack is ours: a [`Template`] per neighbour is built
//! when the world is compiled, and [`Template::stamp`] copies it before each inner frame and patches what differs.
//! Behind an ordinary UDP socket the kernel writes Ethernet, IP and UDP, and what is left is [`vxlan_header`], a
//! constant of the uplink; flannel's UDP has nothing before the inner packet.
//!
//! **Receiving.** [`Tunnel::strip`] finds the inner frame in what a UDP socket gave. A whole packet of the underlay
//! goes through [`Outer::udp`] or [`Outer::ipip`] first, which check the outer headers and find that payload. What is
//! not to be accepted has a [`packet::Reason`]. The inner packet's own headers are not looked at beyond what is needed
//! to find its end: an inner frame is parsed like any other. Whether its source may come from that node is for the
//! switch to ask its route table, whether it is a super-frame nobody has cut for [`packet::Offload::of_bare`].
//!
//! The crate does no I/O, keeps no clock and starts no thread; it knows addresses and header views, and nothing of
//! ports, routes or sockets. Nothing here allocates. It does not fragment or reassemble outer packets, speak group
//! policies or IPv6 extension headers outside, or choose an MTU.

#![forbid(unsafe_code)]

pub mod ecn;
#[doc(hidden)]
pub mod fuzz;
mod nested;
mod outer;
pub mod overhead;
mod template;
mod tunnel;
mod vxlan;

pub use nested::{FLANNEL_UDP_PORT, FLANNEL_VXLAN_PORT, VXLAN_PORT, is_tunnel};
pub use outer::Outer;
pub use template::{Ends, ROOM, SOURCE_PORTS, Stamp, Template};
pub use tunnel::{Inner, Tunnel};
pub use vxlan::{VXLAN_LEN, Vtep, vxlan_header};

//! How a packet left the path.
//!
//! Every packet leaves by exactly one exit, so that
//! `in = out + dropped by reason + punted + in flight` holds at every instant; the slow path's answers count as in. A
//! stage that lets a packet go writes its [`Exit`] into the burst's column; the departure settles it.

/// Why a packet was dropped. A bad frame is counted under its reason and never logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// Shorter than its headers claim.
    Truncated,
    /// Neither ARP, IPv4 nor IPv6.
    UnknownEthertype,
    /// An IP version or header length that cannot be.
    BadIpHeader,
    /// The IPv4 header checksum does not hold.
    BadIpChecksum,
    /// The IP length disagrees with the frame's.
    BadIpLength,
    /// The virtio header contradicts the frame.
    BadOffload,
    /// IPv6 extension headers too long, too many or malformed.
    BadExtensionHeader,
    /// Sent to another station's address.
    OtherStation,
    /// IGMP from a pod; the switch routes no multicast.
    Igmp,
    /// MLD from a pod; the switch routes no multicast.
    Mld,
    /// A router solicitation; pods are configured, not advertised to.
    RouterSolicitation,
    /// Any other multicast or broadcast.
    Multicast,
    /// A link-local, loopback or otherwise unroutable address.
    Unroutable,
    /// The source address is not one of the workload's own.
    SpoofedSource,
    /// The source Ethernet address is not the workload's own (`strict_mac`).
    SpoofedMac,
    /// The host's ICMP redirects make no sense to pods.
    Redirect,
    /// A frame of the host port that would leave by the host port again.
    HostToHost,
    /// A blackhole route.
    Blackhole,
    /// The frame could not be brought into the form its port takes.
    Uncuttable,
    /// The port's descriptor refused the frame.
    WriteFailed,
    /// The port left between lookup and departure.
    PortGone,
    /// The slow path's ring was full.
    PuntFull,
    /// No row or slot was free for a datagram of a tunnel.
    NoRoom,
    /// A whole frame of the underlay that is not of the tunnel: another address, protocol or port.
    NotTunnel,
    /// A fragment of a tunnel's packet; the switch reassembles none.
    OuterFragment,
    /// A tunnel's datagram over IPv6 without UDP checksum.
    NoOuterChecksum,
    /// The UDP checksum of a tunnel's datagram does not hold.
    BadOuterChecksum,
    /// A VXLAN header without the flag that says there is a VNI.
    NoVni,
    /// A VXLAN header with a group policy, which this switch does not speak.
    GroupPolicy,
    /// A VXLAN header with any other reserved bit set.
    ReservedBits,
    /// Another VXLAN segment's.
    UnknownVni,
    /// Out of a tunnel with our own Ethernet address as source: our frame has come back.
    OwnMac,
    /// Out of a tunnel, but the route to its source does not lead back to the node that sent it.
    ForeignSource,
    /// Out of a tunnel, and would leave by a tunnel again.
    TunnelToTunnel,
    /// Marked congested on its way through a tunnel, and its ends know nothing of such marks.
    Congested,
    /// A pod's own tunnel packet, which other nodes would take for ours.
    NestedTunnel,
    /// To a pod that is over its rate limit, and as much waits for it as may.
    OverLimit,
    /// A rule for the pod it comes from denies it.
    PolicyEgress,
    /// A rule for the pod it goes to denies it.
    PolicyIngress,
}

/// Why a packet was handed to the slow path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Punt {
    /// An ARP packet.
    Arp,
    /// A neighbour solicitation or advertisement.
    NeighborDiscovery,
    /// Addressed to the gateway itself.
    Local,
    /// TTL or hop limit used up.
    TtlExceeded,
    /// Bigger than the next hop's MTU and not to be fragmented here.
    TooBig,
    /// Bigger than the next hop's MTU, to be fragmented.
    Fragment,
    /// No route to the destination.
    Unreachable,
}

/// The exit column's content: nothing yet, a drop or a punt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Exit(u8);

impl Exit {
    /// Still on the path; departs by its port.
    pub const NONE: Exit = Exit(0);

    /// Dropped.
    #[inline]
    pub const fn drop(reason: Reason) -> Exit {
        Exit(reason as u8 + 1)
    }

    /// Handed to the slow path.
    #[inline]
    pub const fn punt(why: Punt) -> Exit {
        Exit(PUNT_BASE + why as u8)
    }

    /// True while the packet is still on the path.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The reason, when it was dropped.
    #[inline]
    pub fn reason(self) -> Option<Reason> {
        Reason::ALL.get(usize::from(self.0).wrapping_sub(1)).copied()
    }

    /// Why, when it was punted.
    #[inline]
    pub fn why(self) -> Option<Punt> {
        Punt::ALL.get(usize::from(self.0).wrapping_sub(usize::from(PUNT_BASE))).copied()
    }
}

const PUNT_BASE: u8 = 128;

macro_rules! named {
    ($kind:ident { $($name:ident => $text:literal),+ $(,)? }) => {
        impl $kind {
            /// Every value in order of its number.
            pub const ALL: &'static [$kind] = &[$($kind::$name),+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in metrics, JSON and tables.
            pub const fn name(self) -> &'static str {
                match self { $($kind::$name => $text),+ }
            }
        }
    };
}

named!(Reason {
    Truncated => "truncated",
    UnknownEthertype => "unknown_ethertype",
    BadIpHeader => "bad_ip_header",
    BadIpChecksum => "bad_ip_checksum",
    BadIpLength => "bad_ip_length",
    BadOffload => "bad_offload",
    BadExtensionHeader => "bad_extension_header",
    OtherStation => "other_station",
    Igmp => "igmp",
    Mld => "mld",
    RouterSolicitation => "router_solicitation",
    Multicast => "multicast",
    Unroutable => "unroutable",
    SpoofedSource => "spoofed_source",
    SpoofedMac => "spoofed_mac",
    Redirect => "redirect",
    HostToHost => "host_to_host",
    Blackhole => "blackhole",
    Uncuttable => "uncuttable",
    WriteFailed => "write_failed",
    PortGone => "port_gone",
    PuntFull => "punt_full",
    NoRoom => "no_room",
    NotTunnel => "not_tunnel",
    OuterFragment => "outer_fragment",
    NoOuterChecksum => "no_outer_checksum",
    BadOuterChecksum => "bad_outer_checksum",
    NoVni => "no_vni",
    GroupPolicy => "group_policy",
    ReservedBits => "reserved_bits",
    UnknownVni => "unknown_vni",
    OwnMac => "own_mac",
    ForeignSource => "foreign_source",
    TunnelToTunnel => "tunnel_to_tunnel",
    Congested => "congested",
    NestedTunnel => "nested_tunnel",
    OverLimit => "over_limit",
    PolicyEgress => "policy_egress",
    PolicyIngress => "policy_ingress",
});

named!(Punt {
    Arp => "arp",
    NeighborDiscovery => "neighbor_discovery",
    Local => "local",
    TtlExceeded => "ttl_exceeded",
    TooBig => "too_big",
    Fragment => "fragment",
    Unreachable => "unreachable",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_is_told_apart() {
        for (number, &reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, number);
            let exit = Exit::drop(reason);
            assert_eq!((exit.reason(), exit.why(), exit.is_none()), (Some(reason), None, false));
        }
        for (number, &why) in Punt::ALL.iter().enumerate() {
            assert_eq!(why as usize, number);
            let exit = Exit::punt(why);
            assert_eq!((exit.reason(), exit.why(), exit.is_none()), (None, Some(why), false));
        }
        assert!(Exit::NONE.is_none() && Exit::NONE.reason().is_none() && Exit::NONE.why().is_none());
        assert!(Reason::COUNT < usize::from(PUNT_BASE));
    }
}

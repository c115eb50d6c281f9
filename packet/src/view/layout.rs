//! Where the headers of a frame lie.

use super::{ETHERNET_LEN, Ethernet, FRAGMENT_OFFSET, IPV4_LEN, IPV6_LEN, Ipv4, Ipv6, ethertype, protocol};

/// Most IPv6 extension headers walked; a longer chain does not parse.
pub const EXTENSIONS_MAX: usize = 8;

/// Which IP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Whether a packet is part of a cut one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fragment {
    /// It is whole.
    Whole,
    /// The first part: the transport header is there.
    First,
    /// A later part: no transport header.
    Later,
}

/// What an untagged Ethernet frame with an IP packet has where.
///
/// ```text
///  0          14                     transport                 end
///  | Ethernet | IP, options or ext.  | transport header, payload | padding
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Which IP.
    pub family: Family,
    /// The transport protocol, after any extension headers.
    pub protocol: u8,
    /// Whether the packet is a fragment.
    pub fragment: Fragment,
    /// A routing header names hops still to be visited: the pseudo-header has another destination.
    pub routed: bool,
    /// Offset of the transport header (of the payload, in a later fragment) from the frame's first byte.
    pub transport: usize,
    /// Offset behind the packet's last byte, by the IP header's word: may be beyond what was received.
    pub end: usize,
}

impl Layout {
    /// Finds the layout in `head`, the frame's first bytes with all headers; `None` if it is not IP or its IP headers
    /// contradict themselves or reach beyond `head`. The header checksum is not summed.
    #[inline]
    pub fn parse(head: &[u8]) -> Option<Layout> {
        let ethertype = Ethernet::parse(head)?.ethertype();
        let packet = &head[ETHERNET_LEN..];
        match ethertype {
            ethertype::IPV4 => Self::v4(packet),
            ethertype::IPV6 => Self::v6(packet),
            _ => None,
        }
    }

    /// True for an IP header without options or extension headers.
    #[inline]
    pub fn is_plain(&self) -> bool {
        let header_len = match self.family {
            Family::V4 => IPV4_LEN,
            Family::V6 => IPV6_LEN,
        };
        self.transport == ETHERNET_LEN + header_len
    }

    #[inline]
    fn v4(packet: &[u8]) -> Option<Layout> {
        let ip = Ipv4::parse(packet)?;
        let fragment = match ip.fragment() & FRAGMENT_OFFSET {
            0 if ip.is_fragment() => Fragment::First,
            0 => Fragment::Whole,
            _ => Fragment::Later,
        };
        Some(Layout {
            family: Family::V4,
            protocol: ip.protocol(),
            fragment,
            routed: false,
            transport: ETHERNET_LEN + ip.header_len(),
            end: ETHERNET_LEN + usize::from(ip.total_len()),
        })
    }

    #[inline]
    fn v6(packet: &[u8]) -> Option<Layout> {
        let ip = Ipv6::parse(packet)?;
        let mut layout = Layout {
            family: Family::V6,
            protocol: ip.next_header(),
            fragment: Fragment::Whole,
            routed: false,
            transport: ETHERNET_LEN + IPV6_LEN,
            end: ETHERNET_LEN + IPV6_LEN + usize::from(ip.payload_len()),
        };
        let mut extensions = 0;
        while layout.step(packet)? {
            extensions += 1;
            if extensions > EXTENSIONS_MAX {
                return None;
            }
        }
        (layout.transport <= layout.end).then_some(layout)
    }

    /// Goes past one extension header (RFC 8200, section 4); false when there is none, `None` when it is cut off.
    #[inline]
    fn step(&mut self, packet: &[u8]) -> Option<bool> {
        use protocol::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};
        let this = self.protocol;
        if !matches!(this, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) || self.fragment == Fragment::Later {
            return Some(false);
        }
        let header = packet.get(self.transport - ETHERNET_LEN..)?;
        let [next, length, b, c, ..] = *header.first_chunk::<8>()?;
        let length = if this == FRAGMENT { 8 } else { 8 + usize::from(length) * 8 };
        match this {
            FRAGMENT if self.fragment != Fragment::Whole => return None,
            FRAGMENT => self.fragment = fragment_of(u16::from_be_bytes([b, c])),
            ROUTING => self.routed |= c != 0,
            _ => {}
        }
        self.protocol = next;
        self.transport += length;
        (length <= header.len()).then_some(true)
    }
}

/// Reads the fragment header's offset (in units of 8 bytes, upper 13 bits) and its "more" bit. One that is both first and
/// last (RFC 6946) is whole.
fn fragment_of(word: u16) -> Fragment {
    match (word >> 3, word & 1) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    }
}

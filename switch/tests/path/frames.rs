//! Frames written and read by etherparse, and so independent of what is tested.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv6Header, NetSlice, PacketBuilder,
    SlicedPacket, TcpHeader, TransportSlice,
};
use packet::{Gso, Mac, Offload};

/// An IP packet in an Ethernet frame. What is sent and what is seen are told in the same words, so that a test says what
/// is to differ.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Packet {
    /// Source and destination.
    pub(crate) macs: (Mac, Mac),
    /// Source and destination.
    pub(crate) addresses: (IpAddr, IpAddr),
    pub(crate) ttl: u8,
    /// IPv4 only.
    pub(crate) id: u16,
    /// IPv4 only.
    pub(crate) dont_fragment: bool,
    pub(crate) transport: Transport,
    pub(crate) payload: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Transport {
    /// Source and destination port.
    Udp(u16, u16),
    Tcp(Tcp),
    /// Type, code and what follows the checksum.
    Icmp(u8, u8, u32),
    /// A protocol number without a header of its own.
    Raw(u8),
    /// An IPv4 fragment: protocol, offset in bytes, whether more follow.
    Fragment(u8, u16, bool),
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Tcp {
    pub(crate) ports: (u16, u16),
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    pub(crate) window: u16,
    pub(crate) flags: u8,
}

pub(crate) const FIN: u8 = 1;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

impl Packet {
    /// The frame with every checksum complete.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        let step = PacketBuilder::ethernet2(self.macs.0.0, self.macs.1.0).ip(self.network());
        match (self.transport, self.addresses.0) {
            (Transport::Udp(from, to), _) => step.udp(from, to).write(&mut frame, &self.payload),
            (Transport::Tcp(tcp), _) => step.tcp_header(tcp.header()).write(&mut frame, &self.payload),
            (Transport::Icmp(kind, code, word), IpAddr::V4(_)) => {
                step.icmpv4_raw(kind, code, word.to_be_bytes()).write(&mut frame, &self.payload)
            }
            (Transport::Icmp(kind, code, word), IpAddr::V6(_)) => {
                step.icmpv6_raw(kind, code, word.to_be_bytes()).write(&mut frame, &self.payload)
            }
            (Transport::Raw(protocol) | Transport::Fragment(protocol, ..), _) => {
                step.write(&mut frame, IpNumber(protocol), &self.payload)
            }
        }
        .expect("a vector takes it");
        frame
    }

    /// The frame with a transport checksum that only sums the pseudo-header, and the words beside it.
    pub(crate) fn unfinished(&self) -> (Offload, Vec<u8>) {
        let mut frame = self.frame();
        let (start, offset) = (self.transport_start(), self.checksum_offset());
        let length = frame.len() - start;
        let field = start + usize::from(offset);
        frame[field..field + 2].copy_from_slice(&pseudo_sum(self.addresses, self.protocol(), length).to_be_bytes());
        let offload = Offload { needs_csum: true, csum_start: start as u16, csum_offset: offset, ..Offload::default() };
        (offload, frame)
    }

    /// The super-frame that stands for segments of `size` payload bytes.
    pub(crate) fn super_frame(&self, size: u16) -> (Offload, Vec<u8>) {
        let (offload, frame) = self.unfinished();
        let gso = match (self.transport, self.addresses.0) {
            (Transport::Udp(..), _) => Gso::Udp,
            (_, IpAddr::V4(_)) => Gso::Tcp4,
            (_, IpAddr::V6(_)) => Gso::Tcp6,
        };
        let header_len = (frame.len() - self.payload.len()) as u16;
        (Offload { gso, gso_size: size, header_len, ..offload }, frame)
    }

    /// The segments that [`Packet::super_frame`] stands for, as its sender would have sent them.
    pub(crate) fn segments(&self, size: u16) -> Vec<Packet> {
        let count = self.payload.chunks(size.into()).len();
        let segment = |(place, payload): (usize, &[u8])| {
            let transport = match self.transport {
                Transport::Tcp(tcp) => {
                    let ending = if place + 1 < count { FIN | PSH } else { 0 };
                    let sequence = tcp.sequence.wrapping_add((place * usize::from(size)) as u32);
                    Transport::Tcp(Tcp { sequence, flags: tcp.flags & !ending, ..tcp })
                }
                other => other,
            };
            let id = if self.addresses.0.is_ipv4() { self.id.wrapping_add(place as u16) } else { 0 };
            Packet { id, transport, payload: payload.to_vec(), ..self.clone() }
        };
        self.payload.chunks(size.into()).enumerate().map(segment).collect()
    }

    /// The packet one hop later, on the link from `source` to `destination`.
    pub(crate) fn hop(&self, source: Mac, destination: Mac) -> Packet {
        Packet { macs: (source, destination), ttl: self.ttl - 1, ..self.clone() }
    }

    /// Reads a whole frame; every length must be exact and every checksum right, an unfinished one the pseudo-header's.
    pub(crate) fn read(offload: &Offload, frame: &[u8]) -> Packet {
        let sliced = SlicedPacket::from_ethernet(frame).expect("a whole frame");
        let macs = (Mac(frame[6..12].try_into().unwrap()), Mac(frame[..6].try_into().unwrap()));
        let (addresses, ttl, id, dont_fragment, network) = match sliced.net.as_ref().expect("an IP packet") {
            NetSlice::Ipv4(ip) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 header checksum");
                assert_eq!(usize::from(header.total_len) + 14, frame.len(), "IPv4 length");
                let addresses = (ip.header().source_addr().into(), ip.header().destination_addr().into());
                let fragment = header.is_fragmenting_payload().then(|| {
                    let offset = header.fragment_offset.value() * 8;
                    Transport::Fragment(header.protocol.0, offset, header.more_fragments)
                });
                let network = (fragment, header.protocol.0, ip.payload().payload);
                (addresses, header.time_to_live, header.identification, header.dont_fragment, network)
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                assert_eq!(usize::from(header.payload_length()) + 54, frame.len(), "IPv6 length");
                let addresses = (header.source_addr().into(), header.destination_addr().into());
                let network = (None, ip.payload().ip_number.0, ip.payload().payload);
                (addresses, header.hop_limit(), 0, false, network)
            }
            NetSlice::Arp(_) => panic!("ARP, not IP"),
        };
        let (fragment, protocol, after_ip) = network;
        let (transport, payload) = match fragment {
            Some(fragment) => (fragment, after_ip),
            None => read_transport(sliced.transport.as_ref(), addresses, offload, (protocol, after_ip)),
        };
        Packet { macs, addresses, ttl, id, dont_fragment, transport, payload: payload.to_vec() }
    }

    /// Where the transport header starts.
    pub(crate) fn transport_start(&self) -> usize {
        if self.addresses.0.is_ipv4() { 34 } else { 54 }
    }

    fn network(&self) -> IpHeaders {
        match self.addresses {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                let mut ip = Ipv4Header::new(0, self.ttl, IpNumber(0), source, destination).expect("a short packet");
                (ip.identification, ip.dont_fragment) = (self.id, self.dont_fragment);
                if let Transport::Fragment(_, offset, more) = self.transport {
                    ip.fragment_offset = IpFragOffset::try_new(offset / 8).expect("an offset below 64 KiB");
                    ip.more_fragments = more;
                }
                IpHeaders::Ipv4(ip, Default::default())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                let ip = Ipv6Header { hop_limit: self.ttl, source, destination, ..Default::default() };
                IpHeaders::Ipv6(ip, Default::default())
            }
            _ => panic!("addresses of one family"),
        }
    }

    fn protocol(&self) -> u8 {
        match (self.transport, self.addresses.0) {
            (Transport::Udp(..), _) => 17,
            (Transport::Tcp(_), _) => 6,
            (Transport::Icmp(..), IpAddr::V4(_)) => 1,
            (Transport::Icmp(..), IpAddr::V6(_)) => 58,
            (Transport::Raw(protocol) | Transport::Fragment(protocol, ..), _) => protocol,
        }
    }

    fn checksum_offset(&self) -> u16 {
        match self.transport {
            Transport::Udp(..) => 6,
            Transport::Tcp(_) => 16,
            _ => 2,
        }
    }
}

impl Tcp {
    fn header(&self) -> TcpHeader {
        let mut header = TcpHeader::new(self.ports.0, self.ports.1, self.sequence, self.window);
        header.acknowledgment_number = self.acknowledgment;
        let flag = |bit: u8| self.flags & bit != 0;
        (header.fin, header.syn, header.rst, header.psh) = (flag(FIN), flag(2), flag(4), flag(PSH));
        (header.ack, header.urg, header.ece, header.cwr) = (flag(ACK), flag(32), flag(64), flag(128));
        header
    }
}

fn read_transport<'a>(
    transport: Option<&TransportSlice<'a>>,
    addresses: (IpAddr, IpAddr),
    offload: &Offload,
    (protocol, after_ip): (u8, &'a [u8]),
) -> (Transport, &'a [u8]) {
    let (seen, field, complete, payload) = match transport {
        Some(TransportSlice::Udp(udp)) => {
            assert_eq!(usize::from(udp.length()), after_ip.len(), "UDP length");
            let (header, payload) = (udp.to_header(), udp.payload());
            let complete = match addresses {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    header.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload)
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    header.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload)
                }
                _ => unreachable!("one header has addresses of one family"),
            };
            (Transport::Udp(udp.source_port(), udp.destination_port()), udp.checksum(), complete.unwrap(), payload)
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let (header, payload) = (tcp.to_header(), tcp.payload());
            let complete = match addresses {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    header.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload)
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    header.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload)
                }
                _ => unreachable!("one header has addresses of one family"),
            };
            let seen = Tcp {
                ports: (tcp.source_port(), tcp.destination_port()),
                sequence: tcp.sequence_number(),
                acknowledgment: tcp.acknowledgment_number(),
                window: tcp.window_size(),
                flags: after_ip[13],
            };
            (Transport::Tcp(seen), tcp.checksum(), complete.unwrap(), payload)
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let complete = icmp.icmp_type().calc_checksum(icmp.payload());
            let word = u32::from_be_bytes(icmp.bytes5to8());
            (Transport::Icmp(icmp.type_u8(), icmp.code_u8(), word), icmp.checksum(), complete, &after_ip[8..])
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let (IpAddr::V6(from), IpAddr::V6(to)) = addresses else { panic!("ICMPv6 in IPv4") };
            let right = icmp.is_checksum_valid(from.octets(), to.octets());
            let complete = if right { icmp.checksum() } else { !icmp.checksum() };
            let word = u32::from_be_bytes(icmp.bytes5to8());
            (Transport::Icmp(icmp.type_u8(), icmp.code_u8(), word), icmp.checksum(), complete, &after_ip[8..])
        }
        Some(TransportSlice::Igmp(_)) | None => return (Transport::Raw(protocol), after_ip),
    };
    let expected = if offload.needs_csum { pseudo_sum(addresses, protocol, after_ip.len()) } else { complete };
    assert_eq!(field, expected, "transport checksum, unfinished: {}", offload.needs_csum);
    (seen, payload)
}

/// The one's complement sum of the pseudo-header, word by word.
fn pseudo_sum(addresses: (IpAddr, IpAddr), protocol: u8, length: usize) -> u16 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let words = [octets(addresses.0), octets(addresses.1)].concat();
    let mut sum = words.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum::<u32>();
    sum += u32::from(protocol) + (length as u32 & 0xffff) + (length as u32 >> 16);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A broadcast question for `target` from the station `asker`.
pub(crate) fn arp_request(asker: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let arp = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: asker.0.0,
        sender_ipv4: asker.1.octets(),
        target_mac: [0; 6],
        target_ipv4: target.octets(),
    };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(asker.0.0, Mac::BROADCAST.0).arp(arp.into()).write(&mut frame).expect("a vector takes it");
    frame
}

/// A neighbour solicitation for `target`, to its solicited-node group.
pub(crate) fn solicitation(asker: (Mac, Ipv6Addr), target: Ipv6Addr) -> Packet {
    let [.., x, y, z] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z]);
    let option = if asker.1.is_unspecified() { vec![] } else { [&[1, 1][..], &asker.0.0].concat() };
    Packet {
        macs: (asker.0, Mac([0x33, 0x33, 0xff, x, y, z])),
        addresses: (asker.1.into(), group.into()),
        ttl: 255,
        id: 0,
        dont_fragment: false,
        transport: Transport::Icmp(135, 0, 0),
        payload: [&target.octets()[..], &option].concat(),
    }
}

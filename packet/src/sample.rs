//! Frames for tests, written and checked by etherparse and so independent of what is tested.

use etherparse::{Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, PacketHeaders, TcpHeader, UdpHeader};
use proptest::prelude::*;

use crate::checksum::{pseudo_v4, pseudo_v6};
use crate::view::{Family, tcp_flag};
use crate::{ChecksumForm, Cut, FrameRef, Gso, HEADERS_MAX, Offload, TCP_CSUM_OFFSET, UDP_CSUM_OFFSET};

/// A super-frame to be made.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) family: Family,
    /// Flags and options; `None` makes it UDP.
    pub(crate) tcp: Option<(u16, Vec<u8>)>,
    pub(crate) payload: Vec<u8>,
    pub(crate) size: u16,
    pub(crate) dont_fragment: bool,
    pub(crate) id: u16,
    pub(crate) sequence: u32,
    pub(crate) source_port: u16,
}

impl Sample {
    /// A small one, for tests that change a thing or two.
    pub(crate) fn tcp(family: Family) -> Sample {
        Sample {
            family,
            tcp: Some((tcp_flag::ACK, vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])),
            payload: (0..250).collect(),
            size: 100,
            dont_fragment: false,
            id: 0xfffe,
            sequence: 0xffff_ff80,
            source_port: 40_000,
        }
    }

    pub(crate) fn udp(family: Family) -> Sample {
        Sample { tcp: None, ..Sample::tcp(family) }
    }

    pub(crate) fn gso(&self) -> Gso {
        match (&self.tcp, self.family) {
            (None, _) => Gso::Udp,
            (Some(_), Family::V4) => Gso::Tcp4,
            (Some(_), Family::V6) => Gso::Tcp6,
        }
    }

    /// The frame, its checksum unfinished, and its metadata.
    pub(crate) fn build(&self) -> (Vec<u8>, Offload) {
        let ports = (self.source_port, 53);
        let transport = match &self.tcp {
            Some((flags, options)) => {
                let mut tcp = TcpHeader::new(ports.0, ports.1, self.sequence, 1000);
                tcp.acknowledgment_number = 77;
                tcp.set_options_raw(options).unwrap();
                let mut bytes = tcp.to_bytes().to_vec();
                bytes[13] = *flags as u8;
                bytes
            }
            None => {
                let length = 8 + self.payload.len() as u16;
                let udp = UdpHeader { source_port: ports.0, destination_port: ports.1, length, checksum: 0 };
                udp.to_bytes().to_vec()
            }
        };
        let length = (transport.len() + self.payload.len()) as u16;
        let protocol = if self.tcp.is_some() { IpNumber::TCP } else { IpNumber::UDP };
        let (ethertype, network, pseudo) = match self.family {
            Family::V4 => {
                let (from, to) = ([10, 244, 0, 2], [10, 244, 1, 3]);
                let mut ip = Ipv4Header::new(length, 63, protocol, from, to).unwrap();
                (ip.identification, ip.dont_fragment) = (self.id, self.dont_fragment);
                ip.header_checksum = ip.calc_header_checksum();
                (0x0800, ip.to_bytes().to_vec(), pseudo_v4(from.into(), to.into(), protocol.0, length))
            }
            Family::V6 => {
                let (from, to) = ([0xfd; 16], [0xfc; 16]);
                let ip = Ipv6Header {
                    payload_length: length,
                    next_header: protocol,
                    hop_limit: 63,
                    source: from,
                    destination: to,
                    ..Default::default()
                };
                (0x86dd, ip.to_bytes().to_vec(), pseudo_v6(from.into(), to.into(), protocol.0, length.into()))
            }
        };
        let ethernet =
            Ethernet2Header { source: [2; 6], destination: [4; 6], ether_type: etherparse::EtherType(ethertype) };
        let csum_start = 14 + network.len();
        let header_len = csum_start + transport.len();
        let csum_offset = if self.tcp.is_some() { TCP_CSUM_OFFSET } else { UDP_CSUM_OFFSET };
        let mut frame = [&ethernet.to_bytes()[..], &network, &transport, &self.payload].concat();
        let field = csum_start + usize::from(csum_offset);
        frame[field..field + 2].copy_from_slice(&pseudo.fold().to_be_bytes());
        let offload = Offload {
            needs_csum: true,
            gso: self.gso(),
            header_len: header_len as u16,
            gso_size: self.size,
            csum_start: csum_start as u16,
            csum_offset,
            ..Offload::default()
        };
        (frame, offload)
    }

    /// The segments the frame stands for, each in one piece, and the metadata of all of them.
    pub(crate) fn segments(&self, form: ChecksumForm) -> (Vec<Vec<u8>>, Offload) {
        let (frame, offload) = self.build();
        segments(FrameRef { head: &frame, tail: &[] }, &offload, form)
    }
}

/// Super-frames of all kinds, of up to 20 segments.
pub(crate) fn samples() -> impl Strategy<Value = Sample> {
    let tcp =
        (0usize..=10, prop::collection::vec(any::<u8>(), 40), prop::bits::u16::masked(tcp_flag::PSH | tcp_flag::FIN))
            .prop_map(|(words, options, flags)| (tcp_flag::ACK | flags, options[..words * 4].to_vec()));
    let ip = (any::<bool>(), any::<bool>(), any::<u16>());
    let payload = (1u16..200, prop::collection::vec(prop_oneof![Just(0), Just(0xff), any::<u8>()], 1..2000));
    (prop::option::of(tcp), ip, payload, any::<u32>(), any::<u16>()).prop_map(
        |(tcp, ip, payload, sequence, source_port)| {
            let (v6, dont_fragment, id) = ip;
            let (size, mut payload) = payload;
            payload.truncate(usize::from(size) * 20);
            let family = if v6 { Family::V6 } else { Family::V4 };
            Sample { family, tcp, payload, size, dont_fragment, id, sequence, source_port }
        },
    )
}

/// Cuts a super-frame and puts each segment in one piece.
pub(crate) fn segments(frame: FrameRef<'_>, offload: &Offload, form: ChecksumForm) -> (Vec<Vec<u8>>, Offload) {
    let mut cut = Cut::new(frame, offload, form).unwrap();
    let mut block = [0xaa; HEADERS_MAX];
    let mut frames = Vec::new();
    while let Some(part) = cut.next(&mut block) {
        let [head, tail] = cut.payload(&part);
        frames.push([&block[..cut.header_len()], head, tail].concat());
    }
    (frames, cut.offload())
}

/// Asserts that etherparse finds all checksums of a frame right and its lengths true; returns its payload.
pub(crate) fn check(frame: &[u8]) -> Vec<u8> {
    use etherparse::{NetHeaders, TransportHeader};
    let packet = PacketHeaders::from_ethernet_slice(frame).unwrap();
    let payload = packet.payload.slice();
    let (expected, found) = match (packet.net.unwrap(), packet.transport.unwrap()) {
        (NetHeaders::Ipv4(ip, _), transport) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(14 + usize::from(ip.total_len), frame.len());
            match transport {
                TransportHeader::Tcp(tcp) => (tcp.calc_checksum_ipv4(&ip, payload), tcp.checksum),
                TransportHeader::Udp(udp) => (udp.calc_checksum_ipv4(&ip, payload), udp.checksum),
                other => panic!("{other:?}"),
            }
        }
        (NetHeaders::Ipv6(ip, _), transport) => {
            assert_eq!(54 + usize::from(ip.payload_length), frame.len());
            match transport {
                TransportHeader::Tcp(tcp) => (tcp.calc_checksum_ipv6(&ip, payload), tcp.checksum),
                TransportHeader::Udp(udp) => (udp.calc_checksum_ipv6(&ip, payload), udp.checksum),
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(expected.unwrap(), found);
    payload.to_vec()
}

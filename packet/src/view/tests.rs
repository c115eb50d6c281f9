use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::{Mac, checksum};

const SOURCE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const DESTINATION: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn udp4(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(SOURCE, DESTINATION)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(1000, 2000)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

/// An IPv6 frame with the given chain of (next header, extension bytes) before `last`.
fn v6(chain: &[(u8, &[u8])], last: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&DESTINATION[..], &SOURCE, &[0x86, 0xdd], &[0x60; 1], &[0; 39]].concat();
    frame[14 + 6] = chain.first().map_or(last, |first| first.0);
    for (place, (_, bytes)) in chain.iter().enumerate() {
        let start = frame.len();
        frame.extend_from_slice(bytes);
        frame[start] = chain.get(place + 1).map_or(last, |next| next.0);
    }
    frame.extend_from_slice(payload);
    let length = (frame.len() - 54) as u16;
    Ipv6::parse_mut(&mut frame[14..]).unwrap().set_payload_len(length);
    frame
}

#[test]
fn fields_of_an_ipv4_datagram_are_where_etherparse_put_them() {
    let frame = udp4(b"hello");
    let ethernet = Ethernet::parse(&frame).unwrap();
    assert_eq!(ethernet.destination(), Mac(DESTINATION));
    assert_eq!((ethernet.source(), ethernet.ethertype()), (Mac(SOURCE), ethertype::IPV4));
    let ip = Ipv4::parse(&frame[14..]).unwrap();
    assert_eq!((ip.header_len(), ip.total_len(), ip.ttl(), ip.protocol()), (20, 33, 64, protocol::UDP));
    assert_eq!((ip.source(), ip.destination()), (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)));
    assert!(ip.dont_fragment() && !ip.is_fragment());
    assert!(checksum::ipv4_header_is_right(ip.bytes()));
    let udp = Udp::parse(&frame[34..]).unwrap();
    assert_eq!((udp.source_port(), udp.destination_port(), udp.datagram_len()), (1000, 2000, 13));
    assert!(ip.pseudo(protocol::UDP, 13).add_bytes(&frame[34..]).is_right());
    let layout = Layout::parse(&frame).unwrap();
    assert_eq!((layout.transport, layout.end, layout.fragment), (34, frame.len(), Fragment::Whole));
    assert!(layout.is_plain());
}

#[test]
fn setters_keep_the_ipv4_checksum_right() {
    let mut frame = udp4(b"");
    let mut ip = Ipv4::parse_mut(&mut frame[14..]).unwrap();
    ip.decrement_ttl();
    ip.set_id(0xffff);
    ip.set_total_len(40);
    ip.set_tos(0xa5);
    assert_eq!((ip.ttl(), ip.id(), ip.total_len(), ip.protocol()), (63, 0xffff, 40, protocol::UDP));
    assert_eq!((ip.tos(), ip.header_len()), (0xa5, 20));
    assert!(checksum::ipv4_header_is_right(ip.bytes()));
    ip.set_source(Ipv4Addr::new(1, 2, 3, 4));
    ip.set_destination(Ipv4Addr::new(5, 6, 7, 8));
    assert!(!checksum::ipv4_header_is_right(ip.bytes()));
    ip.fill_checksum();
    assert!(checksum::ipv4_header_is_right(ip.bytes()));
}

#[test]
fn a_traffic_class_is_set_between_version_and_flow_label() {
    let mut frame = v6(&[], protocol::UDP, &[0; 8]);
    frame[15..18].copy_from_slice(&[0x5a, 0xbc, 0xde]);
    let mut ip = Ipv6::parse_mut(&mut frame[14..]).unwrap();
    assert_eq!((ip.traffic_class(), ip.flow_label()), (0x05, 0xa_bcde));
    ip.set_traffic_class(0xe3);
    assert_eq!((ip.traffic_class(), ip.flow_label()), (0xe3, 0xa_bcde));
    assert!(Ipv6::parse(&frame[14..]).is_some());
}

#[test]
fn tcp_fields_survive_a_write_and_a_read() {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(SOURCE, DESTINATION)
        .ipv6([1; 16], [2; 16], 9)
        .tcp(5, 6, 7, 8)
        .ack(99)
        .options_raw(&[1, 1, 1, 1])
        .unwrap()
        .write(&mut frame, b"xyz")
        .unwrap();
    let ip = Ipv6::parse(&frame[14..]).unwrap();
    assert_eq!((ip.source(), ip.destination()), (Ipv6Addr::from([1; 16]), Ipv6Addr::from([2; 16])));
    assert_eq!((ip.hop_limit(), ip.payload_len(), ip.next_header()), (9, 27, protocol::TCP));
    assert!(ip.pseudo(protocol::TCP, 27).add_bytes(&frame[54..]).is_right());
    let mut tcp = Tcp::parse_mut(&mut frame[54..]).unwrap();
    assert_eq!((tcp.source_port(), tcp.destination_port(), tcp.sequence()), (5, 6, 7));
    assert_eq!((tcp.acknowledgment(), tcp.window(), tcp.header_len(), tcp.flags()), (99, 8, 24, tcp_flag::ACK));
    tcp.set_flags(tcp_flag::FIN | tcp_flag::CWR);
    tcp.set_sequence(u32::MAX);
    tcp.set_checksum(0x1234);
    assert_eq!((tcp.flags(), tcp.header_len()), (tcp_flag::FIN | tcp_flag::CWR, 24));
    assert_eq!((tcp.sequence(), tcp.checksum()), (u32::MAX, 0x1234));
}

#[test]
fn an_arp_request_becomes_its_reply() {
    let mut bytes = [0xaa; ARP_LEN];
    let (asker, asked) = ((Mac(SOURCE), Ipv4Addr::new(10, 0, 0, 1)), (Mac::ZERO, Ipv4Addr::new(10, 0, 0, 2)));
    Arp::write(&mut bytes).set(arp_operation::REQUEST, asker, asked);
    let mut arp = Arp::parse_mut(&mut bytes).unwrap();
    assert_eq!((arp.operation(), arp.sender_mac(), arp.sender()), (arp_operation::REQUEST, asker.0, asker.1));
    assert_eq!((arp.target_mac(), arp.target()), asked);
    arp.set(arp_operation::REPLY, (Mac::GATEWAY, asked.1), asker);
    let read = etherparse::ArpPacketSlice::from_slice(&bytes).unwrap();
    assert_eq!(read.operation(), etherparse::ArpOperation::REPLY);
    assert_eq!((read.sender_hw_addr(), read.target_protocol_addr()), (&Mac::GATEWAY.0[..], &[10, 0, 0, 1][..]));
    bytes[1] = 6;
    assert!(Arp::parse(&bytes).is_none(), "hardware other than Ethernet");
}

#[test]
fn an_icmp_message_is_written_and_read() {
    let mut bytes = [0; ICMP_LEN];
    let mut icmp = Icmp::parse_mut(&mut bytes).unwrap();
    icmp.set_kind(3, 4);
    icmp.set_rest(1400);
    icmp.set_checksum(7);
    assert_eq!((icmp.kind(), icmp.code(), icmp.checksum(), icmp.rest()), (3, 4, 7, 1400));
    assert_eq!(bytes, [3, 4, 0, 7, 0, 0, 5, 120]);
}

#[test]
fn headers_that_contradict_themselves_do_not_parse() {
    let frame = udp4(b"hello");
    let broken = |at: usize, value: u8| {
        let mut frame = frame.clone();
        frame[at] = value;
        Layout::parse(&frame)
    };
    assert!(broken(14, 0x44).is_none() && broken(14, 0x4f).is_none() && broken(14, 0x65).is_none());
    assert!(broken(17, 19).is_none(), "total length below the header's");
    assert!(broken(13, 0x06).is_none(), "not IP");
    assert!(Layout::parse(&frame[..33]).is_none());
    assert!(Udp::parse(&[0, 1, 0, 2, 0, 7, 0, 0]).is_none());
    assert!(Tcp::parse(&[0; 20]).is_none() && Tcp::parse(&[0x60; 20]).is_none());
}

#[test]
fn extension_headers_are_walked_to_the_transport() {
    let options = [0, 0, 1, 4, 0, 0, 0, 0];
    let long = [&[0, 1, 1, 12][..], &[0; 12]].concat();
    let chain = [(protocol::HOP_BY_HOP, &options[..]), (protocol::DESTINATION_OPTIONS, &long)];
    let layout = Layout::parse(&v6(&chain, protocol::UDP, &[0; 8])).unwrap();
    assert_eq!((layout.protocol, layout.transport, layout.routed), (protocol::UDP, 54 + 8 + 16, false));
    assert!(!layout.is_plain());
    let routing = [0, 2, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(Layout::parse(&v6(&[(protocol::ROUTING, &routing)], protocol::TCP, &[0; 20])).unwrap().routed);
}

#[test]
fn fragments_are_told_apart_in_both_families() {
    for (word, expected) in [(1u16, Fragment::First), (8, Fragment::Later), (9, Fragment::Later), (0, Fragment::Whole)]
    {
        let [b, c] = word.to_be_bytes();
        let header = [0, 0, b, c, 0, 0, 0, 1];
        let frame = v6(&[(protocol::FRAGMENT, &header)], protocol::UDP, &[0; 8]);
        assert_eq!(Layout::parse(&frame).unwrap().fragment, expected);
    }
    for (word, expected) in [(0x2000u16, Fragment::First), (0x2001, Fragment::Later), (0x4000, Fragment::Whole)] {
        let mut frame = udp4(b"hello");
        frame[20..22].copy_from_slice(&word.to_be_bytes());
        assert_eq!(Layout::parse(&frame).unwrap().fragment, expected);
    }
}

#[test]
fn a_fragment_of_a_fragment_does_not_parse() {
    let (first, whole) = ([0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1]);
    let chain = [(protocol::FRAGMENT, &first[..]), (protocol::FRAGMENT, &whole)];
    assert!(Layout::parse(&v6(&chain, protocol::UDP, &[0; 8])).is_none());
}

#[test]
fn a_later_fragment_is_not_walked_into() {
    let header = [0, 0, 0, 8, 0, 0, 0, 1];
    let frame = v6(&[(protocol::FRAGMENT, &header)], protocol::DESTINATION_OPTIONS, &[0xff; 8]);
    let layout = Layout::parse(&frame).unwrap();
    assert_eq!((layout.transport, layout.protocol), (62, protocol::DESTINATION_OPTIONS));
}

#[test]
fn a_chain_that_is_too_long_or_cut_off_does_not_parse() {
    let options = [0, 0, 1, 4, 0, 0, 0, 0];
    let chain = vec![(protocol::DESTINATION_OPTIONS, &options[..]); EXTENSIONS_MAX + 1];
    assert!(Layout::parse(&v6(&chain[1..], protocol::UDP, &[0; 8])).is_some());
    assert!(Layout::parse(&v6(&chain, protocol::UDP, &[0; 8])).is_none());
    let beyond = [0, 1, 1, 4, 0, 0, 0, 0];
    assert!(Layout::parse(&v6(&[(protocol::DESTINATION_OPTIONS, &beyond)], protocol::UDP, &[])).is_none());
    let mut frame = v6(&[(protocol::DESTINATION_OPTIONS, &options)], protocol::UDP, &[0; 8]);
    Ipv6::parse_mut(&mut frame[14..]).unwrap().set_payload_len(7);
    assert!(Layout::parse(&frame).is_none(), "headers behind the packet's end");
}

proptest! {
    #[test]
    fn any_bytes_parse_or_not_but_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..160), kind in 0..3) {
        if bytes.len() > 20 && kind > 0 {
            bytes[12..15].copy_from_slice(if kind == 1 { &[0x08, 0x00, 0x45] } else { &[0x86, 0xdd, 0x60] });
        }
        if let Some(layout) = Layout::parse(&bytes) {
            prop_assert!(layout.transport <= layout.end && layout.transport <= bytes.len());
        }
        let _ = (Arp::parse(&bytes), Tcp::parse(&bytes), Udp::parse(&bytes), Icmp::parse(&bytes));
    }
}

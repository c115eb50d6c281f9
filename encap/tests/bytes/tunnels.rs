//! Every kind of tunnel, from its sender's template to its receiver's reading.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use encap::fuzz::{END_MAC, END_V4, END_V6};
use encap::{Ends, Inner, Outer, ROOM, Stamp, Template, Tunnel, VXLAN_PORT, Vtep};
use packet::view::{ETHERNET_LEN, Ethernet, ethertype};
use packet::{FrameRef, Mac, Reason, Vni};
use proptest::prelude::*;

/// Who sends to our end.
pub(crate) const SENDER_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub(crate) const SENDER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 9);
/// The stations of the last link of the underlay.
pub(crate) const STATIONS: (Mac, Mac) = (Mac([2, 0, 0, 0, 1, 1]), Mac([2, 0, 0, 0, 1, 2]));
/// Of the sender in the VXLAN.
pub(crate) const SENDER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// Pods' MTU.
pub(crate) const END_MAC_BYTES: [u8; 6] = END_MAC.0;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    VxlanV4,
    VxlanV6,
    FlannelUdp,
    Ipip,
}

pub(crate) const KINDS: [Kind; 4] = [Kind::VxlanV4, Kind::VxlanV6, Kind::FlannelUdp, Kind::Ipip];

impl Kind {
    pub(crate) fn template(self) -> Template {
        let v4 = Ends { local: SENDER_V4, remote: END_V4, local_mac: STATIONS.0, remote_mac: STATIONS.1 };
        match self {
            Kind::VxlanV4 => Template::vxlan_v4(&v4, Vni::FLANNEL, VXLAN_PORT),
            Kind::FlannelUdp => Template::flannel_udp(&v4, VXLAN_PORT),
            Kind::Ipip => Template::ipip(&v4),
            Kind::VxlanV6 => {
                let ends = Ends { local: SENDER_V6, remote: END_V6, local_mac: STATIONS.0, remote_mac: STATIONS.1 };
                Template::vxlan_v6(&ends, Vni::FLANNEL, VXLAN_PORT)
            }
        }
    }

    pub(crate) fn is_vxlan(self) -> bool {
        matches!(self, Kind::VxlanV4 | Kind::VxlanV6)
    }

    pub(crate) fn is_udp(self) -> bool {
        self != Kind::Ipip
    }

    /// Where the outer IP header ends in a whole frame.
    pub(crate) fn network_end(self) -> usize {
        ETHERNET_LEN + if self == Kind::VxlanV6 { 40 } else { 20 }
    }

    pub(crate) fn tunnel(self) -> Tunnel {
        if self.is_vxlan() { Tunnel::Vxlan(Vtep::new(Vni::FLANNEL, END_MAC)) } else { Tunnel::Ipv4 }
    }

    /// Reads the outer headers of a whole frame split at `at`.
    pub(crate) fn outer(self, frame: &[u8], at: usize, vouched: bool) -> Result<Outer<'_>, Reason> {
        let packet = &frame[ETHERNET_LEN.min(frame.len())..];
        let (head, tail) = packet.split_at(at.min(packet.len()));
        let packet = FrameRef { head, tail };
        let socket = |address: IpAddr| SocketAddr::new(address, VXLAN_PORT);
        match self {
            Kind::VxlanV4 | Kind::FlannelUdp => Outer::udp(packet, socket(END_V4.into()), vouched),
            Kind::VxlanV6 => Outer::udp(packet, socket(END_V6.into()), vouched),
            Kind::Ipip => Outer::ipip(packet, END_V4),
        }
    }

    /// Reads a whole frame to where its inner one lies in it.
    pub(crate) fn strip(self, frame: &[u8]) -> Result<Inner, Reason> {
        let outer = self.outer(frame, frame.len(), false)?;
        let inner = self.tunnel().strip(outer.payload)?;
        let before = ETHERNET_LEN + outer.start;
        Ok(Inner { at: before + inner.at.start..before + inner.at.end, ..inner })
    }
}

/// Stamps `inner` into a whole frame.
pub(crate) fn stamped(template: &Template, inner: &[u8], stamp: &Stamp) -> Vec<u8> {
    let mut room = [0xaa; ROOM];
    let count = template.stamp(&mut room, &Stamp { length: inner.len(), ..*stamp }).unwrap();
    assert_eq!(count, template.header_len());
    [&room[ROOM - count..], inner].concat()
}

/// A frame of every kind from an ordinary packet, its UDP checksum finished by etherparse.
pub(crate) fn ordinary(kind: Kind) -> Vec<u8> {
    let stamp = Stamp { length: 0, flow_hash: 0x1234_5678, tos: 0, id: 77 };
    finished(stamped(&kind.template(), &inner(kind, false, &[1, 2, 3]), &stamp), kind)
}

/// Has etherparse write the UDP checksum over whatever stands in its field.
pub(crate) fn finished(mut frame: Vec<u8>, kind: Kind) -> Vec<u8> {
    if kind.is_udp() {
        let at = kind.network_end();
        let (udp, payload) = etherparse::UdpHeader::from_slice(&frame[at..]).unwrap();
        let checksum = match etherparse::IpHeaders::from_slice(&frame[ETHERNET_LEN..]).unwrap().0 {
            etherparse::IpHeaders::Ipv4(ip, _) => udp.calc_checksum_ipv4(&ip, payload),
            etherparse::IpHeaders::Ipv6(ip, _) => udp.calc_checksum_ipv6(&ip, payload),
        };
        frame[at + 6..at + 8].copy_from_slice(&checksum.unwrap().to_be_bytes());
    }
    frame
}

/// What a tunnel of this kind carries: a UDP packet of a pod, of IPv6 only in VXLAN.
pub(crate) fn inner(kind: Kind, v6: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let ethernet = etherparse::PacketBuilder::ethernet2(SENDER_MAC.0, END_MAC.0);
    let ip = if v6 && kind.is_vxlan() {
        ethernet.ipv6([0xfd; 16], [0xfc; 16], 63)
    } else {
        ethernet.ipv4([10, 244, 1, 2], [10, 244, 2, 3], 63)
    };
    ip.udp(1000, 53).write(&mut frame, payload).unwrap();
    if !kind.is_vxlan() {
        assert_eq!(Ethernet::parse(&frame).unwrap().ethertype(), ethertype::IPV4);
        frame.drain(..ETHERNET_LEN);
    }
    frame
}

/// Any kind, inner frame and stamp.
pub(crate) fn frames() -> impl Strategy<Value = (Kind, Vec<u8>, Stamp)> {
    let bytes = |length: std::ops::Range<usize>| prop::collection::vec(any::<u8>(), length);
    let payload = prop_oneof![4 => bytes(0..200), 1 => bytes(1300..3000)];
    let kind = prop::sample::select(&KINDS[..]);
    (kind, any::<bool>(), payload, any::<(u32, u8, u16)>()).prop_map(|(kind, v6, payload, (flow_hash, tos, id))| {
        (kind, inner(kind, v6, &payload), Stamp { length: 0, flow_hash, tos, id })
    })
}

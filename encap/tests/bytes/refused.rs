//! Every way to be wrong, under its own name.

use encap::fuzz::END_MAC;
use packet::view::{ETHERNET_LEN, Ipv4};
use packet::{Mac, Reason};

use crate::tunnels::{KINDS, Kind, finished, ordinary};

#[track_caller]
fn refused(kind: Kind, change: impl FnOnce(&mut Vec<u8>)) -> Reason {
    let mut frame = ordinary(kind);
    assert!(kind.strip(&frame).is_ok(), "{kind:?} before the change");
    change(&mut frame);
    kind.strip(&finished(frame, kind)).unwrap_err()
}

/// Changes the outer IPv4 header and sums it again.
fn outer_v4(frame: &mut [u8], at: usize, value: u8) {
    frame[ETHERNET_LEN + at] = value;
    Ipv4::parse_mut(&mut frame[ETHERNET_LEN..]).unwrap().fill_checksum();
}

const VXLAN: [(Kind, usize); 2] = [(Kind::VxlanV4, 42), (Kind::VxlanV6, 62)];

#[test]
fn what_is_wrong_with_a_vxlan_header_has_its_name() {
    for (kind, at) in VXLAN {
        let with = |byte: usize, value: u8| refused(kind, |frame| frame[at + byte] = value);
        assert_eq!(with(0, 0), Reason::NoVni);
        assert_eq!(with(0, 0x88), Reason::GroupPolicy);
        for (byte, value) in [(0, 0x09), (0, 0x0c), (1, 0x40), (2, 1), (3, 1), (7, 1), (7, 0xff)] {
            assert_eq!(with(byte, value), Reason::ReservedBits, "byte {byte}");
        }
        for byte in 4..7 {
            assert_eq!(with(byte, 0x55), Reason::UnknownVni);
        }
    }
}

#[test]
fn another_s_frame_and_our_own_are_refused() {
    for (kind, at) in VXLAN {
        let frame = at + 8;
        let other = refused(kind, |bytes| bytes[frame + 5] ^= 2);
        let own = refused(kind, |bytes| bytes[frame + 6..frame + 12].copy_from_slice(&END_MAC.0));
        assert_eq!((other, own), (Reason::OtherStation, Reason::OwnMac));
        let own_broadcast = refused(kind, |bytes| {
            bytes[frame..frame + 6].copy_from_slice(&Mac::BROADCAST.0);
            bytes[frame + 6..frame + 12].copy_from_slice(&END_MAC.0);
        });
        assert_eq!(own_broadcast, Reason::OwnMac);
    }
}

#[test]
fn an_unknown_source_inside_is_no_reason_of_its_own() {
    let mut frame = ordinary(Kind::VxlanV4);
    frame[56..62].fill(0);
    assert!(Kind::VxlanV4.strip(&finished(frame, Kind::VxlanV4)).is_ok());
}

#[test]
fn udp_checksums_may_miss_over_ipv4_only() {
    for kind in [Kind::VxlanV4, Kind::FlannelUdp, Kind::VxlanV6] {
        let field = kind.network_end() + 6;
        let mut frame = ordinary(kind);
        frame[field..field + 2].fill(0);
        let expected = if kind == Kind::VxlanV6 { Some(Reason::NoOuterChecksum) } else { None };
        assert_eq!(kind.strip(&frame).err(), expected);

        let mut frame = ordinary(kind);
        *frame.last_mut().unwrap() ^= 1;
        assert_eq!(kind.strip(&frame), Err(Reason::BadOuterChecksum));
        assert!(kind.outer(&frame, frame.len(), true).is_ok(), "the port vouches for it");
    }
}

#[test]
fn what_is_not_of_the_tunnel_is_not_taken_for_it() {
    for kind in KINDS {
        let v6 = kind == Kind::VxlanV6;
        let other = refused(kind, |frame| if v6 { frame[53] ^= 1 } else { outer_v4(frame, 19, 99) });
        let protocol = refused(kind, |frame| if v6 { frame[20] = 6 } else { outer_v4(frame, 9, 6) });
        assert_eq!((other, protocol), (Reason::NotTunnel, Reason::NotTunnel), "{kind:?}");
        if kind.is_udp() {
            let port = kind.network_end() + 3;
            assert_eq!(refused(kind, |frame| frame[port] ^= 1), Reason::NotTunnel);
        }
    }
}

#[test]
fn outer_fragments_are_refused() {
    for kind in [Kind::VxlanV4, Kind::FlannelUdp, Kind::Ipip] {
        for (at, value) in [(6, 0x20), (7, 1)] {
            assert_eq!(refused(kind, |frame| outer_v4(frame, at, value)), Reason::OuterFragment);
        }
        let mut whole = ordinary(kind);
        outer_v4(&mut whole, 6, 0x40);
        assert!(kind.strip(&whole).is_ok(), "fragmentation forbidden");
    }
    assert_eq!(refused(Kind::VxlanV6, |frame| frame[20] = 44), Reason::OuterFragment);
}

#[test]
fn outer_headers_that_contradict_themselves_are_refused() {
    for kind in [Kind::VxlanV4, Kind::FlannelUdp, Kind::Ipip] {
        assert_eq!(kind.strip(&changed(kind, 14, 0x35)), Err(Reason::BadIpHeader), "version 3");
        assert_eq!(kind.strip(&changed(kind, 14, 0x44)), Err(Reason::BadIpHeader), "16 bytes");
        assert_eq!(kind.strip(&changed(kind, 16, 0x7f)), Err(Reason::BadIpLength));
        assert_eq!(kind.strip(&changed(kind, 24, 0x7f)), Err(Reason::BadIpChecksum));
    }
    assert_eq!(Kind::VxlanV6.strip(&changed(Kind::VxlanV6, 14, 0x40)), Err(Reason::BadIpHeader));
    assert_eq!(Kind::VxlanV6.strip(&changed(Kind::VxlanV6, 18, 0x7f)), Err(Reason::BadIpLength));
}

#[test]
fn outer_ip_options_are_passed_over_and_summed() {
    let mut frame = ordinary(Kind::VxlanV4);
    frame.splice(34..34, [1, 1, 1, 0]);
    let mut ip = etherparse::Ipv4Header::from_slice(&ordinary(Kind::VxlanV4)[14..]).unwrap().0;
    ip.total_len += 4;
    ip.options = [1, 1, 1, 0].into();
    ip.header_checksum = ip.calc_header_checksum();
    frame[14..38].copy_from_slice(&ip.to_bytes());
    assert_eq!(Kind::VxlanV4.strip(&frame).unwrap().at, 54..frame.len());
    frame[36] = 0x44;
    assert_eq!(Kind::VxlanV4.strip(&frame), Err(Reason::BadIpChecksum));
}

#[test]
fn a_datagram_shorter_than_it_says_is_refused() {
    for kind in [Kind::VxlanV4, Kind::VxlanV6, Kind::FlannelUdp] {
        let length = kind.network_end() + 4;
        let mut frame = ordinary(kind);
        frame[length + 1] += 1;
        assert_eq!(kind.strip(&frame), Err(Reason::Truncated));
        frame[length..length + 2].copy_from_slice(&[0, 7]);
        assert_eq!(kind.strip(&frame), Err(Reason::Truncated));
    }
}

#[test]
fn an_inner_packet_without_ethernet_must_be_ipv4_and_all_there() {
    for kind in [Kind::FlannelUdp, Kind::Ipip] {
        let at = kind.template().header_len();
        assert_eq!(refused(kind, |frame| frame[at] = 0x65), Reason::BadIpHeader, "IPv6");
        assert_eq!(refused(kind, |frame| frame[at] = 0x4f), Reason::BadIpHeader, "a header beyond the datagram");
        assert_eq!(refused(kind, |frame| frame[at + 3] += 1), Reason::BadIpLength);
        assert_eq!(refused(kind, |frame| frame[at + 2..at + 4].copy_from_slice(&[0, 19])), Reason::BadIpHeader);
    }
}

/// Cut anywhere on the way, and, with lengths that say so, cut before it was sent.
#[test]
fn a_frame_cut_anywhere_is_refused() {
    for kind in KINDS {
        let whole = ordinary(kind);
        for length in 0..whole.len() {
            let expected = if length < kind.network_end() { Reason::Truncated } else { Reason::BadIpLength };
            assert_eq!(kind.strip(&whole[..length]), Err(expected), "{kind:?}, {length} bytes");
        }
        for length in 0..whole.len() - kind.network_end() {
            let found = kind.strip(&sent_short(kind, &whole, length));
            let inner = length.saturating_sub(kind.template().header_len() - kind.network_end());
            match kind {
                Kind::VxlanV4 | Kind::VxlanV6 if inner >= ETHERNET_LEN => assert_eq!(found.unwrap().at.len(), inner),
                Kind::FlannelUdp | Kind::Ipip if inner >= 20 => assert_eq!(found, Err(Reason::BadIpLength)),
                _ => assert_eq!(found, Err(Reason::Truncated), "{kind:?}, {length} bytes"),
            }
        }
    }
}

/// The frame with `length` bytes behind the outer IP header, which the outer lengths admit.
fn sent_short(kind: Kind, whole: &[u8], length: usize) -> Vec<u8> {
    let mut frame = whole[..kind.network_end() + length].to_vec();
    if kind == Kind::VxlanV6 {
        frame[18..20].copy_from_slice(&(length as u16).to_be_bytes());
    } else {
        Ipv4::parse_mut(&mut frame[ETHERNET_LEN..]).unwrap().set_total_len(20 + length as u16);
    }
    if kind.is_udp() && length >= 8 {
        let at = kind.network_end() + 4;
        frame[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
        return finished(frame, kind);
    }
    frame
}

fn changed(kind: Kind, at: usize, value: u8) -> Vec<u8> {
    let mut frame = ordinary(kind);
    frame[at] = value;
    frame
}

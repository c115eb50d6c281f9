//! Any bytes at all: whatever comes in by any port, the path does not panic, nothing is lost uncounted, and what goes
//! out is what may go out.

use std::fs;
use std::path::Path;

use packet::view::Family;
use packet::{FRAME_LEN_MAX, Gso, Offload, SMALL_LEN, VNET_HEADER_LEN};
use podswitch::port::Abilities;

use crate::frames::{Packet, Transport, arp_request, solicitation};
use crate::random::Random;
use crate::rig::{ABLE, HOST, PLAIN, Rig, Station, mac, tcp, udp, v4, v6};

/// A switch with pods of every kind.
pub(crate) fn switch() -> Rig {
    let checksum_only = Station { abilities: Abilities { checksum: true, ..PLAIN.abilities }, ..PLAIN };
    Rig::new(&[ABLE, PLAIN, checksum_only, Station { mtu: 576, ..PLAIN }, Station { strict_mac: true, ..ABLE }])
}

/// Sends frames by one port and looks at what comes out. The first byte names the port; then come frames, each a length
/// of two bytes, a virtio header and that many bytes. A frame that says to be 65 535 bytes long is filled up with its
/// last byte.
pub(crate) fn drive(rig: &mut Rig, bytes: &[u8]) {
    let Some((port, mut rest)) = bytes.split_first() else { return };
    let from = u16::from(*port) % rig.world.ports.len() as u16;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let Some((header, after)) = after.split_first_chunk::<VNET_HEADER_LEN>() else { break };
        let length = usize::from(u16::from_le_bytes(*length));
        let (frame, after) = after.split_at(length.min(after.len()));
        let mut frame = frame.to_vec();
        if length == usize::from(u16::MAX) {
            frame.resize(FRAME_LEN_MAX, frame.last().copied().unwrap_or_default());
        }
        if !rig.send_raw(from, header, &frame) {
            break;
        }
        rest = after;
    }
    rig.settle();
    for to in 0..rig.world.ports.len() as u16 {
        look(rig, from, to);
    }
}

/// What left by port `to` is for the station there in a form it takes and, unless the host or the switch said it, from an
/// address of the sender.
fn look(rig: &mut Rig, from: u16, to: u16) {
    let port = rig.world.ports[usize::from(to)].clone().expect("no port leaves");
    rig.drain(to, |offload, frame| {
        assert_eq!((&frame[..6], &frame[6..12]), (&port.mac.0[..], &port.gateway.0[..]));
        assert!(port.abilities.checksum || !offload.needs_csum);
        if !port.abilities.tso4 {
            assert_eq!(offload.gso, Gso::None);
            assert!(frame.len() <= 14 + usize::from(port.mtu), "{} bytes", frame.len());
        }
        if from != HOST && from != to {
            let own = match frame[12..14] {
                [0x08, 0x00] => frame[26..30] == v4(from).octets(),
                [0x86, 0xdd] => frame[22..38] == v6(from).octets(),
                _ => false,
            };
            assert!(own, "a spoofed frame left: {:?}", &frame[..40]);
        }
    });
}

/// Valid frames of every kind the path tells apart, sent by the pod behind port 1.
fn seeds() -> Vec<(Offload, Vec<u8>)> {
    let mut seeds = Vec::new();
    for family in [Family::V4, Family::V6] {
        for to in 1..=5 {
            seeds.push(tcp(family, 1, to, 4000).super_frame(700));
            seeds.push(udp(family, 1, to, 900).super_frame(100));
            seeds.push(tcp(family, 1, to, 100).unfinished());
            for packet in [udp(family, 1, to, 64), tcp(family, 1, to, 300), udp(family, 1, to, 1400)] {
                seeds.push((Offload::default(), packet.frame()));
            }
        }
        let echo = if family == Family::V4 { 8 } else { 128 };
        let ping = Packet { transport: Transport::Icmp(echo, 0, 1), ..udp(family, 1, 2, 40) };
        seeds.push((Offload::default(), ping.frame()));
    }
    seeds.push((
        Offload::default(),
        Packet { transport: Transport::Fragment(17, 8, true), ..udp(Family::V4, 1, 4, 900) }.frame(),
    ));
    seeds.push((Offload::default(), solicitation((mac(1), v6(1)), v6(2)).frame()));
    seeds.push((Offload::default(), arp_request((mac(1), v4(1)), v4(2))));
    seeds
}

/// Changes a few bytes, mostly of headers and to values at an edge, and now and then the length.
fn damage(random: &mut Random, offload: &mut [u8; VNET_HEADER_LEN], frame: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        let at = random.below(frame.len().min(80));
        frame[at] = [0, 1, 0x45, 0x7f, 0x80, 0xff, random.byte(), frame[at] ^ 1 << random.below(8)][random.below(8)];
    }
    if random.once_in(3) {
        let at = random.below(VNET_HEADER_LEN);
        offload[at] = [0, 1, 4, 5, 14, 34, 0xff, random.byte()][random.below(8)];
    }
    if random.once_in(8) {
        let length = [random.below(frame.len()) + 1, frame.len() + 9, SMALL_LEN, SMALL_LEN + 1][random.below(4)];
        frame.resize(length, random.byte());
    }
    mend(random, frame);
}

/// Makes an IPv4 header checksum right again, most of the time: else nothing would pass it.
fn mend(random: &mut Random, frame: &mut [u8]) {
    let header_len = frame.get(14).map_or(0, |first| usize::from(first & 0xf) * 4);
    if frame.len() < 34.max(14 + header_len) || frame[12..14] != [8, 0] || random.once_in(10) {
        return;
    }
    frame[24..26].fill(0);
    let words = frame[14..14 + header_len.max(20)].chunks(2);
    let sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

/// One input for [`drive`].
fn input(random: &mut Random, seeds: &[(Offload, Vec<u8>)]) -> Vec<u8> {
    if random.once_in(8) {
        let length = random.below(300);
        return random.bytes(length);
    }
    let mut bytes = vec![if random.once_in(4) { random.byte() } else { 1 }];
    let seed = random.below(seeds.len());
    for _ in 0..1 + random.below(6) {
        let seed = if random.once_in(2) { seed } else { random.below(seeds.len()) };
        let (mut offload, mut frame) = (seeds[seed].0.bytes(), seeds[seed].1.clone());
        if !random.once_in(4) {
            damage(random, &mut offload, &mut frame);
        }
        let length = if random.once_in(200) { u16::MAX } else { frame.len() as u16 };
        bytes.extend(length.to_le_bytes());
        bytes.extend(offload);
        bytes.extend(frame);
        if length == u16::MAX {
            break;
        }
    }
    bytes
}

/// About a second's worth.
const ROUNDS: usize = 100_000;

#[test]
fn any_bytes_are_carried_or_not_but_never_panic() {
    let (mut rig, mut random, seeds) = (switch(), Random::new(1), seeds());
    for round in 0..ROUNDS {
        match round % 4 {
            0 => rig.trace(None, Some("not port 53 or src net 10.244.0.0/16 and icmp"), false),
            2 => rig.world.trace = None,
            _ => {}
        }
        let bytes = input(&mut random, &seeds);
        drive(&mut rig, &bytes);
        while let Some(record) = rig.traced() {
            assert_eq!(record.left.is_none(), record.settled.is_none(), "{record:?}");
        }
        rig.now += std::time::Duration::from_millis(1);
    }
    let kinds = (0..rig.world.ports.len() as u16).flat_map(|port| rig.dropped(port)).map(|(reason, _)| reason);
    let kinds: std::collections::BTreeSet<_> = kinds.collect();
    assert!(kinds.len() >= 14, "only {kinds:?} were reached");
}

#[test]
fn what_once_was_found_stays_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions/path");
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        drive(&mut switch(), &fs::read(file).unwrap());
    }
}

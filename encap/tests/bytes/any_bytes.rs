//! Runs the fuzz body over random bytes and over stamped frames with a few bytes changed: nothing may panic.

use std::time::{Duration, Instant};

use encap::fuzz;
use packet::view::ETHERNET_LEN;

use crate::tunnels::{KINDS, Kind, ordinary};

/// A small generator with a fixed seed (xorshift64*), so that a failure comes back.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize % bound
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}

/// How the fuzz body is told the kind, of whole packets and of socket payloads.
fn how(kind: Kind) -> [u8; 2] {
    match kind {
        Kind::VxlanV4 => [0, 4],
        Kind::VxlanV6 => [1, 4],
        Kind::FlannelUdp => [2, 5],
        Kind::Ipip => [3, 5],
    }
}

#[test]
fn stripping_any_bytes() {
    let mut random = Random(1);
    let seeds = KINDS.map(|kind| (kind, ordinary(kind)));
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        for (kind, seed) in &seeds {
            let [packet, payload] = how(*kind);
            let vouched = 0x80 * random.below(2) as u8;
            let (how, start) = [(packet | vouched, ETHERNET_LEN), (payload, kind.network_end() + 8)][random.below(2)];
            let mut bytes = seed[start..].to_vec();
            for _ in 0..random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = [0, 0xff, random.below(256) as u8, bytes[at] ^ 1][random.below(4)];
            }
            bytes.truncate(bytes.len() - random.below(2) * random.below(bytes.len()));
            let split = random.below(120) as u8;
            fuzz::strip(&[&[how, split, 0], &bytes[..]].concat());
            let length = random.below(200);
            fuzz::strip(&[&[random.below(6) as u8], &random.bytes(length)[..]].concat());
        }
    }
}

//! Runs the fuzz bodies over random bytes and over valid frames with a few bytes changed: nothing may panic.

use etherparse::PacketBuilder;
use podswitch_packet::{Gso, Offload, fuzz};

/// Rounds of each test: about a second on a slow machine.
const ROUNDS: usize = 100_000;

/// A small generator with a fixed seed (xorshift64*), so that a failure comes back.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next() % bound
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// Changes up to three bytes, mostly in the headers, and now and then cuts the end off.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len().min(100));
            bytes[at] = [0, 0xff, self.next() as u8, bytes[at] ^ 1][self.below(4)];
        }
        if self.below(8) == 0 {
            bytes.truncate(self.below(bytes.len()) + 1);
        }
    }
}

/// A valid frame of one of four flows, the `place`th of its flow, in the form the bodies read.
fn frame(random: &mut Random, place: u32, gso: bool) -> Vec<u8> {
    let payload = random.bytes(20);
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let (v6, tcp) = (random.below(2) == 1, random.below(2) == 1);
    let ip =
        if v6 { ethernet.ipv6([0xfd; 16], [0xfc; 16], 60) } else { ethernet.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 60) };
    let mut frame = Vec::new();
    if tcp {
        ip.tcp(1, 2, place * 20, 1000).ack(5).write(&mut frame, &payload).expect("a vector takes it");
    } else {
        ip.udp(1, 2).write(&mut frame, &payload).expect("a vector takes it");
    }
    let kind = if !tcp {
        Gso::Udp
    } else if v6 {
        Gso::Tcp6
    } else {
        Gso::Tcp4
    };
    let start = if v6 { 54 } else { 34 };
    let offload = Offload {
        gso: if gso { kind } else { Gso::None },
        gso_size: 1 + random.below(9) as u16,
        needs_csum: random.below(3) == 0,
        csum_start: start,
        csum_offset: if tcp { 16 } else { 6 },
        ..Offload::default()
    };
    let at = random.below(120) as u16;
    [&offload.bytes()[..], &at.to_le_bytes(), &frame].concat()
}

#[test]
fn views_of_any_bytes() {
    let mut random = Random(1);
    for round in 0..ROUNDS {
        let length = random.below(200);
        fuzz::views(&random.bytes(length));
        let mut bytes = frame(&mut random, round as u32, false)[14..].to_vec();
        random.damage(&mut bytes);
        fuzz::views(&bytes);
    }
}

#[test]
fn cutting_any_bytes() {
    let mut random = Random(2);
    for round in 0..ROUNDS {
        let length = random.below(200);
        fuzz::cut(&random.bytes(length));
        let mut bytes = frame(&mut random, round as u32, true);
        random.damage(&mut bytes);
        fuzz::cut(&bytes);
    }
}

#[test]
fn joining_any_bytes() {
    let mut random = Random(3);
    for _ in 0..ROUNDS / 10 {
        let mut bytes = Vec::new();
        for place in 0..10 {
            let gso = random.below(10) == 0;
            let mut one = frame(&mut random, place, gso);
            if random.below(4) == 0 {
                random.damage(&mut one);
            }
            bytes.extend_from_slice(&(one.len() as u16).to_le_bytes());
            bytes.extend_from_slice(&one);
        }
        fuzz::join(&bytes);
        let length = random.below(300);
        fuzz::join(&random.bytes(length));
    }
}

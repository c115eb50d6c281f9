//! Any bytes at all: the slow path answers with whole frames or not, and never panics.

use packet::VNET_HEADER_LEN;

use super::*;

/// The first byte says why, the second where from, 12 more are the virtio header; the rest is the frame.
fn drive(slow_path: &mut SlowPath, bytes: &[u8], now: Duration) -> Option<Outcome> {
    let [why, from, rest @ ..] = bytes else { return None };
    let (header, frame) = rest.split_first_chunk::<VNET_HEADER_LEN>()?;
    let why = Punt::ALL[usize::from(*why) % Punt::COUNT];
    let from = if from & 1 == 0 { POD } else { HOST };
    let mut out = Vec::new();
    let punt = Punted { offload: Offload::parse(header).ok()?, ..punted(why, frame, from) };
    let outcome = slow_path.answer(&punt, now, &mut out);
    assert_eq!(out.is_empty(), outcome != Outcome::Answered);
    for answer in &out {
        SlicedPacket::from_ethernet(&answer.frame).expect("an answer is a whole frame");
        let to = if why == Punt::Fragment { NEXT } else { from };
        assert_eq!((answer.port, &answer.frame[..6]), (to.port, &to.mac.0[..]));
    }
    Some(outcome)
}

/// About a second's worth.
const ROUNDS: usize = 400_000;

/// xorshift64: the same bytes in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let (super_frame, offload) = fragments::super_frame(5000, false);
    let link_local: Ipv6Addr = "fe80::5".parse().unwrap();
    let frames = [
        (Punt::Arp, Offload::default(), neighbors::arp(&POD, 1, POD_V4, GATEWAY_V4)),
        (Punt::NeighborDiscovery, Offload::default(), neighbors::solicitation(&POD, link_local, GATEWAY_V6, 255)),
        (Punt::Local, Offload::default(), services::ping(&POD, POD_V4.into(), GATEWAY_V4.into(), 30)),
        (Punt::Local, Offload::default(), services::ping(&POD, POD_V6.into(), GATEWAY_V6.into(), 30)),
        (Punt::TooBig, Offload::default(), udp(&POD, POD_V6.into(), NEXT_V6.into(), 1480)),
        (Punt::Unreachable, Offload::default(), udp(&POD, POD_V4.into(), NEXT_V4.into(), 60)),
        (Punt::TtlExceeded, offload, super_frame.clone()),
        (Punt::Fragment, offload, super_frame),
    ];
    let seed =
        |(why, offload, frame): (Punt, Offload, Vec<u8>)| [&[why as u8, 0], &offload.bytes()[..], &frame].concat();
    frames.into_iter().map(seed).collect()
}

#[test]
fn any_bytes_are_answered_or_not_but_never_panic() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut seen = std::collections::HashSet::new();
    let mut slow_path = slow_path();
    let seeds = seeds();
    let mut now = Duration::ZERO;
    for seed in &seeds {
        assert_eq!(drive(&mut slow_path, seed, now), Some(Outcome::Answered));
    }
    for _ in 0..ROUNDS {
        let mut bytes = match random.below(4) {
            0 => (0..random.below(200)).map(|_| random.below(256) as u8).collect(),
            _ => seeds[random.below(seeds.len())].clone(),
        };
        for _ in 0..random.below(6) {
            let at = random.below(bytes.len().clamp(1, 120));
            match bytes.get_mut(at) {
                Some(byte) => *byte = [0, 1, 4, 0x7f, 0x80, 0xff, random.below(256) as u8][random.below(7)],
                None => bytes.push(0),
            }
        }
        if random.below(4) == 0 {
            bytes.truncate(random.below(bytes.len() + 1));
        }
        now += Duration::from_micros(500);
        seen.extend(drive(&mut slow_path, &bytes, now));
    }
    for outcome in [Outcome::Answered, Outcome::Malformed, Outcome::NotServed, Outcome::NoErrorAbout] {
        assert!(seen.contains(&outcome), "{outcome:?} was never reached");
    }
}

//! A TCP transfer whose content is checked: a fast path that corrupts is slow.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use sha2::{Digest, Sha256};

use super::{Pair, or_nothing_arrived, tcp};
use crate::error::{Error, Result};
use crate::interrupt;

/// Sends `megabytes` MiB of pseudo-random bytes drawn from `seed`; true when both ends hashed the same.
pub fn is_intact(pair: Pair<'_>, megabytes: usize, seed: u64) -> Result<bool> {
    let sockets = tcp::connect(pair, 1)?;
    let (sender, receiver) = sockets.into_iter().next().expect("one connection was asked for");
    thread::scope(|scope| {
        let receiving = scope.spawn(move || pair.pin_receiver().and_then(|()| receive(receiver)));
        let sending = scope.spawn(move || pair.pin_sender().and_then(|()| send(sender, megabytes, seed)));
        let sent = sending.join().expect("a sender does not panic")?;
        let received = receiving.join().expect("a receiver does not panic")?;
        Ok(sent == received)
    })
}

fn send(mut socket: TcpStream, megabytes: usize, seed: u64) -> Result<Hash> {
    let mut hash = Sha256::new();
    let mut random = Random(seed);
    let mut chunk = vec![0; MEGABYTE];
    for _ in 0..megabytes {
        interrupt::check()?;
        random.fill(&mut chunk);
        hash.update(&chunk);
        socket.write_all(&chunk).map_err(or_nothing_arrived("an acknowledgement of TCP data"))?;
    }
    socket.shutdown(Shutdown::Write).map_err(Error::system("end the transfer"))?;
    Ok(hash.finalize().into())
}

fn receive(mut socket: TcpStream) -> Result<Hash> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; MEGABYTE];
    loop {
        interrupt::check()?;
        let length = socket.read(&mut chunk).map_err(or_nothing_arrived("TCP data"))?;
        if length == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(&chunk[..length]);
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): cheap, seeded, and incompressible enough to show any mix-up of frames.
struct Random(u64);

impl Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..word.len()]);
        }
    }
}

type Hash = [u8; 32];
const MEGABYTE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_are_those_of_splitmix64() {
        let mut bytes = [0; 20];
        Random(1_234_567).fill(&mut bytes);
        assert_eq!(bytes[..8], 6_457_827_717_110_365_317_u64.to_le_bytes());
        assert_eq!(bytes[8..16], 3_203_168_211_198_807_973_u64.to_le_bytes());
        assert_eq!(bytes[16..], 9_817_491_932_198_370_423_u64.to_le_bytes()[..4]);
    }
}

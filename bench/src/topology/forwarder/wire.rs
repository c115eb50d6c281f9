//! One direction between two TAPs: frames go on as they come, but for some that are kept until a few later ones have
//! gone.
//!
//! What is kept goes when its time has come, or when nothing more comes: no frame is lost, and none waits without
//! bound. So the order changes under load alone, as it does where packets take several ways.

use std::io;

use tun_tap::Iface;

use super::{read, write};

/// What lies between two TAPs, one way.
pub(super) struct Wire {
    reorder_percent: u8,
    /// The frame on its way; cleared once, not for each.
    frame: Box<[u8; FRAME_MAX]>,
    kept: Option<Kept>,
    random: u64,
}

struct Kept {
    frame: Vec<u8>,
    /// How many more go before it.
    before: u8,
}

impl Wire {
    /// A wire that keeps so many of a hundred frames, chosen by `seed`.
    pub(super) fn new(reorder_percent: u8, seed: u64) -> Self {
        Self { reorder_percent, frame: Box::new([0; FRAME_MAX]), kept: None, random: seed }
    }

    /// Takes a frame from one end to the other, or keeps it.
    ///
    /// # Errors
    /// What read(2) and write(2) say; `WouldBlock` when there is none, and then none is kept any more.
    pub(super) fn carry(&mut self, from: &Iface, to: &Iface) -> io::Result<()> {
        let length = match read(from, &mut self.frame[..]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.kept.take().map_or(Ok(()), |kept| write(to, &kept.frame))?;
                return Err(error);
            }
            length => length?,
        };
        self.pass(length, |frame| write(to, frame))
    }

    /// Hands the first `length` bytes of the frame on its way, and what was kept and is due, to `out`.
    fn pass(&mut self, length: usize, mut out: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.kept.is_none() && self.keeps() {
            self.kept = Some(Kept { frame: self.frame[..length].to_vec(), before: LATER });
            return Ok(());
        }
        out(&self.frame[..length])?;
        let Some(kept) = &mut self.kept else { return Ok(()) };
        kept.before -= 1;
        if kept.before == 0
            && let Some(kept) = self.kept.take()
        {
            out(&kept.frame)?;
        }
        Ok(())
    }

    /// By a linear congruential generator, whose upper bits are the good ones.
    fn keeps(&mut self) -> bool {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % 100 < u64::from(self.reorder_percent)
    }
}

/// The longest that a TAP gives.
const FRAME_MAX: usize = 65_535 + 18;
/// A kept frame goes after so many later ones: more than a TCP sender's three repeated acknowledgements forgive (RFC
/// 5681).
const LATER: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_comes_once_and_some_come_late() {
        let mut wire = Wire::new(10, 1);
        let mut seen = Vec::new();
        for number in 0..1000u16 {
            let out = |frame: &[u8]| {
                seen.push(u16::from_be_bytes([frame[0], frame[1]]));
                Ok(())
            };
            wire.frame[..2].copy_from_slice(&number.to_be_bytes());
            wire.pass(2, out).unwrap();
        }
        seen.extend(wire.kept.map(|kept| u16::from_be_bytes([kept.frame[0], kept.frame[1]])));
        let late = seen.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!((20..200).contains(&late), "{late}");
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_wire_that_keeps_nothing_is_in_order() {
        let mut wire = Wire::new(0, 1);
        let mut seen = 0;
        for number in 0..100u8 {
            let out = |frame: &[u8]| {
                assert_eq!(frame, [seen]);
                seen += 1;
                Ok(())
            };
            wire.frame[0] = number;
            wire.pass(1, out).unwrap();
        }
        assert_eq!(seen, 100);
    }
}

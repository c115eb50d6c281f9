//! Frames handed between a worker and the slow path, in buffers that go round.
//!
//! ```text
//!   Sender ---- full letters ---->  Receiver
//!      ^                               |
//!      +-------- empty letters --------+
//! ```
//!
//! A mailbox has a fixed number of letters; when all are under way the sender is told so and counts a drop. Neither side
//! waits, and after the mailbox is made nobody allocates: the punted frames' way out of a turn must not.

use packet::FRAME_LEN_MAX;
use ring::spsc;

/// A frame with what is said about it.
pub struct Letter<T> {
    /// What is said about it.
    pub about: T,
    /// The frame, at most [`FRAME_LEN_MAX`] bytes.
    pub bytes: Vec<u8>,
}

/// The end that fills letters.
pub struct Sender<T> {
    full: spsc::Producer<Box<Letter<T>>>,
    empty: spsc::Consumer<Box<Letter<T>>>,
    highest: usize,
}

/// The end that reads them.
pub struct Receiver<T> {
    full: spsc::Consumer<Box<Letter<T>>>,
    empty: spsc::Producer<Box<Letter<T>>>,
}

/// A mailbox of `letters` letters, a power of two.
pub fn mailbox<T: Default>(letters: usize) -> (Sender<T>, Receiver<T>) {
    let (full_in, full_out) = spsc::ring(letters);
    let (mut empty_in, empty_out) = spsc::ring(letters);
    for _ in 0..letters {
        let letter = Letter { about: T::default(), bytes: Vec::with_capacity(FRAME_LEN_MAX) };
        let kept = empty_in.push(Box::new(letter));
        debug_assert!(kept.is_ok(), "the ring holds as many letters as there are");
    }
    (Sender { full: full_in, empty: empty_out, highest: 0 }, Receiver { full: full_out, empty: empty_in })
}

impl<T> Sender<T> {
    /// Sends the frame whose slices are `parts`; false when no letter is free or the frame is too long.
    pub fn send(&mut self, about: T, parts: [&[u8]; 2]) -> bool {
        if parts[0].len() + parts[1].len() > FRAME_LEN_MAX {
            return false;
        }
        let Some(mut letter) = self.empty.pop() else { return false };
        self.highest = self.highest.max(self.empty.capacity() - self.empty.len());
        letter.about = about;
        letter.bytes.clear();
        for part in parts {
            letter.bytes.extend_from_slice(part);
        }
        self.full.push(letter).is_ok()
    }
}

impl<T> Sender<T> {
    /// True when every letter has been read and its buffer is back.
    pub fn is_idle(&self) -> bool {
        self.empty.len() == self.empty.capacity()
    }

    /// The most letters that ever were under way at once.
    pub fn highest(&self) -> usize {
        self.highest
    }
}

impl<T> Receiver<T> {
    /// Takes the next letter, shows it to `read` and gives its buffer back.
    pub fn receive<R>(&mut self, read: impl FnOnce(&Letter<T>) -> R) -> Option<R> {
        let letter = self.full.pop()?;
        let result = read(&letter);
        let kept = self.empty.push(letter);
        debug_assert!(kept.is_ok(), "the ring holds as many letters as there are");
        Some(result)
    }

    /// True when nothing waits to be read.
    pub fn is_empty(&self) -> bool {
        self.full.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_arrive_in_order_and_their_buffers_come_back() {
        let (mut sender, mut receiver) = mailbox::<u16>(2);
        for round in 0..10_u16 {
            assert!(sender.send(round, [&[1, 2], &[3]]) && sender.send(round + 1, [&[4], &[]]));
            assert!(!sender.send(9, [&[], &[]]), "both letters are under way");
            assert_eq!(receiver.receive(|letter| (letter.about, letter.bytes.clone())), Some((round, vec![1, 2, 3])));
            assert_eq!(receiver.receive(|letter| (letter.about, letter.bytes.clone())), Some((round + 1, vec![4])));
            assert!(receiver.is_empty());
        }
        assert_eq!(sender.highest(), 2);
    }

    #[test]
    fn a_frame_too_long_is_refused() {
        let (mut sender, receiver) = mailbox::<u16>(2);
        assert!(!sender.send(0, [&vec![0; FRAME_LEN_MAX], &[0]]));
        assert!(receiver.is_empty());
    }
}

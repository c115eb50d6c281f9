//! The gate of a port: where frames to a pod wait that are over its limit.
//!
//! All that wait stand in one queue, whichever worker brought them, and one worker, the **keeper**, lets them through; so frames of
//! a flow keep their order whoever carries them. The keeper itself writes at once while nobody waits and there is credit.
//!
//! ```text
//!   keeper   ---- nobody waits, no debt ------------------------------------> TAP
//!            ---- else ----+                                                   ^
//!   others   --------------+--> [ waiting: copies in buffers that go round ] --+  by the keeper, when there is credit
//!                                  full: dropped, and TCP slows down
//! ```
//!
//! What waits has left the turn and counts as sent, as what waits in the kernel's queues does. Buffers are made with the gate: nothing
//! is allocated later. Nothing is locked; but who puts into a queue or takes out of it while another does may spin until that one, were its
//! CPU taken away, has it back (crossbeam's `ArrayQueue`). Only workers that carry limited pods' frames can meet that.
//!
//! `called` says that the keeper knows of the gate. Whoever leaves a frame raises it *after* that, and the keeper lowers it *before*
//! it looks for the last time; both by an exchange, of which one comes first. Comes the frame's first, the last look finds the
//! frame; comes the keeper's first, the other is told that it was down, and calls.

use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use control::RateLimit;
use crossbeam::queue::ArrayQueue;
use packet::{FRAME_LEN_MAX, Reason, VNET_HEADER_LEN};

use super::bucket::Bucket;
use super::{Keeper, counted};
use crate::port::{Count, Port};

/// The gate of a port's limited direction, towards the pod.
#[derive(Debug)]
pub struct Gate {
    bucket: Bucket,
    port: u16,
    keeper: Keeper,
    waiting: ArrayQueue<Waiting>,
    /// Empty ones, by class.
    buffers: [ArrayQueue<Box<[u8]>>; CLASSES.len()],
    bytes: AtomicUsize,
    bytes_max: usize,
    called: AtomicBool,
}

/// A frame with its virtio header in front.
#[derive(Debug)]
struct Waiting {
    buffer: Box<[u8]>,
    length: usize,
    class: usize,
}

impl Gate {
    /// An empty gate.
    pub fn new(limit: RateLimit, port: u16, keeper: Keeper, now: Instant) -> Gate {
        let bytes_max = (limit.rate.get() / 8 / 1000 * WAITING_MS).clamp(WAITING_MIN, WAITING_MAX) as usize;
        let buffers = CLASSES.map(|length| {
            let empty = ArrayQueue::new(bytes_max / length + 1);
            while empty.push(vec![0; length].into_boxed_slice()).is_ok() {}
            empty
        });
        let frames = buffers.iter().map(ArrayQueue::capacity).sum();
        Gate {
            bucket: Bucket::new(limit, now),
            port,
            keeper,
            waiting: ArrayQueue::new(frames),
            buffers,
            bytes: AtomicUsize::new(0),
            bytes_max,
            called: AtomicBool::new(false),
        }
    }

    /// Has a frame written to its port, now or when its time comes; by any worker.
    ///
    /// # Errors
    /// What the port says, or that as much waits as may.
    #[cold]
    pub fn pass(&self, port: &Port, worker: u16, slices: &[IoSlice<'_>]) -> Result<(), Reason> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        let now = Instant::now();
        if worker == self.keeper.worker() && !self.called.load(Ordering::Acquire) && self.bucket.credit(now).is_ok() {
            self.bucket.charge(payload(length), now);
            return port.put(worker, slices);
        }
        self.hold((slices, length), worker)?;
        let counters = port.counters.of(worker);
        counters.add(Count::Held, 1);
        counters.add(Count::HeldBytes, (length - VNET_HEADER_LEN) as u64);
        Ok(())
    }

    /// Lets through what has its time; by the keeper alone. When to come again, if anything still waits.
    pub fn open(&self, port: &Port) -> Option<Instant> {
        let (now, mut written) = (Instant::now(), 0);
        loop {
            if let Err(until) = self.bucket.credit(now) {
                return Some(until);
            }
            if written >= WRITTEN_MAX {
                return Some(now);
            }
            let Some(Waiting { buffer, length, class }) = self.waiting.pop() else {
                self.called.swap(false, Ordering::AcqRel);
                if self.waiting.is_empty() || self.called.swap(true, Ordering::AcqRel) {
                    return None;
                }
                continue;
            };
            self.bucket.charge(payload(length), now);
            // It has been counted as sent; what the kernel refuses now it would have dropped from a queue of its own.
            let _ = port.put(self.keeper.worker(), &[IoSlice::new(&buffer[..length])]);
            written += length;
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            let _ = self.buffers[class].push(buffer);
        }
    }

    fn hold(&self, (slices, length): (&[IoSlice<'_>], usize), worker: u16) -> Result<(), Reason> {
        if self.bytes.fetch_add(length, Ordering::Relaxed) + length > self.bytes_max {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            return Err(Reason::OverLimit);
        }
        let fitting = (0..CLASSES.len()).filter(|&class| CLASSES[class] >= length);
        let Some((class, mut buffer)) = fitting.into_iter().find_map(|class| Some((class, self.buffers[class].pop()?)))
        else {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            return Err(Reason::OverLimit);
        };
        let mut at = 0;
        for slice in slices {
            buffer[at..at + slice.len()].copy_from_slice(slice);
            at += slice.len();
        }
        let refused = self.waiting.push(Waiting { buffer, length, class });
        debug_assert!(refused.is_ok(), "there is a place for every buffer");
        if !self.called.swap(true, Ordering::AcqRel) {
            self.keeper.call(self.port, worker);
        }
        Ok(())
    }
}

/// What a frame counts whose virtio header is in its length.
fn payload(length: usize) -> usize {
    counted(1, length.saturating_sub(VNET_HEADER_LEN))
}

/// Buffers of three lengths; of each there are as many as what may wait fills.
const CLASSES: [usize; 3] = [2048, 16 * 1024, VNET_HEADER_LEN + FRAME_LEN_MAX];
/// What may wait: what goes in this time, but a few super-frames at least.
const WAITING_MS: u64 = 20;
const WAITING_MIN: u64 = 256 * 1024;
const WAITING_MAX: u64 = 4 * 1024 * 1024;
/// Written by one turn.
const WRITTEN_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests;

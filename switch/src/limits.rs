//! How fast a pod's traffic may be: its limits, one for each direction.
//!
//! ```text
//!   pod ---- TAP ----> | leaving: a bucket. While it is in debt the TAP is not read: frames wait in the pod's own kernel,
//!                      | which holds TCP back, and the bank lets the port rest until its time comes (`crate::bank`)
//!
//!   pod <--- TAP ----- | entering: a bucket with a gate. While it is in debt frames wait at the gate, copied out of the
//!                      | turn, and the gate's keeper, one worker, lets them through when their time comes
//! ```
//!
//! What counts are the bytes of IP packets as the interface has them: a super-frame is its payload and one header, so that TCP has
//! what the limit says. Frames dropped later have counted; those that find no room at the gate have not.
//!
//! A port without limits is asked for them once a read and once a write, and that is all.

mod bucket;
mod gate;
mod keeper;

use std::time::Instant;

use control::{Bandwidth, RateLimit};
use packet::view::ETHERNET_LEN;

pub use self::bucket::Bucket;
pub use self::gate::Gate;
pub use self::keeper::{Calls, Gates, Keeper, Wake};

/// The limits of a port.
#[derive(Default, Debug)]
pub struct Limits {
    /// Of what the pod sends.
    pub leaving: Option<Bucket>,
    /// Of what the pod receives.
    pub entering: Option<Box<Gate>>,
}

impl Limits {
    /// Those of an endpoint whose port has that number; its gate, if it needs one, is `keeper`'s.
    pub fn new(Bandwidth { ingress, egress }: Bandwidth, port: u16, keeper: &Keeper) -> Limits {
        let now = Instant::now();
        Limits {
            leaving: egress.map(|limit| Bucket::new(limit, now)),
            entering: ingress.map(|limit| Box::new(Gate::new(limit, port, keeper.clone(), now))),
        }
    }

    /// What the pod's own kernel should hold for it at most: frames in the queue of its interface, and bytes of one super-frame.
    pub fn queue(limit: RateLimit) -> (u32, u32) {
        let in_time = |milliseconds: u64| limit.rate.get() / 8 / 1000 * milliseconds;
        let frames = (in_time(QUEUE_MS) / FULL_FRAME).clamp(QUEUE_FRAMES_MIN, QUEUE_FRAMES_MAX);
        (frames as u32, in_time(SUPER_FRAME_MS).clamp(SUPER_FRAME_MIN, SUPER_FRAME_MAX) as u32)
    }
}

/// What `frames` of so many bytes count.
#[inline]
pub(crate) fn counted(frames: usize, bytes: usize) -> usize {
    bytes.saturating_sub(frames * ETHERNET_LEN)
}

/// A pod's queue holds full frames for so long.
const QUEUE_MS: u64 = 10;
const FULL_FRAME: u64 = 1500;
/// The kernel's own choice for TAPs is 500 or 1000.
const QUEUE_FRAMES_MIN: u64 = 16;
const QUEUE_FRAMES_MAX: u64 = 1000;
/// One super-frame of a slow pod should not keep its others waiting for longer.
const SUPER_FRAME_MS: u64 = 5;
const SUPER_FRAME_MIN: u64 = 4096;
/// The kernel's own choice.
const SUPER_FRAME_MAX: u64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_pod_has_a_short_queue_of_short_super_frames_and_a_fast_one_the_kernels() {
        let queue = |rate: &str| Limits::queue(RateLimit { rate: rate.parse().unwrap(), burst: None });
        assert_eq!(queue("1k"), (16, 4096));
        assert_eq!(queue("10M"), (16, 6250));
        assert_eq!(queue("100M"), (83, 62_500));
        assert_eq!(queue("10G"), (1000, 65_536));
        assert_eq!(queue("1000T"), (1000, 65_536));
    }
}

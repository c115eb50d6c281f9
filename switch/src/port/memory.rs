//! A wire in memory: two bounded queues of frames, one for each direction; or, for benches, one without end.
//!
//! Frames carry a virtio header like those of a TAP. Buffers go round: whoever takes a frame gives its buffer back, so a
//! turn over memory ports allocates nothing.
//!
//! ```text
//!   Wire (the test's end)                      MemoryPort (the switch's end)
//!        send ---->  [ towards the switch ]  ----> receive
//!     receive <----  [ from the switch    ]  <---- write
//! ```

use std::hint::black_box;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use packet::{FRAME_LEN_MAX, Offload, Slots, VNET_HEADER_LEN};

/// A frame with its virtio header in front.
struct MemoryFrame {
    bytes: Box<[u8]>,
    length: usize,
}

/// The switch's end.
pub struct MemoryPort(Far);

/// What is behind it.
#[repr(u8)]
enum Far {
    Wire(Arc<Queues>),
    /// There is always this frame, and whatever is written is read and forgotten.
    Endless(MemoryFrame),
    /// There is nothing, and whatever is written is forgotten unread.
    Nowhere,
}

/// The other end: a test host, a load generator.
pub struct Wire(Arc<Queues>);

struct Queues {
    towards: ArrayQueue<MemoryFrame>,
    from: ArrayQueue<MemoryFrame>,
    free: ArrayQueue<MemoryFrame>,
}

impl Wire {
    /// A wire on which at most `frames` frames are under way, both directions together.
    pub fn new(frames: usize) -> (MemoryPort, Wire) {
        let queues =
            Queues { towards: ArrayQueue::new(frames), from: ArrayQueue::new(frames), free: ArrayQueue::new(frames) };
        for _ in 0..frames {
            let bytes = vec![0; VNET_HEADER_LEN + FRAME_LEN_MAX].into_boxed_slice();
            let _ = queues.free.push(MemoryFrame { bytes, length: 0 });
        }
        let queues = Arc::new(queues);
        (MemoryPort(Far::Wire(Arc::clone(&queues))), Wire(queues))
    }

    /// Puts a frame on the wire towards the switch, with any virtio header; false when the wire is full or the frame
    /// too long.
    pub fn send(&self, header: &[u8; VNET_HEADER_LEN], frame: &[u8]) -> bool {
        self.0.put(&self.0.towards, &[IoSlice::new(header), IoSlice::new(frame)]).is_ok()
    }

    /// Takes the next frame that the switch wrote: calls `with` on its virtio header and bytes.
    pub fn receive<R>(&self, with: impl FnOnce(Offload, &[u8]) -> R) -> Option<R> {
        let frame = self.0.from.pop()?;
        let (header, bytes) = frame.bytes[..frame.length].split_at(VNET_HEADER_LEN);
        let header = header.try_into().expect("the split is at the header's length");
        let result = with(Offload::parse(header).expect("the switch writes headers it knows"), bytes);
        let _ = self.0.free.push(frame);
        Some(result)
    }
}

impl MemoryPort {
    /// A port with an endless wire: it gives `frame` as often as it is asked, and takes everything.
    pub fn endless(header: &[u8; VNET_HEADER_LEN], frame: &[u8]) -> MemoryPort {
        let bytes = [header, frame].concat().into_boxed_slice();
        MemoryPort(Far::Endless(MemoryFrame { length: bytes.len(), bytes }))
    }

    /// A port that gives nothing and takes everything without a look at it: what is left is what the path costs.
    pub fn nowhere() -> MemoryPort {
        MemoryPort(Far::Nowhere)
    }

    pub(super) fn receive(&self, slots: &mut Slots, head: u32, tail: u32) -> Option<usize> {
        let mut land = |frame: &MemoryFrame| {
            let length = frame.length - VNET_HEADER_LEN;
            slots.landing(tail)[..frame.length].copy_from_slice(&frame.bytes[..frame.length]);
            slots.take_in(head, tail, length);
            length
        };
        match &self.0 {
            Far::Nowhere => None,
            Far::Endless(frame) => Some(land(frame)),
            Far::Wire(queues) => {
                let frame = queues.towards.pop()?;
                let length = land(&frame);
                let _ = queues.free.push(frame);
                Some(length)
            }
        }
    }

    #[inline(always)]
    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        if let Far::Nowhere = self.0 { Ok(()) } else { self.put(slices) }
    }

    #[inline(never)]
    fn put(&self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        match &self.0 {
            Far::Nowhere => Ok(()),
            Far::Endless(_) => {
                // One byte of each cache line, as a copy would fetch it.
                let read = slices.iter().flat_map(|slice| slice.iter().step_by(64)).fold(0, |sum, byte| sum ^ byte);
                black_box(read);
                Ok(())
            }
            Far::Wire(queues) => queues.put(&queues.from, slices),
        }
    }
}

impl Queues {
    fn put(&self, queue: &ArrayQueue<MemoryFrame>, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if length > VNET_HEADER_LEN + FRAME_LEN_MAX {
            return Err(io::Error::from(ErrorKind::InvalidInput));
        }
        let mut frame = self.free.pop().ok_or(ErrorKind::WouldBlock)?;
        let mut at = 0;
        for slice in slices {
            frame.bytes[at..at + slice.len()].copy_from_slice(slice);
            at += slice.len();
        }
        frame.length = length;
        queue.push(frame).map_err(|_| io::Error::from(ErrorKind::WouldBlock))
    }
}

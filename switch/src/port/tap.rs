//! Reading and writing TAP descriptors: one system call per frame, both slot classes filled by one `readv`.

//!
//! The calls are made directly, not by the C library's wrappers: those are cancellation points, whose bookkeeping is
//! several percent of a small frame's cost.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};

use packet::{Offload, Slots, VNET_HEADER_LEN};
use rustix::io::{Errno, readv, write, writev};

/// One frame with its virtio header into the headroom; its length without the header, `None` when there is none.
#[inline]
pub(super) fn receive_vnet(file: &File, slots: &mut Slots, head: u32, tail: u32) -> Option<usize> {
    read(file, slots, (head, tail), VNET_HEADER_LEN)
}

/// One frame without a virtio header; an empty one is written in its place, so that all frames look alike from here on.
#[inline]
pub(super) fn receive_plain(file: &File, slots: &mut Slots, head: u32, tail: u32) -> Option<usize> {
    let length = read(file, slots, (head, tail), 0)?;
    slots.before_mut(head, VNET_HEADER_LEN).copy_from_slice(&Offload::default().bytes());
    Some(length)
}

#[inline]
fn read(file: &File, slots: &mut Slots, (head, tail): (u32, u32), before: usize) -> Option<usize> {
    let (small, big) = slots.receive_areas(head, before, tail);
    let mut areas = [IoSliceMut::new(small), IoSliceMut::new(big)];
    loop {
        match readv(file, &mut areas) {
            Ok(length) if length > before => return Some(length - before),
            Err(Errno::INTR) => {}
            // Nothing there; or the device is down or gone, which its removal from the world will settle.
            Ok(_) | Err(_) => return None,
        }
    }
}

/// Writes one frame. A TAP takes a frame whole or not at all.
#[inline]
pub(super) fn write_frame(file: &File, slices: &[IoSlice<'_>]) -> io::Result<()> {
    loop {
        match if let [one] = slices { write(file, one) } else { writev(file, slices) } {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

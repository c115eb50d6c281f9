//! Reading and writing TAP descriptors: one system call per frame.
//!
//! The calls are made directly, not by the C library's wrappers: those are cancellation points, whose bookkeeping is
//! several percent of a small frame's cost.

use std::fs::File;
use std::io::{self, IoSlice};

use packet::{Offload, Slots, VNET_HEADER_LEN};
use rustix::io::{Errno, read, write, writev};

/// One frame with its virtio header into the headroom; its length without the header, `None` when there is none.
#[inline]
pub(super) fn receive_vnet(file: &File, slots: &mut Slots, head: u32, tail: u32) -> Option<usize> {
    read_frame(file, slots, (head, tail), VNET_HEADER_LEN)
}

/// One frame without a virtio header; an empty one is written in its place, so that all frames look alike from here on.
#[inline]
pub(super) fn receive_plain(file: &File, slots: &mut Slots, head: u32, tail: u32) -> Option<usize> {
    let length = read_frame(file, slots, (head, tail), 0)?;
    slots.before_mut(head, VNET_HEADER_LEN).copy_from_slice(&Offload::default().bytes());
    Some(length)
}

#[inline]
fn read_frame(file: &File, slots: &mut Slots, (head, tail): (u32, u32), before: usize) -> Option<usize> {
    loop {
        match read(file, slots.landing(tail, before)) {
            Ok(length) if length > before => {
                slots.take_in(head, tail, before, length - before);
                return Some(length - before);
            }
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

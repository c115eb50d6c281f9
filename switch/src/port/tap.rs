//! Reading and writing TAP descriptors: one system call per frame.
//!
//! The calls are made directly, not by the C library's wrappers: those are cancellation points, whose bookkeeping is
//! several percent of a small frame's cost.

use std::fs::File;
use std::io::{self, IoSlice};

use packet::{Slots, VNET_HEADER_LEN};
use rustix::io::{Errno, read, write, writev};

/// One frame with its virtio header; its length without the header, `None` when there is none.
#[inline]
pub(super) fn receive(file: &File, slots: &mut Slots, head: u32, tail: u32) -> Option<usize> {
    loop {
        match read(file, slots.landing(tail)) {
            Ok(read) if read > VNET_HEADER_LEN => {
                let length = read - VNET_HEADER_LEN;
                slots.take_in(head, tail, length);
                return Some(length);
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

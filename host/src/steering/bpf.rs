//! Four commands of bpf(2), and the map's memory seen from here.
//!
//! Each command passes the kernel a structure of its own, filled up to the last field used; the kernel takes what it
//! lacks for zero, reads it during the call, and writes nothing but the log.
//!
//! Source: bpf(2), Linux `include/uapi/linux/bpf.h` (`union bpf_attr`).

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;

use libc::{c_int, c_long};

use super::Line;
use super::assembler::Instruction;

/// Makes an array map of one value of so many bytes that can be mapped into memory.
pub(super) fn create_map(value_bytes: usize) -> io::Result<OwnedFd> {
    let attributes = MapCreate {
        map_type: MAP_TYPE_ARRAY,
        key_bytes: mem::size_of_val(&FIRST) as u32,
        value_bytes: u32::try_from(value_bytes).map_err(|_| io::ErrorKind::InvalidInput)?,
        entries_max: 1,
        flags: F_MMAPABLE,
        inner_map: 0,
        numa_node: 0,
        name: *b"podswitch_flows\0",
    };
    // SAFETY: MAP_CREATE reads the structure, which holds no pointer.
    descriptor(unsafe { bpf(MAP_CREATE, &attributes) }?)
}

/// Sets the value of such a map; `value` is as long as the value is.
pub(super) fn set_value(map: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    let attributes = MapElement {
        map: map.as_raw_fd() as u32,
        padding: 0,
        key: (&raw const FIRST).expose_provenance() as u64,
        value: value.as_ptr().expose_provenance() as u64,
        flags: 0,
    };
    // SAFETY: MAP_UPDATE_ELEM reads a key of four bytes, which is static, and a value as long as the map was made with.
    unsafe { bpf(MAP_UPDATE_ELEM, &attributes) }.map(drop)
}

/// Loads a program that is run on frames. The verifier's words about one it refuses are put into `log`, as far as they
/// fit; an empty one asks for none.
pub(super) fn load_program(instructions: &[Instruction], log: &mut [u8]) -> io::Result<OwnedFd> {
    let attributes = ProgramLoad {
        program_type: PROG_TYPE_SOCKET_FILTER,
        count: u32::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
        log_level: u32::from(!log.is_empty()),
        log_bytes: log.len() as u32,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr().expose_provenance() as u64 },
        kernel_version: 0,
        flags: 0,
        name: *b"podswitch_steer\0",
    };
    // SAFETY: PROG_LOAD reads `count` instructions and a license that ends with a zero, and writes at most `log_bytes`
    // to the log, which is borrowed mutably.
    descriptor(unsafe { bpf(PROG_LOAD, &attributes) }?)
}

/// The lines at the start of the map's value, shared with the program.
#[derive(Debug)]
pub(super) struct Lines {
    first: NonNull<Line>,
    count: usize,
}

// SAFETY: a line is atomics alone, and the mapping belongs to no thread.
unsafe impl Send for Lines {}
// SAFETY: as above.
unsafe impl Sync for Lines {}

impl Lines {
    /// Maps the first `count` lines; the value must be so long. The map lives as long as the mapping.
    pub(super) fn map(map: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        let (bytes, access) = (count * mem::size_of::<Line>(), libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours; the kernel refuses one
        // that is longer than the map's value, counted in pages.
        let address = unsafe { libc::mmap(ptr::null_mut(), bytes, access, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        match NonNull::new(address.cast()) {
            Some(first) if address != libc::MAP_FAILED => Ok(Lines { first, count }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(super) fn get(&self) -> &[Line] {
        // SAFETY: the mapping holds `count` lines until drop, page-aligned; any bits are a line, and the program and
        // other threads change them as the atomics they are.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `map`, with its length, and no reference outlives self.
        unsafe { libc::munmap(self.first.as_ptr().cast(), self.count * mem::size_of::<Line>()) };
    }
}

/// # Safety
/// `attributes` is what `command` takes, its pointers and lengths true.
unsafe fn bpf<T>(command: c_int, attributes: &T) -> io::Result<c_long> {
    for _ in 1..ATTEMPTS {
        // SAFETY: the caller's promise.
        match unsafe { bpf_once(command, attributes) } {
            // The verifier gives up when a signal is pending.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
    // SAFETY: the caller's promise.
    unsafe { bpf_once(command, attributes) }
}

/// # Safety
/// As of [`bpf`].
unsafe fn bpf_once<T>(command: c_int, attributes: &T) -> io::Result<c_long> {
    // SAFETY: the kernel reads as many bytes as the structure has; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_ref(attributes), mem::size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn descriptor(number: c_long) -> io::Result<OwnedFd> {
    let number = c_int::try_from(number).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: both commands that end here give a new descriptor, closed on exec, that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries_max: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct MapElement {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// Linux `include/uapi/linux/bpf.h`; libc lacks these.
const MAP_CREATE: c_int = 0;
const MAP_UPDATE_ELEM: c_int = 2;
const PROG_LOAD: c_int = 5;
const MAP_TYPE_ARRAY: u32 = 2;
const F_MMAPABLE: u32 = 1 << 10;
const PROG_TYPE_SOCKET_FILTER: u32 = 1;
/// Signals that come one after another are not waited out.
const ATTEMPTS: usize = 5;
/// The key of an array's first value.
static FIRST: u32 = 0;
/// Asked by the kernel; no function used here is for GPL programs alone.
const LICENSE: &CStr = c"MIT OR Apache-2.0";

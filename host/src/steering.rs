//! Steering: a program in the kernel puts each frame sent into a TAP of several queues into the queue of the sender's
//! CPU, and keeps every flow in order while its senders move between CPUs.
//!
//! The rule: **a flow leaves a queue only when nothing of it is left there**, neither unread nor read and not yet written
//! out. Who empties queues says so by a number of each queue, its *generation*; the program notes for each flow where its
//! last frame went, and at which generation.
//!
//! ```text
//!   worker's turn   begin: g -> g + 1   reads, writes out   end: g + 1 -> g + 2, or back to g when frames are left
//!                   even: nobody reads       odd: somebody does
//!
//!   program         entry (queue q, generation e) of the flow, queue c of this CPU
//!                   generation[q] >= (e + 5) & !1      two turns that began after the entry was written have
//!                                                      emptied q: the frame goes to c
//!                   otherwise                          it goes to q
//!                   entry = (queue taken, its generation)
//!
//!   map             lines | entries | line of each CPU's queue
//!     line, 64 B    stamp: generation 48 bits, queue 16 | sender's CPU 16 | queue 16
//!     entry, 8 B    the stamp of the flow's queue at its last frame; 0 = queue 0, emptied long ago
//! ```
//!
//! A flow is a socket (its cookie), or without one what the headers say: addresses, protocol, and the ports of TCP and
//! UDP; of a fragment no ports. Flows that share an entry are steered as one. That costs nearness, never order.
//!
//! Why order is kept. One thread sends f and later f', both of one flow.
//! * *Alone*, f' finds the entry that f left or wrote, for the scheduler carries what a thread wrote along when it
//!   moves it. If it may move, turns began after f's generation was read and ended with nothing left: f is written out.
//!   The last turn's end is a release store after its writes, and f' enters its queue only if the program saw it.
//! * *With others*, on other CPUs at the same time: each frame takes effect in one compare-and-exchange of the entry, or, if
//!   the entry would stay as it is, in the load of it. So decisions for a flow stand in a row, each made on the entry the
//!   last one left; whoever loses decides again on what it finds, and after some losses does what the last one did. All
//!   frames of the flow not written out yet are in the queue the entry names, and their generations at most its own; f' goes
//!   there too, or none are left. Entry and generation are eight aligned bytes, never torn on a 64-bit machine; that
//!   generation is read after that entry follows from its address being made of the entry's value.
//! * **The gap**: choosing a queue and entering it are two steps, a fraction of a microsecond apart, and a turn that finds
//!   nothing is hardly longer. A frame chosen before a turn may so enter behind it, and stay for as long as the worker
//!   then sleeps. Hence two turns: the first may have missed it, the second began after it had entered. What remains is a
//!   sender that an interrupt or the hypervisor stops there for two whole turns, and that then moves before the next. With
//!   one turn, a moving sender met this once in 200 000 frames beside busy CPUs; with two, not in 30 million.
//! * *A begun turn* may be seen late, which only makes that gap a little longer.
//!
//! This holds where frames reach the queue within the call that sends them, so [`crate::Netlink::set_no_queue`] belongs to it.
//! The kernel's own answers (echo replies, resets) are sent by one socket per CPU, and so are one flow per CPU; what a bridge
//! passes on from another TAP has that TAP's socket, and so is one flow.
//!
//! The program steers until another is attached or the device is gone, also when nobody has the device open. A device
//! taken over gets a new `Steering`, and with it queues that count as empty.
//!
//! When a queue falls idle, two empty turns some time after its last frame let its flows go.
//!
//! Limits: Linux 5.12 (arm64: 5.18), 64 bits, `CAP_BPF`. Memory per device, in whole pages: 8 KiB of entries, 64 bytes for
//! each queue and two for each CPU; a page for the array's head and one for the program. Only the lines are mapped here. With
//! one queue the kernel does not ask the program.
//!
//! Source: Linux `drivers/net/tun.c` (`tun_ebpf_select_queue`), `kernel/bpf/arraymap.c`.

mod assembler;
#[allow(unsafe_code, reason = "bpf(2) and the mapping of a map have no safe form elsewhere")]
mod bpf;
mod program;

use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use crate::{Error, Tap};

/// Steering of one device: the program, and the queues' generations it reads.
#[derive(Debug)]
pub struct Steering {
    program: OwnedFd,
    lines: bpf::Lines,
}

/// What program and workers say to each other about a queue.
#[derive(Debug)]
#[repr(C, align(64))]
struct Line {
    /// Generation and queue, as an entry has them. Written by the queue's owner.
    stamp: AtomicU64,
    /// Written by the program when it changes, so that it does not cost the line's other readers.
    sender_cpu: AtomicU16,
    /// Never changes.
    queue: AtomicU16,
}

impl Steering {
    /// Makes the program and what it reads: frames sent on CPU `c` go to `queue_of_cpu[c]`, those of CPUs beyond to
    /// `c % queues`.
    ///
    /// # Errors
    /// [`Error::Illegal`] for a number of queues outside 1..=256 or a queue that is none of them; [`Error::Call`] without
    /// permission or where the kernel has no bpf(2); [`Error::SteeringProgram`] when the kernel is too old for this one.
    pub fn new(queue_of_cpu: &[u16], queues: u16) -> Result<Self, Error> {
        let layout = Layout::new(queue_of_cpu, queues)?;
        let failed = |call| move |source| Error::call("bpf", call, source);
        let map = bpf::create_map(layout.bytes()).map_err(failed("BPF_MAP_CREATE"))?;
        bpf::set_value(map.as_fd(), &layout.first_value(queue_of_cpu)).map_err(failed("BPF_MAP_UPDATE_ELEM"))?;
        let lines = bpf::Lines::map(map.as_fd(), usize::from(queues));
        let lines = lines.map_err(|source| Error::call("mmap", "the map of the steering program", source))?;
        let instructions = program::program(map.as_fd(), &layout);
        let program = bpf::load_program(&instructions, &mut []).map_err(|source| refused(&instructions, source))?;
        Ok(Steering { program, lines })
    }

    /// Has the program steer `tap`, which has as many queues, instead of the one it may have now.
    ///
    /// # Errors
    /// [`Error::Call`]: EINVAL before Linux 4.16.
    pub fn attach(&self, tap: &Tap) -> Result<(), Error> {
        tap.set_steering_program(Some(self.program.as_fd()))
    }

    /// The owner is about to read this queue. One thread at a time owns a queue, and hands it over by a message that
    /// synchronises.
    pub fn begin(&self, queue: u16) {
        let stamp = &self.line(queue).stamp;
        // Relaxed: one writer. That readers see it late is allowed for, and reads of the queue take the kernel's lock.
        stamp.store(stamp.load(Ordering::Relaxed) | TURN, Ordering::Relaxed);
    }

    /// The owner has written out all it read of this queue since `begin`; `drained` if it read until there was no more.
    pub fn end(&self, queue: u16, drained: bool) {
        let stamp = &self.line(queue).stamp;
        // Relaxed: one writer.
        let begun = stamp.load(Ordering::Relaxed);
        let ended = if drained { begun + (begun & TURN) } else { begun & !TURN };
        // Release: who sees this generation sends after everything this turn wrote.
        stamp.store(ended, Ordering::Release);
    }

    /// The CPU the last frame for this queue was sent on; none before the first.
    pub fn sender_cpu(&self, queue: u16) -> Option<u16> {
        // Relaxed: a hint, nothing is published by it.
        let cpu = self.line(queue).sender_cpu.load(Ordering::Relaxed);
        (cpu != NO_CPU).then_some(cpu)
    }

    fn line(&self, queue: u16) -> &Line {
        &self.lines.get()[usize::from(queue)]
    }
}

/// Where things lie in the map's value.
struct Layout {
    queues: u16,
    /// As many as queues, or more up to a power of two, so that masked numbers are within.
    lines: usize,
    cpus: usize,
}

impl Layout {
    fn new(queue_of_cpu: &[u16], queues: u16) -> Result<Self, Error> {
        let illegal = |what, value: usize, rule| Error::Illegal { what, value: value.to_string(), rule };
        if !(1..=QUEUES_MAX).contains(&queues) {
            return Err(illegal("number of queues", queues.into(), "1 to 256"));
        }
        if let Some(queue) = queue_of_cpu.iter().find(|queue| **queue >= queues) {
            return Err(illegal("queue of a CPU", usize::from(*queue), "less than the number of queues"));
        }
        if queue_of_cpu.len() > CPUS_MAX {
            return Err(illegal("number of CPUs", queue_of_cpu.len(), "at most 65535"));
        }
        let lines = usize::from(queues).next_power_of_two();
        Ok(Layout { queues, lines, cpus: queue_of_cpu.len() })
    }

    /// Offsets of entries and of the CPUs' table; at most 16 and 24 KiB, within reach of an instruction.
    fn entries(&self) -> i16 {
        (self.lines * LINE_BYTES) as i16
    }

    fn cpu_table(&self) -> i16 {
        self.entries() + (ENTRIES * mem::size_of::<u64>()) as i16
    }

    /// The kernel counts values in words of eight bytes.
    fn bytes(&self) -> usize {
        let table = self.cpus * mem::size_of::<u16>();
        self.cpu_table() as usize + table.next_multiple_of(mem::size_of::<u64>())
    }

    /// All entries empty, all queues emptied before.
    fn first_value(&self, queue_of_cpu: &[u16]) -> Vec<u8> {
        let mut value = vec![0; self.bytes()];
        let mut put = |at: usize, bytes: &[u8]| value[at..at + bytes.len()].copy_from_slice(bytes);
        for queue in 0..self.queues {
            let line = usize::from(queue) * LINE_BYTES;
            put(line + STAMP as usize, &(FIRST | u64::from(queue)).to_ne_bytes());
            put(line + SENDER_CPU as usize, &NO_CPU.to_ne_bytes());
            put(line + QUEUE as usize, &queue.to_ne_bytes());
        }
        for (cpu, queue) in queue_of_cpu.iter().enumerate() {
            let line = *queue * LINE_BYTES as u16;
            put(self.cpu_table() as usize + cpu * mem::size_of::<u16>(), &line.to_ne_bytes());
        }
        value
    }
}

/// The verifier's last words about a program it refuses, for which it must be asked again.
fn refused(instructions: &[assembler::Instruction], source: std::io::Error) -> Error {
    let mut log = vec![0; LOG_BYTES];
    let _ = bpf::load_program(instructions, &mut log);
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.trim_end_matches('\0').lines().filter(|line| !line.starts_with("processed ")).collect();
    let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("; ");
    Error::SteeringProgram { explanation: (!last.is_empty()).then_some(last), source }
}

/// Flows told apart; a power of two.
const ENTRIES: usize = 1024;
const LINE_BYTES: usize = mem::size_of::<Line>();
const STAMP: i16 = mem::offset_of!(Line, stamp) as i16;
const SENDER_CPU: i16 = mem::offset_of!(Line, sender_cpu) as i16;
const QUEUE: i16 = mem::offset_of!(Line, queue) as i16;
/// One generation, in a stamp. The lowest bit of the generation is set during a turn.
const TURN: u64 = 1 << 16;
/// A flow noted at generation e has left its queue by generation (e + this) & !1: two whole turns.
const EMPTIED: u64 = 5;
/// The first stamp but for the queue: by it, a flow of generation 0 has left.
const FIRST: u64 = (EMPTIED & !1) * TURN;
const NO_CPU: u16 = u16::MAX;
/// As many as the kernel gives a TAP.
const QUEUES_MAX: u16 = 256;
const CPUS_MAX: usize = 65_535;
const LOG_BYTES: usize = 64 * 1024;
const LOG_LINES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_the_kernel_refuses_comes_with_the_verifiers_words() {
        let mut code = assembler::Assembler::default();
        code.exit();
        let instructions = code.finish();
        let error = refused(&instructions, bpf::load_program(&instructions, &mut []).unwrap_err());
        assert!(error.to_string().ends_with("R0 !read_ok)"), "{error}");
    }

    #[test]
    fn any_number_of_queues_and_cpus_makes_a_program_the_kernel_takes() {
        for queues in [1, 2, 3, 63, 64, 65, 256] {
            for cpus in [0, 1, 2, 255, CPUS_MAX] {
                let steering = Steering::new(&vec![queues - 1; cpus], queues).unwrap();
                steering.begin(queues - 1);
                steering.end(queues - 1, true);
                assert_eq!(steering.sender_cpu(queues - 1), None, "{queues} queues, {cpus} CPUs");
            }
        }
    }
}

//! Steering: a program in the kernel puts each frame sent into a TAP of several queues into the queue of the sender's
//! CPU, and keeps every flow in order while its senders move between CPUs.
//!
//! The rule: **a flow leaves a queue only when nothing of it is left there**, neither on its way into it, nor unread,
//! nor read and not yet written out. Each frame draws a *ticket* of its queue, and a flow remembers its last one; who
//! reads the queue says up to which ticket all have departed.
//!
//! ```text
//!   program       entry (queue q, ticket t) of the flow, queue c of this CPU
//!                   q = c, or departed[q] < t      the frame stays in q
//!                   otherwise                      it goes to c
//!                 entry = (queue taken, steered[queue taken] += 1)
//!
//!   worker        reads; writes out; when nothing was left and as many are gone as were steered: departed = steered
//!
//!   map           lines | entries | line of each CPU's queue
//!     line, 64 B    steered 64 | departed 64 | the owner's 5 x 64 | sender's CPU 16 | queue 16
//!     entry, 8 B    ticket 48 | queue 16
//! ```
//!
//! A flow is a socket (its cookie), or without one what the headers say: addresses, protocol, and the ports of TCP and
//! UDP; of a fragment no ports. Flows that share an entry are steered as one. That costs nearness, never order.
//!
//! Why order is kept. One thread sends f and later f', both of one flow.
//! * *What `departed` says*: frames enter a queue in another order than they drew tickets, when a CPU is stopped
//!   between the two, by the hypervisor for milliseconds. So a count of frames read would pass f's ticket by frames
//!   that overtook it on the way in. When nothing is missing, nothing is on its way: each frame draws its ticket before
//!   it enters, so if as many are gone as have drawn one, it is all of these. `departed` is stored (release) after
//!   everything was written; whoever sees it late only stays longer, for it never falls.
//! * *Alone*, f' finds the entry that f wrote, for the scheduler carries what a thread wrote along when it moves it,
//!   and f has entered its queue, for that happens in the call that sends it. If f' may leave, f has departed; if not,
//!   it enters the same queue behind f.
//! * *With others*, on other CPUs at the same time: decisions for a flow stand in a row, each made on the entry the
//!   last one left, by compare-and-exchange; whoever loses decides again on what it finds, or is content if that is a
//!   later ticket of the same queue, which stands for its own. So all frames of the flow that have not departed are in
//!   the queue the entry names, with its ticket or an earlier one. The additions and exchanges are full barriers.
//!   Whoever loses four times as often as there are CPUs (at least 8 times, at most 64) goes on without.
//! * *Turns* of tickets: there are 2^48, which last for years.
//!
//! **What is lost** behind the choice, mostly because the queue was full, has drawn a ticket and is never read. So
//! while frames are missing from the empty queue, the owner compares its looks for at least 50 ms, longer than a
//! hypervisor takes a CPU away:
//! * whoever had drawn a ticket by the first look has entered and was read by the last, or is lost: up to there all
//!   have departed;
//! * as many as were missing at every look are written off. A frame on its way is missing too, but not for so long. It
//!   would take another one at each look for the owner to write off one too many, which the next empty queue sets
//!   right.
//!
//! Until then, and while a queue goes on losing frames, flows that send more often stay in it. That costs nearness.
//!
//! **What was read without a ticket**, parts of frames the kernel cut behind the program (super-frames of tunnels
//! within a pod) and what was sent before the program was attached, would hide as many frames that are missing. So the
//! owner looks only at an empty queue, where nothing but frames just then on their way can be hidden, and forgets there
//! what it read too much.
//!
//! This holds where frames reach the queue within the call that sends them, so [`crate::Netlink::set_no_queue`] belongs
//! to it. The kernel's own answers (echo replies, resets) are sent by one socket per CPU, and so are one flow per CPU;
//! what a bridge passes on from another TAP has that TAP's socket, and so is one flow.
//!
//! The program steers until another is attached or the device is gone, also when nobody has the device open. A device
//! taken over gets a new `Steering`, and with it queues that count as empty.
//!
//! Limits: Linux 5.12 (arm64: 5.18), 64 bits, `CAP_BPF`. Memory per device, in whole pages: 8 KiB of entries, 64 bytes
//! for each queue and two for each CPU; a page for the array's head and one for the program. Only the lines are mapped
//! here. With one queue the kernel does not ask the program.
//!
//! **Datagrams** from other nodes are steered by the same rule to a group of sockets, each of which is a queue: to the
//! socket of the CPU on which the kernel receives. There a frame is what one call receives, a train of many datagrams
//! mostly; a flow is the address and port that sends. What the network reorders before the kernel receives it stays so.
//!
//! Source: Linux `drivers/net/tun.c` (`tun_ebpf_select_queue`, `tun_net_xmit`), `net/core/sock_reuseport.c`
//! (`run_bpf_filter`), `kernel/bpf/arraymap.c`.

mod assembler;
#[allow(unsafe_code, reason = "bpf(2) and the mapping of a map have no safe form elsewhere")]
mod bpf;
mod program;

use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::{Error, Tap, TunnelSocket};

/// Steering of one device: the program, and the counts that it shares with those who read.
#[derive(Debug)]
pub struct Steering {
    program: OwnedFd,
    lines: bpf::Lines,
    /// From when the lines' times are counted.
    made: Instant,
}

/// What a program steers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Steered {
    /// Frames sent into a TAP, to its queues.
    Frames,
    /// Datagrams received by a group of UDP sockets, to these in the order they were bound. Here a flow is an address
    /// and port that sends, and the sender's CPU the one on which the kernel receives.
    Datagrams,
}

/// What was taken from a queue in one turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Frames read.
    pub frames: u32,
    /// It was read until there was no more.
    pub drained: bool,
}

/// What program and owner know of a queue. The words from `gone` to `since` are the owner's alone, and pass from owner
/// to owner with the queue.
#[derive(Debug)]
#[repr(C, align(64))]
struct Line {
    /// Frames the program has put here, and so the last ticket. Written by the program.
    steered: AtomicU64,
    /// The ticket up to which all frames have departed. Written by the owner, read by the program.
    departed: AtomicU64,
    /// Frames read or written off.
    gone: AtomicU64,
    /// The fewest frames missing at any look since the first that found some; 0 if there was none.
    missing: AtomicU64,
    /// The last ticket as of that first look.
    marked: AtomicU64,
    /// The clock as it was read before that first look, in milliseconds from 1 on.
    looked: AtomicU64,
    /// The clock as it was first read after it; 0 until then.
    since: AtomicU64,
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
    /// [`Error::Illegal`] for a number of queues outside 1..=256 or a queue that is none of them; [`Error::Call`]
    /// without permission or where the kernel has no bpf(2); [`Error::SteeringProgram`] when the kernel is too old for
    /// this one.
    pub fn new(steered: Steered, queue_of_cpu: &[u16], queues: u16) -> Result<Self, Error> {
        let layout = Layout::new(queue_of_cpu, queues)?;
        let failed = |call| move |source| Error::call("bpf", call, source);
        let map = bpf::create_map(layout.bytes()).map_err(failed("BPF_MAP_CREATE"))?;
        bpf::set_value(map.as_fd(), &layout.first_value(queue_of_cpu)).map_err(failed("BPF_MAP_UPDATE_ELEM"))?;
        let lines = bpf::Lines::map(map.as_fd(), usize::from(queues));
        let lines = lines.map_err(|source| Error::call("mmap", "the map of the steering program", source))?;
        let instructions = program::program(map.as_fd(), &layout, steered);
        let program = bpf::load_program(&instructions, &mut []).map_err(|source| refused(&instructions, source))?;
        Ok(Steering { program, lines, made: Instant::now() })
    }

    /// Has the program steer `tap`, which has as many queues, instead of the one it may have now.
    ///
    /// # Errors
    /// [`Error::Call`]: EINVAL before Linux 4.16.
    pub fn attach(&self, tap: &Tap) -> Result<(), Error> {
        tap.set_steering_program(Some(self.program.as_fd()))
    }

    /// Has the program steer the group that `socket` is of, which has as many sockets.
    ///
    /// # Errors
    /// [`Error::Call`]: EINVAL where the socket has no group.
    pub fn attach_to_group(&self, socket: &TunnelSocket) -> Result<(), Error> {
        socket.set_steering_program(self.program.as_fd())
    }

    /// All that the owner took from this queue in a turn has departed: was written out, dropped, or copied. `now` is
    /// its latest reading of the clock, which may be old. One thread at a time owns a queue, and hands it over by a
    /// message that synchronises.
    pub fn departed(&self, queue: u16, taken: Taken, now: Instant) {
        let line = self.line(queue);
        // Relaxed: the owner's own.
        let before = line.gone.load(Ordering::Relaxed);
        let mut gone = before + u64::from(taken.frames);
        if taken.drained {
            gone = line.look(gone, now.saturating_duration_since(self.made));
        }
        // A poll that finds nothing leaves the line to the senders.
        if gone != before {
            line.gone.store(gone, Ordering::Relaxed);
        }
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

impl Line {
    /// Says up to which ticket all have departed, when the queue is empty and so many frames are gone; how many count
    /// as gone from now on.
    fn look(&self, gone: u64, now: Duration) -> u64 {
        // Acquire: whatever was read had drawn its ticket before it entered the queue.
        let steered = self.steered.load(Ordering::Acquire);
        let missing = steered.saturating_sub(gone);
        let lost = self.lost((missing, steered), now);
        let departed = match lost {
            _ if lost == missing => steered,
            0 => return steered - missing,
            _ => self.marked.load(Ordering::Relaxed),
        };
        // Relaxed: one writer.
        if departed != self.departed.load(Ordering::Relaxed) {
            // Release: who sees this sends after everything that was written.
            self.departed.store(departed, Ordering::Release);
        }
        steered - missing + lost
    }

    /// How many of the frames missing are lost: as many as were missing at every look for long enough, counted from the
    /// first reading of the clock behind the first look, as `now` may be much older than this one.
    fn lost(&self, (missing, steered): (u64, u64), now: Duration) -> u64 {
        // Relaxed: the owner's own.
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let store = |word: &AtomicU64, value| word.store(value, Ordering::Relaxed);
        let (fewest, now) = (load(&self.missing), now.as_millis() as u64 + 1);
        if fewest == 0 {
            if missing > 0 {
                store(&self.missing, missing);
                store(&self.marked, steered);
                store(&self.looked, now);
                store(&self.since, 0);
            }
            return 0;
        }
        if load(&self.since) == 0 && now > load(&self.looked) {
            store(&self.since, now);
        }
        let (fewest, since) = (fewest.min(missing), load(&self.since));
        let is_over = since > 0 && now.saturating_sub(since) >= LOST.as_millis() as u64;
        store(&self.missing, if is_over { 0 } else { fewest });
        if is_over { fewest } else { 0 }
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

    /// All entries name queue 0, and nothing was steered yet.
    fn first_value(&self, queue_of_cpu: &[u16]) -> Vec<u8> {
        let mut value = vec![0; self.bytes()];
        let mut put = |at: usize, number: u16| value[at..at + 2].copy_from_slice(&number.to_ne_bytes());
        for queue in 0..self.queues {
            let line = usize::from(queue) * LINE_BYTES;
            put(line + SENDER_CPU as usize, NO_CPU);
            put(line + QUEUE as usize, queue);
        }
        for (cpu, queue) in queue_of_cpu.iter().enumerate() {
            put(self.cpu_table() as usize + cpu * mem::size_of::<u16>(), *queue * LINE_BYTES as u16);
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
const STEERED: i16 = mem::offset_of!(Line, steered) as i16;
const DEPARTED: i16 = mem::offset_of!(Line, departed) as i16;
const SENDER_CPU: i16 = mem::offset_of!(Line, sender_cpu) as i16;
const QUEUE: i16 = mem::offset_of!(Line, queue) as i16;
/// No frame is so long on its way from the choice of its queue into it: a moment, and as long as its CPU is taken away.
const LOST: Duration = Duration::from_millis(50);
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
            for (cpus, steered) in
                [0, 1, 2, 255, CPUS_MAX].into_iter().zip([Steered::Frames, Steered::Datagrams].into_iter().cycle())
            {
                let steering = Steering::new(steered, &vec![queues - 1; cpus], queues).unwrap();
                steering.departed(queues - 1, Taken { frames: 1, drained: true }, Instant::now());
                assert_eq!(steering.sender_cpu(queues - 1), None, "{queues} queues, {cpus} CPUs");
            }
        }
    }
}

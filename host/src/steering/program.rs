//! The program that chooses a queue; the module above says by which rule, and why it keeps order.
//!
//! Registers keep their meaning:
//!
//! ```text
//!   R6  the frame, then the CPU           R8  the map's value, which begins with the lines
//!   R7  the flow, then its entry          R9  the line of the CPU's own queue, then of the chosen one: its offset
//! ```
//!
//! A frame whose socket is known and whose flow is at home takes 35 instructions and two calls. Headers are copied
//! out, for a copy from beyond the frame's end fails, where a load would end the program.

use std::os::fd::BorrowedFd;

use nix::unistd::{SysconfVar, sysconf};

use super::assembler::Operation::{Add, And, Multiply, Remainder, Set, ShiftLeft, ShiftRight, Xor};
use super::assembler::Register::{Frame, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9};
use super::assembler::Test::{AnyBit, AtLeast, Below, Equal, NotEqual};
use super::assembler::Width::{Eight, Four, One, Two};
use super::assembler::{Assembler, Helper, Instruction, Label, Operand, Register};
use super::{DEPARTED, ENTRIES, LINE_BYTES, Layout, QUEUE, SENDER_CPU, STEERED, Steered};

/// The program for a map of this layout.
pub(super) fn program(map: BorrowedFd<'_>, layout: &Layout, steered: Steered) -> Vec<Instruction> {
    let mut code = Assembler::default();
    let [flow, beyond, own, end] = code.labels();
    code.compute(R6, Set, R1);
    match steered {
        Steered::Frames => flow_by_sender(&mut code, flow),
        Steered::Datagrams => flow_by_datagram(&mut code, flow),
    }

    code.place(flow);
    code.map_value(R8, map);
    code.compute(R7, And, ENTRIES as i32 - 1);
    code.compute(R7, ShiftLeft, ENTRY_SHIFT);
    code.compute(R7, Add, R8);
    code.call(Helper::GetSmpProcessorId);
    code.compute(R6, Set, R0);
    code.jump_if(R0, AtLeast, layout.cpus as i32, beyond);
    code.compute(R0, ShiftLeft, CPU_SHIFT);
    code.compute(R0, Add, R8);
    code.load(Two, R9, (R0, layout.cpu_table()));

    code.place(own);
    code.compute(R9, And, (layout.lines as i32 - 1) * LINE_BYTES as i32);
    move_or_stay(&mut code, layout);
    code.load(Two, R1, (R9, SENDER_CPU));
    code.jump_if(R1, Equal, R6, end);
    code.store(Two, (R9, SENDER_CPU), R6);
    code.place(end);
    code.load(Two, R0, (R9, QUEUE));
    code.exit();

    code.place(beyond);
    code.compute(R0, Remainder, i32::from(layout.queues));
    code.compute(R0, ShiftLeft, LINE_SHIFT);
    code.compute(R9, Set, R0);
    code.jump(own);
    code.finish()
}

/// The rule itself: R9 becomes the line of the queue to take, and the entry names that queue and a ticket drawn there.
fn move_or_stay(code: &mut Assembler, layout: &Layout) {
    let [again, stay, exchange, taken] = code.labels();
    let entry = (R7, layout.entries());
    code.compute(R5, Set, attempts());
    code.load(Eight, R0, entry);

    // R0: the entry as it is. R3: the line of its queue, then of the one to take.
    code.place(again);
    code.compute(R3, Set, R0);
    code.compute(R3, And, layout.lines as i32 - 1);
    code.compute(R3, ShiftLeft, LINE_SHIFT);
    code.jump_if(R3, Equal, R9, stay);
    code.compute(R4, Set, R3);
    code.compute(R4, Add, R8);
    code.load(Eight, R2, (R4, DEPARTED));
    code.compute(R1, Set, R0);
    code.compute(R1, ShiftRight, QUEUE_BITS);
    code.jump_if(R2, Below, R1, stay);
    code.compute(R3, Set, R9);

    // R2: the entry as it shall be.
    code.place(stay);
    code.compute(R4, Set, R3);
    code.compute(R4, Add, R8);
    code.compute(R2, Set, 1);
    code.fetch_add((R4, STEERED), R2);
    code.compute(R2, Add, 1);
    code.compute(R2, ShiftLeft, QUEUE_BITS);
    code.load(Two, R1, (R4, QUEUE));
    code.compute(R2, Xor, R1);

    code.place(exchange);
    code.compute(R1, Set, R0);
    code.compare_exchange(entry, R2);
    code.jump_if(R0, Equal, R1, taken);
    code.compute(R5, Add, -1);
    code.jump_if(R5, Equal, 0, taken);
    code.compute(R1, Set, R0);
    code.compute(R1, Xor, R2);
    code.compute(R1, And, (1 << QUEUE_BITS) - 1);
    // The flow has gone to another queue meanwhile.
    code.jump_if(R1, NotEqual, 0, again);
    // A later ticket of the same queue stands for this one too.
    code.jump_if(R0, Below, R2, exchange);

    code.place(taken);
    code.compute(R9, Set, R3);
    code.compute(R9, Add, R8);
}

/// R7: the flow by the socket that sent the frame (R6), else by its headers, as far as they can be read; all that is not
/// IP is one flow.
fn flow_by_sender(code: &mut Assembler, flow: Label) {
    let [v4, v6, ports, load_ports, mixed, other] = code.labels();
    code.call(Helper::GetSocketCookie);
    code.compute(R7, Set, R0);
    code.jump_if(R7, NotEqual, 0, flow);
    code.load(Four, R1, (R6, FRAME_PROTOCOL));
    code.jump_if(R1, Equal, network_order(ETHERTYPE_IPV4), v4);
    code.jump_if(R1, Equal, network_order(ETHERTYPE_IPV6), v6);
    code.jump(other);

    code.place(v4);
    let header = load_header(code, Start::Frame, (ETHERNET_BYTES, 20), other);
    code.load(Four, R7, (Frame, header + 12));
    code.load(Four, R1, (Frame, header + 16));
    mix(code, R1);
    code.load(One, R9, (Frame, header + 9));
    behind_v4(code, header);
    code.compute(R8, Add, ETHERNET_BYTES);
    code.load(Two, R1, (Frame, header + 6));
    // Only the first fragment of a packet has its ports.
    code.jump_if(R1, AnyBit, network_order(MORE_FRAGMENTS | FRAGMENT_OFFSET), mixed);
    code.jump(ports);

    code.place(v6);
    let header = load_header(code, Start::Frame, (ETHERNET_BYTES, 40), other);
    code.load(Eight, R7, (Frame, header + 8));
    for word in [16, 24, 32] {
        code.load(Eight, R1, (Frame, header + word));
        mix(code, R1);
    }
    code.load(One, R9, (Frame, header + 6));
    code.compute(R8, Set, ETHERNET_BYTES + 40);

    code.place(ports);
    code.jump_if(R9, Equal, libc::IPPROTO_TCP, load_ports);
    code.jump_if(R9, NotEqual, libc::IPPROTO_UDP, mixed);
    code.place(load_ports);
    let header = load_header(code, Start::Frame, (R8, 4), mixed);
    code.load(Four, R1, (Frame, header));
    mix(code, R1);

    code.place(mixed);
    mix(code, R9);
    spread(code);
    code.jump(flow);

    code.place(other);
    code.compute(R7, Set, 0);
    code.jump(flow);
}

/// R7: the flow of a datagram (R6) by its sender's address and port. The kernel also asks while it tries to join frames, when
/// what it has is still the whole packet and enters no queue; that gets the first one, and no ticket.
fn flow_by_datagram(code: &mut Assembler, flow: Label) {
    let [v4, v6, ports, other] = code.labels();
    code.load(Four, R1, (R6, FRAME_PROTOCOL));
    code.jump_if(R1, Equal, network_order(ETHERTYPE_IPV4), v4);
    code.jump_if(R1, Equal, network_order(ETHERTYPE_IPV6), v6);
    code.place(other);
    code.compute(R0, Set, 0);
    code.exit();

    code.place(v4);
    let header = load_header(code, Start::Network, (0, 20), other);
    code.load(Four, R7, (Frame, header + 12));
    behind_v4(code, header);
    code.jump(ports);

    code.place(v6);
    let header = load_header(code, Start::Network, (0, 40), other);
    code.load(Eight, R7, (Frame, header + 8));
    code.load(Eight, R1, (Frame, header + 16));
    mix(code, R1);
    code.compute(R8, Set, 40);

    code.place(ports);
    let header = load_header(code, Start::Network, (R8, UDP_BYTES as i16), other);
    code.load(Two, R1, (Frame, header));
    mix(code, R1);
    code.load(One, R1, (Frame, header + 4));
    code.compute(R1, ShiftLeft, 8);
    code.load(One, R2, (Frame, header + 5));
    code.compute(R1, Add, R2);
    // The payload alone has been left when a datagram is about to enter a queue.
    code.load(Four, R2, (R6, FRAME_LEN));
    code.compute(R2, Add, UDP_BYTES);
    code.jump_if(R1, NotEqual, R2, other);
    spread(code);
    code.jump(flow);
}

/// R8: the length of an IPv4 header on the stack.
fn behind_v4(code: &mut Assembler, header: i16) {
    code.load(One, R8, (Frame, header));
    code.compute(R8, And, 0xf);
    code.compute(R8, ShiftLeft, 2);
}

/// Copies a header of the frame (R6) onto the stack and says where it lies there, or jumps.
fn load_header(code: &mut Assembler, start: Start, (at, bytes): (impl Into<Operand>, i16), too_short: Label) -> i16 {
    code.compute(R1, Set, R6);
    code.compute(R2, Set, at);
    code.compute(R3, Set, Frame);
    code.compute(R3, Add, i32::from(-bytes));
    code.compute(R4, Set, i32::from(bytes));
    match start {
        Start::Frame => code.call(Helper::SkbLoadBytes),
        Start::Network => {
            code.compute(R5, Set, NETWORK_START);
            code.call(Helper::SkbLoadBytesRelative);
        }
    }
    code.jump_if(R0, NotEqual, 0, too_short);
    -bytes
}

/// From where a header's place is counted.
enum Start {
    Frame,
    /// The network header.
    Network,
}

/// R7: the entry's number, by the product's highest bits, which depend on all of it.
fn spread(code: &mut Assembler) {
    code.compute(R7, ShiftRight, 64 - ENTRIES.ilog2() as i32);
}

/// Makes all higher bits of R7 depend on a word too.
fn mix(code: &mut Assembler, word: Register) {
    code.compute(R7, Xor, word);
    code.compute(R7, Multiply, MULTIPLIER);
}

/// How often an entry may be found changed by others who steer at the same moment, each of whom changes it once: several
/// times as many as can be. The kernel walks through each attempt when it verifies the program, 64 take it ten milliseconds.
fn attempts() -> i32 {
    let cpus = sysconf(SysconfVar::_NPROCESSORS_CONF).ok().flatten().and_then(|cpus| i32::try_from(cpus).ok());
    cpus.map_or(ATTEMPTS_MAX, |cpus| cpus.saturating_mul(4).clamp(ATTEMPTS_MIN, ATTEMPTS_MAX))
}

/// A number of two bytes as it lies in a header, read by this machine.
fn network_order(number: u16) -> i32 {
    i32::from(number.to_be())
}

/// Bytes of an entry, and of a CPU's place in the table, as powers of two.
const ENTRY_SHIFT: i32 = 3;
const CPU_SHIFT: i32 = 1;
const LINE_SHIFT: i32 = LINE_BYTES.ilog2() as i32;
/// Of an entry, below the ticket.
const QUEUE_BITS: i32 = 16;
const ATTEMPTS_MIN: i32 = 8;
const ATTEMPTS_MAX: i32 = 64;
/// `len` and `protocol` in Linux `struct __sk_buff`.
const FRAME_LEN: i16 = 0;
const FRAME_PROTOCOL: i16 = 16;
/// `BPF_HDR_START_NET`
const NETWORK_START: i32 = 1;
const UDP_BYTES: i32 = 8;
const ETHERNET_BYTES: i32 = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// 2^32 divided by the golden ratio, odd; its sign fills the high half.
const MULTIPLIER: i32 = 0x9e37_79b1_u32.cast_signed();

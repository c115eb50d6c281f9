//! An assembler for the few eBPF instructions the steering program is made of.
//!
//! Each method appends one instruction; a jump names a [`Label`], whose distance is filled in by
//! [`Assembler::finish`]. What an instruction may do is checked by the kernel's verifier, not here.
//!
//! ```text
//!   bits   8      4        4         16        32
//!        code | source | target | offset | immediate       the nibbles swap places on a big-endian machine
//! ```
//!
//! Source: RFC 9669 (the instruction set), Linux `include/uapi/linux/bpf.h`.

use std::array;
use std::os::fd::{AsRawFd, BorrowedFd};

/// One instruction as the kernel reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// R0 holds results, R1 to R5 arguments, which a call destroys; R6 to R9 survive calls; R10 ends the stack frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "registers have no other names")]
pub(super) enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    Frame,
}

/// What an operation or a test takes beside its register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operand {
    Register(Register),
    /// Extended to 64 bits with its sign.
    Value(i32),
}

/// Operations of 64 bits: `register = register OPERATION operand`.
#[derive(Clone, Copy)]
pub(super) enum Operation {
    Set = 0xb0,
    Add = 0x00,
    Multiply = 0x20,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Remainder = 0x90,
    Xor = 0xa0,
}

/// Unsigned tests of 64 bits.
#[derive(Clone, Copy)]
pub(super) enum Test {
    Equal = 0x10,
    NotEqual = 0x50,
    AtLeast = 0x30,
    Below = 0xa0,
    /// Some bit of the operand is set.
    AnyBit = 0x40,
}

/// Bytes moved between a register and memory; a load fills the rest of the register with zeroes.
#[derive(Clone, Copy)]
pub(super) enum Width {
    One = 0x10,
    Two = 0x08,
    Four = 0x00,
    Eight = 0x18,
}

/// Functions of the kernel, numbered as in `enum bpf_func_id`.
#[derive(Clone, Copy)]
pub(super) enum Helper {
    GetSmpProcessorId = 8,
    SkbLoadBytes = 26,
    GetSocketCookie = 46,
    SkbLoadBytesRelative = 68,
}

/// A place in the program to jump to.
#[derive(Clone, Copy)]
pub(super) struct Label(usize);

/// A program that is being written.
#[derive(Default)]
pub(super) struct Assembler {
    instructions: Vec<Instruction>,
    /// By label, the index it stands at.
    places: Vec<Option<usize>>,
    /// Indices of jumps, and where they lead.
    jumps: Vec<(usize, Label)>,
}

impl From<Register> for Operand {
    fn from(register: Register) -> Self {
        Operand::Register(register)
    }
}

impl From<i32> for Operand {
    fn from(value: i32) -> Self {
        Operand::Value(value)
    }
}

impl Assembler {
    /// Labels of places that [`Self::place`] is yet to say.
    pub(super) fn labels<const N: usize>(&mut self) -> [Label; N] {
        let first = self.places.len();
        self.places.resize(first + N, None);
        array::from_fn(|index| Label(first + index))
    }

    /// The next instruction is where jumps to `label` lead.
    pub(super) fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.instructions.len());
    }

    pub(super) fn compute(&mut self, to: Register, operation: Operation, operand: impl Into<Operand>) {
        self.with_operand(CLASS_ALU64 | operation as u8, to, operand.into());
    }

    /// `to = *(from + offset)`
    pub(super) fn load(&mut self, width: Width, to: Register, (from, offset): (Register, i16)) {
        self.push(CLASS_LDX | MODE_MEMORY | width as u8, (to, from), offset, 0);
    }

    /// `*(to + offset) = from`
    pub(super) fn store(&mut self, width: Width, (to, offset): (Register, i16), from: Register) {
        self.push(CLASS_STX | MODE_MEMORY | width as u8, (to, from), offset, 0);
    }

    /// Stores `from` at `to + offset` if R0 is what stands there, and sets R0 to what stood there: eight bytes, and a
    /// barrier for all memory.
    pub(super) fn compare_exchange(&mut self, (to, offset): (Register, i16), from: Register) {
        self.push(CLASS_STX | MODE_ATOMIC | Width::Eight as u8, (to, from), offset, COMPARE_EXCHANGE);
    }

    /// Adds `from` to what stands at `to + offset`, and sets `from` to what stood there: eight bytes, and a barrier for all
    /// memory.
    pub(super) fn fetch_add(&mut self, (to, offset): (Register, i16), from: Register) {
        self.push(CLASS_STX | MODE_ATOMIC | Width::Eight as u8, (to, from), offset, FETCH_ADD);
    }

    /// `to` points at the first byte of the value of an array map of one value.
    pub(super) fn map_value(&mut self, to: Register, map: BorrowedFd<'_>) {
        let wide = CLASS_LD | MODE_IMMEDIATE | Width::Eight as u8;
        let registers = registers(to as u8, PSEUDO_MAP_VALUE);
        self.instructions.push(Instruction { code: wide, registers, offset: 0, immediate: map.as_raw_fd() });
        // The second half holds the offset within the value.
        self.instructions.push(Instruction::default());
    }

    pub(super) fn call(&mut self, helper: Helper) {
        self.push(CLASS_JMP | OPERATION_CALL, (Register::R0, Register::R0), 0, helper as i32);
    }

    pub(super) fn jump(&mut self, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.push(CLASS_JMP, (Register::R0, Register::R0), 0, 0);
    }

    pub(super) fn jump_if(&mut self, register: Register, test: Test, operand: impl Into<Operand>, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.with_operand(CLASS_JMP | test as u8, register, operand.into());
    }

    /// Ends the program with what R0 holds.
    pub(super) fn exit(&mut self) {
        self.push(CLASS_JMP | OPERATION_EXIT, (Register::R0, Register::R0), 0, 0);
    }

    /// The program with every jump resolved.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        for (index, label) in self.jumps {
            let place = self.places[label.0].expect("a label that is jumped to was placed") as isize;
            let distance = place - (index as isize + 1);
            self.instructions[index].offset = i16::try_from(distance).expect("the program is short");
        }
        self.instructions
    }

    fn with_operand(&mut self, code: u8, register: Register, operand: Operand) {
        match operand {
            Operand::Register(source) => self.push(code | SOURCE_REGISTER, (register, source), 0, 0),
            Operand::Value(value) => self.push(code, (register, Register::R0), 0, value),
        }
    }

    fn push(&mut self, code: u8, (target, source): (Register, Register), offset: i16, immediate: i32) {
        let registers = registers(target as u8, source as u8);
        self.instructions.push(Instruction { code, registers, offset, immediate });
    }
}

fn registers(target: u8, source: u8) -> u8 {
    let (low, high) = if cfg!(target_endian = "big") { (source, target) } else { (target, source) };
    low | high << 4
}

/// Classes, modes and flags of the code byte; RFC 9669, sections 3 to 5.
const CLASS_LD: u8 = 0x00;
const CLASS_LDX: u8 = 0x01;
const CLASS_STX: u8 = 0x03;
const CLASS_JMP: u8 = 0x05;
const CLASS_ALU64: u8 = 0x07;
const MODE_IMMEDIATE: u8 = 0x00;
const MODE_MEMORY: u8 = 0x60;
const MODE_ATOMIC: u8 = 0xc0;
const SOURCE_REGISTER: u8 = 0x08;
const OPERATION_CALL: u8 = 0x80;
const OPERATION_EXIT: u8 = 0x90;
/// Source nibble of a 64-bit immediate that is the address of a map's value.
const PSEUDO_MAP_VALUE: u8 = 2;
/// Immediates of the atomic operations.
const COMPARE_EXCHANGE: i32 = 0xf1;
const FETCH_ADD: i32 = 0x01;

#[cfg(test)]
mod tests {
    use super::Register::{R0, R1, R7};
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn instructions_are_encoded_as_rfc_9669_says() {
        let mut code = Assembler::default();
        code.compute(R7, Operation::Set, R0);
        code.compute(R7, Operation::And, -2);
        code.load(Width::Two, R1, (R7, 8));
        code.compare_exchange((R7, 16), R1);
        code.fetch_add((R7, 24), R1);
        code.call(Helper::GetSocketCookie);
        code.exit();
        let bytes = |instruction: &Instruction| {
            let Instruction { code, registers, offset, immediate } = *instruction;
            (code, registers, offset, immediate)
        };
        let expected = [
            (0xbf, 0x07, 0, 0),
            (0x57, 0x07, 0, -2),
            (0x69, 0x71, 8, 0),
            (0xdb, 0x17, 16, 0xf1),
            (0xdb, 0x17, 24, 0x01),
            (0x85, 0, 0, 46),
            (0x95, 0, 0, 0),
        ];
        assert_eq!(code.finish().iter().map(bytes).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn jumps_lead_forward_and_back_counted_from_the_next_instruction() {
        let mut code = Assembler::default();
        let [back, forth] = code.labels();
        code.place(back);
        code.jump_if(R0, Test::Equal, 0, forth);
        code.jump(back);
        code.place(forth);
        code.exit();
        let offsets: Vec<_> = code.finish().iter().map(|instruction| instruction.offset).collect();
        assert_eq!(offsets, [1, -2, 0]);
    }
}

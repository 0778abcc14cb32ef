//! XDP programs of a few instructions, in the kernel's format (RFC 9669).

use std::os::fd::RawFd;

// Registers: R0 is the result of helpers and of the program, R1 to R5 are arguments, R10 is the stack.
pub(super) const R0: u8 = 0;
pub(super) const R1: u8 = 1;
pub(super) const R2: u8 = 2;
pub(super) const R3: u8 = 3;
pub(super) const R4: u8 = 4;
pub(super) const R5: u8 = 5;
pub(super) const R7: u8 = 7;
pub(super) const R8: u8 = 8;
pub(super) const R10: u8 = 10;

// Opcodes. `_IMM` have a constant operand, the others a register.
pub(super) const ADD_IMM: u8 = 0x07;
pub(super) const ADD: u8 = 0x0f;
pub(super) const SUB: u8 = 0x1f;
pub(super) const MUL: u8 = 0x2f;
pub(super) const OR: u8 = 0x4f;
pub(super) const AND_IMM: u8 = 0x57;
pub(super) const LSH_IMM: u8 = 0x67;
pub(super) const RSH_IMM: u8 = 0x77;
pub(super) const XOR_IMM: u8 = 0xa7;
pub(super) const XOR: u8 = 0xaf;
pub(super) const MOV_IMM: u8 = 0xb7;
pub(super) const MOV: u8 = 0xbf;
pub(super) const TO_BE: u8 = 0xdc;
pub(super) const ALU32_MUL_IMM: u8 = 0x24;
pub(super) const ALU32_OR_IMM: u8 = 0x44;
pub(super) const ALU32_AND_IMM: u8 = 0x54;
pub(super) const ALU32_RSH_IMM: u8 = 0x74;
pub(super) const ALU32_XOR: u8 = 0xac;
pub(super) const ALU32_MOV: u8 = 0xbc;
pub(super) const LOAD_16: u8 = 0x69;
pub(super) const LOAD_32: u8 = 0x61;
pub(super) const LOAD_64: u8 = 0x79;
pub(super) const STORE_16: u8 = 0x6b;
pub(super) const STORE_32: u8 = 0x63;
pub(super) const STORE_64: u8 = 0x7b;
const LOAD_WIDE: u8 = 0x18;
const JUMP_EQUAL_IMM: u8 = 0x15;
const JUMP_NOT_EQUAL_IMM: u8 = 0x55;
const JUMP_GREATER: u8 = 0x2d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// As the source register of [`LOAD_WIDE`]: a map.
const MAP: u8 = 1;
/// The same for the address of a map's first value.
const MAP_VALUE: u8 = 2;

pub(super) const XDP_DROP: u32 = 1;
pub(super) const XDP_PASS: u32 = 2;

/// A program under construction.
pub(super) struct Code {
    instructions: Vec<u64>,
    /// The positions of jumps to the final drop.
    guards: Vec<usize>,
}

impl Code {
    /// Begins a program for frames of at least `length` bytes; R2 is the frame.
    pub(super) fn new(length: usize) -> Self {
        let mut code = Self { instructions: Vec::new(), guards: Vec::new() };
        code.load(LOAD_32, R2, R1, 0);
        code.load(LOAD_32, R3, R1, 4);
        code.op(MOV, R4, R2, 0);
        code.op(ADD_IMM, R4, 0, u32::try_from(length).unwrap_or(u32::MAX));
        code.guards.push(code.instructions.len());
        code.write(JUMP_GREATER, R4, R3, 0, 0);
        code
    }

    /// Drops the frame if R0 is 0.
    pub(super) fn drop_if_zero(&mut self) {
        self.guards.push(self.instructions.len());
        self.write(JUMP_EQUAL_IMM, R0, 0, 0, 0);
    }

    /// Drops the frame here if a register is not this.
    pub(super) fn drop_unless(&mut self, register: u8, constant: u32) {
        self.guards.push(self.instructions.len());
        self.write(JUMP_NOT_EQUAL_IMM, register, 0, 0, constant);
    }

    /// Ends the program: returns R0, or drops at a guard.
    pub(super) fn finish(mut self) -> Vec<u64> {
        self.exit();
        let end = self.instructions.len();
        self.op(MOV_IMM, R0, 0, XDP_DROP);
        self.exit();
        for guard in self.guards {
            let skipped = end - guard - 1;
            if let Some(jump) = self.instructions.get_mut(guard) {
                *jump |= u64::try_from(skipped & 0x7fff).unwrap_or(0) << 16;
            }
        }
        self.instructions
    }

    /// Loads a constant of 64 bits.
    pub(super) fn wide(&mut self, register: u8, value: u64) {
        let halves = [value & 0xffff_ffff, value >> 32].map(u32::try_from);
        let [Ok(low), Ok(high)] = halves else { return };
        self.write(LOAD_WIDE, register, 0, 0, low);
        self.write(0, 0, 0, 0, high);
    }

    /// Loads a map, for a helper.
    pub(super) fn map(&mut self, register: u8, descriptor: RawFd) {
        self.write(LOAD_WIDE, register, MAP, 0, descriptor.cast_unsigned());
        self.write(0, 0, 0, 0, 0);
    }

    /// Loads the address of a map's first value.
    pub(super) fn map_value(&mut self, register: u8, descriptor: RawFd) {
        self.write(LOAD_WIDE, register, MAP_VALUE, 0, descriptor.cast_unsigned());
        self.write(0, 0, 0, 0, 0);
    }

    /// Calls a helper.
    pub(super) fn call(&mut self, helper: u32) {
        self.op(CALL, 0, 0, helper);
    }

    /// Loads from the memory to which a register points.
    pub(super) fn load(&mut self, opcode: u8, register: u8, from: u8, offset: usize) {
        self.write(opcode, register, from, u16::try_from(offset).unwrap_or(u16::MAX), 0);
    }

    /// Stores a register in the stack frame.
    pub(super) fn store(&mut self, opcode: u8, offset: usize, register: u8) {
        self.store_at(opcode, R2, u16::try_from(offset).unwrap_or(u16::MAX), register);
    }

    /// Stores a register at an offset from another one.
    pub(super) fn store_at(&mut self, opcode: u8, to: u8, offset: u16, register: u8) {
        self.write(opcode, to, register, offset, 0);
    }

    /// An arithmetic operation.
    pub(super) fn op(&mut self, opcode: u8, to: u8, from: u8, constant: u32) {
        self.write(opcode, to, from, 0, constant);
    }

    fn exit(&mut self) {
        self.op(EXIT, 0, 0, 0);
    }

    fn write(&mut self, opcode: u8, to: u8, from: u8, offset: u16, constant: u32) {
        let registers = from << 4 | to;
        self.instructions.push(
            u64::from(opcode)
                | u64::from(registers) << 8
                | u64::from(offset) << 16
                | u64::from(constant) << 32,
        );
    }
}

//! The sender: a small XDP program that gives a frame its source and redirects it to an interface.
//! Whatever the sources, it does the same work, so that a flood and its baseline differ in nothing
//! but what receives them.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, ensure};
use nix::net::if_::if_nametoindex;

use super::sources::{
    self, Choice, LOOPBACK_BITS, V4_BEFORE_LOOPBACK, V4_FIRST, V4_MULTIPLY, V4_SHIFT, V4_SPAN,
    V6_GLOBAL_BIT, V6_MULTIPLY,
};
use crate::bpf::{Link, Program, Word};
use crate::netns::Cable;
use crate::packet_builder::{ETHERNET_LEN, Frame};

/// Where the source is in a frame without VLAN tags.
const V4_SOURCE: usize = ETHERNET_LEN + 12;
const V4_CHECKSUM: usize = ETHERNET_LEN + 10;
const V4_HEADERS: usize = ETHERNET_LEN + 20 + 8;
const V6_SOURCE: usize = ETHERNET_LEN + 8;
const V6_HEADERS: usize = ETHERNET_LEN + 40 + 8;

/// Knuth's MMIX generator; the upper half of its state is the random number.
const STEP_MULTIPLY: u64 = 6_364_136_223_846_793_005;
const STEP_ADD: u64 = 1_442_695_040_888_963_407;

/// `bpf_redirect`.
const REDIRECT: u32 = 23;

/// A flood: a frame, and the program that sends it from ever other sources.
#[derive(Debug)]
pub(super) struct Sender {
    frame: Vec<u8>,
    program: Program,
    // The program's state lives as long as it.
    _state: Word,
    // A program that is attached somewhere need not wait for RCU before and after each run of it.
    _attached: Option<Link>,
}

impl Sender {
    /// A sender at the near end of a cable, to the far end, with an interface of its own that is
    /// called `name`; see [`new`](Self::new).
    pub(super) fn on(
        cable: &Cable,
        name: &str,
        frame: &Frame,
        family: Family,
        choice: Choice,
    ) -> anyhow::Result<Self> {
        cable.near_link(name)?;
        cable.near.run_in(|| {
            let index = |name| if_nametoindex(name).context("find an end of the cable");
            let sender = Self::new(frame, family, choice, index("eth0")?)?;
            let link = Link::attach(&sender.program, index(name)?)?;
            Ok(Self { _attached: Some(link), ..sender })
        })
    }

    /// Frames like `frame`, whose own source only says of which family they are, from the sources
    /// of `choice` to `interface`.
    fn new(frame: &Frame, family: Family, choice: Choice, interface: u32) -> anyhow::Result<Self> {
        let frame = frame.build();
        let state = Word::new()?;
        let code = match family {
            Family::V4 => v4(&frame, &state, choice, interface)?,
            Family::V6 => v6(&frame, &state, choice, interface)?,
        };
        let program = Program::load("bench_sender", &code)?;
        Ok(Self { frame, program, _state: state, _attached: None })
    }

    /// Sends so many; see [`Program::send`].
    pub(super) fn send(&self, count: u32) -> anyhow::Result<()> {
        self.program.send(&self.frame, count)
    }
}

/// Of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The first source of a choice.
    pub(super) fn source(self, choice: Choice) -> IpAddr {
        let (first, _count) = choice.numbers();
        match self {
            Self::V4 => Ipv4Addr::from_bits(sources::v4(first).to_bits() & choice.mask()).into(),
            Self::V6 => sources::v6(first.into()).into(),
        }
    }
}

fn v4(frame: &[u8], state: &Word, choice: Choice, interface: u32) -> anyhow::Result<Vec<u64>> {
    ensure!(frame.len() >= V4_HEADERS, "the frame has no room for IPv4 and UDP");
    let mut code = Code::new(V4_HEADERS);
    code.number(state, choice);
    for (multiply, shift) in V4_MULTIPLY.into_iter().zip(V4_SHIFT) {
        code.op(ALU32_MUL_IMM, R0, 0, multiply);
        code.op(ALU32_MOV, R5, R0, 0);
        code.op(ALU32_RSH_IMM, R5, 0, shift.into());
        code.op(ALU32_XOR, R0, R5, 0);
    }
    code.wide(R5, V4_SPAN.into());
    code.op(MUL, R0, R5, 0);
    code.op(RSH_IMM, R0, 0, 32);
    code.op(ADD_IMM, R0, 0, V4_FIRST);
    code.op(MOV_IMM, R5, 0, V4_BEFORE_LOOPBACK);
    code.op(SUB, R5, R0, 0);
    code.op(RSH_IMM, R5, 0, 63);
    code.op(LSH_IMM, R5, 0, LOOPBACK_BITS.into());
    code.op(ADD, R0, R5, 0);
    code.op(ALU32_AND_IMM, R0, 0, choice.mask());
    // The header's checksum: what all frames have in common, and the two halves of the source.
    code.op(MOV, R5, R0, 0);
    code.op(AND_IMM, R5, 0, 0xffff);
    code.op(MOV, R8, R0, 0);
    code.op(RSH_IMM, R8, 0, 16);
    code.op(ADD, R5, R8, 0);
    code.op(ADD_IMM, R5, 0, common_sum(frame));
    for _fold in 0..2 {
        code.op(MOV, R8, R5, 0);
        code.op(RSH_IMM, R8, 0, 16);
        code.op(AND_IMM, R5, 0, 0xffff);
        code.op(ADD, R5, R8, 0);
    }
    code.op(XOR_IMM, R5, 0, 0xffff);
    code.op(TO_BE, R5, 0, 16);
    code.store(STORE_16, V4_CHECKSUM, R5);
    code.op(TO_BE, R0, 0, 32);
    code.store(STORE_32, V4_SOURCE, R0);
    Ok(code.redirect(interface))
}

fn v6(frame: &[u8], state: &Word, choice: Choice, interface: u32) -> anyhow::Result<Vec<u64>> {
    ensure!(frame.len() >= V6_HEADERS, "the frame has no room for IPv6 and UDP");
    let mut code = Code::new(V6_HEADERS);
    code.number(state, choice);
    let [first, second, third] = V6_MULTIPLY;
    for multiply in [first, second] {
        code.wide(R5, multiply);
        code.op(MUL, R0, R5, 0);
        code.op(MOV, R5, R0, 0);
        code.op(RSH_IMM, R5, 0, 32);
        code.op(XOR, R0, R5, 0);
    }
    code.op(MOV, R8, R0, 0);
    code.op(RSH_IMM, R8, 0, 3);
    code.wide(R5, 1 << V6_GLOBAL_BIT);
    code.op(OR, R8, R5, 0);
    code.op(TO_BE, R8, 0, 64);
    code.store(STORE_64, V6_SOURCE, R8);
    code.wide(R5, third);
    code.op(MUL, R0, R5, 0);
    code.op(TO_BE, R0, 0, 64);
    code.store(STORE_64, V6_SOURCE + 8, R0);
    Ok(code.redirect(interface))
}

/// The sum of an IPv4 header's words (RFC 1071) without its checksum and its source.
fn common_sum(frame: &[u8]) -> u32 {
    let header = frame.get(ETHERNET_LEN..ETHERNET_LEN + 20).unwrap_or_default();
    let words = header.chunks_exact(2).enumerate().filter(|(place, _)| !matches!(place, 5..=7));
    words.map(|(_, word)| word.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))).sum()
}

// Registers: R0 the address that comes to be, R2 the packet, R5 and R8 spare, R7 the state.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R4: u8 = 4;
const R5: u8 = 5;
const R7: u8 = 7;
const R8: u8 = 8;

// Opcodes, RFC 9669. `_IMM` take a constant, the others a register.
const ADD_IMM: u8 = 0x07;
const ADD: u8 = 0x0f;
const SUB: u8 = 0x1f;
const MUL: u8 = 0x2f;
const OR: u8 = 0x4f;
const AND_IMM: u8 = 0x57;
const LSH_IMM: u8 = 0x67;
const RSH_IMM: u8 = 0x77;
const XOR_IMM: u8 = 0xa7;
const XOR: u8 = 0xaf;
const MOV_IMM: u8 = 0xb7;
const MOV: u8 = 0xbf;
const TO_BE: u8 = 0xdc;
const ALU32_MUL_IMM: u8 = 0x24;
const ALU32_AND_IMM: u8 = 0x54;
const ALU32_RSH_IMM: u8 = 0x74;
const ALU32_XOR: u8 = 0xac;
const ALU32_MOV: u8 = 0xbc;
const LOAD_32: u8 = 0x61;
const LOAD_64: u8 = 0x79;
const STORE_16: u8 = 0x6b;
const STORE_32: u8 = 0x63;
const STORE_64: u8 = 0x7b;
const LOAD_WIDE: u8 = 0x18;
const JUMP_GREATER: u8 = 0x2d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// In place of a source register of [`LOAD_WIDE`]: the address of a map's value.
const MAP_VALUE: u8 = 2;

const XDP_DROP: u32 = 1;

/// Instructions as they are written.
struct Code {
    instructions: Vec<u64>,
    /// Where the jump is over everything, if the frame is too short.
    guard: usize,
}

impl Code {
    /// Begins a program that looks at frames of at least `length` bytes.
    fn new(length: usize) -> Self {
        let mut code = Self { instructions: Vec::new(), guard: 0 };
        code.write(LOAD_32, R2, R1, 0, 0);
        code.write(LOAD_32, R3, R1, 4, 0);
        code.op(MOV, R4, R2, 0);
        code.op(ADD_IMM, R4, 0, u32::try_from(length).unwrap_or(u32::MAX));
        code.guard = code.instructions.len();
        code.write(JUMP_GREATER, R4, R3, 0, 0);
        code
    }

    /// Draws the next number of a choice into R0.
    fn number(&mut self, state: &Word, choice: Choice) {
        let (first, count) = choice.numbers();
        let descriptor = state.descriptor().cast_unsigned();
        self.write(LOAD_WIDE, R7, MAP_VALUE, 0, descriptor);
        self.write(0, 0, 0, 0, 0);
        self.write(LOAD_64, R0, R7, 0, 0);
        self.wide(R5, STEP_MULTIPLY);
        self.op(MUL, R0, R5, 0);
        self.wide(R5, STEP_ADD);
        self.op(ADD, R0, R5, 0);
        self.write(STORE_64, R7, R0, 0, 0);
        self.op(RSH_IMM, R0, 0, 32);
        self.wide(R5, count.into());
        self.op(MUL, R0, R5, 0);
        self.op(RSH_IMM, R0, 0, 32);
        self.wide(R5, first.into());
        self.op(ADD, R0, R5, 0);
    }

    /// Ends the program: redirect, or drop what was too short.
    fn redirect(mut self, interface: u32) -> Vec<u64> {
        self.op(MOV_IMM, R1, 0, interface);
        self.op(MOV_IMM, R2, 0, 0);
        self.op(CALL, 0, 0, REDIRECT);
        self.op(EXIT, 0, 0, 0);
        let skipped = self.instructions.len() - self.guard - 1;
        self.op(MOV_IMM, R0, 0, XDP_DROP);
        self.op(EXIT, 0, 0, 0);
        if let Some(guard) = self.instructions.get_mut(self.guard) {
            *guard |= u64::try_from(skipped & 0x7fff).unwrap_or(0) << 16;
        }
        self.instructions
    }

    /// A constant of 64 bits.
    fn wide(&mut self, register: u8, value: u64) {
        let halves = [value & 0xffff_ffff, value >> 32].map(u32::try_from);
        let [Ok(low), Ok(high)] = halves else { return };
        self.write(LOAD_WIDE, register, 0, 0, low);
        self.write(0, 0, 0, 0, high);
    }

    /// Stores a register in the packet.
    fn store(&mut self, opcode: u8, offset: usize, register: u8) {
        self.write(opcode, R2, register, u16::try_from(offset).unwrap_or(u16::MAX), 0);
    }

    fn op(&mut self, opcode: u8, to: u8, from: u8, constant: u32) {
        self.write(opcode, to, from, 0, constant);
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use filter_common::packet;

    use super::*;
    use crate::packet_builder::internet_checksum;

    fn sent(family: Family, choice: Choice, count: usize) -> Vec<Vec<u8>> {
        let frame = Frame::from(family.source(Choice::One(0))).checksum(0).payload("REGISTER");
        let sender = Sender::new(&frame, family, choice, 1).unwrap();
        (0..count).map(|_| sender.program.rewrite(&sender.frame).unwrap()).collect()
    }

    fn source(frame: &[u8]) -> IpAddr {
        packet::parse(&frame).unwrap().source.into()
    }

    #[test]
    #[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
    fn the_kernel_computes_the_same_sources() {
        for family in [Family::V4, Family::V6] {
            for choice in [Choice::One(77), Choice::Stranger(0x4000_0001)] {
                let sources: HashSet<_> =
                    sent(family, choice, 3).iter().map(|frame| source(frame)).collect();
                assert_eq!(sources, HashSet::from([family.source(choice)]), "{choice:?}");
            }
            let all: HashSet<_> =
                (0..10).map(|number| family.source(Choice::One(number))).collect();
            let frames = sent(family, Choice::Among(10), 300);
            let sources: HashSet<_> = frames.iter().map(|frame| source(frame)).collect();
            assert_eq!(sources, all);
        }
    }

    #[test]
    #[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
    fn checksums_are_right() {
        for frame in sent(Family::V4, Choice::Strangers(1000), 500) {
            assert_eq!(internet_checksum(&[&frame[ETHERNET_LEN..ETHERNET_LEN + 20]]), 0);
        }
    }
}

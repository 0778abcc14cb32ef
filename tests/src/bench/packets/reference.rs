//! Programs that show the cost of the machine's memory: one that only drops, and one that first loads
//! a random cache line; and the
//! same in a program that has to read the headers first, and to compare what it loaded.

use anyhow::Context;

use crate::bench::code::{
    ADD_IMM, ALU32_AND_IMM, ALU32_MOV, ALU32_MUL_IMM, ALU32_RSH_IMM, ALU32_XOR, Code, LOAD_16,
    LOAD_32, LOAD_64, MOV, MOV_IMM, MUL, R0, R1, R2, R5, R10, RSH_IMM, STORE_32, XDP_DROP,
    XDP_PASS,
};
use crate::bench::sources::{V4_MULTIPLY, V4_SHIFT};
use crate::bpf::{Lines, Program};
use crate::packet_builder::ETHERNET_LEN;

/// The offset of the source address in an IPv4 frame without VLAN tags.
const SOURCE: usize = ETHERNET_LEN + 12;
/// `bpf_map_lookup_elem`. For an array, the verifier replaces it by a few instructions.
const LOOKUP: u32 = 1;
/// The key's offset on the stack: -4.
const KEY: u16 = 4_u16.wrapping_neg();

/// The word with the fragment's place, the time to live and the protocol.
const PROTOCOL: usize = ETHERNET_LEN + 6;
/// UDP's destination port.
const PORT: usize = ETHERNET_LEN + 20 + 2;
/// Behind UDP's header.
const HEADERS: usize = ETHERNET_LEN + 20 + 8;

/// What a program does besides to load a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Nothing.
    None,
    /// The least that any program has to that drops banned sources: it reads the headers, as far as to
    /// know that the frame is UDP in IPv4 to SIP's port, and drops if what it loaded is what it looked for.
    Least,
}

/// A drop that first loads the line of an array that a hash of the IPv4 source says.
#[derive(Debug)]
pub(super) struct Reference {
    program: Program,
    // The program's memory exists as long as this.
    _lines: Lines,
}

impl Reference {
    /// With an array of this many MiB.
    pub(super) fn new(mebibytes: u32, work: Work) -> anyhow::Result<Self> {
        let count = (mebibytes << 20) / Lines::LEN;
        let lines = Lines::new(count).context("make the memory of a reference program")?;
        let mut code = Code::new(HEADERS);
        if work == Work::Least {
            // EtherType, version and header length, as they lie in a little-endian word.
            code.load(LOAD_32, R5, R2, ETHERNET_LEN - 2);
            code.op(ALU32_AND_IMM, R5, 0, 0x00ff_ffff);
            code.drop_unless(R5, 0x0045_0008);
            // No fragment, and UDP.
            code.load(LOAD_32, R5, R2, PROTOCOL);
            code.op(ALU32_AND_IMM, R5, 0, 0xff00_ff3f);
            code.drop_unless(R5, 17 << 24);
            code.load(LOAD_16, R5, R2, PORT);
            code.drop_unless(R5, u16::from_be(5060).into());
        }
        code.load(LOAD_32, R0, R2, SOURCE);
        // The same steps as the sender's hash, but applied to its result, so that neighbouring sources
        // do not use neighbouring lines.
        for (multiply, shift) in V4_MULTIPLY.into_iter().zip(V4_SHIFT) {
            code.op(ALU32_MUL_IMM, R0, 0, multiply);
            code.op(ALU32_MOV, R5, R0, 0);
            code.op(ALU32_RSH_IMM, R5, 0, shift.into());
            code.op(ALU32_XOR, R0, R5, 0);
        }
        code.wide(R5, count.into());
        code.op(MUL, R0, R5, 0);
        code.op(RSH_IMM, R0, 0, 32);
        code.store_at(STORE_32, R10, KEY, R0);
        code.map(R1, lines.descriptor());
        code.op(MOV, R2, R10, 0);
        code.op(ADD_IMM, R2, 0, 4_u32.wrapping_neg());
        code.call(LOOKUP);
        code.drop_if_zero();
        // The lines are zero.
        code.load(LOAD_64, R0, R0, 0);
        match work {
            // The verdict is made of what it loaded.
            Work::None => code.op(ADD_IMM, R0, 0, XDP_DROP),
            Work::Least => {
                code.drop_if_zero();
                code.op(MOV_IMM, R0, 0, XDP_PASS);
            }
        }
        let program = Program::load("bench_line", &code.finish())?;
        Ok(Self { program, _lines: lines })
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sender::Family;
    use crate::bench::sources::Choice;
    use crate::bpf::Action;
    use crate::packet_builder::Frame;

    #[test]
    #[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
    fn references_drop() {
        for (mebibytes, work) in
            [(4, Work::None), (23, Work::None), (4, Work::Least), (23, Work::Least)]
        {
            let reference = Reference::new(mebibytes, work).unwrap();
            for number in 0..100 {
                let frame = Frame::from(Family::V4.source(Choice::One(number))).build();
                assert_eq!(reference.program().run(&frame, 1).unwrap(), Action::Drop);
            }
        }
    }
}

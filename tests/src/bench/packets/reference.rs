//! Programs that show the cost of the machine's memory: one that only drops, and one that first loads
//! a random cache line.

use anyhow::Context;

use crate::bench::code::{
    ADD_IMM, ALU32_MOV, ALU32_MUL_IMM, ALU32_RSH_IMM, ALU32_XOR, Code, LOAD_32, LOAD_64, MOV, MUL,
    R0, R1, R2, R5, R10, RSH_IMM, STORE_32, XDP_DROP,
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

/// A program that drops every frame after loading one cache line of an array, chosen by a hash of
/// the IPv4 source.
#[derive(Debug)]
pub(super) struct Reference {
    program: Program,
    // The program's memory exists as long as this.
    _lines: Lines,
}

impl Reference {
    /// With an array of this many MiB.
    pub(super) fn new(mebibytes: u32) -> anyhow::Result<Self> {
        let count = (mebibytes << 20) / Lines::LEN;
        let lines = Lines::new(count).context("make the memory of a reference program")?;
        let mut code = Code::new(SOURCE + 4);
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
        // The lines contain zeros. The verdict depends on the value, so that the time includes the load.
        code.load(LOAD_64, R0, R0, 0);
        code.op(ADD_IMM, R0, 0, XDP_DROP);
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
        for mebibytes in [4, 23] {
            let reference = Reference::new(mebibytes).unwrap();
            for number in 0..100 {
                let frame = Frame::from(Family::V4.source(Choice::One(number))).build();
                assert_eq!(reference.program().run(&frame, 1).unwrap(), Action::Drop);
            }
        }
    }
}

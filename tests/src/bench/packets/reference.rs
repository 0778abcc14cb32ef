//! Programs that show what the machine's memory costs: a bare drop, and one load of a random line.

use anyhow::Context;

use crate::bench::code::{
    ADD_IMM, ALU32_MOV, ALU32_MUL_IMM, ALU32_RSH_IMM, ALU32_XOR, Code, LOAD_32, LOAD_64, MOV, MUL,
    R0, R1, R2, R5, R10, RSH_IMM, STORE_32, XDP_DROP,
};
use crate::bench::sources::{V4_MULTIPLY, V4_SHIFT};
use crate::bpf::{Lines, Program};
use crate::packet_builder::ETHERNET_LEN;

/// Where the source of an IPv4 frame without VLAN tags is.
const SOURCE: usize = ETHERNET_LEN + 12;
/// `bpf_map_lookup_elem`, which the verifier replaces by a few instructions for an array.
const LOOKUP: u32 = 1;
/// Where the key is on the stack: at -4.
const KEY: u16 = 4_u16.wrapping_neg();

/// A bare drop that first loads the line of an array that a hash of the IPv4 source says.
#[derive(Debug)]
pub(super) struct Reference {
    program: Program,
    // The program's memory lives as long as it.
    _lines: Lines,
}

impl Reference {
    /// With an array of so many MiB.
    pub(super) fn new(mebibytes: u32) -> anyhow::Result<Self> {
        let count = (mebibytes << 20) / Lines::LEN;
        let lines = Lines::new(count).context("make the memory of a reference program")?;
        let mut code = Code::new(SOURCE + 4);
        code.load(LOAD_32, R0, R2, SOURCE);
        // As the sender's hash, but it starts from what that one came to: no source lies beside its
        // neighbour's.
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
        // The lines are zero, and the verdict is made of them.
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

//! What the verifier must see written out though the compiler knows it. Why, in docs/verifier.md.

use core::arch::asm;

/// `value`, which is no more than `MASK`, all ones, in a register that the verifier knows to be no
/// more. The compiler leaves a mask out that it has proved to change nothing; and it keeps an offset
/// on the stack, compares one copy of it and adds another, and Linux 6.1 does not apply to one copy
/// what the comparison says about the other, as 6.12 does ("invalid access to packet, off=0 size=1,
/// R3(id=31,off=0,r=0)").
#[inline(always)]
pub(crate) fn masked<const MASK: usize>(mut value: usize) -> usize {
    // SAFETY: changes a register's value, and that only where it is above the mask.
    unsafe {
        asm!(
            "{0} &= {mask}",
            inout(reg) value,
            mask = const MASK,
            options(pure, nomem, nostack),
        );
    }
    value
}

/// `value`, but the compiler no longer knows where it comes from, so that it leaves a comparison
/// as it is written. Without it LLVM turns `start + 1 > end` into `start >= end`, from which the
/// verifier learns no range ("invalid access to packet, off=0 size=1, r=0";
/// `find_good_pkt_pointers` in `kernel/bpf/verifier.c`), and drops bounds that it has already seen
/// to hold but the verifier has not ("R4 invalid zero-sized read").
#[inline(always)]
pub(crate) fn opaque(mut value: usize) -> usize {
    // SAFETY: moves a register to itself. (No instruction at all would leave two entries for one
    // offset in the line information, which the kernel refuses.)
    unsafe {
        asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack));
    }
    value
}

/// Gives the registers that a call leaves without a value one. Where a value does not matter, as that
/// of a field beside a `None`, the compiler takes whatever is in a register, and the verifier refuses
/// to have one read that nothing is in ("R1 `!read_ok`").
#[inline(always)]
pub(crate) fn readable() {
    // SAFETY: writes registers that it says it writes.
    #[cfg(target_arch = "bpf")]
    unsafe {
        asm!(
            "r1 = 0",
            "r2 = 0",
            "r3 = 0",
            "r4 = 0",
            "r5 = 0",
            out("r1") _,
            out("r2") _,
            out("r3") _,
            out("r4") _,
            out("r5") _,
            options(nomem, nostack),
        );
    }
}

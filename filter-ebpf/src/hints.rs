//! Instructions that the verifier needs although the compiler considers them redundant. docs/verifier.md
//! has the reasons.

use core::arch::asm;

/// `value`, which is at most `MASK` (all ones), in a register for which the verifier knows this bound.
/// The compiler omits a mask that changes nothing according to its proof. It also keeps an offset on the
/// stack, compares one copy and adds another; Linux 6.1 does not apply to one copy what it learns about
/// the other, as 6.12 does ("invalid access to packet, off=0 size=1, R3(id=31,off=0,r=0)").
#[inline(always)]
pub(crate) fn masked<const MASK: usize>(mut value: usize) -> usize {
    // SAFETY: changes only a register, and only if its value is above the mask.
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

/// `value`, with an origin that is hidden from the compiler, so that a comparison stays as written.
/// Otherwise LLVM turns `start + 1 > end` into `start >= end`, from which the verifier learns no range
/// ("invalid access to packet, off=0 size=1, r=0"; `find_good_pkt_pointers` in `kernel/bpf/verifier.c`),
/// and removes bounds checks that it has proved redundant but the verifier has not ("R4 invalid
/// zero-sized read").
#[inline(always)]
pub(crate) fn opaque(mut value: usize) -> usize {
    // SAFETY: moves a register to itself. (Without an instruction there would be two line entries for one
    // offset, which the kernel refuses.)
    unsafe {
        asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack));
    }
    value
}

/// All ones if `word` is zero, and zero otherwise, without a branch. The compiler makes one of whatever
/// arithmetic it recognises.
#[inline(always)]
pub(crate) fn if_zero(mut word: u64) -> u64 {
    // SAFETY: changes only registers.
    #[cfg(target_arch = "bpf")]
    unsafe {
        asm!(
            "{negated} = {word}",
            "{negated} = -{negated}",
            "{word} |= {negated}",
            "{word} s>>= 63",
            "{word} ^= -1",
            word = inout(reg) word,
            negated = out(reg) _,
            options(pure, nomem, nostack),
        );
    }
    // For the linter, which reads this for the host.
    #[cfg(not(target_arch = "bpf"))]
    {
        word = if word == 0 { u64::MAX } else { 0 };
    }
    word
}

/// Gives values to the registers that are empty after a call. Where a value does not matter, such as a
/// field beside a `None`, the compiler uses any register, and the verifier refuses to read an empty one
/// ("R1 `!read_ok`").
#[inline(always)]
pub(crate) fn readable() {
    // SAFETY: writes only the registers that it declares.
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

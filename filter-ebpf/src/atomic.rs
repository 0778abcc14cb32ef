//! Atomic instructions on words in maps: BPF has them since Linux 5.12 (ISA version 3), but `core` offers
//! neither `fetch_add` nor `compare_exchange` for this target.

use core::arch::asm;

use filter_common::rate::Bucket;

/// A word in a map that other CPUs change too.
pub(crate) struct Word(*mut u64);

impl Word {
    /// # Safety
    ///
    /// `pointer` is aligned to eight bytes, points into a map's value, and the value is not freed
    /// before the program returns.
    #[inline(always)]
    pub(crate) unsafe fn new(pointer: *mut u64) -> Self {
        Self(pointer)
    }

    #[inline(always)]
    pub(crate) fn add(&self, amount: u64) {
        // SAFETY: the pointer is valid (`new`), and the instruction changes only what it points to.
        unsafe {
            asm!(
                "lock *(u64 *)({word} + 0) += {amount}",
                word = in(reg) self.0,
                amount = in(reg) amount,
                options(nostack),
            );
        }
    }

    #[inline(always)]
    pub(crate) fn set(&self, bits: u64) {
        // SAFETY: as in `add`.
        unsafe {
            asm!(
                "lock *(u64 *)({word} + 0) |= {bits}",
                word = in(reg) self.0,
                bits = in(reg) bits,
                options(nostack),
            );
        }
    }
}

impl Bucket for Word {
    #[inline(always)]
    fn load(&self) -> u64 {
        // SAFETY: the pointer is valid and aligned (`new`); an aligned word is read in one access.
        unsafe { self.0.read_volatile() }
    }

    #[inline(always)]
    fn replace(&self, current: u64, new: u64) -> bool {
        let mut seen = current;
        // SAFETY: as in `add`. Only for the BPF target, because the linter compiles this for the host,
        // which has no such register.
        #[cfg(target_arch = "bpf")]
        unsafe {
            asm!(
                "r0 = cmpxchg_64({word} + 0, r0, {new})",
                word = in(reg) self.0,
                new = in(reg) new,
                inout("r0") seen,
                options(nostack),
            );
        }
        #[cfg(not(target_arch = "bpf"))]
        core::hint::black_box((new, &mut seen));
        seen == current
    }
}

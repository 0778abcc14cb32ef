//! The packet as the verifier lets it be read: the only packet pointers of the program.

use core::arch::asm;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use filter_common::limits::WINDOW_BYTES;
use filter_common::packet::{Packet, Window};

/// Behind all headers that are followed: Ethernet, two VLAN tags, IPv6 and six extension headers
/// of at most 2,048 bytes. The verifier adds no larger unknown to a packet pointer than 65,535. All
/// ones, so that it is a mask as well.
const OFFSET_MAX: usize = 0x3fff;

/// The packet of an [`XdpContext`].
pub(crate) struct XdpPacket<'a> {
    ctx: &'a XdpContext,
}

impl<'a> XdpPacket<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }
}

impl Packet for XdpPacket<'_> {
    #[inline(always)]
    fn length(&self) -> usize {
        // SAFETY: the context is the one the kernel passed in.
        unsafe { bpf_xdp_get_buff_len(self.ctx.as_ptr().cast()) as usize }
    }

    #[inline(always)]
    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > OFFSET_MAX {
            return None;
        }
        let start = self.ctx.data() + bounded(offset);
        if opaque(start + N) > self.ctx.data_end() {
            return None;
        }
        // SAFETY: data <= start and start + N <= data_end, as the verifier proves again.
        Some(unsafe { (start as *const [u8; N]).read_unaligned() })
    }

    #[inline(always)]
    fn copy(&self, offset: usize, window: &mut Window) -> usize {
        let wanted = self.length().saturating_sub(offset).min(WINDOW_BYTES);
        // Linux 6.1 learns from `wanted == 0` no lower bound, as 6.12 does, but from adding one
        // ("R3 min value is outside of the allowed memory range", where the length is R4).
        let before_last = opaque(wanted.wrapping_sub(1));
        if before_last >= WINDOW_BYTES {
            return 0;
        }
        let wanted = before_last + 1;
        // SAFETY: `window` has WINDOW_BYTES, and `wanted` is no more.
        let failed = unsafe {
            bpf_xdp_load_bytes(
                self.ctx.as_ptr().cast(),
                offset as u32,
                window.as_mut_ptr().cast(),
                wanted as u32,
            )
        };
        // Opaque, so that an index made of it keeps its mask. Without one Linux 6.1 knows no bound
        // of it ("math between map_value pointer and register with unbounded min value").
        if failed == 0 { opaque(wanted) } else { 0 }
    }
}

/// `offset`, which is no more than [`OFFSET_MAX`], in a register that the verifier knows to be no
/// more. The compiler keeps an offset on the stack, compares one copy of it and adds another, and
/// Linux 6.1 does not apply to one copy what the comparison says about the other, as 6.12 does
/// ("invalid access to packet, off=0 size=1, R3(id=31,off=0,r=0)").
#[inline(always)]
fn bounded(mut offset: usize) -> usize {
    // SAFETY: changes a register's value, and that only where it is above the mask.
    unsafe {
        asm!(
            "{0} &= {max}",
            inout(reg) offset,
            max = const OFFSET_MAX,
            options(pure, nomem, nostack),
        );
    }
    offset
}

/// `value`, but the compiler no longer knows where it comes from, so that it leaves a comparison
/// as it is written. Without it LLVM turns `start + 1 > end` into `start >= end`, from which the
/// verifier learns no range ("invalid access to packet, off=0 size=1, r=0";
/// `find_good_pkt_pointers` in `kernel/bpf/verifier.c`), and drops bounds that it has already seen
/// to hold but the verifier has not ("R4 invalid zero-sized read").
#[inline(always)]
fn opaque(mut value: usize) -> usize {
    // SAFETY: moves a register to itself. (No instruction at all would leave two entries for one
    // offset in the line information, which the kernel refuses.)
    unsafe {
        asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack));
    }
    value
}

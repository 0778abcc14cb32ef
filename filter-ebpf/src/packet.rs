//! Reads the packet in the way that the verifier allows: the only packet pointers of the program.

#[cfg(target_arch = "bpf")]
use core::arch::asm;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use filter_common::limits::WINDOW_BYTES;
use filter_common::packet::{Packet, Window};

use crate::hints::{masked, opaque, readable};
use crate::scratch::{self, Edge};

/// Behind all headers that are followed: Ethernet, two VLAN tags, IPv6 and six extension headers of at
/// most 2,048 bytes. The verifier allows no unknown value above 65,535 to be added to a packet pointer.
/// All ones, so that it is also a mask.
pub(crate) const OFFSET_MAX: usize = 0x3fff;

/// The packet of an [`XdpContext`].
pub(crate) struct XdpPacket<'a> {
    ctx: &'a XdpContext,
}

impl<'a> XdpPacket<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }

    /// Reads bytes that are not completely in the frame's first buffer: some drivers leave it empty.
    #[inline(always)]
    fn far(&self, offset: usize, len: usize) -> Option<*const Edge> {
        let failed = ringfence_far(self.ctx.ctx, offset as u64, len as u64);
        let edge = scratch::edge();
        readable();
        if failed == 0 { edge } else { None }
    }

    /// The same as [`far`](Self::far), but returns only whether it failed.
    #[inline(always)]
    fn load_edge(&self, offset: usize, len: usize) -> bool {
        let Some(edge) = scratch::edge() else {
            return true;
        };
        // Linux 6.1 learns no lower bound from `len == 0`; see `copy`.
        let before_last = opaque(len.wrapping_sub(1));
        if offset > OFFSET_MAX || before_last >= size_of::<Edge>() {
            return true;
        }
        // SAFETY: the edge has this many bytes, and is this CPU's own.
        let failed = unsafe {
            bpf_xdp_load_bytes(
                self.ctx.as_ptr().cast(),
                offset as u32,
                edge.cast_mut().cast(),
                (before_last + 1) as u32,
            )
        };
        failed != 0
    }
}

/// Copies bytes of the packet into this CPU's [`Edge`]. Returns zero unless the packet is too short. The
/// verifier follows this function separately.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_far(ctx: *mut xdp_md, offset: u64, len: u64) -> u32 {
    let ctx = XdpContext::new(ctx);
    u32::from(XdpPacket::new(&ctx).load_edge(offset as usize, len as usize))
}

impl Packet for XdpPacket<'_> {
    #[inline(always)]
    fn length(&self) -> usize {
        // SAFETY: the context is the one the kernel passed in.
        let length = unsafe { bpf_xdp_get_buff_len(self.ctx.as_ptr().cast()) as usize };
        readable();
        length
    }

    #[inline(always)]
    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        const { assert!(N <= size_of::<Edge>()) };
        if offset > OFFSET_MAX {
            return None;
        }
        let start = self.ctx.data() + masked::<OFFSET_MAX>(offset);
        if opaque(start + N) > self.ctx.data_end() {
            let edge = self.far(offset, N)?;
            // SAFETY: a map's value, which is at least N bytes long.
            return Some(unsafe { edge.cast::<[u8; N]>().read() });
        }
        // SAFETY: data <= start and start + N <= data_end, as the verifier also proves.
        Some(unsafe { (start as *const [u8; N]).read_unaligned() })
    }

    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Option<[u64; N]> {
        if let Some(words) = self.near_words(offset) {
            return Some(words);
        }
        const { assert!(N * 8 <= size_of::<Edge>()) };
        let edge = self.far(offset, N * 8)?;
        // SAFETY: as in `array`.
        Some(unsafe { edge.cast::<[u64; N]>().read() })
    }

    #[inline(always)]
    fn near_words<const N: usize>(&self, offset: usize) -> Option<[u64; N]> {
        if offset > OFFSET_MAX {
            return None;
        }
        let start = self.ctx.data() + masked::<OFFSET_MAX>(offset);
        if opaque(start + N * 8) > self.ctx.data_end() {
            return None;
        }
        let mut words = [0; N];
        for (place, word) in words.iter_mut().enumerate() {
            // SAFETY: as in `array`.
            *word = unsafe { load(start + place * 8) };
        }
        Some(words)
    }

    #[inline(always)]
    fn copy(&self, offset: usize, window: &mut Window) -> usize {
        let wanted = self.length().saturating_sub(offset).min(WINDOW_BYTES);
        // Linux 6.1, unlike 6.12, learns no lower bound from `wanted == 0`, but it does from adding one
        // ("R3 min value is outside of the allowed memory range", where the length is R4).
        let before_last = opaque(wanted.wrapping_sub(1));
        if before_last >= WINDOW_BYTES {
            return 0;
        }
        let wanted = before_last + 1;
        // SAFETY: `window` has WINDOW_BYTES, and `wanted` is at most that.
        let failed = unsafe {
            bpf_xdp_load_bytes(
                self.ctx.as_ptr().cast(),
                offset as u32,
                window.as_mut_ptr().cast(),
                wanted as u32,
            )
        };
        // Opaque, so that an index computed from it keeps its mask. Without a mask Linux 6.1 knows no
        // bound for it ("math between map_value pointer and register with unbounded min value").
        if failed == 0 { opaque(wanted) } else { 0 }
    }
}

/// The eight bytes at `address`, read by one instruction. The compiler assumes that the target reads only
/// aligned words, and would read single bytes; the machines for which Linux compiles this can read the
/// word.
///
/// # Safety
///
/// The same as for a read of eight bytes through a pointer.
#[inline(always)]
unsafe fn load(address: usize) -> u64 {
    let word;
    // SAFETY: as the caller promises.
    #[cfg(target_arch = "bpf")]
    unsafe {
        asm!(
            "{word} = *(u64 *)({address} + 0)",
            word = out(reg) word,
            address = in(reg) address,
            options(pure, readonly, nostack),
        );
    }
    // SAFETY: as above. For the linter, which reads this for the host.
    #[cfg(not(target_arch = "bpf"))]
    unsafe {
        word = (address as *const u64).read_unaligned();
    }
    word
}

//! An outgoing packet, like [`packet`](crate::packet) for incoming ones. The code is duplicated: with
//! shared helpers the XDP program would need more stack than it has.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::programs::TcContext;
use filter_common::limits::WINDOW_BYTES;
use filter_common::packet::{Packet, Window};

use crate::hints::{masked, opaque};
use crate::packet::OFFSET_MAX;

/// The packet of a [`TcContext`].
pub(crate) struct SkbPacket<'a> {
    ctx: &'a TcContext,
}

impl<'a> SkbPacket<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a TcContext) -> Self {
        Self { ctx }
    }
}

/// Headers are read from the buffer's linear part, where the kernel has just written them. The rest may
/// be elsewhere, and is copied.
impl Packet for SkbPacket<'_> {
    #[inline(always)]
    fn length(&self) -> usize {
        self.ctx.len() as usize
    }

    #[inline(always)]
    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > OFFSET_MAX {
            return None;
        }
        let start = self.ctx.data() + masked::<OFFSET_MAX>(offset);
        if opaque(start + N) > self.ctx.data_end() {
            return None;
        }
        // SAFETY: data <= start and start + N <= data_end, as the verifier also proves.
        Some(unsafe { (start as *const [u8; N]).read_unaligned() })
    }

    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Option<[u64; N]> {
        let mut words = [0; N];
        for (place, word) in words.iter_mut().enumerate() {
            *word = u64::from_le_bytes(self.array(offset + place * 8)?);
        }
        Some(words)
    }

    #[inline(always)]
    fn copy(&self, offset: usize, window: &mut Window) -> usize {
        let wanted = self.length().saturating_sub(offset).min(WINDOW_BYTES);
        // As in `XdpPacket::copy`.
        let before_last = opaque(wanted.wrapping_sub(1));
        if before_last >= WINDOW_BYTES {
            return 0;
        }
        let wanted = before_last + 1;
        // SAFETY: `window` has WINDOW_BYTES, and `wanted` is at most that.
        let failed = unsafe {
            bpf_skb_load_bytes(
                self.ctx.as_ptr().cast(),
                offset as u32,
                window.as_mut_ptr().cast(),
                wanted as u32,
            )
        };
        if failed == 0 { opaque(wanted) } else { 0 }
    }
}

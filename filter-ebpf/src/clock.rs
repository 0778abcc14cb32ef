//! Reads the kernel's two clocks: the XDP program uses `jiffies64`, which cannot be read outside the
//! kernel.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_xdp_store_bytes};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use filter_common::abi::Clocks;

/// Writes [`Clocks`] over the first bytes of the packet. For `BPF_PROG_TEST_RUN`; it is never attached.
#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes it so")]
pub fn ringfence_clock(ctx: XdpContext) -> u32 {
    // SAFETY: neither takes arguments. Both change on the same tick.
    let mut clocks =
        unsafe { Clocks { jiffies: bpf_jiffies64(), monotonic: bpf_ktime_get_coarse_ns() } };
    // SAFETY: the context is the one the kernel passed in, and the length is that of the bytes.
    let failed = unsafe {
        bpf_xdp_store_bytes(
            ctx.as_ptr().cast(),
            0,
            (&raw mut clocks).cast(),
            size_of::<Clocks>() as u32,
        )
    };
    if failed == 0 { XDP_PASS } else { XDP_ABORTED }
}

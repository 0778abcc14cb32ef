//! Copies the beginnings of chosen packets for `ringfence capture`: no other tool sees packets that XDP drops.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_F_MMAPABLE, xdp_md};
use aya_ebpf::btf_maps::{Array, PerCpuArray, RingBuf};
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_xdp_load_bytes};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use filter_common::abi::{CAPTURED_BYTES, Capture, Captured};
use filter_common::address::Address;
use filter_common::decision::Code;
use filter_common::limits::{CAPTURE_BYTES, CAPTURED_PER_SECOND};
use filter_common::packet::Packet as _;
use filter_common::policy::Decision;
use filter_common::rate::Gcra;

use crate::atomic::Word;
use crate::hints::opaque;
use crate::packet::XdpPacket;
use crate::scratch;

#[btf_map]
static CAPTURE: Array<Capture, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
static CAPTURED: RingBuf<(), { CAPTURE_BYTES as usize }> = RingBuf::new();

#[btf_map]
static CAPTURE_RATE: PerCpuArray<u64, 1> = PerCpuArray::new();

const INTERVAL: u64 = 1_000_000_000 / CAPTURED_PER_SECOND;
const LIMIT: Gcra = Gcra { interval: INTERVAL, tolerance: INTERVAL * 200 };

/// Captures a packet if packets of its reason are captured.
#[inline(always)]
pub(crate) fn capture(ctx: &XdpContext, decision: Decision, dropped: bool) {
    let Some(wanted) = CAPTURE.get_ptr(0) else {
        return;
    };
    // SAFETY: an array's value; an aligned word is read in one access.
    let reasons = unsafe { (&raw const (*wanted).reasons).read_volatile() };
    if reasons & decision.code.bit() == 0 {
        return;
    }
    let [s0, s1] = decision.source.map_or([0; 2], Address::words);
    let how = u64::from(decision.code.number()) << 1 | u64::from(dropped);
    ringfence_capture(ctx.ctx, how, s0, s1);
}

/// Captures a packet. The result is not zero if it did not. The verifier follows this function separately.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_capture(ctx: *mut xdp_md, how: u64, s0: u64, s1: u64) -> u32 {
    let ctx = XdpContext::new(ctx);
    u32::from(take(&ctx, how, [s0, s1]).is_none())
}

#[inline(always)]
fn take(ctx: &XdpContext, how: u64, [s0, s1]: [u64; 2]) -> Option<()> {
    let wanted = CAPTURE.get_ptr_mut(0)?;
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: an array's value, in which a half-written network only captures other packets.
    let (until, [n0, n1], [m0, m1]) =
        unsafe { ((*wanted).until, (*wanted).network, (*wanted).mask) };
    if until <= now || (s0 ^ n0) & m0 | (s1 ^ n1) & m1 != 0 {
        return None;
    }
    // SAFETY: aligned, and an array's value.
    unsafe { Word::new(&raw mut (*wanted).matched) }.add(1);
    let bucket = CAPTURE_RATE.get_ptr_mut(0)?;
    // SAFETY: this CPU's own slot, aligned to eight bytes.
    if !LIMIT.take(&unsafe { Word::new(bucket) }, now) {
        return None;
    }
    let record = scratch::captured()?;
    let length = XdpPacket::new(ctx).length();
    // As in `XdpPacket::copy`.
    let before_last = opaque(length.min(CAPTURED_BYTES).wrapping_sub(1));
    if before_last >= CAPTURED_BYTES {
        return None;
    }
    // SAFETY: this CPU's own memory, which has this many bytes; the context is the kernel's.
    unsafe {
        (*record).time = now;
        (*record).interface = (*ctx.ctx).ingress_ifindex;
        (*record).reason = Code::from_number((how >> 1) as u32).number();
        (*record).length = length as u32;
        (*record).head_len = (before_last + 1) as u32;
        (*record).dropped = (how & 1) as u32;
        let head = (&raw mut (*record).head).cast();
        if bpf_xdp_load_bytes(ctx.as_ptr().cast(), 0, head, (before_last + 1) as u32) != 0 {
            return None;
        }
        CAPTURED.output_untyped::<Captured>(&*record, 0).ok()
    }
}

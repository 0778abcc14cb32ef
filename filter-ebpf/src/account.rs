//! The single exit: counts every packet once, sends events to the controller, and turns the decision into
//! the program's return value.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::btf_maps::{PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use filter_common::abi::Event;
use filter_common::decision::{Code, OVER_SOURCE, Reason, bits};
use filter_common::limits::{EVENT_BYTES, EVENTS_PER_SECOND};
use filter_common::packet::Packet as _;
use filter_common::policy::Decision;
use filter_common::rate::Gcra;

use crate::atomic::Word;
use crate::capture::capture;
use crate::counters::count;
use crate::interface::INTERFACE_SLOT;
use crate::packet::XdpPacket;
use crate::tables::{Side, now};

#[btf_map]
static EVENTS: RingBuf<(), { EVENT_BYTES as usize }> = RingBuf::new();

#[btf_map]
static EVENT_RATE: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Nanoseconds that one event costs in the bucket.
const EVENT_INTERVAL: u64 = 1_000_000_000 / EVENTS_PER_SECOND;

/// Counts the packet and returns its XDP verdict.
#[inline(always)]
pub(crate) fn account(ctx: &XdpContext, decision: Decision, side: Side) -> u32 {
    let length = length(ctx, decision.end) as u64;
    let code = decision.code;
    let dropped = code.drops();
    if code.bit() & NOTIFIED != 0 {
        notify(decision, side);
    }
    capture(ctx, decision, dropped && !decision.dry_run);
    if decision.dry_run {
        count(code, true, length);
        count(Reason::DryRun.into(), false, length);
        return XDP_PASS;
    }
    count(code, false, length);
    #[cfg(feature = "trace")]
    aya_log_ebpf::debug!(ctx, "reason {} dropped {}", code.number(), u32::from(dropped));
    if dropped { XDP_DROP } else { XDP_PASS }
}

/// The frame's length. A helper is needed only for a frame in several buffers, and a call costs more than
/// all the counting. There is only one buffer if the IP packet ends with it, or if it has the minimum
/// length of a frame, which is padded. (A frame may continue after the end of its packet.)
#[inline(always)]
fn length(ctx: &XdpContext, end: usize) -> usize {
    let first = ctx.data_end() - ctx.data();
    let is_all = end == first || end < first && first <= ETHERNET_MIN;
    if is_all && end != 0 { first } else { XdpPacket::new(ctx).length() }
}

/// The minimum length of an Ethernet frame without its checksum (IEEE 802.3 section 3.2.8).
const ETHERNET_MIN: usize = 60;

/// Reasons about which the controller is notified: the source is over its own limit, or the program has
/// banned it. The controller knows the bans that it has decided itself, and counts them in their entries;
/// a limit that sources share is not the fault of any one of them.
const NOTIFIED: u64 = OVER_SOURCE
    | bits(&[Reason::SynLimit, Reason::KnownLimit, Reason::Flooding, Reason::Signature]);

/// Sends an event, but not one for each packet of a flood.
#[inline(always)]
fn notify(decision: Decision, side: Side) {
    // Rare enough to be looked up again: kept until here, it would need room on the stack.
    let (Some(source), Some(config)) = (decision.source, Side::told(side.word()).config()) else {
        return;
    };
    let now = now(config);
    let Some(bucket) = EVENT_RATE.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own slot, aligned to eight bytes.
    let bucket = unsafe { Word::new(bucket) };
    let limit = Gcra { interval: EVENT_INTERVAL, tolerance: EVENT_INTERVAL * 20 };
    if limit.take(&bucket, now) {
        let [s0, s1] = source.words();
        ringfence_tell(decision.code.number().into(), s0, s1, now);
    }
}

/// Sends an event about a source. The result is not zero if the ring was full; then only the event is
/// lost, because the packet is counted anyway. The verifier follows this function separately.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_tell(code: u64, s0: u64, s1: u64, time: u64) -> u32 {
    let reason = Code::from_number(code as u32).number();
    let event = Event { time, reason, slot: INTERFACE_SLOT.load(), source: [s0, s1] };
    u32::from(EVENTS.output_untyped::<Event>(event, 0).is_err())
}

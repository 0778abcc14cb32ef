//! The one exit: counts every packet once, tells the controller what it must know, and turns the
//! decision into the program's return value.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::btf_maps::{PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use filter_common::abi::{
    COUNTERS_PER_INTERFACE, Counter, Event, FLAG_DISABLED, FLAG_DRY_RUN, counter_index,
};
use filter_common::decision::{Code, Reason, bits};
use filter_common::limits::{EVENT_BYTES, EVENTS_PER_SECOND, INTERFACES};
use filter_common::packet::Packet as _;
use filter_common::policy::Decision;
use filter_common::rate::Gcra;

use crate::atomic::Word;
use crate::interface::INTERFACE_SLOT;
use crate::packet::XdpPacket;
use crate::tables::{Side, now};

#[btf_map]
static COUNTERS: PerCpuArray<Counter, { INTERFACES * COUNTERS_PER_INTERFACE as usize }> =
    PerCpuArray::new();

#[btf_map]
static EVENTS: RingBuf<(), { EVENT_BYTES as usize }> = RingBuf::new();

#[btf_map]
static EVENT_RATE: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Nanoseconds that one event is worth.
const EVENT_INTERVAL: u64 = 1_000_000_000 / EVENTS_PER_SECOND;

/// Counts the packet and returns what XDP does with it.
#[inline(always)]
pub(crate) fn account(ctx: &XdpContext, decision: Decision, side: Side) -> u32 {
    let length = length(ctx, decision.end) as u64;
    let code = decision.code;
    let dropped = code.drops();
    let drops_nothing = FLAG_DRY_RUN | FLAG_DISABLED;
    let dry_run = dropped && side.config().is_some_and(|config| config.flags & drops_nothing != 0);
    if code.bit() & NOTIFIED != 0 {
        notify(decision, side);
    }
    if dry_run {
        count(code, true, length);
        count(Reason::DryRun.into(), false, length);
        return XDP_PASS;
    }
    count(code, false, length);
    #[cfg(feature = "trace")]
    aya_log_ebpf::debug!(ctx, "reason {} dropped {}", code.number(), u32::from(dropped));
    if dropped { XDP_DROP } else { XDP_PASS }
}

/// The frame's length. Only a frame in several buffers needs a helper for it, and a call costs more
/// than all that is counted: where the IP packet ends with the first buffer, or in it when that is no
/// longer than the least frame, which is padded, there is no other one. (A frame may say that its
/// packet ends in the first buffer and go on.)
#[inline(always)]
fn length(ctx: &XdpContext, end: usize) -> usize {
    let first = ctx.data_end() - ctx.data();
    let is_all = end == first || end < first && first <= ETHERNET_MIN;
    if is_all && end != 0 { first } else { XdpPacket::new(ctx).length() }
}

/// Bytes of the least Ethernet frame without its checksum (IEEE 802.3 section 3.2.8).
const ETHERNET_MIN: usize = 60;

#[inline(always)]
fn count(code: Code, would: bool, length: u64) {
    let index = counter_index(INTERFACE_SLOT.load(), would, code);
    if let Some(counter) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: this CPU's own slot; an XDP program is not interrupted by another on its CPU.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += length;
        }
    }
}

/// Reasons that are about one source: it is over its own limit, or the program banned it, and the
/// controller does not see its packets. Bans it decided itself, and counts them in their entries; of
/// limits that sources share no one source is to blame.
const NOTIFIED: u64 = bits(&[
    Reason::RegisterLimit,
    Reason::CredentialsLimit,
    Reason::InviteLimit,
    Reason::OptionsLimit,
    Reason::SubscribeLimit,
    Reason::OtherLimit,
    Reason::SynLimit,
    Reason::KnownLimit,
    Reason::Flooding,
    Reason::Signature,
]);

/// Sends an event, but not one for each packet of a flood.
#[inline(always)]
fn notify(decision: Decision, side: Side) {
    let (Some(source), Some(config)) = (decision.source, side.config()) else {
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

/// Sends an event about a source. Not zero: the ring was full, which loses the event and nothing
/// else, as the packet is counted all the same. A function that the verifier follows on its own.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_tell(code: u64, s0: u64, s1: u64, time: u64) -> u32 {
    let reason = Code::from_number(code as u32).number();
    let event = Event { time, reason, slot: INTERFACE_SLOT.load(), source: [s0, s1] };
    u32::from(EVENTS.output_untyped::<Event>(event, 0).is_err())
}

//! The one exit: counts every packet once, tells the controller what it must know, and turns the
//! decision into the program's return value.

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::btf_maps::{PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use filter_common::abi::{COUNTERS_PER_INTERFACE, Counter, Event, FLAG_DRY_RUN, counter_index};
use filter_common::decision::{Reason, Verdict};
use filter_common::limits::{EVENT_BYTES, EVENTS_PER_SECOND, INTERFACES};
use filter_common::packet::Packet as _;
use filter_common::policy::{Decision, Tables as _};
use filter_common::rate::Gcra;

use crate::atomic::Word;
use crate::packet::XdpPacket;
use crate::tables::KernelTables;

/// The interface this copy of the program serves, set when it is loaded.
#[unsafe(no_mangle)]
static INTERFACE_SLOT: Global<u32> = Global::new(0);

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
pub(crate) fn account(ctx: &XdpContext, decision: Decision) -> u32 {
    let length = XdpPacket::new(ctx).length() as u64;
    let reason = decision.reason;
    let dropped = reason.verdict() == Verdict::Drop;
    let dry_run =
        dropped && KernelTables.config().is_some_and(|config| config.flags & FLAG_DRY_RUN != 0);
    if dropped {
        notify(decision);
    }
    if dry_run {
        count(reason, true, length);
        count(Reason::DryRun, false, length);
        return XDP_PASS;
    }
    count(reason, false, length);
    #[cfg(feature = "trace")]
    aya_log_ebpf::debug!(ctx, "reason {} dropped {}", reason.index(), u32::from(dropped));
    if dropped { XDP_DROP } else { XDP_PASS }
}

#[inline(always)]
fn count(reason: Reason, would: bool, length: u64) {
    let index = counter_index(INTERFACE_SLOT.load(), would, reason);
    if let Some(counter) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: this CPU's own slot; an XDP program is not interrupted by another on its CPU.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += length;
        }
    }
}

/// Sends an event about a source that is over a limit: the controller does not see its packets.
/// Bans it decided itself, and counts them in their entries.
#[inline(always)]
fn notify(decision: Decision) {
    let (Reason::RegisterLimit, Some(source)) = (decision.reason, decision.source) else {
        return;
    };
    let now = KernelTables.now();
    let Some(bucket) = EVENT_RATE.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own slot, aligned to eight bytes.
    let bucket = unsafe { Word::new(bucket) };
    let limit = Gcra { interval: EVENT_INTERVAL, tolerance: EVENT_INTERVAL * 20 };
    if limit.take(&bucket, now) {
        let event = Event {
            time: now,
            reason: decision.reason.index(),
            slot: INTERFACE_SLOT.load(),
            source: source.words(),
        };
        // A full ring loses the event and nothing else: the packet is counted all the same.
        let _full = EVENTS.output_untyped::<Event>(event, 0);
    }
}

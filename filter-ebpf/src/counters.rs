//! The counters of packets, by interface and reason.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use filter_common::abi::{COUNTERS_PER_INTERFACE, Counter, counter_index};
use filter_common::decision::Code;
use filter_common::limits::INTERFACES;

use crate::interface::INTERFACE_SLOT;

#[btf_map]
static COUNTERS: PerCpuArray<Counter, { INTERFACES * COUNTERS_PER_INTERFACE as usize }> =
    PerCpuArray::new();

/// Counts a packet, or one that a dry run lets pass (`would`).
#[inline(always)]
pub(crate) fn count(code: Code, would: bool, length: u64) {
    let index = counter_index(INTERFACE_SLOT.load(), would, code);
    if let Some(counter) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: this CPU's own slot; no other XDP program interrupts this one on its CPU.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += length;
        }
    }
}

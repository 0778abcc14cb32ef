//! How many packets in a row came from banned IPv4 addresses, by receive queue. In a flood of them the gate of
//! bans only says yes, and is a line of memory that is in no near cache.

use core::cell::UnsafeCell;

use aya_ebpf::bindings::xdp_md;

use crate::hints::masked;

/// Queues that have a count of their own; a power of two.
const QUEUES: usize = 16;

/// From here on the next packet is expected to be banned as well.
const LONG: u64 = 8;

/// A line of the cache for each queue, so that CPUs do not take them from each other.
#[repr(C, align(64))]
struct Streaks(UnsafeCell<[[u64; 8]; QUEUES]>);

// SAFETY: words are read and written in one piece, and a count that is wrong costs time alone.
unsafe impl Sync for Streaks {}

static STREAKS: Streaks = Streaks(UnsafeCell::new([[0; 8]; QUEUES]));

#[inline(always)]
fn of_queue(ctx: *mut xdp_md) -> *mut u64 {
    // SAFETY: the context is the one that the kernel passed in.
    let queue = unsafe { (*ctx).rx_queue_index } as usize;
    // The mask keeps it inside.
    STREAKS.0.get().cast::<u64>().wrapping_add(masked::<{ QUEUES - 1 }>(queue) * 8)
}

/// Whether the next packet is expected to be from a banned address.
#[inline(always)]
pub(crate) fn is_long(ctx: *mut xdp_md) -> bool {
    // SAFETY: inside of the memory, which lives as long as the program, and aligned.
    unsafe { of_queue(ctx).read_volatile() >= LONG }
}

/// Counts a packet. Writes only what changes.
#[inline(always)]
pub(crate) fn note(ctx: *mut xdp_md, banned: bool) {
    let word = of_queue(ctx);
    // SAFETY: as above.
    let count = unsafe { word.read_volatile() };
    let new = if banned { (count + 1).min(LONG) } else { 0 };
    if new != count {
        // SAFETY: as above.
        unsafe { word.write_volatile(new) };
    }
}

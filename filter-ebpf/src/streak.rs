//! How many packets in a row may be of the same flood, by receive queue. In a flood from random sources most of the
//! time goes into lines of memory that are in no near cache: which of them the next packet needs is then known before
//! its source is looked up.

use core::cell::UnsafeCell;

use aya_ebpf::bindings::xdp_md;
use filter_common::policy::Flood;

use crate::hints::masked;

/// Queues that have a count of their own; a power of two.
const QUEUES: usize = 16;

/// From here on the next packet is expected to be of the same flood.
const LONG: u64 = 8;

/// The counts of a flood are from one to [`LONG`] more than a multiple of this; zero is none.
const FLOOD: u64 = 16;

/// The counts from which on a flood is expected.
const BANNED: u64 = FLOOD + LONG;
const GREYLISTED: u64 = 2 * FLOOD + LONG;

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

/// The flood of which the next packet is expected to be.
#[inline(always)]
pub(crate) fn flood(ctx: *mut xdp_md) -> Flood {
    // SAFETY: inside of the memory, which lives as long as the program, and aligned.
    match unsafe { of_queue(ctx).read_volatile() } {
        BANNED => Flood::Banned,
        GREYLISTED => Flood::Greylisted,
        _ => Flood::None,
    }
}

/// Counts a packet. Writes only what changes.
#[inline(always)]
pub(crate) fn note(ctx: *mut xdp_md, flood: Flood) {
    let word = of_queue(ctx);
    // SAFETY: as above.
    let count = unsafe { word.read_volatile() };
    let most = match flood {
        Flood::None => 0,
        Flood::Banned => BANNED,
        Flood::Greylisted => GREYLISTED,
    };
    let new = if most == 0 || count == most {
        most
    } else if most.wrapping_sub(count) < LONG {
        count + 1
    } else {
        // Another flood than that of the packet before.
        most - (LONG - 1)
    };
    if new != count {
        // SAFETY: as above.
        unsafe { word.write_volatile(new) };
    }
}

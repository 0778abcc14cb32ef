//! The maps, and the view of them that decides.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, PerCpuArray};
use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_loop};
use aya_ebpf::macros::btf_map;
use filter_common::abi::{BanEntry, Config, PORT_BLOCKS, PORTS_PER_BLOCK, port_place};
use filter_common::address::Address;
use filter_common::limits::{BANNED_ADDRESSES, BANNED_NETWORKS, BUCKETS, TRUSTED_NETWORKS};
use filter_common::packet::{Window, Words};
use filter_common::policy::{BanSlot, Tables};
use filter_common::rate::seen_unit;
use filter_common::sip::{self, Step};

use crate::atomic::Word;

#[btf_map]
static CONFIG: Array<Config, 1> = Array::new();

#[btf_map]
static PORTS: Array<[u8; PORTS_PER_BLOCK], { PORT_BLOCKS as usize }> = Array::new();

// Not preallocated: an empty table of a million costs nothing.
#[btf_map]
static BANS_V4: HashMap<
    u32,
    BanEntry,
    { BANNED_ADDRESSES as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

#[btf_map]
static BANS_V6: HashMap<
    [u64; 2],
    BanEntry,
    { BANNED_ADDRESSES as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

#[btf_map]
static BAN_NETS: LpmTrie<[u64; 2], BanEntry, { BANNED_NETWORKS as usize }> = LpmTrie::new();

#[btf_map]
static TRUSTED: LpmTrie<[u64; 2], u32, { TRUSTED_NETWORKS as usize }> = LpmTrie::new();

#[btf_map]
static REGISTER: Array<u64, { BUCKETS as usize }> = Array::new();

#[btf_map]
static SEEN: Array<u32, { BUCKETS as usize }> = Array::new();

#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// Memory of one CPU for the time of one packet.
#[repr(C)]
struct Scratch {
    window: Window,
    words: Words,
}

/// The maps as [`Tables`].
pub(crate) struct KernelTables;

/// A ban's value in its map.
pub(crate) struct Ban(*mut BanEntry);

impl BanSlot for Ban {
    #[inline(always)]
    fn until(&self) -> u64 {
        // SAFETY: a lookup's result stays readable while the program runs (RCU), and the controller
        // writes it whole.
        unsafe { (*self.0).until }
    }

    #[inline(always)]
    fn scope(&self) -> u8 {
        // SAFETY: as above.
        unsafe { (*self.0).scope }
    }

    #[inline(always)]
    fn hit(&self) {
        // SAFETY: as above; the field is aligned to eight bytes.
        unsafe { Word::new(&raw mut (*self.0).packets) }.add(1);
    }
}

impl Tables for KernelTables {
    type Ban<'a> = Ban;
    type Bucket<'a> = Word;

    #[inline(always)]
    fn config(&self) -> Option<Config> {
        CONFIG.get(0).copied()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: takes nothing. Coarse, a tick of a few milliseconds, is enough for bans of
        // seconds and limits of packets a second, and half the cost of the exact clock.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn ban(&self, source: Address) -> Option<Ban> {
        let slot = match source.v4_word() {
            Some(word) => BANS_V4.get_ptr_mut(word),
            None => BANS_V6.get_ptr_mut(source.words()),
        };
        slot.map(Ban)
    }

    #[inline(always)]
    fn network_ban(&self, source: Address) -> Option<Ban> {
        let entry = BAN_NETS.get(&Key::new(128, source.words()))?;
        Some(Ban(core::ptr::from_ref(entry).cast_mut()))
    }

    #[inline(always)]
    fn trusted(&self, source: Address) -> bool {
        TRUSTED.get(&Key::new(128, source.words())).is_some()
    }

    #[inline(always)]
    fn port_classes(&self, port: u16) -> u8 {
        let (block, byte) = port_place(port);
        PORTS.get(block).and_then(|block| block.get(byte)).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn register_bucket(&self, hash: u64) -> Option<Word> {
        let bucket = REGISTER.get_ptr_mut(hash as u32 & (BUCKETS - 1))?;
        // SAFETY: an array's value lives as long as the map and is aligned to eight bytes.
        Some(unsafe { Word::new(bucket) })
    }

    #[inline(always)]
    fn saw(&self, hash: u64, now: u64) {
        let unit = seen_unit(now);
        if let Some(seen) = SEEN.get_ptr_mut(hash as u32 & (BUCKETS - 1)) {
            // SAFETY: as above; an aligned word is read and written in one piece. Written only when
            // it changes, so that CPUs do not take the cache line from each other for each packet.
            unsafe {
                if seen.read_volatile() != unit {
                    seen.write_volatile(unit);
                }
            }
        }
    }

    #[inline(always)]
    fn join_paths(&self, words: Words) -> Words {
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
            return words;
        };
        // SAFETY: this CPU's own memory; an XDP program is not interrupted by another on its CPU.
        // Volatile, or the compiler would see that what is read is what was written.
        unsafe {
            let place = &raw mut (*scratch).words;
            place.write_volatile(words);
            place.read_volatile()
        }
    }

    #[inline(always)]
    fn with_window<R>(&self, fill: impl FnOnce(&mut Window) -> R) -> Option<R> {
        let scratch = SCRATCH.get_ptr_mut(0)?;
        // SAFETY: as above.
        Some(fill(unsafe { &mut (*scratch).window }))
    }

    #[inline(always)]
    fn search(&self, steps: usize) -> Step {
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
            return Step::On;
        };
        // SAFETY: as above.
        let window = unsafe { &raw const (*scratch).window };
        let mut search = Search { window, found: 0 };
        let step: unsafe extern "C" fn(u64, *mut Search) -> i64 = search_step;
        // SAFETY: the callback has the signature that `bpf_loop` asks for, and `search` outlives
        // the call.
        unsafe {
            bpf_loop(steps as u32, step as *mut c_void, (&raw mut search).cast(), 0);
        }
        match search.found {
            SEARCH_FOUND => Step::Found,
            SEARCH_END => Step::End,
            _ => Step::On,
        }
    }
}

/// The context of [`search_step`].
#[repr(C)]
struct Search {
    window: *const Window,
    found: u64,
}

const SEARCH_END: u64 = 1;
const SEARCH_FOUND: u64 = 2;

/// One step, called by `bpf_loop` (Linux 5.17). Returns whether to stop.
#[inline(never)]
unsafe extern "C" fn search_step(step: u64, search: *mut Search) -> i64 {
    // SAFETY: `KernelTables::search` passed both, and its window is this CPU's own.
    let (window, found) = unsafe { (&*(*search).window, &mut (*search).found) };
    *found = match sip::search(window, step as usize) {
        Step::On => return 0,
        Step::End => SEARCH_END,
        Step::Found => SEARCH_FOUND,
    };
    1
}

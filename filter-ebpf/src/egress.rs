//! The classifier of outgoing packets, which records known peers and who uses TCP services. It never changes or
//! drops a packet.

use core::ffi::c_void;

use aya_ebpf::bindings::{__sk_buff, BPF_NOEXIST, TC_ACT_UNSPEC};
use aya_ebpf::btf_maps::{Array, PerCpuArray, RingBuf};
use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::macros::{btf_map, classifier};
use aya_ebpf::programs::TcContext;
use filter_common::abi::{Challenged, Config, Learning, Peer, WireEvent, asked_key};
use filter_common::address::Address;
use filter_common::gate;
use filter_common::learn::{self, Leaving, Outcome, Outgoing, Peers, Reading};
use filter_common::limits::{WIRE_BYTES, WIRE_EVENTS_PER_SECOND};
use filter_common::packet::{self, Place, Window};
use filter_common::policy::{PeerSlot as _, Tables as _};
use filter_common::rate::Gcra;
use filter_common::wire::{self, Heard, Message, Replies};

use crate::atomic::Word;
use crate::scratch;
use crate::skb::SkbPacket;
use crate::tables::{
    self, ASKED, CHALLENGED, CROWDS, KNOWN, KNOWN_GATE, KernelTables, Record, Side,
};

#[btf_map]
static LEARNED: Array<Learning, 1> = Array::new();

/// The entry point at an interface's egress. `TC_ACT_UNSPEC`, which equals `TCX_NEXT`, leaves the packet
/// to other programs that are attached.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes it so")]
pub fn ringfence_out(ctx: TcContext) -> i32 {
    watch(&ctx);
    TC_ACT_UNSPEC
}

#[inline(always)]
fn watch(ctx: &TcContext) {
    // SAFETY: the context is the one the kernel passed in.
    let forwarded = unsafe { (*ctx.skb.skb).ingress_ifindex } != 0;
    if forwarded {
        // Not sent by the host itself: any host whose packets it routes could have written them.
        return;
    }
    let packet = SkbPacket::new(ctx);
    let Ok(headers) = packet::parse(&packet) else {
        return;
    };
    let Some(leaving) = learn::leaving(&packet, &headers) else {
        return;
    };
    let side = Side::now();
    if learn::may_serve(&leaving, &KernelPeers::new(side)) {
        let [first, second] = leaving.destination.words();
        let rest = side.word() | u64::from(leaving.port) << 16 | (leaving.header as u64) << 32;
        ringfence_visit(ctx.skb.skb, first, second, Place::from(leaving.payload).0, rest);
    }
    learn::note_asked(&leaving, &KernelPeers::new(side));
    if learn::is_watched(&leaving, &KernelPeers::new(side)) {
        let [first, second] = leaving.destination.words();
        let message = Place::from(leaving.payload).0;
        ringfence_learn(ctx.skb.skb, first, second, message, side.word());
        ringfence_hear(
            ctx.skb.skb,
            first,
            second,
            message,
            side.word() | u64::from(leaving.tcp) << 1,
        );
    }
}

/// Calls [`learn::note_visit`]. The last argument has the side, the port and the offset of the header. The
/// verifier follows this function separately.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_visit(
    ctx: *mut __sk_buff,
    first: u64,
    second: u64,
    payload: u64,
    rest: u64,
) -> u32 {
    let ctx = TcContext::new(ctx);
    let leaving = Leaving {
        destination: Address::from_words([first, second]),
        tcp: true,
        port: rest.wrapping_shr(16) as u16,
        header: rest.wrapping_shr(32) as usize,
        payload: Place(payload).into(),
    };
    learn::note_visit(&SkbPacket::new(&ctx), &leaving, &KernelPeers::new(Side::told(rest & 1)));
    0
}

#[btf_map]
static WIRE: RingBuf<(), { WIRE_BYTES as usize }> = RingBuf::new();

#[btf_map]
static WIRE_RATE: PerCpuArray<u64, 1> = PerCpuArray::new();

/// The limit of events: more would only describe the same scan, and the next event has the counts.
const WIRE_LIMIT: Gcra =
    Gcra { interval: 1_000_000_000 / WIRE_EVENTS_PER_SECOND, tolerance: 1_000_000_000 };

/// Calls [`wire::observe`]. The last argument has the side, and twice one over TCP. The verifier follows this
/// function separately.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_hear(
    ctx: *mut __sk_buff,
    first: u64,
    second: u64,
    message: u64,
    side: u64,
) -> u32 {
    let ctx = TcContext::new(ctx);
    let address = Address::from_words([first, second]);
    let peers = KernelPeers::new(Side::told(side & 1));
    wire::observe(&SkbPacket::new(&ctx), address, Place(message), side & 2 != 0, &peers);
    0
}

impl Outgoing for KernelPeers {
    #[inline(always)]
    fn config(&self) -> Option<&Config> {
        self.0.config()
    }

    #[inline(always)]
    fn now(&self, config: &Config) -> u64 {
        tables::now(config)
    }

    #[inline(always)]
    fn with_window<R>(&self, fill: impl FnOnce(&mut Window) -> R) -> Option<R> {
        self.0.with_window(fill)
    }
}

impl Replies for KernelPeers {
    type Record<'a> = Record;

    #[inline(always)]
    fn read_message(&self, bytes: usize, seed: u64) -> Message {
        self.0.read_message(bytes, seed)
    }

    #[inline(always)]
    fn challenged(&self, address: Address) -> Option<Record> {
        self.0.challenged(address)
    }

    #[inline(always)]
    fn challenge(&self, address: Address) -> Option<Record> {
        // SAFETY: this CPU's own memory, which nothing writes.
        let record: &Challenged = unsafe { &*scratch::unchallenged()? };
        // Another CPU may have made it meanwhile.
        let _there = CHALLENGED.insert(address.words(), record, u64::from(BPF_NOEXIST));
        self.0.challenged(address)
    }

    #[inline(always)]
    fn tell(&self, heard: &Heard, message: &Message, record: &Record) {
        let (Some(bucket), Some(event), Some(window)) =
            (WIRE_RATE.get_ptr_mut(0), scratch::event(), scratch::window())
        else {
            return;
        };
        // SAFETY: this CPU's own slot, aligned to eight bytes.
        let bucket = unsafe { Word::new(bucket) };
        if !WIRE_LIMIT.take(&bucket, heard.time) {
            return;
        }
        // SAFETY: this CPU's own memory, and a lookup's result.
        unsafe {
            let record = record.value();
            (*event).time = heard.time;
            (*event).address = heard.address.words();
            (*event).kind = heard.kind;
            (*event).status = heard.status;
            (*event).flags = wire::flags(heard, message);
            (*event).challenges = (*record).challenges;
            (*event).answered = (*record).answered;
            (*event).refused = (*record).refused;
            (*event).accepted = (*record).accepted;
            (*event).lengths = wire::lengths(message);
            wire::text(&*window, message.session_at as usize, &mut (*event).session);
            wire::text(&*window, message.account_at as usize, &mut (*event).account);
            let _full = WIRE.output_untyped::<WireEvent>(&*event, 0);
        }
    }
}

/// Calls [`learn::learn`] and counts the result. Like the `stages` of the other program, the verifier
/// follows this function separately.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_learn(
    ctx: *mut __sk_buff,
    first: u64,
    second: u64,
    message: u64,
    side: u64,
) -> u32 {
    let ctx = TcContext::new(ctx);
    let peer = Address::from_words([first, second]);
    let peers = KernelPeers::new(Side::told(side));
    let outcome = learn::learn(&SkbPacket::new(&ctx), peer, Place(message), &peers);
    if let (Some(learned), true) = (LEARNED.get_ptr_mut(0), outcome != Outcome::Nothing) {
        // SAFETY: an array's value lives as long as the map; the fields are aligned to eight bytes.
        let counter = unsafe {
            match outcome {
                Outcome::Learned => &raw mut (*learned).learned,
                Outcome::Refreshed => &raw mut (*learned).refreshed,
                Outcome::Nothing | Outcome::Full => &raw mut (*learned).full,
            }
        };
        // SAFETY: as above.
        unsafe { Word::new(counter) }.add(1);
    }
    outcome as u32
}

/// The maps, as [`Peers`].
struct KernelPeers(KernelTables);

impl KernelPeers {
    #[inline(always)]
    fn new(side: Side) -> Self {
        Self(KernelTables { ctx: core::ptr::null_mut(), side })
    }
}

impl Peers for KernelPeers {
    #[inline(always)]
    fn port_classes(&self, tcp: bool, port: u16) -> u8 {
        self.0.port_classes(tcp, port)
    }

    #[inline(always)]
    fn guards(&self, tcp: bool, port: u16) -> u8 {
        self.0.guards(tcp, port)
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        self.0.is_loopback()
    }

    #[inline(always)]
    fn visited(&self, by: Address, tcp: bool, port: u16, now: u64) {
        self.0.visited(by, tcp, port, now);
    }

    #[inline(always)]
    fn asked(&self, other: Address, port: u16) -> Option<u64> {
        self.0.asked(other, port)
    }

    #[inline(always)]
    fn ask(&self, other: Address, port: u16, now: u64) {
        let _full = ASKED.insert(asked_key(other, port), now, 0);
    }

    #[inline(always)]
    fn read_all(&self, bytes: usize, begun: Reading) -> Reading {
        let (Some(window), Some(reading)) = (scratch::window(), scratch::reading()) else {
            return begun;
        };
        // In a map, not on the stack: Linux 6.1's verifier assumes that a callback leaves only the stack
        // values of one call, and removes the code for all others. SAFETY: this CPU's own memory; no
        // other packet is handled meanwhile.
        unsafe { reading.write_volatile(begun) };
        let mut read = Read { window, reading };
        let step: unsafe extern "C" fn(u64, *mut Read) -> i64 = read_step;
        // SAFETY: the callback has the signature that `bpf_loop` requires, and `read` outlives the call.
        unsafe {
            bpf_loop(bytes as u32, step as *mut c_void, (&raw mut read).cast(), 0);
        }
        // SAFETY: as above.
        unsafe { reading.read_volatile() }
    }

    #[inline(always)]
    fn until(&self, peer: Address) -> Option<u64> {
        self.0.peer(peer).map(|peer| peer.until())
    }

    #[inline(always)]
    fn prolong(&self, peer: Address, until: u64) {
        if let Some(peer) = KNOWN.get_ptr_mut(peer.words()) {
            // SAFETY: a lookup's result stays writable while the program runs (RCU); aligned.
            unsafe { (&raw mut (*peer).until).write_volatile(until) }
        }
    }

    #[inline(always)]
    fn announce(&self, place: gate::Place) {
        let Some(word) = KNOWN_GATE.get_ptr_mut(place.word) else {
            return;
        };
        let bit = 1u64.wrapping_shl(place.shift);
        // SAFETY: an array's value lives as long as the map; an aligned word is read in one access.
        if unsafe { word.read_volatile() } & bit == 0 {
            // SAFETY: as above.
            unsafe { Word::new(word) }.set(bit);
        }
    }

    #[inline(always)]
    fn insert(&self, peer: Address, until: u64) -> bool {
        let entry = Peer { until, ..Peer::default() };
        // An entry that another CPU has made since the lookup is as good.
        matches!(KNOWN.insert(peer.words(), entry, u64::from(BPF_NOEXIST)), Ok(()) | Err(EEXIST))
    }

    #[inline(always)]
    fn crowd(&self, place: u32) -> u64 {
        CROWDS.get(place).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn join(&self, place: u32) {
        if let Some(crowd) = CROWDS.get_ptr_mut(place) {
            // SAFETY: an array's value lives as long as the map and is aligned to eight bytes.
            unsafe { Word::new(crowd) }.add(1);
        }
    }
}

/// `include/uapi/asm-generic/errno-base.h`, negative as helpers return it.
const EEXIST: i32 = -17;

/// The context of [`read_step`].
#[repr(C)]
struct Read {
    window: *const Window,
    reading: *mut Reading,
}

/// One byte, called by `bpf_loop` (Linux 5.17). Returns whether to stop.
#[inline(never)]
unsafe extern "C" fn read_step(at: u64, read: *mut Read) -> i64 {
    // SAFETY: `KernelPeers::read_all` passed both, which are this CPU's own.
    let (window, reading) = unsafe { (&*(*read).window, &mut *(*read).reading) };
    i64::from(learn::read(window, at as usize, reading))
}

//! The stages of the decision, each a function that the verifier follows on its own and once, with
//! any arguments: a *global* function (`btf_prepare_func_args` in `kernel/bpf/btf.c`). Written as
//! one, it would follow each stage for every path that leads to it, of which there are more than it
//! allows.
//!
//! Such a function takes the context and plain numbers and gives a number. What it is told, it must
//! check again; that is why the stages of `filter_common::policy` take their configuration and the
//! time themselves.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use filter_common::address::Address;
use filter_common::decision::Code;
use filter_common::packet::Place;
use filter_common::policy::tiers::{self, Task};
use filter_common::policy::{bans, stream};
use filter_common::sip;

use crate::account;
use crate::packet::XdpPacket;
use crate::tables::{self, KernelTables, Side};

/// [`packet::parse`](filter_common::packet::parse), into this CPU's memory.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_parse(ctx: *mut xdp_md) -> u32 {
    let ctx = XdpContext::new(ctx);
    tables::parse(&XdpPacket::new(&ctx))
}

/// Copies bytes of the packet into this CPU's [`Edge`](tables::Edge). Zero, unless there are fewer.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_far(ctx: *mut xdp_md, offset: u64, len: u64) -> u32 {
    let ctx = XdpContext::new(ctx);
    u32::from(XdpPacket::new(&ctx).load_edge(offset as usize, len as usize))
}

/// [`bans::network`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_net(s0: u64, s1: u64, reach: u64, now: u64) -> u32 {
    let tables = KernelTables { ctx: core::ptr::null_mut(), side: Side::told(0) };
    let source = Address::from_words([s0, s1]);
    u32::from(bans::network(source, reach as u8, &tables, now as u32))
}

/// Whether the address with these words is in a trusted network.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_trust(s0: u64, s1: u64) -> u32 {
    u32::from(tables::trusted([s0, s1]))
}

/// Sends an event.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_tell(code: u64, s0: u64, s1: u64, now: u64) -> u32 {
    account::tell(Code::from_number(code as u32), [s0, s1], now)
}

/// [`stream::take`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_stream(ctx: *mut xdp_md, w0: u64, w1: u64, w2: u64, w3: u64) -> u32 {
    let ctx = XdpContext::new(ctx);
    let side = Side::of_word(w3);
    let (packet, tables) = (XdpPacket::new(&ctx), KernelTables { ctx: ctx.ctx, side });
    stream::take(&packet, [w0, w1, w2, w3], &tables).number()
}

/// [`tiers::classify`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_class(ctx: *mut xdp_md, w0: u64, w1: u64, w2: u64, w3: u64) -> u64 {
    let ctx = XdpContext::new(ctx);
    let side = Side::of_word(w3);
    let (packet, tables) = (XdpPacket::new(&ctx), KernelTables { ctx: ctx.ctx, side });
    tiers::classify(&packet, [w0, w1, w2, w3], &tables).0
}

/// [`tiers::limit`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_limit(s0: u64, s1: u64, task: u64, side: u64) -> u32 {
    let tables = KernelTables { ctx: core::ptr::null_mut(), side: Side::told(side) };
    tiers::limit([s0, s1], Task(task), &tables).number()
}

/// [`tiers::flood`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_flood(ctx: *mut xdp_md, w0: u64, w1: u64, w3: u64) -> u32 {
    let tables = KernelTables { ctx, side: Side::of_word(w3) };
    u32::from(tiers::flood([w0, w1, 0, w3], &tables))
}

/// [`tiers::search`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_search(ctx: *mut xdp_md, message: u64) -> u64 {
    let ctx = XdpContext::new(ctx);
    // It asks nothing of the configuration.
    let tables = KernelTables { ctx: ctx.ctx, side: Side::told(0) };
    tiers::search(&XdpPacket::new(&ctx), Place(message), &tables).to_word()
}

/// [`tiers::is_scanner`], of which it has all that needs no context: one that is passed and not used
/// is left out by the compiler, and missed by the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_scanner(agent: u64) -> u32 {
    let Some(window) = tables::window() else {
        return 0;
    };
    // SAFETY: this CPU's own memory, and nobody writes it now.
    let agent = sip::agent(unsafe { &*window }, agent as usize);
    u32::from(tables::signature(&agent))
}

/// [`tiers::greylisted`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_grey(ctx: *mut xdp_md, w0: u64, w1: u64, w2: u64, w3: u64) -> u32 {
    let ctx = XdpContext::new(ctx);
    let side = Side::of_word(w3);
    let (packet, tables) = (XdpPacket::new(&ctx), KernelTables { ctx: ctx.ctx, side });
    tiers::greylisted(&packet, [w0, w1, w2, w3], &tables).number()
}

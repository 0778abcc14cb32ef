//! The stages of the decision. Each is a *global* function that the verifier follows separately and only
//! once, with any arguments (`btf_prepare_func_args` in `kernel/bpf/btf.c`). In a single function, it
//! would follow each stage for every path that leads to it, which exceeds its limit.
//!
//! Such a function takes the context and plain numbers, and returns a number. It must check its arguments
//! again; therefore the stages of `filter_common::policy` read the configuration and the time themselves.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use filter_common::abi::Config;
use filter_common::address::Address;
use filter_common::decision::Code;
use filter_common::packet::{self, Packet, Place, Unparsed, Words};
use filter_common::policy::bans::{InNetwork, OfAddress};
use filter_common::policy::{Stages, Tables as _, Task, answers, bans, exposure, stream, tiers};
use filter_common::sip::Fields;

use crate::packet::XdpPacket;
use crate::scratch;
use crate::tables::{KernelTables, Side};

/// The stages of the decision, each called through its function.
pub(crate) struct KernelStages(KernelTables);

impl KernelStages {
    #[inline(always)]
    pub(crate) fn new(ctx: *mut xdp_md, side: Side) -> Self {
        Self(KernelTables { ctx, side })
    }
}

impl Stages for KernelStages {
    type Tables = KernelTables;

    #[inline(always)]
    fn tables(&self) -> &KernelTables {
        &self.0
    }

    #[inline(always)]
    fn parse(&self, _packet: &impl Packet) -> Result<Words, Unparsed> {
        match ringfence_parse(self.0.ctx) {
            PARSED => {
                let words = scratch::words().ok_or(Unparsed::Malformed)?;
                // SAFETY: this CPU's own memory, which nothing writes now.
                Ok(unsafe { words.read() })
            }
            NOT_IP => Err(Unparsed::NotIp),
            _ => Err(Unparsed::Malformed),
        }
    }

    #[inline(always)]
    fn address_banned(&self, source: Address, reach: u8, config: &Config, now: u32) -> OfAddress {
        let [s0, s1] = source.words();
        let moment = u64::from(now) << REACH_BITS | u64::from(reach);
        let found = ringfence_address(s0, s1, moment, config.seed, config.cache_lines.into());
        OfAddress::from_number(found)
    }

    #[inline(always)]
    fn network_banned(&self, source: Address, reach: u8, now: u32) -> InNetwork {
        let [s0, s1] = source.words();
        InNetwork::from_number(ringfence_net(s0, s1, reach.into(), now.into()))
    }

    #[inline(always)]
    fn admit(&self, [w0, w1, _, w3]: Words, open: Code) -> Code {
        let open = open.number().into();
        Code::from_number(ringfence_port(w0, w1, self.0.side.in_word(w3), open))
    }

    #[inline(always)]
    fn stream(&self, _packet: &impl Packet, [w0, w1, w2, w3]: Words) -> Code {
        Code::from_number(ringfence_stream(self.0.ctx, w0, w1, w2, self.0.side.in_word(w3)))
    }

    #[inline(always)]
    fn stream_of_peer(&self, _packet: &impl Packet, [w0, w1, w2, w3]: Words) -> bool {
        ringfence_peer(self.0.ctx, w0, w1, w2, self.0.side.in_word(w3)) != 0
    }

    #[inline(always)]
    fn answered(&self, _packet: &impl Packet, [w0, w1, w2, w3]: Words, code: Code) -> Code {
        let number = u64::from(code.number()) << CODE_SHIFT;
        let w3 = self.0.side.in_word(w3) & WITHOUT_CODE | number;
        Code::from_number(ringfence_answer(self.0.ctx, w0, w1, w2, w3))
    }

    #[inline(always)]
    fn classify(&self, _packet: &impl Packet, [w0, w1, w2, w3]: Words) -> Task {
        Task::from_word(ringfence_class(self.0.ctx, w0, w1, w2, self.0.side.in_word(w3)))
    }

    #[inline(always)]
    fn search(&self, _packet: &impl Packet, Place(message): Place) -> Fields {
        Fields::from_word(ringfence_search(self.0.ctx, message))
    }

    #[inline(always)]
    fn limit(&self, [s0, s1]: [u64; 2], task: Task) -> Code {
        Code::from_number(ringfence_limit(s0, s1, task.to_word(), self.0.side.word()))
    }

    #[inline(always)]
    fn is_scanner(&self, agent: u64) -> bool {
        ringfence_scanner(agent) != 0
    }

    #[inline(always)]
    fn greylisted(&self, _packet: &impl Packet, [w0, w1, w2, w3]: Words) -> Code {
        Code::from_number(ringfence_grey(self.0.ctx, w0, w1, w2, self.0.side.in_word(w3)))
    }

    #[inline(always)]
    fn flood(&self, _packet: &impl Packet, [w0, w1, _, w3]: Words) -> bool {
        ringfence_flood(self.0.ctx, w0, w1, self.0.side.in_word(w3)) != 0
    }

    #[inline(always)]
    fn in_trusted_network(&self, source: Address) -> bool {
        let [s0, s1] = source.words();
        ringfence_trust(s0, s1) != 0
    }
}

/// The result of [`ringfence_parse`] if the headers are in this CPU's memory.
const PARSED: u32 = 0;
/// Its result for [`Unparsed::NotIp`].
const NOT_IP: u32 = 1;
/// Its result for [`Unparsed::Malformed`].
const MALFORMED: u32 = 2;

/// The maps for a stage that does not read the packet.
#[inline(always)]
fn without_packet(side: Side) -> KernelTables {
    KernelTables { ctx: core::ptr::null_mut(), side }
}

/// [`packet::parse`], into this CPU's memory.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_parse(ctx: *mut xdp_md) -> u32 {
    let ctx = XdpContext::new(ctx);
    let Some(words) = scratch::words() else {
        return MALFORMED;
    };
    match packet::parse(&XdpPacket::new(&ctx)) {
        Ok(headers) => {
            // SAFETY: this CPU's own memory; no other XDP program interrupts this one on its CPU.
            unsafe { *words = headers.to_words() };
            PARSED
        }
        Err(Unparsed::NotIp) => NOT_IP,
        Err(Unparsed::Malformed) => MALFORMED,
    }
}

/// The bits of a sum of `SCOPE_*` in an argument that it shares with the time.
const REACH_BITS: u32 = 8;

/// [`bans::address_v6`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_address(s0: u64, s1: u64, moment: u64, seed: u64, lines: u64) -> u32 {
    let source = Address::from_words([s0, s1]);
    let (reach, now) = (moment as u8, (moment >> REACH_BITS) as u32);
    let tables = without_packet(Side::told(0));
    bans::address_v6(source, reach, now, seed, lines as u32, &tables) as u32
}

/// [`bans::network`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_net(s0: u64, s1: u64, reach: u64, now: u64) -> u32 {
    let source = Address::from_words([s0, s1]);
    bans::network(source, reach as u8, &without_packet(Side::told(0)), now as u32) as u32
}

/// Whether the address with these words is in a network that is trusted on this interface.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_trust(s0: u64, s1: u64) -> u32 {
    u32::from(without_packet(Side::told(0)).trusted(Address::from_words([s0, s1])))
}

/// [`exposure::admit`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_port(w0: u64, w1: u64, w3: u64, open: u64) -> u32 {
    let open = Code::from_number(open as u32);
    exposure::admit([w0, w1, 0, w3], open, &without_packet(Side::of_word(w3))).number()
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

/// [`stream::of_peer`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_peer(ctx: *mut xdp_md, w0: u64, w1: u64, w2: u64, w3: u64) -> u32 {
    let tables = KernelTables { ctx, side: Side::of_word(w3) };
    u32::from(stream::of_peer([w0, w1, w2, w3], &tables))
}

/// [`tiers::classify`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_class(ctx: *mut xdp_md, w0: u64, w1: u64, w2: u64, w3: u64) -> u64 {
    let ctx = XdpContext::new(ctx);
    let side = Side::of_word(w3);
    let (packet, tables) = (XdpPacket::new(&ctx), KernelTables { ctx: ctx.ctx, side });
    tiers::classify(&packet, [w0, w1, w2, w3], &tables).to_word()
}

/// [`answers::admit`]. The code is in the place of the last word's port and TCP header, which are not read.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_answer(ctx: *mut xdp_md, w0: u64, w1: u64, w2: u64, w3: u64) -> u32 {
    let ctx = XdpContext::new(ctx);
    let side = Side::of_word(w3);
    let (packet, tables) = (XdpPacket::new(&ctx), KernelTables { ctx: ctx.ctx, side });
    let code = Code::from_number((w3 >> CODE_SHIFT) as u32);
    answers::admit(&packet, [w0, w1, w2, w3 & WITHOUT_CODE], code, &tables).number()
}

const CODE_SHIFT: u32 = 32;
const WITHOUT_CODE: u64 = 0xffff_ffff;

/// [`tiers::limit`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_limit(s0: u64, s1: u64, task: u64, side: u64) -> u32 {
    tiers::limit([s0, s1], Task::from_word(task), &without_packet(Side::told(side))).number()
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
    // It does not read the configuration.
    let tables = KernelTables { ctx: ctx.ctx, side: Side::told(0) };
    tiers::search(&XdpPacket::new(&ctx), Place(message), &tables).to_word()
}

/// [`tiers::is_scanner`]. It takes no context: the compiler does not pass an unused one, and the verifier
/// would miss it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ringfence_scanner(agent: u64) -> u32 {
    u32::from(tiers::is_scanner(agent, &without_packet(Side::told(0))))
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

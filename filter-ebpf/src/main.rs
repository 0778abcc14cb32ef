//! The XDP program: read, decide, account, return.
//!
//! Only glue: `filter-common` decides, with the same code that the tests run on the host. Every packet
//! leaves through [`account::account`].

#![no_std]
#![no_main]
// The inline assembly that `atomic` needs is unstable for this target.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(
    clippy::inline_always,
    reason = "one BPF program: a call costs its five registers, and the verifier forgets bounds"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "lengths and indices are bounded or masked; a checked conversion is a panic's path"
)]
#![expect(missing_docs, reason = "the macro of the entry function makes one without")]
#![expect(unreachable_pub, reason = "the same macro wants a public function")]

mod account;
mod atomic;
mod capture;
mod clock;
mod counters;
mod egress;
mod hints;
mod interface;
mod packet;
mod scratch;
mod skb;
mod socket;
mod stages;
mod streak;
mod tables;

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use filter_common::policy;

use crate::packet::XdpPacket;
use crate::stages::KernelStages;
use crate::tables::Side;

/// The entry point. `frags`: a driver may deliver a jumbo frame in several buffers, of which the first
/// may be empty.
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes it so")]
pub fn ringfence(ctx: XdpContext) -> u32 {
    let packet = XdpPacket::new(&ctx);
    let side = Side::now();
    let decision = policy::decide(&packet, &KernelStages::new(ctx.ctx, side));
    account::account(&ctx, decision, side)
}

/// Never reached: if any path could panic, the verifier would see the endless loop and refuse the
/// program.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel offers its helpers only to programs under the GPL; the source is also under MIT or
/// Apache-2.0.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

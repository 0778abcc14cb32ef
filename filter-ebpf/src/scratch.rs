//! Memory of one CPU for the handling of one packet, because the stack has only 512 bytes.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use filter_common::abi::{Captured, Challenged, WireEvent};
use filter_common::learn::Reading;
use filter_common::packet::{Window, Words};
use filter_common::wire;

#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

#[repr(C)]
struct Scratch {
    window: Window,
    words: Words,
    reading: Reading,
    message: wire::Reading,
    event: WireEvent,
    /// Always zero.
    unchallenged: Challenged,
    edge: Edge,
    captured: Captured,
}

/// Bytes that are read outside the packet's first buffer.
pub(crate) type Edge = [u64; 8];

/// The start of a message.
#[inline(always)]
pub(crate) fn window() -> Option<*mut Window> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: a map's value.
    Some(unsafe { &raw mut (*scratch).window })
}

/// The bytes that are read outside the packet's first buffer.
#[inline(always)]
pub(crate) fn edge() -> Option<*const Edge> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: a map's value.
    Some(unsafe { &raw const (*scratch).edge })
}

/// The state of reading an outgoing message.
#[inline(always)]
pub(crate) fn reading() -> Option<*mut Reading> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: a map's value.
    Some(unsafe { &raw mut (*scratch).reading })
}

/// The state of reading a message in either direction.
#[inline(always)]
pub(crate) fn message() -> Option<*mut wire::Reading> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: a map's value.
    Some(unsafe { &raw mut (*scratch).message })
}

/// The record of an address that has not been challenged, which is too large for the stack.
#[inline(always)]
pub(crate) fn unchallenged() -> Option<*const Challenged> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: a map's value.
    Some(unsafe { &raw const (*scratch).unchallenged })
}

/// An event that is being made.
#[inline(always)]
pub(crate) fn event() -> Option<*mut WireEvent> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: a map's value.
    Some(unsafe { &raw mut (*scratch).event })
}

/// A packet that is being captured.
#[inline(always)]
pub(crate) fn captured() -> Option<*mut Captured> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: a map's value.
    Some(unsafe { &raw mut (*scratch).captured })
}

/// The headers of a packet.
#[inline(always)]
pub(crate) fn words() -> Option<*mut Words> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: a map's value.
    Some(unsafe { &raw mut (*scratch).words })
}

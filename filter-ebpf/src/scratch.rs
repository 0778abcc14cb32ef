//! Memory of one CPU for the handling of one packet, because the stack has only 512 bytes.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use filter_common::learn::Reading;
use filter_common::packet::{Window, Words};

#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

#[repr(C)]
struct Scratch {
    window: Window,
    words: Words,
    reading: Reading,
    edge: Edge,
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

/// The headers of a packet.
#[inline(always)]
pub(crate) fn words() -> Option<*mut Words> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: a map's value.
    Some(unsafe { &raw mut (*scratch).words })
}

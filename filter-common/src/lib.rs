//! What the XDP program and everything on the host share: the packet and SIP parsers, the decision
//! about a packet, the arithmetic of the limits, and the layout of the BPF maps.
//!
//! ```text
//! frame ─ packet ─▶ Headers ─ sip ─▶ Start ─ policy + Tables ─▶ Reason ─▶ verdict, counter
//! ```
//!
//! The same code runs in the kernel over packet memory and on the host over `&[u8]`, so that tests and
//! fuzzing run the code that decides. It therefore never uses a pointer, allocates or panics, and a
//! constant in [`limits`] bounds every loop.
//!
//! *Fail open*: packets that are not understood pass. Only a positive match drops.

#![no_std]
#![cfg_attr(not(feature = "user"), forbid(unsafe_code))]
#![warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may panic")
)]
#![expect(
    clippy::inline_always,
    reason = "one BPF program: a call costs its five registers, and the verifier forgets bounds"
)]

pub mod abi;
pub mod address;
pub mod ban_cache;
pub mod ban_table;
pub mod class;
pub mod crowd;
pub mod decision;
pub mod gate;
pub mod greylist;
pub mod learn;
pub mod limits;
pub mod packet;
pub mod policy;
pub mod rate;
pub mod sip;
pub mod wire;

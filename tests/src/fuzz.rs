//! What must hold for any bytes whatever, as the crate `ringfence-packets` checks it for packets, and for
//! the daemon's parsers.

pub mod asterisk;

pub use ringfence_packets::fuzz::{Check, corpus, decide, packet, reference, sip};

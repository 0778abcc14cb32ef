//! Properties that must hold for any bytes: those for packets from the crate `ringfence-packets`, and
//! those for the daemon's parsers and its control socket.

pub mod asterisk;
pub mod http;
pub mod list;
pub mod mmdb;

pub use ringfence_packets::fuzz::{Check, corpus, decide, packet, reference, sip};

//! The fixture packets with their expected reasons, and their decision on the host: the program's own
//! code over a model of its maps.
//!
//! This crate builds without the XDP program, aya and the daemon, so its tests take seconds. The crate
//! `ringfence-tests` sends the same packets through the kernel.

pub mod cases;
pub mod fuzz;
pub mod model;
pub mod packet_builder;

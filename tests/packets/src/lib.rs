//! The fixture packets, with the reason that each must have, and what decides them on the host: the
//! program's own code over a model of its maps.
//!
//! It builds without the XDP program, aya and the daemon, so that its tests take seconds. The crate
//! `ringfence-tests` puts the same packets through the kernel.

pub mod cases;
pub mod fuzz;
pub mod model;
pub mod packet_builder;

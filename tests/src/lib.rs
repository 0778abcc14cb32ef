//! The lab: a real Asterisk, a real phone and real attackers around the `ringfence` binary. Each runs in
//! a network namespace that exists only during the run.
//!
//! Nothing here decides what is dropped. The lab only builds the environment, watches it from outside,
//! and reports its observations. No packet leaves the namespaces: none of them has a default route.

pub mod accessible;
pub mod asterisk;
pub mod attack;
pub mod baresip;
pub mod bench;
pub mod bpf;
pub mod browser;
pub mod chance;
pub mod child;
pub mod client;
pub mod crowdsec;
pub mod debian;
pub mod fail2ban;
pub mod foreign;
pub mod fuzz;
pub mod guesser;
pub mod interrupt;
pub mod kamailio;
pub mod kernel;
pub mod lab;
pub mod nats;
pub mod netns;
pub mod nginx;
pub mod notice;
pub mod old_kernel;
pub mod phone;
pub mod picture;
pub mod ringfence;
pub mod scratch;
pub mod screen;
pub mod servers;
pub mod sip;
pub mod sip_socket;
pub mod site;
pub mod sshd;
pub mod stream;
pub mod tagger;
pub mod tap;
pub mod tmux;
pub mod wire;
pub mod world;

pub use ringfence_packets::{cases, model, packet_builder};

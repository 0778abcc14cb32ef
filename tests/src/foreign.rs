//! A foreign XDP program on an interface: two instructions that pass every packet.
//!
//! It uses bpf(2) directly, so it is independent of the program under test.

use anyhow::Context;
use nix::net::if_::if_nametoindex;

use crate::bpf::{Link, Program};
use crate::netns::Netns;

/// The program's name.
pub const NAME: &str = "somebody_else";

/// `r0 = XDP_PASS; exit`, each with opcode, registers, offset and immediate value.
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];

/// The program, attached until it is dropped.
#[derive(Debug)]
pub struct Foreign {
    _program: Program,
    _link: Link,
}

impl Foreign {
    /// Attaches the program to `interface` of `host`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses (this needs root).
    pub fn attach(host: &Netns, interface: &str) -> anyhow::Result<Self> {
        let program = Program::load(NAME, &PASS).context("load somebody's XDP program")?;
        let link = host.run_in(|| {
            let interface = if_nametoindex(interface).context("find the interface")?;
            Link::attach(&program, interface).context("attach somebody's XDP program")
        })?;
        Ok(Self { _program: program, _link: link })
    }
}

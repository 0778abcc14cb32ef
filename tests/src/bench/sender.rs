//! The sender: a small XDP program that writes a source into a frame and redirects it to an interface. It
//! does the same work for all sources, so that a flood and its baseline differ only in the receiver.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, ensure};
use nix::net::if_::if_nametoindex;

use super::code::{
    ADD, ADD_IMM, ALU32_AND_IMM, ALU32_MOV, ALU32_MUL_IMM, ALU32_OR_IMM, ALU32_RSH_IMM, ALU32_XOR,
    AND_IMM, Code, LOAD_64, LSH_IMM, MOV, MOV_IMM, MUL, OR, R0, R1, R2, R5, R7, R8, RSH_IMM,
    STORE_16, STORE_32, STORE_64, SUB, TO_BE, XOR, XOR_IMM,
};
use super::sources::{
    self, Choice, LOOPBACK_BITS, V4_BEFORE_LOOPBACK, V4_FIRST, V4_MULTIPLY, V4_SHIFT, V4_SPAN,
    V6_GLOBAL_BIT, V6_MULTIPLY,
};
use crate::bpf::{Link, Program, Word};
use crate::netns::Cable;
use crate::packet_builder::{ETHERNET_LEN, Frame};

/// The offset of the source in a frame without VLAN tags.
const V4_SOURCE: usize = ETHERNET_LEN + 12;
const V4_CHECKSUM: usize = ETHERNET_LEN + 10;
const V4_HEADERS: usize = ETHERNET_LEN + 20 + 8;
const V6_SOURCE: usize = ETHERNET_LEN + 8;
const V6_HEADERS: usize = ETHERNET_LEN + 40 + 8;

/// Knuth's MMIX generator; the upper half of its state is the random number.
const STEP_MULTIPLY: u64 = 6_364_136_223_846_793_005;
const STEP_ADD: u64 = 1_442_695_040_888_963_407;

/// `bpf_redirect`.
const REDIRECT: u32 = 23;

/// A flood: a frame, and the program that sends it from changing sources.
#[derive(Debug)]
pub(super) struct Sender {
    frame: Vec<u8>,
    program: Program,
    // The program's state lives as long as the program.
    _state: Word,
    // A program that is attached somewhere need not wait for RCU before and after each of its runs.
    _attached: Option<Link>,
}

impl Sender {
    /// A sender at the near end of a cable, to the far end, attached to an additional interface with this
    /// name; see [`new`](Self::new).
    pub(super) fn on(
        cable: &Cable,
        name: &str,
        frame: &Frame,
        family: Family,
        choice: Choice,
    ) -> anyhow::Result<Self> {
        cable.near_link(name)?;
        let sender = Self::to_far_end(cable, frame, family, choice)?;
        let link = sender.attach(cable, name)?;
        Ok(Self { _attached: Some(link), ..sender })
    }

    /// The same, but not attached; see [`attach`](Self::attach).
    pub(super) fn to_far_end(
        cable: &Cable,
        frame: &Frame,
        family: Family,
        choice: Choice,
    ) -> anyhow::Result<Self> {
        cable.near.run_in(|| Self::new(frame, family, choice, index("eth0")?))
    }

    /// Attaches the program to an interface of the near end until the returned value is dropped. It then
    /// sends faster, and no other program can be attached there. The kernel's direct calls of XDP
    /// programs support 48 attached ones (`BPF_DISPATCHER_MAX`), so attach only programs that do not run
    /// again later.
    pub(super) fn attach(&self, cable: &Cable, name: &str) -> anyhow::Result<Link> {
        cable.near.run_in(|| Link::attach(&self.program, index(name)?))
    }

    /// Sends copies of `frame`, whose own source only determines the family, from the sources of `choice`
    /// to `interface`.
    fn new(frame: &Frame, family: Family, choice: Choice, interface: u32) -> anyhow::Result<Self> {
        let frame = frame.build();
        let state = Word::new()?;
        let code = match family {
            Family::V4 => v4(&frame, &state, choice, interface)?,
            Family::V6 => v6(&frame, &state, choice, interface)?,
        };
        let program = Program::load("bench_sender", &code)?;
        Ok(Self { frame, program, _state: state, _attached: None })
    }

    /// Sends this many frames; see [`Program::send`].
    pub(super) fn send(&self, count: u32) -> anyhow::Result<()> {
        self.program.send(&self.frame, count)
    }
}

fn index(name: &str) -> anyhow::Result<u32> {
    if_nametoindex(name).context("find an end of the cable")
}

/// The IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The first source of a choice.
    pub(super) fn source(self, choice: Choice) -> IpAddr {
        let (first, _count) = choice.numbers();
        match self {
            Self::V4 => {
                let address = sources::v4(first).to_bits() & choice.mask() | choice.bits();
                Ipv4Addr::from_bits(address).into()
            }
            Self::V6 => sources::v6(first.into()).into(),
        }
    }
}

fn v4(frame: &[u8], state: &Word, choice: Choice, interface: u32) -> anyhow::Result<Vec<u64>> {
    ensure!(frame.len() >= V4_HEADERS, "the frame has no room for IPv4 and UDP");
    let mut code = Code::new(V4_HEADERS);
    number(&mut code, state, choice);
    for (multiply, shift) in V4_MULTIPLY.into_iter().zip(V4_SHIFT) {
        code.op(ALU32_MUL_IMM, R0, 0, multiply);
        code.op(ALU32_MOV, R5, R0, 0);
        code.op(ALU32_RSH_IMM, R5, 0, shift.into());
        code.op(ALU32_XOR, R0, R5, 0);
    }
    code.wide(R5, V4_SPAN.into());
    code.op(MUL, R0, R5, 0);
    code.op(RSH_IMM, R0, 0, 32);
    code.op(ADD_IMM, R0, 0, V4_FIRST);
    code.op(MOV_IMM, R5, 0, V4_BEFORE_LOOPBACK);
    code.op(SUB, R5, R0, 0);
    code.op(RSH_IMM, R5, 0, 63);
    code.op(LSH_IMM, R5, 0, LOOPBACK_BITS.into());
    code.op(ADD, R0, R5, 0);
    code.op(ALU32_AND_IMM, R0, 0, choice.mask());
    code.op(ALU32_OR_IMM, R0, 0, choice.bits());
    // The header's checksum: the part that all frames have in common, and the two halves of the source.
    code.op(MOV, R5, R0, 0);
    code.op(AND_IMM, R5, 0, 0xffff);
    code.op(MOV, R8, R0, 0);
    code.op(RSH_IMM, R8, 0, 16);
    code.op(ADD, R5, R8, 0);
    code.op(ADD_IMM, R5, 0, common_sum(frame));
    for _fold in 0..2 {
        code.op(MOV, R8, R5, 0);
        code.op(RSH_IMM, R8, 0, 16);
        code.op(AND_IMM, R5, 0, 0xffff);
        code.op(ADD, R5, R8, 0);
    }
    code.op(XOR_IMM, R5, 0, 0xffff);
    code.op(TO_BE, R5, 0, 16);
    code.store(STORE_16, V4_CHECKSUM, R5);
    code.op(TO_BE, R0, 0, 32);
    code.store(STORE_32, V4_SOURCE, R0);
    Ok(redirect(code, interface))
}

fn v6(frame: &[u8], state: &Word, choice: Choice, interface: u32) -> anyhow::Result<Vec<u64>> {
    ensure!(frame.len() >= V6_HEADERS, "the frame has no room for IPv6 and UDP");
    let mut code = Code::new(V6_HEADERS);
    number(&mut code, state, choice);
    let [first, second, third] = V6_MULTIPLY;
    for multiply in [first, second] {
        code.wide(R5, multiply);
        code.op(MUL, R0, R5, 0);
        code.op(MOV, R5, R0, 0);
        code.op(RSH_IMM, R5, 0, 32);
        code.op(XOR, R0, R5, 0);
    }
    code.op(MOV, R8, R0, 0);
    code.op(RSH_IMM, R8, 0, 3);
    code.wide(R5, 1 << V6_GLOBAL_BIT);
    code.op(OR, R8, R5, 0);
    code.op(TO_BE, R8, 0, 64);
    code.store(STORE_64, V6_SOURCE, R8);
    code.wide(R5, third);
    code.op(MUL, R0, R5, 0);
    code.op(TO_BE, R0, 0, 64);
    code.store(STORE_64, V6_SOURCE + 8, R0);
    Ok(redirect(code, interface))
}

/// The sum of an IPv4 header's words (RFC 1071) without its checksum and its source.
fn common_sum(frame: &[u8]) -> u32 {
    let header = frame.get(ETHERNET_LEN..ETHERNET_LEN + 20).unwrap_or_default();
    let words = header.chunks_exact(2).enumerate().filter(|(place, _)| !matches!(place, 5..=7));
    words.map(|(_, word)| word.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))).sum()
}

/// Computes the next number of a choice into R0. R5 and R8 are scratch registers, R7 is the state.
fn number(code: &mut Code, state: &Word, choice: Choice) {
    let (first, count) = choice.numbers();
    code.map_value(R7, state.descriptor());
    code.load(LOAD_64, R0, R7, 0);
    code.wide(R5, STEP_MULTIPLY);
    code.op(MUL, R0, R5, 0);
    code.wide(R5, STEP_ADD);
    code.op(ADD, R0, R5, 0);
    code.store_at(STORE_64, R7, 0, R0);
    code.op(RSH_IMM, R0, 0, 32);
    code.wide(R5, count.into());
    code.op(MUL, R0, R5, 0);
    code.op(RSH_IMM, R0, 0, 32);
    code.wide(R5, first.into());
    code.op(ADD, R0, R5, 0);
}

fn redirect(mut code: Code, interface: u32) -> Vec<u64> {
    code.op(MOV_IMM, R1, 0, interface);
    code.op(MOV_IMM, R2, 0, 0);
    code.call(REDIRECT);
    code.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use filter_common::packet;

    use super::*;
    use crate::packet_builder::internet_checksum;

    fn sent(family: Family, choice: Choice, count: usize) -> Vec<Vec<u8>> {
        let frame = Frame::from(family.source(Choice::One(0))).checksum(0).payload("REGISTER");
        let sender = Sender::new(&frame, family, choice, 1).unwrap();
        (0..count).map(|_| sender.program.rewrite(&sender.frame).unwrap()).collect()
    }

    fn source(frame: &[u8]) -> IpAddr {
        packet::parse(&frame).unwrap().source.into()
    }

    #[test]
    #[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
    fn the_kernel_computes_the_same_sources() {
        for family in [Family::V4, Family::V6] {
            for choice in [Choice::One(77), Choice::Stranger(0x4000_0001), Choice::InNetwork(5)] {
                let sources: HashSet<_> =
                    sent(family, choice, 3).iter().map(|frame| source(frame)).collect();
                assert_eq!(sources, HashSet::from([family.source(choice)]), "{choice:?}");
            }
            let all: HashSet<_> =
                (0..10).map(|number| family.source(Choice::One(number))).collect();
            let frames = sent(family, Choice::Among(10), 300);
            let sources: HashSet<_> = frames.iter().map(|frame| source(frame)).collect();
            assert_eq!(sources, all);
        }
    }

    #[test]
    #[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
    fn frames_come_from_the_networks_that_are_asked_for() {
        let networks = sources::Banned::new(0, 0, 40).networks;
        for family in [Family::V4, Family::V6] {
            let frames = sent(family, Choice::InNetworks(20), 400);
            let hit: HashSet<_> = frames
                .iter()
                .map(|frame| {
                    let source = source(frame);
                    networks.iter().position(|network| network.contains(&source)).unwrap()
                })
                .collect();
            assert_eq!(hit.len(), 20, "{family:?}");
        }
    }

    #[test]
    #[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
    fn checksums_are_right() {
        for frame in sent(Family::V4, Choice::Strangers(1000), 500) {
            assert_eq!(internet_checksum(&[&frame[ETHERNET_LEN..ETHERNET_LEN + 20]]), 0);
        }
    }
}

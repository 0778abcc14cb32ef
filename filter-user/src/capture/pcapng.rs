//! Writes capture files: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>.
//!
//! Own code because the crates for it were last released years ago and bring a parser and macros; this
//! writes three kinds of blocks.

use std::collections::HashMap;

use crate::datapath::capture::Packet;
use filter_common::abi::CAPTURED_BYTES;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;

const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const ETHERNET: u16 = 1;

const END: u16 = 0;
const COMMENT: u16 = 1;
const NAME: u16 = 2;
const APPLICATION: u16 = 4;
const RESOLUTION: u16 = 9;
const NANOSECONDS: u8 = 9;

/// The interfaces of a file so far.
#[derive(Debug, Default)]
pub(super) struct Pcapng {
    places: HashMap<u32, u32>,
}

impl Pcapng {
    /// The beginning of a file.
    pub(super) fn begin() -> Vec<u8> {
        let mut body = BYTE_ORDER.to_ne_bytes().to_vec();
        body.extend(1u16.to_ne_bytes());
        body.extend(0u16.to_ne_bytes());
        // The length of the section is not known.
        body.extend(u64::MAX.to_ne_bytes());
        option(&mut body, APPLICATION, concat!("ringfence ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(&mut body, END, &[]);
        block(SECTION, &body)
    }

    /// A packet, after the description of its interface if it is the first one of it. `at` is in
    /// nanoseconds since 1970.
    pub(super) fn packet(
        &mut self,
        packet: &Packet<'_>,
        at: u64,
        name: &str,
        comment: &str,
    ) -> Vec<u8> {
        let mut blocks = Vec::new();
        let count = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        let place = *self.places.entry(packet.interface).or_insert_with(|| {
            blocks = interface(name);
            count
        });
        let halves = [(at >> 32) & 0xffff_ffff, at & 0xffff_ffff];
        let len = u32::try_from(packet.head.len()).unwrap_or(0);
        let mut body = place.to_ne_bytes().to_vec();
        for half in halves {
            body.extend(u32::try_from(half).unwrap_or(0).to_ne_bytes());
        }
        body.extend(len.to_ne_bytes());
        body.extend(packet.length.max(len).to_ne_bytes());
        padded(&mut body, packet.head);
        option(&mut body, COMMENT, comment.as_bytes());
        option(&mut body, END, &[]);
        blocks.extend(block(PACKET, &body));
        blocks
    }
}

/// The description of an interface.
fn interface(name: &str) -> Vec<u8> {
    let mut body = ETHERNET.to_ne_bytes().to_vec();
    body.extend(0u16.to_ne_bytes());
    body.extend(u32::try_from(CAPTURED_BYTES).unwrap_or(0).to_ne_bytes());
    option(&mut body, NAME, name.as_bytes());
    option(&mut body, RESOLUTION, &[NANOSECONDS]);
    option(&mut body, END, &[]);
    block(INTERFACE, &body)
}

/// A block with its length at both ends. The body is padded already.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap_or(0).saturating_add(12).to_ne_bytes();
    [&kind.to_ne_bytes(), &len, body, &len].concat()
}

/// Adds an option.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_ne_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or(0).to_ne_bytes());
    padded(body, value);
}

/// Adds bytes, and zeros up to a multiple of four.
fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::KernelTime;
    use filter_common::decision::Reason;

    fn packet(interface: u32, head: &[u8]) -> Packet<'_> {
        let (at, reason) = (KernelTime(0), Reason::Banned);
        Packet { at, interface, reason, dropped: true, length: 600, head }
    }

    /// The kinds of the blocks of a file.
    fn kinds(mut file: &[u8]) -> Vec<u32> {
        let word =
            |at: usize, file: &[u8]| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap());
        let mut kinds = Vec::new();
        while !file.is_empty() {
            let len = usize::try_from(word(4, file)).unwrap();
            assert!(len.is_multiple_of(4));
            assert_eq!(word(len - 4, file), word(4, file));
            kinds.push(word(0, file));
            file = &file[len..];
        }
        kinds
    }

    #[test]
    fn each_interface_is_described_before_its_first_packet() {
        let mut pcapng = Pcapng::default();
        let mut file = Pcapng::begin();
        for (interface, len) in [(7, 60), (7, 61), (9, 0), (7, 512)] {
            let head = vec![0xaa; len];
            file.extend(pcapng.packet(
                &packet(interface, &head),
                u64::MAX,
                "eth0",
                "dropped: banned",
            ));
        }
        assert_eq!(kinds(&file), [SECTION, INTERFACE, PACKET, PACKET, INTERFACE, PACKET, PACKET]);
    }
}

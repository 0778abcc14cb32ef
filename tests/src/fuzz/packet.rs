//! Any frame: its headers.

use std::cell::Cell;

use filter_common::packet::{self, Headers, Packet, Window};

use super::reference;

/// As far as the program's packet pointers reach: `OFFSET_MAX` in `filter-ebpf/src/packet.rs`.
const REACH: usize = 0x3fff;

/// Two parsers agree about the frame, none of it is read that the program could not reach, and the
/// words that headers are passed on as say the same.
///
/// # Panics
///
/// When one of these is not so.
pub fn check(data: &[u8]) {
    let frame = Watched { bytes: data, furthest: Cell::new(0) };
    let parsed = packet::parse(&frame);
    assert_eq!(parsed, reference::headers(data), "the two parsers do not agree");
    assert!(frame.furthest.get() <= REACH, "it read at {}", frame.furthest.get());
    if let Ok(headers) = parsed {
        assert_eq!(Headers::from_words(headers.to_words()), headers);
    }
}

/// A frame that remembers how far it was read.
#[derive(Debug)]
pub struct Watched<'a> {
    /// The frame.
    pub bytes: &'a [u8],
    /// The highest offset that somebody asked for.
    pub furthest: Cell<usize>,
}

impl Packet for Watched<'_> {
    fn length(&self) -> usize {
        self.bytes.len()
    }

    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.furthest.set(self.furthest.get().max(offset));
        self.bytes.array(offset)
    }

    fn copy(&self, offset: usize, window: &mut Window) -> usize {
        self.bytes.copy(offset, window)
    }
}

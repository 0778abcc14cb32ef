//! The headers of any frame.

use std::cell::Cell;

use filter_common::packet::{self, Headers, Layer4, Packet, Window};

use super::reference;

/// How far the program's packet pointers reach: `OFFSET_MAX` in `filter-ebpf/src/packet.rs`.
const REACH: usize = 0x3fff;

/// Checks that two parsers agree about the frame, that no byte is read that the program could not reach,
/// and that headers packed into words are unchanged.
///
/// # Panics
///
/// If one of these does not hold.
pub fn check(data: &[u8]) {
    let frame = Watched { bytes: data, furthest: Cell::new(0) };
    let parsed = packet::parse(&frame);
    assert_eq!(parsed, reference::headers(data), "the two parsers do not agree");
    if let Some(words) = packet::plain_udp(&frame) {
        assert_eq!(parsed.map(Headers::to_words), Ok(words), "the short way is not the long one");
    }
    assert!(frame.furthest.get() <= REACH, "it read at {}", frame.furthest.get());
    if let Ok(headers) = parsed {
        let end = match headers.layer4 {
            // The payload of a datagram may end before its packet.
            Layer4::Udp { payload, .. } | Layer4::Tcp { payload, .. } => payload.end,
            Layer4::LaterFragment | Layer4::Other | Layer4::Unknown => headers.end,
        };
        assert_eq!(Headers::from_words(headers.to_words()), Headers { end, ..headers });
    }
}

/// A frame that records how far it was read.
#[derive(Debug)]
pub struct Watched<'a> {
    /// The frame.
    pub bytes: &'a [u8],
    /// The highest offset that was read.
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

    fn words<const N: usize>(&self, offset: usize) -> Option<[u64; N]> {
        self.furthest.set(self.furthest.get().max(offset));
        self.bytes.words(offset)
    }

    fn copy(&self, offset: usize, window: &mut Window) -> usize {
        self.bytes.copy(offset, window)
    }
}

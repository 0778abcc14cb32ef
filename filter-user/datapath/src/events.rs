//! The events of the program.

use std::io;
use std::mem::offset_of;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, RingBuf};
use detection::failure::Transport;
use detection::wire::{Counts, Kind, Response};
use filter_common::abi::{
    ACCOUNT_WORDS, Event, SESSION_WORDS, WIRE_ACCEPTED, WIRE_CALLED, WIRE_CHALLENGED, WIRE_HANDLED,
    WIRE_INVITE, WIRE_REFUSED, WIRE_TCP, WireEvent,
};
use filter_common::address::Address;
use filter_common::decision::Reason;
use tokio::io::unix::AsyncFd;

use super::clock::KernelTime;

/// An event: a source over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// The source.
    pub source: IpAddr,
    /// The reason that belongs to the limit.
    pub reason: Reason,
    /// The time.
    pub at: KernelTime,
}

/// A reader of the program's events.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Events {
    pub(super) fn new(map: Map) -> Result<Self> {
        Ok(Self { ring: watch(map).context("watch the events")? })
    }

    /// Waits for events, and passes the available ones to `each`. If it is cancelled, no event is lost.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to wait.
    pub async fn next_batch(&mut self, mut each: impl FnMut(Limited)) -> io::Result<()> {
        let mut ready = self.ring.readable_mut().await?;
        let ring = ready.get_inner_mut();
        while let Some(item) = ring.next() {
            if let Some(event) = read_event(&item) {
                each(event);
            }
        }
        ready.clear_ready();
        Ok(())
    }
}

#[expect(deprecated, reason = "its replacement is unsafe, and the ring owns its descriptor")]
pub(super) fn watch(map: Map) -> Result<AsyncFd<RingBuf<MapData>>> {
    Ok(AsyncFd::new(RingBuf::try_from(map)?)?)
}

/// A reader of the responses that leave for addresses that were challenged.
pub struct Responses {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Responses {
    pub(super) fn new(map: Map) -> Result<Self> {
        Ok(Self { ring: watch(map).context("watch the responses")? })
    }

    /// Waits for responses, and passes at most `most` of the available ones to `each`. If it is cancelled, none
    /// is lost.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to wait.
    pub async fn next_batch(
        &mut self,
        most: usize,
        mut each: impl FnMut(Response),
    ) -> io::Result<()> {
        let mut ready = self.ring.readable_mut().await?;
        let ring = ready.get_inner_mut();
        for _ in 0..most {
            let Some(item) = ring.next() else {
                ready.clear_ready();
                return Ok(());
            };
            if let Some(response) = read_response(&item) {
                each(response);
            }
        }
        Ok(())
    }
}

/// Parses a response; `None` if this controller does not know its kind.
fn read_response(bytes: &[u8]) -> Option<Response> {
    if bytes.len() != size_of::<WireEvent>() {
        return None;
    }
    let half = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    let word = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes);
    let text = |at: usize, len: u32, most: usize| {
        let len = usize::try_from(len).unwrap_or(most).min(most);
        bytes.get(at..at + len).map(Box::from)
    };
    let kind = match half(offset_of!(WireEvent, kind))? {
        WIRE_CHALLENGED => Kind::Challenged,
        WIRE_REFUSED => Kind::Refused,
        WIRE_ACCEPTED => Kind::Accepted,
        WIRE_CALLED => Kind::Called,
        _ => return None,
    };
    let address = offset_of!(WireEvent, address);
    let lengths = half(offset_of!(WireEvent, lengths))?;
    let flags = half(offset_of!(WireEvent, flags))?;
    Some(Response {
        address: IpAddr::from(Address::from_words([word(address)?, word(address + 8)?])),
        kind,
        status: half(offset_of!(WireEvent, status))?,
        transport: if flags & WIRE_TCP != 0 { Transport::Tcp } else { Transport::Udp },
        is_call: flags & WIRE_INVITE != 0,
        is_handled: flags & WIRE_HANDLED != 0,
        counts: Counts {
            challenged: half(offset_of!(WireEvent, challenges))?,
            refused: half(offset_of!(WireEvent, refused))?,
        },
        session: text(offset_of!(WireEvent, session), lengths & 0xffff, SESSION_WORDS * 8)?,
        account: text(offset_of!(WireEvent, account), lengths >> 16, ACCOUNT_WORDS * 8)?,
    })
}

/// Parses an event; `None` if this controller does not know its kind.
fn read_event(bytes: &[u8]) -> Option<Limited> {
    let word = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes);
    if bytes.len() != size_of::<Event>() {
        return None;
    }
    let (time, head, source) = (word(0)?, word(8)?, [word(16)?, word(24)?]);
    let number = head & 0xffff_ffff;
    let reason = Reason::from_index(u32::try_from(number).ok()?)?;
    let source = IpAddr::from(Address::from_words(source));
    Some(Limited { source, reason, at: KernelTime(time) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_another_size_or_reason_are_left_out() {
        let mut bytes = vec![0; size_of::<Event>()];
        bytes[8] = 18;
        bytes[26] = 0xff;
        bytes[27] = 0xff;
        bytes[28..].copy_from_slice(&[192, 0, 2, 66]);
        let event = read_event(&bytes).unwrap();
        assert_eq!(event.source, IpAddr::from([192, 0, 2, 66]));
        assert_eq!(event.reason, Reason::RegisterLimit);
        bytes[8] = 255;
        assert_eq!(read_event(&bytes), None);
        assert_eq!(read_event(&bytes[..31]), None);
    }

    #[test]
    fn responses_of_another_size_or_kind_are_left_out() {
        let mut bytes = vec![0; size_of::<WireEvent>()];
        bytes[8 + 10] = 0xff;
        bytes[8 + 11] = 0xff;
        bytes[8 + 12..8 + 16].copy_from_slice(&[192, 0, 2, 66]);
        assert_eq!(read_response(&bytes), None);
        bytes[24] = 2;
        bytes[28..32].copy_from_slice(&401u32.to_ne_bytes());
        bytes[36..40].copy_from_slice(&7u32.to_ne_bytes());
        // Lengths beyond the texts are cut.
        bytes[52..56].copy_from_slice(&0xffff_0003u32.to_ne_bytes());
        bytes[56..60].copy_from_slice(b"call");
        bytes[184..189].copy_from_slice(b"1001@");
        let response = read_response(&bytes).unwrap();
        assert_eq!(response.address, IpAddr::from([192, 0, 2, 66]));
        assert_eq!((response.kind, response.status), (Kind::Refused, 401));
        assert_eq!((&*response.session, response.account.len()), (&b"cal"[..], 64));
        assert_eq!(response.counts.challenged, 7);
        assert_eq!(read_response(&bytes[1..]), None);
    }
}

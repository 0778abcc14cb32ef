//! The events of the program.

use std::io;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, RingBuf};
use filter_common::abi::Event;
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
        #[expect(
            deprecated,
            reason = "its replacement is unsafe, and the ring owns its descriptor"
        )]
        let ring = AsyncFd::new(RingBuf::try_from(map)?).context("watch the events")?;
        Ok(Self { ring })
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
}

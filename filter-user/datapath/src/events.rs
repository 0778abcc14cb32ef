//! What the program tells.

use std::io;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, RingBuf};
use filter_common::abi::Event;
use filter_common::address::Address;
use filter_common::decision::Reason;
use tokio::io::unix::AsyncFd;

use super::clock::KernelTime;

/// A source over a limit, as the program tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// The source.
    pub source: IpAddr,
    /// The limit's reason.
    pub reason: Reason,
    /// When.
    pub at: KernelTime,
}

/// What the program tells.
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

    /// Waits for events, and hands over those that there are. Cancelled, it loses none.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to wait.
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

/// An event from its bytes, or `None` if this controller does not know such a one.
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

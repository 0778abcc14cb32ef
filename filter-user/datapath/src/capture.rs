//! Packets that the program has judged, for `ringfence capture`. Works on the pinned maps, without a daemon
//! and beside one.
//!
//! Must never need a daemon.

use std::io;
use std::mem::offset_of;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::maps::{MapData, RingBuf};
use detection::clock::KernelTime;
use filter_common::abi::{self, Captured, maps};
use filter_common::address::Address;
use filter_common::decision::{Code, Reason};
use ipnet::IpNet;
use nix::net::if_::if_indextoname;
use tokio::io::unix::AsyncFd;

use super::events::watch;
use super::mapped::{Memory, data};
use super::{clock, configure, pins};

/// How long the program captures after the last [`renew`](Capture::renew).
const KEPT: Duration = Duration::from_secs(5);

/// Which packets to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Their reasons.
    pub reasons: Vec<Reason>,
    /// The network of their sources; `None` for any, and for packets without one.
    pub network: Option<IpNet>,
}

/// A captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When it was judged.
    pub at: KernelTime,
    /// The index of its interface.
    pub interface: u32,
    /// Its reason.
    pub reason: Reason,
    /// Whether it was dropped.
    pub dropped: bool,
    /// Its length in bytes.
    pub length: u32,
    /// The frame from its Ethernet header on, or its beginning.
    pub head: &'a [u8],
}

/// A capture. It ends when this is dropped, or a few seconds after the process is killed.
pub struct Capture {
    memory: Memory,
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Capture {
    /// Begins a capture by the program whose maps are pinned in `directory`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If another capture is running, the maps are of another version, or the kernel refuses.
    pub fn begin(directory: &Path, wanted: &Wanted) -> Result<Option<Self>> {
        let is_there = |name| {
            let pin = directory.join(name);
            pin.try_exists().with_context(|| format!("look for {}", pin.display()))
        };
        if !is_there(maps::CONFIG)? {
            return Ok(None);
        }
        if !is_there(maps::CAPTURE)? || !is_there(maps::CAPTURED)? {
            bail!("the filter is of an older version; restart the daemon");
        }
        let open = |name: &str| pins::open_map(directory, name);
        let memory = Memory::of(data(open(maps::CAPTURE)?)?)?;
        if memory.as_ref().len() * 8 != size_of::<abi::Capture>() {
            bail!("the pinned maps are of another version of Ringfence");
        }
        let ring = watch(open(maps::CAPTURED)?).context("watch the captured packets")?;
        // Another one must not end with this.
        own(&memory)?;
        let mut capture = Self { memory, ring };
        // Of an earlier capture.
        while capture.ring.get_mut().next().is_some() {}
        let (network, mask) = match wanted.network {
            None => ([0; 2], [0; 2]),
            Some(net) => (Address::from(net.network()).words(), mask(net)),
        };
        for (at, words) in [(NETWORK, network), (MASK, mask)] {
            for (place, word) in words.into_iter().enumerate() {
                capture.store(at + place, word);
            }
        }
        capture.store(MATCHED, 0);
        let bits = wanted.reasons.iter().map(|reason| Code::from(*reason).bit());
        capture.store(REASONS, bits.fold(0, |all, bit| all | bit));
        Ok(Some(capture))
    }

    /// Continues the capture for some seconds. Call it every second.
    pub fn renew(&self) {
        self.store(UNTIL, clock::now().after(KEPT).0);
    }

    /// How many packets were to be captured so far. In a flood, only a sample is.
    pub fn matched(&self) -> u64 {
        self.memory.as_ref().get(MATCHED).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Waits for packets, and passes the available ones to `each`, until it returns false. If it is cancelled,
    /// no packet is lost.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to wait.
    pub async fn next_batch(&mut self, mut each: impl FnMut(Packet<'_>) -> bool) -> io::Result<()> {
        let mut ready = self.ring.readable_mut().await?;
        let ring = ready.get_inner_mut();
        while let Some(item) = ring.next() {
            if let Some(packet) = read(&item)
                && !each(packet)
            {
                return Ok(());
            }
        }
        ready.clear_ready();
        Ok(())
    }

    fn store(&self, at: usize, value: u64) {
        if let Some(word) = self.memory.as_ref().get(at) {
            word.store(value, Ordering::Relaxed);
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.store(REASONS, 0);
        self.store(UNTIL, 0);
    }
}

/// Makes sure that there is no other capture.
fn own(memory: &Memory) -> Result<()> {
    let now = clock::now();
    let Some(until) = memory.as_ref().get(UNTIL) else { return Ok(()) };
    let before = until.load(Ordering::Relaxed);
    let kept = now.after(KEPT).0;
    let owned = before <= now.0
        && until.compare_exchange(before, kept, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    if !owned {
        bail!("another `ringfence capture` is running; if it was killed, try again in 5 seconds");
    }
    Ok(())
}

/// The name of an interface, for [`Packet::interface`].
pub fn interface_name(index: u32) -> String {
    let name = if_indextoname(index).ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| format!("if{index}"))
}

const REASONS: usize = offset_of!(abi::Capture, reasons) / 8;
const UNTIL: usize = offset_of!(abi::Capture, until) / 8;
const NETWORK: usize = offset_of!(abi::Capture, network) / 8;
const MASK: usize = offset_of!(abi::Capture, mask) / 8;
const MATCHED: usize = offset_of!(abi::Capture, matched) / 8;

/// The mask of a network, of mapped addresses.
fn mask(net: IpNet) -> [u64; 2] {
    let mapped = if net.addr().is_ipv4() { 96 } else { 0 };
    configure::mask(mapped + u32::from(net.prefix_len()))
}

/// Parses a record; `None` if this version does not know its reason.
fn read(bytes: &[u8]) -> Option<Packet<'_>> {
    let half = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    let word = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes);
    let len = usize::try_from(half(offset_of!(Captured, head_len))?).ok()?;
    let head = offset_of!(Captured, head);
    Some(Packet {
        at: KernelTime(word(offset_of!(Captured, time))?),
        interface: half(offset_of!(Captured, interface))?,
        reason: Reason::from_index(half(offset_of!(Captured, reason))?)?,
        dropped: half(offset_of!(Captured, dropped))? != 0,
        length: half(offset_of!(Captured, length))?,
        head: bytes.get(head..head.checked_add(len)?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_fits_its_network() {
        for (net, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.66/32", "192.0.2.66", "192.0.2.67"),
            ("2001:db8::/64", "2001:db8::ffff:0:0:1", "2001:db8:0:1::"),
            ("0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
        ] {
            let net: IpNet = net.parse().unwrap();
            let ([m0, m1], [n0, n1]) = (mask(net), Address::from(net.network()).words());
            let is_in = |address: &str| {
                let address: std::net::IpAddr = address.parse().unwrap();
                let [a0, a1] = Address::from(address).words();
                (a0 ^ n0) & m0 | (a1 ^ n1) & m1 == 0
            };
            assert!(is_in(inside) && !is_in(outside), "{net}");
        }
    }

    #[test]
    fn records_that_are_cut_or_foreign_are_none() {
        let mut record = vec![0; size_of::<Captured>()];
        record[offset_of!(Captured, reason)] = 3;
        record[offset_of!(Captured, head_len)] = 60;
        assert_eq!(read(&record).unwrap().head.len(), 60);
        assert_eq!(read(&record[..50]), None);
        record[offset_of!(Captured, head_len) + 1] = 0xff;
        assert_eq!(read(&record), None);
        record[offset_of!(Captured, head_len) + 1] = 0;
        record[offset_of!(Captured, reason)] = 63;
        assert_eq!(read(&record), None);
    }
}

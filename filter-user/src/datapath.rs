//! The way into the kernel: bans in, counters and events out.
//!
//! Whoever decides knows [`Datapath`] and nothing of maps, byte order or aya. The only `use aya` is
//! below this module.

mod attach;
mod kernel;
mod netlink;
mod pins;
mod privileges;

use std::net::IpAddr;

use anyhow::Result;
use filter_common::decision::Reason;
use ipnet::IpNet;

use crate::ban::Ban;
use crate::clock::KernelTime;

pub use self::attach::{Interface, Mode};
pub use self::kernel::{Events, Kernel, Limited, Opened, Settings};
pub use self::pins::{detach_all, mount_bpffs};

/// The XDP program's object, as `build.rs` built it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("RINGFENCE_EBPF_OBJECT"));

/// What the controller wants of the kernel.
pub trait Datapath {
    /// Puts a ban into force, or changes the one of the same network; its packets stay counted.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, which is when its table is full.
    fn ban(&mut self, ban: &Ban) -> Result<()>;

    /// Lifts a ban; one that is not there is lifted.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    fn unban(&mut self, network: IpNet) -> Result<()>;

    /// Makes exactly these networks the ones that are never dropped.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, which is when there are too many.
    fn trust(&mut self, networks: &[IpNet]) -> Result<()>;

    /// Whether a packet of this address has passed to SIP within the last seconds. Without one, a
    /// failure that a log tells of it is forged. (Yes, one time in some hundred thousand, for an
    /// address that has not.)
    fn seen(&self, address: IpAddr, now: KernelTime) -> bool;

    /// Packets that the ban of exactly this network has matched.
    fn packets(&self, network: IpNet) -> u64;

    /// The counters of each interface since they were attached first.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    fn counters(&self) -> Result<Vec<InterfaceCounters>>;

    /// How many IPv4 addresses can be banned.
    fn capacity(&self) -> u64;
}

/// What one interface has counted.
#[derive(Clone, Debug)]
pub struct InterfaceCounters {
    /// The interface.
    pub interface: Interface,
    /// What happened, by reason.
    pub reasons: Vec<(Reason, Count)>,
    /// What a dry run would have dropped, by reason.
    pub would_drop: Vec<(Reason, Count)>,
}

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Count {
    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets.saturating_add(other.packets),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

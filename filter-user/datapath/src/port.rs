//! The daemon's interface to the kernel. The code that decides uses only [`Datapath`], and knows nothing
//! of maps, byte order or aya.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use detection::ban::{AddressEntry, NetworkEntry};
use detection::clock::KernelTime;
use filter_common::abi::Learning;
use filter_common::decision::Reason;
use ipnet::IpNet;

use super::geo::GeoMode;

/// The operations that the controller needs from the kernel.
pub trait Datapath {
    /// Enters the bans of an address in place of its earlier ones; its packets stay counted.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, because its table is full.
    fn ban(&mut self, entry: &AddressEntry) -> Result<()>;

    /// Removes all bans of an address, including one for a flood.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    fn unban(&mut self, address: IpAddr) -> Result<()>;

    /// Enters the bans of a network. They apply to its addresses that are not in a longer network with an
    /// entry.
    ///
    /// # Errors
    ///
    /// The same as for [`ban`](Self::ban).
    fn ban_network(&mut self, entry: &NetworkEntry) -> Result<()>;

    /// Removes the entry of exactly this network, including a ban of an IPv6 /64 for a flood.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    fn unban_network(&mut self, network: IpNet) -> Result<()>;

    /// Sets the host's own addresses: packets from them drop.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, because its table is full.
    fn own(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<()>;

    /// Sets the networks that are never dropped.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, because there are too many.
    fn trust(&mut self, networks: &[IpNet]) -> Result<()>;

    /// Closes SIP for maintenance, or opens it again (`None`). The closure ends by itself, outlives the
    /// controller, and does not affect trusted networks.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    fn maintenance(&mut self, closed: Option<ClosedSip>) -> Result<()>;

    /// Whether SIP is closed for maintenance; may also return a closure that has ended.
    fn in_maintenance(&self) -> Option<ClosedSip>;

    /// Stops dropping packets, whatever the settings are, or enforces them again (`false`).
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    fn disable(&mut self, disabled: bool) -> Result<()>;

    /// Has the program use the [`GeoTable`](crate::GeoTable), or not.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    fn geo(&mut self, _mode: GeoMode) -> Result<()> {
        Ok(())
    }

    /// Whether nothing is dropped because of [`disable`](Self::disable), called by any process.
    fn is_disabled(&self) -> bool;

    /// Records a known peer that has just proved itself, according to a source that cannot be forged.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, because there are too many.
    fn know(&mut self, address: IpAddr, now: KernelTime) -> Result<()>;

    /// Enters a known peer of an earlier boot, with its end, unless it is there.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, because there are too many.
    fn recall(&mut self, _address: IpAddr, _until: KernelTime, _now: KernelTime) -> Result<()> {
        Ok(())
    }

    /// All known peers, each with the time at which it is forgotten.
    fn known_until(&self, _now: KernelTime) -> Vec<(IpAddr, KernelTime)> {
        Vec::new()
    }

    /// The known peer at this address, if it is not forgotten yet.
    fn known(&self, address: IpAddr) -> Option<KnownPeer>;

    /// All known peers in a network.
    fn known_in(&self, network: IpNet, now: KernelTime) -> Vec<IpAddr>;

    /// The number of known peers.
    fn known_count(&self) -> u64;

    /// What the program has counted about known peers since its maps were created.
    fn learning(&self) -> Learning;

    /// Whether a packet from this address has passed to SIP within the last seconds. Without one, a
    /// failure of the address in a log is forged. (For an address without packets this is wrong about
    /// once in a hundred thousand times.)
    fn seen(&self, address: IpAddr, now: KernelTime) -> bool;

    /// Whether the host has a TCP connection from this port of an address to one of its SIP ports. Nobody can
    /// forge one.
    fn has_connection(&self, address: IpAddr, port: u16) -> bool;

    /// The challenges that were sent to an address and its answers, as the kernel has seen them; `None` if
    /// none was sent, or it is forgotten.
    fn exchange(&self, address: IpAddr) -> Option<Exchange>;

    /// Packets that matched the entry of exactly this network or address.
    fn packets(&self, network: IpNet) -> u64;

    /// The interfaces that are or should be protected.
    fn interfaces(&self) -> Vec<Interface>;

    /// The counters of each interface since the program was first attached.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    fn counters(&self) -> Result<Vec<InterfaceCounters>>;

    /// The verdicts on packets, by reason; each reason again for each interface. This is read every second.
    ///
    /// # Errors
    ///
    /// The same.
    fn traffic(&self) -> Result<Vec<(Reason, Count)>> {
        Ok(self.counters()?.into_iter().flat_map(|of| of.reasons).collect())
    }

    /// The configured User-Agents whose packets are dropped, each with its packets: one without any for a
    /// long time is obsolete.
    fn signatures(&self) -> Vec<(String, u64)>;

    /// The number of IPv4 addresses that can be banned.
    fn capacity(&self) -> u64;

    /// How full the maps are of which this is known without reading them: their names, their entries and their
    /// capacity.
    fn map_use(&self) -> Vec<(&'static str, u64, u64)> {
        Vec::new()
    }
}

/// The challenges that were sent to an address, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Challenges.
    pub challenges: u32,
    /// Requests with a nonce that had been sent to it, without retransmissions.
    pub answered: u32,
    /// How many of these were refused.
    pub refused: u32,
    /// How many of these were accepted.
    pub accepted: u32,
    /// When the first of these was accepted, to within a quarter of a second.
    pub established_at: Option<KernelTime>,
    /// When it last sent such a request, which proves that its address is not forged.
    pub proven_at: Option<KernelTime>,
}

/// SIP is closed to everybody except trusted networks, and perhaps known peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedSip {
    /// When it opens by itself.
    pub until: KernelTime,
    /// Whether it stays open to known peers.
    pub known_allowed: bool,
}

/// A peer that has proved itself: it answered a challenge that was sent to its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownPeer {
    /// When it is forgotten, unless it proves itself again.
    pub until: KernelTime,
    /// Packets from it that passed to SIP.
    pub passed: u64,
}

/// The counters of one interface.
#[derive(Clone, Debug)]
pub struct InterfaceCounters {
    /// The interface.
    pub interface: Interface,
    /// The verdicts, by reason.
    pub reasons: Vec<(Reason, Count)>,
    /// What a dry run would have dropped, by reason.
    pub would_drop: Vec<(Reason, Count)>,
}

/// The number of packets and of their bytes.
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

/// The mode of the program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

impl Mode {
    /// The name in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// A protected interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index in the counters.
    pub slot: u32,
    /// The mode of the program.
    pub mode: Mode,
    /// Why it does not run in the driver, although that was tried.
    pub fallback: Option<String>,
    /// Whether the program was attached before this controller started.
    pub adopted: bool,
    /// Why the program is not attached; `None` if it is.
    pub unprotected: Option<String>,
    /// Why no known peers are learned from outgoing packets; `None` if they are.
    pub not_learning: Option<String>,
}

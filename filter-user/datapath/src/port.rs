//! What the daemon wants of the kernel. Whoever decides knows [`Datapath`] and nothing of maps, byte order or
//! aya.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use detection::ban::{AddressEntry, NetworkEntry};
use detection::clock::KernelTime;
use filter_common::abi::Learning;
use filter_common::decision::Reason;
use ipnet::IpNet;

/// What the controller wants of the kernel.
pub trait Datapath {
    /// Holds this against an address, in place of what was held; its packets stay counted.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, which is when its table is full.
    fn ban(&mut self, entry: &AddressEntry) -> Result<()>;

    /// Holds nothing against an address any more, not a flood either.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    fn unban(&mut self, address: IpAddr) -> Result<()>;

    /// Holds this against the addresses that have no longer network around them which has an entry.
    ///
    /// # Errors
    ///
    /// As [`ban`](Self::ban).
    fn ban_network(&mut self, entry: &NetworkEntry) -> Result<()>;

    /// Has no entry of exactly this network any more, of a flood from an IPv6 /64 either.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    fn unban_network(&mut self, network: IpNet) -> Result<()>;

    /// Makes exactly these the host's own addresses: a packet that claims to come from one drops.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, which is when its table is full.
    fn own(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<()>;

    /// Makes exactly these networks the ones that are never dropped.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, which is when there are too many.
    fn trust(&mut self, networks: &[IpNet]) -> Result<()>;

    /// Closes SIP for maintenance, or opens it again (`None`). What is closed ends by itself, outlives
    /// the controller, and leaves trusted networks alone.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    fn maintenance(&mut self, closed: Option<ClosedSip>) -> Result<()>;

    /// Whether SIP is closed for maintenance; one that has ended may still be told.
    fn in_maintenance(&self) -> Option<ClosedSip>;

    /// Drops nothing from now on, whatever the settings say, or enforces them again (`false`).
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    fn disable(&mut self, disabled: bool) -> Result<()>;

    /// Whether nothing is dropped because of [`disable`](Self::disable), by whatever process.
    fn is_disabled(&self) -> bool;

    /// Makes a peer known that has proven itself just now: whose success a source that cannot be
    /// forged tells of.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, which is when there are too many.
    fn know(&mut self, address: IpAddr, now: KernelTime) -> Result<()>;

    /// What is known of a peer that has proven itself and is not forgotten yet.
    fn known(&self, address: IpAddr) -> Option<KnownPeer>;

    /// Such peers in a network, all of them.
    fn known_in(&self, network: IpNet, now: KernelTime) -> Vec<IpAddr>;

    /// How many such peers there are.
    fn known_count(&self) -> u64;

    /// What the program has learned of peers since its maps were made.
    fn learning(&self) -> Learning;

    /// Whether a packet of this address has passed to SIP within the last seconds. Without one, a
    /// failure that a log tells of it is forged. (Yes, one time in some hundred thousand, for an
    /// address that has not.)
    fn seen(&self, address: IpAddr, now: KernelTime) -> bool;

    /// Packets that the entry of exactly this network, or address, has matched.
    fn packets(&self, network: IpNet) -> u64;

    /// The interfaces that are protected, or are to be.
    fn interfaces(&self) -> Vec<Interface>;

    /// The counters of each interface since they were attached first.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    fn counters(&self) -> Result<Vec<InterfaceCounters>>;

    /// The User-Agents that are dropped, as they were configured, each with the packets it has
    /// matched: one that matches nothing for long is dead.
    fn signatures(&self) -> Vec<(String, u64)>;

    /// How many IPv4 addresses can be banned.
    fn capacity(&self) -> u64;
}

/// SIP is closed to all but trusted networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedSip {
    /// When it opens by itself.
    pub until: KernelTime,
    /// Whether it stays open to known peers.
    pub known_allowed: bool,
}

/// A peer that has proven itself: what it sent was answered, and came back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownPeer {
    /// When it is forgotten, unless it proves itself again.
    pub until: KernelTime,
    /// Packets of it that passed to SIP.
    pub passed: u64,
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

/// How the program runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

impl Mode {
    /// The word that `status` uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// An interface under protection.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Which part of the counters is its.
    pub slot: u32,
    /// How the program runs on it.
    pub mode: Mode,
    /// Why it does not run in the driver, where it was to run there if possible.
    pub fallback: Option<String>,
    /// Whether the program was attached before this controller came.
    pub adopted: bool,
    /// Why the program is not on it, where it is not.
    pub unprotected: Option<String>,
    /// Why nothing is learned from what leaves it, where nothing is.
    pub not_learning: Option<String>,
}

//! The written contract between the XDP program and the controller: map names, keys and values.
//!
//! Everything here is plain data without padding, in which any bit pattern is valid. Addresses in
//! keys and events are the words of [`address`](crate::address), so in network order. Times are nanoseconds of `CLOCK_MONOTONIC`, read in the
//! kernel with `bpf_ktime_get_coarse_ns` and on the host from `CLOCK_MONOTONIC_COARSE`.

/// Grows with every change to this module that an older program or controller would misread.
/// Pinned maps of another version are not reused.
pub const ABI_VERSION: u32 = 1;

/// The XDP program. Like the maps' names at most 15 bytes, where the kernel cuts them.
pub const PROGRAM: &str = "ringfence";

/// Names of the maps in the object and of their pins.
pub mod maps {
    /// Array of one [`Config`](super::Config).
    pub const CONFIG: &str = "CONFIG";
    /// Array of [`PORT_BLOCKS`](super::PORT_BLOCKS) blocks of port classes.
    pub const PORTS: &str = "PORTS";
    /// Hash of [`BanEntry`](super::BanEntry) by IPv4 address.
    pub const BANS_V4: &str = "BANS_V4";
    /// Hash of [`BanEntry`](super::BanEntry) by IPv6 address.
    pub const BANS_V6: &str = "BANS_V6";
    /// Longest-prefix trie of [`BanEntry`](super::BanEntry) by mapped address.
    pub const BAN_NETS: &str = "BAN_NETS";
    /// Longest-prefix trie of networks that are never dropped, by mapped address.
    pub const TRUSTED: &str = "TRUSTED";
    /// Array of buckets for REGISTER without credentials, one `u64` each.
    pub const REGISTER: &str = "REGISTER";
    /// Array of when a source last sent something to a SIP port that passed, one `u32` each, by the
    /// same hash as [`REGISTER`]: [`seen_unit`](crate::rate::seen_unit).
    pub const SEEN: &str = "SEEN";
    /// Per-CPU array of [`Counter`](super::Counter).
    pub const COUNTERS: &str = "COUNTERS";
    /// Ring buffer of [`Event`](super::Event).
    pub const EVENTS: &str = "EVENTS";
    /// Per-CPU scratch memory of the program: not for the controller, and not pinned.
    pub const SCRATCH: &str = "SCRATCH";
    /// Per-CPU bucket that limits events: not for the controller, and not pinned.
    pub const EVENT_RATE: &str = "EVENT_RATE";

    /// The maps that outlive the controller, and that several interfaces share.
    pub const PINNED: &[&str] =
        &[CONFIG, PORTS, BANS_V4, BANS_V6, BAN_NETS, TRUSTED, REGISTER, SEEN, COUNTERS, EVENTS];
}

/// Read-only global of the program: which of [`INTERFACES`](crate::limits::INTERFACES) it serves.
pub const INTERFACE_SLOT: &str = "INTERFACE_SLOT";

/// Counters of one kind for one interface. More than there are reasons, so that one more reason
/// does not move the others.
pub const REASON_SLOTS: u32 = 32;

/// Counters of one interface: what happened, then what would have happened in a dry run.
pub const COUNTERS_PER_INTERFACE: u32 = REASON_SLOTS * 2;

/// Ports whose classes are in one value of [`maps::PORTS`].
pub const PORTS_PER_BLOCK: usize = 64;

/// Blocks of all 65,536 ports.
pub const PORT_BLOCKS: u32 = 1024;

/// The port carries SIP over UDP.
pub const PORT_SIP_UDP: u8 = 1;
/// The port carries SIP over TCP, TLS included.
pub const PORT_SIP_TCP: u8 = 2;

/// Judge and count, but drop nothing.
pub const FLAG_DRY_RUN: u32 = 1;
/// There is at least one trusted network.
pub const FLAG_TRUSTED: u32 = 2;
/// There is at least one banned network.
pub const FLAG_BANNED_NETWORKS: u32 = 4;

/// A ban drops only traffic to SIP ports (and later fragments, whose ports are unknown).
pub const SCOPE_SIP: u8 = 1;
/// A ban drops everything.
pub const SCOPE_ALL: u8 = 2;

/// [`BanEntry::until`] of a ban that does not end.
pub const FOREVER: u64 = u64::MAX;

/// What the controller configures. All zero, as the kernel makes it: pass everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Config {
    /// [`ABI_VERSION`]; zero when nothing has been written.
    pub abi_version: u32,
    /// Sum of the `FLAG_*`.
    pub flags: u32,
    /// [`Gcra::interval`](crate::rate::Gcra::interval) of REGISTER without credentials.
    pub register_interval: u64,
    /// [`Gcra::tolerance`](crate::rate::Gcra::tolerance) of the same.
    pub register_tolerance: u64,
    /// Secret of [`Address::hash`](crate::address::Address::hash).
    pub seed: u64,
}

/// A ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct BanEntry {
    /// When it ends by itself.
    pub until: u64,
    /// When it began.
    pub since: u64,
    /// Packets it has matched, those of a dry run or of a trusted source too. Written by the program.
    pub packets: u64,
    /// One of the `SCOPE_*`.
    pub scope: u8,
    /// Who decided it: a number of the controller's.
    pub origin: u8,
    /// Zero.
    pub reserved: [u8; 6],
}

/// One counter of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes of those packets, from the Ethernet header on.
    pub bytes: u64,
}

/// Something the controller must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Event {
    /// When.
    pub time: u64,
    /// The [`Reason`](crate::decision::Reason) of the packet.
    pub reason: u32,
    /// Which interface: the program's slot.
    pub slot: u32,
    /// The packet's source: [`Address::words`](crate::address::Address::words).
    pub source: [u64; 2],
}

const _: () = assert!(size_of::<Config>() == 32);
const _: () = assert!(size_of::<BanEntry>() == 32);
const _: () = assert!(size_of::<Counter>() == 16);
const _: () = assert!(size_of::<Event>() == 32);

/// The place of a port's class: which block, and which byte in it.
#[inline(always)]
pub fn port_place(port: u16) -> (u32, usize) {
    (u32::from(port >> 6), usize::from(port & 63))
}

/// The counter of a reason on an interface, in [`maps::COUNTERS`].
#[inline(always)]
pub fn counter_index(slot: u32, would: bool, reason: crate::decision::Reason) -> u32 {
    let bank = if would { REASON_SLOTS } else { 0 };
    slot.wrapping_mul(COUNTERS_PER_INTERFACE).wrapping_add(bank).wrapping_add(reason.index())
}

#[cfg(feature = "user")]
mod pod {
    use super::{BanEntry, Config, Counter, Event};

    // SAFETY: repr(C), no padding (the sizes above are the sums of the fields), any bits valid.
    unsafe impl aya::Pod for Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for BanEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Counter {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Event {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel() {
        for name in maps::PINNED.iter().chain(&[maps::SCRATCH, maps::EVENT_RATE, PROGRAM]) {
            assert!(name.len() <= 15, "{name}");
        }
    }

    #[test]
    fn every_port_has_its_place() {
        let (block, byte) = port_place(u16::MAX);
        assert_eq!((block + 1, byte + 1), (PORT_BLOCKS, PORTS_PER_BLOCK));
        assert_eq!(port_place(5060), (79, 4));
    }
}

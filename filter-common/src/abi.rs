//! The written contract between the XDP program and the controller: map names, keys and values.
//!
//! Everything here is plain data without padding, in which any bit pattern is valid. Addresses in
//! keys and events are the words of [`address`](crate::address), so in network order. Times are
//! nanoseconds of `CLOCK_MONOTONIC` to a tick, unless said otherwise; the program makes them of
//! `bpf_jiffies64`, which costs next to nothing.

use crate::decision::Code;
use crate::limits::{CONNECTION_BUCKETS, STREAM_PREFIXES, STREAM_SOURCES};
use crate::rate::Gcra;

/// Grows with every change to this module that an older program or controller would misread.
/// Pinned maps of another version are not reused.
pub const ABI_VERSION: u32 = 5;

/// The XDP program. Like the maps' names at most 15 bytes, where the kernel cuts them.
pub const PROGRAM: &str = "ringfence";

/// The classifier that watches what leaves: who has proved itself.
pub const EGRESS_PROGRAM: &str = "ringfence_out";

/// The program that says how the kernel's two clocks stand: run by `BPF_PROG_TEST_RUN` alone.
pub const CLOCK_PROGRAM: &str = "ringfence_clock";

/// Names of the maps in the object and of their pins.
pub mod maps {
    /// Array of one [`Configs`](super::Configs).
    pub const CONFIG: &str = "CONFIG";
    /// Array of [`PORT_BLOCKS`](super::PORT_BLOCKS) blocks of port classes.
    pub const PORTS: &str = "PORTS";
    /// Array of [`Line`](crate::ban_table::Line): the bans of IPv4 addresses, by
    /// [`ban_table`](crate::ban_table). Mapped into the controller's memory, its only writer but for
    /// the packets counted.
    pub const BANS_V4: &str = "BANS_V4";
    /// Hash of [`BanEntry`](super::BanEntry) by IPv6 address.
    pub const BANS_V6: &str = "BANS_V6";
    /// Longest-prefix trie of [`NetworkEntry`](super::NetworkEntry) by mapped address.
    pub const BAN_NETS: &str = "BAN_NETS";
    /// Array of words of bits: where there may be a ban, by [`gate`](crate::gate). Mapped into the
    /// controller's memory.
    pub const PRESENCE: &str = "PRESENCE";
    /// Longest-prefix trie of networks that are never dropped, by mapped address: a `u32` with a bit for
    /// each interface's slot on which that is so.
    pub const TRUSTED: &str = "TRUSTED";
    /// Array of words of bits: who may be trusted, by [`gate`](crate::gate).
    pub const TRUST_GATE: &str = "TRUST_GATE";
    /// Array of [`Buckets`](super::Buckets): those of unknown sources, by the hash of the address.
    pub const SOURCES: &str = "SOURCES";
    /// Array of [`Buckets`](super::Buckets): those of the networks of unknown sources.
    pub const PREFIXES: &str = "PREFIXES";
    /// Array of [`SharedBucket`](super::SharedBucket): what all unknown sources share.
    pub const SHARED: &str = "SHARED";
    /// Array of [`STREAM_BUCKETS`](super::STREAM_BUCKETS) buckets of bytes, one `u64` each: of the TCP
    /// connections of unknown sources, of these sources, and of their networks.
    pub const STREAMS: &str = "STREAMS";
    /// Hash of [`Peer`](super::Peer) by address: the known peers.
    pub const KNOWN: &str = "KNOWN";
    /// Array of words of bits: who may be known, by [`gate`](crate::gate).
    pub const KNOWN_GATE: &str = "KNOWN_GATE";
    /// Array of how many known peers an IPv6 network has, one `u64` each, by [`crowd`](crate::crowd).
    /// Mapped into the controller's memory.
    pub const CROWDS: &str = "CROWDS";
    /// Hash of [`Flooder`](super::Flooder) by
    /// [`network64`](crate::address::Address::network64): the program's own short bans. The one that was
    /// longest ago used makes room.
    pub const FLOODERS: &str = "FLOODERS";
    /// Array of [`greylist::Line`](crate::greylist::Line).
    pub const GREYLIST: &str = "GREYLIST";
    /// Longest-prefix trie of [`Signature`](super::Signature) by the folded start of a User-Agent.
    pub const SIGNATURES: &str = "SIGNATURES";
    /// Array of when a source last sent something to a SIP port that passed, one `u32` each, by the
    /// hash of the address: [`seen_unit`](crate::rate::seen_unit).
    pub const SEEN: &str = "SEEN";
    /// Per-CPU array of [`Counter`](super::Counter).
    pub const COUNTERS: &str = "COUNTERS";
    /// Ring buffer of [`Event`](super::Event).
    pub const EVENTS: &str = "EVENTS";
    /// Array of one [`Learning`](super::Learning).
    pub const LEARNED: &str = "LEARNED";
    /// Per-CPU scratch memory of the program: not for the controller, and not pinned.
    pub const SCRATCH: &str = "SCRATCH";
    /// Per-CPU bucket that limits events: not for the controller, and not pinned.
    pub const EVENT_RATE: &str = "EVENT_RATE";

    /// The maps that outlive the controller, and that several interfaces share.
    pub const PINNED: &[&str] = &[
        CONFIG, PORTS, BANS_V4, BANS_V6, BAN_NETS, PRESENCE, TRUSTED, TRUST_GATE, SOURCES,
        PREFIXES, SHARED, STREAMS, KNOWN, KNOWN_GATE, CROWDS, FLOODERS, GREYLIST, SIGNATURES, SEEN,
        COUNTERS, EVENTS, LEARNED,
    ];
}

/// Read-only global of the program: which of [`INTERFACES`](crate::limits::INTERFACES) it serves.
pub const INTERFACE_SLOT: &str = "INTERFACE_SLOT";

/// The same: not zero on the loopback interface.
pub const LOOPBACK: &str = "LOOPBACK";

/// Counters of one kind for one interface. More than there are reasons, so that one more reason
/// does not move the others.
pub const REASON_SLOTS: u32 = 64;

/// Counters of one interface: what happened, then what would have happened in a dry run.
pub const COUNTERS_PER_INTERFACE: u32 = REASON_SLOTS * 2;

/// Ports whose classes are in one value of [`maps::PORTS`].
pub const PORTS_PER_BLOCK: usize = 64;

/// Blocks of all 65,536 ports of UDP, then of those of TCP.
pub const PORT_BLOCKS: u32 = 2048;

/// Both a class of ports and the scope of a ban: the ports that carry SIP.
pub const SCOPE_SIP: u8 = 1;
/// As [`SCOPE_SIP`]: the first of [`NAMED_SCOPES`] classes that the configuration names, each the
/// double of the one before.
pub const SCOPE_NAMED: u8 = 2;
/// Classes of ports that the configuration can name.
pub const NAMED_SCOPES: usize = 6;
/// The scope of a ban of everything.
pub const SCOPE_ALL: u8 = 0x80;

/// Judge and count, but drop nothing.
pub const FLAG_DRY_RUN: u32 = 1;
/// Maintenance closes SIP to known peers too.
pub const FLAG_CLOSED_TO_KNOWN: u32 = 2;
/// Under overload the retransmission of a REGISTER is let in.
pub const FLAG_GREYLIST: u32 = 4;
/// There is at least one signature.
pub const FLAG_SIGNATURES: u32 = 8;
/// As [`FLAG_DRY_RUN`], but set while the filter runs, and kept apart from the setting.
pub const FLAG_DISABLED: u32 = 16;

/// Who entered the host's own addresses among the bans: a packet that claims to come from one is
/// [`Spoofed`](crate::decision::Reason::Spoofed). The last number that the controller keeps for jails of
/// its own, and gives to none.
pub const ORIGIN_OWN: u8 = 16;

/// End of a ban that does not end, in the units of [`unit`](crate::rate::unit).
pub const FOREVER: u32 = u32::MAX;

/// Classes of limits: [`Class`](crate::class::Class), and one spare place.
pub const CLASSES: usize = 8;

/// What the controller configures. All zero, as the kernel makes it: pass everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Config {
    /// [`ABI_VERSION`]; zero when nothing has been written.
    pub abi_version: u32,
    /// Sum of the `FLAG_*`.
    pub flags: u32,
    /// Secret of [`Address::hash`](crate::address::Address::hash).
    pub seed: u64,
    /// `jiffies64` at the time zero of `CLOCK_MONOTONIC`; modulo 2^64.
    pub jiffies_epoch: u64,
    /// Nanoseconds a jiffy.
    pub tick: u64,
    /// SIP is closed until then; zero when it is not.
    pub maintenance_until: u64,
    /// Nanoseconds for which a peer that has proved itself is known.
    pub known_for: u64,
    /// Nanoseconds for which a proven source is banned whose flood goes on.
    pub flood_ban: u64,
    /// Lines of the table of [`maps::BANS_V4`], but for those of details.
    pub ban_lines: u32,
    /// Zero.
    pub reserved: u32,
    /// The words of an IPv4 source that its network's bucket goes by.
    pub prefix_v4: [u64; 2],
    /// The same of an IPv6 source.
    pub prefix_v6: [u64; 2],
    /// The limits of one unknown source, by class; in the last place, how often a REGISTER over the
    /// limit is searched for credentials.
    pub source: [Gcra; CLASSES],
    /// The limits of one network of unknown sources, by class.
    pub prefix: [Gcra; CLASSES],
    /// The limits of all unknown sources together, by class.
    pub shared: [Gcra; CLASSES],
    /// The limit of a known peer, for all it sends.
    pub known: Gcra,
    /// The limit of all that the greylist lets in.
    pub admitted: Gcra,
    /// What a source may send over its limit before its flood counts as going on.
    pub flood: Gcra,
    /// The bytes of one TCP connection of an unknown source.
    pub connection_bytes: Gcra,
    /// The bytes that one unknown source sends over TCP.
    pub source_bytes: Gcra,
    /// The bytes that one network of unknown sources sends over TCP.
    pub prefix_bytes: Gcra,
    /// The bytes that all unknown sources send over TCP: on connections that the host has, and as much
    /// again on others.
    pub shared_bytes: Gcra,
}

/// The configuration, twice: one that packets are judged by, and one that the controller writes the next
/// one into. So no packet sees half of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Configs {
    /// Which of the two packets are judged by. The controller changes it when the other one is whole, and
    /// writes no more until every packet has ended that may have begun with the one before.
    pub current: u64,
    /// The two.
    pub sides: [Config; 2],
}

/// A ban of one IPv6 address. Times in the units of [`unit`](crate::rate::unit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct BanEntry {
    /// Packets it has matched, those of a dry run or of a trusted source too. Written by the program.
    pub packets: u64,
    /// When it ends by itself.
    pub until: u32,
    /// When it began.
    pub since: u32,
    /// Sum of the `SCOPE_*`.
    pub scopes: u8,
    /// Who decided it: a number of the controller's.
    pub origin: u8,
    /// Zero.
    pub reserved: [u8; 6],
}

/// What is in force for a network, by the longest prefix: bans of wider networks around it are
/// written into it by the controller. Times in the units of [`unit`](crate::rate::unit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct NetworkEntry {
    /// Packets it has matched. Written by the program.
    pub packets: u64,
    /// When the ban of each scope ends, by the number of its bit; zero where there is none, so a
    /// hole in a wider ban is all zero.
    pub ends: [u32; 8],
    /// When the first ban of exactly this network, or the hole, began.
    pub since: u32,
    /// Who decided it: a number of the controller's.
    pub origin: u8,
    /// The length of the prefix among 128 bits: a lookup finds the longest one, and whoever asks for
    /// this one must see that it is.
    pub length: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// Buckets of one source or network, by class; the last one has another use in each map.
pub type Buckets = [u64; CLASSES];

/// The place of a source's bucket of searches among its [`Buckets`].
pub const SEARCHES: usize = CLASSES - 1;

/// The place of a source's bucket of packets over its limit, among the [`Buckets`] that are at its
/// own hash in [`maps::PREFIXES`].
pub const EXCESS: usize = CLASSES - 1;

/// A bucket with a cache line of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct SharedBucket {
    /// The bucket.
    pub bucket: u64,
    /// Zero.
    pub reserved: [u64; 7],
}

/// Shared buckets: one for each class, the one of those let in, and two of bytes over TCP.
pub const SHARED_BUCKETS: u32 = 10;

/// The place of the bucket of bytes on TCP connections that the host has, among the shared ones.
pub const CONNECTED_BYTES: usize = CLASSES;

/// The place of the bucket of bytes on others, which may be forged: they take nothing from those.
pub const UNCONNECTED_BYTES: usize = CLASSES + 1;

/// Buckets of [`maps::STREAMS`].
pub const STREAM_BUCKETS: u32 = CONNECTION_BUCKETS + STREAM_SOURCES + STREAM_PREFIXES;

const _: () = assert!(SHARED_BUCKETS as usize == CLASSES + 2);

/// The place of the bucket of those that the greylist lets in, among the shared ones.
pub const ADMITTED: usize = CLASSES - 1;

/// A known peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Peer {
    /// When it stops being known.
    pub until: u64,
    /// Its bucket.
    pub bucket: u64,
    /// The bucket of what it sends over that.
    pub excess: u64,
    /// It is banned until then.
    pub blocked_until: u64,
    /// Packets that passed.
    pub passed: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

/// What [`EGRESS_PROGRAM`] has done to [`maps::KNOWN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Learning {
    /// Peers entered.
    pub learned: u64,
    /// Times that the end of one was moved.
    pub refreshed: u64,
    /// Times that there was no room for one, in all or in its network.
    pub full: u64,
}

/// A source that the program has banned itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Flooder {
    /// When that ends.
    pub until: u64,
    /// Packets dropped.
    pub packets: u64,
}

/// A User-Agent that is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Signature {
    /// Packets it has matched.
    pub packets: u64,
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

/// What [`CLOCK_PROGRAM`] writes over the first bytes of its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Clocks {
    /// `jiffies64`.
    pub jiffies: u64,
    /// `CLOCK_MONOTONIC_COARSE` in nanoseconds.
    pub monotonic: u64,
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

const _: () = assert!(size_of::<Config>() == 96 + 31 * 16);
const _: () = assert!(size_of::<Configs>() == 8 + 2 * size_of::<Config>());
const _: () = assert!(size_of::<BanEntry>() == 24);
const _: () = assert!(size_of::<NetworkEntry>() == 48);
const _: () = assert!(size_of::<SharedBucket>() == 64);
const _: () = assert!(size_of::<Peer>() == 48);
const _: () = assert!(size_of::<Learning>() == 24);
const _: () = assert!(size_of::<Counter>() == 16);
const _: () = assert!(size_of::<Event>() == 32);

/// The place of a port's classes: which block, and which byte in it.
#[inline(always)]
pub fn port_place(tcp: bool, port: u16) -> (u32, usize) {
    let half = if tcp { PORT_BLOCKS / 2 } else { 0 };
    (half | u32::from(port >> 6), usize::from(port & 63))
}

/// The counter of a reason on an interface, in [`maps::COUNTERS`].
#[inline(always)]
pub fn counter_index(slot: u32, would: bool, code: Code) -> u32 {
    let bank = if would { REASON_SLOTS } else { 0 };
    slot.wrapping_mul(COUNTERS_PER_INTERFACE).wrapping_add(bank).wrapping_add(code.number())
}

#[cfg(feature = "user")]
mod pod {
    use super::{
        BanEntry, Config, Configs, Counter, Flooder, Learning, NetworkEntry, Peer, SharedBucket,
        Signature,
    };

    // SAFETY: repr(C), no padding (the sizes above are the sums of the fields), any bits valid.
    unsafe impl aya::Pod for Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Configs {}
    // SAFETY: as above.
    unsafe impl aya::Pod for BanEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for NetworkEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SharedBucket {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Peer {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Learning {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Flooder {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Signature {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Counter {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel() {
        let others = [maps::SCRATCH, maps::EVENT_RATE, PROGRAM, EGRESS_PROGRAM, CLOCK_PROGRAM];
        for name in maps::PINNED.iter().chain(&others) {
            assert!(name.len() <= 15, "{name}");
        }
    }

    #[test]
    fn every_port_has_its_place() {
        let (block, byte) = port_place(true, u16::MAX);
        assert_eq!((block + 1, byte + 1), (PORT_BLOCKS, PORTS_PER_BLOCK));
        assert_eq!(port_place(false, 5060), (79, 4));
        assert_eq!(port_place(true, 0), (PORT_BLOCKS / 2, 0));
        assert_eq!(port_place(true, 5061), (PORT_BLOCKS / 2 + 79, 5));
        assert_eq!([63, 64].map(|port| port_place(false, port)), [(0, 63), (1, 0)]);
    }

    #[test]
    fn every_bucket_has_its_place() {
        assert_eq!(STREAM_BUCKETS, 32_768 + 32_768 + 8192);
        assert_eq!([SEARCHES, EXCESS, ADMITTED], [7; 3]);
        assert_eq!([CONNECTED_BYTES, UNCONNECTED_BYTES], [8, 9]);
    }

    #[test]
    fn every_counter_has_its_place() {
        let last = Code::from_number(REASON_SLOTS - 1);
        let first = Code::from_number(0);
        assert_eq!(counter_index(0, false, first), 0);
        assert_eq!(counter_index(0, false, last), 63);
        assert_eq!(counter_index(0, true, first), 64);
        assert_eq!(counter_index(0, true, last), 127);
        assert_eq!(counter_index(1, false, first), 128);
        assert_eq!(counter_index(2, true, last), COUNTERS_PER_INTERFACE * 3 - 1);
    }
}

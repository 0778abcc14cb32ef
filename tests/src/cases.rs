//! The one table of fixture packets: which packet, in which world, has which reason.
//!
//! The same rows run on the host over a [`Model`](crate::model::Model) and in the kernel over the
//! real maps, so that neither can drift away from the other.

pub mod bans;
pub mod frames;
pub mod generated;
pub mod limits;
pub mod malformed;
pub mod messages;
pub mod payloads;
pub mod recorded;
pub mod worlds;

use std::net::IpAddr;
use std::time::Duration;

use filter_common::abi::{
    self, ABI_VERSION, BanEntry, Config, FLAG_BANNED_NETWORKS, FLAG_DRY_RUN, FLAG_TRUSTED,
    PORT_SIP_TCP, PORT_SIP_UDP,
};
use filter_common::decision::Reason;
use filter_common::rate::Gcra;
use ipnet::IpNet;

/// The least that `BPF_PROG_TEST_RUN` takes: an Ethernet header.
pub const KERNEL_FRAME_MIN: usize = 14;

/// One row.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is about, unlike every other row's.
    pub name: String,
    /// The frame.
    pub packet: Vec<u8>,
    /// What else is known.
    pub world: World,
    /// How many frames come first.
    pub before: usize,
    /// What they are, if not the same.
    pub other: Option<Vec<u8>>,
    /// The reason the frame must have.
    pub expect: Reason,
    /// Whether the kernel can be asked too: not about frames without an Ethernet header.
    pub kernel: bool,
}

impl Case {
    /// A row in the default [`World`].
    pub fn new(name: impl Into<String>, packet: Vec<u8>, expect: Reason) -> Self {
        let kernel = packet.len() >= KERNEL_FRAME_MIN;
        let world = World::default();
        Self { name: name.into(), packet, world, before: 0, other: None, expect, kernel }
    }

    /// The row in another world.
    #[must_use]
    pub fn within(self, world: World) -> Self {
        Self { world, ..self }
    }

    /// The row after so many frames like its own.
    #[must_use]
    pub fn after(self, before: usize) -> Self {
        Self { before, ..self }
    }

    /// The row after so many frames of another kind.
    #[must_use]
    pub fn after_other(self, before: usize, other: Vec<u8>) -> Self {
        Self { before, other: Some(other), ..self }
    }

    /// The frames that come first.
    pub fn earlier(&self) -> impl Iterator<Item = &[u8]> {
        let frame = self.other.as_ref().unwrap_or(&self.packet);
        std::iter::repeat_n(frame.as_slice(), self.before)
    }
}

/// Every row.
pub fn all() -> Vec<Case> {
    [
        frames::cases(),
        malformed::cases(),
        payloads::cases(),
        recorded::cases(),
        bans::cases(),
        limits::cases(),
    ]
    .concat()
}

/// What is known besides the packet.
#[derive(Clone, Debug)]
pub struct World {
    /// Which version of the ABI wrote the configuration; `None` when nobody has.
    pub abi: Option<u32>,
    /// Whether it only watches.
    pub dry_run: bool,
    /// Ports with SIP over UDP.
    pub sip_udp: Vec<u16>,
    /// Ports with SIP over TCP.
    pub sip_tcp: Vec<u16>,
    /// The limit of REGISTER without credentials.
    pub register: Option<Limit>,
    /// Bans.
    pub bans: Vec<Ban>,
    /// Networks that are never dropped.
    pub trusted: Vec<IpNet>,
}

/// A limit as it is configured.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// So many ...
    pub events: u64,
    /// ... in so much time.
    pub period: Duration,
    /// At once.
    pub burst: u64,
}

/// A ban.
#[derive(Clone, Copy, Debug)]
pub struct Ban {
    /// Who.
    pub who: Who,
    /// One of [`abi::SCOPE_SIP`] and [`abi::SCOPE_ALL`], or what nobody writes.
    pub scope: u8,
    /// Until when.
    pub ends: Ends,
}

/// Whom a ban is about.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// An address.
    Address(IpAddr),
    /// A network.
    Network(IpNet),
}

/// When a ban ends.
#[derive(Clone, Copy, Debug)]
pub enum Ends {
    /// It has, so many seconds ago.
    Ago(u64),
    /// In so many seconds.
    In(u64),
    /// Not by itself.
    Never,
}

impl Default for World {
    /// SIP on 5060 over UDP and TCP and on 5061 over TLS, a limit that one packet does not reach,
    /// and no bans.
    fn default() -> Self {
        Self {
            abi: Some(ABI_VERSION),
            dry_run: false,
            sip_udp: vec![5060],
            sip_tcp: vec![5060, 5061],
            register: Some(Limit { events: 10, period: Duration::from_secs(1), burst: 50 }),
            bans: Vec::new(),
            trusted: Vec::new(),
        }
    }
}

impl World {
    /// The default with one more ban of an address.
    #[must_use]
    pub fn ban(mut self, address: &str, scope: u8, ends: Ends) -> Self {
        self.bans.push(Ban { who: Who::Address(ip(address)), scope, ends });
        self
    }

    /// The default with one more ban of a network.
    #[must_use]
    pub fn ban_network(mut self, network: &str, scope: u8, ends: Ends) -> Self {
        self.bans.push(Ban { who: Who::Network(net(network)), scope, ends });
        self
    }

    /// The default with one more trusted network.
    #[must_use]
    pub fn trust(mut self, network: &str) -> Self {
        self.trusted.push(net(network));
        self
    }

    /// The same, but only watching.
    #[must_use]
    pub fn watching(self) -> Self {
        Self { dry_run: true, ..self }
    }

    /// The default with another limit: `burst` at once, then one an hour, so that no test is slow
    /// enough to get another.
    #[must_use]
    pub fn limit(self, burst: u64) -> Self {
        let period = Duration::from_hours(1);
        Self { register: Some(Limit { events: 1, period, burst }), ..self }
    }

    /// The value of [`abi::maps::CONFIG`].
    pub fn config(&self) -> Config {
        let Some(abi_version) = self.abi else {
            return Config::default();
        };
        let networks = self.bans.iter().any(|ban| matches!(ban.who, Who::Network(_)));
        let flags = [
            (self.dry_run, FLAG_DRY_RUN),
            (!self.trusted.is_empty(), FLAG_TRUSTED),
            (networks, FLAG_BANNED_NETWORKS),
        ];
        let limit = self.register.map_or(Gcra { interval: 0, tolerance: 0 }, |limit| {
            let period = u64::try_from(limit.period.as_nanos()).unwrap_or(u64::MAX);
            Gcra::new(limit.events, period, limit.burst)
        });
        Config {
            abi_version,
            flags: flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum(),
            register_interval: limit.interval,
            register_tolerance: limit.tolerance,
            seed: 0x5eed,
        }
    }

    /// Each SIP port with the classes it is in.
    pub fn ports(&self) -> impl Iterator<Item = (u16, u8)> {
        let udp = self.sip_udp.iter().map(|port| (*port, PORT_SIP_UDP));
        let tcp = self.sip_tcp.iter().map(|port| (*port, PORT_SIP_TCP));
        udp.chain(tcp)
    }
}

impl Ban {
    /// The ban as it lies in a map, at `now`.
    pub fn entry(&self, now: u64) -> BanEntry {
        const SECOND: u64 = 1_000_000_000;
        let until = match self.ends {
            Ends::Ago(seconds) => now.saturating_sub(seconds * SECOND),
            Ends::In(seconds) => now + seconds * SECOND,
            Ends::Never => abi::FOREVER,
        };
        BanEntry { until, since: 1, scope: self.scope, ..BanEntry::default() }
    }
}

/// An address in a table.
fn ip(text: &str) -> IpAddr {
    match text.parse() {
        Ok(address) => address,
        Err(why) => panic!("{text}: {why}"),
    }
}

/// A network in a table.
fn net(text: &str) -> IpNet {
    match text.parse() {
        Ok(network) => network,
        Err(why) => panic!("{text}: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use filter_common::decision::Verdict;

    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names = BTreeSet::new();
        for case in all() {
            assert!(names.insert(case.name.clone()), "two rows are called {:?}", case.name);
        }
    }

    #[test]
    fn every_reason_has_a_row() {
        for reason in Reason::ALL {
            let has = |case: &Case| {
                if *reason == Reason::DryRun {
                    // Not the reason of a packet but what a dry run makes of a drop.
                    case.world.dry_run && case.expect.verdict() == Verdict::Drop
                } else {
                    case.expect == *reason
                }
            };
            assert!(all().iter().any(has), "no row for {reason:?}");
        }
    }

    #[test]
    fn only_runts_are_kept_from_the_kernel() {
        for case in all() {
            assert_eq!(case.kernel, case.packet.len() >= KERNEL_FRAME_MIN, "{}", case.name);
        }
    }
}

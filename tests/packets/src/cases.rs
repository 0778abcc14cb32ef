//! The single table of fixture packets: the packet, the state of the maps, and the expected reason.
//!
//! The same rows run on the host over a [`Model`](crate::model::Model) and in the kernel over the real
//! maps, so that the two cannot drift apart.

pub mod answers;
pub mod bans;
pub mod carriers;
pub mod exposure;
pub mod floods;
pub mod frames;
pub mod generated;
pub mod geo;
pub mod greylist;
pub mod ipv6_sources;
pub mod limits;
pub mod maintenance;
pub mod malformed;
pub mod messages;
pub mod networks;
pub mod payloads;
pub mod peers;
pub mod recorded;
pub mod scopes;
pub mod shares;
pub mod signatures;
pub mod unattended;
pub mod worlds;

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use filter_common::abi::{
    ABI_VERSION, BanEntry, CLASSES, Challenged, Config, FLAG_CLOSED_TO_KNOWN, FLAG_DRY_RUN,
    FLAG_EXPOSURE_DRY_RUN, FLAG_GEO, FLAG_GEO_DRY_RUN, FLAG_GREYLIST, FLAG_GUARDED, FLAG_RETURN,
    FLAG_SIGNATURES, FOREVER, NetworkEntry, ORIGIN_OWN, PORT_GUARDED, SCOPE_ALL, SCOPE_SIP,
    SCOPE_THROTTLE, SEARCHES,
};
use filter_common::address::Address;
use filter_common::ban_cache;
use filter_common::ban_table::{Slot, lines_for};
use filter_common::class::Class;
use filter_common::decision::{Reason, Verdict};
use filter_common::gate;
use filter_common::limits::WINDOW_WORDS;
use filter_common::packet::{self, Packet as _};
use filter_common::rate::{Gcra, unit};
use filter_common::sip::{Agent, agent_of};
use filter_common::wire::{self, Reading};
use ipnet::IpNet;

use crate::model::{Tally, mapped_prefix};

/// The shortest frame that `BPF_PROG_TEST_RUN` accepts: an Ethernet header.
pub const KERNEL_FRAME_MIN: usize = 14;

/// The capacity of the tables of a [`World`] for bans of IPv4 addresses.
pub const BANS: u32 = 64;

/// The same for IPv6.
pub const BANS_V6: u32 = 64;

/// One row.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name, which no other row has.
    pub name: String,
    /// The frame.
    pub packet: Vec<u8>,
    /// The state of the maps.
    pub world: World,
    /// The steps before the frame.
    pub before: Vec<Step>,
    /// The reason the frame must have.
    pub expect: Reason,
    /// Whether the frame shows that its source uses a port.
    pub uses: bool,
    /// Whether the row runs in the kernel too: a frame without an Ethernet header does not.
    pub kernel: bool,
}

/// A step before a row's frame.
#[derive(Clone, Debug)]
pub enum Step {
    /// This many copies of the row's own frame.
    Same(usize),
    /// Other frames.
    Others(Vec<Vec<u8>>),
    /// A pause.
    Wait(Duration),
}

/// One event before a row's frame.
#[derive(Clone, Copy, Debug)]
pub enum Earlier<'a> {
    /// A frame arrives.
    Frame(&'a [u8]),
    /// Time passes.
    Wait(Duration),
}

impl Case {
    /// A row in the default [`World`].
    pub fn new(name: impl Into<String>, packet: Vec<u8>, expect: Reason) -> Self {
        let kernel = packet.len() >= KERNEL_FRAME_MIN;
        let world = World::default();
        let before = Vec::new();
        Self { name: name.into(), packet, world, before, expect, uses: false, kernel }
    }

    /// Whether its source is noted as seen: something reaches Asterisk that it may answer.
    pub fn shows_source(&self) -> bool {
        matches!(
            self.expect,
            Reason::Register
                | Reason::RegisterCredentials
                | Reason::Request
                | Reason::NotSip
                | Reason::Known
                | Reason::Admitted
                | Reason::Answered
        )
    }

    /// The row whose frame shows that its source uses a port.
    #[must_use]
    pub fn using(self) -> Self {
        Self { uses: true, ..self }
    }

    /// The row in another world.
    #[must_use]
    pub fn within(self, world: World) -> Self {
        Self { world, ..self }
    }

    /// The row after this many copies of its own frame, without earlier steps.
    #[must_use]
    pub fn after(self, count: usize) -> Self {
        Self { before: vec![Step::Same(count)], ..self }
    }

    /// The row after these other frames, without earlier steps.
    #[must_use]
    pub fn after_other(self, count: usize, other: Vec<u8>) -> Self {
        Self { before: vec![Step::Others(vec![other; count])], ..self }
    }

    /// The row after these frames too.
    #[must_use]
    pub fn then(mut self, others: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.before.push(Step::Others(others.into_iter().collect()));
        self
    }

    /// The row after this many copies of its own frame too.
    #[must_use]
    pub fn then_same(mut self, count: usize) -> Self {
        self.before.push(Step::Same(count));
        self
    }

    /// The row after this many milliseconds too.
    #[must_use]
    pub fn then_wait(mut self, milliseconds: u64) -> Self {
        self.before.push(Step::Wait(Duration::from_millis(milliseconds)));
        self
    }

    /// Checks the counts in the entries of the maps for the row's frame, from the counts before and after
    /// it.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub fn check_tally(&self, before: Tally, after: Tally) -> Result<(), String> {
        if self.expect == Reason::Trusted {
            // An earlier check has counted it.
            return Ok(());
        }
        let is_peer = !self.world.peers.is_empty();
        let mut expected = before;
        if self.world.bans.iter().any(|ban| ban.scopes & SCOPE_THROTTLE != 0) {
            // Its entry also counts a packet that passes all the same.
            expected.bans = after.bans;
        }
        if self.is_own() && !self.world.attended.is_ahead() {
            // Its entry counts it, and does not drop it.
            expected.bans += 1;
        }
        expected.uses += u64::from(self.uses);
        match self.expect {
            Reason::Banned | Reason::BannedNetwork | Reason::Throttled => {
                expected.bans = expected.bans.max(before.bans + 1);
            }
            Reason::Spoofed if self.is_own() => expected.bans += 1,
            // A segment of a peer that is over its limit.
            Reason::Known if after.peers_dropped > before.peers_dropped => {
                expected.peers_dropped += 1;
            }
            Reason::Known => expected.peers_passed += 1,
            Reason::KnownLimit => expected.peers_dropped += 1,
            Reason::Flooding | Reason::Answered | Reason::Admitted if is_peer => {
                expected.peers_dropped += 1;
            }
            Reason::Flooding => expected.flooders += 1,
            Reason::Signature => expected.signatures += 1,
            Reason::DryRun => return Err("no packet has it".to_owned()),
            Reason::NotConfigured
            | Reason::NotIp
            | Reason::Malformed
            | Reason::Fragment
            | Reason::OtherProtocol
            | Reason::OtherPort
            | Reason::Trusted
            | Reason::TcpControl
            | Reason::KeepAlive
            | Reason::Stun
            | Reason::Response
            | Reason::Request
            | Reason::Register
            | Reason::RegisterCredentials
            | Reason::NotSip
            | Reason::RegisterLimit
            | Reason::CredentialsLimit
            | Reason::InviteLimit
            | Reason::OptionsLimit
            | Reason::SubscribeLimit
            | Reason::OtherLimit
            | Reason::SynLimit
            | Reason::PrefixLimit
            | Reason::SharedLimit
            | Reason::Greylist
            | Reason::Maintenance
            | Reason::Spoofed
            | Reason::StreamLimit
            | Reason::ClosedPort
            | Reason::Answered
            | Reason::Geo
            | Reason::Admitted => {}
        }
        if self.expect == Reason::Flooding && !is_peer && after.flooders == 1 {
            // A source that is banned again is counted from one.
            expected.flooders = 1;
        }
        if after == expected { Ok(()) } else { Err(format!("counted {after:?}, not {expected:?}")) }
    }

    /// Whether its source is one of the host's own addresses, which has an entry.
    fn is_own(&self) -> bool {
        let headers = packet::parse(&self.packet.as_slice());
        let mut own = self.world.own.iter();
        headers.is_ok_and(|headers| own.any(|own| Address::from(*own) == headers.source))
    }

    /// The events before its frame.
    pub fn earlier(&self) -> impl Iterator<Item = Earlier<'_>> {
        self.before.iter().flat_map(|step| {
            let earlier: Vec<_> = match step {
                Step::Same(count) => vec![Earlier::Frame(&self.packet); *count],
                Step::Others(frames) => {
                    frames.iter().map(|frame| Earlier::Frame(frame.as_slice())).collect()
                }
                Step::Wait(time) => vec![Earlier::Wait(*time)],
            };
            earlier
        })
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
        scopes::cases(),
        networks::cases(),
        ipv6_sources::cases(),
        limits::cases(),
        shares::cases(),
        peers::cases(),
        floods::cases(),
        greylist::cases(),
        answers::cases(),
        signatures::cases(),
        maintenance::cases(),
        carriers::cases(),
        exposure::cases(),
        geo::cases(),
        unattended::cases(),
    ]
    .concat()
}

/// The state of the maps.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct World {
    /// The version of the ABI that wrote the configuration; `None` without a configuration.
    pub abi: Option<u32>,
    /// Whether this is a dry run.
    pub dry_run: bool,
    /// The SIP ports over UDP.
    pub sip_udp: Vec<u16>,
    /// The SIP ports over TCP.
    pub sip_tcp: Vec<u16>,
    /// Ports that bans can close separately.
    pub ports: Vec<Ports>,
    /// Ports that are not open to everybody: whether they are TCP ports, their range, and the sources to
    /// which they are open, a sum of `OPEN_TO_*`.
    pub guards: Vec<(bool, u16, u8)>,
    /// Addresses that the host has sent something to, from which UDP port, and when.
    pub asked: Vec<(IpAddr, u16, Ends)>,
    /// Addresses to which the host has sent a challenge with this nonce.
    pub challenged: Vec<(IpAddr, &'static str)>,
    /// Whether guarded ports are only watched.
    pub exposure_dry_run: bool,
    /// The limits of one unknown source, by [`Class`]; the last is the limit of searches for credentials
    /// in REGISTERs over the limit.
    pub source: Limits,
    /// The limits of all unknown sources in one network.
    pub prefix: Limits,
    /// The limits of all unknown sources.
    pub shared: Limits,
    /// The limits of bytes over TCP: of a connection, a source, a network, and all unknown sources.
    pub bytes: Box<[Option<Limit>; 4]>,
    /// The prefix lengths of these networks, for IPv4 and IPv6.
    pub prefix_lengths: [u8; 2],
    /// Whether the phones of a site may come back, after maintenance.
    pub returns: bool,
    /// The limit of each known peer.
    pub known: Option<Limit>,
    /// The limit of everything that the greylist admits.
    pub admitted: Option<Limit>,
    /// What a source may send over its limit before it counts as flooding.
    pub flood: Option<Limit>,
    /// How long it is then banned.
    pub flood_ban: Duration,
    /// Whether there is a greylist.
    pub greylist: bool,
    /// User-Agents whose packets are dropped; a final `*` matches any ending.
    pub signatures: Vec<&'static str>,
    /// Networks from which SIP is not admitted, and those in them from which it is (`false`).
    pub shut: Vec<(IpNet, bool)>,
    /// Whether that is only watched.
    pub geo_dry_run: bool,
    /// Whether SIP is admitted from there all the same: the tables may still have networks of an earlier setting.
    pub geo_off: bool,
    /// Until when SIP is closed, if it is.
    pub maintenance: Option<ClosedUntil>,
    /// Bans.
    pub bans: Vec<Ban>,
    /// The host's own addresses.
    pub own: Vec<IpAddr>,
    /// Networks that are never dropped.
    pub trusted: Vec<IpNet>,
    /// Known peers, and when they are forgotten.
    pub peers: Vec<(IpAddr, Ends)>,
    /// Sources that the program has banned, and when these bans end.
    pub flooders: Vec<(IpAddr, Ends)>,
    /// Sources that have a connection from their TCP port 40000 to port 5060.
    pub connected: Vec<IpAddr>,
    /// Until when the filter counts as attended.
    pub attended: Ends,
}

/// Limits by [`Class`].
pub type Limits = [Option<Limit>; CLASSES];

/// A limit as in the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// This many packets or bytes ...
    pub events: u64,
    /// ... in this time.
    pub period: Duration,
    /// The most at once.
    pub burst: u64,
}

impl Limit {
    /// A rate per second.
    const fn a_second(events: u64, burst: u64) -> Self {
        Self { events, period: Duration::from_secs(1), burst }
    }

    /// `burst` at once, then one an hour, so that no row takes long enough for another.
    const fn once(burst: u64) -> Self {
        Self { events: 1, period: Duration::from_hours(1), burst }
    }

    /// The form in the program's configuration.
    fn gcra(limit: Option<Self>) -> Gcra {
        limit.map_or(Gcra::default(), |limit| {
            let period = u64::try_from(limit.period.as_nanos()).unwrap_or(u64::MAX);
            Gcra::new(limit.events, period, limit.burst)
        })
    }
}

/// Ports of a named class.
#[derive(Clone, Debug)]
pub struct Ports {
    /// The class: [`SCOPE_NAMED`](filter_common::abi::SCOPE_NAMED) or a later one.
    pub scope: u8,
    /// Whether over TCP.
    pub tcp: bool,
    /// The range of ports.
    pub range: RangeInclusive<u16>,
}

/// SIP is closed for maintenance.
#[derive(Clone, Copy, Debug)]
pub struct ClosedUntil {
    /// When it opens.
    pub ends: Ends,
    /// Whether it is closed to known peers too.
    pub closed_to_known: bool,
}

/// A ban, or an exception from bans.
#[derive(Clone, Copy, Debug)]
pub struct Ban {
    /// The address or network.
    pub who: Who,
    /// Sum of the `SCOPE_*`. Zero for a network is an exception from wider networks.
    pub scopes: u8,
    /// When it ends.
    pub ends: Ends,
}

/// The subject of a ban.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// An address.
    Address(IpAddr),
    /// A network.
    Network(IpNet),
}

/// When a ban or the like ends.
#[derive(Clone, Copy, Debug)]
pub enum Ends {
    /// It ended this many seconds ago.
    Ago(u64),
    /// It ends in this many seconds.
    In(u64),
    /// It does not end by itself.
    Never,
}

impl Ends {
    /// Whether the end is in the future.
    pub fn is_ahead(self) -> bool {
        matches!(self, Self::In(1..) | Self::Never)
    }

    /// The end in nanoseconds of the kernel's clock, if that is `now`.
    pub fn time(self, now: u64) -> u64 {
        const SECOND: u64 = 1_000_000_000;
        match self {
            Self::Ago(seconds) => now.saturating_sub(seconds.saturating_mul(SECOND)),
            Self::In(seconds) => now.saturating_add(seconds.saturating_mul(SECOND)),
            Self::Never => u64::MAX,
        }
    }

    /// The same in the units of [`unit`], and never zero, which would mean no ban.
    pub fn unit(self, now: u64) -> u32 {
        match self {
            Self::Never => FOREVER,
            Self::Ago(_) | Self::In(_) => unit(self.time(now)).max(1),
        }
    }
}

impl Default for World {
    /// SIP on port 5060 over UDP and TCP and on 5061 over TLS, limits that one packet does not reach, and
    /// no bans.
    fn default() -> Self {
        let of_all = |limit| {
            let mut limits = [Some(limit); CLASSES];
            limits[SEARCHES] = None;
            limits
        };
        Self {
            abi: Some(ABI_VERSION),
            dry_run: false,
            sip_udp: vec![5060],
            sip_tcp: vec![5060, 5061],
            ports: Vec::new(),
            guards: Vec::new(),
            asked: Vec::new(),
            challenged: Vec::new(),
            exposure_dry_run: false,
            source: of_all(Limit::a_second(10, 250)),
            prefix: of_all(Limit::a_second(40, 1000)),
            shared: of_all(Limit::a_second(300, 1000)),
            bytes: Box::new([
                Some(Limit::a_second(3000, 24_000)),
                Some(Limit::a_second(4000, 32_000)),
                Some(Limit::a_second(16_000, 128_000)),
                Some(Limit::a_second(200_000, 650_000)),
            ]),
            prefix_lengths: [24, 48],
            returns: false,
            known: Some(Limit::a_second(500, 5000)),
            admitted: Some(Limit::a_second(200, 500)),
            flood: Some(Limit::a_second(100, 2000)),
            flood_ban: Duration::from_mins(1),
            greylist: false,
            signatures: Vec::new(),
            shut: Vec::new(),
            geo_dry_run: false,
            geo_off: false,
            maintenance: None,
            bans: Vec::new(),
            own: Vec::new(),
            trusted: Vec::new(),
            peers: Vec::new(),
            flooders: Vec::new(),
            connected: Vec::new(),
            attended: Ends::Never,
        }
    }
}

impl World {
    /// The secret of the hashes.
    pub const SEED: u64 = 0x5eed;

    /// Without any limit.
    #[must_use]
    pub fn unlimited(self) -> Self {
        let none = [None; CLASSES];
        let (source, prefix, shared, bytes) = (none, none, none, Box::new([None; 4]));
        Self { source, prefix, shared, bytes, known: None, admitted: None, flood: None, ..self }
    }

    /// With one more ban of an address.
    #[must_use]
    pub fn ban(mut self, address: &str, scopes: u8, ends: Ends) -> Self {
        self.bans.push(Ban { who: Who::Address(ip(address)), scopes, ends });
        self
    }

    /// With one more ban of a network.
    #[must_use]
    pub fn ban_network(mut self, network: &str, scopes: u8, ends: Ends) -> Self {
        self.bans.push(Ban { who: Who::Network(net(network)), scopes, ends });
        self
    }

    /// With one more exception from bans of networks.
    #[must_use]
    pub fn exception(self, network: &str) -> Self {
        self.ban_network(network, 0, Ends::Never)
    }

    /// With one more of the host's own addresses.
    #[must_use]
    pub fn own(mut self, address: &str) -> Self {
        self.own.push(ip(address));
        self
    }

    /// With one more trusted network.
    #[must_use]
    pub fn trust(mut self, network: &str) -> Self {
        self.trusted.push(net(network));
        self
    }

    /// With one more known peer.
    #[must_use]
    pub fn peer(mut self, address: &str, ends: Ends) -> Self {
        self.peers.push((ip(address), ends));
        self
    }

    /// With one more source that the program has banned.
    #[must_use]
    pub fn flooder(mut self, address: &str, ends: Ends) -> Self {
        self.flooders.push((ip(address), ends));
        self
    }

    /// With one more source that has a connection.
    #[must_use]
    pub fn connect(mut self, address: &str) -> Self {
        self.connected.push(ip(address));
        self
    }

    /// The same, but attended until then.
    #[must_use]
    pub fn attended(self, attended: Ends) -> Self {
        Self { attended, ..self }
    }

    /// With one more class of ports.
    #[must_use]
    pub fn named(mut self, scope: u8, tcp: bool, range: RangeInclusive<u16>) -> Self {
        self.ports.push(Ports { scope, tcp, range });
        self
    }

    /// The same with one more port that is not open to everybody.
    #[must_use]
    pub fn guard(mut self, tcp: bool, port: u16, open_to: u8) -> Self {
        self.guards.push((tcp, port, open_to));
        self
    }

    /// The same, and the host has sent something from this UDP port to an address.
    #[must_use]
    pub fn ask(mut self, address: &str, port: u16, when: Ends) -> Self {
        self.asked.push((ip(address), port, when));
        self
    }

    /// With a network of one address, which closes these scopes.
    #[must_use]
    pub fn throttle(self, address: &str, scopes: u8, ends: Ends) -> Self {
        let network = IpNet::from(ip(address)).to_string();
        self.ban_network(&network, scopes, ends)
    }

    /// The same, and the host has sent an address a challenge with this nonce.
    #[must_use]
    pub fn challenge(mut self, address: &str, nonce: &'static str) -> Self {
        self.challenged.push((ip(address), nonce));
        self
    }

    /// The records of the addresses to which it has sent challenges.
    pub fn challenges(&self) -> impl Iterator<Item = (Address, Challenged)> {
        self.challenged.iter().map(|(address, nonce)| {
            let field = format!("x\r\nAuthorization: Digest nonce=\"{nonce}\"\r\n\r\n");
            let mut window = [0; WINDOW_WORDS];
            let len = field.as_bytes().copy(0, &mut window);
            let mut reading = Reading::begin(Self::SEED);
            let _enough = (0..len).any(|at| wire::read(&window, at, &mut reading));
            let mut challenged = Challenged::default();
            challenged.nonces[3] = reading.message().nonces[0];
            (Address::from(*address), challenged)
        })
    }

    /// With one more User-Agent whose packets are dropped.
    #[must_use]
    pub fn signature(mut self, agent: &'static str) -> Self {
        self.signatures.push(agent);
        self
    }

    /// With a network from which SIP is not admitted.
    ///
    /// # Panics
    ///
    /// If the text is no network.
    #[must_use]
    pub fn shut(mut self, network: &str) -> Self {
        self.shut.push((network.parse().expect("a network"), true));
        self
    }

    /// With an IPv6 network in such a network, from which it is admitted.
    ///
    /// # Panics
    ///
    /// If the text is no network.
    #[must_use]
    pub fn shut_except(mut self, network: &str) -> Self {
        self.shut.push((network.parse().expect("a network"), false));
        self
    }

    /// The words of [`maps::GEO_V4`](filter_common::abi::maps::GEO_V4) that are not zero.
    pub fn shut_v4(&self) -> HashMap<u32, u64> {
        let mut words = HashMap::new();
        for (network, _) in &self.shut {
            if let IpNet::V4(network) = network {
                for number in
                    u32::from(network.network()) >> 8..=u32::from(network.broadcast()) >> 8
                {
                    let place = gate::geo_v4(number);
                    *words.entry(place.word).or_default() |= 1 << place.shift;
                }
            }
        }
        words
    }

    /// The entries of [`maps::GEO_V6`](filter_common::abi::maps::GEO_V6).
    pub fn shut_v6(&self) -> impl Iterator<Item = (IpNet, bool)> {
        self.shut.iter().copied().filter(|(network, _)| network.addr().is_ipv6())
    }

    /// With SIP closed.
    #[must_use]
    pub fn closed(self, ends: Ends, closed_to_known: bool) -> Self {
        Self { maintenance: Some(ClosedUntil { ends, closed_to_known }), ..self }
    }

    /// With a greylist.
    #[must_use]
    pub fn greylisting(self) -> Self {
        Self { greylist: true, ..self }
    }

    /// In a dry run.
    #[must_use]
    pub fn watching(self) -> Self {
        Self { dry_run: true, ..self }
    }

    /// Whether packets with this reason would drop, and are only watched.
    pub fn watches(&self, reason: Reason) -> bool {
        let watched = self.dry_run || self.exposure_dry_run && reason == Reason::ClosedPort;
        watched && reason.verdict() == Verdict::Drop
    }

    /// With another limit of REGISTERs without credentials of one source.
    #[must_use]
    pub fn limit(self, burst: u64) -> Self {
        self.source_limit(Class::Register, burst)
    }

    /// With another limit of one source for a class.
    #[must_use]
    pub fn source_limit(mut self, class: Class, burst: u64) -> Self {
        self.source[class.index()] = Some(Limit::once(burst));
        self
    }

    /// With another limit of a network's unknown sources for a class.
    #[must_use]
    pub fn prefix_limit(mut self, class: Class, burst: u64) -> Self {
        self.prefix[class.index()] = Some(Limit::once(burst));
        self
    }

    /// With another limit of all unknown sources for a class.
    #[must_use]
    pub fn shared_limit(mut self, class: Class, burst: u64) -> Self {
        self.shared[class.index()] = Some(Limit::once(burst));
        self
    }

    /// Without searches for credentials in REGISTERs of a source over its limit.
    #[must_use]
    pub fn search_limit(mut self, burst: u64) -> Self {
        self.source[SEARCHES] = Some(Limit::once(burst));
        self
    }

    /// With other limits of bytes over TCP: of a connection, a source, a network, and all. Zero is no
    /// limit.
    #[must_use]
    pub fn byte_limits(self, bursts: [u64; 4]) -> Self {
        let limit = |burst| (burst != 0).then(|| Limit::once(burst));
        Self { bytes: Box::new(bursts.map(limit)), ..self }
    }

    /// With the limits as they are for a while after maintenance (`configure::ease` of the crate `datapath`).
    #[must_use]
    pub fn after_maintenance(mut self) -> Self {
        self.returns = true;
        if let Some(of_network) = &mut self.bytes[2] {
            of_network.events *= 10;
            of_network.burst *= 10;
        }
        self
    }

    /// With another limit of known peers.
    #[must_use]
    pub fn known_limit(self, burst: u64) -> Self {
        Self { known: Some(Limit::once(burst)), ..self }
    }

    /// With another limit of what the greylist admits.
    #[must_use]
    pub fn admitted_limit(self, burst: u64) -> Self {
        Self { admitted: Some(Limit::once(burst)), ..self }
    }

    /// With a ban for a flood after this many packets over the limit.
    #[must_use]
    pub fn flood_after(self, burst: u64) -> Self {
        Self { flood: Some(Limit::once(burst)), ..self }
    }

    /// The value of [`maps::CONFIG`](filter_common::abi::maps::CONFIG) at `now`. Its clock counts
    /// nanoseconds from zero; the tests in the kernel replace it with one for `jiffies64`.
    pub fn config(&self, now: u64) -> Config {
        let Some(abi_version) = self.abi else {
            return Config::default();
        };
        let closed_to_known = self.maintenance.is_some_and(|closed| closed.closed_to_known);
        let flags = [
            (self.dry_run, FLAG_DRY_RUN),
            (closed_to_known, FLAG_CLOSED_TO_KNOWN),
            (self.greylist, FLAG_GREYLIST),
            (!self.signatures.is_empty(), FLAG_SIGNATURES),
            (!self.guards.is_empty(), FLAG_GUARDED),
            (self.exposure_dry_run, FLAG_EXPOSURE_DRY_RUN),
            (!self.shut.is_empty() && !self.geo_off, FLAG_GEO),
            (self.returns, FLAG_RETURN),
            (self.geo_dry_run, FLAG_GEO_DRY_RUN),
        ];
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let [v4, v6] = self.prefix_lengths;
        let [connection, source_bytes, prefix_bytes, shared_bytes] = *self.bytes;
        Config {
            abi_version,
            flags: flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum(),
            seed: Self::SEED,
            jiffies_epoch: 0,
            tick: 1,
            maintenance_until: self.maintenance.map_or(0, |closed| closed.ends.time(now)),
            known_for: nanoseconds(Duration::from_hours(2)),
            flood_ban: nanoseconds(self.flood_ban),
            ban_lines: lines_for(BANS),
            cache_lines: ban_cache::lines_for(BANS_V6),
            prefix_v4: prefix_words(96 + u32::from(v4)),
            prefix_v6: prefix_words(v6.into()),
            source: self.source.map(Limit::gcra),
            prefix: self.prefix.map(Limit::gcra),
            shared: self.shared.map(Limit::gcra),
            known: Limit::gcra(self.known),
            admitted: Limit::gcra(self.admitted),
            flood: Limit::gcra(self.flood),
            connection_bytes: Limit::gcra(connection),
            source_bytes: Limit::gcra(source_bytes),
            prefix_bytes: Limit::gcra(prefix_bytes),
            shared_bytes: Limit::gcra(shared_bytes),
        }
    }

    /// Each port that belongs to a class: whether it is over TCP, its number, and the class.
    pub fn port_classes(&self) -> impl Iterator<Item = (bool, u16, u8)> {
        let udp = self.sip_udp.iter().map(|port| (false, *port, SCOPE_SIP | SCOPE_THROTTLE));
        let tcp = self.sip_tcp.iter().map(|port| (true, *port, SCOPE_SIP));
        let named = self
            .ports
            .iter()
            .flat_map(|named| named.range.clone().map(|port| (named.tcp, port, named.scope)));
        let guarded = self.guards.iter().map(|(tcp, port, _)| (*tcp, *port, PORT_GUARDED));
        udp.chain(tcp).chain(named).chain(guarded)
    }

    /// The bans of IPv4 addresses at `now`, as in their table.
    pub fn slots(&self, now: u64) -> impl Iterator<Item = Slot> {
        let bans = self.address_bans().filter_map(move |(address, ban)| {
            let address = Address::from(address).v4_word()?;
            let until = ban.ends.unit(now);
            let scopes = ban.scopes;
            Some(Slot { address, until, since: 1, scopes, ..Slot::default() })
        });
        let own = self.own.iter().filter_map(|address| {
            let address = Address::from(*address).v4_word()?;
            let (until, scopes, origin) = (FOREVER, SCOPE_ALL, ORIGIN_OWN);
            Some(Slot { address, until, since: 1, scopes, origin, ..Slot::default() })
        });
        bans.chain(own)
    }

    /// The bans of IPv6 addresses at `now`, as in their map.
    pub fn v6_bans(&self, now: u64) -> impl Iterator<Item = (Address, BanEntry)> {
        let bans = self.address_bans().filter(|(address, _)| address.is_ipv6());
        let bans = bans.map(move |(address, ban)| {
            let (until, scopes) = (ban.ends.unit(now), ban.scopes);
            let entry = BanEntry { until, since: 1, scopes, ..BanEntry::default() };
            (address.into(), entry)
        });
        let own = self.own.iter().filter(|address| address.is_ipv6()).map(|address| {
            let (until, scopes, origin) = (FOREVER, SCOPE_ALL, ORIGIN_OWN);
            let entry = BanEntry { until, since: 1, scopes, origin, ..BanEntry::default() };
            (Address::from(*address), entry)
        });
        bans.chain(own)
    }

    /// Every address that has an entry: banned ones and the host's own.
    pub fn entered(&self) -> impl Iterator<Item = Who> {
        let own = self.own.iter().copied().map(Who::Address);
        self.bans.iter().map(|ban| ban.who).chain(own)
    }

    fn address_bans(&self) -> impl Iterator<Item = (IpAddr, &Ban)> {
        self.bans.iter().filter_map(|ban| match ban.who {
            Who::Address(address) => Some((address, ban)),
            Who::Network(_) => None,
        })
    }

    /// The bans of networks and their exceptions at `now`, as in their map: an entry contains its own
    /// bans and those of wider networks.
    pub fn networks(&self, now: u64) -> Vec<(IpNet, NetworkEntry)> {
        let own = || {
            self.bans.iter().filter_map(|ban| match ban.who {
                Who::Network(network) => Some((network, ban)),
                Who::Address(_) => None,
            })
        };
        let mut entries: Vec<(IpNet, NetworkEntry)> = Vec::new();
        for (network, _) in own() {
            let mut around: Vec<_> = own().filter(|(wider, _)| wider.contains(&network)).collect();
            around.sort_by_key(|(wider, _)| std::cmp::Reverse(wider.prefix_len()));
            let mut ends = [0; 8];
            for (_, wider) in around {
                if wider.scopes == 0 {
                    break;
                }
                let until = wider.ends.unit(now);
                for (bit, end) in ends.iter_mut().enumerate() {
                    if wider.scopes >> bit & 1 != 0 {
                        *end = until.max(*end);
                    }
                }
            }
            let length = u8::try_from(mapped_prefix(&network)).unwrap_or(u8::MAX);
            let entry = NetworkEntry { ends, since: 1, length, ..NetworkEntry::default() };
            entries.push((network, entry));
        }
        entries
    }

    /// The keys of the map of signatures, each with the number of bits to compare.
    pub fn signature_keys(&self) -> impl Iterator<Item = (Agent, u32)> {
        self.signatures.iter().map(|text| {
            let start = text.strip_suffix('*');
            let (agent, len) = agent_of(start.unwrap_or(text).as_bytes());
            let bits = if start.is_some() { u32::try_from(len * 8).unwrap_or(256) } else { 256 };
            (agent, bits)
        })
    }
}

/// The two words of an address with this prefix length (of 128), masked.
fn prefix_words(length: u32) -> [u64; 2] {
    let mask = u128::MAX.checked_shl(128u32.saturating_sub(length)).unwrap_or(0);
    filter_common::address::words(mask.into())
}

/// An address in the table of rows.
fn ip(text: &str) -> IpAddr {
    match text.parse() {
        Ok(address) => address,
        Err(why) => panic!("{text}: {why}"),
    }
}

/// A network in the table of rows.
fn net(text: &str) -> IpNet {
    match text.parse() {
        Ok(network) => network,
        Err(why) => panic!("{text}: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
                    // Not the reason of a packet, but the effect of a dry run on a drop.
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

//! Any sequence of frames, decided one after the other in one of the [`worlds`].
//!
//! The first byte of an input chooses the world and the time between two frames. The frames follow, each
//! after its length in two bytes, lowest first.

use std::collections::HashMap;
use std::hash::Hash;
use std::iter::Sum;
use std::net::IpAddr;
use std::sync::LazyLock;

use filter_common::abi::{
    ABI_VERSION, OPEN_TO_KNOWN, OPEN_TO_REPLIES, OPEN_TO_TRUSTED, SCOPE_ALL, SCOPE_SIP,
    SCOPE_THROTTLE, SEARCHES,
};
use filter_common::address::Address;
use filter_common::class::Class;
use filter_common::decision::{Reason, Verdict};
use filter_common::limits::{PREFIX_LINES, SOURCE_LINES};
use filter_common::packet::{Headers, Layer4};
use filter_common::policy::{Decision, stream};
use ipnet::IpNet;

use super::reference;
use crate::cases::{Ban, Limit, Limits, Who, World, worlds};
use crate::model::{Gates, Model};

/// Later than the end of any ban in a world, in nanoseconds since the start.
const NOW: u64 = 2_000_000 * 1_000_000_000;

/// Nanoseconds between two frames, times the quotient of the first byte and the number of worlds. This
/// allows retransmissions, and bans that end.
const STEP: u64 = 170_000_000;

/// Limits of single sources and networks, which no packet drops by while the filter is unattended.
const NARROW: [Reason; 9] = [
    Reason::RegisterLimit,
    Reason::CredentialsLimit,
    Reason::InviteLimit,
    Reason::OptionsLimit,
    Reason::SubscribeLimit,
    Reason::OtherLimit,
    Reason::SynLimit,
    Reason::PrefixLimit,
    Reason::StreamLimit,
];

/// The worlds with their gates, which take long to build.
static WORLDS: LazyLock<Vec<(World, Gates)>> = LazyLock::new(|| {
    let with_gates = |(_, world)| {
        let gates = Gates::of(&world);
        (world, gates)
    };
    worlds::all().into_iter().map(with_gates).collect()
});

/// Checks three properties: a frame drops only because of something in its world, and not if its source
/// is trusted; a frame that passes as known, admitted or trusted has that status; each frame has one
/// reason, and the counts of frames, bytes and entries add up.
///
/// # Panics
///
/// If one of these does not hold.
pub fn check(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let choice = usize::from(*choice);
    let (world, gates) = &WORLDS[choice % WORLDS.len()];
    let step = STEP * (choice / WORLDS.len()) as u64;
    let model = Model::with_gates(world, NOW, gates.clone());
    let mut counters = [Counter::default(); Reason::ALL.len()];
    let mut received = Counter::default();
    let mut history = History::default();
    for frame in frames(rest) {
        let Decision { code, source, .. } = model.decide(&frame);
        let reason = code.reason().expect("a frame has a reason");
        received.add(frame);
        counters[reason as usize].add(frame);
        if world.abi != Some(ABI_VERSION) {
            assert_eq!((reason, source), (Reason::NotConfigured, None));
            continue;
        }
        let headers = reference::headers(frame).ok();
        assert_eq!(source, headers.map(|headers| headers.source));
        let Some(headers) = headers else {
            assert!(matches!(reason, Reason::NotIp | Reason::Malformed), "{reason:?}");
            continue;
        };
        let seen = Seen { world, frame, headers, elapsed: history.elapsed };
        if reason.verdict() == Verdict::Drop {
            assert!(seen.asks_for(reason, &history), "nothing asked for {reason:?}");
            let spoofed = reason == Reason::Spoofed;
            let shut = reason == Reason::ClosedPort && seen.closed() == Some(Closed::ToAll);
            let may = spoofed || shut || !is_trusted(world, headers.source);
            assert!(may, "{reason:?}, though trusted");
        } else {
            let open = match seen.closed() {
                None => true,
                Some(Closed::ToStrangers) => is_trusted(world, headers.source),
                Some(Closed::ToAll) => false,
            };
            assert!(open, "{reason:?}, though the port is closed");
        }
        assert!(reason != Reason::Trusted || is_trusted(world, headers.source), "not trusted");
        assert!(reason != Reason::Known || seen.is_known(), "not known");
        let may_be_again = world.greylist || history.is_over;
        assert!(reason != Reason::Admitted || may_be_again, "let in without a greylist");
        let challenged = world.challenges().any(|(address, _)| address == headers.source);
        assert!(reason != Reason::Answered || challenged, "no challenge was sent there");
        seen.remember(reason, &mut history);
        model.wait(step);
        history.elapsed += step;
    }
    let sum = |verdict| {
        let of_verdict = Reason::ALL.iter().filter(|reason| reason.verdict() == verdict);
        of_verdict.map(|reason| counters[*reason as usize]).sum::<Counter>()
    };
    assert_eq!(received, [sum(Verdict::Pass), sum(Verdict::Drop)].into_iter().sum());
    // A frame that passes because of trust may have matched a ban or a limit first, which then counted
    // it.
    let packets = |reason: Reason| counters[reason as usize].packets;
    let is = |what, counted: u64, least: u64| {
        let most = least + packets(Reason::Trusted);
        assert!((least..=most).contains(&counted), "{what} counted {counted}, not {least}");
    };
    let tally = model.tally();
    let banned = packets(Reason::Banned) + packets(Reason::BannedNetwork);
    let least = banned + history.own;
    let most = least + history.throttled + history.shut + packets(Reason::Trusted);
    assert!((least..=most).contains(&tally.bans), "bans counted {}, not {least}", tally.bans);
    is("signatures", tally.signatures, packets(Reason::Signature));
    // A peer that is over its limit counts a segment as dropped before its connection lets it pass.
    let spared = packets(Reason::Known) - tally.peers_passed;
    assert!(spared <= history.segments, "{spared} of {} segments passed", history.segments);
    let flooding = packets(Reason::KnownLimit) + packets(Reason::Flooding) + spared;
    is("known peers and flooders", tally.peers_dropped + tally.flooders, flooding);
}

/// The numbers of earlier frames, by the limits that they may have consumed.
#[derive(Default)]
struct History {
    /// Nanoseconds since the first frame.
    elapsed: u64,
    /// By a line of sources and a class: frames that may have consumed its limit.
    sources: HashMap<(u64, Class), u64>,
    /// The same for networks.
    prefixes: HashMap<(u64, Class), u64>,
    /// The same for all sources.
    shared: HashMap<Class, u64>,
    /// By a line of sources: frames that may have been searched over the limit.
    searched: HashMap<u64, u64>,
    /// By a line of sources: frames over TCP that exceeded its limits.
    excess: HashMap<u64, u64>,
    /// Bytes over TCP, by bucket and for all.
    bytes: HashMap<u32, u64>,
    all_bytes: u64,
    /// Frames from the host's own addresses.
    own: u64,
    /// REGISTERs that were admitted.
    admitted: u64,
    /// Whether a frame has been dropped.
    is_over: bool,
    /// Frames from throttled sources that passed or were dropped by a limit.
    throttled: u64,
    /// Frames from trusted sources to a closed port, which a ban may have matched first.
    shut: u64,
    /// Frames from a known peer.
    known: HashMap<Address, u64>,
    /// Frames over TCP from known peers.
    segments: u64,
}

/// Counts one more frame.
fn count<K: Eq + Hash>(frames: &mut HashMap<K, u64>, key: K) {
    *frames.entry(key).or_default() += 1;
}

/// Whether this many earlier frames may have exhausted the burst of a limit.
fn is_used_up<K: Eq + Hash>(limit: Option<Limit>, frames: &HashMap<K, u64>, key: &K) -> bool {
    limit.is_some_and(|limit| frames.get(key).copied().unwrap_or(0) >= limit.burst)
}

/// A frame in its world, with its time.
#[derive(Clone, Copy)]
struct Seen<'a> {
    world: &'a World,
    frame: &'a [u8],
    headers: Headers,
    elapsed: u64,
}

impl Seen<'_> {
    /// Whether something in the world justifies a drop with this reason. A limit either refills by one an
    /// hour, or has a burst that no input exhausts.
    fn asks_for(self, reason: Reason, history: &History) -> bool {
        let world = self.world;
        if !self.is_ahead(world.attended) && NARROW.contains(&reason) {
            return false;
        }
        if matches!(reason, Reason::Banned | Reason::BannedNetwork) {
            return self.is_banned(reason == Reason::Banned);
        }
        if reason == Reason::Spoofed {
            return self.is_spoofed();
        }
        if reason == Reason::Throttled {
            return self.is_throttled() && !self.is_tcp() && !self.is_known();
        }
        if reason == Reason::ClosedPort {
            return self.closed().is_some();
        }
        if !self.is_sip() {
            return false;
        }
        let known = self.is_known();
        let closed = world
            .maintenance
            .is_some_and(|closed| self.is_ahead(closed.ends) && (!known || closed.closed_to_known));
        if reason == Reason::Maintenance {
            return closed;
        }
        if closed {
            return false;
        }
        if known {
            return self.asks_for_of_peer(reason, history);
        }
        if reason == Reason::Geo {
            return self.is_shut_out();
        }
        self.asks_for_of_stranger(reason, history)
    }

    /// The same of an unknown source's, while SIP is open.
    fn asks_for_of_stranger(self, reason: Reason, history: &History) -> bool {
        let Self { world, headers, .. } = self;
        let Some(class) = self.class() else {
            return reason == Reason::Flooding && self.may_be_flooder(history);
        };
        // A frame that was not searched, or whose fields are beyond the searched part, counts as one
        // without credentials.
        let classes = [Some(class), (class == Class::Credentials).then_some(Class::Register)];
        let classes = || classes.into_iter().flatten();
        let (source, prefix) = self.lines();
        let of = |limits: Limits, class: Class| limits[class.index()];
        let over_source =
            |class: Class| is_used_up(of(world.source, class), &history.sources, &(source, class));
        let over_all = |class: Class| is_used_up(of(world.shared, class), &history.shared, &class);
        let registers = [Class::Register, Class::Credentials];
        // If it is unknown whether it has credentials, it drops when either limit is reached.
        let unsearched = is_used_up(world.source[SEARCHES], &history.searched, &source)
            && registers.into_iter().any(over_source);
        let both = registers.into_iter().all(over_source);
        let is_register = registers.contains(&class);
        let overload = is_register && registers.into_iter().any(over_all);
        match reason {
            Reason::RegisterLimit => {
                is_register
                    && (unsearched || both || class == Class::Register && over_source(class))
                    || overload && over_source(Class::Register)
            }
            Reason::CredentialsLimit
            | Reason::InviteLimit
            | Reason::OptionsLimit
            | Reason::SubscribeLimit
            | Reason::OtherLimit
            | Reason::SynLimit => {
                classes().any(|class| class.over() == reason && over_source(class))
            }
            Reason::PrefixLimit => {
                let over = |class| {
                    is_used_up(of(world.prefix, class), &history.prefixes, &(prefix, class))
                };
                self.is_over_bytes(2, history) || classes().any(over)
            }
            Reason::StreamLimit => self.is_over_bytes(0, history) || self.is_over_bytes(1, history),
            Reason::Greylist => world.greylist && overload,
            Reason::SharedLimit => {
                let admitted = world.admitted.is_some_and(|limit| history.admitted >= limit.burst);
                // Without readable headers, a retransmission cannot be recognised.
                let hidden = headers.layer4 == Layer4::Unknown;
                let used_up = if is_register {
                    overload && (!world.greylist || admitted || hidden)
                } else {
                    over_all(class)
                };
                // A frame that ends before its packet, which Linux drops, may be read as no request.
                let is_cut = matches!(headers.layer4, Layer4::Udp { payload, .. }
                    if payload.end > self.frame.len());
                used_up
                    || is_cut && over_all(Class::Other)
                    || self.is_over_bytes(3, history)
                    || self.is_tcp() && self.floods_on(headers.source, history)
            }
            Reason::Flooding => self.may_be_flooder(history),
            Reason::Signature => self.is_scanner(),
            // For known peers, or handled above, or not a reason for a drop.
            Reason::KnownLimit
            | Reason::Maintenance
            | Reason::Banned
            | Reason::BannedNetwork
            | Reason::Throttled
            | Reason::Spoofed
            | Reason::ClosedPort
            | Reason::Geo
            | Reason::Answered
            | Reason::NotConfigured
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
            | Reason::DryRun
            | Reason::Known
            | Reason::Admitted => false,
        }
    }

    /// Whether SIP is not admitted from where its source is.
    fn is_shut_out(self) -> bool {
        let source = IpAddr::from(self.headers.source);
        let around = self.world.shut.iter().filter(|(network, _)| network.contains(&source));
        around.max_by_key(|(network, _)| network.prefix_len()).is_some_and(|(_, shut)| *shut)
    }

    /// The same for a frame of a known peer, while SIP is open.
    fn asks_for_of_peer(self, reason: Reason, history: &History) -> bool {
        let Self { world, headers, .. } = self;
        let over = is_used_up(world.known, &history.known, &headers.source);
        let sent = history.known.get(&headers.source).copied().unwrap_or(0);
        let burst = |limit: Option<Limit>| limit.map_or(u64::MAX, |limit| limit.burst);
        let flooding = self.is_ahead(world.attended)
            && sent >= burst(world.known).saturating_add(burst(world.flood));
        reason == Reason::KnownLimit && over || reason == Reason::Flooding && flooding
    }

    /// Counts it for every limit that it may have consumed.
    fn remember(self, reason: Reason, history: &mut History) {
        history.is_over |= reason.verdict() == Verdict::Drop;
        if self.is_throttled() && !matches!(reason, Reason::Banned | Reason::BannedNetwork) {
            history.throttled += 1;
        }
        if reason == Reason::ClosedPort && is_trusted(self.world, self.headers.source) {
            history.shut += 1;
        }
        if self.is_own() && (reason == Reason::Spoofed || !self.is_ahead(self.world.attended)) {
            history.own += 1;
        }
        if !self.is_sip() {
            return;
        }
        if self.is_known() {
            // Over its limit, but retransmitted.
            history.admitted += u64::from(reason == Reason::Admitted);
            count(&mut history.known, self.headers.source);
            history.segments += u64::from(self.is_tcp());
            return;
        }
        let Some(class) = self.class() else { return };
        if let Some((places, bytes)) = self.stream() {
            for place in places {
                *history.bytes.entry(place).or_default() += bytes;
            }
            history.all_bytes += bytes;
        }
        let (source, prefix) = self.lines();
        // A trusted frame may have exceeded a limit, unless its User-Agent alone matched.
        let over = reason.verdict() == Verdict::Drop && reason != Reason::Signature;
        if over {
            count(&mut history.excess, source);
        } else if reason == Reason::Admitted {
            count(&mut history.sources, (source, Class::Register));
            history.admitted += 1;
        } else {
            if reason == Reason::Trusted {
                count(&mut history.excess, source);
                count(&mut history.sources, (source, Class::Register));
                history.admitted += 1;
            }
            count(&mut history.sources, (source, class));
            count(&mut history.prefixes, (prefix, class));
            count(&mut history.shared, class);
        }
        if matches!(class, Class::Register | Class::Credentials) {
            count(&mut history.searched, source);
        }
    }

    /// Whether a ban in force, of the address or of a network, covers it.
    fn is_banned(self, of_address: bool) -> bool {
        self.is_closed(of_address, (self.classes() | SCOPE_ALL) & !SCOPE_THROTTLE)
    }

    /// Whether a throttle in force covers it, of the address or of a network.
    fn is_throttled(self) -> bool {
        [true, false].into_iter().any(|of_address| self.is_closed(of_address, SCOPE_THROTTLE))
    }

    /// Whether an entry in force, of the address or of a network, closes one of these scopes to it.
    fn is_closed(self, of_address: bool, reach: u8) -> bool {
        if self.is_own() {
            return false;
        }
        let closes = |ban: &Ban| ban.scopes & reach != 0 && self.is_ahead(ban.ends);
        let source = self.headers.source;
        if of_address {
            return self.world.bans.iter().any(|ban| match ban.who {
                Who::Address(address) => Address::from(address) == source && closes(ban),
                Who::Network(_) => false,
            });
        }
        let mut around: Vec<_> = self
            .world
            .bans
            .iter()
            .filter_map(|ban| match ban.who {
                Who::Network(network) => contains(&network, source).then_some((network, ban)),
                Who::Address(_) => None,
            })
            .collect();
        around.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        around.iter().take_while(|(_, ban)| ban.scopes != 0).any(|(_, ban)| closes(ban))
    }

    /// The classes of its port; all of them if its port is unknown.
    fn classes(self) -> u8 {
        let (tcp, port) = match self.headers.layer4 {
            Layer4::Udp { port, .. } => (false, port),
            Layer4::Tcp { port, .. } => (true, port),
            Layer4::LaterFragment | Layer4::Unknown => return u8::MAX,
            Layer4::Other => return 0,
        };
        let of_port = self.world.port_classes().filter(|named| (named.0, named.1) == (tcp, port));
        of_port.fold(0, |classes, named| classes | named.2)
    }

    /// Whether its destination is or may be a SIP port.
    fn is_sip(self) -> bool {
        match self.headers.layer4 {
            Layer4::Udp { .. } | Layer4::Tcp { .. } => self.classes() & SCOPE_SIP != 0,
            Layer4::Unknown => true,
            Layer4::LaterFragment | Layer4::Other => false,
        }
    }

    /// Whether its port is closed to it.
    fn closed(self) -> Option<Closed> {
        if self.is_sip() && self.is_known() {
            return None;
        }
        let (tcp, port) = match self.headers.layer4 {
            Layer4::Udp { port, .. } => (false, port),
            Layer4::Tcp { port, syn, .. } => syn.then_some((true, port))?,
            Layer4::Unknown => {
                return (!self.world.guards.is_empty()).then_some(Closed::ToStrangers);
            }
            Layer4::LaterFragment | Layer4::Other => return None,
        };
        let is_this = |guard: &&(bool, u16, u8)| (guard.0, guard.1) == (tcp, port);
        let (_, _, open_to) = self.world.guards.iter().find(is_this)?;
        let source = self.headers.source;
        let asked = |(address, from, when): &(IpAddr, u16, crate::cases::Ends)| {
            (Address::from(*address), *from) == (source, port) && when.is_ahead()
        };
        if open_to & OPEN_TO_KNOWN != 0 && self.is_known()
            || open_to & OPEN_TO_REPLIES != 0 && !tcp && self.world.asked.iter().any(asked)
        {
            return None;
        }
        let to_trusted = open_to & OPEN_TO_TRUSTED != 0;
        Some(if to_trusted { Closed::ToStrangers } else { Closed::ToAll })
    }

    /// Whether its source is impossible, or impossible for SIP.
    fn is_spoofed(self) -> bool {
        let source = self.headers.source;
        source.is_martian()
            || self.is_own() && self.is_ahead(self.world.attended)
            || self.is_sip() && source.is_unspecified()
    }

    /// Whether its source is one of the host's own addresses.
    fn is_own(self) -> bool {
        self.world.own.iter().any(|own| Address::from(*own) == self.headers.source)
    }

    /// Its buckets of bytes over TCP, and how much it consumes of each.
    fn stream(self) -> Option<([u32; 3], u64)> {
        let Layer4::Tcp { payload, start, .. } = self.headers.layer4 else {
            return None;
        };
        let ports = self.frame.get(start..)?.first_chunk()?;
        let places = stream::places(self.headers.source, *ports, &self.world.config(NOW));
        let len = payload.end.saturating_sub(payload.start).min(0xffff);
        let bytes = if payload.fragmented { 0xffff } else { len };
        (bytes != 0).then_some((places, u64::try_from(bytes).ok()?))
    }

    /// Whether this limit of bytes may be exhausted.
    fn is_over_bytes(self, limit: usize, history: &History) -> bool {
        let Some((places, bytes)) = self.stream() else {
            return false;
        };
        let sent = match places.get(limit) {
            Some(place) => history.bytes.get(place).copied().unwrap_or(0),
            None => history.all_bytes,
        };
        self.world.bytes[limit].is_some_and(|limit| sent != 0 && sent + bytes > limit.burst)
    }

    fn is_tcp(self) -> bool {
        matches!(self.headers.layer4, Layer4::Tcp { .. })
    }

    fn is_known(self) -> bool {
        let peers = self.world.peers.iter();
        peers
            .filter(|(address, _)| Address::from(*address) == self.headers.source)
            .any(|(_, ends)| self.is_ahead(*ends))
    }

    /// Whether something may still be in force: with units of a quarter of a second, ends are imprecise.
    fn is_ahead(self, ends: crate::cases::Ends) -> bool {
        ends.is_ahead() && ends.time(NOW) > (NOW + self.elapsed).saturating_sub(1 << 28)
    }

    /// The lines of buckets of its source and of its network.
    fn lines(self) -> (u64, u64) {
        let hash = |network: Address| network.hash(World::SEED) & u64::from(PREFIX_LINES - 1);
        let source = self.headers.source;
        let [v4, v6] = self.world.prefix_lengths;
        let network = match IpAddr::from(source) {
            address @ IpAddr::V4(_) => IpNet::new(address, v4),
            address @ IpAddr::V6(_) => IpNet::new(address, v6),
        };
        // The address of an IPv4 network is in the form that both families share; a network of all of
        // IPv4 keeps the 96 bits before it.
        let network = network.expect("a prefix length").trunc().addr();
        (
            self.world.config(NOW).source_hash(source) & u64::from(SOURCE_LINES - 1),
            hash(network.into()),
        )
    }

    /// Its class of limits, if it is limited.
    fn class(self) -> Option<Class> {
        let (payload, tcp, syn) = match self.headers.layer4 {
            Layer4::Udp { payload, .. } => (payload, false, false),
            Layer4::Tcp { payload, syn, .. } => (payload, true, syn),
            Layer4::Unknown => return Some(Class::Register),
            Layer4::LaterFragment | Layer4::Other => return None,
        };
        if syn {
            return Some(Class::Syn);
        }
        if tcp && payload.start >= payload.end && !payload.fragmented {
            return None;
        }
        let bytes = reference::payload(self.frame, payload);
        let behind = self.frame.get(payload.end).copied();
        if reference::is_register(bytes, payload.fragmented, behind) {
            let credentials = reference::is_authorized(reference::message(bytes));
            return Some(if credentials { Class::Credentials } else { Class::Register });
        }
        let named = [
            ("INVITE", Class::Invite),
            ("OPTIONS", Class::Options),
            ("SUBSCRIBE", Class::Subscribe),
        ];
        let named = named.iter().find(|(method, _)| reference::is_method(bytes, method));
        // Over TCP only requests, and it suffices that it may be one.
        Some(named.map_or(Class::Other, |(_, class)| *class))
    }

    /// Whether a source has sent enough over its limits to be flooding.
    fn floods_on(self, source: Address, history: &History) -> bool {
        // The bucket of a source's excess is in a line of networks, of which there are fewer.
        let line = |source: u64| source & u64::from(PREFIX_LINES - 1);
        let hash = self.world.config(NOW).source_hash(source);
        let sent = history.excess.iter().filter(|(of, _)| line(**of) == line(hash));
        let sent: u64 = sent.map(|(_, sent)| sent).sum();
        self.world.flood.is_some_and(|limit| sent >= limit.burst)
    }

    /// Whether the program may have banned its source, or another one in its /64.
    fn may_be_flooder(self, history: &History) -> bool {
        let source = self.headers.source.network64();
        let is = |address: &IpAddr| Address::from(*address).network64() == source;
        let from_the_start = self.world.flooders.iter();
        let from_the_start =
            from_the_start.filter(|(address, _)| is(address)).any(|(_, ends)| self.is_ahead(*ends));
        let floods = |address: &IpAddr| is(address) && self.floods_on((*address).into(), history);
        let proven = self.is_ahead(self.world.attended) && self.world.connected.iter().any(floods);
        self.is_tcp() && (from_the_start || proven)
    }

    /// Whether its User-Agent is one of a scanner.
    fn is_scanner(self) -> bool {
        let (Layer4::Udp { payload, .. } | Layer4::Tcp { payload, .. }) = self.headers.layer4
        else {
            return false;
        };
        let bytes = reference::payload(self.frame, payload);
        let Some(agent) = reference::user_agent(reference::message(bytes)) else {
            return false;
        };
        let agent: Vec<u8> = agent.iter().map(|byte| byte | 0x20).collect();
        self.world.signatures.iter().any(|signature| match signature.strip_suffix('*') {
            Some(start) => agent.starts_with(&folded(start)),
            None => agent == folded(signature),
        })
    }
}

/// To whom a port is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closed {
    /// To all but trusted sources.
    ToStrangers,
    /// To trusted sources too.
    ToAll,
}

/// A User-Agent in the form in which it is compared.
fn folded(text: &str) -> Vec<u8> {
    text.bytes().map(|byte| byte | 0x20).collect()
}

/// The frames of an input; the last one may be cut off.
pub fn frames(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, behind) = rest.split_first_chunk()?;
        let len = usize::from(u16::from_le_bytes(*len)).min(behind.len());
        let (frame, behind) = behind.split_at(len);
        rest = behind;
        Some(frame)
    })
}

/// The input that consists of these frames in the world of this number: the inverse of [`frames`]. Longer
/// frames than 65,535 bytes are cut.
pub fn input<'a>(world: u8, frames: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut input = vec![world];
    for frame in frames {
        let len = u16::try_from(frame.len()).unwrap_or(u16::MAX);
        input.extend(len.to_le_bytes());
        input.extend(&frame[..usize::from(len)]);
    }
    input
}

fn is_trusted(world: &World, source: Address) -> bool {
    world.trusted.iter().any(|network| contains(network, source))
}

fn contains(network: &IpNet, source: Address) -> bool {
    network.contains(&IpAddr::from(source))
}

/// The numbers of frames and of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counter {
    packets: u64,
    bytes: u64,
}

impl Counter {
    fn add(&mut self, frame: &[u8]) {
        self.packets += 1;
        self.bytes += frame.len() as u64;
    }
}

impl Sum for Counter {
    fn sum<I: Iterator<Item = Self>>(counters: I) -> Self {
        counters.fold(Self::default(), |sum, counter| Self {
            packets: sum.packets + counter.packets,
            bytes: sum.bytes + counter.bytes,
        })
    }
}

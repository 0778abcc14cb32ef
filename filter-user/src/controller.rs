//! The sole owner of jails, ledger and datapath: takes attempts and answers requests.
//!
//! Everything enters through a call that passes the time; nothing here waits or reads a clock.

mod allowed;
mod answers;
mod bans;
mod digest;
mod enforcement;
mod limited;
mod listing;
mod maintenance;
mod networks;
mod of_source;
mod orders;
pub(crate) mod past;
mod peers;
mod protected;
mod reload;
mod replay;
mod sources;
mod status;
mod successor;
mod tuned;
mod uncounted;
mod why;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use api::{Banned, Durability, EXCEPT_MAX, Replaced};
use filter_common::decision::Reason;
use ipnet::{IpNet, Ipv6Net};
use log::{error, info, warn};

use crate::ban::{Ban, Entry, InForce, Origin, Roster};
use crate::challenge::{Challenges, Teller};
use crate::clock::{KernelTime, Now};
use crate::config::{Config, Limits, PortClasses, RECIDIVE, Scope};
use crate::datapath::{Datapath, Limited};
use crate::duration;
use crate::escalation::{Bounds, Case, Escalation, Offender};
use crate::failure::{Attempt, Class, Transport, Verdict};
use crate::host;
use crate::jail::{BanDecision, Jail};
use crate::join::Join;
use crate::prefix::SourcePrefix;
pub(crate) use crate::prefix::show;
use crate::report::shown_text;
use crate::store::{Kept, Store};

pub use self::answers::Answered;
use self::bans::Bans;
pub use self::bans::lifting::Ticket;
use self::digest::{Digest, Topic};

use self::limited::{LIMITED_MAX, LimitedSources};
use self::networks::KnownIpv6;
use self::of_source::is_address;
use self::protected::Protected;
pub use self::sources::Source;
use self::sources::Sources;
use self::uncounted::Because;

/// The shortest prefix that can be banned manually: a typing mistake must not close the host to
/// everybody.
const WIDEST: u8 = 8;

/// The network of IPv4 in the maps of networks. An IPv6 network around it would include all of IPv4.
const MAPPED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);

/// The jail of sshd.
const SSHD: &str = "sshd";

/// The most unanswered challenges that are judged in one turn.
const UNANSWERED_AT_ONCE: usize = 64;

/// The controller over a datapath.
pub struct Controller<D> {
    datapath: D,
    jails: Vec<Jail>,
    prefix: SourcePrefix,
    roster: Arc<Roster>,
    bans: Bans,
    protected: Protected,
    permits: allowed::Permits,
    tuning: tuned::Tuning,
    known_ipv6: KnownIpv6,
    limited: LimitedSources,
    digest: Digest,
    limits: Limits,
    uncounted: uncounted::Register,
    /// Bans taken over from another program that the log has not told of yet.
    taken_over: successor::ToTell,
    ports: PortClasses,
    sources: Sources,
    spared: u64,
    /// Whether the last peer that proved itself could not be made known. This is logged once.
    peers_full: bool,
    join: Join,
    challenges: Challenges,
    escalation: Escalation,
    enforcement: enforcement::Known,
    capacity_ipv6: u32,
    flood_ban: Duration,
    /// When it started, by the wall clock as it is set now.
    started: Now,
    /// When it started, by the wall clock as it was set then.
    begun: Now,
}

impl<D: Datapath> Controller<D> {
    /// Creates a controller that takes over the bans `kept` in the store and those `held` by the kernel.
    /// `roster` names the jails of `config`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn new(
        datapath: D,
        config: &Config,
        roster: Arc<Roster>,
        own: BTreeSet<IpNet>,
        bans: (Store, Option<Kept>, &InForce),
        now: Now,
    ) -> Result<Self> {
        let (store, kept, held) = bans;
        let capacity = usize::try_from(config.capacity.watched).unwrap_or(usize::MAX);
        let names = roster.names();
        let jails = names.iter().filter_map(|name| config.jails.get_key_value(name));
        let jails = jails.map(|(name, settings)| Jail::new(name, settings.clone(), capacity));
        let mut controller = Self {
            datapath,
            jails: jails.collect(),
            prefix: SourcePrefix::ipv6(config.ipv6_prefix),
            roster,
            bans: Bans::new(store),
            protected: Protected::new(config, own),
            permits: allowed::Permits::default(),
            tuning: tuned::Tuning::new(config),
            known_ipv6: KnownIpv6::default(),
            limited: LimitedSources::default(),
            digest: Digest::default(),
            limits: config.limits,
            uncounted: uncounted::Register::default(),
            taken_over: successor::ToTell::default(),
            ports: config.ports.clone(),
            sources: Sources::default(),
            spared: 0,
            peers_full: false,
            join: Join::default(),
            challenges: Challenges::default(),
            escalation: Escalation::new(Bounds::from(config), config.escalation.clone(), || {
                fastrand::u32(..)
            }),
            enforcement: enforcement::Known::new(config.dry_run),
            capacity_ipv6: config.capacity.bans_ipv6,
            flood_ban: config.limits.flood.ban,
            started: now,
            begun: now,
        };
        controller.datapath.own(&host::addresses(controller.protected.own()))?;
        let Kept { bans, ended, offences, decisions, .. } = kept.unwrap_or_default();
        controller.permits = allowed::Permits::load(&decisions, now);
        controller.protected.set_allowed(controller.permits.networks());
        controller.datapath.trust(&controller.protected.trusted_networks())?;
        controller.take_tuning(&decisions);
        let Self { bans: of, datapath, protected, .. } = &mut controller;
        of.restore(datapath, protected, (bans, ended), held, now.kernel);
        for (who, record) in controller.escalation.load(offences, now.kernel) {
            controller.store().set_offences(who, record);
        }
        Ok(controller)
    }

    /// Updates the wall clock, which may have been set since the start.
    pub fn set_clock(&mut self, now: Now) {
        self.started = self.started.set_by(now);
    }

    /// How many bans are in force.
    pub fn ban_count(&self) -> usize {
        self.bans.ledger().len()
    }

    /// The datapath.
    pub fn datapath_mut(&mut self) -> &mut D {
        &mut self.datapath
    }

    /// The interfaces that are protected, or are to be.
    pub fn interface_names(&self) -> Vec<String> {
        self.datapath.interfaces().into_iter().map(|interface| interface.name).collect()
    }

    /// The name of the scope that an unproven ban closes.
    pub fn scope_name(&self, scope: Option<Scope>) -> &str {
        scope.map_or("nothing, because none is made", |scope| self.ports.name(scope))
    }

    /// Takes an attempt that a source read, for the jail with this name.
    pub fn hear(&mut self, attempt: &Attempt, source: usize, jail: &str, now: KernelTime) {
        if attempt.verdict == Verdict::Success && jail == SSHD {
            self.enforcement.logged_in();
        }
        let witness = self.witness(attempt, now);
        let is_seen = self.is_seen(attempt, now);
        let Some(report) = self.sources.get_mut(source) else { return };
        match is_seen {
            Some(true) => report.unseen = 0,
            Some(false) => report.unseen = report.unseen.saturating_add(1),
            None => {}
        }
        report.last_event = Some(now);
        let name = report.name;
        if attempt.verdict == Verdict::Failure {
            report.failures = report.failures.saturating_add(1);
        }
        let Some(address) = witness else {
            if self.protected.reason(attempt.address.into()).is_none() {
                self.uncounted.note(attempt.address, Because::Unwitnessed, now);
                report.unwitnessed = report.unwitnessed.saturating_add(1);
            }
            return;
        };
        if self.protected.reason(address.into()).is_some() {
            return;
        }
        let Some(place) = self.jails.iter().position(|j| j.name() == jail) else { return };
        if attempt.answered {
            self.know(address, now);
        }
        // This precedes the join, because another source may prove the failure.
        if self.spare(attempt, address, now) {
            return;
        }
        if self.ignores(attempt, place) {
            self.uncounted.note(address, Because::Unproven, now);
            return;
        }
        // Drop what another source has already reported, or this one in another class.
        let joins = attempt.verdict == Verdict::Failure || attempt.class == Class::Acl;
        if joins && !self.join.is_first(attempt, address, source, now) {
            let counts = !self.join.was_set_aside(attempt, address, now);
            if attempt.verdict == Verdict::Failure && attempt.proven && counts {
                self.prove(address, attempt.class, place, now);
            }
            return;
        }
        let of_a_rival =
            (attempt.address != address).then(|| Attempt { address, ..attempt.clone() });
        let attempt = of_a_rival.as_ref().unwrap_or(attempt);
        self.challenges.hear(attempt, Teller { source, jail: place }, now);
        if !self.judge(attempt, name, place, now) {
            self.join.set_aside(attempt, address, now);
        }
    }

    /// Makes a peer known. The program cannot see a registration over TLS or a WebSocket.
    fn know(&mut self, address: IpAddr, now: KernelTime) {
        let result = self.datapath.know(address, now);
        if let Err(why) = &result
            && !self.peers_full
        {
            warn!("{address} has registered, but cannot be made a known peer: {why:#}");
        }
        self.peers_full = result.is_err();
        self.known_ipv6.forget();
        self.leave_out(address, None, now);
    }

    /// Whether a failure is spared: over UDP anybody can fail in the name of a registered phone.
    fn spare(&mut self, attempt: &Attempt, address: IpAddr, now: KernelTime) -> bool {
        let spared =
            attempt.verdict == Verdict::Failure && !attempt.proven && self.is_known(address, now);
        if spared {
            self.spared = self.spared.saturating_add(1);
            self.uncounted.note(address, Because::Known, now);
        }
        spared
    }

    /// Whether a jail does not count a failure because its source may be forged.
    fn ignores(&self, attempt: &Attempt, place: usize) -> bool {
        attempt.verdict == Verdict::Failure
            && !attempt.proven
            && self.jails.get(place).is_some_and(|j| j.settings().unproven_scope.is_none())
    }

    /// Tells a jail that a failure that it has counted is proven.
    fn prove(&mut self, address: IpAddr, class: Class, place: usize, now: KernelTime) {
        let decided = self.told_proven(place, address, class, now);
        self.carry_out(place, decided, now);
    }

    /// Passes a genuine attempt to a jail. Returns whether the jail took it.
    fn judge(
        &mut self,
        attempt: &Attempt,
        source: &'static str,
        place: usize,
        now: KernelTime,
    ) -> bool {
        let address = attempt.address;
        if self.protected.reason(address.into()).is_some() || self.ignores_by_name(place, address) {
            return false;
        }
        let Some(jail) = self.jails.get_mut(place) else { return false };
        // Failures that were on their way when the ban began do not count.
        let settings = jail.settings();
        let scope = if attempt.proven { Some(settings.scope) } else { settings.unproven_scope };
        let stands = |ban: Ban| {
            ban.in_force(now)
                && (ban.origin == Origin::Manual
                    || ban.scope == Scope::All
                    || Some(ban.scope) == scope)
        };
        let keeps = |entry: &Entry| stands(entry.ban) && !self.is_unexplained(entry, place);
        if self.bans_of(address, now).any(keeps) {
            return false;
        }
        let decided = self.told(place, attempt, source, now);
        self.carry_out(place, decided, now);
        true
    }

    /// Carries out what a jail has `decided` on the source of an attempt, and what it has decided on others.
    fn carry_out(&mut self, place: usize, decided: Option<BanDecision>, now: KernelTime) {
        let Some(jail) = self.jails.get_mut(place) else { return };
        let (name, decided_on_others) = (jail.name(), jail.decided_on_others());
        if let Some(decision) = decided {
            self.enact(place, name, decision, now);
        }
        for decision in decided_on_others {
            if self.may_be_banned(place, &decision, now) {
                self.enact(place, name, decision, now);
            }
        }
    }

    /// Whether a source may be banned for what it did a while ago.
    fn may_be_banned(&self, place: usize, decision: &BanDecision, now: KernelTime) -> bool {
        let BanDecision { address, scope, proven, .. } = *decision;
        let network = self.prefix.network(address);
        let stands = |ban: Ban| {
            let covers = ban.scope == Scope::All || ban.scope == scope;
            ban.in_force(now) && (ban.origin == Origin::Manual || covers)
        };
        self.protected.reason(network).is_none()
            && !self.ignores_by_name(place, address)
            && (proven || !self.is_known(address, now))
            && !self.bans.ledger().of_network(network).any(|entry| stands(entry.ban))
    }

    /// Whether the filter has seen a packet for an attempt; `None` if it need not have.
    fn is_seen(&self, attempt: &Attempt, now: KernelTime) -> Option<bool> {
        // Over UDP the attempt concerns SIP; over TCP it may concern AMI itself, or sshd.
        let is_sip = attempt.needs_witness || attempt.transport == Some(Transport::Udp);
        let is_own = self.protected.reason(attempt.address.into()).is_some();
        if attempt.verdict != Verdict::Failure || !is_sip || is_own {
            return None;
        }
        let mut named = std::iter::once(&attempt.address).chain(&attempt.rivals);
        if named.any(|address| self.datapath.seen(*address, now)) {
            return Some(true);
        }
        // If the line is read long after it was written, the packets have been forgotten.
        (!self.is_old(attempt, now)).then_some(false)
    }

    /// The address that made an attempt, according to the packets that were seen.
    ///
    /// An attacker's text can make up an address in a log line, and whole lines, but not a packet: without a
    /// recent packet from an address, it made no attempt. An attempt that no such text can make up needs no
    /// witness.
    fn witness(&self, attempt: &Attempt, now: KernelTime) -> Option<IpAddr> {
        if !attempt.needs_witness || attempt.verdict != Verdict::Failure {
            return attempt.decided.then_some(attempt.address);
        }
        let named = std::iter::once(&attempt.address).chain(&attempt.rivals);
        let mut seen = named.copied().filter(|address| self.datapath.seen(*address, now));
        let first = seen.next()?;
        if seen.next().is_none() {
            return Some(first);
        }
        (attempt.decided && first == attempt.address).then_some(first)
    }

    /// Bans a source for its failures. If the source cannot be banned as a whole, bans its addresses that
    /// failed.
    fn enact(&mut self, jail: usize, name: &'static str, decision: BanDecision, now: KernelTime) {
        if self.explain(jail, &decision, now) {
            return;
        }
        let network = self.prefix.network(decision.address);
        if is_address(network) {
            self.ban_source(jail, name, (network, Vec::new()), decision, now);
            return;
        }
        match self.holes(network, Some(jail), now) {
            Ok(except) => self.ban_source(jail, name, (network, except), decision, now),
            Err(why) => {
                if self.digest.has_line(Topic::Exception, name, now) {
                    warn!(
                        "{name}: the addresses in {network} that failed are banned, but not the network: {why}"
                    );
                }
                for address in self.addresses_behind(&decision.evidence, jail, now) {
                    let decision = BanDecision { address, ..decision.clone() };
                    self.ban_source(jail, name, (address.into(), Vec::new()), decision, now);
                }
            }
        }
    }

    fn ban_source(
        &mut self,
        jail: usize,
        name: &'static str,
        (network, except): (IpNet, Vec<IpNet>),
        decision: BanDecision,
        now: KernelTime,
    ) {
        let BanDecision { address, scope, bantime, proven, mut reason, evidence, .. } = decision;
        let origin = self.origin_of(name);
        let Origin::Jail(number) = origin else { return };
        let Some(settings) = self.jails.get(jail).map(Jail::settings) else { return };
        // A jail takes no failures of a source that it has banned, only the proof of earlier ones.
        let stands = |ban: Ban| ban.origin == origin && ban.in_force(now);
        let again = self.bans.ledger().of_network(network).any(|entry| stands(entry.ban));
        let case = Case { who: Offender { address, jail: number }, proven, again };
        let (time, number) = self.escalation.term(case, bantime, &settings.increment, now);
        let until = now.after(time);
        let ban = Ban { network, scope, origin, since: now.into(), until: Some(until) };
        if number > 1 {
            reason = format!("{reason}; {} ban", ordinal(number));
        }
        let (shown, time) = (show(network), duration::format(time));
        let (left_out, dry) = (left_out(&except), self.dry());
        let says = format!("{name}: banned {shown} for {time}: {reason}{left_out}{dry}");
        let entry = Entry::new(ban, reason).with_evidence(evidence).with_except(except);
        if let Err(why) = self.enter(&entry, Some(says)) {
            if self.digest.has_line(Topic::Exception, name, now) {
                error!("{name}: {shown} is not banned: {why:#}");
            }
            return;
        }
        self.remember(name, case, now, until);
    }

    /// Remembers a ban as an earlier one for the next.
    fn remember(&mut self, by: &'static str, case: Case, now: KernelTime, until: KernelTime) {
        let record = self.escalation.note(case, now, until);
        self.bans.store().set_offences(case.who, record);
        if case.proven {
            self.escalate(case.who.address, now);
        }
        if by != RECIDIVE {
            self.tell_recidive(by, case, now);
        }
    }

    /// Passes a ban by another jail to the jail `recidive`.
    fn tell_recidive(&mut self, by: &'static str, case: Case, now: KernelTime) {
        let Case { who: Offender { address, .. }, proven, again } = case;
        let Some(place) = self.jails.iter().position(|jail| jail.name() == RECIDIVE) else {
            return;
        };
        let origin = self.origin_of(RECIDIVE);
        let Some(jail) = self.jails.get_mut(place) else { return };
        let (scope, unproven_scope) = (jail.settings().scope, jail.settings().unproven_scope);
        let closes = if proven { Some(scope) } else { unproven_scope };
        let stands = |ban: Ban| {
            ban.origin == origin
                && ban.in_force(now)
                && (ban.scope == scope || Some(ban.scope) == closes)
        };
        if self.bans_of(address, now).any(|entry| stands(entry.ban)) {
            return;
        }
        let decision = if again && unproven_scope.is_some() {
            self.told_proven(place, address, Class::Ban, now)
        } else {
            let ban = Attempt::new(Verdict::Failure, Class::Ban, address);
            self.told(place, &Attempt { proven, ..ban }, by, now)
        };
        if let Some(decision) = decision {
            self.enact(place, RECIDIVE, decision, now);
        }
    }

    /// What a log line adds during a dry run.
    fn dry(&self) -> &'static str {
        match (self.enforcing(), self.is_dry_run()) {
            (true, _) => "",
            (false, true) => " (dry run: nothing is dropped)",
            (false, false) => " (disabled: nothing is dropped)",
        }
    }

    /// Enters a ban into the kernel and the ledger, and saves it; `says` is logged once it is saved.
    fn enter(&mut self, entry: &Entry, says: Option<String>) -> Result<()> {
        let replaced = self.bans.enforce(&mut self.datapath, entry)?;
        let (origin, now) = (entry.ban.origin, entry.ban.since.in_this_boot());
        let by = self.roster.name(origin);
        let has_line = |digest: &mut Digest| digest.has_line(Topic::Ban, by, now);
        let says = says.filter(|_| origin == Origin::Manual || has_line(&mut self.digest));
        self.bans.keep(entry, &replaced, says);
        Ok(())
    }

    /// The store.
    pub fn store(&self) -> &Store {
        self.bans.store()
    }

    /// Records that the kernel has banned a source for a flood. Such a source cannot be forged.
    fn flooding(&mut self, source: IpAddr, since: KernelTime, until: KernelTime) {
        let (network, except) = self.flooded_by(source, since);
        let is_new = self.bans.ledger().of_network(network).all(|e| e.ban.origin != Origin::Flood);
        if is_new && self.bans.ledger().count(Origin::Flood) >= LIMITED_MAX {
            return; // The ban is in force even though it is not listed.
        }
        let ban = Ban {
            network,
            scope: Scope::Sip,
            origin: Origin::Flood,
            since: since.into(),
            until: Some(until),
        };
        let reason = "kept flooding over a limit";
        if is_new && self.digest.has_line(Topic::Flood, "flood", since) {
            let time = duration::format(until.since(since));
            info!("flood: banned {} for {time}{}", show(network), self.dry());
        }
        if let Err(why) = self.enter(&Entry::new(ban, reason).with_except(except), None) {
            warn!("{why:#}");
        }
    }

    /// The network that the kernel has banned for a flood from this source, and its exceptions: the /64 of
    /// an IPv6 source; for a known peer, which has a limit of its own, only its address.
    fn flooded_by(&mut self, source: IpAddr, now: KernelTime) -> (IpNet, Vec<IpNet>) {
        let prefix = SourcePrefix::ipv6(64);
        let network = prefix.network(prefix.source(source));
        if is_address(network) || self.datapath.known(source).is_some() {
            return (source.into(), Vec::new());
        }
        // With too many exceptions, the kernel's own ban must suffice.
        self.holes(network, None, now)
            .map_or((source.into(), Vec::new()), |except| (network, except))
    }

    /// Takes an event: a source is over a limit, or the program has banned it for that.
    pub fn limit_exceeded(&mut self, event: Limited) {
        // Packets from a trusted address pass even over a limit.
        let passes = self.protected.reason(event.source.into()).is_some();
        if event.reason == Reason::Flooding && !passes {
            self.flooding(event.source, event.at, event.at.after(self.flood_ban));
        }
        let (source, reason) = (event.source, event.reason.as_str());
        if self.limited.note(event) && self.digest.has_line(Topic::Limit, reason, event.at) {
            info!("{source} is over a limit: {reason}{}", self.dry());
        }
    }

    /// Updates the host's addresses, which may have changed.
    pub fn set_own(&mut self, own: BTreeSet<IpNet>) {
        if own == *self.protected.own() {
            return;
        }
        if let Err(why) = self.datapath.own(&host::addresses(&own)) {
            // They stay as they were, so that the next check tries again.
            warn!("packets that forge the host's new addresses are not dropped yet: {why:#}");
            return;
        }
        self.protected.set_own(own);
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has something to do.
    pub fn next_timeout(&self) -> Option<KernelTime> {
        let jails = self.jails.iter().filter_map(Jail::next_timeout);
        let others = [
            self.bans.next_end(),
            self.permits.next_end(),
            self.challenges.next_timeout(),
            self.digest.next_timeout(),
        ];
        jails.chain(others.into_iter().flatten()).min()
    }

    /// Removes a few of the bans that have ended and the failures that no longer count. While there are more,
    /// [`next_timeout`](Self::next_timeout) is not after `now`.
    pub fn handle_timeout(&mut self, now: KernelTime) {
        let _together = self.bans.store().hold();
        self.tell_digest(now);
        self.end_permits(now);
        self.end_some(now);
        for _ in 0..UNANSWERED_AT_ONCE {
            let Some((attempt, Teller { source, jail })) = self.challenges.unanswered(now) else {
                break;
            };
            let Some(report) = self.sources.get_mut(source) else { continue };
            report.failures = report.failures.saturating_add(1);
            let name = report.name;
            if !self.spare(&attempt, attempt.address, now) && !self.ignores(&attempt, jail) {
                self.judge(&attempt, name, jail, now);
            }
        }
        for jail in &mut self.jails {
            jail.handle_timeout(now);
        }
    }

    fn ban_manually(&mut self, wish: Wish, who: &str, now: KernelTime) -> Result<Banned, String> {
        let network = wish.network.trunc();
        let scope = self.ports.scope(&wish.scope)?;
        orders::may_be_kept("reason", wish.reason.as_deref().unwrap_or_default())?;
        let except: Vec<IpNet> = wish.except.iter().map(IpNet::trunc).collect();
        self.may_be_banned_manually(network, &except)?;
        let until = wish.time.map(|time| now.after(time));
        let ban = Ban { network, scope, origin: wish.origin, since: now.into(), until };
        let known = self.known_inside(network, &except, now);
        if known > 0 && ban.address().is_some() && !wish.force {
            return Err(format!(
                "{} is a known peer, probably a registered phone; `--force` bans it anyway",
                show(network)
            ));
        }
        let entry = Entry::new(ban, "").with_except(except);
        let replaced = self.bans.ledger().replaced_by(&entry).into_iter().next();
        // A ban that replaces another keeps a reason that was given earlier.
        let reason = wish.reason.or_else(|| replaced.as_ref().map(|old| old.reason.to_string()));
        let reason = reason.unwrap_or_else(|| NO_REASON.to_owned());
        let time = wish
            .time
            .map_or("forever".to_owned(), |time| format!("for {}", duration::format(time)));
        let except: Vec<String> = entry.except().iter().map(|hole| show(*hole)).collect();
        let except = match &except[..] {
            [] => String::new(),
            some => format!(" except {}", some.join(", ")),
        };
        let for_what = match &*reason {
            NO_REASON => String::new(),
            reason => format!(": {}", shown_text(reason)),
        };
        let says = format!(
            "{who} banned {}{except} {time}, scope {}{for_what}{}",
            show(network),
            self.ports.name(scope),
            self.dry()
        );
        let entry = Entry::new(ban, &*reason).with_except(entry.except().to_vec());
        self.enter(&entry, Some(says)).map_err(|why| format!("{why:#}"))?;
        let longer =
            |old: &Entry| (old.ban.until.is_none(), old.ban.until) > (until.is_none(), until);
        let shortened = replaced.as_ref().is_some_and(longer);
        let replaced = replaced.map(|old| Replaced {
            until: old.ban.until.map(|until| self.started.show(until)),
            scope: self.ports.name(old.ban.scope).to_owned(),
            reason: old.reason.to_string(),
        });
        Ok(Banned {
            banned: show(network),
            until: until.map(|until| self.started.show(until)),
            scope: self.ports.name(scope).to_owned(),
            reason,
            enforcing: self.enforcing(),
            replaced,
            shortened,
            known_peers: known as u64,
            durability: Durability::default(),
        })
    }

    /// How many known peers a ban of a network would cut off.
    fn known_inside(&self, network: IpNet, except: &[IpNet], now: KernelTime) -> usize {
        if network.prefix_len() == network.max_prefix_len() {
            let peer = self.datapath.known(network.addr());
            return usize::from(peer.is_some_and(|peer| now < peer.until));
        }
        let is_left_out = |peer: &IpAddr| except.iter().any(|hole| hole.contains(peer));
        let known = self.datapath.known_in(network, now).into_iter();
        known.filter(|peer| !is_left_out(peer)).count()
    }

    fn may_be_banned_manually(&self, network: IpNet, except: &[IpNet]) -> Result<(), String> {
        if let Some(who) = self.protected.reason(network) {
            return Err(format!("{} is never banned: it is {who}", show(network)));
        }
        if network.prefix_len() < WIDEST
            || IpNet::V6(MAPPED).contains(&network)
            || network.contains(&IpNet::V6(MAPPED))
        {
            return Err(format!(
                "{network} is too wide; the widest network that can be banned is a /{WIDEST}"
            ));
        }
        if let Some(outside) = except.iter().find(|e| !network.contains(*e) || **e == network) {
            return Err(format!(
                "{} is not inside {}; `--except` takes addresses and networks inside it",
                show(*outside),
                show(network)
            ));
        }
        if except.len() > EXCEPT_MAX {
            return Err(format!("{} exceptions; at most {EXCEPT_MAX} are possible", except.len()));
        }
        Ok(())
    }

    /// Lifts the bans of exactly this network, all or those of one origin. Returns how many it lifted.
    fn lift(
        &mut self,
        network: IpNet,
        origin: Option<Origin>,
        now: KernelTime,
    ) -> Result<usize, String> {
        self.forget(network, now);
        let wanted = |entry: &&Entry| origin.is_none_or(|origin| entry.ban.origin == origin);
        let bans: Vec<Entry> =
            self.bans.ledger().of_network(network).filter(wanted).cloned().collect();
        for ban in &bans {
            self.bans.strike(&mut self.datapath, ban).map_err(|why| format!("{why:#}"))?;
            self.note_end(ban, true, now);
        }
        if bans.is_empty() && network.prefix_len() == network.max_prefix_len() {
            // The kernel may have banned it for a flood without an event.
            self.datapath.unban(network.addr()).map_err(|why| format!("{why:#}"))?;
        }
        Ok(bans.len())
    }
}

/// The reason of a manual ban that was made without one.
pub(crate) const NO_REASON: &str = "no reason given";

/// A request for a manual ban.
struct Wish {
    network: IpNet,
    except: Vec<IpNet>,
    time: Option<Duration>,
    scope: String,
    reason: Option<String>,
    force: bool,
    origin: Origin,
}

/// `3rd`.
fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// The exceptions of a ban, in words.
fn left_out(except: &[IpNet]) -> String {
    match except.len() {
        0 => String::new(),
        holes => format!(", except {holes} trusted or known addresses and networks in it"),
    }
}

#[cfg(test)]
pub(crate) mod tests;

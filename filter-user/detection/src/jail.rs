//! A jail, which turns attempts into ban decisions. It uses no clock, no socket and no map.
//!
//! The caller decides which addresses are one source; a jail identifies a source by one address.
//!
//! Must never walk over all sources for one failure.

mod guessing;
mod slots;
mod table;
mod tally;
mod tick;
mod watched;

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

pub use self::guessing::Attacked;
use self::guessing::{Guess, Guessing, Suspect};
use self::table::RANKS;
use self::tally::Tally;
use self::watched::{Details, Failure, Watched};
use crate::clock::KernelTime;
pub use crate::failure::Evidence;
use crate::failure::{Attempt, Class, Verdict};
use crate::join;
use crate::network_set::NetworkSet;
use crate::settings::{JailSettings, Scope};

/// The most failures of each source that are remembered for `why`.
pub const EVIDENCE_MAX: usize = 8;

/// The most expired sources that are forgotten in one turn: a million must not delay new failures.
const SWEPT_AT_ONCE: usize = 4096;

/// How many sweeps for expired sources there are in each `findtime`.
const SWEEPS_PER_FINDTIME: u32 = 16;

/// A jail's decision to ban a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanDecision {
    /// The first address of the source.
    pub address: IpAddr,
    /// The scope to close.
    pub scope: Scope,
    /// The length of the ban.
    pub bantime: Duration,
    /// The number of failures, all within the jail's `findtime`.
    pub failures: usize,
    /// Whether there are enough proven failures on their own.
    pub proven: bool,
    /// The reason as text.
    pub reason: String,
    /// The last of the failures.
    pub evidence: Vec<Evidence>,
}

/// The failures that count against a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The number of failures.
    pub failures: usize,
    /// The sum of their weights, which `maxretry` is compared with.
    pub points: u64,
    /// The number of distinct accounts, which `maxaccounts` is compared with.
    pub accounts: usize,
}

/// A jail: bans a source for some time after a number of failures within a given time.
#[derive(Debug)]
pub struct Jail {
    name: &'static str,
    settings: JailSettings,
    /// Its `ignoreip`.
    ignored: NetworkSet,
    watched: Watched,
    /// The sources that have reported failures, by number.
    reporters: Vec<&'static str>,
    /// The failures of the source that is being judged.
    failures: Vec<Failure>,
    accounts: Vec<NonZeroU32>,
    /// Hashes the names of accounts. Its key is random, so that nobody can choose names with equal hashes.
    hasher: RandomState,
    now: KernelTime,
    next_sweep: Option<KernelTime>,
    guessing: Guessing,
    next_sweep_of_guessing: Option<KernelTime>,
    suspects: Vec<Suspect>,
    decided_on_others: Vec<BanDecision>,
    forgotten: u64,
}

impl Jail {
    /// A jail that remembers at most `capacity` sources at a time.
    pub fn new(name: &'static str, settings: JailSettings, capacity: usize) -> Self {
        let maxretry = usize::try_from(settings.maxretry).unwrap_or(usize::MAX);
        let guessing = Guessing::new(settings.guessing);
        Self {
            name,
            ignored: settings.ignoreip.iter().copied().collect(),
            settings,
            watched: Watched::new(capacity, maxretry),
            reporters: Vec::new(),
            failures: Vec::new(),
            accounts: Vec::new(),
            hasher: RandomState::new(),
            now: KernelTime(0),
            next_sweep: None,
            guessing,
            next_sweep_of_guessing: None,
            suspects: Vec::new(),
            decided_on_others: Vec::new(),
            forgotten: 0,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its settings.
    pub fn settings(&self) -> &JailSettings {
        &self.settings
    }

    /// The networks in its `ignoreip`.
    pub fn ignored(&self) -> &NetworkSet {
        &self.ignored
    }

    /// Uses other settings from the next failure on. Recorded failures remain, and count for as long as
    /// the new `findtime` says. Guessing over days continues with the old `guessing` settings.
    pub fn set_settings(&mut self, settings: JailSettings) {
        self.ignored = settings.ignoreip.iter().copied().collect();
        self.settings = JailSettings { guessing: self.settings.guessing, ..settings };
    }

    /// Whether an attempt is a failure that counts.
    pub fn counts(&self, attempt: &Attempt) -> bool {
        let Self { settings, ignored, .. } = self;
        attempt.verdict == Verdict::Failure
            && settings.enabled
            && (attempt.proven || settings.unproven_closes().is_some())
            && settings.weight(attempt.class) > 0
            && !ignored.contains(attempt.address.into())
    }

    /// How many sources have failures on record.
    pub fn watched(&self) -> usize {
        self.watched.len()
    }

    /// How many sources were evicted because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The failures on record of a source.
    pub fn evidence(&self, address: IpAddr) -> Vec<Evidence> {
        self.tell(address, &self.watched.failures(address))
    }

    /// What counts against a source now, if anything does.
    pub fn standing(&self, address: IpAddr, now: KernelTime) -> Option<Standing> {
        let failures = self.watched.failures(address);
        let counts = |f: &&Failure| !f.punished && f.at.age(now) < self.settings.findtime;
        let tally = Tally::of(failures.iter().filter(counts), &self.settings, &mut Vec::new());
        let Tally { failures, points, accounts } = tally;
        (failures > 0).then_some(Standing { failures, points, accounts })
    }

    /// Takes an attempt by an address that is a source by itself; see [`hear_of`](Self::hear_of).
    pub fn observe(
        &mut self,
        attempt: &Attempt,
        reporter: &'static str,
        now: KernelTime,
    ) -> Option<BanDecision> {
        self.hear_of(attempt.address, attempt, reporter, now)
    }

    /// Takes an attempt by the source of this first `address`, which `reporter` reports at `now`; time
    /// never goes back. A success clears the source's record, unless it has tried numbers that do not exist: for
    /// that it needs the password each time. The failure that reaches `maxretry`
    /// within `findtime` returns a ban decision.
    pub fn hear_of(
        &mut self,
        address: IpAddr,
        attempt: &Attempt,
        reporter: &'static str,
        now: KernelTime,
    ) -> Option<BanDecision> {
        match attempt.verdict {
            Verdict::Ignored => return None,
            Verdict::Success => {
                let dials = |failure: &Failure| failure.class == Class::CallRejected;
                if !self.watched.failures(address).iter().any(dials) {
                    self.forget(address);
                }
                return None;
            }
            Verdict::Failure => {}
        }
        if !self.counts(attempt) {
            return None;
        }
        self.take(address, now);
        let Attempt { class, proven, .. } = *attempt;
        let reporter = self.reporter(reporter);
        let account = attempt.account.as_deref().and_then(|account| self.account(account));
        self.failures.push(Failure {
            at: now.into(),
            class,
            proven,
            punished: false,
            reporter,
            account,
            details: Details {
                name: attempt.account.as_deref().map(Box::from),
                // Redundant for IPv4, and for the ban of a whole source.
                address: match attempt.address {
                    IpAddr::V6(from) if class != Class::Ban || attempt.address != address => {
                        Some(from)
                    }
                    IpAddr::V4(_) | IpAddr::V6(_) => None,
                },
            },
        });
        // Details are kept only for the failures that are shown.
        if let Some(untold) = self.failures.iter_mut().rev().nth(EVIDENCE_MAX) {
            untold.details = Details::default();
        }
        let decided = self.judge(address, now);
        let account = account.zip(attempt.account.as_deref());
        let guess = Guess { source: address, account, proven };
        self.guessing.observe(guess, now, &mut self.suspects);
        self.decide_on_guessers(decided, address, now)
    }

    /// Records that the source of a failure of this class, which has already counted a moment ago,
    /// cannot have been forged, since another source has reported that. Returns the same as
    /// [`observe`](Self::observe).
    pub fn prove(&mut self, address: IpAddr, class: Class, now: KernelTime) -> Option<BanDecision> {
        self.prove_of(address, address, class, now)
    }

    /// The same for a failure `from` an address of the source with this first `address`.
    pub fn prove_of(
        &mut self,
        address: IpAddr,
        from: IpAddr,
        class: Class,
        now: KernelTime,
    ) -> Option<BanDecision> {
        let recent = |failure: &Failure| failure.at.age(now) <= join::WINDOW;
        self.watched.last(address).filter(|last| last.age(now) <= join::WINDOW)?;
        self.take(address, now);
        let is_from = |f: &Failure| f.details.address.is_none_or(|known| from == known);
        let open =
            |of| move |f: &&mut Failure| !f.proven && f.class == of && recent(f) && is_from(f);
        let mut failure = self.failures.iter_mut().rev().find(open(class));
        if failure.is_none() && class == Class::WrongCredential {
            // Asterisk reports an unknown account with credentials in both classes, what it answers is only one.
            failure = self.failures.iter_mut().rev().find(open(Class::UnknownAccount));
        }
        let failure = failure.map(|failure| {
            failure.proven = true;
            (failure.account, failure.details.name.clone())
        });
        let decided = self.judge(address, now);
        if let Some((account, name)) = failure {
            let account = account.zip(name.as_deref());
            let guess = Guess { source: address, account, proven: true };
            self.guessing.prove(guess, now, &mut self.suspects);
        }
        self.decide_on_guessers(decided, address, now)
    }

    /// Records the account of a failure `from` an address of the source with this first `address` and of this class,
    /// which has counted without one a moment ago. Returns the same as [`observe`](Self::observe).
    pub fn name_of(
        &mut self,
        address: IpAddr,
        from: IpAddr,
        (class, account): (Class, &str),
        now: KernelTime,
    ) -> Option<BanDecision> {
        if !self.watched.has_nameless(address, |at| at.age(now) <= join::WINDOW) {
            return None;
        }
        let name = self.account(account)?;
        // Asterisk reports an unknown account with credentials in both classes.
        let of_account = |of| matches!(of, Class::WrongCredential | Class::UnknownAccount);
        let is_of_one = |of| of == class || of_account(of) && of_account(class);
        self.take(address, now);
        let nameless = self.failures.iter_mut().rev().find(|failure| {
            failure.account.is_none()
                && is_of_one(failure.class)
                && failure.at.age(now) <= join::WINDOW
                && failure.details.address.is_none_or(|known| from == known)
        });
        if let Some(failure) = nameless {
            failure.account = Some(name);
            failure.details.name = Some(account.into());
        }
        self.judge(address, now)
    }

    /// The ban decision, if the failures are enough for one. They are kept as long as they can lead to
    /// another.
    fn judge(&mut self, address: IpAddr, now: KernelTime) -> Option<BanDecision> {
        let Self { settings, failures, accounts, .. } = self;
        let JailSettings { scope, findtime, .. } = *settings;
        let unproven_scope = settings.unproven_closes();
        let mut tally = |counts: fn(&&Failure) -> bool| {
            Tally::of(failures.iter().filter(counts), settings, accounts)
        };
        let [proven, unpunished] = [tally(|f| f.proven), tally(|f| !f.punished)];
        if proven.is_enough(settings) {
            return Some(self.decision(address, scope, proven, true));
        }
        let narrow = unproven_scope.filter(|_| unpunished.is_enough(settings));
        let decided = narrow.map(|scope| self.decision(address, scope, unpunished, false));
        if narrow.is_some() {
            // Failures that are proven or may still be proven count towards a wider or longer ban.
            self.failures.retain(|f| f.proven || f.at.age(now) <= join::WINDOW);
            self.failures.iter_mut().for_each(|failure| failure.punished = true);
        }
        // During a ban only proven failures count.
        let open =
            if narrow.is_some() { 0 } else { unpunished.nearness(RANKS - 1, &self.settings) };
        let rank = proven.nearness(RANKS - 1, &self.settings).max(open);
        let forgotten = self.watched.put(address, &mut self.failures, rank);
        self.forgotten = self.forgotten.saturating_add(forgotten);
        self.next_sweep.get_or_insert(now.after(findtime));
        decided
    }

    /// Decides on the sources that the last failure has made suspects of guessing over days. Returns
    /// the decision about the source of the failure: the one already made, or the new one.
    fn decide_on_guessers(
        &mut self,
        decided: Option<BanDecision>,
        address: IpAddr,
        now: KernelTime,
    ) -> Option<BanDecision> {
        self.decided_on_others.clear(); // Nobody has fetched them.
        let JailSettings { scope, bantime, guessing, .. } = self.settings;
        let unproven_scope = self.settings.unproven_closes();
        let mut own = decided;
        for suspect in std::mem::take(&mut self.suspects) {
            let Suspect { source, failures, proven, reason } = suspect;
            let scope = if proven { Some(scope) } else { unproven_scope };
            let Some(scope) = scope else { continue };
            if self.ignored.contains(source.into()) {
                continue;
            }
            let failures = usize::try_from(failures).unwrap_or(usize::MAX);
            let evidence = self.evidence(source);
            let decision =
                BanDecision { address: source, scope, bantime, failures, proven, reason, evidence };
            if source != address {
                self.decided_on_others.push(decision);
            } else if own.as_ref().is_none_or(|own| proven && !own.proven) {
                own = Some(decision);
            }
        }
        if !self.guessing.is_empty() {
            self.next_sweep_of_guessing.get_or_insert(now.after(guessing.findtime));
        }
        own
    }

    /// The decisions on other sources that the last attempt has led to: those that guess at the same
    /// account. Since their failures are older, the caller must check again whether they may be banned.
    pub fn decided_on_others(&mut self) -> Vec<BanDecision> {
        std::mem::take(&mut self.decided_on_others)
    }

    /// The accounts that many sources have guessed at, the most recent last.
    pub fn attacked(&self) -> &[Attacked] {
        self.guessing.attacked()
    }

    fn decision(&self, address: IpAddr, scope: Scope, tally: Tally, proven: bool) -> BanDecision {
        let evidence = self.tell(address, &self.failures);
        let reason = tally.reason(evidence.last(), &self.settings);
        BanDecision {
            address,
            scope,
            bantime: self.settings.bantime,
            failures: tally.failures,
            proven,
            reason,
            evidence,
        }
    }

    /// Forgets a source's failures. Returns whether there were any.
    pub fn forget(&mut self, address: IpAddr) -> bool {
        self.guessing.forget(address);
        self.watched.take(address, &mut self.failures)
    }

    /// Forgets the failures of every source in a network.
    pub fn forget_network(&mut self, network: IpNet) {
        if network.prefix_len() == network.max_prefix_len() {
            self.forget(network.addr());
            return;
        }
        let all = self.watched.addresses().chain(self.guessing.sources());
        let inside: Vec<IpAddr> = all.filter(|address| network.contains(address)).collect();
        for address in inside {
            self.forget(address);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has something to do.
    pub fn next_timeout(&self) -> Option<KernelTime> {
        self.next_sweep.into_iter().chain(self.next_sweep_of_guessing).min()
    }

    /// Forgets a few of the sources whose failures are all older than `findtime`; only a few, so that
    /// nothing else has to wait.
    pub fn handle_timeout(&mut self, now: KernelTime) {
        let is_due = |sweep: Option<KernelTime>| sweep.is_some_and(|sweep| sweep <= now);
        self.now = self.now.max(now);
        if is_due(self.next_sweep) {
            let findtime = self.settings.findtime;
            let oldest = self.watched.forget_old(findtime, SWEPT_AT_ONCE, now);
            self.next_sweep = next_sweep(oldest, findtime, now);
        }
        if is_due(self.next_sweep_of_guessing) {
            let oldest = self.guessing.forget_old(SWEPT_AT_ONCE, now);
            let findtime = self.settings.guessing.findtime;
            self.next_sweep_of_guessing = next_sweep(oldest, findtime, now);
        }
    }

    /// Takes the failures of a source that still count.
    fn take(&mut self, address: IpAddr, now: KernelTime) {
        self.now = now;
        self.watched.take(address, &mut self.failures);
        let findtime = self.settings.findtime;
        self.failures.retain(|failure| failure.at.age(now) < findtime);
    }

    fn account(&self, name: &str) -> Option<NonZeroU32> {
        NonZeroU32::new(u32::try_from(self.hasher.hash_one(name) >> 32).unwrap_or(0))
    }

    fn reporter(&mut self, name: &'static str) -> u8 {
        let known = self.reporters.iter().position(|known| *known == name);
        let place = known.unwrap_or_else(|| {
            self.reporters.push(name);
            self.reporters.len() - 1
        });
        u8::try_from(place).unwrap_or(u8::MAX)
    }

    /// The last of these failures, as `why` shows them.
    fn tell(&self, of: IpAddr, failures: &[Failure]) -> Vec<Evidence> {
        let told = failures.len().saturating_sub(EVIDENCE_MAX);
        let tell = |failure: &Failure| Evidence {
            source: self.reporters.get(usize::from(failure.reporter)).copied().unwrap_or("unknown"),
            at: failure.at.seen_from(self.now).into(),
            address: match of {
                IpAddr::V4(_) => Some(of),
                IpAddr::V6(_) => failure.details.address.map(IpAddr::from),
            },
            class: failure.class,
            account: failure.details.name.clone(),
            proven: failure.proven,
        };
        failures.iter().skip(told).map(tell).collect()
    }
}

/// When to forget more sources, given the age of the oldest that is left.
fn next_sweep(oldest: Option<Duration>, findtime: Duration, now: KernelTime) -> Option<KernelTime> {
    let wait = findtime.saturating_sub(oldest?);
    let wait = if wait.is_zero() { wait } else { wait.max(findtime / SWEEPS_PER_FINDTIME) };
    Some(now.after(wait))
}

#[cfg(test)]
mod tests;

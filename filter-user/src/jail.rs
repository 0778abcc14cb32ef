//! A jail: attempts and time in, bans out. No clock, no socket, no map.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::clock::{KernelTime, Moment};
use crate::config::{JailSettings, Scope};
use crate::failure::{Attempt, Class, Verdict};
use crate::join;

/// Failures that are remembered for `why`, of each source.
pub const EVIDENCE_MAX: usize = 8;

/// One failure, as `why` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The source that heard it.
    pub source: &'static str,
    /// When it was heard.
    pub at: Moment,
    /// What kind of failure it was.
    pub class: Class,
    /// For which account.
    pub account: Option<Box<str>>,
    /// Whether the source cannot have been forged.
    pub proven: bool,
}

/// What a jail has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// Who is to be banned.
    pub address: IpAddr,
    /// What the ban drops.
    pub scope: Scope,
    /// For how long.
    pub bantime: Duration,
    /// How many failures it is for, all within the jail's `findtime`.
    pub failures: usize,
    /// Whether so many of them are proven that it would be passed for them alone.
    pub proven: bool,
    /// The last of them.
    pub evidence: Vec<Evidence>,
}

/// A jail: so many failures of one source within so much time, and it is banned for so long.
#[derive(Debug)]
pub struct Jail {
    name: &'static str,
    settings: JailSettings,
    capacity: usize,
    watched: HashMap<IpAddr, Watched>,
    /// The watched sources, those with the fewest and then the oldest failures first: who is
    /// forgotten when there are too many.
    harmless: BTreeSet<(usize, KernelTime, IpAddr)>,
    next_sweep: Option<KernelTime>,
    forgotten: u64,
}

#[derive(Debug, Default)]
struct Watched {
    failures: VecDeque<Failure>,
    evidence: VecDeque<Evidence>,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    at: KernelTime,
    class: Class,
    /// Whether its source cannot have been forged.
    proven: bool,
    /// Whether there is a ban of the unproven scope for it.
    punished: bool,
}

impl Watched {
    fn rank(&self, address: IpAddr) -> Option<(usize, KernelTime, IpAddr)> {
        self.failures.back().map(|last| (self.failures.len(), last.at, address))
    }

    fn forget_before(&mut self, findtime: Duration, now: KernelTime) {
        while self.failures.front().is_some_and(|first| now.since(first.at) >= findtime) {
            self.failures.pop_front();
        }
    }

    fn count(&self, counts: impl Fn(&Failure) -> bool) -> usize {
        self.failures.iter().filter(|failure| counts(failure)).count()
    }
}

impl Jail {
    /// A jail that remembers at most `capacity` sources at a time.
    pub fn new(name: &'static str, settings: JailSettings, capacity: usize) -> Self {
        Self {
            name,
            settings,
            capacity: capacity.max(1),
            watched: HashMap::new(),
            harmless: BTreeSet::new(),
            next_sweep: None,
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

    /// How many sources have failures on record.
    pub fn watched(&self) -> usize {
        self.watched.len()
    }

    /// Sources that were forgotten because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The failures on record of a source.
    pub fn evidence(&self, address: IpAddr) -> impl Iterator<Item = &Evidence> {
        self.watched.get(&address).into_iter().flat_map(|watched| &watched.evidence)
    }

    /// Hears of an attempt from `source` at `now`, which never goes back. A success clears its source's record;
    /// the failure that reaches `maxretry` within `findtime` is answered with a sentence.
    pub fn hear(
        &mut self,
        attempt: &Attempt,
        source: &'static str,
        now: KernelTime,
    ) -> Option<Sentence> {
        let address = attempt.address;
        match attempt.verdict {
            Verdict::Ignored => return None,
            Verdict::Success => {
                self.forget(address);
                return None;
            }
            Verdict::Failure => {}
        }
        if !self.settings.enabled || contains(&self.settings.ignoreip, address) {
            return None;
        }
        if !attempt.proven && self.settings.unproven_scope.is_none() {
            return None;
        }
        let mut watched = self.take(address).unwrap_or_default();
        watched.forget_before(self.settings.findtime, now);
        let Attempt { class, proven, .. } = *attempt;
        watched.failures.push_back(Failure { at: now, class, proven, punished: false });
        if watched.evidence.len() >= EVIDENCE_MAX {
            watched.evidence.pop_front();
        }
        watched.evidence.push_back(Evidence {
            source,
            at: now.into(),
            class: attempt.class,
            account: attempt.account.as_deref().map(Box::from),
            proven: attempt.proven,
        });
        self.judge(address, watched, now)
    }

    /// Hears that the source of a failure that has counted already, of this class and a moment ago,
    /// cannot have been forged: another source tells of it that knows. Answers as
    /// [`hear`](Self::hear).
    pub fn prove(&mut self, address: IpAddr, class: Class, now: KernelTime) -> Option<Sentence> {
        let mut watched = self.take(address)?;
        watched.forget_before(self.settings.findtime, now);
        watched.failures.back()?;
        let recent = |at| now.since(at) <= join::WINDOW;
        let open = |f: &&mut Failure| !f.proven && f.class == class && recent(f.at);
        if let Some(failure) = watched.failures.iter_mut().rev().find(open) {
            failure.proven = true;
            let same =
                |e: &&mut Evidence| !e.proven && e.class == class && e.at == failure.at.into();
            if let Some(evidence) = watched.evidence.iter_mut().rev().find(same) {
                evidence.proven = true;
            }
        }
        self.judge(address, watched, now)
    }

    /// A sentence if the failures are enough for one; they are kept as long as they can lead to
    /// another.
    fn judge(
        &mut self,
        address: IpAddr,
        mut watched: Watched,
        now: KernelTime,
    ) -> Option<Sentence> {
        let JailSettings { scope, unproven_scope, bantime, findtime, maxretry, .. } = self.settings;
        let maxretry = usize::try_from(maxretry).unwrap_or(usize::MAX);
        let sentence = |scope, failures, proven, evidence: &VecDeque<Evidence>| {
            let evidence = evidence.iter().cloned().collect();
            Some(Sentence { address, scope, bantime, failures, proven, evidence })
        };
        let proven = watched.count(|failure| failure.proven);
        if proven >= maxretry {
            return sentence(scope, proven, true, &watched.evidence);
        }
        let unpunished = watched.count(|failure| !failure.punished);
        let narrow = unproven_scope.filter(|_| unpunished >= maxretry);
        let passed = narrow.and_then(|scope| sentence(scope, unpunished, false, &watched.evidence));
        if narrow.is_some() {
            if narrow == Some(scope) {
                return passed;
            }
            // What is proven, or may be proven yet, counts towards the wider ban.
            watched.failures.retain(|f| f.proven || now.since(f.at) <= join::WINDOW);
            watched.failures.iter_mut().for_each(|failure| failure.punished = true);
        }
        self.put(address, watched);
        self.next_sweep.get_or_insert(now.after(findtime));
        passed
    }

    /// Forgets a source's failures; says whether there were any.
    pub fn forget(&mut self, address: IpAddr) -> bool {
        self.take(address).is_some()
    }

    /// Forgets the failures of every source in a network.
    pub fn forget_network(&mut self, network: IpNet) {
        let inside: Vec<IpAddr> =
            self.watched.keys().copied().filter(|address| network.contains(address)).collect();
        for address in inside {
            self.forget(address);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn next_timeout(&self) -> Option<KernelTime> {
        self.next_sweep
    }

    /// Forgets the sources whose failures all are older than `findtime`.
    pub fn handle_timeout(&mut self, now: KernelTime) {
        if self.next_sweep.is_none_or(|sweep| now < sweep) {
            return;
        }
        let findtime = self.settings.findtime;
        let old = |watched: &Watched| {
            watched.failures.back().is_none_or(|last| now.since(last.at) >= findtime)
        };
        let stale: Vec<IpAddr> =
            self.watched.iter().filter(|(_, w)| old(w)).map(|(address, _)| *address).collect();
        for address in stale {
            self.forget(address);
        }
        self.next_sweep = (!self.watched.is_empty()).then(|| now.after(findtime));
    }

    fn take(&mut self, address: IpAddr) -> Option<Watched> {
        let watched = self.watched.remove(&address)?;
        if let Some(rank) = watched.rank(address) {
            self.harmless.remove(&rank);
        }
        Some(watched)
    }

    fn put(&mut self, address: IpAddr, watched: Watched) {
        if self.watched.len() >= self.capacity
            && let Some((_, _, harmless)) = self.harmless.first().copied()
        {
            self.forget(harmless);
            self.forgotten = self.forgotten.saturating_add(1);
        }
        if let Some(rank) = watched.rank(address) {
            self.harmless.insert(rank);
        }
        self.watched.insert(address, watched);
    }
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn settings(maxretry: u32, findtime: u64) -> JailSettings {
        JailSettings {
            enabled: true,
            maxretry,
            findtime: Duration::from_secs(findtime),
            bantime: Duration::from_hours(1),
            ignoreip: vec!["198.51.100.0/24".parse().unwrap()],
            scope: Scope::Sip,
            unproven_scope: Some(Scope::Sip),
        }
    }

    fn attempt(address: IpAddr, verdict: Verdict) -> Attempt {
        let account = Some("1001".to_owned());
        Attempt { account, ..Attempt::new(verdict, Class::WrongCredential, address) }
    }

    fn failure(last: u8) -> Attempt {
        attempt(IpAddr::from([192, 0, 2, last]), Verdict::Failure)
    }

    fn at(seconds: u64) -> KernelTime {
        KernelTime(seconds * SECOND)
    }

    #[test]
    fn the_last_failure_bans_and_clears() {
        let mut jail = Jail::new("asterisk-wazo", settings(3, 600), 100);
        assert_eq!(jail.hear(&failure(1), "log", at(1)), None);
        assert_eq!(jail.hear(&failure(1), "log", at(2)), None);
        let sentence = jail.hear(&failure(1), "log", at(3)).unwrap();
        assert_eq!((sentence.failures, sentence.evidence.len()), (3, 3));
        assert_eq!(jail.watched(), 0);
        assert_eq!(jail.hear(&failure(1), "log", at(4)), None);
    }

    #[test]
    fn old_failures_do_not_count() {
        let mut jail = Jail::new("asterisk-wazo", settings(3, 600), 100);
        jail.hear(&failure(1), "log", at(0));
        jail.hear(&failure(1), "log", at(1));
        assert_eq!(jail.hear(&failure(1), "log", at(600)), None);
        assert!(jail.hear(&failure(1), "log", at(600)).is_some());
    }

    #[test]
    fn a_success_clears() {
        let mut jail = Jail::new("asterisk-wazo", settings(2, 600), 100);
        jail.hear(&failure(1), "log", at(0));
        jail.hear(&attempt(IpAddr::from([192, 0, 2, 1]), Verdict::Success), "log", at(1));
        assert_eq!(jail.hear(&failure(1), "log", at(2)), None);
    }

    #[test]
    fn ignored_networks_and_disabled_jails_watch_nobody() {
        let mut jail = Jail::new("asterisk-wazo", settings(1, 600), 100);
        let ignored = attempt(IpAddr::from([198, 51, 100, 7]), Verdict::Failure);
        assert_eq!(jail.hear(&ignored, "log", at(0)), None);
        let mut jail =
            Jail::new("asterisk-wazo", JailSettings { enabled: false, ..settings(1, 600) }, 100);
        assert_eq!(jail.hear(&failure(1), "log", at(0)), None);
        assert_eq!(jail.watched(), 0);
    }

    #[test]
    fn many_sources_do_not_push_out_the_one_about_to_be_banned() {
        let mut jail = Jail::new("asterisk-wazo", settings(3, 600), 10);
        jail.hear(&failure(1), "log", at(0));
        jail.hear(&failure(1), "log", at(1));
        for n in 0..200u8 {
            jail.hear(&attempt(IpAddr::from([203, 0, 113, n]), Verdict::Failure), "log", at(2));
        }
        assert_eq!((jail.watched(), jail.forgotten()), (10, 191));
        assert!(jail.hear(&failure(1), "log", at(3)).is_some());
    }

    fn wide(maxretry: u32, unproven_scope: Option<Scope>) -> Jail {
        let settings =
            JailSettings { scope: Scope::All, unproven_scope, ..settings(maxretry, 600) };
        Jail::new("asterisk-wazo", settings, 100)
    }

    fn proven() -> Attempt {
        Attempt { proven: true, ..failure(1) }
    }

    #[test]
    fn a_wide_ban_wants_proof() {
        let mut jail = wide(3, Some(Scope::Sip));
        let mut hear = |attempt: Attempt, time| {
            jail.hear(&attempt, "log", at(time)).map(|s| (s.scope, s.failures))
        };
        assert_eq!((hear(proven(), 0), hear(proven(), 10)), (None, None));
        assert_eq!(hear(failure(1), 20), Some((Scope::Sip, 3)));
        // Two of the three are proven: one more that is makes three.
        assert_eq!(hear(failure(1), 30), None);
        assert_eq!(hear(proven(), 40), Some((Scope::All, 3)));
        assert_eq!(jail.watched(), 0);
    }

    #[test]
    fn proof_comes_late() {
        let mut jail = wide(2, Some(Scope::Sip));
        let wrong = Class::WrongCredential;
        let address = failure(1).address;
        assert_eq!(jail.hear(&failure(1), "log", at(0)), None);
        assert_eq!(jail.prove(address, wrong, at(0)), None);
        let narrow = jail.hear(&failure(1), "log", at(10)).unwrap();
        assert_eq!((narrow.scope, narrow.failures), (Scope::Sip, 2));
        assert_eq!(jail.prove(address, Class::UnknownAccount, at(10)), None);
        assert_eq!(jail.prove(address, wrong, at(12)), None);
        let wide = jail.prove(address, wrong, at(11)).unwrap();
        assert_eq!((wide.scope, wide.failures), (Scope::All, 2));
        assert!(wide.evidence.iter().all(|evidence| evidence.proven));
        assert_eq!(jail.prove(address, wrong, at(11)), None);
    }

    #[test]
    fn what_can_be_forged_may_count_for_nothing() {
        let mut jail = wide(1, None);
        assert_eq!(jail.hear(&failure(1), "log", at(0)), None);
        assert_eq!(jail.watched(), 0);
        assert_eq!(jail.hear(&proven(), "log", at(0)).unwrap().scope, Scope::All);
    }

    #[test]
    fn unproven_failures_after_a_narrow_ban_are_no_memory() {
        let mut jail = wide(3, Some(Scope::Sip));
        for n in 0..3000 {
            let sentence = jail.hear(&failure(1), "log", KernelTime(n * SECOND / 5));
            assert!(sentence.is_none_or(|sentence| sentence.scope == Scope::Sip));
            assert!(jail.watched.values().all(|watched| watched.failures.len() <= 12));
        }
    }

    #[test]
    fn a_sweep_forgets_the_stale() {
        let mut jail = Jail::new("asterisk-wazo", settings(3, 600), 10);
        jail.hear(&failure(1), "log", at(0));
        jail.hear(&failure(2), "log", at(500));
        assert_eq!(jail.next_timeout(), Some(at(600)));
        jail.handle_timeout(at(600));
        assert_eq!(jail.watched(), 1);
        jail.handle_timeout(at(1200));
        assert_eq!((jail.watched(), jail.next_timeout()), (0, None));
    }

    proptest! {
        /// The definition of a jail, counted anew at every failure.
        #[test]
        fn bans_exactly_at_maxretry_within_findtime(
            maxretry in 1u32..6, findtime in 1u64..20,
            steps in proptest::collection::vec((0u64..8, 0u8..4, any::<bool>()), 1..200),
        ) {
            let mut jail = Jail::new("asterisk-wazo", settings(maxretry, findtime), 1000);
            let mut model: HashMap<u8, Vec<u64>> = HashMap::new();
            let mut now = 0;
            for (gap, source, success) in steps {
                now += gap;
                jail.handle_timeout(at(now));
                let address = IpAddr::from([192, 0, 2, source]);
                let times = model.entry(source).or_default();
                if success && now % 5 == 0 {
                    times.clear();
                    jail.hear(&attempt(address, Verdict::Success), "log", at(now));
                    continue;
                }
                times.push(now);
                let recent = times.iter().filter(|time| now - **time < findtime).count();
                let banned = jail.hear(&failure(source), "log", at(now)).is_some();
                prop_assert_eq!(banned, recent >= maxretry as usize);
                if banned {
                    times.clear();
                }
            }
        }

        #[test]
        fn memory_is_bounded(
            capacity in 1usize..20, sources in proptest::collection::vec(any::<[u8; 4]>(), 1..300),
        ) {
            let mut jail = Jail::new("asterisk-wazo", settings(5, 600), capacity);
            for (now, source) in sources.into_iter().enumerate() {
                jail.hear(&attempt(IpAddr::from(source), Verdict::Failure), "log", at(now as u64 / 10));
                prop_assert!(jail.watched() <= capacity);
                prop_assert_eq!(jail.harmless.len(), jail.watched.len());
            }
        }
    }
}

//! Networks that are trusted at run time, until they are disallowed or for a given time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::{ALLOWED_MAX, AllowChanged, Allowed, Allows, Durability, ErrorId, Refusal};
use ipnet::IpNet;
use log::{info, warn};
use serde::{Deserialize, Serialize};

use super::bans::lifting::Which;
use super::manual::may_be_kept;
use super::width::{WIDEST, is_too_wide};
use super::{Controller, show};
use crate::clock::{KernelTime, Moment, Now};
use crate::datapath::Datapath;
use crate::duration;
use crate::log_budget::MANUAL;
use crate::report::shown_text;
use crate::store::DecisionKey;

/// The kind of these decisions in the store.
const KIND: &str = "allow";

/// The most bans inside a network that are counted.
const COUNTED: usize = 1000;

/// A network that is allowed, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// In milliseconds of UTC since 1970.
    since: i64,
    until: Option<i64>,
    comment: Option<String>,
    by: String,
}

/// A network that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Permit {
    since: Moment,
    until: Option<KernelTime>,
    comment: Option<String>,
    by: String,
}

impl Permit {
    fn kept(&self, clock: Now) -> Kept {
        Kept {
            since: clock.show_milliseconds(self.since),
            until: self.until.map(|until| clock.show_milliseconds(until)),
            comment: self.comment.clone(),
            by: self.by.clone(),
        }
    }

    fn from_kept(kept: Kept, clock: Now) -> Self {
        let moment = |milliseconds: i64| {
            let distance = milliseconds.saturating_sub(clock.show_milliseconds(clock.kernel));
            Moment(Moment::from(clock.kernel).0.saturating_add(distance.saturating_mul(1_000_000)))
        };
        let Kept { since, until, comment, by } = kept;
        let until = until.map(|until| moment(until).in_this_boot());
        Self { since: moment(since), until, comment, by }
    }
}

/// The allowed networks.
#[derive(Clone, Debug, Default)]
pub(super) struct Permits(BTreeMap<IpNet, Permit>);

impl Permits {
    /// Loads the networks in the store that have not ended.
    pub(super) fn load<'a>(
        kept: impl IntoIterator<Item = (&'a DecisionKey, &'a String)>,
        clock: Now,
    ) -> Self {
        let read = kept.into_iter().filter(|((kind, _), _)| kind == KIND);
        let permits = read.filter_map(|((_, name), value)| {
            let permit = Permit::from_kept(serde_json::from_str(value).ok()?, clock);
            Some((name.parse().ok()?, permit))
        });
        let is_over = |permit: &Permit| permit.until.is_some_and(|until| until <= clock.kernel);
        Self(permits.filter(|(_, permit)| !is_over(permit)).take(ALLOWED_MAX).collect())
    }

    /// The networks.
    pub(super) fn networks(&self) -> BTreeSet<IpNet> {
        self.0.keys().copied().collect()
    }

    /// When the next of them ends.
    pub(super) fn next_end(&self) -> Option<KernelTime> {
        self.0.values().filter_map(|permit| permit.until).min()
    }

    fn shown(&self, network: IpNet, clock: Now) -> Option<Allowed> {
        let Permit { since, until, comment, by } = self.0.get(&network)?;
        Some(Allowed {
            network: show(network),
            since: clock.show(*since),
            until: until.map(|until| clock.show(until)),
            comment: comment.clone(),
            by: by.clone(),
        })
    }
}

impl<D: Datapath> Controller<D> {
    /// The networks that are allowed.
    pub(super) fn allows(&self) -> Allows {
        let networks = self.permits.0.keys();
        let shown = networks.filter_map(|network| self.permits.shown(*network, self.started));
        Allows { allows: shown.collect() }
    }

    /// The allowed network that contains an address, if there is one.
    pub(super) fn allowed_around(&self, network: IpNet) -> Option<Allowed> {
        let around = self.permits.0.keys().find(|allowed| allowed.contains(&network))?;
        self.permits.shown(*around, self.started)
    }

    /// Trusts a network; replaces an earlier permit of it.
    pub(super) fn allow(
        &mut self,
        network: IpNet,
        (seconds, comment): (Option<u64>, Option<String>),
        who: &str,
        now: KernelTime,
    ) -> Result<AllowChanged, String> {
        let network = network.trunc();
        if is_too_wide(network) {
            return Err(format!(
                "{network} is too wide; the widest network that can be allowed is a /{WIDEST}"
            ));
        }
        may_be_kept("comment", comment.as_deref().unwrap_or_default())?;
        let permits = &self.permits.0;
        if permits.len() >= ALLOWED_MAX && !permits.contains_key(&network) {
            return Err(format!(
                "{ALLOWED_MAX} networks are allowed already; put them under `trusted` in the configuration"
            ));
        }
        let time = seconds.map(|seconds| Duration::from_secs(seconds).min(duration::MAX));
        let until = time.map(|time| now.after(time));
        let permit = Permit { since: now.into(), until, comment, by: who.to_owned() };
        let said = permit
            .comment
            .as_deref()
            .map_or_else(String::new, |comment| format!(": {}", shown_text(comment)));
        let kept = serde_json::to_string(&permit.kept(self.started)).map_err(|e| e.to_string())?;
        let old = self.permits.0.insert(network, permit);
        if let Err(why) = self.trust_permits() {
            match old {
                Some(old) => drop(self.permits.0.insert(network, old)),
                None => drop(self.permits.0.remove(&network)),
            }
            self.protected.set_allowed(self.permits.networks());
            return Err(why);
        }
        self.bans.store().decide(KIND, &network.to_string(), Some(kept));
        let lasts = time.map_or_else(
            || "until it is disallowed".to_owned(),
            |time| format!("for {}", duration::format(time)),
        );
        info!(target: MANUAL, "{who} allowed {} {lasts}{said}", show(network));
        let lifted = self.bans.ledger().inside(network).take(COUNTED).count()
            + self.bans.ledger().of_network(network).count();
        self.forget(network, now);
        if lifted > 0 {
            // No client waits for this answer; the log names the lifted bans.
            let _ticket = self.begin_to_lift(Which::Inside(network), who, now)?;
        }
        self.allow_changed(network, lifted)
            .ok_or_else(|| format!("{} is not allowed", show(network)))
    }

    /// Ends the trust in a network.
    pub(super) fn disallow(&mut self, network: IpNet, who: &str) -> Result<AllowChanged, Refusal> {
        let network = network.trunc();
        let Some(changed) = self.allow_changed(network, 0) else {
            let others = match self.allowed_around(network) {
                Some(around) => format!("it is part of {}", around.network),
                None => "`ringfence allows` lists what is".to_owned(),
            };
            let why = format!("{} is not allowed: {others}", show(network));
            return Err(Refusal::new(ErrorId::NotFound, why));
        };
        self.revoke(network)?;
        info!(target: MANUAL, "{who} disallowed {}", show(network));
        Ok(changed)
    }

    /// The networks that somebody has allowed.
    pub(super) fn allowed_by(&self, who: &str) -> Vec<IpNet> {
        let by = self.permits.0.iter().filter(|(_, permit)| permit.by == who);
        by.map(|(network, _)| *network).collect()
    }

    /// Whether a network must be allowed for somebody who says again and again what is: it is not, or for another
    /// time, and nobody else has allowed it.
    pub(super) fn must_allow_for(
        &self,
        network: IpNet,
        (comment, seconds): (&str, Option<u64>),
        who: &str,
        now: KernelTime,
    ) -> bool {
        const SLACK: u64 = 60;
        let Some(permit) = self.permits.0.get(&network.trunc()) else { return true };
        let left = permit.until.map(|until| until.since(now).as_secs());
        let is_same = match (left, seconds) {
            (Some(left), Some(seconds)) => left.abs_diff(seconds) <= SLACK,
            (left, seconds) => left == seconds,
        };
        let says_same = permit.comment.as_deref().is_some_and(|says| says.ends_with(comment));
        permit.by == who && !(is_same && says_same)
    }

    fn allow_changed(&self, network: IpNet, lifted: usize) -> Option<AllowChanged> {
        let allowed = self.permits.shown(network, self.started)?;
        let is_configured = self.protected.is_configured(network);
        let durability = Durability::default();
        Some(AllowChanged { allowed, lifted: lifted as u64, is_configured, durability })
    }

    fn revoke(&mut self, network: IpNet) -> Result<(), String> {
        let Some(old) = self.permits.0.remove(&network) else { return Ok(()) };
        if let Err(why) = self.trust_permits() {
            self.permits.0.insert(network, old);
            self.protected.set_allowed(self.permits.networks());
            return Err(why);
        }
        self.bans.store().decide(KIND, &network.to_string(), None);
        Ok(())
    }

    /// Makes the kernel trust the allowed networks.
    fn trust_permits(&mut self) -> Result<(), String> {
        self.protected.set_allowed(self.permits.networks());
        self.datapath.trust(&self.protected.trusted_networks()).map_err(|why| format!("{why:#}"))
    }

    /// Ends the permits whose time is up.
    pub(super) fn end_permits(&mut self, now: KernelTime) {
        let is_over = |permit: &Permit| permit.until.is_some_and(|until| until <= now);
        let over: Vec<IpNet> =
            self.permits.0.iter().filter(|(_, p)| is_over(p)).map(|(net, _)| *net).collect();
        for network in over {
            let shown = show(network);
            match self.revoke(network) {
                Ok(()) => info!(target: MANUAL, "{shown} is no longer allowed: its time is up"),
                Err(why) => {
                    warn!("{shown} stays trusted, though its time is up: {why}");
                    // The next change tries again.
                    if let Some(permit) = self.permits.0.get_mut(&network) {
                        permit.until = Some(now.after(Duration::from_mins(1)));
                    }
                }
            }
        }
    }

    /// Saves all permits again.
    pub(super) fn put_permits(&self) {
        for (network, permit) in &self.permits.0 {
            if let Ok(kept) = serde_json::to_string(&permit.kept(self.started)) {
                self.bans.store().decide(KIND, &network.to_string(), Some(kept));
            }
        }
    }

    /// Adds permits that could only be read late.
    pub(super) fn take_permits<'a>(
        &mut self,
        kept: impl IntoIterator<Item = (&'a DecisionKey, &'a String)>,
    ) {
        for (network, permit) in Permits::load(kept, self.started).0 {
            self.permits.0.entry(network).or_insert(permit);
        }
        if let Err(why) = self.trust_permits() {
            warn!("networks that were allowed are not trusted: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use api::{Answer, Reply, Request};

    use super::super::tests::{NoKernel, at, fail, started_with};
    use super::*;

    fn started() -> Controller<NoKernel> {
        started_with(NoKernel::default(), |_default| {})
    }

    fn allow(network: &str, seconds: Option<u64>) -> Request {
        let comment = Some("branch\u{1b} office".to_owned());
        Request::Allow { network: network.parse().unwrap(), seconds, comment }
    }

    fn done(controller: &mut Controller<NoKernel>, request: Request) -> AllowChanged {
        let answer = controller.answer(request, at(20));
        let Reply::Ok(Answer::AllowChanged(changed)) = answer else { panic!("{answer:?}") };
        changed
    }

    #[test]
    fn an_allowed_network_is_trusted_until_its_time_is_up() {
        let mut controller = started();
        let address = [203, 0, 113, 7];
        fail(&mut controller, address, 15);
        assert_eq!(controller.ban_count(), 1);
        let changed = done(&mut controller, allow("203.0.113.0/24", Some(60)));
        assert_eq!((changed.lifted, changed.is_configured), (1, false), "{changed:?}");
        while controller.is_lifting() {
            controller.lift_more(at(20));
        }
        assert_eq!(controller.ban_count(), 0);
        fail(&mut controller, address, 50);
        assert_eq!(controller.ban_count(), 0);
        let why = controller.why(IpAddr::from(address), at(21));
        assert_eq!(why.allowed.map(|allowed| allowed.network), Some("203.0.113.0/24".to_owned()));
        assert_eq!(controller.next_timeout(), Some(at(80)));
        controller.handle_timeout(at(80));
        assert!(controller.allows().allows.is_empty());
        fail(&mut controller, address, 50);
        assert_eq!(controller.ban_count(), 1);
    }

    #[test]
    fn a_permit_is_kept_over_a_restart_and_a_reload() {
        let mut controller = started();
        done(&mut controller, allow("203.0.113.0/24", Some(3600)));
        done(&mut controller, allow("2001:db8::7/128", None));
        let clock = controller.started;
        let kept: BTreeMap<DecisionKey, String> = controller
            .permits
            .0
            .iter()
            .map(|(net, permit)| {
                let value = serde_json::to_string(&permit.kept(clock)).unwrap();
                ((KIND.to_owned(), net.to_string()), value)
            })
            .collect();
        assert_eq!(Permits::load(&kept, clock).0, controller.permits.0);
        // An hour and a minute later, in another boot.
        let later = Now { kernel: at(5), wall: clock.wall + jiff::SignedDuration::from_mins(61) };
        let networks = Permits::load(&kept, later).networks();
        assert_eq!(networks.len(), 1, "{networks:?}");
        controller.reconfigure(&crate::config::Config::default(), at(20)).unwrap();
        assert_eq!(controller.protected.trusted_networks().len(), 2);
    }

    #[test]
    fn what_cannot_be_allowed_says_why() {
        let mut controller = started();
        let mut refused = |request: Request| match controller.answer(request, at(20)) {
            Reply::Error(why) => why.message,
            Reply::Ok(answer) => panic!("{answer:?}"),
        };
        assert!(refused(allow("0.0.0.0/0", None)).contains("too wide"));
        assert!(refused(allow("::/64", None)).contains("too wide"));
        let network = "203.0.113.7/32".parse().unwrap();
        let comment = Some("x".repeat(api::TEXT_MAX + 1));
        let long = Request::Allow { network, seconds: None, comment };
        assert!(refused(long).contains("comment"));
        assert!(refused(Request::Disallow { network }).contains("not allowed"));
        done(&mut controller, allow("203.0.113.0/24", None));
        let why = controller.disallow(network, "root").unwrap_err().message;
        assert!(why.contains("part of 203.0.113.0/24"), "{why}");
        for last in 0..ALLOWED_MAX - 1 {
            done(&mut controller, allow(&format!("192.0.{}.{}/32", last / 200, last % 200), None));
        }
        let answer = controller.answer(allow("192.0.2.250/32", None), at(20));
        assert!(matches!(answer, Reply::Error(_)), "{answer:?}");
    }
}

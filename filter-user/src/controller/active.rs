//! `active`: the sources that attack now. Only the latest are remembered: forged ones evict each other, and those
//! over a limit do not evict those that failed.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use api::{
    ACTIVE_MAX, ActiveAccount, ActivePage, ActiveQuery, ActiveSource, ErrorId, Near, PACKETS_MAX,
    Refusal,
};

use super::{Controller, show};
use crate::ban::last_to_end;
use crate::clock::KernelTime;
use crate::datapath::{Datapath, Limited};
use crate::failure::{Attempt, Class, Verdict};

/// How many are remembered of those that failed, and of those over a limit.
const KEPT: usize = 256;

/// The most accounts in an answer.
const ACCOUNTS_MAX: usize = 16;

/// The latest sources.
#[derive(Debug, Default)]
pub(super) struct ActiveSources {
    failed: Latest<Failed>,
    /// With the number of packets that were reported.
    limited: Latest<u64>,
    /// The same of all sources.
    reported: u64,
}

/// The failures of a source.
#[derive(Debug)]
struct Failed {
    address: IpAddr,
    failures: u64,
    class: Class,
    account: Option<Box<str>>,
    proven: bool,
}

/// The latest sources of a kind, by address and by age.
#[derive(Debug)]
struct Latest<T> {
    of: HashMap<IpAddr, (KernelTime, T)>,
    by_age: BTreeSet<(KernelTime, IpAddr)>,
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self { of: HashMap::new(), by_age: BTreeSet::new() }
    }
}

impl<T> Latest<T> {
    fn note(&mut self, source: IpAddr, at: KernelTime, update: impl FnOnce(Option<T>) -> T) {
        let before = self.of.remove(&source).map(|(before, what)| {
            self.by_age.remove(&(before, source));
            what
        });
        self.of.insert(source, (at, update(before)));
        self.by_age.insert((at, source));
        if self.of.len() > KEPT
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.of.remove(&oldest);
        }
    }

    fn latest_first(&self) -> impl Iterator<Item = IpAddr> {
        self.by_age.iter().rev().map(|(_, source)| *source)
    }
}

impl<D: Datapath> Controller<D> {
    /// Records an attempt that a jail is given.
    pub(super) fn note_failure(&mut self, attempt: &Attempt, now: KernelTime) {
        if attempt.verdict != Verdict::Failure {
            return;
        }
        let source = self.jails.prefix.source(attempt.address);
        self.active.failed.note(source, now, |before| Failed {
            address: attempt.address,
            failures: before.map_or(0, |before| before.failures).saturating_add(1),
            class: attempt.class,
            account: attempt.account.as_deref().map(Box::from),
            proven: attempt.proven,
        });
    }

    /// Records a source over a limit.
    pub(super) fn note_limited(&mut self, event: Limited) {
        let one_more = |before: u64| before.saturating_add(1);
        self.active.reported = one_more(self.active.reported);
        self.active.limited.note(event.source, event.at, |before| one_more(before.unwrap_or(0)));
    }

    /// The sources that attack now. It takes a bounded time, whatever attacks.
    pub(super) fn active_page(
        &self,
        query: &ActiveQuery,
        now: KernelTime,
    ) -> Result<ActivePage, Refusal> {
        if query.packets.len() > PACKETS_MAX {
            let why = format!("the packets of at most {PACKETS_MAX} networks can be asked for");
            return Err(Refusal::new(ErrorId::InvalidRequest, why));
        }
        let limit = query.limit.map_or(ACTIVE_MAX, |limit| limit.get().min(ACTIVE_MAX));
        let limit = usize::from(limit);
        let ActiveSources { failed, limited, reported } = &self.active;
        let over_limit = || limited.latest_first().filter(|source| !failed.of.contains_key(source));
        // Those over a limit get at least a quarter of the places.
        let quarter = over_limit().take(limit / 4).count();
        let first: Vec<IpAddr> = failed.latest_first().take(limit - quarter).collect();
        let others: Vec<IpAddr> = over_limit().take(limit - first.len()).collect();
        let listed = first.len() + others.len();
        let known = failed.of.len() + over_limit().count();
        let sources = first.into_iter().chain(others);
        Ok(ActivePage {
            sources: sources.map(|source| self.active_source(source, now)).collect(),
            more: known.saturating_sub(listed) as u64,
            over_limit: *reported,
            packets: query.packets.iter().map(|net| self.datapath.packets(*net)).collect(),
            accounts: self.attacked_accounts(),
        })
    }

    fn active_source(&self, source: IpAddr, now: KernelTime) -> ActiveSource {
        let failed = self.active.failed.of.get(&source);
        let address = failed.map_or(source, |(_, failed)| failed.address);
        let limit = self.limited.get(address);
        let of = self.bans.ledger().of(address);
        let of: Vec<_> = of.into_iter().filter(|entry| entry.ban.in_force(now)).collect();
        let widest = of.iter().map(|entry| entry.ban.scope).max();
        let ban = last_to_end(of.into_iter().filter(|entry| Some(entry.ban.scope) == widest));
        let share = |near: &Near| near.points * 1000 / u64::from(near.maxretry.max(1));
        let last = failed.map(|(at, _)| *at).into_iter().chain(limit.map(|limit| limit.at));
        let failed = failed.map(|(_, failed)| failed);
        let network = self.source_of(address, now);
        let place = self.place(address);
        ActiveSource {
            source: show(network),
            address,
            last: self.started.show(last.max().unwrap_or(now)),
            failures: failed.map_or(0, |failed| failed.failures),
            class: failed.map(|failed| failed.class.as_str().to_owned()),
            account: failed.and_then(|failed| failed.account.as_deref().map(str::to_owned)),
            proven: failed.is_some_and(|failed| failed.proven),
            limit: limit.map(|limit| self.limit(limit)),
            over_limit: self.active.limited.of.get(&address).map_or(0, |(_, packets)| *packets),
            near: self.near(network.addr(), now).into_iter().max_by_key(share),
            ban: ban.map(|entry| self.ban_of(entry)),
            known: self.is_known(address, now),
            country: place.country.map(|country| country.to_string()),
            asn: place.asn,
        }
    }

    pub(super) fn attacked_accounts(&self) -> Vec<ActiveAccount> {
        let of_jail = self.jails.iter().flat_map(|jail| {
            let attacked = jail.attacked().iter().rev().take(ACCOUNTS_MAX);
            attacked.map(|attacked| (jail.name(), attacked))
        });
        let mut all: Vec<_> = of_jail.collect();
        all.sort_by_key(|(_, attacked)| std::cmp::Reverse(attacked.last));
        let all = all.into_iter().take(ACCOUNTS_MAX);
        let account = |(jail, attacked): (&str, &crate::jail::Attacked)| ActiveAccount {
            jail: jail.to_owned(),
            account: attacked.account.to_string(),
            failures: attacked.failures.into(),
            sources: attacked.sources as u64,
            last: self.started.show(attacked.last),
        };
        all.map(account).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use api::{Answer, Reply, Request};
    use filter_common::decision::Reason;

    use super::super::tests::{NoKernel, at, fail, started_with};
    use super::*;

    fn page(controller: &mut Controller<NoKernel>, query: ActiveQuery, now: u64) -> ActivePage {
        let answer = controller.answer(Request::Active(query), at(now));
        let Reply::Ok(Answer::Active(page)) = answer else { panic!("{answer:?}") };
        page
    }

    #[test]
    fn the_latest_come_first_and_say_what_they_are_near_to() {
        let mut controller = started_with(NoKernel::default(), |_default| {});
        fail(&mut controller, [203, 0, 113, 7], 15);
        fail(&mut controller, [203, 0, 113, 8], 3);
        controller.observe(
            &Attempt {
                account: Some("\u{202e}1001".to_owned()),
                proven: true,
                ..Attempt::new(Verdict::Failure, Class::UnknownAccount, [203, 0, 113, 8].into())
            },
            0,
            "asterisk-wazo",
            at(20),
        );
        let limited =
            Limited { source: [203, 0, 113, 9].into(), reason: Reason::RegisterLimit, at: at(30) };
        controller.limit_exceeded(limited);
        // Trusted.
        controller.limit_exceeded(Limited { source: [198, 51, 100, 1].into(), ..limited });
        let packets = vec!["203.0.113.7/32".parse().unwrap(), "192.0.2.1/32".parse().unwrap()];
        let page = page(&mut controller, ActiveQuery { limit: None, packets }, 40);
        let named: Vec<&str> = page.sources.iter().map(|source| &*source.source).collect();
        assert_eq!(named, ["203.0.113.8", "203.0.113.7", "203.0.113.9"]);
        let [near, banned, over] = &page.sources[..] else { panic!("{page:?}") };
        assert_eq!((near.failures, near.proven), (4, true));
        assert_eq!(near.account.as_deref(), Some("\u{202e}1001"));
        let at_jail = near.near.as_ref().unwrap();
        assert_eq!((&*at_jail.jail, at_jail.failures), ("asterisk-wazo", 4));
        assert_eq!((near.ban.is_some(), banned.ban.is_some()), (false, true));
        assert_eq!(over.limit.as_ref().unwrap().reason, "register-limit");
        assert_eq!((over.failures, &over.class), (0, &None));
        assert_eq!((page.more, page.packets.len()), (0, 2));
    }

    #[test]
    fn however_many_attack_the_answer_is_bounded() {
        let mut controller = started_with(NoKernel::default(), |_default| {});
        for number in 0..20_000_u32 {
            let [_, b, c, d] = number.to_be_bytes();
            fail(&mut controller, [10, b, c, d], 1);
            let source = [11, b, c, d].into();
            let at = at(u64::from(number));
            controller.limit_exceeded(Limited { source, reason: Reason::InviteLimit, at });
        }
        let all = page(&mut controller, ActiveQuery::default(), 20_000);
        let over = all.sources.iter().filter(|source| source.class.is_none()).count();
        assert_eq!((all.sources.len(), over), (64, 16));
        assert_eq!(all.more, 2 * KEPT as u64 - 64);
        let limit = NonZeroU16::new(7);
        let few = page(&mut controller, ActiveQuery { limit, ..ActiveQuery::default() }, 20_000);
        assert_eq!((few.sources.len(), few.more), (7, 2 * KEPT as u64 - 7));
        let packets = vec!["192.0.2.1/32".parse().unwrap(); PACKETS_MAX + 1];
        let asked = Request::Active(ActiveQuery { limit: None, packets });
        let answer = controller.answer(asked, at(20_000));
        assert!(
            matches!(&answer, Reply::Error(why) if format!("{why:?}").contains("at most 64")),
            "{answer:?}"
        );
    }
}

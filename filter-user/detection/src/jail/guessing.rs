//! Finds guessing that is too slow for `findtime` or comes from too many sources for `maxretry`, by counting
//! failures by source and by account over days.
//!
//! Finds suspects among the sources of failures. For each pair of a source and the hash of an account, it
//! counts the failures in each eighth of the time. A source is a suspect by itself after a number of
//! failures or on a number of accounts. An account is attacked after a number of failures from a number
//! of sources; then each of these sources that has failed on it a few times is also a suspect. A source
//! without failures is never a suspect, and a success clears its source. A suspect because of its accounts remains
//! on record: a tenth as many further accounts make it one again.

mod counts;

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use self::counts::{Counts, Slot};
use super::table::{Dated, Key, RANKS, Table};
use super::tick::Tick;
use super::watched::key;
use crate::clock::KernelTime;
use crate::duration;
use crate::settings::GuessingSettings;

/// The most sources that are remembered, and the most accounts.
const KEYS_MAX: usize = 32_768;

/// The most pairs of source and account that are remembered.
const PAIRS_MAX: usize = 2 * KEYS_MAX;

/// The most accounts of one source that are remembered, and the most sources of one account.
const PAIRS_OF_ONE_MAX: usize = 256;

/// The most attacked accounts that are remembered for the command `jails`.
const ATTACKED_MAX: usize = 64;

/// Among a source's accounts, the failures without a name. Among an account's sources, those that are
/// no longer remembered individually: no packet comes from this address.
const OTHERS: Key = Ipv6Addr::UNSPECIFIED;

/// Failures of sources and on accounts, over days.
#[derive(Debug)]
pub(super) struct Guessing {
    settings: GuessingSettings,
    /// A source's accounts.
    sources: Table<Pair>,
    /// An account's sources.
    accounts: Table<Pair>,
    attacked: Vec<Attacked>,
    /// The pairs that are being examined.
    pairs: Vec<Pair>,
}

/// The failures of one source on one account.
#[derive(Clone, Debug)]
struct Pair {
    /// The account's hash, or the source.
    other: Key,
    last: Tick,
    counts: Counts,
    /// How many failures have not yet led to a ban decision.
    open: u8,
    /// Whether the account was one of those that made the source a suspect, and if so, whether all of these were
    /// proven.
    decided: Option<bool>,
}

impl Dated for Pair {
    fn at(&self) -> Tick {
        self.last
    }
}

/// A failure, reduced to what matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guess<'a> {
    pub(super) source: IpAddr,
    /// The hash and the name of its account, if it has one.
    pub(super) account: Option<(NonZeroU32, &'a str)>,
    pub(super) proven: bool,
}

/// A source that has guessed too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) source: IpAddr,
    /// How many of its failures count.
    pub(super) failures: u32,
    /// Whether there are enough proven failures on their own.
    pub(super) proven: bool,
    /// The reason, in words.
    pub(super) reason: String,
}

/// An account that is attacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attacked {
    /// Its name: attackers' text, at most [`ACCOUNT_MAX`](crate::failure::ACCOUNT_MAX) bytes.
    pub account: Box<str>,
    /// Failures on it.
    pub failures: u32,
    /// The number of their sources; if there are very many, of those that failed most recently.
    pub sources: usize,
    /// When the last of them was reported.
    pub last: KernelTime,
}

impl Guessing {
    pub(super) fn new(settings: GuessingSettings) -> Self {
        Self {
            settings,
            sources: Table::new(KEYS_MAX, PAIRS_MAX),
            accounts: Table::new(KEYS_MAX, PAIRS_MAX),
            attacked: Vec::new(),
            pairs: Vec::new(),
        }
    }

    /// The accounts that have been attacked within the time.
    pub(super) fn attacked(&self) -> &[Attacked] {
        &self.attacked
    }

    /// Takes a failure, and adds the resulting suspects to `suspects`.
    pub(super) fn observe(
        &mut self,
        guess: Guess<'_>,
        now: KernelTime,
        suspects: &mut Vec<Suspect>,
    ) {
        let slot = Slot::of(now, self.settings.findtime);
        if self.settings.maxretry > 0 || self.settings.maxaccounts > 0 {
            let other = guess.account.map_or(OTHERS, |(account, _)| account_key(account));
            self.take(Side::Sources, key(guess.source), now);
            self.count(other, guess.proven, slot, now);
            suspects.extend(self.judge_source(guess.source));
        }
        if self.settings.maxretry > 0
            && let Some((account, name)) = guess.account
        {
            self.take(Side::Accounts, account_key(account), now);
            self.count(key(guess.source), guess.proven, slot, now);
            self.judge_account(account, name, now, suspects);
        }
    }

    /// Marks a recent failure as proven.
    pub(super) fn prove(&mut self, guess: Guess<'_>, now: KernelTime, suspects: &mut Vec<Suspect>) {
        let slot = Slot::of(now, self.settings.findtime);
        let account = guess.account.map(|(account, _)| account_key(account));
        if self.take(Side::Sources, key(guess.source), now) {
            self.prove_one(account.unwrap_or(OTHERS), slot);
            suspects.extend(self.judge_source(guess.source));
        }
        if let Some((account, name)) = guess.account
            && self.take(Side::Accounts, account_key(account), now)
        {
            self.prove_one(key(guess.source), slot);
            self.judge_account(account, name, now, suspects);
        }
    }

    /// Forgets a source, and its failures on accounts.
    pub(super) fn forget(&mut self, source: IpAddr) {
        let source = key(source);
        let mut accounts = Vec::new();
        self.sources.take(source, |pair| accounts.push(pair.other));
        for account in accounts {
            self.pairs.clear();
            self.accounts.take(account, |pair| self.pairs.push(pair));
            self.pairs.reverse();
            self.pairs.retain(|pair| pair.other != source);
            let failures = self.pairs.iter().map(Pair::failures).sum();
            self.put(Side::Accounts, account, nearness(failures, self.settings.maxretry));
        }
    }

    /// Whether nothing is on record.
    pub(super) fn is_empty(&self) -> bool {
        self.sources.len() == 0 && self.accounts.len() == 0
    }

    /// The sources that have failures on record.
    pub(super) fn sources(&self) -> impl Iterator<Item = IpAddr> {
        self.sources.keys().map(|key| key.to_canonical())
    }

    /// Forgets at most `most` expired keys on either side. Returns the age of the oldest remaining one.
    pub(super) fn forget_old(&mut self, most: usize, now: KernelTime) -> Option<Duration> {
        let findtime = self.settings.findtime;
        self.attacked.retain(|attacked| now.since(attacked.last) < findtime);
        let sources = self.sources.forget_old(findtime, most, now, drop);
        let accounts = self.accounts.forget_old(findtime, most, now, drop);
        sources.max(accounts)
    }

    /// Takes the pairs of a key, without those that are too old.
    fn take(&mut self, side: Side, key: Key, now: KernelTime) -> bool {
        let Self { sources, accounts, pairs, settings, .. } = self;
        let slot = Slot::of(now, settings.findtime);
        let table = match side {
            Side::Sources => sources,
            Side::Accounts => accounts,
        };
        pairs.clear();
        let found = table.take(key, |pair| pairs.push(pair));
        pairs.reverse();
        for pair in pairs.iter_mut() {
            pair.counts.forget_old(slot);
        }
        // Pairs that have led to a decision have no failures left, but are still known.
        pairs.retain(|pair| pair.failures() > 0 || pair.last.age(now) < settings.findtime);
        found
    }

    fn put(&mut self, side: Side, key: Key, rank: u8) {
        let Self { sources, accounts, pairs, .. } = self;
        let table = match side {
            Side::Sources => sources,
            Side::Accounts => accounts,
        };
        if pairs.is_empty() {
            return;
        }
        table.make_room(pairs.len(), drop);
        let newest = pairs.drain(..).fold(None, |newest, pair| table.add(pair, newest));
        table.enter(key, newest, rank);
    }

    /// Counts a failure. Its pair becomes the latest.
    fn count(&mut self, other: Key, proven: bool, slot: Slot, now: KernelTime) {
        let known = self.pairs.iter().position(|pair| pair.other == other);
        let mut pair = known.map_or_else(
            || Pair { other, last: now.into(), counts: Counts::new(slot), open: 0, decided: None },
            |known| self.pairs.remove(known),
        );
        if known.is_none() && self.pairs.len() >= PAIRS_OF_ONE_MAX {
            self.fold_oldest();
        }
        pair.last = now.into();
        pair.counts.add(slot, proven);
        pair.open = pair.open.saturating_add(1);
        self.pairs.push(pair);
    }

    /// Adds the counts of the oldest pair to those of the others.
    fn fold_oldest(&mut self) {
        let Some(oldest) = self.pairs.iter().position(|pair| pair.other != OTHERS) else { return };
        let oldest = self.pairs.remove(oldest);
        match self.pairs.iter_mut().find(|pair| pair.other == OTHERS) {
            Some(others) => others.counts.add_all(&oldest.counts),
            None => self.pairs.insert(0, Pair { other: OTHERS, open: 0, ..oldest }),
        }
    }

    fn prove_one(&mut self, other: Key, slot: Slot) {
        if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.other == other) {
            pair.counts.prove_one(slot);
        }
    }

    /// Whether the source whose accounts were taken is a suspect; if not, its accounts are put back.
    fn judge_source(&mut self, source: IpAddr) -> Option<Suspect> {
        let GuessingSettings { findtime, maxretry, .. } = self.settings;
        let (all, proven) = (self.tally(false), self.tally(true));
        let is_proven = proven.is_enough();
        if !all.is_enough() && !is_proven {
            let rank = nearness(all.failures, maxretry);
            self.put(Side::Sources, key(source), rank.max(nearness(all.accounts, all.most)));
            return None;
        }
        let tally = if is_proven { proven } else { all };
        let Tally { failures, accounts, most, .. } = tally;
        let again = if tally.was_suspect { " more" } else { "" };
        let on_accounts = reaches(accounts, most);
        for pair in &mut self.pairs {
            let count = if is_proven { pair.counts.proven() } else { pair.failures() };
            if on_accounts && pair.other != OTHERS && count > 0 {
                pair.decided = Some(is_proven || pair.decided == Some(true));
            }
            // Failures that made it a suspect by their accounts may still be proven.
            if reaches(failures, maxretry) {
                pair.counts.clear();
            }
        }
        self.put(Side::Sources, key(source), 0);
        let on =
            if on_accounts { format!(" on {accounts}{again} accounts") } else { String::new() };
        let reason = format!("{failures} failures{on} within {}", duration::format(findtime));
        Some(Suspect { source, failures, proven: is_proven, reason })
    }

    /// Sums up the failures on the accounts that were taken: all, or the proven ones.
    fn tally(&self, proven: bool) -> Tally {
        let GuessingSettings { maxretry, maxaccounts, .. } = self.settings;
        // Failures that may be forged must not make a few proven ones suspect.
        let has_led = |pair: &Pair| pair.decided.is_some_and(|was| was || !proven);
        let was_suspect = self.pairs.iter().any(has_led);
        let most = if was_suspect { maxaccounts.div_ceil(10) } else { maxaccounts };
        let mut tally = Tally { failures: 0, accounts: 0, was_suspect, maxretry, most };
        for pair in &self.pairs {
            let count = if proven { pair.counts.proven() } else { pair.counts.all() };
            let is_new = pair.other != OTHERS && count > 0 && !has_led(pair);
            tally.failures = tally.failures.saturating_add(count);
            tally.accounts += u32::from(is_new);
        }
        tally
    }

    /// Adds the suspects among the sources of an account, which were taken, and puts the sources back.
    fn judge_account(
        &mut self,
        account: NonZeroU32,
        name: &str,
        now: KernelTime,
        suspects: &mut Vec<Suspect>,
    ) {
        let GuessingSettings { findtime, maxretry, sources: least, each, .. } = self.settings;
        let failures = self.pairs.iter().map(Pair::failures).fold(0, u32::saturating_add);
        let counts = |pair: &&Pair| pair.other != OTHERS && pair.failures() > 0;
        let sources = self.pairs.iter().filter(counts).count();
        let is_attacked =
            failures >= maxretry && sources >= usize::try_from(least).unwrap_or(usize::MAX);
        if is_attacked {
            self.note(Attacked { account: name.into(), failures, sources, last: now });
            for pair in &mut self.pairs {
                let own = pair.failures();
                if pair.other == OTHERS || u32::from(pair.open) < each || own < each {
                    continue;
                }
                pair.open = 0;
                let reason = format!(
                    "{own} failures on the account {name}, on which {sources} sources have failed \
                     {failures} times within {}",
                    duration::format(findtime)
                );
                let source = pair.other.to_canonical();
                let proven = pair.counts.proven() >= each;
                suspects.push(Suspect { source, failures: own, proven, reason });
            }
        }
        self.put(Side::Accounts, account_key(account), nearness(failures, maxretry));
    }

    fn note(&mut self, attacked: Attacked) {
        self.attacked.retain(|known| known.account != attacked.account);
        if self.attacked.len() >= ATTACKED_MAX {
            self.attacked.remove(0);
        }
        self.attacked.push(attacked);
    }
}

/// Failures of a source.
#[derive(Clone, Copy, Debug)]
struct Tally {
    failures: u32,
    /// The accounts that have not made it a suspect before.
    accounts: u32,
    /// Whether others have.
    was_suspect: bool,
    maxretry: u32,
    /// How many accounts are too many.
    most: u32,
}

impl Tally {
    fn is_enough(&self) -> bool {
        reaches(self.failures, self.maxretry) || reaches(self.accounts, self.most)
    }
}

fn reaches(count: u32, most: u32) -> bool {
    most > 0 && count >= most
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Sources,
    Accounts,
}

impl Pair {
    fn failures(&self) -> u32 {
        self.counts.all()
    }
}

fn account_key(account: NonZeroU32) -> Key {
    Ipv6Addr::from_bits(account.get().into())
}

/// The rank of a count: how close `count` is to `most`.
fn nearness(count: u32, most: u32) -> u8 {
    let steps = u64::from(count) * u64::from(RANKS - 1);
    let rank = steps.checked_div(most.into()).unwrap_or(0);
    u8::try_from(rank).unwrap_or(u8::MAX).min(RANKS - 1)
}

#[cfg(test)]
mod tests;

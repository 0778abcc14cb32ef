//! Sums up the failures of a source.

use std::num::NonZeroU32;

use super::Evidence;
use super::watched::Failure;
use crate::duration;
use crate::failure::Class;
use crate::settings::JailSettings;

/// The sum of some failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) failures: usize,
    /// The sum of their weights.
    pub(super) points: u64,
    /// The number of distinct accounts.
    pub(super) accounts: usize,
}

impl Tally {
    /// Counts failures from scratch. `scratch` is reusable memory.
    pub(super) fn of<'a>(
        failures: impl Iterator<Item = &'a Failure>,
        settings: &JailSettings,
        scratch: &mut Vec<NonZeroU32>,
    ) -> Self {
        scratch.clear();
        let mut tally = Self { failures: 0, points: 0, accounts: 0 };
        for failure in failures {
            tally.failures += 1;
            tally.points += u64::from(settings.weight(failure.class));
            scratch.extend(failure.account);
        }
        scratch.sort_unstable();
        scratch.dedup();
        tally.accounts = scratch.len();
        tally
    }

    /// Whether this is enough for a ban decision.
    pub(super) fn is_enough(self, settings: &JailSettings) -> bool {
        self.points >= settings.maxretry.into() || self.has_accounts(settings)
    }

    fn has_accounts(self, settings: &JailSettings) -> bool {
        let most = usize::try_from(settings.maxaccounts).unwrap_or(usize::MAX);
        most > 0 && self.accounts >= most
    }

    /// How close this is to a ban decision, from 0 to `whole`.
    pub(super) fn nearness(self, whole: u8, settings: &JailSettings) -> u8 {
        let part = |of: u64, all: u32| {
            let steps = of.saturating_mul(whole.into()).checked_div(all.into());
            steps.map_or(0, |steps| u8::try_from(steps).unwrap_or(u8::MAX))
        };
        let accounts = u64::try_from(self.accounts).unwrap_or(u64::MAX);
        part(self.points, settings.maxretry).max(part(accounts, settings.maxaccounts)).min(whole)
    }

    /// The reason in words, with the last failure.
    pub(super) fn reason(self, last: Option<&Evidence>, settings: &JailSettings) -> String {
        let Self { failures, points, accounts } = self;
        let within = duration::format(settings.findtime);
        if let Some(Evidence { class: Class::Ban, source, .. }) = last {
            return format!("{failures} bans within {within}, the last one by {source}");
        }
        let last = last.map_or("failure", |last| last.class.as_str());
        let weight = match u64::try_from(failures) {
            Ok(failures) if failures == points => String::new(),
            _ => format!(" that count {points}"),
        };
        let accounts = self.has_accounts(settings).then(|| format!(" on {accounts} accounts"));
        let accounts = accounts.unwrap_or_default();
        format!("{failures} failures{weight}{accounts} within {within}, the last one {last}")
    }
}

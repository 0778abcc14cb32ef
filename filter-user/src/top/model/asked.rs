//! What is asked of the daemon for each tab, and what its answers change.
//!
//! Must never ask for all bans.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::time::Duration;

use anyhow::Result;
use api::{
    ActivePage, ActiveQuery, AllowChanged, BanOrder, Banned, BansPage, BansQuery, Lifted, Request,
    Status, Why,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Model, Moment, Over, Sort, Trouble};
use crate::ban_list::network;
use crate::top::safe::safe;
use crate::top::view::{Tab, Tone, Window};
use crate::{client, decided, report};

/// How often a daemon that does not answer is tried.
const RETRY: Duration = Duration::from_secs(2);

/// The bans on a page.
pub(super) const BANS_PAGE: u16 = 64;

/// The most bans that the daemon examines for an order in one answer; with more they are listed by address.
const SORTED_MAX: u64 = 4096;

/// The same for the order by packets.
const SORTED_BY_PACKETS_MAX: u64 = 1024;

/// How many bans with most packets are taken from each part of all bans, to find attackers that go on.
pub(super) const OBSERVED: u16 = 16;

impl Model {
    /// What each tab needs.
    pub(super) fn round_of(&self, tab: Tab) -> VecDeque<Request> {
        let mut round = VecDeque::from([Request::Status]);
        match tab {
            Tab::Overview | Tab::Attackers => {
                let packets = self.attackers.asked();
                let active = ActiveQuery { limit: None, packets };
                round.push_back(Request::Active(active));
                if self.status.as_ref().is_some_and(|status| status.bans.active > 0) {
                    round.push_back(Request::Bans(BansQuery {
                        first: Some(BanOrder::Packets),
                        limit: NonZeroU16::new(OBSERVED),
                        after: self.pages.observed,
                        ..BansQuery::default()
                    }));
                }
            }
            Tab::Bans => round.push_back(Request::Bans(self.bans_query())),
            Tab::Sources | Tab::Interfaces => {}
        }
        round
    }

    /// The page of bans that is shown. All bans are never asked for.
    pub(super) fn bans_query(&self) -> BansQuery {
        let order = match self.sort {
            Sort::First => Some(BanOrder::Newest),
            Sort::Second => Some(BanOrder::End),
            Sort::Third => Some(BanOrder::Packets),
            Sort::Address => None,
        };
        let inside = network(&self.filter).ok();
        let is_jail = |status: &Status| status.jails.iter().any(|jail| jail.name == self.filter);
        let jail = self.status.as_ref().is_some_and(is_jail).then(|| self.filter.clone());
        BansQuery {
            jail,
            inside,
            after: self.pages.begins.last().copied().flatten(),
            limit: NonZeroU16::new(BANS_PAGE),
            first: order.filter(|order| self.can_sort(*order)),
            ..BansQuery::default()
        }
    }

    /// Whether the bans are few enough for an order.
    fn can_sort(&self, order: BanOrder) -> bool {
        let max = match order {
            BanOrder::Newest | BanOrder::End => SORTED_MAX,
            BanOrder::Packets => SORTED_BY_PACKETS_MAX,
        };
        self.status.as_ref().is_some_and(|status| status.bans.active <= max)
    }

    /// Takes the answer to the last request.
    pub(in crate::top) fn take(
        &mut self,
        request: &Request,
        answer: Result<Value, Trouble>,
        now: Moment,
    ) {
        self.since = None;
        match answer {
            Ok(answer) => {
                if let Err(why) = self.understand(request, answer, now) {
                    self.say(&format!("{why:#}"), Tone::Bad, now);
                }
            }
            Err(trouble) if trouble.is_down => self.lose(request, &trouble, now),
            Err(trouble) => self.say(&trouble.text, Tone::Bad, now),
        }
        // Once a round: each drawing costs, over a slow connection.
        if self.round.is_empty() {
            self.is_changed = true;
        }
    }

    fn lose(&mut self, request: &Request, trouble: &Trouble, now: Moment) {
        self.round.clear();
        self.next_round = now.at + self.settings.every.max(RETRY);
        if self.down.is_none() {
            let since = now.wall.to_zoned(self.settings.zone.clone());
            self.down = Some((since.strftime("%H:%M:%S").to_string(), trouble.text.clone()));
        } else if let Some((_, why)) = &mut self.down {
            why.clone_from(&trouble.text);
        }
        if request.changes() || matches!(request, Request::Why { .. }) {
            self.say(&format!("no answer: {}", trouble.text), Tone::Bad, now);
        }
    }

    fn understand(&mut self, request: &Request, answer: Value, now: Moment) -> Result<()> {
        fn read<T: DeserializeOwned>(answer: Value) -> Result<T> {
            client::read(answer)
        }
        if self.down.take().is_some() {
            self.say("the daemon answers again", Tone::Good, now);
        }
        match request {
            Request::Status => {
                let status: Status = read(answer)?;
                self.traffic.take(&status, now.at);
                self.status = Some(status);
            }
            Request::Active(_) => {
                let page: ActivePage = read(answer)?;
                self.accounts.clone_from(&page.accounts);
                let over_limit = self.traffic.over_limit.rate();
                self.attackers.take(page, &self.asked, over_limit, now.at);
            }
            Request::Bans(query) => {
                let page: BansPage = read(answer)?;
                if query.limit == NonZeroU16::new(OBSERVED) {
                    self.pages.observed = page.next;
                    self.attackers.observe(&page.bans, now.at);
                } else {
                    // With an order, an answer covers all bans.
                    self.pages.next = page.next.filter(|_| query.first.is_none());
                    self.pages.rows = page.bans;
                }
            }
            Request::Why { address } => {
                let why: Why = read(answer)?;
                let lines = report::why(&why).lines().map(safe).collect();
                self.over = Some(Over::Window(Window::new(format!("why {address}"), lines)));
            }
            Request::Ban { .. } => {
                let banned: Banned = read(answer)?;
                self.tell(&report::banned(&banned), now);
            }
            Request::Unban(_) => {
                let lifted: Lifted = read(answer)?;
                self.tell(&report::lifted(&lifted), now);
            }
            Request::Allow { .. } => {
                let changed: AllowChanged = read(answer)?;
                self.tell(&decided::allowed(&changed), now);
            }
            Request::BanMany { .. }
            | Request::TakeOver { .. }
            | Request::Jails
            | Request::Disallow { .. }
            | Request::Allows
            | Request::Peers { .. }
            | Request::Set { .. }
            | Request::History(_)
            | Request::Maintenance(_)
            | Request::Confirm
            | Request::Feeds
            | Request::FeedsConfirm { .. }
            | Request::PageLink
            | Request::Traffic(_)
            | Request::Alerts
            | Request::AlertsTest { .. }
            | Request::Fleet
            | Request::FleetReport(_)
            | Request::FleetBans(_)
            | Request::FleetAllows { .. }
            | Request::FleetCut { .. }
            | Request::FleetJoin { .. }
            | Request::Reload { .. } => {}
        }
        Ok(())
    }

    /// Shows what became of a change, and asks at once for what it has changed.
    fn tell(&mut self, text: &str, now: Moment) {
        let text: Vec<String> = text.lines().map(|line| safe(line.trim())).collect();
        self.say(&text.join("; "), Tone::Good, now);
        self.next_round = now.at;
    }
}

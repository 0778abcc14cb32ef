//! What is on the screen: the view of the state, and the row that is selected in it.
//!
//! Must never change anything but the selection.

use std::cmp::Reverse;

use api::{BanOrder, EnforcementState, Status};

use super::{Model, Moment, Over, SLOW, Sort};
use crate::report;
use crate::top::attackers::Attacker;
use crate::top::prompt::Prompt;
use crate::top::rates::short;
use crate::top::safe::safe;
use crate::top::tables::{self, Clock};
use crate::top::view::{Graph, Row, Tab, Table, Tone, View};

impl Model {
    /// What is to be seen.
    pub(in crate::top) fn view(&self, now: Moment) -> View {
        let graph = || Graph {
            passed: self.traffic.passed.iter().copied().collect(),
            dropped: self.traffic.dropped.iter().copied().collect(),
        };
        let window = match &self.over {
            Some(Over::Window(window)) => Some(window.clone()),
            Some(Over::Prompt(_) | Over::Question(..)) | None => None,
        };
        View {
            head: self.head(now),
            tab: self.tab,
            traffic: (self.tab == Tab::Overview).then(graph),
            tables: self.tables(now),
            foot: self.foot(now),
            window,
        }
    }

    /// The tables of the tab. Rows of the last one can be selected.
    fn tables(&self, now: Moment) -> Vec<Table> {
        let Some(status) = &self.status else { return Vec::new() };
        let clock = self.clock(now);
        let attackers = || tables::attackers(self.attackers_now(now).into_iter(), &clock);
        let mut tables = match self.tab {
            Tab::Overview => {
                vec![tables::reasons(status, &self.traffic), tables::jails(status), attackers()]
            }
            Tab::Attackers => {
                let accounts = tables::accounts(&self.accounts, &clock);
                accounts.into_iter().chain([attackers()]).collect()
            }
            Tab::Bans => vec![tables::jails(status), tables::bans(&self.pages.rows, &clock)],
            Tab::Sources => vec![tables::sources(status, &clock)],
            Tab::Interfaces => {
                let interfaces = tables::interfaces(status, &self.traffic);
                vec![interfaces, tables::faults(status)]
            }
        };
        if let Some(last) = tables.last_mut() {
            // The daemon has filtered the bans.
            let query = self.bans_query();
            let is_done = self.tab == Tab::Bans && (query.jail.is_some() || query.inside.is_some());
            let filter = self.filter.to_lowercase();
            if !is_done && !filter.is_empty() {
                let has = |cell: &String| cell.to_lowercase().contains(&filter);
                last.rows.retain(|row| row.cells.iter().any(has));
                "nothing that is shown contains the filter".clone_into(&mut last.empty);
            }
            let place = Tab::ALL.iter().position(|tab| *tab == self.tab);
            last.selected = place.and_then(|place| self.selected.get(place)).cloned().flatten();
        }
        tables
    }

    /// The state of the daemon, the most important first.
    fn head(&self, now: Moment) -> Vec<(String, Tone)> {
        let mut head = Vec::new();
        if let Some((since, why)) = &self.down {
            head.push((format!("NO ANSWER since {since}: {}", safe(why)), Tone::Bad));
            return head;
        }
        let waits = self.since.filter(|since| now.at.saturating_sub(*since) >= SLOW);
        if let Some(since) = waits {
            let seconds = now.at.saturating_sub(since).as_secs();
            head.push((format!("waiting for an answer for {seconds} s"), Tone::Warning));
        }
        let Some(status) = &self.status else {
            head.push(("asking the daemon".to_owned(), Tone::Plain));
            return head;
        };
        if self.is_paused {
            head.push(("PAUSED".to_owned(), Tone::Warning));
        }
        head.push(enforcement(status));
        if status.maintenance.on {
            head.push(("SIP CLOSED for maintenance".to_owned(), Tone::Warning));
        }
        let faults = tables::faults(status).rows;
        if let Some(worst) = faults.iter().map(|row| row.tone).max() {
            let count = report::count(faults.len() as u64, "fault");
            head.push((format!("{count} (5)"), worst));
        }
        head.push((report::count(status.bans.active, "ban"), Tone::Plain));
        head.push((report::count(status.peers.known, "known peer"), Tone::Plain));
        head.push((tables::uptime(status.uptime_seconds), Tone::Dim));
        head.push((format!("ringfence {}", safe(&status.version)), Tone::Dim));
        head
    }

    /// The line at the bottom: what is typed, a message, or the keys.
    fn foot(&self, now: Moment) -> (String, Tone) {
        match &self.over {
            Some(Over::Prompt(prompt)) => {
                let Prompt { purpose, text, wrong } = prompt;
                return match wrong {
                    Some(wrong) => {
                        (format!("{}: {text}_ ({})", purpose.title(), safe(wrong)), Tone::Bad)
                    }
                    None => (format!("{}: {text}_", purpose.title()), Tone::Plain),
                };
            }
            Some(Over::Question(_, question)) => {
                return (format!("{question} (y/n)"), Tone::Warning);
            }
            Some(Over::Window(_)) => {
                return ("Escape closes, up and down scroll".to_owned(), Tone::Dim);
            }
            None => {}
        }
        if let Some((text, tone, _)) = self.message.as_ref().filter(|(.., end)| now.at < *end) {
            return (text.clone(), *tone);
        }
        let mut parts = Vec::new();
        if !self.filter.is_empty() {
            parts.push(format!("filter: {} (Esc)", self.filter));
        }
        if let Some(order) = self.order() {
            parts.push(order);
        }
        parts.push(
            "? help  q quit  w why  b ban  u unban  a allow  / filter  s sort  p pause".to_owned(),
        );
        (parts.join("  "), Tone::Dim)
    }

    /// The order and the page of what is shown, if there is a choice.
    fn order(&self) -> Option<String> {
        if self.tab == Tab::Attackers {
            let by = match self.sort {
                Sort::First => "rate",
                Sort::Second => "failures",
                Sort::Third => "packets",
                Sort::Address => "address",
            };
            return Some(format!("by {by}"));
        }
        if self.tab != Tab::Bans {
            return None;
        }
        let query = self.bans_query();
        let by = match query.first {
            Some(BanOrder::Newest) => "newest",
            Some(BanOrder::End) => "end",
            Some(BanOrder::Packets) => "packets",
            None if self.sort == Sort::Address => "address",
            None => "address (too many to sort)",
        };
        let page = self.pages.begins.len() + 1;
        let more = if self.pages.next.is_some() { ", n for more" } else { "" };
        Some(format!("by {by}, page {}{more}", short(page as u64)))
    }

    pub(super) fn clock(&self, now: Moment) -> Clock {
        Clock { wall: now.wall, zone: self.settings.zone.clone() }
    }

    /// The attackers in the chosen order.
    pub(in crate::top) fn attackers_now(&self, now: Moment) -> Vec<&Attacker> {
        let mut all: Vec<&Attacker> = self.attackers.active(now.at, now.wall).collect();
        let failures =
            |attacker: &Attacker| attacker.known_as.as_ref().map_or(0, |known| known.failures);
        let packets = |attacker: &Attacker| attacker.ban.as_ref().map_or(0, |ban| ban.packets);
        // In steps, so that lines do not change places all the time.
        let step = |number: u64| u64::BITS - number.leading_zeros();
        match self.sort {
            Sort::First => {
                all.sort_by_key(|a| (Reverse(step(a.rate().unwrap_or_default().0)), a.network));
            }
            Sort::Second => all.sort_by_key(|a| (Reverse(failures(a)), a.network)),
            Sort::Third => all.sort_by_key(|a| (Reverse(step(packets(a))), a.network)),
            Sort::Address => {}
        }
        all
    }

    pub(super) fn selected_row(&self, now: Moment) -> Option<Row> {
        let table = self.tables(now).pop()?;
        table.place().and_then(|place| table.rows.get(place)).cloned()
    }

    /// The key of the selected row.
    pub(super) fn selection(&self, now: Moment) -> Option<String> {
        self.selected_row(now).map(|row| row.key)
    }

    fn selected_mut(&mut self) -> Option<&mut Option<String>> {
        let place = Tab::ALL.iter().position(|tab| *tab == self.tab)?;
        self.selected.get_mut(place)
    }

    /// Selects the row that is this far away.
    pub(super) fn select(&mut self, now: Moment, by: isize) {
        let Some(table) = self.tables(now).pop() else { return };
        let Some(last) = table.rows.len().checked_sub(1) else { return };
        let place = match table.place() {
            Some(place) => place.saturating_add_signed(by).min(last),
            None if by < 0 => last,
            None => 0,
        };
        let key = table.rows.get(place).map(|row| row.key.clone());
        if let Some(selected) = self.selected_mut() {
            *selected = key;
        }
    }
}

/// Whether packets are dropped.
pub(in crate::top) fn enforcement(status: &Status) -> (String, Tone) {
    let (text, tone) = match status.enforcement.state {
        EnforcementState::Enforcing => ("enforcing", Tone::Good),
        EnforcementState::Unconfirmed => ("enforcing, NOT CONFIRMED", Tone::Warning),
        EnforcementState::Lapsed => ("NOT CONFIRMED: drops nothing", Tone::Bad),
        EnforcementState::DryRun => ("DRY RUN: drops nothing", Tone::Warning),
        EnforcementState::Disabled => ("DISABLED: drops nothing", Tone::Bad),
    };
    (text.to_owned(), tone)
}

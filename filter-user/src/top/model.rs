//! The state of `top`: answers and keys enter, requests and the view leave. It uses no clock, socket or terminal.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use anyhow::Result;
use api::{
    ActiveAccount, ActivePage, ActiveQuery, AllowChanged, BanOrder, BanPlace, BanRow, Banned,
    BansPage, BansQuery, EnforcementState, Lifted, Request, Status, Why,
};
use ipnet::IpNet;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::attackers::{Attacker, Attackers};
use super::key::{HELP, Key};
use super::prompt::{Prompt, Purpose, Typed};
use super::rates::{Traffic, short};
use super::safe::safe;
use super::tables::{self, Clock};
use super::view::{Graph, Row, Tab, Table, Tone, View, Window};
use crate::ban_list::network;
use crate::{client, decided, report};

/// How often a daemon that does not answer is tried.
const RETRY: Duration = Duration::from_secs(2);

/// How long an answer may take before this is shown.
const SLOW: Duration = Duration::from_secs(2);

/// How long a message is shown.
const SHOWN_FOR: Duration = Duration::from_secs(15);

/// The bans on a page.
const BANS_PAGE: u16 = 64;

/// The most bans that the daemon examines for an order in one answer; with more they are listed by address.
const SORTED_MAX: u64 = 4096;

/// The same for the order by packets.
const SORTED_BY_PACKETS_MAX: u64 = 1024;

/// How many bans with most packets are taken from each part of all bans, to find attackers that go on.
const OBSERVED: u16 = 16;

/// The settings.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// How often the daemon is asked.
    pub(super) every: Duration,
    /// Whether this user is root.
    pub(super) may_change: bool,
    /// Where this user is logged in from.
    pub(super) session: Option<IpAddr>,
    /// The time zone of the host.
    pub(super) zone: TimeZone,
}

/// A moment: since the start, and on the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Duration,
    pub(super) wall: Timestamp,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) text: String,
    /// Whether the daemon is not there or does not answer, rather than refuse.
    pub(super) is_down: bool,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    GoOn,
    Quit,
}

/// What covers the rest of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Over {
    Window(Window),
    Prompt(Prompt),
    /// A request that waits for a yes.
    Question(Box<Request>, String),
}

/// The order of attackers and bans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sort {
    /// The highest rate, the newest ban.
    #[default]
    First,
    /// The most failures, the ban that ends first.
    Second,
    /// The most packets.
    Third,
    Address,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::Third,
            Self::Third => Self::Address,
            Self::Address => Self::First,
        }
    }
}

/// The pages of bans.
#[derive(Debug, Default)]
struct Pages {
    rows: Vec<BanRow>,
    /// Where the page begins, after those before it.
    begins: Vec<Option<BanPlace>>,
    next: Option<BanPlace>,
    /// Where the observation of all bans is.
    observed: Option<BanPlace>,
}

/// The state.
#[derive(Debug)]
pub(super) struct Model {
    settings: Settings,
    status: Option<Status>,
    /// Since when and why the daemon does not answer.
    down: Option<(String, String)>,
    pub(super) traffic: Traffic,
    pub(super) attackers: Attackers,
    pub(super) accounts: Vec<ActiveAccount>,
    pages: Pages,
    tab: Tab,
    over: Option<Over>,
    message: Option<(String, Tone, Duration)>,
    filter: String,
    sort: Sort,
    is_paused: bool,
    /// The key of the selected row, for each tab.
    selected: [Option<String>; Tab::ALL.len()],
    /// What the user waits for.
    wanted: VecDeque<Request>,
    /// What is left of this round of questions.
    round: VecDeque<Request>,
    /// Networks that the last request asked for.
    asked: Vec<IpNet>,
    since: Option<Duration>,
    next_round: Duration,
    is_changed: bool,
    wants_redraw: bool,
}

impl Model {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            status: None,
            down: None,
            traffic: Traffic::default(),
            attackers: Attackers::default(),
            accounts: Vec::new(),
            pages: Pages::default(),
            tab: Tab::default(),
            over: None,
            message: None,
            filter: String::new(),
            sort: Sort::default(),
            is_paused: false,
            selected: Default::default(),
            wanted: VecDeque::new(),
            round: VecDeque::new(),
            asked: Vec::new(),
            since: None,
            next_round: Duration::ZERO,
            is_changed: true,
            wants_redraw: false,
        }
    }

    /// The next request to send. There is only one at a time.
    pub(super) fn request(&mut self, now: Moment) -> Option<Request> {
        if self.since.is_some() {
            return None;
        }
        let request = if let Some(wanted) = self.wanted.pop_front() {
            wanted
        } else if let Some(next) = self.round.pop_front() {
            next
        } else if !self.is_paused && now.at >= self.next_round {
            self.next_round = now.at + self.settings.every;
            self.round = self.round_of(self.tab);
            self.round.pop_front()?
        } else {
            return None;
        };
        if let Request::Active(query) = &request {
            self.asked.clone_from(&query.packets);
        }
        self.since = Some(now.at);
        Some(request)
    }

    /// What each tab needs.
    fn round_of(&self, tab: Tab) -> VecDeque<Request> {
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
    fn bans_query(&self) -> BansQuery {
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
    pub(super) fn take(&mut self, request: &Request, answer: Result<Value, Trouble>, now: Moment) {
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
                self.over = Some(Over::Window(window(format!("why {address}"), lines)));
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

    fn say(&mut self, text: &str, tone: Tone, now: Moment) {
        self.message = Some((safe(text), tone, now.at + SHOWN_FOR));
        self.is_changed = true;
    }

    /// Takes a key.
    pub(super) fn key(&mut self, key: Key, now: Moment) -> Flow {
        self.is_changed = true;
        if key == Key::Interrupt {
            return Flow::Quit;
        }
        if key == Key::Redraw {
            self.wants_redraw = true;
            return Flow::GoOn;
        }
        match self.over.take() {
            Some(Over::Prompt(prompt)) => self.type_into(prompt, key, now),
            Some(Over::Question(request, question)) => {
                if matches!(key, Key::Char('y' | 'Y')) {
                    self.wanted.push_back(*request);
                } else if key == Key::Char('n') || key == Key::Escape || key == Key::Char('N') {
                    self.say("nothing is changed", Tone::Plain, now);
                } else {
                    self.over = Some(Over::Question(request, question));
                }
            }
            Some(Over::Window(window)) => self.over = scrolled(window, key).map(Over::Window),
            None => return self.command(key, now),
        }
        Flow::GoOn
    }

    fn type_into(&mut self, mut prompt: Prompt, key: Key, now: Moment) {
        match prompt.key(key) {
            Typed::Left => return,
            Typed::More => {}
            Typed::Done if prompt.purpose == Purpose::Filter => {
                prompt.text.trim().clone_into(&mut self.filter);
                self.first_page(now);
                return;
            }
            Typed::Done => match prompt.request(self.settings.session) {
                Ok((request, _)) if prompt.purpose == Purpose::Why => {
                    self.wanted.push_back(request);
                    return;
                }
                Ok((request, question)) => {
                    self.over = Some(Over::Question(Box::new(request), question));
                    return;
                }
                Err(why) => prompt.wrong = Some(why),
            },
        }
        self.over = Some(Over::Prompt(prompt));
    }

    fn command(&mut self, key: Key, now: Moment) -> Flow {
        match key {
            Key::Char('q') => return Flow::Quit,
            Key::Char('?' | 'h') => {
                let line = |(keys, what): &(&str, &str)| format!("{keys:<15} {what}");
                let lines = HELP.iter().map(line).collect();
                self.over = Some(Over::Window(window("help".to_owned(), lines)));
            }
            Key::Char(digit @ '1'..='5') => {
                let place = digit.to_digit(10).unwrap_or(1).saturating_sub(1);
                let place = usize::try_from(place).unwrap_or(0);
                self.show(Tab::ALL.get(place).copied().unwrap_or_default(), now);
            }
            Key::Tab => self.show(self.tab.right(1), now),
            Key::BackTab => self.show(self.tab.right(Tab::ALL.len() - 1), now),
            Key::Char('p' | ' ') => {
                self.is_paused = !self.is_paused;
                self.next_round = now.at;
            }
            Key::Char('s') => {
                self.sort = self.sort.next();
                self.first_page(now);
            }
            Key::Char('/') => self.prompt(Purpose::Filter, now),
            Key::Char('W') => self.prompt(Purpose::Why, now),
            Key::Char('b') => self.prompt(Purpose::Ban, now),
            Key::Char('u') => self.prompt(Purpose::Unban, now),
            Key::Char('a') => self.prompt(Purpose::Allow, now),
            Key::Char('w') | Key::Enter => self.explain(now),
            Key::Escape => {
                self.message = None;
                if !self.filter.is_empty() {
                    self.filter.clear();
                    self.first_page(now);
                }
            }
            Key::Char('n') => self.turn_page(true, now),
            Key::Char('N') => self.turn_page(false, now),
            Key::Down | Key::Char('j') => self.select(now, 1),
            Key::Up | Key::Char('k') => self.select(now, -1),
            Key::PageDown => self.select(now, 10),
            Key::PageUp => self.select(now, -10),
            Key::Home => self.select(now, isize::MIN),
            Key::End => self.select(now, isize::MAX),
            Key::Char(_) | Key::Backspace | Key::EraseLine | Key::Redraw | Key::Interrupt => {}
        }
        Flow::GoOn
    }

    fn show(&mut self, tab: Tab, now: Moment) {
        if self.tab == tab {
            return;
        }
        self.tab = tab;
        self.first_page(now);
    }

    /// Begins the list of bans again, and asks at once for what is shown.
    fn first_page(&mut self, now: Moment) {
        self.pages.begins.clear();
        (self.pages.next, self.pages.rows) = (None, Vec::new());
        self.next_round = now.at;
    }

    fn turn_page(&mut self, forward: bool, now: Moment) {
        if self.tab != Tab::Bans {
            return;
        }
        match (forward, self.pages.next.take()) {
            (true, Some(next)) => self.pages.begins.push(Some(next)),
            (true, None) => self.say("this is the last page", Tone::Plain, now),
            (false, _) => {
                if self.pages.begins.pop().is_none() {
                    self.say("this is the first page", Tone::Plain, now);
                }
            }
        }
        self.next_round = now.at;
    }

    fn prompt(&mut self, purpose: Purpose, now: Moment) {
        let is_change = matches!(purpose, Purpose::Ban | Purpose::Unban | Purpose::Allow);
        if is_change && !self.settings.may_change {
            let command = purpose.command();
            let text = format!("only root may {command}: quit, and type `sudo ringfence top`");
            return self.say(&text, Tone::Warning, now);
        }
        let text = match purpose {
            Purpose::Filter => self.filter.clone(),
            Purpose::Why | Purpose::Ban | Purpose::Unban | Purpose::Allow => {
                self.network_of_selection(now).unwrap_or_default()
            }
        };
        self.over = Some(Over::Prompt(Prompt::new(purpose, text)));
    }

    /// The key of the selected row, if it is a network.
    fn network_of_selection(&self, now: Moment) -> Option<String> {
        let is_of_networks = matches!(self.tab, Tab::Overview | Tab::Attackers | Tab::Bans);
        self.selection(now).filter(|key| is_of_networks && network(key).is_ok())
    }

    fn explain(&mut self, now: Moment) {
        match self.tab {
            Tab::Overview | Tab::Attackers | Tab::Bans => {
                match self.network_of_selection(now).and_then(|net| network(&net).ok()) {
                    Some(net) => self.wanted.push_back(Request::Why { address: net.addr() }),
                    None => self.prompt(Purpose::Why, now),
                }
            }
            Tab::Sources => {
                let clock = self.clock(now);
                let name = self.selection(now).unwrap_or_default();
                let of = |status: &Status| tables::source(status, &name, &clock);
                if let Some(lines) = self.status.as_ref().and_then(of) {
                    self.over = Some(Over::Window(window("source".to_owned(), lines)));
                }
            }
            Tab::Interfaces => {
                let row = self.selected_row(now);
                if let Some(row) = row {
                    self.over = Some(Over::Window(window("fault".to_owned(), row.cells)));
                }
            }
        }
    }

    fn selected_row(&self, now: Moment) -> Option<Row> {
        let table = self.tables(now).pop()?;
        table.place().and_then(|place| table.rows.get(place)).cloned()
    }

    /// The key of the selected row.
    fn selection(&self, now: Moment) -> Option<String> {
        self.selected_row(now).map(|row| row.key)
    }

    fn selected_mut(&mut self) -> Option<&mut Option<String>> {
        let place = Tab::ALL.iter().position(|tab| *tab == self.tab)?;
        self.selected.get_mut(place)
    }

    /// Selects the row that is this far away.
    fn select(&mut self, now: Moment, by: isize) {
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

    fn clock(&self, now: Moment) -> Clock {
        Clock { wall: now.wall, zone: self.settings.zone.clone() }
    }

    /// The attackers in the chosen order.
    pub(super) fn attackers_now(&self, now: Moment) -> Vec<&Attacker> {
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

    /// What is to be seen.
    pub(super) fn view(&self, now: Moment) -> View {
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

    /// The status, if there is one and the daemon answers.
    pub(super) fn status(&self) -> Result<&Status, Option<&str>> {
        match (&self.down, &self.status) {
            (Some((_, why)), _) => Err(Some(why)),
            (None, Some(status)) => Ok(status),
            (None, None) => Err(None),
        }
    }

    /// Whether something has changed since this was last asked; a slow answer counts each second.
    pub(super) fn take_changed(&mut self, now: Moment) -> bool {
        if self.message.as_ref().is_some_and(|(.., end)| now.at >= *end) {
            self.message = None;
            self.is_changed = true;
        }
        let is_slow = self.since.is_some_and(|since| now.at.saturating_sub(since) >= SLOW);
        std::mem::take(&mut self.is_changed) || is_slow
    }

    /// Whether the whole screen is to be drawn again.
    pub(super) fn take_redraw(&mut self) -> bool {
        std::mem::take(&mut self.wants_redraw)
    }

    /// How long nothing happens by itself.
    pub(super) fn wait(&self, now: Moment) -> Duration {
        const LONGEST: Duration = Duration::from_secs(1);
        if self.since.is_some() || self.is_paused {
            return LONGEST;
        }
        self.next_round.saturating_sub(now.at).min(LONGEST)
    }
}

/// Whether packets are dropped.
pub(super) fn enforcement(status: &Status) -> (String, Tone) {
    let (text, tone) = match status.enforcement.state {
        EnforcementState::Enforcing => ("enforcing", Tone::Good),
        EnforcementState::Unconfirmed => ("enforcing, NOT CONFIRMED", Tone::Warning),
        EnforcementState::Lapsed => ("NOT CONFIRMED: drops nothing", Tone::Bad),
        EnforcementState::DryRun => ("DRY RUN: drops nothing", Tone::Warning),
        EnforcementState::Disabled => ("DISABLED: drops nothing", Tone::Bad),
    };
    (text.to_owned(), tone)
}

fn window(title: String, lines: Vec<String>) -> Window {
    Window { title, lines, above: 0 }
}

/// A window after a key; `None` if it is closed.
fn scrolled(window: Window, key: Key) -> Option<Window> {
    let last = window.lines.len().saturating_sub(1);
    let above = match key {
        Key::Down | Key::Char('j') => window.above + 1,
        Key::Up | Key::Char('k') => window.above.saturating_sub(1),
        Key::PageDown | Key::Char(' ') => window.above + 10,
        Key::PageUp => window.above.saturating_sub(10),
        Key::Home => 0,
        Key::End => last,
        Key::Escape | Key::Enter | Key::Char(_) => return None,
        Key::Backspace
        | Key::EraseLine
        | Key::Tab
        | Key::BackTab
        | Key::Redraw
        | Key::Interrupt => window.above,
    };
    Some(Window { above: above.min(last), ..window })
}

#[cfg(test)]
pub(super) mod tests;

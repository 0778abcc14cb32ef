//! The state of `top`: answers and keys enter, requests and the view leave.
//!
//! Must never use a clock, socket or terminal.

mod asked;
mod keys;
mod shown;
#[cfg(test)]
pub(super) mod tests;

use std::collections::VecDeque;
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use api::{ActiveAccount, BanPlace, BanRow, Request, Status};
use ipnet::IpNet;
use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(super) use self::shown::enforcement;
use super::attackers::Attackers;
use super::prompt::Prompt;
use super::rates::Traffic;
use super::safe::safe;
use super::view::{Tab, Tone, Window};

/// How long an answer may take before this is shown.
const SLOW: Duration = Duration::from_secs(2);

/// How long a message is shown.
const SHOWN_FOR: Duration = Duration::from_secs(15);

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

    fn say(&mut self, text: &str, tone: Tone, now: Moment) {
        self.message = Some((safe(text), tone, now.at + SHOWN_FOR));
        self.is_changed = true;
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
        mem::take(&mut self.is_changed) || is_slow
    }

    /// Whether the whole screen is to be drawn again.
    pub(super) fn take_redraw(&mut self) -> bool {
        mem::take(&mut self.wants_redraw)
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

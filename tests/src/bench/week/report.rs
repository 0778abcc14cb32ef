//! What the simulation has shown.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use filter_common::decision::Reason;
use serde::Serialize;

use super::attacks::Attack;
use super::good::{Kind, Service};
use super::host::Host;
use super::{Actor, Decided, Group, Hears, Settings};
use crate::screen::Paint;

/// How long a registration may take in the worst case: two packets in succession may be lost, and a throttle drops
/// the first one.
const SLOWEST: Duration = Duration::from_secs(5);

/// The result. `--json` writes its JSON form.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `week`.
    pub benchmark: &'static str,
    /// The number of phones.
    pub phones: u32,
    /// The number of days.
    pub days: u32,
    /// A simulation for each choice of sources.
    pub weeks: Vec<Week>,
}

/// One simulation.
#[derive(Clone, Debug, Serialize)]
pub struct Week {
    /// What the daemon hears.
    pub hears: Hears,
    /// The packets that arrived.
    pub packets: u64,
    /// How long it took.
    pub seconds: f64,
    /// The good traffic.
    pub good: Vec<Good>,
    /// The attacks.
    pub attacks: Vec<Row>,
}

/// A kind of good traffic.
#[derive(Clone, Debug, Serialize)]
pub struct Good {
    /// Its name.
    pub name: &'static str,
    /// Phones or trunks.
    pub count: u64,
    /// Requests that were served.
    pub served: u64,
    /// Right requests without an answer.
    pub lost: u64,
    /// Packets that were dropped.
    pub dropped: u64,
    /// The reason of one of them.
    pub dropped_by: Option<&'static str>,
    /// The slowest registration, in milliseconds.
    pub slowest_ms: u64,
    /// Bans of their addresses.
    pub bans: u64,
    /// Throttles of their addresses.
    pub throttles: u64,
    /// The first of the reasons.
    pub reason: Option<String>,
    /// Whether that is as promised; `None` if nothing is.
    pub met: Option<bool>,
}

/// An attack.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Requests, of all its sources.
    pub sent: u64,
    /// How many of them were answered.
    pub answered: u64,
    /// After how many requests of the same source the first was banned or throttled.
    pub seen_after: Option<u64>,
    /// Whether that was a throttle.
    pub is_throttle: bool,
    /// The source that reported the last failure.
    pub by: Option<String>,
    /// The reason.
    pub reason: Option<String>,
    /// After how many it must be seen.
    pub within: Option<u64>,
    /// Whether the sources are others' addresses.
    pub is_forged: bool,
}

impl Group {
    const ALL: [Self; 10] = [
        Self::Alone,
        Self::Shared,
        Self::SharedForged,
        Self::Roaming,
        Self::Seldom,
        Self::OldPassword,
        Self::OldPasswordOften,
        Self::OldPasswordShared,
        Self::CallCentre,
        Self::NewCallCentre,
    ];

    fn says(self) -> &'static str {
        match self {
            Self::Alone => "phones, each at its address",
            Self::Shared => "phones behind four addresses",
            Self::SharedForged => "phones behind one, off at night, forged",
            Self::Roaming => "phones with a new address each hour",
            Self::Seldom => "phones that register every 6 h, forged",
            Self::OldPassword => "a phone with an old password, 120 s",
            Self::OldPasswordOften => "a phone with an old password, 30 s",
            Self::OldPasswordShared => "the same behind shared addresses",
            Self::CallCentre => "a call centre, two outages",
            Self::NewCallCentre => "one that begins during an outage",
        }
    }
}

impl Kind {
    const ALL: [Self; 4] = [Self::Registers, Self::Qualified, Self::Plain, Self::Monitor];

    fn says(self) -> &'static str {
        match self {
            Self::Registers => "a trunk with registration",
            Self::Qualified => "a trunk by address, OPTIONS both ways",
            Self::Plain => "a trunk by address",
            Self::Monitor => "a monitor, OPTIONS each minute",
        }
    }
}

impl Good {
    fn new(
        name: &'static str,
        services: &[Service],
        decided: &[&Decided],
        met: impl FnOnce(&Self) -> Option<bool>,
    ) -> Self {
        let sum = |of: fn(&Service) -> u64| services.iter().map(of).sum();
        let slowest = services.iter().map(|service| service.slowest).max().unwrap_or_default();
        let throttles = decided.iter().filter(|decided| decided.is_throttle).count() as u64;
        let mut good = Self {
            name,
            count: services.len() as u64,
            served: sum(|service| service.served),
            lost: sum(|service| service.lost),
            dropped: sum(|service| service.dropped),
            dropped_by: services.iter().find_map(|of| of.dropped_by).map(Reason::as_str),
            slowest_ms: u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX),
            bans: decided.len() as u64 - throttles,
            throttles,
            reason: decided.first().map(|decided| decided.reason.clone()),
            met: None,
        };
        good.met = met(&good);
        good
    }

    /// Whether all of them were served.
    fn is_served(&self) -> bool {
        let slowest = u64::try_from(SLOWEST.as_millis()).unwrap_or(u64::MAX);
        self.served > 0 && self.lost == 0 && self.slowest_ms <= slowest && self.bans == 0
    }
}

impl Week {
    pub(super) fn new(hears: Hears, host: &Host, actors: &[Actor], took: Duration) -> Self {
        let mut phones: BTreeMap<Group, Vec<(IpAddr, Service)>> = BTreeMap::new();
        let (mut trunks, mut attacks) = (Vec::new(), Vec::new());
        for actor in actors {
            match actor {
                Actor::Phone(phone, group) => {
                    phones.entry(*group).or_default().push((phone.source.ip(), phone.service));
                }
                Actor::Trunk(trunk) => trunks.push(trunk),
                Actor::Attack(attack) => attacks.push(Row::new(attack, &host.decided)),
                Actor::Reboot => {}
            }
        }
        let at = |address: IpAddr| host.decided.iter().filter(move |of| of.address == address);
        let mut good = Vec::new();
        for group in Group::ALL {
            let all = phones.remove(&group).unwrap_or_default();
            let decided: Vec<&Decided> = if group == Group::Roaming {
                host.decided.iter().filter(|of| is_roaming(of.address)).collect()
            } else {
                let mut addresses: Vec<IpAddr> = all.iter().map(|(address, _)| *address).collect();
                addresses.sort_unstable();
                addresses.dedup();
                addresses.into_iter().flat_map(at).collect()
            };
            let services: Vec<Service> = all.into_iter().map(|(_, service)| service).collect();
            good.push(Good::new(group.says(), &services, &decided, |good| match group {
                Group::OldPasswordOften => None,
                Group::OldPassword | Group::OldPasswordShared => {
                    Some(good.bans + good.throttles == 0)
                }
                // A throttle for forged failures does not keep them out.
                Group::Seldom | Group::SharedForged => Some(good.is_served()),
                Group::Alone
                | Group::Shared
                | Group::Roaming
                | Group::CallCentre
                | Group::NewCallCentre => Some(good.is_served() && good.throttles == 0),
            }));
        }
        for kind in Kind::ALL {
            let all = trunks.iter().filter(|trunk| trunk.kind == kind);
            let decided: Vec<&Decided> = all.clone().flat_map(|of| at(of.source.ip())).collect();
            let services: Vec<Service> = all.map(|trunk| trunk.service).collect();
            good.push(Good::new(kind.says(), &services, &decided, |good| {
                Some(good.is_served() && good.throttles + good.dropped == 0)
            }));
        }
        let packets = host.packets;
        Self { hears, packets, seconds: took.as_secs_f64(), good, attacks }
    }
}

/// Whether a roaming phone may have an address.
fn is_roaming(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[0] == 100)
}

impl Row {
    fn new(attack: &Attack, decided: &[Decided]) -> Self {
        let of = |of: &&Decided| attack.sources.contains(&of.address) && of.at.0 >= attack.begins;
        let first = decided.iter().find(of);
        Self {
            name: attack.name,
            sent: attack.sent,
            answered: attack.answered,
            seen_after: first.map(|first| attack.sent_by(first.address, first.at)),
            is_throttle: first.is_some_and(|first| first.is_throttle),
            by: first.and_then(|first| first.by.clone()),
            reason: first.map(|first| first.reason.clone()),
            within: attack.within,
            is_forged: attack.is_forged,
        }
    }

    /// Whether it was seen as soon as promised; `None` if nothing is.
    fn met(&self) -> Option<bool> {
        let within = self.within?;
        // Challenges wait for their answer for four seconds.
        let patience = if self.name.ends_with("one a second") { 5 } else { 1 };
        Some(self.seen_after.is_some_and(|seen| seen <= within + patience))
    }
}

impl Report {
    pub(super) fn new(settings: &Settings, weeks: Vec<Week>) -> Self {
        Self { benchmark: "week", phones: settings.phones, days: settings.days, weeks }
    }

    /// Whether nobody good was shut out and every attacker was seen.
    pub fn targets_met(&self) -> bool {
        self.nobody_good_is_shut_out() && self.every_attacker_is_seen()
    }

    /// Whether nobody good was shut out, and no trunk throttled.
    pub fn nobody_good_is_shut_out(&self) -> bool {
        let good = |week: &Week| week.good.iter().all(|good| good.met != Some(false));
        !self.weeks.is_empty() && self.weeks.iter().all(good)
    }

    /// Whether every attacker that can be told from good traffic was seen, unless only the log is read.
    pub fn every_attacker_is_seen(&self) -> bool {
        let seen = |week: &Week| week.attacks.iter().all(|row| row.met() != Some(false));
        self.weeks.iter().all(|week| week.hears == Hears::Log || seen(week))
    }

    /// The report as text.
    pub fn text(&self, paint: Paint) -> String {
        let mut lines = Vec::new();
        for week in &self.weeks {
            lines.push(String::new());
            lines.push(paint.bold(&format!(
                "{} days, {} phones, {} packets; the daemon reads {}",
                self.days,
                self.phones,
                week.packets,
                week.hears.says()
            )));
            lines.push(paint.dim(&format!(
                "          {:<40} {:>5} {:>8} {:>6} {:>8} {:>8} {:>5} {:>9}",
                "", "count", "served", "lost", "dropped", "slowest", "bans", "throttles"
            )));
            lines.extend(week.good.iter().map(|good| good.line(paint)));
            lines.push(paint.dim(&format!(
                "          {:<48} {:>7} {:>8} {:>6}  {}",
                "", "sent", "answered", "seen", "how"
            )));
            lines.extend(week.attacks.iter().map(|row| row.line(paint)));
        }
        lines.join("\n")
    }
}

fn mark(met: Option<bool>, paint: Paint) -> String {
    match met {
        Some(true) => paint.good("met   "),
        Some(false) => paint.bad("MISSED"),
        None => "      ".to_owned(),
    }
}

impl Good {
    fn line(&self, paint: Paint) -> String {
        let Self { name, count, served, lost, dropped, slowest_ms, bans, throttles, .. } = self;
        let why = self.reason.as_deref().or(self.dropped_by);
        let why = why.map_or_else(String::new, |why| format!("  {why}"));
        format!(
            "  {}  {name:<40} {count:>5} {served:>8} {lost:>6} {dropped:>8} {:>8} {bans:>5} \
             {throttles:>9}{why}",
            mark(self.met, paint),
            format!("{slowest_ms} ms"),
        )
    }
}

impl Row {
    fn line(&self, paint: Paint) -> String {
        let Self { name, sent, answered, .. } = self;
        let seen = self.seen_after.map_or_else(|| "-".to_owned(), |seen| seen.to_string());
        let kind = if self.is_throttle { "throttle" } else { "ban" };
        let how = match (&self.reason, &self.by) {
            (Some(reason), Some(by)) => format!("{kind} by {by}: {reason}"),
            (Some(reason), None) => format!("{kind}: {reason}"),
            (None, _) => "not seen".to_owned(),
        };
        format!(
            "  {}  {name:<48} {sent:>7} {answered:>8} {seen:>6}  {how}",
            mark(self.met(), paint)
        )
    }
}

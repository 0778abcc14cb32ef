//! The result of a request.

use serde::{Deserialize, Serialize};

use crate::{
    ActivePage, Alerts, AlertsTested, AllowChanged, Allows, Banned, BannedMany, BansPage,
    Confirmed, Durability, FeedConfirmed, Feeds, Fleet, FleetChanged, FleetSettings, FleetTaken,
    HistoryPage, Jails, Lifted, MaintenanceState, PageLink, PeersPage, Refusal, Reloaded, Status,
    TakenOver, TrafficPage, TuneChanged, Why,
};

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<T = Answer> {
    /// The request was successful.
    Ok(T),
    /// The reason for a refusal and the remedy.
    Error(Refusal),
}

/// The document that the command line prints with `--json` if a command fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Failure {
    /// The problem and the remedy, as text.
    pub error: String,
}

/// The answer to a successful request. It has no tag: its type follows from the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The answer to `status`.
    Status(Box<Status>),
    /// The answer to `bans`.
    Bans(BansPage),
    /// The answer to `active`.
    Active(ActivePage),
    /// The answer to `jails`.
    Jails(Jails),
    /// The answer to `why`.
    Why(Box<Why>),
    /// The answer to `ban`.
    Banned(Box<Banned>),
    /// The answer to `ban-many`.
    BannedMany(BannedMany),
    /// The answer to `allow` and `disallow`.
    AllowChanged(AllowChanged),
    /// The answer to `allows`.
    Allows(Allows),
    /// The answer to `set`.
    TuneChanged(TuneChanged),
    /// The answer to `feeds`.
    Feeds(Feeds),
    /// The answer to `feeds-confirm`.
    FeedConfirmed(FeedConfirmed),
    /// The answer to `alerts`.
    Alerts(Alerts),
    /// The answer to `alerts-test`.
    AlertsTested(AlertsTested),
    /// The answer to `fleet`.
    Fleet(Box<Fleet>),
    /// The answer to `fleet-report`.
    FleetSettings(Box<FleetSettings>),
    /// The answer to `fleet-bans`.
    FleetTaken(FleetTaken),
    /// The answer to `fleet-cut` and `fleet-join`.
    FleetChanged(FleetChanged),
    /// The answer to `peers`.
    Peers(PeersPage),
    /// The answer to `history`.
    History(HistoryPage),
    /// The answer to `take-over`.
    TakenOver(TakenOver),
    /// The answer to `maintenance`.
    Maintenance(MaintenanceState),
    /// The answer to `unban`.
    Lifted(Lifted),
    /// The answer to `confirm`.
    Confirmed(Confirmed),
    /// The answer to `traffic`.
    Traffic(TrafficPage),
    /// The answer to `page-link`.
    PageLink(PageLink),
    /// The answer to `reload`.
    Reloaded(Reloaded),
}

impl Answer {
    /// The part that says whether a change is stored; `None` for an answer without a change.
    pub fn durability_mut(&mut self) -> Option<&mut Durability> {
        match self {
            Self::Banned(banned) => Some(&mut banned.durability),
            Self::AllowChanged(changed) => Some(&mut changed.durability),
            Self::TuneChanged(changed) => Some(&mut changed.durability),
            Self::BannedMany(banned) => Some(&mut banned.durability),
            Self::TakenOver(taken) => Some(&mut taken.durability),
            Self::FleetChanged(changed) => Some(&mut changed.durability),
            Self::Lifted(lifted) => Some(&mut lifted.durability),
            Self::Status(_)
            | Self::Bans(_)
            | Self::Active(_)
            | Self::Allows(_)
            | Self::Feeds(_)
            | Self::FeedConfirmed(_)
            | Self::Alerts(_)
            | Self::AlertsTested(_)
            | Self::Fleet(_)
            | Self::FleetSettings(_)
            | Self::FleetTaken(_)
            | Self::History(_)
            | Self::Peers(_)
            | Self::Jails(_)
            | Self::Why(_)
            | Self::Maintenance(_)
            | Self::Confirmed(_)
            | Self::PageLink(_)
            | Self::Traffic(_)
            | Self::Reloaded(_) => None,
        }
    }
}

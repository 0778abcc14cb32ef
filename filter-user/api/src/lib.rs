//! Requests to the daemon and its replies as types, for the command line, `doctor` and the daemon alike.
//!
//! ```text
//! Request ─ Route ─▶ HTTP ─▶ daemon ─▶ Answer, or Problem
//! ```
//!
//! Only values: nothing here connects, decides or reads a clock, and the dependencies contain no runtime. `route`
//! has the method and path of each request.
//! `docs/api` has the JSON schema of each type, and examples; tests check both. `docs/api.md` describes
//! the socket.
//!
//! Unless a field says otherwise, in all replies times are text in UTC in the format of RFC 3339
//! (`2026-11-29T04:40:05Z`), durations are text as in the configuration (`10m`, `7d`), and addresses and
//! networks are text (`192.0.2.66`, `2001:db8::/64`). Counters count from the start of the daemon, and
//! those of packets from the first attachment of the program to the interface.
//!
//! A field that is added to a reply within a version has `#[serde(default)]`, so that a command can read what an
//! older daemon sends until it is restarted.

pub mod acl;
mod active;
mod alerts;
mod audit;
mod bans;
mod changes;
mod decisions;
mod events;
mod exposure;
mod feeds;
mod fleet;
mod jails;
mod peers;
mod problem;
mod reply;
mod request;
mod route;
#[cfg(test)]
mod schema;
mod status;
mod traffic;
mod why;

pub use self::active::{
    ACTIVE_MAX, ActiveAccount, ActivePage, ActiveQuery, ActiveSource, PACKETS_MAX,
};
pub use self::alerts::{
    ActionEvent, ActionMessage, AlertEvent, AlertMessage, AlertRow, AlertSeverity, AlertState,
    AlertTested, Alerts, AlertsTested,
};
pub use self::audit::{
    Audit, AuditFinding, AuditPart, AuditedAsterisk, AuditedFilter, AuditedInterface, Listener,
    Reach, RuleSet, Severity, SipTransport, Transport, Unread,
};
pub use self::bans::{BanKind, BanPlace, BanRow, BansPage, NO_REASON};
pub use self::changes::{
    Banned, BannedMany, ChangedSetting, Confirmed, Durability, Lifted, MaintenanceState, PageLink,
    Refused, Reloaded, Replaced, TakenOver,
};
pub use self::decisions::{
    ALLOWED_MAX, AllowChanged, Allowed, Allows, EndedBan, HISTORY_PAGE_MAX, HistoryEvent,
    HistoryPage, HistoryRow, Tunable, TuneChanged, Tuned,
};
pub use self::events::Event;
pub use self::exposure::{ExposureSuggestion, OpenTo, PortUse, PortUser, SuggestedPort};
pub use self::feeds::{FeedConfirmed, FeedRow, FeedState, FeedTest, Feeds};
pub use self::fleet::{
    FLEET_ALL, FLEET_ALLOWS_MAX, FLEET_BANS_MAX, FLEET_HOSTS_MAX, Fleet, FleetAllow, FleetBan,
    FleetBans, FleetChanged, FleetHost, FleetMaintenance, FleetReport, FleetSettings, FleetState,
    FleetTaken,
};
pub use self::jails::{Attacked, Guessing, JailCounts, JailReport, JailTotal, Jails};
pub use self::peers::{PEERS_MAX, Peer, PeersPage};
pub use self::problem::{ErrorId, Problem, Refusal};
pub use self::reply::{Answer, Failure, Reply};
pub use self::request::{
    BANS_MAX, BanOrder, BansQuery, By, Decided, EXCEPT_MAX, HistoryQuery, MAINTENANCE_MAX,
    Maintenance, NETWORK_WEIGHT, ORDERS_MAX, Order, REQUEST_MAX, Request, TAKE_OVER_MAX, TEXT_MAX,
    Unban, weight,
};
pub use self::route::{Call, Method, ROUTES, Route, WANTS_SIGNS, find, methods, resource};
pub use self::status::{
    Bans, Enforcement, EnforcementState, Escalation, Essential, Exposure, FailingAlert, FeedHealth,
    FleetHealth, GeoDatabase, GeoState, GeoStatus, Hearing, Interface, JailCount, Log, NamedHost,
    Peers, Prevented, ReasonCount, Rule, Sample, Signature, Source, State, Status, Store,
    StoreState, Unparsed, Verdict,
};
pub use self::traffic::{TrafficPage, TrafficPoint, TrafficQuery, TrafficStep};
pub use self::why::{
    BanOf, Evidence, History, JailHistory, Limit, Located, Near, NotCounted, Packets, Tier, Why,
    Wire,
};

//! Where addresses are, and the countries and autonomous systems from which SIP is not admitted.
//!
//! Must never use a table that would shut out an address that the host depends on, unless an administrator has
//! forced it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ::geo::{Country, Place, Table};
use anyhow::Result;
use api::{AlertSeverity, GeoDatabase, GeoState, GeoStatus};
use ipnet::IpNet;
use jiff::Timestamp;

use super::Controller;
use crate::alerts::Occurrence;
use crate::clock::{KernelTime, Rfc3339};
use crate::config::{AlertKind, Geo as Settings};
use crate::datapath::{Datapath, GeoMode};
use crate::geo::Compiled;
use crate::store::DecisionKey;

/// The kind of decisions in the store: a policy that somebody has forced.
const FORCED: &str = "geo-forced";

/// The same: a country from which somebody has logged in.
const LOGIN_FROM: &str = "geo-login";

/// How long a peer that was known counts for an objection, and how often the known peers are looked at.
const RECENT: Duration = Duration::from_hours(7 * 24);
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// The most peers that are remembered for that, twice as many as there can be at a time.
const RECENT_MAX: usize = 65_536;

/// The most addresses that an objection names.
const NAMED: usize = 5;

/// The databases and the table in force.
#[derive(Debug, Default)]
pub(super) struct Geo {
    in_force: Option<Arc<Compiled>>,
    /// The policy that somebody has forced, as text.
    forced: Option<String>,
    /// What is wrong, and whether somebody must force it.
    problem: Option<(GeoState, String)>,
    wanted: Settings,
    /// Peers that were known within a week, since the start, and when they were seen last.
    recent: BTreeMap<IpAddr, KernelTime>,
    looked: Option<KernelTime>,
    /// The countries from which somebody has logged in.
    logins_from: BTreeSet<Country>,
}

impl Geo {
    fn table(&self) -> Option<&Table> {
        self.in_force.as_ref()?.table.as_ref()
    }
}

impl<D: Datapath> Controller<D> {
    /// Why a table must not be used: the addresses that it would shut out, although SIP is open to them now.
    /// `session` is the source of the administrator's SSH session.
    pub fn geo_objections(
        &self,
        compiled: &Compiled,
        session: Option<IpAddr>,
        now: KernelTime,
    ) -> Vec<String> {
        let Some(table) = &compiled.table else { return Vec::new() };
        let mut objections = Vec::new();
        let shut = |address: &IpAddr| {
            table.shuts_out(*address) && !self.protected.is_trusted(IpNet::from(*address))
        };
        let at = |address: &IpAddr| match where_is(&compiled.place(*address)) {
            Some(place) => format!("{address} ({place})"),
            None => format!("{address} (in no database)"),
        };
        let essentials = self.protected.essentials();
        for gateway in essentials.gateways().filter(shut) {
            objections.push(format!("`geo` would shut out the default gateway {}", at(&gateway)));
        }
        let others = essentials.sessions().iter().copied();
        let sessions: BTreeSet<IpAddr> = session.into_iter().chain(others).collect();
        for session in sessions.iter().filter(|one| shut(one)).take(NAMED) {
            objections.push(format!(
                "`geo` would shut out {}, from which an SSH session comes",
                at(session)
            ));
        }
        let mut known = self.known_now(now);
        let is_recent = |at: KernelTime| now.since(at) < RECENT;
        let recent = self.geo.recent.iter().filter(|(_, at)| is_recent(**at));
        known.extend(recent.map(|(peer, _)| *peer));
        known.sort_unstable();
        known.dedup();
        let lost: Vec<&IpAddr> = known.iter().filter(|peer| shut(peer)).collect();
        if lost.len() * 2 > known.len() {
            let named: Vec<String> = lost.iter().take(NAMED).map(|peer| at(peer)).collect();
            objections.push(format!(
                "`geo` would shut out {} of the {} known peers of the last week once they are forgotten, such as \
                 {}",
                lost.len(),
                known.len(),
                named.join(", ")
            ));
        }
        objections
    }

    /// The known peers.
    fn known_now(&self, now: KernelTime) -> Vec<IpAddr> {
        let all = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
        let all = all.into_iter().filter_map(|address| IpNet::new(address, 0).ok());
        all.flat_map(|network| self.datapath.known_in(network, now)).collect()
    }

    /// Remembers once an hour which peers are known.
    pub fn remember_peers(&mut self, now: KernelTime) {
        if self.geo.looked.is_some_and(|at| now.since(at) < LOOK_EVERY) {
            return;
        }
        self.geo.looked = Some(now);
        let known = self.known_now(now);
        let recent = &mut self.geo.recent;
        recent.retain(|_, at| now.since(*at) < RECENT);
        for peer in known {
            if recent.len() < RECENT_MAX || recent.contains_key(&peer) {
                recent.insert(peer, now);
            }
        }
    }

    /// Records the country from which somebody has logged in, and tells if it is a new one.
    pub(super) fn note_login(&mut self, address: IpAddr) {
        let Some(country) = self.new_country(address) else { return };
        self.tell(|| {
            let text = format!("logs in from {country}, from which nobody has logged in before");
            let (kind, severity) = (AlertKind::Country, AlertSeverity::Notice);
            Occurrence::once(kind, severity, &address.to_string(), &text)
        });
    }

    /// The country of an address, if others are known to log in, and nobody from there.
    pub(super) fn new_country(&mut self, address: IpAddr) -> Option<Country> {
        let country = self.place(address).country?;
        let is_first = self.geo.logins_from.is_empty();
        let is_new = self.geo.logins_from.insert(country);
        if is_new {
            self.keep(LOGIN_FROM, &country.to_string());
        }
        (is_new && !is_first).then_some(country)
    }

    /// The networks that a table must leave out: those that the host depends on for SIP.
    pub fn geo_exceptions(&self) -> BTreeSet<IpNet> {
        self.protected.essentials().needed_for_sip().collect()
    }

    /// Uses a table that is in the kernel, or its databases only to say where addresses are.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn use_geo(&mut self, compiled: Arc<Compiled>, now: KernelTime) -> Result<()> {
        let mode = match (&compiled.table, compiled.settings.dry_run) {
            (None, _) => GeoMode::Off,
            (Some(_), true) => GeoMode::DryRun,
            (Some(_), false) => GeoMode::On,
        };
        self.datapath.geo(mode)?;
        self.geo.problem = None;
        self.geo.in_force = Some(compiled);
        if self.geo.logins_from.is_empty() {
            for peer in self.known_now(now) {
                self.new_country(peer);
            }
        }
        Ok(())
    }

    /// Uses no table and no database any more.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn forget_geo(&mut self) -> Result<()> {
        self.geo.in_force = None;
        self.datapath.geo(GeoMode::Off)
    }

    /// Records which settings are wanted.
    pub fn want_geo(&mut self, settings: &Settings) {
        self.geo.wanted = settings.clone();
        let policy = settings.policy().map(|policy| policy.to_string());
        if self.geo.forced.is_some() && self.geo.forced != policy {
            self.force_geo(None);
        }
    }

    /// Records why a table is not used, or that none is wrong.
    pub fn note_geo(&mut self, problem: Option<(GeoState, String)>) {
        self.geo.problem = problem;
    }

    /// Whether a table is in force.
    pub fn has_geo(&self) -> bool {
        self.geo.table().is_some()
    }

    /// Whether somebody has forced the policy of these settings.
    pub fn is_geo_forced(&self, settings: &Settings) -> bool {
        let policy = settings.policy().map(|policy| policy.to_string());
        policy.is_some() && policy == self.geo.forced
    }

    /// Remembers that somebody has forced a policy, also over restarts.
    pub fn force_geo(&mut self, settings: Option<&Settings>) {
        let policy = settings.and_then(Settings::policy).map(|policy| policy.to_string());
        if let Some(old) = self.geo.forced.take().filter(|old| Some(old) != policy.as_ref()) {
            self.bans.store().decide(FORCED, &old, None);
        }
        if let Some(policy) = &policy {
            self.keep(FORCED, policy);
        }
        self.geo.forced = policy;
    }

    /// Loads what was forced.
    pub(super) fn load_geo(&mut self, kept: &BTreeMap<DecisionKey, String>) {
        let mut forced = kept.keys().filter(|(kind, _)| kind == FORCED);
        self.geo.forced = forced.next().map(|(_, policy)| policy.clone());
        let logins_from = kept.keys().filter(|(kind, _)| kind == LOGIN_FROM);
        self.geo.logins_from = logins_from.filter_map(|(_, name)| name.parse().ok()).collect();
    }

    /// Saves it again.
    pub(super) fn put_geo(&self) {
        if let Some(policy) = &self.geo.forced {
            self.keep(FORCED, policy);
        }
        for country in &self.geo.logins_from {
            self.keep(LOGIN_FROM, &country.to_string());
        }
    }

    /// Has the store keep a policy or a country.
    fn keep(&self, kind: &str, name: &str) {
        self.bans.store().decide(kind, name, Some("true".to_owned()));
    }

    /// Where an address is.
    pub(super) fn place(&self, address: IpAddr) -> Place {
        self.geo.in_force.as_ref().map(|compiled| compiled.place(address)).unwrap_or_default()
    }

    /// Whether SIP of an address is shut out, or would be but for a dry run (`false`); `None` if it is not.
    pub(super) fn shut_out(&self, address: IpAddr, now: KernelTime) -> Option<bool> {
        let table = self.geo.table()?;
        let network = IpNet::from(address);
        let is_needed =
            || self.protected.essentials().of(network, crate::config::Scope::Sip).is_some();
        let is_shut = table.shuts_out(address)
            && self.protected.reason(network).is_none()
            && !self.is_known(address, now)
            && !is_needed();
        let dry_run = self.geo.in_force.as_ref().is_some_and(|one| one.settings.dry_run);
        is_shut.then_some(!dry_run)
    }

    pub(super) fn geo_status(&self) -> Option<GeoStatus> {
        let wanted = &self.geo.wanted;
        if wanted.databases.is_empty() {
            return None;
        }
        let (state, problem) = match &self.geo.problem {
            Some((state, why)) => (*state, Some(why.clone())),
            None if self.geo.in_force.is_none() => (GeoState::Waiting, None),
            None => (GeoState::Ok, None),
        };
        let databases = self.geo.in_force.iter().flat_map(|one| &one.databases);
        let database = |(path, database): &(String, ::geo::Database)| {
            let built = i64::try_from(database.built()).ok();
            let built = built.and_then(|at| Timestamp::from_second(at).ok());
            GeoDatabase {
                path: path.clone(),
                kind: database.kind(),
                built: built.map(|at| Rfc3339(at).to_string()),
            }
        };
        let table = self.geo.table();
        let unknown = table.into_iter().flat_map(|table| &table.unknown);
        Some(GeoStatus {
            policy: wanted.policy().map(|policy| policy.to_string()),
            dry_run: wanted.dry_run,
            state,
            problem,
            in_force: table.is_some(),
            databases: databases.map(database).collect(),
            networks: table.map_or(0, |table| table.named),
            unknown: unknown.map(ToString::to_string).collect(),
        })
    }
}

/// A place as text, such as `DE, AS3320`.
fn where_is(place: &Place) -> Option<String> {
    let asn = place.asn.map(|number| format!("AS{number}"));
    let parts: Vec<String> =
        place.country.map(|country| country.to_string()).into_iter().chain(asn).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

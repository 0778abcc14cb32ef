//! The bans that other hosts of the fleet share: enters what the agent asks for, a few at a time, and lifts it when a
//! host is cut off or the agent no longer knows it.
//!
//! The agent is another process, and what it sends comes from other hosts. A ban of another host closes only what
//! `fleet.accept` says, has an end in the kernel, and counts neither as an earlier ban nor for a network.
//!
//! Must never ban what no jail may ban, change another ban, or pass a ban on as one of this host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ::fleet::{Host, is_shared};
use api::{
    Allows, ErrorId, FLEET_ALL, FLEET_ALLOWS_MAX, FLEET_BANS_MAX, FLEET_HOSTS_MAX, Fleet as Shown,
    FleetAllow, FleetBan, FleetBans, FleetChanged, FleetHealth, FleetHost, FleetReport,
    FleetSettings, FleetState, FleetTaken, Refusal, TEXT_MAX,
};
use ipnet::IpNet;
use log::{info, warn};

use super::feeds::{KnownPeers, Spared};
use super::fleet_maintenance::FromFleet;
use super::of_host::host_of;
use super::{Controller, show};
use crate::ban::{Ban, Entry, Key, Origin};
use crate::clock::KernelTime;
use crate::config::{Config, Fleet as Settings, Scope};
use crate::datapath::Datapath;
use crate::log_budget::MANUAL;
use crate::report::shown_text;
use crate::store::DecisionKey;

/// How long the agent may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// The most hosts that are shown.
const SHOWN_MAX: usize = 4096;

/// The most hosts that are cut off at run time.
const CUTS_MAX: usize = 1024;

/// The most bans that are only examined, and the most that are lifted, in one turn.
const EXAMINED: usize = 512;
const AT_ONCE: usize = 128;

/// The kind of decision in the store: a host that is cut off.
const CUT: &str = "fleet-cut";

/// Who allows what the fleet trusts.
const FLEET: &str = "the fleet";

/// The fleet.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    settings: Settings,
    cuts: BTreeSet<String>,
    /// What it has closed.
    pub(super) maintenance: FromFleet,
    report: Option<(FleetReport, KernelTime)>,
    hosts: BTreeMap<String, FleetHost>,
    round: Option<u32>,
    /// What the agent has asked for in this round.
    seen: BTreeSet<IpNet>,
    spared: BTreeMap<&'static str, u64>,
    sweep: Option<Sweep>,
    /// The last reason, which many bans share.
    reason: Option<Arc<str>>,
    is_refused: bool,
}

/// Bans that are lifted.
#[derive(Debug)]
struct Sweep {
    behind: Option<Key>,
    /// Those that were not in the round, too.
    is_round: bool,
}

impl Fleet {
    pub(super) fn new(config: &Config) -> Self {
        Self { settings: config.fleet.clone(), ..Self::default() }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.sweep.is_some()
    }

    /// How long SIP may be closed for the fleet.
    pub(super) fn accepted_maintenance(&self) -> Duration {
        if self.settings.is_on() { self.settings.accept.maintenance } else { Duration::ZERO }
    }

    /// The stamp of the maintenance that it asked for last.
    pub(super) fn asked_maintenance(&self) -> Option<u64> {
        let (report, _) = self.report.as_ref()?;
        report.maintenance.as_ref().filter(|asked| asked.seconds > 0).map(|asked| asked.stamp)
    }

    fn is_cut(&self, host: &str) -> bool {
        self.cuts.contains(FLEET_ALL)
            || self.cuts.contains(host)
            || self.settings.cut.iter().any(|cut| cut.as_str() == host)
    }

    fn begin_to_sweep(&mut self, is_round: bool) {
        let is_round = is_round || self.sweep.as_ref().is_some_and(|sweep| sweep.is_round);
        self.sweep = Some(Sweep { behind: None, is_round });
    }
}

impl<D: Datapath> Controller<D> {
    /// The name of what decided a ban: of a jail, or of another host.
    pub(super) fn by(&self, entry: &Entry) -> String {
        match (entry.ban.origin, host_of(entry)) {
            (Origin::Fleet, Some(host)) => format!("{}:{host}", self.jail_name(Origin::Fleet)),
            (origin, _) => self.jail_name(origin).to_owned(),
        }
    }

    /// Uses other settings.
    pub(super) fn set_fleet(&mut self, config: &Config, now: KernelTime) {
        if self.fleet.settings == config.fleet {
            return;
        }
        self.fleet.settings = config.fleet.clone();
        self.fleet.begin_to_sweep(false);
        self.bound_fleet_maintenance(now);
    }

    /// Lifts what is left of a fleet that is no longer configured, and of hosts that are cut off.
    pub(super) fn find_left_over_of_fleet(&mut self) {
        if self.banned_by(Origin::Fleet) > 0 {
            self.fleet.begin_to_sweep(false);
        }
    }

    /// Takes a report of the agent.
    pub(super) fn take_fleet_report(
        &mut self,
        mut report: FleetReport,
        now: KernelTime,
    ) -> Result<FleetSettings, Refusal> {
        let is_plain =
            |text: &str| text.len() <= 8 * TEXT_MAX && !text.chars().any(char::is_control);
        let purpose = report.maintenance.as_ref().map(|asked| &asked.comment);
        let texts = [Some(&report.host), report.server.as_ref(), report.problem.as_ref(), purpose];
        if !texts.into_iter().flatten().all(|text| is_plain(text)) {
            return Err("a text in the report is too long, or has control characters".into());
        }
        if report.hosts.len() > FLEET_HOSTS_MAX {
            let why = format!("more than {FLEET_HOSTS_MAX} hosts; send less at once");
            return Err(why.into());
        }
        if report.is_first {
            self.fleet.hosts.clear();
        }
        for host in std::mem::take(&mut report.hosts) {
            let is_valid =
                host.host.parse::<Host>().is_ok() && host.refused.len() <= FLEET_HOSTS_MAX;
            let has_room =
                self.fleet.hosts.len() < SHOWN_MAX || self.fleet.hosts.contains_key(&host.host);
            if is_valid && has_room {
                self.fleet.hosts.insert(host.host.clone(), host);
            }
        }
        let asked = report.maintenance.clone();
        self.fleet.report = Some((report, now));
        self.follow_fleet(asked.as_ref(), now);
        Ok(self.fleet_settings(now))
    }

    fn fleet_settings(&self, now: KernelTime) -> FleetSettings {
        let Settings { servers, host, bucket, ca_file, credentials_file, nkey_file, .. } =
            self.fleet.settings.clone();
        let Settings { publish, accept, cut, .. } = &self.fleet.settings;
        let cut = cut.iter().map(|host| host.as_str().to_owned());
        FleetSettings {
            host: host.map(|host| host.as_str().to_owned()),
            servers: servers.iter().map(ToString::to_string).collect(),
            bucket: bucket.to_string(),
            ca_file,
            credentials_file,
            nkey_file,
            publish: publish.as_str().to_owned(),
            proven: accept.proven,
            hosts: accept.hosts,
            longest: accept.longest.as_secs(),
            rate: accept.rate,
            most: accept.most,
            total: accept.total,
            allows: accept.allows,
            cut: cut.chain(self.fleet.cuts.iter().cloned()).collect(),
            closed: self.closed(now).map_or(0, |closed| closed.until.since(now).as_secs()),
            start: self.begun.show_milliseconds(self.begun.kernel).unsigned_abs(),
        }
    }

    /// Enters and lifts what the agent asks for.
    pub(super) fn take_fleet_bans(
        &mut self,
        FleetBans { bans, lift, round, is_last }: FleetBans,
        now: KernelTime,
    ) -> Result<FleetTaken, Refusal> {
        if !self.fleet.settings.is_on() {
            return Err("this host is in no fleet; set `fleet.servers`".into());
        }
        if bans.len() > FLEET_BANS_MAX || lift.len() > FLEET_BANS_MAX {
            let why = format!("more than {FLEET_BANS_MAX} bans; send less at once");
            return Err(why.into());
        }
        if self.fleet.round != Some(round) {
            self.fleet.round = Some(round);
            self.fleet.seen.clear();
            self.fleet.spared.clear();
            self.fleet.is_refused = false;
        }
        let mut taken = FleetTaken::default();
        let mut known: KnownPeers = None;
        for ban in bans {
            let network = ban.network;
            match self.take_fleet_ban(&ban, &mut known, now) {
                Ok(()) => {
                    taken.banned += 1;
                    self.fleet.seen.insert(network);
                }
                Err(why) => {
                    taken.spared += 1;
                    *self.fleet.spared.entry(why).or_default() += 1;
                    self.lift_of_fleet(network, None);
                }
            }
        }
        for network in lift {
            taken.lifted += self.lift_of_fleet(network, None);
            self.fleet.seen.remove(&network);
            self.forget_if_unlisted(network);
        }
        if is_last {
            self.fleet.begin_to_sweep(true);
        }
        Ok(taken)
    }

    fn take_fleet_ban(
        &mut self,
        ban: &FleetBan,
        known: &mut KnownPeers,
        now: KernelTime,
    ) -> Result<(), &'static str> {
        let FleetBan { network, host, jail, proven, hosts, seconds } = ban;
        let network = *network;
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_jail = !jail.is_empty() && jail.len() <= 64 && jail.bytes().all(letters);
        let accept = self.fleet.settings.accept.clone();
        let may_be = *proven || !accept.proven;
        if host.parse::<Host>().is_err() || !is_jail || !is_shared(network) || !may_be {
            return Err("invalid");
        }
        if self.fleet.is_cut(host) {
            return Err("cut");
        }
        let scope = if *proven { accept.scope } else { Scope::Throttle };
        let except = match self.spared(network, scope, known, now) {
            Ok(except) => except,
            Err(why) => {
                self.note_spared_of_fleet(network, why, now);
                return Err(why.as_str());
            }
        };
        let old =
            self.bans.ledger().of_network(network).find(|old| old.ban.origin == Origin::Fleet);
        let old = old.map(|old| (old.ban.scope, old.ban.since));
        let is_full = self.banned_by(Origin::Fleet) >= u64::from(accept.total);
        if old.is_none() && (is_full || self.is_full(network)) {
            return Err(Spared::NoRoom.as_str());
        }
        let time = Duration::from_secs(*seconds).min(accept.longest);
        if time.is_zero() {
            return Err("invalid");
        }
        let others = if *hosts > 1 { format!(", and {} more", hosts - 1) } else { String::new() };
        let what = if *proven { "" } else { ", not proven" };
        let reason = format!("{host}: banned there by {jail}{what}{others}");
        let reason = match &self.fleet.reason {
            Some(last) if **last == *reason => Arc::clone(last),
            Some(_) | None => Arc::from(reason),
        };
        self.fleet.reason = Some(Arc::clone(&reason));
        self.lift_of_fleet(network, Some(scope));
        let since = old.map_or(now.into(), |(_, since)| since);
        let ban =
            Ban { network, scope, origin: Origin::Fleet, since, until: Some(now.after(time)) };
        self.enter(&Entry::new(ban, reason).with_except(except), None).map_err(|why| {
            if !self.fleet.is_refused {
                self.fleet.is_refused = true;
                warn!("fleet: {} is not banned: {why:#}", show(network));
            }
            Spared::NoRoom.as_str()
        })
    }

    /// What the address is for the host is worth a line, once an hour.
    fn note_spared_of_fleet(&mut self, network: IpNet, why: Spared, now: KernelTime) {
        let is = match why {
            Spared::Own => "the host's own address",
            Spared::Trusted => "trusted",
            Spared::Essential(is) => is,
            Spared::Ignored | Spared::Known | Spared::Lifted | Spared::NoRoom | Spared::TooWide => {
                return;
            }
        };
        let by = self.jail_name(Origin::Fleet);
        self.prevent((network.addr(), is), (by, 0, "another host has banned it"), now);
    }

    /// Lifts the bans of a network by other hosts, except one of this scope. Returns how many there were.
    fn lift_of_fleet(&mut self, network: IpNet, except: Option<Scope>) -> u64 {
        let of = self.bans.ledger().of_network(network);
        let is_one =
            |entry: &&Entry| entry.ban.origin == Origin::Fleet && Some(entry.ban.scope) != except;
        let entries: Vec<Entry> = of.filter(is_one).cloned().collect();
        let mut lifted = 0;
        for entry in entries {
            match self.bans.strike(&mut self.datapath, &entry) {
                Ok(()) => lifted += 1,
                Err(why) => warn!("{why:#}"),
            }
        }
        lifted
    }

    /// Lifts a few of the bans of hosts that are cut off, and of those that the agent no longer knows.
    pub(super) fn sweep_fleet(&mut self) {
        let Some(mut sweep) = self.fleet.sweep.take() else { return };
        let is_off = !self.fleet.settings.is_on();
        let (mut examined, mut gone) = (0, Vec::new());
        for entry in self.bans.ledger().after(sweep.behind, EXAMINED) {
            examined += 1;
            sweep.behind = Some(entry.key());
            if entry.ban.origin != Origin::Fleet {
                continue;
            }
            let is_cut = host_of(entry).is_none_or(|host| self.fleet.is_cut(host))
                && (sweep.is_round
                    || host_of(entry).is_some()
                    || self.fleet.cuts.contains(FLEET_ALL));
            let is_unknown = sweep.is_round && !self.fleet.seen.contains(&entry.ban.network);
            if is_off || is_cut || is_unknown {
                gone.push(entry.ban.network);
            }
            if gone.len() >= AT_ONCE {
                break;
            }
        }
        let is_done = examined < EXAMINED && gone.len() < AT_ONCE;
        for network in gone {
            self.lift_of_fleet(network, None);
        }
        if !is_done {
            self.fleet.sweep = Some(sweep);
        }
    }

    /// Trusts the networks that the fleet trusts, and no other for it. What an administrator of this host allows
    /// stays as it is.
    pub(super) fn take_fleet_allows(
        &mut self,
        allows: Vec<FleetAllow>,
        now: KernelTime,
    ) -> Result<Allows, Refusal> {
        if allows.len() > FLEET_ALLOWS_MAX {
            return Err(format!("more than {FLEET_ALLOWS_MAX} networks").into());
        }
        let is_wanted = self.fleet.settings.is_on() && self.fleet.settings.accept.allows;
        let allows = if is_wanted { allows } else { Vec::new() };
        for network in self.allowed_by(FLEET) {
            if !allows.iter().any(|allow| allow.network.trunc() == network) {
                self.disallow(network, FLEET)?;
            }
        }
        for FleetAllow { network, comment, seconds } in allows {
            if !self.must_allow_for(network, (&comment, seconds), FLEET, now) {
                continue;
            }
            let comment = format!("fleet: {comment}");
            self.allow(network, (seconds, Some(comment)), FLEET, now)?;
        }
        Ok(self.allows())
    }

    /// Cuts a host off, or `all`.
    pub(super) fn cut_off(&mut self, host: &str, who: &str) -> Result<FleetChanged, Refusal> {
        self.is_host(host)?;
        if self.fleet.cuts.len() >= CUTS_MAX && !self.fleet.cuts.contains(host) {
            let why = format!("{CUTS_MAX} hosts are cut off already; put them under `fleet.cut`");
            return Err(why.into());
        }
        self.fleet.cuts.insert(host.to_owned());
        self.bans.store().decide(CUT, host, Some("true".to_owned()));
        self.fleet.begin_to_sweep(false);
        info!(target: MANUAL, "{who} cut off {} of the fleet", shown_text(host));
        Ok(FleetChanged { host: host.to_owned(), cut: true, ..FleetChanged::default() })
    }

    /// Accepts the bans of a host again.
    pub(super) fn join(&mut self, host: &str, who: &str) -> Result<FleetChanged, Refusal> {
        self.is_host(host)?;
        if !self.fleet.cuts.remove(host) {
            let cut = self.fleet.settings.cut.iter().any(|cut| cut.as_str() == host);
            let why = if cut {
                format!("{host} is cut off by the setting `fleet.cut`")
            } else {
                format!("{host} is not cut off here; `ringfence fleet status` lists who is")
            };
            return Err(Refusal::new(ErrorId::NotFound, why));
        }
        self.bans.store().decide(CUT, host, None);
        info!(target: MANUAL, "{who} accepts the bans of {host} of the fleet again");
        Ok(FleetChanged { host: host.to_owned(), cut: false, ..FleetChanged::default() })
    }

    fn is_host(&self, host: &str) -> Result<(), Refusal> {
        if host == FLEET_ALL || host.parse::<Host>().is_ok() {
            return Ok(());
        }
        let names: Vec<&str> = self.fleet.hosts.keys().take(8).map(String::as_str).collect();
        let why = format!(
            "`{}` is not a host's name; there are {}",
            shown_text(host),
            if names.is_empty() { "none yet".to_owned() } else { names.join(", ") }
        );
        Err(why.into())
    }

    /// Cuts all hosts off, because every ban is lifted.
    pub(super) fn cut_fleet(&mut self, who: &str) {
        if self.banned_by(Origin::Fleet) > 0 && !self.fleet.cuts.contains(FLEET_ALL) {
            self.cut_off(FLEET_ALL, who).ok();
        }
    }

    /// Cuts off the host in the name of a jail, or all, because its bans are lifted.
    pub(super) fn cut_jail(&mut self, jail: &str, who: &str) {
        let host = jail.split_once(':').map_or(FLEET_ALL, |(_, host)| host);
        self.cut_off(host, who).ok();
    }

    /// The state of the fleet, and what is wrong.
    fn fleet_state(&self, now: KernelTime) -> (FleetState, Option<String>) {
        let Fleet { settings, report, .. } = &self.fleet;
        let fresh = report.as_ref().filter(|(_, at)| now.since(*at) < SILENCE);
        match fresh {
            _ if !settings.is_on() => (FleetState::Off, None),
            None => {
                let why =
                    "`ringfence-fleet` does not run; `systemctl status ringfence-fleet` says why";
                (FleetState::NoAgent, Some(why.to_owned()))
            }
            Some((report, _)) if report.server.is_none() => {
                let why = "it has no connection to a server".to_owned();
                (FleetState::Disconnected, report.problem.clone().or(Some(why)))
            }
            Some((report, _)) => (FleetState::Connected, report.problem.clone()),
        }
    }

    /// Whether this host shares bans; `None` if it is in no fleet.
    pub(super) fn fleet_health(&self, now: KernelTime) -> Option<FleetHealth> {
        let (state, problem) = self.fleet_state(now);
        (state != FleetState::Off).then(|| FleetHealth {
            state,
            problem,
            hosts: self.fleet.hosts.len() as u64,
            banned: self.banned_by(Origin::Fleet),
        })
    }

    /// What is known about the fleet.
    pub(super) fn fleet_shown(&self, now: KernelTime) -> Shown {
        let Fleet { report, hosts, cuts, spared, .. } = &self.fleet;
        let (state, problem) = self.fleet_state(now);
        Shown {
            state,
            host: report.as_ref().map(|(report, _)| report.host.clone()),
            problem,
            report: report.as_ref().map(|(report, _)| report.clone()),
            reported: report.as_ref().map(|(_, at)| self.started.show(*at)),
            banned: self.banned_by(Origin::Fleet),
            spared: spared.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect(),
            cut: cuts.iter().cloned().collect(),
            maintenance_refused: self.fleet.maintenance.refused(),
            hosts: hosts
                .values()
                .map(|host| FleetHost {
                    cut: host.cut || self.fleet.is_cut(&host.host),
                    ..host.clone()
                })
                .collect(),
            enforcing: self.enforcing(),
        }
    }

    /// Loads which hosts are cut off.
    pub(super) fn load_fleet(&mut self, kept: &BTreeMap<DecisionKey, String>) {
        let cuts = kept.keys().filter(|(kind, _)| kind == CUT).map(|(_, host)| host.clone());
        self.fleet.cuts.extend(cuts.take(CUTS_MAX));
    }

    /// Saves it again.
    pub(super) fn put_fleet(&self) {
        for host in &self.fleet.cuts {
            self.bans.store().decide(CUT, host, Some("true".to_owned()));
        }
        self.put_fleet_maintenance();
    }
}

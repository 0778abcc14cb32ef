//! One connection with the servers: passes what the bucket says to the daemon, and what the daemon says to the bucket.
//!
//! Everything is said again after a loss: to the daemon in a round, at whose end it lifts what was not in it; to the bucket
//! by comparing what it has with what the daemon lists.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use api::{
    Allows, BanKind, BansPage, BansQuery, Event, FLEET_BANS_MAX, FLEET_HOSTS_MAX, FleetAllow,
    FleetBan, FleetBans, FleetHost, FleetMaintenance, FleetReport, FleetSettings, FleetTaken,
    Request,
};
use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::{self, Context};
use fleet::{
    Accept, BanRecord, Beat, Change, Clock, Closing, Host, HostReport, Key, Own, Shared, Time,
    Update, View,
};
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::bucket::{deletion, subject};
use crate::daemon::{Daemon, Told};
use crate::keys::Keys;
use crate::log;
use crate::watch::{Record, Watch};

/// How often the daemon is told how things are.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// How often a host gives a sign of life, and how long its own may take to come back.
const BEAT_EVERY: Duration = Duration::from_secs(20);
const BEAT_LOST: Duration = Duration::from_mins(1);

/// How often the daemon is told everything again, because what it spared may be banned by now.
const ROUND_EVERY: Duration = Duration::from_mins(15);

/// How many records are written at a time.
const WRITING: usize = 256;

/// How long a write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(2);

/// The records that are taken between two looks at everything else.
const AT_ONCE: usize = 512;

/// Runs for ever.
pub(crate) async fn run(daemon: Daemon) {
    let mut said = String::new();
    loop {
        let report = FleetReport { host: own_name(None), ..FleetReport::default() };
        let why = match daemon.ask::<FleetSettings>(&Request::FleetReport(report)).await {
            Ok(settings) if settings.servers.is_empty() => "this host is in no fleet".to_owned(),
            Ok(settings) => match session(&daemon, &settings, &mut said).await {
                Ok(()) => continue,
                Err(why) => format!("{why:#}"),
            },
            Err(why) => format!("{why:#}"),
        };
        if why != said {
            log::warn(&why);
            said = why;
        }
        sleep(PAUSE).await;
    }
}

/// The name of this host.
fn own_name(set: Option<&str>) -> String {
    if let Some(name) = set {
        return name.to_owned();
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    name.chars().map(plain).take(fleet::HOST_MAX).collect()
}

/// Runs until the settings change.
async fn session(daemon: &Daemon, settings: &FleetSettings, said: &mut String) -> Result<()> {
    let name = own_name(settings.host.as_deref());
    let host: Host = name.parse().map_err(|why| {
        anyhow!(
            "`{}` is no name for a host of the fleet; set `fleet.host`: {why}",
            name.escape_debug()
        )
    })?;
    let keys = Keys {
        servers: settings.servers.clone(),
        ca_file: settings.ca_file.clone(),
        credentials_file: settings.credentials_file.clone(),
        nkey_file: settings.nkey_file.clone(),
        name: format!("ringfence-fleet {host}"),
        inbox: Some(format!("_INBOX_{host}")),
    };
    let client = match keys.connect(true).await {
        Ok(client) => client,
        Err(why) => {
            let problem = Some(shortened(&format!("{why:#}")));
            let report = FleetReport { host: name, problem, ..FleetReport::default() };
            daemon.ask::<FleetSettings>(&Request::FleetReport(report)).await?;
            return Err(why);
        }
    };
    let accept = accept(settings);
    let mut session = Session {
        daemon,
        settings,
        context: jetstream::new(client.clone()),
        client,
        view: View::new(host.clone(), accept.clone()),
        own: Own::new(host.clone(), &accept),
        accept,
        host,
        began: Instant::now(),
        clock: Clock::default(),
        clock_ms: None,
        latest: 0,
        beat: None,
        echoed: Instant::now(),
        has_all: false,
        has_local: false,
        round: fastrand::u32(..),
        is_round_open: true,
        round_began: Instant::now(),
        failed: BTreeSet::new(),
        writing: 0,
        problem: None,
        shown: 0,
        is_first: true,
        allows: None,
        closed: settings.closed,
        told_closed: false,
    };
    let done = session.run(said).await;
    session.client.drain().await.ok();
    done
}

fn accept(settings: &FleetSettings) -> Accept {
    let FleetSettings { proven, hosts, longest, rate, most, total, cut, .. } = settings;
    Accept {
        proven: *proven,
        hosts: *hosts,
        longest: *longest,
        rate: *rate,
        most: *most,
        total: *total,
        cut: cut.iter().filter_map(|host| host.parse().ok()).collect(),
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is a step that is done or not")]
struct Session<'a> {
    daemon: &'a Daemon,
    settings: &'a FleetSettings,
    client: Client,
    context: Context,
    accept: Accept,
    host: Host,
    view: View,
    own: Own,
    /// Milliseconds are counted from here.
    began: Instant,
    clock: Clock,
    clock_ms: Option<i64>,
    /// The latest stamp, before the servers' time is known.
    latest: Time,
    /// The mark of the last sign of life, and when it was sent.
    beat: Option<(u64, u64)>,
    /// When the last sign came back.
    echoed: Instant,
    /// Whether all records have been read.
    has_all: bool,
    /// Whether the daemon's own bans have been listed.
    has_local: bool,
    round: u32,
    is_round_open: bool,
    round_began: Instant,
    /// Records that could not be written.
    failed: BTreeSet<IpNet>,
    writing: usize,
    problem: Option<String>,
    /// How many hosts have been reported in this turn.
    shown: usize,
    is_first: bool,
    /// What the daemon was told to trust.
    allows: Option<Vec<IpNet>>,
    /// For how many more seconds SIP is closed here, as the daemon last said.
    closed: u64,
    /// Whether the last sign of life said that it is.
    told_closed: bool,
}

impl Session<'_> {
    async fn run(&mut self, said: &mut String) -> Result<()> {
        let mut told = self.daemon.listen();
        let (written, mut done) = mpsc::channel(WRITING);
        let mut watch: Option<Watch> = None;
        let mut batch = Vec::new();
        let mut reports = interval(REPORT_EVERY);
        let mut beats = interval(BEAT_EVERY);
        let mut ticks = interval(Duration::from_millis(100));
        for timer in [&mut reports, &mut beats, &mut ticks] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                Some(told) = told.recv() => self.hear(told).await?,
                count = read(&mut watch, &mut batch) => {
                    if count == 0 {
                        watch = None;
                    }
                    for record in batch.drain(..) {
                        self.take(&record);
                    }
                }
                Some((network, sent)) = done.recv() => self.written(network, sent),
                _ = beats.tick() => {
                    if self.echoed.elapsed() > BEAT_LOST {
                        // The servers may have lost the bucket, or this connection its place in it.
                        watch = None;
                    }
                    self.give_sign().await;
                }
                _ = reports.tick() => {
                    if self.view.must_read_again() {
                        watch = None;
                    }
                    if watch.is_none() && self.client.connection_state() == State::Connected {
                        watch = self.begin_to_read().await;
                    }
                    self.failed_again();
                    let settings = self.report().await?;
                    if settings != *self.settings {
                        return Ok(());
                    }
                    if (self.closed > 0) != self.told_closed {
                        beats.reset_immediately();
                    }
                    let problem = self.problem.clone().unwrap_or_default();
                    if problem != *said {
                        if !problem.is_empty() {
                            log::warn(&problem);
                        }
                        *said = problem;
                    }
                }
                _ = ticks.tick() => {}
            }
            if self.is_ready() {
                self.pass_to_daemon().await?;
                self.pass_to_bucket(&written).await;
            }
        }
    }

    /// Whether the servers' time and all records are known.
    fn is_ready(&self) -> bool {
        self.has_all && self.clock.at(0).is_some()
    }

    fn count(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The servers' time; before it is known, the latest stamp.
    fn now(&self) -> Time {
        self.clock.at(self.count()).unwrap_or(self.latest)
    }

    /// Reads the bucket from its beginning.
    async fn begin_to_read(&mut self) -> Option<Watch> {
        self.view = View::new(self.host.clone(), self.accept.clone());
        self.own.read_again();
        self.has_all = false;
        self.new_round();
        match Watch::start(&self.client, &self.settings.bucket).await {
            Ok(watch) => {
                self.problem = None;
                // When it comes back, everything before it has been read. The count of records that are left does not
                // show that: nats-server 2.9 also counts those that were replaced meanwhile.
                self.give_sign().await;
                Some(watch)
            }
            Err(why) => {
                self.problem = Some(shortened(&format!("{why:#}")));
                None
            }
        }
    }

    fn new_round(&mut self) {
        self.round = self.round.wrapping_add(1);
        self.is_round_open = true;
        self.round_began = Instant::now();
    }

    async fn give_sign(&mut self) {
        let nonce = fastrand::u64(..);
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let beat = Beat {
            time: u64::try_from(time.as_millis()).unwrap_or(0),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bans: self.own.count(),
            closed: self.closed,
            nonce,
        };
        let key = Key::Host(self.host.clone()).to_string();
        self.beat = Some((nonce, self.count()));
        self.told_closed = self.closed > 0;
        let subject = subject(&self.settings.bucket, &key);
        // Its acknowledgement is that it comes back.
        drop(self.client.publish(subject, fleet::write(&beat).into()).await);
    }

    /// Takes a record.
    fn take(&mut self, Record { key, value, at }: &Record) {
        self.latest = self.latest.max(*at);
        match key.parse() {
            Ok(Key::Host(host)) if host == self.host => {
                if let Some(Ok(beat)) = value.as_ref().map(|value| fleet::read::<Beat>(value)) {
                    // It was given after the reading began, and records come in their order.
                    let has_all = self.echo(&beat, *at);
                    if has_all && !self.has_all {
                        let server = self.client.server_info().server_name;
                        log::info(&format!("{} has read the bucket on {server}", self.host));
                    }
                    self.has_all |= has_all;
                }
            }
            Ok(Key::Ban(host, network)) if host == self.host => {
                let record = value.as_ref().and_then(|value| fleet::read::<BanRecord>(value).ok());
                self.own.stored(network, record.as_ref(), *at);
            }
            Ok(_) | Err(()) => {
                let update = value.as_ref().map_or(Update::Delete, |value| Update::Put(value));
                let now = self.now().max(if self.has_all { 0 } else { *at });
                self.view.take(key, update, *at, now);
            }
        }
    }

    /// Whether the last sign of this host comes back.
    fn echo(&mut self, beat: &Beat, at: Time) -> bool {
        let Some((nonce, sent)) = self.beat else { return false };
        if beat.nonce != nonce {
            return false;
        }
        self.clock.set(at, sent, self.count());
        self.clock_ms = Some(difference(beat.time, at));
        self.echoed = Instant::now();
        true
    }

    /// Passes changes to the daemon, a few at a time.
    async fn pass_to_daemon(&mut self) -> Result<()> {
        if self.round_began.elapsed() > ROUND_EVERY && !self.is_round_open {
            self.view.tell_again();
            self.new_round();
        }
        for _ in 0..AT_ONCE / FLEET_BANS_MAX {
            let now = self.now();
            let (mut bans, mut lift) = (Vec::new(), Vec::new());
            for change in self.view.changes(now, FLEET_BANS_MAX) {
                match change {
                    Change::Lift(network) => lift.push(network),
                    Change::Ban { network, host, jail, proven, hosts, until } => {
                        let seconds = until.saturating_sub(now).div_ceil(1000);
                        let (host, jail) = (host.to_string(), jail.to_string());
                        bans.push(FleetBan { network, host, jail, proven, hosts, seconds });
                    }
                }
            }
            let is_last = self.is_round_open && !self.view.has_changes();
            if bans.is_empty() && lift.is_empty() && !is_last {
                return Ok(());
            }
            let round = self.round;
            let request = Request::FleetBans(FleetBans { bans, lift, round, is_last });
            if let Err(why) = self.daemon.ask::<FleetTaken>(&request).await {
                // What was in it must be said again.
                self.view.tell_again();
                self.new_round();
                return Err(why);
            }
            if is_last {
                self.is_round_open = false;
            }
        }
        Ok(())
    }

    /// Writes what is not in the bucket yet.
    async fn pass_to_bucket(&mut self, written: &mpsc::Sender<(IpNet, Result<()>)>) {
        if !self.has_local || self.client.connection_state() != State::Connected {
            return;
        }
        while self.writing < WRITING
            && let Some(publish) = self.own.next(self.now())
        {
            let subject = subject(&self.settings.bucket, &publish.key);
            let sent = match publish.value {
                Some(value) => self.context.publish(subject, value.into()).await,
                None => self.context.publish_with_headers(subject, deletion(), "".into()).await,
            };
            let (network, tell) = (publish.network, written.clone());
            self.writing += 1;
            tokio::spawn(async move {
                let wait = async { Ok(sent?.await.map(drop)?) };
                let done = timeout(WRITE_LIMIT, wait).await.context("no answer").flatten();
                drop(tell.send((network, done)).await);
            });
        }
    }

    fn written(&mut self, network: IpNet, done: Result<()>) {
        self.writing = self.writing.saturating_sub(1);
        if let Err(why) = done {
            self.failed.insert(network);
            self.problem = Some(shortened(&format!("write into the bucket: {why:#}")));
        }
    }

    fn failed_again(&mut self) {
        let failed = std::mem::take(&mut self.failed);
        if failed.is_empty() && self.has_all {
            self.problem = None;
        }
        for network in failed {
            self.own.failed(network);
        }
    }

    /// Takes what the daemon tells.
    async fn hear(&mut self, told: Told) -> Result<()> {
        match told {
            Told::Begins => {
                self.has_local = false;
                self.list().await?;
                self.view.tell_again();
                self.new_round();
            }
            Told::Event(Event::Ban { network, jail, kind, proven, until, .. }) => {
                if let Some(shared) = self.shared(&network, &jail, (kind, proven), until.as_deref())
                {
                    self.own.banned(shared);
                }
            }
            Told::Event(Event::BanEnd { network, jail, .. }) => {
                if let Some(network) = network_of(&network) {
                    self.own.ended(network, &jail);
                }
            }
            Told::Event(_) => {}
        }
        Ok(())
    }

    /// The ban, if it is one that this host shares.
    fn shared(
        &self,
        network: &str,
        jail: &str,
        (kind, proven): (BanKind, bool),
        until: Option<&str>,
    ) -> Option<Shared> {
        let proven = proven && kind == BanKind::Ban;
        let is_shared = match &*self.settings.publish {
            "all" => true,
            "proven" => proven,
            _ => false,
        };
        // No jail has such a name, and what others have banned is theirs.
        let is_jail = !["manual", "escalation", "flood", "unknown", "fleet"].contains(&jail);
        if !is_shared || !is_jail || jail.contains(':') {
            return None;
        }
        let left = match until {
            Some(until) => {
                let until: Timestamp = until.parse().ok()?;
                u64::try_from(until.duration_since(Timestamp::now()).as_millis()).ok()?
            }
            None => self.accept.longest.saturating_mul(1000),
        };
        let until = self.now().saturating_add(left);
        Some(Shared { network: network_of(network)?, jail: jail.to_owned(), proven, until })
    }

    /// Lists the bans of the daemon. Before the servers' time is known, this waits.
    async fn list(&mut self) -> Result<()> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let query = BansQuery { after, ..BansQuery::default() };
            let page: BansPage = self.daemon.ask(&Request::Bans(query)).await?;
            for row in page.bans {
                let of = (row.kind, row.proven);
                all.extend(self.shared(&row.network, &row.jail, of, row.until.as_deref()));
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        self.own.replace(all);
        self.has_local = self.clock.at(0).is_some();
        Ok(())
    }

    async fn report(&mut self) -> Result<FleetSettings> {
        if !self.has_local && self.is_ready() {
            self.list().await?;
        }
        let is_connected = self.client.connection_state() == State::Connected;
        let server = self.client.server_info().server_name;
        if !is_connected && self.problem.is_none() {
            self.problem = Some(format!("no server answers: {}", self.settings.servers.join(", ")));
        }
        if is_connected && self.problem.is_none() && self.echoed.elapsed() > BEAT_LOST {
            let why =
                "no sign of life of this host has come back from the bucket; may it write one?";
            self.problem = Some(why.to_owned());
        }
        let hosts = self.view.hosts().skip(self.shown).take(FLEET_HOSTS_MAX);
        let now = self.now();
        let hosts: Vec<FleetHost> = hosts.map(|host| shown(host, now)).collect();
        self.shown = if hosts.len() < FLEET_HOSTS_MAX { 0 } else { self.shown + hosts.len() };
        let report = FleetReport {
            host: self.host.to_string(),
            server: is_connected.then_some(server),
            problem: self.problem.clone(),
            shared: self.own.count(),
            behind: self.own.behind(),
            held_back: self.own.held_back(),
            accepted: self.view.told(),
            waiting: self.view.waiting(),
            strange: self.view.strange(),
            clock_ms: self.clock_ms,
            maintenance: self.is_ready().then(|| asked(self.view.maintenance(self.now()))),
            hosts,
            is_first: std::mem::take(&mut self.is_first),
        };
        let mut settings: FleetSettings = self.daemon.ask(&Request::FleetReport(report)).await?;
        // It changes all the time, and is no reason to begin again.
        self.closed = std::mem::replace(&mut settings.closed, self.settings.closed);
        if self.is_ready() {
            self.allow().await?;
        }
        Ok(settings)
    }

    /// Tells the daemon which networks the fleet trusts.
    async fn allow(&mut self) -> Result<()> {
        let allows = self.view.allows(self.now());
        let networks: Vec<IpNet> = allows.iter().map(|(network, ..)| *network).collect();
        if self.allows.as_ref() == Some(&networks) && self.shown != 0 {
            return Ok(());
        }
        let allow = |(network, comment, seconds)| FleetAllow { network, comment, seconds };
        let allows = allows.into_iter().map(allow).collect();
        self.daemon.ask::<Allows>(&Request::FleetAllows { allows }).await?;
        self.allows = Some(networks);
        Ok(())
    }
}

/// Reads a few records; 0 is the end. Without a bucket it waits.
async fn read(watch: &mut Option<Watch>, into: &mut Vec<Record>) -> usize {
    match watch {
        Some(watch) => watch.records.recv_many(into, AT_ONCE).await,
        None => std::future::pending().await,
    }
}

fn asked(closing: Closing) -> FleetMaintenance {
    let Closing { stamp, seconds, closed_to_known, comment } = closing;
    FleetMaintenance { stamp, seconds, closed_to_known, comment }
}

fn shown(report: HostReport, now: Time) -> FleetHost {
    let HostReport { host, bans, refused, beat, is_cut } = report;
    let fleet::Refused { unproven, rate, most, cut, network, newer, broken } = refused;
    let refused = [
        ("unproven", unproven),
        ("rate", rate),
        ("most", most),
        ("cut", cut),
        ("network", network),
        ("newer", newer),
        ("broken", broken),
    ];
    let refused = refused.into_iter().filter(|(_, count)| *count > 0);
    let last = beat.as_ref().and_then(|(_, at)| {
        Timestamp::from_second(i64::try_from(at / 1000).ok()?).ok().map(|at| at.to_string())
    });
    let closed_until = beat.as_ref().filter(|(beat, _)| beat.closed > 0).and_then(|(beat, at)| {
        let until = (at / 1000).saturating_add(beat.closed);
        // It ends in time, whether or not the host can say so.
        let until = Some(until).filter(|until| *until > now / 1000)?;
        Timestamp::from_second(i64::try_from(until).ok()?).ok().map(|until| until.to_string())
    });
    FleetHost {
        host: host.to_string(),
        bans,
        refused: refused.map(|(why, count)| (why.to_owned(), count)).collect(),
        last,
        clock_ms: beat.as_ref().map(|(beat, at)| difference(beat.time, *at)),
        version: beat.map(|(beat, _)| beat.version),
        closed_until,
        cut: is_cut,
    }
}

/// How far a clock is ahead of the servers'.
fn difference(clock: u64, servers: u64) -> i64 {
    let [clock, servers] = [clock, servers].map(|time| i64::try_from(time).unwrap_or(i64::MAX));
    clock.saturating_sub(servers)
}

fn network_of(text: &str) -> Option<IpNet> {
    text.parse().or_else(|_| text.parse().map(std::net::IpAddr::into)).ok()
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(512).collect()
}

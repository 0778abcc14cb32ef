//! Finds faults in what Ringfence reads, from the configuration, the daemon's status and the
//! configuration files of Asterisk and OpenSSH. Each finding says how to correct it.
//!
//! Nothing is changed unless [`Fix::apply`] is called, which the command does only with consent.
//!
//! Must never write a file without consent.

pub(crate) mod asterisk;
pub(crate) mod conf;
mod fix;
mod host;
mod sshd;
mod trunks;

use api::{EnforcementState, FeedState, FleetHealth, FleetState, GeoState, Source, Status};
use serde::Serialize;

use crate::check::{self, Level};
use crate::client::USER;
use crate::config::{Config, ConfigErrors, Loaded, Mode};
use crate::faults::{Fault, faults};
use crate::hearing::{AMI, remedy};
use crate::report::count;

pub(crate) use self::asterisk::dateformat;
pub use self::fix::Fix;
pub use self::host::Host;
pub(crate) use self::sshd::ports as ssh_ports;
pub use self::trunks::Trunks;

/// A fault and how to correct it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What has the fault: `daemon`, `asterisk`, or the name of a source.
    pub subject: String,
    /// What is wrong.
    pub problem: String,
    /// How to correct it.
    pub remedy: String,
    /// How `--fix` corrects it, if it can.
    pub fix: Option<Fix>,
}

impl Finding {
    fn new(subject: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (problem, remedy) = (problem.into(), remedy.into());
        Self { subject: subject.to_owned(), problem, remedy, fix: None }
    }
}

/// An error of the configuration.
pub(crate) fn wrong_configuration(error: &impl ToString) -> Finding {
    let remedy = "correct it and type `ringfence check-config`: no daemon starts with it";
    Finding::new("configuration", error.to_string(), remedy)
}

/// Errors of the configuration, and files that are not read.
pub fn of_configuration(loaded: &Loaded, wrong: &ConfigErrors) -> Vec<Finding> {
    let wrong = wrong.errors().iter().map(wrong_configuration);
    let ignored = loaded.ignored.iter().map(|file| {
        let problem = format!("{} is not read", file.display());
        Finding::new(
            "configuration",
            problem,
            "only files in conf.d that end in `.yml` are read; rename it",
        )
    });
    wrong.chain(ignored).collect()
}

/// Checks everything. `status` is the daemon's answer, or why there is none.
pub fn examine(config: &Config, status: &Result<Status, String>, host: &Host) -> Vec<Finding> {
    graded(config, status, host).into_iter().map(|(_, finding)| finding).collect()
}

/// The same, each with its severity for monitoring; [`Level::Ok`] if monitoring ignores it.
pub(crate) fn graded(
    config: &Config,
    status: &Result<Status, String>,
    host: &Host,
) -> Vec<(Level, Finding)> {
    let mut findings = match status {
        Ok(status) => told(config, status),
        Err(why) => {
            let finding = Finding::new("daemon", why, "systemctl start ringfence");
            vec![(Level::Critical, finding)]
        }
    };
    let others = asterisk::examine(config, host)
        .into_iter()
        .chain(host::examine(config, host))
        .chain(sshd::examine(config, &host.etc));
    findings.extend(others.map(|finding| (Level::Warning, finding)));
    findings
}

/// The findings from the daemon's status.
fn told(config: &Config, status: &Status) -> Vec<(Level, Finding)> {
    let graded = |fault: &Fault<'_>| Some((check::level(fault), finding(config, fault)?));
    faults(status).iter().filter_map(graded).collect()
}

/// The finding for a fault; `None` if it corrects itself or is intended.
fn finding(config: &Config, fault: &Fault<'_>) -> Option<Finding> {
    let why = |why: &Option<String>| why.clone().unwrap_or_default();
    Some(match fault {
        Fault::Unprotected(interface) => Finding::new(
            &interface.name,
            format!("UNPROTECTED: {}", why(&interface.why)),
            "the daemon tries again every five seconds; see `journalctl -u ringfence`",
        ),
        Fault::NotLearning(interface) => {
            let why = why(&interface.not_learning);
            Finding::new(
                &interface.name,
                format!("no known peers are learned from outgoing packets: {why}"),
                "solve this; the daemon then continues within five seconds",
            )
        }
        Fault::Exposed(one) => Finding::new(&one.subject, &*one.problem, &*one.remedy),
        Fault::StoreFailed(store) => {
            let waiting = count(store.pending, "change");
            Finding::new(
                "store",
                format!("{}: {}; not stored yet: {waiting}", store.path, why(&store.why)),
                "see `The store` in docs/operations.md: bans are in force, but a reboot loses them",
            )
        }
        Fault::NotEnforcing(state) => not_enforcing(*state)?,
        Fault::Fallback(interface) => {
            let why = interface.fallback.as_ref().filter(|_| config.mode == Mode::Auto)?;
            Finding::new(
                &interface.name,
                format!("runs in generic mode, at a higher cost for each packet: {why}"),
                "see `Native or generic` in docs/environments.md; set `mode: generic` if this is \
                 intended",
            )
        }
        Fault::Unread { source: Source { name, why, .. }, .. } => {
            let why = why.as_deref().unwrap_or("it is not read");
            Finding::new(name, why, mend_of(config, name, why)?)
        }
        Fault::Silent(Source { name, place, .. }) => {
            let problem = format!("nothing has come from {place} since the daemon started");
            Finding::new(name, problem, remedy(name))
        }
        Fault::Strained(source, why) => Finding::new(
            &source.name,
            *why,
            "shorter lines, or expressions that begin with `^` and have fewer ways to match, cost \
             less; `ringfence test-log` shows which lines match",
        ),
        Fault::Lost(Source { name, lost, .. }) => Finding::new(
            name,
            format!("{lost} events or lines were lost or too long to be read"),
            "see the daemon's log: `journalctl -u ringfence`",
        ),
        Fault::Unrecognised(heard) => Finding::new(&heard.source, &*heard.problem, &*heard.remedy),
        Fault::FeedFailed(feed) => {
            let (problem, state) = (feed.problem.as_deref(), feed.state.as_str());
            let remedy = match feed.state {
                FeedState::Refused => format!(
                    "look at the list; `ringfence feeds confirm {}` uses it as it is",
                    feed.name
                ),
                FeedState::Waiting
                | FeedState::Ok
                | FeedState::Failing
                | FeedState::Expired
                | FeedState::Paused => "`ringfence feeds test URL` fetches a list once; the daemon tries again by itself"
                    .to_owned(),
            };
            let problem = problem.map_or_else(|| state.to_owned(), |why| format!("{state}: {why}"));
            Finding::new(&format!("feed:{}", feed.name), problem, remedy)
        }
        Fault::GeoFailed(geo) => Finding::new(
            "geo",
            format!("{}: {}", geo.state.as_str(), why(&geo.problem)),
            match geo.state {
                GeoState::Refused => "put these addresses under `trusted`, or change `geo`",
                GeoState::Failing | GeoState::Waiting | GeoState::Ok => {
                    "replace the database; the daemon reads it again within seconds"
                }
            },
        ),
        Fault::FleetFailed(fleet) => of_fleet(fleet),
        Fault::NearlyFull(bans) => Finding::new(
            "bans",
            format!("{} are in force, with room for {}", bans.active, bans.capacity),
            "raise `capacity.bans`, then `systemctl restart ringfence`",
        ),
        Fault::AlertFailing(alert) => Finding::new(
            &alert.name,
            format!("it cannot be sent: {}", alert.problem),
            format!("correct it, then type `ringfence alerts test {}`", alert.name),
        ),
        Fault::LogIncomplete(log) => Finding::new(
            "log",
            format!("{} lost, because its reader was too slow", count(log.lost, "line")),
            "check that the journal, or any other reader of the daemon's standard error, keeps up",
        ),
    })
}

fn of_fleet(fleet: &FleetHealth) -> Finding {
    let problem = fleet.problem.as_deref().unwrap_or_default();
    let remedy = match fleet.state {
        FleetState::NoAgent => "`systemctl enable --now ringfence-fleet`",
        FleetState::Disconnected | FleetState::Connected | FleetState::Off => {
            "`ringfence fleet status` and `journalctl -u ringfence-fleet` say more; this host bans by itself meanwhile"
        }
    };
    Finding::new("fleet", format!("{}: {problem}", fleet.state.as_str()), remedy)
}

/// How to correct a source that has failed or is waiting.
fn mend_of(config: &Config, name: &str, why: &str) -> Option<String> {
    let ami = &config.sources.asterisk.ami;
    if name == AMI && ami.secret_file.exists() {
        // The account is set up, and the daemon tries again by itself.
        return if why.ends_with("does not exist") {
            None
        } else if why.starts_with("connect to") {
            let enable = "write `enabled = yes` under [general] in manager.conf";
            Some(format!("start Asterisk, or {enable}; then `asterisk -rx 'manager reload'`"))
        } else {
            Some("see `Troubleshooting` in docs/operations.md".to_owned())
        };
    }
    if why.contains("Permission denied") {
        let group = if name.starts_with("asterisk") { "asterisk" } else { "GROUP" };
        return Some(format!(
            "add the service's user to the group that may read it: `usermod -a -G {group} {USER}; \
             systemctl restart ringfence`"
        ));
    }
    if why.starts_with("cannot watch the directory") && why.contains("No such file") {
        return Some(
            "its program is not installed, or logs elsewhere; set the path under `sources`"
                .to_owned(),
        );
    }
    Some(remedy(name).to_owned())
}

/// The output of `doctor --json`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Findings<'a> {
    /// Whether there are no findings.
    pub ok: bool,
    /// The findings.
    pub findings: &'a [Finding],
}

impl<'a> Findings<'a> {
    /// Creates the document.
    pub fn new(findings: &'a [Finding]) -> Self {
        Self { ok: findings.is_empty(), findings }
    }
}

/// The output of `doctor`.
pub fn to_text(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "no problems found\n".to_owned();
    }
    findings
        .iter()
        .map(|Finding { subject, problem, remedy, .. }| {
            format!("{subject}: {problem}\n    {remedy}\n")
        })
        .collect::<Vec<_>>()
        .concat()
}

fn not_enforcing(state: EnforcementState) -> Option<Finding> {
    let (problem, remedy) = match state {
        EnforcementState::Enforcing => return None,
        EnforcementState::DryRun => (
            "this is dry run: nothing is dropped",
            "remove `dry_run` (or `--dry-run`), then type `systemctl restart ringfence`",
        ),
        EnforcementState::Unconfirmed => (
            "this is the first start, and packets will soon no longer be dropped unless you \
             confirm it",
            "if you can still reach the host in every way that you need, type `ringfence confirm`",
        ),
        EnforcementState::Lapsed => (
            "nothing is dropped, because the first start was not confirmed in time",
            "type `ringfence confirm`",
        ),
        EnforcementState::Disabled => {
            ("the emergency switch is on: nothing is dropped", "type `ringfence panic --off`")
        }
    };
    Some(Finding::new("daemon", problem, remedy))
}

#[cfg(test)]
mod tests;

//! What is wrong with what Ringfence hears, and the line that mends it: the configuration, what the
//! daemon says of itself, and Asterisk's configuration files enter; findings leave.
//!
//! Changes nothing by itself: [`Fix::apply`] does, once somebody has agreed.

pub(crate) mod asterisk;
mod conf;
mod fix;
mod host;
mod sshd;

use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{Config, ConfigErrors, Loaded, Mode};
use crate::hearing::{AMI, mend};
use crate::report::{count, list, number, string};

pub(crate) use self::asterisk::dateformat;
pub use self::fix::Fix;
pub use self::host::Host;

/// How long a source may say nothing at all before that is a finding, in seconds.
const SILENT: u64 = 24 * 3600;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about: `daemon`, `asterisk`, or the name of a source.
    pub subject: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub mend: String,
    /// What `--fix` does about it, if it can.
    pub fix: Option<Fix>,
}

impl Finding {
    fn new(subject: &str, problem: impl Into<String>, mend: impl Into<String>) -> Self {
        let (problem, mend) = (problem.into(), mend.into());
        Self { subject: subject.to_owned(), problem, mend, fix: None }
    }
}

/// What is wrong with the configuration itself, and what of it is not read.
pub fn of_configuration(loaded: &Loaded, wrong: &ConfigErrors) -> Vec<Finding> {
    let wrong = wrong.errors().iter().map(|error| {
        let mend = "mend it, then `ringfence check-config`: no daemon starts with it";
        Finding::new("configuration", error.to_string(), mend)
    });
    let ignored = loaded.ignored.iter().map(|file| {
        let problem = format!("{} is not read", file.display());
        Finding::new(
            "configuration",
            problem,
            "only files in conf.d that end in `.yml` are: rename it",
        )
    });
    wrong.chain(ignored).collect()
}

/// Looks at everything. `status` is the daemon's answer, or why there is none.
pub fn examine(config: &Config, status: &Result<Value, String>, host: &Host) -> Vec<Finding> {
    let mut findings = match status {
        Ok(status) => {
            let mut findings = interfaces(status);
            findings.extend(daemon(config, status));
            findings.extend(sources(config, status));
            findings
        }
        Err(why) => vec![Finding::new("daemon", why, "systemctl start ringfence")],
    };
    findings.extend(asterisk::examine(config, host));
    findings.extend(host::examine(config, host));
    findings.extend(sshd::examine(config, &host.etc));
    findings
}

/// What the daemon says of its interfaces, and of what it does not see.
fn interfaces(status: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    for interface in list(status, "interfaces") {
        let name = string(interface, "name");
        if interface["protected"] == false {
            let problem = format!("UNPROTECTED: {}", string(interface, "why"));
            let mend =
                "it is tried again every five seconds; `journalctl -u ringfence` has the rest";
            findings.push(Finding::new(&name, problem, mend));
        } else if interface["learning"] == false {
            let why = string(interface, "not_learning");
            let problem = format!("no known peers are learned from what leaves: {why}");
            let mend = "when that is mended it goes on by itself, within five seconds";
            findings.push(Finding::new(&name, problem, mend));
        }
    }
    for one in list(status, "exposure") {
        findings.push(Finding::new(
            &string(one, "subject"),
            string(one, "problem"),
            string(one, "mend"),
        ));
    }
    findings
}

/// What the daemon says of itself.
fn daemon(config: &Config, status: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let store = &status["store"];
    if store["state"] == "failed" {
        let waiting = count(number(store, "pending"), "change");
        let problem =
            format!("{}: {}; not written: {waiting}", string(store, "path"), string(store, "why"));
        let mend =
            "see `The store` in docs/operations.md: bans are in force, and lost with a reboot";
        findings.push(Finding::new("store", problem, mend));
    }
    if status["enforcing"] == false {
        let problem = "this is a dry run: nothing is dropped";
        let mend = "take out `dry_run` (or `--dry-run`), then `systemctl restart ringfence`";
        findings.push(Finding::new("daemon", problem, mend));
    }
    for interface in list(status, "interfaces") {
        let why = interface["fallback"].as_str().filter(|_| config.mode == Mode::Auto);
        if let Some(why) = why {
            let problem = format!("runs in generic mode, at a higher cost for each packet: {why}");
            let mend = "see `generic mode` in docs/operations.md; `mode: generic` says that it is meant so";
            findings.push(Finding::new(&string(interface, "name"), problem, mend));
        }
    }
    findings
}

/// What mends a source that has failed, or waits.
fn mend_of(config: &Config, name: &str, why: &str) -> Option<String> {
    let ami = &config.sources.asterisk.ami;
    if name == AMI && ami.secret_file.exists() {
        // What there was to set up is there, and the daemon looks again by itself.
        return if why.starts_with("there is no") {
            None
        } else if why.starts_with("connect to") {
            let enable = "under [general] of manager.conf: `enabled = yes`";
            Some(format!("start Asterisk, or {enable}; then `asterisk -rx 'manager reload'`"))
        } else {
            Some("see `Troubleshooting` in docs/operations.md".to_owned())
        };
    }
    if why.starts_with("cannot watch the directory") && why.contains("No such file") {
        return Some(
            "its program is not installed, or logs elsewhere: `sources` names the log".to_owned(),
        );
    }
    Some(mend(name).to_owned())
}

/// What the daemon says of its sources.
fn sources(config: &Config, status: &Value) -> Vec<Finding> {
    let uptime = number(status, "uptime_seconds");
    let mut findings = Vec::new();
    for source in list(status, "sources") {
        let name = source["name"].as_str().unwrap_or_default();
        let place = source["place"].as_str().unwrap_or_default();
        let state = source["state"].as_str().unwrap_or_default();
        if state != "ok" {
            let why = source["why"].as_str().unwrap_or(state);
            let mend = mend_of(config, name, why);
            findings.extend(mend.map(|mend| Finding::new(name, why, mend)));
        } else if source["events"] == 0 && uptime >= SILENT {
            let problem = format!("nothing has come from {place} since the daemon started");
            findings.push(Finding::new(name, problem, mend(name)));
        }
        if state == "ok"
            && let Some(why) = source["why"].as_str()
        {
            let mend = "shorter lines, or expressions that begin with `^` and have fewer ways to match, \
                        cost less: `ringfence test-log` tells which lines match";
            findings.push(Finding::new(name, why, mend));
        }
        if let Some(lost) = source["lost"].as_u64().filter(|lost| *lost > 0) {
            let problem = format!("{lost} events or lines were lost or too long to be read");
            findings.push(Finding::new(
                name,
                problem,
                "see the daemon's log: `journalctl -u ringfence`",
            ));
        }
    }
    for heard in list(status, "hearing") {
        let [source, problem, mend] = ["source", "problem", "mend"].map(|key| string(heard, key));
        findings.push(Finding::new(&source, problem, mend));
    }
    findings
}

/// As `doctor --json` prints it.
pub fn to_json(findings: &[Finding]) -> Value {
    json!({ "ok": findings.is_empty(), "findings": findings })
}

/// As `doctor` prints it.
pub fn to_text(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "nothing is wrong\n".to_owned();
    }
    findings
        .iter()
        .map(|Finding { subject, problem, mend, .. }| format!("{subject}: {problem}\n    {mend}\n"))
        .collect::<Vec<_>>()
        .concat()
}

#[cfg(test)]
mod tests;

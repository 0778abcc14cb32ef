//! `status --check`: one line and an exit status for whoever watches over many hosts, as plugins of Nagios
//! and its heirs have them (monitoring-plugins.org, "Plugin Output").

use serde::Serialize;
use serde_json::Value;

use crate::report::{count, list, number, string};

/// How bad it is. The numbers are exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Level {
    /// All is as it should be.
    Ok = 0,
    /// Something is wrong that leaves the host protected for now.
    Warning = 1,
    /// Packets come in that nobody judges, or attacks of which nobody hears.
    Critical = 2,
}

impl Level {
    /// The exit status.
    pub fn exit_status(self) -> u8 {
        self as u8
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The worst level of all problems.
    pub level: Level,
    /// Each problem, the worst first.
    pub problems: Vec<Problem>,
    /// What there is to say when there is none.
    #[serde(skip)]
    sum: String,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub level: Level,
    /// What it is.
    pub problem: String,
}

/// The jail that protects SIP.
const ASTERISK: &str = "asterisk-wazo";

/// So many percent of the room for bans are too many.
const NEARLY_FULL: u64 = 90;

impl Check {
    /// Looks at the daemon's answer to `status`, or at why there is none.
    pub fn of(status: &Result<Value, String>) -> Self {
        let mut problems = Vec::new();
        let mut found = |level, problem: String| problems.push(Problem { level, problem });
        let mut sum = String::new();
        match status {
            Err(why) => found(Level::Critical, why.clone()),
            Ok(status) => {
                of_packets(status, &mut found);
                of_sources(status, &mut found);
                of_daemon(status, &mut found);
                sum = sum_of(status);
            }
        }
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.level));
        let level = problems.first().map_or(Level::Ok, |worst| worst.level);
        Self { level, problems, sum }
    }

    /// One line, without its end.
    pub fn line(&self) -> String {
        let said: Vec<&str> = self.problems.iter().map(|problem| &*problem.problem).collect();
        let said = if said.is_empty() { self.sum.clone() } else { said.join("; ") };
        // A line feed or a bar would be another line, or figures.
        let said = said.replace('\n', " ").replace('|', "/");
        format!("RINGFENCE {}: {said}", self.level.as_str())
    }
}

fn sum_of(status: &Value) -> String {
    let names: Vec<String> =
        list(status, "interfaces").map(|interface| string(interface, "name")).collect();
    let bans = count(number(&status["bans"], "active"), "ban");
    format!("protects {}, {bans} in force", names.join(" and "))
}

fn of_packets(status: &Value, found: &mut impl FnMut(Level, String)) {
    for interface in list(status, "interfaces") {
        let name = string(interface, "name");
        if interface["protected"] == false {
            found(Level::Critical, format!("{name} is unprotected: {}", string(interface, "why")));
        } else if interface["learning"] == false {
            let why = string(interface, "not_learning");
            found(Level::Warning, format!("{name}: no known peers are learned: {why}"));
        }
    }
    for exposure in list(status, "exposure") {
        let (subject, problem) = (string(exposure, "subject"), string(exposure, "problem"));
        found(Level::Critical, format!("not seen: {subject}: {problem}"));
    }
    if status["enforcing"] == false {
        found(Level::Warning, "a dry run: nothing is dropped".to_owned());
    }
}

fn of_sources(status: &Value, found: &mut impl FnMut(Level, String)) {
    let of_asterisk = || list(status, "sources").filter(|source| source["jail"] == ASTERISK);
    let is_deaf = of_asterisk().next().is_some() && of_asterisk().all(|s| s["state"] != "ok");
    for source in list(status, "sources").filter(|source| source["state"] != "ok") {
        let level =
            if is_deaf && source["jail"] == ASTERISK { Level::Critical } else { Level::Warning };
        let (name, why) = (string(source, "name"), string(source, "why"));
        found(level, format!("{name} is not read: {why}"));
    }
    for finding in list(status, "hearing") {
        let (source, problem) = (string(finding, "source"), string(finding, "problem"));
        found(Level::Warning, format!("{source}: {problem}"));
    }
}

fn of_daemon(status: &Value, found: &mut impl FnMut(Level, String)) {
    let store = &status["store"];
    if store["state"] != "ok" {
        let (path, why) = (string(store, "path"), string(store, "why"));
        found(Level::Warning, format!("bans are not written down: {path}: {why}"));
    }
    let bans = &status["bans"];
    let (active, capacity) = (number(bans, "active"), number(bans, "capacity"));
    if capacity > 0 && active.saturating_mul(100) >= capacity.saturating_mul(NEARLY_FULL) {
        found(
            Level::Warning,
            format!("{active} bans are in force, and there is room for {capacity}"),
        );
    }
    let lost = number(&status["log"], "lost");
    if lost > 0 {
        found(Level::Warning, format!("{} of the log lost", count(lost, "line")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn healthy() -> Value {
        json!({
            "enforcing": true,
            "interfaces": [
                {"name": "eth0", "protected": true, "learning": true, "why": null},
                {"name": "eth1", "protected": true, "learning": true, "why": null},
            ],
            "exposure": [],
            "hearing": [],
            "sources": [
                {"name": "asterisk-notice", "jail": "asterisk-wazo", "state": "ok", "why": null},
                {"name": "asterisk-ami", "jail": "asterisk-wazo", "state": "ok", "why": null},
                {"name": "sshd", "jail": "sshd", "state": "ok", "why": null},
            ],
            "store": {"state": "ok", "path": "/var/lib/ringfence/ringfence.db", "why": null},
            "bans": {"active": 3, "capacity": 1000},
            "log": {"lost": 0},
        })
    }

    #[test]
    fn all_is_well() {
        let check = Check::of(&Ok(healthy()));
        assert_eq!((check.level, &*check.problems), (Level::Ok, &[][..]));
        assert_eq!(check.line(), "RINGFENCE OK: protects eth0 and eth1, 3 bans in force");
    }

    #[test]
    fn what_is_wrong_is_said_and_the_worst_decides() {
        type Changes<'a> = &'a [(&'a str, Value)];
        let failed = json!("failed");
        let cases: [(Changes, Level, &str); 13] = [
            (&[("/interfaces/1/protected", false.into())], Level::Critical, "eth1 is unprotected"),
            (&[("/interfaces/0/learning", false.into())], Level::Warning, "learned"),
            (&[("/enforcing", false.into())], Level::Warning, "dry run"),
            (&[("/store/state", failed.clone())], Level::Warning, "ringfence.db"),
            (&[("/sources/2/state", failed.clone())], Level::Warning, "sshd is not read"),
            (&[("/sources/0/state", failed.clone())], Level::Warning, "asterisk-notice"),
            (
                &[("/sources/0/state", failed.clone()), ("/sources/1/state", "waiting".into())],
                Level::Critical,
                "asterisk-ami is not read",
            ),
            (&[("/bans/active", 899.into())], Level::Ok, "899 bans"),
            (&[("/bans/active", 900.into())], Level::Warning, "room for 1000"),
            (&[("/log/lost", 7.into())], Level::Warning, "7 lines"),
            (
                &[("/exposure", json!([{"subject": "eth2", "problem": "a|b\nc", "mend": ""}]))],
                Level::Critical,
                "not seen: eth2: a/b c",
            ),
            (
                &[("/hearing", json!([{"source": "sshd", "problem": "silent", "mend": ""}]))],
                Level::Warning,
                "sshd: silent",
            ),
            (
                &[("/store/state", failed), ("/interfaces/0/protected", false.into())],
                Level::Critical,
                "CRITICAL: eth0 is unprotected: ; bans are not",
            ),
        ];
        for (changes, level, expected) in cases {
            let mut status = healthy();
            for (place, value) in changes {
                *status.pointer_mut(place).unwrap() = value.clone();
            }
            let check = Check::of(&Ok(status));
            let line = check.line();
            assert_eq!(check.level, level, "{line}");
            assert!(line.contains(expected) && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn no_daemon_is_critical_and_nonsense_does_not_panic() {
        let check = Check::of(&Err("no daemon answers".to_owned()));
        assert_eq!((check.level, check.level.exit_status()), (Level::Critical, 2));
        assert_eq!(check.line(), "RINGFENCE CRITICAL: no daemon answers");
        for nonsense in [json!(null), json!([]), json!({"interfaces": 7, "sources": "x"})] {
            let _line = Check::of(&Ok(nonsense)).line();
        }
    }
}

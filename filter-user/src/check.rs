//! `status --check`: one line and an exit status for monitoring systems, in the format of Nagios plugins
//! (monitoring-plugins.org, "Plugin Output").

use api::{EnforcementState, Source, Status};
use serde::Serialize;

use crate::faults::{Fault, faults};
use crate::report::count;

/// The severity. The numbers are exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Level {
    /// There are no problems.
    Ok = 0,
    /// There is a problem, but the host is still protected.
    Warning = 1,
    /// Packets pass unfiltered, or attacks are not noticed.
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

/// The result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The worst level of all problems.
    pub level: Level,
    /// Each problem, the worst first.
    pub problems: Vec<Problem>,
    /// The text if there are no problems.
    #[serde(skip)]
    sum: String,
}

/// A problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its severity.
    pub level: Level,
    /// Its description.
    pub problem: String,
}

impl Check {
    /// Checks the daemon's answer to `status`, or the reason why there is none.
    pub fn of(status: &Result<Status, String>) -> Self {
        let (mut problems, sum) = match status {
            Err(why) => {
                (vec![Problem { level: Level::Critical, problem: why.clone() }], String::new())
            }
            Ok(status) => (faults(status).iter().filter_map(problem).collect(), sum_of(status)),
        };
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.level));
        let level = problems.first().map_or(Level::Ok, |worst| worst.level);
        Self { level, problems, sum }
    }

    /// One line, without its end.
    pub fn line(&self) -> String {
        let said: Vec<&str> = self.problems.iter().map(|problem| &*problem.problem).collect();
        let said = if said.is_empty() { self.sum.clone() } else { said.join("; ") };
        // A line feed would begin another line, and a bar performance data.
        let said = said.replace('\n', " ").replace('|', "/");
        format!("RINGFENCE {}: {said}", self.level.as_str())
    }
}

fn sum_of(status: &Status) -> String {
    let names: Vec<&str> = status.interfaces.iter().map(|interface| &*interface.name).collect();
    let bans = count(status.bans.active, "ban");
    format!("protects {}, {bans} in force", names.join(" and "))
}

/// The severity of a fault for monitoring.
pub(crate) fn level(fault: &Fault<'_>) -> Level {
    problem(fault).map_or(Level::Ok, |problem| problem.level)
}

/// A fault with its severity, for those who are alerted: monitoring does not ask for silence, which `hearing` judges
/// once it has heard a source.
pub(crate) fn described(fault: &Fault<'_>) -> Option<(Level, String)> {
    if let Fault::Silent(source) = fault {
        let text = format!("nothing has come from {} since the daemon started", source.name);
        return Some((Level::Warning, text));
    }
    problem(fault).map(|problem| (problem.level, problem.problem))
}

/// A fault as a problem, if it matters for monitoring.
fn problem(fault: &Fault<'_>) -> Option<Problem> {
    let why = |why: &Option<String>| why.clone().unwrap_or_default();
    let (level, problem) = match fault {
        Fault::Unprotected(interface) => {
            (Level::Critical, format!("{} is unprotected: {}", interface.name, why(&interface.why)))
        }
        Fault::NotLearning(interface) => {
            let why = why(&interface.not_learning);
            (Level::Warning, format!("{}: no known peers are learned: {why}", interface.name))
        }
        Fault::Exposed(one) => {
            (Level::Critical, format!("not seen: {}: {}", one.subject, one.problem))
        }
        Fault::StoreFailed(store) => {
            (Level::Warning, format!("bans are not stored: {}: {}", store.path, why(&store.why)))
        }
        Fault::NotEnforcing(state) => not_enforcing(*state)?,
        Fault::Unread { source: Source { name, why: reason, .. }, is_deaf } => {
            let level = if *is_deaf { Level::Critical } else { Level::Warning };
            (level, format!("{name} is not read: {}", why(reason)))
        }
        Fault::Unrecognised(heard) => {
            (Level::Warning, format!("{}: {}", heard.source, heard.problem))
        }
        Fault::FeedFailed(feed) => {
            let (name, state) = (&feed.name, feed.state.as_str());
            (Level::Warning, format!("the feed {name} is {state}: {}", why(&feed.problem)))
        }
        Fault::GeoFailed(geo) => {
            (Level::Warning, format!("geo is {}: {}", geo.state.as_str(), why(&geo.problem)))
        }
        Fault::FleetFailed(fleet) => (
            Level::Warning,
            format!("the fleet is {}: {}", fleet.state.as_str(), why(&fleet.problem)),
        ),
        Fault::NearlyFull(bans) => (
            Level::Warning,
            format!("{} bans are in force, with room for {}", bans.active, bans.capacity),
        ),
        Fault::AlertFailing(alert) => {
            (Level::Warning, format!("{} is not sent: {}", alert.name, alert.problem))
        }
        Fault::LogIncomplete(log) => {
            (Level::Warning, format!("{} of the log lost", count(log.lost, "line")))
        }
        // The cost of reading, and lines that are already lost, are for the doctor.
        Fault::Fallback(_) | Fault::Silent(_) | Fault::Strained(..) | Fault::Lost(_) => {
            return None;
        }
    };
    Some(Problem { level, problem })
}

fn not_enforcing(state: EnforcementState) -> Option<(Level, String)> {
    let (level, problem) = match state {
        EnforcementState::Enforcing => return None,
        EnforcementState::DryRun => (Level::Warning, "dry run: nothing is dropped"),
        EnforcementState::Unconfirmed => {
            (Level::Warning, "the first start is not confirmed yet: `ringfence confirm`")
        }
        EnforcementState::Lapsed => {
            (Level::Critical, "the first start was not confirmed: nothing is dropped")
        }
        EnforcementState::Disabled => {
            (Level::Critical, "disabled: nothing is dropped until `ringfence panic --off`")
        }
    };
    Some((level, problem.to_owned()))
}

#[cfg(test)]
mod tests {
    use api::{
        Exposure, FeedHealth, FeedState, FleetHealth, FleetState, GeoState, GeoStatus, Hearing,
        State, StoreState,
    };

    use super::*;
    use crate::examples::healthy;

    #[test]
    fn all_is_well() {
        let check = Check::of(&Ok(healthy()));
        assert_eq!((check.level, &*check.problems), (Level::Ok, &[][..]));
        assert_eq!(check.line(), "RINGFENCE OK: protects eth0 and eth1, 3 bans in force");
    }

    fn feed(state: FeedState) -> FeedHealth {
        let (name, problem) = ("drop".to_owned(), Some("no route".to_owned()));
        FeedHealth { name, state, problem, fetched: None }
    }

    #[test]
    fn a_fleet_that_is_not_connected_is_said() {
        for (uptime, state, problem, level) in [
            (5, FleetState::Disconnected, Some("no route"), Level::Warning),
            (5, FleetState::Connected, Some("it may not write"), Level::Warning),
            (5, FleetState::Connected, None, Level::Ok),
            (61, FleetState::NoAgent, Some("it does not run"), Level::Warning),
            // The agent starts after the daemon.
            (5, FleetState::NoAgent, Some("it does not run"), Level::Ok),
        ] {
            let mut status = healthy();
            status.uptime_seconds = uptime;
            let problem = problem.map(str::to_owned);
            status.fleet = Some(FleetHealth { state, problem, ..FleetHealth::default() });
            let check = Check::of(&Ok(status));
            assert_eq!(check.level, level, "{state:?}: {}", check.line());
            let is_said = check.line().contains("the fleet is");
            assert_eq!(is_said, level == Level::Warning, "{}", check.line());
        }
    }

    #[test]
    fn what_is_wrong_is_said_and_the_worst_decides() {
        type Change = fn(&mut Status);
        let cases: [(Change, Level, &str); 24] = [
            (|s| s.interfaces[1].protected = false, Level::Critical, "eth1 is unprotected"),
            (|s| s.interfaces[0].learning = false, Level::Warning, "learned"),
            (|s| s.interfaces[0].fallback = Some("why".to_owned()), Level::Ok, "eth0"),
            (|s| s.enforcement.state = EnforcementState::DryRun, Level::Warning, "dry run"),
            (|s| s.enforcement.state = EnforcementState::Unconfirmed, Level::Warning, "confirm"),
            (|s| s.enforcement.state = EnforcementState::Lapsed, Level::Critical, "not confirmed"),
            (|s| s.enforcement.state = EnforcementState::Disabled, Level::Critical, "panic --off"),
            (|s| s.store.state = StoreState::Failed, Level::Warning, "not stored"),
            (|s| s.sources[2].state = State::Failed, Level::Warning, "sshd is not read"),
            (|s| s.sources[0].state = State::Failed, Level::Warning, "asterisk-notice"),
            (|s| s.sources[0].lost = 3, Level::Ok, "protects"),
            (
                |s| {
                    s.sources[0].state = State::Failed;
                    s.sources[1].state = State::Waiting;
                },
                Level::Critical,
                "asterisk-ami is not read",
            ),
            (|s| (s.bans.active, s.bans.capacity) = (0, 0), Level::Ok, "0 bans"),
            (|s| (s.bans.active, s.bans.capacity) = (899, 1000), Level::Ok, "899 bans"),
            (|s| (s.bans.active, s.bans.capacity) = (900, 1000), Level::Warning, "room for 1000"),
            (
                |s| {
                    let (name, problem) = ("ops".to_owned(), "curl: (7)".to_owned());
                    s.alerts = vec![api::FailingAlert { name, problem }];
                },
                Level::Warning,
                "ops is not sent: curl",
            ),
            (|s| s.log.lost = 7, Level::Warning, "7 lines"),
            (
                |s| s.feeds = vec![feed(FeedState::Failing)],
                Level::Warning,
                "the feed drop is failing: no route",
            ),
            (|s| s.feeds = vec![feed(FeedState::Expired)], Level::Warning, "drop is expired"),
            (|s| s.feeds = vec![feed(FeedState::Paused)], Level::Ok, "3 bans"),
            (
                |s| {
                    let (state, problem) = (GeoState::Refused, Some("a gateway".to_owned()));
                    s.geo = Some(GeoStatus { state, problem, ..GeoStatus::default() });
                },
                Level::Warning,
                "geo is refused: a gateway",
            ),
            (
                |s| {
                    let (subject, problem) = ("eth2".to_owned(), "a|b\nc".to_owned());
                    s.exposure = vec![Exposure { subject, problem, remedy: String::new() }];
                },
                Level::Critical,
                "not seen: eth2: a/b c",
            ),
            (
                |s| {
                    let [source, kind, problem] = ["sshd", "silent", "silent"].map(str::to_owned);
                    s.hearing = vec![Hearing { source, kind, problem, remedy: String::new() }];
                },
                Level::Warning,
                "sshd: silent",
            ),
            (
                |s| {
                    s.store.state = StoreState::Failed;
                    s.interfaces[0].protected = false;
                },
                Level::Critical,
                "CRITICAL: eth0 is unprotected: ; bans are not",
            ),
        ];
        for (change, level, expected) in cases {
            let mut status = healthy();
            change(&mut status);
            let check = Check::of(&Ok(status));
            let line = check.line();
            assert_eq!(check.level, level, "{line}");
            assert!(line.contains(expected) && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn no_daemon_is_critical() {
        let check = Check::of(&Err("no daemon answers".to_owned()));
        assert_eq!((check.level, check.level.exit_status()), (Level::Critical, 2));
        assert_eq!(check.line(), "RINGFENCE CRITICAL: no daemon answers");
    }
}

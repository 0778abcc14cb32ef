//! A configuration that closes more than the last one: unless an administrator confirms within minutes that
//! the host can still be reached, the services that were confirmed last are closed again, and no others.
//!
//! Both are kept in a file in the state directory, so that a restart neither confirms nor repeats it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{info, warn};

use crate::clock::KernelTime;
use crate::config::{Config, Exposure, PortGuard, Service, SipPorts};
use crate::{duration, whole_file};

/// The name of the file.
const NAME: &str = "exposure";

/// The services that are closed: those that were confirmed, or others on trial.
#[derive(Debug)]
pub(super) struct Trial {
    file: PathBuf,
    confirmed: Exposure,
    state: State,
}

/// The state of the configured services.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// They are confirmed.
    Confirmed,
    /// They are closed on trial since then; `logins` is the number of logins when that began.
    Awaited { since: KernelTime, logins: u64 },
    /// They were not confirmed in time.
    Lapsed(Exposure),
}

impl Trial {
    /// Reads the file in the state directory; `configured` counts as confirmed if there is none.
    pub(super) fn read(state: &Path, configured: &Exposure) -> Self {
        let file = state.join(NAME);
        let text = fs::read_to_string(&file).ok();
        let of = |word: &str| text.as_deref().map(|text| parse(text, word));
        let lapsed = of("lapsed").filter(|lapsed| *lapsed != Exposure::default());
        let trial = Self {
            confirmed: of("confirmed").unwrap_or_else(|| configured.clone()),
            state: lapsed.map_or(State::Confirmed, State::Lapsed),
            file,
        };
        if text.is_none() {
            trial.keep();
        }
        trial
    }

    /// The services that are closed, of those that are `configured`.
    pub(super) fn in_force<'a>(&'a self, configured: &'a Exposure) -> &'a Exposure {
        match self.state {
            State::Lapsed(_) => &self.confirmed,
            State::Confirmed | State::Awaited { .. } => configured,
        }
    }

    /// Whether the confirmation of these services would be awaited.
    pub(super) fn would_await(&self, configured: &Exposure, sip: &SipPorts) -> bool {
        closes_more(configured, &self.confirmed, sip)
            && !matches!(&self.state, State::Lapsed(lapsed) if lapsed == configured)
    }

    /// Until when a confirmation is awaited; `within` is the time for it, `None` if none is necessary.
    pub(super) fn until(&self, within: Option<Duration>) -> Option<KernelTime> {
        match &self.state {
            State::Awaited { since, .. } => Some(since.after(within?)),
            State::Confirmed | State::Lapsed(_) => None,
        }
    }

    /// Takes the services of this configuration from now on.
    pub(super) fn begin(&mut self, config: &Config, logins: u64, now: KernelTime) {
        let (configured, sip) = (&config.exposure, &config.sip);
        let within = config.confirm.within();
        if within.is_none() || !closes_more(configured, &self.confirmed, sip) {
            self.confirmed = configured.clone();
            self.state = State::Confirmed;
            self.keep();
        } else if self.would_await(configured, sip) {
            self.state = State::Awaited { since: now, logins };
            let within = duration::format(within.unwrap_or_default());
            warn!(
                "`exposure` closes more services now: type `ringfence confirm` within {within}, or they open \
                 again (a new login over ssh confirms it too)"
            );
        } else {
            warn!(
                "services under `exposure` are open because they were not confirmed: `ringfence confirm`"
            );
        }
    }

    /// Lets time pass with this configuration. Returns whether other services are in force now.
    pub(super) fn tick(
        &mut self,
        config: &Config,
        logins: u64,
        is_enforced: bool,
        now: KernelTime,
    ) -> bool {
        let configured = &config.exposure;
        let State::Awaited { since, logins: before } = &mut self.state else { return false };
        let Some(within) = config.confirm.within() else {
            self.confirm(configured);
            return false;
        };
        if logins > *before {
            info!("a login over ssh has succeeded, which confirms `exposure`");
            self.confirm(configured);
            return false;
        }
        if !is_enforced {
            *since = now;
            return false;
        }
        if now < since.after(within) {
            return false;
        }
        warn!(
            "`exposure` was not confirmed, so the services that it closed are open again: `ringfence \
             confirm` closes them"
        );
        self.state = State::Lapsed(configured.clone());
        self.keep();
        true
    }

    /// Confirms these services. Returns whether a confirmation was awaited or overdue.
    pub(super) fn confirm(&mut self, configured: &Exposure) -> bool {
        if self.state == State::Confirmed {
            return false;
        }
        self.confirmed = configured.clone();
        self.state = State::Confirmed;
        self.keep();
        true
    }

    fn keep(&self) {
        let mut text = written("confirmed", &self.confirmed);
        if let State::Lapsed(lapsed) = &self.state {
            text += &written("lapsed", lapsed);
        }
        if let Err(error) = whole_file::replace(&self.file, text.as_bytes()) {
            warn!("{error:#}");
        }
    }
}

/// Whether one closes a port to a source to which the other opens it.
fn closes_more(new: &Exposure, old: &Exposure, sip: &SipPorts) -> bool {
    if new.dry_run {
        return false;
    }
    let guards =
        |exposure: &Exposure| if exposure.dry_run { Vec::new() } else { exposure.guards(sip) };
    let old = guards(old);
    guards(new).iter().any(|new| {
        // The last entry for a port counts.
        let open_to = |port: u16| {
            let of_port = |old: &&PortGuard| old.tcp == new.tcp && old.range.contains(port);
            old.iter().rev().find(of_port).map(|old| old.open_to)
        };
        new.range.ports().any(|port| open_to(port).is_none_or(|old| old & !new.open_to != 0))
    })
}

fn written(word: &str, exposure: &Exposure) -> String {
    let line = |key: &str, service: &Service| format!("{word} {key} {service}");
    let trusted = exposure.trusted.iter().map(|service| line("trusted", service));
    let closed = exposure.closed.iter().map(|service| line("closed", service));
    let dry_run = exposure.dry_run.then(|| format!("{word} dry_run"));
    let mut lines: Vec<String> = trusted.chain(closed).chain(dry_run).collect();
    lines.push(String::new());
    lines.join("\n")
}

/// The services in the lines that begin with this word. Others are left out, and so open.
fn parse(text: &str, word: &str) -> Exposure {
    let mut exposure = Exposure::default();
    for line in text.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            [of, "dry_run"] if of == word => exposure.dry_run = true,
            [of, "trusted", name] if of == word => exposure.trusted.extend(name.parse::<Service>()),
            [of, "closed", name] if of == word => exposure.closed.extend(name.parse::<Service>()),
            _ => {}
        }
    }
    exposure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Confirm;

    fn config(exposure: &Exposure) -> Config {
        Config { exposure: exposure.clone(), ..Config::default() }
    }

    fn exposure(trusted: &[&str], closed: &[&str], dry_run: bool) -> Exposure {
        let all = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let mut exposure = Exposure::default();
        (exposure.trusted, exposure.closed, exposure.dry_run) =
            (all(trusted), all(closed), dry_run);
        exposure
    }

    fn at(second: u64) -> KernelTime {
        KernelTime(second * 1_000_000_000)
    }

    #[test]
    fn only_what_closes_more_is_awaited() {
        let sip = Config::default().sip;
        let (none, ssh) = (Exposure::default(), exposure(&["ssh"], &[], false));
        for (new, old, expected) in [
            (&ssh, &none, true),
            (&ssh, &ssh, false),
            (&none, &ssh, false),
            (&exposure(&["ssh"], &[], true), &none, false),
            (&ssh, &exposure(&["ssh"], &[], true), true),
            (&exposure(&["20-30/tcp"], &[], false), &ssh, true),
            (&ssh, &exposure(&["20-30/tcp"], &[], false), false),
            (&exposure(&[], &["22/tcp"], false), &ssh, true),
            (&exposure(&["ssh"], &["22/tcp"], false), &exposure(&[], &["ssh"], false), false),
            (&exposure(&[], &["69/udp"], false), &exposure(&[], &["69/tcp"], false), true),
        ] {
            assert_eq!(closes_more(new, old, &sip), expected, "{new:?} after {old:?}");
        }
    }

    #[test]
    fn what_nobody_confirms_goes_back_and_stays_so() {
        let directory = tempfile::tempdir().unwrap();
        let old = exposure(&["ssh"], &[], false);
        let new = exposure(&["ssh", "https"], &["monit"], false);
        let mut trial = Trial::read(directory.path(), &old);
        trial.begin(&config(&old), 7, at(0));
        assert_eq!(trial.in_force(&old), &old);
        assert!(!trial.confirm(&old), "there is nothing to confirm");
        trial.begin(&config(&new), 7, at(0));
        assert!(!trial.tick(&config(&new), 7, true, at(299)));
        assert_eq!(trial.in_force(&new), &new);
        assert!(trial.tick(&config(&new), 7, true, at(300)));
        assert_eq!(trial.in_force(&new), &old);
        // Neither a restart nor a reload of the same tries it again.
        let mut trial = Trial::read(directory.path(), &new);
        trial.begin(&config(&new), 0, at(0));
        assert_eq!(trial.in_force(&new), &old);
        assert!(trial.confirm(&new));
        assert_eq!(trial.in_force(&new), &new);
        let mut trial = Trial::read(directory.path(), &new);
        trial.begin(&config(&new), 0, at(0));
        assert!(!trial.tick(&config(&new), 0, true, at(9999)));
        assert_eq!(trial.in_force(&new), &new);
    }

    #[test]
    fn the_time_to_confirm_is_a_setting() {
        let directory = tempfile::tempdir().unwrap();
        let new = config(&exposure(&["ssh"], &[], false));
        let within = |within| Config { confirm: Confirm { within }, ..new.clone() };
        let longer = within(Duration::from_mins(20));
        let mut trial = Trial::read(directory.path(), &Exposure::default());
        trial.begin(&longer, 0, at(0));
        assert_eq!(trial.until(longer.confirm.within()), Some(at(1200)));
        assert!(!trial.tick(&longer, 0, true, at(1199)));
        assert!(trial.tick(&longer, 0, true, at(1200)));
        let none = within(Duration::ZERO);
        let mut trial = Trial::read(directory.path(), &Exposure::default());
        assert_eq!(trial.in_force(&none.exposure), &Exposure::default(), "it has lapsed");
        trial.begin(&none, 0, at(0));
        assert!(!trial.tick(&none, 0, true, at(9999)));
        assert_eq!(trial.in_force(&none.exposure), &none.exposure);
    }

    #[test]
    fn a_login_confirms_it_and_time_runs_only_while_it_is_enforced() {
        let directory = tempfile::tempdir().unwrap();
        let new = exposure(&["ssh"], &[], false);
        let mut trial = Trial::read(directory.path(), &Exposure::default());
        trial.begin(&config(&new), 3, at(0));
        assert!(!trial.tick(&config(&new), 3, false, at(1000)));
        assert!(!trial.tick(&config(&new), 3, true, at(1299)));
        assert!(!trial.tick(&config(&new), 4, true, at(1299)));
        assert!(!trial.tick(&config(&new), 4, true, at(9999)));
        assert_eq!(trial.in_force(&new), &new);
        // A restart before that begins it anew.
        fs::write(directory.path().join(NAME), "confirmed trusted \u{0}\nlapsed x\n").unwrap();
        let mut trial = Trial::read(directory.path(), &new);
        trial.begin(&config(&new), 0, at(0));
        assert!(trial.tick(&config(&new), 0, true, at(300)));
        assert_eq!(trial.in_force(&new), &Exposure::default());
    }
}

//! Determines what a jail would have done with the attempts in some lines.
//!
//! It uses the daemon's jail and join. It cannot know what is in no log: whether packets from a source were
//! seen, and which addresses are known peers.

use std::io::Write;
use std::net::IpAddr;

use anyhow::Result;
use jiff::tz::TimeZone;

use crate::clock::KernelTime;
use crate::config::{Config, Scope, intern};
use crate::duration;
use crate::failure::{Attempt, Verdict};
use crate::jail::{BanDecision, Jail};
use crate::join::Join;
use crate::parse::dates;

/// The most sources that are watched at a time.
const SOURCES: usize = 100_000;

/// The most decisions that are shown one by one.
const TOLD: usize = 1000;

/// A jail without a host.
pub(super) struct Court<'a> {
    jail: Jail,
    join: Join,
    config: &'a Config,
    /// The first time in a line, in nanoseconds.
    began: Option<i128>,
    now: KernelTime,
    decided: Vec<(u64, BanDecision)>,
    untold: usize,
    /// Until when each banned source is banned.
    shut_out: Vec<(IpAddr, KernelTime)>,
    spared: u64,
    forgeable: u64,
    failures: u64,
    has_undated: bool,
    asks_for_witness: bool,
}

impl<'a> Court<'a> {
    /// The court for a jail in this configuration, if there is such a jail.
    pub(super) fn new(name: &str, config: &'a Config) -> Option<Self> {
        let settings = config.jails.get(name)?;
        Some(Self {
            jail: Jail::new(intern(name), settings.clone(), SOURCES),
            join: Join::default(),
            config,
            began: None,
            now: KernelTime(0),
            decided: Vec::new(),
            untold: 0,
            shut_out: Vec::new(),
            spared: 0,
            forgeable: 0,
            failures: 0,
            has_undated: false,
            asks_for_witness: false,
        })
    }

    /// Takes an attempt that the line with this number reports.
    pub(super) fn observe(&mut self, attempt: &Attempt, line: &[u8], number: u64) {
        self.tick(attempt, line);
        let address = attempt.address;
        let is_failure = attempt.verdict == Verdict::Failure;
        for attempt in attempt.clone().each() {
            self.failures += u64::from(is_failure);
            if self.is_trusted(address) {
                self.spared += u64::from(is_failure);
                continue;
            }
            if is_failure && !attempt.proven && self.jail.settings().unproven_closes().is_none() {
                self.forgeable += 1;
                continue;
            }
            if self.shut_out.iter().any(|(banned, until)| *banned == address && self.now < *until) {
                continue;
            }
            if is_failure && !self.join.is_first(&attempt, address, 0, self.now) {
                continue;
            }
            self.asks_for_witness |= attempt.needs_witness && is_failure;
            let own = self.jail.observe(&attempt, "log", self.now);
            let others = self.jail.decided_on_others();
            for decision in own.into_iter().chain(others) {
                self.note(decision, number);
            }
        }
    }

    /// Advances the time to that of a line. It never goes back.
    fn tick(&mut self, attempt: &Attempt, line: &[u8]) {
        let instant = attempt.logged_at.and_then(|at| at.instant(&TimeZone::system()));
        let year_less = || {
            let time = dates::without_year(line)?;
            Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
        };
        let Some(at) = instant.or_else(year_less) else {
            self.has_undated = true;
            return;
        };
        let at = at.as_nanosecond();
        let began = *self.began.get_or_insert(at);
        self.now = self.now.max(KernelTime(u64::try_from(at - began).unwrap_or(0)));
        while self.jail.next_timeout().is_some_and(|due| due <= self.now) {
            let before = self.jail.next_timeout();
            self.jail.handle_timeout(self.now);
            if self.jail.next_timeout() == before {
                break;
            }
        }
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        address.is_loopback()
            || self.config.trusted.iter().any(|network| network.contains(&address))
    }

    fn note(&mut self, decision: BanDecision, number: u64) {
        self.shut_out.retain(|(_, until)| self.now < *until);
        self.shut_out.push((decision.address, self.now.after(decision.bantime)));
        if self.decided.len() < TOLD {
            self.decided.push((number, decision));
        } else {
            self.untold += 1;
        }
    }

    /// Prints what the jail would have done.
    pub(super) fn print(&self, out: &mut impl Write) -> Result<()> {
        if self.failures == 0 {
            return Ok(());
        }
        let settings = self.jail.settings();
        let name = self.jail.name();
        if !settings.enabled {
            writeln!(out, "the jail {name} is not enabled, so it would have done nothing")?;
            return Ok(());
        }
        writeln!(
            out,
            "what the jail {name} would have done (maxretry {}, findtime {})",
            settings.maxretry,
            duration::format(settings.findtime)
        )?;
        if self.decided.is_empty() {
            writeln!(out, "  banned no source")?;
        }
        for (number, decision) in &self.decided {
            let BanDecision { address, scope, bantime, reason, .. } = decision;
            let did = if *scope == Scope::Throttle { "throttled" } else { "banned" };
            let (scope, time) = (self.config.ports.name(*scope), duration::format(*bantime));
            writeln!(
                out,
                "  {did} {address} for {time} after line {number}, scope {scope}: {reason}"
            )?;
        }
        if self.untold > 0 {
            writeln!(out, "  and {} more bans", self.untold)?;
        }
        if self.asks_for_witness {
            writeln!(
                out,
                "  only if packets from these sources were seen on a SIP port: an attacker can \
                forge such lines"
            )?;
        }
        if self.spared > 0 {
            writeln!(
                out,
                "  {} failures are from trusted addresses, which are never banned",
                self.spared
            )?;
        }
        if self.forgeable > 0 {
            writeln!(
                out,
                "  {} failures do not count, because their source may be forged \
                (`unproven_scope`)",
                self.forgeable
            )?;
        }
        if self.has_undated {
            writeln!(
                out,
                "  some lines have no date that can be read; they count as simultaneous"
            )?;
        }
        Ok(())
    }
}

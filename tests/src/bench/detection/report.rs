//! The table of a run, as text and as a page of the documentation.

use std::net::IpAddr;

use serde::Serialize;

use super::Contender;
use super::attacks::{ATTEMPTS, CALLS, GAP};
use crate::bench::reaction;
use crate::screen::Paint;

/// The result. `--json` writes its JSON form.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `detection`.
    pub benchmark: &'static str,
    /// The versions.
    pub versions: Vec<String>,
    /// The result of each contender.
    pub runs: Vec<Run>,
    /// How many guesses were answered at several rates.
    pub guesses: Option<reaction::Report>,
}

/// One contender.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// The contender.
    pub contender: Contender,
    /// Its result for each attack and forgery.
    pub seen: Vec<Seen>,
    /// Addresses that were banned although no attack came from them.
    pub hurt: Vec<IpAddr>,
    /// Registrations of the phone meanwhile.
    pub phone_attempts: u64,
    /// How many of them failed.
    pub phone_failures: u64,
}

/// One attack under one contender.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// Its name.
    pub attack: &'static str,
    /// Whether it is a forgery.
    pub is_forgery: bool,
    /// After how many attempts its source was banned or throttled.
    pub after: Option<u32>,
    /// How it was.
    pub found: Option<Found>,
    /// How many of its attempts were answered.
    pub answered: u32,
    /// Whether the address in its texts was banned.
    pub wrong_address: bool,
    /// Whether the owner of a forged source can register afterwards.
    pub stranger_registers: Option<bool>,
    /// Whether it came over TCP.
    pub over_tcp: bool,
}

/// A ban or a throttle.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Whether it is a throttle.
    pub is_throttle: bool,
    /// The sources that reported the failures.
    pub by: String,
}

impl Seen {
    /// A cell of the table.
    fn cell(&self) -> String {
        if self.is_forgery {
            return match (self.wrong_address, self.stranger_registers) {
                (true, _) => "**the victim is banned**".to_owned(),
                (false, Some(false)) => "**the stranger is shut out**".to_owned(),
                (false, Some(true)) => "the stranger registers".to_owned(),
                (false, None) => "nobody is hurt".to_owned(),
            };
        }
        let Some((after, found)) = self.after.zip(self.found.as_ref()) else {
            return format!("not seen ({} answered)", self.answered);
        };
        let kind = if found.is_throttle { "throttle" } else { "ban" };
        let by = if found.by.is_empty() { String::new() } else { format!(", {}", found.by) };
        format!("{after}: {kind}{by} ({} answered)", self.answered)
    }
}

impl Run {
    fn met(&self) -> bool {
        let harmless = |seen: &Seen| !seen.wrong_address && seen.stranger_registers != Some(false);
        self.hurt.is_empty() && self.phone_failures == 0 && self.seen.iter().all(harmless)
    }
}

impl Report {
    pub(super) fn new(
        versions: Vec<String>,
        runs: Vec<Run>,
        guesses: Option<reaction::Report>,
    ) -> Self {
        Self { benchmark: "detection", versions, runs, guesses }
    }

    /// Whether Ringfence has hurt nobody.
    pub fn targets_met(&self) -> bool {
        let mut own = self.runs.iter().filter(|run| run.contender.is_ringfence()).peekable();
        own.peek().is_some() && own.all(Run::met)
    }

    /// The report as text.
    pub fn text(&self, paint: Paint) -> String {
        let mut lines = Vec::new();
        for run in &self.runs {
            lines.extend([String::new(), paint.bold(run.contender.name())]);
            for seen in &run.seen {
                lines.push(format!("  {:<50} {}", seen.attack, seen.cell()));
            }
            lines.push(format!(
                "  the phone failed {} of {} times; banned without an attack: {:?}",
                run.phone_failures, run.phone_attempts, run.hurt
            ));
        }
        lines.extend(self.guesses.iter().map(|guesses| guesses.text(paint)));
        lines.join("\n")
    }

    /// The report as a page.
    pub fn page(&self) -> String {
        let names: Vec<&str> = self.runs.iter().map(|run| run.contender.name()).collect();
        let guesses = self.guesses.as_ref().map_or_else(String::new, |guesses| {
            format!(
                "## Guesses beyond the limit\n\n\
                 One source guesses passwords with SIPp, at a real Asterisk: over UDP, or over one connection. A cell \
                 says how many more guesses were answered than the jail allows (median [least-most] of {} runs), and how \
                 long after the first packet the last one was; *all* means that the guesser was never stopped. Wazo's \
                 jail for fail2ban bans only UDP.\n\n{}\n",
                guesses.summaries.first().map_or(0, |summary| summary.runs),
                guesses.page()
            )
        });
        let rows = |is_forgery: bool| -> String {
            let first = self.runs.first().map_or(&[][..], |run| &run.seen);
            let of = first.iter().enumerate().filter(|(_, seen)| seen.is_forgery == is_forgery);
            let row = |(place, seen): (usize, &Seen)| {
                let cells = self.runs.iter().filter_map(|run| run.seen.get(place)).map(Seen::cell);
                format!("| {} | {} |\n", seen.attack, cells.collect::<Vec<_>>().join(" | "))
            };
            of.map(row).collect::<Vec<_>>().concat()
        };
        let head = |first: &str| {
            let line = "|---".repeat(names.len() + 1);
            format!("| {first} | {} |\n{line}|\n", names.join(" | "))
        };
        let phone = |run: &Run| {
            let Run { contender, phone_failures, phone_attempts, hurt, .. } = run;
            let hurt: Vec<String> = hurt.iter().map(ToString::to_string).collect();
            let hurt = if hurt.is_empty() { "nobody".to_owned() } else { hurt.join(", ") };
            format!("| {} | {phone_failures} of {phone_attempts} | {hurt} |\n", contender.name())
        };
        let phones = self.runs.iter().map(phone).collect::<Vec<_>>().concat();
        format!(
            "<!-- Written by `cargo xtask bench detection --page docs/detection.md`. -->\n\n\
             # Which attacks are seen\n\n\
             Every attack ran live on Asterisk 22 with the configuration of a Wazo host, each from an address of \
             its own, {ATTEMPTS} attempts ({CALLS} calls after a login), one every {} ms. An attempt is a request, and the \
             answer to its challenge if the attacker answers. Versions: {}.\n\n\
             A cell says after how many attempts the source was banned or throttled, which sources reported the \
             failures, and how many attempts were answered. fail2ban counts 10 failures within ten minutes with \
             its own jail, and 15 with Wazo's; Ringfence counts 15, or 10 accounts, and three calls to numbers that do \
             not exist as one failure. *Ringfence, log* does not see Asterisk's answers, and *Ringfence, wire* reads \
             no log.\n\n\
             {}{}\n\
             ## Forgeries\n\n\
             Each forgery either names an address that sent nothing, or uses the address of a stranger, who afterwards \
             registers with the right password. Neither may be shut out.\n\n\
             {}{}\n\
             {guesses}\
             ## Others\n\n\
             Meanwhile, a phone registered every second. The addresses that were banned without an attack are the \
             victims that the forgeries above name.\n\n\
             | | failed registrations | banned without an attack |\n|---|---|---|\n{phones}\n\
             `cargo xtask bench week` shows slower attacks, and a week of legitimate traffic.\n",
            GAP.as_millis(),
            self.versions.join(", "),
            head("attack"),
            rows(false),
            head("forgery"),
            rows(true),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(attack: &'static str, is_forgery: bool) -> Seen {
        let (after, found, answered) = (None, None, 40);
        let (wrong_address, stranger_registers, over_tcp) = (false, None, false);
        Seen {
            attack,
            is_forgery,
            after,
            found,
            answered,
            wrong_address,
            stranger_registers,
            over_tcp,
        }
    }

    #[test]
    fn a_cell_says_how_it_was_seen_or_who_is_hurt() {
        let found = |is_throttle| Some(Found { is_throttle, by: "log, wire".to_owned() });
        let banned =
            Seen { after: Some(15), found: found(false), answered: 15, ..seen("a", false) };
        let shut_out = Seen { stranger_registers: Some(false), ..seen("a", true) };
        for (of, expected) in [
            (seen("a", false), "not seen (40 answered)"),
            (banned.clone(), "15: ban, log, wire (15 answered)"),
            (Seen { found: found(true), ..banned }, "15: throttle, log, wire (15 answered)"),
            (seen("a", true), "nobody is hurt"),
            (Seen { wrong_address: true, ..seen("a", true) }, "**the victim is banned**"),
            (Seen { stranger_registers: Some(true), ..seen("a", true) }, "the stranger registers"),
            (shut_out.clone(), "**the stranger is shut out**"),
        ] {
            assert_eq!(of.cell(), expected);
        }
        let report = |contender, seen: Seen| {
            let run = Run {
                contender,
                seen: vec![seen],
                hurt: Vec::new(),
                phone_attempts: 9,
                phone_failures: 0,
            };
            Report::new(vec!["Ringfence 0.1.0".to_owned()], vec![run], None)
        };
        assert!(report(Contender::Ringfence, banned.clone()).targets_met());
        assert!(!report(Contender::Ringfence, shut_out).targets_met());
        assert!(!report(Contender::Fail2ban, banned.clone()).targets_met());
        let page = report(Contender::Ringfence, banned).page();
        assert!(page.contains("| a | 15: ban, log, wire (15 answered) |\n"), "{page}");
        assert!(page.contains("| Ringfence, log and wire | 0 of 9 | nobody |\n"), "{page}");
    }
}

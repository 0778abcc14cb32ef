//! `test-log`: shows what a jail recognises in a log file, as users of `fail2ban-regex` expect, and what the
//! jail would have done.
//!
//! It reads as the daemon does ([`Reader`], [`jail_filter`]), so that both agree on every line.

mod verdict;

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use self::verdict::Court;
use crate::clock::Rfc3339;
use crate::config::{Config, RECIDIVE};
use crate::fail2ban::{Filter, LogType, Options};
use crate::failure::{Attempt, Verdict};
use crate::hearing::{Sample, Unparsed};
use crate::inputs::{self, Input};
use crate::jail_filter;
use crate::parse::suspect::looks_like_failure;
use crate::parse::{Parser, Reader, Said, UNDERSTOOD, journal, sshd, why_ignored};
use crate::register::{SOURCES, SSHD, Source};
use crate::source::log_tail::LINE_MAX;

/// How many unrecognised lines are shown.
const SAMPLES: usize = 5;

/// Why an entry of the journal is not read for sshd.
const NOT_ROOTS: &str = "not an entry of root's sshd";

/// What to run, and how to print it.
#[derive(Clone, Copy, Debug)]
pub struct Test<'a> {
    /// The jail, or the path of a fail2ban filter.
    pub jail: &'a str,
    /// The configuration of the jail.
    pub config: &'a Config,
    /// The log, unless it is standard input.
    pub path: Option<&'a Path>,
    /// Print a JSON document for each recognised line, instead of a summary.
    pub json: bool,
    /// With JSON, print every line; in a summary, every unrecognised line.
    pub all: bool,
    /// In a summary, list the recognised lines.
    pub matched: bool,
}

/// The parser of the lines.
struct Lines {
    file: Reader,
    /// The parser of journal entries, if it is a different one.
    journal: Option<Reader>,
    is_sshd: bool,
}

impl Lines {
    /// The parser or the filter of a jail in this configuration, or a filter by its path.
    fn new(test: &Test<'_>) -> Result<Self> {
        let name = test.jail;
        if is_filter(name) {
            let load = |log| -> Result<Reader> {
                let options = Options { log, ..Options::default() };
                Ok(Reader::new(Parser::Filter(Arc::new(Filter::load(name, options)?))))
            };
            let journal = Some(load(LogType::Journal)?);
            return Ok(Self { file: load(LogType::File)?, journal, is_sshd: false });
        }
        let Some(jail) = test.config.jails.get(name) else {
            let known: Vec<&str> = test.config.jails.keys().copied().collect();
            let known = known.join(", ");
            bail!(
                "there is no jail `{name}`; there are {known}. Name a fail2ban filter by its path, \
                such as /etc/fail2ban/filter.d/{name}.conf"
            )
        };
        // The log of another source of the jail may be one that no filter reads.
        let input = |source: &Source| inputs::of(source, test.config, Path::new("/run"));
        let is_read = |source: &&Source| {
            source.jail == name
                && test.path.is_some_and(|log| input(source) == Some(Input::Log(log)))
        };
        let of_filter = SOURCES.iter().find(is_read).is_none_or(|source| source.takes_filter);
        let load = |log| jail_filter::parser(name, jail, log).map(|parser| parser.map(Reader::new));
        let is_sshd = name == SSHD;
        if of_filter && let Some(file) = load(LogType::File)? {
            return Ok(Self { file, journal: load(LogType::Journal)?, is_sshd });
        }
        let Some((parser, _rules)) = jail_filter::built_in(name) else {
            if name == RECIDIVE {
                bail!("the jail `{RECIDIVE}` reads no log: it counts the bans by other jails")
            }
            bail!("the jail `{name}` has no filter; set `jails.{name}.filter`")
        };
        Ok(Self { file: Reader::new(parser), journal: None, is_sshd })
    }

    fn read(&mut self, line: &[u8]) -> Said {
        let entry = if line.first() == Some(&b'{') { journal::entry(line) } else { None };
        let Some(entry) = entry else { return self.file.read(line) };
        if self.is_sshd && !sshd::is_trusted(line) {
            return Said::Passed(NOT_ROOTS);
        }
        let Some(journal) = &mut self.journal else { return self.file.read(line) };
        match journal.read(&entry.line) {
            Said::Attempt(attempt) => {
                Said::Attempt(Box::new(Attempt { logged_at: entry.logged_at, ..*attempt }))
            }
            said @ (Said::Passed(_) | Said::Nothing) => said,
        }
    }
}

/// Whether this is the path of a fail2ban filter and not a jail.
pub fn is_filter(name: &str) -> bool {
    let file = Path::new(name.split('[').next().unwrap_or_default());
    let ends = file.extension().is_some_and(|ending| ending == "conf" || ending == "local");
    name.contains('/') || ends
}

/// Reads `log` as the log of a jail, or with a fail2ban filter, and prints the result.
///
/// # Errors
///
/// If there is no such jail or filter, or reading or writing fails.
pub fn run(test: Test<'_>, log: impl BufRead, out: impl Write) -> Result<()> {
    let lines = Lines::new(&test)?;
    if test.json { documents(lines, &test, log, out) } else { summary(lines, &test, log, out) }
}

fn documents(
    mut lines: Lines,
    test: &Test<'_>,
    log: impl BufRead,
    mut out: impl Write,
) -> Result<()> {
    each_line(log, |line, _| {
        let Some(line) = line else { return Ok(()) };
        let said = lines.read(line);
        if said == Said::Nothing && !test.all {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(line);
        match said {
            // A line can stand for several attempts.
            Said::Attempt(attempt) => {
                let document = document(&shown, &attempt);
                attempt.each().try_for_each(|_each| writeln!(out, "{document}"))
            }
            Said::Passed(why) => writeln!(out, "{}", of_nobody(&shown, why)),
            Said::Nothing => {
                let looks_like_failure = looks_like_failure(line);
                let why = "no rule matches";
                writeln!(
                    out,
                    "{}",
                    json!({
                        "line": shown,
                        "verdict": null,
                        "looks_like_failure": looks_like_failure,
                        "why": why,
                    })
                )
            }
        }
    })?;
    out.flush().context("write the result")
}

/// The document of a line that reports no attempt with an address.
fn of_nobody(line: &str, why: &str) -> Value {
    json!({
        "line": line,
        "verdict": Verdict::Ignored,
        "class": null,
        "address": null,
        "port": null,
        "account": null,
        "session": null,
        "transport": null,
        "proven": false,
        "needs_witness": false,
        "rule": null,
        "time": null,
        "why": why,
    })
}

/// The document of an attempt. It has no address if the line does not decide which one made the attempt.
fn document(line: &str, attempt: &Attempt) -> Value {
    let verdict = if attempt.decided { attempt.verdict } else { Verdict::Ignored };
    let mut document = json!({
        "line": line,
        "verdict": verdict,
        "class": attempt.class,
        "address": attempt.decided.then_some(attempt.address),
        "port": attempt.port.filter(|_port| attempt.decided),
        "account": attempt.account,
        "session": attempt.session,
        "transport": attempt.transport,
        "proven": attempt.proven,
        "needs_witness": attempt.needs_witness,
        "rule": (!attempt.rule.is_empty()).then_some(attempt.rule),
        "time": time(attempt),
    });
    if let (Some(why), Some(document)) = (why_ignored(attempt), document.as_object_mut()) {
        document.insert("why".to_owned(), why.into());
    }
    document
}

/// The time of an attempt, if its line has one.
fn time(attempt: &Attempt) -> Option<String> {
    Some(Rfc3339(attempt.logged_at?.instant(&TimeZone::system())?).to_string())
}

/// The counts of a summary.
#[derive(Default)]
struct Summary {
    lines: u64,
    verdicts: BTreeMap<&'static str, u64>,
    why: BTreeMap<&'static str, u64>,
    failures: BTreeMap<IpAddr, BTreeMap<&'static str, u64>>,
    unparsed: Unparsed,
    samples: Vec<String>,
    matched: Vec<String>,
}

impl Summary {
    fn add(&mut self, line: &[u8], said: Said, test: &Test<'_>) -> Option<Attempt> {
        let mut count = |verdict, times| *self.verdicts.entry(verdict).or_default() += times;
        let attempt = match said {
            Said::Attempt(attempt) => attempt,
            Said::Passed(why) => {
                count(why, 1);
                return None;
            }
            Said::Nothing => {
                count("no match", 1);
                let suspect = looks_like_failure(line);
                if suspect {
                    self.unparsed.add(line, Timestamp::UNIX_EPOCH);
                }
                if test.all || !suspect && self.samples.len() < SAMPLES {
                    self.samples.push(String::from_utf8_lossy(line).into_owned());
                }
                return None;
            }
        };
        if let Some(why) = why_ignored(&attempt) {
            count(UNDERSTOOD, 1);
            *self.why.entry(why).or_default() += 1;
            return None;
        }
        let times = u64::from(attempt.times);
        if attempt.verdict == Verdict::Failure {
            count("failure", times);
            let of_source = self.failures.entry(attempt.address).or_default();
            *of_source.entry(attempt.class.as_str()).or_default() += times;
        } else {
            count("success", times);
        }
        Some(*attempt)
    }
}

fn summary(
    mut lines: Lines,
    test: &Test<'_>,
    log: impl BufRead,
    mut out: impl Write,
) -> Result<()> {
    let mut summary = Summary::default();
    let mut court = Court::new(test.jail, test.config);
    let mut too_long = 0u64;
    each_line(log, |line, number| {
        summary.lines += 1;
        let Some(line) = line else {
            too_long += 1;
            return Ok(());
        };
        let said = lines.read(line);
        if test.matched && said != Said::Nothing {
            let shown = String::from_utf8_lossy(line);
            let what = match &said {
                Said::Attempt(attempt) => told(attempt),
                Said::Passed(why) => (*why).to_owned(),
                Said::Nothing => String::new(),
            };
            summary.matched.push(format!("{number}: {what}: {}", shown.escape_debug()));
        }
        if let Some(attempt) = summary.add(line, said, test)
            && let Some(court) = &mut court
        {
            court.observe(&attempt, line, number);
        }
        Ok(())
    })?;
    print(&summary, too_long, test, &mut out)?;
    if let Some(court) = court {
        court.print(&mut out)?;
    }
    out.flush().context("write the result")
}

/// An attempt in a few words.
fn told(attempt: &Attempt) -> String {
    let verdict = match attempt.verdict {
        _ if !attempt.decided => "of an unknown source",
        Verdict::Failure => "failure",
        Verdict::Success => "success",
        Verdict::Ignored => "ignored",
    };
    let class = attempt.class;
    if attempt.decided {
        format!("{verdict} ({class}) of {}", attempt.address)
    } else {
        format!("{verdict} ({class})")
    }
}

fn print(summary: &Summary, too_long: u64, test: &Test<'_>, out: &mut impl Write) -> Result<()> {
    let Summary { lines, verdicts, why, failures, unparsed, samples, matched } = summary;
    writeln!(out, "{lines} lines")?;
    for (verdict, count) in verdicts {
        writeln!(out, "  {count:>8}  {verdict}")?;
    }
    if too_long > 0 {
        writeln!(out, "  {too_long:>8}  longer than {LINE_MAX} bytes, not read")?;
    }
    if !why.is_empty() {
        writeln!(out, "why lines do not count")?;
    }
    for (why, count) in why {
        writeln!(out, "  {count:>8}  {why}")?;
    }
    if !failures.is_empty() {
        writeln!(out, "failures by source")?;
    }
    for (address, classes) in failures {
        let classes: Vec<String> =
            classes.iter().map(|(class, count)| format!("{count} {class}")).collect();
        writeln!(out, "  {address}: {}", classes.join(", "))?;
    }
    if !matched.is_empty() {
        writeln!(out, "lines that match")?;
    }
    for line in matched {
        writeln!(out, "  {line}")?;
    }
    if !unparsed.is_empty() {
        writeln!(out, "{} lines without a match look like failures, such as", unparsed.lines())?;
    }
    for Sample { text, lines, .. } in unparsed.samples() {
        writeln!(out, "  {lines} like: {text}")?;
    }
    if !samples.is_empty() {
        let which =
            if test.all { "lines without a match" } else { "some other lines without a match" };
        writeln!(out, "{which}")?;
    }
    for sample in samples {
        writeln!(out, "  {}", sample.escape_debug())?;
    }
    Ok(())
}

/// Calls `each` for every line, without its newline and with its number; with `None` for a line of more
/// than [`LINE_MAX`] bytes, which the daemon leaves out too.
fn each_line(
    mut log: impl BufRead,
    mut each: impl FnMut(Option<&[u8]>, u64) -> io::Result<()>,
) -> Result<()> {
    let (mut line, mut is_too_long, mut number) = (Vec::new(), false, 0);
    loop {
        let chunk = log.fill_buf().context("read the log")?;
        let end = memchr::memchr(b'\n', chunk);
        let is_last = chunk.is_empty();
        let part = &chunk[..end.unwrap_or(chunk.len())];
        is_too_long |= line.len() + part.len() > LINE_MAX;
        if !is_too_long {
            line.extend_from_slice(part);
        }
        let used = end.map_or(chunk.len(), |end| end + 1);
        log.consume(used);
        if end.is_some() || is_last && (is_too_long || !line.is_empty()) {
            number += 1;
            each((!is_too_long).then_some(&line), number).context("write the result")?;
            line.clear();
            is_too_long = false;
        }
        if is_last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] = b"[2026-11-22 09:32:21.1233] NOTICE[9999] res_pjsip/pjsip_distributor.c: \
        Request 'REGISTER' from '<sip:1001@192.0.2.10>' failed for '192.0.2.66:42366' \
        (callid: a) - Failed to authenticate\nsomething \xff else\nthe last one has no end";

    fn printed(json: bool, all: bool) -> String {
        text("asterisk-wazo", &Config::default(), LOG, (json, all, false))
    }

    fn text(jail: &str, config: &Config, log: &[u8], flags: (bool, bool, bool)) -> String {
        let mut out = Vec::new();
        let (json, all, matched) = flags;
        run(Test { jail, config, path: None, json, all, matched }, log, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn documents_of(jail: &str, config: &Config, log: &[u8]) -> Vec<Value> {
        let text = text(jail, config, log, (true, false, false));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_document_for_each_line_that_means_something() {
        let text = printed(true, false);
        let document: Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(document["verdict"], "failure");
        assert_eq!(document["class"], "wrong-credential");
        assert_eq!(document["address"], "192.0.2.66");
        assert_eq!(document["account"], "1001");
        assert_eq!(document["transport"], Value::Null);
        assert_eq!((&document["port"], &document["session"]), (&json!(42366), &json!("a")));
        assert_eq!(document["rule"], "failed-to-authenticate");
        assert_eq!(
            (&document["proven"], &document["needs_witness"]),
            (&json!(false), &json!(true))
        );
        assert_eq!(document.get("why"), None);
        assert!(document["time"].as_str().unwrap().ends_with('Z'));
        assert_eq!(printed(true, true).lines().count(), 3);
    }

    #[test]
    fn a_summary_counts_lines_and_sources() {
        let text = printed(false, false);
        assert!(text.starts_with("3 lines\n"), "{text}");
        assert!(text.contains("1  failure"), "{text}");
        assert!(text.contains("192.0.2.66: 1 wrong-credential"), "{text}");
        assert!(text.contains("the last one has no end"), "{text}");
    }

    #[test]
    fn long_lines_are_bounded() {
        let log = [vec![b'x'; LINE_MAX * 3], b"\nshort\n".to_vec()].concat();
        let mut lengths = Vec::new();
        each_line(io::BufReader::with_capacity(1000, &log[..]), |line, number| {
            lengths.push((line.map(<[u8]>::len), number));
            Ok(())
        })
        .unwrap();
        assert_eq!(lengths, [(None, 1), (Some(5), 2)]);
    }

    #[test]
    fn a_summary_says_what_the_jail_would_have_done() {
        let line = |n: usize| {
            format!(
                "[2026-11-22 09:{:02}:21.1233] NOTICE[9] res_pjsip/pjsip_distributor.c: Request \
                 'REGISTER' from '<sip:1@h>' failed for '192.0.2.66:5060' (callid: {n}) - Failed \
                 to authenticate\n",
                n / 2
            )
        };
        let log: String = (0..16).map(line).collect();
        let config = Config::default();
        let of = |config: &Config, log: &str| {
            text("asterisk-wazo", config, log.as_bytes(), (false, false, true))
        };
        let said = of(&config, &log);
        assert!(
            said.contains("  throttled 192.0.2.66 for 1h after line 15, scope throttle: "),
            "{said}"
        );
        assert!(said.contains("only if packets from these sources were seen"), "{said}");
        assert!(said.contains("  1: failure (wrong-credential) of 192.0.2.66: [2026"), "{said}");
        // Over an hour there are too few at a time.
        let slow = log.replace("09:0", "0");
        let slow = slow.replace(":21.1233]", ":00:21]");
        assert!(of(&config, &slow).contains("  banned no source"), "{}", of(&config, &slow));
        let trusted = vec!["192.0.2.0/24".parse().unwrap()];
        let trusting = Config { trusted, ..Config::default() };
        let said = of(&trusting, &log);
        assert!(said.contains("banned no source") && said.contains("16 failures are from trusted"));
        let mut idle = Config::default();
        idle.jails.get_mut("asterisk-wazo").unwrap().enabled = false;
        assert!(of(&idle, &log).contains("is not enabled"));
    }

    /// Dates without a year still have an order.
    #[test]
    fn sshd_is_judged_by_dates_without_a_year() {
        let line = |n: usize| {
            format!(
                "Nov 22 {:02}:43:06 pbx sshd[{n}]: Failed password for root from 192.0.2.66 port {} ssh2\n",
                n,
                1000 + n
            )
        };
        let slow: String = (0..20).map(line).collect();
        let said = text("sshd", &Config::default(), slow.as_bytes(), (false, false, false));
        assert!(said.contains("20  failure") && said.contains("banned no source"), "{said}");
        let fast = slow.replace(":43:06", "").replace("Nov 22 ", "Nov 22 10:00:");
        let said = text("sshd", &Config::default(), fast.as_bytes(), (false, false, false));
        assert!(said.contains("banned 192.0.2.66"), "{said}");
    }

    #[test]
    fn a_jail_of_the_journal_reads_entries_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let filter = directory.path().join("web.conf");
        std::fs::write(&filter, "[Definition]\nfailregex = ^\\S+ web\\[\\d+\\]: refused <HOST>$\n")
            .unwrap();
        let yaml = format!(
            "jails: {{web: {{filter: {}, journal: [\"_SYSTEMD_UNIT=web.service\"]}}}}",
            filter.display()
        );
        let config = Config::parse("config.yml".as_ref(), yaml.as_bytes()).unwrap().config;
        let entry = json!({
            "__CURSOR": "s=1;i=1", "__REALTIME_TIMESTAMP": "1795340558123456", "_HOSTNAME": "pbx",
            "SYSLOG_IDENTIFIER": "web", "_PID": "7", "MESSAGE": "refused 192.0.2.66",
        });
        for jail in ["web", filter.to_str().unwrap()] {
            let documents = documents_of(jail, &config, entry.to_string().as_bytes());
            assert_eq!(documents[0]["address"], "192.0.2.66", "{jail}");
            assert_eq!(documents[0]["time"], "2026-11-22T09:42:38Z", "{jail}");
        }
    }

    /// The same lines of a recording count here as in the daemon.
    #[test]
    fn the_daemon_reads_with_the_same() {
        let config = Config::default();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/asterisk");
        let mut failures = 0;
        for setup in ["wazo22", "stock22", "hostile"] {
            for entry in std::fs::read_dir(fixtures.join(setup)).unwrap() {
                let log = std::fs::read(entry.unwrap().path()).unwrap();
                let mut reader = Reader::new(jail_filter::built_in("asterisk-wazo").unwrap().0);
                let lines = log.split(|byte| *byte == b'\n').map(|line| reader.read(line));
                let heard = lines.filter(|said| {
                    matches!(said, Said::Attempt(attempt)
                        if attempt.verdict == Verdict::Failure && attempt.decided)
                });
                let heard = heard.count();
                let told = documents_of("asterisk-wazo", &config, &log);
                let told = told.iter().filter(|document| document["verdict"] == "failure").count();
                assert_eq!(told, heard);
                failures += told;
            }
        }
        assert!(failures > 400, "{failures}");
    }

    #[test]
    fn a_filter_of_fail2ban_reads_lines_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mine.conf");
        let definition =
            "[Definition]\nfailregex = ^failed from <HOST>$\nignoreregex = 192\\.0\\.2\\.7\n";
        std::fs::write(&path, definition).unwrap();
        let log = b"2026-11-22 09:32:21 failed from 192.0.2.66\nfailed from 192.0.2.7\n\
                    failed from localhost\nstarted\n";
        // Removing the date leaves its space, as in fail2ban.
        let filter = path.to_str().unwrap();
        let printed = |json| text(filter, &Config::default(), &log[..], (json, false, false));
        let text = printed(false);
        for line in ["4 lines", "1  understood", "1  matched, but names", "2  no match"] {
            assert!(text.contains(line), "{text}");
        }
        let documents = documents_of(filter, &Config::default(), &log[..]);
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0]["verdict"], "ignored");
        assert!(documents[1]["why"].as_str().unwrap().contains("address"));
    }

    #[test]
    fn another_jail_is_refused() {
        let config = Config::default();
        let error = |jail| {
            let test =
                Test { jail, config: &config, path: None, json: false, all: false, matched: false };
            run(test, LOG, io::sink()).unwrap_err().to_string()
        };
        assert!(error("sshd2").contains("asterisk-wazo"), "{}", error("sshd2"));
        let error = error("recidive");
        assert!(error.contains("reads no log"), "{error}");
    }
}

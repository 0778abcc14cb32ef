//! `test-log`: a log file through a jail's parser, as users of `fail2ban-regex` expect it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::clock::Rfc3339;
use crate::config::{Config, RECIDIVE};
use crate::fail2ban::{Filter, LogType, Options, Reading};
use crate::failure::{Attempt, Verdict};
use crate::hearing::{Sample, Unparsed};
use crate::jail_filter;
use crate::parse::suspect::looks_like_failure;
use crate::parse::{Function, Parser, asterisk, provd, security, sshd};

/// The longest line that is kept; the rest of a longer one is left out.
const LINE_MAX: usize = 64 * 1024;

/// Lines that no one understood, of which that many are shown.
const SAMPLES: usize = 5;

/// What reads the lines.
enum Reader {
    /// The parser of a built-in jail.
    BuiltIn(Function),
    /// A filter of fail2ban's.
    Filter(Arc<Filter>),
}

/// What one line says.
enum Said {
    /// Something about an attempt.
    Attempt(Box<Attempt>),
    /// Something that counts neither way, and why.
    Passed(&'static str),
    /// Nothing.
    Nothing,
}

impl Reader {
    /// The parser or the filter of a jail of this configuration; or a filter, which is whatever has a
    /// slash in it or ends as its file does.
    fn new(name: &str, config: &Config) -> Result<Self> {
        if is_filter(name) {
            return Ok(Self::Filter(Arc::new(Filter::load(name, Options::default())?)));
        }
        let Some(jail) = config.jails.get(name) else {
            let known: Vec<&str> = config.jails.keys().copied().collect();
            let known = known.join(", ");
            bail!(
                "there is no jail `{name}`; there are {known}; a filter of fail2ban's is named \
                 by its path, as /etc/fail2ban/filter.d/{name}.conf"
            )
        };
        Ok(match jail_filter::parser(name, jail, LogType::File)? {
            Some(Parser::Filter(filter)) => Self::Filter(filter),
            Some(Parser::BuiltIn(parse)) => Self::BuiltIn(parse),
            None => Self::BuiltIn(built_in(name)?),
        })
    }

    fn read(&self, line: &[u8]) -> Said {
        match self {
            Self::BuiltIn(parse) => {
                parse(line).map_or(Said::Nothing, |attempt| Said::Attempt(Box::new(attempt)))
            }
            Self::Filter(filter) => match filter.read(line) {
                Reading::Failure(attempt) => Said::Attempt(attempt),
                Reading::Ignored => Said::Passed(UNDERSTOOD),
                Reading::NoAddress => Said::Passed("matched, but names no single address"),
                Reading::TooComplex => {
                    Said::Passed("given up: an expression has too many ways to match")
                }
                Reading::Nothing => Said::Nothing,
            },
        }
    }
}

/// The parser of a built-in jail.
fn built_in(name: &str) -> Result<Function> {
    match name {
        "asterisk-wazo" => Ok(|line| asterisk::parse(line).or_else(|| security::parse(line))),
        "sshd" => Ok(sshd::parse),
        "wazo-provd" => Ok(provd::parse),
        RECIDIVE => bail!("the jail `{RECIDIVE}` reads no log: it hears of the bans by the others"),
        other => bail!("the jail `{other}` has no filter"),
    }
}

/// Whether this is a filter of fail2ban's by its path, and no jail.
pub fn is_filter(name: &str) -> bool {
    let file = Path::new(name.split('[').next().unwrap_or_default());
    let ends = file.extension().is_some_and(|ending| ending == "conf" || ending == "local");
    name.contains('/') || ends
}

/// A line that was understood and counts neither way.
const UNDERSTOOD: &str = "understood, and no failure";

/// Runs `log` through what reads the log of the jail `name` of this configuration, or the filter of
/// fail2ban's at that path. With
/// `json` a document for each line that means something, or with `all` for each line; otherwise a
/// summary.
///
/// # Errors
///
/// When there is no such jail or filter, or reading or writing fails.
pub fn run(
    (name, config): (&str, &Config),
    log: impl BufRead,
    json: bool,
    all: bool,
    out: impl Write,
) -> Result<()> {
    let reader = Reader::new(name, config)?;
    if json { documents(&reader, log, all, out) } else { summary(&reader, log, all, out) }
}

fn documents(reader: &Reader, log: impl BufRead, all: bool, mut out: impl Write) -> Result<()> {
    each_line(log, |line| {
        let said = reader.read(line);
        if matches!(said, Said::Nothing) && !all {
            return Ok(());
        }
        let text = String::from_utf8_lossy(line);
        let document = match &said {
            Said::Attempt(attempt) => json!({
                "line": text,
                "verdict": attempt.verdict,
                "class": attempt.class,
                "address": attempt.address,
                "account": attempt.account,
                "transport": attempt.transport,
                "proven": attempt.proven,
                "time": time(attempt),
            }),
            Said::Passed(why) => json!({ "line": text, "verdict": Verdict::Ignored, "why": why }),
            Said::Nothing => json!({
                "line": text,
                "verdict": null,
                "looks_like_failure": looks_like_failure(line),
            }),
        };
        writeln!(out, "{document}")
    })
}

/// The time of an attempt, as far as its line gives one.
fn time(attempt: &Attempt) -> Option<String> {
    Some(Rfc3339(attempt.logged_at?.instant(&TimeZone::system())?).to_string())
}

fn summary(reader: &Reader, log: impl BufRead, all: bool, mut out: impl Write) -> Result<()> {
    let mut lines = 0u64;
    let mut verdicts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut failures: BTreeMap<IpAddr, BTreeMap<&str, u64>> = BTreeMap::new();
    let mut samples: Vec<String> = Vec::new();
    let mut unparsed = Unparsed::default();
    each_line(log, |line| {
        lines += 1;
        let attempt = match reader.read(line) {
            Said::Attempt(attempt) => attempt,
            Said::Passed(why) => {
                *verdicts.entry(why).or_default() += 1;
                return Ok(());
            }
            Said::Nothing => {
                *verdicts.entry("no match").or_default() += 1;
                let suspect = looks_like_failure(line);
                if suspect {
                    unparsed.add(line, Timestamp::UNIX_EPOCH);
                }
                if all || !suspect && samples.len() < SAMPLES {
                    samples.push(String::from_utf8_lossy(line).into_owned());
                }
                return Ok(());
            }
        };
        let verdict = match attempt.verdict {
            Verdict::Failure => "failure",
            Verdict::Success => "success",
            Verdict::Ignored => UNDERSTOOD,
        };
        *verdicts.entry(verdict).or_default() += 1;
        if attempt.verdict == Verdict::Failure {
            *failures
                .entry(attempt.address)
                .or_default()
                .entry(attempt.class.as_str())
                .or_default() += 1;
        }
        Ok(())
    })?;
    writeln!(out, "{lines} lines")?;
    for (verdict, count) in verdicts {
        writeln!(out, "  {count:>8}  {verdict}")?;
    }
    if !failures.is_empty() {
        writeln!(out, "failures by source")?;
    }
    for (address, classes) in failures {
        let classes: Vec<String> =
            classes.into_iter().map(|(class, count)| format!("{count} {class}")).collect();
        writeln!(out, "  {address}: {}", classes.join(", "))?;
    }
    if !unparsed.is_empty() {
        writeln!(out, "{} lines without a match look like failures, such as", unparsed.lines())?;
    }
    for Sample { text, lines, .. } in unparsed.samples() {
        writeln!(out, "  {lines} like: {text}")?;
    }
    if !samples.is_empty() {
        writeln!(
            out,
            "{}",
            if all { "lines without a match" } else { "some other lines without a match" }
        )?;
    }
    for sample in samples {
        writeln!(out, "  {}", sample.escape_debug())?;
    }
    Ok(())
}

/// Calls `each` for every line without its newline, at most [`LINE_MAX`] bytes of it.
fn each_line(mut log: impl BufRead, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
    let mut line = Vec::new();
    loop {
        let chunk = log.fill_buf().context("read the log")?;
        if chunk.is_empty() {
            break;
        }
        let end = memchr::memchr(b'\n', chunk);
        let part = &chunk[..end.unwrap_or(chunk.len())];
        line.extend_from_slice(&part[..part.len().min(LINE_MAX - line.len())]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        log.consume(used);
        if end.is_some() {
            each(&line).context("write the result")?;
            line.clear();
        }
    }
    if !line.is_empty() {
        each(&line).context("write the result")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] = b"[2026-11-22 09:32:21.1233] NOTICE[9999] res_pjsip/pjsip_distributor.c: \
        Request 'REGISTER' from '<sip:1001@192.0.2.10>' failed for '192.0.2.66:42366' \
        (callid: a) - Failed to authenticate\nsomething \xff else\nthe last one has no end";

    fn printed(json: bool, all: bool) -> String {
        let mut out = Vec::new();
        run(("asterisk-wazo", &Config::default()), LOG, json, all, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_document_for_each_line_that_means_something() {
        let text = printed(true, false);
        let document: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(document["verdict"], "failure");
        assert_eq!(document["class"], "wrong-credential");
        assert_eq!(document["address"], "192.0.2.66");
        assert_eq!(document["account"], "1001");
        assert_eq!(document["transport"], serde_json::Value::Null);
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
        each_line(io::BufReader::with_capacity(1000, &log[..]), |line| {
            lengths.push(line.len());
            Ok(())
        })
        .unwrap();
        assert_eq!(lengths, [LINE_MAX, 5]);
    }

    #[test]
    fn a_filter_of_fail2ban_reads_lines_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mine.conf");
        let text =
            "[Definition]\nfailregex = ^failed from <HOST>$\nignoreregex = 192\\.0\\.2\\.7\n";
        std::fs::write(&path, text).unwrap();
        let log = b"2026-11-22 09:32:21 failed from 192.0.2.66\nfailed from 192.0.2.7\n\
                    failed from localhost\nstarted\n";
        let printed = |json| {
            let mut out = Vec::new();
            // The date leaves its blank behind, as in fail2ban.
            run((path.to_str().unwrap(), &Config::default()), &log[..], json, false, &mut out)
                .unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = printed(false);
        for line in ["4 lines", "1  understood", "1  matched, but names", "2  no match"] {
            assert!(text.contains(line), "{text}");
        }
        let documents: Vec<serde_json::Value> =
            printed(true).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0]["verdict"], "ignored");
        assert!(documents[1]["why"].as_str().unwrap().contains("address"));
    }

    #[test]
    fn another_jail_is_refused() {
        let error = run(("sshd2", &Config::default()), LOG, false, false, io::sink())
            .unwrap_err()
            .to_string();
        assert!(error.contains("asterisk-wazo"), "{error}");
        let error = run(("recidive", &Config::default()), LOG, false, false, io::sink())
            .unwrap_err()
            .to_string();
        assert!(error.contains("reads no log"), "{error}");
    }
}

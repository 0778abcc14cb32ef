//! `test-log`: a log file through a jail's parser, as users of `fail2ban-regex` expect it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use jiff::tz::TimeZone;
use serde_json::json;

use crate::clock::Rfc3339;
use crate::config::built_in_jails;
use crate::failure::{Attempt, Verdict};
use crate::parse::{Parser, asterisk, provd, security, sshd};

/// The longest line that is kept; the rest of a longer one is left out.
const LINE_MAX: usize = 64 * 1024;

/// Lines that no one understood, of which that many are shown.
const SAMPLES: usize = 5;

/// The parser of a jail's log.
fn parser(jail: &str) -> Result<Parser> {
    match jail {
        "asterisk-wazo" => Ok(|line| asterisk::parse(line).or_else(|| security::parse(line))),
        "sshd" => Ok(sshd::parse),
        "wazo-provd" => Ok(provd::parse),
        other => {
            let known: Vec<&str> = built_in_jails().map(|(_, name)| name).collect();
            bail!("there is no jail `{other}`; there are {}", known.join(", "))
        }
    }
}

/// Runs `log` through the parser of `jail`. With `json` a document for each line that means
/// something, or with `all` for each line; otherwise a summary.
///
/// # Errors
///
/// When there is no such jail, or reading or writing fails.
pub fn run(jail: &str, log: impl BufRead, json: bool, all: bool, out: impl Write) -> Result<()> {
    let parse = parser(jail)?;
    if json { documents(parse, log, all, out) } else { summary(parse, log, all, out) }
}

fn documents(parse: Parser, log: impl BufRead, all: bool, mut out: impl Write) -> Result<()> {
    each_line(log, |line| {
        let attempt = parse(line);
        if attempt.is_none() && !all {
            return Ok(());
        }
        let text = String::from_utf8_lossy(line);
        let document = match &attempt {
            Some(attempt) => json!({
                "line": text,
                "verdict": attempt.verdict,
                "class": attempt.class,
                "address": attempt.address,
                "account": attempt.account,
                "transport": attempt.transport,
                "proven": attempt.proven,
                "time": time(attempt),
            }),
            None => json!({ "line": text, "verdict": null }),
        };
        writeln!(out, "{document}")
    })
}

/// The time of an attempt, as far as its line gives one.
fn time(attempt: &Attempt) -> Option<String> {
    Some(Rfc3339(attempt.logged_at?.instant(&TimeZone::system())?).to_string())
}

fn summary(parse: Parser, log: impl BufRead, all: bool, mut out: impl Write) -> Result<()> {
    let mut lines = 0u64;
    let mut verdicts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut failures: BTreeMap<IpAddr, BTreeMap<&str, u64>> = BTreeMap::new();
    let mut samples: Vec<String> = Vec::new();
    each_line(log, |line| {
        lines += 1;
        let Some(attempt) = parse(line) else {
            *verdicts.entry("no match").or_default() += 1;
            if all || samples.len() < SAMPLES {
                samples.push(String::from_utf8_lossy(line).into_owned());
            }
            return Ok(());
        };
        let verdict = match attempt.verdict {
            Verdict::Failure => "failure",
            Verdict::Success => "success",
            Verdict::Ignored => "understood, and no failure",
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
    if !samples.is_empty() {
        writeln!(
            out,
            "{}",
            if all { "lines without a match" } else { "some lines without a match" }
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
        run("asterisk-wazo", LOG, json, all, &mut out).unwrap();
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
    fn another_jail_is_refused() {
        let error = run("sshd2", LOG, false, false, io::sink()).unwrap_err().to_string();
        assert!(error.contains("asterisk-wazo"), "{error}");
    }
}

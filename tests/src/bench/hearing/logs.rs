//! The logs to read: blocks of lines that are written repeatedly.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use filter_user::failure::Verdict;
use filter_user::parse::{Parser, asterisk, provd, security, sshd};
use serde::Serialize;

use crate::interrupt;

/// One in this many lines of a quiet log is a failure.
const QUIET: usize = 1000;

/// A recording of an attack on Asterisk, from the fixtures of `filter-user`.
macro_rules! recorded {
    ($($name:literal),+) => {
        &[$(include_str!(concat!("../../../../filter-user/tests/fixtures/", $name))),+]
    };
}

/// The NOTICE log of a host with Wazo's configuration, under each attack that leaves lines there.
const NOTICE: &[&str] = recorded!(
    "asterisk/wazo22/svcrack.log",
    "asterisk/wazo22/svcrack-unknown.log",
    "asterisk/wazo22/sipp-badauth.log",
    "asterisk/wazo22/sipp-regflood-udp.log",
    "asterisk/wazo22/sipp-regflood-tcp.log",
    "asterisk/wazo22/reg-wrongpw.log",
    "asterisk/wazo22/reg-unknown-auth.log",
    "asterisk/wazo22/reg-nonce-reuse.log",
    "asterisk/wazo22/invite-unknown.log",
    "asterisk/wazo22/trunk-invite-badext.log",
    "asterisk/wazo22/acl-endpoint.log",
    "asterisk/wazo22/acl-contact.log",
    "asterisk/wazo22/v6-reg-unknown.log"
);

/// The security log under the same attacks.
const SECURITY: &[&str] = recorded!(
    "ami/wazo22/svcrack.security.log",
    "ami/wazo22/svcrack-unknown.security.log",
    "ami/wazo22/sipp-badauth.security.log",
    "ami/wazo22/sipp-regflood-udp.security.log",
    "ami/wazo22/sipp-regflood-tcp.security.log",
    "ami/wazo22/reg-wrongpw.security.log",
    "ami/wazo22/invite-unknown.security.log",
    "ami/wazo22/acl-endpoint.security.log",
    "ami/wazo22/v6-reg-unknown.security.log"
);

/// The lines of a call and a registration in a log with all levels, in Wazo's date format.
const ASTERISK_QUIET: &[&str] = &[include_str!("quiet/asterisk.log")];

/// The lines of sshd and other services in `auth.log`.
const SSHD_QUIET: &[&str] = &[include_str!("quiet/auth.log")];

/// The lines that a guesser at sshd leaves in `auth.log`.
const SSHD: &[&str] = &[include_str!("attack/auth.log")];

/// The lines of wazo-provd about a guesser of file names.
const PROVD: &[&str] = recorded!("wazo-provd/security.log");

/// One log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Log {
    /// Asterisk's NOTICE log under attack.
    NoticeAttack,
    /// Asterisk's log with all levels under normal load, with one failure in a thousand lines.
    NoticeQuiet,
    /// Asterisk's security log under attack.
    SecurityAttack,
    /// `auth.log` under attack.
    SshdAttack,
    /// `auth.log`, with one failure in a thousand lines.
    SshdQuiet,
    /// wazo-provd's security log under attack.
    ProvdAttack,
}

/// The contents of a written log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Bytes.
    pub bytes: u64,
    /// Lines.
    pub lines: u64,
    /// Lines that report a failure.
    pub failures: u64,
}

impl Log {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::NoticeAttack,
        Self::NoticeQuiet,
        Self::SecurityAttack,
        Self::SshdAttack,
        Self::SshdQuiet,
        Self::ProvdAttack,
    ];

    /// Its name, of which `--only` takes a part.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoticeAttack => "notice-attack",
            Self::NoticeQuiet => "notice-quiet",
            Self::SecurityAttack => "security-attack",
            Self::SshdAttack => "sshd-attack",
            Self::SshdQuiet => "sshd-quiet",
            Self::ProvdAttack => "provd-attack",
        }
    }

    /// Whether it is one of the two main logs of the promise.
    pub(super) fn is_main(self) -> bool {
        matches!(self, Self::NoticeAttack | Self::NoticeQuiet)
    }

    /// The jail of its failures.
    pub(super) fn jail(self) -> &'static str {
        match self {
            Self::NoticeAttack | Self::NoticeQuiet | Self::SecurityAttack => "asterisk-wazo",
            Self::SshdAttack | Self::SshdQuiet => "sshd",
            Self::ProvdAttack => "wazo-provd",
        }
    }

    /// The parser of its lines.
    pub(super) fn parser(self) -> Parser {
        match self {
            Self::NoticeAttack | Self::NoticeQuiet => Parser::BuiltIn(asterisk::parse_undecided),
            Self::SecurityAttack => Parser::BuiltIn(security::parse),
            Self::SshdAttack | Self::SshdQuiet => Parser::BuiltIn(sshd::parse),
            Self::ProvdAttack => Parser::BuiltIn(provd::parse),
        }
    }

    /// The lines that are written repeatedly.
    pub(super) fn block(self) -> Vec<&'static str> {
        let lines = |texts: &[&'static str]| -> Vec<&'static str> {
            texts.iter().flat_map(|text| text.lines()).collect()
        };
        match self {
            Self::NoticeAttack => lines(NOTICE),
            Self::NoticeQuiet => quiet(&lines(ASTERISK_QUIET), &self.failures_in(NOTICE)),
            Self::SecurityAttack => lines(SECURITY),
            Self::SshdAttack => lines(SSHD),
            Self::SshdQuiet => quiet(&lines(SSHD_QUIET), &self.failures_in(SSHD)),
            Self::ProvdAttack => lines(PROVD),
        }
    }

    fn failures_in(self, texts: &[&'static str]) -> Vec<&'static str> {
        texts.iter().flat_map(|text| text.lines()).filter(|line| self.is_failure(line)).collect()
    }

    fn is_failure(self, line: &str) -> bool {
        let attempt = self.parser().parse(line.as_bytes());
        attempt.is_some_and(|attempt| attempt.verdict == Verdict::Failure)
    }

    /// Writes whole blocks to `path` until there are `bytes`.
    pub(super) fn write(self, path: &Path, bytes: u64) -> anyhow::Result<Written> {
        let block = self.block();
        let failures = block.iter().filter(|line| self.is_failure(line)).count() as u64;
        let text: String = block.iter().flat_map(|line| [line, "\n"]).collect();
        let repetitions = bytes.div_ceil(text.len() as u64).max(1);
        let context = || format!("write {}", path.display());
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path).with_context(context)?);
        for _ in 0..repetitions {
            interrupt::check()?;
            file.write_all(text.as_bytes()).with_context(context)?;
        }
        // Written to the disk, so that this does not continue during the measurement.
        file.into_inner().with_context(context)?.sync_all().with_context(context)?;
        Ok(Written {
            bytes: repetitions * text.len() as u64,
            lines: repetitions * block.len() as u64,
            failures: repetitions * failures,
        })
    }
}

/// A thousand lines for each failure, including the failure.
fn quiet(lines: &[&'static str], failures: &[&'static str]) -> Vec<&'static str> {
    let mut lines = lines.iter().cycle();
    let around = |failure: &&'static str| {
        let mut block: Vec<&'static str> = lines.by_ref().take(QUIET - 1).copied().collect();
        block.insert(QUIET / 2, failure);
        block
    };
    failures.iter().flat_map(around).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_are_failures_and_quiet_logs_are_not() {
        for log in Log::ALL {
            let block = log.block();
            let failures = block.iter().filter(|line| log.is_failure(line)).count();
            let is_quiet = log.name().ends_with("quiet");
            let (least, most) = if is_quiet { (1000, 1000) } else { (1, 3) };
            assert!(failures > 0, "{}", log.name());
            let (times, lines) = (failures * most, block.len());
            assert!(lines >= failures * least && lines <= times, "{}: {failures}", log.name());
        }
    }

    #[test]
    fn whole_blocks_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for log in Log::ALL {
            let written = log.write(&path, 10_000_000).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.ends_with('\n') && written.bytes >= 10_000_000);
            assert_eq!(
                (written.bytes, written.lines),
                (text.len() as u64, text.lines().count() as u64)
            );
            let failures = text.lines().filter(|line| log.is_failure(line)).count();
            assert_eq!(written.failures, failures as u64);
        }
    }
}

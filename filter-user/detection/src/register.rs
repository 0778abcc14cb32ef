//! The built-in sources of failures, one row each: everything that depends on which source it is.
//!
//! A row names the recording and the end-to-end test that prove its source; the tests of this module run each
//! recording through the parser of its row.

use crate::failure::Class;
use crate::parse::{self, Function, ami, asterisk, security};

/// The source that reads Asterisk's NOTICE log.
pub const NOTICE: &str = "asterisk-notice";

/// The source that reads Asterisk's `security` log.
pub const SECURITY: &str = "asterisk-security";

/// The source that listens to Asterisk's manager interface.
pub const AMI: &str = "asterisk-ami";

/// The source that reads the log or the journal of sshd.
pub const SSHD: &str = "sshd";

/// The source that reads the log of wazo-provd.
pub const PROVD: &str = "wazo-provd";

/// The source that is the filter itself: the SIP replies that it sees leave.
pub const WIRE: &str = "wire";

/// The jail for Asterisk's attempts.
pub const ASTERISK_JAIL: &str = "asterisk-wazo";

/// A built-in source.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its name.
    pub name: &'static str,
    /// The jail that gets its attempts.
    pub jail: &'static str,
    /// What it reads.
    pub reads: Reads,
    /// Its parser.
    pub parser: Parser,
    /// fail2ban's filters whose failures the parser finds.
    pub filters: &'static [Filter],
    /// Whether the filter that its jail names reads it instead of the parser.
    pub takes_filter: bool,
    /// The properties of the failures that a fail2ban filter finds in its log.
    pub by_filter: ByFilter,
    /// Whether a success is a login to this host, so that an administrator can reach it.
    pub is_login: bool,
    /// The most common fix.
    pub remedy: &'static str,
    /// How it is tested.
    pub tested: Tested,
}

/// What a source reads.
#[derive(Clone, Copy, Debug)]
pub enum Reads {
    /// The log to which Asterisk writes its NOTICE level.
    Notices,
    /// The log to which Asterisk writes its SECURITY level.
    SecurityEvents,
    /// Asterisk's manager interface.
    Manager,
    /// What sshd writes to the journal or to a file.
    Sshd,
    /// A log of its own, whose path is a setting.
    Log(LogSetting),
}

/// The setting `sources.SECTION.log`, which is the path of a log.
#[derive(Clone, Copy, Debug)]
pub struct LogSetting {
    /// The section.
    pub section: &'static str,
    /// The path, unless it is configured.
    pub default: &'static str,
    /// Its documentation.
    pub doc: &'static str,
}

/// A filter of fail2ban.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    /// Its name.
    pub name: &'static str,
    /// For a filter with modes, the one that finds the same failures as the parser.
    pub mode: Option<&'static str>,
}

/// How a source is tested.
#[derive(Clone, Copy, Debug)]
pub struct Tested {
    /// A recording of the source: a file under `filter-user/tests/fixtures`.
    pub recording: &'static str,
    /// The attacker in the recording.
    pub attacker: &'static str,
    /// The number of the attacker's failures.
    pub failures: usize,
    /// The test under `tests/tests` with an attack on the service, or on a substitute that writes the
    /// same log: the file and the function.
    pub attack: (&'static str, &'static str),
}

/// The parser of a source.
#[derive(Clone, Copy, Debug)]
pub enum Parser {
    /// The parser of Asterisk's logs of any level, which needs the format of their dates.
    AsteriskLog,
    /// The parser of AMI's events.
    Events,
    /// A parser of single lines, and the names of its rules.
    Lines(Function, &'static [&'static str]),
}

/// The properties of the failures that a fail2ban filter finds.
#[derive(Clone, Copy, Debug)]
pub struct ByFilter {
    /// Their class.
    pub class: Class,
    /// Whether their source cannot be forged.
    pub proven: bool,
    /// Whether they need a witness.
    pub needs_witness: bool,
}

/// An attacker can make up whole lines of Asterisk's logs.
const OF_ASTERISK: ByFilter =
    ByFilter { class: Class::WrongCredential, proven: false, needs_witness: true };

/// Every built-in source.
pub const SOURCES: &[Source] = &[
    Source {
        name: NOTICE,
        jail: ASTERISK_JAIL,
        reads: Reads::Notices,
        parser: Parser::AsteriskLog,
        filters: &[
            Filter { name: "asterisk-wazo", mode: None },
            Filter { name: "asterisk", mode: None },
        ],
        takes_filter: true,
        by_filter: OF_ASTERISK,
        is_login: false,
        remedy: "in logger.conf, under [logfiles]: `fail2ban => notice`; then `asterisk -rx 'logger reload'`",
        tested: Tested {
            recording: "asterisk/wazo22/reg-wrongpw.log",
            attacker: "192.0.2.66",
            failures: 3,
            attack: ("phone_is_safe", "guessers_are_banned_and_a_phone_loses_nothing"),
        },
    },
    Source {
        name: SECURITY,
        jail: ASTERISK_JAIL,
        reads: Reads::SecurityEvents,
        parser: Parser::AsteriskLog,
        filters: &[],
        takes_filter: false,
        by_filter: OF_ASTERISK,
        is_login: false,
        remedy: "in logger.conf, under [logfiles]: `security => [json]security`; then `asterisk -rx 'logger reload'`",
        tested: Tested {
            recording: "ami/wazo22/reg-wrongpw.security.log",
            attacker: "192.0.2.66",
            failures: 3,
            attack: ("sources", "the_security_log_tells_what_ami_does_and_counts_once"),
        },
    },
    Source {
        name: AMI,
        jail: ASTERISK_JAIL,
        reads: Reads::Manager,
        parser: Parser::Events,
        filters: &[],
        takes_filter: false,
        by_filter: OF_ASTERISK,
        is_login: false,
        remedy: "set up the AMI user with `ringfence doctor --fix`, or set `sources: {asterisk: {ami: {enabled: false}}}`",
        tested: Tested {
            recording: "ami/wazo22/reg-wrongpw.ami",
            attacker: "192.0.2.66",
            failures: 3,
            attack: ("sources", "who_hides_from_the_notice_log_is_heard_over_ami"),
        },
    },
    Source {
        name: SSHD,
        jail: "sshd",
        reads: Reads::Sshd,
        parser: Parser::Lines(parse::sshd::parse, parse::sshd::RULES),
        filters: &[Filter { name: "sshd", mode: Some("normal") }],
        takes_filter: true,
        // sshd uses TCP, and only it writes to its log.
        by_filter: ByFilter { class: Class::Login, proven: true, needs_witness: false },
        is_login: true,
        remedy: "set the log of sshd: `sources: {sshd: {log: journal}}` or `{log: file, auth_log: PATH}`",
        tested: Tested {
            recording: "sshd/journal.json",
            attacker: "192.0.2.66",
            failures: 2,
            attack: ("sshd", "a_real_sshd_tells_of_its_attackers_alone"),
        },
    },
    Source {
        name: PROVD,
        jail: "wazo-provd",
        reads: Reads::Log(LogSetting {
            section: "wazo_provd",
            default: "/var/log/wazo-provd-fail2ban.log",
            doc: "The security log of wazo-provd.",
        }),
        parser: Parser::Lines(parse::provd::parse, parse::provd::RULES),
        filters: &[Filter { name: "wazo-provd", mode: None }],
        takes_filter: true,
        by_filter: ByFilter { class: Class::Provisioning, proven: false, needs_witness: false },
        is_login: false,
        remedy: "set its log: `sources: {wazo_provd: {log: PATH}}`, or `jails: {wazo-provd: {enabled: false}}`",
        tested: Tested {
            recording: "wazo-provd/security.log",
            attacker: "192.0.2.66",
            failures: 2,
            attack: ("sources", "sshd_and_wazo_provd_ban_without_sip"),
        },
    },
];

/// The row of a source.
pub fn source(name: &str) -> Option<&'static Source> {
    SOURCES.iter().find(|source| source.name == name)
}

/// The first source of a jail.
pub fn of_jail(jail: &str) -> Option<&'static Source> {
    SOURCES.iter().find(|source| source.jail == jail)
}

/// Whether this is one of Asterisk's sources, which report many failures twice.
pub fn is_asterisk(name: &str) -> bool {
    source(name).is_some_and(|source| source.jail == ASTERISK_JAIL)
}

impl Source {
    /// The section of its settings under `sources`.
    pub fn section(&self) -> &'static str {
        match self.reads {
            Reads::Notices | Reads::SecurityEvents | Reads::Manager => "asterisk",
            Reads::Sshd => "sshd",
            Reads::Log(setting) => setting.section,
        }
    }
}

impl Parser {
    /// The names of its rules.
    pub fn rules(self) -> &'static [&'static str] {
        match self {
            Self::AsteriskLog => &ASTERISK_RULES,
            Self::Events => ami::RULES,
            Self::Lines(_, rules) => rules,
        }
    }
}

/// The names of the rules for Asterisk's logs of any level.
const ASTERISK_RULES: [&str; asterisk::RULES.len() + security::RULES.len()] = {
    let mut rules = [""; asterisk::RULES.len() + security::RULES.len()];
    let mut at = 0;
    while at < rules.len() {
        rules[at] = match at.checked_sub(asterisk::RULES.len()) {
            None => asterisk::RULES[at],
            Some(of_security) => security::RULES[of_security],
        };
        at += 1;
    }
    rules
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::failure::{Attempt, Verdict};
    use crate::parse::ami::Block;
    use crate::parse::dates::DateFormat;
    use crate::parse::in_asterisk_line;
    use crate::settings::{RECIDIVE, built_in_jails};

    /// A file of this repository.
    #[expect(clippy::disallowed_methods, reason = "a recording is read")]
    fn file(path: &str) -> Vec<u8> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
        std::fs::read(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
    }

    /// What a parser finds in a recording.
    fn attempts(parser: Parser, recording: &[u8]) -> Vec<Attempt> {
        let lines = || recording.split(|byte| *byte == b'\n');
        match parser {
            Parser::Lines(parse, _) => lines().filter_map(parse).collect(),
            Parser::AsteriskLog => {
                let dates = DateFormat::default();
                let of_line = |line: &[u8]| {
                    in_asterisk_line(line, |line| {
                        asterisk::of_line(line, &dates).or_else(|| security::of_line(line, &dates))
                    })
                };
                lines().filter_map(of_line).collect()
            }
            Parser::Events => {
                let text = String::from_utf8_lossy(recording);
                let of_block = |block: &str| match ami::parse(block.as_bytes()) {
                    Block::Security(attempt) => attempt,
                    Block::Cut
                    | Block::Response(_)
                    | Block::Unread
                    | Block::TooLong
                    | Block::Other => None,
                };
                text.split("\r\n\r\n").filter_map(of_block).collect()
            }
        }
    }

    #[test]
    fn every_source_finds_the_failures_that_were_recorded_of_it() {
        for &Source { name, parser, tested, .. } in SOURCES {
            let Tested { recording, attacker, failures, .. } = tested;
            let recording = file(&format!("filter-user/tests/fixtures/{recording}"));
            let attempts = attempts(parser, &recording);
            let attacker: std::net::IpAddr = attacker.parse().unwrap();
            let is_meant = |of: &&Attempt| of.verdict == Verdict::Failure && of.address == attacker;
            assert_eq!(attempts.iter().filter(is_meant).count(), failures, "{name}: {attempts:?}");
            for attempt in attempts {
                let is_named = parser.rules().contains(&attempt.rule);
                assert!(is_named, "{name}: `{}` is no rule of its parser", attempt.rule);
            }
        }
    }

    #[test]
    fn every_source_is_attacked_end_to_end() {
        for Source { name, tested: Tested { attack: (module, function), .. }, .. } in SOURCES {
            let text = String::from_utf8(file(&format!("tests/tests/{module}.rs"))).unwrap();
            assert!(
                text.contains(&format!("\nfn {function}()")),
                "{name}: no {module}::{function}"
            );
        }
    }

    #[test]
    fn every_built_in_jail_has_a_source_and_every_source_is_complete() {
        let jails: BTreeSet<&str> = SOURCES.iter().map(|source| source.jail).collect();
        let built_in = built_in_jails().map(|(_, name)| name).filter(|name| *name != RECIDIVE);
        assert_eq!(jails, built_in.collect());
        let unique = |names: &[&str], of: &str| {
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{of}: {names:?}");
        };
        let names: Vec<&str> = SOURCES.iter().map(|source| source.name).collect();
        unique(&names, "the names of the sources");
        let filters = SOURCES.iter().flat_map(|source| source.filters);
        unique(
            &filters.map(|filter| filter.name).collect::<Vec<_>>(),
            "the filters of all sources",
        );
        for source in SOURCES {
            assert!(!source.remedy.is_empty() && !source.parser.rules().is_empty(), "{source:?}");
            unique(source.parser.rules(), source.name);
        }
    }

    #[test]
    fn a_source_is_found_by_its_name_and_its_jail() {
        for (name, jail, section, of_asterisk) in [
            (NOTICE, ASTERISK_JAIL, "asterisk", true),
            (SECURITY, ASTERISK_JAIL, "asterisk", true),
            (AMI, ASTERISK_JAIL, "asterisk", true),
            (SSHD, "sshd", "sshd", false),
            (PROVD, "wazo-provd", "wazo_provd", false),
        ] {
            let found = source(name).unwrap();
            assert_eq!((found.name, found.jail, found.section()), (name, jail, section));
            assert_eq!(is_asterisk(name), of_asterisk, "{name}");
            assert_eq!(of_jail(jail).unwrap().jail, jail);
        }
        assert_eq!(of_jail(ASTERISK_JAIL).unwrap().name, NOTICE);
        assert!(source(WIRE).is_none() && !is_asterisk(WIRE) && of_jail(RECIDIVE).is_none());
    }

    #[test]
    fn the_rules_of_asterisks_logs_are_those_of_both_parsers() {
        let rules = Parser::AsteriskLog.rules();
        let (of_notices, of_security) = rules.split_at(asterisk::RULES.len());
        assert_eq!((of_notices, of_security), (asterisk::RULES, security::RULES));
        assert_eq!(Parser::Events.rules(), ami::RULES);
    }
}

//! The built-in sources of failures, one row each: everything that depends on which source it is.

use crate::failure::Class;
use crate::parse::{Function, ami, asterisk, provd, security, sshd};

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

/// The jail for Asterisk's attempts.
pub const ASTERISK_JAIL: &str = "asterisk-wazo";

/// A built-in source.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its name.
    pub name: &'static str,
    /// The jail that hears it.
    pub jail: &'static str,
    /// What understands it.
    pub parser: Parser,
    /// The most common fix.
    pub mend: &'static str,
    /// What the failures are that a fail2ban filter finds in its log.
    pub by_filter: ByFilter,
}

/// What understands a source.
#[derive(Clone, Copy, Debug)]
pub enum Parser {
    /// The parser of Asterisk's logs of any level, which needs the format of their dates.
    AsteriskLog,
    /// The parser of AMI's events.
    Events,
    /// A parser of single lines, and the names of its rules.
    Lines(Function, &'static [&'static str]),
}

/// What the failures are that a fail2ban filter finds.
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
pub const SOURCES: [Source; 5] = [
    Source {
        name: NOTICE,
        jail: ASTERISK_JAIL,
        parser: Parser::AsteriskLog,
        mend: "in logger.conf, under [logfiles]: `fail2ban => notice`; then `asterisk -rx 'logger reload'`",
        by_filter: OF_ASTERISK,
    },
    Source {
        name: SECURITY,
        jail: ASTERISK_JAIL,
        parser: Parser::AsteriskLog,
        mend: "in logger.conf, under [logfiles]: `security => [json]security`; then `asterisk -rx 'logger reload'`",
        by_filter: OF_ASTERISK,
    },
    Source {
        name: AMI,
        jail: ASTERISK_JAIL,
        parser: Parser::Events,
        mend: "set up the AMI user with `ringfence doctor --fix`, or set `sources: {asterisk: {ami: {enabled: false}}}`",
        by_filter: OF_ASTERISK,
    },
    Source {
        name: SSHD,
        jail: "sshd",
        parser: Parser::Lines(sshd::parse, sshd::RULES),
        mend: "set the log of sshd: `sources: {sshd: {log: journal}}` or `{log: file, auth_log: PATH}`",
        // sshd uses TCP, and only it writes to its log.
        by_filter: ByFilter { class: Class::Login, proven: true, needs_witness: false },
    },
    Source {
        name: PROVD,
        jail: "wazo-provd",
        parser: Parser::Lines(provd::parse, provd::RULES),
        mend: "set its log: `sources: {wazo_provd: {log: PATH}}`, or `jails: {wazo-provd: {enabled: false}}`",
        by_filter: ByFilter { class: Class::Provisioning, proven: false, needs_witness: false },
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

    use super::*;
    use crate::settings::{RECIDIVE, built_in_jails};

    #[test]
    fn every_built_in_jail_has_a_source_and_every_source_is_complete() {
        let jails: BTreeSet<&str> = SOURCES.iter().map(|source| source.jail).collect();
        let built_in = built_in_jails().map(|(_, name)| name).filter(|name| *name != RECIDIVE);
        assert_eq!(jails, built_in.collect());
        let names: BTreeSet<&str> = SOURCES.iter().map(|source| source.name).collect();
        assert_eq!(names.len(), SOURCES.len(), "each name is there once");
        for source in SOURCES {
            assert!(!source.mend.is_empty() && !source.parser.rules().is_empty(), "{source:?}");
            let unique: BTreeSet<_> = source.parser.rules().iter().collect();
            assert_eq!(unique.len(), source.parser.rules().len(), "{}", source.name);
        }
    }
}

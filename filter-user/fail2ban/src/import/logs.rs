//! The logs of the built-in jails: fail2ban's `logpath` and `backend` as `sources`.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use detection::register::{self, Reads, SOURCES, Source};

use super::{Section, Taking, quoted};
use crate::jails::Jail;

/// The section of Asterisk's sources.
const ASTERISK: &str = "asterisk";

/// How many bytes at a log's end are examined.
const END: u64 = 64 * 1024;

/// A setting of a source: `sources.SOURCE.KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Log {
    source: &'static str,
    key: &'static str,
    value: String,
}

/// The levels in a log of Asterisk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Levels {
    notice: bool,
    security: bool,
    others: bool,
}

impl Levels {
    /// From Asterisk's configuration, otherwise from the lines in the log, otherwise from its name.
    fn of(configured: Option<Vec<String>>, log: &Path) -> Self {
        if let Some(all) = configured {
            let has = |level: &str| all.iter().any(|other| other == level || other == "*");
            let others = all.iter().any(|level| !["notice", "security"].contains(&level.as_str()));
            return Self { notice: has("notice"), security: has("security"), others };
        }
        let shown = Self::shown_by(&end_of(log).unwrap_or_default());
        if shown != Self::default() {
            return shown;
        }
        let name = log.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let security = name.contains("security");
        Self { notice: !security, security, others: ["messages", "full"].contains(&&*name) }
    }

    fn shown_by(text: &[u8]) -> Self {
        let mut levels = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            let has = |word: &[u8]| line.windows(word.len()).any(|part| part == word);
            levels.notice |= has(b"] NOTICE[");
            levels.security |= has(b"] SECURITY[");
            levels.others |= has(b"] WARNING[") || has(b"] ERROR[") || has(b"] VERBOSE[");
        }
        levels
    }
}

fn end_of(log: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
    let mut text = Vec::new();
    file.take(END).read_to_end(&mut text)?;
    Ok(text)
}

impl Taking<'_> {
    /// Sets the logs of a built-in jail, where they differ from the defaults.
    pub(super) fn logs_of(&mut self, jail: &Jail, section: &mut Section<'_>) {
        // `recidive` reads no log.
        let Some(source) = register::of_jail(&section.name) else { return };
        let settings = source.section();
        match source.reads {
            Reads::Sshd if jail.journal => {
                self.set(settings, "log", "journal", section);
                if !jail.journal_match.is_empty() {
                    let text = "journalmatch: `sshd` reads all messages of sshd, whatever its unit \
                                is called";
                    section.left_out.push(text.to_owned());
                }
            }
            Reads::Sshd => {
                let before = self.logs.len();
                if let Some(log) = one_log(jail, section)
                    && self.set(settings, "auth_log", &log, section)
                    && self.logs.len() > before
                {
                    // With the default, the journal would be read if there is one.
                    self.set(settings, "log", "file", section);
                }
            }
            Reads::Log(_) if jail.journal => section.left_out.push(no_journal(source.jail, "")),
            Reads::Log(_) => {
                if let Some(log) = one_log(jail, section) {
                    self.set(settings, "log", &log, section);
                }
            }
            Reads::Notices | Reads::SecurityEvents | Reads::Manager if jail.journal => {
                section.left_out.push(no_journal(source.jail, &format!(": {}", source.remedy)));
            }
            Reads::Notices | Reads::SecurityEvents | Reads::Manager => {
                self.asterisk_logs(jail, section);
            }
        }
    }

    /// Assigns each of Asterisk's logs by its levels.
    fn asterisk_logs(&mut self, jail: &Jail, section: &mut Section<'_>) {
        let (mut notice, mut security): (Option<&str>, Option<&str>) = (None, None);
        for log in &jail.logs {
            let log_path = Path::new(log);
            let configured = self.daemon.asterisk_levels(self.asterisk, log_path);
            let levels = Levels::of(configured, log_path);
            let is_notice = levels.notice || !levels.security;
            let (key, place) = if is_notice {
                ("notice_log", &mut notice)
            } else {
                ("security_log", &mut security)
            };
            if let Some(other) = place {
                section.left_out.push(format!(
                    "logpath {log}: `{key}` is a single file, {other}, so lines that are only in \
                     this one are not counted"
                ));
                continue;
            }
            if !self.set(ASTERISK, key, log, section) {
                continue;
            }
            *place = Some(log);
            if !is_notice {
                if section.text.contains("\n    filter: ") {
                    section.left_out.push(format!(
                        "logpath {log}: its filter reads only `notice_log`, so lines of this log \
                         that only the filter matches are not counted"
                    ));
                }
                section
                    .taken
                    .push(format!("logpath {log}: contains the SECURITY level (`security_log`)"));
                continue;
            }
            if levels.others || levels.security {
                section.notes.push(format!(
                    "logpath {log}: contains levels other than NOTICE, in which an attacker can write \
                     whole lines. A log of only NOTICE is better: write `fail2ban => notice` under \
                     [logfiles] in logger.conf, and set no `notice_log` here"
                ));
            }
            if levels.security {
                section.notes.push(format!(
                    "logpath {log}: its security events do not count; use AMI, or a log that \
                     contains only them (`security_log`)"
                ));
            }
        }
    }

    /// Sets a log of a source, and says whether that is possible.
    fn set(
        &mut self,
        source: &'static str,
        key: &'static str,
        value: &str,
        section: &mut Section<'_>,
    ) -> bool {
        let mut logs = self.logs.clone();
        logs.push(Log { source, key, value: quoted(value) });
        let Ok(differ) = self.daemon.differ(&sections(&logs), &sections(&self.logs)) else {
            section.left_out.push(format!(
                "logpath {value}: `{}` reads a single file by its path, so lines in these files \
                 are not counted",
                section.name
            ));
            return false;
        };
        // A default is not written.
        if differ {
            self.logs = logs;
        }
        true
    }

    /// The section `sources`, if it is not empty.
    pub(super) fn log_sections(&self) -> String {
        sections(&self.logs)
    }
}

fn sections(logs: &[Log]) -> String {
    let mut text = String::new();
    let mut names: Vec<&str> = SOURCES.iter().map(Source::section).collect();
    names.dedup();
    for source in names {
        let own = logs.iter().filter(|log| log.source == source);
        let own: Vec<String> = own.map(|log| format!("{}: {}", log.key, log.value)).collect();
        if !own.is_empty() {
            text = format!("{text}  {source}: {{{}}}\n", own.join(", "));
        }
    }
    if text.is_empty() { text } else { format!("sources:\n{text}") }
}

fn no_journal(jail: &str, remedy: &str) -> String {
    format!(
        "backend systemd: `{jail}` reads a file, not the journal, so entries that are only in the \
         journal are not counted{remedy}"
    )
}

/// The log of a jail that reads exactly one.
fn one_log(jail: &Jail, section: &mut Section<'_>) -> Option<String> {
    match &jail.logs[..] {
        [] => None,
        [log] => Some(log.clone()),
        logs => {
            let (logs, name) = (logs.join(", "), &section.name);
            let text =
                format!("logpath {logs}: `{name}` reads a single log, so these are not read");
            section.left_out.push(text);
            None
        }
    }
}

//! Determines which log, journal or interface each built-in source reads on this host, from its row in
//! the register and the configuration.

use std::path::Path;

use crate::config::{AmiSource, Config, SshdLog};
use crate::register::{Reads, Source};

/// Where systemd-journald listens if it runs, from `/run`.
const JOURNAL_SOCKET: &str = "systemd/journal/socket";

/// The input of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// This log.
    Log(&'a Path),
    /// The journal entries of sshd.
    JournalOfSshd,
    /// The events of Asterisk's manager interface.
    Manager(&'a AmiSource),
}

/// The input of a source; `None` if the configuration gives it none. `run` is the host's `/run`.
pub fn of<'a>(source: &Source, config: &'a Config, run: &Path) -> Option<Input<'a>> {
    let asterisk = &config.sources.asterisk;
    let sshd = &config.sources.sshd;
    match source.reads {
        Reads::Notices => Some(Input::Log(&asterisk.notice_log)),
        Reads::SecurityEvents => asterisk.security_log.as_deref().map(Input::Log),
        Reads::Manager => asterisk.ami.enabled.then_some(Input::Manager(&asterisk.ami)),
        Reads::Sshd => Some(match sshd.log {
            SshdLog::Auto if run.join(JOURNAL_SOCKET).exists() => Input::JournalOfSshd,
            SshdLog::Journal => Input::JournalOfSshd,
            SshdLog::Auto | SshdLog::File => Input::Log(&sshd.auth_log),
        }),
        Reads::Log(_) => config.sources.logs.get(source.name).map(|log| Input::Log(log)),
    }
}

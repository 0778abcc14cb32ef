//! Where failures are read from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;

use detection::register::{self, LogSetting, Reads, SOURCES, Source};

use super::kind;
use super::schema::{Field, Fields};
use super::section::section;

section! {
    /// Where failures are read from.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Sources(scopes) {
        /// Asterisk on this host.
        asterisk: AsteriskSource = AsteriskSource::default() => section "asterisk";
        /// OpenSSH's server.
        sshd: SshdSource = SshdSource::default() => section "sshd";
        /// The logs of the built-in sources that have one of their own, by the name of the source.
        logs: BTreeMap<&'static str, PathBuf> =
            SOURCES.iter().filter_map(default_log).collect() => rows log_fields;
    }
}

section! {
    /// Where Asterisk's failures are read from.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AsteriskSource(scopes) {
        notice_log: PathBuf = "/var/log/asterisk/fail2ban".into(),
            "The log file to which Asterisk writes its NOTICE level, plain or `[json]`.",
            Path();
        security_log: Option<PathBuf> = None,
            "The log file to which Asterisk writes its SECURITY level, plain or `[json]`; `\"\"` \
             for none. AMI supplies the same events.",
            OptionalPath("/var/log/asterisk/security");
        /// Its manager interface.
        ami: AmiSource = AmiSource::default() => section "ami";
    }
}

section! {
    /// Asterisk's manager interface.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AmiSource {
        enabled: bool = true,
            "Receive the security events of Asterisk's manager interface (AMI).",
            Flag();
        host: String = "127.0.0.1".into(),
            "The host name or address of AMI.",
            Word("a host such as `127.0.0.1`");
        port: u16 = 5038, "The TCP port of AMI.", Port();
        remote: bool = false,
            "Accept AMI on another host or in another network namespace. The daemon cannot tell \
             which process listens there, and the connection is not encrypted.",
            Flag();
        listener: String = "asterisk".into(),
            "The user that Asterisk runs as, by name or number. On this host the daemon logs in \
             only to a process of this user or of root.",
            Word("a user such as `asterisk`");
        user: String = "ringfence".into(),
            "The AMI user: a section of manager.conf with `read = security`.",
            Word("a user such as `ringfence`");
        secret_file: PathBuf = "/etc/ringfence/ami.secret".into(),
            "The file with the line `secret = VALUE`. Asterisk's manager.conf can include it.",
            Path();
    }
}

section! {
    /// Where sshd's failures are read from.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SshdSource {
        log: SshdLog = SshdLog::Auto,
            "Where sshd's messages are read: `journal`, `file`, or `auto` (the journal if systemd \
             keeps one, otherwise the file).",
            Choice(&SshdLog::ALL, SshdLog::as_str);
        auth_log: PathBuf = "/var/log/auth.log".into(),
            "The file to which syslog writes sshd's messages.",
            Path();
    }
}

/// Which log of sshd is read. Reading both would count each failure twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SshdLog {
    /// The journal if systemd keeps one, otherwise the file.
    Auto,
    /// The systemd journal.
    Journal,
    /// The file that syslog writes.
    File,
}

impl SshdLog {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Journal, Self::File];

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Journal => "journal",
            Self::File => "file",
        }
    }
}

impl FromStr for SshdLog {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|log| log.as_str() == text)
            .ok_or_else(|| "use `auto`, `journal` or `file`".to_owned())
    }
}

/// The log of a built-in source that has one of its own.
fn default_log(source: &Source) -> Option<(&'static str, PathBuf)> {
    match source.reads {
        Reads::Log(LogSetting { default, .. }) => Some((source.name, default.into())),
        Reads::Notices | Reads::SecurityEvents | Reads::Manager | Reads::Sshd => None,
    }
}

/// The logs of the built-in sources that have one of their own.
fn log_fields<'a>(
    logs: &'a mut BTreeMap<&'static str, PathBuf>,
    _scopes: &Rc<[String]>,
) -> Vec<Field<'a>> {
    let mut fields = Fields::below("sources");
    for (name, path) in logs {
        if let Some(Reads::Log(LogSetting { section, doc, .. })) =
            register::source(name).map(|source| source.reads)
        {
            fields.add(&format!("{section}.log"), doc, kind::Path(path));
        }
    }
    fields.into()
}

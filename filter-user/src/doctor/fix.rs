//! Fixes that the doctor can apply: they install Ringfence's files, and make Asterisk include them.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::unistd::{Group, chown};
use serde::Serialize;

use crate::client::USER;

/// The AMI user.
const MANAGER: &str = include_str!("../../../packaging/asterisk/manager.d/ringfence.conf");

/// A log of the SECURITY level.
const LOGGER: &str = include_str!("../../../packaging/asterisk/logger.d/ringfence.conf");

/// Its line for the log.
const CHANNEL: &str = "security => [json]security";

/// The path of the secret in [`MANAGER`], which the configuration may change.
const SECRET: &str = "/etc/ringfence/ami.secret";

/// The rotation of the log of the SECURITY level.
const LOGROTATE: &str = include_str!("../../../packaging/logrotate.d/ringfence");

/// The log in [`LOGROTATE`].
const ROTATED: &str = "/var/log/asterisk/security";

/// The suffix of the copy of a file that is changed.
const BACKUP: &str = ".before-ringfence";

/// A fix. None replaces an existing file; the one that changes a file keeps a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fix {
    /// The AMI user `ringfence`.
    Manager {
        /// The file for it.
        file: PathBuf,
        /// The file with its secret.
        secret: PathBuf,
    },
    /// A log.
    Logger {
        /// The file that configures it.
        file: PathBuf,
        /// The log's name in Asterisk's configuration.
        channel: String,
        /// Its levels.
        levels: &'static str,
    },
    /// A new secret for the AMI user, which Asterisk can read too.
    Secret {
        /// The file.
        file: PathBuf,
    },
    /// A line at the end of one of Asterisk's files.
    Include {
        /// The file.
        file: PathBuf,
        /// The line.
        line: String,
    },
    /// The rotation of a log.
    Logrotate {
        /// The file that configures it.
        file: PathBuf,
        /// The log.
        log: PathBuf,
    },
}

impl Fix {
    /// The question to ask before it is applied.
    pub fn question(&self) -> String {
        let file = self.file().display();
        match self {
            Self::Include { line, .. } => format!("add `{line}` to {file}?"),
            Self::Manager { .. }
            | Self::Logger { .. }
            | Self::Secret { .. }
            | Self::Logrotate { .. } => format!("write {file}?"),
        }
    }

    /// The command to type afterwards, if there is one.
    pub fn afterwards(&self) -> Option<&'static str> {
        const MANAGER_RELOAD: &str = "asterisk -rx 'manager reload'";
        const LOGGER_RELOAD: &str = "asterisk -rx 'logger reload'";
        match self {
            Self::Manager { .. } | Self::Secret { .. } => Some(MANAGER_RELOAD),
            Self::Logger { .. } => Some(LOGGER_RELOAD),
            Self::Include { line, .. } => {
                Some(if line.contains("logger") { LOGGER_RELOAD } else { MANAGER_RELOAD })
            }
            Self::Logrotate { .. } => None,
        }
    }

    /// The file that it writes.
    pub(super) fn file(&self) -> &Path {
        match self {
            Self::Manager { file, .. }
            | Self::Logger { file, .. }
            | Self::Secret { file }
            | Self::Include { file, .. }
            | Self::Logrotate { file, .. } => file,
        }
    }

    /// Whether the fix is needed: its file does not exist yet.
    pub(super) fn is_to_do(&self) -> bool {
        !self.file().exists()
    }

    /// Applies the fix.
    ///
    /// # Errors
    ///
    /// If the file already exists, or cannot be written.
    pub fn apply(&self) -> io::Result<()> {
        match self {
            Self::Manager { file, secret } => {
                write(file, &MANAGER.replace(SECRET, &secret.to_string_lossy()), 0o644)
            }
            Self::Logger { file, channel, levels } => {
                let line = format!("{channel} => {levels}");
                let text = if CHANNEL.ends_with(levels) {
                    LOGGER.replace(CHANNEL, &line)
                } else {
                    format!("; The log that Ringfence reads.\n\n[logfiles](+)\n{line}\n")
                };
                write(file, &text, 0o644)
            }
            Self::Secret { file } => {
                write(file, &format!("secret = {}\n", secret()?), 0o640)?;
                // Without the group `asterisk`, Asterisk runs as root, and only the service needs to read it.
                let group = match Group::from_name("asterisk")? {
                    Some(group) => Some(group),
                    None => Group::from_name(USER)?,
                };
                group.map_or(Ok(()), |group| Ok(chown(file, None, Some(group.gid))?))
            }
            Self::Include { file, line } => append(file, line),
            Self::Logrotate { file, log } => {
                write(file, &LOGROTATE.replace(ROTATED, &log.to_string_lossy()), 0o644)
            }
        }
    }
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}

/// Adds a line to the end of a file in one step, so that no reader sees it half-written. Mode and owner
/// stay.
fn append(path: &Path, line: &str) -> io::Result<()> {
    // For a link, its target.
    let path = fs::canonicalize(path)?;
    let metadata = fs::metadata(&path)?;
    let mut text = fs::read(&path)?;
    let backup = beside(&path, BACKUP);
    // The first copy is the state before Ringfence. The directory may belong to another user, who must
    // not be able to redirect root's writes with a link.
    match create(&backup, &metadata, &text) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(_) | Err(_) => {}
    }
    if !text.ends_with(b"\n") && !text.is_empty() {
        text.push(b'\n');
    }
    text.extend_from_slice(line.as_bytes());
    text.push(b'\n');
    let new = beside(&path, ".new-ringfence");
    // A leftover of an earlier attempt.
    fs::remove_file(&new).ok();
    let written = create(&new, &metadata, &text).and_then(|file| file.sync_all());
    written.and_then(|()| fs::rename(&new, &path)).inspect_err(|_failed| {
        // It may not exist at all.
        fs::remove_file(&new).ok();
    })
}

/// Creates a file with the owner and mode of another; never follows a link.
fn create(path: &Path, like: &Metadata, text: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    fchown(&file, Some(like.uid()), Some(like.gid()))?;
    file.set_permissions(like.permissions())?;
    file.write_all(text)?;
    Ok(file)
}

/// A path with this suffix after the name.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(more);
    name.into()
}

/// 192 random bits in hexadecimal digits.
fn secret() -> io::Result<String> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat())
}

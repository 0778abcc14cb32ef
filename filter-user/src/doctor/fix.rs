//! What the doctor can do by itself: install what is shipped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Group, chown};
use serde::Serialize;

/// AMI's user.
const MANAGER: &str = include_str!("../../../packaging/asterisk/manager.d/ringfence.conf");

/// A log of the SECURITY level.
const LOGGER: &str = include_str!("../../../packaging/asterisk/logger.d/ringfence.conf");

/// Something to install. None of them replaces a file that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fix {
    /// AMI's user `ringfence`.
    Manager {
        /// Asterisk's directory of configuration.
        etc: PathBuf,
    },
    /// The log `security` as JSON.
    Logger {
        /// Asterisk's directory of configuration.
        etc: PathBuf,
    },
    /// A new secret for AMI's user, which Asterisk can read too.
    Secret {
        /// The file.
        file: PathBuf,
    },
}

impl Fix {
    /// What it does, to be asked about.
    pub fn question(&self) -> String {
        format!("write {}?", self.file().display())
    }

    /// What Asterisk is to be told afterwards.
    pub fn afterwards(&self) -> &'static str {
        match self {
            Self::Manager { .. } | Self::Secret { .. } => "asterisk -rx 'manager reload'",
            Self::Logger { .. } => "asterisk -rx 'logger reload'",
        }
    }

    fn file(&self) -> PathBuf {
        match self {
            Self::Manager { etc } => etc.join("manager.d/ringfence.conf"),
            Self::Logger { etc } => etc.join("logger.d/ringfence.conf"),
            Self::Secret { file } => file.clone(),
        }
    }

    /// Does it.
    ///
    /// # Errors
    ///
    /// When there is such a file already, or it cannot be written.
    pub fn apply(&self) -> io::Result<()> {
        let file = self.file();
        match self {
            Self::Manager { .. } => write(&file, MANAGER, 0o644),
            Self::Logger { .. } => write(&file, LOGGER, 0o644),
            Self::Secret { .. } => {
                write(&file, &format!("secret = {}\n", secret()?), 0o640)?;
                // Where there is no such group, Asterisk runs as root.
                let group = Group::from_name("asterisk")?;
                group.map_or(Ok(()), |group| Ok(chown(&file, None, Some(group.gid))?))
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

/// 192 random bits in hexadecimal digits.
fn secret() -> io::Result<String> {
    let mut bytes = [0; 24];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat())
}

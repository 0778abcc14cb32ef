//! The connection with the servers, and the keys for it.

use std::fs::{self, OpenOptions};
use std::io::{Write as _, stdout};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::{Client, ConnectOptions};

/// The longest file with a key.
const FILE_MAX: u64 = 64 * 1024;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the servers are, and what they ask for.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) servers: Vec<String>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) credentials_file: Option<PathBuf>,
    pub(crate) nkey_file: Option<PathBuf>,
    /// The name of the connection, which the servers show.
    pub(crate) name: String,
    /// The subject below which answers come, so that a host may be kept from reading those of others.
    pub(crate) inbox: Option<String>,
}

impl Keys {
    /// Connects. With `waits`, also if no server can be reached now.
    pub(crate) async fn connect(&self, waits: bool) -> Result<Client> {
        let is_encrypted = self.servers.iter().all(|server| !server.starts_with("nats://"));
        let mut options = ConnectOptions::new()
            .name(&self.name)
            .require_tls(is_encrypted)
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            .ping_interval(Duration::from_secs(10))
            .reconnect_delay_callback(|attempts| {
                // Hosts that lost the same server must not come back at the same moment.
                let exponent = u32::try_from(attempts.min(5)).unwrap_or(5);
                let most = 200 * 2_u64.pow(exponent);
                Duration::from_millis(fastrand::u64(most / 2..=most))
            });
        if waits {
            options = options.retry_on_initial_connect();
        }
        if let Some(inbox) = &self.inbox {
            options = options.custom_inbox_prefix(inbox);
        }
        if let Some(file) = &self.ca_file {
            options = options.add_root_certificates(file.clone());
        }
        if let Some(file) = &self.credentials_file {
            options = options.credentials(&secret(file)?)?;
        }
        if let Some(file) = &self.nkey_file {
            options = options.nkey(secret(file)?.trim().to_owned());
        }
        let connected = options.connect(&self.servers[..]).await;
        connected.with_context(|| format!("connect to {}", self.servers.join(", ")))
    }
}

/// Makes an `NKey`, and prints its public part.
pub(crate) fn make(file: &Path) -> Result<()> {
    let key = nkeys::KeyPair::new_user();
    let write = || -> Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(file)?;
        Ok(writeln!(file, "{}", key.seed()?)?)
    };
    write().with_context(|| format!("write {}", file.display()))?;
    Ok(writeln!(stdout(), "{}", key.public_key())?)
}

fn secret(file: &Path) -> Result<String> {
    let read = || -> Result<String> {
        ensure!(fs::metadata(file)?.len() <= FILE_MAX, "it has more than {FILE_MAX} bytes");
        Ok(fs::read_to_string(file)?)
    };
    read().with_context(|| format!("read {}", file.display()))
}

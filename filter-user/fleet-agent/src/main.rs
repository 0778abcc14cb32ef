//! `ringfence-fleet`: connects a host's daemon with the NATS servers of its fleet, and is the administrator's tool for the
//! bucket.
//!
//! The client of NATS is a process of its own, without any capability: the daemon has some, and must not parse what
//! comes from a network.
//!
//! Must never decide what is banned: the crate `fleet` says what other hosts ask for, and the daemon what may be.

mod bucket;
mod daemon;
mod keys;
mod log;
mod session;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};

use crate::daemon::Daemon;
use crate::keys::Keys;

/// Connects this host's Ringfence with the NATS servers of its fleet
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run in the foreground, with the settings under `fleet` of the daemon's configuration
    Run {
        /// The control socket of the daemon
        #[arg(long, default_value = "/run/ringfence/control.sock", env = "RINGFENCE_SOCKET")]
        socket: PathBuf,
    },
    /// Make an `NKey` for a host: write its seed into a file, and print the public key for the servers
    Key {
        /// The file, which must not exist
        file: PathBuf,
    },
    /// Make the bucket
    Init {
        /// On how many servers of the cluster it is
        #[arg(long, default_value_t = 1)]
        replicas: usize,
        /// How many megabytes it may have
        #[arg(long, default_value_t = 256)]
        megabytes: u32,
        #[command(flatten)]
        at: At,
    },
    /// Trust a network on every host
    Allow {
        /// The address or network
        network: String,
        /// For how long, such as `8h` or `7d`; otherwise until it is disallowed
        #[arg(long = "for", value_name = "TIME")]
        time: Option<String>,
        /// Its purpose
        #[arg(long, default_value = "")]
        comment: String,
        #[command(flatten)]
        at: At,
    },
    /// End the trust in a network
    Disallow {
        /// The address or network
        network: String,
        #[command(flatten)]
        at: At,
    },
    /// Close SIP for maintenance on every host that accepts it, or open it
    #[command(subcommand)]
    Maintenance(Maintenance),
    /// Have no host accept the bans of this one
    Cut {
        /// The name of the host
        host: String,
        /// Why
        #[arg(long, default_value = "")]
        comment: String,
        /// Delete its records too
        #[arg(long)]
        purge: bool,
        #[command(flatten)]
        at: At,
    },
    /// Accept the bans of a host again
    Join {
        /// The name of the host
        host: String,
        #[command(flatten)]
        at: At,
    },
}

#[derive(Debug, Subcommand)]
enum Maintenance {
    /// Close SIP, at the longest for `fleet.accept.maintenance` of each host
    On {
        /// For how long, such as `30m`
        #[arg(long = "for", value_name = "TIME")]
        time: String,
        /// Close it to known peers too
        #[arg(long)]
        closed_to_known: bool,
        /// Its purpose
        #[arg(long, default_value = "")]
        comment: String,
        #[command(flatten)]
        at: At,
    },
    /// Open SIP
    Off {
        #[command(flatten)]
        at: At,
    },
}

/// Where the bucket is, and with which key.
#[derive(Debug, Args)]
struct At {
    /// The servers
    #[arg(long = "server", value_name = "URL", required = true)]
    servers: Vec<String>,
    /// The bucket
    #[arg(long, default_value = "ringfence")]
    bucket: String,
    /// The certificate authorities of the servers
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The administrator's credentials
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,
    /// The seed of the administrator's `NKey`
    #[arg(long, value_name = "FILE")]
    nkey_file: Option<PathBuf>,
}

impl At {
    fn keys(&self) -> Keys {
        Keys {
            servers: self.servers.clone(),
            ca_file: self.ca_file.clone(),
            credentials_file: self.credentials_file.clone(),
            nkey_file: self.nkey_file.clone(),
            name: "ringfence-fleet".to_owned(),
            inbox: None,
        }
    }
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(Cli::parse().command)),
        Err(why) => Err(why.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            log::error(&format!("{why:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Run { socket } => {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            tokio::select! {
                () = session::run(Daemon::new(socket)) => Ok(()),
                _ = terminate.recv() => Ok(()),
                _ = interrupt.recv() => Ok(()),
            }
        }
        Command::Key { file } => keys::make(&file),
        Command::Init { replicas, megabytes, at } => {
            let bytes = i64::from(megabytes) << 20;
            bucket::make(&at.keys(), &at.bucket, replicas, bytes).await
        }
        Command::Allow { network, time, comment, at } => {
            let seconds = time.as_deref().map(seconds).transpose()?;
            let key = fleet::Key::Allow(read(&network)?);
            let record = fleet::Allow { comment, seconds };
            bucket::put(&at.keys(), &at.bucket, &key, Some(&record)).await
        }
        Command::Disallow { network, at } => {
            let key = fleet::Key::Allow(read(&network)?);
            bucket::put::<fleet::Allow>(&at.keys(), &at.bucket, &key, None).await
        }
        Command::Maintenance(Maintenance::On { time, closed_to_known, comment, at }) => {
            let seconds = seconds(&time)?;
            ensure!(seconds > 0, "`--for` needs a time such as `30m`");
            let record = fleet::Maintenance { comment, seconds, closed_to_known };
            bucket::put(&at.keys(), &at.bucket, &fleet::Key::Maintenance, Some(&record)).await
        }
        Command::Maintenance(Maintenance::Off { at }) => {
            let key = fleet::Key::Maintenance;
            bucket::put::<fleet::Maintenance>(&at.keys(), &at.bucket, &key, None).await
        }
        Command::Cut { host, comment, purge, at } => {
            let host: fleet::Host = host.parse().map_err(anyhow::Error::msg)?;
            let (keys, record) = (at.keys(), fleet::Cut { comment });
            bucket::put(&keys, &at.bucket, &fleet::Key::Cut(host.clone()), Some(&record)).await?;
            if purge { bucket::purge(&keys, &at.bucket, &host).await } else { Ok(()) }
        }
        Command::Join { host, at } => {
            let key = fleet::Key::Cut(host.parse().map_err(anyhow::Error::msg)?);
            bucket::put::<fleet::Cut>(&at.keys(), &at.bucket, &key, None).await
        }
    }
}

/// An address or a network.
fn read(text: &str) -> Result<IpNet> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse().map(std::net::IpAddr::into));
    match network {
        Ok(network) => Ok(network.trunc()),
        Err(_) => bail!("`{}` is neither an address nor a network", text.escape_debug()),
    }
}

/// A time in seconds.
fn seconds(text: &str) -> Result<u64> {
    let time = || -> Result<Duration> {
        let span: jiff::Span = text.parse()?;
        Ok(span.to_duration(jiff::SpanRelativeTo::days_are_24_hours())?.try_into()?)
    };
    let wrong = || format!("`{}` is not a time such as `12h`", text.escape_debug());
    Ok(time().with_context(wrong)?.as_secs())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_valid() {
        Cli::command().debug_assert();
        assert_eq!(seconds("8h").unwrap(), 8 * 3600);
        assert_eq!(seconds("7d").unwrap(), 7 * 86_400);
        assert!(seconds("-1h").is_err() && seconds("soon").is_err());
        assert_eq!(read("185.0.0.66").unwrap(), "185.0.0.66/32".parse().unwrap());
        assert!(read("pbx").is_err());
    }
}

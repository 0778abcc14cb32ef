//! What the commands share: the configuration, the daemon, and output.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use api::Request;
use filter_user::cli::Cli;
use filter_user::config::{Config, ConfigErrors, Loaded, Paths};
use filter_user::logging::say;
use filter_user::without_daemon::Asker;
use filter_user::{beat, client, clock};
use log::Level;
use nix::unistd::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The valid part of the configuration of the daemon at the socket; `None` if the socket is not the
/// configured one, so that the daemon has another configuration.
pub(crate) fn of_daemon(cli: &Cli) -> Option<Config> {
    let (loaded, _) = Config::load_what_is_right(cli.config.as_deref());
    let its = loaded.config.paths.control_socket();
    cli.socket.as_ref().is_none_or(|socket| *socket == its).then_some(loaded.config)
}

/// Sends requests to the daemon, or answers them without one.
pub(crate) fn asker(cli: &Cli) -> Result<Asker> {
    Ok(Asker::new(&socket(cli)?, of_daemon(cli)))
}

pub(crate) fn load(path: Option<&Path>) -> Result<Loaded> {
    Ok(Config::load(path)?)
}

pub(crate) fn not_read(ignored: &Path) -> String {
    format!("{} is not read: only files that end in `.yml` are", ignored.display())
}

/// The daemon's paths. They can be read even if everything else in the configuration is wrong, so that
/// commands that need nothing else still work.
///
/// # Errors
///
/// If the configuration file that was named cannot be read: the command must not reach another daemon.
pub(crate) fn paths(cli: &Cli) -> Result<Paths> {
    let (loaded, wrong) = Config::load_what_is_right(cli.config.as_deref());
    if let Some(named) = &cli.config
        && !loaded.files.contains(named)
        && File::open(named).is_err()
    {
        return Err(wrong.into());
    }
    if let Some(warning) = warning(&wrong) {
        say(Level::Warn, &warning);
    }
    Ok(loaded.config.paths)
}

pub(crate) fn warning(wrong: &ConfigErrors) -> Option<String> {
    let first = wrong.errors().first()?;
    let more = match wrong.errors().len() - 1 {
        0 => "",
        _ => "; `ringfence check-config` lists the others",
    };
    Some(format!(
        "warning: the configuration is invalid, so the daemon cannot start: {first}{more}"
    ))
}

/// The daemon's socket, from the command line or else from the configuration.
pub(crate) fn socket(cli: &Cli) -> Result<PathBuf> {
    match &cli.socket {
        Some(socket) => Ok(socket.clone()),
        None => Ok(paths(cli)?.control_socket()),
    }
}

pub(crate) fn ask<T: DeserializeOwned>(
    cli: &Cli,
    request: &Request,
    json: bool,
    text: fn(&T) -> String,
) -> Result<()> {
    let answer = client::ask(&socket(cli)?, request)?;
    print(&if json { format!("{answer:#}\n") } else { text(&client::read(answer)?) })
}

/// Prints a document with its keys in order, as those of the daemon are printed.
pub(crate) fn print_json(document: &impl Serialize) -> Result<()> {
    print(&format!("{:#}\n", serde_json::to_value(document)?))
}

pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to standard output")
}

/// A failure that the document on standard output already reports.
#[derive(Debug)]
pub(crate) struct Reported(pub(crate) String);

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Reported {}

/// The error of a daemon that does not answer, with what the kernel knows about it.
pub(crate) fn with_last_beat(cli: &Cli, error: anyhow::Error) -> anyhow::Error {
    if !error.is::<client::NoDaemon>() && !error.is::<client::Late>() {
        return error;
    }
    let said =
        of_daemon(cli).and_then(|config| beat::without_answer(&config.paths.bpffs, clock::read()));
    match said {
        Some(said) => anyhow!("{error:#}; {said}"),
        None => error,
    }
}

/// The text of an error. If only permissions were missing, it names the command to run instead.
pub(crate) fn in_words(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let denied = error.is::<client::NotRoot>()
        || ["(os error 13)", "(os error 1)", "EACCES", "EPERM", "this needs root", "only root may"]
            .iter()
            .any(|sign| text.contains(sign));
    if denied && !geteuid().is_root() {
        format!("this needs root: `{}` ({text})", as_root(std::env::args()))
    } else {
        text
    }
}

/// The same command, run as root. `sudo` does not pass on the environment.
pub(crate) fn as_root(arguments: impl Iterator<Item = String>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,@%+".contains(c);
    let quote = |word: String| {
        if word.is_empty() || !word.chars().all(plain) {
            format!("'{}'", word.replace('\'', "'\\''"))
        } else {
            word
        }
    };
    let mut words: Vec<String> = arguments.map(quote).collect();
    let named = words.iter().any(|word| word.starts_with("--socket"));
    if let Some(socket) = std::env::var("RINGFENCE_SOCKET").ok().filter(|_| !named) {
        words.insert(1.min(words.len()), format!("--socket {}", quote(socket)));
    }
    format!("sudo {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_for_root_is_what_was_typed() {
        let words = ["ringfence", "ban", "192.0.2.7", "--reason", "it's him"];
        let command = as_root(words.iter().map(|&word| word.to_owned()));
        assert_eq!(command, r"sudo ringfence ban 192.0.2.7 --reason 'it'\''s him'");
    }
}

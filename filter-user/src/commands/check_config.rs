//! `ringfence check-config`: prints the configuration as `run` would use it.

use anyhow::{Result, bail};
use filter_user::cli::{CheckConfig, Cli};
use filter_user::config::ConfigError;
use filter_user::logging::say;
use filter_user::{datapath, jail_filter};
use log::Level;

use super::common::{load, not_read, print};

pub(crate) fn check(cli: &Cli, arguments: &CheckConfig) -> Result<()> {
    let loaded = load(cli.config.as_deref())?;
    match error_lines(&jail_filter::check(&loaded)) {
        // This does not prevent a start.
        Some(wrong) if arguments.quiet => say(Level::Warn, &format!("warning: {wrong}")),
        Some(wrong) => bail!("{wrong}"),
        None => {}
    }
    datapath::check_place(&loaded.config.paths.bpffs)?;
    for ignored in &loaded.ignored {
        say(Level::Warn, &format!("warning: {}", not_read(ignored)));
    }
    match arguments {
        CheckConfig { quiet: true, .. } => Ok(()),
        CheckConfig { output, .. } if output.json => {
            print(&format!("{:#}\n", loaded.render_json()))
        }
        CheckConfig { all: true, .. } => print(&loaded.render_yaml()),
        CheckConfig { .. } => print(&loaded.render_set()),
    }
}

/// The errors, one to a line; `None` if there are none.
pub(crate) fn error_lines(errors: &[ConfigError]) -> Option<String> {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

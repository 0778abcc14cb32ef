//! The arguments of the commands that read foreign files: `test-log` and `import`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;
use crate::fail2ban;

/// The arguments of `test-log`.
#[derive(Debug, Args)]
pub struct TestLog {
    /// The jail, or the path of a fail2ban filter such as
    /// `/etc/fail2ban/filter.d/sshd.conf[mode=extra]`
    pub jail: String,
    /// The log file, or `-` for standard input
    pub file: PathBuf,
    /// Print a JSON document for each line that is recognised
    #[arg(long)]
    pub json: bool,
    /// Include unrecognised lines; without --json, list all of them
    #[arg(long)]
    pub all: bool,
    /// List the recognised lines
    #[arg(long, conflicts_with = "json")]
    pub matched: bool,
}

/// The arguments of `import`.
#[derive(Debug, Subcommand)]
pub enum Import {
    /// Import fail2ban's jails, filters and bans; fail2ban itself is not changed
    Fail2ban(ImportFail2ban),
}

/// The arguments of `import fail2ban`.
#[derive(Debug, Args)]
pub struct ImportFail2ban {
    /// fail2ban's configuration directory
    #[arg(long, value_name = "DIR", default_value = fail2ban::DIRECTORY)]
    pub from: PathBuf,
    /// fail2ban's database [default: as in fail2ban's configuration]
    #[arg(long, value_name = "FILE")]
    pub database: Option<PathBuf>,
    /// Use the locations of a Wazo host; fail on any other host
    #[arg(long, conflicts_with_all = ["from", "database"])]
    pub from_wazo: bool,
    /// The file to write [default: conf.d/50-fail2ban.yml next to the configuration file]
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Asterisk's configuration directory, which shows what each log contains
    #[arg(long, value_name = "DIR", default_value = "/etc/asterisk")]
    pub asterisk_config: PathBuf,
    /// Show what would be imported, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Overwrite a file that contains other settings
    #[arg(long)]
    pub force: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    #[test]
    fn an_import_is_of_one_place() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(
            parse("ringfence import fail2ban --from /x --database /y --dry-run --json").is_ok()
        );
        assert!(parse("ringfence import fail2ban --from-wazo").is_ok());
        assert!(parse("ringfence import fail2ban --from-wazo --from /x").is_err());
        assert!(parse("ringfence import").is_err());
    }
}

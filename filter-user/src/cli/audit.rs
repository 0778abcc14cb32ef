//! The arguments of the commands that look at the host: `audit`, `exposure` and `doctor`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;

/// What `audit` takes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Audit {
    /// One part of the audit.
    #[command(subcommand)]
    pub part: Option<AuditPart>,
    /// Write the report as a page to this file, or to standard output (`-`)
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub html: Option<PathBuf>,
    /// Leave out the findings of an earlier audit, which `--json` or `--write-baseline` wrote to this file
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Write this audit to a file, with all findings, for a later `--baseline`
    #[arg(long, value_name = "FILE")]
    pub write_baseline: Option<PathBuf>,
    /// Asterisk's configuration directory
    #[arg(long, value_name = "DIR", default_value = "/etc/asterisk")]
    pub asterisk_config: PathBuf,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// A part of the audit.
#[derive(Debug, Subcommand)]
pub enum AuditPart {
    /// List what listens on the host, who can reach it, and what protects it
    ///
    /// It compares the sockets that listen on every address or on a public one with the ports that Wazo
    /// documents, and Asterisk's SIP transports with `sip` in the configuration. It works on any host.
    Ports(OfAsterisk),
    /// List the SIP accounts whose passwords a guesser tries first, and those under attack
    ///
    /// It reads pjsip.conf with what it includes, and asks Asterisk for the accounts that it has from elsewhere. It
    /// names the accounts, and never shows a password. The daemon says which accounts are under attack.
    Accounts(OfAsterisk),
    /// List the weak, missing and shared passwords of the telephones that wazo-provd configures
    ///
    /// It also lists telephones with public addresses, and whether a telephone needs a key to fetch its configuration.
    /// It never shows a password. It asks wazo-provd, with the key of the service that the package registers, with a
    /// user, or with a token, which `RINGFENCE_WAZO_TOKEN` may contain. It needs curl.
    ///
    /// `--fix` replaces passwords in wazo-provd. The telephones get the new ones with `--synchronize`; until then,
    /// `--undo` restores the old ones, which `/var/lib/misc/ringfence.devices` contains for root only.
    Devices(AuditDevices),
}

/// What `audit devices` takes.
#[derive(Debug, Args)]
pub struct AuditDevices {
    /// The address of another Wazo host, such as `https://wazo.example` [default: the daemons of this host]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Log in to wazo-auth as this user; asks for the password
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    pub username: Option<String>,
    /// Use the token of wazo-auth in this file; `-` asks for it
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
    /// Trust the authorities in this file, in PEM, instead of those of the host
    #[arg(long, value_name = "FILE", requires = "url")]
    pub ca: Option<PathBuf>,
    /// Accept any certificate, and http: anybody on the way can read the passwords
    #[arg(long, requires = "url", conflicts_with = "ca")]
    pub insecure: bool,
    /// What to change.
    #[command(flatten)]
    pub change: ChangeDevices,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// What `audit devices` changes.
#[derive(Clone, Copy, Debug, Args)]
#[group(multiple = false, conflicts_with = "json")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option, and the group allows one")]
pub struct ChangeDevices {
    /// Replace weak and missing passwords with random ones; ask for each
    #[arg(long)]
    pub fix: bool,
    /// Restore the passwords that `--fix` replaced
    #[arg(long)]
    pub undo: bool,
    /// Have the telephones fetch the passwords that `--fix` set, and forget the old ones; ask first
    #[arg(long)]
    pub synchronize: bool,
    /// Forget the old passwords, because the telephones were synchronised in another way
    #[arg(long)]
    pub forget: bool,
}

/// The arguments of a part of the audit that concerns Asterisk.
#[derive(Debug, Args)]
pub struct OfAsterisk {
    /// Asterisk's configuration directory
    #[arg(long, value_name = "DIR", default_value = "/etc/asterisk")]
    pub asterisk_config: PathBuf,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// What `exposure` takes.
#[derive(Debug, Subcommand)]
pub enum ExposureVerb {
    /// Suggest which services to close, from what listens and from the networks that use it
    ///
    /// It prints configuration to paste, and changes nothing. The filter records for each port that
    /// listens which networks use it; a suggestion is certain once it has done so for a week.
    Suggest(OfAsterisk),
}

/// The arguments of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Install the files that solve a problem; ask before each file
    #[arg(long, conflicts_with = "json")]
    pub fix: bool,
    /// With `--fix`: do not ask
    #[arg(long, requires = "fix")]
    pub yes: bool,
    /// Asterisk's configuration directory
    #[arg(long, value_name = "DIR", default_value = "/etc/asterisk")]
    pub asterisk_config: PathBuf,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    #[test]
    fn an_audit_is_of_the_whole_or_of_a_part() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        for right in ["", " --json", " --html - --baseline x --write-baseline x", " ports --json"] {
            assert!(parse(&format!("ringfence audit{right}")).is_ok(), "{right}");
        }
        for wrong in [" --html", " --html x --json", " --json ports", " ports --html x"] {
            assert!(parse(&format!("ringfence audit{wrong}")).is_err(), "{wrong}");
        }
        for right in
            ["", " --json", " --fix", " --url https://a --ca x --undo", " --token - --forget"]
        {
            assert!(parse(&format!("ringfence audit devices{right}")).is_ok(), "{right}");
        }
        for wrong in [" --fix --json", " --fix --undo", " --insecure", " --token x --username y"] {
            assert!(parse(&format!("ringfence audit devices{wrong}")).is_err(), "{wrong}");
        }
    }
}

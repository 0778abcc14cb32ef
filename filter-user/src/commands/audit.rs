//! `ringfence audit` and `exposure suggest`: look at the host as root.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use api::{AuditPart, Jails, Request};
use filter_user::audit::devices::{Access, Credentials, Place, Secret, Talk};
use filter_user::cli::{self, Audit, AuditDevices, Cli, OfAsterisk};
use filter_user::config::Config;
use filter_user::logging::say;
use filter_user::{audit, client};
use log::Level;
use nix::unistd::geteuid;

use super::common::{print, print_json};
use super::doctor::agreed;

/// Prints the audit, and returns the exit status for its findings.
pub(crate) fn audit(cli: &Cli, arguments: &Audit) -> Result<ExitCode> {
    if !geteuid().is_root() {
        bail!("this takes root: the processes of others are not shown to this user");
    }
    let Audit { part, html, baseline, write_baseline, asterisk_config, output } = arguments;
    let (mut parts, asterisk, json) = match part {
        Some(cli::AuditPart::Ports(of)) => {
            (vec![AuditPart::Ports], &of.asterisk_config, of.output.json)
        }
        Some(cli::AuditPart::Accounts(of)) => {
            (vec![AuditPart::Accounts], &of.asterisk_config, of.output.json)
        }
        Some(cli::AuditPart::Devices(of)) => return telephones(cli, of),
        None => (audit::WHOLE.to_vec(), asterisk_config, output.json),
    };
    // It may be the file that is written.
    let earlier = baseline.as_deref().map(audit::baseline).transpose()?;
    let (loaded, wrong) = Config::load_what_is_right(cli.config.as_deref());
    let socket = cli.socket.clone().unwrap_or_else(|| loaded.config.paths.control_socket());
    let status = client::ask_as(&socket, &Request::Status).map_err(|why| format!("{why:#}"));
    // Without a daemon, nobody knows which accounts are under attack.
    let jails = client::ask_as::<Jails>(&socket, &Request::Jails)
        .map_or_else(|_no_daemon| Vec::new(), |all| all.jails);
    let devices =
        if part.is_none() { audit::devices::without_asking(&loaded.config.trusted) } else { None };
    parts.extend(devices.as_ref().map(|_examined| AuditPart::Devices));
    let host = audit::Host {
        loaded: &loaded,
        wrong: &wrong,
        status: &status,
        jails: &jails,
        asterisk,
        devices: devices.as_ref(),
    };
    let mut report = audit::audit(host, &parts);
    if let Some(file) = write_baseline {
        audit::write(file, &format!("{:#}\n", serde_json::to_value(&report)?))?;
    }
    if let Some(earlier) = &earlier {
        audit::leave_out(&mut report, earlier);
    }
    if part.is_none()
        && let Err(why) = audit::keep(&loaded.config.paths.state, &report)
    {
        say(Level::Warn, &format!("the page does not show this audit: {why:#}"));
    }
    match html.as_deref() {
        Some(file) if file.as_os_str() == "-" => print(&audit::html::page(&report))?,
        Some(file) => audit::write(file, &audit::html::page(&report))?,
        None if json => print_json(&report)?,
        None if parts == [AuditPart::Ports] => print(&audit::text::ports(&report))?,
        None if part.is_some() => print(&audit::text::findings_alone(&report))?,
        None => print(&audit::text::report(&report))?,
    }
    Ok(ExitCode::from(audit::exit_status(&report)))
}

/// Prints what could be closed.
pub(crate) fn suggest_exposure(cli: &Cli, suggest: &OfAsterisk) -> Result<()> {
    if !geteuid().is_root() {
        bail!("this takes root: the processes of others are not shown to this user");
    }
    let (loaded, wrong) = Config::load_what_is_right(cli.config.as_deref());
    let socket = cli.socket.clone().unwrap_or_else(|| loaded.config.paths.control_socket());
    let status = client::ask_as(&socket, &Request::Status).map_err(|why| format!("{why:#}"));
    let asterisk = &suggest.asterisk_config;
    let host = audit::Host {
        loaded: &loaded,
        wrong: &wrong,
        status: &status,
        jails: &[],
        asterisk,
        devices: None,
    };
    let suggestion = audit::suggest(host);
    if suggest.output.json {
        print_json(&suggestion)
    } else {
        print(&audit::suggest::in_words(&suggestion))
    }
}

/// Examines the telephones of wazo-provd, or changes their passwords.
pub(crate) fn telephones(cli: &Cli, arguments: &AuditDevices) -> Result<ExitCode> {
    let AuditDevices { change, output, .. } = arguments;
    if change.forget {
        audit::devices::forget()?;
        print("the old passwords are forgotten\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let (loaded, wrong) = Config::load_what_is_right(cli.config.as_deref());
    let visit = audit::devices::visit(access(arguments)?, &loaded.config.trusted)?;
    if change.undo {
        audit::devices::undo(&visit, &mut Terminal)?;
        return Ok(ExitCode::SUCCESS);
    }
    if change.synchronize {
        audit::devices::synchronize(&visit, &mut Terminal)?;
        return Ok(ExitCode::SUCCESS);
    }
    let host = audit::Host {
        loaded: &loaded,
        wrong: &wrong,
        status: &Err(String::new()),
        jails: &[],
        asterisk: Path::new(""),
        devices: Some(&Ok(visit.findings().to_vec())),
    };
    let report = audit::audit(host, &[AuditPart::Devices]);
    if output.json {
        print_json(&report)?;
    } else {
        print(&audit::text::findings_alone(&report))?;
        let waiting = audit::devices::waiting(&visit);
        if waiting > 0 {
            print(&format!(
                "\nnot synchronised: {waiting} replaced passwords; `--synchronize` or `--undo`\n"
            ))?;
        }
    }
    if change.fix {
        print("\n")?;
        audit::devices::fix(&visit, &mut Terminal)?;
    }
    Ok(ExitCode::from(audit::exit_status(&report)))
}

/// How wazo-provd is reached, and as whom. No secret is ever on the command line, where any user of the host
/// could read it.
pub(crate) fn access(arguments: &AuditDevices) -> Result<Access> {
    let AuditDevices { url, username, token, ca, insecure, .. } = arguments;
    let place = match url {
        Some(url) => Place::at(url, *insecure)?,
        None => Place::local()?,
    };
    let from_environment = std::env::var(audit::devices::TOKEN_VARIABLE).ok();
    let credentials = match (username, token, from_environment) {
        (Some(name), ..) => {
            let question = format!("password of {}: ", name.escape_debug());
            Credentials::User(name.clone(), audit::devices::password(&question)?)
        }
        (None, Some(file), _) if file.as_os_str() == "-" => {
            audit::devices::token(&audit::devices::password("token: ")?)?
        }
        (None, Some(file), _) => Credentials::from_token_file(file)?,
        (None, None, Some(token)) => audit::devices::token(&Secret::new(token))?,
        (None, None, None) if url.is_none() => {
            Credentials::from_key(Path::new(audit::devices::KEY))
                .context("name a user with `--username NAME`, or a token with `--token FILE`")?
        }
        (None, None, None) => {
            bail!("another host needs `--username NAME` or `--token FILE`")
        }
    };
    Ok(Access { place, ca: ca.clone(), insecure: *insecure, credentials })
}

/// A conversation on standard output and standard input.
pub(crate) struct Terminal;

impl Talk for Terminal {
    fn ask(&mut self, question: &str) -> Result<bool> {
        agreed(question, "")
    }

    fn say(&mut self, text: &str) -> Result<()> {
        print(text)
    }
}

//! `ringfence doctor` and `status --check`: what is wrong, and its fixes.

use std::io;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use api::Request;
use filter_user::check::Check;
use filter_user::cli::{Cli, Doctor};
use filter_user::config::Config;
use filter_user::{client, doctor};

use super::common::{Reported, in_words, print, print_json, socket, with_last_beat};

/// `status --check`: prints one line on standard output and returns an exit status, whatever is wrong.
pub(crate) fn watch(cli: &Cli, json: bool) -> Result<ExitCode> {
    let status = socket(cli).and_then(|socket| client::ask_as(&socket, &Request::Status));
    let check = Check::of(&status.map_err(|error| in_words(&with_last_beat(cli, error))));
    print(&if json {
        format!("{}\n", serde_json::to_string_pretty(&check)?)
    } else {
        format!("{}\n", check.line())
    })?;
    Ok(ExitCode::from(check.level.exit_status()))
}

pub(crate) fn examine(cli: &Cli, arguments: &Doctor) -> Result<()> {
    let (loaded, wrong) = Config::load_what_is_right(cli.config.as_deref());
    let config = &loaded.config;
    let socket = cli.socket.clone().unwrap_or_else(|| config.paths.control_socket());
    let host = doctor::Host::new(&arguments.asterisk_config);
    let look = || -> Result<Vec<doctor::Finding>> {
        let status = match client::ask_as(&socket, &Request::Status) {
            Err(why) if why.is::<client::NotRoot>() => return Err(why),
            status => status.map_err(|why| format!("{:#}", with_last_beat(cli, why))),
        };
        let mut findings = doctor::of_configuration(&loaded, &wrong);
        findings.extend(doctor::examine(config, &status, &host));
        Ok(findings)
    };
    let findings = look()?;
    if arguments.output.json {
        print_json(&doctor::Findings::new(&findings))?;
    } else {
        print(&doctor::to_text(&findings))?;
    }
    let fixed = if arguments.fix { fix(&findings, arguments.yes)? } else { 0 };
    match findings.len() - fixed {
        0 => Ok(()),
        1 => Err(Reported("there is 1 problem".to_owned()).into()),
        n => Err(Reported(format!("there are {n} problems")).into()),
    }
}

/// Applies the fixes of findings, after asking. Returns how many it applied.
pub(crate) fn fix(findings: &[doctor::Finding], agreed_to_all: bool) -> Result<usize> {
    let mut afterwards: Vec<&str> = Vec::new();
    let mut fixed = 0;
    for fix in findings.iter().filter_map(|finding| finding.fix.as_ref()) {
        if agreed_to_all {
            print(&format!("{} yes\n", fix.question()))?;
        }
        if agreed_to_all || agreed(&fix.question(), "; use `--yes` to accept every fix")? {
            fix.apply().with_context(|| fix.question().replace('?', ""))?;
            print("done\n")?;
            fixed += 1;
            afterwards.extend(fix.afterwards().filter(|then| !afterwards.contains(then)));
        }
    }
    if !afterwards.is_empty() {
        print(&format!("now run: {}\n", afterwards.join("; ")))?;
    }
    Ok(fixed)
}

/// Whether the answer to a question is yes.
pub(crate) fn agreed(question: &str, otherwise: &str) -> Result<bool> {
    print(&format!("{question} [y/N] "))?;
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer).context("read the answer")? == 0 {
        print("\n")?;
        bail!("there is no answer on standard input{otherwise}");
    }
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

//! `ringfence`: reads the command line, runs the command and prints the result.
//!
//! Must never contain logic of the product.

mod commands;

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use api::{Failure, PageLink, Request, Tunable};
use clap::{CommandFactory as _, FromArgMatches as _};
use filter_user::cli::{
    self, Allow, Cli, Command, Disallow, ExposureVerb, Import, Set, Setting, Top,
};
use filter_user::logging::say;
use filter_user::{client, decided, metrics, report, top};
use log::Level;

use self::commands::common::{
    Reported, ask, in_words, paths, print, print_json, socket, with_last_beat,
};
use self::commands::{audit, bans, check_config, doctor, filter, lists, logs, run};

fn main() -> ExitCode {
    let line = Cli::command().get_matches();
    let wants_json = cli::wants_json(&line);
    let cli = Cli::from_arg_matches(&line).unwrap_or_else(|error| error.exit());
    let done = if let Command::Status { check: true, output } = &cli.command {
        doctor::watch(&cli, output.json)
    } else if let Command::Audit(arguments) = &cli.command {
        audit::audit(&cli, arguments)
    } else {
        dispatch(&cli).map(|()| ExitCode::SUCCESS)
    };
    match done {
        Ok(status) => status,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let error = with_last_beat(&cli, error);
            let text = in_words(&error);
            if wants_json && !error.is::<Reported>() {
                // If this fails, the error is still on standard error.
                print_json(&Failure { error: text.clone() }).ok();
            }
            say(Level::Error, &text);
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: &Cli) -> Result<()> {
    match &cli.command {
        Command::Run(run) => run::start(cli.config.as_deref(), run),
        Command::Status { output, .. } => ask(cli, &Request::Status, output.json, report::status),
        Command::Metrics { textfile } => {
            let page = client::metrics(&socket(cli)?)?;
            match textfile {
                Some(file) => metrics::write_textfile(file, &page).map_err(Into::into),
                None => print(&page),
            }
        }
        Command::Bans(bans) => lists::list(cli, bans),
        Command::Jails { name: None, output } => {
            ask(cli, &Request::Jails, output.json, report::jails)
        }
        Command::Jails { name: Some(name), output } => lists::jail(cli, name, output.json),
        Command::Page(output) => {
            ask(cli, &Request::PageLink, output.json, |link: &PageLink| format!("{}\n", link.url))
        }
        Command::Feeds(feeds) => lists::of_feeds(cli, feeds),
        Command::Alerts(alerts) => lists::of_alerts(cli, alerts),
        Command::Fleet(verb) => lists::of_fleet(cli, verb),
        Command::Peers { inside, output } => lists::peers(cli, *inside, output.json),
        Command::Why { address, output } => {
            let address = address.to_canonical();
            ask(cli, &Request::Why { address }, output.json, report::why)
        }
        Command::Top(Top { plain, no_colour, interval }) => {
            let interval = interval.map(|interval| interval.max(top::FASTEST));
            let options = top::Options { plain: *plain, no_colour: *no_colour, interval };
            top::run(&socket(cli)?, options)
        }
        Command::Ban(arguments) => bans::ban(cli, arguments),
        Command::Unban(unban) => bans::lift(cli, unban),
        Command::Allow(Allow { network, time, comment, output }) => {
            let seconds = time.map(|time| time.as_secs().max(1));
            let request = Request::Allow { network: *network, seconds, comment: comment.clone() };
            ask(cli, &request, output.json, decided::allowed)
        }
        Command::Disallow(Disallow { network, output }) => {
            let request = Request::Disallow { network: *network };
            ask(cli, &request, output.json, decided::disallowed)
        }
        Command::Allows(output) => ask(cli, &Request::Allows, output.json, decided::allows),
        Command::History(arguments) => lists::history(cli, arguments),
        Command::Set(Set { jail, setting, value, output }) => {
            let setting = match setting {
                Setting::Maxretry => Tunable::Maxretry,
                Setting::Findtime => Tunable::Findtime,
                Setting::Bantime => Tunable::Bantime,
            };
            let value = Some(value.clone()).filter(|value| value != "default");
            let request = Request::Set { jail: jail.clone(), setting, value };
            ask(cli, &request, output.json, decided::set)
        }
        Command::Maintenance(maintenance) => filter::maintain(cli, maintenance),
        Command::Confirm(output) => filter::confirm(cli, output.json),
        Command::Panic(arguments) => filter::panic(cli, arguments),
        Command::Reload(reload) => {
            let request = Request::Reload { dry_run: reload.dry_run, force: reload.force };
            ask(cli, &request, reload.output.json, report::reloaded)
        }
        Command::TestLog(arguments) => logs::test(cli, arguments),
        Command::Import(Import::Fail2ban(arguments)) => logs::import_fail2ban(cli, arguments),
        Command::CheckConfig(arguments) => check_config::check(cli, arguments),
        Command::Doctor(arguments) => doctor::examine(cli, arguments),
        // Its exit status says what it finds.
        Command::Audit(arguments) => audit::audit(cli, arguments).map(drop),
        Command::Exposure(ExposureVerb::Suggest(suggest)) => audit::suggest_exposure(cli, suggest),
        Command::Capture(arguments) => filter::take_packets(cli, arguments),
        Command::Detach(output) => filter::detach(&paths(cli)?.bpffs, output.json),
    }
}

/// Whether the reader of the output has gone, such as `head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

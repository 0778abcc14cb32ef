//! `ringfence`: reads the command line, runs the command and prints the result.
//!
//! Must never contain logic of the product.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use api::{
    AuditPart, BannedMany, BansQuery, Confirmed, Failure, HistoryQuery, Jails, Lifted, Order,
    Request, TakenOver, Tunable,
};
use clap::Parser as _;
use filter_common::decision::Reason;
use filter_user::audit::devices::{Access, Credentials, Place, Secret, Talk};
use filter_user::check::Check;
use filter_user::cli::{
    Allow, Audit, AuditDevices, Ban, Bans, Capture, CheckConfig, Cli, Command, Disallow, Doctor,
    ExposureVerb, FeedsOf, FeedsTest, FeedsVerb, HistoryOf, Import, ImportFail2ban,
    MaintenanceVerb, OfAsterisk, Panic, Run, Set, Setting, TestLog, Top, Unban, Which,
};
use filter_user::config::{
    Config, ConfigError, ConfigErrors, DEFAULT_PATH, Loaded, Overrides, Paths,
};
use filter_user::confirmation::Confirmation;
use filter_user::logging::{self, say};
use filter_user::orders::{self, Ask, Read, RefusedOrder};
use filter_user::test_log::{self, Test};
use filter_user::without_daemon::Asker;
use filter_user::{
    audit, ban_list, beat, capture, cli, client, clock, daemon, datapath, decided, disable, doctor,
    fail2ban, feeds, jail_filter, listed, listing, metrics, report, top,
};
use ipnet::IpNet;
use jiff::Timestamp;
use log::Level;
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = if let Command::Status { check: true, output } = &cli.command {
        watch(&cli, output.json)
    } else if let Command::Audit(arguments) = &cli.command {
        audit(&cli, arguments)
    } else {
        dispatch(&cli).map(|()| ExitCode::SUCCESS)
    };
    match done {
        Ok(status) => status,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let error = with_last_beat(&cli, error);
            let text = in_words(&error);
            if cli.json() && !error.is::<Reported>() {
                // If this fails, the error is still on standard error.
                print_json(&Failure { error: text.clone() }).ok();
            }
            say(Level::Error, &text);
            ExitCode::FAILURE
        }
    }
}

/// A failure that the document on standard output already reports.
#[derive(Debug)]
struct Reported(String);

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Reported {}

/// The error of a daemon that does not answer, with what the kernel knows about it.
fn with_last_beat(cli: &Cli, error: anyhow::Error) -> anyhow::Error {
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

/// The valid part of the configuration of the daemon at the socket; `None` if the socket is not the
/// configured one, so that the daemon has another configuration.
fn of_daemon(cli: &Cli) -> Option<Config> {
    let (loaded, _) = Config::load_what_is_right(cli.config.as_deref());
    let its = loaded.config.paths.control_socket();
    cli.socket.as_ref().is_none_or(|socket| *socket == its).then_some(loaded.config)
}

/// Sends requests to the daemon, or answers them without one.
fn asker(cli: &Cli) -> Result<Asker> {
    Ok(Asker::new(&socket(cli)?, of_daemon(cli)))
}

/// The text of an error. If only permissions were missing, it names the command to run instead.
fn in_words(error: &anyhow::Error) -> String {
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
fn as_root(arguments: impl Iterator<Item = String>) -> String {
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

fn dispatch(cli: &Cli) -> Result<()> {
    match &cli.command {
        Command::Run(run) => start(cli.config.as_deref(), run),
        Command::Status { output, .. } => ask(cli, &Request::Status, output.json, report::status),
        Command::Metrics { textfile } => {
            let page = client::metrics(&socket(cli)?)?;
            match textfile {
                Some(file) => metrics::write_textfile(file, &page).map_err(Into::into),
                None => print(&page),
            }
        }
        Command::Bans(bans) => list(cli, bans),
        Command::Jails { name: None, output } => {
            ask(cli, &Request::Jails, output.json, report::jails)
        }
        Command::Jails { name: Some(name), output } => jail(cli, name, output.json),
        Command::Feeds(feeds) => of_feeds(cli, feeds),
        Command::Peers { inside, output } => peers(cli, *inside, output.json),
        Command::Why { address, output } => {
            let address = address.to_canonical();
            ask(cli, &Request::Why { address }, output.json, report::why)
        }
        Command::Top(Top { plain, no_colour, interval }) => {
            let interval = interval.map(|interval| interval.max(top::FASTEST));
            let options = top::Options { plain: *plain, no_colour: *no_colour, interval };
            top::run(&socket(cli)?, options)
        }
        Command::Ban(arguments) => ban(cli, arguments),
        Command::Unban(unban) => lift(cli, unban),
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
        Command::History(arguments) => history(cli, arguments),
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
        Command::Maintenance(maintenance) => maintain(cli, maintenance),
        Command::Confirm(output) => confirm(cli, output.json),
        Command::Panic(arguments) => panic(cli, arguments),
        Command::Reload(reload) => {
            let request = Request::Reload { dry_run: reload.dry_run, force: reload.force };
            ask(cli, &request, reload.output.json, report::reloaded)
        }
        Command::TestLog(arguments) => test(cli, arguments),
        Command::Import(Import::Fail2ban(arguments)) => import_fail2ban(cli, arguments),
        Command::CheckConfig(arguments) => check(cli, arguments),
        Command::Doctor(arguments) => examine(cli, arguments),
        // Its exit status says what it finds.
        Command::Audit(arguments) => audit(cli, arguments).map(drop),
        Command::Exposure(ExposureVerb::Suggest(suggest)) => suggest_exposure(cli, suggest),
        Command::Capture(arguments) => take_packets(cli, arguments),
        Command::Detach(output) => detach(&paths(cli)?.bpffs, output.json),
    }
}

fn of_feeds(cli: &Cli, arguments: &FeedsOf) -> Result<()> {
    match &arguments.verb {
        None => ask(cli, &Request::Feeds, arguments.output.json, feeds::text::listed),
        Some(FeedsVerb::Confirm { name, output }) => {
            let request = Request::FeedsConfirm { name: name.clone() };
            ask(cli, &request, output.json, feeds::text::confirmed)
        }
        Some(FeedsVerb::Test(FeedsTest { place, format, key_file, output })) => {
            let (loaded, _) = Config::load_what_is_right(cli.config.as_deref());
            let (place, format) = (place.clone(), format.clone());
            let (key_file, trusted) = (key_file.clone(), loaded.config.trusted);
            let test = feeds::test(feeds::Once { place, format, key_file, trusted })?;
            if output.json { print_json(&test) } else { print(&feeds::text::tested(&test)) }
        }
    }
}

/// The number of threads that read logs and serve clients.
const WORKERS: usize = 2;

fn start(path: Option<&Path>, run: &Run) -> Result<()> {
    // Every file it creates is for root only, even without systemd.
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    logging::start().context("start the log's thread")?;
    let overrides =
        Overrides { interfaces: run.interfaces.clone(), mode: run.mode, dry_run: run.dry_run };
    let switch = disable::file(path);
    let path = path.map(Path::to_owned);
    let load: daemon::Load = Arc::new(move || {
        let mut loaded = load(path.as_deref())?;
        loaded.override_with(&overrides)?;
        Ok(loaded)
    });
    let loaded = load()?;
    for ignored in &loaded.ignored {
        log::warn!("{}", not_read(ignored));
    }
    // The controller's loop has the main thread to itself; sources and clients run on the others.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let ended = runtime.block_on(async {
        let signals = daemon::Signals::listen()?;
        Box::pin(daemon::run(loaded, load, switch, signals)).await
    });
    if ended.is_ok() {
        logging::finish();
    }
    ended
}

fn load(path: Option<&Path>) -> Result<Loaded> {
    Ok(Config::load(path)?)
}

fn not_read(ignored: &Path) -> String {
    format!("{} is not read: only files that end in `.yml` are", ignored.display())
}

/// The daemon's paths. They can be read even if everything else in the configuration is wrong, so that
/// commands that need nothing else still work.
///
/// # Errors
///
/// If the configuration file that was named cannot be read: the command must not reach another daemon.
fn paths(cli: &Cli) -> Result<Paths> {
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

fn warning(wrong: &ConfigErrors) -> Option<String> {
    let first = wrong.errors().first()?;
    let more = match wrong.errors().len() - 1 {
        0 => "",
        _ => "; `ringfence check-config` lists the others",
    };
    Some(format!(
        "warning: the configuration is invalid, so the daemon cannot start: {first}{more}"
    ))
}

fn check(cli: &Cli, arguments: &CheckConfig) -> Result<()> {
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
fn error_lines(errors: &[ConfigError]) -> Option<String> {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The daemon's socket, from the command line or else from the configuration.
fn socket(cli: &Cli) -> Result<PathBuf> {
    match &cli.socket {
        Some(socket) => Ok(socket.clone()),
        None => Ok(paths(cli)?.control_socket()),
    }
}

fn ask<T: DeserializeOwned>(
    cli: &Cli,
    request: &Request,
    json: bool,
    text: fn(&T) -> String,
) -> Result<()> {
    let answer = client::ask(&socket(cli)?, request)?;
    print(&if json { format!("{answer:#}\n") } else { text(&client::read(answer)?) })
}

/// Prints a document with its keys in order, as those of the daemon are printed.
fn print_json(document: &impl Serialize) -> Result<()> {
    print(&format!("{:#}\n", serde_json::to_value(document)?))
}

/// `status --check`: prints one line on standard output and returns an exit status, whatever is wrong.
fn watch(cli: &Cli, json: bool) -> Result<ExitCode> {
    let status = socket(cli).and_then(|socket| client::ask_as(&socket, &Request::Status));
    let check = Check::of(&status.map_err(|error| in_words(&with_last_beat(cli, error))));
    print(&if json {
        format!("{}\n", serde_json::to_string_pretty(&check)?)
    } else {
        format!("{}\n", check.line())
    })?;
    Ok(ExitCode::from(check.level.exit_status()))
}

fn examine(cli: &Cli, arguments: &Doctor) -> Result<()> {
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

/// Prints the audit, and returns the exit status for its findings.
fn audit(cli: &Cli, arguments: &Audit) -> Result<ExitCode> {
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
fn suggest_exposure(cli: &Cli, suggest: &OfAsterisk) -> Result<()> {
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
fn telephones(cli: &Cli, arguments: &AuditDevices) -> Result<ExitCode> {
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
fn access(arguments: &AuditDevices) -> Result<Access> {
    let AuditDevices { url, username, token, ca, insecure, .. } = arguments;
    let place = match url {
        Some(url) => Place::at(url, *insecure)?,
        None => Place::local(),
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
struct Terminal;

impl Talk for Terminal {
    fn ask(&mut self, question: &str) -> Result<bool> {
        agreed(question, "")
    }

    fn say(&mut self, text: &str) -> Result<()> {
        print(text)
    }
}

/// Applies the fixes of findings, after asking. Returns how many it applied.
fn fix(findings: &[doctor::Finding], agreed_to_all: bool) -> Result<usize> {
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
fn agreed(question: &str, otherwise: &str) -> Result<bool> {
    print(&format!("{question} [y/N] "))?;
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer).context("read the answer")? == 0 {
        print("\n")?;
        bail!("there is no answer on standard input{otherwise}");
    }
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn list(cli: &Cli, bans: &Bans) -> Result<()> {
    let mut asker = asker(cli)?;
    let how = listing::How { sort: bans.sort, limit: bans.limit };
    let query = BansQuery {
        jail: bans.jail.clone(),
        scope: bans.scope.clone(),
        inside: bans.inside,
        since_seconds: bans.since.map(|since| since.as_secs()),
        ..how.narrowed()
    };
    let page =
        |after| client::read(asker.ask(&Request::Bans(BansQuery { after, ..query.clone() }))?);
    let out = BufWriter::new(io::stdout().lock());
    if bans.export {
        return listing::export(page, out);
    }
    listing::list(page, how, bans.output.json, out)
}

fn jail(cli: &Cli, name: &str, json: bool) -> Result<()> {
    let socket = socket(cli)?;
    let jails = client::ask_as(&socket, &Request::Jails)?;
    let status = client::ask_as(&socket, &Request::Status)?;
    let jail = listed::Jail::of(name, jails, status)?;
    if json { print_json(&jail) } else { print(&listed::jail(&jail)) }
}

fn peers(cli: &Cli, inside: Option<IpNet>, json: bool) -> Result<()> {
    let socket = socket(cli)?;
    let page = |after| client::ask_as(&socket, &Request::Peers { inside, after });
    listed::peers(page, json, BufWriter::new(io::stdout().lock()))
}

fn history(cli: &Cli, arguments: &HistoryOf) -> Result<()> {
    let socket = socket(cli)?;
    let HistoryOf { network, since, output } = arguments;
    let since_seconds = since.map(|since| since.as_secs());
    let page = |before| {
        let query = HistoryQuery { network: *network, since_seconds, before };
        client::ask_as(&socket, &Request::History(query))
    };
    decided::history(page, output.json, BufWriter::new(io::stdout().lock()))
}

fn ban(cli: &Cli, ban: &Ban) -> Result<()> {
    let session = client::session().filter(|_| !ban.force);
    let seconds = (!ban.forever).then_some(ban.time.as_secs().max(1));
    if let [network] = ban.which.networks[..] {
        let shuts_out = |from: &IpAddr| {
            network.contains(from) && !ban.except.iter().any(|exception| exception.contains(from))
        };
        if let Some(session) = session.filter(shuts_out) {
            bail!(orders::shut_out(session));
        }
        let request = Request::Ban {
            network,
            seconds,
            scope: ban.scope.clone(),
            except: ban.except.clone(),
            reason: ban.reason.clone(),
            force: ban.force,
        };
        return ask(cli, &request, ban.output.json, report::banned);
    }
    let default = Order {
        network: IpNet::default(),
        seconds,
        scope: ban.scope.clone(),
        except: Vec::new(),
        reason: ban.reason.clone(),
        jail: None,
    };
    let now = Timestamp::now();
    let order = |found| match found {
        Ok(found) => orders::order(found, &default, session, now),
        Err(why) => Read::Refused(None, why),
    };
    let listed = |network: &IpNet| {
        let inside = |exception: &&IpNet| network.contains(*exception);
        let except = ban.except.iter().filter(inside).copied().collect();
        let (end, scope, jail, reason) = (None, None, None, None);
        ban_list::Ban { network: *network, end, scope, jail, except, reason }
    };
    let is_inside =
        |exception: &IpNet| ban.which.networks.iter().any(|net| net.contains(exception));
    if let Some(outside) = ban.except.iter().find(|exception| !is_inside(exception)) {
        bail!("{outside} is not inside any of the networks, as `--except` requires");
    }
    let orders: Orders<Order> = if let Some(path) = &ban.which.from {
        Box::new(lines(path)?.map(|line| {
            let (number, found) = line?;
            Ok((Some(number), order(found)))
        }))
    } else {
        let networks = ban.which.networks.iter();
        Box::new(networks.map(|network| Ok((None, order(Ok(listed(network)))))))
    };
    let socket = socket(cli)?;
    let ask = |bans| {
        let request = Request::BanMany { bans, force: ban.force };
        Ok(client::ask_as::<BannedMany>(&socket, &request)?.into())
    };
    carried_out(orders, ban.which.from.as_deref(), ("made", ban.output.json), ask)
}

/// Orders as they are read, with the numbers of their lines.
type Orders<'a, T> = Box<dyn Iterator<Item = Result<(Option<u64>, Read<T>)>> + 'a>;

/// The lines of a file for `--from`.
fn lines(
    path: &Path,
) -> Result<impl Iterator<Item = Result<(u64, Result<ban_list::Ban, String>)>>> {
    let input: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(BufReader::new(io::stdin()))
    } else {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Box::new(BufReader::new(file))
    };
    let read = format!("read {}", path.display());
    Ok(ban_list::Lines::new(input).map(move |line| line.with_context(|| read.clone())))
}

/// Has orders carried out, and prints what became of them.
fn carried_out<T: Ask>(
    orders: Orders<'_, T>,
    from: Option<&Path>,
    (verb, json): (&str, bool),
    ask: impl FnMut(Vec<T>) -> Result<orders::Answer>,
) -> Result<()> {
    let report = |refused: &RefusedOrder| {
        let RefusedOrder { line, network, error } = refused;
        let place = match (from, line) {
            (Some(from), Some(line)) => format!("{}:{line}: ", from.display()),
            _ => String::new(),
        };
        // Most reasons of the daemon begin with the network.
        let named = network.iter().find(|network| !error.contains(&***network));
        let network = named.map_or_else(String::new, |network| format!("{network}: "));
        say(Level::Error, &format!("{place}{network}{error}"));
    };
    let outcome = orders::carry_out(orders, report, ask)?;
    if json {
        print_json(&outcome)?;
    } else {
        print(&report::carried_out(verb, &outcome))?;
    }
    match outcome.refused_count {
        0 => Ok(()),
        refused => {
            let all = outcome.done.saturating_add(refused);
            Err(Reported(format!("{refused} of {all} were refused")).into())
        }
    }
}

fn maintain(cli: &Cli, maintenance: &MaintenanceVerb) -> Result<()> {
    let (what, output) = match maintenance {
        MaintenanceVerb::On { time, closed_to_known, output } => {
            // Less than a second becomes 0, which the daemon refuses.
            let (seconds, closed_to_known) = (time.as_secs(), *closed_to_known);
            (api::Maintenance::On { seconds, closed_to_known }, output)
        }
        MaintenanceVerb::Off(output) => (api::Maintenance::Off, output),
        MaintenanceVerb::Status(output) => (api::Maintenance::Status, output),
    };
    ask(cli, &Request::Maintenance(what), output.json, report::maintenance)
}

/// Needs no daemon: without one, the next start reads the file.
fn confirm(cli: &Cli, json: bool) -> Result<()> {
    match client::ask(&socket(cli)?, &Request::Confirm) {
        Ok(answer) => print(&if json {
            format!("{answer:#}\n")
        } else {
            report::confirmed(&client::read(answer)?)
        }),
        Err(why) => {
            let state = paths(cli)?.state;
            if !why.is::<client::NoDaemon>() || !state.is_dir() {
                return Err(why);
            }
            let was_awaited = Confirmation::read(&state, false) != Confirmation::Confirmed;
            Confirmation::Confirmed.write(&state)?;
            let done = Confirmed { was_awaited };
            if json { print_json(&done) } else { print(&report::confirmed(&done)) }
        }
    }
}

fn panic(cli: &Cli, Panic { off, reason, output }: &Panic) -> Result<()> {
    let (file, bpffs) = (disable::file(cli.config.as_deref()), paths(cli)?.bpffs);
    let has_filter = if *off {
        disable::enable(&file, &bpffs)?
    } else {
        disable::disable(&file, &bpffs, &disable::note(reason.as_deref()))?
    };
    let disabled = disable::Disabled { disabled: !off, has_filter, file };
    if output.json { print_json(&disabled) } else { print(&report::disabled(&disabled)) }
}

fn lift(cli: &Cli, unban: &Unban) -> Result<()> {
    let Which { networks, from, jail, .. } = &unban.which;
    let which = match (&networks[..], from, jail) {
        ([network], ..) if let Some(reason) = &unban.reason => {
            api::Unban::Manual { network: *network, reason: reason.clone() }
        }
        _ if unban.reason.is_some() => bail!("`--reason` accepts one network at a time"),
        ([network], ..) => api::Unban::Network { network: *network, inside: unban.inside },
        ([], None, Some(jail)) => api::Unban::Jail { jail: jail.clone() },
        ([], None, None) => api::Unban::All,
        _ if unban.inside => bail!("`--inside` accepts one network at a time"),
        _ => return lift_several(cli, unban),
    };
    let mut asker = asker(cli)?;
    let answer = asker.ask(&Request::Unban(which))?;
    asker.end()?;
    print(&if unban.output.json {
        format!("{answer:#}\n")
    } else {
        report::lifted(&client::read(answer)?)
    })
}

fn lift_several(cli: &Cli, unban: &Unban) -> Result<()> {
    let Which { networks, from, .. } = &unban.which;
    let orders: Orders<IpNet> = match from {
        Some(path) => Box::new(lines(path)?.map(|line| {
            let (number, found) = line?;
            let order = match found {
                Ok(found) => Read::Order(found.network),
                Err(why) => Read::Refused(None, why),
            };
            Ok((Some(number), order))
        })),
        None => Box::new(networks.iter().map(|network| Ok((None, Read::Order(*network))))),
    };
    let mut asker = asker(cli)?;
    let ask = |networks| {
        let request = Request::Unban(api::Unban::Networks { networks });
        Ok(client::read::<Lifted>(asker.ask(&request)?)?.into())
    };
    let done = carried_out(orders, from.as_deref(), ("lifted", unban.output.json), ask);
    asker.end().and(done)
}

fn test(cli: &Cli, arguments: &TestLog) -> Result<()> {
    let out = BufWriter::new(io::stdout().lock());
    let &TestLog { ref jail, ref file, json, all, matched } = arguments;
    let config = if test_log::is_filter(jail) {
        Config::default()
    } else {
        let (loaded, wrong) = Config::load_what_is_right(cli.config.as_deref());
        if let Some(warning) = warning(&wrong) {
            say(Level::Warn, &warning);
        }
        loaded.config
    };
    let path = (file.as_os_str() != "-").then_some(&**file);
    let test = Test { jail, config: &config, path, json, all, matched };
    let Some(path) = path else { return test_log::run(test, io::stdin().lock(), out) };
    let log = File::open(path).with_context(|| format!("open {}", path.display()))?;
    test_log::run(test, BufReader::new(log), out)
}

/// What `import fail2ban --json` prints.
#[derive(Default, Serialize)]
struct Imported {
    /// The imported settings and those that are left out.
    #[serde(flatten)]
    import: Value,
    /// The file of the settings, if it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<String>,
    /// The result of sending the bans to the daemon, if they were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    bans_handed_over: Option<TakenOver>,
    /// The error, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn import_fail2ban(cli: &Cli, arguments: &ImportFail2ban) -> Result<()> {
    let path = cli.config.as_deref();
    let target = arguments.to.clone().unwrap_or_else(|| {
        let directory = path.unwrap_or(Path::new(DEFAULT_PATH)).parent();
        directory.unwrap_or(Path::new("")).join("conf.d/50-fail2ban.yml")
    });
    let sources = fail2ban::Sources {
        directory: arguments.from.clone(),
        database: arguments.database.clone(),
        wazo: arguments.from_wazo,
        asterisk: arguments.asterisk_config.clone(),
    };
    let now = Timestamp::now();
    // This import replaces the settings of an earlier one.
    let config = Config::load_with(path, &target, b"")?.config;
    let mut import = fail2ban::import(&sources, &config, now)?;
    let json = arguments.output.json;
    let say = |text: &str| if json { Ok(()) } else { print(text) };
    // An error that would stop the real run also stops the dry run.
    let checked = fail2ban::check_settings(&import.settings, &target, path, arguments.force);
    if let Ok(checked) = &checked {
        import.left_out.extend(checked.overruled.iter().cloned());
    }
    say(&import.to_text())?;
    say(&format!("{}:\n\n{}\n", target.display(), import.settings))?;
    let mut document = Imported { import: import.to_json(), ..Imported::default() };
    let result = checked.and_then(|checked| {
        if arguments.dry_run {
            return Ok(());
        }
        fail2ban::write_settings(&import.settings, &target, &checked)?;
        document.written = Some(target.display().to_string());
        document.bans_handed_over = Some(hand_over(cli, &import.bans, now)?);
        Ok(())
    });
    if json {
        if let Err(error) = &result {
            document.error = Some(format!("{error:#}"));
        }
        print_json(&document)?;
        return result.map_err(|error| Reported(in_words(&error)).into());
    }
    if result.is_ok() {
        print(&report::imported(document.bans_handed_over.as_ref().map(|bans| (&*target, bans))))?;
    }
    result
}

fn hand_over(cli: &Cli, bans: &[fail2ban::Ban], now: Timestamp) -> Result<TakenOver> {
    let socket = socket(cli)?;
    fail2ban::hand_over(bans, now, |request| client::ask_as(&socket, request)).context(
        "the settings are written, but not all bans are imported; run this again while the daemon runs",
    )
}

/// What `detach --json` prints.
#[derive(Serialize)]
struct Detached {
    /// The interfaces that had the program.
    detached: Vec<String>,
}

fn take_packets(cli: &Cli, arguments: &Capture) -> Result<()> {
    let form = match &arguments.write {
        None if arguments.json => capture::Form::Json,
        None => capture::Form::Text,
        Some(_) => capture::Form::Pcapng,
    };
    let reasons = match &*arguments.reason {
        [] if arguments.all => Reason::ALL.to_vec(),
        [] => capture::dropping(),
        reasons => reasons.to_vec(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start the runtime")?;
    let _entered = runtime.enter();
    let wanted = datapath::capture::Wanted { reasons, network: arguments.inside };
    let Some(capture) = datapath::capture::Capture::begin(&paths(cli)?.bpffs, &wanted)? else {
        bail!("there is no filter on this host; start the daemon first");
    };
    let out: Box<dyn Write> = match &arguments.write {
        Some(file) if file != Path::new("-") => {
            let file = File::create(file).with_context(|| format!("create {}", file.display()))?;
            Box::new(file)
        }
        _ => Box::new(io::stdout().lock()),
    };
    let bounds = capture::Bounds { packets: arguments.count, time: arguments.time };
    let taken = runtime.block_on(capture::run(capture, form, bounds, BufWriter::new(out)))?;
    say(Level::Info, &taken.to_string());
    Ok(())
}

fn detach(bpffs: &Path, json: bool) -> Result<()> {
    let interfaces = datapath::detach_all(bpffs)?;
    if json {
        return print_json(&Detached { detached: interfaces });
    }
    print(&if interfaces.is_empty() {
        "there was nothing to detach\n".to_owned()
    } else {
        format!(
            "detached from {}; the bans are kept, and the next start enforces them again\n",
            interfaces.join(", ")
        )
    })
}

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to standard output")
}

/// Whether the reader of the output has gone, such as `head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
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

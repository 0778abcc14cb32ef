//! `ringfence`: reads the command line, starts what it asks for, prints what comes of it.

use std::fs::{self, File};
use std::io::{self, BufReader, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use filter_user::cli::{
    Ban, Cli, Command, Doctor, Import, ImportFail2ban, Maintenance, Run, TestLog, Unban,
};
use filter_user::config::{Config, ConfigError, DEFAULT_PATH, Loaded, Overrides};
use filter_user::control::{self, Request};
use filter_user::test_log::{self, Test};
use filter_user::{client, daemon, datapath, doctor, fail2ban, jail_filter, report};
use jiff::Timestamp;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the one place where errors are printed")]
            {
                eprintln!("ringfence: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: &Cli) -> Result<()> {
    match &cli.command {
        Command::Run(run) => start(cli.config.as_deref(), run),
        Command::Status(output) => ask(cli, &Request::Status, output.json, report::status),
        Command::Bans { jail, output } => {
            ask(cli, &Request::Bans { jail: jail.clone() }, output.json, report::bans)
        }
        Command::Jails(output) => ask(cli, &Request::Jails, output.json, report::jails),
        Command::Why { address, output } => {
            let address = address.to_canonical();
            ask(cli, &Request::Why { address }, output.json, report::why)
        }
        Command::Ban(ban) => by_hand(cli, ban),
        Command::Unban(unban) => lift(cli, unban),
        Command::Maintenance(maintenance) => maintain(cli, maintenance),
        Command::TestLog(arguments) => test(cli, arguments),
        Command::Import(Import::Fail2ban(arguments)) => import_fail2ban(cli, arguments),
        Command::CheckConfig(output) => {
            let loaded = load(cli.config.as_deref())?;
            if let Some(wrong) = lines(&jail_filter::check(&loaded)) {
                bail!("{wrong}");
            }
            if output.json {
                print(&format!("{:#}\n", loaded.render_json()))
            } else {
                print(&loaded.render_yaml())
            }
        }
        Command::Doctor(arguments) => examine(cli, arguments),
        Command::Detach => detach(&load(cli.config.as_deref())?.config.paths.bpffs),
    }
}

fn start(path: Option<&Path>, run: &Run) -> Result<()> {
    let environment = env_logger::Env::new().filter_or("RINGFENCE_LOG", "info");
    env_logger::Builder::from_env(environment).format_target(false).init();
    let mut loaded = load(path)?;
    loaded.override_with(&Overrides {
        interfaces: run.interfaces.clone(),
        mode: run.mode,
        dry_run: run.dry_run,
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
        let mut hangup = signal(SignalKind::hangup()).context("wait for SIGHUP")?;
        let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
        let shutdown = async move {
            tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = hangup.recv() => "SIGHUP",
                _ = terminate.recv() => "SIGTERM",
            }
        };
        daemon::run(loaded.config, shutdown).await
    })
}

fn load(path: Option<&Path>) -> Result<Loaded> {
    Ok(Config::load(path)?)
}

/// Each in a line of its own, if there are any.
fn lines(errors: &[ConfigError]) -> Option<String> {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The daemon's socket: as the command line says, or as the configuration does.
fn socket(cli: &Cli) -> Result<PathBuf> {
    match &cli.socket {
        Some(socket) => Ok(socket.clone()),
        None => Ok(load(cli.config.as_deref())?.config.paths.control_socket()),
    }
}

fn ask(cli: &Cli, request: &Request, json: bool, text: fn(&Value) -> String) -> Result<()> {
    let answer = client::ask(&socket(cli)?, request)?;
    print(&if json { format!("{answer:#}\n") } else { text(&answer) })
}

fn examine(cli: &Cli, arguments: &Doctor) -> Result<()> {
    let config = load(cli.config.as_deref())?.config;
    let status = client::ask(&socket(cli)?, &Request::Status).map_err(|why| format!("{why:#}"));
    let host = doctor::Host::new(&arguments.asterisk_config);
    let findings = doctor::examine(&config, &status, &host);
    if arguments.output.json {
        print(&format!("{:#}\n", doctor::to_json(&findings)))?;
    } else {
        print(&doctor::to_text(&findings))?;
    }
    let mended = if arguments.fix { mend(&findings)? } else { 0 };
    match findings.len() - mended {
        0 => Ok(()),
        1 => bail!("one thing is wrong"),
        n => bail!("{n} things are wrong"),
    }
}

/// Does what can be done about findings, after asking. About how many that was.
fn mend(findings: &[doctor::Finding]) -> Result<usize> {
    let mut afterwards: Vec<&str> = Vec::new();
    let mut mended = 0;
    for fix in findings.iter().filter_map(|finding| finding.fix.as_ref()) {
        if agreed(&fix.question())? {
            fix.apply().with_context(|| fix.question().replace('?', ""))?;
            print("done\n")?;
            mended += 1;
            afterwards.extend(fix.afterwards().filter(|then| !afterwards.contains(then)));
        }
    }
    if !afterwards.is_empty() {
        print(&format!("then: {}\n", afterwards.join("; ")))?;
    }
    Ok(mended)
}

/// Whether the answer to a question is yes.
fn agreed(question: &str) -> Result<bool> {
    print(&format!("{question} [y/N] "))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn by_hand(cli: &Cli, ban: &Ban) -> Result<()> {
    let closes = |from: &IpAddr| {
        ban.network.contains(from) && !ban.except.iter().any(|hole| hole.contains(from))
    };
    if let Some(session) = session().filter(|from| !ban.force && closes(from)) {
        bail!("you are logged in from {session}: `--force` locks you out all the same");
    }
    let request = Request::Ban {
        network: ban.network,
        seconds: (!ban.forever).then_some(ban.time.as_secs().max(1)),
        scope: ban.scope.clone(),
        except: ban.except.clone(),
        reason: ban.reason.clone(),
        force: ban.force,
    };
    ask(cli, &request, ban.output.json, |answer| {
        let until =
            answer["until"].as_str().map_or("without end".to_owned(), |u| format!("until {u}"));
        let banned = answer["banned"].as_str().unwrap_or_default();
        format!("banned {banned} {until}\n{}", report::unless_durable(answer))
    })
}

fn maintain(cli: &Cli, maintenance: &Maintenance) -> Result<()> {
    let (what, output) = match maintenance {
        Maintenance::On { time, closed_to_known, output } => {
            // Less than a second is as good as none, and none is refused.
            let (seconds, closed_to_known) = (time.as_secs(), *closed_to_known);
            (control::Maintenance::On { seconds, closed_to_known }, output)
        }
        Maintenance::Off(output) => (control::Maintenance::Off, output),
        Maintenance::Status(output) => (control::Maintenance::Status, output),
    };
    ask(cli, &Request::Maintenance(what), output.json, report::maintenance)
}

/// Where this session comes from, if it came over ssh. `sudo` takes the variable away, so the
/// environments of the processes above are asked too.
fn session() -> Option<IpAddr> {
    const ANCESTORS: usize = 16;
    let mut process = std::process::id().to_string();
    for _ in 0..ANCESTORS {
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        let connection = variables.find_map(|v| v.strip_prefix(b"SSH_CONNECTION="));
        if let Some(from) = connection.and_then(|c| c.split(|byte| *byte == b' ').next()) {
            return std::str::from_utf8(from).ok()?.parse().ok();
        }
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        parent.trim().clone_into(&mut process);
    }
    None
}

fn lift(cli: &Cli, unban: &Unban) -> Result<()> {
    let which = match (unban.network, &unban.jail) {
        (Some(network), _) => control::Unban::Network { network },
        (None, Some(jail)) => control::Unban::Jail { jail: jail.clone() },
        (None, None) => control::Unban::All,
    };
    ask(cli, &Request::Unban(which), false, |answer| {
        let of =
            answer["network"].as_str().map_or_else(String::new, |network| format!(" of {network}"));
        format!("lifted {} bans{of}\n{}", answer["lifted"], report::unless_durable(answer))
    })
}

fn test(cli: &Cli, arguments: &TestLog) -> Result<()> {
    let out = io::BufWriter::new(io::stdout().lock());
    let &TestLog { ref jail, ref file, json, all, matched } = arguments;
    let config = if test_log::is_filter(jail) {
        Config::default()
    } else {
        load(cli.config.as_deref())?.config
    };
    let path = (file.as_os_str() != "-").then_some(&**file);
    let test = Test { jail, config: &config, path, json, all, matched };
    let Some(path) = path else { return test_log::run(test, io::stdin().lock(), out) };
    let log = File::open(path).with_context(|| format!("open {}", path.display()))?;
    test_log::run(test, BufReader::new(log), out)
}

fn import_fail2ban(cli: &Cli, arguments: &ImportFail2ban) -> Result<()> {
    let path = cli.config.as_deref();
    let config = load(path)?.config;
    let sources = fail2ban::Sources {
        directory: arguments.from.clone(),
        database: arguments.database.clone(),
        wazo: arguments.from_wazo,
    };
    let now = Timestamp::now();
    let import = fail2ban::import(&sources, &config.ports, now)?;
    let json = arguments.output.json;
    let target = arguments.to.clone().unwrap_or_else(|| {
        let directory = path.unwrap_or(Path::new(DEFAULT_PATH)).parent();
        directory.unwrap_or(Path::new("")).join("conf.d/50-fail2ban.yml")
    });
    let say = |text: &str| if json { Ok(()) } else { print(text) };
    say(&import.to_text())?;
    say(&format!("{}:\n\n{}\n", target.display(), import.settings))?;
    let mut document = import.to_json();
    let result = if arguments.dry_run {
        Ok(())
    } else {
        fail2ban::write_settings(&import.settings, &target, path, arguments.force)?;
        document["written"] = target.display().to_string().into();
        hand_over(cli, &import.bans, now).map(|done| document["bans_handed_over"] = done.to_json())
    };
    if json {
        print(&format!("{document:#}\n"))?;
    } else if result.is_ok() {
        print(&report::imported(&document))?;
    }
    result
}

fn hand_over(cli: &Cli, bans: &[fail2ban::Ban], now: Timestamp) -> Result<fail2ban::HandedOver> {
    let socket = socket(cli)?;
    fail2ban::hand_over(bans, now, |request| client::ask(&socket, request)).context(
        "the settings are written, but not all bans are handed over; run this again while the daemon runs",
    )
}

fn detach(bpffs: &Path) -> Result<()> {
    let interfaces = datapath::detach_all(bpffs)?;
    print(&if interfaces.is_empty() {
        "there was nothing to detach\n".to_owned()
    } else {
        format!("detached from {}; no ban is in force any more\n", interfaces.join(", "))
    })
}

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to standard output")
}

/// Whether the reader of our output has gone, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

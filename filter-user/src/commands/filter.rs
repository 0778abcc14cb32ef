//! What opens and closes the whole filter: maintenance, confirmation, the emergency switch, `detach`, and `capture`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use api::{Confirmed, Request};
use filter_common::decision::Reason;
use filter_user::cli::{Capture, Cli, MaintenanceVerb, Panic};
use filter_user::confirmation::{CONFIRM, Confirmation};
use filter_user::logging::say;
use filter_user::{capture, client, datapath, disable, report, without_daemon};
use log::Level;
use serde::Serialize;

use super::common::{ask, of_daemon, paths, print, print_json, socket};

pub(crate) fn maintain(cli: &Cli, maintenance: &MaintenanceVerb) -> Result<()> {
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
pub(crate) fn confirm(cli: &Cli, json: bool) -> Result<()> {
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
            if was_awaited && let Some(config) = of_daemon(cli) {
                // What was asked for is done.
                without_daemon::note(&config, CONFIRM).unwrap_or_else(|error| {
                    say(Level::Warn, &format!("the history does not contain this: {error:#}"));
                });
            }
            let done = Confirmed { was_awaited };
            if json { print_json(&done) } else { print(&report::confirmed(&done)) }
        }
    }
}

pub(crate) fn panic(cli: &Cli, Panic { off, reason, output }: &Panic) -> Result<()> {
    let (file, paths) = (disable::file(cli.config.as_deref()), paths(cli)?);
    let bpffs = paths.bpffs;
    let has_filter = if *off {
        // Without it the history only says that the file was removed.
        drop(disable::note_end(&paths.state));
        disable::enable(&file, &bpffs)?
    } else {
        disable::disable(&file, &bpffs, &disable::note(reason.as_deref()))?
    };
    let disabled = disable::Disabled { disabled: !off, has_filter, file };
    if output.json { print_json(&disabled) } else { print(&report::disabled(&disabled)) }
}

pub(crate) fn take_packets(cli: &Cli, arguments: &Capture) -> Result<()> {
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

/// What `detach --json` prints.
#[derive(Serialize)]
pub(crate) struct Detached {
    /// The interfaces that had the program.
    detached: Vec<String>,
}

pub(crate) fn detach(bpffs: &Path, json: bool) -> Result<()> {
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

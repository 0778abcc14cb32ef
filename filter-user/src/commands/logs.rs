//! `ringfence test-log` and `import fail2ban`: read what others have written.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::Path;

use anyhow::{Context as _, Result};
use api::TakenOver;
use filter_user::cli::{Cli, ImportFail2ban, TestLog};
use filter_user::config::{Config, DEFAULT_PATH};
use filter_user::logging::say;
use filter_user::test_log::{self, Test};
use filter_user::{client, fail2ban, report};
use jiff::Timestamp;
use log::Level;
use serde::Serialize;
use serde_json::Value;

use super::common::{Reported, in_words, print, print_json, socket, warning};

pub(crate) fn test(cli: &Cli, arguments: &TestLog) -> Result<()> {
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
pub(crate) struct Imported {
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

pub(crate) fn import_fail2ban(cli: &Cli, arguments: &ImportFail2ban) -> Result<()> {
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

pub(crate) fn hand_over(cli: &Cli, bans: &[fail2ban::Ban], now: Timestamp) -> Result<TakenOver> {
    let socket = socket(cli)?;
    fail2ban::hand_over(bans, now, |request| client::ask_as(&socket, request)).context(
        "the settings are written, but not all bans are imported; run this again while the daemon runs",
    )
}

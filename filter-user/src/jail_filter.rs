//! Chooses the parser for the log of a jail: the filter that the jail names, adapted to the log, or the
//! built-in parser.

use std::path::Path;
use std::sync::Arc;

use crate::config::{ConfigError, JailSettings, Loaded, SetBy};
use crate::doctor;
use crate::fail2ban::{self, Filter, LogType, Options};
use crate::parse::Parser;
use crate::parse::dates::DateFormat;
use crate::register::{self, ByFilter};

/// Asterisk's configuration directory.
const ASTERISK_ETC: &str = "/etc/asterisk";

/// The parser of a built-in jail and the names of its rules; `None` for any other jail.
pub fn built_in(name: &str) -> Option<(Parser, &'static [&'static str])> {
    of_source(register::of_jail(name)?)
}

/// The parser of a built-in source and the names of its rules; `None` for one that has no lines.
pub fn of_source(row: &register::Source) -> Option<(Parser, &'static [&'static str])> {
    let parser = match row.parser {
        register::Parser::AsteriskLog => {
            let format = doctor::dateformat(Path::new(ASTERISK_ETC));
            let dates = format.as_deref().map(DateFormat::new).unwrap_or_default();
            Parser::Asterisk(Arc::new(dates))
        }
        register::Parser::Lines(parse, _) => Parser::BuiltIn(parse),
        register::Parser::Events => return None,
    };
    Some((parser, row.parser.rules()))
}

/// The parser with the filter that a jail names, if it names one.
///
/// # Errors
///
/// If the filter cannot be loaded.
pub fn parser(
    name: &str,
    jail: &JailSettings,
    log: LogType,
) -> Result<Option<Parser>, fail2ban::Error> {
    let Some(filter) = &jail.filter else { return Ok(None) };
    let options = Options { log, ..options(name, jail) };
    Filter::load(filter.as_str(), options).map(|filter| Some(Parser::Filter(Arc::new(filter))))
}

fn options(name: &str, jail: &JailSettings) -> Options {
    let options = Options::default();
    match register::of_jail(name) {
        Some(row) => {
            let ByFilter { class, proven, needs_witness } = row.by_filter;
            Options { class, proven, needs_witness, ..options }
        }
        None => Options { proven: jail.own.as_ref().is_some_and(|own| own.proven), ..options },
    }
}

/// The errors in the filters that a configuration names, each with the setting that names it.
pub fn check(loaded: &Loaded) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for (name, jail) in &loaded.config.jails {
        let Err(why) = parser(name, jail, LogType::File) else { continue };
        let path = format!("jails.{name}.filter");
        let (file, line) = match loaded.origin(&path) {
            SetBy::File { file, line } => (Some(file.clone()), Some(*line)),
            SetBy::Default | SetBy::CommandLine => (None, None),
        };
        errors.push(ConfigError { file, line, column: None, text: format!("`{path}`: {why}") });
    }
    errors
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::IpAddr;

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_filter_is_told_what_its_jail_knows() {
        let directory = tempfile::tempdir().unwrap();
        let filter = directory.path().join("web.conf");
        fs::write(&filter, "[Definition]\nfailregex = ^refused <HOST>$\n").unwrap();
        let text = |proven| {
            format!(
                "jails: {{web: {{filter: {}, log: [/var/log/web], proven: {proven}}}, \
                 asterisk-wazo: {{filter: {}}}}}",
                filter.display(),
                filter.display()
            )
        };
        for proven in [true, false] {
            let loaded = Config::parse("config.yml".as_ref(), text(proven).as_bytes()).unwrap();
            assert_eq!(check(&loaded), []);
            let read = |name: &str| {
                let parser = parser(name, &loaded.config.jails[name], LogType::File).unwrap();
                parser.unwrap().parse(b"refused 192.0.2.66").unwrap()
            };
            let web = read("web");
            assert_eq!(web.address, IpAddr::from([192, 0, 2, 66]));
            assert_eq!((web.proven, web.needs_witness), (proven, false));
            let asterisk = read("asterisk-wazo");
            assert_eq!((asterisk.proven, asterisk.needs_witness), (false, true));
        }
    }

    #[test]
    fn a_filter_that_is_not_there_is_told_with_its_place() {
        let text = b"jails:\n  web:\n    filter: /nowhere/x.conf\n    log: [/var/log/web]\n";
        let loaded = Config::parse("config.yml".as_ref(), text).unwrap();
        let errors = check(&loaded);
        let error = errors[0].to_string();
        assert!(error.starts_with("config.yml:3: `jails.web.filter`: /nowhere/x.conf"), "{error}");
    }
}

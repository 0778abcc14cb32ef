//! `ringfence import fail2ban`: reads fail2ban's settings and bans in force. Returns settings in
//! Ringfence's form, bans to send to the daemon, and a list of everything that is left out, with reasons.
//!
//! Each setting is checked by the configuration's own reader before it is imported, so that the written
//! file is valid.
//! written is read.
//!
//! Must never write a file of fail2ban.

mod closes;
mod logs;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use detection::ban::RESERVED;
use detection::duration;
use detection::prefix::show;
use detection::register::{self, ASTERISK_JAIL, Filter as Replaced, SOURCES, Source};
use detection::settings::{OWN_JAILS_MAX, RECIDIVE, built_in_jails};
use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::daemon::{Banned, Bans, Daemon, Existing};
use super::error::Error;
use super::filter::{Filter, LogType, Options};
use super::jails::{self, Effect, Jail};
use super::layers::{Layers, Variables};
use super::{options, seconds};

/// fail2ban's configuration directory, by default.
pub const DIRECTORY: &str = "/etc/fail2ban";

/// fail2ban's database, by default.
const DATABASE: &str = "/var/lib/fail2ban/fail2ban.sqlite3";

/// Whether the source of a failure can be forged, of those that a built-in jail counts.
fn can_be_forged(jail: &str) -> bool {
    register::of_jail(jail).is_some_and(|source| !source.by_filter.proven)
}

/// The built-in jail whose parsers find the failures that this filter does, and find them better.
fn built_in_for(filter: &str) -> Option<(&'static str, Option<&'static Replaced>)> {
    let of_source = |source: &'static Source| {
        let found = source.filters.iter().find(|known| known.name == filter)?;
        Some((source.jail, Some(found)))
    };
    let counts_bans = (filter == RECIDIVE).then_some((RECIDIVE, None));
    SOURCES.iter().find_map(of_source).or(counts_bans)
}

/// What to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// fail2ban's configuration directory, such as `/etc/fail2ban`.
    pub directory: PathBuf,
    /// Its database; `None` for the one in its configuration.
    pub database: Option<PathBuf>,
    /// Whether to fail if it is not that of a Wazo host.
    pub wazo: bool,
    /// Asterisk's configuration directory, which shows the levels in its logs.
    pub asterisk: PathBuf,
}

/// A ban to hand over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The jail, by its name in Ringfence.
    pub jail: String,
    /// The address.
    pub network: IpNet,
    /// When it ends; `None` for never.
    pub until: Option<Timestamp>,
}

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// The settings: a file of Ringfence's configuration.
    pub settings: String,
    /// The bans in force.
    pub bans: Vec<Ban>,
    /// What is imported: a line for each jail.
    pub taken: Vec<String>,
    /// What is not imported: a line each, with the reason.
    pub left_out: Vec<String>,
    /// What works differently from fail2ban, or is otherwise worth knowing: a line each.
    pub notes: Vec<String>,
}

impl Import {
    /// What is imported and what is left out, for `--json`.
    pub fn to_json(&self) -> Value {
        let bans = self.bans.iter().map(|ban| {
            let until = ban.until.map(|until| until.to_string());
            json!({"network": show(ban.network), "jail": ban.jail, "until": until})
        });
        json!({
            "settings": self.settings,
            "bans": bans.collect::<Vec<_>>(),
            "taken": self.taken,
            "left_out": self.left_out,
            "notes": self.notes,
        })
    }

    /// The same as text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let parts =
            [("imported", &self.taken), ("left out", &self.left_out), ("notes", &self.notes)];
        for (title, lines) in parts {
            if lines.is_empty() {
                continue;
            }
            text = text + title + "\n";
            for line in lines {
                text = text + "  " + line + "\n";
            }
        }
        text
    }
}

/// Imports `sources` for a host with the `existing` configuration.
///
/// # Errors
///
/// If there is no configuration of fail2ban, if a database that was named cannot be read, or if the host
/// is not a Wazo host although it must be.
pub fn import(
    sources: &Sources,
    existing: Existing<'_>,
    daemon: &dyn Daemon,
    now: Timestamp,
) -> Result<Import, Error> {
    // The result must not depend on the working directory.
    let directory = std::path::absolute(&sources.directory)
        .map_err(|why| Error::of_file(&sources.directory, why.to_string()))?;
    let mut jails = jails::read(&directory)?;
    // A disabled jail matters only if no other takes its place here. A jail with the name of a built-in
    // jail takes precedence over one that only has its filter.
    let built_in = |jail: &Jail| built_in_jails().any(|(_, name)| name == jail.name);
    jails.sort_by_key(|jail| (!jail.enabled, !built_in(jail)));
    if sources.wazo && !jails.iter().any(|jail| jail.name == ASTERISK_JAIL) {
        let text = "has no jail `asterisk-wazo`, so this is not a Wazo host; omit `--from-wazo` to \
                    import it nevertheless";
        return Err(Error::of_file(&directory, text));
    }
    let mut taking = Taking {
        existing,
        daemon,
        directory: &directory,
        asterisk: &sources.asterisk,
        done: Import::default(),
        names: BTreeMap::new(),
        ignored: BTreeMap::new(),
        own: 0,
        logs: Vec::new(),
        ports: BTreeMap::new(),
        sip: None,
    };
    let mut sections = String::new();
    for jail in &jails {
        if let Some(section) = taking.jail(jail) {
            sections += &section;
        }
    }
    let more = taking.sip_section() + &taking.port_sections() + &taking.log_sections();
    let Taking { mut done, names, ignored, .. } = taking;
    let from = directory.display();
    done.settings = if sections.is_empty() {
        format!("# {from} has no jail that Ringfence can import.\n")
    } else {
        format!("# Imported from {from} by `ringfence import fail2ban`.\njails:\n{sections}{more}")
    };
    match database_of(sources)? {
        Some((path, named)) => match daemon.bans(&path, now) {
            Ok(bans) => take_bans(bans, &names, &ignored, &mut done),
            Err(why) if named => return Err(why),
            Err(why) => done.left_out.push(format!("bans: {why}")),
        },
        None => done.left_out.push(
            "bans: fail2ban keeps no database, according to its \
                                    configuration"
                .to_owned(),
        ),
    }
    Ok(done)
}

/// The database, and whether it was named explicitly; `None` if fail2ban keeps none.
fn database_of(sources: &Sources) -> Result<Option<(PathBuf, bool)>, Error> {
    if let Some(path) = &sources.database {
        return Ok(Some((path.clone(), true)));
    }
    let mut path = DATABASE.to_owned();
    if let Some(layers) = Layers::read(&sources.directory.join("fail2ban"))? {
        for section in ["DEFAULT", "Definition"] {
            if let Some(value) = layers.get(section, "dbfile", &Variables::new())? {
                path = value.text;
            }
        }
    }
    let none = path.eq_ignore_ascii_case("none") || path == ":memory:";
    Ok((!none).then(|| (PathBuf::from(path), false)))
}

fn take_bans(
    bans: Bans,
    names: &BTreeMap<String, String>,
    ignored: &BTreeMap<String, Vec<IpNet>>,
    done: &mut Import,
) {
    let is_ignored = |name: &String, network: &IpNet| {
        ignored.get(name).into_iter().flatten().any(|ignored| ignored.contains(network))
    };
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    for Banned { jail, network, until } in bans.in_force {
        let why = match names.get(&jail) {
            Some(name) if is_ignored(name, &network) => format!(
                "by `{jail}` of addresses that it \
                                                                 ignores"
            ),
            Some(name) if network.prefix_len() == network.max_prefix_len() => {
                done.bans.push(Ban { jail: name.clone(), network, until });
                continue;
            }
            Some(_) => format!(
                "of networks by `{jail}`: jails ban only addresses; use `ringfence ban` for \
                 networks"
            ),
            None => format!("by `{jail}`, which is not imported"),
        };
        *left_out.entry(why).or_default() += 1;
    }
    if bans.unreadable > 0 {
        left_out.insert("of something other than an address".to_owned(), bans.unreadable);
    }
    done.taken.push(format!("{} in force", count(done.bans.len(), "ban")));
    done.left_out.extend(left_out.into_iter().map(|(why, n)| format!("{} {why}", count(n, "ban"))));
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The form of a jail after the import.
enum Becomes {
    /// Settings of this built-in jail.
    BuiltIn(&'static str),
    /// A jail of your own.
    Own,
    Nothing,
}

/// An import in progress, jail by jail.
struct Taking<'a> {
    existing: Existing<'a>,
    daemon: &'a dyn Daemon,
    directory: &'a Path,
    asterisk: &'a Path,
    done: Import,
    /// The imported jails, with their names in Ringfence.
    names: BTreeMap<String, String>,
    /// The networks that they ignore, by their names in Ringfence.
    ignored: BTreeMap<String, Vec<IpNet>>,
    /// How many of them are jails of your own.
    own: usize,
    /// The section `sources`.
    logs: Vec<logs::Log>,
    /// The section `ports`: TCP ports by name.
    ports: BTreeMap<&'a str, Vec<closes::Range>>,
    /// The section `sip`: ports to add to those that are configured.
    sip: Option<Vec<u16>>,
}

impl Taking<'_> {
    /// The section of a jail, if it is imported.
    fn jail(&mut self, jail: &Jail) -> Option<String> {
        let known = match self.becomes(jail) {
            Becomes::BuiltIn(name) => Some(name),
            Becomes::Own => None,
            Becomes::Nothing => return None,
        };
        if let Some(known) = known.filter(|_| !jail.enabled) {
            self.done.taken.push(format!("{known}: disabled, as in fail2ban"));
            return Some(format!("  {known}: {{enabled: false}}\n"));
        }
        let name = known.map_or_else(|| own_name(&jail.name), str::to_owned);
        if let Some(other) = self.taken_by(&name) {
            let text =
                format!("{}: the jail `{other}` has already been imported as `{name}`", jail.name);
            self.done.left_out.push(text);
            return None;
        }
        let mut section = Section::new(self.daemon, &name);
        match (&jail.effect, known) {
            (Effect::Bans, _) => {}
            (Effect::Tells, Some(_)) => {
                let text = "its actions ban no address in fail2ban, but here it does; `enabled: \
                            false` prevents this";
                section.notes.push(text.to_owned());
            }
            (Effect::Tells, None) => {
                let text = "its actions ban no address, so it is not imported";
                self.done.left_out.push(format!("{}: {text}", jail.name));
                return None;
            }
            (Effect::Allows, _) => {
                let text = "its action grants access, which jails cannot do here";
                self.done.left_out.push(format!("{}: {text}", jail.name));
                return None;
            }
        }
        if let Some(known) = known {
            self.filter_of(jail, known, &mut section);
            self.logs_of(jail, &mut section);
            self.closes_of(jail, &mut section);
        } else {
            if let Err(why) = self.own(jail, &mut section) {
                self.done.left_out.push(format!("{}: is not imported: {why}", jail.name));
                return None;
            }
            self.own += 1;
        }
        section.common(jail);
        section.proof(jail, known);
        let of_jail = |lines: &[String]| -> Vec<String> {
            lines.iter().map(|line| format!("{}: {line}", jail.name)).collect()
        };
        self.done.left_out.extend(of_jail(&jail.left_out));
        self.done.left_out.extend(of_jail(&section.left_out));
        self.done.notes.extend(of_jail(&section.notes));
        self.done.taken.push(match known {
            Some(known) if known == jail.name => format!("{known}: its settings"),
            Some(known) => format!("{}: its settings, for `{known}`", jail.name),
            None => format!("{}: as a jail of your own, `{name}`, with its filter", jail.name),
        });
        self.done.taken.extend(of_jail(&section.taken));
        self.ignored.insert(name.clone(), section.ignored);
        self.names.insert(jail.name.clone(), name);
        Some(section.text)
    }

    /// Decides on the form of a jail.
    fn becomes(&mut self, jail: &Jail) -> Becomes {
        let word = if jail.enabled { &jail.filter } else { &jail.name };
        let Some((name, filter)) = built_in_for(word) else {
            return if jail.enabled { Becomes::Own } else { Becomes::Nothing };
        };
        let Some(other) = self.taken_by(name) else {
            // A disabled jail is worth a line only if it would be in use here.
            let is_one = jail.enabled || jail.name == name;
            return if is_one { Becomes::BuiltIn(name) } else { Becomes::Nothing };
        };
        if !jail.enabled {
            if jail.name == name {
                let text =
                    format!("{name}: disabled in fail2ban; here it has the settings of `{other}`");
                self.done.notes.push(text);
            }
            return Becomes::Nothing;
        }
        if filter.is_some_and(|filter| filter.mode.is_some()) {
            // fail2ban's filter reads the log once more, with the settings of this jail.
            return Becomes::Own;
        }
        let text = format!(
            "{0}: the jail `{other}` has already been imported as `{name}`, which reads the same \
             lines; the settings of {0} have no effect",
            jail.name
        );
        self.done.left_out.push(text);
        Becomes::Nothing
    }

    /// The fail2ban jail that has already been imported under this name.
    fn taken_by(&self, name: &str) -> Option<String> {
        self.names.iter().find(|(_, taken)| *taken == name).map(|(jail, _)| jail.clone())
    }

    /// Sets the filter of a built-in jail, if its options or additions make it read more than the
    /// built-in parser.
    fn filter_of(&self, jail: &Jail, known: &str, section: &mut Section<'_>) {
        let options = options::parse(&jail.filter_with_options).map(|(_, set)| set);
        let mut options = options.unwrap_or_default();
        let filter = register::of_jail(known).map_or(&[][..], |source| source.filters);
        let mode = filter.iter().find_map(|filter| filter.mode);
        options.retain(|option, value| {
            option != "mode" || (mode.is_some_and(|mode| value != mode) && !value.is_empty())
        });
        let base = self.directory.join("filter.d").join(&jail.filter);
        let added = ["local", "d"].map(|ending| base.with_added_extension(ending));
        let added = added.iter().find(|path| path.exists());
        if (options.is_empty() && added.is_none()) || known == RECIDIVE {
            return;
        }
        let why = match added {
            Some(added) if options.is_empty() => added.display().to_string(),
            _ => format!("filter {}", jail.filter_with_options),
        };
        let filter = self.directory.join("filter.d").join(&jail.filter_with_options);
        let filter = filter.display().to_string();
        let set = Filter::load(&filter, Options::default())
            .map_err(|why| why.to_string())
            .and_then(|_| section.try_set("filter", &quoted(&filter)));
        match set {
            Ok(()) => section.taken.push(format!(
                "{why}: this fail2ban filter reads its lines instead of the built-in parser"
            )),
            Err(wrong) => section.left_out.push(format!(
                "{why}: cannot be used, so lines that only it matches are not counted: {wrong}"
            )),
        }
    }

    /// Sets what only a jail with its own filter has.
    fn own(&mut self, jail: &Jail, section: &mut Section<'_>) -> Result<(), String> {
        let others = self.existing.jails.iter().filter(|(name, jail)| {
            let again = **name == section.name || self.names.values().any(|taken| taken == *name);
            jail.own.is_some() && !again
        });
        if others.count() + self.own >= OWN_JAILS_MAX {
            return Err(format!(
                "there are too many jails: at most {OWN_JAILS_MAX} jails of your own are possible"
            ));
        }
        let filter =
            format!("{}/{}", self.directory.join("filter.d").display(), jail.filter_with_options);
        let log = if jail.journal { LogType::Journal } else { LogType::File };
        let loaded = Filter::load(&filter, Options { log, ..Options::default() });
        let loaded = loaded.map_err(|why| why.to_string())?;
        let mut lines = vec![("filter", quoted(&filter))];
        if jail.journal {
            let matches =
                if jail.journal_match.is_empty() { loaded.journal() } else { &jail.journal_match };
            if matches.is_empty() {
                return Err("neither the jail nor its filter has a `journalmatch`".to_owned());
            }
            lines.push(("journal", list(&alternatives(matches))));
        } else if jail.logs.is_empty() {
            return Err("it has no `logpath`".to_owned());
        } else {
            lines.push(("log", list(&jail.logs)));
        }
        section.begin(&lines)?;
        let scope = self.scope(jail).unwrap_or_else(|| {
            let ports = &jail.ports;
            section.left_out.push(format!(
                "port `{ports}`: a ban closes all ports; to close only these, give them a name \
                 under `ports` and set `scope`"
            ));
            "all".to_owned()
        });
        section.set("scope", &scope);
        section.set("unproven_scope", &scope);
        Ok(())
    }
}

/// The settings of one jail, as text. The configuration's reader has accepted each of them.
struct Section<'a> {
    daemon: &'a dyn Daemon,
    name: String,
    text: String,
    /// The lines without which the section is not valid.
    head: String,
    taken: Vec<String>,
    left_out: Vec<String>,
    notes: Vec<String>,
    /// The networks that it ignores.
    ignored: Vec<IpNet>,
}

impl<'a> Section<'a> {
    fn new(daemon: &'a dyn Daemon, name: &str) -> Self {
        let text = format!("  {name}:\n    enabled: true\n");
        Self {
            daemon,
            name: name.to_owned(),
            head: text.clone(),
            text,
            taken: Vec::new(),
            left_out: Vec::new(),
            notes: Vec::new(),
            ignored: Vec::new(),
        }
    }

    /// Sets the lines without which a jail of your own is not valid.
    fn begin(&mut self, lines: &[(&str, String)]) -> Result<(), String> {
        for (key, value) in lines {
            let _infallible = writeln!(self.head, "    {key}: {value}");
        }
        self.read(&self.head).map_err(|why| format!("cannot be a jail of your own: {why}"))?;
        self.text.clone_from(&self.head);
        Ok(())
    }

    /// Checks that the configuration's reader accepts a section of `jails`.
    fn read(&self, section: &str) -> Result<(), String> {
        self.daemon.check(&format!("jails:\n{section}"))
    }

    fn set(&mut self, key: &str, value: &str) {
        if let Err(why) = self.try_set(key, value) {
            self.left_out.push(format!("{key}: {value}: {why}; the default applies"));
        }
    }

    /// Sets a value, or the nearest possible one.
    fn set_or_nearest(&mut self, key: &str, value: &str, nearest: &str) {
        let Err(why) = self.try_set(key, value) else { return };
        let instead = match self.try_set(key, nearest) {
            Ok(()) => format!("{nearest} is set instead"),
            Err(_) => "the default applies".to_owned(),
        };
        self.left_out.push(format!("{key}: {value}: {why}; {instead}"));
    }

    fn try_set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let line = format!("    {key}: {value}\n");
        self.read(&format!("{}{line}", self.head))?;
        self.text += &line;
        Ok(())
    }

    /// Sets what every jail has.
    fn common(&mut self, jail: &Jail) {
        if let Some(maxretry) = jail.maxretry {
            let nearest = maxretry.clamp(1, 10_000).to_string();
            self.set_or_nearest("maxretry", &maxretry.to_string(), &nearest);
        }
        if let Some(findtime) = jail.findtime {
            self.set_or_nearest("findtime", &duration::format(findtime), "30d");
        }
        if let Some(bantime) = jail.bantime {
            // A ban cannot have a duration of zero.
            let nearest = if bantime.is_zero() { bantime } else { duration::MAX };
            let nearest = duration::format(nearest);
            self.set_or_nearest("bantime", &duration::format(bantime), &nearest);
        }
        let mut ignored: Vec<String> = Vec::new();
        for entry in &jail.ignoreip {
            match self.ignored(entry) {
                Ok(entry) => {
                    let address = |entry: &String| entry.parse::<IpAddr>().ok().map(IpNet::from);
                    let network =
                        |entry: &String| address(entry).or_else(|| entry.parse::<IpNet>().ok());
                    self.ignored.extend(entry.as_ref().and_then(network));
                    ignored.extend(entry);
                }
                Err(why) => self.left_out.push(format!("ignoreip {entry}: {why}")),
            }
        }
        if !ignored.is_empty() {
            self.set("ignoreip", &list(&ignored));
        }
        for (name, text) in &jail.increment {
            match increment(name, text) {
                Ok(value) => self.set(&format!("bantime.{name}"), &value),
                Err(why) => self.left_out.push(format!("bantime.{name}: {why}")),
            }
        }
    }

    /// Handles settings that need proof in Ringfence but not in fail2ban. A jail of your own gets
    /// fail2ban's behaviour, a built-in jail the safe one, with a note.
    fn proof(&mut self, jail: &Jail, known: Option<&str>) {
        let grows = jail.increment.iter().any(|(name, text)| *name == "increment" && is_true(text));
        match known {
            None if grows => self.set("bantime.unproven", "true"),
            Some(RECIDIVE) => self.notes.push(
                "only bans for proven failures count, so none for failures over UDP; \
                 `unproven_scope: all` acts as fail2ban does"
                    .to_owned(),
            ),
            Some(known) if grows && can_be_forged(known) => self.notes.push(
                "bantime.increment: bans for unproven failures, such as those over UDP, do not \
                 grow; `bantime.unproven: true` acts as fail2ban does"
                    .to_owned(),
            ),
            Some(_) | None => {}
        }
    }

    /// An entry of `ignoreip` in Ringfence's form; `None` if it has no effect.
    fn ignored(&self, entry: &str) -> Result<Option<String>, String> {
        let network = match entry.parse::<IpAddr>() {
            Ok(address) => Some(IpNet::from(address)),
            Err(_) => entry.parse::<IpNet>().ok(),
        };
        let text = match network {
            // Loopback is never banned.
            Some(network) if network.addr().is_loopback() => return Ok(None),
            // fail2ban accepts any address of a network as its name.
            Some(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().to_string()
            }
            Some(network) => network.trunc().to_string(),
            None => entry.to_owned(),
        };
        self.read(&format!("{}    ignoreip: [{}]\n", self.head, quoted(&text))).map(|()| Some(text))
    }
}

/// Whether fail2ban reads a text as true.
fn is_true(text: &str) -> bool {
    ["1", "on", "true", "yes"].contains(&text.trim().to_lowercase().as_str())
}

/// A setting of `bantime.*`, in Ringfence's form.
fn increment(name: &str, text: &str) -> Result<String, String> {
    Ok(match name {
        "increment" | "overalljails" => is_true(text).to_string(),
        "maxtime" | "rndtime" => match seconds::parse(text)? {
            Some(time) => duration::format(time),
            None => duration::format(duration::MAX),
        },
        "multipliers" => list(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()),
        _ => text.to_owned(),
    })
}

/// The name of a jail of your own: as in fail2ban, with the characters and the length that names have
/// here.
fn own_name(name: &str) -> String {
    const LONGEST: usize = 32;
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name = name.chars().map(fits).collect::<String>();
    let name = name.trim_matches('-');
    let name = if name.starts_with(|c: char| c.is_ascii_lowercase()) && !RESERVED.contains(&name) {
        name.to_owned()
    } else {
        format!("jail-{name}")
    };
    let name: String = name.chars().take(LONGEST).collect();
    name.trim_end_matches('-').to_owned()
}

/// The journal entries to read, one string for each alternative; fail2ban joins them with `+`.
fn alternatives(matches: &[String]) -> Vec<String> {
    let words = matches.iter().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let alternatives = words.flat_map(|words| {
        words.split(|word| *word == "+").map(|all| all.join(" ")).collect::<Vec<_>>()
    });
    alternatives.filter(|alternative| !alternative.is_empty()).collect()
}

/// A list in one line.
fn list(entries: &[String]) -> String {
    let entries: Vec<String> = entries.iter().map(|entry| quoted(entry)).collect();
    format!("[{}]", entries.join(", "))
}

/// A text in YAML: plain if that is unambiguous.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "./-_".contains(c);
    if text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/') && text.chars().all(plain)
    {
        return text.to_owned();
    }
    // JSON is valid YAML.
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests;

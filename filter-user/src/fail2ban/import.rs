//! `ringfence import fail2ban`: what fail2ban is set to, and whom it has banned, enters; settings in
//! Ringfence's own form and bans to hand over leave, and what was left out, and why.
//!
//! Each setting goes through the configuration's own reader before it is taken, so that what is
//! written is read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::database::{self, Banned};
use super::error::Error;
use super::filter::{Filter, LogType, Options};
use super::jails::{self, Jail};
use super::layers::{Layers, Variables};
use super::seconds;
use crate::config::{Config, PortClasses, built_in_jails};
use crate::duration;

/// Where fail2ban is configured, unless told otherwise.
pub const DIRECTORY: &str = "/etc/fail2ban";

/// Where its database is, unless its configuration says otherwise.
const DATABASE: &str = "/var/lib/fail2ban/fail2ban.sqlite3";

/// Wazo's jail, which tells a Wazo host.
const WAZO: &str = "asterisk-wazo";

/// Filters whose lines the jail of the right reads by itself, and better.
const BUILT_IN: [(&str, &str); 5] = [
    ("asterisk-wazo", WAZO),
    ("asterisk", WAZO),
    ("sshd", "sshd"),
    ("wazo-provd", "wazo-provd"),
    ("recidive", "recidive"),
];

/// Where the log of a jail that is there by itself is set, which has none of its own.
const LOGS: [(&str, [&str; 2]); 3] = [
    (WAZO, ["asterisk", "notice_log"]),
    ("sshd", ["sshd", "auth_log"]),
    ("wazo-provd", ["wazo_provd", "log"]),
];

/// Services by the names that `port` may use, with their ports.
const SERVICES: [(&str, u16); 22] = [
    ("ssh", 22),
    ("http", 80),
    ("https", 443),
    ("sip", 5060),
    ("sips", 5061),
    ("sip-tls", 5061),
    ("ftp", 21),
    ("ftp-data", 20),
    ("ftps", 990),
    ("ftps-data", 989),
    ("smtp", 25),
    ("smtps", 465),
    ("submission", 587),
    ("submissions", 465),
    ("imap", 143),
    ("imap2", 143),
    ("imap3", 220),
    ("imaps", 993),
    ("pop3", 110),
    ("pop3s", 995),
    ("sieve", 4190),
    ("domain", 53),
];

/// What to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// As `/etc/fail2ban`.
    pub directory: PathBuf,
    /// Its database; where its configuration says, if this does not.
    pub database: Option<PathBuf>,
    /// Whether it has to be that of a Wazo host.
    pub wazo: bool,
}

/// A ban to hand over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The jail, by its name here.
    pub jail: String,
    /// The address.
    pub network: IpNet,
    /// When it ends; `None`: never.
    pub until: Option<Timestamp>,
}

/// What was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// The settings: a file of Ringfence's configuration.
    pub settings: String,
    /// The bans in force.
    pub bans: Vec<Ban>,
    /// What was taken, a line each: the jail, and what became of it.
    pub taken: Vec<String>,
    /// What was not, a line each, with the reason.
    pub left_out: Vec<String>,
}

impl Import {
    /// What was taken and what was not, for `--json`.
    pub fn to_json(&self) -> Value {
        let bans = self.bans.iter().map(|ban| {
            let until = ban.until.map(|until| until.to_string());
            json!({"network": ban.network, "jail": ban.jail, "until": until})
        });
        json!({
            "settings": self.settings,
            "bans": bans.collect::<Vec<_>>(),
            "taken": self.taken,
            "left_out": self.left_out,
        })
    }

    /// The same as text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (title, lines) in [("taken", &self.taken), ("left out", &self.left_out)] {
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

/// Reads what `sources` has, for a host with these ports.
///
/// # Errors
///
/// When there is no configuration of fail2ban's, the database that was named cannot be read, or the
/// host was to be one with Wazo and is not.
pub fn import(sources: &Sources, ports: &PortClasses, now: Timestamp) -> Result<Import, Error> {
    let mut jails = jails::read(&sources.directory)?;
    // One that has the name of a jail here has a better claim to it than one with its filter alone.
    jails.sort_by_key(|jail| !built_in_jails().any(|(_, name)| name == jail.name));
    if sources.wazo && !jails.iter().any(|jail| jail.name == WAZO) {
        let text = "has no jail `asterisk-wazo`, so this is no fail2ban of a Wazo host; leave \
                    `--from-wazo` out to import it all the same";
        return Err(Error::of_file(&sources.directory, text));
    }
    let mut taking = Taking {
        ports,
        directory: &sources.directory,
        done: Import::default(),
        names: BTreeMap::new(),
        logs: String::new(),
    };
    let mut sections = String::new();
    for jail in &jails {
        if let Some(section) = taking.jail(jail) {
            sections += &section;
        }
    }
    let Taking { mut done, names, logs, .. } = taking;
    let from = sources.directory.display();
    done.settings = if sections.is_empty() {
        format!("# {from} has no jail that Ringfence can take over.\n")
    } else {
        let sources = if logs.is_empty() { String::new() } else { format!("sources:\n{logs}") };
        format!("# Taken from {from} by `ringfence import fail2ban`.\njails:\n{sections}{sources}")
    };
    match database_of(sources)? {
        Some((path, named)) => match database::read(&path, now) {
            Ok(bans) => take_bans(bans, &names, &mut done),
            Err(why) if named => return Err(why),
            Err(why) => done.left_out.push(format!("bans: {why}")),
        },
        None => done.left_out.push("bans: fail2ban is set to keep no database".to_owned()),
    }
    Ok(done)
}

/// The database and whether somebody named it; `None` if fail2ban keeps none.
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

fn take_bans(bans: database::Bans, names: &BTreeMap<String, String>, done: &mut Import) {
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    for Banned { jail, network, until, since: _ } in bans.in_force {
        let why = match names.get(&jail) {
            Some(name) if network.prefix_len() == network.max_prefix_len() => {
                done.bans.push(Ban { jail: name.clone(), network, until });
                continue;
            }
            Some(_) => format!(
                "of networks by `{jail}`: a jail bans addresses, and `ringfence ban` networks"
            ),
            None => format!("by `{jail}`, which is not taken over"),
        };
        *left_out.entry(why).or_default() += 1;
    }
    if bans.unreadable > 0 {
        left_out.insert("of what is no address".to_owned(), bans.unreadable);
    }
    done.taken.push(format!("{} in force", count(done.bans.len(), "ban")));
    done.left_out.extend(left_out.into_iter().map(|(why, n)| format!("{} {why}", count(n, "ban"))));
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The jails, one after the other.
struct Taking<'a> {
    ports: &'a PortClasses,
    directory: &'a Path,
    done: Import,
    /// The jails that were taken, with their names here.
    names: BTreeMap<String, String>,
    /// The section `sources`.
    logs: String,
}

impl Taking<'_> {
    /// The section of a jail, if it is taken.
    fn jail(&mut self, jail: &Jail) -> Option<String> {
        let named = BUILT_IN.iter().find(|(filter, _)| {
            *filter == if jail.enabled { jail.filter.as_str() } else { jail.name.as_str() }
        });
        let here = |name: &str| built_in_jails().any(|(_, known)| known == name);
        let known = named.map(|(_, name)| *name).filter(|name| here(name));
        if !jail.enabled {
            // Of those that are there by themselves it is worth saying.
            let known = known.filter(|name| *name == jail.name)?;
            self.done.taken.push(format!("{known}: disabled, as in fail2ban"));
            return Some(format!("  {known}: {{enabled: false}}\n"));
        }
        let name = match known {
            Some(known) => known.to_owned(),
            None => own_name(&jail.name),
        };
        if let Some((other, _)) = self.names.iter().find(|(_, taken)| **taken == name) {
            let text = format!("{}: the jail `{other}` is `{name}` already", jail.name);
            self.done.left_out.push(text);
            return None;
        }
        let mut section = Section::new(&name);
        if known.is_none()
            && let Err(why) = self.own(jail, &mut section)
        {
            self.done.left_out.push(format!("{}: {why}", jail.name));
            return None;
        }
        if known.is_some() {
            self.logs_of(jail, &mut section);
        }
        section.common(jail);
        let left_out = jail.left_out.iter().chain(&section.left_out);
        self.done.left_out.extend(left_out.map(|why| format!("{}: {why}", jail.name)));
        self.done.taken.push(match known {
            Some(known) if known == jail.name => format!("{known}: its settings"),
            Some(known) => format!("{}: its settings, for `{known}`", jail.name),
            None => format!("{}: as a jail of its own, `{name}`, with its filter", jail.name),
        });
        self.names.insert(jail.name.clone(), name);
        Some(section.text)
    }

    /// The log of a jail that is there by itself, where it is another than by default.
    fn logs_of(&mut self, jail: &Jail, section: &mut Section) {
        let Some((name, [source, key])) = LOGS.iter().find(|(name, _)| *name == section.name)
        else {
            return;
        };
        let [log] = &jail.logs[..] else {
            if !jail.logs.is_empty() {
                let logs = jail.logs.join(", ");
                section.left_out.push(format!("logpath {logs}: `{name}` reads one log"));
            }
            return;
        };
        let text = format!("  {source}: {{{key}: {}}}\n", quoted(log));
        match Config::parse(Path::new("-"), format!("sources:\n{text}").as_bytes()) {
            Ok(read) if read.config == Config::default() => {}
            Ok(_) => self.logs += &text,
            Err(_) => {
                section
                    .left_out
                    .push(format!("logpath {log}: `{name}` reads one file by its path"));
            }
        }
    }

    /// What only a jail with a filter of its own has.
    fn own(&mut self, jail: &Jail, section: &mut Section) -> Result<(), String> {
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
                return Err(
                    "neither it nor its filter says what of the journal it reads".to_owned()
                );
            }
            lines.push(("journal", list(&alternatives(matches))));
        } else if jail.logs.is_empty() {
            return Err("it names no `logpath`".to_owned());
        } else {
            lines.push(("log", list(&jail.logs)));
        }
        section.begin(&lines)?;
        let scope = self.scope(jail).unwrap_or_else(|| {
            let ports = &jail.ports;
            section.left_out.push(format!(
                "port `{ports}`: a ban closes all ports; name these under `ports` and set `scope` to close \
                 them alone"
            ));
            "all".to_owned()
        });
        section.set("scope", &scope);
        section.set("unproven_scope", &scope);
        Ok(())
    }

    /// What closes the ports that its action closes and no others of note, if there is a name for it.
    fn scope(&self, jail: &Jail) -> Option<String> {
        if jail.all_ports || ["", "0:65535", "1:65535"].contains(&jail.ports.trim()) {
            return Some("all".to_owned());
        }
        let number = |name: &str| {
            let service =
                SERVICES.iter().find_map(|(known, port)| (*known == name).then_some(*port));
            service.or_else(|| name.parse::<u16>().ok())
        };
        let wanted: Option<Vec<u16>> =
            jail.ports.split(',').map(|name| number(name.trim())).collect();
        let wanted = wanted?;
        if wanted.iter().all(|port| [5060, 5061].contains(port)) {
            return Some("sip".to_owned());
        }
        let closes = |port: &u16, ranges: &[crate::config::PortRange]| {
            ranges.iter().any(|range| range.contains(*port))
        };
        let mut classes = self.ports.iter().map(|(_scope, class)| class);
        let class = classes.find(|class| wanted.iter().all(|port| closes(port, &class.tcp)))?;
        Some(class.name.clone())
    }
}

/// The settings of one jail, as text, each of which the configuration's reader takes.
struct Section {
    name: String,
    text: String,
    /// What it needs to be read at all.
    head: String,
    left_out: Vec<String>,
}

impl Section {
    fn new(name: &str) -> Self {
        let text = format!("  {name}:\n    enabled: true\n");
        Self { name: name.to_owned(), head: text.clone(), text, left_out: Vec::new() }
    }

    /// Sets what a jail of its own cannot be without.
    fn begin(&mut self, lines: &[(&str, String)]) -> Result<(), String> {
        for (key, value) in lines {
            let _infallible = writeln!(self.head, "    {key}: {value}");
        }
        read(&self.head).map_err(|why| format!("cannot be a jail of its own here: {why}"))?;
        self.text.clone_from(&self.head);
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) {
        let line = format!("    {key}: {value}\n");
        match read(&format!("{}{line}", self.head)) {
            Ok(()) => self.text += &line,
            Err(why) => self.left_out.push(format!("{key}: {value}: {why}")),
        }
    }

    /// What every jail has.
    fn common(&mut self, jail: &Jail) {
        if let Some(maxretry) = jail.maxretry {
            self.set("maxretry", &maxretry.to_string());
        }
        if let Some(findtime) = jail.findtime {
            self.set("findtime", &duration::format(findtime));
        }
        if let Some(bantime) = jail.bantime {
            self.set("bantime", &duration::format(bantime));
        }
        let mut ignored = Vec::new();
        for entry in &jail.ignoreip {
            match self.ignored(entry) {
                Ok(entry) => ignored.extend(entry),
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

    /// An entry of `ignoreip` as it is written here; none if it is of no account.
    fn ignored(&self, entry: &str) -> Result<Option<String>, String> {
        let network = match entry.parse::<std::net::IpAddr>() {
            Ok(address) => Some(IpNet::from(address)),
            Err(_) => entry.parse::<IpNet>().ok(),
        };
        let text = match network {
            // Loopback is never banned by anybody.
            Some(network) if network.addr().is_loopback() => return Ok(None),
            // fail2ban takes a network by any of its addresses.
            Some(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().to_string()
            }
            Some(network) => network.trunc().to_string(),
            None => entry.to_owned(),
        };
        read(&format!("{}    ignoreip: [{}]\n", self.head, quoted(&text))).map(|()| Some(text))
    }
}

/// What belongs to `bantime`, as it is written here.
fn increment(name: &str, text: &str) -> Result<String, String> {
    Ok(match name {
        "increment" | "overalljails" => {
            ["1", "on", "true", "yes"].contains(&text.to_lowercase().as_str()).to_string()
        }
        "maxtime" | "rndtime" => match seconds::parse(text)? {
            Some(time) => duration::format(time),
            None => duration::format(duration::MAX),
        },
        "multipliers" => list(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()),
        _ => text.to_owned(),
    })
}

/// Whether the configuration's reader takes a section of `jails`, and why not.
fn read(section: &str) -> Result<(), String> {
    match Config::parse(Path::new("-"), format!("jails:\n{section}").as_bytes()) {
        Ok(_) => Ok(()),
        Err(errors) => Err(errors.errors().first().map_or_else(String::new, |e| e.text.clone())),
    }
}

/// The name of a jail of its own: as in fail2ban, in the letters that names have here.
fn own_name(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(fits).collect::<String>().trim_matches('-').to_owned()
}

/// What of the journal is read, an entry for each alternative: in fail2ban `+` stands between them.
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

/// A text in YAML: plain where that cannot be anything else.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "./-_".contains(c);
    if text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/') && text.chars().all(plain)
    {
        return text.to_owned();
    }
    // What JSON writes, YAML reads.
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests;

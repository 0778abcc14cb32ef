//! Turns the file of a fail2ban filter into a parser of lines.
//!
//! Must never resolve a host name.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::date::Detector;
use super::error::{Error, Place, snippet};
use super::ini::Value;
use super::layers::{Layers, Variables};
use super::pattern::{Groups, Pattern, TooComplex};
use super::session::Sessions;
use super::{options, tags};
use detection::failure::{Attempt, Class, LoggedAt, Verdict, account};
use detection::parse::source_address;

/// Where fail2ban looks for filters that are named without a path.
const FILTERS: &str = "/etc/fail2ban/filter.d";

/// The most expressions of one kind in a filter.
const PATTERNS_MAX: usize = 1000;

/// The section of a filter's file.
const DEFINITION: &str = "Definition";

/// Defaults for names that a filter refers to.
const INIT: &str = "Init";

/// Where lines come from. A filter may read the lines of a log file and of the journal differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogType {
    /// A log file, each line with its date.
    #[default]
    File,
    /// systemd's journal. Its lines have no date, and are `HOST NAME[PID]: MESSAGE`.
    Journal,
}

/// Properties of the log that the filter's file does not contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the lines come from.
    pub log: LogType,
    /// The class of a failure that matches.
    pub class: Class,
    /// Whether the source of a match cannot be forged, neither on the wire nor by text in the log. A
    /// filter's expressions find an address, but do not prove it.
    pub proven: bool,
    /// Whether a match counts only if a packet from the address to a SIP port was seen.
    pub needs_witness: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { log: LogType::File, class: Class::Login, proven: false, needs_witness: false }
    }
}

/// The result of reading a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A failure.
    Failure(Box<Attempt>),
    /// An expression matched, but it is not a failure: because of `ignoreregex` or `<F-NOFAIL>`, or
    /// because the address of its connection is not known yet.
    Ignored,
    /// An expression matched, but its source is not an address that can be banned: a host name, which is
    /// not resolved, a network, or another kind of name.
    NoAddress,
    /// An expression has too many ways to match this line, and its search was abandoned.
    TooComplex,
    /// No expression matched.
    Nothing,
}

/// A filter, ready to read lines.
#[derive(Debug)]
pub struct Filter {
    date: Detector,
    /// `prefregex`, which selects the part of the line for the other expressions.
    prefix: Option<Pattern>,
    fail: Vec<Pattern>,
    ignore: Vec<Pattern>,
    /// The connections, if the filter joins lines of one connection.
    sessions: Option<Mutex<Sessions>>,
    options: Options,
    journal: Vec<String>,
}

impl Filter {
    /// Loads a filter by the path of its file, or by the name of one in `/etc/fail2ban/filter.d`. Options
    /// may follow in brackets: `sshd[mode=aggressive]`.
    ///
    /// As in fail2ban, `NAME.local`, `NAME.d/*.conf` and `NAME.d/*.local` beside `NAME.conf` are read
    /// too.
    ///
    /// # Errors
    ///
    /// If the file does not exist, or contains something that is wrong or not supported.
    pub fn load(name: &str, options: Options) -> Result<Self, Error> {
        let (file, set) = options::parse(name)
            .map_err(|why| Error::of_file(Path::new(name), format!("not a filter: {why}")))?;
        let base = base(file);
        let Some(layers) = Layers::read(&base)? else {
            let place = base.with_added_extension("conf");
            return Err(Error::of_file(&place, "the filter does not exist"));
        };
        Self::new(&base, &layers, set, options)
    }

    fn new(base: &Path, layers: &Layers, set: Variables, options: Options) -> Result<Self, Error> {
        let definition = Definition::new(base, layers, set, options.log)?;
        let fail = definition.patterns("failregex")?;
        if fail.is_empty() {
            let text = "has no `failregex` in [Definition], so nothing would ever match";
            return Err(Error::of_file(&base.with_added_extension("conf"), text));
        }
        let prefix = match definition.value("prefregex")? {
            Some(value) => Some(
                Pattern::new(&value.text)
                    .map_err(|why| wrong("prefregex", &value.text, &value, &why))?,
            ),
            None => None,
        };
        let groups = ["ip4", "ip6", "dns", "fid", "mlfid"];
        let named = prefix.as_ref().is_some_and(|prefix| prefix.has_any(&groups));
        let texts = definition.value("failregex")?;
        for (pattern, text) in fail.iter().zip(texts.iter().flat_map(lines)) {
            if let (false, Some(value)) = (named || pattern.has_any(&groups), &texts) {
                return Err(wrong(
                    "failregex",
                    text,
                    value,
                    "it has no <HOST>, so a match has no address",
                ));
            }
        }
        let address = |pattern: &Pattern| pattern.has_address();
        if !prefix.iter().chain(&fail).any(address) {
            let text = "finds only host names, by <DNS>, which are never resolved: the owner of \
                        the name could choose which address is banned";
            return Err(Error::of_file(&base.with_added_extension("conf"), text));
        }
        if let Some(value) = definition.value("maxlines")?
            && value.text.trim() != "1"
        {
            return Err(value.place.error(format!(
                "`maxlines = {}`: expressions over several lines are not supported",
                snippet(value.text.trim())
            )));
        }
        let date = definition.value("datepattern")?;
        let date = Detector::new(date.as_ref().map(|value| value.text.as_str())).map_err(
            |why| match &date {
                Some(value) => value.place.error(why),
                None => Error::of_file(base, why),
            },
        )?;
        let journal = definition.value("journalmatch")?;
        let sessions = prefix.iter().chain(&fail).any(|pattern| pattern.has_any(&["mlfid"]));
        Ok(Self {
            date,
            prefix,
            fail,
            ignore: definition.patterns("ignoreregex")?,
            sessions: sessions.then(Mutex::default),
            options,
            journal: journal.iter().flat_map(lines).map(str::to_owned).collect(),
        })
    }

    /// The matches of `journalmatch`. Each is a line of `FIELD=VALUE`; a blank joins those that must all
    /// match, and `+` joins alternatives.
    pub fn journal(&self) -> &[String] {
        &self.journal
    }

    /// The failure in a line without its newline, if there is one.
    pub fn parse(&self, line: &[u8]) -> Option<Attempt> {
        match self.read(line) {
            Reading::Failure(attempt) => Some(*attempt),
            Reading::Ignored | Reading::NoAddress | Reading::TooComplex | Reading::Nothing => None,
        }
    }

    /// Reads a line without its newline.
    pub fn read(&self, line: &[u8]) -> Reading {
        self.try_read(line).unwrap_or(Reading::TooComplex)
    }

    fn try_read(&self, line: &[u8]) -> Result<Reading, TooComplex> {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        let (text, logged_at) = self.without_date(&line);
        // As in fail2ban: they are tried first only if there are many fewer of them.
        if self.ignore.len() + 2 < self.fail.len() && is_in_any(&self.ignore, &text)? {
            return Ok(Reading::Ignored);
        }
        let mut before = Groups::new();
        let mut text = text;
        if let Some(prefix) = &self.prefix {
            let Some(found) = prefix.find(&text)? else { return Ok(Reading::Nothing) };
            before = found;
            if let Some(content) = before.remove("content").filter(|content| !content.is_empty()) {
                text = format!("{content}\n");
            }
        }
        for pattern in &self.fail {
            let Some(found) = pattern.find(&text)? else { continue };
            if is_in_any(&self.ignore, &text)? {
                return Ok(Reading::Ignored);
            }
            before.extend(found);
            return Ok(self.judge(before, logged_at));
        }
        Ok(Reading::Nothing)
    }

    /// The line with its date removed and a newline appended, and the time.
    fn without_date(&self, line: &str) -> (String, Option<LoggedAt>) {
        let found = match self.options.log {
            LogType::File => self.date.find(line),
            LogType::Journal => None,
        };
        let Some(found) = found else { return (format!("{line}\n"), None) };
        let (before, after) = (&line[..found.range.start], &line[found.range.end..]);
        (format!("{before}{after}\n"), found.time)
    }

    fn judge(&self, groups: Groups, logged_at: Option<LoggedAt>) -> Reading {
        let groups = match (&self.sessions, groups.get("mlfid").cloned()) {
            (Some(sessions), Some(name)) => {
                // Even after a panic, this is a bounded list of connections.
                let mut sessions = sessions.lock().unwrap_or_else(PoisonError::into_inner);
                let merged = sessions.merge(&name, groups, has_source, Instant::now());
                if merged.no_failure {
                    return Reading::Ignored;
                }
                merged.groups
            }
            _ => groups,
        };
        let Some(address) = address(&groups) else { return Reading::NoAddress };
        let Options { class, proven, needs_witness, log: _ } = self.options;
        let user = groups.get("user").filter(|user| !user.is_empty());
        Reading::Failure(Box::new(Attempt {
            account: user.map(|user| account(user.as_bytes())),
            port: groups.get("fport").and_then(|port| port.parse().ok()),
            logged_at,
            proven,
            needs_witness,
            ..Attempt::new(Verdict::Failure, class, address)
        }))
    }
}

/// Whether the match has a source, which need not be an address.
fn has_source(groups: &Groups) -> bool {
    ["ip4", "ip6", "dns", "fid"].iter().any(|name| groups.contains_key(*name))
}

/// The address of the attempt, if the groups contain exactly one.
fn address(groups: &Groups) -> Option<IpAddr> {
    let (text, whole) = match (groups.get("ip4"), groups.get("ip6"), groups.get("dns")) {
        (Some(text), _, _) => (text, "32"),
        (None, Some(text), _) => (text, "128"),
        (None, None, Some(_)) => return None,
        (None, None, None) => (groups.get("fid")?, ""),
    };
    if groups.get("cidr").is_some_and(|length| length != whole) {
        return None;
    }
    source_address(text.parse().ok()?)
}

fn is_in_any(patterns: &[Pattern], text: &str) -> Result<bool, TooComplex> {
    for pattern in patterns {
        if pattern.is_in(text)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The path of a filter's file, without its extension.
fn base(file: &str) -> PathBuf {
    let path = if file.contains('/') { PathBuf::from(file) } else { Path::new(FILTERS).join(file) };
    match path.extension() {
        Some(ending) if ending == "conf" || ending == "local" => path.with_extension(""),
        _ => path,
    }
}

/// The lines of a value that are not empty.
fn lines(value: &Value) -> impl Iterator<Item = &str> {
    value.text.split('\n').filter(|line| !line.is_empty())
}

fn wrong(option: &str, pattern: &str, value: &Value, why: &str) -> Error {
    value.place.error(format!("the {option} `{}`: {why}", snippet(pattern)))
}

/// The section `[Definition]`, with the values that `[Init]` and the options in brackets set.
struct Definition<'a> {
    layers: &'a Layers,
    /// The options in brackets, then the values of `[Init]`; names in lower case.
    set: Variables,
    /// The file as a whole, as the place of errors in the options.
    file: Place,
}

impl<'a> Definition<'a> {
    fn new(
        base: &Path,
        layers: &'a Layers,
        mut set: Variables,
        log: LogType,
    ) -> Result<Self, Error> {
        // A percent sign may be doubled, as in `jail.conf`, or single, as fail2ban passes it on.
        for value in set.values_mut() {
            if let Ok(expanded) = layers.expand(DEFINITION, value, &Variables::new()) {
                *value = expanded;
            }
        }
        let own = layers.own(DEFINITION).any(|(name, _)| name == "logtype");
        if !own && !set.contains_key("logtype") {
            let log = match log {
                LogType::File => "file",
                LogType::Journal => "journal",
            };
            set.insert("logtype".to_owned(), log.to_owned());
        }
        let given = set.clone();
        for (name, _) in layers.own(INIT) {
            let Some(value) = layers.get(INIT, name, &Variables::new())? else { continue };
            set.insert(format!("known/{name}"), value.text.clone());
            if !given.contains_key(name) {
                set.insert(name.to_owned(), value.text);
            }
        }
        let file = Place { path: base.with_added_extension("conf").into(), line: 0 };
        Ok(Self { layers, set, file })
    }

    /// The value of an option with all references expanded, if it is set.
    fn value(&self, option: &str) -> Result<Option<Value>, Error> {
        let written = match self.layers.get(DEFINITION, option, &self.set)? {
            Some(value) => Some(value),
            None => self.layers.get(INIT, option, &Variables::new())?,
        };
        let place = written.as_ref().map_or(&self.file, |value| &value.place).clone();
        let text = self.set.get(option).cloned().or(written.map(|value| value.text));
        let Some(text) = text else { return Ok(None) };
        let value = Value { text, place };
        let text = tags::replace(option, value.text, |name| {
            if let Some(text) = self.set.get(name) {
                return Ok(Some(text.clone()));
            }
            let value = self.layers.get_from(DEFINITION, name, &self.set);
            Ok(value.map_err(|why| why.to_string())?.map(|value| value.text))
        });
        let text = text.map_err(|why| value.place.error(format!("`{option}`: {why}")))?;
        Ok(Some(Value { text, place: value.place }).filter(|value| !value.text.trim().is_empty()))
    }

    fn patterns(&self, option: &str) -> Result<Vec<Pattern>, Error> {
        let Some(value) = self.value(option)? else { return Ok(Vec::new()) };
        if lines(&value).nth(PATTERNS_MAX).is_some() {
            return Err(value
                .place
                .error(format!("`{option}` has more than {PATTERNS_MAX} expressions")));
        }
        let compile = |text| Pattern::new(text).map_err(|why| wrong(option, text, &value, &why));
        lines(&value).map(compile).collect()
    }
}

#[cfg(test)]
mod tests;

//! A filter of fail2ban's: its file enters, a parser of lines leaves.

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

/// Where lines come from: filters may read the same lines differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogType {
    /// A log file, each line with its date.
    #[default]
    File,
    /// systemd's journal. Its lines have no date, and are `HOST NAME[PID]: MESSAGE`.
    Journal,
}

/// What a filter cannot say itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the lines come from.
    pub log: LogType,
    /// What kind of failure a match is.
    pub class: Class,
    /// Whether the source of a match cannot have been forged, neither on the wire nor by text that
    /// somebody has put into the log. A filter's expressions are trusted to find the address, not
    /// to prove it.
    pub proven: bool,
    /// Whether a match counts only if a packet of the address to a SIP port was seen.
    pub needs_witness: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { log: LogType::File, class: Class::Login, proven: false, needs_witness: false }
    }
}

/// What a filter makes of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A failure.
    Failure(Box<Attempt>),
    /// An expression matched, and it is no failure: `ignoreregex`, `<F-NOFAIL>`, or a line of a
    /// connection whose address no line has told yet.
    Ignored,
    /// An expression matched, but what stands for the source is no address that can be banned: a
    /// host name, which is not resolved, a network, or a name of another kind.
    NoAddress,
    /// An expression has too many ways to match this line, and was given up.
    TooComplex,
    /// No expression matched.
    Nothing,
}

/// A filter, ready to read lines.
#[derive(Debug)]
pub struct Filter {
    date: Detector,
    /// Takes out of the line what the others look at.
    prefix: Option<Pattern>,
    fail: Vec<Pattern>,
    ignore: Vec<Pattern>,
    /// If lines belong together.
    sessions: Option<Mutex<Sessions>>,
    options: Options,
    journal: Vec<String>,
}

impl Filter {
    /// Reads a filter: the path of its file, or the name of one in `/etc/fail2ban/filter.d`, and
    /// behind it, in brackets, what it lets one set: `sshd[mode=aggressive]`.
    ///
    /// Beside `NAME.conf` also `NAME.local` is read, and `NAME.d/*.conf` and `NAME.d/*.local`, as
    /// fail2ban does.
    ///
    /// # Errors
    ///
    /// When there is no such file, or something in it is wrong or not supported.
    pub fn load(name: &str, options: Options) -> Result<Self, Error> {
        let (file, set) = options::parse(name)
            .map_err(|why| Error::of_file(Path::new(name), format!("not a filter: {why}")))?;
        let base = base(file);
        let Some(layers) = Layers::read(&base)? else {
            let place = base.with_added_extension("conf");
            return Err(Error::of_file(&place, "there is no such filter"));
        };
        Self::new(&base, &layers, set, options)
    }

    fn new(base: &Path, layers: &Layers, set: Variables, options: Options) -> Result<Self, Error> {
        let definition = Definition::new(base, layers, set, options.log)?;
        let fail = definition.patterns("failregex")?;
        if fail.is_empty() {
            let text = "has no `failregex` in [Definition]: nothing would ever match";
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
                    "it has no <HOST>, whom a match is about",
                ));
            }
        }
        let address = |pattern: &Pattern| pattern.has_address();
        if !prefix.iter().chain(&fail).any(address) {
            let text = "finds host names alone, by <DNS>: a host name in a log is never resolved, \
                        since who owns it decides what it resolves to";
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

    /// What of the journal it is for (`journalmatch`): each is a line of `FIELD=VALUE` with a blank
    /// between those that must all be, and `+` between alternatives.
    pub fn journal(&self) -> &[String] {
        &self.journal
    }

    /// The failure that a line without its newline tells of, if it tells of one.
    pub fn parse(&self, line: &[u8]) -> Option<Attempt> {
        match self.read(line) {
            Reading::Failure(attempt) => Some(*attempt),
            Reading::Ignored | Reading::NoAddress | Reading::TooComplex | Reading::Nothing => None,
        }
    }

    /// What a line without its newline says.
    pub fn read(&self, line: &[u8]) -> Reading {
        self.try_read(line).unwrap_or(Reading::TooComplex)
    }

    fn try_read(&self, line: &[u8]) -> Result<Reading, TooComplex> {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        let (text, logged_at) = self.without_date(&line);
        // As fail2ban does: before the others only if they are many more.
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

    /// The line with its date taken out and a newline behind it, and the time.
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
                // What a panic left is still a bounded list of connections.
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

/// Whether something stands for the source, be it an address or not.
fn has_source(groups: &Groups) -> bool {
    ["ip4", "ip6", "dns", "fid"].iter().any(|name| groups.contains_key(*name))
}

/// Whose attempt it was, if the groups say one address.
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

/// The path of a filter's file, without the ending.
fn base(file: &str) -> PathBuf {
    let path = if file.contains('/') { PathBuf::from(file) } else { Path::new(FILTERS).join(file) };
    match path.extension() {
        Some(ending) if ending == "conf" || ending == "local" => path.with_extension(""),
        _ => path,
    }
}

/// The lines of a value, without those that are empty.
fn lines(value: &Value) -> impl Iterator<Item = &str> {
    value.text.split('\n').filter(|line| !line.is_empty())
}

fn wrong(option: &str, pattern: &str, value: &Value, why: &str) -> Error {
    value.place.error(format!("the {option} `{}`: {why}", snippet(pattern)))
}

/// The section `[Definition]` with what `[Init]` and whoever uses the filter set.
struct Definition<'a> {
    layers: &'a Layers,
    /// What was set, and then the values of `[Init]`; names in lower case.
    set: Variables,
    /// The file as a whole, for what was set from outside it.
    file: Place,
}

impl<'a> Definition<'a> {
    fn new(
        base: &Path,
        layers: &'a Layers,
        mut set: Variables,
        log: LogType,
    ) -> Result<Self, Error> {
        // As written in `jail.conf`, where a percent sign is doubled, or as fail2ban hands it on.
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

    /// The value of an option with everything in it replaced, if it has one.
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

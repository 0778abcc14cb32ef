//! Reads files into a [`Config`] that knows the origin of each value.
//!
//! The order is Wazo's (`read_config_file_hierarchy` of `xivo-lib-python`): `conf.d/*.yml` beside
//! the main file come first, alphabetically, then the main file, then the defaults; the first
//! that sets a key wins. So `conf.d` overrides `config.yml`, which an upgrade may overwrite.
//! Sections are merged, lists are replaced as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use detection::settings::FEEDS_MAX;

use super::alerts::ALERTS_MAX;
use super::contradictions::contradictions;
use super::error::{ConfigError, ConfigErrors, ERRORS_MAX};
use super::kind;
use super::names;
use super::schema::{self, Field};
use super::suggest::{children, join, unknown_key};
use super::yaml::{self, Document, Entry, Node, Position, Problem, Scalar, Value};
use super::{Config, DEFAULT_PATH, JailSettings, Mode, Paths, PortClasses};

/// The largest file that is read.
pub const FILE_MAX: u64 = 1024 * 1024;

/// The most files in `conf.d`.
const FILES_MAX: usize = 256;

/// A configuration and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration in force.
    pub config: Config,
    /// The files that were read. Of two that set a key, the first wins.
    pub files: Vec<PathBuf>,
    /// Files in `conf.d` that were not read, because of their names.
    pub ignored: Vec<PathBuf>,
    /// The origin of each setting, by its path; missing ones have the default.
    pub(super) origins: BTreeMap<String, SetBy>,
}

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetBy {
    /// Nobody.
    Default,
    /// A file.
    File {
        /// Its path.
        file: PathBuf,
        /// The line of the key, counted from 1.
        line: usize,
    },
    /// A command-line option.
    CommandLine,
}

impl fmt::Display for SetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{}:{line}", file.display()),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// The options of `ringfence run` that override the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `-i`; if empty, the configuration applies.
    pub interfaces: Vec<String>,
    /// `--mode`.
    pub mode: Option<Mode>,
    /// `--dry-run`; if false, the configuration applies.
    pub dry_run: bool,
}

impl Config {
    /// Reads `path` and the directory `conf.d` beside it. Without `path`, reads [`DEFAULT_PATH`], which need
    /// not exist.
    ///
    /// # Errors
    ///
    /// All errors, not only the first.
    pub fn load(path: Option<&Path>) -> Result<Loaded, ConfigErrors> {
        read_hierarchy(path.unwrap_or(Path::new(DEFAULT_PATH)), path.is_some())
    }

    /// The same, with this content for `file` in `conf.d`.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn load_with(
        path: Option<&Path>,
        file: &Path,
        content: &[u8],
    ) -> Result<Loaded, ConfigErrors> {
        let main = path.unwrap_or(Path::new(DEFAULT_PATH));
        let source = Source { file: file.to_owned(), content: content.to_owned() };
        checked(read_all(main, path.is_some(), Some(source)))
    }

    /// The same, but keeps every valid value and uses defaults for the rest: for commands that need only the
    /// paths and must work even if the configuration is invalid.
    pub fn load_what_is_right(path: Option<&Path>) -> (Loaded, ConfigErrors) {
        let main = path.unwrap_or(Path::new(DEFAULT_PATH));
        let (mut loaded, errors) = read_all(main, path.is_some(), None);
        if errors.errors().is_empty() {
            let wrong = loaded.contradictions();
            return (loaded, wrong);
        }
        for error in errors.errors() {
            let Some(found) = error.file.as_deref().and_then(paths_alone) else { continue };
            let Paths { state, runtime, bpffs } = found.config.paths;
            let to = &mut loaded.config.paths;
            for (key, from, to) in [
                ("paths.state", state, &mut to.state),
                ("paths.runtime", runtime, &mut to.runtime),
                ("paths.bpffs", bpffs, &mut to.bpffs),
            ] {
                // Of several files the first wins.
                if let (Some(origin), None) = (found.origins.get(key), loaded.origins.get(key)) {
                    *to = from;
                    loaded.origins.insert(key.to_owned(), origin.clone());
                }
            }
        }
        (loaded, errors)
    }

    /// Reads the content of one file; `name` is for errors and origins.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn parse(name: &Path, content: &[u8]) -> Result<Loaded, ConfigErrors> {
        let source = Source { file: name.to_owned(), content: content.to_owned() };
        checked(merge(vec![Ok(source)]))
    }
}

impl Loaded {
    /// The origin of the setting at `path`, such as `jails.asterisk-wazo.maxretry`.
    pub fn origin(&self, path: &str) -> &SetBy {
        self.origins.get(path).unwrap_or(&SetBy::Default)
    }

    /// Applies the command line's options, with the same checks.
    ///
    /// # Errors
    ///
    /// If a file could not set the value.
    pub fn override_with(&mut self, overrides: &Overrides) -> Result<(), ConfigErrors> {
        let mut values = Vec::new();
        if !overrides.interfaces.is_empty() {
            let names = overrides.interfaces.iter().map(|name| given(name, false)).collect();
            values.push(("interfaces", Node { at: NOWHERE, value: Value::List(names) }));
        }
        if let Some(mode) = overrides.mode {
            values.push(("mode", given(mode.as_str(), false)));
        }
        if overrides.dry_run {
            values.push(("dry_run", given("true", true)));
        }

        let mut errors = ConfigErrors::default();
        let mut fields = schema::fields(&mut self.config);
        for (path, node) in values {
            let Some(field) = fields.iter_mut().find(|field| field.path == path) else {
                continue;
            };
            for problem in field.read(&node) {
                errors.push(ConfigError {
                    file: None,
                    line: None,
                    column: None,
                    text: problem.text,
                });
            }
            self.origins.insert(path.to_owned(), SetBy::CommandLine);
        }
        errors.into_result(())
    }
}

/// The position of a value from the command line; never shown.
const NOWHERE: Position = Position { line: 0, column: 0 };

/// A value from the command line. Text that is not `plain` is never a YAML word such as `null`.
fn given(text: &str, plain: bool) -> Node {
    let scalar = Scalar { text: text.to_owned(), plain };
    Node { at: NOWHERE, value: Value::Scalar(scalar) }
}

struct Source {
    file: PathBuf,
    content: Vec<u8>,
}

pub(super) fn read_hierarchy(main: &Path, required: bool) -> Result<Loaded, ConfigErrors> {
    checked(read_all(main, required, None))
}

fn read_all(main: &Path, required: bool, instead: Option<Source>) -> (Loaded, ConfigErrors) {
    let directory = main.parent().unwrap_or(Path::new("/")).join("conf.d");
    let (mut sources, ignored): (Vec<_>, _) = match conf_d(&directory) {
        Ok((files, ignored)) => (files.into_iter().map(read).collect(), ignored),
        Err(error) => (vec![Err(file_error(&directory, error))], Vec::new()),
    };
    if let Some(instead) = instead {
        let is_there = |source: &Result<Source, ConfigError>| match source {
            Ok(source) => same_file(&source.file, &instead.file),
            Err(error) => error.file.as_ref().is_some_and(|file| same_file(file, &instead.file)),
        };
        sources.retain(|source| !is_there(source));
        let place = sources.iter().position(|source| {
            source.as_ref().is_ok_and(|source| source.file.file_name() > instead.file.file_name())
        });
        sources.insert(place.unwrap_or(sources.len()), Ok(instead));
    }
    match read(main.to_owned()) {
        Err(_missing) if !required && is_missing(main) => {}
        source => sources.push(source),
    }
    let (loaded, errors) = merge(sources);
    (Loaded { ignored, ..loaded }, errors)
}

fn same_file(one: &Path, other: &Path) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).ok();
    one == other || absolute(one).is_some_and(|one| Some(one) == absolute(other))
}

/// The section `paths` of a file that is not valid YAML as a whole.
fn paths_alone(file: &Path) -> Option<Loaded> {
    let content = read(file.to_owned()).ok()?.content;
    let text = String::from_utf8_lossy(&content);
    let is_inside = |line: &&str| line.is_empty() || line.starts_with([' ', '\t', '#']);
    let mut lines = text.lines().skip_while(|line| !line.starts_with("paths:"));
    let first = lines.next()?;
    let section: Vec<&str> = std::iter::once(first).chain(lines.take_while(is_inside)).collect();
    Config::parse(file, section.join("\n").as_bytes()).ok()
}

/// The merged configuration, if it has no errors.
fn checked((loaded, errors): (Loaded, ConfigErrors)) -> Result<Loaded, ConfigErrors> {
    let loaded = errors.into_result(loaded)?;
    loaded.contradictions().into_result(loaded)
}

/// The files in `conf.d` that Wazo would read, in its order, and those that only look as if they were
/// read.
fn conf_d(directory: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), String> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(error) => return Err(format!("cannot be listed: {error}")),
    };
    let (mut files, mut ignored) = (Vec::new(), Vec::new());
    for entry in entries {
        let entry = entry.map_err(|error| format!("cannot be listed: {error}"))?;
        if is_wanted(&entry.file_name()) {
            files.push(entry.path());
        } else if ignored.len() < FILES_MAX && !is_left_over(&entry.file_name()) {
            ignored.push(entry.path());
        }
        if files.len() > FILES_MAX {
            return Err(format!("contains more than {FILES_MAX} files; merge some"));
        }
    }
    files.sort();
    ignored.sort();
    Ok((files, ignored))
}

/// Whether a file's name shows that it is not meant to be read: hidden files, and those that editors and
/// packages leave behind.
fn is_left_over(name: &OsStr) -> bool {
    const ENDINGS: [&[u8]; 8] =
        [b"~", b".bak", b".orig", b".old", b".swp", b".save", b".disabled", b".partial"];
    let name = name.as_bytes();
    let packages = [&b".dpkg-"[..], b".ucf-"];
    name.starts_with(b".")
        || name.starts_with(b"README")
        || ENDINGS.iter().any(|ending| name.ends_with(ending))
        || packages.iter().any(|mark| name.windows(mark.len()).any(|part| part == *mark))
}

fn is_wanted(name: &OsStr) -> bool {
    let name = name.as_bytes();
    !name.starts_with(b".") && name.ends_with(b".yml")
}

fn is_missing(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn read(file: PathBuf) -> Result<Source, ConfigError> {
    let mut content = Vec::new();
    match File::open(&file).and_then(|open| open.take(FILE_MAX + 1).read_to_end(&mut content)) {
        Ok(_) if content.len() as u64 > FILE_MAX => {
            let text =
                format!("larger than {} KiB, the largest file that is read", FILE_MAX / 1024);
            Err(file_error(&file, text))
        }
        Ok(_) => Ok(Source { file, content }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(file_error(&file, "no such file".into()))
        }
        Err(error) => Err(file_error(&file, format!("cannot be read: {error}"))),
    }
}

fn file_error(file: &Path, text: String) -> ConfigError {
    ConfigError { file: Some(file.to_owned()), line: None, column: None, text }
}

/// Merges files, of which the first wins.
fn merge(sources: Vec<Result<Source, ConfigError>>) -> (Loaded, ConfigErrors) {
    let mut config = Config::default();
    let mut origins = BTreeMap::new();
    // From the last to the first, so that each simply overwrites.
    let sources: Vec<Result<Parsed, ConfigError>> =
        sources.into_iter().rev().map(|source| source.map(Parsed::from)).collect();
    let refused = Refused {
        ports: name_ports(&mut config.ports, sources.iter().flatten()),
        jails: name_jails(&mut config.jails, sources.iter().flatten()),
        feeds: name_entries(
            FEEDS,
            ("a feed", FEEDS_MAX),
            &mut config.feeds,
            sources.iter().flatten(),
        ),
        alerts: name_entries(
            ALERTS,
            ("an alert", ALERTS_MAX),
            &mut config.alerts,
            sources.iter().flatten(),
        ),
        actions: name_entries(
            ACTIONS,
            ("an action", ALERTS_MAX),
            &mut config.actions,
            sources.iter().flatten(),
        ),
    };
    let mut fields = schema::fields(&mut config);
    let mut files = Vec::new();
    let mut errors_by_file = Vec::new();

    for source in sources {
        let Parsed { file, document } = match source {
            Ok(source) => source,
            Err(error) => {
                errors_by_file.push(vec![error]);
                continue;
            }
        };
        let mut overlay =
            Overlay { file: &file, fields: &mut fields, origins: &mut origins, refused: &refused };
        let problems = overlay.content(document);
        errors_by_file.push(problems.into_iter().map(|problem| located(&file, problem)).collect());
        files.push(file);
    }
    drop(fields);
    files.reverse();

    let mut errors = ConfigErrors::default();
    for error in errors_by_file.into_iter().rev().flatten() {
        errors.push(error);
    }
    (Loaded { config, files, ignored: Vec::new(), origins }, errors)
}

/// A file as YAML.
struct Parsed {
    file: PathBuf,
    document: Result<Document, Problem>,
}

impl From<Source> for Parsed {
    fn from(source: Source) -> Self {
        let document = utf8(&source.content).and_then(yaml::parse);
        Self { file: source.file, document }
    }
}

/// The keys chosen by the administrator that are not possible, and why.
struct Refused {
    ports: BTreeMap<String, String>,
    jails: BTreeMap<String, String>,
    feeds: BTreeMap<String, String>,
    alerts: BTreeMap<String, String>,
    actions: BTreeMap<String, String>,
}

impl Refused {
    fn reason(&self, section: &str, key: &str) -> Option<&str> {
        let section = match section {
            PORTS => &self.ports,
            JAILS => &self.jails,
            FEEDS => &self.feeds,
            ALERTS => &self.alerts,
            ACTIONS => &self.actions,
            _ => return None,
        };
        section.get(key).map(String::as_str)
    }
}

/// Adds the names under `ports` before any setting is read, because they determine which settings exist.
/// Returns the names that are not possible, and why.
fn name_ports<'a>(
    ports: &mut PortClasses,
    sources: impl Iterator<Item = &'a Parsed>,
) -> BTreeMap<String, String> {
    let names: BTreeSet<&str> = named(PORTS, sources).map(|entry| &*entry.key).collect();
    let add = |name: &str| ports.add(name).err().map(|why| (name.to_owned(), why));
    names.into_iter().filter_map(add).collect()
}

/// The same for the names of jails. One of your own jails has a filter; a name without one is an existing
/// jail or misspelt.
fn name_jails<'a>(
    jails: &mut BTreeMap<&'static str, JailSettings>,
    sources: impl Iterator<Item = &'a Parsed>,
) -> BTreeMap<String, String> {
    let is_own = |entry: &&Entry| entries(&entry.node).iter().any(|entry| entry.key == FILTER);
    let own = named(JAILS, sources).filter(is_own);
    let names: BTreeSet<&str> = own.map(|entry| &*entry.key).collect();
    let add =
        |name: &str| detection::settings::add(jails, name).err().map(|why| (name.to_owned(), why));
    names.into_iter().filter_map(add).collect()
}

/// The same for the names in a section. `what` is the kind of its entries; at most `most` are possible.
fn name_entries<'a, T: Default>(
    section: &str,
    (what, most): (&str, usize),
    all: &mut BTreeMap<String, T>,
    sources: impl Iterator<Item = &'a Parsed>,
) -> BTreeMap<String, String> {
    let names: BTreeSet<&str> = named(section, sources).map(|entry| &*entry.key).collect();
    let add =
        |name: &str| names::add(all, name, what, most).err().map(|why| (name.to_owned(), why));
    names.into_iter().filter_map(add).collect()
}

/// The names in a section of all files.
fn named<'a>(
    section: &str,
    sources: impl Iterator<Item = &'a Parsed>,
) -> impl Iterator<Item = &'a Entry> {
    let roots = sources.filter_map(|source| source.document.as_ref().ok()?.root.as_ref());
    let sections = roots.flat_map(entries).filter(move |entry| entry.key == section);
    sections.flat_map(|section| entries(&section.node))
}

fn entries(node: &Node) -> &[Entry] {
    match &node.value {
        Value::Map(entries) => entries,
        Value::Scalar(_) | Value::List(_) => &[],
    }
}

/// The section of names for ports, whose keys the administrator chooses.
const PORTS: &str = "ports";

/// The section of jails, whose keys the administrator may choose.
const JAILS: &str = "jails";

/// The section of feeds, whose keys the administrator chooses.
const FEEDS: &str = "feeds";

/// The sections of alerts and actions, whose keys the administrator chooses.
const ALERTS: &str = "alerts";
const ACTIONS: &str = "actions";

/// The setting that each of your own jails must have.
const FILTER: &str = "filter";

fn located(file: &Path, problem: Problem) -> ConfigError {
    ConfigError {
        file: Some(file.to_owned()),
        line: Some(problem.at.line),
        column: Some(problem.at.column),
        text: problem.text,
    }
}

impl Loaded {
    /// Settings that are valid by themselves, but not together.
    fn contradictions(&self) -> ConfigErrors {
        let mut errors = ConfigErrors::default();
        for (path, text) in contradictions(&self.config) {
            let (file, line) = match self.origin(&path) {
                SetBy::File { file, line } => (Some(file.clone()), Some(*line)),
                SetBy::Default | SetBy::CommandLine => (None, None),
            };
            errors.push(ConfigError { file, line, column: None, text });
        }
        errors
    }
}

/// Lays one file over the settings.
struct Overlay<'a, 'config> {
    file: &'a Path,
    fields: &'a mut [Field<'config>],
    origins: &'a mut BTreeMap<String, SetBy>,
    refused: &'a Refused,
}

impl Overlay<'_, '_> {
    fn content(&mut self, document: Result<Document, Problem>) -> Vec<Problem> {
        let mut problems = match document {
            Err(problem) => vec![problem],
            Ok(document) => {
                let mut problems = document.problems;
                if let Some(root) = document.root {
                    self.section("", &root, &mut problems);
                }
                problems
            }
        };
        problems.sort_by_key(|problem| (problem.at.line, problem.at.column));
        problems
    }

    fn section(&mut self, path: &str, node: &Node, problems: &mut Vec<Problem>) {
        match &node.value {
            Value::Map(entries) => {
                for entry in entries {
                    // One more than is shown, so that the output can say that there are more.
                    if problems.len() > ERRORS_MAX {
                        return;
                    }
                    self.entry(path, entry, problems);
                }
            }
            Value::Scalar(scalar) if scalar.is_null() => {}
            value @ (Value::Scalar(_) | Value::List(_)) => {
                let paths: Vec<&str> = self.fields.iter().map(|field| &*field.path).collect();
                let keys: Vec<String> =
                    children(path, &paths).iter().map(|key| format!("`{key}`")).collect();
                let name = if path.is_empty() { "the file".into() } else { format!("`{path}`") };
                let found = kind::found(value);
                let keys = keys.join(", ");
                let text = format!("{name} is {found}; expected a section with the keys {keys}");
                problems.push(Problem { at: node.at, text });
            }
        }
    }

    fn entry(&mut self, section: &str, entry: &Entry, problems: &mut Vec<Problem>) {
        let path = join(section, &entry.key);
        let is_key = schema::keys(&path).last() == Some(&&*entry.key);
        let field = self.fields.iter_mut().find(|field| is_key && field.path == path);
        if let Some(field) = field {
            let mut found = field.read(&entry.node);
            if entry.node.value.is_null() {
                // The position of an absent value is after the key, often in the next line.
                for problem in &mut found {
                    problem.at = entry.at;
                }
            }
            problems.extend(found);
            let origin = SetBy::File { file: self.file.to_owned(), line: entry.at.line };
            self.origins.insert(path, origin);
            return;
        }
        let paths: Vec<&str> = self.fields.iter().map(|field| &*field.path).collect();
        // Without a feed, alert or action, no setting is in these sections.
        let may_be_empty = [FEEDS, ALERTS, ACTIONS].contains(&&*path);
        if is_key && (may_be_empty || children(section, &paths).contains(&&*entry.key)) {
            self.section(&path, &entry.node, problems);
        } else {
            let text = match self.refused.reason(section, &entry.key) {
                Some(why) => format!("in `{section}`, {why}"),
                None => unknown_key(section, &entry.key, &paths),
            };
            problems.push(Problem { at: entry.at, text });
        }
    }
}

fn utf8(content: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(content).map_err(|error| {
        let before = String::from_utf8_lossy(&content[..error.valid_up_to()]);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let text = "not UTF-8; save the file in that encoding".to_owned();
        Problem { at: Position { line, column }, text }
    })
}

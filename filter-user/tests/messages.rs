//! `docs/messages.md` lists every message in the sources' log macros, and explains each warning and
//! error. With `UPDATE_DOCS` the list is updated. A message keeps its explanation, even if its wording
//! has changed slightly.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/messages.md";
/// The crates that write to the log.
const SOURCES: [&str; 5] = [
    "filter-user/src",
    "filter-user/datapath/src",
    "filter-user/detection/src",
    "filter-user/fail2ban/src",
    "filter-user/store/src",
];
const MACROS: [(&str, Level); 3] =
    [("error!(", Level::Error), ("warn!(", Level::Warn), ("info!(", Level::Info)];
/// The minimum similarity at which a message gets the explanation of an older one.
const ALIKE: f64 = 0.5;
/// Marks a missing explanation in the page.
const MISSING: &str = "TO BE WRITTEN";
/// Represents a value.
const VALUE: &str = "…";

const HEAD: &str = "\
# Messages of the log

<!-- The messages are written from the sources by a test, the explanations are not.
     UPDATE_DOCS=1 cargo test -p filter-user --test messages -->

Every message of the daemon, by its level; `…` stands for a value. [operations.md](operations.md#the-log) explains the log, and
[operations.md](operations.md#troubleshooting) the reasons at the end of a message and those in the errors of commands.

    journalctl -u ringfence -p warning

## Errors and warnings

| level | message | what to do |
|---|---|---|
";

const INFORMATION: &str = "
## Information

These report normal operation. There is nothing to do.

";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Error,
    Warn,
    Info,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warning",
            Self::Info => "info",
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The sorted source files of the product, without tests.
fn sources() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = SOURCES.iter().map(|source| root().join(source)).collect();
    let mut files = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of sources") {
            let path = entry.expect("an entry").path();
            let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
            if path.is_dir() && !is_test {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !is_test {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(files.len() > 50, "{files:?}");
    files
}

/// The messages of a source file, up to its tests.
fn messages(source: &str) -> BTreeSet<(Level, String)> {
    let source = source.split("\n#[cfg(test)]").next().unwrap_or_default();
    let mut found = BTreeSet::new();
    for (name, level) in MACROS {
        for (at, _) in source.match_indices(name) {
            let before = source[..at].chars().next_back();
            let line = source[..at].rsplit('\n').next().unwrap_or_default();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') || line.contains("//") {
                continue;
            }
            let message = literal(&source[at + name.len()..]).map(|text| shown(&text));
            let message = message.unwrap_or_else(|| panic!("no text in {line}{name}"));
            // A format string without any letters repeats the message of another part.
            if message.chars().any(char::is_alphabetic) {
                found.insert((level, message));
            }
        }
    }
    found
}

/// The first string of a macro's arguments, after an optional `target:`.
fn literal(arguments: &str) -> Option<String> {
    let mut text = String::new();
    let mut characters = arguments[arguments.find('"')? + 1..].chars();
    loop {
        match characters.next()? {
            '"' => return Some(text),
            '\\' => match characters.next()? {
                '\n' => {
                    let rest = characters.as_str().trim_start();
                    characters = rest.chars();
                }
                'n' => text.push(' '),
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

/// A format string as shown in the page.
fn shown(format: &str) -> String {
    let mut text = String::new();
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '{' | '}' if characters.peek() == Some(&character) => {
                characters.next();
                text.push(character);
            }
            '{' => {
                for inner in characters.by_ref() {
                    if inner == '}' {
                        break;
                    }
                }
                text.push_str(VALUE);
            }
            '|' => text.push_str("\\|"),
            other => text.push(other),
        }
    }
    text
}

/// A message as code, with as many backticks as it needs.
fn code(message: &str) -> String {
    if message.contains('`') { format!("`` {message} ``") } else { format!("`{message}`") }
}

/// The explanations in a page, by message.
fn explanations(page: &str) -> BTreeMap<String, String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = rows.filter_map(|row| {
        let (_, rest) = row.split_once(" | ")?;
        let (message, explanation) = rest.split_once(" | ")?;
        Some((message.to_owned(), explanation.to_owned()))
    });
    cells.filter(|(message, _)| message.starts_with('`')).collect()
}

/// The page for these messages, with the explanations of an older page.
fn page(messages: &BTreeSet<(Level, String)>, old: &BTreeMap<String, String>) -> String {
    let current: BTreeSet<String> = messages.iter().map(|(_, message)| code(message)).collect();
    let orphans = || old.iter().filter(|(message, _)| !current.contains(*message));
    let explanation = |message: &str| {
        let likeness = |other: &str| strsim::normalized_levenshtein(message, other);
        let nearest = || {
            let alike = orphans().filter(|(other, _)| likeness(other) >= ALIKE);
            alike.max_by(|(a, _), (b, _)| likeness(a).total_cmp(&likeness(b)))
        };
        let kept = old.get(message).or_else(|| nearest().map(|(_, explanation)| explanation));
        kept.map_or(MISSING, String::as_str)
    };
    let mut text = HEAD.to_owned();
    for (level, message) in messages.iter().filter(|(level, _)| *level != Level::Info) {
        let message = code(message);
        let row = format!("| {} | {message} | {} |\n", level.name(), explanation(&message));
        text.push_str(&row);
    }
    text.push_str(INFORMATION);
    for (_, message) in messages.iter().filter(|(level, _)| *level == Level::Info) {
        let _infallible = writeln!(text, "- {}", code(message));
    }
    text
}

#[test]
fn every_message_is_explained() {
    let read = |path: &Path| fs::read_to_string(path).expect("a source");
    let all = sources().iter().flat_map(|path| messages(&read(path))).collect();
    let path = root().join(PAGE);
    let is = fs::read_to_string(&path).unwrap_or_default();
    let expected = page(&all, &explanations(&is));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).expect("write the page");
    } else {
        assert!(
            is == expected,
            "{PAGE} is out of date: UPDATE_DOCS=1 cargo test -p filter-user --test messages"
        );
    }
    let lacks: Vec<&str> = expected.lines().filter(|line| line.contains(MISSING)).collect();
    assert!(lacks.is_empty(), "{PAGE} does not say what to do about:\n{}", lacks.join("\n"));
}

#[test]
fn messages_are_read_out_of_a_source() {
    let source = "fn f() {\n    warn!(\n        target: MANUAL,\n        \"{who}: it \\\n         is `{x:#}` {{a}}\"\n    );\n    \
                  error!(\"{why:#}\");\n    // info!(\"not this\")\n    my_info!(\"nor this\");\n    info!(\"up | down\");\n}\n\
                  #[cfg(test)]\nmod tests { fn g() { warn!(\"nor that\") } }\n";
    let expected = [(Level::Warn, "…: it is `…` {a}"), (Level::Info, "up \\| down")];
    assert_eq!(messages(source), expected.map(|(level, text)| (level, text.to_owned())).into());
}

#[test]
fn an_explanation_follows_a_message_that_changes() {
    let of = |text: &str| BTreeSet::from([(Level::Warn, text.to_owned())]);
    let first = page(&of("the file … is gone"), &BTreeMap::new());
    assert!(first.contains(MISSING));
    let written = first.replace(MISSING, "Make it again.");
    let second = page(&of("the file … has gone"), &explanations(&written));
    assert!(second.contains("| warning | `the file … has gone` | Make it again. |"), "{second}");
    let third = page(&of("something else"), &explanations(&written));
    assert!(third.contains(MISSING));
}

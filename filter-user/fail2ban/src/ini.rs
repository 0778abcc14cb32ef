//! Parses one fail2ban file into sections with their options.
//!
//! The rules are those of Python's `configparser` as fail2ban uses it: `#` and `;` begin a comment line,
//! and ` ;` a comment after a value; a line that is indented deeper than its option continues the value;
//! `=` or `:` ends the name of an option, which is case-insensitive.
//!
//! Must never grow without a bound.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::sync::Arc;

use super::error::{Error, Place, snippet};

/// The largest file that is read, in bytes. The largest file that fail2ban ships has 30,000.
const FILE_MAX: u64 = 1024 * 1024;

/// A value as it was written, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) text: String,
    pub(super) place: Place,
}

/// Options by name, in lower case.
pub(super) type Section = BTreeMap<String, Value>;

/// The contents of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ini {
    /// The section `[DEFAULT]`.
    pub(super) defaults: Section,
    /// All other sections.
    pub(super) sections: BTreeMap<String, Section>,
}

impl Ini {
    /// Reads a file; `None` if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Error> {
        let fail = |why: std::io::Error| Error::of_file(path, format!("cannot be read: {why}"));
        let file = match File::open(path) {
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(fail)?,
        };
        let mut bytes = Vec::new();
        file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(Error::of_file(
                path,
                "is larger than 1 MiB, so it is not a configuration of fail2ban",
            ));
        }
        Self::parse(&bytes, path).map(Some)
    }

    /// Reads the contents of the file at `path`.
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let path: Arc<Path> = path.into();
        let text = str::from_utf8(bytes).map_err(|wrong| {
            let line = memchr::memchr_iter(b'\n', &bytes[..wrong.valid_up_to()]).count() + 1;
            Place { path: path.clone(), line }.error("not UTF-8")
        })?;
        let mut reader = Reader {
            ini: Self::default(),
            seen: BTreeMap::new(),
            section: None,
            option: None,
            indent: 0,
        };
        for (index, line) in text.lines().enumerate() {
            reader.line(line, Place { path: path.clone(), line: index + 1 })?;
        }
        let mut ini = reader.ini;
        for section in ini.sections.values_mut().chain([&mut ini.defaults]) {
            for value in section.values_mut() {
                value.text.truncate(value.text.trim_end().len());
            }
        }
        Ok(ini)
    }
}

struct Reader {
    ini: Ini,
    /// The line of each section and option, to find duplicates.
    seen: BTreeMap<(String, Option<String>), usize>,
    section: Option<String>,
    option: Option<String>,
    /// The indentation of the current option; a deeper line continues its value.
    indent: usize,
}

impl Reader {
    fn line(&mut self, line: &str, place: Place) -> Result<(), Error> {
        let comment = comment(line);
        let text = line[..comment.unwrap_or(line.len())].trim();
        if text.is_empty() {
            // An empty line belongs to the value around it; a comment is ignored.
            if comment.is_none()
                && let Some(value) = self.value()
            {
                value.text.push('\n');
            }
            return Ok(());
        }
        let indent = line.chars().take_while(|c| c.is_whitespace()).count();
        if indent > self.indent
            && let Some(value) = self.value()
        {
            value.text.push('\n');
            value.text.push_str(text);
            return Ok(());
        }
        self.indent = indent;
        if let Some(name) = header(text) {
            return self.begin(name, &place);
        }
        self.set(text, place)
    }

    /// The value that a deeper line would continue.
    fn value(&mut self) -> Option<&mut Value> {
        let (section, option) = (self.section.as_deref()?, self.option.as_deref()?);
        self.ini.section(section).get_mut(option)
    }

    fn begin(&mut self, name: &str, place: &Place) -> Result<(), Error> {
        // `[DEFAULT]` may occur again; any other repeated section is probably a mistake.
        if name != DEFAULT
            && let Some(first) = self.once(name, None, place.line)
        {
            return Err(place.error(format!("[{}] already occurs in line {first}", snippet(name))));
        }
        self.ini.section(name);
        self.section = Some(name.to_owned());
        self.option = None;
        Ok(())
    }

    fn set(&mut self, text: &str, place: Place) -> Result<(), Error> {
        let Some(section) = self.section.clone() else {
            return Err(place.error("an option before the first section, such as [Definition]"));
        };
        let Some((name, value)) = text.split_once(['=', ':']) else {
            let text = snippet(text);
            return Err(place.error(format!(
                "`{text}` is not an option (`name = value`); a line that continues a value must be \
                 indented"
            )));
        };
        let name = name.trim_end().to_lowercase();
        if name.is_empty() {
            return Err(place.error("an option without a name"));
        }
        if let Some(first) = self.once(&section, Some(&name), place.line) {
            let name = snippet(&name);
            return Err(place.error(format!("`{name}` already occurs in line {first}")));
        }
        let value = Value { text: value.trim().to_owned(), place };
        self.ini.section(&section).insert(name.clone(), value);
        self.option = Some(name);
        Ok(())
    }

    /// The line of the first occurrence, if this is a repetition.
    fn once(&mut self, section: &str, option: Option<&str>, line: usize) -> Option<usize> {
        self.seen.insert((section.to_owned(), option.map(str::to_owned)), line)
    }
}

/// The section with the defaults of all others.
pub(super) const DEFAULT: &str = "DEFAULT";

impl Ini {
    fn section(&mut self, name: &str) -> &mut Section {
        if name == DEFAULT {
            return &mut self.defaults;
        }
        self.sections.entry(name.to_owned()).or_default()
    }
}

/// Where a comment begins.
fn comment(line: &str) -> Option<usize> {
    if line.trim_start().starts_with(['#', ';']) {
        return Some(0);
    }
    line.match_indices(';')
        .map(|(at, _)| at)
        .find(|at| line[..*at].chars().next_back().is_none_or(char::is_whitespace))
}

/// The name in `[name]`.
fn header(text: &str) -> Option<&str> {
    let name = text.strip_prefix('[')?;
    let name = &name[..name.rfind(']')?];
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Ini, Error> {
        Ini::parse(text.as_bytes(), Path::new("x.conf"))
    }

    fn value(text: &str, section: &str, option: &str) -> String {
        let mut ini = parse(text).unwrap();
        ini.section(section)[option].text.clone()
    }

    #[test]
    fn a_deeper_line_goes_on_with_the_value() {
        let text = "[Definition]\nfailregex = one\n            two\n\n   three\nnext: x\n";
        assert_eq!(value(text, "Definition", "failregex"), "one\ntwo\n\nthree");
        assert_eq!(value(text, "Definition", "next"), "x");
    }

    #[test]
    fn comments_are_left_out_of_values_and_between_their_lines() {
        let text = "# [x]\n[a]\nb = 1 ; one\n# not in it\n  2 # in it\n;x\n  3;in it\n";
        assert_eq!(value(text, "a", "b"), "1\n2 # in it\n3;in it");
    }

    #[test]
    fn names_of_options_have_no_case_and_those_of_sections_do() {
        assert_eq!(value("[A]\nFailRegex = x = y\n", "A", "failregex"), "x = y");
        let ini = parse("[A]\n[a]\n[DEFAULT]\nx=1\n[DEFAULT]\ny=2").unwrap();
        assert_eq!((ini.sections.len(), ini.defaults.len()), (2, 2));
    }

    #[test]
    fn an_empty_value_can_go_on_in_the_next_line() {
        assert_eq!(value("[a]\nb =\n  1\n", "a", "b"), "\n1");
        assert_eq!(value("[a]\nb =\nc = 1\n", "a", "b"), "");
    }

    #[test]
    fn errors_name_file_and_line() {
        for (text, expected) in [
            ("a = 1", "x.conf:1: an option before the first section"),
            ("[a]\nb = 1\nnonsense\n", "x.conf:3: `nonsense` is not an option"),
            ("[a]\nb = 1\nc = 2\nB = 3\n", "x.conf:4: `b` already occurs in line 2"),
            ("[a]\n[b]\n[a]\n", "x.conf:3: [a] already occurs in line 1"),
            ("[a]\n= 1\n", "x.conf:2: an option without a name"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let error = Ini::parse(b"[a]\nb = \xff\n", Path::new("x.conf")).unwrap_err();
        assert_eq!(error.to_string(), "x.conf:2: not UTF-8");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(Ini::parse(&bytes, Path::new("x")));
        }

        #[test]
        fn any_lines_are_read(lines in "([ \t]{0,3}[\\[\\]=:;#a-bé ]{0,8}\n){0,12}") {
            drop(parse(&lines));
        }
    }
}

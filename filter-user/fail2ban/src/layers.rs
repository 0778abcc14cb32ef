//! A fail2ban configuration in several files: `x.conf` with its includes, `x.d/*.conf`, `x.local`,
//! `x.d/*.local`. The last value wins. `%(name)s` is expanded when a value is requested.
//!
//! Must never grow without a bound.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::{Error, snippet};
use super::ini::{DEFAULT, Ini, Section, Value};

/// The most files in one configuration. An included file counts each time that it is read.
const FILES_MAX: usize = 256;

/// The maximum depth of includes and of nested references, as in Python's `configparser`.
const DEPTH_MAX: usize = 10;

/// The most references that one value may expand.
const REFERENCES_MAX: usize = 10_000;

/// The maximum length of an expanded value, in bytes.
pub(super) const VALUE_MAX: usize = 256 * 1024;

/// The section that names other files.
const INCLUDES: &str = "INCLUDES";

/// The prefix of a section with the values that a later file has replaced.
const KNOWN: &str = "KNOWN/";

/// Values that take precedence over those in files, by name in lower case, without references.
pub(super) type Variables = BTreeMap<String, String>;

/// A configuration that is merged from its files.
#[derive(Debug, Default)]
pub(super) struct Layers {
    ini: Ini,
    files: usize,
}

impl Layers {
    /// Reads `base` with each extension that fail2ban reads. `None` if there is no file.
    pub(super) fn read(base: &Path) -> Result<Option<Self>, Error> {
        let with = |ending: &str| {
            let mut name = base.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let mut layers = Self::default();
        layers.file(&with(".conf"), &mut Vec::new())?;
        for file in in_directory(&with(".d"), "conf")? {
            layers.file(&file, &mut Vec::new())?;
        }
        layers.file(&with(".local"), &mut Vec::new())?;
        for file in in_directory(&with(".d"), "local")? {
            layers.file(&file, &mut Vec::new())?;
        }
        Ok((layers.files > 0).then_some(layers))
    }

    /// Reads a file and its includes. `above` are the files that include it.
    fn file(&mut self, path: &Path, above: &mut Vec<PathBuf>) -> Result<(), Error> {
        let Some(ini) = Ini::read(path)? else { return Ok(()) };
        self.files += 1;
        if self.files > FILES_MAX || above.len() > DEPTH_MAX {
            return Err(Error::of_file(path, "has too many includes, or too deeply nested ones"));
        }
        let own = Self { ini, files: 1 };
        let [before, after] = ["before", "after"].map(|which| own.includes(which));
        let (before, after) = (before?, after?);
        above.push(path.to_owned());
        self.include(path, &before, above)?;
        self.merge(own.ini);
        self.include(path, &after, above)?;
        above.pop();
        Ok(())
    }

    /// The files that a file includes.
    fn includes(&self, which: &str) -> Result<Vec<String>, Error> {
        if !self.ini.sections.contains_key(INCLUDES) {
            return Ok(Vec::new());
        }
        let files = self.get(INCLUDES, which, &Variables::new())?;
        let files = files.map(|value| value.text).unwrap_or_default();
        Ok(files.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// A missing file is skipped, as in fail2ban: `after = common.local`.
    fn include(
        &mut self,
        from: &Path,
        files: &[String],
        above: &mut Vec<PathBuf>,
    ) -> Result<(), Error> {
        for file in files {
            let path = from.parent().unwrap_or(Path::new("")).join(file);
            if above.contains(&path) {
                continue;
            }
            self.file(&path, above)?;
            let local = path.with_extension("local");
            if local != path && !above.contains(&local) {
                self.file(&local, above)?;
            }
        }
        Ok(())
    }

    fn merge(&mut self, ini: Ini) {
        self.ini.defaults.extend(ini.defaults);
        for (name, mut options) in ini.sections {
            // `[Init?family=inet6]` applies to actions under a condition, so it stays separate.
            let name = match name.split_once('?') {
                Some((section, condition)) => {
                    let under = |name: String| format!("{name}?{condition}");
                    options = options.into_iter().map(|(name, v)| (under(name), v)).collect();
                    section.to_owned()
                }
                None => name,
            };
            let Some(here) = self.ini.sections.get_mut(&name) else {
                self.ini.sections.insert(name, options);
                continue;
            };
            let replaced: Section = here
                .iter()
                .filter(|(name, _)| options.contains_key(*name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            here.extend(options);
            self.ini.sections.entry(format!("{KNOWN}{name}")).or_default().extend(replaced);
        }
    }

    /// The names of the sections that are jails.
    pub(super) fn sections(&self) -> impl Iterator<Item = &str> {
        let special = |name: &str| name == INCLUDES || name.starts_with(KNOWN);
        self.ini.sections.keys().map(String::as_str).filter(move |name| !special(name))
    }

    /// The options that a section itself sets.
    pub(super) fn own(&self, section: &str) -> impl Iterator<Item = (&str, &Value)> {
        let options = self.ini.sections.get(section).into_iter().flatten();
        options.map(|(name, value)| (name.as_str(), value))
    }

    /// The value of an option, with all references expanded; from `[DEFAULT]` if the section does not set
    /// it. A variable of its name takes precedence, and is not expanded.
    pub(super) fn get(
        &self,
        section: &str,
        option: &str,
        variables: &Variables,
    ) -> Result<Option<Value>, Error> {
        let option = option.to_lowercase();
        let Some(raw) = self.raw(section, &option) else { return Ok(None) };
        let text = match variables.get(&option) {
            Some(text) => text.clone(),
            None => self
                .expand(section, &raw.text, variables)
                .map_err(|why| raw.place.error(format!("`{}`: {why}", snippet(&option))))?,
        };
        Ok(Some(Value { text, place: raw.place.clone() }))
    }

    /// A value of a section with all its references expanded.
    pub(super) fn expand(
        &self,
        section: &str,
        text: &str,
        variables: &Variables,
    ) -> Result<String, String> {
        let mut scope = Scope { layers: self, section, variables, left: REFERENCES_MAX };
        let mut out = String::new();
        scope.replace(text, 0, &mut out)?;
        Ok(out)
    }

    /// The same for a name that may contain another section: `section/option`.
    pub(super) fn get_from(
        &self,
        section: &str,
        option: &str,
        variables: &Variables,
    ) -> Result<Option<Value>, Error> {
        if let Some((named, option)) = option.split_once('/') {
            let known = format!("{KNOWN}{section}");
            let places: &[&str] = match named.to_lowercase().as_str() {
                "known" => &[&known, section],
                "default" => &[DEFAULT],
                _ => &[named],
            };
            for place in places {
                if let Some(value) = self.get(place, option, &Variables::new())? {
                    return Ok(Some(value));
                }
            }
        }
        self.get(section, option, variables)
    }

    fn raw(&self, section: &str, option: &str) -> Option<&Value> {
        let own = self.ini.sections.get(section).and_then(|options| options.get(option));
        own.or_else(|| self.ini.defaults.get(option))
    }
}

/// Where the names in a value are looked up.
struct Scope<'a> {
    layers: &'a Layers,
    section: &'a str,
    variables: &'a Variables,
    /// How many references may still be expanded.
    left: usize,
}

impl<'a> Scope<'a> {
    /// Appends `text` with its references expanded.
    fn replace(&mut self, text: &str, depth: usize, out: &mut String) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err("the references form a cycle, or are nested too deeply".to_owned());
        }
        let mut rest = text;
        while let Some((plain, reference)) = rest.split_once('%') {
            out.push_str(plain);
            if let Some(after) = reference.strip_prefix('%') {
                out.push('%');
                rest = after;
                continue;
            }
            let Some((name, after)) = reference.strip_prefix('(').and_then(|r| r.split_once(")s"))
            else {
                return Err(format!(
                    "`%{}` is neither `%(name)s` nor `%%` (a percent sign)",
                    snippet(reference.get(..16).unwrap_or(reference))
                ));
            };
            self.left = self.left.checked_sub(1).ok_or("has too many references")?;
            if let Some(value) = self.variables.get(&name.to_lowercase()) {
                // Options from outside the file contain no references: a percent sign stands for itself.
                out.push_str(value);
            } else {
                let value =
                    self.find(name).ok_or_else(|| format!("`{}` is not defined", snippet(name)))?;
                self.replace(value, depth + 1, out)?;
            }
            if out.len() > VALUE_MAX {
                return Err("is longer than 256 KiB after all references are expanded".to_owned());
            }
            rest = after;
        }
        out.push_str(rest);
        if out.len() > VALUE_MAX {
            return Err("is longer than 256 KiB".to_owned());
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&'a str> {
        let lower = name.to_lowercase();
        if lower == "__name__" {
            return Some(self.section);
        }
        if let Some(value) = self.layers.raw(self.section, &lower) {
            return Some(&value.text);
        }
        let (section, _) = name.split_once('/')?;
        let (_, option) = lower.split_once('/')?;
        let ini = &self.layers.ini;
        let section = match section.to_lowercase().as_str() {
            "default" => None,
            "known" => ini.sections.get(&format!("{KNOWN}{}", self.section)),
            _ => Some(ini.sections.get(section)?),
        };
        let value = section.and_then(|options| options.get(option));
        value.or_else(|| ini.defaults.get(option)).map(|value| value.text.as_str())
    }
}

/// The files in a directory with this extension, in alphabetical order.
fn in_directory(directory: &Path, ending: &str) -> Result<Vec<PathBuf>, Error> {
    let fail = |why: std::io::Error| Error::of_file(directory, format!("cannot be read: {why}"));
    let entries = match fs::read_dir(directory) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|own| own == ending) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    fn get(files: &[(&str, &str)], section: &str, option: &str) -> Result<Option<String>, Error> {
        let directory = tree(files);
        let layers = Layers::read(&directory.path().join("jail"))?.unwrap();
        Ok(layers.get(section, option, &Variables::new())?.map(|value| value.text))
    }

    #[test]
    fn later_files_win() {
        let files = [
            ("jail.conf", "[DEFAULT]\nx = 1\n[a]\ny = 1\n"),
            ("jail.d/20.conf", "[a]\ny = 3\n"),
            ("jail.d/10.conf", "[a]\ny = 2\nz = 2\n"),
            ("jail.local", "[DEFAULT]\nx = 4\n"),
            ("jail.d/a.local", "[a]\nz = 5\n"),
            ("jail.d/.#a.local", "[a]\nz = 6\n"),
        ];
        for (option, value) in [("x", "4"), ("y", "3"), ("z", "5")] {
            assert_eq!(get(&files, "a", option).unwrap().as_deref(), Some(value), "{option}");
        }
        assert_eq!(get(&files, "a", "w").unwrap(), None);
    }

    #[test]
    fn a_file_brings_in_others_before_and_after_it() {
        let files = [
            (
                "jail.conf",
                "[INCLUDES]\nbefore = one.conf\n two.conf\nafter = no.conf\n last.conf\n[a]\nx=0\n",
            ),
            ("one.conf", "[INCLUDES]\nbefore = jail.conf\n[a]\nx = 1\ny = 1\nz = 1\n"),
            ("two.conf", "[a]\ny = 2\n"),
            ("two.local", "[a]\ny = 3\n"),
            ("last.conf", "[a]\nz = 4\n"),
        ];
        for (option, value) in [("x", "0"), ("y", "3"), ("z", "4")] {
            assert_eq!(get(&files, "a", option).unwrap().as_deref(), Some(value), "{option}");
        }
    }

    #[test]
    fn references_are_looked_up_where_fail2ban_does() {
        let files = [
            (
                "jail.conf",
                "[DEFAULT]\nd = default\n[a]\nx = %(d)s %(b/y)s %(default/d)s %(B)s %(__name__)s 5%%\n\
                 b = own\nk = old\n[b]\ny = of %(d)s\n",
            ),
            ("jail.local", "[a]\nk = %(known/k)s new\n"),
        ];
        let x = get(&files, "a", "x").unwrap().unwrap();
        assert_eq!(x, "default of default default own a 5%");
        assert_eq!(get(&files, "a", "k").unwrap().unwrap(), "old new");
    }

    #[test]
    fn what_cannot_be_replaced_is_an_error() {
        for (text, expected) in [
            ("x = %(nobody)s", "`nobody` is not defined"),
            ("x = 100%", "(a percent sign)"),
            ("x = %(x)s", "cycle"),
            ("x = %(y)s\ny = %(x)s", "cycle"),
        ] {
            let error = get(&[("jail.conf", &format!("[a]\n{text}\n"))], "a", "x").unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.to_string().contains("jail.conf:2: `x`: "), "{error}");
        }
    }

    #[test]
    fn a_value_cannot_explode() {
        let line = |n: usize| format!("x{n} = {}\n", format!("%(x{})s", n + 1).repeat(60));
        let text: String = (0..8).map(line).collect();
        for (last, expected) in
            [("boom".repeat(9999), "256 KiB"), (String::new(), "many references")]
        {
            let text = format!("[a]\n{text}x8 = {last}\n");
            let error = get(&[("jail.conf", &text)], "a", "x0").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn includes_cannot_explode() {
        let directory = tree(&[]);
        for n in 0..9 {
            let next = format!(" f{}.conf\n", n + 1).repeat(9);
            let text = format!("[INCLUDES]\nbefore =\n{next}");
            fs::write(directory.path().join(format!("f{n}.conf")), text).unwrap();
        }
        fs::write(directory.path().join("f9.conf"), "[a]\n").unwrap();
        let error = Layers::read(&directory.path().join("f0")).unwrap_err().to_string();
        assert!(error.contains("too many includes"), "{error}");
    }

    proptest! {
        #[test]
        fn any_references_are_replaced_or_refused(a in "[%()sab/]{0,20}", b in "[%()sab/]{0,20}") {
            let ini = Ini::parse(format!("[s]\na={a}\nb={b}\n").as_bytes(), Path::new("x")).unwrap();
            drop(Layers { ini, files: 1 }.get("s", "a", &Variables::new()));
        }
    }
}

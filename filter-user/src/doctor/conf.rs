//! Reads the settings in Asterisk's configuration files in their order, as Asterisk reads them
//! (`main/config.c`): with includes, templates and comments.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use zeroize::{Zeroize as _, Zeroizing};

/// The most bytes of one file that are read.
const FILE_MAX: u64 = 1 << 20;

/// How deep files may include each other: Asterisk's own limit.
const DEPTH_MAX: usize = 10;

/// The most files that are read.
const FILES_MAX: usize = 256;

/// The most settings that a block takes from its templates.
const INHERITED_MAX: usize = 1024;

/// One `key = value` or `key => value`, and its section.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) section: String,
    pub(crate) key: String,
    /// May be a password, so it is overwritten when it is dropped.
    pub(crate) value: String,
    /// The number of its block. `res_pjsip` has several objects in blocks with the same name.
    block: usize,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.section, self.key)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

/// A section where it is written, such as one object of `pjsip.conf`.
#[derive(Clone, Debug)]
pub(crate) struct Block<'a> {
    /// The name of the section.
    pub(crate) name: &'a str,
    /// The settings of its templates, then its own.
    settings: Vec<&'a Setting>,
}

impl Block<'_> {
    /// The value of a key that applies: the last one.
    pub(crate) fn last(&self, key: &str) -> Option<&str> {
        let of_key = |setting: &&&Setting| setting.key.eq_ignore_ascii_case(key);
        self.settings.iter().rev().find(of_key).map(|setting| &*setting.value)
    }
}

/// Returns the output of a command (`#exec`) that may be run, and `None` for any other.
pub(crate) type Run = fn(&str) -> Option<Zeroizing<String>>;

/// A file with everything that it includes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conf {
    settings: Vec<Setting>,
    /// Sections with the template on which they are based.
    templates: Vec<(String, String)>,
    /// Sections that are only templates for others.
    only_templates: BTreeSet<String>,
    /// The blocks: the name of each, and the templates on which it is based.
    blocks: Vec<(String, Vec<String>)>,
    /// The number of the block that is being read.
    block: usize,
    /// The files that were read.
    files: Vec<PathBuf>,
    /// The names in includes.
    included: Vec<PathBuf>,
    /// The commands whose output Asterisk would also read, except for those that `run` answered.
    runs: Vec<String>,
    /// Returns the output of a command that may be run.
    run: Option<Run>,
}

impl Conf {
    /// Reads `NAME.conf` in `etc`.
    pub(crate) fn read(etc: &Path, name: &str) -> Self {
        let mut conf = Self::default();
        conf.read_file(etc, &etc.join(format!("{name}.conf")), &mut String::new(), 0);
        conf
    }

    /// Reads `NAME.conf` in `etc`, with the output of the commands that `run` answers.
    pub(crate) fn read_with(etc: &Path, name: &str, run: Run) -> Self {
        let mut conf = Self { run: Some(run), ..Self::default() };
        conf.read_file(etc, &etc.join(format!("{name}.conf")), &mut String::new(), 0);
        conf
    }

    /// Reads a text, and the files in `etc` that it includes.
    pub(super) fn of_text(etc: &Path, text: &str) -> Self {
        let mut conf = Self::default();
        conf.read_text(etc, text, &mut String::new(), 0);
        conf
    }

    /// The settings of all sections, in their order.
    pub(super) fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// The settings of all sections of this name.
    pub(crate) fn section(&self, name: &str) -> impl Iterator<Item = &Setting> {
        self.settings.iter().filter(move |setting| setting.section == name)
    }

    /// The values of a key in a section and in its templates; the last one applies.
    pub(crate) fn values(&self, section: &str, key: &str) -> Vec<&str> {
        let templates = self.templates.iter().filter(|(of, _)| of == section);
        let templates = templates.map(|(_, template)| template.as_str());
        let sections = templates.chain([section]);
        let settings = sections.flat_map(|section| self.section(section));
        let of_key = settings.filter(|setting| setting.key.eq_ignore_ascii_case(key));
        of_key.map(|setting| setting.value.as_str()).collect()
    }

    /// Whether there is a section of this name.
    pub(crate) fn has_section(&self, name: &str) -> bool {
        self.section(name).next().is_some()
    }

    /// The names of the sections that are not templates, each once.
    pub(crate) fn sections(&self) -> BTreeSet<&str> {
        let names = self.settings.iter().map(|setting| &*setting.section);
        let made = self.templates.iter().map(|(of, _)| &**of);
        names.chain(made).filter(|name| !self.only_templates.contains(*name)).collect()
    }

    /// The blocks that are not templates, in their order.
    pub(crate) fn blocks(&self) -> Vec<Block<'_>> {
        let mut settings: Vec<Vec<&Setting>> = vec![Vec::new(); self.blocks.len()];
        for setting in &self.settings {
            if let Some(own) = settings.get_mut(setting.block) {
                own.push(setting);
            }
        }
        let mut of_name: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, (name, templates)) in self.blocks.iter().enumerate() {
            // A template is written before it is used.
            let of_templates = templates.iter().filter_map(|one| of_name.get(&**one));
            let mut all: Vec<&Setting> =
                of_templates.filter_map(|at| settings.get(*at)).flatten().copied().collect();
            all.truncate(INHERITED_MAX);
            if let Some(own) = settings.get_mut(number) {
                all.append(own);
                *own = all;
            }
            of_name.insert(name, number);
        }
        let blocks = self.blocks.iter().zip(settings);
        let blocks = blocks.map(|((name, _), settings)| Block { name, settings });
        blocks.filter(|block| !self.only_templates.contains(block.name)).collect()
    }

    /// Whether a part is the output of a program (`#exec`), and therefore missing.
    pub(crate) fn runs_programs(&self) -> bool {
        !self.runs.is_empty()
    }

    /// The files that were read.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The commands whose output Asterisk reads (`#exec`).
    pub(super) fn runs(&self) -> &[String] {
        &self.runs
    }

    /// Whether a file would be read if it existed.
    pub(crate) fn includes(&self, file: &Path) -> bool {
        self.included.iter().any(|included| {
            let pattern = glob::Pattern::new(&included.to_string_lossy());
            pattern.is_ok_and(|pattern| pattern.matches_path(file))
        })
    }

    fn read_file(&mut self, etc: &Path, file: &Path, section: &mut String, depth: usize) {
        let small = fs::metadata(file).is_ok_and(|metadata| metadata.len() <= FILE_MAX);
        if !small || depth > DEPTH_MAX || self.files.len() >= FILES_MAX {
            return;
        }
        let bytes = Zeroizing::new(fs::read(file).unwrap_or_default());
        self.files.push(file.to_owned());
        self.read_text(etc, &String::from_utf8_lossy(&bytes), section, depth);
    }

    fn read_text(&mut self, etc: &Path, text: &str, section: &mut String, depth: usize) {
        let mut in_comment = false;
        for line in text.lines() {
            let line = line.trim();
            if in_comment || (line.starts_with(";--") && !line.starts_with(";---")) {
                in_comment = !line.contains("--;");
                continue;
            }
            let line = without_comment(line);
            let line = line.trim();
            if let Some(rest) = line.strip_prefix('[') {
                self.begin_section(rest, section);
            } else if let Some(included) = included(line) {
                // An absolute path replaces the directory.
                let pattern = etc.join(included);
                self.included.push(pattern.clone());
                let found = glob::glob(&pattern.to_string_lossy());
                // In alphabetical order, as in Asterisk.
                for file in found.into_iter().flatten().flatten() {
                    self.read_file(etc, &file, section, depth + 1);
                }
            } else if let Some(command) = line.strip_prefix("#exec") {
                let command = command.trim().trim_matches(['"', '<', '>']);
                match self.run.filter(|_| depth < DEPTH_MAX).and_then(|run| run(command)) {
                    Some(text) => self.read_text(etc, &text, section, depth + 1),
                    None => self.runs.push(command.to_owned()),
                }
            } else if let Some((key, value)) = line.split_once('=') {
                let value = value.strip_prefix('>').unwrap_or(value).trim().to_owned();
                let (section, key) = (section.clone(), key.trim().to_owned());
                let block = self.block;
                self.settings.push(Setting { section, key, value, block });
            }
        }
    }

    /// Parses `NAME]`, followed by `(!)`, `(+)` or the names of templates.
    fn begin_section(&mut self, rest: &str, section: &mut String) {
        let (name, options) = rest.split_once(']').unwrap_or((rest, ""));
        name.clone_into(section);
        let options = options.trim().trim_start_matches('(').trim_end_matches(')');
        if options.split(',').any(|option| option.trim() == "!") {
            self.only_templates.insert(name.to_owned());
        }
        let templates = options.split(',').map(str::trim).filter(|o| !["", "!", "+"].contains(o));
        let templates: Vec<String> = templates.map(str::to_owned).collect();
        self.templates.extend(templates.iter().map(|of| (name.to_owned(), of.clone())));
        // `(+)` adds to the block that is there.
        let adds = options.split(',').any(|option| option.trim() == "+");
        let earlier =
            if adds { self.blocks.iter().rposition(|(other, _)| other == name) } else { None };
        self.block = earlier.unwrap_or(self.blocks.len());
        if earlier.is_none() {
            self.blocks.push((name.to_owned(), templates));
        }
    }
}

/// The line up to a semicolon without a backslash. `\;` is a semicolon.
fn without_comment(line: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(line.len()));
    for c in line.chars() {
        match c {
            ';' if text.ends_with('\\') => {
                text.pop();
                text.push(';');
            }
            ';' => break,
            c => text.push(c),
        }
    }
    text
}

/// `FILE` of `#include FILE`, `#include "FILE"` or `#tryinclude FILE`.
fn included(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("#tryinclude").or_else(|| line.strip_prefix("#include"))?;
    let file = rest.trim().trim_matches(['"', '<', '>', '\'']);
    (rest.starts_with([' ', '\t', '"', '<']) && !file.is_empty()).then_some(file)
}

/// Whether `word` is in a list such as `notice,warning` or `[json]security`.
pub(crate) fn has(list: &str, word: &str) -> bool {
    let list = list.trim_start();
    let list = list.strip_prefix('[').and_then(|l| l.split_once(']')).map_or(list, |(_, l)| l);
    let items = list.split([',', '|']).map(str::trim);
    items.into_iter().any(|item| item == "*" || item.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn etc(files: &[(&str, &str)]) -> TempDir {
        let etc = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = etc.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        etc
    }

    #[test]
    fn includes_are_read_where_they_stand() {
        let etc = etc(&[
            ("manager.conf", "[general]\nport = 1\n#include \"manager.d/*.conf\"\n[last]\na=b"),
            ("manager.d/2.conf", "[two]\n#tryinclude secret\nread = all ; all\n"),
            ("manager.d/1.conf", "port = 2\n;-- [two]\nread = no\n --;\n;[two]\n"),
            ("manager.d/3.txt", "[three]\na = b\n"),
            ("secret", "secret => x"),
        ]);
        let conf = Conf::read(etc.path(), "manager");
        assert_eq!(conf.values("general", "Port"), ["1", "2"]);
        assert_eq!(
            (conf.values("two", "secret"), conf.values("two", "read")),
            (vec!["x"], vec!["all"])
        );
        assert!(conf.has_section("last") && !conf.has_section("three"));
        assert!(conf.includes(&etc.path().join("manager.d/new.conf")));
        assert!(!conf.includes(&etc.path().join("manager.d/new.txt")));
        assert_eq!(conf.files().len(), 4);
        assert_eq!(conf.sections().into_iter().collect::<Vec<_>>(), ["general", "last", "two"]);
        assert!(!conf.runs_programs());
    }

    #[test]
    fn a_template_gives_its_values() {
        let text = "[t](!)\nread = system\n[u](t)\nwrite = x\n[u](+)\nread = security\n[v](t)\n";
        let etc = etc(&[("manager.conf", text)]);
        let conf = Conf::read(etc.path(), "manager");
        assert_eq!(conf.values("u", "read"), ["system", "security"]);
        assert_eq!(conf.sections().into_iter().collect::<Vec<_>>(), ["u", "v"]);
    }

    #[test]
    fn objects_of_the_same_name_are_apart() {
        let text = "[t](!)\ntype = auth\nusername = x\n[a]\ntype=endpoint\nauth=a\n[a](t)\nusername=a ; it\n\
                    password = b\\;c ; secret\n[u](!,t)\n[b](u)\n[a](+)\nrealm=r\n[b](+)\n\
                    password=d\n";
        let etc = etc(&[("pjsip.conf", text)]);
        let conf = Conf::read(etc.path(), "pjsip");
        let blocks = conf.blocks();
        let said = |key| blocks.iter().map(|block| block.last(key)).collect::<Vec<_>>();
        assert_eq!(blocks.iter().map(|block| block.name).collect::<Vec<_>>(), ["a", "a", "b"]);
        assert_eq!(said("type"), [Some("endpoint"), Some("auth"), Some("auth")]);
        assert_eq!(said("username"), [None, Some("a"), Some("x")]);
        assert_eq!(said("password"), [None, Some("b;c"), Some("d")]);
        assert_eq!(said("realm"), [None, Some("r"), None]);
        assert!(!format!("{conf:?}").contains("b;c"));
    }

    #[test]
    fn a_file_that_includes_itself_comes_to_an_end() {
        let etc = etc(&[("logger.conf", "#include logger.conf\n#include logger.conf\n[a]\nb=c\n")]);
        let conf = Conf::read(etc.path(), "logger");
        assert!(conf.has_section("a") && conf.files().len() <= FILES_MAX);
        assert!(!Conf::read(etc.path(), "nothing").has_section("a"));
    }

    #[test]
    fn levels_are_read_as_asterisk_reads_them() {
        for (list, is) in [("[json]security", true), ("notice, SECURITY", true), ("*", true)] {
            assert_eq!(has(list, "security"), is, "{list}");
        }
        assert!(!has("notice,securityx", "security"));
    }
}

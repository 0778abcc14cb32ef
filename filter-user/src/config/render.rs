//! A configuration as text: the values in force with their origins, and a reference file to start from.

use std::net::IpAddr;

use serde_json::{Map, Value as Json, json};

use super::load::{Loaded, SetBy};
use super::{Config, schema};

/// A setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its path, such as `jails.asterisk-wazo.maxretry`.
    pub path: String,
    /// Its value, as a configuration file writes it.
    pub value: Json,
    /// Its origin.
    pub origin: SetBy,
    /// Its description.
    pub doc: String,
}

impl Loaded {
    /// Every setting in force, in the order of the reference file.
    pub fn effective(&self) -> Vec<Setting> {
        let mut config = self.config.clone();
        schema::fields(&mut config)
            .into_iter()
            .map(|field| Setting {
                value: field.kind.value(),
                origin: self.origin(&field.path).clone(),
                doc: field.doc,
                path: field.path,
            })
            .collect()
    }

    /// The configuration as a file that sets every key, with the origin of each as a comment.
    pub fn render_yaml(&self) -> String {
        self.render(|_every| true)
    }

    /// The same, without defaults.
    pub fn render_set(&self) -> String {
        let text = self.render(|setting| setting.origin != SetBy::Default);
        if text.is_empty() {
            "# nothing is set; every setting has its default\n".to_owned()
        } else {
            text
        }
    }

    fn render(&self, wanted: impl Fn(&Setting) -> bool) -> String {
        let mut yaml = Yaml::default();
        for setting in self.effective().into_iter().filter(wanted) {
            // A file's name may contain anything except NUL, even a line break.
            let origin = setting.origin.to_string().replace(char::is_control, "\u{fffd}");
            let line = format!("{}  # {origin}", flow(&setting.value));
            yaml.leaf(&setting.path, "", "", &line);
        }
        yaml.text
    }

    /// `{config, origins, files}`.
    pub fn render_json(&self) -> Json {
        let mut config = Map::new();
        let mut origins = Map::new();
        for setting in self.effective() {
            insert(&mut config, &schema::keys(&setting.path), setting.value);
            origins.insert(setting.path, Json::from(setting.origin.to_string()));
        }
        let files: Vec<Json> =
            self.files.iter().map(|file| Json::from(file.display().to_string())).collect();
        json!({"config": config, "origins": origins, "files": files})
    }
}

impl Config {
    /// A file that explains every setting, each commented out with its default.
    pub fn reference() -> String {
        let mut yaml = Yaml::default();
        for field in schema::fields(&mut Self::default()) {
            yaml.leaf(&field.path, &field.doc, "#", &flow(&field.kind.value()));
        }
        yaml.text
    }
}

/// Block YAML, leaf by leaf.
#[derive(Default)]
struct Yaml {
    text: String,
    /// The sections of the last leaf.
    open: Vec<String>,
}

impl Yaml {
    fn leaf(&mut self, path: &str, doc: &str, margin: &str, value: &str) {
        let mut sections: Vec<String> = schema::keys(path).into_iter().map(str::to_owned).collect();
        let key = sections.pop().unwrap_or_default();
        let shared = self.open.iter().zip(&sections).take_while(|(a, b)| a == b).count();
        for (level, section) in sections.iter().enumerate().skip(shared) {
            self.line(level, margin, &format!("{section}:"));
        }
        if !doc.is_empty() {
            self.line(sections.len(), margin, &format!("# {doc}"));
        }
        self.line(sections.len(), margin, &format!("{key}: {value}"));
        self.open = sections;
    }

    fn line(&mut self, level: usize, margin: &str, text: &str) {
        self.text.push_str(margin);
        self.text.extend(std::iter::repeat_n("  ", level));
        self.text.push_str(text);
        self.text.push('\n');
    }
}

fn insert(section: &mut Map<String, Json>, keys: &[&str], value: Json) {
    match keys {
        [] => {}
        [key] => {
            section.insert((*key).to_owned(), value);
        }
        [key, rest @ ..] => {
            let inner = section.entry(*key).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// A value in one line that every YAML reader takes for the same.
pub(super) fn flow(value: &Json) -> String {
    match value {
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Json::String(text) if is_plain(text) => text.clone(),
        Json::String(_) | Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => {
            // JSON is valid YAML.
            value.to_string()
        }
    }
}

/// Whether every YAML reader reads unquoted `text` as text.
fn is_plain(text: &str) -> bool {
    if text.contains(':') {
        return false;
    }
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let word = text.to_ascii_lowercase();
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    let reserved =
        matches!(&*word, "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | "null");
    let begins = word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    let says_text = word.bytes().any(|byte| byte == b'/' || b"dghklmnpqrstuvwyz".contains(&byte));
    begins && !reserved && says_text && word.bytes().all(harmless)
}

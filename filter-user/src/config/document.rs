//! The page `docs/configuration.md`, written from the table of settings.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value as Json;

use super::render::flow;
use super::schema::{self, Field};
use detection::settings::{self, built_in_jails};

use super::{Action, Alert, Config, Feed};

/// The placeholder for a jail of your own.
const OWN: &str = "my-jail";

/// The text before the tables.
const HEAD: &str = "\
# Configuration

<!-- Written from the declarations of the settings by a test. UPDATE_DOCS=1 cargo test -p filter-user --test documents -->

The daemon reads `/etc/ringfence/config.yml` and `conf.d/*.yml` beside it. As in Wazo's daemons, the files in
`conf.d` come first, in alphabetical order, and the first file that sets a key wins. Lists are replaced as a
whole. No file has to exist: the defaults suit a Wazo host. An unknown key is an error, which names the file, the
line and the most similar key.

`ringfence check-config` checks the files and prints what they set; with `--all` it prints the defaults too. A
change takes effect with `ringfence reload`, which names the settings that need a restart.

A dot in the first column stands for a nested section: `sip.udp` is written as

```yaml
sip:
  udp: [5060]
```

The keys after `bantime.` are the exception. As in fail2ban, they contain the dot:

```yaml
jails:
  asterisk-wazo:
    bantime: 2h
    bantime.increment: true
```

Write a duration as `90s`, `10m`, `1h30m` or `7d`, and a rate as `10/s`, `600/m` or `50/10s`.
";

/// The text before the table of jails. `BUILT_IN` stands for the names of the built-in ones.
const JAILS: &str = "
## Jails

`JAIL` is BUILT_IN or the name of a jail of your own. Not every jail has
every key; the table of defaults shows which it has.
";

/// The text after the tables.
const OWN_JAILS: &str = "
## Jails of your own

Any other name under `jails` that has a `filter` is a jail of your own. It reads logs or systemd's journal with a
fail2ban filter. [fail2ban.md](fail2ban.md#filters) says which parts of a filter are supported.

```yaml
jails:
  my-nginx:
    filter: /etc/fail2ban/filter.d/nginx-http-auth.conf
    log: [/var/log/nginx/*error.log]
    proven: true
    scope: http
    maxretry: 5
    findtime: 10m
    bantime: 10m
```

A name begins with a lower-case letter and has at most 32 lower-case letters, digits and `-`. At most 64 jails of
your own are possible. Options for the filter follow its name in brackets: `sshd[mode=aggressive]`.

Set `proven: true` only if the service uses TCP and only its server writes to the log. Without it, anybody could
cause a ban of another address, with a forged datagram or a forged line. Such a ban therefore closes only what
`unproven_scope` says.

`ringfence test-log my-nginx FILE` shows which lines of a log the jail recognises. `ringfence check-config` says
whether its filter can be used.
";

impl Config {
    /// The page that documents every setting.
    pub fn documentation() -> String {
        let mut config = Self::default();
        // One of your own jails, for the keys that only such a jail has.
        let added = settings::add(&mut config.jails, OWN);
        debug_assert_eq!(added, Ok(()), "the name is a valid one");
        // And a feed.
        config.feeds.insert("NAME".to_owned(), Feed::default());
        config.alerts.insert("NAME".to_owned(), Alert::default());
        config.actions.insert("NAME".to_owned(), Action::default());
        let fields = schema::fields(&mut config);
        let mut text = HEAD.to_owned();
        let mut sections: Vec<&str> = Vec::new();
        for section in fields.iter().map(|field| top(&field.path)) {
            if !sections.contains(&section) {
                sections.push(section);
            }
        }
        for section in sections {
            if section == "jails" {
                text.push_str(&jail_tables(&fields));
                continue;
            }
            let heading = if section.is_empty() { "General" } else { section };
            let _infallible = write!(text, "\n## {heading}\n\n{TABLE_HEAD}");
            for field in fields.iter().filter(|field| top(&field.path) == section) {
                text.push_str(&row(&field.path, field, &flow(&field.kind.value())));
            }
        }
        text.push_str(OWN_JAILS);
        text
    }
}

/// The section of a path, for the heading; empty for a setting in no section.
fn top(path: &str) -> &str {
    match path.split_once('.') {
        Some((top, _)) => top,
        None => "",
    }
}

const TABLE_HEAD: &str =
    "| setting | description | value | unit | default | example |\n|---|---|---|---|---|---|\n";

fn row(name: &str, field: &Field<'_>, default: &str) -> String {
    let unit = field.kind.unit();
    format!(
        "| `{name}` | {} | {} | {unit} | {} | `{}` |\n",
        cell(&field.doc),
        cell(&field.kind.expected()),
        code(default),
        flow(&field.kind.example()),
    )
}

/// Escapes text for a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn code(value: &str) -> String {
    if value.is_empty() { String::new() } else { format!("`{}`", cell(value)) }
}

/// The keys of a jail, and the default of each in each jail.
fn jail_tables(fields: &[Field<'_>]) -> String {
    let mut keys: Vec<(&str, &Field<'_>)> = Vec::new();
    let mut defaults: BTreeMap<(&str, &str), Json> = BTreeMap::new();
    let mut names: Vec<&str> = Vec::new();
    for field in fields {
        let Some((name, key)) =
            field.path.strip_prefix("jails.").and_then(|path| path.split_once('.'))
        else {
            continue;
        };
        if !names.contains(&name) {
            names.push(name);
        }
        if !keys.iter().any(|(known, _)| *known == key) {
            keys.push((key, field));
        }
        defaults.insert((name, key), field.kind.value());
    }
    let built_in: Vec<String> = built_in_jails().map(|(_, name)| code(name)).collect();
    let mut text = JAILS.replace("BUILT_IN", &built_in.join(", "));
    text.push_str("\n| setting | description | value | unit | example |\n|---|---|---|---|---|\n");
    for (key, field) in &keys {
        let _infallible = writeln!(
            text,
            "| `jails.JAIL.{key}` | {} | {} | {} | `{}` |",
            cell(&field.doc),
            cell(&field.kind.expected()),
            field.kind.unit(),
            flow(&field.kind.example()),
        );
    }
    text.push_str("\nThe defaults:\n\n| setting |");
    for name in &names {
        let title = if *name == OWN { "your own".to_owned() } else { format!("`{name}`") };
        let _infallible = write!(text, " {title} |");
    }
    let _infallible = writeln!(text, "\n|---|{}", "---|".repeat(names.len()));
    for (key, _) in &keys {
        let _infallible = write!(text, "| `{key}` |");
        for name in &names {
            let value = defaults.get(&(*name, *key)).map_or_else(String::new, flow);
            let _infallible = write!(text, " {} |", code(&value));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_setting_is_described_and_its_example_is_accepted() {
        let mut config = Config::default();
        for field in schema::fields(&mut config) {
            let Field { path, doc, .. } = &field;
            assert!(doc.ends_with('.') && doc.len() > 10, "{path}: {doc}");
            let keys = schema::keys(path);
            let mut text = String::new();
            for (level, key) in keys.iter().enumerate() {
                let _infallible = write!(text, "\n{}{key}:", "  ".repeat(level));
            }
            let _infallible = write!(text, " {}", flow(&field.kind.example()));
            if matches!(path.as_str(), "geo.ban" | "geo.admit") {
                text.push_str("\n  databases: [/usr/share/GeoIP/GeoLite2-Country.mmdb]");
            }
            let read = Config::parse(Path::new("example.yml"), text.trim_start().as_bytes());
            assert!(read.is_ok(), "{text}\n{}", read.unwrap_err());
        }
    }
}

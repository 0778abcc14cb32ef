//! Asterisk's `logger.conf` and `manager.conf`: whether they have Asterisk say what Ringfence reads.

use std::fs;
use std::path::Path;

use super::{Finding, Fix};
use crate::config::Config;

/// The most of one file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// One `key = value` or `key => value`, and the section that it is in.
struct Setting {
    section: String,
    key: String,
    value: String,
}

pub(super) fn examine(config: &Config, etc: &Path) -> Vec<Finding> {
    if !etc.is_dir() {
        let problem = format!("there is no {}", etc.display());
        return vec![Finding::new("asterisk", problem, "name it with `--asterisk-config DIR`")];
    }
    let mut findings = logger(config, etc);
    if config.sources.asterisk.ami.enabled {
        findings.extend(manager(config, etc));
    }
    findings
}

/// Whether each log that is read is one that Asterisk writes, with its level.
fn logger(config: &Config, etc: &Path) -> Vec<Finding> {
    let settings = settings(etc, "logger");
    let source = &config.sources.asterisk;
    let mut findings = Vec::new();
    let wanted = [
        ("asterisk-notice", Some(&source.notice_log), "notice", "notice"),
        ("asterisk-security", source.security_log.as_ref(), "security", "[json]security"),
    ];
    for (name, log, level, levels) in wanted {
        let Some(log) = log else { continue };
        let file = log.file_name().unwrap_or_default().to_string_lossy();
        let writes = settings.iter().any(|setting| {
            let same = Path::new(&setting.key).file_name() == log.file_name();
            setting.section == "logfiles" && same && has(&setting.value, level)
        });
        if writes {
            continue;
        }
        let mut finding = Finding::new(
            name,
            format!("logger.conf has no `{file}` with the level {level}"),
            format!("under [logfiles]: `{file} => {levels}`; then `asterisk -rx 'logger reload'`"),
        );
        if level == "security" && file == "security" {
            finding.fix = Some(Fix::Logger { etc: etc.to_owned() });
        }
        findings.push(finding);
    }
    findings
}

/// Whether AMI has the user, and gives it security events.
fn manager(config: &Config, etc: &Path) -> Vec<Finding> {
    let ami = &config.sources.asterisk.ami;
    let settings = settings(etc, "manager");
    let values = |section: &str, key: &str| {
        let of = |s: &&Setting| s.section == section && s.key.eq_ignore_ascii_case(key);
        settings.iter().filter(of).map(|s| s.value.as_str()).collect::<Vec<_>>()
    };
    let mut findings = Vec::new();
    let mut find = |problem: String, mend: String| {
        findings.push(Finding::new("asterisk-ami", problem, mend));
    };
    let yes = |value: &&&str| ["yes", "true", "on", "1", "y", "t"].contains(&&***value);
    if values("general", "enabled").iter().rfind(yes).is_none() {
        let mend = "under [general]: `enabled = yes`; then `asterisk -rx 'manager reload'`";
        find("manager.conf does not switch AMI on".to_owned(), mend.to_owned());
    }
    if !settings.iter().any(|setting| setting.section == ami.user) {
        find(
            format!("manager.conf has no user `{}`", ami.user),
            "`ringfence doctor --fix` adds the one that Ringfence ships".to_owned(),
        );
        if let Some(finding) = findings.last_mut().filter(|_| ami.user == "ringfence") {
            finding.fix = Some(Fix::Manager { etc: etc.to_owned() });
        }
    } else if !values(&ami.user, "read")
        .iter()
        .any(|read| has(read, "security") || has(read, "all"))
    {
        find(
            format!("AMI's user `{}` gets no security events", ami.user),
            format!("in its section [{}]: `read = security`", ami.user),
        );
    }
    if !ami.secret_file.exists() {
        let problem = format!("there is no {} with its secret", ami.secret_file.display());
        let mend = "`ringfence doctor --fix` makes one; then `asterisk -rx 'manager reload'`";
        let fix = Some(Fix::Secret { file: ami.secret_file.clone() });
        findings.push(Finding { fix, ..Finding::new("asterisk-ami", problem, mend) });
    }
    findings
}

/// Whether `word` is in a list such as `notice,warning` or `[json]security`.
fn has(list: &str, word: &str) -> bool {
    let list = list.trim_start();
    let list = list.strip_prefix('[').and_then(|l| l.split_once(']')).map_or(list, |(_, l)| l);
    list.split(',').any(|item| item.trim().eq_ignore_ascii_case(word))
}

/// The settings of `NAME.conf`, and of `NAME.d/*.conf` where that is included.
fn settings(etc: &Path, name: &str) -> Vec<Setting> {
    let main = read(&etc.join(format!("{name}.conf")));
    let directory = format!("{name}.d");
    let includes = main.lines().map(str::trim_start).any(|line| {
        let rest = line.strip_prefix("#include").or_else(|| line.strip_prefix("#tryinclude"));
        rest.is_some_and(|rest| rest.contains(&format!("{directory}/")))
    });
    let mut texts = vec![main];
    if includes && let Ok(entries) = fs::read_dir(etc.join(directory)) {
        let files = entries.flatten().map(|entry| entry.path());
        texts
            .extend(files.filter(|f| f.extension().is_some_and(|e| e == "conf")).map(|f| read(&f)));
    }
    texts.iter().flat_map(|text| parse(text)).collect()
}

fn read(file: &Path) -> String {
    let small = fs::metadata(file).is_ok_and(|metadata| metadata.len() <= FILE_MAX);
    let bytes = if small { fs::read(file).unwrap_or_default() } else { Vec::new() };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `[section](options)`, `key = value` and `key => value`; a `;` begins a comment.
fn parse(text: &str) -> Vec<Setting> {
    let mut section = String::new();
    let mut settings = Vec::new();
    for line in text.lines() {
        let line = line.split(';').next().unwrap_or_default().trim();
        if let Some(rest) = line.strip_prefix('[') {
            rest.split(']').next().unwrap_or_default().clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once('=') {
            let value = value.strip_prefix('>').unwrap_or(value).trim().to_owned();
            settings.push(Setting { section: section.clone(), key: key.trim().to_owned(), value });
        }
    }
    settings
}

//! Asterisk's `logger.conf` and `manager.conf`: whether Asterisk writes the logs and events that
//! Ringfence reads.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::unistd::User;

use super::conf::{Conf, has};
use super::{Finding, Fix, Host};
use crate::config::Config;
use crate::hearing::{AMI, NOTICE, SECURITY};

/// The directory of a log whose name in `logger.conf` has no directory.
const LOG_DIRECTORY: &str = "/var/log/asterisk";

pub(super) fn examine(config: &Config, host: &Host) -> Vec<Finding> {
    let etc = &host.asterisk;
    if !etc.is_dir() {
        let problem = format!("there is no {}", etc.display());
        return vec![Finding::new("asterisk", problem, "name it with `--asterisk-config DIR`")];
    }
    let mut findings = logger(config, etc);
    if config.sources.asterisk.ami.enabled {
        findings.extend(manager(config, etc));
    }
    findings.extend(rotation(config, host));
    findings
}

/// Checks that Asterisk writes each log that is read, with its level.
fn logger(config: &Config, etc: &Path) -> Vec<Finding> {
    let conf = Conf::read(etc, "logger");
    let source = &config.sources.asterisk;
    let mut findings = unreadable(NOTICE, &conf);
    let wanted = [
        (NOTICE, Some(&source.notice_log), "notice", "ringfence-notice.conf"),
        (SECURITY, source.security_log.as_ref(), "[json]security", "ringfence.conf"),
    ];
    for (name, log, levels, drop_in) in wanted {
        let Some(log) = log else { continue };
        let level = levels.trim_start_matches("[json]");
        let file = log.file_name().unwrap_or_default().to_string_lossy();
        let writes = conf.section("logfiles").any(|setting| {
            let same = Path::new(&setting.key).file_name() == log.file_name();
            same && has(&setting.value, level)
        });
        if writes {
            findings.extend(mixed(name, level, &levels_of(etc, log).unwrap_or_default(), &file));
            continue;
        }
        // The name in Asterisk's form: a path only if the log is not in the directory of its logs.
        let plain = log.parent() == Some(Path::new(LOG_DIRECTORY));
        let channel = if plain { file.clone() } else { log.to_string_lossy() };
        let mut finding = Finding::new(
            name,
            format!("logger.conf has no `{file}` with the level {level}"),
            format!(
                "write `{channel} => {levels}` under [logfiles], then type `asterisk -rx 'logger \
                 reload'`"
            ),
        );
        let drop_in = Fix::Logger {
            file: etc.join("logger.d").join(drop_in),
            channel: channel.into_owned(),
            levels,
        };
        if drop_in.is_to_do() {
            finding.fix = Some(drop_in.clone());
        }
        findings.push(finding);
        findings.extend(not_included(name, &conf, &etc.join("logger.conf"), &drop_in));
    }
    findings
}

/// The value of `dateformat` in `logger.conf`.
pub(crate) fn dateformat(etc: &Path) -> Option<String> {
    let conf = Conf::read(etc, "logger");
    conf.values("general", "dateformat").last().map(|format| (*format).to_owned())
}

/// The levels that Asterisk writes to a log, according to its configuration in `etc`; `None` if it does
/// not.
pub(crate) fn levels_of(etc: &Path, log: &Path) -> Option<String> {
    let conf = Conf::read(etc, "logger");
    let same = |key: &str| Path::new(key).file_name() == log.file_name();
    let levels: Vec<String> = conf
        .section("logfiles")
        .filter(|setting| same(&setting.key))
        .map(|setting| setting.value.clone())
        .collect();
    levels.into_iter().next_back()
}

/// The levels other than `level` in a line of `logger.conf`.
pub(crate) fn other_levels(levels: &str, level: &str) -> Vec<String> {
    let list = levels.trim_start();
    let list = list.strip_prefix('[').and_then(|l| l.split_once(']')).map_or(list, |(_, l)| l);
    let words = list.split([',', '|']).map(|word| word.trim().to_lowercase());
    words.filter(|word| !word.is_empty() && word != level).collect()
}

/// A finding for a log of notices with other levels, which repeat text of attackers, even whole lines.
fn mixed(name: &str, level: &str, levels: &str, file: &str) -> Option<Finding> {
    let others = other_levels(levels, level);
    (level == "notice" && !others.is_empty()).then(|| {
        Finding::new(
            name,
            format!(
                "`{file}` also has levels other than {level} ({}), in which an attacker can write \
                 whole lines",
                others.join(", ")
            ),
            "use a separate log for notices: write `fail2ban => notice` under [logfiles] in \
             logger.conf, and set `sources: {asterisk: {notice_log: /var/log/asterisk/fail2ban}}`",
        )
    })
}

/// Checks that AMI has the user, and sends it security events.
fn manager(config: &Config, etc: &Path) -> Vec<Finding> {
    let ami = &config.sources.asterisk.ami;
    let conf = Conf::read(etc, "manager");
    let mut findings = unreadable(AMI, &conf);
    let mut find =
        |problem: String, remedy: String| findings.push(Finding::new(AMI, problem, remedy));
    if conf.values("general", "enabled").last().is_none_or(|value| !is_yes(value)) {
        let remedy = "write `enabled = yes` under [general], then type `asterisk -rx 'manager \
                    reload'`";
        find("manager.conf does not enable AMI".to_owned(), remedy.to_owned());
    }
    let port = conf.values("general", "port").last().map_or("5038", |port| *port).to_owned();
    if port != ami.port.to_string() {
        find(
            format!("manager.conf sets AMI's port to {port}, but Ringfence uses {}", ami.port),
            format!("`sources: {{asterisk: {{ami: {{port: {port}}}}}}}`"),
        );
    }
    let reads = conf.values(&ami.user, "read");
    if !conf.has_section(&ami.user) {
        let shipped = ami.user == "ringfence";
        find(
            format!("manager.conf has no user `{}`", ami.user),
            if shipped {
                "`ringfence doctor --fix` adds Ringfence's user".to_owned()
            } else {
                format!("add it with `read = security`: `[{}]`", ami.user)
            },
        );
        if shipped {
            let (file, secret) = (etc.join("manager.d/ringfence.conf"), ami.secret_file.clone());
            let drop_in = Fix::Manager { file, secret };
            if let Some(finding) = findings.last_mut().filter(|_| drop_in.is_to_do()) {
                finding.fix = Some(drop_in.clone());
            }
            findings.extend(not_included(AMI, &conf, &etc.join("manager.conf"), &drop_in));
        }
    } else if !reads.iter().any(|read| has(read, "security") || has(read, "all")) {
        find(
            format!("the AMI user `{}` receives no security events", ami.user),
            format!("write `read = security` in its section [{}]", ami.user),
        );
    } else if conf.section(&ami.user).any(|s| s.key.to_ascii_lowercase().starts_with("eventfilter"))
    {
        find(
            format!("an `eventfilter` withholds events from the AMI user `{}`", ami.user),
            format!("remove it from its section [{}]", ami.user),
        );
    }
    findings.extend(secret(&ami.secret_file));
    findings
}

/// Whether Asterisk reads a value as true (`ast_true`).
fn is_yes(value: &str) -> bool {
    ["yes", "true", "y", "t", "1", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

/// Checks that the secret exists, and that only Asterisk can read it.
fn secret(file: &Path) -> Option<Finding> {
    let shown = file.display();
    let Ok(metadata) = fs::metadata(file) else {
        let remedy =
            "`ringfence doctor --fix` creates it; then type `asterisk -rx 'manager reload'`";
        let fix = Some(Fix::Secret { file: file.to_owned() });
        return Some(Finding {
            fix,
            ..Finding::new(AMI, format!("the file {shown} with its secret does not exist"), remedy)
        });
    };
    if metadata.permissions().mode() & 0o007 != 0 {
        let remedy = format!("chmod 0640 {shown}; chown root:asterisk {shown}");
        return Some(Finding::new(AMI, format!("everybody may read its secret, {shown}"), remedy));
    }
    let directory = file.parent()?;
    let mode = fs::metadata(directory).ok()?.permissions().mode();
    (User::from_name("asterisk").ok()?.is_some() && mode & 0o001 == 0).then(|| {
        let directory = directory.display();
        let problem = format!("Asterisk cannot enter {directory} to read its secret");
        Finding::new(AMI, problem, format!("chmod 0755 {directory}"))
    })
}

/// A finding if `main` does not include the directory of Ringfence's file.
fn not_included(subject: &str, conf: &Conf, main: &Path, drop_in: &Fix) -> Option<Finding> {
    let directory = drop_in.file().parent()?.file_name()?.to_string_lossy().into_owned();
    if conf.includes(drop_in.file()) || !main.exists() {
        return None;
    }
    let line = format!("#include {directory}/*.conf");
    let name = main.file_name()?.to_string_lossy();
    let problem =
        format!("{name} does not include {directory}/, where Ringfence installs its file");
    let mut finding =
        Finding::new(subject, problem, format!("write `{line}` at the end of {name}"));
    finding.fix = Some(Fix::Include { file: main.to_owned(), line });
    Some(finding)
}

/// Configuration files that Asterisk's user cannot read.
fn unreadable(subject: &str, conf: &Conf) -> Vec<Finding> {
    let Ok(Some(asterisk)) = User::from_name("asterisk") else { return Vec::new() };
    let hidden = conf.files().iter().filter(|file| {
        fs::metadata(file).is_ok_and(|metadata| {
            let mode = metadata.mode();
            let may = [
                (metadata.uid() == asterisk.uid.as_raw(), 0o400),
                (metadata.gid() == asterisk.gid.as_raw(), 0o040),
                (true, 0o004),
            ];
            !may.iter().any(|(is, bit)| *is && mode & bit != 0)
        })
    });
    let finding = |file: &std::path::PathBuf| {
        let file = file.display();
        let problem = format!("Asterisk cannot read {file}");
        Finding::new(subject, problem, format!("chown root:asterisk {file}; chmod 0640 {file}"))
    };
    hidden.map(finding).collect()
}

/// Checks that the `security` log, which no package configures, is rotated.
fn rotation(config: &Config, host: &Host) -> Option<Finding> {
    let log = config.sources.asterisk.security_log.as_ref()?;
    let directory = host.etc.join("logrotate.d");
    let files = fs::read_dir(&directory).ok()?.flatten();
    let rotated = files.filter_map(|file| fs::read_to_string(file.path()).ok()).any(|text| {
        text.split([' ', '\t', '\n', '{', '"'])
            .filter(|word| word.starts_with('/'))
            .any(|word| glob::Pattern::new(word).is_ok_and(|pattern| pattern.matches_path(log)))
    });
    if rotated {
        return None;
    }
    let shown = log.display();
    let problem =
        format!("no file in {} rotates {shown}, which grows for ever", directory.display());
    let fix = Fix::Logrotate { file: directory.join("ringfence"), log: log.clone() };
    let remedy = "`ringfence doctor --fix` installs the one that Ringfence ships";
    let fix = fix.is_to_do().then_some(fix);
    Some(Finding { fix, ..Finding::new(SECURITY, problem, remedy) })
}

//! Other programs on the host that prevent failures from being recognised, or that ban too.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use super::Finding;
use crate::child;
use crate::config::Config;
use crate::inputs::{self, Input};
use crate::register::{SOURCES, Source};

/// How long a program may take to answer, and how often to look whether it has.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// The most bytes of its answer.
const OUTPUT_MAX: u64 = 1 << 20;

/// With a lower limit per interval, journald drops lines that a guesser causes.
const FEW_MESSAGES: u64 = 1000;

/// The host, as the doctor reads it.
#[derive(Clone, Debug)]
pub struct Host {
    /// Asterisk's configuration directory.
    pub asterisk: PathBuf,
    /// The host's configuration directory.
    pub etc: PathBuf,
    /// The directory of data of this boot.
    pub run: PathBuf,
    /// Runs a program, and returns its output if it succeeded.
    pub ask: fn(&[&str]) -> Option<String>,
}

impl Host {
    /// The real host, with Asterisk's configuration in `asterisk`.
    pub fn new(asterisk: &Path) -> Self {
        Self { asterisk: asterisk.to_owned(), etc: "/etc".into(), run: "/run".into(), ask }
    }
}

/// What a program prints. It is killed if that takes too long or is too much. The daemon asks too, so the program gets
/// no capabilities.
fn ask(command: &[&str]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    if !child::exists(Path::new(program)) {
        return None;
    }
    let mut command = child::command(program);
    let command = command.as_std_mut();
    command.args(arguments).env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut asked = command.spawn().ok()?;
    let output = asked.stdout.take()?;
    let reading = thread::spawn(move || {
        let mut said = Vec::new();
        output.take(OUTPUT_MAX).read_to_end(&mut said).ok().map(|_length| said)
    });
    let deadline = Instant::now() + PATIENCE;
    while !reading.is_finished() && Instant::now() < deadline {
        thread::sleep(POLL);
    }
    let is_late = !reading.is_finished();
    asked.kill().ok();
    asked.wait().ok();
    if is_late {
        // A child of its own may still have the pipe.
        return None;
    }
    let said = reading.join().ok()??;
    Some(String::from_utf8_lossy(&said).into_owned())
}

pub(super) fn examine(config: &Config, host: &Host) -> Vec<Finding> {
    let findings = [service(host), fail2ban(config, host)];
    findings.into_iter().flatten().chain(journal(config, host)).collect()
}

/// Whether the service, if it is installed, starts at the next boot.
fn service(host: &Host) -> Option<Finding> {
    if !host.run.join("systemd/system").exists() {
        return None;
    }
    let enabled = (host.ask)(&["systemctl", "is-enabled", "ringfence.service"])?;
    (enabled.trim() == "disabled").then(|| {
        let problem = "ringfence.service does not start with the host";
        Finding::new("daemon", problem, "systemctl enable ringfence")
    })
}

/// Whether fail2ban has the same jails: each program then lifts bans that the other still has.
fn fail2ban(config: &Config, host: &Host) -> Option<Finding> {
    let pid = fs::read_to_string(host.run.join("fail2ban/fail2ban.pid")).ok()?;
    let running = pid
        .trim()
        .parse::<u32>()
        .is_ok_and(|pid| Path::new("/proc").join(pid.to_string()).exists());
    let jails = (host.ask)(&["fail2ban-client", "status"]).filter(|_said| running)?;
    let (_, jails) = jails.split_once("Jail list:")?;
    let own = |jail: &&str| config.jails.get(*jail).is_some_and(|jail| jail.enabled);
    let both: Vec<&str> = jails.lines().next()?.split(',').map(str::trim).filter(own).collect();
    (!both.is_empty()).then(|| {
        let sections = both.join(" ");
        Finding::new(
            "fail2ban",
            format!("fail2ban also bans, with these jails: {}", both.join(", ")),
            format!(
                "printf '[%s]\\nenabled = false\\n' {sections} > /etc/fail2ban/jail.d/ringfence.local; \
                 systemctl reload fail2ban"
            ),
        )
    })
}

/// Whether journald keeps sshd's messages, if the journal is read.
fn journal(config: &Config, host: &Host) -> Vec<Finding> {
    let reads = |source: &&Source| {
        config.jails.get(source.jail).is_some_and(|jail| jail.enabled)
            && inputs::of(source, config, &host.run) == Some(Input::JournalOfSshd)
    };
    let Some(source) = SOURCES.iter().find(reads) else { return Vec::new() };
    let text = journald_conf(&host.etc);
    let value = |key: &str| {
        let settings = text.lines().filter_map(|line| line.trim().split_once('='));
        settings.filter(|(k, _)| k.trim() == key).map(|(_, v)| v.trim()).next_back()
    };
    let mut findings = Vec::new();
    if value("Storage") == Some("none") {
        let problem = "journald stores nothing (`Storage=none`), so there is no journal to read";
        let remedy = "write `Storage=auto` in /etc/systemd/journald.conf, then type `systemctl \
                    restart systemd-journald`";
        findings.push(Finding::new(source.name, problem, remedy));
    }
    let burst = value("RateLimitBurst").and_then(|burst| burst.parse::<u64>().ok());
    if let Some(burst) = burst.filter(|burst| (1..FEW_MESSAGES).contains(burst)) {
        let problem = format!(
            "journald drops sshd's messages beyond {burst} in an interval (`RateLimitBurst`)"
        );
        let remedy = "write `RateLimitBurst=10000` in /etc/systemd/journald.conf, then type \
                    `systemctl restart systemd-journald`";
        findings.push(Finding::new(source.name, problem, remedy));
    }
    findings
}

/// `journald.conf` and then its drop-ins; the last one applies.
fn journald_conf(etc: &Path) -> String {
    let systemd = etc.join("systemd");
    let drop_ins = fs::read_dir(systemd.join("journald.conf.d")).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = drop_ins.map(|entry| entry.path()).collect();
    files.sort();
    files.insert(0, systemd.join("journald.conf"));
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    texts.collect::<Vec<_>>().join("\n")
}

//! Sends a message: to a command, a webhook, a mail server or syslog, with bounds on time, memory and number.
//!
//! Must never put a part of a message on a command line, into the environment or into a header, or delay the
//! loop.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use api::AlertSeverity;
use jiff::Timestamp;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixDatagram;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::crowdsec::Crowdsec;
use super::message::{Message, signature};
use crate::child::{self, PATH};
use crate::config::{Action, Alert, Argument, Hook, Mailbox, Place};
use crate::curl::{self, option};

/// How long a command may take.
const COMMAND_MAX: Duration = Duration::from_secs(30);

/// How long curl may take, and how long to wait for it.
const REQUEST_MAX: Duration = Duration::from_secs(25);
const CURL_MAX: Duration = Duration::from_secs(30);

/// The longest answer of a server that is read.
const ANSWER_MAX: usize = 64 * 1024;

/// How much of an error is shown.
const ERROR_MAX: usize = 300;

/// What a command says before it ends is read for so long.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Where syslog listens.
const SYSLOG: &str = "/dev/log";

/// How messages are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Command(Vec<Argument>),
    Webhook { url: Place, key_file: Option<PathBuf> },
    Mail(Box<Mail>),
    Syslog,
    Crowdsec(Crowdsec),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mail {
    to: Vec<Mailbox>,
    from: Option<Mailbox>,
    smtp: crate::config::Smtp,
    login_file: Option<PathBuf>,
}

impl Way {
    /// The way of an alert. Exactly one is set.
    pub(super) fn of_alert(alert: &Alert) -> Self {
        if let Some(way) = Self::of_hook(&alert.hook) {
            return way;
        }
        if alert.mail.is_empty() {
            return Self::Syslog;
        }
        Self::Mail(Box::new(Mail {
            to: alert.mail.clone(),
            from: alert.from.clone(),
            smtp: alert.smtp.clone(),
            login_file: alert.login_file.clone(),
        }))
    }

    /// The way of an action. Exactly one is set.
    pub(super) fn of_action(action: &Action) -> Self {
        if let Some(file) = &action.crowdsec {
            return Self::Crowdsec(Crowdsec::new(file));
        }
        Self::of_hook(&action.hook).unwrap_or_else(|| Self::Command(Vec::new()))
    }

    fn of_hook(Hook { command, webhook, key_file }: &Hook) -> Option<Self> {
        match webhook {
            Some(url) => Some(Self::Webhook { url: url.clone(), key_file: key_file.clone() }),
            None => (!command.is_empty()).then(|| Self::Command(command.clone())),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::Webhook { .. } => "webhook",
            Self::Mail(_) => "mail",
            Self::Syslog => "syslog",
            Self::Crowdsec(_) => "crowdsec",
        }
    }

    /// Sends a message, once.
    ///
    /// # Errors
    ///
    /// If it was not taken; the error says why.
    pub(super) async fn send(&self, message: &Message, host: &str) -> Result<(), String> {
        let sent = match self {
            Self::Command(words) => run(words, &message.json, COMMAND_MAX).await,
            Self::Webhook { url, key_file } => post(url, key_file.as_ref(), &message.json).await,
            Self::Mail(mail) => mail.send(message, host).await,
            Self::Syslog => log(message, Path::new(SYSLOG)).await,
            Self::Crowdsec(crowdsec) => crowdsec.send(&message.json).await,
        };
        sent.map_err(|why| shown(&why))
    }
}

/// An error in one line that is not too long.
fn shown(text: &str) -> String {
    text.escape_debug().to_string().chars().take(ERROR_MAX).collect()
}

/// Runs a command with the document as its input.
async fn run(words: &[Argument], document: &str, most: Duration) -> Result<(), String> {
    let Some((program, arguments)) = words.split_first() else {
        return Err("the command is empty".to_owned());
    };
    let mut command = child::command(program.as_str());
    command.args(arguments.iter().map(Argument::as_str));
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8").current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    // So that what it has started ends with it.
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("run setpriv: {error}"))?;
    let group = Group(child.id());
    let (Some(mut stdin), Some(mut stderr)) = (child.stdin.take(), child.stderr.take()) else {
        return Err("the command has no input or output".to_owned());
    };
    let give = async move {
        // It need not read.
        let _given = async {
            stdin.write_all(document.as_bytes()).await?;
            // So that several in one file are lines.
            stdin.write_all(b"\n").await
        }
        .await;
    };
    let mut said = Vec::new();
    let ended = {
        let listen = async {
            let mut part = [0; 1024];
            while let Ok(1..) = stderr.read(&mut part).await.inspect(|length| {
                if said.len() < ERROR_MAX {
                    said.extend_from_slice(part.get(..*length).unwrap_or_default());
                }
            }) {}
        };
        let end = async {
            let status = child.wait().await;
            // A process that it has left behind may hold these open.
            drop(timeout(LAST_WORDS, std::future::pending::<()>()).await);
            status
        };
        let all = async {
            tokio::pin!(give, listen, end);
            let (mut has_given, mut has_listened) = (false, false);
            loop {
                tokio::select! {
                    () = &mut give, if !has_given => has_given = true,
                    () = &mut listen, if !has_listened => has_listened = true,
                    status = &mut end => return status,
                }
            }
        };
        timeout(most, all).await
    };
    drop(group);
    let Ok(status) = ended else {
        return Err(format!("the command did not end within {} s", most.as_secs()));
    };
    let status = status.map_err(|error| format!("wait for the command: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let first = said.lines().next().unwrap_or_default().trim();
    Err(format!("the command failed ({status}): {first}"))
}

/// A group of processes, which ends with this.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id {
            // All of them may have ended.
            killpg(Pid::from_raw(id), Signal::SIGKILL).ok();
        }
    }
}

/// The options that all requests have.
fn options() -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(128 * 1024));
    text.push_str("silent\nshow-error\nconnect-timeout = 10\n");
    let _infallible = writeln!(text, "max-time = {}", REQUEST_MAX.as_secs());
    text
}

async fn ask(input: &str) -> Result<Vec<u8>, String> {
    let run = curl::run(input, ANSWER_MAX);
    let (bytes, said) = timeout(CURL_MAX, run)
        .await
        .map_err(|_elapsed| "curl did not end in time".to_owned())??;
    bytes.ok_or(said)
}

/// Posts the document.
async fn post(url: &Place, key_file: Option<&PathBuf>, document: &str) -> Result<(), String> {
    let secret;
    let url = match url {
        Place::Url(url) => url.as_str(),
        Place::File(file) => {
            secret = curl::key(file)?;
            match secret.parse() {
                Ok(Place::Url(_)) => secret.as_str(),
                Ok(Place::File(_)) | Err(_) => {
                    return Err(format!("the first line of {} is no URL", file.display()));
                }
            }
        }
    };
    let key = key_file.map(|file| curl::key(file)).transpose()?;
    let signature = key.as_ref().map(|key| signature(key, document));
    let input = webhook(url, signature.as_deref(), document).map_err(|why| why.to_string())?;
    let answer = ask(&input).await.map_err(|why| why.replace(url, "URL"))?;
    match std::str::from_utf8(&answer).ok().and_then(|status| status.parse::<u16>().ok()) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(format!("the server answers {status}")),
        None => Err("curl printed no status".to_owned()),
    }
}

fn webhook(
    url: &str,
    signature: Option<&str>,
    document: &str,
) -> anyhow::Result<Zeroizing<String>> {
    let mut text = options();
    text.push_str("user-agent = \"ringfence\"\nnoproxy = \"*\"\n");
    let is_secure = url.starts_with("https://");
    text.push_str(if is_secure { "proto = \"=https\"\n" } else { "proto = \"=http\"\n" });
    // Only the status matters.
    text.push_str("output = \"/dev/null\"\n");
    option(&mut text, "write-out", "%{http_code}")?;
    option(&mut text, "url", url)?;
    option(&mut text, "header", "Content-Type: application/json")?;
    // Curl would wait for leave to send a long one.
    option(&mut text, "header", "Expect:")?;
    if let Some(signature) = signature {
        option(&mut text, "header", &format!("X-Ringfence-Signature: {signature}"))?;
    }
    option(&mut text, "data-raw", document)?;
    Ok(text)
}

impl Mail {
    async fn send(&self, message: &Message, host: &str) -> Result<(), String> {
        let login = self.login_file.as_ref().map(|file| curl::key(file)).transpose()?;
        let login = login.as_ref().map(|login| login.as_str());
        let input = self.input(message, (host, login), Timestamp::now());
        let input = input.map_err(|why| why.to_string())?;
        ask(&input).await.map(drop)
    }

    fn input(
        &self,
        message: &Message,
        (host, login): (&str, Option<&str>),
        now: Timestamp,
    ) -> anyhow::Result<Zeroizing<String>> {
        let mut text = options();
        let url = self.smtp.as_str();
        text.push_str("proto = \"=smtp,smtps\"\n");
        option(&mut text, "url", &format!("{url}/{host}"))?;
        if !self.smtp.is_here() {
            // With STARTTLS, or not at all.
            text.push_str("ssl-reqd\n");
        }
        if let Some(login) = login {
            option(&mut text, "user", login)?;
        }
        let own = format!("ringfence@{host}");
        let from = self.from.as_ref().map_or(own.as_str(), Mailbox::as_str);
        option(&mut text, "mail-from", from)?;
        for to in &self.to {
            option(&mut text, "mail-rcpt", to.as_str())?;
        }
        let to: Vec<&str> = self.to.iter().map(Mailbox::as_str).collect();
        let date = now.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
        let id = format!("<{:x}.{:x}@{host}>", now.as_nanosecond(), fastrand::u64(..));
        for (name, value) in [
            ("Date", &*date),
            ("From", from),
            // One header of all would be too long.
            ("To", if let [one] = &to[..] { one } else { "undisclosed-recipients:;" }),
            ("Message-ID", &*id),
            ("Subject", &*message.subject),
            // No holiday replies (RFC 3834).
            ("Auto-Submitted", "auto-generated"),
            ("X-Priority", if message.severity == AlertSeverity::Critical { "1" } else { "3" }),
        ] {
            option(&mut text, "header", &format!("{name}: {value}"))?;
        }
        let part =
            |content: &str, kind| format!("=\"{}\";type={kind};encoder=base64", quoted(content));
        option(&mut text, "form", &part(&message.text, "text/plain;charset=utf-8"))?;
        let document = part(&message.json, "application/json;filename=ringfence.json");
        option(&mut text, "form", &document)?;
        Ok(text)
    }
}

/// The content of a part in quotes, as curl reads it. Line breaks are those of a mail.
fn quoted(content: &str) -> String {
    let mut text = String::with_capacity(content.len() + content.len() / 4);
    for c in content.chars() {
        match c {
            '"' | '\\' => text.push('\\'),
            '\n' => text.push('\r'),
            _ => {}
        }
        text.push(c);
    }
    text
}

/// Sends the document to syslog, with the facility `daemon` (RFC 3164).
async fn log(message: &Message, place: &Path) -> Result<(), String> {
    let severity = match message.severity {
        AlertSeverity::Critical => 2,
        AlertSeverity::Warning => 4,
        AlertSeverity::Notice => 5,
    };
    let priority = 3 * 8 + severity;
    let line = format!("<{priority}>ringfence-alert[{}]: {}", std::process::id(), message.json);
    let failed = |error: std::io::Error| format!("{}: {error}", place.display());
    let socket = UnixDatagram::unbound().map_err(failed)?;
    socket.connect(place).map_err(failed)?;
    let send = timeout(Duration::from_secs(5), socket.send(line.as_bytes()));
    send.await
        .map_err(|_elapsed| format!("{} does not read", place.display()))?
        .map(drop)
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    fn sh(script: &str) -> Vec<Argument> {
        ["/bin/sh", "-c", script].iter().map(|word| word.parse().unwrap()).collect()
    }

    const LONG: Duration = Duration::from_mins(1);

    /// Shell, header and template characters, in every place that an attacker may fill.
    const FOREIGN: &str = "{\"a\":\"$(touch x)`id`; -x --y=z\\r\\nBcc: q %s {{7*7}}\"}";

    #[tokio::test]
    async fn a_command_gets_the_document_and_nothing_else() {
        let directory = TempDir::new().unwrap();
        let file = |name: &str| directory.path().join(name);
        let script = format!(
            "cat > {}; env > {}; echo $# > {}; pwd >> {}",
            file("document").display(),
            file("environment").display(),
            file("arguments").display(),
            file("arguments").display(),
        );
        run(&sh(&script), FOREIGN, LONG).await.unwrap();
        let read = |name: &str| fs::read_to_string(file(name)).unwrap();
        assert_eq!(read("document"), format!("{FOREIGN}\n"));
        assert_eq!(read("arguments"), "0\n/\n");
        let environment = read("environment");
        let names: Vec<&str> =
            environment.lines().filter_map(|line| line.split('=').next()).collect();
        let own = |name: &&&str| ["PATH", "LC_ALL", "PWD", "SHLVL", "_", "OLDPWD"].contains(*name);
        assert_eq!(names.iter().filter(own).count(), names.len(), "{environment}");
    }

    #[tokio::test]
    async fn a_command_that_fails_says_why() {
        let failed = run(&sh("echo 'no such team' >&2; echo more >&2; exit 3"), "{}", LONG).await;
        assert_eq!(failed.unwrap_err(), "the command failed (exit status: 3): no such team");
        let missing = ["/nonexistent/notify".parse().unwrap()];
        let missing = run(&missing, "{}", LONG).await.unwrap_err();
        assert!(missing.contains("/nonexistent/notify"), "{missing}");
        // It neither reads nor ends soon after.
        let big = "x".repeat(1_000_000);
        run(&sh("exec 0<&-; exit 0"), &big, LONG).await.unwrap();
        let loud = run(&sh("yes >&2 & sleep 0.3; exit 1"), "{}", LONG).await.unwrap_err();
        assert!(loud.ends_with(": y"), "{loud}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_ended_with_all_that_it_started() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("processes");
        let script = format!("sleep 600 & echo $! $$ > {}; wait", file.display());
        let hung = run(&sh(&script), "{}", Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(hung, "the command did not end within 1 s");
        let left = format!("sleep 600 & echo $! >> {}", file.display());
        run(&sh(&left), "{}", LONG).await.unwrap();
        let processes = fs::read_to_string(&file).unwrap();
        let processes: Vec<&str> = processes.split_whitespace().collect();
        assert_eq!(processes.len(), 3);
        for process in processes {
            let status = Path::new("/proc").join(process).join("status");
            let is_gone = || {
                let status = fs::read_to_string(&status).unwrap_or_default();
                !status.contains("sleep") && !status.contains("sh\n") || status.contains("zombie")
            };
            for _ in 0..100 {
                if is_gone() {
                    break;
                }
                thread::sleep(Duration::from_millis(50));
            }
            assert!(is_gone(), "{process}");
        }
    }

    #[tokio::test]
    async fn syslog_gets_the_document_with_a_priority() {
        let directory = TempDir::new().unwrap();
        let place = directory.path().join("log");
        let message = Message {
            json: FOREIGN.to_owned(),
            subject: String::new(),
            text: String::new(),
            severity: AlertSeverity::Critical,
        };
        assert!(log(&message, &place).await.unwrap_err().contains("No such file"));
        let socket = UnixDatagram::bind(&place).unwrap();
        log(&message, &place).await.unwrap();
        let mut line = [0; 1024];
        let length = socket.recv(&mut line).await.unwrap();
        let line = String::from_utf8_lossy(&line[..length]).into_owned();
        let (tag, document) = line.split_once(": ").unwrap();
        assert_eq!((tag.split('[').next(), document), (Some("<26>ringfence-alert"), FOREIGN));
    }

    #[test]
    fn a_document_of_a_webhook_is_one_option() {
        let input = webhook("https://a.example/b", Some("sha256=00"), FOREIGN).unwrap();
        let data: Vec<&str> = input.lines().filter(|line| line.starts_with("data-raw")).collect();
        assert_eq!(data.len(), 1);
        assert!(data[0].contains("\\\"a\\\""), "{}", *input);
        assert!(input.contains("proto = \"=https\"\n") && !input.contains("location"));
        assert!(webhook("https://a.example/b", None, "a\nurl = x").is_err());
    }

    #[test]
    fn a_mail_has_only_our_words_in_its_header() {
        let alert = Alert {
            mail: vec!["admin@example.org".parse().unwrap(), "root".parse().unwrap()],
            smtp: "smtp://mail.example.org".parse().unwrap(),
            ..Alert::default()
        };
        let Way::Mail(mail) = Way::of_alert(&alert) else { panic!("{alert:?}") };
        let message = Message {
            json: FOREIGN.to_owned(),
            subject: "[ringfence pbx] warning: account".to_owned(),
            text: "a \"quoted\" text; type=x\n".to_owned(),
            severity: AlertSeverity::Warning,
        };
        let at = Timestamp::from_second(1_767_225_600).unwrap();
        let input = mail.input(&message, ("pbx", Some("me:secret")), at).unwrap();
        let headers: Vec<&str> = input.lines().filter(|line| line.starts_with("header")).collect();
        assert_eq!(headers.len(), 7, "{}", *input);
        for line in [
            "header = \"Date: Thu, 01 Jan 2026 00:00:00 +0000\"",
            "header = \"To: undisclosed-recipients:;\"",
            "mail-from = \"ringfence@pbx\"",
            "mail-rcpt = \"root\"",
            "ssl-reqd",
            "user = \"me:secret\"",
        ] {
            assert!(input.lines().any(|is| is == line), "{line}: {}", *input);
        }
    }
}

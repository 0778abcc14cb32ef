//! Reports what this host bans to `CrowdSec`'s local API: as alerts with a decision each, and as decisions that are deleted.
//!
//! Must never send what is not proven, what another list has banned, account names, or the password to a program of
//! another user.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::feeds::CROWDSEC_ORIGIN;
use api::{ActionEvent, ActionMessage, BanKind};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::config::Place;
use crate::curl::{self, option};
use crate::listener::Owner;

/// The longest file with credentials.
const FILE_MAX: u64 = 4096;

/// How long one request may take, and all of a message.
const REQUEST_MAX: Duration = Duration::from_secs(20);
const MESSAGE_MAX: Duration = Duration::from_mins(1);

/// The longest answer that is read.
const ANSWER_MAX: usize = 64 * 1024;

/// The most alerts of one request, so that curl of Debian 12 reads it: an option has up to 100 KiB.
const ALERTS_MAX: usize = 40;

/// The most alerts about a network that are looked at: the newest.
const ASKED_MAX: usize = 20;

/// How long a ban without an end lasts there.
const NO_END: Duration = Duration::from_hours(365 * 24);

/// What the server said to a request: its status, and the document.
type Answer = (u16, Vec<u8>);

/// The way to a local API.
#[derive(Clone, Debug)]
pub(super) struct Crowdsec {
    file: PathBuf,
    /// The token of the last login.
    token: Arc<Mutex<Option<Zeroizing<String>>>>,
    /// Whether the last message was taken as a whole. If not, it may be there all the same: an answer was lost, a part
    /// of it failed, or the daemon was ended.
    is_sure: Arc<AtomicBool>,
}

impl PartialEq for Crowdsec {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

impl Eq for Crowdsec {}

/// The credentials of a machine.
struct Login {
    url: String,
    name: Zeroizing<String>,
    password: Zeroizing<String>,
}

/// An alert that the local API has.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

impl Crowdsec {
    /// The API whose credentials are in this file, as `cscli machines add` writes it.
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), token: Arc::default(), is_sure: Arc::default() }
    }

    /// Passes a message on.
    ///
    /// # Errors
    ///
    /// If it was not taken; the error says why.
    pub(super) async fn send(&self, document: &str) -> Result<(), String> {
        let message: ActionMessage =
            serde_json::from_str(document).map_err(|why| format!("read the message: {why}"))?;
        let passed = self.pass_on(&message.events);
        timeout(MESSAGE_MAX, passed).await.map_err(|_elapsed| "it takes too long".to_owned())?
    }

    async fn pass_on(&self, events: &[ActionEvent]) -> Result<(), String> {
        let login = login(&self.file)?;
        let place: Place = login.url.parse()?;
        let at = place.on_this_host();
        if !at.is_empty() {
            // Anybody could listen there, and would get the password.
            Owner::Service.require(at).await.map_err(|why| format!("{place}: {why}"))?;
        }
        let (bans, ends) = lasting(events);
        if bans.is_empty() && ends.is_empty() {
            // A test, or what concerns this host only. The credentials are tried all the same.
            return self.log_in(&login).await.map(drop);
        }
        // A message that is sent again deletes once more, but adds nothing twice.
        let mut asks = !self.is_sure.swap(false, Ordering::Relaxed);
        for end in ends {
            let path = deletion(end)?;
            self.ask(&login, ("DELETE", &path, None)).await?;
        }
        let mut alerts = Vec::new();
        for ban in bans {
            let Some(alert) = alert(ban, Timestamp::now()) else { continue };
            let has = if asks { self.has(&login, ban, &alert).await } else { Ok(false) };
            // An alert that arrives twice is better than none.
            asks &= has.is_ok();
            if has != Ok(true) {
                alerts.push(alert);
            }
        }
        for part in alerts.chunks(ALERTS_MAX) {
            let body = Value::from(part).to_string();
            self.ask(&login, ("POST", "/v1/alerts", Some(&body))).await?;
        }
        self.is_sure.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it was told of a ban before. It gives an alert a name of its own only, so the message names the ban.
    async fn has(&self, login: &Login, ban: &ActionEvent, alert: &Value) -> Result<bool, String> {
        let path = format!("/v1/alerts?{}&limit={ASKED_MAX}", query(ban)?);
        let said = self.ask(login, ("GET", &path, None)).await?;
        let told: Option<Vec<Told>> = serde_json::from_slice(&said)
            .map_err(|_other| "the local API answers with something else than alerts".to_owned())?;
        Ok(told.unwrap_or_default().iter().any(|told| alert["message"] == *told.message))
    }

    /// Makes a request, after a login if it needs one.
    async fn ask(
        &self,
        login: &Login,
        (method, path, body): (&str, &str, Option<&str>),
    ) -> Result<Vec<u8>, String> {
        let known = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let was_known = known.is_some();
        let mut token = match known {
            Some(token) => token,
            None => self.log_in(login).await?,
        };
        let mut answer = request(login, (method, path, body), Some(&token)).await?;
        if was_known && matches!(answer.0, 401 | 403) {
            token = self.log_in(login).await?;
            answer = request(login, (method, path, body), Some(&token)).await?;
        }
        match answer {
            (200..=299, said) => Ok(said),
            (status, said) => Err(format!("the local API answers {status}: {}", text(&said))),
        }
    }

    async fn log_in(&self, login: &Login) -> Result<Zeroizing<String>, String> {
        let Login { name, password, .. } = login;
        let body = json!({ "machine_id": **name, "password": **password, "scenarios": [] });
        let body = Zeroizing::new(body.to_string());
        let (status, said) =
            request(login, ("POST", "/v1/watchers/login", Some(&body)), None).await?;
        let said = Zeroizing::new(said);
        if status != 200 {
            let why = "the local API does not accept the login";
            return Err(format!("{why} ({status}); `cscli machines list` shows the machines"));
        }
        let Token { token } = serde_json::from_slice(&said)
            .map_err(|_other| "the local API answers a login without a token".to_owned())?;
        let token = Zeroizing::new(token);
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(token)
    }
}

/// The start of an answer, as text for a message.
fn text(said: &[u8]) -> String {
    String::from_utf8_lossy(said).chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Reads the credentials: lines such as `login: NAME`.
fn login(file: &Path) -> Result<Login, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let mut text = Zeroizing::new(String::with_capacity(4097));
    let read = File::open(file).and_then(|open| open.take(FILE_MAX).read_to_string(&mut text));
    read.map_err(|error| wrong(&error))?;
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(key, _)| key.trim() == name)?;
        let value = value.trim();
        let inside = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
        let value = inside('"').or_else(|| inside('\'')).unwrap_or(value);
        let is_plain = !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic());
        is_plain.then(|| value.to_owned())
    };
    let need = |name: &str| {
        value(name)
            .ok_or_else(|| wrong(&format!("it has no `{name}`; `cscli machines add` writes it")))
    };
    Ok(Login {
        url: need("url")?.trim_end_matches('/').to_owned(),
        name: Zeroizing::new(need("login")?),
        password: Zeroizing::new(need("password")?),
    })
}

async fn request(
    login: &Login,
    (method, path, body): (&str, &str, Option<&str>),
    token: Option<&str>,
) -> Result<Answer, String> {
    let input = input(login, (method, path, body), token).map_err(|why| why.to_string())?;
    let (bytes, said) = curl::run(&input, ANSWER_MAX).await?;
    let mut bytes = bytes.ok_or(said)?;
    let end = bytes.iter().rposition(|byte| *byte == b'\n').ok_or("curl printed no status")?;
    let status = bytes.split_off(end);
    let status = std::str::from_utf8(&status).ok().and_then(|status| status.trim().parse().ok());
    Ok((status.ok_or("curl printed no status")?, bytes))
}

fn input(
    login: &Login,
    (method, path, body): (&str, &str, Option<&str>),
    token: Option<&str>,
) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(128 * 1024));
    text.push_str("silent\nshow-error\nconnect-timeout = 10\nnoproxy = \"*\"\n");
    let _infallible = writeln!(text, "max-time = {}", REQUEST_MAX.as_secs());
    let is_secure = login.url.starts_with("https://");
    text.push_str(if is_secure { "proto = \"=https\"\n" } else { "proto = \"=http\"\n" });
    option(&mut text, "user-agent", concat!("ringfence/v", env!("CARGO_PKG_VERSION")))?;
    option(&mut text, "write-out", "\n%{http_code}")?;
    option(&mut text, "url", &format!("{}{path}", login.url))?;
    option(&mut text, "request", method)?;
    option(&mut text, "header", "Content-Type: application/json")?;
    // Curl would wait for leave to send a long one.
    option(&mut text, "header", "Expect:")?;
    if let Some(token) = token {
        let header = Zeroizing::new(format!("Authorization: Bearer {token}"));
        option(&mut text, "header", &header)?;
    }
    if let Some(body) = body {
        option(&mut text, "data-raw", body)?;
    }
    Ok(text)
}

/// The bans and the ends of bans that `CrowdSec` is told of. Only what happened last to a network counts.
fn lasting(events: &[ActionEvent]) -> (Vec<&ActionEvent>, Vec<&ActionEvent>) {
    let (mut bans, mut ends, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for event in events.iter().rev() {
        if !is_told(event) || !seen.insert((&event.network, &event.jail)) {
            continue;
        }
        match &*event.event {
            "ban" => bans.push(event),
            // One that ends in time ends there too.
            "unban" if event.lifted => ends.push(event),
            _ => {}
        }
    }
    bans.reverse();
    (bans, ends)
}

/// Whether others may be told: the address is not forged, and the ban is in force.
fn is_told(event: &ActionEvent) -> bool {
    let ActionEvent { event, kind, enforcing, proven, jail, .. } = event;
    // There are no failures behind a ban by hand, and only proven offenders behind one of a network.
    let is_sure = *proven || jail == "manual" || jail == "escalation";
    let is_name = jail.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    is_name && *kind == BanKind::Ban && (event == "unban" || *enforcing && is_sure)
}

/// The network, and whether it is one address.
fn of(event: &ActionEvent) -> Option<(IpNet, bool)> {
    if let Ok(address) = event.network.parse::<std::net::IpAddr>() {
        return Some((address.into(), true));
    }
    let network: IpNet = event.network.parse().ok()?;
    Some((network, network.prefix_len() == network.max_prefix_len()))
}

/// What a decision is about: the scope, and the value.
fn subject((network, is_address): (IpNet, bool)) -> (&'static str, String) {
    if is_address { ("Ip", network.addr().to_string()) } else { ("Range", network.to_string()) }
}

fn scenario(event: &ActionEvent) -> String {
    format!("ringfence/{}", event.jail)
}

fn alert(event: &ActionEvent, now: Timestamp) -> Option<Value> {
    let (scope, value) = subject(of(event)?);
    let left = match &event.until {
        Some(until) => {
            Duration::try_from(until.parse::<Timestamp>().ok()?.duration_since(now)).ok()?
        }
        None => NO_END,
    };
    let seconds = left.as_secs();
    if seconds == 0 {
        return None;
    }
    let (scenario, count, since) = (scenario(event), event.evidence.len().max(1), &event.since);
    let mut source = json!({ "scope": scope, "value": value });
    if let Some(source) = source.as_object_mut() {
        source.insert(scope.to_lowercase(), value.as_str().into());
    }
    Some(json!({
        "scenario": scenario,
        "scenario_hash": "",
        "scenario_version": "",
        "message": format!("{scenario}: {value} is banned since {since}"),
        "events_count": count,
        "events": [],
        "start_at": event.since,
        "stop_at": event.since,
        "capacity": 0,
        "leakspeed": "0",
        "simulated": false,
        "remediation": true,
        "source": source,
        "decisions": [{
            "origin": CROWDSEC_ORIGIN,
            "type": "ban",
            "scope": scope,
            "value": value,
            "duration": format!("{seconds}s"),
            "scenario": scenario,
        }],
    }))
}

/// The query for what is about a ban.
fn query(event: &ActionEvent) -> Result<String, String> {
    let of = of(event).ok_or("a network cannot be read")?;
    let (_, value) = subject(of);
    let key = if of.1 { "ip" } else { "range" };
    let quoted = |text: &str| text.replace('/', "%2F").replace(':', "%3A");
    let scenario = quoted(&scenario(event));
    Ok(format!("{key}={}&scenario={scenario}", quoted(&value)))
}

/// The path that deletes the decision of a ban.
fn deletion(event: &ActionEvent) -> Result<String, String> {
    Ok(format!("/v1/decisions?{}", query(event)?))
}

#[cfg(test)]
mod tests {
    use api::Evidence;

    use super::*;

    fn event(event: &str, network: &str, jail: &str, proven: bool) -> ActionEvent {
        let evidence = Evidence {
            time: "2026-01-01T00:00:00Z".to_owned(),
            source: "sshd".to_owned(),
            address: None,
            class: "wrong-credential".to_owned(),
            account: Some("secret-account".to_owned()),
            proven,
        };
        ActionEvent {
            event: event.to_owned(),
            network: network.to_owned(),
            jail: jail.to_owned(),
            scope: "sip".to_owned(),
            kind: BanKind::Ban,
            proven,
            enforcing: true,
            since: "2026-01-01T00:00:00Z".to_owned(),
            until: Some("2026-01-01T01:00:00Z".to_owned()),
            lifted: event == "unban",
            reason: "an attacker's text".to_owned(),
            evidence: if event == "ban" { vec![evidence] } else { Vec::new() },
        }
    }

    #[test]
    fn only_what_is_proven_and_in_force_is_told() {
        let dry = ActionEvent { enforcing: false, ..event("ban", "185.0.0.3", "sshd", true) };
        let throttle =
            ActionEvent { kind: BanKind::Throttle, ..event("ban", "185.0.0.4", "sshd", true) };
        let ended = ActionEvent { lifted: false, ..event("unban", "185.0.0.5", "sshd", true) };
        let events = [
            event("ban", "185.0.0.1", "sshd", true),
            event("ban", "185.0.0.2", "sshd", false),
            dry,
            throttle,
            ended,
            event("ban", "185.0.0.6", "flood", false),
            // Some of its failures may be those of others.
            ActionEvent { proven: false, ..event("ban", "185.0.0.9", "sshd", true) },
            event("ban", "185.0.0.7", "a/b?c", true),
            event("test", "192.0.2.1", "sshd", true),
            // Banned and lifted, and lifted and banned.
            event("ban", "185.0.0.8", "sshd", true),
            event("unban", "185.0.0.8", "sshd", true),
            event("unban", "2a01:4f8::/64", "sshd", true),
            event("ban", "2a01:4f8::/64", "sshd", true),
            event("ban", "185.0.0.10", "manual", false),
            event("ban", "185.0.1.0/24", "escalation", false),
        ];
        let (bans, ends) = lasting(&events);
        let named = |events: &[&ActionEvent]| -> Vec<String> {
            events.iter().map(|event| event.network.clone()).collect()
        };
        assert_eq!(named(&bans), ["185.0.0.1", "2a01:4f8::/64", "185.0.0.10", "185.0.1.0/24"]);
        assert_eq!(named(&ends), ["185.0.0.8"]);
        assert_eq!(
            deletion(&events[11]).unwrap(),
            "/v1/decisions?range=2a01%3A4f8%3A%3A%2F64&scenario=ringfence%2Fsshd"
        );
        assert_eq!(
            deletion(&events[0]).unwrap(),
            "/v1/decisions?ip=185.0.0.1&scenario=ringfence%2Fsshd"
        );
    }

    #[test]
    fn an_alert_has_neither_account_nor_foreign_text() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let alert = alert(&event("ban", "185.0.0.1", "sshd", true), now).unwrap();
        let text = alert.to_string();
        assert!(!text.contains("secret-account") && !text.contains("attacker"), "{text}");
        assert_eq!(alert["source"]["ip"], "185.0.0.1");
        let decision = &alert["decisions"][0];
        assert_eq!((&decision["duration"], &decision["scope"]), (&"3000s".into(), &"Ip".into()));
        assert_eq!(decision["origin"], CROWDSEC_ORIGIN);
        // It is the same when it is sent again, so that it is found.
        let later =
            super::alert(&event("ban", "185.0.0.1", "sshd", true), now + Duration::from_mins(5));
        assert_eq!(alert["message"], later.unwrap()["message"]);
        assert_eq!(
            alert["message"],
            "ringfence/sshd: 185.0.0.1 is banned since 2026-01-01T00:00:00Z"
        );
        let over: Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
        assert_eq!(super::alert(&event("ban", "185.0.0.1", "sshd", true), over), None);
    }

    #[test]
    fn the_credentials_are_those_that_cscli_writes() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("login.yaml");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write("url: http://127.0.0.1:8080/\nlogin: pbx\npassword: \"a:b'c\"\n");
        let read = login(&file).unwrap();
        assert_eq!((&*read.url, &**read.name), ("http://127.0.0.1:8080", "pbx"));
        assert_eq!(&**read.password, "a:b'c");
        let text = input(&read, ("POST", "/v1/alerts", Some("[]")), Some("t")).unwrap();
        assert!(text.contains("Bearer t") && !text.contains("a:b"), "{}", *text);
        assert!(input(&read, ("POST", "/v1/alerts", None), Some("t\nurl = x")).is_err());
        for wrong in ["", "login: pbx\npassword: x\n", "url: http://x\nlogin: a b\npassword: x\n"] {
            write(wrong);
            assert!(login(&file).is_err(), "{wrong}");
        }
    }
}

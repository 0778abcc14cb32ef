//! The REST API of wazo-provd, with a token of wazo-auth.

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use ::audit::devices::{Field, Inventory, parse_devices};
use ::audit::secret::Secret;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use super::curl::{Answer, Curl, Identity, Request};
use super::program::Output;
use crate::listener::Owner;

/// The media type of its documents.
const MEDIA_TYPE: &str = "application/vnd.proformatique.provd+json";

/// How long a token is valid, in seconds. Synchronising thousands of telephones takes minutes.
const TOKEN_SECONDS: u32 = 1800;

/// The longest file with a key or a token.
const KEY_MAX: u64 = 4096;

/// The addresses of wazo-auth and wazo-provd on this host.
const AUTH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9497);
const PROVD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8666);

/// Where wazo-auth and wazo-provd answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    auth: String,
    provd: String,
    /// Whether they are on this host.
    pub(super) is_local: bool,
}

impl Place {
    /// The daemons of this host, which listen on loopback.
    ///
    /// # Errors
    ///
    /// If a person's program listens there, which would get the key and the passwords.
    pub fn local() -> Result<Self> {
        for at in [AUTH, PROVD] {
            if let Err(why) = Owner::Service.listens(at) {
                bail!("{at}: {why}");
            }
        }
        Ok(Self {
            auth: format!("http://{AUTH}/0.1"),
            provd: format!("http://{PROVD}/0.2"),
            is_local: true,
        })
    }

    /// Those behind the web server at this URL, such as `https://wazo.example`.
    ///
    /// # Errors
    ///
    /// If it is no such URL, or passwords would be sent in clear over a network.
    pub fn at(url: &str, insecure: bool) -> Result<Self> {
        let url = url.trim_end_matches('/');
        let (scheme, host) = url.split_once("://").unwrap_or(("", url));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".:-_[]".contains(c);
        ensure!(
            ["http", "https"].contains(&scheme) && !host.is_empty() && host.chars().all(is_plain),
            "this is not the address of a host, such as https://wazo.example"
        );
        let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let name = name.map_or(host, |(name, _)| name).trim_matches(['[', ']']);
        let is_loopback = name == "localhost"
            || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        ensure!(
            scheme == "https" || is_loopback || insecure,
            "over http, anybody on the way can read the passwords; use https, or accept this with `--insecure`"
        );
        Ok(Self {
            auth: format!("{url}/api/auth/0.1"),
            provd: format!("{url}/api/provd/0.2"),
            is_local: false,
        })
    }
}

#[cfg(test)]
impl Place {
    pub(super) fn provd(&self) -> &str {
        &self.provd
    }
}

/// The identity with which a session begins.
#[derive(Debug)]
pub enum Credentials {
    /// A user, or a service with its key.
    User(String, Secret),
    /// A token that somebody else has requested, and will revoke.
    Token(Secret),
}

impl Credentials {
    /// The key of a service, as `wazo-auth-keys` writes it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or contains no key.
    pub fn from_key(file: &Path) -> Result<Self> {
        let text = small(file)?;
        let value = |key: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            let value = rest.trim().trim_matches(['\'', '"']);
            (!value.is_empty()).then(|| value.to_owned())
        };
        match (value("service_id"), value("service_key")) {
            (Some(id), Some(key)) => Ok(Self::User(id, Secret::new(key))),
            _ => bail!("{} contains no key of a service", file.display()),
        }
    }

    /// A token in a file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or contains no token.
    pub fn from_token_file(file: &Path) -> Result<Self> {
        token(&Secret::new(small(file)?.trim().to_owned()))
    }
}

/// A token as somebody has typed it.
///
/// # Errors
///
/// If it cannot be a token.
pub fn token(token: &Secret) -> Result<Credentials> {
    let text = token.expose();
    let is_token = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    ensure!(is_token, "this is no token: a token is one word");
    Ok(Credentials::Token(token.clone()))
}

/// A file with a secret.
fn small(file: &Path) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(8192));
    let read = || -> Result<()> {
        let length = File::open(file)?.take(KEY_MAX + 1).read_to_string(&mut text)?;
        ensure!(length as u64 <= KEY_MAX, "it has more than {KEY_MAX} bytes");
        Ok(())
    };
    let read: Result<()> = { read }();
    read.with_context(|| format!("read {}", file.display()))?;
    Ok(text)
}

/// A session with wazo-provd. Its own token is revoked at the end.
#[derive(Debug)]
pub(super) struct Session {
    place: Place,
    curl: Curl,
    token: Secret,
    is_own: bool,
}

#[derive(Deserialize)]
struct TokenAnswer {
    data: TokenData,
}

#[derive(Deserialize)]
struct TokenData {
    token: Secret,
}

impl Session {
    /// Begins a session.
    ///
    /// # Errors
    ///
    /// If wazo-auth does not answer, or refuses.
    pub(super) fn begin(place: Place, curl: Curl, credentials: &Credentials) -> Result<Self> {
        let (name, password) = match credentials {
            Credentials::Token(token) => {
                return Ok(Self { place, curl, token: token.clone(), is_own: false });
            }
            Credentials::User(name, password) => (name, password),
        };
        let body = json!({ "expiration": TOKEN_SECONDS }).to_string();
        let request = Request {
            method: "POST",
            url: &format!("{}/token", place.auth),
            identity: Identity::User(name, password),
            body: Some(("application/json", &body)),
        };
        let answer = curl.call(request).map_err(|why| explained(why, "wazo-auth"))?;
        match answer.status {
            200 => {
                let read: Result<TokenAnswer, _> = serde_json::from_slice(&answer.body);
                // The error might repeat a part of the answer.
                let Ok(TokenAnswer { data }) = read else {
                    bail!("the answer of wazo-auth contains no token");
                };
                Ok(Self { place, curl, token: data.token, is_own: true })
            }
            401 => bail!("wazo-auth does not accept the user or the password (401)"),
            status => bail!("wazo-auth does not issue a token: it answers {status}"),
        }
    }

    /// The wazo-provd of this session.
    pub(super) fn place(&self) -> &str {
        &self.place.provd
    }

    /// All configurations and devices.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub(super) fn inventory(&self) -> Result<Inventory> {
        let devices = self.get("/dev_mgr/devices?recurse=true", "provd.dev_mgr.devices.read")?;
        let devices = parse_devices(&devices).map_err(|why| wrong_answer(&why))?;
        let configs = self.get("/cfg_mgr/configs", "provd.cfg_mgr.configs.read")?;
        Inventory::new(&configs, devices).map_err(|why| wrong_answer(&why))
    }

    /// A configuration as a whole.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(super) fn config(&self, id: &str) -> Result<Document> {
        let path = format!("/cfg_mgr/configs/{}", in_url(id));
        let answer = self.get(&path, "provd.cfg_mgr.configs.*.read")?;
        let read: Result<Value, _> = serde_json::from_slice(&answer);
        let mut document = Document(read.unwrap_or_default());
        let config = document.0.get_mut("config").map(Value::take).filter(Value::is_object);
        config.map(Document).ok_or_else(|| wrong_answer("the answer is no configuration"))
    }

    /// Replaces a configuration.
    ///
    /// # Errors
    ///
    /// If wazo-provd refuses.
    pub(super) fn replace(&self, id: &str, document: &Document) -> Result<()> {
        let url = format!("{}/cfg_mgr/configs/{}", self.place.provd, in_url(id));
        let body = Zeroizing::new(format!("{{\"config\":{}}}", *document.text()));
        let answer = self.call("PUT", &url, Some(&body))?;
        expect(&answer, 204, "provd.cfg_mgr.configs.*.update")
    }

    /// Asks a telephone to fetch its configuration.
    ///
    /// # Errors
    ///
    /// If wazo-provd refuses.
    pub(super) fn synchronize(&self, device: &str) -> Result<()> {
        let url = format!("{}/dev_mgr/synchronize", self.place.provd);
        let body = json!({ "id": device }).to_string();
        let answer = self.call("POST", &url, Some(&body))?;
        expect(&answer, 201, "provd.dev_mgr.synchronize.create")?;
        // wazo-provd keeps the record of an operation until it is deleted.
        let path = answer.location.as_deref().and_then(|location| location.split_once("/dev_mgr/"));
        if let Some((_, path)) = path {
            self.call("DELETE", &format!("{}/dev_mgr/{path}", self.place.provd), None).ok();
        }
        Ok(())
    }

    fn get(&self, path: &str, right: &str) -> Result<Output> {
        let answer = self.call("GET", &format!("{}{path}", self.place.provd), None)?;
        expect(&answer, 200, right)?;
        Ok(answer.body)
    }

    fn call(&self, method: &'static str, url: &str, body: Option<&str>) -> Result<Answer> {
        let body = body.map(|body| (MEDIA_TYPE, body));
        let request = Request { method, url, identity: Identity::Token(&self.token), body };
        self.curl.call(request).map_err(|why| explained(why, "wazo-provd"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.is_own {
            let url = Zeroizing::new(format!("{}/token/{}", self.place.auth, self.token.expose()));
            let identity = Identity::Token(&self.token);
            // It expires anyway.
            self.curl.call(Request { method: "DELETE", url: &url, identity, body: None }).ok();
        }
    }
}

/// A configuration with all that wazo-provd has in it. Its text is overwritten when it is dropped.
pub(super) struct Document(Value);

impl Document {
    /// The password that it sets: `None` if it does not.
    pub(super) fn password(&self, field: Field) -> Option<Secret> {
        let value = self.0.get("raw_config")?.get(field.key())?;
        match value {
            Value::String(text) => Some(Secret::new(text.clone())),
            Value::Number(number) => Some(Secret::new(number.to_string())),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Sets the password, or removes it.
    ///
    /// # Errors
    ///
    /// If it is no configuration.
    pub(super) fn set_password(&mut self, field: Field, password: Option<&Secret>) -> Result<()> {
        let raw = self.0.get_mut("raw_config").and_then(Value::as_object_mut);
        let raw = raw.ok_or_else(|| wrong_answer("the configuration has no settings"))?;
        let old = match password {
            Some(new) => raw.insert(field.key().to_owned(), Value::String(new.expose().to_owned())),
            None => raw.remove(field.key()),
        };
        drop(old.map(Document));
        Ok(())
    }

    fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.to_string())
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        overwrite(&mut self.0);
    }
}

/// Overwrites every text in a value.
fn overwrite(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(all) => all.iter_mut().for_each(overwrite),
        Value::Object(all) => all.values_mut().for_each(overwrite),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// An id as a part of a URL.
fn in_url(id: &str) -> String {
    use std::fmt::Write as _;

    let mut text = String::new();
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _infallible = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn expect(answer: &Answer, status: u16, right: &str) -> Result<()> {
    match answer.status {
        found if found == status => Ok(()),
        found @ (401 | 403) => bail!(
            "wazo-provd refuses ({found}): the token is not valid, or its user lacks the right `{right}`"
        ),
        404 => bail!("wazo-provd does not know this (404); is wazo-provd at this address?"),
        found => bail!("wazo-provd answers {found}; its log says why"),
    }
}

fn wrong_answer(why: &str) -> anyhow::Error {
    anyhow!("wazo-provd answers something else than expected: {why}")
}

/// Adds what to do about an error of curl.
fn explained(why: anyhow::Error, daemon: &str) -> anyhow::Error {
    let text = format!("{why:#}");
    let hint = if text.contains("curl: (60)") {
        "; name the certificate of its authority with `--ca FILE`, or accept any certificate with `--insecure`"
    } else if text.contains("curl: (7)") {
        "; does it run?"
    } else {
        ""
    };
    why.context(format!("ask {daemon}{hint}"))
}

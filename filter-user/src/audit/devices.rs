//! `ringfence audit devices`: what wazo-provd says about the telephones, and the replacement of their
//! passwords.

mod changes;
mod prompt;
mod replace;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ::audit::devices::{Examined, HttpAuth, Inventory, examine};
use anyhow::{Context as _, Result, anyhow};
use api::{AuditFinding, Severity};
use ipnet::IpNet;

use super::bounded;
use super::curl::Curl;
use super::provd::Session;
use crate::config;

pub use self::prompt::password;
pub use self::replace::{Talk, fix, forget, synchronize, undo, waiting};
pub use super::program::TOKEN_VARIABLE;
pub use super::provd::{Credentials, Place, token};
pub use ::audit::secret::Secret;

/// The key of the service that the package registers with wazo-auth.
pub const KEY: &str = "/var/lib/wazo-auth-keys/ringfence-key.yml";

/// How the service is registered, if the package could not do it.
const REGISTER: &str =
    "install -m 644 /usr/share/ringfence/wazo-auth-keys/ringfence.yml /etc/wazo-auth-keys/conf.d/";

/// wazo-provd's directory of configuration.
const PROVD: &str = "/etc/wazo-provd";

/// How wazo-provd is reached, and as whom.
#[derive(Debug)]
pub struct Access {
    /// Where it is.
    pub place: Place,
    /// A file with certificates of authorities that are trusted instead of the host's.
    pub ca: Option<PathBuf>,
    /// Whether any certificate is accepted.
    pub insecure: bool,
    /// As whom.
    pub credentials: Credentials,
}

/// What a session with wazo-provd has shown.
#[derive(Debug)]
pub struct Visit {
    session: Session,
    inventory: Inventory,
    examined: Examined,
}

impl Visit {
    /// The findings.
    pub fn findings(&self) -> &[AuditFinding] {
        &self.examined.findings
    }
}

/// Reads all configurations and devices, and examines them. `own` are networks that are not strangers'.
///
/// # Errors
///
/// If wazo-provd or wazo-auth does not answer as expected.
pub fn visit(access: Access, own: &[IpNet]) -> Result<Visit> {
    let http_auth =
        if access.place.is_local { http_auth(Path::new(PROVD))? } else { HttpAuth::Unknown };
    visit_with(access, own, &http_auth)
}

fn visit_with(access: Access, own: &[IpNet], http_auth: &HttpAuth) -> Result<Visit> {
    let Access { place, ca, insecure, credentials } = access;
    let session = Session::begin(place, Curl::new(ca, insecure), &credentials)?;
    let inventory = session.inventory()?;
    let examined = examine(&inventory, http_auth, own);
    Ok(Visit { session, inventory, examined })
}

/// The findings for a whole audit, with the key of the service. `None` if this host has no wazo-provd.
pub fn without_asking(own: &[IpNet]) -> Option<Result<Vec<AuditFinding>>> {
    without_asking_in(Path::new(PROVD), Path::new(KEY), own)
}

fn without_asking_in(provd: &Path, key: &Path, own: &[IpNet]) -> Option<Result<Vec<AuditFinding>>> {
    if !provd.is_dir() {
        return None;
    }
    if !key.exists() {
        return Some(Ok(vec![unexamined()]));
    }
    let read = || {
        let credentials = Credentials::from_key(key)?;
        let access = Access { place: Place::local()?, ca: None, insecure: false, credentials };
        let Visit { examined, .. } = visit(access, own)?;
        Ok(examined.findings)
    };
    Some(read())
}

/// That a whole audit has left out the telephones.
fn unexamined() -> AuditFinding {
    AuditFinding {
        id: "devices-unexamined".to_owned(),
        severity: Severity::Note,
        title: "the telephones of wazo-provd were not examined".to_owned(),
        reason: format!("there is no key with which to ask wazo-provd ({KEY})"),
        evidence: Vec::new(),
        remedy: "have the key made, or examine them with a user of Wazo: \
                 `ringfence audit devices --username NAME`"
            .to_owned(),
        line: Some(format!("{REGISTER} && wazo-auth-keys service update")),
        page: None,
    }
}

/// Whether telephones must know a key, according to wazo-provd's configuration: the first file of `conf.d` that
/// sets it wins.
fn http_auth(etc: &Path) -> Result<HttpAuth> {
    let mut files: Vec<PathBuf> = match fs::read_dir(etc.join("conf.d")) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).context("read wazo-provd's conf.d"),
    };
    let is_read = |file: &PathBuf| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        file.extension().is_some_and(|extension| extension == "yml") && !name.starts_with('.')
    };
    files.retain(is_read);
    files.sort();
    files.push(etc.join("config.yml"));
    for file in files {
        let read = bounded(&file).with_context(|| format!("read {}", file.display()))?;
        let text = String::from_utf8_lossy(&read);
        let has_value = config::has_value(&text, &["general", "http_auth_strategy"]);
        match has_value.map_err(|why| anyhow!("{}: {why}", file.display()))? {
            Some(true) => return Ok(HttpAuth::Key),
            Some(false) => return Ok(HttpAuth::None),
            None => {}
        }
    }
    Ok(HttpAuth::None)
}

#[cfg(test)]
mod tests;

//! One HTTP request, made by the program `curl`. Debian maintains its TLS, it trusts what the host trusts, and
//! every Wazo host has it.
//!
//! Whatever is secret is in curl's standard input and output, never on its command line or in its
//! environment. An error repeats nothing that the server has sent.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use ::audit::secret::Secret;
use anyhow::{Result, bail, ensure};
use zeroize::Zeroizing;

use super::program::{self, Output};
use crate::curl::option;

/// The name of the program.
const CURL: &str = "curl";

/// The longest answer in bytes.
const ANSWER_MAX: usize = 64 << 20;

/// The longest body of a request in bytes. curl 7.88 accepts lines of 100 KiB on its standard input.
const BODY_MAX: usize = 48 << 10;

/// How long a request may take.
const TIME_MAX: Duration = Duration::from_mins(1);

/// How long to wait for curl, which ends by itself before.
const CURL_MAX: Duration = Duration::from_secs(70);

/// The certificates that are accepted, and how long a request may take.
#[derive(Clone, Debug)]
pub(super) struct Curl {
    /// A file with certificates of authorities that are trusted instead of the host's.
    pub(super) ca: Option<PathBuf>,
    /// Whether any certificate is accepted.
    pub(super) insecure: bool,
    /// How long a request may take.
    pub(super) time: Duration,
}

impl Curl {
    pub(super) fn new(ca: Option<PathBuf>, insecure: bool) -> Self {
        Self { ca, insecure, time: TIME_MAX }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Identity<'a> {
    /// A user, with a password.
    User(&'a str, &'a Secret),
    /// A token of wazo-auth.
    Token(&'a Secret),
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'static str,
    pub(super) url: &'a str,
    pub(super) identity: Identity<'a>,
    /// The media type, and the body.
    pub(super) body: Option<(&'static str, &'a str)>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The header `Location`.
    pub(super) location: Option<String>,
    pub(super) body: Output,
}

impl Curl {
    /// Makes a request.
    ///
    /// # Errors
    ///
    /// If there is no answer, or a longer one than is read.
    pub(super) fn call(&self, request: Request<'_>) -> Result<Answer> {
        let input = self.input(request)?;
        // The first option, so that no file of a user changes anything.
        let output = program::run(
            CURL,
            &["--disable", "--config", "-"],
            input.as_bytes(),
            CURL_MAX,
            ANSWER_MAX,
        );
        let Some(mut body) = output? else { bail!("curl is not installed: `apt install curl`") };
        let Some(trailer) = body.pop_line() else { bail!("curl printed no status") };
        let (status, location) = trailer.split_once(' ').unwrap_or((&trailer, ""));
        let Ok(status) = status.parse() else { bail!("curl printed no status") };
        let location = location.starts_with(['/', 'h']).then(|| location.to_owned());
        Ok(Answer { status, location, body })
    }

    /// The options, as curl reads them.
    fn input(&self, request: Request<'_>) -> Result<Zeroizing<String>> {
        let mut text = Zeroizing::new(String::with_capacity(2 * BODY_MAX));
        text.push_str("silent\nshow-error\nnoproxy = \"*\"\nproto = \"=http,https\"\nhttp1.1\n");
        let _infallible = write!(
            text,
            "connect-timeout = 10\nmax-time = {}\nmax-filesize = {ANSWER_MAX}\n",
            self.time.as_secs_f64()
        );
        option(&mut text, "write-out", "\n%{http_code} %header{location}")?;
        option(&mut text, "request", request.method)?;
        option(&mut text, "url", request.url)?;
        if self.insecure {
            text.push_str("insecure\n");
        }
        if let Some(ca) = &self.ca {
            option(&mut text, "cacert", &ca.to_string_lossy())?;
        }
        match request.identity {
            Identity::User(name, password) => {
                ensure!(!name.contains(':'), "a user name has no colon");
                let both = Zeroizing::new(format!("{name}:{}", password.expose()));
                option(&mut text, "user", &both)?;
            }
            Identity::Token(token) => {
                let header = Zeroizing::new(format!("X-Auth-Token: {}", token.expose()));
                option(&mut text, "header", &header)?;
            }
        }
        if let Some((kind, body)) = request.body {
            ensure!(body.len() <= BODY_MAX, "the document has more than {} KiB", BODY_MAX >> 10);
            option(&mut text, "header", &format!("Content-Type: {kind}"))?;
            option(&mut text, "data-raw", body)?;
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_becomes_another_option() {
        let curl = Curl::new(None, false);
        let token = Secret::new("a\"\nurl = \"http://198.51.100.1/".to_owned());
        let request = Request {
            method: "GET",
            url: "http://127.0.0.1:9/",
            identity: Identity::Token(&token),
            body: None,
        };
        let why = curl.input(request).unwrap_err().to_string();
        assert!(why.contains("control character") && !why.contains("198.51"), "{why}");
        let token = Secret::new("a\" \\".to_owned());
        let text = curl.input(Request { identity: Identity::Token(&token), ..request }).unwrap();
        assert!(text.contains("header = \"X-Auth-Token: a\\\" \\\\\"\n"), "{}", *text);
        assert!(!text.contains("insecure"), "{}", *text);
    }
}

//! Fetches one document: reads a file, or runs `curl`, with bounds on time and size.
//!
//! Whatever is secret is in curl's standard input, never on its command line or in its environment, and no error
//! repeats it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use ::feeds::{APIBAN_FIRST, CROWDSEC_STREAM, Form, SIZE_MAX};
use anyhow::ensure;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::config::{Feed, Place};
use crate::curl::{self, option};
use crate::listener::Owner;

/// How long a document may take.
const TIME_MAX: Duration = Duration::from_mins(2);

/// How long to wait for curl, which ends by itself before.
const CURL_MAX: Duration = Duration::from_secs(130);

/// The longest header that is kept.
const HEADER_MAX: usize = 256;

/// The most that is read: a list, or one byte more, and what curl adds.
const READ_MAX: usize = SIZE_MAX + 4 * HEADER_MAX;

/// How much of an error is shown.
const ERROR_MAX: usize = 300;

/// What the last answer said about its version, so that an unchanged list is not sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Version {
    #[serde(default)]
    pub(super) etag: String,
    #[serde(default)]
    pub(super) modified: String,
}

/// An answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// The list is as it was.
    Unchanged,
    /// The list, or the next part of it.
    Document(Vec<u8>, Version),
}

/// A failure, and how long the server asks to wait.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) why: String,
    pub(super) asked: Option<Duration>,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, asked: None }
    }
}

/// Fetches the list, or of one that has parts the part behind `cursor`.
pub(super) async fn fetch(
    feed: &Feed,
    version: &Version,
    cursor: Option<&str>,
) -> Result<Answer, Failure> {
    match &feed.url {
        None => Err(Failure::from("it has no `url`".to_owned())),
        Some(Place::File(path)) => Ok(read(path, version)?),
        Some(place @ Place::Url(url)) => {
            let at = place.on_this_host();
            if feed.key_file.is_some() && !at.is_empty() {
                // Anybody could listen there, and would get the key.
                Owner::Service.require(at).await.map_err(|why| format!("{place}: {why}"))?;
            }
            request(feed, url, version, cursor).await
        }
    }
}

/// Reads a file, unless it is as it was.
fn read(path: &Path, version: &Version) -> Result<Answer, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let about = fs::metadata(path).map_err(|error| wrong(&error))?;
    if !about.is_file() {
        return Err(wrong(&"it is not a file"));
    }
    let modified = about.modified().map_err(|error| wrong(&error))?;
    let etag = format!("{modified:?} {}", about.len());
    if etag == version.etag {
        return Ok(Answer::Unchanged);
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(SIZE_MAX).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)
        .and_then(|open| open.take(most).read_to_end(&mut bytes))
        .map_err(|error| wrong(&error))?;
    Ok(Answer::Document(bytes, Version { etag, modified: String::new() }))
}

/// Makes a request with curl.
async fn request(
    feed: &Feed,
    url: &str,
    version: &Version,
    cursor: Option<&str>,
) -> Result<Answer, Failure> {
    let key = feed.key_file.as_ref().map(|file| curl::key(file)).transpose()?;
    let key = key.as_ref().map(|key| key.as_str());
    let input = input(feed, (url, key), version, cursor).map_err(|why| why.to_string())?;
    let (bytes, said) = timeout(CURL_MAX, curl::run(&input, READ_MAX))
        .await
        .map_err(|_elapsed| "curl did not end in time".to_owned())??;
    let Some(bytes) = bytes else {
        return Err(Failure::from(shown(&said, key)));
    };
    if bytes.len() > SIZE_MAX {
        return Err(format!("the list has more than {} MiB", SIZE_MAX >> 20).into());
    }
    answer(feed, bytes).map_err(|failure| Failure { why: shown(&failure.why, key), ..failure })
}

/// The options, as curl reads them.
fn input(
    feed: &Feed,
    (url, key): (&str, Option<&str>),
    version: &Version,
    cursor: Option<&str>,
) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(8192));
    text.push_str("silent\nshow-error\nnoproxy = \"*\"\ncompressed\nconnect-timeout = 15\n");
    text.push_str("user-agent = \"ringfence\"\nspeed-limit = 500\nspeed-time = 30\n");
    let _infallible =
        write!(text, "max-time = {}\nmax-filesize = {SIZE_MAX}\n", TIME_MAX.as_secs());
    let is_secure = url.starts_with("https://");
    text.push_str(if is_secure { "proto = \"=https\"\n" } else { "proto = \"=http\"\n" });
    // A header with a key must not reach another server.
    if is_secure && key.is_none() {
        text.push_str("location\nmax-redirs = 3\nproto-redir = \"=https\"\n");
    }
    option(
        &mut text,
        "write-out",
        "\n%{http_code}\t%header{retry-after}\t%header{last-modified}\t%header{etag}",
    )?;
    let base = url.trim_end_matches('/');
    match (&feed.format, key) {
        (Form::Apiban, Some(key)) => {
            let is_key = key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            ensure!(is_key, "the key of APIBAN is not one");
            let place = cursor.unwrap_or(APIBAN_FIRST);
            let url = Zeroizing::new(format!("{base}/{key}/banned/{place}"));
            option(&mut text, "url", &url)?;
        }
        (Form::Crowdsec, Some(key)) => {
            let is_first = cursor.is_none();
            option(&mut text, "url", &format!("{base}{CROWDSEC_STREAM}?startup={is_first}"))?;
            option(&mut text, "header", &Zeroizing::new(format!("X-Api-Key: {key}")))?;
        }
        (_, Some(key)) => {
            option(&mut text, "url", url)?;
            let header = if key.contains(": ") {
                Zeroizing::new(key.to_owned())
            } else {
                Zeroizing::new(format!("Authorization: Bearer {key}"))
            };
            option(&mut text, "header", &header)?;
        }
        (_, None) => option(&mut text, "url", url)?,
    }
    if !feed.format.has_parts() {
        if !version.etag.is_empty() {
            option(&mut text, "header", &format!("If-None-Match: {}", version.etag))?;
        }
        if !version.modified.is_empty() {
            option(&mut text, "header", &format!("If-Modified-Since: {}", version.modified))?;
        }
    }
    Ok(text)
}

/// The answer in what curl printed: the document and the line with the status.
fn answer(feed: &Feed, mut bytes: Vec<u8>) -> Result<Answer, Failure> {
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    let Some(end) = end else { return Err("curl printed no status".to_owned().into()) };
    let trailer = String::from_utf8_lossy(bytes.get(end + 1..).unwrap_or_default()).into_owned();
    bytes.truncate(end);
    let mut fields = trailer.splitn(4, '\t');
    let mut next = || fields.next().unwrap_or_default();
    let (status, wait, modified, etag) = (next(), next(), next(), next());
    let status: u16 = status.parse().unwrap_or_default();
    // APIBAN answers 400 if there is nothing new.
    let is_last = feed.format == Form::Apiban && status == 400 && bytes.starts_with(b"{");
    match status {
        200 => Ok(Answer::Document(bytes, Version { etag: kept(etag), modified: kept(modified) })),
        400 if is_last => Ok(Answer::Document(bytes, Version::default())),
        304 => Ok(Answer::Unchanged),
        401 | 403 => Err(format!("the server refuses ({status}); is `key_file` right?").into()),
        404 => Err("the server does not know this list (404); is `url` right?".to_owned().into()),
        status @ 300..=399 => {
            Err(format!("the server answers {status}, a redirect that is not followed").into())
        }
        status => {
            let asked = wait.trim().parse().ok().map(Duration::from_secs);
            Err(Failure { why: format!("the server answers {status}"), asked })
        }
    }
}

/// A header that may be sent back.
fn kept(header: &str) -> String {
    let is_plain = header.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if is_plain && header.len() <= HEADER_MAX { header.to_owned() } else { String::new() }
}

/// An error without the key, without control characters, and not too long.
fn shown(text: &str, key: Option<&str>) -> String {
    let text = match key.filter(|key| !key.is_empty()) {
        Some(key) => text.replace(key, "KEY"),
        None => text.to_owned(),
    };
    text.escape_debug().to_string().chars().take(ERROR_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(format: &str, url: &str) -> Feed {
        Feed { url: Some(url.parse().unwrap()), format: format.parse().unwrap(), ..Feed::default() }
    }

    #[test]
    fn a_key_goes_to_one_server_only() {
        let ask = |format: &str, url: &str, key, cursor| {
            let version = Version { etag: "\"x\"".to_owned(), modified: String::new() };
            input(&feed(format, url), (url, key), &version, cursor).unwrap().to_string()
        };
        let open = ask("plain", "https://lists.example/a", None, None);
        assert!(
            open.contains("location\n") && open.contains("proto-redir = \"=https\"\n"),
            "{open}"
        );
        assert!(open.contains("header = \"If-None-Match: \\\"x\\\"\"\n"), "{open}");
        let closed = ask("plain", "https://lists.example/a", Some("secret"), None);
        assert!(!closed.contains("location") && closed.contains("Authorization: Bearer secret"));
        let own = ask("plain", "https://lists.example/a", Some("X-Key: secret"), None);
        assert!(own.contains("header = \"X-Key: secret\"\n"), "{own}");
        let page = ask("apiban", "https://apiban.example/api/", Some("k1"), Some("77"));
        assert!(page.contains("url = \"https://apiban.example/api/k1/banned/77\"\n"), "{page}");
        let local = ask("crowdsec", "http://127.0.0.1:8080/", Some("k1"), None);
        assert!(
            local.contains("url = \"http://127.0.0.1:8080/v1/decisions/stream?startup=true\"\n")
        );
        assert!(local.contains("proto = \"=http\"\n") && !local.contains("If-None"), "{local}");
        let wrong = feed("apiban", "https://apiban.example/api");
        let wrong = input(&wrong, ("https://x", Some("a/../b")), &Version::default(), None);
        assert!(wrong.is_err());
        let header = input(
            &feed("plain", "/x"),
            ("https://x", Some("a\nurl = b")),
            &Version::default(),
            None,
        );
        assert!(header.unwrap_err().to_string().contains("control character"));
        assert_eq!(shown("curl: https://x/secret/y\n", Some("secret")), "curl: https://x/KEY/y\\n");
    }

    #[test]
    fn the_status_stands_behind_the_document() {
        let plain = feed("plain", "/x");
        let read = |text: &[u8]| answer(&plain, text.to_vec());
        let Ok(Answer::Document(bytes, version)) = read(b"185.0.0.1\n\n200\t\tMon\t\"e\"") else {
            panic!("no document")
        };
        assert_eq!(
            (&bytes[..], &*version.etag, &*version.modified),
            (&b"185.0.0.1\n"[..], "\"e\"", "Mon")
        );
        assert!(matches!(read(b"\n304\t\t\t"), Ok(Answer::Unchanged)));
        let busy = read(b"x\n503\t120\t\t").unwrap_err();
        assert_eq!(busy.asked, Some(Duration::from_mins(2)));
        for wrong in
            [&b""[..], b"x\n", b"x\n301\t\t\t", b"x\n401\t\t\t", b"x\n404\t\t\t", b"{}\n400\t\t\t"]
        {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        let last = answer(&feed("apiban", "https://x"), b"{}\n400\t\t\t".to_vec());
        assert!(matches!(last, Ok(Answer::Document(..))));
    }
}

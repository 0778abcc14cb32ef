//! The settings of a feed: a list of addresses that somebody else publishes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use ::feeds::Form;
use detection::settings::Scope;

use super::section::section;

/// The longest URL.
const URL_MAX: usize = 1024;

section! {
    /// A feed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Feed(scopes) {
        url: Option<Place> = None,
            "Where the list is: a file, or a URL with `https`. `http` is possible for a server on this \
             host only.",
            OrNone("a URL or the path of a file", "https://lists.example/sip.txt");
        format: Form = Form::Plain,
            "The form of the list. With `plain`, each line begins with an address or a network; `csv:2` \
             reads the second column; `json:/data#/ip` reads the array at the JSON pointer `/data`, and \
             in each of its members the text at `/ip`; `drop` is Spamhaus DROP, as text or JSON. `apiban` \
             and `crowdsec` are the protocols of these services.",
            Format();
        key_file: Option<PathBuf> = None,
            "A file whose first line is the key. APIBAN and CrowdSec get it in their own ways, any other \
             server as `Authorization: Bearer KEY`. A line with a colon is sent as a whole header.",
            OptionalPath("/etc/ringfence/apiban.key");
        scope: Scope = Scope::Sip,
            "What a ban of an entry closes: `sip`, a name under `ports`, or `all`.",
            Scope(Rc::clone(scopes));
        interval: Duration = Duration::from_hours(1),
            "How often the list is fetched. After a failure it is fetched sooner, and then less and less \
             often.",
            Time(Duration::from_secs(2)..=Duration::from_hours(7 * 24));
        expiry: Duration = Duration::from_hours(3 * 24),
            "How long the entries stay banned after the list was last fetched. An entry with an end of its \
             own is never kept longer than that.",
            Time(Duration::from_mins(1)..=Duration::from_hours(90 * 24));
        dry_run: bool = false, "Fetch and check the list, but ban nothing.", Flag();
    }
}

/// Where a list is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file on this host.
    File(PathBuf),
    /// Behind a URL: `https`, or `http` on this host.
    Url(String),
}

impl Place {
    /// The addresses of this host to which a URL leads over `http`; none over `https`, which shows who answers.
    pub fn on_this_host(&self) -> Vec<SocketAddr> {
        let Self::Url(url) = self else { return Vec::new() };
        let Some(rest) = url.strip_prefix("http://") else { return Vec::new() };
        let (name, port) = name_and_port(host(rest));
        let port = port.and_then(|port| port.parse().ok()).unwrap_or(80);
        let addresses: &[IpAddr] = match name {
            "::1" => &[IpAddr::V6(Ipv6Addr::LOCALHOST)],
            "localhost" => &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
            _ => &[IpAddr::V4(Ipv4Addr::LOCALHOST)],
        };
        addresses.iter().map(|address| SocketAddr::new(*address, port)).collect()
    }
}

/// The host with its port, in what follows the scheme of a URL.
fn host(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// The name of a host, without the brackets of an address, and the port behind it.
fn name_and_port(host: &str) -> (&str, Option<&str>) {
    let (name, rest) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').unwrap_or((rest, "")),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    (name, rest.strip_prefix(':'))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(url) => f.write_str(url),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > URL_MAX || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(format!("use at most {URL_MAX} letters, without spaces"));
        }
        if text.starts_with('/') {
            return Ok(Self::File(text.into()));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let host = host(rest);
        if !["http", "https"].contains(&scheme) || host.is_empty() {
            return Err(
                "use a URL such as `https://lists.example/sip.txt`, or the path of a file".into()
            );
        }
        if host.contains('@') {
            return Err("a URL has no password; put it into `key_file`".into());
        }
        let (name, _) = name_and_port(host);
        if scheme == "http" && !["127.0.0.1", "::1", "localhost"].contains(&name) {
            return Err("over `http`, anybody on the way can change the list; use `https`".into());
        }
        Ok(Self::Url(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_http_on_this_host_is_known() {
        for (text, at) in [
            ("http://127.0.0.1:8080/v1", &["127.0.0.1:8080"][..]),
            ("http://127.0.0.1", &["127.0.0.1:80"]),
            ("http://[::1]:81?x", &["[::1]:81"]),
            ("http://localhost:82/", &["127.0.0.1:82", "[::1]:82"]),
            ("https://localhost/", &[]),
            ("/etc/list", &[]),
        ] {
            let place: Place = text.parse().unwrap();
            let found: Vec<String> = place.on_this_host().iter().map(ToString::to_string).collect();
            assert_eq!(found, at, "{text}");
        }
    }

    #[test]
    fn a_list_is_fetched_only_where_nobody_can_change_it() {
        for text in [
            "/etc/ringfence/list.txt",
            "https://lists.example/sip.txt?x=1",
            "http://127.0.0.1:8080",
            "http://[::1]:80/x",
            "http://localhost/",
        ] {
            assert_eq!(text.parse::<Place>().map(|place| place.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "",
            "list.txt",
            "http://lists.example/",
            "http://127.0.0.1.example/",
            "https://",
            "ftp://lists.example/",
            "file:///etc/passwd",
            "https://me:secret@lists.example/",
            "https://lists.example/a b",
            "https://lists.example/\n",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}

//! The settings of a feed: a list of addresses that somebody else publishes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ::feeds::Form;
use detection::settings::Scope;

/// The longest URL.
const URL_MAX: usize = 1024;

/// A feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// Where its list is.
    pub url: Option<Place>,
    /// The form of the list.
    pub format: Form,
    /// The file with the key that the server asks for.
    pub key_file: Option<PathBuf>,
    /// What a ban of its entries closes.
    pub scope: Scope,
    /// How often it is fetched.
    pub interval: Duration,
    /// How long its entries stay banned after the list was last fetched.
    pub expiry: Duration,
    /// Fetch and check it, but ban nothing.
    pub dry_run: bool,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            url: None,
            format: Form::Plain,
            key_file: None,
            scope: Scope::Sip,
            interval: Duration::from_hours(1),
            expiry: Duration::from_hours(3 * 24),
            dry_run: false,
        }
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
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if !["http", "https"].contains(&scheme) || host.is_empty() {
            return Err(
                "use a URL such as `https://lists.example/sip.txt`, or the path of a file".into()
            );
        }
        if host.contains('@') {
            return Err("a URL has no password; put it into `key_file`".into());
        }
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
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

//! What a jail of your own reads, and with which filter.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::duration::snippet;

/// The most logs of a jail, and the most alternative matches of the journal.
pub const LOGS_MAX: usize = 32;

/// Linux's `PATH_MAX`, without the final NUL.
const LENGTH_MAX: usize = 4095;

/// A fail2ban filter as `fail2ban::Filter::load` takes it: the path of its file or its name in
/// `/etc/fail2ban/filter.d`, followed by its options in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterName(String);

/// The path of a log, or a pattern of paths with `*`, `?` and `[...]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPattern(String);

/// Which entries of systemd's journal are read: `FIELD=VALUE`, possibly several with spaces between
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalMatch(String);

impl FilterName {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl LogPattern {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path, unless it is a pattern.
    pub fn path(&self) -> Option<&Path> {
        (!self.0.contains(['*', '?', '['])).then(|| Path::new(&self.0))
    }
}

impl JournalMatch {
    /// Its terms, in the form that `journalctl` takes.
    pub fn terms(&self) -> impl Iterator<Item = &str> {
        self.0.split_whitespace()
    }
}

impl FromStr for FilterName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let file = text.split('[').next().unwrap_or_default();
        if !is_line(text) || file.is_empty() || (file.contains('/') && !file.starts_with('/')) {
            return Err(format!(
                "`{}` is not a fail2ban filter; write its path, such as \
                 `/etc/fail2ban/filter.d/nginx-http-auth.conf`, or its name, such as \
                 `nginx-http-auth`",
                snippet(text)
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for LogPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown = snippet(text);
        if !text.starts_with('/') || text.ends_with('/') || !is_line(text) {
            return Err(format!(
                "`{shown}` is not the path of a log; write one such as `/var/log/nginx/error.log` \
                 or `/var/log/nginx/*error.log`"
            ));
        }
        if text.contains("**") {
            return Err(format!("`{shown}` contains `**`; write `*` for each directory"));
        }
        if let Err(error) = glob::Pattern::new(text) {
            return Err(format!("`{shown}` is not a valid path pattern: {error}"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for JournalMatch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_field =
            |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        let is_term = |term: &str| {
            let pair = term.split_once('=');
            term == "+"
                || pair.is_some_and(|(field, _)| !field.is_empty() && field.bytes().all(is_field))
        };
        let found = Self(text.to_owned());
        if !is_line(text) || found.terms().next().is_none() || !found.terms().all(is_term) {
            return Err(format!(
                "`{}` is not a journal match; write one such as `_SYSTEMD_UNIT=nginx.service`",
                snippet(text)
            ));
        }
        Ok(found)
    }
}

impl fmt::Display for FilterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for LogPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for JournalMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_line(text: &str) -> bool {
    text.len() <= LENGTH_MAX && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_by_path_and_by_name() {
        for right in
            ["/etc/x.conf", "nginx-http-auth", "sshd[mode=aggressive, a=\"b c\"]", "/x[a=/b]"]
        {
            assert_eq!(right.parse::<FilterName>().unwrap().as_str(), right);
        }
        for wrong in ["", "[mode=x]", "filter.d/x.conf", "a\nb"] {
            assert!(
                wrong.parse::<FilterName>().unwrap_err().contains("not a fail2ban filter"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn logs_by_path_and_by_pattern() {
        let path = "/var/log/nginx/error.log".parse::<LogPattern>().unwrap();
        assert_eq!(path.path(), Some(Path::new("/var/log/nginx/error.log")));
        assert_eq!("/var/log/*/error.log".parse::<LogPattern>().unwrap().path(), None);
        for wrong in ["", "error.log", "/var/log/", "/var/**/x", "/var/log/[x", "/a\0"] {
            assert!(wrong.parse::<LogPattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn journals_by_field() {
        let units = "_SYSTEMD_UNIT=a.service + _COMM=b PRIORITY=3".parse::<JournalMatch>().unwrap();
        assert_eq!(units.terms().count(), 4);
        for wrong in ["", " ", "--vacuum-size=1", "unit=x", "=x", "A=b -f", "A=b\nB=c"] {
            assert!(wrong.parse::<JournalMatch>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_is_shown_as_it_was_written() {
        let text = "/etc/x.conf[a=b]";
        assert_eq!(text.parse::<FilterName>().unwrap().to_string(), text);
        let text = "/var/log/*.log";
        let pattern = text.parse::<LogPattern>().unwrap();
        assert_eq!((pattern.as_str(), &*pattern.to_string()), (text, text));
        let text = "_COMM=a  +  PRIORITY=3";
        assert_eq!(text.parse::<JournalMatch>().unwrap().to_string(), text);
    }

    #[test]
    fn none_is_longer_than_a_path() {
        for (length, is_right) in [(LENGTH_MAX, true), (LENGTH_MAX + 1, false)] {
            let text = "/".to_owned() + &"a".repeat(length - 1);
            assert_eq!(text.parse::<FilterName>().is_ok(), is_right);
            assert_eq!(text.parse::<LogPattern>().is_ok(), is_right);
        }
    }
}

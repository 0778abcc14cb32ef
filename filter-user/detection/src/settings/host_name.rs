//! Host names that can be looked up.

use std::fmt;
use std::str::FromStr;

use crate::duration::snippet;

/// The most names in one list: each is looked up repeatedly.
pub const HOST_NAMES_MAX: usize = 64;

/// The longest name in bytes, without the final dot (RFC 1035 section 2.3.4).
const NAME_MAX: usize = 253;

/// The longest part between two dots, in bytes.
const LABEL_MAX: usize = 63;

/// The full name of a host, in lower case and without a final dot: `office.example.org`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = String;

    /// A host name as the DNS accepts it (RFC 1123 section 2.1), with at least two labels: the result
    /// must not depend on the host's search domains.
    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let shown = snippet(text);
        if !name.is_ascii() {
            return Err(format!("write `{shown}` in ASCII, as in the DNS: `xn--...`"));
        }
        let is_label = |label: &str| {
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            (1..=LABEL_MAX).contains(&label.len())
                && label.bytes().all(is_letter)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let last = name.rsplit('.').next().unwrap_or_default();
        // No name ends with a number, and `192.0.2.999` is meant to be an address.
        let numeric = last.bytes().all(|byte| byte.is_ascii_digit());
        if name.len() > NAME_MAX || !name.split('.').all(is_label) || numeric {
            return Err(format!("`{shown}` is not a host name"));
        }
        if !name.contains('.') {
            return Err(format!("write `{shown}` with its domain, such as `{shown}.example.org`"));
        }
        if last == "localhost" {
            return Err(format!("`{shown}` is this host, which is never banned; remove it"));
        }
        Ok(Self(name))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts() {
        let name = |text: &str| text.parse::<HostName>().map(|name| name.to_string());
        assert_eq!(name("Office.Example.org.").unwrap(), "office.example.org");
        assert_eq!(name("xn--bro-hoa.example").unwrap(), "xn--bro-hoa.example");
        assert_eq!(name("3com.example").unwrap(), "3com.example");
        for (wrong, says) in [
            ("", "not a host name"),
            ("192.0.2.999", "not a host name"),
            ("a..example", "not a host name"),
            ("-a.example", "not a host name"),
            ("a_b.example", "not a host name"),
            ("a b.example", "not a host name"),
            ("office", "`office.example.org`"),
            ("büro.example", "xn--"),
            ("a.localhost", "this host"),
        ] {
            let error = name(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
        assert!(name(&format!("{}.example", "a".repeat(64))).is_err());
        assert!(name(&"a.".repeat(130)).is_err());
    }

    #[test]
    fn the_longest_names() {
        let label = |length| "a".repeat(length);
        let name = |last| format!("{0}.{0}.{0}.{1}", label(63), label(last));
        for (name, is_right) in [
            (name(61), true),
            (name(61) + ".", true),
            (name(62), false),
            (label(63) + ".example", true),
            (label(64) + ".example", false),
            ("a-.example".to_owned(), false),
            ("a-b.example".to_owned(), true),
        ] {
            let read = name.parse::<HostName>();
            assert_eq!(read.is_ok(), is_right, "{name}");
            assert!(read.is_err() || read.unwrap().as_str() == name.trim_end_matches('.'));
        }
    }
}

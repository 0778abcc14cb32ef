//! The name of a host in the fleet.

use std::fmt;
use std::str::FromStr;

/// The longest name.
pub const HOST_MAX: usize = 48;

/// The name of a host: lower-case letters, digits and `-`, because it is a part of subjects and of jails' names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Box<str>);

impl Host {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let letters = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins && text.bytes().all(letters) && text.len() <= HOST_MAX {
            return Ok(Self(text.into()));
        }
        Err(format!("use lower-case letters, digits and `-`, at most {HOST_MAX}, such as `pbx-3`"))
    }
}

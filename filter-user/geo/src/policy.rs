//! Reads what an administrator chooses: countries and AS numbers, to ban or to admit.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::Country;

/// The most countries and AS numbers of a policy.
pub const SELECTORS_MAX: usize = 1000;

/// A country or an autonomous system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// A country.
    Country(Country),
    /// The number of an autonomous system.
    As(u32),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Country(country) => country.fmt(f),
            Self::As(number) => write!(f, "AS{number}"),
        }
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        if let Ok(country) = upper.parse() {
            return Ok(Self::Country(country));
        }
        let digits = upper.strip_prefix("AS").filter(|digits| {
            digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0')
        });
        let number = digits.and_then(|digits| digits.parse().ok());
        number.map(Self::As).ok_or_else(|| {
            "use the two letters of a country (ISO 3166), such as `DE`, or an AS number, such as `AS3320`".into()
        })
    }
}

/// Which sources may use SIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// All but these.
    Ban(BTreeSet<Selector>),
    /// Only these.
    Admit(BTreeSet<Selector>),
}

impl Policy {
    /// What it names.
    pub fn selectors(&self) -> &BTreeSet<Selector> {
        match self {
            Self::Ban(selectors) | Self::Admit(selectors) => selectors,
        }
    }

    /// Whether it bans what it names.
    pub fn is_ban(&self) -> bool {
        matches!(self, Self::Ban(_))
    }
}

/// As in a configuration: `ban CN, AS64496`.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.selectors().iter().map(ToString::to_string).collect();
        write!(f, "{} {}", if self.is_ban() { "ban" } else { "admit" }, names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries_and_as_numbers_are_read() {
        for (text, shown) in [
            ("DE", "DE"),
            ("de", "DE"),
            ("AS", "AS"),
            ("AS1", "AS1"),
            ("as4294967295", "AS4294967295"),
        ] {
            assert_eq!(text.parse::<Selector>().map(|read| read.to_string()), Ok(shown.to_owned()));
        }
        for text in
            ["", "D", "DEU", "D1", "AS0", "AS01", "AS4294967296", "AS-1", "64496", "Germany"]
        {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
        let set = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(Policy::Ban(set(&["AS64496", "CN"])).to_string(), "ban CN, AS64496");
        assert_eq!(Policy::Admit(set(&["DE"])).to_string(), "admit DE");
    }
}

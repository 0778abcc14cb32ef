//! The forms of lists, and their names in the configuration.
//!
//! Must never build a document in memory, or repeat a key.

use std::fmt;
use std::str::FromStr;

/// The most steps of a pointer.
const STEPS_MAX: usize = 16;

/// The form of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// An address or a network at the start of each line.
    Plain,
    /// The same in a column of a table, counted from 1.
    Csv(usize),
    /// Spamhaus DROP: `network ; reference`, or a JSON object on each line.
    Drop,
    /// JSON: the list, and where in each of its members the network is.
    Json {
        /// Where the list is.
        list: Pointer,
        /// Where in a member of the list the network is; empty if the member is the network.
        member: Pointer,
    },
    /// APIBAN's pages.
    Apiban,
    /// The decisions of CrowdSec's local API.
    Crowdsec,
}

impl Form {
    /// Whether each document is only a part of the list, which adds to those before it.
    pub fn has_parts(&self) -> bool {
        match self {
            Self::Apiban | Self::Crowdsec => true,
            Self::Plain | Self::Csv(_) | Self::Drop | Self::Json { .. } => false,
        }
    }

    /// The names, for an error message.
    pub const EXPECTED: &str = "`plain`, `csv:COLUMN`, `json:POINTER`, `json:POINTER#POINTER`, `drop`, `apiban` or `crowdsec`";
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("plain"),
            Self::Csv(column) => write!(f, "csv:{column}"),
            Self::Drop => f.write_str("drop"),
            Self::Json { list, member } if member.0.is_empty() => write!(f, "json:{list}"),
            Self::Json { list, member } => write!(f, "json:{list}#{member}"),
            Self::Apiban => f.write_str("apiban"),
            Self::Crowdsec => f.write_str("crowdsec"),
        }
    }
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').map_or((text, None), |(n, v)| (n, Some(v)));
        match (name, value) {
            ("plain", None) => Ok(Self::Plain),
            ("drop", None) => Ok(Self::Drop),
            ("apiban", None) => Ok(Self::Apiban),
            ("crowdsec", None) => Ok(Self::Crowdsec),
            ("csv", Some(column)) => match column.parse() {
                Ok(column @ 1..=1000) => Ok(Self::Csv(column)),
                Ok(_) | Err(_) => {
                    Err("the column of a `csv` is a number from 1 to 1000".to_owned())
                }
            },
            ("json", Some(pointers)) => {
                let (list, member) = pointers.split_once('#').unwrap_or((pointers, ""));
                Ok(Self::Json { list: list.parse()?, member: member.parse()? })
            }
            _ => Err(format!("it is not a form; use {}", Self::EXPECTED)),
        }
    }
}

/// A JSON pointer (RFC 6901).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointer(pub(crate) Vec<String>);

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|step| write!(f, "/{}", step.replace('~', "~0").replace('/', "~1")))
    }
}

impl FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(steps) = text.strip_prefix('/') else {
            return match text {
                "" => Ok(Self::default()),
                _ => Err("a JSON pointer is empty or begins with `/`".to_owned()),
            };
        };
        let read = |step: &str| {
            // `~` stands only in `~0` and `~1`.
            let is_valid = step.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
            is_valid.then(|| step.replace("~1", "/").replace("~0", "~"))
        };
        let steps: Option<Vec<String>> = steps.split('/').map(read).collect();
        let steps =
            steps.ok_or("in a JSON pointer, `~` is written as `~0`, and `/` in a name as `~1`")?;
        if steps.len() > STEPS_MAX {
            return Err(format!("a JSON pointer has at most {STEPS_MAX} steps"));
        }
        Ok(Self(steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_it_is_written() {
        for text in [
            "plain",
            "csv:2",
            "drop",
            "json:",
            "json:/a/0",
            "json:#/ip",
            "json:/a~1b#/c~0d",
            "apiban",
            "crowdsec",
        ] {
            let form: Form = text.parse().unwrap();
            assert_eq!(form.to_string(), text);
        }
        for wrong in [
            "",
            "csv",
            "csv:0",
            "csv:x",
            "plain:1",
            "json",
            "json:a",
            "json:/~2",
            "json:/a#b",
            "xml",
        ] {
            assert!(wrong.parse::<Form>().is_err(), "{wrong}");
        }
        assert!(format!("json:{}", "/a".repeat(17)).parse::<Form>().is_err());
    }
}

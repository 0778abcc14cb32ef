//! Entries of systemd's journal, as fail2ban's filters read them: `HOST NAME[PID]: MESSAGE`.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

use crate::failure::LoggedAt;

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its cursor, to continue from there.
    pub cursor: String,
    /// When it was written.
    pub logged_at: Option<LoggedAt>,
    /// The text that a filter reads. A line break in the message becomes `\n`, two characters.
    pub line: Vec<u8>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, rename = "__CURSOR")]
    cursor: Cow<'a, str>,
    #[serde(borrow, default, rename = "__REALTIME_TIMESTAMP")]
    microseconds: Cow<'a, str>,
    #[serde(borrow, default, rename = "_HOSTNAME")]
    host: Option<Field<'a>>,
    #[serde(borrow, default, rename = "SYSLOG_IDENTIFIER")]
    identifier: Option<Field<'a>>,
    #[serde(borrow, default, rename = "_COMM")]
    program: Option<Field<'a>>,
    #[serde(borrow, default, rename = "SYSLOG_PID")]
    syslog_pid: Option<Field<'a>>,
    #[serde(borrow, default, rename = "_PID")]
    pid: Option<Field<'a>>,
    #[serde(borrow, default, rename = "MESSAGE")]
    message: Option<Field<'a>>,
}

/// A field as `journalctl` writes it: an array of bytes if it is not UTF-8, an array of values if the
/// entry has it several times.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Field<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Bytes(Vec<u8>),
    Other(serde::de::IgnoredAny),
}

impl Field<'_> {
    /// Its bytes, if it has one value.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text.as_bytes()),
            Self::Bytes(bytes) => Some(bytes),
            Self::Other(_) => None,
        }
    }
}

/// Parses an entry of `journalctl -o json`; `None` if it is not one.
pub fn entry(line: &[u8]) -> Option<Entry> {
    let fields: Fields = serde_json::from_slice(line).ok()?;
    let bytes =
        |field: &Option<Field<'_>>| field.as_ref().and_then(Field::bytes).map(<[u8]>::to_vec);
    let mut line = Vec::new();
    if let Some(host) = bytes(&fields.host) {
        line.extend(host);
        line.push(b' ');
    }
    if let Some(name) = bytes(&fields.identifier).or_else(|| bytes(&fields.program)) {
        line.extend(name);
        if let Some(pid) = bytes(&fields.syslog_pid).or_else(|| bytes(&fields.pid)) {
            line.push(b'[');
            line.extend(pid);
            line.push(b']');
        }
        line.extend(b": ");
    }
    for byte in bytes(&fields.message).unwrap_or_default() {
        match byte {
            b'\n' => line.extend(b"\\n"),
            byte => line.push(byte),
        }
    }
    Some(Entry {
        cursor: fields.cursor.into_owned(),
        logged_at: instant(&fields.microseconds),
        line,
    })
}

/// The time of an entry, from `__REALTIME_TIMESTAMP`.
pub(super) fn instant(microseconds: &str) -> Option<LoggedAt> {
    let instant = Timestamp::from_microsecond(microseconds.parse().ok()?).ok()?;
    Some(LoggedAt::Instant(instant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_line_of_a_log() {
        let line = |json: &str| {
            let entry = entry(json.as_bytes()).unwrap();
            assert_eq!(entry.cursor, "s=1");
            String::from_utf8(entry.line).unwrap()
        };
        assert_eq!(
            line(
                r#"{"__CURSOR":"s=1","_HOSTNAME":"pbx","SYSLOG_IDENTIFIER":"nginx","_PID":"7",
                "MESSAGE":"a\nb"}"#
            ),
            "pbx nginx[7]: a\\nb"
        );
        assert_eq!(line(r#"{"__CURSOR":"s=1","_COMM":"x","MESSAGE":[104,105]}"#), "x: hi");
        assert_eq!(line(r#"{"__CURSOR":"s=1","MESSAGE":["a","b"]}"#), "");
        assert_eq!(entry(b"{}"), None);
        assert_eq!(entry(b"refused 192.0.2.66"), None);
    }
}

//! The values of the bucket: short JSON with the version of its schema.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The schema that this version writes.
pub const SCHEMA: u16 = 1;

/// The longest record that is read, in bytes.
pub const RECORD_MAX: usize = 512;

/// The longest name of a jail or comment.
const TEXT_MAX: usize = 128;

/// Why a record is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It has a schema that this version does not know.
    Newer,
    /// It has another form.
    Broken,
}

/// A ban of a host. It has a length and no end, because clocks differ: it begins when the server has stored it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRecord {
    /// The jail that decided it there.
    pub jail: String,
    /// Whether its source is proven.
    pub proven: bool,
    /// How long it lasts from the moment at which it is stored.
    pub seconds: u64,
}

/// A host's sign of life. The server stamps it with its time, from which every host learns that time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The host's own clock, in milliseconds since 1970.
    pub time: u64,
    /// Its version of Ringfence.
    pub version: String,
    /// How many bans it shares.
    pub bans: u64,
    /// For how many more seconds SIP is closed there by maintenance.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub closed: u64,
    /// Marks the sign among those of the host.
    #[serde(default)]
    pub nonce: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn is_zero(seconds: &u64) -> bool {
    *seconds == 0
}

/// A network that every host trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allow {
    /// Its purpose.
    #[serde(default)]
    pub comment: String,
    /// How long from the moment at which it is stored; without it, until it is disallowed.
    #[serde(default)]
    pub seconds: Option<u64>,
}

/// Maintenance of every host that accepts it: SIP is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Its purpose.
    #[serde(default)]
    pub comment: String,
    /// How long it lasts from the moment at which it is stored.
    pub seconds: u64,
    /// Whether SIP is closed to known peers too.
    #[serde(default)]
    pub closed_to_known: bool,
}

/// A host whose bans no host accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Why.
    #[serde(default)]
    pub comment: String,
}

/// What every record has.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Version {
    /// The schema in which it was written.
    v: u16,
    /// The oldest schema whose readers understand it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<u16>,
}

/// A record with its version.
#[derive(Serialize)]
struct Versioned<'a, T> {
    v: u16,
    #[serde(flatten)]
    record: &'a T,
}

/// Writes a record.
pub fn write<T: Serialize>(record: &T) -> String {
    serde_json::to_string(&Versioned { v: SCHEMA, record }).unwrap_or_default()
}

/// Reads a record. Fields that it does not know are left out.
///
/// # Errors
///
/// If it cannot be read.
pub fn read<T: DeserializeOwned + Check>(bytes: &[u8]) -> Result<T, Unread> {
    if bytes.len() > RECORD_MAX {
        return Err(Unread::Broken);
    }
    let Version { v, min } = serde_json::from_slice(bytes).map_err(|_other| Unread::Broken)?;
    if min.unwrap_or(v) > SCHEMA {
        return Err(Unread::Newer);
    }
    let record: T = serde_json::from_slice(bytes).map_err(|_other| Unread::Broken)?;
    if record.is_plain() { Ok(record) } else { Err(Unread::Broken) }
}

/// What the texts of a record may be.
pub trait Check {
    /// Whether its texts are short and can be shown as they are.
    fn is_plain(&self) -> bool;
}

impl Check for BanRecord {
    fn is_plain(&self) -> bool {
        let letters =
            |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        !self.jail.is_empty() && self.jail.len() <= TEXT_MAX / 2 && self.jail.bytes().all(letters)
    }
}

impl Check for Beat {
    fn is_plain(&self) -> bool {
        is_plain(&self.version)
    }
}

impl Check for Allow {
    fn is_plain(&self) -> bool {
        is_plain(&self.comment)
    }
}

impl Check for Maintenance {
    fn is_plain(&self) -> bool {
        is_plain(&self.comment)
    }
}

impl Check for Cut {
    fn is_plain(&self) -> bool {
        is_plain(&self.comment)
    }
}

fn is_plain(text: &str) -> bool {
    text.len() <= TEXT_MAX && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn schemas_live_side_by_side() {
        let ban = BanRecord { jail: "sshd".to_owned(), proven: true, seconds: 60 };
        let text = write(&ban);
        assert_eq!(text, r#"{"v":1,"jail":"sshd","proven":true,"seconds":60}"#);
        assert_eq!(read(text.as_bytes()), Ok(ban.clone()));
        let newer = r#"{"v":7,"min":1,"jail":"sshd","proven":true,"seconds":60,"more":[1]}"#;
        assert_eq!(read(newer.as_bytes()), Ok(ban));
        for (text, why) in [
            (r#"{"v":2,"jail":"sshd","proven":true,"seconds":60}"#, Unread::Newer),
            (r#"{"v":9,"min":2}"#, Unread::Newer),
            (r#"{"jail":"sshd","proven":true,"seconds":60}"#, Unread::Broken),
            (r#"{"v":1,"jail":"a\u001bb","proven":true,"seconds":60}"#, Unread::Broken),
            (r#"{"v":1,"jail":"sshd","proven":true,"seconds":-1}"#, Unread::Broken),
            ("", Unread::Broken),
        ] {
            assert_eq!(read::<BanRecord>(text.as_bytes()), Err(why), "{text}");
        }
        let long = format!(r#"{{"v":1,"comment":"{}"}}"#, "x".repeat(RECORD_MAX));
        assert_eq!(read::<Allow>(long.as_bytes()), Err(Unread::Broken));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>(), text in "[{}\":,a-z0-9]{0,60}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                drop((read::<BanRecord>(bytes), read::<Beat>(bytes), read::<Allow>(bytes)));
                drop((read::<Maintenance>(bytes), read::<Cut>(bytes)));
            }
        }
    }
}

//! The envelope of a reply.

use serde::{Deserialize, Serialize};

use crate::{
    AllowChanged, Allows, Banned, BannedMany, BansPage, Confirmed, Durability, HistoryPage, Jails,
    Lifted, MaintenanceState, PeersPage, Reloaded, Status, TakenOver, TuneChanged, Why,
};

/// The version of requests and replies. Within a version, fields and requests are only added, so a
/// program must ignore fields that it does not know.
pub const VERSION: u32 = 1;

/// A reply with its envelope: a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<T = Answer> {
    /// The version of the reply; a reply without it is of version 1.
    #[serde(default = "first")]
    pub api: u32,
    /// The reply.
    #[serde(flatten)]
    pub reply: Reply<T>,
}

fn first() -> u32 {
    1
}

impl<T> From<Reply<T>> for Envelope<T> {
    fn from(reply: Reply<T>) -> Self {
        Self { api: VERSION, reply }
    }
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply<T = Answer> {
    /// The request was successful.
    Ok(T),
    /// The reason for a refusal and the remedy, as text.
    Error(String),
}

/// The document that the command line prints with `--json` if a command fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Failure {
    /// The problem and the remedy, as text.
    pub error: String,
}

/// The answer to a successful request. It has no tag: its type follows from the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The answer to `status`.
    Status(Box<Status>),
    /// The answer to `bans`.
    Bans(BansPage),
    /// The answer to `jails`.
    Jails(Jails),
    /// The answer to `why`.
    Why(Box<Why>),
    /// The answer to `ban`.
    Banned(Box<Banned>),
    /// The answer to `ban-many`.
    BannedMany(BannedMany),
    /// The answer to `allow` and `disallow`.
    AllowChanged(AllowChanged),
    /// The answer to `allows`.
    Allows(Allows),
    /// The answer to `set`.
    TuneChanged(TuneChanged),
    /// The answer to `peers`.
    Peers(PeersPage),
    /// The answer to `history`.
    History(HistoryPage),
    /// The answer to `take-over`.
    TakenOver(TakenOver),
    /// The answer to `maintenance`.
    Maintenance(MaintenanceState),
    /// The answer to `unban`.
    Lifted(Lifted),
    /// The answer to `confirm`.
    Confirmed(Confirmed),
    /// The answer to `reload`.
    Reloaded(Reloaded),
}

impl Answer {
    /// The part that says whether a change is stored; `None` for an answer without a change.
    pub fn durability_mut(&mut self) -> Option<&mut Durability> {
        match self {
            Self::Banned(banned) => Some(&mut banned.durability),
            Self::AllowChanged(changed) => Some(&mut changed.durability),
            Self::TuneChanged(changed) => Some(&mut changed.durability),
            Self::BannedMany(banned) => Some(&mut banned.durability),
            Self::TakenOver(taken) => Some(&mut taken.durability),
            Self::Lifted(lifted) => Some(&mut lifted.durability),
            Self::Status(_)
            | Self::Bans(_)
            | Self::Allows(_)
            | Self::History(_)
            | Self::Peers(_)
            | Self::Jails(_)
            | Self::Why(_)
            | Self::Maintenance(_)
            | Self::Confirmed(_)
            | Self::Reloaded(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_beside_the_answer() {
        let taken = Answer::TakenOver(TakenOver::default());
        let text = serde_json::to_string(&Envelope::from(Reply::Ok(taken))).unwrap();
        assert_eq!(
            text,
            r#"{"api":1,"ok":{"entered":0,"refused":{},"enforcing":false,"durable":false,"why":null}}"#
        );
        let no = Envelope::<Answer>::from(Reply::Error("no".to_owned()));
        assert_eq!(serde_json::to_string(&no).unwrap(), r#"{"api":1,"error":"no"}"#);
    }

    #[test]
    fn a_reply_is_read_with_its_version_or_without() {
        let read = |text| serde_json::from_str::<Envelope<u8>>(text);
        let expected = |api, reply| Envelope { api, reply };
        assert_eq!(read(r#"{"ok":7}"#).unwrap(), expected(1, Reply::Ok(7)));
        assert_eq!(read(r#"{"ok":7,"api":2}"#).unwrap(), expected(2, Reply::Ok(7)));
        let no = Reply::Error("no".to_owned());
        assert_eq!(read(r#"{"api":1,"error":"no","more":1}"#).unwrap(), expected(1, no));
        for text in ["{}", r#"{"api":1}"#, r#"{"ok":"x"}"#, "[]"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}

//! The reply as it is sent.

use serde::{Deserialize, Serialize};

use crate::{
    AllowChanged, Allows, Banned, BannedMany, BansPage, Confirmed, Durability, HistoryPage, Jails,
    Lifted, MaintenanceState, PeersPage, Reloaded, Status, TakenOver, TuneChanged, Why,
};

/// The version of requests and replies. Within a version, fields and requests are only added: a program must
/// ignore what it does not know.
pub const VERSION: u32 = 1;

/// A reply as it is sent: a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<T = Answer> {
    /// The version of the reply; one that does not say it is of version 1.
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

/// What a request is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply<T = Answer> {
    /// It is done, or this is known.
    Ok(T),
    /// Why not, and what to do, in words.
    Error(String),
}

/// What the command line prints with `--json` if a command fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Failure {
    /// What failed, and what to do, in words.
    pub error: String,
}

/// The answer to a request that succeeded. The kind of the request says which it is; there is no tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To `status`.
    Status(Box<Status>),
    /// To `bans`.
    Bans(BansPage),
    /// To `jails`.
    Jails(Jails),
    /// To `why`.
    Why(Box<Why>),
    /// To `ban`.
    Banned(Box<Banned>),
    /// To `ban-many`.
    BannedMany(BannedMany),
    /// To `allow` and `disallow`.
    AllowChanged(AllowChanged),
    /// To `allows`.
    Allows(Allows),
    /// To `set`.
    TuneChanged(TuneChanged),
    /// To `peers`.
    Peers(PeersPage),
    /// To `history`.
    History(HistoryPage),
    /// To `take-over`.
    TakenOver(TakenOver),
    /// To `maintenance`.
    Maintenance(MaintenanceState),
    /// To `unban`.
    Lifted(Lifted),
    /// To `confirm`.
    Confirmed(Confirmed),
    /// To `reload`.
    Reloaded(Reloaded),
}

impl Answer {
    /// Whether what a request changed is written down, if it changed anything.
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

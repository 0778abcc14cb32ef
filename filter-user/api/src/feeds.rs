//! Feeds: lists of addresses that somebody else publishes.

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The feeds of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Feeds {
    /// Each feed, by name.
    pub feeds: Vec<FeedRow>,
    /// Whether their bans drop packets; false if nothing is enforced, such as in a dry run.
    pub enforcing: bool,
}

/// A feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct FeedRow {
    /// Its name. The jail of its bans is `feed:` and this name.
    pub name: String,
    /// Where its list is.
    pub url: String,
    /// The form of the list.
    pub format: String,
    /// The name of the scope: the ports that its bans close.
    pub scope: String,
    /// Whether it bans nothing.
    pub dry_run: bool,
    /// Its state.
    pub state: FeedState,
    /// What is wrong with it, and what to do; null if nothing is.
    pub problem: Option<String>,
    /// The entries of the list in use.
    pub entries: u64,
    /// How many of its bans are in force.
    pub banned: u64,
    /// Entries that are not banned, by reason: `known` (a known peer), `trusted`, `own`, `essential`,
    /// `ignored` (by a jail), `lifted` (by an `unban`), `no-room` and `too-wide`.
    pub spared: std::collections::BTreeMap<String, u64>,
    /// Entries that are never banned, because no such address is in use on the Internet, or because the network
    /// is too wide.
    pub left_out: u64,
    /// Entries that could not be read.
    pub unread: u64,
    /// Packets that its bans matched while they were in force; counted once a minute.
    pub packets: u64,
    /// When the list was last fetched, or found to be unchanged; null if never.
    pub fetched: Option<String>,
    /// When it is fetched next.
    pub next: Option<String>,
    /// When its bans end unless it is fetched again; null if it bans nothing.
    pub until: Option<String>,
}

/// The state of a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(JsonSchema))]
pub enum FeedState {
    /// It has not been fetched yet.
    #[default]
    Waiting,
    /// It was fetched as planned.
    Ok,
    /// The last attempt to fetch it has failed. The list before it is in use.
    Failing,
    /// It could not be fetched for so long that its bans have ended.
    Expired,
    /// The last list has changed so much that somebody must confirm it. The list before it is in use.
    Refused,
    /// All of its bans were lifted; they stay lifted until it is confirmed.
    Paused,
}

impl FeedState {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Paused => "paused",
        }
    }
}

/// The answer to a request to confirm a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct FeedConfirmed {
    /// Its name.
    pub name: String,
    /// The entries of the list that is used from now on.
    pub entries: u64,
}

/// What `ringfence feeds test` finds, which is no answer of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct FeedTest {
    /// Where the list is.
    pub url: String,
    /// The form in which it was read.
    pub format: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The entries that a feed would ban.
    pub entries: u64,
    /// Entries that are not in use on the Internet.
    pub bogons: u64,
    /// Entries that are wider than any network that is banned.
    pub wide: u64,
    /// Entries inside a network that the configuration trusts.
    pub trusted: u64,
    /// Entries that others cover.
    pub covered: u64,
    /// Entries that could not be read.
    pub unread: u64,
    /// The first of those; null if there is none.
    pub first_unread: Option<String>,
    /// The first entries.
    pub sample: Vec<String>,
    /// Why the list would need to be confirmed; null if it would not.
    pub refused: Option<String>,
}

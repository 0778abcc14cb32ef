//! The signatures of scanners.

use datapath::settings::UserAgent;

use super::section::section;

section! {
    /// The signatures whose packets are dropped. They do not ban, because over UDP anybody can forge another
    /// address.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Signatures {
        user_agents: Vec<UserAgent> = UserAgent::of_scanners(),
            "The User-Agents of scanners, whose packets are dropped. A final `*` matches any \
             ending. A match does not ban the source.",
            UserAgents();
    }
}

//! Replies for tests: those recorded in `docs/api/examples`.

use api::{Audit, Banned, Jails, Source, State, Status, Why};
use serde::de::DeserializeOwned;

fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("a recorded reply is of its type")
}

macro_rules! example {
    ($name:literal) => {
        read(include_str!(concat!("../../docs/api/examples/", $name, ".json")))
    };
}

/// `status` of a host on which some things are wrong.
pub(crate) fn status() -> Status {
    example!("status")
}

/// `status` of a host on which nothing is wrong, with the sources `asterisk-notice`, `asterisk-ami` and `sshd`.
pub(crate) fn healthy() -> Status {
    let mut status = status();
    (status.exposure, status.hearing) = (Vec::new(), Vec::new());
    let like = status.sources[0].clone();
    let source = |(name, jail): (&str, &str)| Source {
        name: name.to_owned(),
        jail: jail.to_owned(),
        state: State::Ok,
        why: None,
        lost: 0,
        left_out: 0,
        ..like.clone()
    };
    let sources =
        [("asterisk-notice", "asterisk-wazo"), ("asterisk-ami", "asterisk-wazo"), ("sshd", "sshd")];
    status.sources = sources.map(source).to_vec();
    status
}

/// `why` of an address that is banned.
pub(crate) fn banned_why() -> Why {
    example!("why-banned")
}

/// `why` of an address of which nothing is known.
pub(crate) fn unknown_why() -> Why {
    let mut why: Why = example!("why-unwitnessed");
    why.not_counted = None;
    why
}

/// `jails`.
pub(crate) fn jails() -> Jails {
    example!("jails")
}

/// `ban` of a network that was banned already.
pub(crate) fn replacing() -> Banned {
    example!("ban-replaces")
}

/// The output of `audit`.
pub(crate) fn audit() -> Audit {
    example!("audit")
}

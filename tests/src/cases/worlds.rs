//! Worlds that have something to say about [generated](super::generated) packets' sources.

use filter_common::abi::{ABI_VERSION, SCOPE_ALL, SCOPE_SIP};

use super::{Ends, World};

/// The worlds, each with its name.
pub fn all() -> Vec<(&'static str, World)> {
    let strict = strict();
    let register = None;
    vec![
        ("no bans, no limit", World { register, ..World::default() }),
        ("a limit of two", World::default().limit(2)),
        ("bans, trust and a limit of one", strict.clone()),
        ("the same, watching", strict.clone().watching()),
        ("the same, not configured", World { abi: None, ..strict.clone() }),
        ("the same, of another version", World { abi: Some(ABI_VERSION + 1), ..strict.clone() }),
        ("the same, and everybody is trusted", strict.trust("0.0.0.0/0").trust("::/0")),
    ]
}

/// Bans of every kind, in force and over, some trust, and a limit of one.
fn strict() -> World {
    World::default()
        .ban("192.0.2.66", SCOPE_SIP, Ends::Never)
        .ban("192.0.2.67", SCOPE_ALL, Ends::Ago(5))
        .ban("2001:db8::66", SCOPE_ALL, Ends::In(3600))
        .ban_network("198.51.100.0/24", SCOPE_SIP, Ends::Never)
        .ban_network("2001:db8:1::/48", SCOPE_ALL, Ends::In(3600))
        .trust("fe80::/10")
        .trust("192.0.2.128/25")
        .limit(1)
}

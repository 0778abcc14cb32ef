//! What happens when nobody looks after the filter, and how its first start is confirmed.

use std::time::Duration;

use super::section::section;

section! {
    /// When the filter counts as unattended.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Watchdog {
        after: Duration = Duration::from_mins(2),
            "How long the daemon may be silent before the filter counts as unattended. Until the \
             next heartbeat, the filter then makes no new bans of its own and has no limits for \
             single sources and networks, because its trusted and known addresses may be out of \
             date. Bans in force end on time, and `limits.shared` still protects Asterisk. The \
             default leaves time for systemd to restart a daemon that hangs (30 s), for an upgrade, \
             and for a busy host. 0 means never.",
            TimeOrZero(Duration::from_secs(10)..=Duration::from_hours(24));
    }
}

impl Watchdog {
    /// How long the daemon may be silent; `None` if there is no limit.
    pub fn after(self) -> Option<Duration> {
        Some(self.after).filter(|after| !after.is_zero())
    }
}

section! {
    /// How the first start on a host is confirmed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Confirm {
        within: Duration = Duration::from_mins(5),
            "How long after the first start on a host an administrator has to type `ringfence \
             confirm` or to log in again over ssh. After that time no packet is dropped until \
             somebody confirms. The same time applies to services that `exposure` closes. Set 0 \
             before the first start if it needs no confirmation, for example on a host with a \
             console or an installation without an administrator.",
            TimeOrZero(Duration::from_mins(1)..=Duration::from_hours(1));
    }
}

impl Confirm {
    /// How long an administrator has to confirm; `None` if that is not necessary.
    pub fn within(self) -> Option<Duration> {
        Some(self.within).filter(|within| !within.is_zero())
    }
}

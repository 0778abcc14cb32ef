//! The part of the configuration that detection needs, as values. The crate that reads the files knows how
//! they are written.
//!
//! Must never know how a file is written.

mod escalation;
mod exposure;
mod guessing;
mod host_name;
mod increment;
mod jails;
mod logs;
mod ports;
mod weights;

use std::time::Duration;

use ipnet::IpNet;

use crate::failure::Class;

pub use self::escalation::{Escalation, Thresholds};
pub use self::exposure::{Exposure, Named, PortGuard, SERVICES, Service, names as services};
pub use self::guessing::GuessingSettings;
pub use self::host_name::{HOST_NAMES_MAX, HostName};
pub use self::increment::{Factor, Increment, MULTIPLIERS_MAX};
pub(crate) use self::jails::{ESCALATION, FLOOD, MANUAL, UNKNOWN};
pub use self::jails::{
    FEED, FEEDS_MAX, FLEET, OWN_JAILS_MAX, RECIDIVE, RESERVED, add, built_in_jails, defaults,
    intern,
};
pub use self::logs::{FilterName, JournalMatch, LOGS_MAX, LogPattern};
pub use self::ports::{
    NONE, PORT_CLASSES_MAX, PortClass, PortClasses, PortRange, Scope, SipPorts, choice as scopes,
    named as scope_named,
};
pub use self::weights::Weights;

/// The history of bans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offenders {
    /// How long a ban, and all before it, count after it has ended.
    pub remember: Duration,
}

/// A jail's settings, by the names that fail2ban gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JailSettings {
    /// Whether the jail is in use.
    pub enabled: bool,
    /// The sum of the weights of failures within `findtime` that leads to a ban.
    pub maxretry: u32,
    /// The weight of a failure; `None` means 1, for a jail whose sources report only one class.
    pub weights: Option<Weights>,
    /// The number of accounts that, with failures within `findtime`, also leads to a ban; 0 disables
    /// this.
    pub maxaccounts: u32,
    /// How long a failure counts.
    pub findtime: Duration,
    /// How long a ban lasts.
    pub bantime: Duration,
    /// Networks that this jail never bans.
    pub ignoreip: Vec<IpNet>,
    /// Hosts whose current addresses this jail never bans.
    pub ignore_names: Vec<HostName>,
    /// The scope of a proven ban.
    pub scope: Scope,
    /// The scope of any other ban. With `None`, only proven failures count.
    pub unproven_scope: Option<Scope>,
    /// What becomes of a ban of the SIP ports whose failures are not proven.
    pub unproven: Unproven,
    /// How its bans grow for repeated offenders.
    pub increment: Increment,
    /// The limits for guessing over days.
    pub guessing: GuessingSettings,
    /// The filter that reads its log in place of the built-in parser.
    pub filter: Option<FilterName>,
    /// The logs and the journal entries that it reads, if it is one of your own jails.
    pub own: Option<OwnJail>,
}

/// What becomes of a ban of the SIP ports whose failures are not proven, so that anybody may have failed in the
/// name of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproven {
    /// It only throttles: a phone at the address can still register.
    Throttle,
    /// It is in force, as in fail2ban.
    Ban,
}

impl Unproven {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Throttle, Self::Ban];

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttle => "throttle",
            Self::Ban => "ban",
        }
    }
}

impl JailSettings {
    /// The scope of a ban whose failures are not proven.
    pub fn unproven_closes(&self) -> Option<Scope> {
        match (self.unproven_scope, self.unproven) {
            (Some(Scope::Sip), Unproven::Throttle) => Some(Scope::Throttle),
            (scope, _) => scope,
        }
    }

    /// The weight of a failure of this class.
    pub fn weight(&self, class: Class) -> u32 {
        self.weights.as_ref().map_or(1, |weights| weights.of(class))
    }
}

/// The logs and journal entries that one of your own jails reads with its filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnJail {
    /// Its logs.
    pub log: Vec<LogPattern>,
    /// The journal entries that it reads are those that match any of these.
    pub journal: Vec<JournalMatch>,
    /// Whether its failures are proven: the service uses connections, and nobody else can write to the log.
    pub proven: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_ban_of_sip_becomes_a_throttle() {
        use Unproven::{Ban, Throttle};
        let closes = |unproven_scope, unproven| {
            JailSettings { unproven_scope, unproven, ..JailSettings::own() }.unproven_closes()
        };
        for (scope, unproven, closed) in [
            (Some(Scope::Sip), Throttle, Some(Scope::Throttle)),
            (Some(Scope::Sip), Ban, Some(Scope::Sip)),
            (Some(Scope::All), Throttle, Some(Scope::All)),
            (Some(Scope::Ports(1)), Throttle, Some(Scope::Ports(1))),
            (None, Throttle, None),
            (None, Ban, None),
        ] {
            assert_eq!(closes(scope, unproven), closed, "{scope:?} {unproven:?}");
        }
        assert_eq!(Unproven::ALL.map(Unproven::as_str), ["throttle", "ban"]);
    }

    #[test]
    fn a_jail_without_weights_counts_each_failure_once() {
        let mut weights = Weights::ASTERISK;
        weights.iter_mut().for_each(|(_, weight)| *weight = 5);
        let weight = |weights| JailSettings { weights, ..JailSettings::own() }.weight(Class::Acl);
        assert_eq!((weight(None), weight(Some(weights))), (1, 5));
    }
}

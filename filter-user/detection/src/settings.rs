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
mod rate;
mod rows;
mod weights;

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;

use crate::duration;
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
pub use self::rate::Rate;
pub use self::rows::{Row, Value, below, section};
pub use self::weights::Weights;

section! {
    /// A jail's settings, by the names that fail2ban gave them. The defaults are those of a jail of your own.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct JailSettings {
        enabled: bool = true, "Use this jail.", Flag();
        maxretry: u32 = 5,
            "How many failures within `findtime` ban a source, by weight.",
            Count(1..=10_000, "failures");
        findtime: Duration = Duration::from_mins(10),
            "How long a failure counts.",
            Time(SECOND..=MONTH);
        bantime: Duration = Duration::from_mins(10),
            "How long a ban lasts.",
            Time(SECOND..=duration::MAX);
        ignoreip: Vec<IpNet> = Vec::new(),
            "Addresses, networks and host names that this jail never bans. The limits still apply \
             to them.",
            Hosts(ignore_names, "to switch the jail off, set `enabled: false`");
        /// Hosts whose current addresses this jail never bans.
        ignore_names: Vec<HostName> = Vec::new();
        scope: Scope = Scope::All,
            "What a ban closes if `maxretry` of its failures are proven: `sip` (the SIP ports), a \
             name under `ports`, or `all`.",
            Scope();
        // Failures with a forgeable source do not close everything that it can close.
        unproven_scope: Option<Scope> = Some(Scope::Sip),
            "What a ban closes if fewer than `maxretry` of the failures are proven, so that the \
             source may be forged. With `none`, only proven failures count.",
            OptionalScope();
        unproven: Unproven = Unproven::Throttle,
            "What becomes of a ban with `unproven_scope: sip`. With `throttle`, the source can still \
             register over UDP: requests that answer a challenge pass, and retransmissions. With \
             `ban`, nothing passes, as in fail2ban; then forged packets can shut out a phone that is \
             not known.",
            Unproven();
        /// How its bans grow for repeated offenders.
        increment: Increment = Increment::OFF => section "bantime";
        maxaccounts: u32 = 0,
            "Failures on this many different accounts within `findtime` also ban a source; 0 disables \
             this.",
            Count(0..=10_000, "accounts");
        /// The limits for guessing over days.
        guessing: GuessingSettings = GuessingSettings::OFF => section "guessing";
        /// The weight of a failure; `None` means 1, for a jail whose sources report only one class.
        weights: Option<Weights> = None => rows weight_rows();
        /// The filter that reads its log in place of the built-in parser.
        filter: Option<FilterName> = None => rows log_rows(own);
        /// The logs and the journal entries that it reads, if it is one of your own jails.
        own: Option<OwnJail> = None;
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MONTH: Duration = Duration::from_hours(30 * 24);

fn weight_rows<'a>(at: &str, weights: &'a mut Option<Weights>) -> Vec<Row<'a>> {
    let row = |(class, weight)| Row {
        path: below(at, &format!("weights.{class}")),
        doc: format!(
            "How much a failure of the class {class} counts towards `maxretry`; 0 ignores it."
        ),
        value: Value::Count(weight, 0..=10_000, "points"),
    };
    weights.iter_mut().flat_map(Weights::iter_mut).map(row).collect()
}

fn log_rows<'a>(
    at: &str,
    filter: &'a mut Option<FilterName>,
    own: &'a mut Option<OwnJail>,
) -> Vec<Row<'a>> {
    // It counts bans and reads no log.
    if at == below("jails", RECIDIVE) {
        return Vec::new();
    }
    let doc = if own.is_some() {
        "The fail2ban filter that reads the logs: a path, or a name in /etc/fail2ban/filter.d."
    } else {
        "A fail2ban filter that reads the log instead of the built-in parser; `\"\"` for the \
         built-in parser."
    };
    let filter =
        Row { path: below(at, "filter"), doc: doc.to_owned(), value: Value::Filter(filter) };
    [filter].into_iter().chain(own.iter_mut().flat_map(|own| own.rows(at))).collect()
}

/// The settings of these jails.
pub fn rows<'a>(jails: &'a mut BTreeMap<&'static str, JailSettings>, at: &str) -> Vec<Row<'a>> {
    jails.iter_mut().flat_map(|(name, jail)| jail.rows(&below(at, name))).collect()
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

section! {
    /// The logs and journal entries that one of your own jails reads with its filter.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct OwnJail {
        log: Vec<LogPattern> = Vec::new(),
            "The logs to read. The wildcards `*`, `?` and `[...]` also match files that appear \
             later.",
            Logs();
        journal: Vec<JournalMatch> = Vec::new(),
            "The entries to read from systemd's journal, as `FIELD=VALUE`. An entry that matches \
             any of them is read.",
            Journal();
        proven: bool = false,
            "Treat the source of each failure as proven: the service uses TCP, and only its \
             server writes to what is read.",
            Flag();
    }
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
    fn a_failure_counts_for_a_month_at_most() {
        let mut settings = JailSettings::own();
        let mut rows = settings.rows("jails.web").into_iter();
        let row = rows.find(|row| row.path == "jails.web.findtime").unwrap();
        let Value::Time(_, times) = row.value else { panic!("no time") };
        assert_eq!((times.start().as_secs(), times.end().as_secs()), (1, 2_592_000));
    }

    #[test]
    fn a_jail_without_weights_counts_each_failure_once() {
        let mut weights = Weights::ASTERISK;
        weights.iter_mut().for_each(|(_, weight)| *weight = 5);
        let weight = |weights| JailSettings { weights, ..JailSettings::own() }.weight(Class::Acl);
        assert_eq!((weight(None), weight(Some(weights))), (1, 5));
    }
}

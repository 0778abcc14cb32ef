//! The rows of the jails, which the detection declares.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::config::kind;
use crate::config::schema::{Field, Section, field};
use crate::config::{
    FilterName, GuessingSettings, Increment, JailSettings, LOGS_MAX, OwnJail, RECIDIVE, Unproven,
    Weights,
};
use crate::duration;

/// The jails by name.
pub(in crate::config) fn fields<'a>(
    jails: &'a mut BTreeMap<&'static str, JailSettings>,
    scopes: &Rc<[String]>,
) -> Vec<Field<'a>> {
    jails.iter_mut().flat_map(|(name, jail)| jail_fields(name, jail, scopes)).collect()
}

fn jail_fields<'a>(
    name: &str,
    jail: &'a mut JailSettings,
    scopes: &Rc<[String]>,
) -> Vec<Field<'a>> {
    let second = Duration::from_secs(1);
    let month = Duration::from_hours(30 * 24);
    let at = Section(format!("jails.{name}"));
    let mut fields = vec![
        at.field("enabled", "Use this jail.", kind::Flag(&mut jail.enabled)),
        at.field(
            "maxretry",
            "How many failures within `findtime` ban a source, by weight.",
            kind::Count(&mut jail.maxretry, 1..=10_000, "failures"),
        ),
        at.field(
            "findtime",
            "How long a failure counts.",
            kind::Time(&mut jail.findtime, second..=month),
        ),
        at.field(
            "bantime",
            "How long a ban lasts.",
            kind::Time(&mut jail.bantime, second..=duration::MAX),
        ),
        at.field(
            "ignoreip",
            "Addresses, networks and host names that this jail never bans. The limits still apply \
             to them.",
            kind::Hosts(
                &mut jail.ignoreip,
                &mut jail.ignore_names,
                "to switch the jail off, set `enabled: false`",
            ),
        ),
        at.field(
            "scope",
            "What a ban closes if `maxretry` of its failures are proven: `sip` (the SIP ports), a \
             name under `ports`, or `all`.",
            kind::Scope(&mut jail.scope, Rc::clone(scopes)),
        ),
        at.field(
            "unproven_scope",
            "What a ban closes if fewer than `maxretry` of the failures are proven, so that the \
             source may be forged. With `none`, only proven failures count.",
            kind::OptionalScope(&mut jail.unproven_scope, Rc::clone(scopes)),
        ),
        at.field(
            "unproven",
            "What becomes of a ban with `unproven_scope: sip`. With `throttle`, the source can still \
             register over UDP: requests that answer a challenge pass, and retransmissions. With \
             `ban`, nothing passes, as in fail2ban; then forged packets can shut out a phone that is \
             not known.",
            kind::Choice(&mut jail.unproven, &Unproven::ALL, Unproven::as_str),
        ),
    ];
    fields.extend(increment_fields(name, &mut jail.increment));
    fields.push(at.field(
        "maxaccounts",
        "Failures on this many different accounts within `findtime` also ban a source; 0 disables \
         this.",
        kind::Count(&mut jail.maxaccounts, 0..=10_000, "accounts"),
    ));
    fields.extend(guessing_fields(name, &mut jail.guessing));
    for (class, weight) in jail.weights.iter_mut().flat_map(Weights::iter_mut) {
        let path = format!("jails.{name}.weights.{class}");
        let doc = format!(
            "How much a failure of the class {class} counts towards `maxretry`; 0 ignores it."
        );
        fields.push(field(&path, &doc, kind::Count(weight, 0..=10_000, "points")));
    }
    // It counts bans and reads no log.
    if name != RECIDIVE {
        fields.extend(log_fields(name, &mut jail.filter, &mut jail.own));
    }
    fields
}

fn guessing_fields<'a>(name: &str, guessing: &'a mut GuessingSettings) -> [Field<'a>; 5] {
    let at = Section(format!("jails.{name}.guessing"));
    let (hour, month) = (Duration::from_hours(1), Duration::from_hours(30 * 24));
    [
        at.field(
            "findtime",
            "How long a failure counts for the settings in this section, with a precision of one \
             eighth of that time.",
            kind::Time(&mut guessing.findtime, hour..=month),
        ),
        at.field(
            "maxretry",
            "How many failures ban a source, and how many on one account mark the account as \
             attacked; 0 disables both.",
            kind::Count(&mut guessing.maxretry, 0..=500, "failures"),
        ),
        at.field(
            "sources",
            "From how many sources the failures on an attacked account must come.",
            kind::Count(&mut guessing.sources, 1..=200, "sources"),
        ),
        at.field(
            "each",
            "How many failures on an attacked account ban a source that made them.",
            kind::Count(&mut guessing.each, 1..=100, "failures"),
        ),
        at.field(
            "maxaccounts",
            "Failures on this many different accounts ban a source, and then on each tenth as many more; 0 \
             disables this.",
            kind::Count(&mut guessing.maxaccounts, 0..=200, "accounts"),
        ),
    ]
}

fn increment_fields<'a>(name: &str, increment: &'a mut Increment) -> [Field<'a>; 7] {
    let at = Section(format!("jails.{name}.bantime"));
    [
        at.field(
            "increment",
            "Make each ban longer than the one before: `bantime * 2^N * factor`, where N is the \
             number of earlier bans, at most 20.",
            kind::Flag(&mut increment.enabled),
        ),
        at.field(
            "factor",
            "The factor by which the longer ban time is multiplied.",
            kind::Factor(&mut increment.factor),
        ),
        at.field(
            "maxtime",
            "The longest that a ban grows to.",
            kind::Time(&mut increment.maxtime, Duration::from_secs(1)..=duration::MAX),
        ),
        at.field(
            "rndtime",
            "The upper bound of a random time that is added.",
            kind::Time(&mut increment.rndtime, Duration::ZERO..=duration::MAX),
        ),
        at.field(
            "multipliers",
            "The multipliers to use instead of 2^N, from N = 0. The last one also applies to \
             every later ban.",
            kind::Multipliers(&mut increment.multipliers),
        ),
        at.field(
            "overalljails",
            "Count the earlier bans by all jails.",
            kind::Flag(&mut increment.overalljails),
        ),
        at.field(
            "unproven",
            "Count and lengthen unproven bans too, whose source may be forged.",
            kind::Flag(&mut increment.unproven),
        ),
    ]
}

/// What a jail's `filter` may be.
const FILTER: &str = "a fail2ban filter, or `\"\"` for none";

fn log_fields<'a>(
    name: &str,
    filter: &'a mut Option<FilterName>,
    own: &'a mut Option<OwnJail>,
) -> Vec<Field<'a>> {
    let at = Section(format!("jails.{name}"));
    let Some(OwnJail { log, journal, proven }) = own else {
        let doc = "A fail2ban filter that reads the log instead of the built-in parser; `\"\"` \
            for the built-in parser.";
        return vec![at.field("filter", doc, kind::OrNone(filter, FILTER, "nginx-http-auth"))];
    };
    let doc =
        "The fail2ban filter that reads the logs: a path, or a name in /etc/fail2ban/filter.d.";
    vec![
        at.field("filter", doc, kind::OrNone(filter, FILTER, "nginx-http-auth")),
        at.field(
            "log",
            "The logs to read. The wildcards `*`, `?` and `[...]` also match files that appear \
             later.",
            kind::Items(
                log,
                LOGS_MAX,
                "a list of logs such as `[/var/log/nginx/error.log]`",
                &["/var/log/nginx/*error.log"],
            ),
        ),
        at.field(
            "journal",
            "The entries to read from systemd's journal, as `FIELD=VALUE`. An entry that matches \
             any of them is read.",
            kind::Items(
                journal,
                LOGS_MAX,
                "a list of journal matches such as `[_SYSTEMD_UNIT=nginx.service]`",
                &["_SYSTEMD_UNIT=nginx.service"],
            ),
        ),
        at.field(
            "proven",
            "Treat the source of each failure as proven: the service uses TCP, and only its \
             server writes to what is read.",
            kind::Flag(proven),
        ),
    ]
}

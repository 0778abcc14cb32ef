//! Every setting in one table: its path, description, field and valid values.
//!
//! Reading, suggestions, the effective configuration and the reference file all walk this table.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use serde_json::{Value as Json, json};

use super::yaml::{Node, Position, Problem, Scalar, Value};
use super::{
    ByteLimits, Capacity, ClassLimits, Config, Escalation, Factor, FilterName, GuessingSettings,
    HOST_NAMES_MAX, HostName, Increment, JailSettings, JournalMatch, LOGS_MAX, Limit, Limits,
    LogPattern, MULTIPLIERS_MAX, Mode, OwnJail, PortClass, PortRange, RECIDIVE, Rate, Scope,
    Sources, SshdLog, Thresholds, USER_AGENTS_MAX, UserAgent, Weights,
};
use crate::duration::{self, Compact, snippet};
use detection::settings::{NONE, scope_named, scopes};

/// The most entries of one list. The kernel's maps are sized for it.
pub const LIST_MAX: usize = 1024;

/// The longest interface name in bytes: Linux's `IFNAMSIZ` without the final NUL.
const INTERFACE_NAME_MAX: usize = 15;

/// The longest host name of the DNS (RFC 1035 section 2.3.4), and more than a user name needs.
const WORD_MAX: usize = 255;

/// Linux's `PATH_MAX`, without the final NUL.
const PATH_MAX: usize = 4095;

/// `sun_path` of `unix(7)`, without the final NUL.
const SOCKET_PATH_MAX: usize = 107;

/// The keys that lead to a setting. The settings that belong to a jail's `bantime`, which is a setting
/// itself, have a dot in their key, as in fail2ban: `bantime.increment`.
pub(super) fn keys(path: &str) -> Vec<&str> {
    let keys: Vec<&str> = path.split('.').collect();
    match (&keys[..], path.splitn(3, '.').last()) {
        (["jails", jail, "bantime", _], Some(dotted)) => vec!["jails", jail, dotted],
        _ => keys,
    }
}

/// A setting.
pub(super) struct Field<'a> {
    /// Its path, such as `jails.asterisk-wazo.maxretry`.
    pub(super) path: String,
    /// Its description.
    pub(super) doc: String,
    slot: Slot<'a>,
}

/// The field of a setting, and its valid values.
enum Slot<'a> {
    Flag(&'a mut bool),
    /// With what is counted.
    Count(&'a mut u32, RangeInclusive<u32>, &'static str),
    Length(&'a mut u8, RangeInclusive<u8>),
    Time(&'a mut Duration, RangeInclusive<Duration>),
    /// With what is counted.
    Rate(&'a mut Rate, &'static str),
    Factor(&'a mut Factor),
    Multipliers(&'a mut Vec<u32>),
    Mode(&'a mut Mode),
    /// With the names of the port classes.
    Scope(&'a mut Scope, Rc<[String]>),
    /// [`NONE`] for none.
    OptionalScope(&'a mut Option<Scope>, Rc<[String]>),
    SshdLog(&'a mut SshdLog),
    Path(&'a mut PathBuf),
    /// An empty one for none.
    OptionalPath(&'a mut Option<PathBuf>),
    Port(&'a mut u16),
    /// Text without spaces, with a description.
    Word(&'a mut String, &'static str),
    Interfaces(&'a mut Vec<String>),
    /// Networks and names, with what to do instead of covering every address.
    Hosts(&'a mut Vec<IpNet>, &'a mut Vec<HostName>, &'static str),
    Ports(&'a mut Vec<PortRange>),
    /// An empty one for none.
    Filter(&'a mut Option<FilterName>),
    Logs(&'a mut Vec<LogPattern>),
    Journal(&'a mut Vec<JournalMatch>),
    UserAgents(&'a mut Vec<UserAgent>),
}

/// The table, in display order.
pub(super) fn fields(config: &mut Config) -> Vec<Field<'_>> {
    use Slot::{Flag, Hosts, Interfaces, Path, Ports};
    let Config { interfaces, mode, dry_run, trusted, trusted_names, trusted_by_route, sip, .. } =
        config;
    let Config { ports, ipv6_prefix, capacity, .. } = config;
    let names: Rc<[String]> = ports.names().into();
    let Config { limits, peers, offenders, escalation, signatures, jails, sources, paths, .. } =
        config;
    let mut fields = vec![
        field(
            "interfaces",
            "The interfaces to protect, at most 8. An empty list protects every interface with a \
             default route.",
            Interfaces(interfaces),
        ),
        field(
            "mode",
            "How the program is attached: `native` (in the driver), `generic` (in the network \
             stack: works everywhere, costs more per packet) or `auto` (native if the driver \
             supports it, otherwise generic).",
            Slot::Mode(mode),
        ),
        field("dry_run", "Decide and count, but drop nothing.", Flag(dry_run)),
        field(
            "trusted",
            "Addresses, networks and host names that are never dropped or banned. Loopback and \
             the host's own addresses are never banned in any case.",
            Hosts(
                trusted,
                trusted_names,
                "to watch without dropping anything, set `dry_run: true`",
            ),
        ),
        field(
            "trusted_by_route",
            "Trust a network only on the interfaces through which a reply to it would leave. On \
             any other interface its addresses must be forged.",
            Flag(trusted_by_route),
        ),
        field(
            "sip.udp",
            "The UDP ports that carry SIP. Write a range as `\"5060-5070\"`.",
            Ports(&mut sip.udp),
        ),
        field("sip.tcp", "The TCP ports that carry SIP, with or without TLS.", Ports(&mut sip.tcp)),
    ];
    for class in ports.iter_mut() {
        fields.extend(port_fields(class));
    }
    fields.extend(capacity_fields(ipv6_prefix, capacity));
    fields.extend(limit_fields(limits));
    fields.extend([
        field(
            "peers.remember",
            "How long a peer remains known after it last proved itself.",
            Slot::Time(&mut peers.remember, Duration::from_mins(1)..=Duration::from_hours(7 * 24)),
        ),
        field(
            "offenders.remember",
            "How long the earlier bans of an address count after the last of them has ended.",
            Slot::Time(&mut offenders.remember, Duration::from_mins(1)..=duration::MAX),
        ),
    ]);
    fields.extend(escalation_fields(escalation, &names));
    fields.extend([field(
        "signatures.user_agents",
        "The User-Agents of scanners, whose packets are dropped. A final `*` matches any ending. \
         A match does not ban the source.",
        Slot::UserAgents(&mut signatures.user_agents),
    )]);
    for (name, jail) in jails {
        fields.extend(jail_fields(name, jail, &names));
    }
    fields.extend(source_fields(sources));
    fields.extend([
        field(
            "paths.state",
            "The directory for the daemon's state: bans with their evidence, \
            earlier bans, and positions in logs.",
            Path(&mut paths.state),
        ),
        field("paths.runtime", "The directory for the control socket.", Path(&mut paths.runtime)),
        field(
            "paths.bpffs",
            "The directory on the BPF file system for the pinned program and maps. No other \
             program may use it.",
            Path(&mut paths.bpffs),
        ),
    ]);
    fields
}

fn capacity_fields<'a>(ipv6_prefix: &'a mut u8, capacity: &'a mut Capacity) -> [Field<'a>; 5] {
    use Slot::Count;
    [
        field(
            "ipv6_prefix",
            "The length of the IPv6 network that jails count and ban as one source; 128 means \
             single addresses. Known peers and addresses that the jail ignores are exempt from \
             such a ban.",
            Slot::Length(ipv6_prefix, 48..=128),
        ),
        field(
            "capacity.bans",
            "The most IPv4 addresses that can be banned at a time.",
            Count(&mut capacity.bans, 1..=10_000_000, "addresses"),
        ),
        field(
            "capacity.bans_ipv6",
            "The most single IPv6 addresses that can be banned at a time. A further 131072 \
             networks can be banned.",
            Count(&mut capacity.bans_ipv6, 1..=10_000_000, "addresses"),
        ),
        field(
            "capacity.watched",
            "The most sources whose failures each jail remembers. A million use 70 to 100 MB of \
             memory.",
            Count(&mut capacity.watched, 1..=10_000_000, "sources"),
        ),
        field(
            "capacity.offenders",
            "The most addresses whose earlier bans are counted, for each jail. Those with proven \
             bans are evicted last.",
            Count(&mut capacity.offenders, 1..=10_000_000, "addresses"),
        ),
    ]
}

fn limit_fields(limits: &mut Limits) -> Vec<Field<'_>> {
    let Limits { source, prefix, shared, tcp_bytes, known, greylist, admitted, flood } = limits;
    let mut fields = class_fields("limits", "one source that is not a known peer", source);
    fields.extend([
        field(
            "limits.prefix.ipv4",
            "The length of the IPv4 networks to which the limits in this section apply.",
            Slot::Length(&mut prefix.ipv4, 8..=32),
        ),
        field(
            "limits.prefix.ipv6",
            "The length of the IPv6 networks to which the limits in this section apply.",
            Slot::Length(&mut prefix.ipv6, 16..=128),
        ),
    ]);
    let who = "all unknown sources in one network together";
    fields.extend(class_fields("limits.prefix", who, &mut prefix.classes));
    let who = "all unknown sources together";
    fields.extend(class_fields("limits.shared", who, shared));
    fields.extend(byte_fields(tcp_bytes));
    fields.extend(limit_field(
        "limits.known",
        "How fast each known peer may send packets of any kind to SIP ports.",
        known,
    ));
    fields.push(field(
        "limits.greylist",
        "When a shared limit is reached, admit a REGISTER of an unknown source when it is \
         retransmitted. Forged floods do not retransmit.",
        Slot::Flag(greylist),
    ));
    fields.extend(limit_field(
        "limits.admitted",
        "How fast the greylist admits retransmissions, from all sources together.",
        admitted,
    ));
    fields.extend(limit_field(
        "limits.flood.after",
        "How far over its limit a source may go before the program bans it. Only a source with a \
         TCP connection or a known peer is banned in this way.",
        &mut flood.after,
    ));
    fields.push(field(
        "limits.flood.ban",
        "How long a ban for flooding lasts.",
        Slot::Time(&mut flood.ban, Duration::from_secs(1)..=Duration::from_hours(24)),
    ));
    fields
}

/// The limits of each class for `who`.
fn class_fields<'a>(section: &str, who: &str, limits: &'a mut ClassLimits) -> Vec<Field<'a>> {
    let ClassLimits { register, register_credentials, invite, options, subscribe, other, syn } =
        limits;
    let classes = [
        ("register", "REGISTER without credentials", register),
        ("register_credentials", "REGISTER with credentials", register_credentials),
        ("invite", "INVITE", invite),
        ("options", "OPTIONS", options),
        ("subscribe", "SUBSCRIBE", subscribe),
        ("other", "anything else", other),
        ("syn", "TCP connection requests", syn),
    ];
    let fields = classes.into_iter().flat_map(|(name, what, limit)| {
        let doc = format!("How fast {who} may send {what} to SIP ports.");
        limit_field(&format!("{section}.{name}"), &doc, limit)
    });
    fields.collect()
}

/// The limits of bytes over TCP.
fn byte_fields(limits: &mut ByteLimits) -> Vec<Field<'_>> {
    let ByteLimits { connection, source, prefix, shared } = limits;
    let who = [
        ("connection", "one TCP connection to a SIP port", connection),
        ("source", "one source over TCP to SIP ports", source),
        ("prefix", "one network over TCP to SIP ports", prefix),
        ("shared", "all unknown sources over TCP to SIP ports", shared),
    ];
    let fields = who.into_iter().flat_map(|(name, how, limit)| {
        let doc = format!("How many bytes may come from {how}, known peers excepted.");
        limit_of(&format!("limits.tcp_bytes.{name}"), &doc, limit, 1_000_000, "bytes")
    });
    fields.collect()
}

fn limit_field<'a>(path: &str, doc: &str, limit: &'a mut Limit) -> [Field<'a>; 2] {
    limit_of(path, doc, limit, 100_000, "packets")
}

/// The two fields of a limit whose burst is at most `most`.
fn limit_of<'a>(
    path: &str,
    doc: &str,
    limit: &'a mut Limit,
    most: u32,
    unit: &'static str,
) -> [Field<'a>; 2] {
    let Limit { rate, burst } = limit;
    [
        field(&format!("{path}.rate"), doc, Slot::Rate(rate, unit)),
        field(
            &format!("{path}.burst"),
            "How many may come at once before the rate applies.",
            Slot::Count(burst, 1..=most, unit),
        ),
    ]
}

fn escalation_fields<'a>(escalation: &'a mut Escalation, classes: &Rc<[String]>) -> Vec<Field<'a>> {
    let Escalation { enabled, findtime, bantime, scope, ipv4, ipv6 } = escalation;
    let second = Duration::from_secs(1);
    let mut fields = vec![
        field(
            "escalation.enabled",
            "Ban a network for the proven offenders in it.",
            Slot::Flag(enabled),
        ),
        field(
            "escalation.findtime",
            "How long an address counts as an offender after a jail has banned it for proven \
             failures.",
            Slot::Time(findtime, second..=Duration::from_hours(30 * 24)),
        ),
        field(
            "escalation.bantime",
            "How long the ban of a network lasts.",
            Slot::Time(bantime, second..=duration::MAX),
        ),
        field(
            "escalation.scope",
            "What the ban of a network closes: `sip` (the SIP ports), a name under `ports`, or \
             `all`.",
            Slot::Scope(scope, Rc::clone(classes)),
        ),
    ];
    fields.extend(threshold_fields("ipv4", ipv4, 8..=32));
    fields.extend(threshold_fields("ipv6", ipv6, 16..=128));
    fields
}

fn threshold_fields<'a>(
    family: &str,
    thresholds: &'a mut Thresholds,
    lengths: RangeInclusive<u8>,
) -> [Field<'a>; 4] {
    let Thresholds { prefix, offenders, wide_prefix, wide_offenders } = thresholds;
    let family_field = |key, doc, slot| field(&format!("escalation.{family}.{key}"), doc, slot);
    [
        family_field(
            "prefix",
            "The length of the networks that are banned.",
            Slot::Length(prefix, lengths.clone()),
        ),
        family_field(
            "offenders",
            "How many offenders in one network ban it; 0 never bans it.",
            Slot::Count(offenders, 0..=10_000, "sources"),
        ),
        family_field(
            "wide_prefix",
            "The length of the wider networks that are banned.",
            Slot::Length(wide_prefix, lengths),
        ),
        family_field(
            "wide_offenders",
            "How many offenders in one wider network ban it; 0 never bans it.",
            Slot::Count(wide_offenders, 0..=10_000, "sources"),
        ),
    ]
}

fn source_fields(sources: &mut Sources) -> Vec<Field<'_>> {
    use Slot::{Flag, Path};
    let Sources { asterisk, sshd, wazo_provd } = sources;
    vec![
        field(
            "sources.asterisk.notice_log",
            "The log file to which Asterisk writes its NOTICE level, plain or `[json]`.",
            Path(&mut asterisk.notice_log),
        ),
        field(
            "sources.asterisk.security_log",
            "The log file to which Asterisk writes its SECURITY level, plain or `[json]`; `\"\"` \
             for none. AMI supplies the same events.",
            Slot::OptionalPath(&mut asterisk.security_log),
        ),
        field(
            "sources.asterisk.ami.enabled",
            "Receive the security events of Asterisk's manager interface (AMI).",
            Flag(&mut asterisk.ami.enabled),
        ),
        field(
            "sources.asterisk.ami.host",
            "The host name or address of AMI.",
            Slot::Word(&mut asterisk.ami.host, "a host such as `127.0.0.1`"),
        ),
        field(
            "sources.asterisk.ami.port",
            "The TCP port of AMI.",
            Slot::Port(&mut asterisk.ami.port),
        ),
        field(
            "sources.asterisk.ami.remote",
            "Accept AMI on another host or in another network namespace. The daemon cannot tell \
             which process listens there, and the connection is not encrypted.",
            Flag(&mut asterisk.ami.remote),
        ),
        field(
            "sources.asterisk.ami.listener",
            "The user that Asterisk runs as, by name or number. On this host the daemon logs in \
             only to a process of this user or of root.",
            Slot::Word(&mut asterisk.ami.listener, "a user such as `asterisk`"),
        ),
        field(
            "sources.asterisk.ami.user",
            "The AMI user: a section of manager.conf with `read = security`.",
            Slot::Word(&mut asterisk.ami.user, "a user such as `ringfence`"),
        ),
        field(
            "sources.asterisk.ami.secret_file",
            "The file with the line `secret = VALUE`. Asterisk's manager.conf can include it.",
            Path(&mut asterisk.ami.secret_file),
        ),
        field(
            "sources.sshd.log",
            "Where sshd's messages are read: `journal`, `file`, or `auto` (the journal if systemd \
             keeps one, otherwise the file).",
            Slot::SshdLog(&mut sshd.log),
        ),
        field(
            "sources.sshd.auth_log",
            "The file to which syslog writes sshd's messages.",
            Path(&mut sshd.auth_log),
        ),
        field(
            "sources.wazo_provd.log",
            "The security log of wazo-provd.",
            Path(&mut wazo_provd.log),
        ),
    ]
}

fn port_fields(class: &mut PortClass) -> [Field<'_>; 2] {
    let PortClass { name, udp, tcp } = class;
    let doc = |transport| format!("The {transport} ports that a ban of scope {name} closes.");
    [
        field(&format!("ports.{name}.udp"), &doc("UDP"), Slot::Ports(udp)),
        field(&format!("ports.{name}.tcp"), &doc("TCP"), Slot::Ports(tcp)),
    ]
}

fn jail_fields<'a>(
    name: &str,
    jail: &'a mut JailSettings,
    classes: &Rc<[String]>,
) -> Vec<Field<'a>> {
    let second = Duration::from_secs(1);
    let month = Duration::from_hours(30 * 24);
    let jail_field = |key, doc, slot| field(&format!("jails.{name}.{key}"), doc, slot);
    let mut fields = vec![
        jail_field("enabled", "Use this jail.", Slot::Flag(&mut jail.enabled)),
        jail_field(
            "maxretry",
            "How many failures within `findtime` ban a source, by weight.",
            Slot::Count(&mut jail.maxretry, 1..=10_000, "failures"),
        ),
        jail_field(
            "findtime",
            "How long a failure counts.",
            Slot::Time(&mut jail.findtime, second..=month),
        ),
        jail_field(
            "bantime",
            "How long a ban lasts.",
            Slot::Time(&mut jail.bantime, second..=duration::MAX),
        ),
        jail_field(
            "ignoreip",
            "Addresses, networks and host names that this jail never bans. The limits still apply \
             to them.",
            Slot::Hosts(
                &mut jail.ignoreip,
                &mut jail.ignore_names,
                "to switch the jail off, set `enabled: false`",
            ),
        ),
        jail_field(
            "scope",
            "What a ban closes if `maxretry` of its failures are proven: `sip` (the SIP ports), a \
             name under `ports`, or `all`.",
            Slot::Scope(&mut jail.scope, Rc::clone(classes)),
        ),
        jail_field(
            "unproven_scope",
            "What a ban closes if fewer than `maxretry` of the failures are proven, so that the \
             source may be forged. With `none`, only proven failures count.",
            Slot::OptionalScope(&mut jail.unproven_scope, Rc::clone(classes)),
        ),
    ];
    fields.extend(increment_fields(name, &mut jail.increment));
    fields.push(jail_field(
        "maxaccounts",
        "Failures on this many different accounts within `findtime` also ban a source; 0 disables \
         this.",
        Slot::Count(&mut jail.maxaccounts, 0..=10_000, "accounts"),
    ));
    fields.extend(guessing_fields(name, &mut jail.guessing));
    for (class, weight) in jail.weights.iter_mut().flat_map(Weights::iter_mut) {
        let path = format!("jails.{name}.weights.{class}");
        let doc = format!(
            "How much a failure of the class {class} counts towards `maxretry`; 0 ignores it."
        );
        fields.push(field(&path, &doc, Slot::Count(weight, 0..=10_000, "points")));
    }
    // It counts bans and reads no log.
    if name != RECIDIVE {
        fields.extend(log_fields(name, &mut jail.filter, &mut jail.own));
    }
    fields
}

fn guessing_fields<'a>(name: &str, guessing: &'a mut GuessingSettings) -> [Field<'a>; 5] {
    let jail_field = |key, doc, slot| field(&format!("jails.{name}.guessing.{key}"), doc, slot);
    let (hour, month) = (Duration::from_hours(1), Duration::from_hours(30 * 24));
    [
        jail_field(
            "findtime",
            "How long a failure counts for the settings in this section, with a precision of one \
             eighth of that time.",
            Slot::Time(&mut guessing.findtime, hour..=month),
        ),
        jail_field(
            "maxretry",
            "How many failures ban a source, and how many on one account mark the account as \
             attacked; 0 disables both.",
            Slot::Count(&mut guessing.maxretry, 0..=500, "failures"),
        ),
        jail_field(
            "sources",
            "From how many sources the failures on an attacked account must come.",
            Slot::Count(&mut guessing.sources, 1..=200, "sources"),
        ),
        jail_field(
            "each",
            "How many failures on an attacked account ban a source that made them.",
            Slot::Count(&mut guessing.each, 1..=100, "failures"),
        ),
        jail_field(
            "maxaccounts",
            "Failures on this many different accounts ban a source; 0 disables this.",
            Slot::Count(&mut guessing.maxaccounts, 0..=200, "accounts"),
        ),
    ]
}

fn log_fields<'a>(
    name: &str,
    filter: &'a mut Option<FilterName>,
    own: &'a mut Option<OwnJail>,
) -> Vec<Field<'a>> {
    let jail_field = |key, doc, slot| field(&format!("jails.{name}.{key}"), doc, slot);
    let Some(OwnJail { log, journal, proven }) = own else {
        let doc = "A fail2ban filter that reads the log instead of the built-in parser; `\"\"` \
            for the built-in parser.";
        return vec![jail_field("filter", doc, Slot::Filter(filter))];
    };
    let doc =
        "The fail2ban filter that reads the logs: a path, or a name in /etc/fail2ban/filter.d.";
    vec![
        jail_field("filter", doc, Slot::Filter(filter)),
        jail_field(
            "log",
            "The logs to read. The wildcards `*`, `?` and `[...]` also match files that appear \
             later.",
            Slot::Logs(log),
        ),
        jail_field(
            "journal",
            "The entries to read from systemd's journal, as `FIELD=VALUE`. An entry that matches \
             any of them is read.",
            Slot::Journal(journal),
        ),
        jail_field(
            "proven",
            "Treat the source of each failure as proven: the service uses TCP, and only its \
             server writes to what is read.",
            Slot::Flag(proven),
        ),
    ]
}

fn increment_fields<'a>(name: &str, increment: &'a mut Increment) -> [Field<'a>; 7] {
    let jail_field = |key, doc, slot| field(&format!("jails.{name}.bantime.{key}"), doc, slot);
    [
        jail_field(
            "increment",
            "Make each ban longer than the one before: `bantime * 2^N * factor`, where N is the \
             number of earlier bans, at most 20.",
            Slot::Flag(&mut increment.enabled),
        ),
        jail_field(
            "factor",
            "The factor by which the longer ban time is multiplied.",
            Slot::Factor(&mut increment.factor),
        ),
        jail_field(
            "maxtime",
            "The longest that a ban grows to.",
            Slot::Time(&mut increment.maxtime, Duration::from_secs(1)..=duration::MAX),
        ),
        jail_field(
            "rndtime",
            "The upper bound of a random time that is added.",
            Slot::Time(&mut increment.rndtime, Duration::ZERO..=duration::MAX),
        ),
        jail_field(
            "multipliers",
            "The multipliers to use instead of 2^N, from N = 0. The last one also applies to \
             every later ban.",
            Slot::Multipliers(&mut increment.multipliers),
        ),
        jail_field(
            "overalljails",
            "Count the earlier bans by all jails.",
            Slot::Flag(&mut increment.overalljails),
        ),
        jail_field(
            "unproven",
            "Count and lengthen unproven bans too, whose source may be forged.",
            Slot::Flag(&mut increment.unproven),
        ),
    ]
}

fn field<'a>(path: &str, doc: &str, slot: Slot<'a>) -> Field<'a> {
    Field { path: path.to_owned(), doc: doc.to_owned(), slot }
}

impl Field<'_> {
    /// Takes the value of `node`, or returns everything that is wrong with it.
    pub(super) fn read(&mut self, node: &Node) -> Vec<Problem> {
        let expected = self.slot.expected();
        let Err(wrongs) = self.slot.read(node) else {
            return Vec::new();
        };
        let path = &self.path;
        wrongs
            .into_iter()
            .map(|(at, wrong)| {
                let text = match wrong {
                    Wrong::Mismatch(found) => format!("`{path}` is {found}; expected {expected}"),
                    Wrong::Value(reason) => format!("`{path}`: {reason}"),
                    Wrong::Item(reason) => format!("in `{path}`, {reason}"),
                };
                Problem { at, text }
            })
            .collect()
    }

    /// What the value must be, as an error message says it.
    pub(super) fn expected(&self) -> String {
        self.slot.expected()
    }

    /// The unit of the value; empty if it has none.
    pub(super) fn unit(&self) -> &'static str {
        match &self.slot {
            Slot::Count(_, _, unit) => unit,
            Slot::Length(..) => "bits",
            Slot::Time(..) => "time",
            Slot::Rate(_, "bytes") => "bytes per time",
            Slot::Rate(..) => "packets per time",
            Slot::Port(_) | Slot::Ports(_) => "port numbers",
            Slot::Flag(_)
            | Slot::Factor(_)
            | Slot::Multipliers(_)
            | Slot::Mode(_)
            | Slot::Scope(..)
            | Slot::OptionalScope(..)
            | Slot::SshdLog(_)
            | Slot::Path(_)
            | Slot::OptionalPath(_)
            | Slot::Word(..)
            | Slot::Interfaces(_)
            | Slot::Hosts(..)
            | Slot::Filter(_)
            | Slot::Logs(_)
            | Slot::Journal(_)
            | Slot::UserAgents(_) => "",
        }
    }

    /// A possible value for the documentation.
    pub(super) fn example(&self) -> Json {
        match &self.slot {
            Slot::Flag(flag) => Json::from(!**flag),
            // A default of 0 switches something off.
            Slot::Count(count, range, _) if **count == 0 => Json::from(*range.end().min(&20)),
            Slot::Time(..) => Json::from("2h"),
            Slot::Rate(..) => Json::from("600/m"),
            Slot::Factor(_) => Json::from(1.5),
            Slot::Multipliers(_) => json!([1, 2, 4, 8, 16]),
            Slot::Mode(_) => Json::from(Mode::Generic.as_str()),
            Slot::Scope(..) => Json::from("sip"),
            Slot::OptionalScope(..) => Json::from(NONE),
            Slot::SshdLog(_) => Json::from(SshdLog::File.as_str()),
            Slot::OptionalPath(_) => Json::from("/var/log/asterisk/security"),
            Slot::Interfaces(_) => json!(["eth0"]),
            Slot::Hosts(..) => json!(["198.51.100.0/24", "2001:db8:5::/48", "office.example.org"]),
            Slot::Ports(_) => json!([5060, "5070-5080"]),
            Slot::Filter(_) => Json::from("nginx-http-auth"),
            Slot::Logs(_) => json!(["/var/log/nginx/*error.log"]),
            Slot::Journal(_) => json!(["_SYSTEMD_UNIT=nginx.service"]),
            Slot::UserAgents(_) => json!(["sipcli*", "iWar"]),
            Slot::Count(..) | Slot::Length(..) | Slot::Path(_) | Slot::Port(_) | Slot::Word(..) => {
                self.value()
            }
        }
    }

    /// The value as `--json` and the effective configuration show it.
    pub(super) fn value(&self) -> Json {
        match &self.slot {
            Slot::Flag(flag) => Json::from(**flag),
            Slot::Count(count, ..) => Json::from(**count),
            Slot::Length(length, _) => Json::from(**length),
            Slot::Time(time, _) => Json::from(duration::format(**time)),
            Slot::Rate(rate, _) => Json::from(rate.to_string()),
            Slot::Factor(factor) => factor_json(**factor),
            Slot::Multipliers(multipliers) => multipliers.iter().copied().map(Json::from).collect(),
            Slot::Mode(mode) => Json::from(mode.as_str()),
            Slot::Scope(scope, classes) => Json::from(scope_name(**scope, classes)),
            Slot::OptionalScope(scope, classes) => Json::from(
                scope.map_or_else(|| NONE.to_owned(), |scope| scope_name(scope, classes)),
            ),
            Slot::SshdLog(log) => Json::from(log.as_str()),
            Slot::Path(path) => Json::from(path.display().to_string()),
            Slot::OptionalPath(path) => {
                Json::from(path.as_ref().map(|p| p.display().to_string()).unwrap_or_default())
            }
            Slot::Port(port) => Json::from(**port),
            Slot::Word(word, _) => Json::from(&***word),
            Slot::Interfaces(names) => names.iter().map(|name| Json::from(&**name)).collect(),
            Slot::Hosts(networks, names, _) => {
                let networks = networks.iter().map(|network| network_text(*network));
                networks.chain(names.iter().map(ToString::to_string)).map(Json::from).collect()
            }
            Slot::Filter(filter) => {
                Json::from(filter.as_ref().map(ToString::to_string).unwrap_or_default())
            }
            Slot::Logs(logs) => logs.iter().map(|log| Json::from(log.as_str())).collect(),
            Slot::Journal(matches) => {
                matches.iter().map(|wanted| Json::from(wanted.to_string())).collect()
            }
            Slot::Ports(ranges) => ranges.iter().map(|range| port_json(*range)).collect(),
            Slot::UserAgents(names) => {
                names.iter().map(|name| Json::from(name.to_string())).collect()
            }
        }
    }
}

/// An error in one value.
enum Wrong {
    /// It is this, and not what was expected.
    Mismatch(String),
    /// It has the right shape, but is invalid for this reason.
    Value(String),
    /// An entry of the list is invalid.
    Item(String),
}

type Read<T> = Result<T, Vec<(Position, Wrong)>>;

impl Slot<'_> {
    fn expected(&self) -> String {
        match self {
            Self::Flag(_) => "`true` or `false`".into(),
            Self::Count(_, range, _) => {
                format!("a whole number from {} to {}", range.start(), range.end())
            }
            Self::Length(_, range) => {
                format!("a length in bits from {} to {}", range.start(), range.end())
            }
            Self::Time(_, range) => format!(
                "a duration from {} to {}, such as `10m`",
                Compact(*range.start()),
                Compact(*range.end())
            ),
            Self::Rate(..) => "a rate such as `10/s` or `600/m`".into(),
            Self::Factor(_) => {
                "a number from 0.001 to 1000, with at most three digits after the point".into()
            }
            Self::Multipliers(_) => "a list of whole numbers such as `[1, 2, 4, 8, 16]`".into(),
            Self::Mode(_) => "`auto`, `native` or `generic`".into(),
            Self::Scope(_, classes) => scopes(classes),
            Self::OptionalScope(_, classes) => format!("`{NONE}`, {}", scopes(classes)),
            Self::SshdLog(_) => "`auto`, `journal` or `file`".into(),
            Self::Path(_) => "an absolute path such as `/run/ringfence`".into(),
            Self::OptionalPath(_) => "an absolute path, or `\"\"` for none".into(),
            Self::Port(_) => "a port from 1 to 65535".into(),
            Self::Word(_, what) => (*what).into(),
            Self::Interfaces(_) => "a list of interface names such as `[eth0]`".into(),
            Self::Hosts(..) => {
                "a list of addresses, networks and names such as `[198.51.100.7, 203.0.113.0/24]`"
                    .into()
            }
            Self::Filter(_) => "a fail2ban filter, or `\"\"` for none".into(),
            Self::Logs(_) => "a list of logs such as `[/var/log/nginx/error.log]`".into(),
            Self::Journal(_) => {
                "a list of journal matches such as `[_SYSTEMD_UNIT=nginx.service]`".into()
            }
            Self::Ports(_) => "a list of ports such as `[5060, \"5070-5080\"]`".into(),
            Self::UserAgents(_) => "a list of User-Agents such as `[sipcli*, iWar]`".into(),
        }
    }

    fn read(&mut self, node: &Node) -> Read<()> {
        match self {
            Self::Flag(slot) => **slot = one(node, flag)?,
            Self::Count(slot, range, _) => **slot = one(node, |scalar| count(scalar, range))?,
            Self::Length(slot, range) => **slot = one(node, |scalar| length(scalar, range))?,
            Self::Time(slot, range) => **slot = one(node, |scalar| time(scalar, range))?,
            Self::Rate(slot, _) => {
                **slot = one(node, |scalar| scalar.text.parse().map_err(Wrong::Value))?;
            }
            Self::Factor(slot) => {
                let factor = |scalar: &Scalar| scalar.text.parse().map_err(|()| mismatch(scalar));
                **slot = one(node, factor)?;
            }
            Self::Multipliers(slot) => **slot = multipliers(node)?,
            Self::Mode(slot) => **slot = one(node, choice)?,
            Self::Scope(slot, classes) => {
                let scope = |scalar: &Scalar| scope_named(&scalar.text, classes);
                **slot = one(node, |scalar| scope(scalar).ok_or_else(|| mismatch(scalar)))?;
            }
            Self::OptionalScope(slot, classes) => {
                let scope = |scalar: &Scalar| match &*scalar.text {
                    NONE => Ok(None),
                    name => scope_named(name, classes).map(Some).ok_or_else(|| mismatch(scalar)),
                };
                **slot = one(node, scope)?;
            }
            Self::SshdLog(slot) => **slot = one(node, choice)?,
            Self::Path(slot) => **slot = one(node, absolute_path)?,
            Self::OptionalPath(slot) => **slot = one(node, optional_path)?,
            Self::Port(slot) => **slot = one(node, port)?,
            Self::Word(slot, _) => **slot = one(node, word)?,
            Self::Interfaces(slot) => **slot = interfaces(node)?,
            Self::Hosts(networks, names, instead) => {
                (**networks, **names) = hosts(node, instead)?;
            }
            Self::Filter(slot) => **slot = one(node, filter)?,
            Self::Logs(slot) => **slot = few(node, |scalar| scalar.text.parse())?,
            Self::Journal(slot) => **slot = few(node, |scalar| scalar.text.parse())?,
            Self::Ports(slot) => **slot = many(node, |scalar| ports(&scalar.text))?,
            Self::UserAgents(slot) => **slot = user_agents(node)?,
        }
        Ok(())
    }
}

fn one<T>(node: &Node, read: impl Fn(&Scalar) -> Result<T, Wrong>) -> Read<T> {
    match &node.value {
        Value::Scalar(scalar) if !scalar.is_null() => {
            read(scalar).map_err(|wrong| vec![(node.at, wrong)])
        }
        Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
            Err(vec![(node.at, Wrong::Mismatch(found(&node.value)))])
        }
    }
}

fn many<T>(node: &Node, read: impl Fn(&Scalar) -> Result<T, String>) -> Read<Vec<T>> {
    let items = match &node.value {
        Value::List(items) => items,
        Value::Scalar(scalar) if !scalar.is_null() => {
            let text = snippet(&scalar.text);
            // fail2ban separates addresses in this way.
            let separator = |c: char| c == ',' || c.is_whitespace();
            let items: Vec<&str> = text.split(separator).filter(|item| !item.is_empty()).collect();
            let reason = format!("write `{text}` as a list: `[{}]`", items.join(", "));
            return Err(vec![(node.at, Wrong::Value(reason))]);
        }
        Value::Scalar(_) | Value::Map(_) => {
            return Err(vec![(node.at, Wrong::Mismatch(found(&node.value)))]);
        }
    };
    if items.len() > LIST_MAX {
        let reason = format!("{} entries; at most {LIST_MAX} are possible", items.len());
        return Err(vec![(node.at, Wrong::Value(reason))]);
    }
    let mut values = Vec::with_capacity(items.len());
    let mut wrongs = Vec::new();
    for item in items {
        let value = match &item.value {
            Value::Scalar(scalar) if !scalar.is_null() => read(scalar),
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
                Err(format!("an entry is {}", found(&item.value)))
            }
        };
        match value {
            Ok(value) => values.push(value),
            Err(reason) => wrongs.push((item.at, Wrong::Item(reason))),
        }
    }
    if wrongs.is_empty() { Ok(values) } else { Err(wrongs) }
}

/// As [`many`], at most [`LOGS_MAX`].
fn few<T>(node: &Node, read: impl Fn(&Scalar) -> Result<T, String>) -> Read<Vec<T>> {
    let values = many(node, read)?;
    if values.len() > LOGS_MAX {
        let reason = format!("{} entries; at most {LOGS_MAX} are possible", values.len());
        return Err(vec![(node.at, Wrong::Value(reason))]);
    }
    Ok(values)
}

fn filter(scalar: &Scalar) -> Result<Option<FilterName>, Wrong> {
    if scalar.text.is_empty() {
        return Ok(None);
    }
    scalar.text.parse().map(Some).map_err(Wrong::Value)
}

/// What `value` is, for an error message.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Scalar(scalar) if scalar.is_null() => "empty".into(),
        Value::Scalar(scalar) if scalar.plain => format!("`{}`", snippet(&scalar.text)),
        Value::Scalar(scalar) => format!("the text `\"{}\"`", snippet(&scalar.text)),
        Value::List(_) => "a list".into(),
        Value::Map(_) => "a section".into(),
    }
}

fn mismatch(scalar: &Scalar) -> Wrong {
    Wrong::Mismatch(found(&Value::Scalar(scalar.clone())))
}

/// Also accepts the words of YAML 1.1, which Wazo's own daemons read.
fn flag(scalar: &Scalar) -> Result<bool, Wrong> {
    let word = if scalar.plain { scalar.text.to_ascii_lowercase() } else { String::new() };
    match &*word {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err(mismatch(scalar)),
    }
}

fn count(scalar: &Scalar, range: &RangeInclusive<u32>) -> Result<u32, Wrong> {
    Some(scalar)
        .filter(|scalar| scalar.plain)
        .and_then(|scalar| decimal(&scalar.text))
        .filter(|count| range.contains(count))
        .ok_or_else(|| mismatch(scalar))
}

fn length(scalar: &Scalar, range: &RangeInclusive<u8>) -> Result<u8, Wrong> {
    let range = u32::from(*range.start())..=u32::from(*range.end());
    u8::try_from(count(scalar, &range)?).map_err(|_too_long| mismatch(scalar))
}

/// Digits only: YAML readers disagree on `010` and `1_000`.
fn decimal(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    if digits && !leading_zero { text.parse().ok() } else { None }
}

fn time(scalar: &Scalar, range: &RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    let time = duration::parse(&scalar.text).map_err(|error| Wrong::Value(error.to_string()))?;
    if range.contains(&time) { Ok(time) } else { Err(mismatch(scalar)) }
}

fn choice<T: std::str::FromStr>(scalar: &Scalar) -> Result<T, Wrong> {
    scalar.text.parse().map_err(|_wrong| mismatch(scalar))
}

fn absolute_path(scalar: &Scalar) -> Result<PathBuf, Wrong> {
    let text = &scalar.text;
    if !text.starts_with('/') || text.contains(is_invisible) || text.len() > PATH_MAX {
        return Err(mismatch(scalar));
    }
    Ok(PathBuf::from(text))
}

fn optional_path(scalar: &Scalar) -> Result<Option<PathBuf>, Wrong> {
    if scalar.text.is_empty() { Ok(None) } else { absolute_path(scalar).map(Some) }
}

fn port(scalar: &Scalar) -> Result<u16, Wrong> {
    let port = count(scalar, &(1..=u32::from(u16::MAX)))?;
    u16::try_from(port).map_err(|_above| mismatch(scalar))
}

fn word(scalar: &Scalar) -> Result<String, Wrong> {
    let text = &scalar.text;
    let strange = |c: char| c.is_whitespace() || is_invisible(c);
    if text.is_empty() || text.len() > WORD_MAX || text.contains(strange) {
        return Err(mismatch(scalar));
    }
    Ok(text.clone())
}

/// Whether YAML readers break lines at a character or drop it. No name needs one.
fn is_invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

fn interfaces(node: &Node) -> Read<Vec<String>> {
    let names = many(node, |scalar| interface(&scalar.text))?;
    once(node, names, Clone::clone)
}

fn user_agents(node: &Node) -> Read<Vec<UserAgent>> {
    let names: Vec<UserAgent> = many(node, |scalar| scalar.text.parse())?;
    if names.len() > USER_AGENTS_MAX {
        let reason = format!("{} entries; at most {USER_AGENTS_MAX} are possible", names.len());
        return Err(vec![(node.at, Wrong::Value(reason))]);
    }
    once(node, names, |name| name.to_string().to_ascii_lowercase())
}

fn multipliers(node: &Node) -> Read<Vec<u32>> {
    let values = many(node, |scalar| {
        decimal(&scalar.text).filter(|value| *value > 0).ok_or_else(|| {
            format!("`{}` is not a multiplier; write a whole number above 0", snippet(&scalar.text))
        })
    })?;
    if values.len() > MULTIPLIERS_MAX {
        let reason = format!("{} entries; at most {MULTIPLIERS_MAX} are possible", values.len());
        return Err(vec![(node.at, Wrong::Value(reason))]);
    }
    Ok(values)
}

/// `values`, if no two of them have the same key.
fn once<T: ToString>(node: &Node, values: Vec<T>, key: impl Fn(&T) -> String) -> Read<Vec<T>> {
    let mut seen = BTreeSet::new();
    match values.iter().find(|value| !seen.insert(key(value))) {
        Some(twice) => {
            let reason = format!("`{}` is listed twice", snippet(&twice.to_string()));
            Err(vec![(node.at, Wrong::Value(reason))])
        }
        None => Ok(values),
    }
}

/// Accepts what Linux's `dev_valid_name` does.
fn interface(name: &str) -> Result<String, String> {
    let shown = snippet(name);
    if name.len() > INTERFACE_NAME_MAX {
        return Err(format!(
            "`{shown}` is too long; Linux's interface names have at most {INTERFACE_NAME_MAX} bytes"
        ));
    }
    let strange = |c: char| c == '/' || c == ':' || c.is_whitespace() || is_invisible(c);
    if name.is_empty() || name == "." || name == ".." || name.contains(strange) {
        return Err(format!("`{shown}` is not an interface name; write one such as `eth0`"));
    }
    Ok(name.to_owned())
}

/// Networks, and the names of hosts.
fn hosts(node: &Node, instead: &str) -> Read<(Vec<IpNet>, Vec<HostName>)> {
    let read = |scalar: &Scalar| match network(&scalar.text, instead) {
        Ok(network) => Ok(Ok(network)),
        // Text with a letter that no address has is meant to be a name.
        Err(_) if !is_numeric(&scalar.text) => scalar.text.parse().map(Err),
        Err(why) => Err(why),
    };
    let mut networks = Vec::new();
    let mut names: Vec<HostName> = Vec::new();
    for host in many(node, read)? {
        match host {
            Ok(network) => networks.push(network),
            Err(name) if names.contains(&name) => {}
            Err(name) => names.push(name),
        }
    }
    if names.len() > HOST_NAMES_MAX {
        let reason = format!("{} names; at most {HOST_NAMES_MAX} are possible", names.len());
        return Err(vec![(node.at, Wrong::Value(reason))]);
    }
    Ok((networks, names))
}

/// Whether a text is written like an address or a network.
fn is_numeric(text: &str) -> bool {
    text.contains([':', '/']) || text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn network(text: &str, instead: &str) -> Result<IpNet, String> {
    let shown = snippet(text);
    let Some(written) = parse_network(text) else {
        return Err(match netmask(text) {
            Some(network) => format!("write `{shown}` as `{}`", network_text(network)),
            None => format!(
                "`{shown}` is not an address or a network; write one such as `198.51.100.7`, \
                 `203.0.113.0/24` or `2001:db8::/64`, or a name such as `office.example.org`"
            ),
        });
    };
    let network = unmapped(written);
    if network.prefix_len() == 0 {
        return Err(format!("`{shown}` covers every address; {instead}"));
    }
    if network != written {
        return Err(format!("write `{shown}` as the IPv4 `{}`", network_text(network)));
    }
    if network.trunc() != network {
        return Err(format!(
            "`{shown}` has host bits set; write `{}` for the network or `{}` for \
             the host",
            network.trunc(),
            network.addr()
        ));
    }
    Ok(network)
}

fn parse_network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A network with a mask, as in Asterisk's `permit`.
fn netmask(text: &str) -> Option<IpNet> {
    let (address, mask) = text.split_once('/')?;
    let network = IpNet::with_netmask(address.parse().ok()?, mask.parse().ok()?).ok()?;
    Some(network.trunc())
}

/// The IPv4 network that an IPv4-mapped one stands for: packets never carry the mapped form.
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let mapped: Option<Ipv4Addr> = v6.addr().to_ipv4_mapped();
    let v4 = mapped
        .zip(v6.prefix_len().checked_sub(96))
        .and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok());
    v4.map_or(network, IpNet::V4)
}

/// An address without `/32` or `/128`.
fn network_text(network: IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

fn ports(text: &str) -> Result<PortRange, String> {
    let shown = snippet(text);
    let port = |text: &str| {
        decimal(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (Some(first), Some(last)) = (port(first), port(last)) else {
        return Err(format!(
            "`{shown}` is not a port; write a number from 1 to 65535 or a range such as \
             `\"5060-5070\"`"
        ));
    };
    if first > last {
        return Err(format!("write `{shown}` with the lower port first: `\"{last}-{first}\"`"));
    }
    Ok(PortRange { first, last })
}

fn factor_json(factor: Factor) -> Json {
    match factor.thousandths() {
        whole if whole.is_multiple_of(1000) => Json::from(whole / 1000),
        thousandths => Json::from(f64::from(thousandths) / 1000.0),
    }
}

fn port_json(range: PortRange) -> Json {
    if range.first == range.last { Json::from(range.first) } else { Json::from(range.to_string()) }
}

fn scope_name(scope: Scope, classes: &[String]) -> String {
    let name = |bit| classes.get(usize::from(bit).checked_sub(1)?);
    match scope {
        Scope::Sip => "sip".to_owned(),
        Scope::All => "all".to_owned(),
        Scope::Ports(number) => name(number).cloned().unwrap_or_default(),
    }
}

/// The errors of valid settings taken together: the path to blame and the reason.
pub(super) fn contradictions(config: &Config) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if config.sip.udp.is_empty() && config.sip.tcp.is_empty() {
        let text = "`sip.udp` and `sip.tcp` are both empty, so there is nothing to protect; \
                    name the ports that Asterisk listens on";
        found.push(("sip.udp".to_owned(), text.to_owned()));
    }
    for (name, jail) in &config.jails {
        for (key, scope) in [("scope", Some(jail.scope)), ("unproven_scope", jail.unproven_scope)] {
            if let Some(Err(why)) = scope.map(|scope| config.ports.scope(config.ports.name(scope)))
            {
                found.push((format!("jails.{name}.{key}"), why));
            }
        }
    }
    let Escalation { enabled, scope, ipv4, ipv6, .. } = &config.escalation;
    if let Err(why) = config.ports.scope(config.ports.name(*scope)) {
        found.push(("escalation.scope".to_owned(), why));
    }
    for (family, of) in [("ipv4", ipv4), ("ipv6", ipv6)] {
        if of.wide_prefix >= of.prefix {
            let text = format!(
                "`escalation.{family}.wide_prefix` is {}; it must be less than `prefix`, which is \
                 {}, because a wider network has a shorter prefix",
                of.wide_prefix, of.prefix
            );
            found.push((format!("escalation.{family}.wide_prefix"), text));
        }
    }
    let never = *enabled && ipv6.offenders > 1 && config.ipv6_prefix < 128;
    if never && ipv6.prefix >= config.ipv6_prefix {
        let text = format!(
            "`escalation.ipv6.prefix` is {}; it must be less than `ipv6_prefix`, which is {}, because \
             such a network is one offender",
            ipv6.prefix, config.ipv6_prefix
        );
        found.push(("escalation.ipv6.prefix".to_owned(), text));
    }
    for (name, jail) in &config.jails {
        let Some(own) = &jail.own else { continue };
        let text = if jail.filter.is_none() {
            "has no filter; set one, or remove the jail"
        } else if own.log.is_empty() && own.journal.is_empty() {
            "has nothing to read; set its `log` or its `journal`"
        } else {
            continue;
        };
        found.push((format!("jails.{name}.filter"), format!("the jail `{name}` {text}")));
    }
    let socket = config.paths.control_socket();
    let length = byte_length(&socket);
    if length > SOCKET_PATH_MAX {
        let text = format!(
            "`paths.runtime` makes the socket's path {length} bytes long; Linux allows \
             {SOCKET_PATH_MAX}"
        );
        found.push(("paths.runtime".to_owned(), text));
    }
    found
}

fn byte_length(path: &Path) -> usize {
    path.as_os_str().len()
}

//! Every setting in one table: its path, description, field and valid values.
//!
//! Reading, suggestions, the effective configuration and the reference file all walk this table.

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use super::kind::{self, Kind, Wrong};
use super::yaml::{Node, Problem};
use super::{
    Action, ActionKind, Alert, AlertKind, Api, ByteLimits, Capacity, ClassLimits, Config, Confirm,
    DATABASES_MAX, Escalation, Exposure, Feed, FilterName, Fleet, FleetAccept, Geo,
    GuessingSettings, Hook, ITEMS_MAX, Increment, JailSettings, Limit, Limits, Mode, OwnJail,
    Paths, PortClass, Protect, Publish, RECIDIVE, Sources, SshdLog, Thresholds, Unproven, Watchdog,
    Weights, services,
};
use crate::duration;
use crate::register::{self, LogSetting, Reads};

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
    /// Its value.
    pub(super) kind: Box<dyn Kind + 'a>,
}

/// The table, in display order.
pub(super) fn fields(config: &mut Config) -> Vec<Field<'_>> {
    use kind::{Flag, Hosts, Interfaces, Ports};
    let Config { interfaces, mode, dry_run, trusted, trusted_names, trusted_by_route, sip, .. } =
        config;
    let Config { protect, ports, exposure, ipv6_prefix, capacity, .. } = config;
    let names: Rc<[String]> = ports.names().into();
    let Config { limits, watchdog, confirm, peers, offenders, escalation, signatures, .. } = config;
    let Config { jails, feeds, alerts, actions, geo, fleet, sources, api, paths, .. } = config;
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
            kind::Choice(mode, &Mode::ALL, Mode::as_str),
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
    ];
    fields.extend(protect_fields(protect));
    fields.extend([
        field(
            "sip.udp",
            "The UDP ports that carry SIP. Write a range as `\"5060-5070\"`.",
            Ports(&mut sip.udp),
        ),
        field("sip.tcp", "The TCP ports that carry SIP, with or without TLS.", Ports(&mut sip.tcp)),
    ]);
    for class in ports.iter_mut() {
        fields.extend(port_fields(class));
    }
    fields.extend(exposure_fields(exposure));
    fields.extend(capacity_fields(ipv6_prefix, capacity));
    fields.extend(limit_fields(limits));
    fields.extend(safety_fields(watchdog, confirm));
    fields.extend([
        field(
            "peers.remember",
            "How long a peer remains known after it last proved itself.",
            kind::Time(&mut peers.remember, Duration::from_mins(1)..=Duration::from_hours(7 * 24)),
        ),
        field(
            "offenders.remember",
            "How long the earlier bans of an address count after the last of them has ended.",
            kind::Time(&mut offenders.remember, Duration::from_mins(1)..=duration::MAX),
        ),
    ]);
    fields.extend(escalation_fields(escalation, &names));
    fields.extend([field(
        "signatures.user_agents",
        "The User-Agents of scanners, whose packets are dropped. A final `*` matches any ending. \
         A match does not ban the source.",
        kind::UserAgents(&mut signatures.user_agents),
    )]);
    for (name, jail) in jails {
        fields.extend(jail_fields(name, jail, &names));
    }
    for (name, feed) in feeds {
        fields.extend(feed_fields(name, feed, &names));
    }
    fields.extend(geo_fields(geo));
    for (name, alert) in alerts {
        fields.extend(alert_fields(name, alert));
    }
    for (name, action) in actions {
        fields.extend(action_fields(name, action));
    }
    fields.extend(fleet_fields(fleet, &names));
    fields.extend(source_fields(sources));
    fields.extend(api_fields(api));
    fields.extend(path_fields(paths));
    fields
}

fn exposure_fields(exposure: &mut Exposure) -> [Field<'_>; 3] {
    use kind::{Flag, Services};
    let names: Vec<&str> = services().collect();
    [
        field(
            "exposure.trusted",
            &format!(
                "The services that are open to `trusted` networks only, by name or as `8080/tcp`. New TCP \
                 connections and UDP packets of all others are dropped; connections that exist, and UDP \
                 replies to the host, are not. Known peers may still use `sip` and `rtp`. The names are \
                 {}.",
                names.join(", ")
            ),
            Services(&mut exposure.trusted),
        ),
        field(
            "exposure.closed",
            "The services that are open to nobody, not even to `trusted` networks. The host's own \
             connections over loopback are not affected.",
            Services(&mut exposure.closed),
        ),
        field(
            "exposure.dry_run",
            "Count the packets that `exposure` would drop, but let them pass.",
            Flag(&mut exposure.dry_run),
        ),
    ]
}

fn api_fields(api: &mut Api) -> [Field<'_>; 2] {
    let place = "an address and a port on the loopback interface, or `\"\"` for none";
    [
        field(
            "api.listen",
            "Where the daemon offers the API and the page over TCP, on the loopback interface only. A client \
             needs a token of wazo-auth, a browser a login with `ringfence page`.",
            kind::OrNone(&mut api.listen, place, "127.0.0.1:9510"),
        ),
        field(
            "api.wazo_auth",
            "Where wazo-auth checks the tokens of clients over TCP; `\"\"` to accept no tokens.",
            kind::OrNone(&mut api.wazo_auth, place, "127.0.0.1:9497"),
        ),
    ]
}

fn geo_fields(geo: &mut Geo) -> [Field<'_>; 4] {
    use kind::{Files, Flag, Places};
    let Geo { databases, ban, admit, dry_run } = geo;
    [
        field(
            "geo.databases",
            "Databases of countries and of autonomous systems in MaxMind's format (MMDB). They are read again \
             when they change.",
            Files(databases, DATABASES_MAX),
        ),
        field(
            "geo.ban",
            "Countries and AS numbers from which SIP of unknown sources is dropped. Known peers and trusted \
             networks pass.",
            Places(ban),
        ),
        field(
            "geo.admit",
            "The only countries and AS numbers from which SIP of unknown sources is admitted. Known peers, \
             trusted networks, and addresses that are not in use on the Internet, pass too.",
            Places(admit),
        ),
        field(
            "geo.dry_run",
            "Count the packets that `geo` would drop, but let them pass.",
            Flag(dry_run),
        ),
    ]
}

fn path_fields(paths: &mut Paths) -> [Field<'_>; 3] {
    use kind::Path;
    [
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
    ]
}

fn capacity_fields<'a>(ipv6_prefix: &'a mut u8, capacity: &'a mut Capacity) -> [Field<'a>; 5] {
    use kind::Count;
    [
        field(
            "ipv6_prefix",
            "The length of the IPv6 network that jails count and ban as one source; 128 means \
             single addresses. Known peers and addresses that the jail ignores are exempt from \
             such a ban.",
            kind::Length(ipv6_prefix, 48..=128),
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

fn safety_fields<'a>(watchdog: &'a mut Watchdog, confirm: &'a mut Confirm) -> [Field<'a>; 2] {
    [
        field(
            "watchdog.after",
            "How long the daemon may be silent before the filter counts as unattended. Until the \
             next heartbeat, the filter then makes no new bans of its own and has no limits for \
             single sources and networks, because its trusted and known addresses may be out of \
             date. Bans in force end on time, and `limits.shared` still protects Asterisk. The \
             default leaves time for systemd to restart a daemon that hangs (30 s), for an upgrade, \
             and for a busy host. 0 means never.",
            kind::TimeOrZero(kind::Time(
                &mut watchdog.after,
                Duration::from_secs(10)..=Duration::from_hours(24),
            )),
        ),
        field(
            "confirm.within",
            "How long after the first start on a host an administrator has to type `ringfence \
             confirm` or to log in again over ssh. After that time no packet is dropped until \
             somebody confirms. The same time applies to services that `exposure` closes. Set 0 before the first start if it needs no confirmation, for \
             example on a host with a console or an installation without an administrator.",
            kind::TimeOrZero(kind::Time(
                &mut confirm.within,
                Duration::from_mins(1)..=Duration::from_hours(1),
            )),
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
            kind::Length(&mut prefix.ipv4, 8..=32),
        ),
        field(
            "limits.prefix.ipv6",
            "The length of the IPv6 networks to which the limits in this section apply.",
            kind::Length(&mut prefix.ipv6, 16..=128),
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
        kind::Flag(greylist),
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
        kind::Time(&mut flood.ban, Duration::from_secs(1)..=Duration::from_hours(24)),
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
        field(&format!("{path}.rate"), doc, kind::Rate(rate, unit)),
        field(
            &format!("{path}.burst"),
            "How many may come at once before the rate applies.",
            kind::Count(burst, 1..=most, unit),
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
            kind::Flag(enabled),
        ),
        field(
            "escalation.findtime",
            "How long an address counts as an offender after a jail has banned it for proven \
             failures.",
            kind::Time(findtime, second..=Duration::from_hours(30 * 24)),
        ),
        field(
            "escalation.bantime",
            "How long the ban of a network lasts.",
            kind::Time(bantime, second..=duration::MAX),
        ),
        field(
            "escalation.scope",
            "What the ban of a network closes: `sip` (the SIP ports), a name under `ports`, or \
             `all`.",
            kind::Scope(scope, Rc::clone(classes)),
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
    let at = Section(format!("escalation.{family}"));
    [
        at.field(
            "prefix",
            "The length of the networks that are banned.",
            kind::Length(prefix, lengths.clone()),
        ),
        at.field(
            "offenders",
            "How many offenders in one network ban it; 0 never bans it.",
            kind::Count(offenders, 0..=10_000, "sources"),
        ),
        at.field(
            "wide_prefix",
            "The length of the wider networks that are banned.",
            kind::Length(wide_prefix, lengths),
        ),
        at.field(
            "wide_offenders",
            "How many offenders in one wider network ban it; 0 never bans it.",
            kind::Count(wide_offenders, 0..=10_000, "sources"),
        ),
    ]
}

fn source_fields(sources: &mut Sources) -> Vec<Field<'_>> {
    use kind::{Flag, Path};
    let Sources { asterisk, sshd, logs } = sources;
    let mut fields = vec![
        field(
            "sources.asterisk.notice_log",
            "The log file to which Asterisk writes its NOTICE level, plain or `[json]`.",
            Path(&mut asterisk.notice_log),
        ),
        field(
            "sources.asterisk.security_log",
            "The log file to which Asterisk writes its SECURITY level, plain or `[json]`; `\"\"` \
             for none. AMI supplies the same events.",
            kind::OptionalPath(&mut asterisk.security_log),
        ),
        field(
            "sources.asterisk.ami.enabled",
            "Receive the security events of Asterisk's manager interface (AMI).",
            Flag(&mut asterisk.ami.enabled),
        ),
        field(
            "sources.asterisk.ami.host",
            "The host name or address of AMI.",
            kind::Word(&mut asterisk.ami.host, "a host such as `127.0.0.1`"),
        ),
        field(
            "sources.asterisk.ami.port",
            "The TCP port of AMI.",
            kind::Port(&mut asterisk.ami.port),
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
            kind::Word(&mut asterisk.ami.listener, "a user such as `asterisk`"),
        ),
        field(
            "sources.asterisk.ami.user",
            "The AMI user: a section of manager.conf with `read = security`.",
            kind::Word(&mut asterisk.ami.user, "a user such as `ringfence`"),
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
            kind::Choice(&mut sshd.log, &SshdLog::ALL, SshdLog::as_str),
        ),
        field(
            "sources.sshd.auth_log",
            "The file to which syslog writes sshd's messages.",
            Path(&mut sshd.auth_log),
        ),
    ];
    for (name, path) in logs {
        let reads = register::source(name).map(|source| source.reads);
        if let Some(Reads::Log(LogSetting { section, doc, .. })) = reads {
            fields.push(field(&format!("sources.{section}.log"), doc, Path(path)));
        }
    }
    fields
}

/// What the host depends on.
fn protect_fields(protect: &mut Protect) -> [Field<'_>; 4] {
    [
        field(
            "protect.gateways",
            "Never let a jail ban the gateways of the default routes. Unlike trusted addresses, \
             what `protect` covers stays subject to the limits.",
            kind::Flag(&mut protect.gateways),
        ),
        field(
            "protect.name_servers",
            "Never let a jail ban the name servers in `/etc/resolv.conf` or behind systemd-resolved.",
            kind::Flag(&mut protect.name_servers),
        ),
        field(
            "protect.trunks",
            "Never let a jail ban the trunks in Asterisk's `pjsip.conf`, `pjsip_wizard.conf` and \
             `iax.conf`, or in what wazo-confgend writes: the hosts that Asterisk registers to, identifies \
             by address or sends calls to, networks up to a /20 or, of IPv6, a /48.",
            kind::Flag(&mut protect.trunks),
        ),
        field(
            "protect.ssh_sessions",
            "Never let a jail close SSH to an address from which a user has logged in over ssh, until the \
             session ends.",
            kind::Flag(&mut protect.ssh_sessions),
        ),
    ]
}

fn port_fields(class: &mut PortClass) -> [Field<'_>; 2] {
    let PortClass { name, udp, tcp } = class;
    let doc = |transport| format!("The {transport} ports that a ban of scope {name} closes.");
    [
        field(&format!("ports.{name}.udp"), &doc("UDP"), kind::Ports(udp)),
        field(&format!("ports.{name}.tcp"), &doc("TCP"), kind::Ports(tcp)),
    ]
}

fn jail_fields<'a>(
    name: &str,
    jail: &'a mut JailSettings,
    classes: &Rc<[String]>,
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
            kind::Scope(&mut jail.scope, Rc::clone(classes)),
        ),
        at.field(
            "unproven_scope",
            "What a ban closes if fewer than `maxretry` of the failures are proven, so that the \
             source may be forged. With `none`, only proven failures count.",
            kind::OptionalScope(&mut jail.unproven_scope, Rc::clone(classes)),
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

fn feed_fields<'a>(name: &str, feed: &'a mut Feed, classes: &Rc<[String]>) -> [Field<'a>; 7] {
    let at = Section(format!("feeds.{name}"));
    let Feed { url, format, key_file, scope, interval, expiry, dry_run } = feed;
    [
        at.field(
            "url",
            "Where the list is: a file, or a URL with `https`. `http` is possible for a server on this \
             host only.",
            kind::OrNone(url, "a URL or the path of a file", "https://lists.example/sip.txt"),
        ),
        at.field(
            "format",
            "The form of the list. With `plain`, each line begins with an address or a network; `csv:2` \
             reads the second column; `json:/data#/ip` reads the array at the JSON pointer `/data`, and \
             in each of its members the text at `/ip`; `drop` is Spamhaus DROP, as text or JSON. `apiban` \
             and `crowdsec` are the protocols of these services.",
            kind::Format(format),
        ),
        at.field(
            "key_file",
            "A file whose first line is the key. APIBAN and CrowdSec get it in their own ways, any other \
             server as `Authorization: Bearer KEY`. A line with a colon is sent as the header that it is.",
            kind::OptionalPath(key_file),
        ),
        at.field(
            "scope",
            "What a ban of an entry closes: `sip`, a name under `ports`, or `all`.",
            kind::Scope(scope, Rc::clone(classes)),
        ),
        at.field(
            "interval",
            "How often the list is fetched. After a failure it is fetched sooner, and then less and less \
             often.",
            kind::Time(interval, Duration::from_secs(2)..=Duration::from_hours(7 * 24)),
        ),
        at.field(
            "expiry",
            "How long the entries stay banned after the list was last fetched. An entry that says itself \
             when it ends does not stay longer.",
            kind::Time(expiry, Duration::from_mins(1)..=Duration::from_hours(90 * 24)),
        ),
        at.field("dry_run", "Fetch and check the list, but ban nothing.", kind::Flag(dry_run)),
    ]
}

fn alert_fields<'a>(name: &str, alert: &'a mut Alert) -> Vec<Field<'a>> {
    let at = Section(format!("alerts.{name}"));
    let Alert { events, hook, mail, from, smtp, login_file, syslog, group, limit, quiet } = alert;
    let mut fields = vec![at.field(
        "events",
        &format!("The events that it tells; an empty list means all: {}.", names(AlertKind::ALL)),
        kind::Items(
            events,
            AlertKind::ALL.len(),
            "a list of events such as `[interface, store]`",
            &["interface", "store"],
        ),
    )];
    fields.extend(hook_fields(&at, hook));
    fields.extend([
        at.field(
            "mail",
            "The mailboxes that its messages are mailed to.",
            kind::Items(mail, ITEMS_MAX, "a list of mailboxes such as `[admin@example.org]`", &[
                "admin@example.org",
            ]),
        ),
        at.field(
            "from",
            "The sender of its mails; `\"\"` for `ringfence@HOST`.",
            kind::OrNone(from, "a mailbox, or `\"\"` for the default", "ringfence@example.org"),
        ),
        at.field(
            "smtp",
            "The mail server. The connection to another host is encrypted: with TLS from the start \
             (`smtps://`), or with STARTTLS.",
            kind::Text(smtp, "a mail server such as `smtp://127.0.0.1:25`", "smtps://mail.example.org"),
        ),
        at.field(
            "login_file",
            "A file whose first line is `NAME:PASSWORD` for the mail server; `\"\"` for none.",
            kind::OptionalPath(login_file),
        ),
        at.field(
            "syslog",
            "Send its messages to syslog, with the facility `daemon`.",
            kind::Flag(syslog),
        ),
        at.field(
            "group",
            "The shortest time between two messages of a kind. Events within this time are sent \
             together.",
            kind::Time(group, Duration::from_secs(1)..=Duration::from_hours(24)),
        ),
        at.field(
            "limit",
            "The most messages in an hour, and as many again about critical events. The others wait.",
            kind::Count(limit, 1..=3600, "messages"),
        ),
        at.field(
            "quiet",
            "The hours in which only critical events are sent, in local time, such as \
             `\"22:00-07:00\"`; the others wait. `\"\"` for none.",
            kind::OrNone(quiet, "two times of the day, or `\"\"` for none", "22:00-07:00"),
        ),
    ]);
    fields
}

fn action_fields<'a>(name: &str, action: &'a mut Action) -> Vec<Field<'a>> {
    let at = Section(format!("actions.{name}"));
    let Action { events, jails, hook, crowdsec } = action;
    let mut fields = vec![
        at.field(
            "events",
            &format!("What it is run for; an empty list means both: {}.", names(ActionKind::ALL)),
            kind::Items(events, ActionKind::ALL.len(), "a list such as `[ban]`", &["ban"]),
        ),
        at.field(
            "jails",
            "The jails whose bans it is run for, or `manual`, `escalation` or `flood`; an empty list \
             means all. It is not run for the bans of feeds.",
            kind::Items(jails, ITEMS_MAX, "a list of jails such as `[sshd]`", &["sshd"]),
        ),
    ];
    fields.extend(hook_fields(&at, hook));
    fields.push(at.field(
        "crowdsec",
        "A file with the `url`, `login` and `password` of a machine at CrowdSec's local API, as `cscli machines add` \
         writes it: bans become its alerts. `\"\"` for none.",
        kind::OptionalPath(crowdsec),
    ));
    fields
}

/// What alerts and actions have in common.
fn hook_fields<'a>(at: &Section, hook: &'a mut Hook) -> [Field<'a>; 3] {
    let Hook { command, webhook, key_file } = hook;
    [
        at.field(
            "command",
            "The program that is run, by its path, and its arguments. It gets the message as JSON on its \
             standard input.",
            kind::Items(command, ITEMS_MAX, "a list such as `[/usr/local/bin/notify]`", &[
                "/usr/local/bin/notify", "--quiet",
            ]),
        ),
        at.field(
            "webhook",
            "The URL that the message is posted to, with `https`, or `http` on this host only. If the URL is a \
             secret, write the path of a file whose first line it is.",
            kind::OrNone(
                webhook,
                "a URL, or the path of a file with one",
                "https://alerts.example/ringfence",
            ),
        ),
        at.field(
            "key_file",
            "A file whose first line is the key that signs what the webhook gets; `\"\"` for none.",
            kind::OptionalPath(key_file),
        ),
    ]
}

/// The settings of the fleet.
fn fleet_fields<'a>(fleet: &'a mut Fleet, classes: &Rc<[String]>) -> Vec<Field<'a>> {
    let at = Section("fleet".to_owned());
    let Fleet { servers, host, bucket, ca_file, credentials_file, nkey_file, user, .. } = fleet;
    let Fleet { publish, accept, cut, .. } = fleet;
    let mut fields = vec![
        at.field(
            "servers",
            "The NATS servers of the fleet, with `tls`; without any, the fleet is off. `nats` is possible for a \
             server on this host only.",
            kind::Several {
                values: servers,
                most: super::SERVERS_MAX,
                expected: "a list of servers such as `[\"tls://nats-1.example:4222\"]`",
                example: "tls://nats-1.example:4222",
            },
        ),
        at.field(
            "host",
            "The name of this host in the fleet. `\"\"` takes the host's own name.",
            kind::OrNone(host, "a name, or `\"\"` for the host's own", "pbx-1"),
        ),
        at.field("bucket", "The JetStream bucket of the fleet.", kind::Text(bucket, "a name", "ringfence")),
        at.field(
            "ca_file",
            "The certificate authorities of the servers; `\"\"` for those of the system.",
            kind::OptionalPath(ca_file),
        ),
        at.field(
            "credentials_file",
            "The file with this host's credentials (`.creds`), readable by `fleet.user` only.",
            kind::OptionalPath(credentials_file),
        ),
        at.field(
            "nkey_file",
            "The file with the seed of this host's NKey, readable by `fleet.user` only.",
            kind::OptionalPath(nkey_file),
        ),
        at.field("user", "The user that `ringfence-fleet` runs as.", kind::Word(user, "a user such as `ringfence-fleet`")),
        at.field(
            "publish",
            "Which bans of its jails this host shares: those whose source is `proven`, `all`, or `none`. Private \
             addresses and networks of more than one customer are never shared.",
            kind::Choice(publish, &Publish::ALL, Publish::as_str),
        ),
    ];
    fields.extend(accept_fields(accept, classes));
    fields.push(at.field(
        "cut",
        "Hosts whose bans do not count.",
        kind::Several {
            values: cut,
            most: super::LIST_MAX,
            expected: "a list of hosts such as `[pbx-3]`",
            example: "pbx-3",
        },
    ));
    fields
}

fn accept_fields<'a>(accept: &'a mut FleetAccept, classes: &Rc<[String]>) -> [Field<'a>; 9] {
    let at = Section("fleet.accept".to_owned());
    let FleetAccept { proven, hosts, scope, longest, rate, most, total, .. } = accept;
    let FleetAccept { allows, maintenance, .. } = accept;
    [
        at.field(
            "proven",
            "Whether a ban by another host counts only if its source is proven. If not, one that is not proven \
             throttles.",
            kind::Flag(proven),
        ),
        at.field(
            "hosts",
            "How many hosts must ban an address before it is banned here.",
            kind::Count(hosts, 1..=100, "hosts"),
        ),
        at.field(
            "scope",
            "What a ban by another host closes: `sip`, a name under `ports`, or `all`.",
            kind::Scope(scope, Rc::clone(classes)),
        ),
        at.field(
            "longest",
            "The longest time of a ban by another host.",
            kind::Time(longest, Duration::from_mins(1)..=Duration::from_hours(7 * 24)),
        ),
        at.field(
            "rate",
            "How many bans a second count of one host in the long run. Forty seconds of them count at once.",
            kind::Count(rate, 1..=10_000, "bans a second"),
        ),
        at.field(
            "most",
            "How many bans of one host are in force at most.",
            kind::Count(most, 1..=1_000_000, "bans"),
        ),
        at.field(
            "total",
            "How many bans of all hosts are in force at most.",
            kind::Count(total, 1..=1_000_000, "bans"),
        ),
        at.field(
            "allows",
            "Whether networks that the administrator of the fleet trusts are trusted here.",
            kind::Flag(allows),
        ),
        at.field(
            "maintenance",
            "The longest time for which the administrator of the fleet may close SIP here for maintenance, within \
             24 hours; `0` for not at all.",
            kind::TimeOrZero(kind::Time(
                maintenance,
                Duration::from_mins(1)..=api::MAINTENANCE_MAX,
            )),
        ),
    ]
}

/// The names of all events.
fn names<T: ToString>(all: &[T]) -> String {
    let names: Vec<String> = all.iter().map(|one| format!("`{}`", one.to_string())).collect();
    names.join(", ")
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
            kind::Logs(log),
        ),
        at.field(
            "journal",
            "The entries to read from systemd's journal, as `FIELD=VALUE`. An entry that matches \
             any of them is read.",
            kind::Journal(journal),
        ),
        at.field(
            "proven",
            "Treat the source of each failure as proven: the service uses TCP, and only its \
             server writes to what is read.",
            kind::Flag(proven),
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

/// The path that several settings share.
struct Section(String);

impl Section {
    fn field<'a>(&self, key: &str, doc: &str, kind: impl Kind + 'a) -> Field<'a> {
        field(&format!("{}.{key}", self.0), doc, kind)
    }
}

fn field<'a>(path: &str, doc: &str, kind: impl Kind + 'a) -> Field<'a> {
    Field { path: path.to_owned(), doc: doc.to_owned(), kind: Box::new(kind) }
}

impl Field<'_> {
    /// Takes the value of `node`, or returns everything that is wrong with it.
    pub(super) fn read(&mut self, node: &Node) -> Vec<Problem> {
        let expected = self.kind.expected();
        let Err(wrongs) = self.kind.read(node) else {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::render::flow;
    use crate::config::yaml::{self, Value};
    use detection::settings;

    fn node(text: &str) -> Node {
        let root = yaml::parse(&format!("key: {text}")).ok().and_then(|document| document.root);
        match root.map(|root| root.value) {
            Some(Value::Map(mut entries)) => entries.remove(0).node,
            other => panic!("{text}: {other:?}"),
        }
    }

    /// So comparing two values as shown compares the values.
    #[test]
    fn a_file_can_have_each_value_that_is_shown() {
        let mut config = Config::default();
        settings::add(&mut config.jails, "own").unwrap();
        config.ports.add("http").unwrap();
        config.feeds.insert("own".to_owned(), Feed::default());
        config.alerts.insert("own".to_owned(), Alert::default());
        config.actions.insert("own".to_owned(), Action::default());
        for mut field in fields(&mut config) {
            for shown in [field.kind.example(), field.kind.value()] {
                let wrong = field.read(&node(&flow(&shown)));
                let path = &field.path;
                assert!(wrong.is_empty(), "{path}: {shown}: {}", wrong[0].text);
                assert_eq!(field.kind.value(), shown, "{path}");
            }
            let before = field.kind.value();
            let wrong = field.read(&node("{}"));
            let says = format!("`{}` is a section; expected {}", field.path, field.kind.expected());
            assert_eq!((wrong[0].text.clone(), field.kind.value()), (says, before));
        }
    }
}

//! Properties of any configuration.

#![expect(clippy::needless_update, reason = "a setting that comes needs no line here")]

use std::path::PathBuf;

use super::*;

fn networks() -> impl Strategy<Value = Vec<IpNet>> {
    let v4 = (any::<u32>(), 1..=32_u8).prop_map(|(bits, length)| {
        IpNet::new_assert(std::net::Ipv4Addr::from(bits).into(), length)
    });
    let v6 = (any::<u128>(), 1..=128_u8).prop_map(|(bits, length)| {
        IpNet::new_assert(std::net::Ipv6Addr::from(bits).into(), length)
    });
    vec(prop_oneof![v4, v6].prop_map(|network| network.trunc()), 0..4)
}

fn host_names() -> impl Strategy<Value = Vec<HostName>> {
    proptest::collection::btree_set(
        "[a-z0-9]{1,8}(-[a-z0-9]{1,4})?(\\.[a-z][a-z0-9]{0,5}){1,3}",
        0..3,
    )
    .prop_map(|names| names.iter().map(|name| name.parse().unwrap()).collect())
}

fn times(longest: u64) -> impl Strategy<Value = Duration> {
    (1000..=longest * 1000).prop_map(Duration::from_millis)
}

fn port_ranges() -> impl Strategy<Value = Vec<PortRange>> {
    let range = (1..=u16::MAX, 1..=u16::MAX)
        .prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) });
    vec(prop_oneof![range, (1..=u16::MAX).prop_map(PortRange::single)], 1..4)
}

fn port_classes() -> impl Strategy<Value = PortClasses> {
    vec(port_ranges(), 8).prop_map(|ranges| {
        let mut classes = PortClasses::default();
        classes.add("vpn").unwrap();
        for (class, ranges) in classes.iter_mut().zip(ranges.chunks(2)) {
            class.udp.clone_from(&ranges[0]);
            class.tcp.clone_from(&ranges[1]);
        }
        classes
    })
}

fn paths() -> impl Strategy<Value = PathBuf> {
    "/\\PC{0,20}".prop_filter_map("separators", |text| {
        (!text.contains(['\u{2028}', '\u{2029}', '\u{feff}'])).then(|| text.into())
    })
}

fn sources() -> impl Strategy<Value = Sources> {
    let place = (any::<bool>(), "[a-z0-9.:_-]{1,20}", 1..=u16::MAX, any::<bool>(), "[a-z0-9]{1,9}");
    let ami = (place, "\\PC{1,9}", paths()).prop_filter_map(
        "spaces",
        |((enabled, host, port, remote, listener), user, secret_file)| {
            let strange = |c: char| c.is_whitespace() || c == '\u{feff}';
            (!user.contains(strange)).then_some(AmiSource {
                enabled,
                host,
                port,
                remote,
                listener,
                user,
                secret_file,
                ..AmiSource::default()
            })
        },
    );
    let asterisk = (paths(), proptest::option::of(paths()), ami).prop_map(
        |(notice_log, security_log, ami)| AsteriskSource {
            notice_log,
            security_log,
            ami,
            ..AsteriskSource::default()
        },
    );
    (asterisk, select(&SshdLog::ALL), paths(), paths()).prop_map(
        |(asterisk, log, auth_log, provd)| Sources {
            asterisk,
            sshd: SshdSource { log, auth_log, ..SshdSource::default() },
            ..with_log(PROVD, provd)
        },
    )
}

fn with_log(source: &'static str, path: PathBuf) -> Sources {
    let mut sources = Sources::default();
    sources.logs.insert(source, path);
    sources
}

fn escalations() -> impl Strategy<Value = Escalation> {
    let thresholds = |shortest: u8, longest: u8| {
        let lengths =
            (shortest..longest).prop_flat_map(move |wide| (Just(wide), wide + 1..=longest));
        (lengths, 0..=10_000_u32, 0..=10_000_u32).prop_map(
            |((wide_prefix, prefix), offenders, wide_offenders)| Thresholds {
                prefix,
                offenders,
                wide_prefix,
                wide_offenders,
            },
        )
    };
    let scope = select(&[Scope::Sip, Scope::Ports(1), Scope::Ports(4), Scope::All]);
    let times = (times(30 * 86_400), times(3650 * 86_400));
    (any::<bool>(), times, scope, thresholds(8, 32), thresholds(16, 128)).prop_map(
        |(enabled, (findtime, bantime), scope, ipv4, ipv6)| Escalation {
            enabled,
            findtime,
            bantime,
            scope,
            ipv4,
            ipv6,
            ..Escalation::default()
        },
    )
}

/// Countries, with a database at this place.
fn geo(path: &Path) -> Geo {
    let places = ["DE", "AS3320"].map(|place| place.parse().unwrap());
    let databases = vec![path.to_owned()];
    Geo { databases, admit: places.to_vec(), dry_run: true, ..Geo::default() }
}

/// A feed whose settings follow from others.
fn feeds(time: Duration, path: &Path) -> BTreeMap<String, Feed> {
    let is_file = time.as_secs().is_multiple_of(2);
    let url = if is_file { "https://lists.example/a" } else { "/var/lib/list" };
    let feed = Feed {
        url: url.parse().ok(),
        format: if is_file { "json:/a~1b#/c" } else { "apiban" }.parse().unwrap(),
        key_file: Some(path.to_owned()),
        scope: if is_file { Scope::Sip } else { Scope::All },
        interval: time,
        expiry: time,
        dry_run: is_file,
        ..Feed::default()
    };
    BTreeMap::from([("a-feed".to_owned(), feed)])
}

/// An alert whose settings follow from others.
fn alerts(time: Duration, path: &Path) -> BTreeMap<String, Alert> {
    let is_mail = time.as_secs().is_multiple_of(2);
    let to = |mailbox: &str| mailbox.parse().unwrap();
    let alert = Alert {
        events: if is_mail { vec![AlertKind::Interface, AlertKind::Store] } else { Vec::new() },
        mail: if is_mail { vec![to("root"), to("admin@example.org")] } else { Vec::new() },
        from: is_mail.then(|| to("pbx@example.org")),
        smtp: "smtps://[2001:db8::1]:465".parse().unwrap(),
        login_file: is_mail.then(|| path.to_owned()),
        hook: Hook {
            command: if is_mail { Vec::new() } else { vec!["/bin/a: b".parse().unwrap()] },
            ..Hook::default()
        },
        group: time.clamp(Duration::from_secs(1), Duration::from_hours(24)),
        limit: 7,
        quiet: is_mail.then(|| "22:00-07:05".parse().unwrap()),
        ..Alert::default()
    };
    BTreeMap::from([("an-alert".to_owned(), alert)])
}

/// An action whose settings follow from others.
fn actions(path: &Path) -> BTreeMap<String, Action> {
    let action = Action {
        events: vec![ActionKind::Unban],
        jails: vec!["sshd".parse().unwrap()],
        hook: Hook {
            webhook: Some("https://a.example/b".parse().unwrap()),
            key_file: Some(path.to_owned()),
            ..Hook::default()
        },
        ..Action::default()
    };
    let told = Action { crowdsec: Some(path.to_owned()), ..Action::default() };
    BTreeMap::from([("an-action".to_owned(), action), ("another".to_owned(), told)])
}

/// A fleet whose settings follow from others.
fn fleet(time: Duration, path: &Path) -> Fleet {
    let is_even = time.as_secs().is_multiple_of(2);
    let servers = if is_even { vec!["tls://nats-1.example:4222".parse().unwrap()] } else { vec![] };
    Fleet {
        servers,
        host: is_even.then(|| "pbx-1".parse().unwrap()),
        bucket: "of-mine".parse().unwrap(),
        ca_file: is_even.then(|| path.to_owned()),
        credentials_file: is_even.then(|| path.to_owned()),
        nkey_file: (!is_even).then(|| path.to_owned()),
        user: "somebody".to_owned(),
        publish: if is_even { Publish::All } else { Publish::None },
        accept: FleetAccept {
            proven: is_even,
            hosts: 2,
            scope: if is_even { Scope::Sip } else { Scope::All },
            longest: time.max(Duration::from_mins(1)),
            rate: 7,
            most: 8,
            total: 9,
            allows: is_even,
            maintenance: if is_even { Duration::ZERO } else { Duration::from_hours(2) },
            ..FleetAccept::default()
        },
        cut: vec!["pbx-3".parse().unwrap()],
        ..Fleet::default()
    }
}

fn increments() -> impl Strategy<Value = Increment> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let factor = (1..=1_000_000_u32).prop_map(|n| Factor::from_thousandths(n).unwrap());
    let multipliers = vec(1..=u32::MAX, 0..=MULTIPLIERS_MAX);
    (flags, factor, times(3650 * 86_400), times(3650 * 86_400), multipliers).prop_map(
        |((enabled, overalljails, unproven), factor, maxtime, rndtime, multipliers)| Increment {
            enabled,
            factor,
            maxtime,
            rndtime,
            multipliers,
            overalljails,
            unproven,
            ..Increment::DEFAULT
        },
    )
}

fn jail_settings() -> impl Strategy<Value = JailSettings> {
    let scope = || select(&[Scope::Sip, Scope::Ports(1), Scope::Ports(4), Scope::All]);
    (
        any::<bool>(),
        1..=10_000_u32,
        times(30 * 86_400),
        times(3650 * 86_400),
        (networks(), host_names()),
        scope(),
        proptest::option::of(scope()),
        (increments(), 0..=10_000_u32, proptest::array::uniform7(0..=10_000_u32)),
    )
        .prop_map(|(enabled, maxretry, findtime, bantime, ignoreip, scope, unproven, more)| {
            let (ignoreip, ignore_names) = ignoreip;
            let (increment, maxaccounts, chosen) = more;
            let mut weights = Weights::ASTERISK;
            weights.iter_mut().zip(chosen).for_each(|((_, weight), chosen)| *weight = chosen);
            JailSettings {
                enabled,
                maxretry,
                weights: Some(weights),
                maxaccounts,
                findtime,
                bantime,
                ignoreip,
                ignore_names,
                scope,
                unproven_scope: unproven,
                unproven: if enabled { Unproven::Throttle } else { Unproven::Ban },
                increment,
                guessing: GuessingSettings {
                    findtime: findtime.max(Duration::from_hours(1)),
                    ..GuessingSettings::SIP
                },
                ..JailSettings::DEFAULT
            }
        })
}

fn own_jails() -> impl Strategy<Value = OwnJail> {
    let logs =
        "/[a-z]{1,8}(/[a-z*?. -]{1,8}x){0,2}".prop_filter_map("**", |text| text.parse().ok());
    let terms = "[A-Z_]{1,8}=[a-z. -]{0,8}x( [+] _[A-Z]{1,4}=[a-z]{1,4})?";
    let matches = terms.prop_filter_map("terms", |text| text.parse().ok());
    (vec(logs, 1..4), vec(matches, 0..3), any::<bool>())
        .prop_map(|(log, journal, proven)| OwnJail { log, journal, proven, ..OwnJail::DEFAULT })
}

fn own_jail(like: &JailSettings, own: OwnJail) -> JailSettings {
    let filter = Some("/etc/fail2ban/filter.d/a b.conf[mode=\"x, y\"]".parse().unwrap());
    JailSettings { filter, own: Some(own), weights: None, ..like.clone() }
}

fn limits() -> impl Strategy<Value = Limits> {
    let rate = (1..=1_000_000_u32, times(3600))
        .prop_map(|(events, period)| Rate::new(events, period).unwrap());
    let limit = (rate, 1..=100_000_u32).prop_map(|(rate, burst)| Limit { rate, burst }).boxed();
    let classes = proptest::array::uniform7(limit.clone()).prop_map(
        |[register, register_credentials, invite, options, subscribe, other, syn]| ClassLimits {
            register,
            register_credentials,
            invite,
            options,
            subscribe,
            other,
            syn,
        },
    );
    (
        proptest::array::uniform3(classes),
        (8..=32_u8, 16..=128_u8),
        proptest::array::uniform7(limit),
        any::<bool>(),
        times(86_400),
    )
        .prop_map(
            |(
                [source, classes, shared],
                (ipv4, ipv6),
                [known, admitted, after, connection, of_source, of_prefix, of_all],
                greylist,
                ban,
            )| {
                Limits {
                    source,
                    prefix: PrefixLimits { ipv4, ipv6, classes, ..PrefixLimits::DEFAULT },
                    shared,
                    tcp_bytes: ByteLimits {
                        connection,
                        source: of_source,
                        prefix: of_prefix,
                        shared: of_all,
                        ..ByteLimits::DEFAULT
                    },
                    known,
                    greylist,
                    admitted,
                    flood: Flood { after, ban, ..Flood::DEFAULT },
                    ..Limits::DEFAULT
                }
            },
        )
}

/// The same, but services that carry SIP are not closed.
fn without_sip(mut exposure: Exposure, sip: &SipPorts) -> Exposure {
    let carries = |(tcp, range): (bool, PortRange)| {
        let of_sip = if tcp { &sip.tcp } else { &sip.udp };
        range.ports().any(|port| of_sip.iter().any(|range| range.contains(port)))
    };
    exposure.closed.retain(|service| !service.ports(sip).into_iter().any(carries));
    exposure
}

/// Services.
fn exposures() -> impl Strategy<Value = Exposure> {
    let service = select(vec!["postgresql", "https", "wazo-auth", "7/tcp", "40000-40009/udp"]);
    let services = || {
        proptest::collection::btree_set(service.clone(), 0..4).prop_map(|names| {
            names.into_iter().map(|name| name.parse().unwrap()).collect::<Vec<Service>>()
        })
    };
    (services(), services(), any::<bool>()).prop_map(|(trusted, closed, dry_run)| Exposure {
        trusted,
        closed,
        dry_run,
        ..Exposure::DEFAULT
    })
}

fn configs() -> impl Strategy<Value = Config> {
    let defaults = Config::default().jails;
    let interface = prop_oneof![
        "[a-z0-9._@-]{1,15}",
        select(vec!["on".to_owned(), "null".into(), "~".into(), "1e3".into(), "#x".into()]),
    ]
    .prop_filter("dots", |name| name != "." && name != "..");
    let top = (
        proptest::collection::btree_set(interface, 0..4),
        select(&Mode::ALL),
        any::<bool>(),
        (networks(), host_names()),
        (port_ranges(), port_ranges(), port_classes()),
    );
    let user_agents = proptest::collection::btree_set("[!-)+-~][ -)+-~]{2,28}[!-)+-~]\\*?", 0..4)
        .prop_filter_map("twice", |texts| {
            let texts: BTreeSet<String> =
                texts.into_iter().map(|text| text.to_ascii_lowercase()).collect();
            texts.iter().map(|text| text.parse().ok()).collect::<Option<Vec<UserAgent>>>()
        });
    let remember = times(7 * 86_400).prop_map(|time| time.max(Duration::from_mins(1)));
    let sizes = (proptest::array::uniform4(1..=10_000_000_u32), 48..=128_u8);
    (
        top,
        sizes,
        (limits(), user_agents, remember, escalations()),
        (jail_settings(), proptest::option::of(own_jails())),
        sources(),
        (paths(), paths(), paths(), exposures()),
    )
        .prop_map(move |(top, (sizes, ipv6_prefix), how, (jail, own), sources, paths)| {
            let (interfaces, mode, dry_run, (trusted, trusted_names), (udp, tcp, ports)) = top;
            let sip = SipPorts { udp, tcp };
            Config {
                interfaces: interfaces.into_iter().collect(),
                mode,
                dry_run,
                trusted_by_route: dry_run,
                trusted,
                trusted_names,
                ports,
                exposure: without_sip(paths.3, &sip),
                sip,
                // A network that is one source cannot contain several offenders.
                ipv6_prefix: if how.3.ipv6.prefix < ipv6_prefix { ipv6_prefix } else { 128 },
                capacity: Capacity {
                    bans: sizes[0],
                    bans_ipv6: sizes[1],
                    watched: sizes[2],
                    offenders: sizes[3],
                    ..Capacity::default()
                },
                limits: how.0,
                watchdog: Watchdog {
                    after: if dry_run {
                        Duration::ZERO
                    } else {
                        how.2.min(Duration::from_hours(24))
                    },
                    ..Watchdog::default()
                },
                confirm: Confirm {
                    within: if dry_run { Duration::ZERO } else { Duration::from_mins(7) },
                    ..Confirm::default()
                },
                peers: Peers { remember: how.2, ..Peers::default() },
                offenders: Offenders { remember: how.2, ..Offenders::default() },
                protect: Protect { trunks: dry_run, ..Protect::default() },
                escalation: how.3,
                signatures: Signatures { user_agents: how.1, ..Signatures::default() },
                jails: built_in_jails()
                    .map(|(_, name)| {
                        let weights =
                            jail.weights.clone().filter(|_| defaults[name].weights.is_some());
                        (name, JailSettings { weights, ..jail.clone() })
                    })
                    .chain(own.map(|own| ("of-my-own", own_jail(&jail, own))))
                    .collect(),
                feeds: feeds(how.2, &paths.0),
                api: Api {
                    listen: dry_run.then(|| "127.0.0.1:9510".parse().unwrap()),
                    wazo_auth: None,
                    ..Api::default()
                },
                geo: geo(&paths.0),
                alerts: alerts(how.2, &paths.0),
                actions: actions(&paths.0),
                fleet: fleet(how.2, &paths.0),
                sources,
                paths: Paths {
                    state: paths.0,
                    runtime: paths.1,
                    bpffs: paths.2,
                    ..Paths::default()
                },
                ..Config::default()
            }
        })
}

proptest! {
    #[test]
    fn what_is_rendered_is_read_back(config in configs()) {
        let (files, ignored) = (vec![], vec![]);
        let loaded = Loaded { config, files, ignored, origins: BTreeMap::new() };
        let yaml = loaded.render_yaml();
        let back = parse(&yaml).map_err(|errors| TestCaseError::fail(format!("{errors}\n{yaml}")))?;
        prop_assert_eq!(&back.config, &loaded.config, "{}", yaml);
        prop_assert_eq!(back.render_json()["config"].clone(), loaded.render_json()["config"].clone());
        let json: Json = loaded.render_json()["config"].clone();
        prop_assert_eq!(parse(&json.to_string()).unwrap().config, loaded.config);
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..256)) {
        if let Err(errors) = Config::parse(Path::new("config.yml"), &bytes) {
            prop_assert!(!errors.errors().is_empty());
        }
    }

    #[test]
    fn any_yaml_like_text_is_answered(
        text in "([-?:,{}\\[\\]#&*!|>'\"%@` \n\t]|mode|jails|sip|udp|trusted|[0-9a]|\r|\\PC){0,60}",
    ) {
        if let Err(errors) = parse(&text) {
            prop_assert!(errors.errors().iter().all(|error| error.line.is_some_and(|line| line > 0)));
        }
    }

    #[test]
    fn any_values_are_answered(
        key in select(vec!["trusted: [", "sip: {udp: [", "mode: ", "interfaces: [",
            "limits: {register: {rate: ", "signatures: {user_agents: [",
            "limits: {prefix: {ipv4: ", "jails: {asterisk-wazo: {findtime: "]),
        value in "[-0-9a-f./: ,\"msh]{0,24}",
        tail in select(vec!["", "]", "]}", "}}"]),
    ) {
        match parse(&format!("{key}{value}{tail}")) {
            Ok(loaded) => prop_assert!(parse(&loaded.render_yaml()).is_ok()),
            Err(errors) => prop_assert!(!errors.errors().is_empty()),
        }
    }
}

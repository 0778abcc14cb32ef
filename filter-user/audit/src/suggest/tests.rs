use proptest::prelude::*;

use super::*;
use crate::facts::{Interface, Owner, Socket};
use crate::firewall::{Family, parse_iptables};

const DAY: Duration = Duration::from_hours(24);

fn socket(transport: Transport, address: &str, port: u16, process: &str) -> Socket {
    Socket {
        transport,
        address: address.parse().unwrap(),
        port,
        v6_only: false,
        interface: None,
        inode: 1,
        uid: 0,
        owner: Some(Owner { pid: 7, process: process.to_owned(), unit: None }),
    }
}

fn ago(ago: Duration) -> Time {
    Time { ago, text: format!("{}h ago", ago.as_secs() / 3600) }
}

/// A port whose users have been recorded for so many days, with the networks that used it yesterday.
fn visits(port: u16, days: u32, networks: &[&str]) -> Visits {
    let networks: Vec<(IpNet, Time)> =
        networks.iter().map(|network| (network.parse().unwrap(), ago(DAY))).collect();
    let uses = |private: bool| {
        let of = networks.iter().filter(|(network, _)| is_private(&network.to_string()) == private);
        let number = of.count() as u64;
        Uses { networks: number, missed: 0, last: (number > 0).then(|| ago(DAY)) }
    };
    Visits {
        transport: Transport::Tcp,
        port,
        since: ago(DAY * days),
        private: uses(true),
        public: uses(false),
        networks,
    }
}

/// A Wazo host with these services, of which the first ones are recorded.
fn facts(sockets: Vec<Socket>, visits: Vec<Visits>) -> Facts {
    let interface = Interface {
        name: "eth0".to_owned(),
        addresses: vec!["192.0.2.10".parse().unwrap(), "2001:db8::10".parse().unwrap()],
        filtered: true,
    };
    Facts {
        wazo: true,
        sockets,
        interfaces: vec![interface],
        visits: Some(visits),
        trusted: vec!["198.51.100.0/24".parse().unwrap()],
        ..Facts::default()
    }
}

fn tcp(port: u16, process: &str) -> Socket {
    socket(Transport::Tcp, "0.0.0.0", port, process)
}

#[test]
fn a_suggestion_follows_from_what_listens_and_who_came() {
    use OpenTo::{Everybody, Nobody, Trusted};
    let stranger = "203.0.113.0/24";
    for (process, port, networks, expected, why) in [
        ("postgres", 5432, &[][..], Nobody, "nobody but the host itself"),
        ("postgres", 5432, &["10.1.2.0/24"], Trusted, "only 10.1.2.0/24 used it"),
        ("postgres", 5432, &["198.51.100.0/24"], Trusted, "only 198.51.100.0/24 used it"),
        ("postgres", 5432, &["198.51.100.0/24", stranger], Trusted, "1 public network"),
        ("postgres", 5432, &[stranger], Nobody, "scanners"),
        ("postgres", 5432, &["2001:db8:7::/48"], Nobody, "1 public network"),
        ("postgres", 5432, &["fd00:1:2::/48"], Trusted, "only fd00:1:2::/48"),
        ("unknown", 7777, &[], Nobody, "nobody but the host itself"),
        ("unknown", 7777, &["10.1.2.0/24"], Trusted, "only 10.1.2.0/24"),
        ("unknown", 7777, &["10.1.2.0/24", stranger], Everybody, "purpose is unknown"),
        ("nginx", 443, &[], Everybody, "nobody used it"),
        ("nginx", 443, &[stranger], Everybody, "1 public network"),
        ("nginx", 443, &["10.1.2.0/24"], Trusted, "only 10.1.2.0/24"),
        ("sshd", 2222, &[], Everybody, "nobody used it"),
        ("sshd", 2222, &[stranger], Everybody, "1 public network"),
        ("sshd", 2222, &["10.1.2.0/24"], Trusted, "only 10.1.2.0/24"),
    ] {
        let all = suggest(&facts(vec![tcp(port, process)], vec![visits(port, 8, networks)]));
        let [one] = &all.ports[..] else { panic!("{all:?}") };
        assert_eq!(one.suggested, expected, "{process} {networks:?}: {one:?}");
        assert!(one.reason.contains(why), "{process} {networks:?}: {}", one.reason);
        assert_eq!((one.now, one.week), (Everybody, true));
        assert_eq!(all.configuration.is_none(), expected == Everybody, "{all:?}");
    }
}

#[test]
fn the_configuration_is_complete_and_can_be_read() {
    let mut facts = facts(
        vec![tcp(5432, "postgres"), tcp(5672, "beam.smp"), tcp(7777, "x"), tcp(9486, "wazo-confd")],
        vec![visits(5432, 8, &[]), visits(5672, 8, &["10.1.2.0/24"]), visits(7777, 8, &[])],
    );
    let all = suggest(&facts);
    assert_eq!(all.trusted, ["10.1.2.0/24"]);
    let expected = "# Add to `trusted`: 10.1.2.0/24\nexposure:\n  trusted: [rabbitmq, wazo-confd]\n  \
                    closed: [7777/tcp, postgresql]\n  dry_run: true\n";
    assert_eq!(all.configuration.as_deref(), Some(expected));
    for name in ["rabbitmq", "wazo-confd", "7777/tcp", "postgresql"] {
        assert!(name.parse::<Service>().is_ok(), "{name}");
    }
    // What is closed already stays in the configuration, and is no longer suggested.
    facts.exposure = Exposure {
        trusted: vec!["ssh".parse().unwrap(), "rabbitmq".parse().unwrap()],
        closed: vec!["postgresql".parse().unwrap()],
        ..Exposure::DEFAULT
    };
    let expected =
        "exposure:\n  trusted: [ssh, rabbitmq, wazo-confd]\n  closed: [postgresql, 7777/tcp]\n";
    let all = suggest(&facts);
    assert_eq!(all.configuration.as_deref(), Some(expected));
    assert_eq!(all.ports[0].now, OpenTo::Nobody);
    assert_eq!(
        line(&facts, Transport::Tcp, 8080).as_deref(),
        Some("exposure: {trusted: [ssh, rabbitmq, 8080/tcp], closed: [postgresql]}")
    );
    assert!(in_words(&all).contains("closed: [postgresql, 7777/tcp]"));
}

#[test]
fn what_is_recorded_for_less_than_a_week_says_so_and_a_flood_is_counted() {
    let mut few = visits(7777, 2, &["10.1.2.0/24"]);
    // Its own entries have been evicted, but not that they came.
    few.networks.clear();
    few.public = Uses { networks: 300, missed: 70_000, last: Some(ago(DAY)) };
    let all = suggest(&facts(vec![tcp(7777, "x")], vec![few.clone()]));
    let one = &all.ports[0];
    assert_eq!((one.suggested, one.week), (OpenTo::Everybody, false));
    assert!(one.reason.starts_with("since 48h ago, which is less than a week,"), "{}", one.reason);
    assert!(one.reason.contains("at least 300 public networks"), "{}", one.reason);
    few.public = Uses::default();
    let all = suggest(&facts(vec![tcp(7777, "x")], vec![few]));
    assert_eq!(all.ports[0].suggested, OpenTo::Trusted);
    assert!(all.ports[0].reason.ends_with("only private addresses used it"));
    // What is older than a week does not count.
    let mut old = visits(7777, 30, &["10.1.2.0/24"]);
    old.private.last = Some(ago(DAY * 8));
    old.networks[0].1 = ago(DAY * 8);
    let all = suggest(&facts(vec![tcp(7777, "x")], vec![old]));
    assert_eq!(all.ports[0].suggested, OpenTo::Nobody);
}

#[test]
fn rules_that_differ_are_shown() {
    let rules = |text: &str| parse_iptables("iptables-save", Family::V4, text);
    let accepts =
        "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 5432 -j ACCEPT\nCOMMIT\n";
    let mut facts = facts(vec![tcp(5432, "postgres")], vec![visits(5432, 8, &[])]);
    facts.firewall = vec![rules(accepts)];
    let found = |facts: &Facts| suggest(facts).ports[0].contradictions.clone();
    assert_eq!(
        found(&facts),
        ["iptables-save has a rule that accepts it over IPv4; the filter decides before it"]
    );
    facts.firewall = vec![rules(&accepts.replace("5432", "5433"))];
    assert!(found(&facts).is_empty());
    facts.firewall = vec![rules(&accepts.replace("ACCEPT\nCOMMIT", "DROP\nCOMMIT"))];
    assert!(found(&facts).is_empty(), "both close it");
    facts.visits = Some(vec![visits(5432, 8, &["10.1.2.0/24"])]);
    assert_eq!(found(&facts), ["iptables-save drops the packets of strangers over IPv4"]);
}

#[test]
fn sip_media_and_what_only_waits_for_replies_are_no_subject() {
    let sockets = vec![
        tcp(5060, "asterisk"),
        socket(Transport::Udp, "0.0.0.0", 50_000, "resolver"),
        socket(Transport::Udp, "0.0.0.0", 68, "dhclient"),
        socket(Transport::Tcp, "127.0.0.1", 5432, "postgres"),
    ];
    let mut facts = facts(sockets, Vec::new());
    facts.sip.tcp = vec![detection::settings::PortRange::single(5060)];
    assert!(suggest(&facts).ports.is_empty());
}

proptest! {
    /// Whatever listens and whoever came, the configuration parses, and no name can add a line to it.
    #[test]
    fn any_configuration_parses(
        sockets in prop::collection::vec((any::<bool>(), 1u16.., any::<String>()), 0..12),
        used in prop::collection::vec((1u16.., any::<[u8; 4]>(), 0u32..9), 0..12),
    ) {
        let sockets = sockets.into_iter().map(|(is_tcp, port, process)| {
            let transport = if is_tcp { Transport::Tcp } else { Transport::Udp };
            socket(transport, "::", port, &process)
        });
        let visits = used.into_iter().map(|(port, [a, b, c, _], days)| {
            visits(port, days, &[&format!("{a}.{b}.{c}.0/24")])
        });
        let all = suggest(&facts(sockets.collect(), visits.collect()));
        if let Some(text) = &all.configuration {
            for line in text.lines().filter(|line| line.ends_with(']')) {
                let (name, list) = line.split_once(": [").unwrap();
                prop_assert!(["  trusted", "  closed"].contains(&name), "{}", text);
                for service in list.trim_end_matches(']').split(", ") {
                    prop_assert!(service.parse::<Service>().is_ok(), "{}", service);
                }
            }
        }
        prop_assert!(!in_words(&all).chars().any(|c| c.is_control() && c != '\n'));
    }
}

use Severity::{Critical, Note, Warning};
use api::AuditPart;
use proptest::prelude::*;

use super::*;
use crate::facts::{Asterisk, Interface, Owner, Socket};
use crate::firewall::{Family, parse_iptables};
use crate::services::{SERVICES, find};
use crate::{baseline, report, text, transports};

fn socket(transport: Transport, address: &str, port: u16) -> Socket {
    Socket {
        transport,
        address: address.parse().unwrap(),
        port,
        v6_only: false,
        interface: None,
        inode: 1,
        uid: 0,
        owner: None,
    }
}

fn owned(socket: Socket, process: &str) -> Socket {
    let owner =
        Owner { pid: 7, process: process.to_owned(), unit: Some(format!("{process}.service")) };
    Socket { owner: Some(owner), ..socket }
}

/// A Wazo host with one public and one private address.
fn facts(sockets: Vec<Socket>) -> Facts {
    let interface = |name: &str, addresses: &[&str]| Interface {
        name: name.to_owned(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        filtered: name == "eth0",
    };
    Facts {
        wazo: true,
        sockets,
        interfaces: vec![
            interface("lo", &["127.0.0.1", "::1"]),
            interface("eth0", &["192.0.2.10", "2001:db8::10", "fe80::1"]),
            interface("eth1", &["10.0.0.10"]),
        ],
        sip: detection_sip(),
        ..Facts::default()
    }
}

fn detection_sip() -> detection::settings::SipPorts {
    detection::settings::SipPorts {
        udp: vec![PortRange::single(5060)],
        tcp: vec![PortRange::single(5060), PortRange::single(5061)],
    }
}

fn ids(facts: &Facts) -> Vec<(String, Severity)> {
    let (findings, _) = examine(facts);
    findings.into_iter().map(|finding| (finding.id, finding.severity)).collect()
}

fn asterisk(bound: &[(&str, &str)], rtp: Option<(u16, u16)>) -> Asterisk {
    let transport = |(protocol, bind): &(&str, &str)| {
        transports::transport(&format!("transport-{protocol}"), protocol, bind).unwrap()
    };
    Asterisk {
        source: "pjsip.conf".to_owned(),
        transports: bound.iter().map(transport).collect(),
        rtp,
    }
}

#[test]
fn every_service_is_found_where_it_is_exposed_and_nowhere_else() {
    for service in SERVICES {
        for transport in service.transports {
            let found = |address: &str, v6_only| {
                let socket = Socket { v6_only, ..socket(*transport, address, service.port) };
                let mut host = facts(vec![socket]);
                host.interfaces.iter_mut().for_each(|one| one.filtered = true);
                examine(&host).0
            };
            for address in
                ["127.0.0.1", "::1", "127.0.0.53", "::ffff:127.0.0.1", "fe80::1", "224.0.0.251"]
            {
                assert_eq!(found(address, false), [], "{} on {address}", service.name);
            }
            for (address, v6_only) in [
                ("0.0.0.0", false),
                ("::", false),
                ("::", true),
                ("::ffff:0.0.0.0", false),
                ("192.0.2.10", false),
                ("2001:db8::10", true),
            ] {
                let all = found(address, v6_only);
                let [one] = &all[..] else { panic!("{} on {address}: {all:?}", service.name) };
                let expected =
                    format!("exposed/{}/{}/{}", service.name, transport.as_str(), service.port);
                assert_eq!(one.id, expected);
                assert!(one.severity >= service.severity && !one.remedy.is_empty());
                let private: Vec<Severity> =
                    found("10.0.0.10", false).iter().map(|one| one.severity).collect();
                assert!(
                    private.iter().all(|severity| *severity < one.severity),
                    "{}",
                    service.name
                );
                assert_eq!(private.is_empty(), one.severity == Note, "{}", service.name);
            }
        }
    }
}

#[test]
fn one_service_is_one_finding() {
    let all = facts(vec![
        owned(socket(Transport::Tcp, "0.0.0.0", 5432), "postgres"),
        Socket { v6_only: true, ..owned(socket(Transport::Tcp, "::", 5432), "postgres") },
        owned(socket(Transport::Tcp, "127.0.0.1", 9486), "wazo-confd"),
    ]);
    let (findings, listeners) = examine(&all);
    let [one] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((&*one.id, one.severity), ("exposed/postgresql/tcp/5432", Critical));
    assert_eq!(
        one.evidence,
        [
            "tcp 0.0.0.0:5432: postgres (process 7), postgres.service, user 0",
            "tcp [::]:5432 (IPv6 only): postgres (process 7), postgres.service, user 0",
            "addresses: 10.0.0.10 (eth1), 192.0.2.10 (eth0), 2001:db8::10 (eth0), fe80::1 (eth0)",
            "protected by: the filter: bans only; the filter: bans only, on some interfaces"
        ]
    );
    assert!(one.line.as_deref().unwrap().contains("listen_addresses = 'localhost'"));
    let found: Vec<_> = listeners.iter().map(|listener| listener.finding.as_deref()).collect();
    assert_eq!(found, [Some(&*one.id), Some(&*one.id), None]);
    let confd = examine(&facts(vec![socket(Transport::Tcp, "::", 9486)])).0;
    assert_eq!(
        confd[0].line.as_deref().unwrap(),
        "printf 'rest_api: {listen: 127.0.0.1}\\n' > /etc/wazo-confd/conf.d/00-listen.yml; systemctl restart wazo-confd"
    );
}

#[test]
fn what_asterisk_listens_on_and_the_filter_does_not_know_comes_first() {
    let mut host = facts(vec![
        owned(socket(Transport::Tcp, "0.0.0.0", 5432), "postgres"),
        owned(socket(Transport::Udp, "0.0.0.0", 5060), "asterisk"),
        owned(socket(Transport::Udp, "0.0.0.0", 5160), "asterisk"),
        owned(socket(Transport::Udp, "0.0.0.0", 5260), "asterisk"),
        owned(socket(Transport::Udp, "0.0.0.0", 12_000), "asterisk"),
        owned(socket(Transport::Udp, "0.0.0.0", 40_000), "asterisk"),
    ]);
    let bound = [
        ("udp", "0.0.0.0:5060"),
        ("udp", "0.0.0.0:5160"),
        ("tls", "[::]:5161"),
        ("tls", "127.0.0.1:5162"),
        ("tcp", "10.0.0.10:5163"),
        ("wss", "0.0.0.0:5060"),
    ];
    host.asterisk = Some(asterisk(&bound, Some((10_000, 20_000))));
    let audit = report::report(host, &[AuditPart::Ports], Vec::new());
    let ids: Vec<(&str, Severity)> =
        audit.findings.iter().map(|finding| (&*finding.id, finding.severity)).collect();
    assert_eq!(
        ids,
        [
            ("sip-unknown/tcp/5161", Critical),
            ("sip-unknown/udp/5160", Critical),
            ("exposed/postgresql/tcp/5432", Critical),
            ("sip-unknown/tcp/5163", Warning),
            ("asterisk-unknown/udp/5260", Warning),
            ("exposed/sip/udp/5060", Warning),
            ("exposed/udp/temporary/asterisk", Note),
        ]
    );
    let line = audit.findings[1].line.as_deref();
    assert_eq!(line, Some("sip: {udp: [5060, 5160], tcp: [5060, 5061, 5161, 5163]}"));
    let media = audit.listeners.iter().find(|listener| listener.port == 12_000).unwrap();
    assert_eq!((media.service.as_deref(), &media.finding), (Some("rtp"), &None));
    assert_eq!(report::exit_status(&audit), 2);
}

#[test]
fn sip_behind_the_filter_is_a_note() {
    let mut host = facts(vec![socket(Transport::Udp, "192.0.2.10", 5060)]);
    assert_eq!(ids(&host), [("exposed/sip/udp/5060".to_owned(), Note)]);
    host.interfaces[1].filtered = false;
    assert_eq!(ids(&host), [("exposed/sip/udp/5060".to_owned(), Warning)]);
}

#[test]
fn media_on_the_ports_of_sip() {
    let mut host = facts(Vec::new());
    host.asterisk = Some(asterisk(&[("udp", "0.0.0.0:5060")], Some((5000, 31_000))));
    assert_eq!(ids(&host), [("rtp-overlaps-sip".to_owned(), Warning)]);
    host.asterisk = Some(asterisk(&[("udp", "0.0.0.0:5060")], Some((10_000, 20_000))));
    assert_eq!(ids(&host), []);
}

#[test]
fn a_firewall_that_closes_a_port_leaves_a_note() {
    let mut host = facts(vec![
        socket(Transport::Tcp, "0.0.0.0", 5432),
        socket(Transport::Tcp, "0.0.0.0", 22),
        owned(socket(Transport::Tcp, "::", 8080), "java"),
    ]);
    let closing = "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp --dport 22 -j ACCEPT\n";
    host.firewall = vec![parse_iptables("iptables-save", Family::V4, closing)];
    let expected = [
        // It also accepts IPv6, which the rules do not cover.
        ("exposed/java/tcp/8080".to_owned(), Warning),
        ("exposed/postgresql/tcp/5432".to_owned(), Note),
        ("exposed/sshd/tcp/22".to_owned(), Note),
    ];
    let mut found = ids(&host);
    found.sort();
    assert_eq!(found, expected);
    host.firewall.push(parse_iptables("ip6tables-save", Family::V6, closing));
    assert!(ids(&host).contains(&("exposed/java/tcp/8080".to_owned(), Note)));
}

#[test]
fn an_interface_bounds_who_reaches_a_socket() {
    let on = |name: &str| Socket {
        interface: Some(name.to_owned()),
        ..socket(Transport::Tcp, "0.0.0.0", 5432)
    };
    assert_eq!(ids(&facts(vec![on("lo")])), []);
    let (findings, _) = examine(&facts(vec![on("eth1")]));
    assert!(
        findings[0].evidence.contains(&"addresses: 10.0.0.10 (eth1)".to_owned()),
        "{findings:?}"
    );
}

#[test]
fn a_host_that_is_no_wazo() {
    let mut host = facts(vec![
        owned(socket(Transport::Tcp, "0.0.0.0", 9486), "java"),
        owned(socket(Transport::Tcp, "0.0.0.0", 9500), "wazo-calld"),
        owned(socket(Transport::Udp, "0.0.0.0", 50_000), "resolver"),
        owned(socket(Transport::Udp, "0.0.0.0", 50_001), "resolver"),
    ]);
    host.wazo = false;
    let (findings, _) = examine(&host);
    let mut ids: Vec<&str> = findings.iter().map(|finding| &*finding.id).collect();
    ids.sort_unstable();
    assert_eq!(
        ids,
        ["exposed/java/tcp/9486", "exposed/udp/temporary/resolver", "exposed/wazo-calld/tcp/9500"]
    );
    let java = findings.iter().find(|finding| finding.id.contains("java")).unwrap();
    assert_eq!(
        (java.page.clone(), java.line.as_deref()),
        (None, Some("systemctl disable --now java.service"))
    );
}

#[test]
fn a_baseline_leaves_what_is_new_or_worse() {
    let one = || socket(Transport::Tcp, "10.0.0.10", 5432);
    let earlier = report::report(facts(vec![one()]), &[AuditPart::Ports], Vec::new());
    let json = serde_json::to_vec(&earlier).unwrap();
    let earlier = baseline::parse(&json).unwrap();
    let mut now = report::report(facts(vec![one()]), &[AuditPart::Ports], Vec::new());
    baseline::leave_out(&mut now, &earlier);
    assert_eq!((now.findings.len(), now.known, now.worst), (0, Some(1), None));
    assert_eq!(report::exit_status(&now), 0);
    let sockets =
        vec![one(), socket(Transport::Tcp, "0.0.0.0", 5432), socket(Transport::Tcp, "::", 8500)];
    let mut now = report::report(facts(sockets), &[AuditPart::Ports], Vec::new());
    baseline::leave_out(&mut now, &earlier);
    let ids: Vec<&str> = now.findings.iter().map(|finding| &*finding.id).collect();
    assert_eq!(ids, ["exposed/consul-http/tcp/8500", "exposed/postgresql/tcp/5432"]);
    assert_eq!(now.known, Some(0));
    assert!(text::report(&now).contains("new findings: 2 critical; 0 known from the baseline"));
    assert!(baseline::parse(b"{}").is_err());
}

#[test]
fn what_could_not_be_read_is_a_finding() {
    let mut host = facts(Vec::new());
    let (what, why) = ("nft".to_owned(), "not found".to_owned());
    host.unread = vec![api::Unread { what, why }];
    let audit = report::report(host, &[AuditPart::Ports], Vec::new());
    assert_eq!((audit.findings.len(), report::exit_status(&audit)), (1, 1));
    assert!(text::ports(&audit).contains("could not read nft: not found"));
}

/// The example of the documents.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads and writes the example")]
fn the_example_is_up_to_date() {
    let mut host = facts(vec![
        owned(socket(Transport::Tcp, "0.0.0.0", 5432), "postgres"),
        owned(socket(Transport::Tcp, "127.0.0.1", 9497), "wazo-auth"),
        owned(socket(Transport::Udp, "0.0.0.0", 5160), "asterisk"),
    ]);
    host.asterisk = Some(asterisk(&[("udp", "0.0.0.0:5160")], Some((10_000, 20_000))));
    host.firewall =
        vec![parse_iptables("iptables-save", Family::V4, "*filter\n:INPUT ACCEPT [0:0]\n")];
    host.unread = vec![api::Unread {
        what: "the rules of nftables".to_owned(),
        why: "nft did not end within 10 s".to_owned(),
    }];
    (host.version, host.host) = ("0.1.0".to_owned(), "pbx".to_owned());
    host.time = "2026-11-29T04:40:05Z".to_owned();
    let audit = report::report(host, &[AuditPart::Ports], Vec::new());
    let expected = format!("{:#}\n", serde_json::to_value(&audit).unwrap());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api/examples/audit.json");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(file, &expected).unwrap();
    }
    let is = std::fs::read_to_string(file).unwrap_or_default();
    assert!(is == expected, "docs/api/examples/audit.json: UPDATE_DOCS=1 cargo test -p audit");
}

fn any_socket() -> impl Strategy<Value = Socket> {
    let address = prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(std::net::IpAddr::from),
        any::<std::net::Ipv6Addr>().prop_map(std::net::IpAddr::from),
        proptest::sample::select(vec!["0.0.0.0", "::", "127.0.0.1", "10.0.0.1", "192.0.2.10"])
            .prop_map(|text| text.parse().unwrap()),
    ];
    let transport = proptest::sample::select(vec![Transport::Tcp, Transport::Udp]);
    let port = prop_oneof![
        any::<u16>(),
        proptest::sample::select(SERVICES.iter().map(|service| service.port).collect::<Vec<_>>())
    ];
    let owner = proptest::option::of((1u32..4, ".{0,8}"));
    (transport, address, port, any::<bool>(), any::<u32>(), owner).prop_map(
        |(transport, address, port, v6_only, inode, owner)| Socket {
            transport,
            address,
            port,
            v6_only,
            interface: None,
            inode,
            uid: 0,
            owner: owner.map(|(pid, process)| Owner { pid, process, unit: None }),
        },
    )
}

proptest! {
    #[test]
    fn no_listener_is_lost_and_none_is_invented(sockets in proptest::collection::vec(any_socket(), 0..24), wazo in any::<bool>()) {
        let mut host = facts(sockets.clone());
        host.wazo = wazo;
        let audit = report::report(host, &[AuditPart::Ports], Vec::new());
        let total: u64 = audit.listeners.iter().map(|listener| listener.sockets).sum();
        prop_assert_eq!(total, sockets.len() as u64);
        for socket in &sockets {
            let same = |listener: &&Listener| {
                (listener.transport, listener.port) == (socket.transport, socket.port)
                    && listener.address == socket.address.to_canonical()
                    && listener.pid == socket.owner.as_ref().map(|owner| owner.pid)
            };
            let listener = audit.listeners.iter().find(same);
            prop_assert!(listener.is_some(), "{:?}", socket);
            let listener = listener.unwrap();
            // Everything that strangers can reach has a finding.
            if reach::is_exposed(listener.reach) {
                let finding = listener.finding.as_deref();
                prop_assert!(audit.findings.iter().any(|one| Some(&*one.id) == finding), "{:?}", listener);
            }
            if listener.reach == Reach::Loopback {
                prop_assert_eq!(&listener.finding, &None);
            }
            let names = socket.owner.iter().map(|owner| &*owner.process);
            let service = find(socket.transport, socket.port, names, wazo);
            prop_assert_eq!(listener.service.as_deref(), service.map(|service| service.name));
        }
        let severities: Vec<Severity> = audit.findings.iter().map(|finding| finding.severity).collect();
        prop_assert!(severities.is_sorted_by(|one, other| one >= other));
        let again = serde_json::to_vec(&audit).unwrap();
        prop_assert_eq!(baseline::parse(&again).unwrap(), audit);
    }
}

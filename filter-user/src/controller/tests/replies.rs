//! Every reply as JSON, recorded in `docs/api/examples`, because other programs read these keys.
//! `UPDATE_DOCS=1` records them again.

use std::fs;
use std::path::Path;

use api::Exposure;

use super::*;
use api::{ActiveQuery, EndedBan, HistoryEvent, HistoryPage, HistoryRow};

use crate::dns::{Addresses, News};
use crate::source::{Heard, SourceState, Strain};

/// Compares a reply with the one recorded, or records it.
fn hold(name: &str, reply: &Value) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api/examples");
    let path = examples.join(format!("{name}.json"));
    let text = format!("{reply:#}\n");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(&examples).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text, recorded,
        "{name}: UPDATE_DOCS=1 cargo test -p filter-user --lib controller::tests::replies"
    );
}

/// A host with names, its own weights and networks of offenders.
fn host(config: &mut Config) {
    config.trusted_names = vec!["office.example.org".parse().unwrap()];
    config.escalation.enabled = true;
    let jail = config.jails.get_mut("asterisk-wazo").unwrap();
    jail.ignoreip = vec!["203.0.113.128/25".parse().unwrap(), "203.0.113.99/32".parse().unwrap()];
    jail.ignore_names =
        vec!["backup.example.org".parse().unwrap(), "gone.example.org".parse().unwrap()];
    (jail.guessing.maxretry, jail.guessing.sources) = (12, 4);
}

fn resolved(controller: &mut Controller<NoKernel>, name: &str, addresses: Addresses) {
    controller.resolved(News { name: name.parse().unwrap(), addresses }, at(0));
}

/// A controller of which there is something to tell.
fn busy() -> Controller<NoKernel> {
    let mut controller = started_with(NoKernel::default(), host);
    controller.add_source(ami(), at(0));
    let all = BTreeSet::from(["203.0.113.40".parse().unwrap(), "2001:db8::40".parse().unwrap()]);
    resolved(
        &mut controller,
        "office.example.org",
        Addresses { all: all.clone(), left_out: 2, failed: None },
    );
    let failed = Some("no answer".to_owned());
    resolved(&mut controller, "gone.example.org", Addresses { all, left_out: 0, failed });
    controller.source_reads(0, true, at(0));
    let mut news = Heard::state(SourceState::Ok);
    news.lines = 4;
    news.attempts = vec![Attempt {
        rule: "no-matching-endpoint",
        ..Attempt::new(Verdict::Failure, Class::UnknownAccount, IpAddr::from([203, 0, 113, 7]))
    }];
    for _line in 0..3 {
        news.unparsed.add(b"x.c: 203.0.113.7 was refused", Timestamp::from_second(1007).unwrap());
    }
    controller.take_note(0, &mut news, at(5));
    let source = controller.source_mut(0).unwrap();
    (source.state, source.events, source.lost) = ((api::State::Ok, None), 4, 1);
    source.strain = Some(Strain {
        share: Duration::from_millis(100),
        read: 4,
        left_out: 3,
        ..Strain::default()
    });
    controller.datapath.unseen = vec![[203, 0, 113, 12].into()];
    controller.datapath.known = vec![[203, 0, 113, 13].into()];
    for (last, times) in [(12, 5), (13, 2), (8, 2), (9, 5), (10, 5), (7, 15)] {
        fail(&mut controller, [203, 0, 113, last], times);
    }
    let exposure = Exposure {
        subject: "eth2".to_owned(),
        problem: "`eth2` has a default route and no program: nothing is dropped there".to_owned(),
        remedy: "`interfaces: [eth0, eth1, eth2]`".to_owned(),
    };
    controller.set_exposures(vec![exposure], String::new());
    let source = IpAddr::from([203, 0, 113, 8]);
    controller.limit_exceeded(Limited { source, reason: Reason::RegisterLimit, at: at(19) });
    controller
}

/// The reply as it is sent: it also says whether the store has the ban.
fn durable(mut reply: Value) -> Value {
    (reply["durable"], reply["why"]) = (true.into(), Value::Null);
    reply
}

#[test]
fn every_reply_is_as_recorded() {
    let mut controller = busy();
    let mut status = ask(&mut controller, Request::Status);
    status["version"] = "0.1.0".into();
    hold("status", &status);
    hold("bans", &ask(&mut controller, every_ban()));
    hold("active", &ask(&mut controller, Request::Active(ActiveQuery::default())));
    hold("jails", &ask(&mut controller, Request::Jails));
    let mut why = |last| {
        let address = IpAddr::from([203, 0, 113, last]);
        let mut why = ask(&mut controller, Request::Why { address });
        // Only the store knows.
        why["history"] = Value::Null;
        why
    };
    hold("why-banned", &why(7));
    hold("why-near", &why(8));
    hold("why-unwitnessed", &why(12));
    hold("why-known", &why(13));
    hold("why-trusted", &why(40));
    let mut first = ban("203.0.113.0/24", None);
    if let Request::Ban { except, reason, scope, .. } = &mut first {
        *except = vec!["203.0.113.40/32".parse().unwrap()];
        (*reason, *scope) = (Some("abuse ticket 4711".to_owned()), "sip".to_owned());
    }
    hold("ban", &durable(ask(&mut controller, first.clone())));
    if let Request::Ban { seconds, .. } = &mut first {
        *seconds = Some(3600);
    }
    hold("ban-replaces", &durable(ask(&mut controller, first)));
    hold("bans-except", &ask(&mut controller, every_ban()));
    let decided = |address: &str, jail: &str| api::Decided {
        address: address.parse().unwrap(),
        jail: jail.to_owned(),
        seconds: Some(600),
    };
    let bans = vec![
        decided("192.0.2.77", "sshd"),
        decided("192.0.2.78", "nginx"),
        decided("203.0.113.13", "sshd"),
    ];
    let take_over = Request::TakeOver { bans, from: "fail2ban".to_owned(), last: true };
    hold("take-over", &durable(ask(&mut controller, take_over)));
    let unban = |network: &str, inside| {
        Request::Unban(Unban::Network { network: network.parse().unwrap(), inside })
    };
    hold("unban", &durable(ask(&mut controller, unban("203.0.113.0/24", false))));
    let order = |network: &str| api::Order {
        network: network.parse().unwrap(),
        seconds: Some(600),
        scope: "sip".to_owned(),
        except: Vec::new(),
        reason: Some("abuse ticket 4711".to_owned()),
        jail: None,
    };
    let bans = vec![order("192.0.2.80/32"), order("198.51.100.7/32"), order("192.0.2.96/28")];
    let ban_many = Request::BanMany { bans, force: false };
    hold("ban-many", &durable(ask(&mut controller, ban_many)));
    let networks = ["192.0.2.80/32", "192.0.2.81/32", "192.0.2.96/28"];
    let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    let several = Request::Unban(Unban::Networks { networks });
    hold("unban-several", &durable(ask(&mut controller, several)));
    let network = "203.0.113.32/28".parse().unwrap();
    let comment = Some("branch office".to_owned());
    let allow = Request::Allow { network, seconds: Some(3600), comment };
    hold("allow", &durable(ask(&mut controller, allow)));
    hold("allows", &ask(&mut controller, Request::Allows));
    let address = IpAddr::from([203, 0, 113, 33]);
    hold("why-allowed", &ask(&mut controller, Request::Why { address }));
    hold("allow-ended", &durable(ask(&mut controller, Request::Disallow { network })));
    let set = Request::Set {
        jail: "sshd".to_owned(),
        setting: api::Tunable::Maxretry,
        value: Some("4".to_owned()),
    };
    hold("set", &durable(ask(&mut controller, set)));
    hold("peers", &ask(&mut controller, Request::Peers { inside: None, after: None }));
    hold("history", &serde_json::to_value(history()).unwrap());
    hold("unban-many", &durable(ask(&mut controller, Request::Unban(Unban::All))));
    let on = api::Maintenance::On { seconds: 600, closed_to_known: true };
    hold("maintenance", &ask(&mut controller, Request::Maintenance(on)));
    let off = Request::Maintenance(api::Maintenance::Off);
    hold("maintenance-off", &ask(&mut controller, off));
    hold("status-unprotected", &unprotected());
}

/// A page of the history, with one of each event.
fn history() -> HistoryPage {
    let ended = EndedBan {
        jail: "asterisk-wazo".to_owned(),
        scope: "sip".to_owned(),
        since: "1970-01-01T00:16:54Z".to_owned(),
        reason: "15 failures within 10m".to_owned(),
    };
    let (by, action) = ("alice (sudo, root)".to_owned(), "unban".to_owned());
    let row = |event| HistoryRow {
        time: "1970-01-01T00:17:00Z".to_owned(),
        network: Some("203.0.113.7".to_owned()),
        event,
    };
    let lapsed = HistoryRow { network: None, ..row(HistoryEvent::Lapsed) };
    let history = vec![
        lapsed,
        row(HistoryEvent::Change { by, action }),
        row(HistoryEvent::BanPrevented {
            jail: "asterisk-wazo".to_owned(),
            is: "a default gateway".to_owned(),
            reason: "15 failures within 10m".to_owned(),
        }),
        row(HistoryEvent::BanLifted(ended.clone())),
        row(HistoryEvent::BanEnded(ended)),
    ];
    HistoryPage { history, next: Some(1) }
}

/// `status` of a dry run on interfaces that have no program, while SIP would be closed.
fn unprotected() -> Value {
    let datapath = NoKernel { bare: Some("No such device".to_owned()), ..NoKernel::default() };
    let mut controller = started_with(datapath, |config| config.dry_run = true);
    controller.sources.clear();
    let on = api::Maintenance::On { seconds: 600, closed_to_known: true };
    ask(&mut controller, Request::Maintenance(on));
    let mut status = ask(&mut controller, Request::Status);
    status["version"] = "0.1.0".into();
    status
}

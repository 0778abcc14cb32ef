use std::num::NonZeroU16;

use api::{ActivePage, BanKind, BanOrder, BansPage, Reply};
use serde_json::json;

use super::asked::{BANS_PAGE, OBSERVED};
use super::*;
use crate::examples;
use crate::top::key::Key;
use crate::top::view::View;

fn now(second: u64) -> Moment {
    let wall: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
    Moment { at: Duration::from_secs(second), wall: wall + Duration::from_secs(second) }
}

fn model(may_change: bool) -> Model {
    Model::new(Settings {
        every: Duration::from_secs(1),
        may_change,
        session: Some([198, 51, 100, 9].into()),
        zone: TimeZone::UTC,
    })
}

fn row(network: &str) -> BanRow {
    BanRow {
        network: network.to_owned(),
        except: Vec::new(),
        jail: "asterisk-wazo".to_owned(),
        scope: "sip".to_owned(),
        kind: BanKind::Ban,
        proven: true,
        since: "2026-11-29T11:00:00Z".to_owned(),
        since_ms: 0,
        until: Some("2026-11-29T13:00:00Z".to_owned()),
        packets: 0,
        reason: "15 failures within 10m".to_owned(),
        country: None,
        asn: None,
    }
}

/// A page of attackers as the daemon tells it, with this account.
pub(in super::super) fn active(account: &str) -> ActivePage {
    serde_json::from_value(json!({
        "sources": [{
            "source": "203.0.113.8", "address": "203.0.113.8", "last": "2026-11-29T12:00:00Z",
            "failures": 4, "class": "wrong-credential", "account": account, "proven": true,
            "limit": null, "ban": null, "known": false,
            "near": {"jail": "asterisk-wazo", "failures": 4, "points": 4, "maxretry": 15,
                "accounts": 1, "maxaccounts": 10, "findtime": "10m"},
        }, {
            "source": "203.0.113.9", "address": "203.0.113.9", "last": "2026-11-29T12:00:00Z",
            "failures": 15, "class": "unknown-account", "account": "1001", "proven": true,
            "limit": null, "near": null, "known": false,
            "ban": {"network": "203.0.113.9", "jail": "asterisk-wazo", "scope": "sip",
                "since": "2026-11-29T11:59:00Z", "until": "2026-11-29T12:59:30Z", "packets": 500,
                "reason": "15 failures within 10m", "evidence": 8},
        }],
        "more": 0, "packets": [], "accounts": [],
    }))
    .unwrap()
}

/// Answers requests as a daemon with many bans until the model wants nothing more. Returns the requests.
fn serve(model: &mut Model, second: u64) -> Vec<Request> {
    let mut asked = Vec::new();
    while let Some(request) = model.request(now(second)) {
        assert!(model.request(now(second)).is_none(), "one request at a time");
        let answer = if request == Request::Status {
            let mut status = examples::healthy();
            status.bans.active = 1_000_000;
            serde_json::to_value(status)
        } else if let Request::Active(_) = &request {
            serde_json::to_value(active("1001"))
        } else if let Request::Bans(query) = &request {
            let limit = query.limit.unwrap().get();
            let bans = (0..limit).map(|n| row(&format!("10.0.{n}.1"))).collect();
            let network = "10.0.9.1/32".parse().unwrap();
            let next = Some(BanPlace { network, origin: 1, scope: 1 });
            serde_json::to_value(BansPage { bans, enforcing: true, next })
        } else {
            assert!(matches!(request, Request::Why { .. }), "{request:?}");
            serde_json::to_value(examples::banned_why())
        };
        model.take(&request, Ok(answer.unwrap()), now(second));
        asked.push(request);
    }
    asked
}

fn press(model: &mut Model, keys: &str, second: u64) {
    for c in keys.chars() {
        let key = if c == '\n' { Key::Enter } else { Key::Char(c) };
        assert_eq!(model.key(key, now(second)), Flow::GoOn, "{c}");
    }
}

fn foot(model: &Model, second: u64) -> String {
    model.view(now(second)).foot.0
}

#[test]
fn a_round_asks_for_little_however_many_bans_there_are() {
    let mut model = model(true);
    assert_eq!(serve(&mut model, 0).len(), 2);
    let asked = serve(&mut model, 1);
    let [Request::Status, Request::Active(query), Request::Bans(bans)] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert!(query.packets.is_empty());
    assert_eq!((bans.limit, bans.first), (NonZeroU16::new(OBSERVED), Some(BanOrder::Packets)));
    assert!(serve(&mut model, 1).is_empty(), "the round is over");
    // The next round observes the next part.
    let asked = serve(&mut model, 2);
    assert!(matches!(&asked[2], Request::Bans(query) if query.after.is_some()), "{asked:?}");
    press(&mut model, "3", 2);
    let asked = serve(&mut model, 2);
    let [Request::Status, Request::Bans(query)] = &asked[..] else { panic!("{asked:?}") };
    // A million are not sorted.
    assert_eq!((query.limit, query.first, query.after), (NonZeroU16::new(BANS_PAGE), None, None));
    assert!(foot(&model, 2).contains("too many to sort"), "{}", foot(&model, 2));
    press(&mut model, "n", 2);
    let asked = serve(&mut model, 2);
    assert!(matches!(&asked[1], Request::Bans(query) if query.after.is_some()), "{asked:?}");
    assert!(foot(&model, 2).contains("page 2"));
    press(&mut model, "NN", 2);
    assert!(foot(&model, 2).contains("first page"));
    press(&mut model, "/192.0.2.0/24\n", 2);
    let asked = serve(&mut model, 2);
    let Request::Bans(query) = &asked[1] else { panic!("{asked:?}") };
    assert_eq!(query.inside, Some("192.0.2.0/24".parse().unwrap()));
    press(&mut model, "4", 3);
    assert_eq!(serve(&mut model, 3), [Request::Status]);
}

#[test]
fn a_paused_view_asks_for_nothing_but_what_the_user_wants() {
    let mut model = model(true);
    serve(&mut model, 0);
    press(&mut model, "p", 0);
    assert!(serve(&mut model, 100).is_empty());
    assert!(model.view(now(100)).head.iter().any(|(text, _)| text == "PAUSED"));
    press(&mut model, "W203.0.113.7\n", 100);
    let asked = serve(&mut model, 100);
    assert_eq!(asked, [Request::Why { address: [203, 0, 113, 7].into() }]);
    let window = model.view(now(100)).window.unwrap();
    assert!(window.lines[0].starts_with("203.0.113.7 is dropped"), "{window:?}");
    press(&mut model, "q", 100);
    assert_eq!(model.view(now(100)).window, None, "a key closes the window");
    press(&mut model, " ", 100);
    assert!(!serve(&mut model, 100).is_empty());
    assert_eq!(model.key(Key::Char('q'), now(100)), Flow::Quit);
    assert_eq!(model.key(Key::Interrupt, now(100)), Flow::Quit);
}

#[test]
fn a_change_needs_root_and_a_yes() {
    let mut model = model(false);
    serve(&mut model, 0);
    for (key, command) in [("b", "ban"), ("u", "unban"), ("a", "allow")] {
        press(&mut model, key, 0);
        let said = foot(&model, 0);
        assert!(
            said.contains(&format!("only root may {command}")) && said.contains("sudo"),
            "{said}"
        );
    }
    let mut model = self::model(true);
    serve(&mut model, 0);
    press(&mut model, "b192.0.2.7 7d\n", 0);
    assert_eq!(foot(&model, 0), "Ban 192.0.2.7 for 7d, all ports? (y/n)");
    press(&mut model, "x\n", 0);
    assert!(model.wanted.is_empty(), "only a yes is a yes");
    press(&mut model, "n", 0);
    assert!(model.wanted.is_empty() && foot(&model, 0).contains("nothing is changed"));
    press(&mut model, "b192.0.2.7\ny", 0);
    let Some(Request::Ban { seconds, force, .. }) = model.request(now(0)) else { panic!() };
    assert_eq!((seconds, force), (Some(3600), false));
    let request = Request::Ban {
        network: "192.0.2.7/32".parse().unwrap(),
        seconds: Some(3600),
        scope: "all".to_owned(),
        except: Vec::new(),
        reason: None,
        force: false,
    };
    let refused = Trouble { text: "192.0.2.7 is a known peer\x1b[2J".to_owned(), is_down: false };
    model.take(&request, Err(refused), now(0));
    assert_eq!(foot(&model, 0), "192.0.2.7 is a known peer\\u{1b}[2J");
    assert!(!foot(&model, 20).contains("known peer"), "a message goes by itself");
    // An own session is not shut out.
    press(&mut model, "b198.51.100.0/24\n", 20);
    assert!(foot(&model, 20).contains("logged in from 198.51.100.9"));
    assert_eq!(model.key(Key::Escape, now(20)), Flow::GoOn);
    model.wanted.clear();
    let done = examples::replacing();
    model.take(&request, Ok(serde_json::to_value(done).unwrap()), now(20));
    assert!(foot(&model, 20).contains("SHORTER than before"), "{}", foot(&model, 20));
}

#[test]
fn the_selection_stays_with_its_address() {
    let mut model = model(true);
    serve(&mut model, 0);
    model.key(Key::Down, now(0));
    model.key(Key::Down, now(0));
    assert_eq!(model.selection(now(0)).as_deref(), Some("203.0.113.9"));
    press(&mut model, "s", 0);
    assert_eq!(model.selection(now(0)).as_deref(), Some("203.0.113.9"));
    press(&mut model, "u", 0);
    assert!(foot(&model, 0).ends_with("203.0.113.9_"));
    press(&mut model, "\n", 0);
    assert!(foot(&model, 0).starts_with("Unban 203.0.113.9,"));
    press(&mut model, "n", 0);
    press(&mut model, "\n", 0);
    assert_eq!(model.request(now(0)), Some(Request::Why { address: [203, 0, 113, 9].into() }));
}

#[test]
fn a_filter_keeps_what_contains_it() {
    let mut model = model(true);
    serve(&mut model, 0);
    let shown = |model: &Model| model.view(now(0)).tables.last().unwrap().rows.len();
    assert_eq!(shown(&model), 2);
    press(&mut model, "/UNKNOWN\n", 0);
    assert_eq!(shown(&model), 1);
    model.key(Key::Escape, now(0));
    assert_eq!(shown(&model), 2);
}

#[test]
fn a_daemon_that_is_gone_is_shown_until_it_answers_again() {
    let mut model = model(true);
    serve(&mut model, 0);
    let head = |model: &Model, second| model.view(now(second)).head[0].clone();
    let request = model.request(now(1)).unwrap();
    // A slow one first.
    assert!(!head(&model, 2).0.contains("waiting"));
    assert!(head(&model, 4).0.contains("waiting for an answer for 3 s"));
    let gone = Trouble { text: "no daemon answers at /x".to_owned(), is_down: true };
    model.take(&request, Err(gone.clone()), now(5));
    let shown = head(&model, 6);
    assert_eq!(shown, ("NO ANSWER since 12:00:05: no daemon answers at /x".to_owned(), Tone::Bad));
    assert!(model.request(now(6)).is_none(), "it is not tried all the time");
    let request = model.request(now(7)).unwrap();
    model.take(&request, Err(gone), now(7));
    assert!(head(&model, 8).0.contains("since 12:00:05"));
    serve(&mut model, 10);
    assert!(head(&model, 10).0.contains("enforcing"));
    assert!(foot(&model, 10).contains("answers again"));
}

#[test]
fn an_answer_of_another_form_is_an_error_and_no_end() {
    let mut model = model(true);
    let request = model.request(now(0)).unwrap();
    let Reply::Ok(answer) = Reply::Ok(json!({"version": 7})) else { panic!() };
    model.take(&request, Ok(answer), now(0));
    assert!(foot(&model, 0).contains("another version"), "{}", foot(&model, 0));
}

/// What is seen after some seconds of an attack and these keys.
pub(in super::super) fn filled(keys: &str, page: &ActivePage) -> View {
    let mut model = model(true);
    let mut status = examples::status();
    for second in 0..90_u32 {
        status.reasons.get_mut("banned").unwrap().packets += u64::from(second) * 40;
        status.interfaces[0].dropped += u64::from(second) * 40;
        status.reasons.get_mut("other-port").unwrap().packets += 25 + u64::from(second % 7);
        model.traffic.take(&status, Duration::from_secs(second.into()));
    }
    model.status = Some(status);
    model.attackers.take(page.clone(), &[], None, Duration::from_secs(88));
    let mut later = page.clone();
    for source in &mut later.sources {
        source.failures += 3;
    }
    model.attackers.take(later, &[], None, Duration::from_secs(90));
    press(&mut model, keys, 90);
    model.pages.rows = vec![row("203.0.113.9"), row("2001:db8:1234:5678::/64")];
    model.view(Moment { at: Duration::from_secs(90), wall: now(0).wall })
}

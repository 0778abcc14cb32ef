use std::collections::{BTreeMap, BTreeSet};

use api::{
    ActiveAccount, ActivePage, AuditFinding, BanRow, BansPage, BansQuery, Feeds, ReasonCount,
    Reply, TrafficPage, TrafficPoint, Unread, Verdict,
};
use proptest::prelude::*;

use super::findings::Found;
use super::*;
use crate::check::Level;
use crate::{doctor, examples};

/// The tags of a page, without the text between them.
fn tags(page: &str) -> Vec<&str> {
    page.split('<').skip(1).map(|rest| rest.split_once('>').expect("a tag ends").0).collect()
}

/// Every view, with this text wherever somebody else can have chosen one.
fn views(text: &str) -> Vec<String> {
    let foreign = || text.to_owned();
    let mut status = examples::status();
    status.hearing.iter_mut().for_each(|one| one.problem = foreign());
    for source in &mut status.sources {
        source.why = Some(foreign());
    }
    let active: ActivePage =
        serde_json::from_str(include_str!("../../../docs/api/examples/active.json")).unwrap();
    let mut active = active;
    for source in &mut active.sources {
        source.account = Some(foreign());
    }
    active.accounts.push(ActiveAccount {
        jail: foreign(),
        account: foreign(),
        failures: 1,
        sources: 1,
        last: foreign(),
    });
    let bans: BansPage =
        serde_json::from_str(include_str!("../../../docs/api/examples/bans.json")).unwrap();
    let mut bans = bans;
    for BanRow { network, jail, reason, since, .. } in &mut bans.bans {
        (*network, *jail, *reason, *since) = (foreign(), foreign(), foreign(), foreign());
    }
    let query = BansQuery { jail: Some(foreign()), scope: Some(foreign()), ..BansQuery::default() };
    let mut why = examples::banned_why();
    why.reason = Some(foreign());
    for failure in &mut why.evidence {
        failure.account = Some(foreign());
    }
    let mut feeds = Feeds::default();
    feeds.feeds.push(api::FeedRow {
        name: foreign(),
        problem: Some(foreign()),
        ..api::FeedRow::default()
    });
    let wrong = Reply::Error(text.into());
    let finding =
        doctor::Finding { subject: foreign(), problem: foreign(), remedy: foreign(), fix: None };
    let mut audit = examples::audit();
    for AuditFinding { title, reason, remedy, line, .. } in &mut audit.findings {
        (*title, *reason, *remedy, *line) = (foreign(), foreign(), foreign(), Some(foreign()));
    }
    audit.unread.push(Unread { what: foreign(), why: foreign() });
    let found = |audit| Found {
        at: foreign(),
        doctor: vec![(Level::Critical, finding.clone()), (Level::Ok, finding.clone())],
        audit,
    };
    vec![
        whole(View::Findings, false, &findings::view(&found(Ok(Some(audit))))),
        whole(View::Findings, false, &findings::view(&found(Err(foreign())))),
        whole(View::Findings, false, &findings::view(&found(Ok(None)))),
        whole(View::Now, true, &now::view(&status, &active, (7, 9))),
        whole(View::Traffic, false, &traffic::view(traffic::Range::named(text), &past(text))),
        whole(View::Bans, false, &bans::view(&status, &query, &bans)),
        whole(View::Bans, false, &bans::wrong(&status, &wrong)),
        whole(View::Why, false, &why::view(&why)),
        whole(View::Why, false, &why::wrong(text, &wrong)),
        whole(View::Jails, false, &jails::view(&examples::jails(), &status, &feeds)),
        message("Title", &parts::foreign(text)),
        login(),
    ]
}

/// Traffic with a reason of this name.
fn past(name: &str) -> TrafficPage {
    let count = ReasonCount { verdict: Verdict::Drop, packets: 7, bytes: 700 };
    let reasons = BTreeMap::from([(name.to_owned(), count)]);
    let at = Timestamp::now().to_string();
    TrafficPage { step_seconds: 1, points: vec![TrafficPoint { at, reasons }] }
}

/// No text changes which tags there are, and none of these can run anything.
fn holds(text: &str) {
    let plain = views("x");
    for (page, plain) in views(text).iter().zip(&plain) {
        let names = |page: &str| -> Vec<String> {
            let name = |tag: &&str| tag.split([' ', '\n']).next().unwrap_or_default().to_owned();
            tags(page).iter().map(name).collect()
        };
        // What is an address becomes a link.
        let without_links = |names: Vec<String>| -> Vec<String> {
            names
                .into_iter()
                .filter(|name| !["a", "/a", "bdi", "/bdi"].contains(&&**name))
                .collect()
        };
        assert_eq!(without_links(names(page)), without_links(names(plain)), "{text:?}");
        let all: BTreeSet<String> = names(page).into_iter().collect();
        for forbidden in ["script", "style", "iframe", "object", "base"] {
            assert!(!all.contains(forbidden), "{forbidden}");
        }
        let hidden = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let shown = page.split("<bdi>").skip(1).filter_map(|rest| rest.split("</bdi>").next());
        assert!(shown.into_iter().all(|text| !text.contains(hidden)), "{text:?}");
    }
}

#[test]
fn names_that_are_markup_are_text() {
    for text in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "</title></bdi><svg/onload=alert(1)>",
        "javascript:alert(1)",
        "&lt;script&gt;",
        "\u{202e}evil\u{2066}",
        "a\u{0}b\nc\u{1b}[2J",
        "192.0.2.1",
        "2001:db8::/64",
    ] {
        holds(text);
    }
    let page = &views("<script>alert('&')</script>")[3];
    assert!(page.contains("&lt;script&gt;alert('&amp;')&lt;/script&gt;"), "{page}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_is_markup(text in "[<>\"'&=/ a-z\u{202e}\\PC]{0,60}") {
        holds(&text);
    }
}

/// A long text does not make a page long.
#[test]
fn foreign_text_has_a_bound() {
    let long = parts::foreign(&"\u{202e}".repeat(100_000)).into_string();
    assert!(long.len() < 2500, "{}", long.len());
}

#[test]
fn what_a_view_refers_to_is_of_this_site() {
    for page in views("x") {
        for attribute in ["href=\"", "src=\"", "action=\""] {
            for target in page.split(attribute).skip(1) {
                let target = target.split('"').next().unwrap();
                assert!(!target.contains("//") && !target.starts_with('/'), "{target}");
            }
        }
        assert!(!page.contains(" style="), "the policy forbids it");
    }
    for part in ["default-src 'none'", "style-src 'self'", "frame-ancestors 'none'"] {
        assert!(POLICY.contains(part));
    }
    assert!(!POLICY.contains("unsafe") && !STYLE.contains("url(") && !STYLE.contains("@import"));
}

#[test]
fn an_audit_says_how_old_it_is_and_leaves_out_what_the_doctor_says() {
    let audit = |time: String| -> String {
        let mut audit = examples::audit();
        audit.time = time;
        let of_doctor = AuditFinding {
            id: "doctor/eth0/unprotected".to_owned(),
            title: "as it was then".to_owned(),
            ..audit.findings[0].clone()
        };
        audit.findings.push(of_doctor);
        let at = Timestamp::now().to_string();
        findings::view(&Found { at, doctor: Vec::new(), audit: Ok(Some(audit)) }).into_string()
    };
    let new = audit(Timestamp::now().to_string());
    assert!(new.contains("No problems found") && !new.contains(">old<"), "{new}");
    assert!(!new.contains("as it was then"), "{new}");
    assert!(audit("2026-01-01T00:00:00Z".to_owned()).contains(">old<"));
}

#[test]
fn numbers_are_in_groups() {
    for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(parts::number(number), text);
    }
}

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::failure::Class;
use crate::parse::{ami, asterisk};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

const DAY: i64 = 24 * 3600;

fn place(name: &'static str) -> Place<'static> {
    let kind = if name == AMI { "ami" } else { "file" };
    Place { name, kind, path: "/var/log/x", jail: "asterisk-wazo" }
}

fn observed(rules: &'static [&'static str]) -> Observed {
    let mut observed = Observed::new(rules);
    observed.reads(true, at(0));
    observed
}

fn failure(rule: &'static str) -> Attempt {
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66));
    Attempt { rule, ..Attempt::new(Verdict::Failure, Class::WrongCredential, address) }
}

fn suspects(count: usize, now: Timestamp) -> Unparsed {
    let mut unparsed = Unparsed::default();
    for _line in 0..count {
        unparsed.add(b"res_new.c: 192.0.2.66 was refused", now);
    }
    unparsed
}

fn kinds(observed: &Observed, now: Timestamp) -> Vec<Kind> {
    judge(place(NOTICE), observed, now).into_iter().map(|finding| finding.kind).collect()
}

#[test]
fn lines_that_look_like_failures_are_reported_with_a_sample() {
    let mut observed = observed(asterisk::RULES);
    observed.observe(2, &[], suspects(2, at(1)), at(1));
    assert_eq!(kinds(&observed, at(1)), []);
    observed.observe(2, &[], suspects(2, at(2)), at(2));
    let [finding] = &judge(place(NOTICE), &observed, at(2))[..] else { panic!() };
    assert_eq!(
        finding.problem,
        "4 lines look like failures and match no rule; the last such: res_new.c: 192.0.2.66 was refused"
    );
    assert!(finding.remedy.starts_with("`ringfence test-log asterisk-wazo /var/log/x`"));
    // It is reported again when there are ten times as many, and not before.
    observed.observe(5, &[], suspects(5, at(3)), at(3));
    assert_eq!(judge(place(NOTICE), &observed, at(3))[0].key, finding.key);
    observed.observe(1, &[], suspects(1, at(4)), at(4));
    assert_ne!(judge(place(NOTICE), &observed, at(4))[0].key, finding.key);
    assert_eq!(kinds(&observed, at(4 + 7 * DAY)), [Kind::Unparsed]);
    assert_eq!(kinds(&observed, at(5 + 7 * DAY)), []);
}

#[test]
fn a_rule_whose_lines_were_reworded_is_named() {
    let mut observed = observed(asterisk::RULES);
    let attempts = vec![failure("failed-to-authenticate"); 10];
    observed.observe(10, &attempts, Unparsed::default(), at(1));
    observed.observe(1, &[failure("sip-acl")], Unparsed::default(), at(1));
    observed.observe(3, &[], suspects(3, at(2)), at(2));
    let problem = &judge(place(NOTICE), &observed, at(2))[0].problem;
    let named = "match no rule (and since then nothing has matched `failed-to-authenticate`); the";
    assert!(problem.contains(named), "{problem}");
    observed.observe(1, &attempts[..1], Unparsed::default(), at(3));
    assert!(!judge(place(NOTICE), &observed, at(3))[0].problem.contains("since then"));
}

/// A line each hour for ten days, every tenth of them a hit.
fn ten_days() -> Observed {
    let mut observed = observed(asterisk::RULES);
    for hour in 0..240 {
        let hits = vec![failure("no-matching-endpoint"); usize::from(hour % 2 == 0)];
        observed.observe(1, &hits, Unparsed::default(), at(hour * 3600));
    }
    observed
}

#[test]
fn a_silent_source_is_reported_without_its_rules() {
    let observed = ten_days();
    assert_eq!(kinds(&observed, at(10 * DAY + 10 * 3600)), []);
    assert_eq!(kinds(&observed, at(10 * DAY + 12 * 3600)), [Kind::Silent]);
    assert_eq!(kinds(&observed, at(30 * DAY)), [Kind::Silent]);
    let problem = &judge(place(NOTICE), &observed, at(11 * DAY))[0].problem;
    assert!(
        problem.contains("/var/log/x for 1d1h, and it was never silent for more than 1h"),
        "{problem}"
    );
    // If it cannot read, that has already been reported.
    let mut failed = observed;
    failed.reads(false, at(30 * DAY));
    assert_eq!(kinds(&failed, at(30 * DAY)), []);
    // A rotation does not interrupt a silence; a day without the source does.
    failed.reads(true, at(30 * DAY + 60));
    assert_eq!(kinds(&failed, at(30 * DAY + 60)), [Kind::Silent]);
    failed.reads(false, at(31 * DAY));
    failed.reads(true, at(32 * DAY));
    assert_eq!(kinds(&failed, at(32 * DAY)), []);
}

#[test]
fn a_rule_that_stops_matching_while_lines_come_is_reported() {
    let mut observed = ten_days();
    let hear_until = |observed: &mut Observed, from: i64, to: i64| {
        for hour in from..to {
            observed.observe(1, &[], Unparsed::default(), at(hour * 3600));
        }
    };
    hear_until(&mut observed, 240, 400);
    assert_eq!(kinds(&observed, at(400 * 3600)), []);
    hear_until(&mut observed, 400, 410);
    let [finding] = &judge(place(NOTICE), &observed, at(410 * 3600))[..] else { panic!() };
    assert_eq!((finding.kind, finding.key.as_str()), (Kind::Rule, "no-matching-endpoint"));
    assert!(
        finding.problem.contains("for 7d4h and 171 lines; before that it had matched 120"),
        "{finding:?}"
    );
    // A rule that has never matched is not reported: most hosts have no IAX2.
    assert_eq!(observed.rules.iter().filter(|rule| rule.hits.count > 0).count(), 1);
}

/// The findings of `judge` about the NOTICE log and AMI.
fn compared(notice: &Observed, ami: &Observed, now: Timestamp) -> [Vec<Kind>; 2] {
    let kinds = |name, observed| judge(place(name), observed, now).iter().map(|f| f.kind).collect();
    [kinds(NOTICE, notice), kinds(AMI, ami)]
}

fn tell(
    reporter: &str,
    lines: u64,
    attempts: &[Attempt],
    all_observed: (&mut Observed, &mut Observed),
    second: i64,
) {
    let all_observed = [(NOTICE, all_observed.0), (AMI, all_observed.1)];
    compare(reporter, (lines, attempts), all_observed.into_iter(), at(second));
}

#[test]
fn failures_that_only_one_source_reports_are_found() {
    let (mut notice, mut ami) = (observed(asterisk::RULES), observed(ami::RULES));
    let events = vec![failure("ChallengeResponseFailed"); 10];
    // Nothing is missing while there are no failures.
    tell(AMI, 10, &[], (&mut notice, &mut ami), 50);
    tell(AMI, 10, &events, (&mut notice, &mut ami), 100);
    assert_eq!(compared(&notice, &ami, at(109)), [vec![], vec![]]);
    assert_eq!(compared(&notice, &ami, at(110)), [vec![Kind::MissedFailures], vec![]]);
    // A line that an attacker has garbled is still a line.
    tell(NOTICE, 1, &[], (&mut notice, &mut ami), 111);
    assert_eq!(compared(&notice, &ami, at(120)), [vec![], vec![]]);
    // Over AMI, challenges alone are not enough.
    let lines = vec![failure("failed-to-authenticate"); 10];
    tell(NOTICE, 10, &lines, (&mut notice, &mut ami), 200);
    tell(AMI, 5, &[], (&mut notice, &mut ami), 201);
    assert_eq!(compared(&notice, &ami, at(210)), [vec![], vec![Kind::MissedFailures]]);
    tell(AMI, 1, &events[..1], (&mut notice, &mut ami), 211);
    assert_eq!(compared(&notice, &ami, at(300)), [vec![], vec![]]);
}

#[test]
fn failures_that_only_one_source_can_report_are_not_missing() {
    let (mut notice, mut ami) = (observed(asterisk::RULES), observed(ami::RULES));
    let only_notice = vec![failure("iax-registration"); 50];
    tell(NOTICE, 50, &only_notice, (&mut notice, &mut ami), 100);
    let early = crate::failure::LoggedAt::Instant(at(-1));
    let before = vec![Attempt { logged_at: Some(early), ..failure("failed-to-authenticate") }; 50];
    tell(NOTICE, 50, &before, (&mut notice, &mut ami), 100);
    assert_eq!(compared(&notice, &ami, at(1000)), [vec![], vec![]]);
    // Nor are those from while it was away.
    let lines = vec![failure("failed-to-authenticate"); 50];
    tell(NOTICE, 50, &lines, (&mut notice, &mut ami), 100);
    ami.reads(false, at(105));
    ami.reads(true, at(106));
    assert_eq!(compared(&notice, &ami, at(1000)), [vec![], vec![]]);
}

#[test]
fn requests_that_ami_does_not_report_are_found() {
    let mut observed = observed(ami::RULES);
    observed.requests_passed(60, at(10));
    observed.requests_passed(60, at(20));
    let kinds = |observed: &Observed, second| {
        compared(&Observed::default(), observed, at(second))[1].clone()
    };
    assert_eq!(kinds(&observed, 69), []);
    assert_eq!(kinds(&observed, 70), [Kind::MissedRequests]);
    observed.observe(1, &[], Unparsed::default(), at(71));
    assert_eq!(kinds(&observed, 200), []);
}

#[test]
fn a_request_that_was_not_passed_is_not_missing() {
    let mut observed = observed(ami::RULES);
    observed.requests_passed(0, at(10));
    observed.requests_passed(100, at(20));
    // An empty block of events reports none of them.
    observed.observe(0, &[], Unparsed::default(), at(30));
    let kinds = |second| compared(&Observed::default(), &observed, at(second))[1].clone();
    assert_eq!((kinds(79), kinds(80)), (vec![], vec![Kind::MissedRequests]));
}

#[test]
fn a_block_without_lines_ends_no_silence() {
    let (mut notice, mut ami) = (observed(asterisk::RULES), observed(ami::RULES));
    let events = vec![failure("ChallengeResponseFailed"); 10];
    tell(AMI, 10, &events, (&mut notice, &mut ami), 100);
    tell(NOTICE, 0, &[], (&mut notice, &mut ami), 101);
    assert_eq!(compared(&notice, &ami, at(110)), [vec![Kind::MissedFailures], vec![]]);
}

#[test]
fn an_absence_of_more_than_ten_minutes_ends_a_silence() {
    for (away, kinds_after) in [(599, vec![Kind::Silent]), (600, vec![Kind::Silent]), (601, vec![])]
    {
        let mut observed = ten_days();
        observed.reads(false, at(20 * DAY));
        assert!(!observed.is_listening());
        observed.reads(true, at(20 * DAY + away));
        assert!(observed.is_listening());
        assert_eq!(kinds(&observed, at(20 * DAY + away)), kinds_after, "{away} s");
    }
}

#[test]
fn a_rule_is_due_after_a_tenth_as_many_lines_as_it_has_matched() {
    let mut observed = ten_days();
    // One line came after the last of the 120 hits.
    observed.observe(10, &[], Unparsed::default(), at(17 * DAY));
    assert_eq!(kinds(&observed, at(17 * DAY)), []);
    observed.observe(1, &[], Unparsed::default(), at(17 * DAY + 1));
    assert_eq!(kinds(&observed, at(17 * DAY + 1)), [Kind::Rule]);
}

#[test]
fn a_rule_that_matched_together_with_the_first_unknown_line_has_not_stopped() {
    for (second, stopped) in [(1, true), (2, false)] {
        let mut observed = observed(asterisk::RULES);
        let attempts = vec![failure("failed-to-authenticate"); 10];
        observed.observe(10, &attempts, Unparsed::default(), at(second));
        observed.observe(3, &[], suspects(3, at(2)), at(2));
        let problem = &judge(place(NOTICE), &observed, at(2))[0].problem;
        assert_eq!(problem.contains("since then"), stopped, "{problem}");
    }
}

#[test]
fn ten_failures_in_a_row_without_a_packet_are_a_finding() {
    assert_eq!(unwitnessed(NOTICE, 9, "x"), None);
    let found = |unseen| unwitnessed(NOTICE, unseen, "look at the ports").unwrap();
    let Finding { source, kind, problem, remedy, key } = found(10);
    assert_eq!((source, kind, remedy.as_str()), (NOTICE, Kind::Unwitnessed, "look at the ports"));
    assert!(problem.starts_with("10 of 10 failures unwitnessed: "), "{problem}");
    // Again after a tenfold increase.
    assert_eq!((&found(99).key, found(100).key == key), (&key, false));
}

#[test]
fn each_kind_of_finding_has_its_name_and_message() {
    use Kind::{MissedFailures, MissedRequests, Rule, Silent, Unparsed, Unwitnessed};
    let kinds = [Unparsed, Rule, Silent, MissedFailures, MissedRequests, Unwitnessed];
    let names = kinds.map(Kind::as_str);
    assert_eq!(
        names,
        ["unparsed", "rule", "silent", "missed-failures", "missed-requests", "unwitnessed"]
    );
    let messages: std::collections::BTreeSet<_> = kinds.into_iter().map(Kind::over).collect();
    assert_eq!(messages.len(), kinds.len());
    assert!(messages.iter().all(|message| message.split(' ').count() > 3), "{messages:?}");
}

#[test]
fn a_finding_says_how_to_list_the_lines_of_its_kind_of_source() {
    let mut observed = observed(asterisk::RULES);
    observed.observe(3, &[], suspects(3, at(1)), at(1));
    for (kind, starts) in [
        ("file", "`ringfence test-log sshd /var/log/x`"),
        ("journal", "`journalctl -o json _COMM=sshd | ringfence test-log sshd -`"),
        ("ami", "this version of Asterisk"),
    ] {
        let place = Place { name: "sshd", kind, path: "/var/log/x", jail: "sshd" };
        let remedy = &judge(place, &observed, at(1))[0].remedy;
        assert!(remedy.starts_with(starts), "{remedy}");
    }
}

#[test]
fn a_source_has_its_remedy_and_a_key_across_restarts() {
    assert_eq!(remedy(NOTICE), register::source(NOTICE).unwrap().remedy);
    assert_eq!(remedy("web"), "see docs/operations.md");
    assert_eq!((key(NOTICE, "/a"), key("web", "/a")), (NOTICE.to_owned(), "web /a".to_owned()));
}

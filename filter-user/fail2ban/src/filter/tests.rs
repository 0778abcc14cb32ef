//! Filters as administrators write them.

use std::fs;

use proptest::prelude::*;

use super::*;

fn load_with(text: &str, set: &str, options: Options) -> Result<Filter, Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine.conf");
    fs::write(&path, text).unwrap();
    Filter::load(&format!("{}{set}", path.display()), options)
}

fn load(text: &str) -> Result<Filter, Error> {
    load_with(text, "", Options::default())
}

/// A filter with these expressions.
fn filter(failregex: &str) -> Filter {
    load(&format!("[Definition]\nfailregex = {failregex}\n")).unwrap()
}

fn address(filter: &Filter, line: &str) -> Option<String> {
    filter.parse(line.as_bytes()).map(|attempt| attempt.address.to_string())
}

#[test]
fn a_line_is_read_without_its_date() {
    let filter = filter(r"^\[\] \w+: login of <F-USER>\S+</F-USER> from <HOST>:<F-PORT/> failed$");
    let line = b"[2026-11-22 09:32:21] app: login of \xffme from 192.0.2.1:5060 failed\r";
    let attempt = filter.parse(line).unwrap();
    assert_eq!((attempt.verdict, attempt.class), (Verdict::Failure, Class::Login));
    assert_eq!(attempt.address.to_string(), "192.0.2.1");
    assert_eq!(attempt.account.as_deref(), Some("\u{fffd}me"));
    assert_eq!(attempt.port, Some(5060));
    let time = jiff::civil::date(2026, 11, 22).at(9, 32, 21, 0);
    assert_eq!(attempt.logged_at, Some(LoggedAt::Host(time)));
    assert!(!attempt.proven && !attempt.needs_witness && attempt.decided);
    assert_eq!(filter.read(b"2026-11-22 09:32:21 app: started"), Reading::Nothing);
}

#[test]
fn who_uses_it_says_what_a_match_proves() {
    let options =
        Options { proven: true, needs_witness: true, class: Class::Acl, ..Options::default() };
    let filter = load_with("[Definition]\nfailregex = ^<HOST>$\n", "", options).unwrap();
    let attempt = filter.parse(b"192.0.2.1").unwrap();
    assert!(attempt.proven && attempt.needs_witness && attempt.class == Class::Acl);
}

#[test]
fn the_first_expression_that_matches_is_taken() {
    let filter = filter("^a <HOST>$\n  ^b .* <ADDR>$\n  ^b <IP6> .*$");
    assert_eq!(address(&filter, "a 192.0.2.1").unwrap(), "192.0.2.1");
    assert_eq!(address(&filter, "b 2001:db8::1 192.0.2.2").unwrap(), "192.0.2.2");
    assert_eq!(address(&filter, "b 2001:db8::1 x").unwrap(), "2001:db8::1");
    assert_eq!(address(&filter, "b ::ffff:192.0.2.3 [::ffff:192.0.2.4]").unwrap(), "192.0.2.4");
}

#[test]
fn a_host_name_is_never_resolved() {
    let filter = filter("^from <HOST>$");
    assert_eq!(filter.read(b"from localhost"), Reading::NoAddress);
    let error = load("[Definition]\nfailregex = ^from <DNS>$\n").unwrap_err().to_string();
    assert!(error.contains("never resolved"), "{error}");
}

#[test]
fn what_is_no_single_address_is_not_taken() {
    let filter = filter("^net <SUBNET>$\n ^user <F-ID/>$");
    for line in [
        "net 192.0.2.0/24",
        "user me",
        "net 999.0.2.1",
        "net 192.030.0.6",
        "net 0.0.0.0",
        "user 224.0.0.1",
    ] {
        assert_eq!(filter.read(line.as_bytes()), Reading::NoAddress, "{line}");
    }
    assert_eq!(address(&filter, "net 192.0.2.1/32").unwrap(), "192.0.2.1");
    assert_eq!(address(&filter, "user 192.0.2.1").unwrap(), "192.0.2.1");
}

#[test]
fn lines_can_be_ignored() {
    let text = "[Definition]\nfailregex = ^failed <HOST> for .*$\nignoreregex = for (?:me|you)$\n";
    let filter = load(text).unwrap();
    assert_eq!(filter.read(b"failed 192.0.2.1 for me"), Reading::Ignored);
    assert!(filter.parse(b"failed 192.0.2.1 for them").is_some());
    assert_eq!(filter.read(b"for me"), Reading::Nothing);
}

#[test]
fn the_prefix_hands_on_its_content_and_its_groups() {
    let text = "[Definition]\nprefregex = ^client <HOST>: <F-CONTENT>.+</F-CONTENT> denied$\n\
                failregex = ^query\n ^transfer\n";
    let filter = load(text).unwrap();
    assert_eq!(address(&filter, "client 192.0.2.1: query x denied").unwrap(), "192.0.2.1");
    assert_eq!(address(&filter, "client 192.0.2.1: a query denied"), None);
    assert_eq!(address(&filter, "query"), None);
}

#[test]
fn names_are_replaced_and_can_be_set() {
    let text = "[DEFAULT]\nverb = failed\n[Definition]\nfailregex = <mode-<mode>>\n\
                mode-normal = ^%(verb)s from <HOST>$\nmode-strict = ^(?:%(verb)s|<extra>) from <HOST>$\n\
                [Init]\nmode = normal\nextra = left\n";
    let lines = ["failed from 192.0.2.1", "left from 192.0.2.1", "gone from 192.0.2.1"];
    for (set, expected) in [
        ("", [true, false, false]),
        ("[mode=strict]", [true, true, false]),
        ("[mode=strict, extra=\"gone\"]", [true, false, true]),
    ] {
        let filter = load_with(text, set, Options::default()).unwrap();
        assert_eq!(lines.map(|line| filter.parse(line.as_bytes()).is_some()), expected, "{set}");
    }
}

#[test]
fn options_may_stand_in_init_or_be_set_from_outside() {
    let text = "[Init]\ndatepattern = ^t=%%Y-%%m-%%d\n[Definition]\nfailregex = ^ <HOST>$\n";
    let filter = load(text).unwrap();
    assert_eq!(address(&filter, "t=2026-11-22 192.0.2.1").unwrap(), "192.0.2.1");
    let filter = load_with(text, "[datepattern=\"{NONE}\"]", Options::default()).unwrap();
    assert_eq!(address(&filter, "t=2026-11-22 192.0.2.1"), None);
    let error = load_with(text, "[maxlines=2]", Options::default()).unwrap_err().to_string();
    assert!(error.contains("mine.conf: `maxlines = 2`"), "{error}");
}

/// As in fail2ban's own `cowrie.conf`: a percent sign in a value from `[Init]` or the brackets.
#[test]
fn a_percent_sign_may_be_set_from_init_and_from_outside() {
    let text = "[Init]\ndatepattern = %%Y-%%m-%%d %%H:%%M:%%S\n[Definition]\n\
                datepattern = ^%%d/%%m/%%Y %%H:%%M:%%S\nall = ^%(datepattern)s<datepattern>$\n\
                failregex = ^\\s*failed from <HOST>$\n";
    for (set, line) in [
        ("", "2026-08-07 12:34:56 failed from 192.0.2.1"),
        ("[datepattern=\"%Y/%m/%d\"]", "2026/08/07 failed from 192.0.2.1"),
        ("[datepattern=\"%%Y/%%m/%%d\"]", "2026/08/07 failed from 192.0.2.1"),
    ] {
        let filter = load_with(text, set, Options::default()).unwrap();
        assert_eq!(address(&filter, line).as_deref(), Some("192.0.2.1"), "{set}");
        let day = filter.parse(line.as_bytes()).unwrap().logged_at.unwrap();
        assert!(format!("{day:?}").contains("2026-08-07"), "{set} {day:?}");
    }
}

#[test]
fn a_local_file_beside_it_changes_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine.conf");
    fs::write(&path, "[Definition]\nfailregex = ^a <HOST>$\n").unwrap();
    let local = "[Definition]\nfailregex = %(known/failregex)s\n  ^b <HOST>$\n";
    fs::write(directory.path().join("mine.local"), local).unwrap();
    for name in [path.display().to_string(), path.with_extension("").display().to_string()] {
        let filter = Filter::load(&name, Options::default()).unwrap();
        assert!(
            ["a 192.0.2.1", "b 192.0.2.1"]
                .iter()
                .all(|line| filter.parse(line.as_bytes()).is_some())
        );
    }
}

#[test]
fn a_journal_has_lines_without_dates() {
    let text = "[Definition]\nfailregex = ^<in-<logtype>><HOST>$\nin-file = a \nin-journal = b \n\
                journalmatch = _SYSTEMD_UNIT=x.service + _COMM=x\n";
    let text = text
        .replace("a \n", "a: \n")
        .replace("b \n", "b: \n")
        .replace("<in-<logtype>>", "<in-<logtype>> ");
    let options = Options { log: LogType::Journal, ..Options::default() };
    let filter = load_with(&text, "", options).unwrap();
    assert_eq!(address(&filter, "b: 192.0.2.1").unwrap(), "192.0.2.1");
    assert_eq!(address(&load(&text).unwrap(), "a: 192.0.2.1").unwrap(), "192.0.2.1");
    assert_eq!(filter.journal(), ["_SYSTEMD_UNIT=x.service + _COMM=x"]);
}

#[test]
fn lines_of_one_connection_belong_together() {
    let text = "[Definition]\nprefregex = ^<F-MLFID>\\w+\\[\\d+\\]</F-MLFID>: <F-CONTENT>.+</F-CONTENT>$\n\
                failregex = ^<F-NOFAIL>connection</F-NOFAIL> from <HOST>$\n  ^bad password for <F-USER>\\S+</F-USER>$\n\
                datepattern = {NONE}\n";
    let filter = load(text).unwrap();
    assert_eq!(filter.read(b"app[1]: connection from 192.0.2.1"), Reading::Ignored);
    assert_eq!(filter.read(b"app[2]: bad password for me"), Reading::Ignored);
    let attempt = filter.parse(b"app[1]: bad password for me").unwrap();
    assert_eq!(attempt.address.to_string(), "192.0.2.1");
    assert_eq!(attempt.account.as_deref(), Some("me"));
}

#[test]
fn errors_name_the_place_and_what_is_wrong() {
    for (text, expected) in [
        ("[Definition]\n", "mine.conf: has no `failregex`"),
        (
            "[Definition]\nx = 1\nfailregex = ^a$\n",
            "mine.conf:3: the failregex `^a$`: it has no <HOST>",
        ),
        (
            "[Definition]\nfailregex = ^(<HOST>$\n",
            "mine.conf:2: the failregex `^(<HOST>$`: an unclosed `(`",
        ),
        (
            "[Definition]\nfailregex = ^<HOST>$\nignoreregex = \\q\n",
            "mine.conf:3: the ignoreregex `\\q`",
        ),
        ("[Definition]\nfailregex = ^<HOST>$\nprefregex = [\n", "mine.conf:3: the prefregex `[`"),
        (
            "[Definition]\nfailregex = ^<HOST>$\ndatepattern = %%Q\n",
            "mine.conf:3: the date pattern `%Q`",
        ),
        ("[Definition]\nfailregex = ^<HOST>$\nmaxlines = 3\n", "mine.conf:3: `maxlines = 3`"),
        (
            "[Definition]\nfailregex = <a>\na = <a>\n",
            "mine.conf:2: `failregex`: `<a>` refers to itself",
        ),
        ("[Definition]\nfailregex = %(a)s\n", "mine.conf:2: `failregex`: `a` is not defined"),
    ] {
        let error = load(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = Filter::load("/nonexistent/x.conf", Options::default()).unwrap_err().to_string();
    assert_eq!(error, "/nonexistent/x.conf: the filter does not exist");
    let error = Filter::load("sshd[mode", Options::default()).unwrap_err().to_string();
    assert!(error.contains("not a filter"), "{error}");
}

proptest! {
    #[test]
    fn any_line_is_read(line in proptest::collection::vec(any::<u8>(), 0..80)) {
        thread_local!(static FILTER: Filter = load(
            "[Definition]\nprefregex = ^<F-MLFID>.*</F-MLFID>: <F-CONTENT>.*</F-CONTENT>$\nfailregex = <HOST>\n"
        ).unwrap());
        FILTER.with(|filter| {
            filter.read(&line);
            filter.read(&[&line[..], b": 192.0.2.1 ", &line].concat());
        });
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_filter_is_loaded_or_refused(regex in "[a<>HOST/()\\[\\]{}?*+|^$.\\\\w%]{0,20}", date in "[%YmdHMS{}DATE^ -]{0,10}") {
        drop(load(&format!("[Definition]\nfailregex = {regex}\ndatepattern = {date}\n")));
    }
}

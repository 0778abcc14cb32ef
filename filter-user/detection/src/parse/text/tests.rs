use super::*;

/// A time as the log has it: that of the host without a `Z`.
fn told(time: Option<LoggedAt>) -> String {
    match time {
        None => "-".to_owned(),
        Some(LoggedAt::Host(time)) => time.to_string(),
        Some(LoggedAt::Instant(time)) => time.to_string(),
    }
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// The time, the program and the message of a line of a syslog file.
fn syslog(line: &str) -> Option<(String, String, String)> {
    let Syslog { logged_at, program, message } = syslog_line(line.as_bytes())?;
    Some((told(logged_at), text(program).to_owned(), text(message).to_owned()))
}

/// Each date that a line of a syslog file may begin with, and the time that it tells.
const DATES: [(&str, &str); 25] = [
    ("Mar 27 09:40:09", "-"),
    ("Mar  7 09:40:09", "-"),
    ("Mar 7 09:40:09", "-"),
    ("Mar 27 09:40:09.123456", "-"),
    ("Mar 27 09:40:09 2026", "-"),
    ("Mar 27 09:40:09.123456 2026", "-"),
    ("Fri 2026-03-27 09:40:09 UTC", "2026-03-27T09:40:09Z"),
    ("Fri 2026-03-27 09:40:09 CET", "2026-03-27T09:40:09"),
    ("Fri 2026-03-27 09:40:09.123456 -03", "2026-03-27T09:40:09.123456"),
    ("Fri 2026-03-27 09:40:09.123456 -0300", "2026-03-27T12:40:09.123456Z"),
    ("Fri 2026-03-27 09:40:09 -03:00", "2026-03-27T12:40:09Z"),
    ("Fri Mar 27 09:40:09 2026", "2026-03-27T09:40:09"),
    ("Fri Mar  6 09:40:09 2026", "2026-03-06T09:40:09"),
    ("2026-03-27 09:40:09", "2026-03-27T09:40:09"),
    ("2026-03-27 09:40:09.5", "2026-03-27T09:40:09.5"),
    ("2026-03-27 09:40:09.5-0300", "2026-03-27T12:40:09.5Z"),
    ("2026-03-27 09:40:09-03:00", "2026-03-27T12:40:09Z"),
    ("2026-02-30 09:40:09", "-"),
    ("2026-03-27T09:40:09-0300", "2026-03-27T12:40:09Z"),
    ("2026-03-27T09:40:09.123456-03:00", "2026-03-27T12:40:09.123456Z"),
    ("2026-03-27T09:40:09Z", "2026-03-27T09:40:09Z"),
    ("1774600809.123456", "2026-03-27T08:40:09Z"),
    ("[1774600809.123456]", "-"),
    ("[ 1234.567890]", "-"),
    ("[1234.567890]", "-"),
];

#[test]
fn a_line_of_syslog_is_read_whatever_its_date() {
    for (date, time) in DATES {
        for (head, program) in [
            ("pbx asterisk[326]:", "asterisk"),
            ("pbx.example.org asterisk:", "asterisk"),
            ("pbx /usr/sbin/asterisk[326]:", "asterisk"),
            ("pbx /a:", "a"),
            ("2026x asterisk:", "asterisk"),
            ("pbx4 asterisk[3]:", "asterisk"),
            ("2001:db8::1 asterisk[3]:", "asterisk"),
            ("pbx daemon.notice asterisk[326]:", "asterisk"),
            ("daemon.info asterisk[326]:", "asterisk"),
            ("local0.err asterisk:", "asterisk"),
            ("asterisk[326]:", "asterisk"),
            ("[asterisk]", "asterisk"),
            ("[asterisk]:", "asterisk"),
        ] {
            let expected = (time.to_owned(), program.to_owned(), "a message: of it".to_owned());
            for priority in ["", "<133>"] {
                let line = format!("{priority}{date} {head} a message: of it");
                assert_eq!(syslog(&line), Some(expected.clone()), "{line}");
            }
        }
    }
}

#[test]
fn what_is_no_date_of_syslog() {
    for date in [
        "",
        "Xyz 27 09:40:09",
        "Mar 27 09:40",
        "Xyz 2026-03-27 09:40:09 UTC",
        "Fri 2026-03-27 09:40:09 U/C",
        "Fri Mar 27 09:40:09 20x6",
        "Fri Mar 27 09:40:09",
        "2026-03-27 09:40:0x",
        "2026-03-27 09:40:09.",
        "2026-03-27T09:40:09",
        "1774600809",
        "1774600809.",
        ".5",
        "[1234.5",
        "1234.5]",
        "[ 12x.5]",
    ] {
        assert_eq!(syslog(&format!("{date} pbx asterisk: a")), None, "{date}");
    }
}

/// What looks like a program, a host or a facility, and is none.
#[test]
fn which_word_names_the_program() {
    let program = |head: &str| {
        let read = syslog(&format!("Mar 27 09:40:09 {head} a message"));
        read.map(|(_, program, message)| (program, message))
    };
    let of = |program: &str, message: &str| Some((program.to_owned(), message.to_owned()));
    for (head, expected) in [
        ("pbx asterisk[]:", None),
        ("pbx asterisk[3a]:", None),
        ("pbx asterisk[3:", None),
        ("pbx asterisk[3]x:", None),
        ("pbx asterisk", None),
        (": asterisk:", of("asterisk", "a message")),
        ("fe80::1: asterisk:", of("asterisk", "a message")),
        (".notice asterisk:", of("asterisk", "a message")),
        ("pbx .notice asterisk:", of(".notice asterisk", "a message")),
        ("pbx Daemon.notice asterisk:", of("Daemon.notice asterisk", "a message")),
        ("pbx a-b.notice asterisk:", of("a-b.notice asterisk", "a message")),
        ("pbx daemon.loud asterisk:", of("daemon.loud asterisk", "a message")),
        ("pbx daemon asterisk:", of("daemon asterisk", "a message")),
        ("[asterisk", None),
        ("pbx a:", of("a", "a message")),
    ] {
        assert_eq!(program(head), expected, "{head}");
    }
}

#[test]
fn lines_of_rfc_5424() {
    for (data, message) in [
        ("- a", Some("a")),
        ("[x] a", Some("a")),
        ("[x y=\"1\"] a", Some("a")),
        ("[x][y] a", Some("a")),
        ("[x][y z=\"1\"] [a] b", Some("[a] b")),
        ("[x y=\"]\"] a", Some("a")),
        ("[x y=\"] \"] a", Some("a")),
        ("[x y=\"\\\"] \"] a", Some("a")),
        ("[x y=\"\\\\\"] a", Some("a")),
        // Outside of quotes, nothing is escaped.
        ("[x\\] a", Some("a")),
        ("- \u{feff}a", Some("a")),
        ("[x] \u{feff}a", Some("a")),
        ("[x", None),
        ("[x y=\"] a", None),
        ("x a", None),
        ("[x]a", None),
        ("-", None),
    ] {
        let line = format!("<38>1 2026-11-22T09:43:06.5-04:00 pbx /usr/sbin/sshd 12 - {data}");
        let expected = message.map(|message| {
            ("2026-11-22T13:43:06.5Z".to_owned(), "sshd".to_owned(), message.to_owned())
        });
        assert_eq!(syslog(&line), expected, "{line}");
    }
    for line in [
        "1 2026-11-22T09:43:06Z pbx sshd 12 - - a",
        "<38>1 2026-11-22 pbx sshd 12 - - a",
        "<38>2 2026-11-22T09:43:06Z pbx sshd 12 - - a",
        "<>1 2026-11-22T09:43:06Z pbx sshd 12 - - a",
        "<38 1 2026-11-22T09:43:06Z pbx sshd 12 - - a",
        "<38>1 2026-11-22T09:43:06Z pbx sshd 12",
    ] {
        assert_eq!(syslog(line), None, "{line}");
    }
}

/// The parts of a line of Asterisk, and its time.
fn asterisk(line: &[u8]) -> Option<[String; 4]> {
    in_asterisk_line(line, |line| {
        let time = told(line.logged_at(&DateFormat::default()));
        let [level, file, said] = [line.level, line.file, line.text].map(|part| text(part).into());
        Some([time, level, file, said])
    })
}

fn parts(time: &str) -> [String; 4] {
    [time, "NOTICE", "manager.c", "a: b"].map(str::to_owned)
}

/// Asterisk's files, its console and its syslog channel.
#[test]
fn a_line_of_asterisk_is_read_wherever_it_stands() {
    let coloured = |escape: &str| {
        let on = |code: &str, text: &str| format!("{escape}{code}m{text}{escape}0m");
        let [level, file, number, function] =
            [("1;33", "NOTICE"), ("1;37", "manager.c"), ("1;37", "2"), ("1;37", "to_do9")]
                .map(|(code, text)| on(code, text));
        format!("{level}[566]: {file}:{number} {function}: a: b")
    };
    let bodies = [
        "NOTICE[566] manager.c: a: b".to_owned(),
        "NOTICE[566]: manager.c: a: b".to_owned(),
        "NOTICE [566] manager.c: a: b".to_owned(),
        "NOTICE[566][C-0000001f] manager.c: a: b".to_owned(),
        "NOTICE[566][C-0000001f]: manager.c:2 to_do9: a: b".to_owned(),
        "NOTICE[566]: manager.c:2 in to_do9: a: b".to_owned(),
        "NOTICE[566]: manager.c:2 a: b".replace("2 a", "2 x: a"),
        coloured("\u{1b}["),
        coloured("#033["),
        coloured("^[["),
        coloured("\u{1b}[") + "\u{1b}[0m",
        coloured("#033[") + "#033[0m",
        coloured("^[[") + "^[[0m\r",
    ];
    let heads = [
        ("", "-"),
        ("\u{1b}[0K", "-"),
        ("[2026-03-27 09:40:09.5] ", "2026-03-27T09:40:09.5"),
        ("\u{1b}[0K\u{1b}[1;33m[2026-03-27 09:40:09] ", "2026-03-27T09:40:09"),
        ("[Mar 27 09:40:09] ", "-"),
        ("[[9]:40:09] ", "-"),
        ("[at noon] ", "-"),
        ("[] ", "-"),
        ("\r\u{1b}[0K", "-"),
        ("\r\u{1b}[K[2026-03-27 09:40:09.5] ", "2026-03-27T09:40:09.5"),
    ];
    for body in &bodies {
        for (head, time) in heads {
            // Only a syslog writes ESC in another way, behind a date of its own.
            if head.is_empty() && body.starts_with(['#', '^']) {
                continue;
            }
            let line = format!("{head}{body}");
            assert_eq!(asterisk(line.as_bytes()), Some(parts(time)), "{line}");
        }
        // The time of Asterisk, or else that of syslog.
        for (date, received) in DATES {
            for (inner, time) in [("", received), heads[2], ("[Mar 27 09:40:09] ", received)] {
                // All up to the level could be a date in brackets.
                if date.starts_with('[') && !inner.is_empty() {
                    continue;
                }
                for program in ["pbx asterisk[326]:", "pbx /usr/sbin/safe_asterisk:"] {
                    let line = format!("{date} {program} {inner}{body}");
                    assert_eq!(asterisk(line.as_bytes()), Some(parts(time)), "{line}");
                }
                // Another program that repeats such a line is not Asterisk.
                assert_eq!(
                    asterisk(format!("{date} pbx web[326]: {inner}{body}").as_bytes()),
                    None
                );
            }
        }
    }
}

#[test]
fn a_line_of_the_format_json_has_the_same_parts() {
    let json = |message: &str| {
        let location = serde_json::json!({"filename": "manager.c", "function": "f", "line": 1});
        serde_json::json!({
            "hostname": "pbx", "timestamp": "2026-03-27 09:40:09.5",
            "identifiers": {"lwp": 9, "callid": ""},
            "logmsg": {"location": location, "level": "NOTICE", "message": message},
        })
        .to_string()
    };
    for message in ["a: b", "a: b\n"] {
        assert_eq!(asterisk(json(message).as_bytes()), Some(parts("2026-03-27T09:40:09.5")));
    }
    let is_json = |line: &str| in_asterisk_line(line.as_bytes(), |line| Some(line.is_json));
    assert_eq!(is_json(&json("x")), Some(true));
    assert_eq!(is_json("NOTICE[566] manager.c: a"), Some(false));
    assert_eq!(is_json("{\"timestamp\": 1}"), None);
}

#[test]
fn what_is_no_line_of_asterisk() {
    for line in [
        "",
        "\r",
        "[2026-03-27 09:40:09] [566] manager.c: a",
        "[2026-03-27 09:40:09] notice[566] manager.c: a",
        "[2026-03-27 09:40:09] NOTICE[566][C-] manager.c: a",
        "[2026-03-27 09:40:09] NOTICE[566][C-1g] manager.c: a",
        "[2026-03-27 09:40:09] NOTICE[] manager.c: a",
        "[2026-03-27 09:40:09] NOTICE[566] manager.c",
        "[2026-03-27 09:40:09] NOTICE[566] manager.c:a",
        "[2026-03-27 09:40:09]NOTICE[566] manager.c: a",
        "notice[566] manager.c: a",
        "[566] manager.c: a",
    ] {
        assert_eq!(asterisk(line.as_bytes()), None, "{line}");
    }
    // What is read of a line that names a function without a number, or a number without a function.
    let said = |text: &str| asterisk(format!("NOTICE[5] manager.c:{text}").as_bytes());
    for (text, expected) in
        [(" to_do: a", "to_do: a"), ("2 : a", ": a"), ("2 to do: a", "to do: a"), ("2 in: a", "a")]
    {
        assert_eq!(said(text).map(|[.., said]| said).as_deref(), Some(expected), "{text}");
    }
}

/// Asterisk writes at most 256 bytes of a date; what is far longer is none.
#[test]
fn the_longest_date_in_brackets() {
    for (length, is_read) in [(DATE_MAX, true), (DATE_MAX + 2, false), (2 * DATE_MAX - 1, false)] {
        let line = format!("[{}] NOTICE[5] manager.c: a", "1".repeat(length));
        assert_eq!(asterisk(line.as_bytes()).is_some(), is_read, "{length}");
    }
}

#[test]
fn colours_are_removed_only_where_they_are_complete() {
    for (with, without) in [
        ("", ""),
        ("\u{1b}[mx", "x"),
        ("\u{1b}[1;33mx", "x"),
        ("\u{1b}[0K\u{1b}[1mx\u{1b}[0m", "x\u{1b}[0m"),
        ("#033[1;2;3mx", "x"),
        ("\r\u{1b}[0Kx", "x"),
        ("#015#033[0Kx", "x"),
        ("^M^[[0K\u{1b}[1mx", "x"),
        ("\rx", "\rx"),
        ("\r\r\u{1b}[0Kx", "\r\r\u{1b}[0Kx"),
        ("^[[0mx", "x"),
        ("\u{1b}[1;33", "\u{1b}[1;33"),
        ("\u{1b}[1xm", "\u{1b}[1xm"),
        ("x\u{1b}[0m", "x\u{1b}[0m"),
    ] {
        assert_eq!(text(without_colour(with.as_bytes())), without, "{with:?}");
    }
    for (of, at) in [("", None), ("a#b^c", None), ("ab\u{1b}[0m^[[", Some(2)), ("a^[[", Some(1))] {
        assert_eq!(colour_in(of.as_bytes()), at, "{of:?}");
    }
}

#[test]
fn transports_have_names_in_any_case() {
    let named = ["udp", "TCP", "Tls", "WS", "wss", "SCTP", "", "W", "WSSS"]
        .map(|name| transport_named(name.as_bytes()));
    let known = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
    assert_eq!(named[..5], known.map(Some));
    assert_eq!(named[5..], [None; 4]);
}

#[test]
fn addresses_that_a_packet_can_come_from() {
    for (address, canonical) in [
        ("192.0.2.66", Some("192.0.2.66")),
        ("2001:db8::66", Some("2001:db8::66")),
        ("::ffff:192.0.2.66", Some("192.0.2.66")),
        ("0.0.0.0", None),
        ("::", None),
        ("224.0.1.75", None),
        ("ff02::1", None),
        ("fe80::1%2", Some("fe80::1")),
        ("fe80::1%", None),
        ("2001:db8::66%2", None),
        ("192.0.2", None),
        ("", None),
    ] {
        let bare = bare_address(address.as_bytes()).map(|address| address.to_string());
        assert_eq!(bare.as_deref(), canonical, "{address}");
        let with_port = |port: &str| {
            let address =
                if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
            let read = socket_address(format!("{address}{port}").as_bytes());
            read.map(|source| (source.ip().to_string(), source.port()))
        };
        let expected = canonical.map(|address| (address.to_owned(), 5060));
        assert_eq!(with_port(":5060"), expected, "{address}");
        assert_eq!([":0", ":", ""].map(with_port), [None, None, None], "{address}");
    }
}

/// A name that a stranger gives to another program may look like Asterisk's level.
#[test]
fn a_line_of_another_program_is_not_asterisks_whatever_its_date() {
    for (date, _) in DATES {
        for (program, is_asterisk) in [("asterisk", true), ("sshd", false), ("kernel", false)] {
            for middle in ["", "[2026-03-27 09:40:09] ", "Invalid user ] ", "Invalid user x] "] {
                let line = format!("{date} pbx {program}[326]: {middle}SECURITY[7] a.c: text");
                let read = asterisk_line(line.as_bytes()).is_some();
                let expected = is_asterisk && !middle.starts_with('I');
                assert_eq!(read, expected, "{line}");
            }
        }
    }
    for date in [
        "[Mon Nov 30 10:00:00 2026]",
        "[2026-11-30T10:00:00+00:00] pbx",
        "[core:error] [1.2.3.4]",
        "[]",
    ] {
        for program in ["sshd[9]", "kernel"] {
            let line = format!("{date} {program}: Invalid user ] SECURITY[7] a.c: text");
            assert!(asterisk_line(line.as_bytes()).is_none(), "{line}");
        }
    }
    // Without a program, the date is Asterisk's own.
    for date in ["[1234.567890]", "[1774600809.123456]", "[[1234.567890]]", "[1234.5] x]"] {
        let line = format!("{date} SECURITY[7] a.c: text");
        assert_eq!(asterisk_line(line.as_bytes()).is_some(), date != "[1234.5] x]", "{line}");
    }
}

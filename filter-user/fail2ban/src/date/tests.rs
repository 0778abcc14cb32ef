//! Dates in the formats of many logs.

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

/// The part of `line` that is removed, and the time in UTC.
fn found(pattern: Option<&str>, line: &str) -> Option<(String, Option<String>)> {
    let found = Detector::new(pattern).unwrap().find(line)?;
    let time = found.time.map(|time| time.instant(&TimeZone::UTC).unwrap().to_string());
    Some((line[found.range].to_owned(), time))
}

#[test]
fn the_formats_of_many_programs_are_found() {
    for (line, date, time) in [
        (
            "[2026-11-22 09:32:21.1233] NOTICE",
            "2026-11-22 09:32:21.1233",
            "2026-11-22T09:32:21.1233Z",
        ),
        ("2026-11-22T09:32:21+0100 x", "2026-11-22T09:32:21+0100", "2026-11-22T08:32:21Z"),
        ("2026/11/22 09:32:21 [error] 1#1", "2026/11/22 09:32:21", "2026-11-22T09:32:21Z"),
        (
            "[Sun Nov 22 09:32:21.011 2026] [error]",
            "Sun Nov 22 09:32:21.011 2026",
            "2026-11-22T09:32:21.011Z",
        ),
        ("Sun Nov 22 2026 09:32:21 x", "Sun Nov 22 2026 09:32:21", "2026-11-22T09:32:21Z"),
        ("23/01/2026 21:59:59 x", "23/01/2026 21:59:59", "2026-01-23T21:59:59Z"),
        (
            "1.2.3.4 - - [31/Oct/2026:09:22:55 -0000] \"GET",
            "31/Oct/2026:09:22:55 -0000",
            "2026-10-31T09:22:55Z",
        ),
        ("26-Jul-2026 15:20:52.252 client", "26-Jul-2026 15:20:52.252", "2026-07-26T15:20:52.252Z"),
        ("01-27-2026 16:22:44.252 x", "01-27-2026 16:22:44.252", "2026-01-27T16:22:44.252Z"),
        ("1795339941.500 x", "1795339941.500", "2026-11-22T09:32:21.5Z"),
        ("type=X msg=audit(1795339941.500:71): x", "1795339941.500", "2026-11-22T09:32:21.5Z"),
        ("130322 11:46:11 [Warning]", "130322 11:46:11", "2013-03-22T11:46:11Z"),
        ("Apr 27, 2026 12:46:11 AM x", "Apr 27, 2026 12:46:11 AM", "2026-04-27T00:46:11Z"),
        ("Apr-27-26 02:33:06 x", "Apr-27-26 02:33:06", "2026-04-27T02:33:06Z"),
        ("20260123T215959 x", "20260123T215959", "2026-01-23T21:59:59Z"),
        ("@4000000041f4104f00000000 x", "@4000000041f4104f00000000", "2005-01-23T20:59:59Z"),
    ] {
        let expected = (date.to_owned(), Some(time.to_owned()));
        assert_eq!(found(None, line), Some(expected), "{line}");
    }
}

#[test]
fn a_date_without_a_year_is_taken_out_and_is_no_time() {
    for (line, date) in [
        ("Nov 22 09:43:06 host sshd[1]: x", "Nov 22 09:43:06"),
        ("Nov  2 09:43:06 host sshd[1]: x", "Nov  2 09:43:06"),
        ("21:59:59 x", "21:59:59"),
        ("[PDT Apr 16 21:05:29] error", "PDT Apr 16 21:05:29"),
    ] {
        assert_eq!(found(None, line), Some((date.to_owned(), None)), "{line}");
    }
}

#[test]
fn the_date_that_begins_the_line_wins_over_one_in_attacker_text() {
    let line = "Nov 22 09:43:06 host sshd[1]: Invalid user 2026-11-22 09:32:21 from 192.0.2.1";
    assert_eq!(found(None, line).unwrap().0, "Nov 22 09:43:06");
    let line = "host: 22/Nov/2026:09:43:06 then 2026-11-22 09:32:21";
    assert_eq!(found(None, line).unwrap().0, "22/Nov/2026:09:43:06");
}

#[test]
fn a_pattern_says_what_is_taken_out() {
    for (pattern, line, date) in [
        ("{^LN-BEG}", "[2026-11-22 09:32:21] x", Some("2026-11-22 09:32:21")),
        ("{^LN-BEG}", "x 2026-11-22 09:32:21", None),
        ("{NONE}", "2026-11-22 09:32:21", None),
        ("^%Y-%m-%d %H:%M:%S", "2026-11-22 09:32:21 x", Some("2026-11-22 09:32:21")),
        ("^%Y-%m-%d %H:%M:%S", " 2026-11-22 09:32:21 x", None),
        (
            r"^[^\[]*\[({DATE})",
            "1.2.3.4 [22/Nov/2026:09:32:21 +0000] x",
            Some("22/Nov/2026:09:32:21 +0000"),
        ),
        (r"^[^\[]*(\[{DATE}\s*\])", "a [22/Nov/2026:09:32:21] x", Some("[22/Nov/2026:09:32:21]")),
        (r"^<\d+>\d+\s+{DATE}", "<34>1 2026-11-22T09:32:21Z x", Some("<34>1 2026-11-22T09:32:21Z")),
        ("{^LN-BEG}Epoch", "[1795339941] x", Some("1795339941")),
        ("EPOCH\n{^LN-BEG}%H:%M", "09:32 x", Some("09:32")),
        (r"^t={LEPOCH}", "t=1795339941500 x", Some("t=1795339941500")),
        (
            "at %d/%b[^/]*/%Y:%H:%M:%S %z",
            "x at 22/Nov/2026:09:32:21 +0100",
            Some("at 22/Nov/2026:09:32:21 +0100"),
        ),
        ("**%Y%Exm%Exd**", "x20261122y", Some("20261122")),
        ("%Y%Exm%Exd", "x20261122y", None),
    ] {
        let date = date.map(str::to_owned);
        assert_eq!(found(Some(pattern), line).map(|(date, _)| date), date, "{pattern} in {line}");
    }
}

#[test]
fn a_wrong_pattern_is_named() {
    for pattern in ["%Y-%Q", "%", "(%Y", "%Y %Y"] {
        let error = Detector::new(Some(pattern)).unwrap_err();
        assert!(error.contains(&format!("the date pattern `{pattern}`")), "{error}");
    }
}

proptest! {
    #[test]
    fn any_line_is_read(line in "[0-9:/ .TZ@{}a+-]{0,40}|\\PC{0,40}") {
        thread_local!(static DETECTOR: Detector = Detector::new(None).unwrap());
        let found = DETECTOR.with(|detector| detector.find(&line));
        if let Some(found) = found {
            prop_assert!(line.get(found.range).is_some());
        }
    }
}

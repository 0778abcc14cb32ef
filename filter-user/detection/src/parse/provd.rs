//! Parses wazo-provd's security log: turns one line into an [`Attempt`].
//!
//! `wazo_provd/security.py` writes `[DATE] MESSAGE` to a file of its own, and the same message to
//! wazo-provd's general log after `DATE ZONE [pid N] [tid N] (LEVEL) (wazo_provd.security): `. The
//! address precedes all text that the client chose.
//!
//! # What a line proves
//!
//! Nothing. The line does not say whether the request came over HTTP, where nginx accepted a connection
//! from the source, or over TFTP, where the source address can be forged. A file name from TFTP may
//! contain a line break and, after it, a complete line about any address.

use memchr::{memchr, memmem};

use super::date_forms::wazo_date;
use super::text::{after_digits, bare_address};
use crate::failure::{Attempt, Class, LoggedAt, Verdict, account};

/// The names of the rules for `status`.
pub const RULES: &[&str] = &[SENSITIVE_FILE, NEW_DEVICE];

const SENSITIVE_FILE: &str = "sensitive-file";
const NEW_DEVICE: &str = "new-device";

/// The attempt that `line` reports; `None` if it reports nothing of interest.
pub fn parse(line: &[u8]) -> Option<Attempt> {
    let (logged_at, message) = security_log(line).or_else(|| general_log(line))?;
    let (rest, device) = [
        (&b"Sensitive file requested from "[..], false),
        (b"New device created automatically from ", true),
    ]
    .into_iter()
    .find_map(|(text, device)| Some((message.strip_prefix(text)?, device)))?;
    // A colon ends the address, but IPv6 addresses contain colons: the right one precedes a space.
    let (address, what) = rest.split_at(memmem::find(rest, b": ")?);
    let what = &what[2..];
    Some(Attempt {
        rule: if device { NEW_DEVICE } else { SENSITIVE_FILE },
        // The name of a file, or the number that wazo-provd gave to a device.
        account: (!device && !what.is_empty()).then(|| account(what)),
        logged_at,
        ..Attempt::new(Verdict::Failure, Class::Provisioning, bare_address(address)?)
    })
}

/// `[2026-08-07 12:34:56,123] `
fn security_log(line: &[u8]) -> Option<(Option<LoggedAt>, &[u8])> {
    let (logged_at, rest) = wazo_date(line.strip_prefix(b"[")?, b',')?;
    Some((logged_at, rest.strip_prefix(b"] ")?))
}

/// `2026-08-07 12:34:56,123 UTC [pid 1] [tid 1] (INFO) (wazo_provd.security): `, partly optional.
fn general_log(line: &[u8]) -> Option<(Option<LoggedAt>, &[u8])> {
    let (logged_at, mut rest) = wazo_date(line, b',')?;
    rest = rest.strip_prefix(b" ")?;
    // The zone: a name or an offset.
    if !rest.starts_with(b"[") && !rest.starts_with(b"(") {
        let zone = memchr(b' ', rest)?;
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-:".contains(byte);
        if !rest[..zone].iter().all(fits) {
            return None;
        }
        rest = &rest[zone + 1..];
    }
    for name in [&b"[pid "[..], b"[tid ", b"["] {
        if let Some(number) = rest.strip_prefix(name) {
            rest = after_digits(number)?.strip_prefix(b"] ")?;
        }
    }
    let (_level, rest) = rest.split_at(memchr(b' ', rest.strip_prefix(b"(")?)? + 1);
    Some((logged_at, rest.strip_prefix(b" (wazo_provd.security): ")?))
}

#[cfg(test)]
mod tests {
    use jiff::civil;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_both_logs() {
        let lines = [
            "[2026-08-07 12:34:56,123] Sensitive file requested from 203.0.113.9: 001565aabbcc.cfg",
            "2026-08-07 12:34:56,123 UTC [pid 812] [tid 813] (INFO) (wazo_provd.security): \
             Sensitive file requested from 203.0.113.9: 001565aabbcc.cfg",
            "2026-08-07 12:34:56,123 [812] (INFO) (wazo_provd.security): \
             Sensitive file requested from 203.0.113.9: 001565aabbcc.cfg",
        ];
        for line in lines {
            let attempt = parse(line.as_bytes()).expect(line);
            assert_eq!((attempt.verdict, attempt.class), (Verdict::Failure, Class::Provisioning));
            assert_eq!(attempt.address.to_string(), "203.0.113.9");
            assert_eq!(attempt.account.as_deref(), Some("001565aabbcc.cfg"));
            assert!(!attempt.proven && attempt.decided);
            let time = civil::date(2026, 8, 7).at(12, 34, 56, 123_000_000);
            assert_eq!(attempt.logged_at, Some(LoggedAt::Host(time)));
        }
    }

    #[test]
    fn a_new_device_counts() {
        let line = "[2026-08-07 12:34:56,123] New device created automatically from 2001:db8::9: \
                    e0b6e0d5d3f4";
        let attempt = parse(line.as_bytes()).unwrap();
        assert_eq!(attempt.address.to_string(), "2001:db8::9");
        assert_eq!((attempt.class, attempt.account), (Class::Provisioning, None));
    }

    #[test]
    fn other_lines_report_nothing() {
        for line in [
            "[2026-08-07 12:34:56,123] Device deleted from 203.0.113.9: x",
            "[2026-08-07 12:34:56,123] x Sensitive file requested from 203.0.113.9: x",
            "[2026-08-07 12:34:56,123] Sensitive file requested from unknown: 203.0.113.9: x",
            "[2026-08-07 12:34:56,123] Sensitive file requested from : 203.0.113.9: x",
            "2026-08-07 12:34:56,123 UTC (INFO) (wazo_provd.devices): \
             Sensitive file requested from 203.0.113.9: x",
            "2026-08-07 12:34:56,123 UTC (INFO) (x): (wazo_provd.security): \
             Sensitive file requested from 203.0.113.9: x",
            "",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn the_file_name_does_not_move_the_address(name in vec(any::<u8>(), 0..80)) {
            let start = b"[2026-08-07 12:34:56,123] Sensitive file requested from 203.0.113.9: ";
            let attempt = parse(&[&start[..], &name].concat()).unwrap();
            prop_assert_eq!(attempt.address.to_string(), "203.0.113.9");
        }

        #[test]
        fn any_bytes_are_parsed(bytes in vec(any::<u8>(), 0..120)) {
            parse(&bytes);
            parse(&[&b"2026-08-07 12:34:56,123 "[..], &bytes].concat());
        }
    }
}

//! The rules that match the recordings of real servers, and the classifier's result for all other lines.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use filter_user::parse::asterisk;
use filter_user::parse::suspect::looks_like_failure;

fn fixtures(directory: &str) -> Vec<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(directory);
    let mut files: Vec<PathBuf> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn lines(file: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(file).unwrap();
    bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// Rules of which no recording has a line: Asterisk 22 as in the lab has neither
/// IAX2 nor `chan_sip`.
const NEVER_RECORDED: [&str; 4] = ["iax-registration", "iax-call", "chan-sip", "rejected-guest"];

#[test]
fn every_line_of_the_recordings_that_looks_like_a_failure_has_a_rule() {
    let mut hit = BTreeSet::new();
    for file in
        ["wazo22", "stock22"].iter().flat_map(|setup| fixtures(&format!("asterisk/{setup}")))
    {
        for line in lines(&file) {
            match asterisk::parse_undecided(&line) {
                Some(attempt) => drop(hit.insert(attempt.rule)),
                None => assert!(
                    !looks_like_failure(&line),
                    "{}: {}",
                    file.display(),
                    String::from_utf8_lossy(&line)
                ),
            }
        }
    }
    let expected = asterisk::RULES.iter().filter(|rule| !NEVER_RECORDED.contains(rule));
    assert_eq!(hit, expected.copied().collect());
}

#[test]
fn what_an_attacker_has_cut_off_a_line_is_noticed() {
    let file = fixtures("asterisk/hostile").into_iter().find(|f| f.ends_with("broken-line.log"));
    let broken = lines(&file.unwrap());
    let without_rule = broken.iter().filter(|line| asterisk::parse_undecided(line).is_none());
    assert_eq!(without_rule.filter(|line| looks_like_failure(line)).count(), 2);
}

/// The lines of a version with new messages.
#[test]
fn the_words_of_other_versions_are_noticed() {
    let mut changed = 0;
    for file in fixtures("asterisk/wazo22") {
        for line in lines(&file) {
            let text =
                String::from_utf8_lossy(&line).replace("' failed for '", "' has failed for '");
            if asterisk::parse(&line).is_some() && text.contains("has failed for") {
                assert_eq!(asterisk::parse_undecided(text.as_bytes()), None, "{text}");
                assert!(looks_like_failure(text.as_bytes()), "{text}");
                changed += 1;
            }
        }
    }
    assert_ne!(changed, 0);
    for text in [
        "[Nov 22 09:43:06] NOTICE[99] res_pjsip/pjsip_new.c: Registration of '<sip:1@a>' by \
         '192.0.2.66:5060' refused",
        "[Nov 22 09:43:06] NOTICE[99] chan_iax3.c: Host 192.0.2.66 failed to authenticate",
    ] {
        assert!(asterisk::parse_undecided(text.as_bytes()).is_none(), "{text}");
        assert!(looks_like_failure(text.as_bytes()), "{text}");
    }
}

//! Decides whether a line that matches no rule looks like a failure.
//!
//! This is a cautious guess: a word such as `failed` or `denied`, and an address that can be the source
//! of a packet. No address is banned because of it. It runs on every line without a rule, so it searches
//! for the words first and parses the line only if there is one.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, packed};
use memchr::memmem;

use super::text::asterisk_line;

/// How many bytes of a line are searched. Asterisk's own text is shorter.
const LOOKED_AT: usize = 2048;

/// Words of refusal, without the first letter if it may be a capital. They are few enough for a search
/// that compares many bytes at a time.
const WORDS: [&str; 16] = [
    "ailed",
    "ailure",
    "efused",
    "enied",
    "eject",
    "nvalid",
    "rong ",
    "ot found",
    "nauthori",
    "orbidden",
    "ot allowed",
    "ot permitted",
    "ot match",
    "o matching",
    "FAILED",
    "DENIED",
];

/// Texts with such a word and an address that report no attempt, or one that another line reports.
const HARMLESS: [&[u8]; 3] =
    [b"reverse mapping checking", b"getaddrinfo", b" acl.c: SIP Contact ACL: Rejecting '"];

/// The levels at which Asterisk reports refusals.
const LEVELS: [&[u8]; 4] = [b"NOTICE", b"WARNING", b"ERROR", b"SECURITY"];

static FIND_WORD: LazyLock<Words> = LazyLock::new(Words::new);

/// How to search for [`WORDS`]: with vector instructions if the processor has them, which takes a tenth
/// of the time.
enum Words {
    Vectors(packed::Searcher),
    Automaton(Option<AhoCorasick>),
}

impl Words {
    fn new() -> Self {
        packed::Searcher::new(WORDS)
            .map_or_else(|| Self::Automaton(AhoCorasick::new(WORDS).ok()), Self::Vectors)
    }

    fn is_in(&self, line: &[u8]) -> bool {
        match self {
            Self::Vectors(searcher) => searcher.find(line).is_some(),
            Self::Automaton(automaton) => automaton.as_ref().is_some_and(|a| a.is_match(line)),
        }
    }
}

/// Whether `line`, which matches no rule, looks like a failure.
pub fn looks_like_failure(line: &[u8]) -> bool {
    let line = &line[..line.len().min(LOOKED_AT)];
    FIND_WORD.is_in(line)
        && asterisk_line(line).is_none_or(|line| LEVELS.contains(&line.level))
        && HARMLESS.iter().all(|text| memmem::find(line, text).is_none())
        && names_address(line)
}

/// Whether `text` contains an address that a packet from elsewhere can have.
fn names_address(text: &[u8]) -> bool {
    let part_of_address = |byte: &u8| byte.is_ascii_hexdigit() || b".:".contains(byte);
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.iter().take_while(|byte| part_of_address(byte)).count();
        let (word, after) = rest.split_at(word);
        // A letter directly before or after makes it part of a name.
        let cut = after.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
        if !cut && address(word).is_some_and(is_elsewhere) {
            return true;
        }
        let skip = if cut {
            after.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
        } else {
            after.iter().take_while(|byte| !byte.is_ascii_alphanumeric() && **byte != b':').count()
        };
        rest = &after[skip..];
    }
    false
}

/// `ip`, `ip:port` or `ip6`, possibly followed by a full stop or colon.
fn address(word: &[u8]) -> Option<IpAddr> {
    let length = word.len();
    if !(2..64).contains(&length) || !word.iter().any(|byte| b".:".contains(byte)) {
        return None;
    }
    let word = str::from_utf8(word).ok()?;
    let word = word.strip_suffix(['.', ':']).unwrap_or(word);
    let bare = word.trim_start_matches(['.', ':']);
    let socket = || bare.parse().ok().map(|socket: SocketAddr| socket.ip());
    word.parse().ok().or_else(|| bare.parse().ok()).or_else(socket)
}

fn is_elsewhere(address: IpAddr) -> bool {
    let address = address.to_canonical();
    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_word_of_refusal_and_an_address_look_like_a_failure() {
        for line in [
            "[Nov 22 09:43:06] NOTICE[99] chan_sip.c: Registration from '<sip:1@a>' failed for \
             '192.0.2.66:5060' - Wrong password",
            "[2026-11-22 09:32:21.1233] NOTICE[99] res_new.c: 2001:db8::9 was refused",
            "[2026-11-22 09:32:21.1233] NOTICE[99] res_new.c: Refused [2001:db8::9]:5060.",
            "Nov 22 09:43:06 pbx sshd[1]: LOGIN DENIED for root (203.0.113.9)",
            "login invalid: 203.0.113.9: x",
            "host denied:203.0.113.9",
        ] {
            assert!(looks_like_failure(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn other_lines_do_not_look_like_a_failure() {
        for line in [
            "[2026-11-22 09:32:21.1233] NOTICE[99] chan_sip.c: Peer '1' is now Reachable",
            "[2026-11-22 09:32:21.1233] NOTICE[99] app.c: '192.0.2.66' is here",
            "[2026-11-22 09:32:21.1233] NOTICE[99] app.c: failed at 12:34:56 with 22.10.1",
            "[2026-11-22 09:32:21.1233] NOTICE[99] app.c: failed for 127.0.0.1:5060 and ::",
            "[2026-11-22 09:32:21.1233] VERBOSE[99] app.c: failed for 192.0.2.66",
            "[2026-11-22 09:32:21.1233] NOTICE[99] app.c: failed for x192.0.2.66y std::fs",
            "reverse mapping checking getaddrinfo for x [192.0.2.66] failed.",
            "",
        ] {
            assert!(!looks_like_failure(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn words_that_are_an_address() {
        let long = ".".repeat(64 - "192.0.2.66".len());
        for (word, is_one) in [
            ("192.0.2.66", true),
            ("192.0.2.66:5060", true),
            ("..192.0.2.66.", true),
            (&(long[1..].to_owned() + "192.0.2.66"), true),
            (&(long + "192.0.2.66"), false),
            ("::1", true),
            ("::", false),
            (":", false),
            ("2001", false),
            ("", false),
        ] {
            assert_eq!(address(word.as_bytes()).is_some(), is_one, "{word}");
        }
    }

    #[test]
    fn both_searches_find_the_same() {
        let automaton = Words::Automaton(AhoCorasick::new(WORDS).ok());
        for word in WORDS {
            let line = format!("x {word} y");
            assert!(FIND_WORD.is_in(line.as_bytes()) && automaton.is_in(line.as_bytes()), "{word}");
        }
        assert!(!FIND_WORD.is_in(b"x") && !automaton.is_in(b"x"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_searched(bytes in vec(any::<u8>(), 0..400)) {
            looks_like_failure(&bytes);
            names_address(&bytes);
        }

        #[test]
        fn an_address_is_found_anywhere_in_a_line(
            before in "[ -~]{0,20}", after in "[ -~]{0,20}", octets in any::<[u8; 4]>(),
        ) {
            let address = IpAddr::from(octets);
            prop_assume!(is_elsewhere(address));
            let text = format!("{before} {address} {after}");
            prop_assert!(names_address(text.as_bytes()), "{}", text);
        }
    }
}

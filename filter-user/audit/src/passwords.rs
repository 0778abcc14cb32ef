//! Whether a password is one that a guesser tries first.

use api::Severity;

use crate::secret::Secret;

/// The most digits of a password that can all be tried.
const DIGITS_MAX: usize = 8;

/// Passwords with fewer characters are short.
const LENGTH_MIN: usize = 8;

/// What is wrong with a password, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weakness {
    /// There is none.
    Empty,
    /// It is the name of the account.
    Name,
    /// It is the name with a little added, twice, or backwards.
    NameAndMore,
    /// Guessers carry it in their lists.
    Common,
    /// One character several times, or characters in a row, such as `3333` or `45678`.
    Sequence,
    /// A few digits.
    Digits,
    /// A few characters.
    Short,
}

impl Weakness {
    /// Its part of the id of a finding.
    pub fn id(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Name => "name",
            Self::NameAndMore => "like-name",
            Self::Common => "common",
            Self::Sequence => "sequence",
            Self::Digits => "digits",
            Self::Short => "short",
        }
    }

    /// What is wrong, after `the password`.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Empty => "is empty",
            Self::Name => "is the user name",
            Self::NameAndMore => "is the user name with little change",
            Self::Common => "is in the lists that guessers use",
            Self::Sequence => "is a sequence or a repetition",
            Self::Digits => "is a few digits",
            Self::Short => "has fewer than 8 characters",
        }
    }

    /// How bad it is if strangers can try it.
    pub fn severity(self) -> Severity {
        match self {
            Self::Short => Severity::Warning,
            Self::Empty
            | Self::Name
            | Self::NameAndMore
            | Self::Common
            | Self::Sequence
            | Self::Digits => Severity::Critical,
        }
    }
}

/// What is wrong with the password of an account that has these names.
pub fn weakness(secret: &Secret, names: &[&str]) -> Option<Weakness> {
    let text = secret.expose();
    let length = text.chars().count();
    let names = names.iter().filter(|name| !name.is_empty());
    if text.is_empty() {
        Some(Weakness::Empty)
    } else if names.clone().any(|name| text.eq_ignore_ascii_case(name)) {
        Some(Weakness::Name)
    } else if names.clone().any(|name| is_like(text, name)) {
        Some(Weakness::NameAndMore)
    } else if COMMON.iter().any(|common| text.eq_ignore_ascii_case(common)) {
        Some(Weakness::Common)
    } else if is_sequence(text) {
        Some(Weakness::Sequence)
    } else if length <= DIGITS_MAX && text.chars().all(|c| c.is_ascii_digit()) {
        Some(Weakness::Digits)
    } else if length < LENGTH_MIN {
        Some(Weakness::Short)
    } else {
        None
    }
}

/// Whether it is the name backwards or twice, or with up to four digits or signs before or after it.
fn is_like(text: &str, name: &str) -> bool {
    let (text, name) = (text.to_lowercase(), name.to_lowercase());
    let (text, name) = (zeroize::Zeroizing::new(text), &*name);
    let is_little = |rest: &str| rest.len() <= 4 && !rest.chars().any(char::is_alphabetic);
    // A short name may be part of a good password.
    let is_long = name.chars().count() >= 3;
    text.chars().eq(name.chars().rev())
        || text.strip_prefix(name).is_some_and(|rest| rest == name)
        || (is_long && text.strip_prefix(name).is_some_and(is_little))
        || (is_long && text.strip_suffix(name).is_some_and(is_little))
}

/// Whether each character is the one before it, or the next, or the previous: `3333`, `45678`, `dcba`.
fn is_sequence(text: &str) -> bool {
    let codes = || text.chars().map(u32::from);
    let step = |by: i64| {
        codes().zip(codes().skip(1)).all(|(one, next)| i64::from(one) + by == i64::from(next))
    };
    step(0) || step(1) || step(-1)
}

/// Passwords that people who guess SIP and telephone passwords try first, in small letters.
const COMMON: [&str; 118] = [
    "000000",
    "0000",
    "00000000",
    "010203",
    "0123456789",
    "100100",
    "101010",
    "1010",
    "11223344",
    "112233",
    "1122",
    "121212",
    "1212",
    "123123",
    "123123123",
    "1234567890",
    "12344321",
    "123321",
    "1234abcd",
    "1234qwer",
    "123abc",
    "123mudar",
    "123qwe",
    "123qweasd",
    "12qwaszx",
    "131313",
    "1313",
    "147258369",
    "159753",
    "1a2b3c",
    "1a2b3c4d",
    "1q2w3e",
    "1q2w3e4r",
    "1q2w3e4r5t",
    "1qaz2wsx",
    "1qazxsw2",
    "2000",
    "202020",
    "212121",
    "2580",
    "321321",
    "456456",
    "696969",
    "741852963",
    "789456123",
    "aa123456",
    "abc123",
    "abc12345",
    "abcd1234",
    "access",
    "admin",
    "admin1",
    "admin123",
    "admin1234",
    "administrator",
    "asdfasdf",
    "asdfgh",
    "asdfghjkl",
    "asterisk",
    "asterisk123",
    "callcenter",
    "callcentre",
    "changeit",
    "changeme",
    "cisco",
    "cisco123",
    "default",
    "demo",
    "extension",
    "freepbx",
    "grandstream",
    "guest",
    "hello123",
    "iloveyou",
    "letmein",
    "login",
    "monkey",
    "mypassword",
    "office",
    "operator",
    "p@ssw0rd",
    "pa55word",
    "pass",
    "pass1234",
    "passw0rd",
    "password",
    "password1",
    "password123",
    "phone",
    "polycom",
    "q1w2e3r4",
    "qazwsx",
    "qazwsxedc",
    "qwaszx",
    "qwe123",
    "qwer1234",
    "qwerty",
    "qwerty123",
    "qwertyuiop",
    "reception",
    "root",
    "sales",
    "secret",
    "secret123",
    "sip123",
    "sip",
    "sippassword",
    "support",
    "telephone",
    "temp",
    "test",
    "test123",
    "test1234",
    "toor",
    "user",
    "voip",
    "voip123",
    "welcome",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weak_passwords() {
        let of = |text: &str| weakness(&Secret::new(text.to_owned()), &["1001", "Alice", ""]);
        for (text, expected) in [
            ("", Some(Weakness::Empty)),
            ("1001", Some(Weakness::Name)),
            ("aLICE", Some(Weakness::Name)),
            ("alice2024", Some(Weakness::NameAndMore)),
            ("10011001", Some(Weakness::NameAndMore)),
            ("!1001", Some(Weakness::NameAndMore)),
            ("ecila", Some(Weakness::NameAndMore)),
            ("Passw0rd", Some(Weakness::Common)),
            ("77777777777", Some(Weakness::Sequence)),
            ("23456789", Some(Weakness::Sequence)),
            ("87654321", Some(Weakness::Sequence)),
            ("83920174", Some(Weakness::Digits)),
            ("xk4-Q", Some(Weakness::Short)),
            ("839201745", None),
            ("3f9x1q7z", None),
            ("alicewonders", None),
            ("größe-π-7", None),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn the_list_has_each_password_once_and_in_small_letters() {
        let mut seen = std::collections::BTreeSet::new();
        for common in COMMON {
            assert!(seen.insert(common), "{common}");
            assert_eq!(common, common.to_lowercase());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in any::<String>(), name in any::<String>()) {
            let found = weakness(&Secret::new(text.clone()), &[&name]);
            if text == name && !text.is_empty() {
                prop_assert_eq!(found, Some(Weakness::Name));
            }
        }
    }
}
